"""Tokens of Microsoft Entra: accepted without validation behind a switch, on the own machine alone."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from azure.messaging.webpubsubservice import WebPubSubServiceClient
from tests.adapters.service.sockets import Client, with_service
from tests.helpers.waiting import LIMIT

from limpet.service import LocalCertificate, Service, ServiceOptions

SWITCHED_ON = ServiceOptions(unvalidated_entra_tokens=True)
ENTRA = "https://webpubsub.azure.com"
PLACE = "/api/hubs/chat/groups/hall/connections"


def entra(**claims: Any) -> str:
    """Return a token that no key of the service has signed; numbers are seconds from now."""
    listed = {"aud": ENTRA, "exp": 60, **claims}
    listed = {name: int(time.time()) + value if isinstance(value, int) else value for name, value in listed.items()}
    return jwt.encode({name: value for name, value in listed.items() if value is not None}, "?" * 64, "HS512")


async def status(service: Service, token: str, headers: dict[str, str] | None = None, path: str = PLACE) -> int:
    return (await asked(service, token, headers, path)).status_code


async def asked(service: Service, token: str, headers: dict[str, str] | None = None, path: str = PLACE) -> Any:
    async with httpx.AsyncClient(trust_env=False, timeout=LIMIT) as client:
        return await client.get(
            service.endpoint + path, headers={"Authorization": f"Bearer {token}", **(headers or {})}
        )


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({}, 200),
        ({"iat": 3600, "iss": "anyone", "roles": []}, 200),
        ({"aud": [ENTRA, "other"]}, 200),
        ({"nbf": 100}, 200),
        ({"exp": -100}, 200),
        ({"nbf": 1000}, 401),
        ({"exp": -1000}, 401),
        ({"exp": None}, 401),
        ({"exp": "soon"}, 401),
        ({"aud": "https://webpubsub.azure.com.example"}, 401),
        ({"aud": None}, 401),
        ({"aud": f"http://127.0.0.1{PLACE}"}, 401),
    ],
    ids=str,
)
def test_audience_and_times_count_and_nothing_else(claims: dict[str, Any], expected: int) -> None:
    async def scenario(service: Service) -> None:
        assert await status(service, entra(**claims)) == expected

    with_service(scenario, SWITCHED_ON)


@pytest.mark.parametrize("token", ["a", "a.b.c", "e30.e30.", f"{'A' * 70000}.e30.e30"], ids=len)
def test_what_is_no_token_is_refused(token: str) -> None:
    async def scenario(service: Service) -> None:
        assert await status(service, token) == 401

    with_service(scenario, SWITCHED_ON)


def test_without_the_switch_the_refusal_says_what_to_do() -> None:
    async def scenario(service: Service) -> None:
        answer = await asked(service, entra())
        assert answer.status_code == 401
        assert "--unvalidated-entra-tokens" in answer.text

    with_service(scenario)


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"X-Forwarded-For": "10.0.0.1"}, {"Forwarded": "for=10.0.0.1"}], ids=str
)
def test_they_count_on_the_own_machine_alone(headers: dict[str, str]) -> None:
    async def scenario(service: Service) -> None:
        assert await status(service, entra(), headers) == 401

    with_service(scenario, SWITCHED_ON)


def test_clients_and_paths_that_are_no_operation_have_nothing_of_it() -> None:
    async def scenario(service: Service) -> None:
        url = service.client_url().partition("?")[0]
        with pytest.raises(Exception, match="401"):
            await Client.open(f"{url}?access_token={entra()}")
        assert await status(service, entra(), path="/api/nothing") == 404

    with_service(scenario, SWITCHED_ON)


def test_the_log_says_that_the_switch_is_on(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(service: Service) -> None:
        pass

    with caplog.at_level(logging.WARNING, "limpet.service"):
        with_service(scenario)
        assert caplog.messages == []
        with_service(scenario, SWITCHED_ON)
    (message,) = caplog.messages
    assert "accepted without validation" in message


class Credential:
    """A credential as azure-identity has them: what it gives is signed by somebody else."""

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        assert scopes == (f"{ENTRA}/.default",)
        return AccessToken(entra(), int(time.time()) + 60)


@pytest.mark.parametrize("on", [True, False])
def test_the_official_server_sdk_with_a_credential(tmp_path: Path, on: bool) -> None:
    certificate = LocalCertificate.of_folder(tmp_path / "https")

    async def scenario() -> None:
        async with Service(ServiceOptions(unvalidated_entra_tokens=on), ssl=certificate.ssl_context()) as service:
            sdk = WebPubSubServiceClient(
                service.endpoint,
                "chat",
                Credential(),  # type: ignore[arg-type]
                retry_total=0,
                connection_verify=str(certificate.authority),
            )
            with sdk:
                if on:
                    await asyncio.to_thread(sdk.send_to_all, "hi", content_type="text/plain")
                    made = await asyncio.to_thread(sdk.get_client_access_token, user_id="ann")
                    claims = jwt.decode(made["token"], options={"verify_signature": False})
                    assert claims["sub"] == "ann"
                else:
                    with pytest.raises(ClientAuthenticationError):
                        await asyncio.to_thread(sdk.send_to_all, "hi", content_type="text/plain")

    asyncio.run(asyncio.wait_for(scenario(), 3 * LIMIT))
