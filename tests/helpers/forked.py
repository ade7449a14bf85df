"""Programs in a process that has imported already what they need: most of the time of a start is its imports.

:class:`Popen` and :func:`run` take the place of those of :mod:`subprocess` for a command that begins with
``sys.executable``. A test that is about the start of the interpreter, about imports, or about what a process inherits,
starts a real one. See :mod:`tests.helpers.fork_server`.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from filelock import FileLock
from tests.helpers import fork_server

POSSIBLE = hasattr(os, "fork") and hasattr(socket, "send_fds")

_READ_AT_A_START = ("PYTHON", "LC_", "LANG", "TZ", "MALLOC_", "LD_", "COVERAGE_")
_ANY = ("PYTHONUNBUFFERED", "COVERAGE_RUN")


def _for_the_interpreter(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what the interpreter or its libraries read at their start, or while they are imported."""
    return {
        name: value for name, value in environment.items() if name.startswith(_READ_AT_A_START) and name not in _ANY
    }


_ENVIRONMENT = dict(os.environ)
_one_at_a_time = threading.Lock()


class _Popen(subprocess.Popen[Any]):
    """As subprocess.Popen has it, save for who forks, and who waits for the end of the process."""

    _status: IO[bytes]

    def _execute_child(  # type: ignore[no-untyped-def]
        self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo, flags, shell,
        p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, *others,
    ) -> None:  # fmt: skip
        """Have the server fork, with these ends of the pipes."""
        assert not any((executable, preexec_fn, pass_fds, shell)), "a start of its own can do that"
        command = list(map(os.fspath, args))
        assert command[0] == sys.executable, command
        end = next(index for index, word in enumerate(command) if index and _ends_options(command, index))
        ours, theirs = os.pipe()
        streams = [p2cread, c2pwrite, errwrite]
        environment = dict(os.environ if env is None else env)
        ask = json.dumps([command[end:], os.path.abspath(cwd or "."), environment, _ignored(), _blocked()]).encode()
        try:
            with _one_at_a_time:
                connection = _connection(tuple(command[1:end]), _what(command[end:]))
                numbers = [number if given == -1 else given for number, given in enumerate(streams)]
                socket.send_fds(connection, [len(ask).to_bytes(fork_server.LENGTH, "big")], [*numbers, theirs])
                connection.sendall(ask)
        finally:
            os.close(theirs)
            self._close_pipe_fds(*[p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite])  # type: ignore[attr-defined]
        self._status = os.fdopen(ours, "rb", 0)
        self.pid = self._told()
        self._child_created = True

    def _ended(self, timeout: float | None) -> bool:
        if self.returncode is None:
            waiting = select.poll()
            waiting.register(self._status, select.POLLIN)
            if not waiting.poll(None if timeout is None else 1000 * max(timeout, 0.0)):
                return False
            with self._status:
                self.returncode = self._told()
        return True

    def _told(self) -> int:
        line = self._status.readline()
        assert line, "the server that forks has ended"
        return int(line)

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        return self.returncode if self._ended(0) else None

    def _wait(self, timeout: float | None) -> int:
        if not self._ended(timeout):
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode


def _ignored() -> list[int]:
    """Return the signals that this process ignores, as a program that it starts would."""
    numbers = set(signal.valid_signals()) - fork_server.IGNORED_BY_PYTHON
    return sorted(number for number in numbers if signal.getsignal(number) is signal.SIG_IGN)


def _blocked() -> list[int]:
    return sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))


def Popen(command: Sequence[str | Path], **options: Any) -> subprocess.Popen[Any]:
    """Start a program as subprocess.Popen does. One with other variables for the interpreter is started anew."""
    environment = options.get("env") or os.environ
    if not POSSIBLE or _for_the_interpreter(environment) != _for_the_interpreter(_ENVIRONMENT):
        return subprocess.Popen(command, **options)
    return _Popen(command, **options)


def run(
    command: Sequence[str | Path],
    *,
    input: str | bytes | None = None,
    timeout: float = 100.0,
    check: bool = False,
    **options: Any,
) -> subprocess.CompletedProcess[Any]:
    """Run a program to its end as subprocess.run(..., capture_output=True) does."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if input is not None:
        streams["stdin"] = subprocess.PIPE
    with Popen(command, **{**streams, **options}) as process:
        try:
            output, errors = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(process.args, process.returncode, output, errors)
    if check:
        done.check_returncode()
    return done


def _ends_options(command: Sequence[str], index: int) -> bool:
    """Whether this word is -m, -c or the script."""
    word = command[index]
    return word in ("-m", "-c") or not (word.startswith("-") or command[index - 1] in ("-X", "-W"))


def _what(command: Sequence[str]) -> str:
    return fork_server.TEST_RUNS if list(command[:2]) == ["-m", "pytest"] else fork_server.PROGRAMS


@functools.cache
def _connection(options: tuple[str, ...], what: str) -> socket.socket:
    """Connect to the server of the whole run of tests, which is started with the first connection."""
    connection = _connected(options, what)
    atexit.register(connection.close)
    return connection


def _connected(options: tuple[str, ...], what: str) -> socket.socket:
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", "")
    if not run:
        return _started(options, what, None)
    # A run within this one may be that of another checkout.
    same = [run, fork_server.__file__, sys.executable, _for_the_interpreter(_ENVIRONMENT), what, options]
    name = hashlib.sha256(json.dumps(same).encode()).hexdigest()[:16]
    address = os.path.join(tempfile.gettempdir(), f"forks-{name}")
    with FileLock(Path(sys.prefix) / "forks.lock"):
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(address)
            if connection.recv(1) == fork_server.HELLO:
                return connection
        except (FileNotFoundError, ConnectionError):
            pass  # there is none yet, or it has just ended
        connection.close()
        with socket.socket(socket.AF_UNIX) as listener:
            Path(address).unlink(missing_ok=True)  # a server that was killed leaves it
            before = os.umask(0o077)
            try:
                listener.bind(address)
            finally:
                os.umask(before)
            listener.listen(64)
            return _started(options, what, listener)


def _started(options: Sequence[str], what: str, listener: socket.socket | None) -> socket.socket:
    ours, theirs = socket.socketpair()
    with theirs:
        numbers = [theirs.fileno(), -1 if listener is None else listener.fileno()]
        process = subprocess.Popen(
            [sys.executable, *options, fork_server.__file__, what, *map(str, numbers)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[number for number in numbers if number >= 0],
            env={name: value for name, value in _ENVIRONMENT.items() if name not in _ANY},
            start_new_session=True,
        )
    process.returncode = 0  # it ends with the last of the processes that use it: this one need not wait
    return ours
