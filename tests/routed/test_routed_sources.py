"""Addresses that nobody may have, groups, broadcasts: from whom and to whom a router carries nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .pair import Pair
from .probes import PATIENCE, Probe, Way, cases
from .schemes import line


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with Pair(line(3)) as pair:
        yield pair


def spoofed(way: Way, four: str = "", six: str = "", **more: Any) -> Any:
    """UDP that does not bear the sender's own address."""
    from scapy.all import UDP

    return way.ip(src={4: four, 6: six}[way.family], **more) / UDP(sport=4000, dport=4001) / b"spoofed"


def asks(way: Way, four: str = "", six: str = "", router: tuple[str, str] = ("r2", "lo")) -> Any:
    """An echo request for a router that does not bear the sender's own address."""
    return way.ip(way.router(*router), src={4: four, 6: six}[way.family]) / way.echo()


def to(way: Way, four: str, six: str = "", kind: str = "udp", **more: Any) -> Any:
    from scapy.all import TCP, UDP

    head = way.ip({4: four, 6: six}[way.family], **more)
    if kind == "echo":
        return head / way.echo()
    return head / (TCP(dport=80) if kind == "tcp" else UDP(sport=4000, dport=4001) / b"whom?")


PROBLEM = "a: ICMPv6 Parameter Problem 2"
SILENCE, REPLIED, CLOSED = "silence", "a: ICMPv6 Echo Reply", "a: ICMPv6 Destination Unreachable 4"
WRONG4 = {
    "this host on this network": "0.0.0.0",
    "the network of 0": "0.1.2.3",
    "loopback": "127.0.0.1",
    "all": "255.255.255.255",
    "a group": "224.0.0.5",
    "class E": "240.0.0.1",
    "the network's broadcast address": "10.1.15.255",
    "the network itself": "10.1.0.0",
    "the first router": "10.1.0.1",
    "the first router's far address": "10.255.0.0",
    "the second router": "10.255.0.1",
    "link-local": "169.254.1.1",
    "nobody that is known": "203.0.113.77",
    "the far network's broadcast address": "10.2.15.255",
}
WRONG6 = {
    "unspecified": "::",
    "loopback": "::1",
    "all nodes": "ff02::1",
    "a global group": "ff0e::77",
    "link-local": "fe80::77",
    "site-local": "fec0::77",
    "an IPv4 address in IPv6": "::ffff:10.1.1.1",
    "the network's routers": "fd00:1::",
    "the first router": "fd00:1::1",
    "the first router's far address": "fd00:ff::",
    "the second router": "fd00:ff::1",
    "nobody that is known": "2001:db8:77::1",
    "unique local": "fdff::1",
}


# Which of them a router carries on, for it looks at sources only as far as it must.
CARRIED = {
    *("the network of 0", "class E", "the network's broadcast address", "the network itself", "link-local"),
    *("nobody that is known", "the far network's broadcast address"),
}
CARRIED6 = {
    *("site-local", "an IPv4 address in IPv6", "the network's routers", "nobody that is known", "unique local"),
    *("the first router", "the first router's far address", "the second router"),
}
# Linux answers the broadcast address of its own network, by broadcast. vnet keeps to RFC 1122, section 3.2.2: nothing
# is said to a source that is not a single host.
ANSWERED = {"the network's broadcast address": {"at once": "a: time-exceeded 0", "first": "a: echo-reply"}}


def each(wrong: dict[str, str], carried: set[str], family: int) -> Iterator[Probe]:
    for name, address in wrong.items():
        both, told = (address, address), ANSWERED.get(name, {})

        def probe(what: str, make: Any, told: str, name: str = name, **more: Any) -> Probe:
            return Probe(f"from {name}{what}", make, told, (family,), **more)

        less = {"differs": SILENCE} if told else {}
        yield probe("", lambda w, a=both: spoofed(w, *a), "b: UDP" if name in carried else SILENCE)
        ends = told.get("at once", SILENCE)
        yield probe(", and the TTL ends at once", lambda w, a=both: spoofed(w, *a, ttl=1), ends, **less)
        yield probe(", and the TTL ends later", lambda w, a=both: spoofed(w, *a, ttl=2), SILENCE)
        yield probe(", to a router", lambda w, a=both: asks(w, *a), SILENCE)
        near, first = {"router": ("r1", "left")}, told.get("first", SILENCE)
        yield probe(", to the first router", lambda w, a=both, r=near: asks(w, *a, **r), first, **less)


SOURCES = [*each(WRONG4, CARRIED, 4), *each(WRONG6, CARRIED6, 6)]

DESTINATIONS = [
    *(
        Probe(f"{kind} to {name}", lambda w, k=kind, a=address: to(w, a, a, k), told, (4,))
        for kind in ("udp", "echo", "tcp")
        for name, address, told in (
            ("0.0.0.0", "0.0.0.0", SILENCE),
            ("the network of 0", "0.1.2.3", "a: dest-unreach 0"),
            ("127.0.0.1", "127.0.0.1", SILENCE),
            ("class E", "240.0.0.1", "a: dest-unreach 0"),
            ("all", "255.255.255.255", SILENCE),
            ("the network's broadcast address", "10.1.15.255", SILENCE),
            ("the far network's broadcast address", "10.2.15.255", SILENCE),
            ("all systems", "224.0.0.1", SILENCE),
            ("all routers", "224.0.0.2", SILENCE),
            ("a group that may be routed", "239.1.2.3", SILENCE),
            ("link-local", "169.254.1.1", "a: dest-unreach 0"),
        )
    ),
    # The lowest address of a network has been a host's as any other since Linux 5.14.
    Probe("to the far network itself", lambda w: to(w, "10.2.0.0"), "a: dest-unreach 1", (4,), wait=PATIENCE),
    Probe(
        "to the far network's broadcast address, and the TTL ends",
        lambda w: to(w, "10.2.15.255", ttl=2),
        "a: time-exceeded 0",
        (4,),
    ),
    Probe("to a group, and the TTL ends", lambda w: to(w, "239.1.2.3", ttl=1), SILENCE, (4,)),
    *(
        Probe(f"{kind} to {name}", lambda w, k=kind, a=address: to(w, a, a, k), told, (6,))
        for kind, ask, port in (("udp", SILENCE, CLOSED), ("echo", REPLIED, REPLIED), ("tcp", SILENCE, SILENCE))
        for name, address, told in (
            ("::", "::", "a: ICMPv6 Destination Unreachable 0"),
            ("::1", "::1", SILENCE),
            ("an IPv4 address in IPv6", "::ffff:10.2.1.1", "a: ICMPv6 Destination Unreachable 0"),
            ("all nodes", "ff02::1", ask),
            ("all routers", "ff02::2", ask),
            ("all routers of the site", "ff05::2", ask),
            ("a global group", "ff0e::77", SILENCE),
            ("a group of one host", "ff01::1", SILENCE),
            # RFC 4291, section 2.6.1: the lowest address of a network is that of any of its routers.
            ("the far network's routers", "fd00:2::", port),
        )
    ),
    # On the sender's own network nobody is asked for it in vnet.
    Probe("to one's own network's routers", lambda w: to(w, "", "fd00:1::", "echo"), REPLIED, (6,), differs=SILENCE),
    Probe("to a group, and the hop limit ends", lambda w: to(w, "", "ff0e::77", ttl=1), SILENCE, (6,)),
    Probe("an echo to a group, with bytes behind its end", lambda w: behind(w, 8), REPLIED, (6,)),
    Probe("an echo to a group whose end is cut off", lambda w: behind(w, -8), SILENCE, (6,)),
    Probe("an unknown hop-by-hop option to a group, told", lambda w: hop_by_hop(w, 0x9E), PROBLEM, (6,)),
    Probe("an unknown hop-by-hop option to a group, not told", lambda w: hop_by_hop(w, 0xDE), SILENCE, (6,)),
    Probe("an unknown option to a group, told", lambda w: odd_group(w, 0x9E), PROBLEM, (6,)),
    Probe("an unknown option to a group, not told", lambda w: odd_group(w, 0xDE), SILENCE, (6,)),
]


def behind(way: Way, size: int) -> bytes:
    """An echo request to a group that has so many bytes more than it says, or says so many fewer than it has."""
    from scapy.all import raw

    echo = bytes(raw(way.ip("ff02::1") / way.echo(bytes(24))))
    said = len(echo) - 40 + min(size, 0)
    return echo[:4] + said.to_bytes(2, "big") + echo[6:] + b"\x55" * size


def hop_by_hop(way: Way, kind: int) -> Any:
    from scapy.all import HBHOptUnknown, IPv6ExtHdrHopByHop

    unknown = HBHOptUnknown(otype=kind, optlen=2, optdata=b"ab")
    return way.ip("ff02::1") / IPv6ExtHdrHopByHop(options=[unknown]) / way.echo()


def odd_group(way: Way, kind: int) -> Any:
    from scapy.all import HBHOptUnknown, IPv6ExtHdrDestOpt

    return (
        way.ip("ff02::1") / IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=kind, optlen=2, optdata=b"ab")]) / way.echo()
    )


@pytest.mark.parametrize(("probe", "family"), cases(SOURCES))
def test_a_source_that_nobody_may_have_is_treated_as_by_linux(pair: Pair, probe: Probe, family: int) -> None:
    pair.compare(probe, family)


@pytest.mark.parametrize(("probe", "family"), cases(DESTINATIONS))
def test_a_destination_that_is_nobodys_alone_is_treated_as_by_linux(pair: Pair, probe: Probe, family: int) -> None:
    pair.compare(probe, family)
