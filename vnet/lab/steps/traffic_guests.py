"""Process nodes that take part in traffic: a process for each, which holds the node's NIC meanwhile."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import queue
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vnet.calls import Call
from vnet.errors import VnetError
from vnet.lab.commands import Command, describe_end
from vnet.lab.steps.base import Stage
from vnet.traffic.parties import Arrivals, Arrived, FlowSpec, Sent
from vnet.traffic.plan import TrafficPlan

__all__ = ["GuestParty"]

_numbers = itertools.count(1)


def _handler(
    orders: queue.SimpleQueue[Mapping[str, Any] | None], hear: Callable[[Call], None]
) -> Callable[[Any, Call], Mapping[str, Any] | None]:
    """Serves both kinds of calls of a process: the one by which it gets its orders, and those by which it tells."""

    def serve(_: Any, call: Call) -> Mapping[str, Any] | None:
        if "ready" in call.request or "sent" in call.request:
            hear(call)
            return None
        while not call.gone(0.001):
            with contextlib.suppress(queue.Empty):
                order = orders.get_nowait()
                if order is None:
                    break
                call.send(order)
        return None

    return serve


class GuestParty:
    """A process node's part; :mod:`vnet.traffic.guest` is the other side of the conversation."""

    def __init__(self, stage: Stage, node: str) -> None:
        self._stage = stage
        self._node = node
        self._do = f"traffic {next(_numbers)}"
        self._orders: queue.SimpleQueue[Mapping[str, Any] | None] = queue.SimpleQueue()
        self._ready = False
        self._sent: list[Sent] | None = None
        self._command: Command | None = None

    def prepare(self, incoming: Sequence[FlowSpec], outgoing: Sequence[FlowSpec], plan: TrafficPlan) -> None:
        flows = {
            name: [dataclasses.asdict(flow) for flow in some]
            for name, some in (("incoming", incoming), ("outgoing", outgoing))
        }
        self._orders.put({"plan": dataclasses.asdict(plan), **flows})
        # It holds the LAN by way of this party, until end() takes it back.
        self._stage.lan.serve(self._do, _handler(self._orders, self._hear))
        node = self._stage.lab.nodes[self._node]
        self._command = Command(
            [sys.executable, "-m", "vnet.traffic.guest", self._do],
            environment={**self._stage.environment, **dict(node.environment), "VNET_NIC": node.nics[0]},
            directory=self._stage.lab.directory,
            guard=self._stage.lan,
        )
        while not self._ready:
            self._check()
            self._stage.limit.sleep(0.002)

    def begin(self, at: float) -> None:
        self._orders.put({"begin": at})

    def sent(self) -> Sequence[Sent] | None:
        if self._sent is None:
            self._check()
        return self._sent

    def expect(self, datagrams: Sequence[int]) -> None:
        self._orders.put({"expect": list(datagrams)})

    def arrivals(self) -> Arrivals | None:
        assert self._command is not None
        if self._command.code is None:
            return None
        self._check(over=True)
        said = json.loads(self._command.output.text())
        flows = tuple(Arrived(**flow) for flow in said["flows"])
        extremes = None if said["extremes"] is None else (said["extremes"][0], said["extremes"][1])
        return Arrivals(flows, tuple((value, count) for value, count in said["latencies"]), extremes, said["failure"])

    def end(self) -> None:
        self._orders.put(None)
        if self._command is not None:
            self._command.stop()
        self._stage.lan.unserve(self._do)

    def _hear(self, call: Call) -> None:
        """What the process tells, in a thread of the base."""
        if call.request.get("ready"):
            self._ready = True
        elif (sent := call.request.get("sent")) is not None:
            self._sent = [Sent(**{**one, "verdicts": tuple(one["verdicts"])}) for one in sent]

    def _check(self, *, over: bool = False) -> None:
        """Whether the process goes on as it should."""
        assert self._command is not None
        code = self._command.code
        if code is None or (over and code == 0):
            return
        self._command.errors.finish()
        tail = self._command.errors.tail()
        words = f"; its last output was: {tail}" if tail else ""
        raise VnetError(f"the traffic program on {self._node!r} {describe_end(code)}{words}")
