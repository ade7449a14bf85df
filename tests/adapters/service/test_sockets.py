from __future__ import annotations

import asyncio
import errno
import hmac
import logging
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import jwt
import pytest
from tests.adapters.service.sockets import ROLES, Client, nothing_runs, recovery_url, refusal, with_service
from tests.helpers import forked
from tests.helpers.waiting import LIMIT, skip
from websockets.asyncio.client import connect

from limpet.service import HubOptions, Service, ServiceOptions, client_url, mint_client_token, server
from limpet.service.tokens import TokenAuthority
from limpet_core.service import JSON, RELIABLE_JSON, ConnectionString, server_publication

KEY = "k" * 32
INTERVAL = 5.0


def signed(service: Service, **claims: Any) -> str:
    key = ConnectionString.parse(service.connection_string).access_key
    base = {"aud": f"{service.endpoint}/client/hubs/chat", "exp": int(time.time()) + 60}
    merged = {name: value for name, value in {**base, **claims}.items() if value is not None}
    return f"ws://127.0.0.1:{service.port}/client/hubs/chat?access_token={jwt.encode(merged, key, 'HS256')}"


# ---- Admission


@pytest.mark.parametrize("offer", [JSON, RELIABLE_JSON, RELIABLE_JSON.upper()])
def test_a_client_is_welcomed_in_each_subprotocol_in_its_own_spelling(offer: str) -> None:
    async def scenario(service: Service) -> None:
        client = await Client.open(service.client_url(user_id="ann"), "unknown", offer)
        assert client.websocket.subprotocol == offer
        hello = await client.receive()
        assert (hello["event"], hello["userId"]) == ("connected", "ann")
        assert ("reconnectionToken" in hello) is (offer.lower() == RELIABLE_JSON)
        await client.leave()

    with_service(scenario)


def test_tokens_that_are_good() -> None:
    async def scenario(service: Service) -> None:
        host = f"127.0.0.1:{service.port}"
        now = int(time.time())
        urls = [
            signed(service, aud=f"https://{host}/CLIENT/hubs/CHAT/"),
            signed(service, aud=["other", f"http://{host}/client/hubs/chat"]),
            signed(service, exp=now - 240),
            signed(service, nbf=now + 240, iat=now),
            signed(service, sub="", role=None),
            signed(service, iat=now + 3600, jti=5),
            signed(service, iat="yesterday"),
            signed(service, aud=f"http://localhost:{service.port}/client/hubs/chat").replace("127.0.0.1", "localhost"),
            signed(service).replace("/client/hubs/chat?", "/client/?hub=Chat&"),
            signed(service).replace("/client/hubs/chat?", "/client?hub=chat&"),
            signed(service).replace("/chat?", "/ch%61t/?"),
            signed(service).replace("/client/hubs/chat?", "/Client/HUBS/chat/?"),
            signed(service).replace("/client/hubs/chat?", "/CLIENT?hub=chat&"),
            signed(service, role=[f"webpubsub.sendToGroup.group-{n}" for n in range(600)]),
        ]
        for url in urls:
            client = await Client.open(url)
            assert (await client.receive())["event"] == "connected"
            await client.leave()

    with_service(scenario)


def test_tokens_that_are_not_good_are_answered_before_the_upgrade() -> None:
    async def scenario(service: Service) -> None:
        now = int(time.time())
        host = f"127.0.0.1:{service.port}"
        good = service.client_url()
        nested = "eyJ" + "W1tb" * 1500
        for url, status in [
            (good.partition("?")[0], 401),
            (good[:-4] + "AAAA", 401),
            (good.partition("=")[0] + "=nonsense", 401),
            (good.partition("=")[0] + f"={nested}.e30.", 401),
            (signed(service, exp=now - 310), 401),
            (signed(service, exp=None), 401),
            (signed(service, aud=None), 401),
            (signed(service, aud=f"http://{host}/client/hubs/other"), 401),
            (signed(service, aud="http://elsewhere/client/hubs/chat"), 401),
            (signed(service, **{"webpubsub.group": " "}), 400),
            (signed(service, role=[1]), 400),
            (signed(service, sub=5), 400),
            (good.replace("/hubs/chat", "/hubs/1st"), 400),
            (good.replace("/hubs/chat", "/"), 400),
            (good.replace("/hubs/chat", "/hubs/"), 400),
            (good.replace("/client/hubs/chat", "/Client/Hubs"), 400),
            (good.replace("/hubs/chat", "/hubs") + "&hub=chat", 400),
            (good.replace("/hubs/chat", "/hubs/chat/more"), 404),
            (good.replace("/client/", "/elsewhere/"), 404),
        ]:
            answered, text = await refusal(url, RELIABLE_JSON)
            assert answered == status, (url, text)
            assert text.count("\n") == 1

    with_service(scenario)


def test_a_token_in_the_authorization_header_works_and_the_one_in_the_url_goes_first() -> None:
    async def scenario(service: Service) -> None:
        bare, _, token = service.client_url().partition("?access_token=")
        header = {"Authorization": f"Bearer {token}"}
        assert (await refusal(bare + "?access_token=wrong", JSON, headers=header))[0] == 401
        websocket = await connect(bare, additional_headers=header)
        assert websocket.subprotocol is None
        await websocket.close()

    with_service(scenario)


def test_a_client_that_speaks_another_protobuf_is_told_what_to_offer() -> None:
    async def scenario(service: Service) -> None:
        status, text = await refusal(service.client_url(), "protobuf.webpubsub.azure.v2")
        assert status == 400
        assert RELIABLE_JSON in text
        assert "protobuf.webpubsub.azure.v1" in text

    with_service(scenario)


def test_anonymous_clients_are_let_in_if_enabled_and_may_do_nothing() -> None:
    async def scenario(service: Service) -> None:
        client = await Client.open(f"ws://127.0.0.1:{service.port}/client/hubs/chat")
        assert (await client.receive())["userId"] is None
        await client.send(type="joinGroup", group="room", ackId=1)
        assert (await client.receive())["error"]["name"] == "Forbidden"
        await client.leave()

    with_service(scenario, ServiceOptions(anonymous=True))


def test_anonymous_access_is_a_switch_of_each_hub() -> None:
    async def scenario(service: Service) -> None:
        open_hub = f"ws://127.0.0.1:{service.port}/client/hubs/LOBBY"
        client = await Client.open(open_hub)
        assert (await client.receive())["userId"] is None
        assert (await refusal(open_hub.replace("LOBBY", "chat"), JSON))[0] == 401
        # A token that is not good is not taken for none.
        assert (await refusal(open_hub + "?access_token=nonsense", JSON))[0] == 401
        await client.leave()

    with_service(scenario, ServiceOptions(hubs={"Lobby": HubOptions(anonymous=True)}))


def test_one_client_too_many_gets_429() -> None:
    async def scenario(service: Service) -> None:
        clients = [await Client.open(service.client_url(hub), JSON) for hub in ("chat", "other")]
        status, text = await refusal(service.client_url(), JSON)
        assert (status, "All 2 connections" in text) == (429, True)
        await clients.pop().leave()
        while service.core.connection_count > 1:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        clients.append(await Client.open(service.client_url(), JSON))
        for client in clients:
            await client.leave()

    with_service(scenario, ServiceOptions(max_connections=2))


def test_both_access_keys_are_good_and_no_other() -> None:
    other = "s" * 32

    async def scenario(service: Service) -> None:
        for key in (KEY, other):
            client = await Client.open(client_url(ConnectionString(service.endpoint, key)))
            assert (await client.receive())["event"] == "connected"
            await client.leave()
        assert (await refusal(client_url(ConnectionString(service.endpoint, "x" * 32)), JSON))[0] == 401
        assert (await refusal(client_url(ConnectionString(service.endpoint, other), expires_in=1) + "x", JSON))[
            0
        ] == 401

    with_service(scenario, ServiceOptions(access_key=KEY, secondary_access_key=other))


def test_signatures_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []
    compare = hmac.compare_digest

    def spy(a: bytes, b: bytes) -> bool:
        compared.append(a)
        return compare(a, b)

    monkeypatch.setattr(hmac, "compare_digest", spy)
    authority = TokenAuthority(KEY)
    token = authority.issue_reconnection_token("c1")
    assert authority.check_reconnection_token(token, "c1")
    assert not authority.check_reconnection_token(token, "c2")
    assert not authority.check_reconnection_token(token[:-4] + "AAAA", "c1")
    assert len(compared) == 3


def test_tokens_and_keys_are_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def scenario(service: Service) -> list[str]:
        url = service.client_url(roles=ROLES)
        client = await Client.open(url)
        hello = await client.receive()
        client.websocket.transport.abort()
        recovered = await Client.open(recovery_url(service, hello))
        again = await recovered.receive()
        await recovered.leave()
        await refusal(url + "x", JSON)
        async with httpx.AsyncClient() as http:
            await http.get(url.replace("ws:", "http:"))
            endpoint = f"{service.endpoint}/api/hubs/chat/:generateToken"
            key = ConnectionString.parse(service.connection_string).access_key
            good, bad = [
                jwt.encode({"aud": "https://webpubsub.azure.com", "exp": 2**31}, k, "HS256") for k in (key, "w" * 32)
            ]
            made = (await http.post(endpoint, headers={"Authorization": f"Bearer {good}"})).json()["token"]
            assert (await http.post(endpoint, headers={"Authorization": f"Bearer {bad}"})).status_code == 401
        return [key, good, bad, made, url.partition("=")[2], hello["reconnectionToken"], again["reconnectionToken"]]

    secrets = with_service(scenario)
    ours = [
        record.getMessage()
        for record in caplog.records
        if not record.name.startswith(("websockets", "httpx", "httpcore"))
    ]
    assert any("attached to hub chat" in message for message in ours)
    assert not [message for message in ours for secret in secrets if secret in message]
    assert KEY not in repr(ServiceOptions(access_key=KEY))
    assert KEY not in repr(ConnectionString("http://a", KEY))


# ---- Messages and closes


def test_clients_talk_to_each_other_in_messages_of_every_length() -> None:
    async def scenario(service: Service) -> None:
        ann = await Client.open(service.client_url(user_id="ann", roles=ROLES))
        ben = await Client.open(service.client_url(groups=["room"]), JSON)
        await ann.receive()
        await ben.receive()
        for length in (0, 1, 10, 20, 30, 125, 126, 65_400, 65_536, 1_000_000):
            await ann.send(type="sendToGroup", group="room", dataType="text", data="x" * length)
            message = await ben.receive()
            assert (message["fromUserId"], message["data"]) == ("ann", "x" * length)
        await ann.leave()
        await ben.leave()

    with_service(scenario)


def test_a_message_in_a_binary_frame_or_in_fragments_is_understood() -> None:
    async def scenario(service: Service) -> None:
        client = await Client.open(service.client_url())
        await client.receive()
        await client.websocket.send(b'{"type":"ping"}')
        assert await client.receive() == {"type": "pong"}
        await client.websocket.send(['{"ty', 'pe":"pi', 'ng"}'])
        assert await client.receive() == {"type": "pong"}
        await client.leave()

    with_service(scenario)


@pytest.mark.parametrize(
    ("data", "code"),
    [("nonsense", 1007), (b"\xff", 1007), ("x" * (1024 * 1024 + 1), 1009), (["x" * 600_000] * 2, 1009)],
)
def test_a_broken_or_huge_message_ends_the_session(data: Any, code: int) -> None:
    said = "The client message is " + ("too large. " if code == 1009 else "not a valid JSON protocol message. ")

    async def scenario(service: Service) -> None:
        client = await Client.open(service.client_url())
        hello = await client.receive()
        await client.websocket.send(data)
        assert await client.close_code() == code
        assert str(client.websocket.close_reason).startswith(said)
        again = await Client.open(recovery_url(service, hello))
        assert await again.close_code() == 1008

    with_service(scenario)


@pytest.mark.parametrize("code", [1002, 1007, 1011])
def test_a_client_that_closes_over_a_fault_it_saw_may_recover(code: int) -> None:
    async def scenario(service: Service) -> None:
        client = await Client.open(service.client_url())
        hello = await client.receive()
        await client.websocket.close(code, "that was garbled")
        again = await Client.open(recovery_url(service, hello))
        assert (await again.receive())["connectionId"] == hello["connectionId"]
        await again.leave()

    with_service(scenario)


def test_frames_that_break_the_rules_of_websockets_end_the_session() -> None:
    async def scenario(service: Service) -> None:
        client = await Client.open(service.client_url())
        hello = await client.receive()
        client.websocket.transport.write(b"\x81\x01x")  # a client has to mask
        assert await client.close_code() == 1002
        assert str(client.websocket.close_reason).startswith("The client frame is invalid. ")
        assert service.core.connection(hello["connectionId"]) is None

    with_service(scenario)


def test_a_message_of_exactly_one_mebibyte_is_taken() -> None:
    async def scenario(service: Service) -> None:
        client = await Client.open(service.client_url())
        await client.receive()
        await client.websocket.send('{"type":"ping"}'.ljust(1024 * 1024))
        assert await client.receive() == {"type": "pong"}
        await client.leave()

    with_service(scenario)


def test_a_close_by_the_application_server_is_announced_and_final() -> None:
    async def scenario(service: Service) -> None:
        client = await Client.open(service.client_url())
        hello = await client.receive()
        service.core.close_connection(hello["connectionId"], "enough")
        service.flush()
        said = "Application server closed the connection. Reason: enough"
        assert await client.receive() == {"type": "system", "event": "disconnected", "message": said}
        assert await client.close_code() == 1000
        assert client.websocket.close_reason == ""
        assert await (await Client.open(recovery_url(service, hello))).close_code() == 1008

    with_service(scenario)


# ---- Recovery


@pytest.mark.parametrize("hello_again", [True, False])
def test_what_was_missed_comes_after_a_recovery(hello_again: bool) -> None:
    async def scenario(service: Service) -> None:
        client = await Client.open(service.client_url(groups=["room"]))
        sender = await Client.open(service.client_url(roles=ROLES))
        hello = await client.receive()
        await sender.receive()
        assert service.drop(hello["connectionId"])
        assert await client.close_code() == 1006
        assert not service.drop(hello["connectionId"])
        for number in range(1, 4):
            await sender.send(type="sendToGroup", group="room", data=number, ackId=number)
            assert (await sender.receive())["success"]
        for _ in range(2):
            recovered = await Client.open(recovery_url(service, hello, "CHAT"))
            assert recovered.websocket.subprotocol == RELIABLE_JSON
            if hello_again:
                assert (await recovered.receive())["connectionId"] == hello["connectionId"]
            for number in range(1, 4):
                message = await recovered.receive()
                assert (message["sequenceId"], message["data"]) == (number, number)
            # The second recovery replaces the first transport, which is still attached.
        await recovered.send(type="sequenceAck", sequenceId=3)
        await recovered.leave()
        await sender.leave()

    with_service(scenario, ServiceOptions(connected_after_recovery=hello_again))


@pytest.mark.parametrize(("code", "final"), [(1000, True), (1001, False), (4000, False)])
def test_a_close_with_1000_ends_the_session_and_others_do_not(code: int, final: bool) -> None:
    async def scenario(service: Service) -> None:
        client = await Client.open(service.client_url())
        hello = await client.receive()
        await client.websocket.close(code)
        recovered = await Client.open(recovery_url(service, hello))
        if final:
            assert await recovered.close_code() == 1008
        else:
            assert (await recovered.receive())["event"] == "connected"
            await recovered.leave()

    with_service(scenario)


def test_recovery_is_refused_after_the_window_and_the_timer_runs_by_itself() -> None:
    async def scenario(service: Service) -> None:
        client = await Client.open(service.client_url())
        hello = await client.receive()
        service.drop(hello["connectionId"])
        async with asyncio.timeout(LIMIT):
            while service.core.connection(hello["connectionId"]) is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        refused = await Client.open(recovery_url(service, hello))
        assert await refused.close_code() == 1008
        hello["reconnectionToken"] += "x"
        assert await (await Client.open(recovery_url(service, hello))).close_code() == 1008

    with_service(scenario, ServiceOptions(recovery_window=0.05))


def test_the_reconnection_token_of_another_connection_is_refused() -> None:
    async def scenario(service: Service) -> None:
        clients = [await Client.open(service.client_url()) for _ in range(2)]
        hellos = [await client.receive() for client in clients]
        mixed = {**hellos[0], "reconnectionToken": hellos[1]["reconnectionToken"]}
        assert await (await Client.open(recovery_url(service, mixed))).close_code() == 1008
        for client in clients:
            await client.send(type="ping")
            assert await client.receive() == {"type": "pong"}
            await client.leave()

    with_service(scenario)


def test_a_thousand_unacknowledged_messages_are_fine_and_one_more_closes_with_1008() -> None:
    async def scenario(service: Service) -> None:
        client = await Client.open(service.client_url(groups=["room"]))
        sender = await Client.open(service.client_url(roles=ROLES))
        hello = await client.receive()
        await sender.receive()
        for number in range(1, 1001):
            await sender.send(type="sendToGroup", group="room", data=number)
        assert [(await client.receive())["sequenceId"] for _ in range(1000)] == list(range(1, 1001))
        await sender.send(type="sendToGroup", group="room", data="one too many")
        assert await client.close_code() == 1008
        assert await (await Client.open(recovery_url(service, hello))).close_code() == 1008
        await sender.leave()

    with_service(scenario)


@pytest.mark.parametrize("offer", [JSON, RELIABLE_JSON])
def test_a_client_that_pauses_reading_gets_everything_later(offer: str) -> None:
    async def scenario(service: Service) -> None:
        client = await Client.open(service.client_url(groups=["room"]), offer)
        await client.receive()
        client.websocket.transport.pause_reading()
        text = "x" * 20_000
        for number in range(700):
            service.core.send_to_group("chat", "room", server_publication("text", f'"{number} {text}"'.encode()))
            service.flush()
            if number % 100 == 0:
                await asyncio.sleep(0)
        client.websocket.transport.resume_reading()
        for number in range(700):
            assert (await client.receive())["data"] == f"{number} {text}"
        await client.leave()

    with_service(scenario)


def test_a_client_that_never_reads_is_closed_and_the_others_go_on() -> None:
    async def scenario(service: Service) -> None:
        slow = await Client.open(service.client_url(groups=["room"]), JSON)
        fast = await Client.open(service.client_url(groups=["room"]), JSON)
        await slow.receive()
        await fast.receive()
        slow.websocket.transport.pause_reading()
        publication = server_publication("text", b'"' + b"x" * 100_000 + b'"')
        for _ in range(400):
            service.core.send_to_group("chat", "room", publication)
            service.flush()
            await fast.receive()
        assert len(service.hub().connections) == 1
        slow.websocket.transport.resume_reading()
        assert await slow.close_code() == 1008
        await fast.leave()

    with_service(scenario)


def test_a_burst_in_one_piece_reaches_a_receiver_that_acknowledges_in_time() -> None:
    async def scenario(service: Service) -> None:
        client = await Client.open(service.client_url(groups=["room"]))
        sender = await Client.open(service.client_url(roles=ROLES))
        await client.receive()
        message = b'{"type":"sendToGroup","group":"room","data":1}'
        frame = bytes((0x81, 0x80 | len(message), 0, 0, 0, 0)) + message
        sender.websocket.transport.write(frame * 5000)
        for number in range(1, 5001):
            assert f'"sequenceId":{number},' in str(await client.websocket.recv())
            if number % 100 == 0:
                await client.send(type="sequenceAck", sequenceId=number)
        await client.leave()
        await sender.leave()

    with_service(scenario)


def test_a_client_that_does_not_answer_pings_is_dropped() -> None:
    async def scenario(service: Service) -> None:
        client = await Client.open(service.client_url())
        hello = await client.receive()
        client.websocket.transport.pause_reading()
        for _ in range(2):  # a ping, and then no answer
            await skip(INTERVAL)
        connection = service.core.connection(hello["connectionId"])
        assert connection is not None
        assert connection.transport is None
        client.websocket.transport.resume_reading()
        recovered = await Client.open(recovery_url(service, hello))
        assert (await recovered.receive())["event"] == "connected"
        # Answering is what the library does by itself.
        for _ in range(3):
            await skip(INTERVAL)
        await recovered.send(type="ping")
        assert await recovered.receive() == {"type": "pong"}
        await recovered.leave()

    with_service(scenario, ServiceOptions(keepalive_interval=INTERVAL))


# ---- Over HTTP


def test_health_and_wrong_requests() -> None:
    async def scenario(service: Service) -> None:
        async with httpx.AsyncClient(base_url=service.endpoint) as http:
            assert (await http.head("/api/health")).status_code == 200
            for path in ("/client/hubs/chat", "/Client/Hubs/chat/"):
                answer = await http.get(path)
                assert (answer.status_code, "WebSocket" in answer.text) == (400, True)

    with_service(scenario)


@pytest.mark.parametrize(("path", "name"), [("mqtt/hubs/chat", "MQTT"), ("socketio", "Socket.IO"), ("MQTT/", "MQTT")])
def test_urls_of_protocols_that_are_not_here_are_told_so(path: str, name: str) -> None:
    # The JavaScript server SDK makes such URLs by itself: `clientProtocol: "mqtt"`.
    async def scenario(service: Service) -> None:
        url = service.client_url().replace("/client/hubs/chat", f"/clients/{path}")
        status, text = await refusal(url, "mqtt")
        assert (status, f"has no {name}. " in text) == (501, True)
        async with httpx.AsyncClient(base_url=service.endpoint) as http:
            answer = await http.get(f"/clients/{path}")
            assert (answer.status_code, f"has no {name}. " in answer.text) == (501, True)
            assert (await http.get("/clients/mqtts")).status_code == 404

    with_service(scenario)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda url: url[:-4] + "AAAA", "it is signed with another access key than that of this service"),
        (lambda url: url.partition("=")[0] + "=nonsense", "it is not a JSON Web Token that is signed with HS256"),
    ],
)
def test_what_is_wrong_with_a_token_is_said_in_plain_words(change: Callable[[str], str], said: str) -> None:
    async def scenario(service: Service) -> None:
        status, text = await refusal(change(service.client_url()))
        assert (status, said in text) == (401, True)
        assert "it has expired" in (await refusal(signed(service, exp=1)))[1]

    with_service(scenario)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_negotiation_gives_a_url_that_may_join_and_send(method: str) -> None:
    async def scenario(service: Service) -> None:
        async with httpx.AsyncClient(base_url=service.endpoint) as http:
            answer = await http.request(method, "/negotiate?hub=News&userId=ann")
            assert (await http.get("/negotiate?hub=1")).status_code == 400
        client = await Client.open(answer.json()["url"])
        assert (await client.receive())["userId"] == "ann"
        await client.send(type="joinGroup", group="room", ackId=1)
        assert (await client.receive())["success"]
        await client.send(type="sendToGroup", group="room", data=1, noEcho=True, ackId=2)
        assert (await client.receive())["success"]
        assert len(service.hub("news").members("room")) == 1
        await client.leave()

    with_service(scenario)


@pytest.mark.parametrize(
    ("enabled", "host", "status"),
    [
        (None, "localhost", 200),
        (None, "evil.example", 403),
        (None, "[", 400),
        (True, "evil.example", 200),
        (False, "localhost", 403),
    ],
)
def test_negotiation_is_for_this_machine_unless_enabled(enabled: bool | None, host: str, status: int) -> None:
    async def scenario(service: Service) -> None:
        async with httpx.AsyncClient() as http:
            answer = await http.get(service.endpoint + "/negotiate", headers={"Host": host})
        assert answer.status_code == status

    with_service(scenario, ServiceOptions(negotiate=enabled))


# ---- Start and stop


def test_stopping_is_prompt_and_closes_clients_with_1001_even_ones_that_do_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run() -> None:
        monkeypatch.setattr(server, "_STOP_TIMEOUT", 3600.0)
        service = Service()
        await service.start()
        client = await Client.open(service.client_url())
        async with httpx.AsyncClient() as http:
            await http.head(service.endpoint + "/api/health")  # its connection is kept alive
            async with asyncio.timeout(LIMIT):
                await service.stop()
        assert await client.close_code() == 1001

        monkeypatch.setattr(server, "_STOP_TIMEOUT", 0.1)
        await service.start()
        deaf = await Client.open(service.client_url())
        deaf.websocket.transport.pause_reading()
        await service.stop()
        await service.stop()
        deaf.websocket.transport.abort()
        await deaf.websocket.wait_closed()
        await nothing_runs()

    asyncio.run(run())


@pytest.mark.parametrize("turns", range(6))
def test_a_client_that_comes_while_the_service_stops_leaves_nothing_open(turns: int) -> None:
    async def run() -> None:
        service = Service()
        await service.start()
        with socket.create_connection(("127.0.0.1", service.port)) as sock:
            for _ in range(turns):
                await asyncio.sleep(0)
            await service.stop()
            sock.settimeout(LIMIT)
            with suppress(ConnectionResetError):
                assert sock.recv(1) == b""

    asyncio.run(run())


def test_a_busy_port_is_a_clear_error_and_starting_twice_too() -> None:
    async def scenario(service: Service) -> None:
        with pytest.raises(RuntimeError, match="running"):
            await service.start()
        with pytest.raises(OSError, match="in use") as caught:
            await Service(port=service.port).start()
        assert caught.value.errno == errno.EADDRINUSE

    with_service(scenario)


def test_only_with_a_key_of_its_own_the_service_is_reachable_from_elsewhere() -> None:
    for host in ("0.0.0.0", "::", "", "example.com"):
        with pytest.raises(ValueError, match="access_key"):
            Service(host=host)

    async def run() -> None:
        async with Service(ServiceOptions(access_key=KEY), "0.0.0.0") as service:
            assert service.connection_string == f"Endpoint=http://127.0.0.1:{service.port};AccessKey={KEY};Version=1.0;"
            client = await Client.open(service.client_url())
            await client.leave()

    asyncio.run(run())


def test_before_the_start_there_is_no_port() -> None:
    with pytest.raises(RuntimeError, match="not started"):
        _ = Service().port


def test_serve_runs_until_it_is_interrupted() -> None:
    code = (
        "from limpet.service import serve\n"
        "serve(port=0, on_start=lambda service: print(service.port, flush=True))\n"
        "print('stopped')\n"
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        with forked.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            socket.create_connection(("127.0.0.1", port)).close()
            process.send_signal(number)
            output, errors = process.communicate(timeout=LIMIT)
        assert (process.returncode, output, errors) == (0, "stopped\n", "")


def test_while_serve_runs_collections_of_garbage_leave_out_what_it_begins_with() -> None:
    code = (
        "import asyncio, gc\n"
        "from limpet.service import serve\n"
        "gc.unfreeze()\n"  # what the process that tests are forked from has frozen
        "serve(port=0, on_start=lambda _: print(gc.get_freeze_count() > 1000), until=lambda: asyncio.sleep(0))\n"
        "print(gc.get_freeze_count())\n"
    )
    done = forked.run([sys.executable, "-c", code], text=True, timeout=LIMIT)
    assert (done.stdout, done.stderr) == ("True\n0\n", "")


def test_what_an_application_has_frozen_stays_so_behind_serve() -> None:
    code = (
        "import asyncio, gc\n"
        "from limpet.service import serve\n"
        "gc.freeze()\n"
        "own = gc.get_freeze_count()\n"
        "serve(port=0, until=lambda: asyncio.sleep(0))\n"
        "print(gc.get_freeze_count() >= own)\n"
    )
    done = forked.run([sys.executable, "-c", code], text=True, timeout=LIMIT)
    assert (done.stdout, done.stderr) == ("True\n", "")


# ---- Tokens and options


def test_client_urls_and_tokens_come_from_a_connection_string() -> None:
    string = f"endpoint=https://Demo.example/;ACCESSKEY={KEY}=;Version=1.0;"
    url = client_url(string, "Chat", user_id="ann", roles=ROLES, groups=["a b"], expires_in=60)
    assert url.startswith("wss://Demo.example/client/hubs/Chat?access_token=")
    claims = jwt.decode(
        url.partition("=")[2],
        KEY + "=",
        algorithms=["HS256"],
        audience="https://Demo.example/client/hubs/chat",
    )
    assert claims["exp"] - claims["iat"] == 60
    assert (claims["sub"], claims["role"], claims["webpubsub.group"]) == ("ann", list(ROLES), ["a b"])


def test_wrong_arguments_of_tokens_are_clear_errors() -> None:
    string = ConnectionString("http://localhost:8080", KEY).build()
    for wrong in ({"hub": "1"}, {"groups": [" "]}, {"expires_in": 0}):
        with pytest.raises(ValueError, match=r"hub name|group name|positive"):
            mint_client_token(string, **wrong)
    with pytest.raises(TypeError, match="single string"):
        mint_client_token(string, roles="webpubsub.sendToGroup")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "ws://a/client/hubs/chat?access_token=b",
        " HTTPS://a",
        "Endpoint=http://a;",
        f"AccessKey={KEY}",
        "Endpoint=ftp://a;AccessKey=b",
        "Endpoint=http://a;AccessKey=b;Port=x",
    ],
)
def test_what_is_not_a_connection_string(text: str) -> None:
    with pytest.raises(ValueError, match="connection string") as caught:
        ConnectionString.parse(text)
    assert ("that is a URL" in str(caught.value)) == ("//a" in text and "Endpoint" not in text)


def test_a_connection_string_may_have_a_port() -> None:
    parsed = ConnectionString.parse(f"Endpoint=http://localhost;Port=8080;AccessKey={KEY};Version=1.0;")
    assert parsed.endpoint == "http://localhost:8080"
    assert ConnectionString.parse(parsed.build()) == parsed


@pytest.mark.parametrize(
    "wrong",
    [
        {"access_key": "short"},
        {"access_key": KEY + ";"},
        {"access_key": KEY, "secondary_access_key": "short"},
        {"secondary_access_key": KEY},
        {"keepalive_interval": 0},
        {"request_timeout": 0},
        {"request_timeout": float("nan")},
        {"max_connections": 0},
        {"retained_bytes": 0},
        {"hubs": {"1st": HubOptions()}},
        {"hubs": {"chat": HubOptions(), "Chat": HubOptions()}},
    ],
    ids=str,
)
def test_options_are_validated(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|positive|needs|hub") as raised:
        ServiceOptions(**wrong)
    assert KEY not in str(raised.value)
