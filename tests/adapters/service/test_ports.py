"""The port of the service: names with several addresses, ports that are in use."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from limpet.service import Service

linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell who listens, or where")

LISTENS = """
import socket, sys
with socket.create_server((sys.argv[1], int(sys.argv[2]))):
    print("listens", flush=True)
    sys.stdin.read()
"""


def resolves(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Have every name be a name of these addresses."""

    async def getaddrinfo(loop: Any, host: str, port: int, **hints: Any) -> list[Any]:
        families = [(socket.AF_INET6 if ":" in address else socket.AF_INET, address) for address in addresses]
        rest: dict[int, tuple[int, ...]] = {socket.AF_INET: (), socket.AF_INET6: (0, 0)}
        return [(family, socket.SOCK_STREAM, 6, "", (address, port, *rest[family])) for family, address in families]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)


def without_ipv6(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    real = socket.create_server

    def create_server(address: Any, *, family: int = socket.AF_INET, **options: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(number, os.strerror(number))
        return real(address, family=family, **options)

    monkeypatch.setattr(socket, "create_server", create_server)


@pytest.mark.parametrize("number", [errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT])
def test_a_name_may_have_an_address_that_this_machine_does_not_have(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``localhost`` in a container: it has an IPv6 address in the file of hosts, and IPv6 is switched off."""
    resolves(monkeypatch, "::1", "127.0.0.1")
    without_ipv6(monkeypatch, number)

    async def main() -> None:
        async with Service(host="localhost") as service:
            _reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
            writer.close()
            with pytest.raises(OSError, match=r"in use.*: stop it, or use port \d+, which is free"):
                await Service(host="localhost", port=service.port).start()

    asyncio.run(main())


def test_a_name_without_any_address_of_this_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ipv6(monkeypatch, errno.EADDRNOTAVAIL)

    async def main() -> None:
        with pytest.raises(OSError, match=os.strerror(errno.EADDRNOTAVAIL)):
            await Service(host="::1").start()

    asyncio.run(main())


@contextmanager
def other_process_at(address: str, port: int) -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, "-c", LISTENS, address, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.stdin.close()


def refusal(host: str, port: int) -> str:
    async def main() -> str:
        with pytest.raises(OSError, match="in use") as raised:
            await Service(host=host, port=port).start()
        return str(raised.value)

    return asyncio.run(main())


@linux
def test_the_process_at_another_address_of_the_same_port_is_not_the_one() -> None:
    with socket.create_server(("127.0.0.2", 0)) as own:
        port = own.getsockname()[1]
        with other_process_at("127.0.0.1", port) as other:
            assert f"by process {other} (" in refusal("127.0.0.1", port)
            assert f"by process {os.getpid()} (" in refusal("127.0.0.2", port)


@linux
@pytest.mark.parametrize("taken", ["0.0.0.0", "::ffff:127.0.0.1"])
def test_a_process_at_all_addresses_is_found(taken: str) -> None:
    family = socket.AF_INET6 if ":" in taken else socket.AF_INET
    with socket.socket(family) as own:
        if family == socket.AF_INET6:
            own.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        own.bind((taken, 0))
        own.listen()
        port = own.getsockname()[1]
        assert f"by process {os.getpid()} (" in refusal("127.0.0.1", port)


@contextmanager
def neighbours(first: str, second: str) -> Iterator[int]:
    """Listen at a port of the first address, which is yielded, and at the next port of the second."""
    for _ in range(100):
        with socket.create_server((first, 0)) as one:
            port = one.getsockname()[1]
            try:
                other = socket.create_server((second, port + 1))
            except (OSError, OverflowError):
                continue  # it is taken
            with other:
                yield port
            return
    raise AssertionError("no two ports are free")


@linux
def test_the_port_that_is_offered_is_free_at_all_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    resolves(monkeypatch, "127.0.0.1", "127.0.0.2")
    with neighbours("127.0.0.1", "127.0.0.2") as port:
        told = refusal("localhost", port)
        assert ", which is free" in told
        assert f"port {port + 1}, which" not in told
