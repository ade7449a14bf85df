"""docs/howto/several-machines.md: its cluster runs, with its balancer in front, and its Compose file fits the rest."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from tests.cli.test_howto import Block, Terminals, blocks
from tests.docs.pages import ROOT
from tests.helpers import forked
from tests.helpers.needs import needs
from tests.helpers.ports import free_port
from tests.helpers.waiting import until
from tests.service.cluster.nodes import opened, run
from tests.service.cluster.servers import engine_program, running_servers

from limpet.service.cluster import START, ClusterView, LogState, NodeView

PAGE = ROOT / "docs" / "howto" / "several-machines.md"
TEXT = PAGE.read_text("utf-8")
EXAMPLE = ROOT / "examples" / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((EXAMPLE / "cluster.compose.yaml").read_text("utf-8"))
BALANCER = EXAMPLE / "haproxy.cfg"
PORTS = ("6379", "6380", "8080", "8081", "8082")


def of_page(language: str, containing: str = "") -> str:
    """Return the only block in this language that contains this text."""
    (code,) = [each.code for each in blocks(TEXT) if each.language == language and containing in each.code]
    return code


class Ports:
    """Free ports for those of the page, which something else may have."""

    def __init__(self) -> None:
        self.of = {port: str(free_port()) for port in PORTS}

    def __call__(self, text: str) -> str:
        return re.sub(r"\b(" + "|".join(PORTS) + r")\b", lambda found: self.of[found[0]], text)


def answered(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def program(code: str, folder: Path) -> str:
    path = folder / "program.py"
    path.write_text(code, "utf-8")
    done = forked.run([sys.executable, "-W", "error", path], text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(300)
def test_the_cluster_of_the_page_runs_and_its_balancer_serves_while_a_node_is_away(tmp_path: Path) -> None:
    needs("redis-server")
    ports, terminals = Ports(), Terminals(tmp_path)
    try:
        for block in blocks(TEXT):
            if block.language == "sh":
                terminals.run(Block(block.until, "sh", ports(block.code)))
        for line in ports(of_page("text", "It is the node")).splitlines():
            until(lambda: line in terminals.printed())  # noqa: B023
        code = ports(of_page("python"))
        assert program(code, tmp_path) == "hello from the south\n"
        health = json.loads(urllib.request.urlopen(ports("http://127.0.0.1:8081/api/health"), timeout=10).read())
        assert [node["name"] for node in health["nodes"]] == ["north", "south"]
        balanced(ports, terminals, code, tmp_path)
    finally:
        terminals.close()


def balanced(ports: Ports, terminals: Terminals, code: str, folder: Path) -> None:
    """Serve clients of the page's program through its balancer, with two nodes and with one."""
    (haproxy,) = needs("haproxy")
    (folder / "haproxy.cfg").write_text(ports(of_page("text", "backend nodes")), "utf-8")
    for port in ("8081", "8082"):
        code = code.replace(ports.of[port], ports.of["8080"])
    with subprocess.Popen([haproxy, "-f", folder / "haproxy.cfg"], stderr=subprocess.DEVNULL) as balancer:
        try:
            until(lambda: answered(ports("http://127.0.0.1:8080/api/health")) == 200)
            assert program(code, folder) == "hello from the south\n"
            north = terminals.background[2]  # behind the primary and the replica
            north.terminate()
            assert north.wait(100) == 0
            assert program(code, folder) == "hello from the south\n"
        finally:
            balancer.terminate()


def test_the_rights_on_the_page_are_enough(tmp_path: Path) -> None:
    engine_program()
    rights = of_page("text", "ACL SETUSER").split()
    with running_servers(tmp_path) as servers:
        engine = servers()
        assert engine(*rights) == b"OK"

        async def scenario() -> None:
            log = await opened(engine.url.replace("://", "://limpet:PASSWORD@"))
            found = [START]
            for data in (b"one", b"two"):
                log.append(data)
                async with aclosing(log.read(found[-1])) as pages:
                    found += [entry.id for entry in await anext(pages)]
            for _ in range(2):
                await log.save_snapshot(found[1], b"state")
            kept = await log.load_snapshot()
            assert kept is not None
            assert kept.data == b"state"
            assert log.state.problem is None or "replica" in log.state.problem

        run(scenario)


def test_the_health_on_the_page_has_the_fields_that_there_are() -> None:
    (shown,) = [json.loads(each.code) for each in blocks(TEXT) if each.language == "json"]
    for kind, fields in ((ClusterView, shown), (NodeView, shown["nodes"][0]), (LogState, shown["log"])):
        assert set(fields) == {field.encode_name for field in msgspec.structs.fields(kind)}


def test_the_balancer_of_the_example_is_that_of_the_page() -> None:
    def lines(text: str) -> list[str]:
        """The lines but for addresses, names of a network and notes."""
        text = re.sub(r"^#.*\n|^resolvers docker\n.*\n|^\s*(bind|server) .*\n", "", text, flags=re.MULTILINE)
        return text.replace(" resolvers docker init-addr none", "").split()

    assert lines(BALANCER.read_text("utf-8")) == lines(of_page("text", "backend nodes"))


def test_the_balancer_of_the_example_can_be_read(tmp_path: Path) -> None:
    (haproxy,) = needs("haproxy")
    done = subprocess.run([haproxy, "-c", "-f", BALANCER], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_compose_file_fits_the_balancer_and_the_service() -> None:
    services = COMPOSE["services"]
    nodes = ("north", "south")
    servers = dict(re.findall(r"^\s+server (\w+) (\S+)$", BALANCER.read_text("utf-8"), re.MULTILINE))
    assert servers == {name: f"{name}:8080" for name in nodes}
    # Docker's name server has one address for all networks, that of Podman another one for each.
    assert "parse-resolv-conf" in BALANCER.read_text("utf-8")
    for name in nodes:
        node = services[name]
        assert node["command"] == ["serve", "--host", "0.0.0.0", "--node", name]
        assert node["environment"]["LIMPET_CLUSTER"] == "redis://primary:6379,replica:6379"
        (secret,) = node["secrets"]
        assert node["environment"]["LIMPET_ACCESS_KEY_FILE"] == f"/run/secrets/{secret}"
        assert COMPOSE["secrets"][secret] == {"file": "./access-key"}
        assert ROOT / node["build"]["dockerfile"] == EXAMPLE / "Dockerfile"
        assert "ports" not in node
    (mount,) = services["balancer"]["volumes"]
    assert (EXAMPLE / mount.split(":")[0]).resolve() == BALANCER
    assert services["balancer"]["ports"] == ["127.0.0.1:8080:8080"]
    assert services["replica"]["command"][-3:] == ["--replicaof", "primary", "6379"]
    for name in ("primary", "replica"):
        command = " ".join(services[name]["command"])
        assert "--appendonly yes" in command
        assert "--maxmemory-policy noeviction" in command
        # In protected mode it would take connections of its own container only.
        assert "--protected-mode no" in command
        assert services[name]["networks"] == ["engine"]
    assert COMPOSE["networks"]["engine"] == {"internal": True}
    extras = re.search(r'"\.\[([\w,]+)\]"', (EXAMPLE / "Dockerfile").read_text("utf-8"))
    assert extras is not None
    assert "cluster" in extras[1].split(",")


def compose() -> list[str] | None:
    """Return the command of Docker Compose; None if it is not here. Version 1, of Debian 12, reads other files."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            asked = subprocess.run([*command, "version", "--short"], capture_output=True, text=True, timeout=60)
            if re.match(r"v?([2-9]|\d\d)", asked.stdout):
                return command
    return None


@pytest.mark.parametrize("name", ["cluster.compose.yaml", "compose.yaml"])
def test_docker_reads_the_compose_file(name: str) -> None:
    command = compose()
    if command is None:
        pytest.skip("Docker Compose is not installed")
    asked = [*command, "--file", str(EXAMPLE / name), "config", "--quiet"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
