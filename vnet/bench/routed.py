"""Routers in a row between the two processes, for what datagrams cost that cross them."""

from __future__ import annotations

from ..lan import Lan

__all__ = ["OURS", "PEERS", "ROUTERS", "build"]

# How many routers a datagram crosses.
ROUTERS = 8

# The network and the address of either process.
OURS = ("routed-near", "10.0.8.2")
PEERS = ("routed-far", "10.0.9.2")


def build(lan: Lan) -> None:
    """Adds the two networks and the routers between them: near, r1, ... r8, far."""
    for name, address in (OURS, PEERS):
        lan.add_network(name, address.rsplit(".", 1)[0] + ".0/24")
    with lan.routing.batch():
        for number in range(1, ROUTERS + 1):
            ends = {1: [OURS[0]], ROUTERS: [PEERS[0]]}
            lan.router(f"r{number}", ends.get(number, []))
        for number in range(1, ROUTERS):
            lan.link(f"r{number}", f"r{number + 1}")
