"""What a rule written as a table means, said once more and without a thought of speed: the other side of properties.

Nothing here knows how filters are compiled.  Addresses are compared by `ipaddress`, headers walked one by one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any

Address = IPv4Address | IPv6Address


@dataclass(frozen=True)
class Seen:
    """What a datagram says, as far as it is there."""

    source: Address
    destination: Address
    protocol: int | None
    source_port: int | None
    destination_port: int | None


def see(datagram: bytes) -> Seen | None:
    version = datagram[0] >> 4 if datagram else 0
    if version == 4 and len(datagram) >= 20:
        first = int.from_bytes(datagram[6:8], "big") & 0x1FFF == 0
        transport = datagram[(datagram[0] & 15) * 4 :] if first else b""
        return Seen(IPv4Address(datagram[12:16]), IPv4Address(datagram[16:20]), datagram[9], *_ports(transport))
    if version == 6 and len(datagram) >= 40:
        ends = IPv6Address(datagram[8:24]), IPv6Address(datagram[24:40])
        protocol, transport = _upper(datagram[6], datagram[40:])
        return Seen(*ends, protocol, *_ports(transport))
    return None


def _upper(next_header: int, rest: bytes) -> tuple[int | None, bytes]:
    """The protocol behind the extension headers, and its header; nothing of it in fragments but the first."""
    while next_header in (0, 43, 44, 60):
        if next_header == 44:
            if len(rest) < 4:
                return None, b""
            if int.from_bytes(rest[2:4], "big") >> 3:
                return (None if rest[0] in (0, 43, 44, 51, 60) else rest[0]), b""
            length = 8
        elif len(rest) < 2:
            return None, b""
        else:
            length = (rest[1] + 1) * 8
        next_header, rest = rest[0], rest[length:]
    return next_header, rest


def _ports(transport: bytes) -> tuple[int | None, int | None]:
    def port(at: int) -> int | None:
        return int.from_bytes(transport[at : at + 2], "big") if len(transport) >= at + 2 else None

    return port(0), port(2)


def matches(table: dict[str, Any], datagram: bytes) -> bool:
    """Whether a datagram is all that a table, with lists for all that there may be several of, asks for."""
    seen = see(datagram)
    if seen is None:
        return False
    protocols = table.get("protocol")
    if protocols is None and ("ports" in table or "from_ports" in table):
        protocols = [6, 17, 132]
    return (
        ("from" not in table or _inside(seen.source, table["from"]))
        and ("to" not in table or _inside(seen.destination, table["to"]))
        and (protocols is None or seen.protocol in protocols)
        and ("ports" not in table or _among(seen.destination_port, table["ports"]))
        and ("from_ports" not in table or _among(seen.source_port, table["from_ports"]))
    )


def _inside(address: Address, prefixes: Sequence[str]) -> bool:
    networks = map(ipaddress.ip_network, prefixes)
    return any(address.version == network.version and address in network for network in networks)


def _among(port: int | None, ranges: Sequence[int | str]) -> bool:
    def holds(one: int | str) -> bool:
        first, _, last = str(one).partition("-")
        return port is not None and int(first) <= port <= int(last or first)

    return any(map(holds, ranges))


def judge(rules: Sequence[tuple[str, dict[str, Any] | None]], default: str, datagram: bytes) -> tuple[str, int | None]:
    """The action of the first rule that matches, and its number."""
    for number, (action, table) in enumerate(rules):
        if table is None or matches(table, datagram):
            return action, number
    return default, None
