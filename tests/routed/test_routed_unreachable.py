"""Destinations that cannot be reached: who says so, and in which words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .pair import Pair
from .probes import PATIENCE, Probe, Way, cases
from .schemes import Fixed, line

# What each router is told of networks that are not there, by family.
FIXED = [
    # Nobody knows more of them than the router before.
    Fixed("r1", "198.18.0.0/16", "10.255.0.1"),
    Fixed("r1", "2001:db8:18::/48", "fd00:ff::1"),
    Fixed("r1", "198.19.0.0/16", "10.255.0.1"),
    Fixed("r2", "198.19.0.0/16", "10.255.0.3"),
    Fixed("r1", "2001:db8:19::/48", "fd00:ff::1"),
    Fixed("r2", "2001:db8:19::/48", "fd00:ff::3"),
    # One sends it to the other, and that one back.
    Fixed("r1", "198.51.100.0/24", "10.255.0.1"),
    Fixed("r2", "198.51.100.0/24", "10.255.0.0"),
    Fixed("r1", "2001:db8:51::/48", "fd00:ff::1"),
    Fixed("r2", "2001:db8:51::/48", "fd00:ff::"),
    # Behind a host that is there, which gets it, and behind one that is not.
    Fixed("r1", "198.52.0.0/16", "10.255.0.1"),
    Fixed("r2", "198.52.0.0/16", "10.255.0.3"),
    Fixed("r3", "198.52.0.0/16", "10.2.1.255"),
    Fixed("r3", "198.53.0.0/16", "10.2.15.99"),
    Fixed("r1", "198.53.0.0/16", "10.255.0.1"),
    Fixed("r2", "198.53.0.0/16", "10.255.0.3"),
    Fixed("r1", "2001:db8:52::/48", "fd00:ff::1"),
    Fixed("r2", "2001:db8:52::/48", "fd00:ff::3"),
    Fixed("r3", "2001:db8:52::/48", "fd00:2::1ff"),
    Fixed("r1", "2001:db8:53::/48", "fd00:ff::1"),
    Fixed("r2", "2001:db8:53::/48", "fd00:ff::3"),
    Fixed("r3", "2001:db8:53::/48", "fd00:2::dead"),
    *(
        Fixed(router, prefix, kind)
        for number, kind in enumerate(("unreachable", "prohibit", "blackhole"))
        for router, prefix in (
            ("r1", f"192.0.2.{16 * number}/28"),
            ("r1", f"2001:db8:1:{number}::/64"),
            # A part of the network that can be reached but for it.
            ("r2", f"10.2.{8 + number}.0/24"),
            ("r2", f"fd00:2::{8 + number}:0/112"),
        )
    ),
]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with Pair(line(3, fixed=FIXED)) as pair:
        yield pair


def to(way: Way, four: str, six: str, kind: str = "udp", **more: Any) -> Any:
    from scapy.all import TCP, UDP

    head = way.ip({4: four, 6: six}[way.family], **more)
    if kind == "echo":
        return head / way.echo()
    return head / (TCP(dport=80) if kind == "tcp" else UDP(sport=4000, dport=4001) / b"nobody")


def later_fragment(way: Way) -> Any:
    from scapy.all import IPv6ExtHdrFragment

    if way.family == 4:
        return way.ip("203.0.113.7", frag=10, flags="MF", proto=17) / bytes(64)
    return way.ip("2001:db8::7") / IPv6ExtHdrFragment(offset=10, m=1, id=7, nh=17) / bytes(64)


def error_to_nowhere(way: Way) -> Any:
    from scapy.all import ICMP, UDP, ICMPv6DestUnreach, raw

    quoted = raw(way.ip() / UDP())
    if way.family == 4:
        return way.ip("203.0.113.8") / ICMP(type=3, code=3) / quoted
    return way.ip("2001:db8::8") / ICMPv6DestUnreach(code=4) / quoted


NET = {4: "a: dest-unreach 0", 6: "a: ICMPv6 Destination Unreachable 0"}
HOST = {4: "a: dest-unreach 1", 6: "a: ICMPv6 Destination Unreachable 3"}
BACK = {family: told.replace("a:", "b:") for family, told in HOST.items()}
# RFC 4443 would have code 0 for both, and so has Linux; IPv4 tells a route that says so from none.
NO_ROUTE = {4: HOST[4], 6: NET[6]}
PROHIBITED = {4: "a: dest-unreach 13", 6: "a: ICMPv6 Destination Unreachable 1"}
ENDED = {4: "a: time-exceeded 0", 6: "a: ICMPv6 Time Exceeded 0"}

PROBES = [
    *(
        Probe(
            f"{kind} to a network that the first router does not know",
            lambda w, k=kind: to(w, "203.0.113.7", "2001:db8::7", k),
            NET,
        )
        for kind in ("udp", "tcp", "echo")
    ),
    Probe("a network that the second router does not know", lambda w: to(w, "198.18.3.4", "2001:db8:18::4"), NET),
    Probe("a network that the last router does not know", lambda w: to(w, "198.19.3.4", "2001:db8:19::4"), NET),
    Probe("with a TOS", lambda w: to(w, "203.0.113.7", "2001:db8::7", tos=0x60), NET),
    Probe("with DF", lambda w: to(w, "203.0.113.7", "", flags="DF"), NET, (4,)),
    Probe("a later fragment to an unknown network", later_fragment, {4: "silence", 6: NET[6]}),
    Probe("an error to an unknown network", error_to_nowhere, "silence"),
    Probe(
        "an unknown network with the TTL that the router before needs",
        lambda w: to(w, "198.18.3.4", "2001:db8:18::4", ttl=2),
        NET,
    ),
    *(
        Probe(
            f"{kind} to a host that is not there",
            lambda w, k=kind: to(w, "10.2.15.200", "fd00:2::beef", k),
            HOST,
            wait=PATIENCE,
        )
        for kind in ("udp", "tcp", "echo")
    ),
    Probe(
        "a host that is not there, with the TTL that it takes",
        lambda w: to(w, "10.2.15.201", "fd00:2::beee", ttl=4),
        HOST,
        wait=PATIENCE,
    ),
    Probe("a host that is not there, with less TTL", lambda w: to(w, "10.2.15.202", "fd00:2::beed", ttl=3), ENDED),
    Probe(
        "a host that is not there, from the other side",
        lambda w: to(w, "10.1.15.200", "fd00:1::beef"),
        BACK,
        sender="b",
        wait=PATIENCE,
    ),
    Probe(
        "a network behind a host that is not there",
        lambda w: to(w, "198.53.1.2", "2001:db8:53::2"),
        HOST,
        wait=PATIENCE,
    ),
    Probe("a network behind a host", lambda w: to(w, "198.52.1.2", "2001:db8:52::2"), "b: UDP"),
    Probe("a loop of static routes", lambda w: to(w, "198.51.100.1", "2001:db8:51::1"), ENDED),
    Probe(
        "a loop of static routes, with an even TTL", lambda w: to(w, "198.51.100.1", "2001:db8:51::1", ttl=30), ENDED
    ),
    Probe("a loop of static routes, with an odd TTL", lambda w: to(w, "198.51.100.1", "2001:db8:51::1", ttl=31), ENDED),
    Probe(
        "a loop of static routes, with the largest TTL",
        lambda w: to(w, "198.51.100.1", "2001:db8:51::1", ttl=255),
        ENDED,
    ),
    *(
        Probe(
            f"{kind} at the first router",
            lambda w, n=number: to(w, f"192.0.2.{16 * n + 1}", f"2001:db8:1:{n}::1"),
            told,
        )
        for number, (kind, told) in enumerate(
            (("unreachable", NO_ROUTE), ("prohibit", PROHIBITED), ("blackhole", "silence"))
        )
    ),
    *(
        Probe(
            f"{kind} at the second router, for a part of a network",
            lambda w, n=number: to(w, f"10.2.{8 + n}.1", f"fd00:2::{8 + n}:1"),
            told,
        )
        for number, (kind, told) in enumerate(
            (("unreachable", NO_ROUTE), ("prohibit", PROHIBITED), ("blackhole", "silence"))
        )
    ),
    Probe("prohibit, with a TTL that ends there", lambda w: to(w, "10.2.9.1", "fd00:2::9:1", ttl=2), PROHIBITED),
]


@pytest.mark.parametrize(("probe", "family"), cases(PROBES))
def test_what_cannot_be_reached_is_told_as_linux_does(pair: Pair, probe: Probe, family: int) -> None:
    pair.compare(probe, family)
