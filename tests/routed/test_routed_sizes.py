"""Datagrams that are too large for a link on the way: who says so and with which MTU, or how they are cut."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .pair import Pair
from .probes import Probe, Way, cases
from .schemes import Network, Scheme, line

# Each link is narrower than the one before.
MTUS = [3000, 1500, 1280]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with Pair(line(4, mtus=MTUS, ends=(4000, 4000))) as pair:
        yield pair


@pytest.fixture(scope="module")
def narrow() -> Iterator[Pair]:
    """IPv4 alone, which may have links of 68 bytes."""
    scheme = line(4, mtus=[576, 296, 68])
    four = {name: Network(each.prefixes[:1], each.mtu) for name, each in scheme.networks.items()}
    routers = {
        name: {at: [each for each in addresses if ":" not in each] for at, addresses in networks.items()}
        for name, networks in scheme.routers.items()
    }
    wires = [type(each)(each.one, each.other, each.prefixes[:1], each.mtu) for each in scheme.wires]
    with Pair(Scheme(four, routers, scheme.hosts, wires)) as pair:
        yield pair


def sized(way: Way, size: int, *, flags: str = "", sender: str = "", **more: Any) -> Any:
    """A UDP datagram of so many bytes in all."""
    from scapy.all import UDP

    if way.family == 4:
        more["flags"] = flags
    head = way.ip(**more)
    options = 4 * ((len(head) + 3) // 4) if way.family == 4 else 40
    data = bytes(each % 251 for each in range(size - options - 8))
    return head / UDP(sport=4000, dport=4001) / data


def part(way: Way, offset: int, size: int, *, more: bool, flags: str = "") -> Any:
    """A fragment of so many bytes of data."""
    from scapy.all import IPv6ExtHdrFragment

    data = bytes((offset + each) % 251 for each in range(size))
    if way.family == 4:
        return way.ip(frag=offset // 8, flags=flags + "+MF" * more if flags else "MF" * more, proto=17) / data
    return way.ip() / IPv6ExtHdrFragment(offset=offset // 8, m=int(more), id=0x77, nh=17) / data


def big_error(way: Way) -> Any:
    """An ICMP error that is too large itself."""
    from scapy.all import ICMP, UDP, ICMPv6DestUnreach, raw

    quoted = way.ip(dst=way.src, src=way.dst) / UDP() / bytes(1600)
    if way.family == 4:
        return way.ip(flags="DF") / ICMP(type=3, code=1) / raw(quoted)
    return way.ip() / ICMPv6DestUnreach(code=3) / raw(quoted)


def big_echo(way: Way, router: str, attached: str, size: int, flags: str = "") -> Any:
    more = {"flags": flags} if way.family == 4 else {}
    return way.ip(way.router(router, attached), **more) / way.echo(bytes(each % 251 for each in range(size)))


def options(*each: Any) -> list[object]:
    return list(each)


def record_route(slots: int) -> Any:
    from scapy.all import IPOption_RR

    return IPOption_RR(routers=["0.0.0.0"] * slots, pointer=4)


def alert() -> Any:
    from scapy.all import IPOption_Router_Alert

    return IPOption_Router_Alert()


def stamps(slots: int) -> Any:
    from scapy.all import IPOption

    return IPOption(bytes([68, 4 + 4 * slots, 5, 0]) + bytes(4 * slots))


TOO_BIG = {4: "a: dest-unreach 4", 6: "a: ICMPv6 Packet Too Big 0"}
ARRIVED = "b: UDP"


IN_PARTS = "b: UDP in parts"
REPLIED = {4: "a: echo-reply", 6: "a: ICMPv6 Echo Reply"}
REPLIED_IN_PARTS = "a: echo-reply in parts"


PROBES = [
    Probe("DF: what fits every link arrives", lambda w: sized(w, 1280, flags="DF"), ARRIVED),
    Probe("DF: one byte too much for the last link", lambda w: sized(w, 1281, flags="DF"), TOO_BIG),
    Probe("DF: exactly what the second link carries", lambda w: sized(w, 1500, flags="DF"), TOO_BIG),
    Probe("DF: one byte too much for the second link", lambda w: sized(w, 1501, flags="DF"), TOO_BIG),
    Probe("DF: exactly what the first link carries", lambda w: sized(w, 3000, flags="DF"), TOO_BIG),
    Probe("DF: one byte too much for the first link", lambda w: sized(w, 3001, flags="DF"), TOO_BIG),
    Probe("DF: as large as the host's network allows", lambda w: sized(w, 4000, flags="DF"), TOO_BIG),
    Probe(
        "from the other side the first link is the narrowest",
        lambda w: sized(w, 1281, flags="DF"),
        {4: "b: dest-unreach 4", 6: "b: ICMPv6 Packet Too Big 0"},
        sender="b",
    ),
    Probe("from the other side what fits arrives", lambda w: sized(w, 1280, flags="DF"), "a: UDP", sender="b"),
    Probe(
        "DF and TTL: the TTL ends first",
        lambda w: sized(w, 1400, flags="DF", ttl=3),
        {4: "a: time-exceeded 0", 6: "a: ICMPv6 Time Exceeded 0"},
    ),
    Probe("DF and TTL: the link is too narrow first", lambda w: sized(w, 2000, flags="DF", ttl=3), TOO_BIG),
    Probe("DF and TOS: the error has its precedence", lambda w: sized(w, 2000, flags="DF", tos=0x48), TOO_BIG),
    Probe("no error about an error that is too large", big_error, "silence"),
    Probe("a fragment with DF that is too large", lambda w: part(w, 0, 1480, more=True, flags="DF"), TOO_BIG, (4,)),
    Probe(
        "a later fragment with DF that is too large",
        lambda w: part(w, 1480, 1480, more=True, flags="DF"),
        "silence",
        (4,),
    ),
    Probe("a fragment that is too large", lambda w: part(w, 0, 1448, more=True), TOO_BIG, (6,)),
    Probe("a later fragment that is too large", lambda w: part(w, 1448, 1448, more=True), TOO_BIG, (6,)),
    Probe(
        "fragments that fit arrive",
        lambda w: [part(w, 0, 1232, more=True), part(w, 1232, 100, more=False)],
        IN_PARTS,
        (6,),
    ),
    *(
        Probe(f"cut: {size} bytes", lambda w, size=size: sized(w, size), IN_PARTS, (4,))
        for size in (1281, 1500, 1501, 2000, 2992, 3000, 3001, 3977, 4000)
    ),
    Probe("cut from the other side", lambda w: sized(w, 4000), "a: UDP in parts", (4,), "b"),
    Probe("cut with a TTL that just suffices", lambda w: sized(w, 2000, ttl=5), IN_PARTS, (4,)),
    Probe(
        "cut with a TTL that ends at the last router: told of the first alone",
        lambda w: sized(w, 2000, ttl=4),
        "a: time-exceeded 0",
        (4,),
    ),
    Probe("cut with a TOS, which all have", lambda w: sized(w, 2000, tos=0x2E), IN_PARTS, (4,)),
    Probe("cut with the reserved flag, which is lost", lambda w: sized(w, 2000, flags="evil"), IN_PARTS, (4,)),
    Probe(
        "cut with the reserved flag where nothing is too large", lambda w: sized(w, 1200, flags="evil"), ARRIVED, (4,)
    ),
    Probe(
        "cut with record route, which the first alone has",
        lambda w: sized(w, 2000, options=options(record_route(9))),
        IN_PARTS,
        (4,),
    ),
    Probe(
        "cut with a timestamp, which the first alone has",
        lambda w: sized(w, 2000, options=options(stamps(9))),
        IN_PARTS,
        (4,),
    ),
    Probe(
        "cut with a router alert, which all have", lambda w: sized(w, 2000, options=options(alert())), IN_PARTS, (4,)
    ),
    Probe(
        "cut with both kinds of options",
        lambda w: sized(w, 2000, options=options(alert(), record_route(3))),
        IN_PARTS,
        (4,),
    ),
    Probe("the first of two fragments is cut again", lambda w: part(w, 0, 1480, more=True), IN_PARTS, (4,)),
    Probe("a middle fragment is cut again", lambda w: part(w, 1480, 2800, more=True), "b: the rest in parts", (4,)),
    Probe(
        "the last fragment is cut again, and its end is still the last",
        lambda w: part(w, 1480, 2801, more=False),
        "b: the rest in parts",
        (4,),
    ),
    Probe("a fragment that fits is left alone", lambda w: part(w, 1480, 1000, more=True), "b: the rest", (4,)),
    Probe(
        "a fragment at the end of what IPv4 can",
        lambda w: part(w, 65_528 - 1480, 1480, more=False),
        "b: the rest in parts",
        (4,),
    ),
    Probe(
        "a datagram whose second fragment has its header",
        lambda w: [part(w, 0, 8, more=True), part(w, 8, 1400, more=False)],
        IN_PARTS,
        (4,),
    ),
    *(
        Probe(
            f"an echo of {size} bytes from {router} at {attached}",
            lambda w, r=router, at=attached, size=size: big_echo(w, r, at, size),
            REPLIED,
        )
        for router, attached, size in (
            ("r1", "left", 3900),
            ("r1", "left", 1473),
            ("r1", "r2", 3952),
            ("r2", "r1", 2900),
            ("r3", "r2", 1400),
            ("r4", "r3", 1200),
            ("r4", "right", 1200),
            ("r4", "lo", 1200),
        )
    ),
    *(
        Probe(
            f"an echo of {size} bytes from {router}, which gets it in fragments",
            lambda w, r=router, size=size: big_echo(w, r, "lo", size),
            REPLIED_IN_PARTS,
            (4,),
        )
        for router, size in (("r2", 3900), ("r3", 2900), ("r3", 3900), ("r4", 1300), ("r4", 3900))
    ),
    Probe(
        "an echo request with DF is answered by r1 without",
        lambda w: big_echo(w, "r1", "left", 2000, "DF"),
        REPLIED,
        (4,),
    ),
]

NARROW = [
    Probe("68 bytes pass", lambda w: sized(w, 68), ARRIVED, (4,)),
    Probe("69 bytes are cut", lambda w: sized(w, 69), IN_PARTS, (4,)),
    Probe("1,500 bytes are cut three times", lambda w: sized(w, 1500), IN_PARTS, (4,)),
    Probe(
        "a header with 40 bytes of options leaves 8 to each",
        lambda w: sized(w, 300, options=options(record_route(9))),
        IN_PARTS,
        (4,),
    ),
    Probe(
        "40 bytes of options that all fragments have",
        lambda w: sized(w, 300, options=options(*[alert()] * 10)),
        IN_PARTS,
        (4,),
    ),
    Probe("DF: the MTU of 576", lambda w: sized(w, 577, flags="DF"), TOO_BIG, (4,)),
    Probe("DF: the MTU of 296", lambda w: sized(w, 576, flags="DF"), TOO_BIG, (4,)),
    Probe("DF: the MTU of 68", lambda w: sized(w, 69, flags="DF"), TOO_BIG, (4,)),
    Probe(
        "the error has the host's narrow link before it", lambda w: sized(w, 1500, ttl=2), "a: time-exceeded 0", (4,)
    ),
    Probe("an error from beyond the narrow link", lambda w: sized(w, 60, ttl=1), "b: time-exceeded 0", (4,), "b"),
    Probe(
        "a long error across the narrow link",
        lambda w: w.ip(w.router("r1", "lo"), proto=99) / bytes(40),
        "b: dest-unreach 2 in parts",
        (4,),
        "b",
    ),
]


@pytest.mark.parametrize(("probe", "family"), cases(PROBES))
def test_what_is_too_large_is_told_or_cut_as_linux_does(pair: Pair, probe: Probe, family: int) -> None:
    pair.compare(probe, family)


@pytest.mark.parametrize(("probe", "family"), cases(NARROW))
def test_links_down_to_the_least_mtu_are_treated_as_linux_does(narrow: Pair, probe: Probe, family: int) -> None:
    narrow.compare(probe, family)
