"""A process that has imported what programs of tests need; it forks for each: imports are most of the time of a start.

:mod:`tests.helpers.forked` starts it, ``python <options> fork_server.py <what> <socket> <listener>``: the options of
the interpreter are those of the programs. Each connection is a process that runs tests; the server ends with the last.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import os
import runpy
import select
import signal
import socket
import sys
import types

LENGTH = 8
HELLO = b"."

IGNORED_BY_PYTHON = {getattr(signal, name, None) for name in ("SIGPIPE", "SIGXFSZ")}

PROGRAMS = "programs"
TEST_RUNS = "test runs"

MODULES = (
    *("limpet.anyio", "limpet.asyncio", "limpet.sync", "limpet.trio", "limpet.service.cluster.redis", "limpet.testing"),
    *("anyio._backends._asyncio", "anyio._backends._trio", "concurrent.futures.thread", "uvicorn.lifespan.off"),
    *("click._textwrap", "encodings.idna", "rich._emoji_codes", "uvloop"),
)
"""What programs import, and what they import when they are under way."""


def import_all(what: str) -> None:
    """Import what such programs import, and nothing that starts a thread."""
    if what == TEST_RUNS:
        _run_no_tests()
        return
    for name in MODULES:
        with contextlib.suppress(ImportError, Warning):  # the programs that import it are told themselves
            importlib.import_module(name)
    from limpet.cli.commands import cli

    assert list(cli.commands.values()), "all are imported now"


def _run_no_tests() -> None:
    """Run pytest with all plugins: it rewrites them as it imports them, and complains of any that is there before."""
    import tempfile

    import pytest

    here = os.getcwd()
    os.environ.pop("PYTEST_ADDOPTS", None)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        with open("test_nothing.py", "w") as file:
            file.write("def test_nothing(limpet_virtual, pytestconfig): pass\n")
        warnings = ["-W", "error", "-W", "ignore:The configuration option"]  # pytest-asyncio wants it to be set
        done = pytest.main(["-p", "limpet.testing.plugin", "-p", "no:cacheprovider", *warnings])
        assert done == pytest.ExitCode.OK, done
        os.chdir(here)
    del sys.modules["test_nothing"]


class Server:
    """Forks for requests; ``serve`` returns in the processes that are to run a program, and says which."""

    def __init__(self, first: socket.socket, listener: socket.socket | None) -> None:
        self._connections = [first]
        self._listener = listener
        self._children: dict[int, int] = {}
        self._ended, self._wakes = socket.socketpair()
        for end in (self._ended, self._wakes):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wakes.fileno())

    def serve(self) -> list[str]:
        while True:
            listening = [] if self._listener is None else [self._listener]
            ready, _, _ = select.select([self._ended, *self._connections, *listening], [], [])
            for each in ready:
                if each is self._ended:
                    self._ended.recv(4096)
                    self._tell_ends()
                elif each is self._listener:
                    self._accept()
                elif (command := self._forked_for_a_request(each)) is not None:
                    return command
            if not self._connections and not self._accepted_at_last():
                os._exit(0)

    def _accept(self) -> None:
        assert self._listener is not None
        connection, _ = self._listener.accept()
        connection.sendall(HELLO)
        self._connections.append(connection)

    def _accepted_at_last(self) -> bool:
        """Whether another process has connected just before the address was taken away."""
        if self._listener is None:
            return False
        os.unlink(self._listener.getsockname())
        if select.select([self._listener], [], [], 0)[0]:
            self._accept()
        self._listener.close()
        self._listener = None
        return bool(self._connections)

    def _tell_ends(self) -> None:
        for pid in list(self._children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                number = self._children.pop(pid)
                _write_line(number, os.waitstatus_to_exitcode(status))
                os.close(number)

    def _forked_for_a_request(self, connection: socket.socket) -> list[str] | None:
        try:
            length, numbers, _, _ = socket.recv_fds(connection, LENGTH, 4)
        except ConnectionResetError:
            length, numbers = b"", []
        if not length:
            self._connections.remove(connection)
            connection.close()
            return None
        command, folder, environment, ignored, blocked = json.loads(_exactly(connection, int.from_bytes(length, "big")))
        *standard, status = numbers
        if pid := os.fork():
            for number in standard:
                os.close(number)
            self._children[pid] = status
            _write_line(status, pid)
            return None
        self._forget(status)
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        _be(standard, folder, environment)
        return command

    def _forget(self, status: int) -> None:
        """Close all that is the server's, in the process that is to run a program."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for each in (self._ended, self._wakes, *self._connections, *([self._listener] if self._listener else [])):
            each.close()
        for number in (status, *self._children.values()):
            os.close(number)


def _write_line(number: int, value: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # the process that ran the test may be gone
        os.write(number, b"%d\n" % value)


def _exactly(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        data += connection.recv(length - len(data))
    return data


def _be(standard: list[int], folder: str, environment: dict[str, str]) -> None:
    """Have the standard streams, the folder and the environment of the program."""
    for number, wanted in zip(standard, range(3), strict=True):
        os.dup2(number, wanted)
    for number in standard:
        os.close(number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if environment.get("PYTHONUNBUFFERED"):
        for name, number in (("stdout", 1), ("stderr", 2)):
            old = getattr(sys, name)
            new = io.TextIOWrapper(
                io.FileIO(number, "w", closefd=False), old.encoding, old.errors, write_through=True
            )  # as the interpreter makes it
            setattr(sys, name, new)
            setattr(sys, f"__{name}__", new)


def run(command: list[str]) -> None:
    """Run what follows the options of ``python``: ``-c code``, ``-m module`` or a script."""
    kind, *rest = command
    if kind == "-m":
        sys.argv = rest
        sys.path.insert(0, os.getcwd())
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        sys.path.insert(0, "")
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), main.__dict__)
    else:
        sys.argv = command
        sys.path.insert(0, os.path.dirname(os.path.realpath(kind)))
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        main.__file__ = path = os.path.abspath(kind)
        with io.open_code(path) as file:
            code = compile(file.read(), path, "exec")
        exec(code, main.__dict__)


if __name__ == "__main__":
    for number in set(signal.valid_signals()) - IGNORED_BY_PYTHON:  # each request says what is ignored and blocked
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    del sys.path[0]  # this folder is not that of the programs
    what, first, listener = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    import_all(what)
    gc.collect()
    gc.freeze()  # what is there is no garbage of the program's
    run(Server(socket.socket(fileno=first), socket.socket(fileno=listener) if listener >= 0 else None).serve())
