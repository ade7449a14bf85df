"""Tests of the kitchen: the application server and the cook, each with the local service."""

import asyncio
import threading

import app
import worker
from azure.messaging.webpubsubservice import WebPubSubServiceClient

from limpet.asyncio import Client
from limpet.sync import Client as BlockingClient
from limpet.testing import trace


def test_an_order_is_on_the_board(limpet_service, monkeypatch):
    service = WebPubSubServiceClient.from_connection_string(limpet_service.connection_string, hub="kitchen")
    monkeypatch.setattr(app, "service", service)
    with service, BlockingClient(app.negotiate("ann")["url"]) as guest:
        app.order(app.Order(dish="soup"), "ann")
        ticket = next(iter(guest)).data
        assert (ticket["dish"], ticket["guest"], ticket["status"]) == ("soup", "ann", "ordered")


def test_every_order_is_cooked_once_over_a_network_that_drops(limpet_service):
    told, complete = [], threading.Event()

    def progress(call):  # in place of the application server
        told.append((call.data["id"], call.data["status"]))
        if len(told) == 10:
            complete.set()

    async def no_tickets():
        return []

    async def scenario():
        client = Client(limpet_service.url("cook", groups=["orders", "board"]), worker.OPTIONS)
        cook = asyncio.create_task(worker.cook(client, no_tickets, seconds=0.0))
        await asyncio.to_thread(limpet_service.log.wait, trace.ConnectionOpened)
        for number in range(5):
            order = {"id": str(number), "dish": "soup", "guest": "ann", "status": "ordered"}
            limpet_service.publish("orders", [order])
            limpet_service.cut()
        assert await asyncio.to_thread(complete.wait, 60)
        cook.cancel()
        await asyncio.gather(cook, return_exceptions=True)

    limpet_service.answer("progress", progress)
    asyncio.run(scenario())
    assert told == [(str(number), status) for number in range(5) for status in ("cooking", "ready")]
