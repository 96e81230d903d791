"""Graphs that several tests draw."""

from __future__ import annotations

from vnet.graph import Graph, Network, Node, Port, Wire, impairments

SLOW = impairments(delay=0.005, jitter=0.001, loss=0.001, rate=100e6)


def flat(count: int) -> Graph:
    """One network of both families with nodes whose names say nothing to the summary."""
    nodes = [
        Node(
            f"node-{number}-of-many",
            "process" if number % 3 else "host",
            (Port("lan", (f"10.0.{number // 250}.{number % 250 + 1}", f"fd00::{number + 1:x}")),),
        )
        for number in range(count)
    ]
    return Graph("flat", (Network("lan", ("10.0.0.0/16", "fd00::/64")),), tuple(nodes))


def generated(count: int, *, down: frozenset[int] = frozenset(), skipped: frozenset[int] = frozenset()) -> Graph:
    """What ``host: {count: N}`` makes, on a live LAN."""
    nodes = [
        Node(
            f"host-{number}",
            "host",
            (Port("lan", (f"10.0.{number // 256}.{number % 256}",)),),
            state="down" if number in down else "up",
        )
        for number in range(1, count + 1)
        if number not in skipped
    ]
    return Graph("generated", (Network("lan", ("10.0.0.0/16",)),), tuple(nodes), live=True)


def routed(wide: int = 3) -> Graph:
    """Networks that routers and a host with two NICs join, with impairments on links of each kind."""
    networks = [Network(f"net-{n}", (f"10.{n}.0.0/24", f"fd00:{n + 1:x}::/64"), 1500) for n in range(wide)]
    nodes = [
        Node(f"pc-{n}-{m}", "host", (Port(f"net-{n}", (f"10.{n}.0.{m + 10}",), SLOW if m == 1 else ""),))
        for n in range(wide)
        for m in range(n % 4)
    ]
    hub = Node("hub", "router", tuple(Port(f"net-{n}", (f"10.{n}.0.1", f"fd00:{n + 1:x}::1")) for n in range(wide)))
    edge = Node("edge", "router", (Port("net-0", ("10.0.0.2",), SLOW), Port("net-1", ("10.1.0.2",))))
    web = Node("web", "netns", (Port("net-1", ("10.1.0.80",)), Port("net-2", ("10.2.0.80",))))
    wires = (Wire(("hub", "edge"), SLOW), Wire(("edge", "web"), cut=True))
    return Graph("routed", tuple(networks), (*nodes, hub, edge, web), wires)
