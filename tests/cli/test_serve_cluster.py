"""``limpet serve --cluster``: what it says, and how it ends."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.helpers.command_line import limpet, running
from tests.service.cluster.servers import RedisServer, Servers, engine_program, running_servers

KEY = "a key of thirty-two bytes, or more"
OTHER = "another key of thirty-two bytes, or more"
CONFIG = "recovery_window = 40\n"
NODE = ("serve", "--port", "0", "--key", KEY)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    engine_program()
    with running_servers(tmp_path) as made:
        yield made


def output(process: subprocess.Popen[str], until: str = "As user bob") -> str:
    assert process.stdout is not None
    lines: list[str] = []
    while not lines or until not in lines[-1]:
        lines.append(process.stdout.readline())
        assert lines[-1], process.communicate()
    return "".join(lines)


def log_of(process: subprocess.Popen[str], until: str) -> str:
    assert process.stderr is not None
    lines: list[str] = []
    while not lines or until not in lines[-1]:
        lines.append(process.stderr.readline())
        assert lines[-1], process.communicate()
    return "".join(lines)


def ending(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for the end; return the status, and the last line on standard error."""
    _, errors = process.communicate(timeout=100)
    return process.returncode, errors.splitlines()[-1]


def test_two_nodes_say_of_what_they_are_nodes(servers: Servers) -> None:
    primary, replica = servers.pair()
    cluster = ("--cluster", primary.url, "--cell", "test")
    with running(*NODE, *cluster, "--node", "north") as north:
        printed = output(north)
        assert "It is the node north of the cluster test, in which are: north.\n" in printed
        reads = (
            f"It writes the log of the cluster to {primary.address}, and reads it from the replica {replica.address}.\n"
        )
        assert reads in printed
        with running(*NODE, *cluster, "--node", "south") as south:
            assert "It is the node south of the cluster test, in which are: north, south.\n" in output(south)
            south.terminate()
            assert south.wait(100) == 0
        north.terminate()
        assert north.wait(100) == 0


def test_the_url_may_come_from_the_environment_and_its_password_is_nowhere(servers: Servers) -> None:
    engine = servers("--requirepass", "open sesame")
    host = engine.address
    wrong = limpet(*NODE, LIMPET_CLUSTER=f"redis://:closed%20sesame@{host}")
    assert wrong.returncode == 1
    assert re.fullmatch(r"Error: .*WRONGPASS.*", wrong.stderr.splitlines()[-1])
    broken = limpet(*NODE, LIMPET_CLUSTER=f"mysql://:closed%20sesame@{host}")
    assert broken.returncode == 1
    assert broken.stderr.startswith("Error: not the URL of an engine: it does not begin with one of redis://")
    usage = limpet(*NODE, "--strict", "--port", "x", LIMPET_CLUSTER=f"redis://:open%20sesame@{host}")
    with running(*NODE, "--cluster", f"redis://:open%20sesame@{host}") as process:
        printed = output(process)
        assert "Mind: " in printed, "it has no replica"
        process.terminate()
        said = printed + "".join(process.communicate(timeout=100))
    for text in (wrong.stdout + wrong.stderr, broken.stderr, usage.stderr, said):
        assert "sesame" not in text


def test_a_node_with_another_key_is_refused_in_one_line_and_taken_once_the_others_have_stopped(
    servers: Servers,
) -> None:
    engine = servers()
    with running(*NODE, "--cluster", engine.url, "--node", "north") as north:
        output(north)
        with running(*NODE[:-1], OTHER, "--cluster", engine.url) as other:
            status, line = ending(other)
        north.terminate()
        assert north.wait(100) == 0
    assert status == 1
    assert line == (
        "Error: the cluster goes on without this node: its settings (limits, access keys, event handlers) are not "
        "those of the cluster. Give it those of the other nodes; or stop them all, to begin anew with these: a node "
        "that was killed counts as stopped after 30 s"
    )
    with running(*NODE[:-1], OTHER, "--cluster", engine.url) as other:
        output(other)
        assert "the cluster begins anew" in log_of(other, "is in the cluster of 1")


def test_the_log_of_a_node_tells_the_end_of_a_problem_and_who_comes_and_goes_but_no_history(servers: Servers) -> None:
    primary, replica = servers.pair()
    with running(*NODE, "--cluster", primary.url, "--node", "north") as north:
        output(north)
        with running(*NODE, "--cluster", primary.url, "--node", "south") as south:
            output(south)
            south.terminate()
            assert south.wait(100) == 0
        with running(*NODE, "--cluster", primary.url, "--node", "west") as west:
            output(west)
            west.terminate()
            _, of_west = west.communicate(timeout=100)
        replica.kill()
        said = log_of(north, "has no replica that follows it")
        assert replica.start()
        replica.follow(primary)
        said += log_of(north, "works as it should again")
        north.terminate()
        north.communicate(timeout=100)
    assert re.search(r"node south-\w+ is in the cluster of 2\n", said)
    assert re.search(r"node south-\w+ is out of the cluster: it has left\n", said)
    assert re.search(r"node west-\w+ is in the cluster", of_west)
    assert "south" not in of_west, "it left before this node came"
    assert re.search(r"node west-\w+ is out of the cluster: it has left\n", of_west)
    assert "this node ends" not in of_west, "it was stopped"


def test_a_node_whose_engine_loses_its_data_ends_and_asks_to_be_started_again(servers: Servers) -> None:
    engine = servers()
    with running(*NODE, "--cluster", engine.url) as process:
        output(process)
        assert engine("FLUSHALL") == b"OK"
        status, line = ending(process)
    assert status == 1
    assert line == "Error: the log has lost entries that clients were told of. Start this node again"


@pytest.mark.parametrize(
    ("server", "said"), [("maxmemory-policy allkeys-lru", "may evict keys"), ("", "no connection to")]
)
def test_an_engine_that_is_refused_or_away_ends_it_in_one_line(servers: Servers, server: str, said: str) -> None:
    engine: RedisServer = servers("--maxmemory", "100mb", *(f"--{server}".split() if server else ()))
    if not server:
        engine.kill()
    done = limpet(*NODE, "--cluster", engine.url)
    assert done.returncode == 1
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    assert said in last
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_node_that_waits_for_a_replica_ends_when_it_is_told(servers: Servers, number: int) -> None:
    with running(*NODE, "--cluster", servers().url, "--strict", "--verbose") as node:
        assert node.stderr is not None
        while "has no replica that follows it" not in (line := node.stderr.readline()):
            assert line, node.communicate()
        node.send_signal(number)
        assert node.wait(100) == 0


def test_a_node_needs_a_key() -> None:
    done = limpet("serve", "--port", "0", "--cluster", "redis://127.0.0.1:1")
    assert done.returncode == 1
    assert done.stderr == (
        "Error: the nodes of a cluster need an access key of your own, the same for all (ServiceOptions.access_key, "
        "or --key on the command line)\n"
    )


@pytest.mark.parametrize("option", [("--node", "a"), ("--cell", "a"), ("--strict",)])
def test_options_of_a_node_need_a_cluster(option: tuple[str, ...]) -> None:
    done = limpet("serve", "--port", "0", *option, LIMPET_CLUSTER="")
    assert done.returncode == 2
    assert f"{option[0]} is for a node of a cluster: give --cluster, too." in done.stderr


def test_a_file_names_no_cluster(tmp_path: Path) -> None:
    config = tmp_path / "limpet.toml"
    config.write_text('[cluster]\nurl = "redis://:secret@localhost"\n', "utf-8")
    done = limpet("serve", "--config", str(config))
    assert done.returncode == 1
    assert done.stderr == (
        f"Error: {config}: the nodes of a cluster share this file, so it does not name one: give --cluster, or "
        "Service(cluster=...)\n"
    )


def test_a_node_takes_other_options_at_its_next_start(servers: Servers, tmp_path: Path) -> None:
    config = tmp_path / "limpet.toml"
    config.write_text("", "utf-8")
    with running(*NODE, "--cluster", servers().url, "--config", str(config)) as process:
        output(process)
        assert process.stderr is not None
        config.write_text(CONFIG, "utf-8")
        while "limpet.toml" not in (line := process.stderr.readline()):
            assert line
        assert line.endswith(f"{config}: a node of a cluster takes a change of recovery_window at its next start\n")
