"""What `lan.explain()` says of ways across routers; that it then happens so is shown by `base/tests/foresee.rs`."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from scapy.all import ICMP, IP, TCP, UDP, IPv6, raw

import vnet
from vnet import Verdict
from vnet.explain import Explanation


@pytest.fixture
def line() -> Iterator[vnet.Lan]:
    """Alice's desk, three routers in a line of which the one in the middle has links alone, and bob's lab."""
    with vnet.Lan(None) as lan:
        lan.add_network("desk", ["10.1.0.0/24", "fd00:1::/64"])
        lan.add_network("lab", ["10.2.0.0/24", "fd00:2::/64"])
        first, _middle, last = lan.router("r1", ["desk"]), lan.router("r2"), lan.router("r3", ["lab"])
        lan.link("r1", "r2", addresses=("172.31.0.0", "172.31.0.1"))
        lan.link("r2", "r3", addresses=("172.31.0.2", "172.31.0.3"), mtu=1400)
        lan.host("alice", ["10.1.0.2", "fd00:1::2"], network="desk")
        lan.host("bob", ["10.2.0.2", "fd00:2::2"], network="lab")
        lan.reserve("kept", ["10.2.0.3"], network="lab")
        for router, via in ((first, "172.31.0.1"), (lan.routers["r2"], "172.31.0.3")):
            for prefix in ("10.66.0.0/16", "10.67.0.0/16", "10.68.0.0/16"):
                router.add_route(prefix, via=via)
        for prefix, word in (
            ("10.66.0.0/16", "unreachable"),
            ("10.67.0.0/16", "prohibit"),
            ("10.68.0.0/16", "blackhole"),
        ):
            last.add_route(prefix, word)
        yield lan


def told(lan: vnet.Lan, packet: object) -> Explanation:
    explained = lan.explain("alice", raw(packet))
    assert Explanation.from_dict(json.loads(json.dumps(explained.as_dict()))).as_dict() == explained.as_dict()
    return explained


def to(destination: str, **fields: object) -> IP:
    return IP(src="10.1.0.2", dst=destination, **fields)


def test_each_router_is_told_with_the_addresses_that_it_goes_in_and_out_by_and_its_ttl(line: vnet.Lan) -> None:
    explained = told(line, to("10.2.0.2") / UDP(dport=9))
    assert explained.journey is not None
    assert [(stop.router, stop.into, stop.into_on, stop.out, stop.out_on, stop.ttl, stop.mtu, stop.cut)
            for stop in explained.journey.routers] == [
        ("r1", "10.1.0.1", "desk", "172.31.0.0", "link r1-r2", 64, 65535, False),
        ("r2", "172.31.0.1", "link r1-r2", "172.31.0.2", "link r2-r3", 63, 1400, False),
        ("r3", "172.31.0.3", "link r2-r3", "10.2.0.1", "lab", 62, 65535, False),
    ]  # fmt: skip
    assert (explained.receivers, explained.answer) == (("bob",), None)
    assert "  r2       in by 172.31.0.1 on link r1-r2 with TTL 63, route out by 172.31.0.2" in str(explained)
    assert "  end      bob on lab has 10.2.0.2\n" in str(explained)


@pytest.mark.parametrize(
    ("packet", "verdict", "end", "answer"),
    [
        (to("10.2.0.2", ttl=2) / ICMP(), Verdict.TTL_EXCEEDED, "TTL runs out at r2",
         ("r2", "172.31.0.1", "ICMP time exceeded")),
        (to("10.2.0.2", flags="DF") / UDP() / (b"x" * 1400), Verdict.TOO_BIG,
         "too big at r2 for link r2-r3, whose MTU is 1,400, and it may not be cut",
         ("r2", "172.31.0.1", "ICMP fragmentation needed, MTU 1,400")),
        (to("10.2.0.99") / UDP(), Verdict.NO_HOST, "nobody on lab has 10.2.0.99",
         ("r3", "172.31.0.3", "ICMP host unreachable")),
        (to("10.2.0.3") / UDP(), Verdict.NIC_DOWN, "the NIC on lab that has 10.2.0.3 is down",
         ("r3", "172.31.0.3", "ICMP host unreachable")),
        (to("192.0.2.1") / UDP(), Verdict.NO_ROUTE, "r1 has no route to 192.0.2.1",
         ("r1", "10.1.0.1", "ICMP network unreachable")),
        (to("10.66.0.1") / UDP(), Verdict.NO_ROUTE, "the route of r3 to 10.66.0.1 says unreachable",
         ("r3", "172.31.0.3", "ICMP host unreachable")),
        (to("10.67.0.1") / UDP(), Verdict.FILTERED, "the route of r3 to 10.67.0.1 says that it is prohibited",
         ("r3", "172.31.0.3", "ICMP communication prohibited")),
        (to("10.68.0.1") / UDP(), Verdict.NO_ROUTE,
         "r3 drops it without a word: its route to 10.68.0.1 says so, or that is a broadcast", None),
        (to("172.31.0.3") / ICMP(), Verdict.DELIVERED, "r3 has 172.31.0.3 itself",
         ("r3", "172.31.0.3", "ICMP echo reply")),
        (to("172.31.0.3") / TCP(), Verdict.DELIVERED, "r3 has 172.31.0.3 itself", ("r3", "172.31.0.3", "TCP reset")),
        (to("10.2.0.2", chksum=1) / UDP(), Verdict.MALFORMED, "r1 drops it: the header's checksum is wrong", None),
        (IP(src="172.31.0.1", dst="10.2.0.2") / UDP(), Verdict.MALFORMED,
         "r2 drops it: its source, 172.31.0.1, is the router's own", None),
        # Its link has no IPv6 address to speak from.
        (IPv6(src="fd00:1::2", dst="fd00:2::99") / UDP(), Verdict.NO_HOST, "nobody on lab has fd00:2::99",
         ("r3", "fd00:2::1", "ICMPv6 address unreachable")),
        (IPv6(src="fd00:1::2", dst="fd00:2::2", hlim=1) / UDP(), Verdict.TTL_EXCEEDED, "hop limit runs out at r1",
         ("r1", "fd00:1::1", "ICMPv6 time exceeded")),
    ],
)  # fmt: skip
def test_where_and_why_a_way_ends_and_who_says_so(
    line: vnet.Lan, packet: object, verdict: Verdict, end: str, answer: tuple[str, str, str] | None
) -> None:
    explained = told(line, packet)
    assert explained.verdict is verdict
    assert explained.journey is not None
    assert explained.journey.end == explained.reason == end
    said = explained.answer
    assert (None if said is None else (said.router, said.source, said.says)) == answer


def test_what_is_cut_is_told_at_the_router_that_cuts_and_has_one_receiver(line: vnet.Lan) -> None:
    explained = told(line, to("10.2.0.2") / UDP() / (b"x" * 3000))
    assert explained.journey is not None
    assert [stop.router for stop in explained.journey.routers if stop.cut] == ["r2"]
    assert explained.receivers == ("bob",)
    assert "4 write    3 fragments into the input buffer of bob" in str(explained)


@pytest.mark.parametrize(
    ("where", "direction", "end"),
    [
        ("r3", "out", "a filter of r3 holds it back"),
        ("lab", "in", "a filter on lab holds it back"),
        ("bob", "in", "a filter on lab holds it back"),
    ],
)
def test_filters_on_the_way_are_told_with_the_rule(line: vnet.Lan, where: str, direction: str, end: str) -> None:
    line.set_filter(where, ["reject udp port 53"], direction=direction)
    explained = told(line, to("10.2.0.2") / UDP(dport=53))
    assert explained.verdict is Verdict.FILTERED
    assert explained.reason.endswith("rule 1, reject udp port 53")
    assert explained.journey is not None
    assert explained.journey.end == end
    assert explained.answer is not None
    assert explained.answer.says == "ICMP communication prohibited"
    assert told(line, to("10.2.0.2") / UDP(sport=54, dport=54)).verdict is Verdict.DELIVERED


def test_the_filter_of_a_routers_nic_is_for_that_alone_and_not_for_its_links(line: vnet.Lan) -> None:
    line.set_filter("r3", ["deny any"])
    packet = raw(to("10.2.0.2") / UDP(dport=53))
    assert line.explain("alice", packet).verdict is Verdict.DELIVERED
    with line.attach("eve", "10.1.0.9", network="desk") as eve:
        assert eve.send(raw(IP(src="10.1.0.9", dst="10.2.0.2") / UDP(dport=53))) is Verdict.DELIVERED
    with line.attach("mallory", "10.2.0.9", network="lab") as mallory:
        assert mallory.send(raw(IP(src="10.2.0.9", dst="10.1.0.2") / UDP(dport=53))) is Verdict.FILTERED
