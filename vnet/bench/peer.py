"""The peer process of ``vnet bench``: does its half of what it is told on standard input, a JSON list a line."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import sys
import threading
import time

from .. import _native
from ..control import attach
from . import routed
from .halves import Side, prepare_socket, send_half
from .shared import Shared
from .streams import MTUS, network

__all__ = ["main"]

# Seconds to end in good order after standard input has ended.
_GRACE = 1.0


def main() -> None:
    """Runs until standard input ends."""
    setup = json.loads(sys.stdin.readline())
    if setup["processor"] is not None:
        os.sched_setaffinity(0, {setup["processor"]})
    sockets = {kind: socket.socket(fileno=fd) for kind, fd in setup["sockets"].items()}
    for kind, sock in sockets.items():
        # Streams lose nothing and end with their peer, so they wait for as long as it takes.
        if kind != "stream":
            prepare_socket(sock)
    threading.Thread(target=_watch_parent, name="vnet-bench", daemon=True).start()
    lan = setup["lan"]
    with attach(lan, "peer", network=setup["network"]) as nic, contextlib.ExitStack() as nics:
        streams = {}
        for mtu in MTUS:
            name, _, (_, own) = network(mtu)
            streams[mtu] = nics.enter_context(attach(lan, f"peer-{mtu}", own, network=name))
        beyond = nics.enter_context(attach(lan, "peer-routed", routed.PEERS[1], network=routed.PEERS[0]))
        arena, port = _native.Arena(setup["arena"]), setup["stream_port"]
        shared = Shared(arena, nic, "bench", sockets["stream"], lan)
        side = Side(arena, nic, setup["address"], sockets, streams, port, beyond, routed.OURS[1], shared)
        print(nic.address, flush=True)
        for line in sys.stdin:
            name, size, count = json.loads(line)
            send_half(side, name, size, count)
            print("done", flush=True)


def _watch_parent() -> None:
    # In the middle of its half, this process would not see that whom it measures with has gone.
    poll = select.poll()
    poll.register(sys.stdin.fileno(), 0)
    poll.poll()
    time.sleep(_GRACE)
    os._exit(1)


if __name__ == "__main__":
    main()
