"""A packet in a line, as `tcpdump -i any` has it: what people know, and quick enough to follow a busy LAN."""

from __future__ import annotations

import socket
import time

from vnet.pcapng import CapturedPacket

__all__ = ["packet_line", "summary"]

_TCP, _UDP, _ICMP, _ICMP6 = 6, 17, 1, 58
_PROTOCOLS = {2: "IGMP", 4: "IPIP", 41: "IPv6", 47: "GRE", 50: "ESP", 51: "AH", 89: "OSPF", 103: "PIM", 132: "SCTP"}
# IPv6 extension headers whose second byte counts 8-byte units beyond the first (RFC 8200 section 4).
_EXTENSIONS = {0, 43, 60}
_FRAGMENT = 44
_FLAGS = ((0x02, "S"), (0x01, "F"), (0x04, "R"), (0x08, "P"), (0x20, "U"), (0x40, "E"), (0x80, "W"), (0x10, "."))
_ICMP_TYPES = {0: "echo reply", 3: "unreachable", 5: "redirect", 8: "echo request", 11: "time exceeded"}
_ICMP6_TYPES = {
    1: "unreachable", 2: "packet too big", 3: "time exceeded", 128: "echo request", 129: "echo reply",
    133: "router solicitation", 134: "router advertisement",
    135: "neighbor solicitation", 136: "neighbor advertisement",
}  # fmt: skip


def packet_line(packet: CapturedPacket, color: bool = False) -> str:
    """Time of day, NIC, direction, what it is, and why it was dropped if it was."""
    seconds, rest = divmod(packet.time, 10**9)
    clock = f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{rest // 1000:06}"
    way = {"in": "In ", "out": "Out"}.get(packet.direction, "?  ")
    line = f"{clock} {packet.interface:<5} {way} {summary(packet.data, packet.length)}"
    if packet.comment:
        line += f"  \x1b[31m{packet.comment}\x1b[m" if color else f"  {packet.comment}"
    if packet.missed:
        line = f"({packet.missed:,} missed)\n{line}"
    return line


def summary(data: bytes, length: int) -> str:
    """What a datagram is: protocol, addresses, ports, bytes of payload.  ``length``: bytes that it had."""
    try:
        version = data[0] >> 4 if data else 0
        if version == 4:
            return _ip4(data, length)
        if version == 6:
            return _ip6(data, length)
    except (IndexError, ValueError):
        return f"IP, cut short, {length} bytes" if length > len(data) else f"IP, broken, {length} bytes"
    return f"no IP, {length} bytes"


def _ip4(data: bytes, length: int) -> str:
    header = (data[0] & 15) * 4
    if header < 20 or len(data) < header:
        raise ValueError
    source, destination = socket.inet_ntoa(data[12:16]), socket.inet_ntoa(data[16:20])
    offset = int.from_bytes(data[6:8], "big") & 0x1FFF
    if offset:
        return f"IP {source} > {destination}: fragment at {offset * 8}, length {length - header}"
    return f"IP {_carried(data[header:], data[9], source, destination, length - header)}"


def _ip6(data: bytes, length: int) -> str:
    if len(data) < 40:
        raise ValueError
    source = socket.inet_ntop(socket.AF_INET6, data[8:24])
    destination = socket.inet_ntop(socket.AF_INET6, data[24:40])
    following, at = data[6], 40
    while following in _EXTENSIONS:
        following, at = data[at], at + 8 + data[at + 1] * 8
    if following == _FRAGMENT:
        offset = int.from_bytes(data[at + 2 : at + 4], "big") & 0xFFF8
        if offset:
            return f"IP6 {source} > {destination}: fragment at {offset}, length {length - at - 8}"
        following, at = data[at], at + 8
    return f"IP6 {_carried(data[at:], following, source, destination, length - at)}"


def _carried(data: bytes, protocol: int, source: str, destination: str, length: int) -> str:
    ends = f"{source} > {destination}"
    if protocol in (_TCP, _UDP):
        if len(data) < 8:
            return f"{ends}: {'TCP' if protocol == _TCP else 'UDP'}, cut short"
        ports = int.from_bytes(data[0:2], "big"), int.from_bytes(data[2:4], "big")
        ends = f"{source}.{ports[0]} > {destination}.{ports[1]}"
        if protocol == _UDP:
            return f"{ends}: UDP, length {length - 8}"
        return f"{ends}: {_tcp(data, length)}"
    if protocol in (_ICMP, _ICMP6) and len(data) >= 8:
        kind = (_ICMP_TYPES if protocol == _ICMP else _ICMP6_TYPES).get(data[0], f"type {data[0]} code {data[1]}")
        if kind.startswith("echo"):
            kind += f", id {int.from_bytes(data[4:6], 'big')}, seq {int.from_bytes(data[6:8], 'big')}"
        return f"{ends}: {'ICMP' if protocol == _ICMP else 'ICMP6'} {kind}, length {length}"
    return f"{ends}: {_PROTOCOLS.get(protocol, f'protocol {protocol}')}, length {length}"


def _tcp(data: bytes, length: int) -> str:
    if len(data) < 20:
        return "TCP, cut short"
    flags = "".join(letter for bit, letter in _FLAGS if data[13] & bit)
    sequence, acknowledged = int.from_bytes(data[4:8], "big"), int.from_bytes(data[8:12], "big")
    payload = length - (data[12] >> 4) * 4
    told = f"Flags [{flags or 'none'}], seq {sequence}"
    if data[13] & 0x10:
        told += f", ack {acknowledged}"
    return f"{told}, win {int.from_bytes(data[14:16], 'big')}, length {payload}"
