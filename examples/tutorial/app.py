"""The application server of the kitchen: it hands out client URLs, takes orders, and keeps the tickets."""

import os
import secrets
from pathlib import Path
from typing import Annotated

from azure.messaging.webpubsubservice import WebPubSubServiceClient
from fastapi import FastAPI, Header, HTTPException, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel

service = WebPubSubServiceClient.from_connection_string(os.environ["LIMPET_CONNECTION_STRING"], hub="kitchen")
app = FastAPI()


@app.get("/negotiate")
def negotiate(user: str, authorization: Annotated[str, Header()] = "") -> dict[str, str]:
    """Hand out a client URL. Its token lets the client into groups, and allows nothing else."""
    groups = ["board"]
    if user == "cook":
        if not secrets.compare_digest(authorization.encode(), f"Bearer {os.environ['COOK_KEY']}".encode()):
            raise HTTPException(403, "this is not the key of the cook")
        groups.append("orders")
    return {"url": service.get_client_access_token(user_id=user, groups=groups, minutes_to_expire=60)["url"]}


class Ticket(BaseModel):
    id: str
    dish: str
    guest: str
    status: str = "ordered"


tickets: dict[str, Ticket] = {}


@app.get("/tickets")
def all_tickets() -> list[Ticket]:
    return list(tickets.values())


def publish(group: str, ticket: Ticket) -> None:
    service.send_to_group(group, ticket.model_dump(), content_type="application/json")


class Order(BaseModel):
    dish: str


@app.options("/events/{event}")
def validate(event: str) -> Response:
    """Tell the service that this server wants its events."""
    return Response(headers={"WebHook-Allowed-Origin": "*"})


@app.post("/events/order", status_code=204)
def order(order: Order, ce_userid: Annotated[str, Header()]) -> None:
    """A guest orders a dish."""
    ticket = Ticket(id=secrets.token_hex(4), dish=order.dish, guest=ce_userid)
    tickets[ticket.id] = ticket
    publish("orders", ticket)
    publish("board", ticket)


class Progress(BaseModel):
    id: str
    status: str


@app.post("/events/progress", status_code=204)
def progress(progress: Progress, ce_userid: Annotated[str, Header()]) -> None:
    """The cook tells how far a ticket is."""
    if ce_userid != "cook":
        raise HTTPException(403, "only the cook can tell")
    ticket = tickets.get(progress.id)
    if ticket is None:
        raise HTTPException(404, "there is no such ticket")
    ticket.status = progress.status
    publish("board", ticket)


@app.get("/")
def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("index.html"))
