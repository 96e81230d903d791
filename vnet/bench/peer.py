"""The peer process of ``vnet bench``: does its half of what it is told on standard input, a JSON list a line."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys

from .. import _native
from ..control import attach
from . import routed
from .halves import Side, prepare_socket, send_half
from .streams import MTUS, network

__all__ = ["main"]


def main() -> None:
    """Runs until standard input ends."""
    setup = json.loads(sys.stdin.readline())
    if setup["processor"] is not None:
        os.sched_setaffinity(0, {setup["processor"]})
    sockets = {kind: prepare_socket(socket.socket(fileno=fd)) for kind, fd in setup["sockets"].items()}
    lan = setup["lan"]
    with attach(lan, "peer", network=setup["network"]) as nic, contextlib.ExitStack() as nics:
        streams = {}
        for mtu in MTUS:
            name, _, (_, own) = network(mtu)
            streams[mtu] = nics.enter_context(attach(lan, f"peer-{mtu}", own, network=name))
        beyond = nics.enter_context(attach(lan, "peer-routed", routed.PEERS[1], network=routed.PEERS[0]))
        arena, port = _native.Arena(setup["arena"]), setup["stream_port"]
        side = Side(arena, nic, setup["address"], sockets, streams, port, beyond, routed.OURS[1])
        print(nic.address, flush=True)
        for line in sys.stdin:
            name, size, count = json.loads(line)
            send_half(side, name, size, count)
            print("done", flush=True)


if __name__ == "__main__":
    main()
