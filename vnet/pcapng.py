"""Reads a capture while it is written: the packets of a pcapng stream, as vnet's captures make them.

Sections, interfaces and enhanced packets of draft-ietf-opsawg-pcapng; other blocks are passed over.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["CapturedPacket", "PcapngReader"]

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_COMMENT, _FLAGS, _DROPPED = 1, 2, 4
_NAME, _RESOLUTION = 2, 9
_ORDERS = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
# Bytes of the longest block that is believed: a datagram with its options, many times over.
_LONGEST = 1 << 24


@dataclass(frozen=True)
class CapturedPacket:
    """A packet of a capture.

    Attributes:
        interface: the name of its interface, a NIC's.
        time: nanoseconds since the epoch.
        direction: ``in``, ``out``, or an empty string where the capture does not say.
        length: bytes that it had.
        data: those that were kept.
        comment: what the capture says of it.
        missed: packets missed since the last one.
    """

    interface: str
    time: int
    direction: str
    length: int
    data: bytes
    comment: str
    missed: int


class PcapngReader:
    """Takes the bytes of a stream as they come, and gives the packets that they complete."""

    def __init__(self) -> None:
        self._pending = b""
        self._order = ""
        # Of each interface: its name, and nanoseconds of a unit of its times.
        self._interfaces: list[tuple[str, float]] = []

    def feed(self, data: bytes) -> Iterator[CapturedPacket]:
        """Takes the next bytes and returns the packets that end in them.

        Raises:
            ValueError: this is no pcapng.
        """
        self._pending += data
        at = 0
        while (block := self._block(at)) is not None:
            kind, body, at = block
            if kind == _SECTION:
                self._interfaces = []
            elif kind == _INTERFACE:
                self._interfaces.append(self._interface(body))
            elif kind == _PACKET:
                yield self._packet(body)
        self._pending = self._pending[at:]

    def _block(self, at: int) -> tuple[int, bytes, int] | None:
        """The block that begins there: its kind, its body and where it ends; ``None`` while it is not all there."""
        head = self._pending[at : at + 12]
        if len(head) < 12:
            return None
        if head[:4] == b"\x0a\x0d\x0d\x0a":
            # The kind of a section reads the same in both byte orders; what follows tells which it is.
            self._order = _ORDERS.get(head[8:12], "")
        if not self._order:
            raise ValueError("this is no pcapng: it begins with no section")
        kind, length = struct.unpack_from(f"{self._order}II", head)
        if length < 12 or length % 4 or length > _LONGEST:
            raise ValueError(f"this is no pcapng: a block of {length} bytes")
        if len(self._pending) - at < length:
            return None
        return kind, self._pending[at + 8 : at + length - 4], at + length

    def _options(self, data: bytes) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        at = 0
        while at + 4 <= len(data):
            code, length = struct.unpack_from(f"{self._order}HH", data, at)
            if code == 0:
                break
            found.setdefault(code, data[at + 4 : at + 4 + length])
            at += 4 + (length + 3) // 4 * 4
        return found

    def _interface(self, body: bytes) -> tuple[str, float]:
        options = self._options(body[8:])
        resolution = options.get(_RESOLUTION, b"\x06")[0]
        unit = 2.0 ** -(resolution & 127) if resolution & 128 else 10.0**-resolution
        return options.get(_NAME, b"").decode(errors="replace"), unit * 1e9

    def _packet(self, body: bytes) -> CapturedPacket:
        try:
            number, high, low, kept, length = struct.unpack_from(f"{self._order}5I", body)
            name, unit = self._interfaces[number]
        except (struct.error, IndexError):
            raise ValueError("this is no pcapng: a packet of no interface") from None
        options = self._options(body[20 + (kept + 3) // 4 * 4 :])
        flags = int.from_bytes(options.get(_FLAGS, b""), "little" if self._order == "<" else "big")
        units = high << 32 | low
        return CapturedPacket(
            interface=name,
            time=units if unit == 1 else round(units * unit),
            direction=("", "in", "out", "")[flags & 3],
            length=length,
            data=body[20 : 20 + kept],
            comment=options.get(_COMMENT, b"").decode(errors="replace"),
            missed=int.from_bytes(options.get(_DROPPED, b""), "little" if self._order == "<" else "big"),
        )
