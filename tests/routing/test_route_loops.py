"""Circles that static routes make: found, and held against a walk with a TTL over the compiled plan."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from test_model_and_plan import compiled, models, network, plug, wired

from vnet.routing.loops import find_loops
from vnet.routing.model import Model, Port, Refusal, Via


def across(model: Model, count: int) -> list[Any]:
    """So many routers in a line, a network at the last, and the address of each router on the link behind it."""
    routers = [model.add_router(f"r{each + 1}") for each in range(count)]
    for at in range(1, count):
        wired(model, routers[at - 1], routers[at])
    plug(model, routers[-1], network(1))
    return routers


def toward(a: Any, b: Any) -> Via:
    port = next(port for port in a.ports if port.peer and port.peer.router is b)
    return Via(port, port.peer.addresses[0])


def test_two_routers_that_send_to_each_other_are_named_with_the_prefix() -> None:
    model = Model()
    a, b, c = across(model, 3)
    prefix = ip_network("192.0.2.0/24")
    model.set_static(a, prefix, [toward(a, b)])
    model.set_static(b, prefix, [toward(b, a)])
    (loop,) = find_loops(model)
    assert (loop.prefix, loop.routers) == ("192.0.2.0/24", ("r1", "r2"))
    assert str(loop) == "what is for 192.0.2.0/24 goes round in a circle: r1 → r2 → r1"
    model.set_static(b, prefix, [toward(b, c)])
    assert find_loops(model) == []


def test_a_static_route_away_from_where_shortest_paths_lead_back_is_a_circle() -> None:
    model = Model()
    a, b, _ = across(model, 3)
    # r3 has the network; r2 sends what is for it to r1, which sends it to r2 by the shortest path.
    model.set_static(b, ip_network("10.1.0.0/24"), [toward(b, a)])
    assert [(loop.prefix, set(loop.routers)) for loop in find_loops(model)] == [("10.1.0.0/24", {"r1", "r2"})]


def test_default_routes_make_a_circle_for_what_nobody_has_and_for_nothing_else() -> None:
    model = Model()
    a, b, c = across(model, 3)
    everything = ip_network("0.0.0.0/0")
    model.set_static(a, everything, [toward(a, b)])
    model.set_static(b, everything, [toward(b, c)])
    model.set_static(c, everything, [toward(c, b)])
    assert [(loop.prefix, set(loop.routers)) for loop in find_loops(model)] == [("0.0.0.0/0", {"r2", "r3"})]
    # A network that is cut off has its datagrams go by the default routes, too.
    for wire in list(model.wires.values())[1:]:
        wire.up = False
    model.set_static(b, everything, [toward(b, a)])
    assert ("10.1.0.0/24", {"r1", "r2"}) in [(loop.prefix, set(loop.routers)) for loop in find_loops(model)]


def test_a_refusal_or_a_guest_ends_the_way() -> None:
    model = Model()
    a, b, c = across(model, 3)
    prefix = ip_network("192.0.2.0/24")
    model.set_static(a, prefix, [toward(a, b)])
    model.set_static(b, prefix, [Refusal("unreachable")])
    model.set_static(c, prefix, [Via(c.ports[-1], ip_address("10.1.0.77"))])
    assert find_loops(model) == []


@st.composite
def with_statics(draw: Any) -> Model:
    model: Model = draw(models())
    routers = list(model.routers)
    # Around, above and below the networks of the model.
    prefixes = ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/24", "10.2.0.0/24", "10.1.0.128/25", "192.0.2.0/24"]
    for _ in range(draw(st.integers(1, 8))):
        router = draw(st.sampled_from(routers))
        ways = [
            Via(port, into.addresses[0])
            for port in router.ports
            for into in ([port.peer] if port.peer else model.on_network[port.network])
            if into.router is not router
        ]
        if ways:
            step = draw(st.sampled_from(ways))
            model.set_static(router, ip_network(draw(st.sampled_from(prefixes))), [step])
    return model


@settings(max_examples=150, deadline=None)
@given(with_statics())
def test_a_circle_is_found_exactly_where_the_plan_goes_round(model: Model) -> None:
    plan = compiled(model)
    found = find_loops(model)
    for prefix, known in model.by_prefix.items():
        # Every way that the plan allows, each router once.
        following: dict[int, set[int]] = {}
        for router in model.routers:
            following[router.number] = set()
            for what, out, into in plan.choices(router.number, known.number):
                port = model.ports[out] if out >= 0 else None
                if what == "router":
                    following[router.number].add(model.ports[into].router.number)
                elif what == "via" and port is not None:
                    owner = model.owners.get(ip_address(into))
                    if port.peer is not None:
                        following[router.number].add(port.peer.router.number)
                    elif isinstance(owner, Port):
                        following[router.number].add(owner.router.number)
        left = dict(following)
        while ends := [number for number, after in left.items() if not after & set(left)]:
            for number in ends:
                del left[number]
        mine = [loop for loop in found if loop.prefix == str(prefix)]
        assert bool(mine) == bool(left)
        numbers = {router.name: router.number for router in model.routers}
        for loop in mine:
            circle = [numbers[name] for name in loop.routers]
            assert all(after in following[one] for one, after in zip(circle, [*circle[1:], circle[0]], strict=True))
