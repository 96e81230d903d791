"""Routers and links as users hold them: addresses, names, what is refused, what goes with what."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import networkx as nx
import pytest

import vnet
from vnet.routing.routers import StaticRoute


@pytest.fixture
def office() -> Iterator[vnet.Lan]:
    """A private LAN with two networks."""
    with vnet.Lan(None) as lan:
        lan.add_network("desk", "10.1.0.0/24")
        lan.add_network("lab", ["10.2.0.0/24", "fd00:2::/64"], mtu=1500)
        yield lan


def test_a_router_has_a_nic_on_each_network_with_the_lowest_free_address(office: vnet.Lan) -> None:
    office.host("alice", "10.1.0.1", network="desk")
    office.host("bob", "10.1.0.3", network="desk")
    edge = office.router("edge", {"desk": None, "lab": ["10.2.0.9", "fd00:2::9"]})
    assert list(office.nics)[2:] == ["edge.desk", "edge.lab"]
    desk, lab = office.nics["edge.desk"], office.nics["edge.lab"]
    assert (desk.kind, desk.state, desk.addresses) == ("router", "up", ("10.1.0.2",))
    assert lab.addresses[:2] == ("10.2.0.9", "fd00:2::9")
    # RFC 4291 section 2.1: every interface has a link-local address.
    assert lab.addresses[2].startswith("fe80::")
    assert edge.networks == {"desk": desk.addresses, "lab": lab.addresses}
    assert edge.addresses == ("10.1.0.2", "10.2.0.9", "fd00:2::9")
    assert office.routers == {"edge": edge}
    # Hosts go on where they were.
    assert office.host("carol", network="desk").address == "10.1.0.4"
    # Whoever is on one network only is called as it is.
    office.router("stub", ["lab"])
    assert office.nics["stub"].kind == "router"


def test_links_have_addresses_of_the_families_that_the_lan_has() -> None:
    with vnet.Lan(None, "10.0.0.0/24") as lan:
        lan.router("a", ["lan"])
        lan.router("b")
        first = lan.link("a", "b")
        assert first.addresses == (("172.31.0.0",), ("172.31.0.1",))
        assert (first.name, first.endpoints, first.prefixes) == ("a-b", ("a", "b"), ("172.31.0.0/31",))
        assert (first.weight, first.mtu, first.up) == (1, 65535, True)
        lan.add_network("six", "fd00:6::/64")
        second = lan.link("a", lan.routers["b"], weight=7, mtu=1400, attributes={"LinkSpeedRaw": 1e10})
        assert second.name == "a-b.2"
        assert second.addresses == (("172.31.0.2", "fd76:6e65:7400::"), ("172.31.0.3", "fd76:6e65:7400::1"))
        assert (second.weight, second.mtu, second.attributes) == (7, 1400, {"LinkSpeedRaw": 1e10})
        lan.routing.pools = "192.0.2.0/24"
        assert lan.link("b", "a").prefixes == ("192.0.2.0/31", "fd76:6e65:7400::2/127")
        assert lan.routing.pools == ("192.0.2.0/24", "fd76:6e65:7400::/48")
        assert [link.name for link in lan.routers["a"].links] == ["a-b", "a-b.2", "b-a"]


@pytest.mark.parametrize(
    ("said", "prefixes", "addresses"),
    [
        ({"prefix": "192.0.2.0/30"}, ("192.0.2.0/30",), (("192.0.2.1",), ("192.0.2.2",))),
        ({"prefix": ["fd00:9::/126", "192.0.2.8/31"]}, ("192.0.2.8/31", "fd00:9::/126"),
         (("192.0.2.8", "fd00:9::1"), ("192.0.2.9", "fd00:9::2"))),
        ({"addresses": ("192.0.2.1", "192.0.2.0")}, ("192.0.2.0/31",), (("192.0.2.1",), ("192.0.2.0",))),
        # 192.0.2.0/31 and .2/31 would part them.
        ({"addresses": ("192.0.2.1", "192.0.2.2")}, ("192.0.2.0/30",), (("192.0.2.1",), ("192.0.2.2",))),
        ({"addresses": ("192.0.2.3", "192.0.2.4")}, ("192.0.2.0/29",), (("192.0.2.3",), ("192.0.2.4",))),
        ({"addresses": ("192.0.2.5/28", "192.0.2.6")}, ("192.0.2.0/28",), (("192.0.2.5",), ("192.0.2.6",))),
        ({"addresses": (["fd00:9::1", "192.0.2.9"], ["192.0.2.10", "fd00:9::2"])}, ("192.0.2.8/30", "fd00:9::/126"),
         (("192.0.2.9", "fd00:9::1"), ("192.0.2.10", "fd00:9::2"))),
        ({"prefix": "192.0.2.0/24", "addresses": ("192.0.2.7", "192.0.2.77")}, ("192.0.2.0/24",),
         (("192.0.2.7",), ("192.0.2.77",))),
    ],
)  # fmt: skip
def test_addresses_of_a_link_are_those_that_were_said(
    office: vnet.Lan, said: dict[str, Any], prefixes: Any, addresses: Any
) -> None:
    office.router("a")
    office.router("b")
    link = office.link("a", "b", **said)
    assert (link.prefixes, link.addresses) == (prefixes, addresses)
    link.close()
    link.close()
    # All of it is free again.
    assert office.link("a", "b", **said).prefixes == prefixes


@pytest.mark.parametrize(
    ("link", "error", "said"),
    [
        (lambda lan: lan.link("a", "a"), ValueError, "'a' cannot be linked to itself"),
        (lambda lan: lan.link("a", "c"), ValueError, "no router named 'c'; there are a, b"),
        (lambda lan: lan.link("a", "b", weight=0), ValueError, "a weight is 1 to 1,048,575, not 0"),
        (lambda lan: lan.link("a", "b", weight=1.5), TypeError, "whole number"),
        (lambda lan: lan.link("a", "b", mtu=1279), ValueError, "1280 to 65535"),
        (lambda lan: lan.link("a", "b", prefix="10.1.0.64/30"), vnet.AddressError,
         r"link 'a-b' overlaps 10\.1\.0\.0/24 of network 'desk'"),
        (lambda lan: lan.link("a", "b", prefix="192.0.2.1/32"), vnet.AddressError, "no room for two"),
        (lambda lan: lan.link("a", "b", prefix="192.0.2.1/30"), vnet.AddressError, "host bits set"),
        (lambda lan: lan.link("a", "b", addresses=("192.0.2.1", "192.0.2.1")), vnet.AddressError, "both ends"),
        (lambda lan: lan.link("a", "b", addresses=("192.0.2.1", "fd00::1")), vnet.AddressError, "two families"),
        (lambda lan: lan.link("a", "b", addresses=["192.0.2.1"]), vnet.AddressError, "two ends"),
        (lambda lan: lan.link("a", "b", addresses=("192.0.2.1/30", "192.0.2.5/30")), vnet.AddressError, "not in"),
        (lambda lan: lan.link("a", "b", addresses=("192.0.2.0/30", "192.0.2.1")), vnet.AddressError, "broadcast"),
        (lambda lan: lan.link("a", "b", prefix="192.0.2.0/30", addresses=("192.0.2.1", "192.0.2.9")),
         vnet.AddressError, "not both in"),
        (lambda lan: lan.link("a", "b", name="wire"), vnet.NameTaken, "'wire'"),
        (lambda lan: lan.link("a", "b", prefix="198.51.100.0/31"), vnet.AddressError, "of link 'wire'"),
        (lambda lan: lan.link("a", "b", prefix="203.0.113.0/30"), vnet.AddressError, "of router 'a'"),
        (lambda lan: lan.add_network("n", "198.51.100.0/24"), vnet.AddressError, "network 'n' overlaps .* 'wire'"),
        (lambda lan: lan.router("c", loopback="10.2.0.200"), vnet.AddressError, "router 'c' overlaps .* 'lab'"),
        (lambda lan: lan.router("c", loopback="203.0.113.1"), vnet.AddressError, "of router 'a'"),
        (lambda lan: lan.router("a"), vnet.NameTaken, "'a'"),
        (lambda lan: lan.router("alice"), vnet.NameTaken, "'alice'"),
        (lambda lan: lan.host("a", network="lab"), vnet.NameTaken, "router"),
        (lambda lan: lan.router("c", ["nowhere"]), ValueError, "no network named 'nowhere'"),
        (lambda lan: lan.router("c", ["lab", "lab"]), ValueError, "named twice"),
        (lambda lan: lan.router("c", {"lab": "10.1.0.7"}), vnet.AddressOutside, "outside network 'lab'"),
        (lambda lan: lan.router("c", {"lab": None, "desk": "10.1.0.1"}), vnet.AddressTaken, "'alice'"),
        (lambda lan: lan.router("c", ["lab"], weights={"desk": 2}), ValueError, "which it is not on"),
        (lambda lan: lan.router("c", ["lab"], weights={"lab": -1}), ValueError, "1 to"),
        (lambda lan: lan.router("no name"), ValueError, "cannot name a router"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_a_sentence_and_leaves_nothing(
    office: vnet.Lan, link: Callable[[vnet.Lan], Any], error: type[Exception], said: str
) -> None:
    office.host("alice", "10.1.0.1", network="desk")
    office.router("a", loopback="203.0.113.1")
    office.router("b")
    office.link("a", "b", name="wire", prefix="198.51.100.0/31")
    model = office.routing.model
    before = list(office.nics), list(office.routers), list(office.links), set(model.by_prefix), len(list(model.ports))
    with pytest.raises(error, match=said):
        link(office)
    after = list(office.nics), list(office.routers), list(office.links), set(model.by_prefix), len(list(model.ports))
    assert after == before
    assert office.link("a", "b", prefix="192.0.2.0/30").up


def test_a_router_goes_with_its_links_nics_and_names(office: vnet.Lan) -> None:
    edge = office.router("edge", ["desk", "lab"], loopback="203.0.113.1")
    core = office.router("core")
    link = office.link(edge, core)
    core.add_route("192.0.2.0/24", via="172.31.0.0")
    edge.close()
    edge.close()
    assert (edge.closed, link.closed, link.up) == (True, True, False)
    assert dict(office.nics) == {}
    assert dict(office.links) == {}
    assert core.routes == ()
    assert not office.routing.model.by_prefix
    with pytest.raises(vnet.NicClosed, match="'edge'"):
        edge.add_route("0.0.0.0/0", "blackhole")
    with pytest.raises(vnet.NicClosed, match="'edge-core'"):
        link.cut()
    # Names and addresses are free.
    office.host("edge", "10.1.0.1", network="desk")
    with office.router("edge2", ["lab"], loopback="203.0.113.1") as other:
        assert office.link(other, core, prefix=link.prefixes).addresses == link.addresses
    assert list(office.routers) == ["core"]


def test_static_routes_are_kept_as_they_were_said(office: vnet.Lan) -> None:
    edge = office.router("edge", ["desk", "lab"])
    edge.add_route("0.0.0.0/0", via="10.1.0.254")
    edge.add_route("0.0.0.0/0", via="10.2.0.254")
    edge.add_route("fd00:9::/48", "fd00:2::9")
    edge.add_route("198.51.100.0/24", "prohibit")
    assert edge.routes == (
        StaticRoute("0.0.0.0/0", "10.1.0.254"),
        StaticRoute("0.0.0.0/0", "10.2.0.254"),
        StaticRoute("fd00:9::/48", "fd00:2::9"),
        StaticRoute("198.51.100.0/24", "prohibit"),
    )
    edge.remove_route("0.0.0.0/0", via="10.1.0.254")
    edge.remove_route("198.51.100.0/24")
    assert [route.prefix for route in edge.routes] == ["0.0.0.0/0", "fd00:9::/48"]
    office.remove("edge.lab")
    assert edge.routes == ()


@pytest.mark.parametrize(
    ("prefix", "via", "error", "said"),
    [
        ("10.9.0.0/16", "10.9.0.1", vnet.AddressOutside, "on none of the networks and links of router 'edge'"),
        ("10.9.0.0/16", "fd00:2::9", vnet.AddressError, "two families"),
        ("10.9.0.0/16", "10.1.0.1", vnet.AddressError, "router 'edge' itself"),
        ("10.9.0.0/16", "unreachabel", vnet.AddressError, "'unreachable', 'prohibit', 'blackhole'"),
        ("10.9.0.1/16", "10.1.0.9", vnet.AddressError, "host bits"),
        ("default", "10.1.0.9", vnet.AddressError, "not a prefix"),
        ("192.0.2.0/24", "10.1.0.9", ValueError, "already, blackhole"),
        ("192.0.2.0/24", "blackhole", ValueError, "already"),
    ],
)
def test_a_static_route_that_cannot_be_is_refused(
    office: vnet.Lan, prefix: str, via: str, error: type[Exception], said: str
) -> None:
    edge = office.router("edge", ["desk", "lab"])
    edge.add_route("192.0.2.0/24", "blackhole")
    with pytest.raises(error, match=said):
        edge.add_route(prefix, via)
    assert len(edge.routes) == 1
    with pytest.raises(ValueError, match=r"no static route to 10\.9\.0\.0/16"):
        edge.remove_route("10.9.0.0/16")


def test_the_topology_is_a_graph_of_all_that_is_there(office: vnet.Lan) -> None:
    office.router("edge", ["desk"], attributes={"Latitude": 52.5})
    office.router("lab", ["lab"])
    office.link("edge", "lab", weight=3, attributes={"LinkSpeedRaw": 10})
    office.host("alice", network="desk")
    graph = office.topology()
    assert set(graph) == {"edge", "lab", "alice", "network:desk", "network:lab"}
    assert {graph.nodes[name]["kind"] for name in ("edge", "lab")} == {"router"}
    assert graph.nodes["edge"]["Latitude"] == 52.5
    assert nx.shortest_path(graph, "alice", "network:lab") == ["alice", "network:desk", "edge", "lab", "network:lab"]
    link = graph.edges["edge", "lab", "edge-lab"]
    assert (link["weight"], link["up"], link["LinkSpeedRaw"]) == (3, True, 10)
    office.links["edge-lab"].cut()
    assert not office.topology().edges["edge", "lab", "edge-lab"]["up"]


def test_a_router_and_a_link_are_not_pickled(office: vnet.Lan) -> None:
    a, b = office.router("a"), office.router("b")
    for thing in (a, office.link(a, b)):
        with pytest.raises(TypeError, match="of a LAN of this process"):
            pickle.dumps(thing)


def test_a_router_of_a_lan_that_ended_says_so() -> None:
    with vnet.Lan(None, "10.0.0.0/24") as lan:
        a, b = lan.router("a", ["lan"]), lan.router("b")
        link = lan.link(a, b)
    for call in (link.cut, lambda: a.add_route("0.0.0.0/0", "blackhole"), lambda: lan.router("c")):
        with pytest.raises(vnet.LanClosed):
            call()
    link.close()
    a.close()
    assert a.closed


def test_what_has_several_nics_is_removed_whole_by_its_name(office: vnet.Lan) -> None:
    edge = office.router("edge", ["desk", "lab"])
    for network in ("desk", "lab"):
        office.attach(f"gw.{network}", network=network, forward="gw")
    office.remove("gw")
    assert list(office.nics) == ["edge.desk", "edge.lab"]
    office.remove("edge.desk")
    assert list(edge.networks) == ["lab"]
    office.remove("edge")
    assert edge.closed
    assert dict(office.nics) == {}
    for name in ("gw", "edge", "edge.lab"):
        with pytest.raises(KeyError):
            office.remove(name)
