"""The examples run, each as a process of its own, against the local service."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import trustme
from tests.helpers import forked
from tests.helpers.background import running
from tests.helpers.echo import Echo, server_context
from tests.helpers.waiting import LIMIT, complaints

import limpet.connect
from limpet.service import Service
from limpet.testing import BackgroundService, trace

EXAMPLES = Path(__file__).parents[2] / "examples"
HOWTO = Path(__file__).parents[2] / "docs" / "howto" / "write-an-adapter.md"
DRIVERS = ["gevent_client.py", "qt_like_client.py", "tornado_client.py", "twisted_client.py"]
"""On event loops of others; test_drivers.py holds them, and browser_client.py, to the conformance of drivers."""
ROLES = ("webpubsub.joinLeaveGroup", "webpubsub.sendToGroup")


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running(Service) as service:
        yield service


class Example:
    """An example that runs, to talk to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def say(self, line: str) -> None:
        print(line, file=self._process.stdin, flush=True)

    def hear(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip()

    def finish(self) -> list[str]:
        """What it still prints until it ends, which it must do well and without a word of complaint."""
        output, errors = self._process.communicate(timeout=LIMIT)
        assert (self._process.returncode, complaints(errors)) == (0, "")
        return output.splitlines()


@contextmanager
def example(name: str, url: str) -> Iterator[Example]:
    process = forked.Popen(
        [sys.executable, "-X", "dev", "-W", "error", EXAMPLES / name, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield Example(process)
        finally:
            process.kill()


def test_the_loop_from_nothing_loses_nothing_over_a_dropped_connection(service: Service) -> None:
    with example("selectors_loop.py", service.client_url("chat", roles=ROLES)) as loop:
        lines = loop.finish()
    before, after = [[f"message {number}" for number in numbers] for numbers in (range(5), range(5, 10))]
    assert lines == [*before, "-- recovering", "-- recovered", *after]


def test_the_loop_from_nothing_speaks_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    tls = server_context(authority.issue_cert("127.0.0.1"))
    with running(lambda: Echo(tls)) as service, example("selectors_loop.py", service.url) as loop:
        assert len(loop.finish()) == 12


@pytest.mark.parametrize("name", ["asyncio_chat.py", "trio_chat.py", "sync_chat.py"])
def test_two_people_chat(service: Service, name: str) -> None:
    ann_url, bob_url = [service.client_url("chat", user_id=user_id, roles=ROLES) for user_id in ("ann", "bob")]
    with example(name, ann_url) as ann:
        ann.say("hello")
        assert ann.hear() == "ann: hello"
        with example(name, bob_url) as bob:
            bob.say("hello")
            assert [bob.hear(), ann.hear()] == ["bob: hello"] * 2
            ann.say("how are you?")
            assert [ann.hear(), bob.hear()] == ["ann: how are you?"] * 2
            assert ann.finish() == bob.finish() == []


def test_the_core_over_a_library_that_blocks_loses_nothing_over_a_dropped_connection() -> None:
    with BackgroundService() as service:
        service.lose_ack()
        with example("blocking_websocket.py", service.url()) as chat:
            assert chat.finish() == [f"message {number}" for number in range(5)]
        assert len(service.log.of(trace.ConnectionRecovered)) == 1
        assert service.log.wait(trace.ConnectionClosed).code == 1000


@pytest.mark.parametrize("name", DRIVERS)
def test_a_driver_on_another_event_loop_loses_nothing_over_a_dropped_connection(name: str) -> None:
    with BackgroundService() as service:
        service.lose_ack()
        with example(name, service.url()) as chat:
            assert chat.finish() == [f"message {number}" for number in range(5)]
        assert len(service.log.of(trace.ConnectionRecovered)) == 1
        assert service.log.wait(trace.ConnectionClosed).code == 1000


def test_the_core_over_a_library_that_blocks_tells_why_it_can_not_connect(service: Service) -> None:
    path = EXAMPLES / "blocking_websocket.py"
    for url, text in (
        ("ws://127.0.0.1:1/client/hubs/chat", "cannot connect to 127.0.0.1 port 1: "),
        (service.client_url("chat") + "x", "HTTP 401"),
    ):
        done = forked.run([sys.executable, path, url], text=True, timeout=LIMIT)
        assert done.returncode == 1
        assert done.stderr.startswith("-- stopped: cannot connect to 127.0.0.1 port ")
        assert text in done.stderr


def test_somebody_elses_websocket(service: Service) -> None:
    with example("own_websocket.py", service.client_url("chat", roles=ROLES)) as chat:
        assert chat.finish() == ["hello from another WebSocket library"]


def test_somebody_elses_websocket_in_threads(service: Service) -> None:
    with example("own_websocket_sync.py", service.client_url("chat", roles=ROLES)) as chat:
        assert chat.finish() == ["hello from other threads"]


def test_the_service_mounted_in_an_application() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    base = f"http://127.0.0.1:{port}"
    with (
        example("mounted_service.py", str(port)),
        httpx.Client(transport=httpx.HTTPTransport(retries=8), base_url=base) as http,
    ):
        assert http.get("/people").json() == []
        url = http.post("/login?user=ann").json()["url"]
        assert url.startswith(f"ws://127.0.0.1:{port}/pubsub/client/hubs/chat?")
        with example("own_websocket.py", url) as chat:
            assert chat.finish() == ["hello from another WebSocket library"]
        with example("asyncio_chat.py", url) as ann:
            ann.say("hello")
            assert ann.hear() == "ann: hello"
            assert http.get("/people").json() == ["ann"]
            assert http.post("/kick/ann").json() == {"kicked": 1}
            assert http.post("/kick/ben").json() == {"kicked": 0}


@pytest.mark.parametrize(
    "path", sorted(set(EXAMPLES.glob("*.py")) - {EXAMPLES / "test_chat.py"}), ids=lambda path: path.stem
)
def test_without_an_argument_an_example_says_how_to_run_it(path: Path) -> None:
    done = forked.run([sys.executable, path], text=True, timeout=LIMIT)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"python examples/{path.name} " in done.stderr
    assert "Traceback" not in done.stderr


def test_every_example_is_run() -> None:
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert names == {
        "asyncio_chat.py",
        "blocking_websocket.py",
        "browser_client.py",  # by test_drivers.py: it needs a browser
        "mounted_service.py",
        "own_websocket.py",
        "own_websocket_sync.py",
        "selectors_loop.py",
        "stream_tokens.py",  # by tests/browser/test_stream_example.py: it needs a browser
        "sync_chat.py",
        *DRIVERS,
        "qt_like_loop.py",  # by qt_like_client.py
        "test_chat.py",  # by tests/testing/test_plugin.py
        "trio_chat.py",
    }


def test_what_the_howto_quotes_is_in_the_examples() -> None:
    text = HOWTO.read_text()
    quotes = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(quotes) == text.count("```") // 2 > 10
    # However deep it is indented in the example.
    sources = [
        re.sub(rf"^ {{0,{depth}}}", "", path.read_text(), flags=re.MULTILINE)
        for path in [*EXAMPLES.glob("*.py"), Path(limpet.connect.__file__)]
        for depth in (0, 4, 8)
    ]
    assert [quote for quote in quotes if not any(quote in source for source in sources)] == []
