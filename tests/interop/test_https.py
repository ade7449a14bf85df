"""The official packages, unchanged, with nothing but what ``limpet serve --https`` prints."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.helpers import forked
from tests.helpers.waiting import LIMIT
from tests.interop.node import HERE, install, node_command


@dataclass
class Printed:
    """What the command has printed: the connection string, a client URL, and the settings for the environment."""

    connection_string: str
    url: str
    settings: dict[str, str]

    def run(self, *command: str, settings: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program that knows nothing else."""
        known = {name: value for name, value in os.environ.items() if name not in self.settings}
        environment = {
            **known,
            **(self.settings if settings else {}),
            "WebPubSubConnectionString": self.connection_string,
            "ClientUrl": self.url,
        }
        run = forked.run if command[0] == sys.executable else subprocess.run
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        # Twice as long: the official client loses a wake-up that comes before `open` waits for it, which takes 30 s.
        return run(command, env=environment, text=True, timeout=2 * LIMIT, **streams)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Printed]:
    folder = tmp_path_factory.mktemp("it's a folder")
    process = forked.Popen(
        [sys.executable, "-m", "limpet", "serve", "--https", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "XDG_CONFIG_HOME": str(folder), "HOME": str(folder)},
    )
    try:
        assert process.stdout is not None
        lines: list[str] = []
        while sum("wss://" in line for line in lines) < 2:
            lines.append(process.stdout.readline().strip())
            assert lines[-1] or process.poll() is None, lines
        exported = (shlex.split(line)[1] for line in lines if line.startswith("export "))
        yield Printed(
            next(line for line in lines if re.match("Endpoint=https://", line)),
            next(line for line in lines if line.startswith("wss://")),
            dict(setting.split("=", 1) for setting in exported),
        )
    finally:
        process.kill()
        process.communicate()


def test_the_javascript_packages(printed: Printed) -> None:
    install()
    program = [*node_command(), str(HERE / "js" / "https.mjs")]
    done = printed.run(*program)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"messages": [{"to": "all"}, "to the room"], "members": ["ann"]}
    refused = printed.run(*program, settings=False)
    assert refused.returncode != 0
    assert "certificate" in refused.stderr


SAMPLES = {
    "server SDK": """
from azure.messaging.webpubsubservice import WebPubSubServiceClient
service = WebPubSubServiceClient.from_connection_string(connection_string, hub="chat")
service.send_to_all({"to": "all"}, content_type="application/json")
print(service.user_exists("nobody"))
""",
    "server SDK, asyncio": """
import asyncio
from azure.messaging.webpubsubservice.aio import WebPubSubServiceClient
async def main():
    async with WebPubSubServiceClient.from_connection_string(connection_string, hub="chat") as service:
        print(await service.user_exists("nobody"))
asyncio.run(main())
""",
    "client": """
from azure.messaging.webpubsubclient import WebPubSubClient
client = WebPubSubClient(url)  # it does not notice an ack that comes before it waits for it, as on loopback
with client:
    print(False)
""",
    "client, asyncio": """
import asyncio
from azure.messaging.webpubsubclient.aio import WebPubSubClient
async def main():
    async with WebPubSubClient(url) as client:
        await client.join_group("room")
        print(False)
asyncio.run(main())
""",
    "Limpet": """
import asyncio
from limpet.asyncio import Client
async def main():
    async with Client(url) as client:
        await client.join_group("room")
        print(False)
asyncio.run(main())
""",
    "Limpet, blocking": """
from limpet.sync import Client
with Client(url) as client:
    client.join_group("room")
    print(False)
""",
}


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_python_packages(printed: Printed, sample: str) -> None:
    begin = 'import os\nconnection_string, url = os.environ["WebPubSubConnectionString"], os.environ["ClientUrl"]\n'
    done = printed.run(sys.executable, "-c", begin + SAMPLES[sample])
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr
    if "server SDK" in sample:
        refused = printed.run(sys.executable, "-c", begin + SAMPLES[sample], settings=False)
        assert refused.returncode != 0
        assert "CERTIFICATE_VERIFY_FAILED" in refused.stderr
