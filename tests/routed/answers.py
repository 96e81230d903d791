"""Answers made comparable, and what differs told field by field.

What may differ is put aside, and only after it has been found to be right by itself:

- the identification of datagrams that a router makes (in IPv6: of fragments, and the flow label, which Linux takes
  from a hash with a secret);
- the time that a router writes into a timestamp option, which must be that of now;
- the checksums over these, which must be right.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

_ICMP, _ICMP6 = 1, 58
# Errors quote what they are about: RFC 792, RFC 4443 section 2.1.
_QUOTING = {4: {3, 4, 5, 11, 12}, 6: set(range(128))}
_TIMESTAMP, _END, _NOTHING = 68, 0, 1
_FRAGMENT = 44
_DAY = 86_400_000
# A timestamp may be older than the look at it by as much.
_PATIENCE = 120_000

Received = Mapping[str, Sequence[bytes]]


def checksum(data: bytes) -> int:
    """The Internet checksum of RFC 1071; 0 over what bears the right one."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


class Neutral:
    """Puts aside what may differ, for the datagrams of one exchange.

    Arguments:
        routers: the addresses of routers: what comes from them they made.
    """

    def __init__(self, routers: set[str]) -> None:
        self._routers = {ip_address(each).packed for each in routers}
        self._identifications: dict[bytes, int] = {}

    def __call__(self, datagram: bytes) -> bytes:
        """The datagram with that put aside.

        Raises:
            AssertionError: what may differ is wrong by itself.
        """
        if datagram[:1] and datagram[0] >> 4 == 6:
            return self._six(datagram)
        return self._four(datagram)

    def _four(self, datagram: bytes) -> bytes:
        header = 4 * (datagram[0] & 15)
        if datagram[12:16] not in self._routers:
            return self._without_times(datagram)[0]
        assert not checksum(datagram[:header]), f"the header checksum is wrong: {datagram.hex()}"
        changed = bytearray(self._without_times(datagram)[0])
        changed[4:6] = self._ordinal(datagram[4:6])
        changed[10:12] = b"\0\0"
        # The rest of a datagram that was cut has no ICMP header.
        whole = not int.from_bytes(datagram[6:8], "big") & 0x3FFF
        if whole and datagram[9] == _ICMP and datagram[header] in _QUOTING[4]:
            quoted, times = self._without_times(datagram[header + 8 :], quoted=True)
            if times:
                assert not checksum(datagram[header:]), f"the ICMP checksum is wrong: {datagram.hex()}"
                changed[header + 2 : header + 4] = b"\0\0"
                changed[header + 8 :] = quoted
        return bytes(changed)

    def _without_times(self, datagram: bytes, *, quoted: bool = False) -> tuple[bytes, bool]:
        """The datagram without the time in timestamp options, and without its checksum where there are such.

        What a router quotes bears the checksum with which it came, and a time that was written since.
        """
        changed = bytearray(datagram)
        header = min(4 * (datagram[0] & 15), len(datagram))
        found = False
        for at in _timestamps(datagram[:header]):
            stamp = int.from_bytes(datagram[at : at + 4], "big")
            now = int(time.time() * 1000) % _DAY
            if (now - stamp) % _DAY < _PATIENCE:
                changed[at : at + 4] = b"\xff" * 4
                found = True
        if found and (quoted or checksum(datagram[:header]) == 0):
            changed[10:12] = b"\0\0"
        return bytes(changed), found

    def _six(self, datagram: bytes) -> bytes:
        if datagram[8:24] not in self._routers:
            return datagram
        changed = bytearray(datagram)
        changed[1] &= 0xF0
        changed[2:4] = b"\0\0"
        if datagram[6] == _FRAGMENT:
            changed[44:48] = self._ordinal(datagram[44:48]).rjust(4, b"\0")
        elif datagram[6] == _ICMP6:
            pseudo = datagram[8:40] + struct.pack("!II", len(datagram) - 40, _ICMP6)
            assert not checksum(pseudo + datagram[40:]), f"the ICMPv6 checksum is wrong: {datagram.hex()}"
        return bytes(changed)

    def _ordinal(self, identification: bytes) -> bytes:
        """Fragments of one datagram still bear the same."""
        return self._identifications.setdefault(identification, len(self._identifications) + 1).to_bytes(2, "big")


def _timestamps(header: bytes) -> Iterator[int]:
    """Where in a header routers may have written times."""
    at = 20
    while at < len(header) and header[at] != _END:
        if header[at] == _NOTHING:
            at += 1
            continue
        if at + 2 > len(header) or header[at + 1] < 2:
            return
        if header[at] == _TIMESTAMP and header[at + 1] > 4 and at + 4 <= len(header):
            # Back from the pointer, wherever it began.
            step = 8 if header[at + 3] & 15 else 4
            yield from range(min(at + header[at + 2] - 5, len(header) - 4), at + 3, -step)
        at += header[at + 1]


def differences(kernel: Received, vnet: Received, routers: set[str]) -> str:
    """What differs between the answers of the two, field by field; empty where nothing does."""
    said = []
    for host in kernel:
        expected = list(map(Neutral(routers), kernel[host]))
        found = list(map(Neutral(routers), vnet[host]))
        if expected == found:
            continue
        if len(expected) != len(found):
            said.append(f"at {host} the kernel's routers had {len(expected)} datagrams arrive, vnet's {len(found)}")
        for number in range(max(len(expected), len(found))):
            pair = (each[number] if number < len(each) else None for each in (expected, found))
            said += [f"  {host}[{number}] {line}" for line in _between(*pair)]
        said += [f"  {host} of the kernel: {each.hex()}" for each in kernel[host]]
        said += [f"  {host} of vnet:       {each.hex()}" for each in vnet[host]]
    return "\n".join(said)


def _between(expected: bytes | None, found: bytes | None) -> Iterator[str]:
    if expected == found:
        return
    if expected is None or found is None:
        whose, datagram = ("vnet only", found) if expected is None else ("the kernel only", expected)
        yield f"{whose}: {summary(datagram)}"
        return
    ours, theirs = dict(_fields(found)), dict(_fields(expected))
    for name in dict.fromkeys([*theirs, *ours]):
        one, other = theirs.get(name, "(not there)"), ours.get(name, "(not there)")
        if one != other:
            yield f"{name}: kernel {one}, vnet {other}"


def _packet(datagram: bytes) -> Any:
    from scapy.all import IP, IPv6

    return (IPv6 if datagram[0] >> 4 == 6 else IP)(datagram)


def _fields(datagram: bytes) -> Iterator[tuple[str, str]]:
    yield "bytes in all", str(len(datagram))
    layer = _packet(datagram)
    depth = 0
    while layer:
        for field in layer.fields_desc:
            value = layer.getfieldval(field.name)
            shown = value.hex() if isinstance(value, bytes) else layer.get_field(field.name).i2repr(layer, value)
            yield f"{depth} {layer.name}.{field.name}", shown
        layer = layer.payload
        depth += 1


def summary(datagram: bytes | None) -> str:
    """A datagram in few words: `time-exceeded 0`, `UDP`."""
    from scapy.all import ICMP, IP, NoPayload, Raw

    if datagram is None:
        return "nothing"
    packet = _packet(datagram)
    if IP in packet and packet[IP].frag:
        return _REST
    if packet.haslayer(ICMP) and packet.firstlayer().payload.name == "ICMP":
        icmp = packet[ICMP]
        name = icmp.get_field("type").i2repr(icmp, icmp.type)
        return f"{name} {icmp.code}" if icmp.type in _QUOTING[4] else name
    names = []
    layer = packet.payload
    while not isinstance(layer, (NoPayload, Raw)) and " in ICMP" not in layer.name and layer.name not in ("IPv6", "IP"):
        if "Extension Header" not in layer.name and "Option Header" not in layer.name:
            names.append(layer.name)
        elif layer.fields.get("offset"):
            return _REST
        if "code" in layer.fields and "type" in layer.fields and layer.type in _QUOTING[6]:
            names[-1] += f" {layer.code}"
            break
        layer = layer.payload
    return "/".join(names) or f"protocol {packet.fields.get('proto', packet.fields.get('nh'))}"


def told(received: Received) -> str:
    """All that came, in few words: `a: time-exceeded 0`; `b: UDP in parts`; `silence`."""
    said = []
    for host, datagrams in sorted(received.items()):
        words: list[str] = []
        for each in map(summary, datagrams):
            if each != _REST or not words:
                words.append(each)
            elif not words[-1].endswith(_IN_PARTS):
                words[-1] += _IN_PARTS
        if words:
            said.append(f"{host}: {' + '.join(words)}")
    return "; ".join(said) or "silence"


_REST, _IN_PARTS = "the rest", " in parts"
