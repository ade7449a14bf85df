"""The official SDK for the chat of Web PubSub: each operation is told at once that this service does not have it."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

import httpx
import jwt
import pytest
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.messaging.webpubsubchatservice import WebPubSubChatServiceClient
from azure.messaging.webpubsubchatservice.aio import WebPubSubChatServiceClient as AsyncChatServiceClient
from tests.adapters.service.sockets import Client, with_service

from limpet.service import Service, ServiceOptions
from limpet_core.service import RELIABLE_JSON

KEY = "k" * 32
OTHERS = {"close", "from_connection_string", "get_client_access_token", "send_request"}
OPERATIONS = sorted(name for name in dir(WebPubSubChatServiceClient) if not name.startswith("_") and name not in OTHERS)
VALUES = {"permissions": [], "title": "x", "content": {"text": "x"}}


def arguments(operation: Callable[..., Any]) -> tuple[list[Any], dict[str, Any]]:
    """Values for what an operation needs: names are strings, and what else it takes is an object."""
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for parameter in inspect.signature(inspect.unwrap(operation)).parameters.values():
        if parameter.name == "self" or parameter.default is not parameter.empty or parameter.kind.name == "VAR_KEYWORD":
            continue
        value: Any = (
            "one" if "str" in str(parameter.annotation) and "Union" not in str(parameter.annotation) else VALUES
        )
        if parameter.kind.name == "KEYWORD_ONLY":
            named[parameter.name] = value
        else:
            positional.append(value)
    return positional, named


def refusal(error: HttpResponseError) -> tuple[int | None, str]:
    assert error.response is not None
    return error.status_code, error.response.headers["x-ms-error-code"]


def test_there_are_operations() -> None:
    assert len(OPERATIONS) > 12
    assert {"get_room", "list_messages", "create_or_replace_role"} <= set(OPERATIONS)


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_is_a_501_that_is_not_tried_again(name: str) -> None:
    async def scenario(service: Service) -> None:
        answers: list[Any] = []
        with WebPubSubChatServiceClient.from_connection_string(service.connection_string, "chat") as sdk:
            positional, named = arguments(getattr(WebPubSubChatServiceClient, name))

            def call() -> None:
                result = getattr(sdk, name)(*positional, **named, raw_response_hook=answers.append)
                for _ in result or ():
                    raise AssertionError("there is something")

            with pytest.raises(HttpResponseError) as caught:
                await asyncio.to_thread(call)
        assert refusal(caught.value) == (501, "NotImplemented")
        assert "the chat of Web PubSub (preview), which this local service does not have" in str(caught.value)
        assert len(answers) == 1

    with_service(scenario)


def test_the_asyncio_client() -> None:
    async def scenario(service: Service) -> None:
        async with AsyncChatServiceClient.from_connection_string(service.connection_string, "chat") as sdk:
            with pytest.raises(HttpResponseError) as caught:
                await sdk.get_room("one")
            assert refusal(caught.value) == (501, "NotImplemented")
            with pytest.raises(HttpResponseError) as caught:
                await anext(aiter(sdk.list_messages("one")))
            assert refusal(caught.value) == (501, "NotImplemented")

    with_service(scenario)


def test_a_request_that_is_not_signed_is_refused_as_any_other() -> None:
    async def scenario(service: Service) -> None:
        wrong = f"Endpoint={service.endpoint};AccessKey={'w' * 32};Version=1.0;"
        async with AsyncChatServiceClient.from_connection_string(wrong, "chat") as sdk:
            with pytest.raises(ClientAuthenticationError):
                await sdk.get_room("one")

    with_service(scenario)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
def test_what_is_new_in_the_chat_is_missing_as_well(method: str) -> None:
    async def scenario(service: Service) -> None:
        url = f"{service.endpoint}/api/hubs/chat/chat/moods/blue%2Fgreen/:change?api-version=2030-01-01-preview"
        token = jwt.encode({"aud": url, "exp": int(time.time()) + 60}, KEY, "HS256")
        async with httpx.AsyncClient() as client:
            answer = await client.request(method, url, headers={"Authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.headers["x-ms-error-code"]) == (501, "NotImplemented")
        assert (f"{method} /api/hubs/chat/chat/moods" in answer.text) == (method != "HEAD")

    with_service(scenario, ServiceOptions(access_key=KEY))


def test_tokens_for_clients_of_the_chat_are_good() -> None:
    async def scenario(service: Service) -> None:
        with WebPubSubChatServiceClient.from_connection_string(service.connection_string, "chat") as sdk:
            url = sdk.get_client_access_token(user_id="ann")["url"]
        client = await Client.open(url, RELIABLE_JSON)
        assert (await client.receive())["userId"] == "ann"
        login = {"type": "invoke", "invocationId": "1", "target": "event", "event": "chat.login", "dataType": "text"}
        await client.send(**login, data="")
        answer = await client.receive()
        assert (answer["success"], answer["error"]["name"]) == (False, "NotImplemented")
        await client.leave()

    with_service(scenario)
