"""What is for a router itself: echo at each of its addresses, and everything else that somebody may send it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .answers import checksum
from .pair import Pair
from .probes import Probe, Way, cases
from .schemes import line

ADDRESSES = [
    (router, attached)
    for router, several in {"r1": ("left", "r2", "lo"), "r2": ("r1", "r3", "lo"), "r3": ("r2", "right", "lo")}.items()
    for attached in several
]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with Pair(line(3)) as pair:
        yield pair


def ask(way: Way, router: str, attached: str, size: int = 8, **more: Any) -> Any:
    return way.ip(way.router(router, attached), **more) / way.echo(bytes(each % 251 for each in range(size)))


def near(way: Way, **more: Any) -> Any:
    """An IP header for the first router's address on its network."""
    return way.ip(way.router("r1", "left"), **more)


def far(way: Way, **more: Any) -> Any:
    """An IP header for the second router's loopback."""
    return way.ip(way.router("r2", "lo"), **more)


def proto(way: Way, number: int, head: Any = far) -> Any:
    return head(way, **({"proto": number} if way.family == 4 else {"nh": number})) / bytes(range(40))


def udp(way: Way, head: Any = far, size: int = 12, **more: Any) -> Any:
    from scapy.all import UDP

    return head(way) / UDP(**{"sport": 4000, "dport": 33434, **more}) / (b"z" * size)


def tcp(way: Way, flags: str, data: bytes = b"", head: Any = far, **more: Any) -> Any:
    from scapy.all import TCP

    return head(way) / TCP(sport=4000, dport=80, seq=0x01020304, ack=0x0A0B0C0D, flags=flags, **more) / data


def tcp_options(way: Way, octets: bytes) -> Any:
    """A SYN with these octets for options."""
    from scapy.all import TCP, Raw, raw

    octets += bytes(-len(octets) % 4)
    head = far(way, **{"proto" if way.family == 4 else "nh": 6})
    return raw(head / TCP(sport=4000, dport=80, flags="S", dataofs=5 + len(octets) // 4) / Raw(octets))


def icmp(way: Way, kind: int, code: int = 0, rest: bytes = bytes(16)) -> Any:
    from scapy.all import ICMPv6Unknown

    if way.family == 4:
        # scapy has other fields for each type; here are four bytes and what follows.
        message = bytes([kind, code, 0, 0]) + bytes(4) + rest
        return far(way, proto=1) / (message[:2] + checksum(message).to_bytes(2, "big") + message[4:])
    return far(way) / ICMPv6Unknown(type=kind, code=code, msgbody=bytes(4) + rest)


def cut(way: Way, size: int, whole: Any) -> Any:
    """Of what follows a datagram's header only so much; the header says so."""
    from scapy.all import raw

    payload = bytes(raw(whole.payload))[:size]
    head = type(whole)(bytes(raw(whole)))
    head.remove_payload()
    for name in ("len", "plen", "chksum"):
        if name in head.fields:
            del head.fields[name]
    return head / payload


REPLIED = {4: "a: echo-reply", 6: "a: ICMPv6 Echo Reply"}
CLOSED = {4: "a: dest-unreach 3", 6: "a: ICMPv6 Destination Unreachable 4"}
RESET, SILENCE = "a: TCP", "silence"
UNKNOWN = {4: "a: dest-unreach 2", 6: "a: ICMPv6 Parameter Problem 1"}

PROBES = [
    *(
        Probe(f"echo to {router} at {attached}", lambda w, r=router, at=attached: ask(w, r, at), REPLIED)
        for router, attached in ADDRESSES
    ),
    *(
        Probe(
            f"echo from the other side to {router} at {attached}",
            lambda w, r=router, at=attached: ask(w, r, at),
            {4: "b: echo-reply", 6: "b: ICMPv6 Echo Reply"},
            sender="b",
        )
        for router, attached in ADDRESSES
    ),
    *(
        Probe(f"echo with {size} bytes", lambda w, size=size: ask(w, "r2", "lo", size), REPLIED)
        for size in (0, 1, 2, 63, 64, 555, 1001, 1452)
    ),
    *(
        Probe(f"echo with TOS {tos:#x}", lambda w, tos=tos: ask(w, "r2", "lo", tos=tos), REPLIED)
        for tos in (1, 2, 3, 0x10, 0x1C, 0x1E, 0xB8, 0xFF)
    ),
    Probe("echo with DF", lambda w: ask(w, "r2", "lo", flags="DF"), REPLIED, (4,)),
    Probe("echo with the reserved flag", lambda w: ask(w, "r2", "lo", flags="evil"), REPLIED, (4,)),
    Probe("echo without identification", lambda w: ask(w, "r2", "lo", id=0), REPLIED, (4,)),
    Probe("echo with a flow label", lambda w: ask(w, "r2", "lo", fl=0x12345), REPLIED, (6,)),
    Probe("echo with the largest TTL", lambda w: ask(w, "r2", "lo", ttl=255), REPLIED),
    Probe("echo with a code", lambda w: icmp(w, {4: 8, 6: 128}[w.family], 3), REPLIED),
    Probe(
        "echo with a wrong ICMP checksum",
        lambda w: far(w) / w.echo(**{"chksum" if w.family == 4 else "cksum": 0x1234}),
        "silence",
    ),
    Probe(
        "echo with an ICMP checksum of 0",
        lambda w: far(w) / w.echo(**{"chksum" if w.family == 4 else "cksum": 0}),
        "silence",
    ),
    Probe(
        "echo to r1 with a wrong ICMP checksum",
        lambda w: near(w) / w.echo(**{"chksum" if w.family == 4 else "cksum": 0x1234}),
        "silence",
    ),
    *(
        Probe(f"echo that ends after {size} bytes", lambda w, size=size: cut(w, size, far(w) / w.echo()), "silence")
        for size in (0, 1, 4, 7)
    ),
    Probe("an echo reply that nobody asked for", lambda w: icmp(w, {4: 0, 6: 129}[w.family]), "silence"),
    *(
        Probe(f"ICMP type {kind}", lambda w, k=kind: icmp(w, k), "silence", (4,))
        for kind in (1, 2, 3, 4, 5, 9, 10, 11, 12, 15, 17, 30, 40, 43, 255)
    ),
    *(
        Probe(f"ICMPv6 type {kind}", lambda w, k=kind: icmp(w, k), "silence", (6,))
        for kind in (0, 1, 2, 3, 4, 5, 100, 127, 138, 139, 144, 200, 255)
    ),
    *(Probe(f"protocol {number}", lambda w, n=number: proto(w, n), UNKNOWN) for number in (3, 99, 143, 253, 254)),
    Probe("protocol 255", lambda w: proto(w, 255), UNKNOWN),
    Probe("protocol 99 to r1", lambda w: proto(w, 99, near), UNKNOWN),
    Probe("protocol 59, no next header", lambda w: proto(w, 59), "silence", (6,)),
    Probe("protocol 59 in IPv4", lambda w: proto(w, 59), UNKNOWN, (4,)),
    Probe("IGMP", lambda w: proto(w, 2), "silence", (4,)),
    Probe("UDP to a closed port", lambda w: udp(w), CLOSED),
    Probe("UDP to a closed port of r1", lambda w: udp(w, near), CLOSED),
    Probe("UDP without data", lambda w: udp(w, size=0), CLOSED),
    Probe("UDP of many bytes", lambda w: udp(w, size=1400), CLOSED),
    Probe("UDP from port 0", lambda w: udp(w, sport=0), CLOSED),
    Probe("UDP without a checksum", lambda w: udp(w, chksum=0), {4: CLOSED[4], 6: "silence"}),
    Probe("UDP with a wrong checksum", lambda w: udp(w, chksum=0x1234), "silence"),
    Probe("UDP that says it is longer", lambda w: udp(w, len=200), "silence"),
    Probe("UDP that says it is shorter", lambda w: udp(w, len=10), "silence"),
    Probe("UDP that says it has 7 bytes", lambda w: udp(w, len=7), "silence"),
    Probe("UDP that says it has none", lambda w: udp(w, len=0, size=0), {4: "silence", 6: CLOSED[6]}),
    Probe("UDP cut short", lambda w: cut(w, 5, udp(w)), "silence"),
    *(
        Probe(f"TCP {flags or 'without flags'}", lambda w, f=flags: tcp(w, f), told)
        for flags, told in (
            ("S", "a: TCP"),
            ("A", "a: TCP"),
            ("SA", "a: TCP"),
            ("F", "a: TCP"),
            ("FA", "a: TCP"),
            ("PA", "a: TCP"),
            ("", "a: TCP"),
            ("FSPAU", "a: TCP"),
            ("R", "silence"),
            ("RA", "silence"),
        )
    ),
    Probe("TCP S to r1", lambda w: tcp(w, "S", head=near), "a: TCP"),
    Probe("TCP S with data", lambda w: tcp(w, "S", b"hello"), "a: TCP"),
    Probe("TCP F with data", lambda w: tcp(w, "F", b"hello"), "a: TCP"),
    Probe("TCP without flags, with data", lambda w: tcp(w, "", b"hello"), "a: TCP"),
    Probe("TCP A with data", lambda w: tcp(w, "A", b"hello"), "a: TCP"),
    Probe(
        "TCP with options",
        lambda w: tcp(w, "S", options=[("MSS", 1400), ("Timestamp", (1, 0)), ("WScale", 7)]),
        "a: TCP",
    ),
    *(
        Probe(f"TCP with {name}", lambda w, o=octets: tcp_options(w, o), told)
        # Where a signature could stand, RFC 2385, Linux looks for one, and answers nobody whose options it cannot read.
        for name, octets, told in (
            ("an option of 1 byte", bytes([254, 1]) + bytes(20), SILENCE),
            ("an option of no bytes", bytes([254, 0]) + bytes(20), SILENCE),
            ("an option that ends behind the header", bytes([254, 30]) + bytes(18), SILENCE),
            ("an option that is wrong behind others", bytes([1, 1, 254, 4, 0, 0, 254, 40]) + bytes(20), SILENCE),
            (
                "an option that is wrong where no signature could stand",
                bytes([254, 10, *bytes(8), 254, 40]) + bytes(8),
                RESET,
            ),
            ("an option that is wrong behind their end", bytes([0, 254, 0, 0]) + bytes(20), RESET),
            ("an unknown option", bytes([254, 22]) + bytes(20), RESET),
            ("a signature", bytes([19, 18]) + bytes(18), SILENCE),
            ("a signature behind others", bytes([1, 1, 254, 4, 0, 0, 19, 18]) + bytes(16), SILENCE),
            ("a signature that is too short", bytes([19, 4]) + bytes(18), SILENCE),
            ("two signatures", (bytes([19, 18]) + bytes(16)) * 2, SILENCE),
        )
    ),
    Probe("TCP with a wrong checksum", lambda w: tcp(w, "S", chksum=0x1234), "silence"),
    Probe("TCP whose header says 16 bytes", lambda w: tcp(w, "S", dataofs=4), "silence"),
    Probe("TCP whose header says more than there is", lambda w: tcp(w, "S", dataofs=15), "silence"),
    Probe("TCP cut short", lambda w: cut(w, 12, tcp(w, "S")), "silence"),
    Probe("TCP with a TOS", lambda w: tcp(w, "S", head=lambda w: far(w, tos=0x48)), "a: TCP"),
    Probe("a first fragment alone", lambda w: far(w, flags="MF") / w.echo(bytes(64)), "silence", (4,)),
    Probe("a later fragment alone", lambda w: far(w, frag=8, proto=1) / bytes(64), "silence", (4,)),
]


@pytest.mark.parametrize(("probe", "family"), cases(PROBES))
def test_a_router_answers_for_itself_as_linux_does(pair: Pair, probe: Probe, family: int) -> None:
    pair.compare(probe, family)
