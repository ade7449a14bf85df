"""The flows of the official samples, over http and over ``serve --https``, with both official server SDKs.

Written anew after their shape: servers in ``js/samples/application.mjs`` and ``sample_application.py``, pages in
``js/samples/clients.mjs``. The host of y-azure-webpubsub runs unchanged from its registry.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.helpers import forked
from tests.helpers.command_line import environment_without_limpet
from tests.helpers.waiting import until
from tests.interop.node import HERE, Node, install

import limpet_core.protocol.protobuf as package

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the applications inherit sockets in the way of Unix")

SCHEMA = Path(package.__file__).parent / "webpubsub.proto"
SDKS = {"js": [], "python": [sys.executable, str(HERE / "sample_application.py")]}
SAMPLES_WITH_HANDLERS = ("chat", "draw", "code")


class Application:
    """A listening socket, and the application that gets it once the service runs."""

    def __init__(self, sdk: str) -> None:
        self.sdk = sdk
        self.program: Node | None = None
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    @property
    def settings(self) -> str:
        """The event handlers of its hubs, for ``serve --config``."""
        return "".join(
            f'[[hubs.{sample}_{self.sdk}.event_handlers]]\nurl = "{self.url}/eventhandler/{sample}"\n'
            for sample in SAMPLES_WITH_HANDLERS
        )

    def start(self, environment: dict[str, str]) -> None:
        descriptor = self._socket.fileno()
        self.program = Node(
            "samples/application.mjs",
            command=SDKS[self.sdk] or None,
            environment={**environment, "SAMPLE_LISTENER": str(descriptor)},
            inherited=[descriptor],
        )

    def stop(self) -> None:
        if self.program is not None:
            self.program.stop()
        self._socket.close()


class World:
    """A service in a process of its own, the applications behind it, and the pages."""

    def __init__(self, where: dict[str, Any], applications: dict[str, Application]) -> None:
        self._environment = {"SAMPLE_CONNECTION_STRING": where["connectionString"]}
        if (authority := where["certificateAuthority"]) is not None:
            names = ("NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
            self._environment |= dict.fromkeys(names, authority)
        self._applications = applications
        self.pages = Node("samples/clients.mjs", environment=self._environment)

    def play(self, sample: str, sdk: str, **options: Any) -> Any:
        """Let the pages of a sample play with the application of an SDK; return what they have seen."""
        application = self._applications[sdk]
        if application.program is None:
            application.start(self._environment)
        return self.pages.call(sample, application=application.url, **options)


@pytest.fixture(scope="module", params=["http", "https"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    install()
    folder = tmp_path_factory.mktemp(request.param)
    with contextlib.ExitStack() as stack:
        applications = {sdk: Application(sdk) for sdk in SDKS}
        for application in applications.values():
            stack.callback(application.stop)
        settings, ready = folder / "limpet.toml", folder / "ready.json"
        settings.write_text("".join(application.settings for application in applications.values()), "utf-8")
        https = ["--https"] if request.param == "https" else []
        command = ["serve", *https, "--port", "0", "--config", str(settings), "--ready-file", str(ready)]
        process = forked.Popen(
            [sys.executable, "-m", "limpet", *command],
            stdout=subprocess.DEVNULL,
            env={**environment_without_limpet(), "XDG_CONFIG_HOME": str(folder), "HOME": str(folder)},
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        until(lambda: ready.exists() or process.poll() is not None)
        where = json.loads(ready.read_text("utf-8"))
        assert where["endpoint"].startswith(f"{request.param}://")
        world = World(where, applications)
        stack.callback(world.pages.stop)
        yield world


each_sdk = pytest.mark.parametrize("sdk", SDKS)


@each_sdk
def test_publish_and_subscribe(world: World, sdk: str) -> None:
    told = ["hello", "grüße 🐚"]
    assert world.play("pubsub", sdk) == {"seen": [told, told], "closed": [1000, 1000]}


@each_sdk
def test_chat_with_event_handlers(world: World, sdk: str) -> None:
    assert world.play("chat", sdk)["alice"] == [
        "[System]: alice joined",
        "[System]: bob joined",
        "alice: hello",
        "bob: hi, alice",
        "[System]: bob left",
    ]


@each_sdk
def test_log_stream_of_a_raw_client(world: World, sdk: str) -> None:
    assert world.play("logstream", sdk) == {"lines": ["first line\n", "second line\n"]}


@each_sdk
def test_log_stream_in_protobuf(world: World, sdk: str) -> None:
    assert world.play("protobufstream", sdk, schema=str(SCHEMA)) == {"lines": ["first line", "second line"]}


@each_sdk
def test_reliable_chat_with_cuts(world: World, sdk: str) -> None:
    heard = ["before", "during cut 0", "still cut 0", "during cut 1", "still cut 1", "after"]
    assert world.play("reliable", sdk) == {"heard": heard, "recoveries": 2}


@each_sdk
def test_whiteboard(world: World, sdk: str) -> None:
    played = world.play("draw", sdk)
    assert played["shapes"] == {"dot": {"points": [3]}}
    drawn = ["addShape", "addShape", "removeShape", "updateBackground"]
    assert played["first"] == ["updateUser", "updateUser", *drawn, "updateUser"]
    assert played["second"] == ["updateUser", *drawn]


@each_sdk
def test_code_stream(world: World, sdk: str) -> None:
    assert world.play("code", sdk) == {"seen": ["full", "delta"], "users": {"ann": "online", "ben": "online"}}


@each_sdk
def test_documents_that_several_people_edit(world: World, sdk: str) -> None:
    assert world.play("yjs", sdk, ownHost=sdk == "python") == {"texts": ["world", "world"]}
