"""``limpet serve`` for the tests of other languages: a file that says when and where, and an end with the parent."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.helpers.command_line import TIMEOUT, limpet, running
from tests.helpers.waiting import until

from limpet.cli._ready_file import kept_while_listening
from limpet.sync import Client


def content(path: Path) -> dict[str, Any]:
    until(path.exists)
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def test_the_file_says_where_the_service_listens(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    path.write_text("of an earlier start")
    with running("serve", "--port", "0", "--hub", "room", "--ready-file", str(path)) as process:
        until(lambda: path.exists() and path.read_text("utf-8") != "of an earlier start")
        where = content(path)
        assert where["pid"] == process.pid
        assert where["hub"] == "room"
        assert where["traceUrl"] == where["endpoint"] + "/"
        assert where["connectionString"].startswith(f"Endpoint={where['endpoint']};AccessKey=")
        assert where["certificateAuthority"] is None
        for user in ("alice", "bob"):
            with Client(where["urls"][user]) as client:
                assert client.user_id == user
        assert list(tmp_path.iterdir()) == [path]
        if sys.platform != "win32":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=TIMEOUT)
            assert process.returncode == 0
            assert not path.exists()


def test_the_end_of_a_service_leaves_the_file_of_another_one(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    with kept_while_listening(str(path)) as first:
        assert first is not None
        first.write({"pid": 1})
        with kept_while_listening(str(path)) as second:
            assert second is not None
            second.write({"pid": 2})
            first.remove()
            assert content(path) == {"pid": 2}
        assert not path.exists()


def test_a_content_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with kept_while_listening(str(tmp_path / "ready.json")) as file:
        assert file is not None
        with pytest.raises(TypeError):
            file.write({"pid": object()})
        assert list(tmp_path.iterdir()) == []


def test_there_is_no_file_if_the_service_does_not_listen(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    path.write_text("of an earlier start")
    assert limpet("serve", "--host", "192.0.2.1", "--key", "k" * 32, "--ready-file", str(path)).returncode == 1
    assert not path.exists()


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    refused = limpet("serve", "--port", "0", "--ready-file", str(tmp_path / "no folder" / "ready.json"))
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: --ready-file ")
    assert "no folder" in refused.stderr


PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-m", "limpet", "serve", "--port", "0", "--ready-file", *sys.argv[1:]])
print(child.pid, flush=True)
sys.stdin.read()
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Return whether a process has ended, and nobody has asked how; a container may lack a process that does."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.skipif(sys.platform == "win32", reason="asks for processes in the way of Unix")
@pytest.mark.parametrize("with_parent", [True, False])
def test_the_service_ends_with_its_parent_if_it_is_to(tmp_path: Path, with_parent: bool) -> None:
    path = tmp_path / "ready.json"
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(path), *(["--with-parent"] if with_parent else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    pid = None
    try:
        where = content(path)
        pid = where["pid"]
        with Client(where["urls"]["alice"]) as client:
            parent.kill()  # it cannot tell its child
            parent.wait(TIMEOUT)
            if with_parent:
                until(lambda: not alive(pid))
                assert not path.exists()
            else:
                client.join_group("room")  # is answered
                assert alive(pid)
    finally:
        parent.kill()
        parent.wait(TIMEOUT)
        for pipe in (parent.stdin, parent.stdout):
            assert pipe is not None
            pipe.close()
        if pid is not None and alive(pid):
            os.kill(pid, signal.SIGKILL)


def test_verbose_shows_messages_without_tokens(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    with running("serve", "--port", "0", "--ready-file", str(path), "--verbose") as process:
        url = content(path)["urls"]["alice"]
        with Client(url) as client:
            client.send_to_group("room", "hello")
            connection_id = client.connection_id
        assert process.stderr is not None
        told = process.stderr.readline()
        while '"data":"hello"' not in told:
            told += process.stderr.readline()
    assert f"{connection_id} < " in told
    assert '"reconnectionToken":"***"' in told
    assert url.partition("access_token=")[2] not in told
