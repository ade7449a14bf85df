"""``limpet`` in a process that has imported the command line already: half of the time of a start is its imports.

Run as a program, this file imports all commands and waits for requests. For each it forks twice: the inner process runs
``limpet`` as ``python -m limpet`` does, from the arguments to the end of the interpreter, and the outer one tells its
exit status.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

POSSIBLE = hasattr(os, "fork") and hasattr(socket, "send_fds")
_LENGTH = 8


def run(arguments: Sequence[str], stdin: str, environment: Mapping[str, str], timeout: float) -> tuple[int, str, str]:
    """Run ``limpet``; return its exit status and what it printed to standard output and standard error.

    Raises:
        subprocess.TimeoutExpired: it has run so many seconds, and was killed.
    """
    ask = json.dumps([list(arguments), os.getcwd(), dict(environment)]).encode()
    pipes = [os.pipe() for _ in range(4)]
    (theirs_in, ours_in), (ours_out, theirs_out), (ours_err, theirs_err), (ours_status, theirs_status) = pipes
    connection, lock = _server()
    with lock:
        socket.send_fds(connection, [len(ask).to_bytes(_LENGTH)], [theirs_in, theirs_out, theirs_err, theirs_status])
        connection.sendall(ask)
    for number in (theirs_in, theirs_out, theirs_err, theirs_status):
        os.close(number)
    status = os.fdopen(ours_status, "rb")
    with status, ThreadPoolExecutor(2) as readers, os.fdopen(ours_in, "wb") as written:
        pid = int(status.readline())
        late = threading.Timer(timeout, os.kill, (pid, signal.SIGKILL))
        late.start()
        output, errors = readers.submit(_read, ours_out), readers.submit(_read, ours_err)
        _write(written, stdin.encode())
        code = int(status.readline())
        expired = not late.is_alive()
        late.cancel()
        late.join()
        if expired:
            raise subprocess.TimeoutExpired(["limpet", *arguments], timeout, output.result(), errors.result())
        return code, output.result().decode(), errors.result().decode()


def _read(number: int) -> bytes:
    with os.fdopen(number, "rb") as file:
        return file.read()


def _write(file: BinaryIO, data: bytes) -> None:
    try:
        file.write(data)
        file.close()
    except BrokenPipeError:
        pass  # the program has ended without it, as it may


@functools.cache
def _server() -> tuple[socket.socket, threading.Lock]:
    """Start the process, once for the whole run of tests."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-W", "error", __file__, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours, threading.Lock()


def _forked_for_a_request(connection: socket.socket) -> None:
    """Wait for requests until the test run ends; return in the process that is to run ``limpet`` only."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the outer processes
    while True:
        length, numbers, _, _ = socket.recv_fds(connection, _LENGTH, 4)
        if not length:
            os._exit(0)
        arguments, folder, environment = json.loads(_exactly(connection, int.from_bytes(length)))
        if os.fork() == 0:
            break
        for number in numbers:
            os.close(number)
    connection.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if pid := os.fork():
        _tell(pid, numbers)
    for number, standard in zip(numbers, range(3), strict=False):
        os.dup2(number, standard)
    for number in numbers:
        os.close(number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["limpet", *arguments]


def _exactly(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        data += connection.recv(length - len(data))
    return data


def _tell(pid: int, numbers: Sequence[int]) -> None:
    """Tell which process runs ``limpet``, and with which status it ended."""
    *standard, number = numbers
    for each in standard:
        os.close(each)
    with os.fdopen(number, "w") as status:
        print(pid, file=status, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=status, flush=True)
    os._exit(0)


if __name__ == "__main__":
    from limpet.cli.commands import cli

    assert list(cli.commands.values()), "all are imported now"
    _forked_for_a_request(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module("limpet", run_name="__main__", alter_sys=True)
