"""A process that takes part in traffic: ``python -m vnet.traffic.guest CALL`` holds the NIC that ``VNET_NIC`` names.

It asks the base what to do with the call ``CALL``, whose answers are, in this order::

    {"plan": ..., "incoming": [...], "outgoing": [...]}    it opens its sinks and calls {"ready": true}
    {"begin": seconds of the monotonic clock}              it sends, and calls {"sent": [...]}
    {"expect": [datagrams of each incoming flow]}          it waits for them, and prints what arrived

It prints because a line of output may be longer than a request.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from typing import Any

import vnet
from vnet import _native, calls
from vnet.errors import VnetError
from vnet.nic import Nic
from vnet.traffic.parties import (
    Drain,
    End,
    FlowSpec,
    check_sink,
    make_sink,
    make_source,
    read_arrivals,
    read_sent,
)
from vnet.traffic.plan import TrafficPlan

__all__ = ["main"]

# Seconds of driving between two looks at what the base says.
_SLICE = 0.02


def main(do: str) -> None:
    """Take part, as the base says."""
    lan, name = os.environ["VNET_LAN"], os.environ["VNET_NIC"]
    with calls.stream(lan, do, node=name) as orders:
        task = _answer(orders)
        plan = TrafficPlan(**{**task["plan"], "sizes": tuple(task["plan"]["sizes"])})
        incoming, outgoing = ([_flow(flow) for flow in task[which]] for which in ("incoming", "outgoing"))
        with vnet.attach() as nic:
            _take_part(nic, orders, do, plan, incoming, outgoing)


def _take_part(
    nic: Nic,
    orders: calls.Stream,
    do: str,
    plan: TrafficPlan,
    incoming: list[FlowSpec],
    outgoing: list[FlowSpec],
) -> None:
    # A prefix of no bits: from here everybody is a neighbour, and who is not is the LAN's to say.
    guest = _native.TrafficGuest([(own, 0) for own in nic.addresses], nic.mtu, time.monotonic_ns() & 0xFFFF_FFFF)
    sink = make_sink(plan, incoming)
    guest.start(sink)
    guest.drive(nic, 0.0)
    check_sink(sink, nic.name)
    calls.call(str(nic.lan), do, node=nic.name, ready=True)
    # Nobody sends before the beginning.
    begin = float(_answer(orders)["begin"])
    time.sleep(max(0.0, begin - time.monotonic()))
    sources = [make_source(plan, flow) for flow in outgoing]
    for source in sources:
        guest.start(source)
    while not all(source.wait(0) for source in sources):
        guest.drive(nic, _SLICE)
    calls.call(str(nic.lan), do, node=nic.name, sent=[dataclasses.asdict(read_sent(source)) for source in sources])
    while (order := _look(orders)) is None:
        guest.drive(nic, _SLICE)
    drain = Drain(sink, order["expect"])
    while not sink.wait(0) and not drain.is_over():
        guest.drive(nic, _SLICE / 4)
    print(json.dumps(dataclasses.asdict(read_arrivals(sink))), flush=True)


def _flow(said: dict[str, Any]) -> FlowSpec:
    return FlowSpec(said["number"], End(**said["source"]), End(**said["destination"]))


def _answer(orders: calls.Stream) -> dict[str, Any]:
    answer = orders.next()
    if answer is None:
        raise VnetError("the traffic is over")
    return answer


def _look(orders: calls.Stream) -> dict[str, Any] | None:
    try:
        answer = orders.next(0.0)
    except TimeoutError:
        return None
    if answer is None:
        raise VnetError("the traffic is over")
    return answer


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except VnetError as error:
        sys.exit(f"{type(error).__name__}: {error}")
