"""The limit of file descriptors of this process."""

from __future__ import annotations

import logging
import sys

# Descriptors that the service itself needs, and clients that fit without a word about the limit.
_OWN = 50
_MANY = 900

# The most files that a process of macOS may ask for (sys/syslimits.h).
_OPEN_MAX = 10_240

_LOGGER = logging.getLogger("limpet.service")

if sys.platform == "win32":

    def file_limit() -> int | None:
        return None

    def raise_file_limit(clients: int | None) -> None:
        pass

else:
    import resource

    def file_limit() -> int | None:
        """Return how many files and sockets this process may have open; ``None``: any number."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return None if soft == resource.RLIM_INFINITY else soft

    def raise_file_limit(clients: int | None) -> None:
        """Raise the soft limit to the hard one; log a warning if it stays too low for so many clients.

        ``None`` are as many clients as a usual limit of 1,024 files allows.
        """
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # macOS refuses an unlimited number, although the hard limit is that: then its OPEN_MAX.
        for wanted in (hard, max(soft, _OPEN_MAX)) if hard == resource.RLIM_INFINITY else (hard,):
            if wanted == soft:
                break
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            except (ValueError, OSError) as error:
                _LOGGER.debug("the limit of open files stays at %d: %s", soft, error)
            else:
                _LOGGER.info("the limit of open files was raised from %d to its maximum", soft)
                break
        limit = file_limit()
        if limit is not None and limit - _OWN < (clients or _MANY):
            _LOGGER.warning(
                "this process may have %d files open, enough for about %d clients at a time; further ones will wait. "
                "Raise the limit with `ulimit -n`.",
                limit,
                max(limit - _OWN, 0),
            )
