"""What a check may need of a client, beyond a start, a stop, the four requests and plain callbacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

Need = Literal[
    "streams",
    "batches",
    "group states",
    "submit",
    "write streams",
    "read streams",
    "invocations",
    "senders",
    "callbacks",
    "restart",
    "cancel",
    "timeouts",
    "types",
    "url function",
    "pause",
    "backpressure",
    "size limit",
    "status",
    "retry after",
    "addresses",
    "check",
    "suspends",
    "log",
    "instrument",
    "stats",
]
"""A thing that not every client can do; a check names those without which it makes no sense.

======================  ==============================================================================================
``streams``             ``async for`` over the client, ``events`` and ``subscribe``
``batches``             the method ``batches``
``group states``        the methods for the states of groups; ``watch_group_states`` with ``streams``
``submit``              ``submit``, whose methods return futures
``write streams``       ``open_stream``
``read streams``        ``streams``
``invocations``         ``invoke``, and ``metadata`` and ``ttl`` of sends
``senders``             messages say who sent them, as they do in the JSON subprotocols
``callbacks``           callbacks that wait and call the client, and ``off``
``restart``             a second start, after a stop or a start that failed
``timeouts``            ``timeout=`` of all calls
``types``               ``type=`` of iterators, callbacks and invocations
``cancel``              the caller of a start or of a request can give it up
``url function``        ``url`` may be a function, plain or one that takes its time
``pause``               the client stops reading when ``max_buffered_messages`` wait: in a browser it cannot
``backpressure``        a send without an ack waits while the service does not read: in a browser it does not
``size limit``          the client keeps ``max_message_size``: another WebSocket library has a limit of its own
``status``              a refused handshake tells its HTTP status: in a browser it does not
``retry after``         the delay that a refusal asks for is kept
``addresses``           the client tries several addresses of a name, which it looks up with Python's ``socket`` module
``check``               the method ``check``
``suspends``            the clock of Limpet's own drivers, which the check turns forward
``log``                 lines in Python's ``logging``, as Limpet's own clients write them
``instrument``          ``instrument=``, as Limpet's own clients take it; see :class:`limpet.Instrument`
``stats``               the property ``stats``
======================  ==============================================================================================
"""

ALL: Final[frozenset[Need]] = frozenset(get_args(Need))
"""All needs, as Limpet's own clients meet them."""

_OPTIONS: Final[Mapping[str, Need]] = {"max_buffered_messages": "pause", "max_message_size": "size limit"}


class Allowed:
    """What a client that is checked is asked for, held against what the check says that it needs.

    Args:
        needs: of the check; None: everything is allowed.
    """

    def __init__(self, needs: frozenset[Need] | None = None) -> None:
        self._needs = needs

    def use(self, need: Need) -> None:
        """Raise AssertionError unless the check says that it needs this."""
        if self._needs is not None and need not in self._needs:
            raise AssertionError(f"the check uses {need!r} and does not say so: add it to its needs")

    def make(self, url: object, options: Mapping[str, Any]) -> None:
        """Do the same for what a client is made of."""
        if callable(url):
            self.use("url function")
        for name in options:
            if name in _OPTIONS:
                self.use(_OPTIONS[name])
