"""The model as the base compiles it, held against networkx: who comes next, and at what cost."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network
from typing import Any

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vnet._native import Plan
from vnet.network import Network
from vnet.routing.compiling import class_tuples, nothing_behind, parents, port_tuples, router_tuples
from vnet.routing.kernels import ways
from vnet.routing.model import Behind, Model, Port, Refusal, RouterNode, Via, Wire
from vnet.routing.shortest import distances, first_hops


def network(number: int, *, mtu: int = 1500) -> Network:
    return Network(f"n{number}", (IPv4Network(f"10.{number}.0.0/24"),), mtu, number)


def plug(model: Model, router: RouterNode, where: Network, weight: int = 1) -> Port:
    address = IPv4Address(f"10.{where._number}.0.{router.number + 1}")
    place = {"nic": f"{router.name}.{where.name}", "slot": len(model.ports) + 1, "mtu": where.mtu}
    return model.add_port(router, where, weight=weight, addresses=(address,), **place)


def wired(model: Model, a: RouterNode, b: RouterNode, weight: int = 1) -> Wire:
    prefix = IPv4Network((0xAC1F0000 + 2 * len(model.wires), 31))
    name = f"{a.name}-{b.name}.{len(model.wires)}"
    ends = (prefix[0],), (prefix[1],)
    return model.add_wire(name, (a, b), prefixes=(prefix,), addresses=ends, weight=weight, mtu=1500, attributes={})


def compiled(model: Model) -> Plan:
    return Plan(
        router_tuples(model), port_tuples(model), class_tuples(model, parents(model, nothing_behind)), hash_ports=False
    )


def known(model: Model, prefix: str) -> int:
    return model.by_prefix[ip_network(prefix)].number


@st.composite
def models(draw: Any) -> Model:
    """Routers on networks and links, some of them cut, and some removed so that numbers have holes."""
    model = Model()
    routers = [model.add_router(f"r{each}") for each in range(draw(st.integers(2, 7)))]
    networks = [network(each + 1) for each in range(draw(st.integers(0, 4)))]
    weights = st.integers(1, 4)
    for router in routers:
        for each in networks:
            if draw(st.booleans()):
                plug(model, router, each, draw(weights))
    wires = []
    for _ in range(draw(st.integers(0, 9))):
        a, b = draw(st.sampled_from(routers)), draw(st.sampled_from(routers))
        if a is not b:
            wires.append(wired(model, a, b, draw(weights)))
    for wire in wires:
        wire.up = draw(st.integers(0, 3)) > 0
        if draw(st.integers(0, 5)) == 0:
            model.remove_wire(wire)
    return model


def drawn(model: Model) -> nx.DiGraph:
    """The same as a graph, a network a node: into it costs the port's weight, out of it nothing."""
    graph = nx.DiGraph()
    graph.add_nodes_from(model.routers)
    for port in model.ports:
        if not port.up:
            continue
        other: Any = port.peer.router if port.peer is not None else port.network
        weight = (
            min(port.weight, graph.edges[port.router, other]["weight"])
            if graph.has_edge(port.router, other)
            else port.weight
        )
        graph.add_edge(port.router, other, weight=weight)
        if port.network is not None:
            graph.add_edge(port.network, port.router, weight=0)
    return graph


@settings(max_examples=80, deadline=None)
@given(models())
def test_next_hops_are_those_on_the_shortest_paths_of_networkx(model: Model) -> None:
    plan, graph = compiled(model), drawn(model)
    for each in model.by_prefix.values():
        if isinstance(each.origin, Wire):
            continue
        # Into the network itself: the last step out of the port there counts.
        costs = nx.single_source_dijkstra_path_length(graph.reverse(), each.origin)
        mine = distances(model, {port.router: port.weight for port in reversed(model.on_network[each.origin])})
        assert mine == {router: cost for router, cost in costs.items() if isinstance(router, RouterNode)}
        for router in model.routers:
            told = plan.choices(router.number, each.number)
            if any(port.network is each.origin for port in router.ports):
                assert [what for what, _, _ in told] == ["link"]
            elif router not in costs:
                assert told == []
            else:
                expected = set()
                for port in router.ports:
                    nexts = [port.peer] if port.peer else model.on_network[port.network]
                    for into in nexts:
                        way = into.router is not router and port.up and into.router in costs
                        if way and costs[into.router] + port.weight == costs[router]:
                            expected.add(("router", port.number, into.number))
                assert set(told) <= expected
                # As many as a set has, 16; of several on one network each is one.
                assert len(told) == min(16, len(expected))


@settings(max_examples=80, deadline=None)
@given(models())
def test_a_kernel_is_told_a_way_that_costs_what_the_shortest_does(model: Model) -> None:
    graph = drawn(model)
    for source in model.routers:
        costs = nx.single_source_dijkstra_path_length(graph, source)
        hops = first_hops(model, source)
        assert {router: cost for router, (cost, _, _) in hops.items()} == {
            router: cost for router, cost in costs.items() if isinstance(router, RouterNode) and router is not source
        }
        for prefix, (out, into) in ways(model, source).items():
            assert out.router is source
            assert into in ((out.peer,) if out.peer else model.on_network[out.network])
            origin = model.by_prefix[prefix].origin
            if isinstance(origin, Network):
                rest = nx.dijkstra_path_length(graph, into.router, origin)
                assert out.weight + rest == costs[origin]


def test_numbers_stay_and_holes_are_not_filled_at_once() -> None:
    model = Model()
    a, b, c = (model.add_router(name) for name in "abc")
    first, second = wired(model, a, b), wired(model, b, c)
    before = port_tuples(model)
    model.remove_wire(first)
    assert port_tuples(model)[2:] == before[2:]
    assert [row[-1] for row in port_tuples(model)] == [False, False, True, True]
    third = wired(model, a, c)
    assert [port.number for port in third.ports] == [4, 5]
    assert known(model, str(second.prefixes[0])) == 2
    for _ in range(100):
        model.remove_wire(wired(model, a, b))
    assert len(model.ports) < 200


def test_the_parent_of_a_prefix_is_the_next_shorter_that_is_known() -> None:
    model = Model()
    router = model.add_router("r", loopbacks=[ip_address("10.1.0.129"), ip_address("fd00::1")])
    plug(model, router, network(1))
    for text in ("0.0.0.0/0", "10.0.0.0/8", "10.1.0.128/25", "10.2.0.0/16", "fd00::/16"):
        model.set_static(router, ip_network(text), [Refusal("blackhole")])
    found = {str(prefix): number for prefix, number in parents(model, nothing_behind).items()}
    by_number = {each.number: str(prefix) for prefix, each in model.by_prefix.items()} | {0: None}
    assert {prefix: by_number[number] for prefix, number in found.items()} == {
        "0.0.0.0/0": None,
        "10.0.0.0/8": "0.0.0.0/0",
        "10.1.0.0/24": "10.0.0.0/8",
        "10.1.0.128/25": "10.1.0.0/24",
        "10.1.0.129/32": "10.1.0.128/25",
        "10.2.0.0/16": "10.0.0.0/8",
        "fd00::/16": None,
        "fd00::1/128": "fd00::/16",
    }


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(24, 32)), min_size=1, max_size=30))
def test_parents_are_those_that_a_plain_search_finds(places: list[tuple[int, int]]) -> None:
    model = Model()
    router = model.add_router("r")
    for first, length in places:
        prefix = IPv4Network((first, length), strict=False)
        model.set_static(router, prefix, [Refusal("blackhole")])
    for prefix, parent in parents(model, nothing_behind).items():
        outer = [each for each in model.by_prefix if each != prefix and prefix.subnet_of(each)]
        nearest = max(outer, key=lambda each: each.prefixlen, default=None)
        assert parent == (0 if nearest is None else model.by_prefix[nearest].number)


def test_what_lies_behind_a_guest_can_be_the_parent() -> None:
    model = Model()
    router = model.add_router("r")
    for text in ("10.0.0.0/8", "10.1.0.0/16"):
        model.set_static(router, ip_network(text), [Refusal("blackhole")])
    outside = {ip_network("10.0.0.0/8"): (0, 77), ip_network("10.1.0.0/16"): (12, 78)}
    assert parents(model, outside.get) == {ip_network("10.0.0.0/8"): 77, ip_network("10.1.0.0/16"): 78}


def test_static_routes_and_what_is_behind_guests_are_told_as_they_are() -> None:
    model = Model()
    a, b = model.add_router("a"), model.add_router("b")
    here = network(1)
    out = plug(model, a, here)
    plug(model, b, here)
    model.set_static(
        a, ip_network("192.0.2.0/24"), [Via(out, ip_address("10.1.0.9")), Via(out, ip_address("10.1.0.8"))]
    )
    model.set_static(b, ip_network("192.0.2.0/24"), [Refusal("prohibit")])
    behind = model.behind(Behind(here, ip_address("10.1.0.99")))
    plan = compiled(model)
    static = known(model, "192.0.2.0/24")
    assert plan.choices(a.number, static) == [("via", out.number, "10.1.0.9"), ("via", out.number, "10.1.0.8")]
    assert plan.choices(b.number, static) == [("prohibit", -1, None)]
    assert plan.choices(a.number, behind.number) == [("via", out.number, "10.1.0.99")]
    # With the port goes what leads over it, and with the last route the prefix.
    model.remove_port(out)
    assert plan_of(model, b, static) == [("prohibit", -1, None)]
    assert a.statics == {}
    model.set_static(b, ip_network("192.0.2.0/24"), [])
    assert ip_network("192.0.2.0/24") not in model.by_prefix


def plan_of(model: Model, router: RouterNode, number: int) -> list[Any]:
    return compiled(model).choices(router.number, number)


def test_there_are_as_many_routers_as_a_plan_can_have() -> None:
    from vnet import LanFull
    from vnet.routing.model import Numbered

    few: Numbered[str] = Numbered("routers", 0, 2)
    for name in ("a", "b"):
        few.put(few.next(), name)
    with pytest.raises(LanFull, match="2 routers"):
        few.next()
    few.remove(0)
    few.put(few.next(), "c")
    assert list(few) == ["c", "b"]
