"""IP datagrams out of a capture file: pcap and pcapng, plain or gzipped, as recorded on the common link types."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vnet.errors import CaptureError
from vnet.lab.packets import scapy_names

__all__ = ["Recorded", "Recording", "read_recording"]

# Ethernet header, VLAN tags and the largest datagram; scapy would cut at 65,535 bytes of frame.
_LARGEST_FRAME = 1 << 18

_IPV4, _IPV6 = 0x0800, 0x86DD
_VLAN_TAGS = (0x8100, 0x88A8, 0x9100)
# Address families of BSD loopback headers; systems number AF_INET6 differently.
_FAMILIES = {2: _IPV4, 10: _IPV6, 24: _IPV6, 28: _IPV6, 30: _IPV6}

_ETHERNET, _NULL, _LOOP, _SLL, _SLL2, _IPV4_ONLY, _IPV6_ONLY = 1, 0, 108, 113, 276, 228, 229
_RAW = (101, 12, 14)  # LINKTYPE_RAW, and the numbers that DLT_RAW has on BSDs


@dataclass(frozen=True)
class Recorded:
    """One datagram and when it was recorded, in seconds since the first record of the file."""

    time: float
    datagram: bytes


@dataclass(frozen=True)
class Recording:
    """What a capture file holds.

    Attributes:
        datagrams: the IP datagrams in recorded order.
        skipped: how many records are something else (ARP, spanning tree, ...).
        warnings: what the reader found wrong with the file, such as an end in the middle of a record.
    """

    datagrams: tuple[Recorded, ...]
    skipped: int
    warnings: tuple[str, ...]


class _Warnings(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def read_recording(path: Path) -> Recording:
    """Read a capture file whole.

    Raises:
        CaptureError: it is no capture file, cannot be read, or was recorded on a link type that carries no IP here.
    """
    try:
        if path.is_dir():
            raise CaptureError("is a directory; expected a pcap or pcapng file")
        with path.open("rb"):
            pass
    except OSError as error:
        raise CaptureError(f"cannot be read: {(error.strerror or str(error)).lower()}") from None
    scapy_names()  # imports scapy quietly
    from scapy.error import Scapy_Exception

    datagrams: list[Recorded] = []
    skipped, first = 0, None
    log, handler = logging.getLogger("scapy.runtime"), _Warnings()
    propagate, log.propagate = log.propagate, False
    others, log.handlers = log.handlers, [handler]
    try:
        for time, link, frame in _records(path):
            first = time if first is None else first
            datagram = _datagram(link, frame)
            if datagram is None:
                skipped += 1
            else:
                datagrams.append(Recorded(max(0.0, time - first), datagram))
    except CaptureError:
        raise
    except (Scapy_Exception, OSError, EOFError, struct.error, ValueError) as error:
        raise CaptureError(f"is no pcap or pcapng file: {' '.join(str(error).split())}") from None
    finally:
        log.handlers, log.propagate = others, propagate
    return Recording(tuple(datagrams), skipped, tuple(handler.messages))


def _records(path: Path) -> Iterator[tuple[float, int, bytes]]:
    """Time in seconds, link type and frame of each record."""
    from scapy.utils import RawPcapReader

    time = 0.0
    # Opened here, because scapy forgets to close a file that is no capture.
    with path.open("rb") as file, RawPcapReader(file) as opened:
        reader: Any = opened
        while True:
            try:
                frame, about = reader._read_packet(size=_LARGEST_FRAME)
            except EOFError:
                return
            if hasattr(about, "tsresol"):
                link = about.linktype
                if about.tshigh is not None:  # simple packet blocks bear no time
                    time = ((about.tshigh << 32) + about.tslow) / about.tsresol
            else:
                link = reader.linktype & 0xFFFF  # the upper half tells of frame check sequences
                time = about.sec + about.usec / (1e9 if reader.nano else 1e6)
            yield time, link, frame


def _datagram(link: int, frame: bytes) -> bytes | None:
    """The datagram in a frame, without what the link put around it; None where the frame carries no IP."""
    if link == _ETHERNET:
        kind, data = _ethernet(frame)
    elif link == _SLL:
        kind, data = int.from_bytes(frame[14:16], "big"), frame[16:]
        kind, data = _untag(kind, data)
    elif link == _SLL2:
        kind, data = int.from_bytes(frame[0:2], "big"), frame[20:]
        kind, data = _untag(kind, data)
    elif link in (_NULL, _LOOP):
        # The family is in the recording machine's byte order; families are small numbers, so the smaller reading is it.
        family = min(int.from_bytes(frame[:4], "big"), int.from_bytes(frame[:4], "little"))
        kind, data = _FAMILIES.get(family, 0), frame[4:]
    elif link in (*_RAW, _IPV4_ONLY, _IPV6_ONLY):
        kind, data = {4: _IPV4, 6: _IPV6}.get(frame[0] >> 4 if frame else 0, 0), frame
    else:
        raise CaptureError(
            f"was recorded on link type {link}; expected Ethernet, Linux cooked capture, raw IP or BSD loopback"
        )
    return _trimmed(kind, data)


def _ethernet(frame: bytes) -> tuple[int, bytes]:
    return _untag(int.from_bytes(frame[12:14], "big"), frame[14:])


def _untag(kind: int, data: bytes) -> tuple[int, bytes]:
    while kind in _VLAN_TAGS and len(data) >= 4:
        kind, data = int.from_bytes(data[2:4], "big"), data[4:]
    return kind, data


def _trimmed(kind: int, data: bytes) -> bytes | None:
    """The datagram without the padding of short frames; a length of 0 is a segment that the card was to cut up."""
    if kind == _IPV4 and len(data) >= 20 and data[0] >> 4 == 4:
        length = int.from_bytes(data[2:4], "big")
        return data[:length] if length >= 20 else data
    if kind == _IPV6 and len(data) >= 40 and data[0] >> 4 == 6:
        length = int.from_bytes(data[4:6], "big")
        # Without a hop-by-hop header, which would hold a jumbo length, 0 really is a datagram without payload.
        return data[: 40 + length] if length or (data[6] != 0 and len(data) <= 86) else data
    return None
