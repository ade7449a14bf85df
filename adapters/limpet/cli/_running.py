"""How a command runs and ends: errors in one line, signals, pipes that nobody reads any more."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import stat
import sys
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from typing import Any, Final, NoReturn

import click

from limpet import LimpetError
from limpet._clients.log import SafeFormatter
from limpet._extras import MissingExtra
from limpet.service._signals import told_to_end
from limpet_core.text import escape

SIGNALLED: Final = 128
"""The exit status after a signal is this and the signal's number, as in shells: 130 after Ctrl-C."""

SIGPIPE: Final = 13
"""The signal of Unix for a write to a pipe without a reader; Python ignores it, and Windows has none."""


def log_to_stderr(verbose: bool) -> None:
    """Log warnings, or with ``verbose`` all messages on the wire, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(SafeFormatter("%(asctime)s %(message)s"))
    logger = logging.getLogger("limpet")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose else logging.WARNING)


def run(main: Coroutine[Any, Any, int | None], *, prints: bool = False) -> NoReturn:
    """Run ``main`` and exit with the status that it returns; handle user errors, Ctrl-C, SIGTERM and SIGHUP.

    The signals cancel ``main``, which says goodbye; the exit status is 128 and the number of the signal then.

    Args:
        main: the command.
        prints: standard output is what the command is for: it ends when nobody reads that any more.
    """
    told: list[int] = []

    async def cancellable() -> int | None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None

        def tell(number: int) -> None:
            told.append(number)
            loop.call_soon_threadsafe(task.cancel)

        with told_to_end(loop, tell), _reader_gone(loop, lambda: tell(SIGPIPE), watch=prints):
            return await main

    with user_errors():
        try:
            status = asyncio.run(cancellable())
        except KeyboardInterrupt:
            status = SIGNALLED + signal.SIGINT
        except asyncio.CancelledError:
            if not told:
                raise
            status = SIGNALLED + told[0]
    if status == SIGNALLED + SIGPIPE:
        drop_output()
    sys.exit(status or 0)


@contextmanager
def _reader_gone(loop: asyncio.AbstractEventLoop, tell: Callable[[], object], *, watch: bool) -> Generator[None]:
    """Call ``tell`` within the block when no process reads standard output any more, if that is a pipe.

    Without it ``limpet sub room | head -1`` would wait for one more message that it cannot print.
    """
    pipe = _written_pipe() if watch else None

    def gone() -> None:
        loop.remove_reader(watched)
        tell()

    if pipe is None:
        yield
        return
    watched: int = pipe
    try:
        loop.add_reader(watched, gone)  # a pipe that is only written becomes readable when its reader is gone
    except (NotImplementedError, OSError):  # Windows has no readers
        yield
        return
    try:
        yield
    finally:
        loop.remove_reader(watched)


def _written_pipe() -> int | None:
    """Return the number of standard output if it is the end of a pipe that cannot be read."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        number = sys.stdout.fileno()
        only_written = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
        return number if only_written and stat.S_ISFIFO(os.fstat(number).st_mode) else None
    except (OSError, ValueError, AttributeError):  # it is closed, or no file
        return None


@contextmanager
def user_errors() -> Generator[None]:
    """Report errors of the user, the network and the service in one line, with exit status 1."""
    try:
        yield
    except BrokenPipeError:
        raise  # of standard output: see quiet_ends; those of the network are LimpetErrors
    except OSError as error:
        raise click.ClickException(escape(error.strerror or str(error))) from error
    except (LimpetError, MissingExtra, ValueError, TypeError) as error:
        raise click.ClickException(escape(str(error))) from error
    except Exception as error:
        if not _is_of_a_cluster(error):
            raise
        raise click.ClickException(escape(str(error))) from error


def _is_of_a_cluster(error: Exception) -> bool:
    """Whether it is what a node of a cluster raises; imported here, since most commands need no service."""
    from limpet.service import ClusterRefused
    from limpet.service.cluster import LogError

    return isinstance(error, LogError | ClusterRefused)


@contextmanager
def quiet_ends() -> Generator[None]:
    """Exit without a word after Ctrl-C, and when nobody reads the output: with 130 and 141, as shells say it."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(SIGNALLED + signal.SIGINT)
    except BrokenPipeError:
        drop_output()
        sys.exit(SIGNALLED + SIGPIPE)


def drop_output() -> None:
    """Drop what standard output still holds: the interpreter would write it at its end, and tell of a broken pipe."""
    with suppress(OSError, ValueError, AttributeError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
