"""Which way datagrams and errors take, and so whose address an error bears: there and back by other ways, by two."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .answers import told
from .pair import Pair
from .probes import PATIENCE, Probe, Way, cases
from .schemes import Fixed, Host, Network, Scheme, Wire

LEFT, RIGHT = ("10.1.0.0/20", "fd00:1::/64"), ("10.2.0.0/20", "fd00:2::/64")


def wire(one: str, other: str, number: int, **more: Any) -> Wire:
    return Wire(one, other, (f"10.255.0.{2 * number}/31", f"fd00:ff::{2 * number:x}/127"), **more)


def diamond(upper: int, lower: int, fixed: tuple[Fixed, ...] = (), *, multipath: bool = False) -> Scheme:
    """Two ways from left to right.

    ::

                      r2
                    /    \\           upper: what each of the two links up there costs
        a ── left ─ r1     r4 ─ right ── b
                    \\    /
                      r3              lower
    """
    return Scheme(
        networks={"left": Network(LEFT), "right": Network(RIGHT)},
        routers={
            "r1": {"left": ("10.1.0.1", "fd00:1::1"), "lo": ("10.254.0.1", "fd00:fe::1")},
            "r2": {"lo": ("10.254.0.2", "fd00:fe::2")},
            "r3": {},
            "r4": {"right": ("10.2.0.1", "fd00:2::1"), "lo": ("10.254.0.4", "fd00:fe::4")},
        },
        hosts={"a": Host("left", "r1"), "b": Host("right", "r4")},
        wires=[
            wire("r1", "r2", 0, weight=upper),
            wire("r2", "r4", 1, weight=upper),
            wire("r1", "r3", 2, weight=lower),
            wire("r3", "r4", 3, weight=lower),
        ],
        fixed=fixed,
        multipath=multipath,
    )


@pytest.fixture(scope="module")
def one_way() -> Iterator[Pair]:
    """There by the upper way, back by the lower, which the last router has been told."""
    with Pair(diamond(1, 5, (Fixed("r4", LEFT[0], "10.255.0.6"), Fixed("r4", LEFT[1], "fd00:ff::6")))) as pair:
        yield pair


@pytest.fixture(scope="module")
def corner() -> Iterator[Pair]:
    """The gateway sends back into the network to another router of it, and a third network has three routers.

    ::

        a ─┐                       c
           left ── r2 ── middle ───┤
           │             │   │     │
           r1            r3  r4    │
                         │
                         right ── b
    """
    scheme = Scheme(
        networks={
            "left": Network(LEFT),
            "middle": Network(("10.3.0.0/20", "fd00:3::/64"), 1400),
            "right": Network(RIGHT),
        },
        routers={
            "r1": {"left": ("10.1.0.1", "fd00:1::1")},
            "r2": {"left": ("10.1.0.2", "fd00:1::2"), "middle": ("10.3.0.2", "fd00:3::2")},
            "r3": {"middle": ("10.3.0.3", "fd00:3::3"), "right": ("10.2.0.1", "fd00:2::1")},
            "r4": {"middle": ("10.3.0.4", "fd00:3::4"), "lo": ("10.254.0.4", "fd00:fe::4")},
        },
        hosts={"a": Host("left", "r1"), "b": Host("right", "r3"), "c": Host("middle", "r4")},
    )
    with Pair(scheme) as pair:
        yield pair


@pytest.fixture(scope="module")
def equal() -> Iterator[Pair]:
    """Both ways are as long."""
    with Pair(diamond(3, 3, multipath=True)) as pair:
        yield pair


def udp(way: Way, dst: str = "", **more: Any) -> Any:
    from scapy.all import UDP

    return way.ip(dst or way.dst, **more) / UDP(sport=4000, dport=4001) / bytes(12)


def ask(way: Way, router: str, attached: str, **more: Any) -> Any:
    return way.ip(way.router(router, attached), **more) / way.echo()


def large(way: Way, dst: str = "") -> Any:
    from scapy.all import UDP

    more = {"flags": "DF"} if way.family == 4 else {}
    return way.ip(dst or way.dst, **more) / UDP(sport=4000, dport=4001) / bytes(1412)


def recorded(way: Way, dst: str) -> Any:
    from scapy.all import IPOption_RR

    return way.ip(dst, options=[IPOption_RR(routers=["0.0.0.0"] * 9, pointer=4)]) / way.echo()


ENDED = {4: "a: time-exceeded 0", 6: "a: ICMPv6 Time Exceeded 0"}
ENDED_B = {4: "b: time-exceeded 0", 6: "b: ICMPv6 Time Exceeded 0"}
REPLIED = {4: "a: echo-reply", 6: "a: ICMPv6 Echo Reply"}
HOST = {4: "a: dest-unreach 1", 6: "a: ICMPv6 Destination Unreachable 3"}
TOO_BIG = {4: "a: dest-unreach 4", 6: "a: ICMPv6 Packet Too Big 0"}

ONE_WAY = [
    *(Probe(f"there, TTL {ttl}", lambda w, ttl=ttl: udp(w, ttl=ttl), ENDED) for ttl in (1, 2, 3)),
    Probe("there", lambda w: udp(w, ttl=4), "b: UDP"),
    *(Probe(f"back, TTL {ttl}", lambda w, ttl=ttl: udp(w, ttl=ttl), ENDED_B, sender="b") for ttl in (1, 2, 3)),
    Probe("back", lambda w: udp(w, ttl=4), "a: UDP", sender="b"),
    *(
        Probe(f"echo of {router} at {attached}", lambda w, r=router, at=attached: ask(w, r, at), REPLIED)
        for router, attached in (("r2", "r4"), ("r3", "r4"), ("r4", "r2"), ("r4", "r3"), ("r4", "right"), ("r4", "lo"))
    ),
    Probe(
        "a host that is not there: by the way of errors",
        lambda w: udp(w, {4: "10.2.15.9", 6: "fd00:2::dead"}[w.family]),
        HOST,
        wait=PATIENCE,
    ),
    Probe("route there and back, recorded", lambda w: recorded(w, w.router("r4", "lo")), "a: echo-reply", (4,)),
]

CORNER = [
    *(
        Probe(f"through a gateway that sends back, TTL {ttl}", lambda w, ttl=ttl: udp(w, ttl=ttl), ENDED)
        for ttl in (1, 2, 3)
    ),
    Probe("through a gateway that sends back", lambda w: udp(w, ttl=4), "b: UDP"),
    Probe("back without that gateway", lambda w: udp(w, ttl=3), "a: UDP", sender="b"),
    Probe("to a host between", lambda w: udp(w, w.at("c"), ttl=3), "c: UDP"),
    Probe("to a host between, TTL 2", lambda w: udp(w, w.at("c"), ttl=2), ENDED),
    Probe("from a host between, whose gateway sends back", lambda w: udp(w, w.at("a")), "a: UDP", sender="c"),
    Probe("what the network between is too narrow for", large, TOO_BIG),
    Probe("echo of the gateway beside the way", lambda w: ask(w, "r4", "middle"), REPLIED),
    Probe("echo of a loopback beside the way", lambda w: ask(w, "r4", "lo"), REPLIED),
    Probe("echo of the other router of one's network", lambda w: ask(w, "r2", "middle"), REPLIED),
    Probe(
        "recorded across a gateway that sends back",
        lambda w: recorded(w, w.router("r3", "right")),
        "a: echo-reply",
        (4,),
    ),
]


@pytest.mark.parametrize(("probe", "family"), cases(ONE_WAY))
def test_errors_bear_the_address_by_which_they_leave(one_way: Pair, probe: Probe, family: int) -> None:
    one_way.compare(probe, family)


@pytest.mark.parametrize(("probe", "family"), cases(CORNER))
def test_networks_with_several_routers_are_crossed_as_with_linux(corner: Pair, probe: Probe, family: int) -> None:
    corner.compare(probe, family)


@pytest.mark.parametrize("family", [4, 6])
def test_of_equal_ways_each_flow_has_one_and_flows_have_both(equal: Pair, family: int) -> None:
    from scapy.all import raw

    taken: dict[str, set[str]] = {"kernel": set(), "vnet": set()}
    for _ in range(48):
        way = equal.way(family)
        asked = [bytes(raw(udp(way, ttl=2)))] * 3
        for name, side in (("kernel", equal.kernel), ("vnet", equal.vnet)):
            answers = side.exchange("a", asked, family=family)["a"]
            by = {_source(each) for each in answers}
            assert len(answers) == 3, name
            assert len(by) == 1, f"{name}: one flow, several ways"
            taken[name] |= by
            through = side.exchange("a", [bytes(raw(udp(way)))], family=family)
            assert told(through) == "b: UDP"
    for name, ways in taken.items():
        assert len(ways) == 2, f"{name}: only {ways}"


def _source(datagram: bytes) -> str:
    from scapy.all import IP, IPv6

    return str((IPv6 if datagram[0] >> 4 == 6 else IP)(datagram).src)
