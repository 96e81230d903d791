"""Other addresses in a recorded datagram, and checksums that fit them.

What is rewritten: source and destination of the IP header, and of the datagram that an ICMP error quotes.  What is not:
addresses in routing headers, IP options, tunnels and payloads (DNS answers, FTP, SIP, neighbour discovery targets).

Checksums (IPv4 header, TCP, UDP, UDP-Lite, DCCP, ICMP, ICMPv6) are touched only where an address under them changed:

* one that was right, or that the recording machine had left to its network card, is computed anew;
* one that was wrong stays wrong by the same amount (RFC 1624), because it may be what the recording is about; the same
  arithmetic keeps the checksums of fragments and of datagrams that the recording cut short, which nobody can verify;
* UDP's 0, "no checksum", stays 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["addresses_of", "readdress"]

_TCP, _UDP, _DCCP, _ICMP, _ICMPV6, _UDPLITE = 6, 17, 33, 1, 58, 136
_CHECKSUM_AT = {_TCP: 16, _UDP: 6, _DCCP: 6, _ICMP: 2, _ICMPV6: 2, _UDPLITE: 6}
# Unreachable, source quench, redirect, time exceeded, parameter problem; RFC 792.
_ICMP_ERRORS = (3, 4, 5, 11, 12)
# Unreachable, packet too big, time exceeded, parameter problem; RFC 4443.
_ICMPV6_ERRORS = (1, 2, 3, 4)
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION = 0, 43, 44, 51, 60


@dataclass(frozen=True)
class _Header:
    """Where things lie in a datagram; offsets are in bytes from its start."""

    version: int
    source: slice
    destination: slice
    protocol: int
    payload: int
    end: int
    fragment: int  # offset of this fragment in bytes; 0 for the first and for what is not fragmented
    complete: bool  # all bytes that the transport checksum covers are here


def addresses_of(datagram: bytes) -> tuple[bytes, bytes] | None:
    """Source and destination as packed addresses; None where the datagram has no readable header."""
    header = _parse(datagram)
    return None if header is None else (datagram[header.source], datagram[header.destination])


def readdress(datagram: bytes, mapping: Mapping[bytes, bytes]) -> bytes:
    """The datagram with mapped addresses in place of recorded ones.

    Args:
        datagram: an IP datagram; one that cannot be parsed comes back as it is.
        mapping: packed recorded addresses to packed addresses of the same length.
    """
    return _rewrite(datagram, mapping, quoted=False)


def _rewrite(old: bytes, mapping: Mapping[bytes, bytes], *, quoted: bool) -> bytes:
    header = _parse(old)
    if header is None:
        return old
    new = bytearray(old)
    for place in (header.source, header.destination):
        new[place] = mapping.get(old[place], old[place])
    quote = _quote_at(header, old)
    if quote is not None and not quoted:
        new[quote : header.end] = _rewrite(bytes(old[quote : header.end]), mapping, quoted=True)
    if new == old:
        return old
    if header.version == 4:
        _refit(old, new, slice(0, (old[0] & 15) * 4), 10, b"", b"", offloaded=() if quoted else (0,))
    at = _CHECKSUM_AT.get(header.protocol)
    if at is not None and not header.fragment:
        _refit_transport(old, new, header, at, whole=header.complete and not quoted)
    return bytes(new)


def _refit_transport(old: bytes, new: bytearray, header: _Header, at: int, *, whole: bool) -> None:
    body = slice(header.payload, header.end)
    if header.protocol == _UDP and old[body][at : at + 2] == b"\0\0":
        return
    if header.protocol == _ICMP:
        _refit(old, new, body, at, b"", b"", offloaded=())
        return
    length = header.end - header.payload
    before, after = (_pseudo(bytes(data), header, length) for data in (old, new))
    offloaded: tuple[int, ...] = ()
    if whole:
        # What a sender leaves for its card to finish: the sum of the pseudo-header, with or without the length, or 0.
        without = _sum(_pseudo(old, header, 0)) % 0xFFFF
        offloaded = (_sum(before) % 0xFFFF, without, *([0] if header.protocol == _TCP else []))
    zero = 0xFFFF if header.protocol in (_UDP, _UDPLITE) else 0
    _refit(old, new, body, at, before, after, offloaded=offloaded, zero=zero)


def _refit(
    old: bytes,
    new: bytearray,
    covered: slice,
    at: int,
    pseudo_before: bytes,
    pseudo_after: bytes,
    *,
    offloaded: tuple[int, ...],
    zero: int = 0,
) -> None:
    """Put the checksum right that lies ``at`` bytes into ``covered``; ``zero`` stands for a sum that comes out as 0."""
    before, after = bytearray(old[covered]), bytearray(new[covered])
    if len(before) < at + 2:
        return  # an ICMP error quotes 8 bytes of TCP, whose checksum lies behind them
    stored = int.from_bytes(before[at : at + 2], "big")
    before[at : at + 2] = after[at : at + 2] = b"\0\0"
    right_before = -(_sum(before) + _sum(pseudo_before)) % 0xFFFF
    right_after = -(_sum(after) + _sum(pseudo_after)) % 0xFFFF
    right = stored % 0xFFFF in (right_before, *(value % 0xFFFF for value in offloaded))
    fitting = right_after if right else (stored + right_after - right_before) % 0xFFFF
    place = covered.start + at
    new[place : place + 2] = (fitting or zero).to_bytes(2, "big")


def _sum(data: bytes | bytearray) -> int:
    """The Internet checksum's sum (RFC 1071): modulo 65,535, the sum of 16-bit words is the whole as one number."""
    return int.from_bytes(data, "big") << (8 * (len(data) % 2))


def _pseudo(data: bytes, header: _Header, length: int) -> bytes:
    addresses = data[header.source] + data[header.destination]
    return addresses + length.to_bytes(4, "big") + header.protocol.to_bytes(4, "big")


def _parse(data: bytes) -> _Header | None:
    if len(data) >= 20 and data[0] >> 4 == 4:
        start, length = (data[0] & 15) * 4, int.from_bytes(data[2:4], "big")
        if not 20 <= start <= len(data):
            return None
        flags = int.from_bytes(data[6:8], "big")
        end = min(length, len(data)) if length >= start else len(data)
        complete = not flags & 0x3FFF and len(data) >= length
        return _Header(4, slice(12, 16), slice(16, 20), data[9], start, end, (flags & 0x1FFF) * 8, complete)
    if len(data) >= 40 and data[0] >> 4 == 6:
        length = int.from_bytes(data[4:6], "big")
        end = min(40 + length, len(data)) if length else len(data)
        protocol, start, fragment, whole = _extension_headers(data, end)
        complete = whole and len(data) >= 40 + length
        return _Header(6, slice(8, 24), slice(24, 40), protocol, start, end, fragment, complete)
    return None


def _extension_headers(data: bytes, end: int) -> tuple[int, int, int, bool]:
    """Upper protocol, where it starts, offset of the fragment, whether this is no fragment; RFC 8200 section 4."""
    protocol, at, fragment, whole = data[6], 40, 0, True
    while protocol in (_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION) and at + 8 <= end:
        following, extent = data[at], data[at + 1]
        if protocol == _FRAGMENT:
            word = int.from_bytes(data[at + 2 : at + 4], "big")
            fragment, whole = word & 0xFFF8, whole and not word & 0xFFF9
            at += 8
        elif protocol == _AUTHENTICATION:
            at += (extent + 2) * 4
        else:
            at += (extent + 1) * 8
        protocol = following
        if fragment:
            break
    return protocol, min(at, end), fragment, whole


def _quote_at(header: _Header, data: bytes) -> int | None:
    """Where the datagram begins that an ICMP error quotes; None where this is no ICMP error."""
    if header.fragment or header.payload + 8 >= header.end:
        return None
    kind = data[header.payload]
    if (header.protocol == _ICMP and kind in _ICMP_ERRORS) or (header.protocol == _ICMPV6 and kind in _ICMPV6_ERRORS):
        return header.payload + 8
    return None
