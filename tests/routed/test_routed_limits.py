"""How many errors a router sends to one address: a burst of datagrams gets as many from vnet's as from Linux's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .answers import told
from .pair import Pair
from .probes import PATIENCE, Way
from .schemes import Fixed, line

BURST = 30


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    fixed = [Fixed("r1", prefix, "prohibit") for prefix in ("198.18.0.0/16", "2001:db8:18::/48")]
    with Pair(line(2, mtus=[1400], fixed=fixed)) as pair:
        yield pair


def udp(way: Way, dst: str | None = None, size: int = 20, **more: Any) -> Any:
    from scapy.all import UDP

    return way.ip(dst, **more) / UDP(sport=4000, dport=4001) / bytes(size)


def odd(way: Way) -> Any:
    """A datagram that every router finds a wrong option in."""
    from scapy.all import UDP, HBHOptUnknown, IPOption, IPv6ExtHdrHopByHop

    if way.family == 4:
        return way.ip(options=[IPOption(b"\x1e\0\0\0")]) / UDP() / b"x"
    return way.ip() / IPv6ExtHdrHopByHop(options=[HBHOptUnknown(otype=0x9E, optlen=2, optdata=b"ab")]) / UDP() / b"x"


def either(way: Way, four: str, six: str) -> str:
    return four if way.family == 4 else six


KINDS: dict[str, tuple[Callable[[Way], Any], dict[int, int]]] = {
    # What is sent, and how many of thirty Linux answers. A route that says no is paid for twice, by its own rule
    # (ip_error()) and by that of all errors, out of one bucket.
    "a TTL that ends at the first router": (lambda w: udp(w, ttl=1), {4: 6, 6: 6}),
    "a TTL that ends at the second router": (lambda w: udp(w, ttl=2), {4: 6, 6: 6}),
    "an unknown network": (lambda w: udp(w, either(w, "203.0.113.1", "2001:db8::1")), {4: 2, 6: 6}),
    "a route that prohibits": (lambda w: udp(w, either(w, "198.18.0.1", "2001:db8:18::1")), {4: 2, 6: 6}),
    "a host that is not there": (lambda w: udp(w, either(w, "10.2.15.200", "fd00:2::beef")), {4: 6, 6: 6}),
    "a closed port": (lambda w: udp(w, w.router("r1", "lo")), {4: 6, 6: 6}),
    "a closed port of the second router": (lambda w: udp(w, w.router("r2", "lo")), {4: 6, 6: 6}),
    "an unknown protocol": (
        lambda w: w.ip(w.router("r1", "lo"), **{either(w, "proto", "nh"): 99}) / b"x",
        {4: 6, 6: 6},
    ),
    "a wrong option": (odd, {4: 6, 6: 6}),
    "an echo, which is no error": (lambda w: w.ip(w.router("r1", "lo")) / w.echo(), {4: BURST, 6: BURST}),
    "what is too large, which senders must know": (
        lambda w: udp(w, size=1400, **({"flags": "DF"} if w.family == 4 else {})),
        {4: BURST, 6: BURST},
    ),
    "a TCP reset, which is no ICMP": (lambda w: closed_tcp(w), {4: BURST, 6: BURST}),
}


def closed_tcp(way: Way) -> Any:
    from scapy.all import TCP

    return way.ip(way.router("r1", "lo")) / TCP(dport=80)


def burst(pair: Pair, way: Way, make: Callable[[Way], Any], *, wait: float = 0.0) -> tuple[int, int]:
    """How many of so many in a row are answered: by the kernel's routers, by vnet's."""
    from scapy.all import raw

    datagrams = [bytes(raw(make(way)))] * BURST
    kernel, vnet = (side.exchange("a", datagrams, family=way.family, wait=wait) for side in (pair.kernel, pair.vnet))
    return len(kernel["a"]), len(vnet["a"])


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("kind", KINDS)
def test_a_burst_gets_as_many_answers_as_from_linux(pair: Pair, kind: str, family: int) -> None:
    make, expected = KINDS[kind]
    wait = PATIENCE if "not there" in kind else 0.0
    for _ in range(3):
        came = burst(pair, pair.way(family), make, wait=wait)
        # A burst that the machine interrupts for a while gets more: each address has time to be owed another answer.
        if came == (expected[family],) * 2:
            return
    assert came == (expected[family],) * 2, "the kernel's routers, vnet's"


@pytest.mark.parametrize("family", [4, 6])
def test_kinds_and_ports_of_one_router_have_one_measure_for_an_address(pair: Pair, family: int) -> None:
    from scapy.all import raw

    kinds = ["a TTL that ends at the first router", "a closed port", "a wrong option"]
    for _ in range(3):
        way = pair.way(family)
        datagrams = [bytes(raw(KINDS[kind][0](way))) for kind in kinds for _ in range(4)]
        kernel, vnet = (side.exchange("a", datagrams, family=family) for side in (pair.kernel, pair.vnet))
        counted = len(kernel["a"]), len(vnet["a"])
        if counted == (6, 6):
            break
    assert counted == (6, 6)
    assert told(vnet) == told(kernel)


@pytest.mark.parametrize("family", [4, 6])
def test_routers_and_addresses_have_each_their_own_measure(pair: Pair, family: int) -> None:
    way, other = pair.way(family), pair.way(family)
    spent = burst(pair, way, lambda w: udp(w, ttl=1))
    assert min(spent) >= 6
    again = burst(pair, way, lambda w: udp(w, ttl=2))
    assert again[0] == again[1] == 6, "another router's"
    again = burst(pair, other, lambda w: udp(w, ttl=1))
    assert again[0] == again[1] == 6, "another address"


def test_what_an_address_is_owed_grows_with_time(pair: Pair) -> None:
    ways = {family: pair.way(family) for family in (4, 6)}
    for way in ways.values():
        burst(pair, way, lambda w: udp(w, ttl=1))
    # IPv4: one in a second. IPv6: one in 100 ms, four times as many to an address that is in a network of 64 bits.
    time.sleep(1.2)
    came = {family: burst(pair, way, lambda w: udp(w, ttl=1)) for family, way in ways.items()}
    assert came == {4: (1, 1), 6: (6, 6)}
