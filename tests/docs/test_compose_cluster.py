"""The cluster of examples/docker: the commands of its Compose file run, with ports in place of networks."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tests.docs.test_several_machines import BALANCER, COMPOSE, answered, of_page, program
from tests.helpers.command_line import environment_without_limpet
from tests.helpers.needs import needs
from tests.helpers.ports import free_port
from tests.helpers.waiting import until
from tests.service.cluster.servers import engine_program

KEY = "any-32-characters-or-more-will-do"  # that of the program of the page
SERVICES = COMPOSE["services"]


class Containers:
    """Processes of the services of the file, in the order that their dependencies demand."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._engine = engine_program()
        (self._haproxy, self._client) = needs("haproxy", "redis-cli")
        self.ports = {name: str(free_port()) for name in SERVICES}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        (folder / "access-key").write_text(KEY, "utf-8")
        (folder / "haproxy.cfg").write_text(self._here(BALANCER.read_text("utf-8")), "utf-8")

    def _here(self, text: str) -> str:
        """Return a text with addresses of this machine for those of the networks."""
        for name, port in (("primary", 6379), ("replica", 6379), ("north", 8080), ("south", 8080)):
            text = text.replace(f"{name}:{port}", f"127.0.0.1:{self.ports[name]}")
        return text.replace("0.0.0.0", "127.0.0.1").replace("bind :8080", f"bind 127.0.0.1:{self.ports['balancer']}")

    def _command(self, name: str) -> list[str]:
        words = [self._here(word) for word in SERVICES[name].get("command", [])]
        if name == "balancer":
            assert not words, "the command is that of the image"
            return [self._haproxy, "-f", str(self._folder / "haproxy.cfg")]
        port = ["--port", self.ports[name]]
        if "build" in SERVICES[name]:
            return [str(Path(sys.executable).parent / "limpet"), *words, *port]
        assert words[0] == "valkey-server"
        if words[-2:] == ["primary", "6379"]:
            words[-2:] = ["127.0.0.1", self.ports["primary"]]
        folder = self._folder / name
        folder.mkdir()
        return [self._engine, *words[1:], *port, "--bind", "127.0.0.1", "--dir", str(folder)]

    def _environment(self, name: str) -> dict[str, str]:
        given = {variable: self._here(value) for variable, value in SERVICES[name].get("environment", {}).items()}
        if "LIMPET_ACCESS_KEY_FILE" in given:
            given["LIMPET_ACCESS_KEY_FILE"] = str(self._folder / "access-key")
        return environment_without_limpet() | given

    def _is_healthy(self, name: str) -> bool:
        if "healthcheck" not in SERVICES[name]:  # that of the image, which tests/examples/test_docker.py runs
            return answered(f"http://127.0.0.1:{self.ports[name]}/api/health") == 200
        kind, client, *words = SERVICES[name]["healthcheck"]["test"]
        assert (kind, client) == ("CMD", "valkey-cli")
        asked = [self._client, "-p", self.ports[name], *words]
        # As Docker does, by the status alone.
        return subprocess.run(asked, capture_output=True, timeout=60).returncode == 0

    def start(self) -> None:
        """Start them all, each as soon as those that it depends on are healthy."""
        waiting = list(SERVICES)
        while waiting:
            name = next(each for each in waiting if SERVICES[each].get("depends_on", {}).keys() <= self._running.keys())
            waiting.remove(name)
            output = self._folder / f"{name}.log"
            with output.open("wb") as log:
                process = subprocess.Popen(
                    self._command(name), env=self._environment(name), stdout=log, stderr=subprocess.STDOUT
                )
            self._running[name] = process
            until(lambda: process.poll() is not None or self._is_healthy(name))  # noqa: B023
            assert process.poll() is None, output.read_text("utf-8")

    def stop(self) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()


@pytest.mark.timeout(300)
def test_the_commands_of_the_compose_file_make_a_cluster(tmp_path: Path) -> None:
    containers = Containers(tmp_path)
    try:
        containers.start()
        ports = containers.ports
        code = of_page("python")
        for port in ("8081", "8082"):
            code = code.replace(port, ports["balancer"])
        assert program(code, tmp_path) == "hello from the south\n"

        def health() -> Any:
            url = f"http://127.0.0.1:{ports['south']}/api/health"
            return json.loads(urllib.request.urlopen(url, timeout=10).read())

        # The replica is healthy before it has all data: a node may have come first.
        until(lambda: health()["log"]["source"] == f"127.0.0.1:{ports['replica']}")
        assert {node["name"] for node in health()["nodes"]} == {"north", "south"}
    finally:
        containers.stop()
