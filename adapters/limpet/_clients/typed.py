"""Messages with data of the application's own types, for iteration and for callbacks. No event loop in here."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any

from msgspec import structs

from limpet import GroupMessage, InvalidData, InvalidType, ServerMessage
from limpet._clients.callbacks import Callback, CallbackWrapper
from limpet_core.protocol.typed_data import check_type, decode_data

log: logging.Logger = logging.getLogger("limpet")

OnInvalid = Callable[[InvalidData], object]
"""A function that is called with the error of each message whose data does not fit."""


class Decoder:
    """Decodes the data of messages.

    Args:
        expected: the type of the data.
        on_invalid: called with the error of a message that does not fit; None: the application has given none.

    Attributes:
        on_invalid: see above.

    Raises:
        InvalidType: data cannot be decoded into that type, or ``on_invalid`` cannot be called.
    """

    __slots__ = ("_expected", "on_invalid")

    def __init__(self, expected: Any, on_invalid: OnInvalid | None) -> None:
        check_type(expected)
        if on_invalid is not None and not callable(on_invalid):
            raise InvalidType(f"on_invalid must be callable, not {type(on_invalid).__name__}")
        self._expected = expected
        self.on_invalid: OnInvalid | None = on_invalid

    def decode(self, event: Any) -> Any:
        """Return ``event`` with its data decoded; None: it is to be left out.

        Raises:
            InvalidData: the data does not fit.
        """
        if type(event) is GroupMessage and event.stream is not None and event.stream.end:
            return None  # it has no data
        return structs.replace(event, data=decode_data(event, self._expected))

    def take(self, event: Any) -> Any:
        """Decode ``event`` for an iteration, which raises InvalidData only if there is no ``on_invalid``."""
        try:
            return self.decode(event)
        except InvalidData as error:
            if self.on_invalid is None:
                raise
            self.on_invalid(error)
            return None


def decoder(
    expected: Any, on_invalid: OnInvalid | None, types: tuple[Any, ...] = (), *, iterates: bool = True
) -> Decoder | None:
    """Return a decoder for messages of ``types``; None, if the application wants the data as it comes.

    Args:
        expected: the type of the data, or None.
        on_invalid: see :class:`Decoder`.
        types: the types of messages that the application has named.
        iterates: whether it is for iteration, where nothing can be awaited.
    """
    if expected is None:
        if on_invalid is not None:
            raise InvalidType("on_invalid needs type=, the type that the data is to fit")
        return None
    for kind in types:
        if kind is not GroupMessage and kind is not ServerMessage:
            name = getattr(kind, "__name__", kind)
            raise InvalidType(f"type= is for the data of a GroupMessage or ServerMessage; {name} has none")
    if iterates and inspect.iscoroutinefunction(on_invalid):
        raise InvalidType("on_invalid must be a plain function: nothing is awaited between two messages")
    return Decoder(expected, on_invalid)


class TypedCallback(CallbackWrapper):
    """A callback that gets messages with decoded data.

    A message that does not fit goes to ``on_invalid``, or else into the log: the first one, the tenth, the hundredth.
    """

    __slots__ = ("_decoder", "_misfits")

    def __init__(self, callback: Callback, decoder: Decoder) -> None:
        super().__init__(callback)
        self._decoder = decoder
        self._misfits = 0

    def __call__(self, event: Any) -> object:
        try:
            message = self._decoder.decode(event)
        except InvalidData as error:
            if self._decoder.on_invalid is not None:
                return self._decoder.on_invalid(error)
            self._misfit(error)
            return None
        return None if message is None else self.__wrapped__(message)

    def _misfit(self, error: InvalidData) -> None:
        self._misfits += 1
        if str(self._misfits).strip("0") == "1":
            times = "" if self._misfits == 1 else f" (message {self._misfits} that does not fit)"
            log.warning("a message was not given to its callback: %s%s; on_invalid= takes such messages", error, times)


class TypedIteration:
    """Decodes what the stream behind it, in the order of inheritance, takes from its buffer."""

    decoder: Decoder

    async def __anext__(self) -> Any:
        stream: Any = super()
        while True:
            event = self.decoder.take(await stream.__anext__())
            if event is not None:
                return event
