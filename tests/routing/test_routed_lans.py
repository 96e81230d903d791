"""Routed LANs as a whole: pings along shortest paths, links cut and mended, many routers at once, and their end."""

from __future__ import annotations

import gc
import itertools
import os
import weakref
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pytest
from scapy.layers.inet import ICMP, IP

import vnet
from vnet.routing import building, generate
from vnet.routing.graphs import read_graph
from vnet.routing.layout import Layout

ZOO = Path("/work/shared/data/topology-zoo")


@pytest.fixture
def private() -> Iterator[vnet.Lan]:
    """A private LAN without networks."""
    with vnet.Lan(None) as lan:
        yield lan


def way(lan: vnet.Lan, network: str, address: str) -> list[str]:
    """The addresses of the routers on the way from a network to a host, as traceroute finds them."""
    found: list[str] = []
    # A sender of its own: a router does not say the same to one as often as it is asked.
    with lan.attach("probe", network=network) as sender:
        for ttl in range(1, 64):
            sender.send(bytes(IP(src=sender.address, dst=address, ttl=ttl) / ICMP(id=7, seq=ttl)))
            answer = IP(sender.recv(timeout=3))
            if answer[ICMP].type == 0:
                assert answer.src == address
                return found
            assert (answer[ICMP].type, answer[ICMP].code) == (11, 0)
            found.append(answer.src)
    raise AssertionError(address)


def owners(lan: vnet.Lan) -> dict[str, str]:
    """Whose every router's address is."""
    return {address: router.name for router in lan.routers.values() for address in router.addresses}


def test_hosts_reach_each_other_across_routers_in_both_families(private: vnet.Lan) -> None:
    hosts = []
    for number in range(3):
        private.add_network(f"n{number}", [f"10.{number}.0.0/24", f"fd00:{number}::/64"])
        private.router(f"r{number}", [f"n{number}"])
        hosts.append(private.host(f"h{number}", network=f"n{number}"))
    private.link("r0", "r1")
    private.link("r1", "r2")
    for source, target in itertools.permutations(hosts, 2):
        for address in target.addresses:
            result = source.ping(address, count=2)
            assert (result.received, result.errors) == (2, ())
    # Routers answer at every address that they have.
    for router in private.routers.values():
        for address in router.addresses:
            assert hosts[0].ping(address).received == 1


def test_paths_follow_weights_and_links_that_are_cut(private: vnet.Lan) -> None:
    built = building.build(private, generate.ring(5), hosts=1)
    host = built.hosts["r3"][0].address
    names = owners(private)

    def path() -> list[str]:
        return [names[each] for each in way(private, "r1-net", host)]

    assert path() == ["r1", "r2", "r3"]
    built.links[0].weight = 9
    assert path() == ["r1", "r5", "r4", "r3"]
    built.links[0].weight = 1
    built.links[1].cut()
    assert path() == ["r1", "r5", "r4", "r3"]
    built.links[3].cut()
    # In two parts: r1 says that there is no way.
    with private.attach("probe", network="r1-net") as probe:
        probe.send(bytes(IP(src=probe.address, dst=host) / ICMP()))
        answer = IP(probe.recv(timeout=3))
    assert (answer[ICMP].type, answer[ICMP].code, names[answer.src]) == (3, 0, "r1")
    for link in built.links:
        link.mend()
    assert built.hosts["r1"][0].ping(host).received == 1
    private.routers["r2"].close()
    assert path() == ["r1", "r5", "r4", "r3"]


def test_static_routes_lead_where_they_say(private: vnet.Lan) -> None:
    built = building.build(private, generate.ring(4), hosts=1)
    names = owners(private)
    (target,) = built.hosts["r2"]
    prefix = str(built.networks["r2"].prefixes[0])
    r1, r4 = built.routers["r1"], built.routers["r4"]
    # The long way round, for this network alone; r4 itself would rather not come back this way.
    (between,) = (link for link in r4.links if link in r1.links)
    between.weight = 9
    r1.add_route(prefix, between.addresses[between.endpoints.index("r4")][0])
    assert [names[each] for each in way(private, "r1-net", target.address)] == ["r1", "r4", "r3", "r2"]
    r1.remove_route(prefix)
    assert [names[each] for each in way(private, "r1-net", target.address)] == ["r1", "r2"]
    probe = private.attach("asker", network="r1-net")
    for refusal, code in (("unreachable", 1), ("prohibit", 13)):
        r1.add_route("198.51.100.0/24", refusal)
        probe.send(bytes(IP(src=probe.address, dst="198.51.100.1") / ICMP()))
        assert IP(probe.recv(timeout=3))[ICMP].code == code
        r1.remove_route("198.51.100.0/24")
    # Round and round until the TTL ends it.
    r1.add_route("203.0.113.0/24", r1.links[0].addresses[1][0])
    built.routers["r2"].add_route("203.0.113.0/24", r1.links[0].addresses[0][0])
    (circle,) = private.routing.loops()
    assert (circle.prefix, set(circle.routers)) == ("203.0.113.0/24", {"r1", "r2"})
    probe.send(bytes(IP(src=probe.address, dst="203.0.113.1", ttl=9) / ICMP()))
    assert IP(probe.recv(timeout=3))[ICMP].type == 11


@pytest.mark.skipif(not ZOO.is_dir(), reason="shared/data/topology-zoo is not there")
@pytest.mark.parametrize("name", ["AttMpls", "Bellsouth", "Geant2012"])
def test_on_a_backbone_all_reach_all_by_as_many_routers_as_networkx_says(private: vnet.Lan, name: str) -> None:
    layout = read_graph(ZOO / f"{name}.gml")
    built = building.build(private, layout, hosts=1)
    lengths = dict(nx.all_pairs_shortest_path_length(layout.graph()))
    runs = []
    for (a, (one,)), (b, (other,)) in itertools.permutations(built.hosts.items(), 2):
        runs.append((a, b, one.start_ping(other.address, timeout=20)))
    lost = [(a, b) for a, b, run in runs if run.result(timeout=60).received != 1]
    assert lost == []
    names = owners(private)
    first = next(iter(built.hosts))
    graph = layout.graph()
    for router, (host,) in built.hosts.items():
        found = [names[address] for address in way(private, f"{first}-net", host.address)]
        if router == first:
            # The way does not leave the network.
            assert found == []
            continue
        assert len(found) == lengths[first][router] + 1
        assert (found[0], found[-1]) == (first, router)
        assert all(graph.has_edge(found[at - 1], found[at]) for at in range(1, len(found)))


def test_a_thousand_routers_come_up_together(private: vnet.Lan) -> None:
    layout = generate.random(1000, degree=3, seed=1)
    built = building.build(private, layout, hosts=1, buffer=1 << 16)
    assert len(private.nics) == 2000
    lengths = nx.single_source_shortest_path_length(layout.graph(), "r1")
    for name in ("r2", "r500", "r1000"):
        assert len(way(private, "r1-net", built.hosts[name][0].address)) == lengths[name] + 1


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        (Layout((), ()), None),
        (generate.line(2), "hosts"),
    ],
)
def test_hosts_at_routers_are_counted(private: vnet.Lan, layout: Layout, said: str | None) -> None:
    if said is None:
        assert building.build(private, layout).routers == {}
        return
    with pytest.raises(ValueError, match=said):
        building.build(private, layout, hosts=-1)
    with pytest.raises(vnet.AddressError, match="no room for a network of 3 addresses"):
        building.build(private, layout, hosts=2, pools="192.0.2.0/30")
    with pytest.raises(vnet.NetworkFull, match=r"192\.0\.2\.0/29 is used up"):
        building.build(private, layout, hosts=2, pools="192.0.2.0/29")
    # As large as they can be for all.
    built = building.build(private, generate.line(3), hosts=2, pools="198.51.100.0/24")
    assert [str(network.prefixes[0]) for network in built.networks.values()] == [
        "198.51.100.0/26",
        "198.51.100.64/26",
        "198.51.100.128/26",
    ]


def test_what_is_changed_in_a_batch_holds_at_its_end(private: vnet.Lan) -> None:
    built = building.build(private, generate.line(3), hosts=1)
    one, three = built.hosts["r1"][0], built.hosts["r3"][0]
    with pytest.raises(KeyError), private.routing.batch():
        built.links[0].cut()
        private.link("r1", "r3")
        raise KeyError
    assert one.ping(three.address).received == 1
    assert one.ping(built.hosts["r2"][0].address).received == 1


def test_a_lan_that_nobody_holds_ends_also_if_it_has_routers() -> None:
    lan = vnet.Lan(None, "10.0.0.0/24")
    router = lan.router("edge", ["lan"])
    other = lan.router("other")
    link = lan.link(router, other)
    gone = weakref.ref(lan)
    del lan
    gc.collect()
    assert gone() is None
    assert (router.closed, link.closed) == (True, True)
    with pytest.raises(vnet.LanClosed):
        link.cut()


def test_a_forked_child_changes_nothing_of_its_parents_routers(private: vnet.Lan) -> None:
    built = building.build(private, generate.line(2), hosts=1)
    child = os.fork()
    if not child:
        code = 1
        try:
            for call in (built.links[0].cut, lambda: built.routers["r1"].add_route("0.0.0.0/0", "blackhole")):
                try:
                    call()
                except vnet.ForkedNic:
                    code += 1
            built.links[0].close()
            built.routers["r1"].close()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert built.hosts["r1"][0].ping(built.hosts["r2"][0].address).received == 1
