"""Integers as protobuf writes them: seven bits in a byte, the lowest first; all bytes but the last are above 127."""

from __future__ import annotations


def varint(number: int) -> bytes:
    """Encode an integer from 0 on."""
    if number < 0x80:
        return bytes((number,))
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Return the integer at ``position``, and where it ends; ``data`` is known to be whole."""
    number = shift = 0
    while data[position] > 0x7F:
        number |= (data[position] & 0x7F) << shift
        shift += 7
        position += 1
    return number | data[position] << shift, position + 1
