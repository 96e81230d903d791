"""A namespace that forwards is a router between two networks, with whatever Linux does there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import NamedTuple

import pytest
from programs import iperf3, iperf3_server
from scene import Place, into, namespace

import vnet

MTUS = {"left": 9000, "right": 1500}


class Routed(NamedTuple):
    left: Place
    right: Place
    router: Place


@pytest.fixture(scope="module")
def routed(own_network: None) -> Iterator[Routed]:
    with ExitStack() as stack:
        box = stack.enter_context(namespace())
        router = Place("router", {}, "", "", "eth1", into(box))
        router.shell("echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")
        lan = stack.enter_context(vnet.Lan(None))
        ends = []
        for number, (network, mtu) in enumerate(MTUS.items(), 1):
            lan.add_network(network, [f"10.{number}.0.0/24", f"fd0{number}::/64"], mtu=mtu)
            gateway = [f"10.{number}.0.254", f"fd0{number}::fe"]
            plug = lan.plug(f"eth{number}", box, gateway, network=network, interface=f"eth{number}")
            stack.enter_context(closing(plug))
            end = stack.enter_context(closing(lan.netns(network, network=network, gateway=gateway)))
            addresses = {4: end.addresses[0], 6: end.addresses[1]}
            ends.append(Place(network, addresses, end.mac, end.mac, end.interface, end.enter_words))
        yield Routed(*ends, router)


@pytest.mark.parametrize("family", [4, 6])
def test_both_networks_reach_each_other_through_it(routed: Routed, family: int) -> None:
    for one, other in ((routed.left, routed.right), (routed.right, routed.left)):
        one.output("ping", "-c", "1", "-w", "3", other.addresses[family])
        shown = one.output("traceroute", "-n", "-q", "1", "-N", "1", "-w", "2", other.addresses[family])
        hops = re.findall(r"^ *\d+  (\S+)", shown, re.MULTILINE)
        assert len(hops) == 2
        assert hops[1] == other.addresses[family]
        assert hops[0].endswith(".254" if family == 4 else "::fe")


@pytest.mark.parametrize("family", [4, 6])
def test_its_kernel_says_what_the_next_network_cannot_carry(routed: Routed, family: int) -> None:
    target = routed.right.addresses[family]
    routed.left.output("ip", f"-{family}", "route", "flush", "cache")
    shown = routed.left.run("ping", "-c", "2", "-i", "0.1", "-W", "2", "-M", "do", "-s", "4000", target).stdout
    # RFC 1191 and RFC 8201: the router tells the MTU, and the sender's kernel remembers it.
    assert "1500" in shown
    assert "mtu 1500" in routed.left.output("ip", "route", "get", target)
    # From now on it cuts what is larger.
    routed.left.output("ping", "-c", "1", "-w", "3", "-s", "8000", target)


@pytest.mark.parametrize("family", [4, 6])
def test_large_segments_go_through_it_both_ways(routed: Routed, family: int) -> None:
    before = [place.errors() for place in routed]
    with iperf3_server(routed.right) as port:
        for direction in ([], ["-R"]):
            end = iperf3(routed.left, routed.right.addresses[family], port, "-n", "32M", *direction)
            assert end["sum_received"]["bytes"] > 16 << 20
    assert [place.errors() for place in routed] == before
