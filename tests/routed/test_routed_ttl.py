"""Datagrams whose TTL or hop limit runs out on the way: who says so, of what, and of what not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .pair import Pair
from .probes import Probe, Way, cases
from .schemes import line

HOPS = 4


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with Pair(line(HOPS)) as pair:
        yield pair


def udp(way: Way, ttl: int, size: int = 20) -> Any:
    from scapy.all import UDP

    return way.ip(ttl=ttl) / UDP(sport=4000, dport=33434) / (b"u" * size)


def tcp(way: Way, ttl: int) -> Any:
    from scapy.all import TCP

    return way.ip(ttl=ttl) / TCP(sport=4000, dport=80, seq=77, options=[("MSS", 1460), ("SAckOK", b"")])


def echo(way: Way, ttl: int) -> Any:
    return way.ip(ttl=ttl) / way.echo()


def unknown(way: Way, ttl: int) -> Any:
    more = {"proto": 253} if way.family == 4 else {"nh": 253}
    return way.ip(ttl=ttl, **more) / b"of no known protocol"


ENDED = {4: "a: time-exceeded 0", 6: "a: ICMPv6 Time Exceeded 0"}
UNREACHABLE = {4: "a: dest-unreach 0", 6: "a: ICMPv6 Destination Unreachable 0"}
REPLIED = {4: "a: echo-reply", 6: "a: ICMPv6 Echo Reply"}
ARRIVED = {
    "UDP": "b: UDP",
    "TCP": "b: TCP",
    "echo": {4: "b: echo-request", 6: "b: ICMPv6 Echo Request"},
    "unknown": "b: protocol 253",
}


def each_hop(name: str, make: Any) -> Iterator[Probe]:
    for ttl in range(HOPS + 2):
        where = f"ends at router {max(ttl, 1)}" if ttl <= HOPS else "suffices"
        told = ENDED if ttl <= HOPS else ARRIVED[name]
        yield Probe(f"{name} with TTL {ttl} {where}", lambda way, ttl=ttl: make(way, ttl), told)


def icmp(way: Way, kind: int, code: int = 0, ttl: int = 2, data: bytes = bytes(40)) -> Any:
    from scapy.all import ICMP, ICMPv6Unknown

    if way.family == 4:
        return way.ip(ttl=ttl) / ICMP(type=kind, code=code) / data
    return way.ip(ttl=ttl) / ICMPv6Unknown(type=kind, code=code, msgbody=data)


def error_about(way: Way, kind: dict[int, int]) -> Any:
    from scapy.all import UDP, raw

    quoted = raw(way.ip(dst=way.src, src=way.dst) / UDP(sport=1, dport=2) / b"quoted")
    return icmp(way, kind[way.family], data=bytes(4) + quoted)


def fragment(way: Way, offset: int, more: bool, ttl: int = 2) -> Any:
    from scapy.all import UDP, IPv6ExtHdrFragment

    if way.family == 4:
        head = way.ip(ttl=ttl, frag=offset, flags="MF" if more else 0, proto=17)
    else:
        head = way.ip(ttl=ttl) / IPv6ExtHdrFragment(offset=offset, m=int(more), id=77, nh=17)
    return head / (UDP(sport=1, dport=2, len=80) / bytes(40) if not offset else bytes(48))


def headless(way: Way) -> Any:
    return way.ip(ttl=2, **({"proto": 1} if way.family == 4 else {"nh": 58}))


def ask(way: Way, router: str, attached: str, ttl: int) -> Any:
    return way.ip(way.router(router, attached), ttl=ttl) / way.echo()


def nowhere(way: Way, ttl: int) -> Any:
    return way.ip({4: "203.0.113.9", 6: "2001:db8::9"}[way.family], ttl=ttl) / b"x"


PROBES = [
    *each_hop("UDP", udp),
    *each_hop("TCP", tcp),
    *each_hop("echo", echo),
    *each_hop("unknown", unknown),
    Probe("a large datagram is quoted up to 576 or 1,280 bytes", lambda w: udp(w, 2, 1400), ENDED),
    Probe("a datagram of an odd length is quoted whole", lambda w: udp(w, 3, 33), ENDED),
    Probe("a datagram without payload is quoted", lambda w: w.ip(ttl=2), ENDED),
    Probe("the error has the precedence of the datagram", lambda w: w.ip(ttl=2, tos=0xB8) / b"x", ENDED),
    Probe("the error has no congestion mark of the datagram", lambda w: w.ip(ttl=2, tos=0x03) / b"x", ENDED),
    Probe("the error to a class that IPv4 calls TOS 0x1e", lambda w: w.ip(ttl=2, tos=0x1E) / b"x", ENDED),
    Probe("an echo reply that ends is told", lambda w: icmp(w, {4: 0, 6: 129}[w.family]), ENDED),
    Probe("a timestamp request that ends is told", lambda w: icmp(w, 13), ENDED, (4,)),
    Probe("an address mask request that ends is told", lambda w: icmp(w, 17), ENDED, (4,)),
    *(
        Probe(f"no error about an error: {name}", lambda w, k=kinds: error_about(w, k), "silence")
        for name, kinds in {
            "unreachable": {4: 3, 6: 1},
            "time exceeded": {4: 11, 6: 3},
            "parameter problem": {4: 12, 6: 4},
        }.items()
    ),
    Probe("no error about packet too big", lambda w: error_about(w, {6: 2}), "silence", (6,)),
    Probe("no error about a source quench", lambda w: error_about(w, {4: 4}), "silence", (4,)),
    # To Linux a redirect is none of ICMPv6's errors: its type has the bit of information.
    Probe("a redirect that ends", lambda w: error_about(w, {4: 5, 6: 137}), {4: "silence", 6: ENDED[6]}),
    *(
        Probe(f"no error about ICMP type {kind}, which may be one", lambda w, k=kind: icmp(w, k), "silence", (4,))
        for kind in (1, 9, 10, 42, 255)
    ),
    *(
        Probe(f"no error about ICMPv6 type {kind}, which may be one", lambda w, k=kind: icmp(w, k), "silence", (6,))
        for kind in (5, 100, 127)
    ),
    Probe("ICMPv6 type 200, which bears information, that ends is told", lambda w: icmp(w, 200), ENDED, (6,)),
    Probe("no error about ICMP that is cut short", headless, "silence"),
    Probe("the first fragment that ends is told", lambda w: fragment(w, 0, True), ENDED),
    # RFC 1812, section 4.3.2.7, has it so; RFC 4443 knows no such rule.
    Probe("another fragment that ends", lambda w: fragment(w, 10, True), {4: "silence", 6: ENDED[6]}),
    Probe("the last fragment that ends", lambda w: fragment(w, 100, False), {4: "silence", 6: ENDED[6]}),
    Probe("TTL 1 reaches the first router's address", lambda w: ask(w, "r1", "left", 1), REPLIED),
    Probe("TTL 1 reaches the first router's far address", lambda w: ask(w, "r1", "r2", 1), REPLIED),
    Probe("TTL 0 reaches the first router's address", lambda w: ask(w, "r1", "left", 0), REPLIED),
    Probe("TTL 1 ends before the second router", lambda w: ask(w, "r2", "r1", 1), ENDED),
    Probe("TTL 2 reaches the second router", lambda w: ask(w, "r2", "r1", 2), REPLIED),
    Probe("TTL 2 reaches the second router's far address", lambda w: ask(w, "r2", "r3", 2), REPLIED),
    Probe("TTL 3 reaches the third router's loopback", lambda w: ask(w, "r3", "lo", 3), REPLIED),
    Probe("a router that has no route says so, whatever the TTL", lambda w: nowhere(w, 1), UNREACHABLE),
]


@pytest.mark.parametrize(("probe", "family"), cases(PROBES))
def test_a_datagram_that_ends_on_the_way_is_answered_as_linux_does(pair: Pair, probe: Probe, family: int) -> None:
    pair.compare(probe, family)
