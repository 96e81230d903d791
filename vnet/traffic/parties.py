"""Guests that take part in traffic: what they are asked, what they answer, and built-in hosts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from vnet import _native
from vnet.errors import VnetError
from vnet.traffic.plan import DEFAULT_RATE, TrafficPlan

if TYPE_CHECKING:
    from vnet.hosts import Host

__all__ = [
    "Arrivals",
    "Arrived",
    "Drain",
    "End",
    "FlowSpec",
    "HostParty",
    "check_sink",
    "Party",
    "Sent",
    "make_sink",
    "make_source",
    "read_arrivals",
    "read_sent",
]

# Seconds after the last arrival in which a datagram that was delivered into a buffer is still waited for.
_DRAIN = 1.0


@dataclass(frozen=True)
class End:
    """One end of a flow: the guest's name and its address."""

    name: str
    address: str


@dataclass(frozen=True)
class FlowSpec:
    """A flow with its number, which is how a receiver tells it from whatever else comes."""

    number: int
    source: End
    destination: End


@dataclass(frozen=True)
class Sent:
    """What a source did; times in nanoseconds of the monotonic clock."""

    datagrams: int
    bytes: int
    verdicts: tuple[int, ...]
    first: int
    last: int
    failure: str | None


@dataclass(frozen=True)
class Arrived:
    """What arrived of one flow; times in nanoseconds."""

    received: int
    bytes: int
    duplicates: int
    out_of_order: int
    jitter: float
    latency: int
    first: int
    last: int


@dataclass(frozen=True)
class Arrivals:
    """What arrived at one guest."""

    flows: tuple[Arrived, ...]
    latencies: tuple[tuple[int, int], ...]
    extremes: tuple[int, int] | None
    failure: str | None


class Party(Protocol):
    """A guest that takes part, with the sinks and sources that it runs."""

    def prepare(self, incoming: Sequence[FlowSpec], outgoing: Sequence[FlowSpec], plan: TrafficPlan) -> None:
        """Begin to take in ``incoming``, and be ready to send ``outgoing``."""

    def begin(self, at: float) -> None:
        """Send, from ``at`` on, in seconds of the monotonic clock."""

    def sent(self) -> Sequence[Sent] | None:
        """What the sources did, in their order; None while one is at work."""

    def expect(self, datagrams: Sequence[int]) -> None:
        """So many datagrams of each flow were delivered: they are still to be waited for."""

    def arrivals(self) -> Arrivals | None:
        """What arrived, in the order of the flows; None while something is waited for."""

    def end(self) -> None:
        """Stop all that still runs.  May be called twice."""


def make_sink(plan: TrafficPlan, flows: Sequence[FlowSpec]) -> _native.Program:
    """A program that takes the flows in."""
    make = _native.Program.udp_sink if plan.protocol == "udp" else _native.Program.tcp_sink
    return make(plan.port, [flow.number for flow in flows])


def make_source(plan: TrafficPlan, flow: FlowSpec) -> _native.Program:
    """A program that sends the flow."""
    to = (flow.destination.address, plan.port)
    if plan.protocol == "tcp":
        return _native.Program.tcp_source(flow.number, flow.source.address, to, plan.duration, plan.size)
    bits = None if plan.datagrams is not None else max(1, round(plan.rate or DEFAULT_RATE))
    # A rate such as 0.5/s as whole numbers.
    datagrams = None if plan.datagrams is None else (max(1, round(plan.datagrams * 1000)), 1000)
    return _native.Program.udp_source(
        flow.number, flow.source.address, to, list(plan.sizes), bits, datagrams, plan.duration, plan.count
    )


def read_sent(program: _native.Program) -> Sent:
    """What a source has done so far."""
    datagrams, size, verdicts, first, last, failure = program.sent()
    return Sent(datagrams, size, tuple(verdicts), first, last, failure)


def read_arrivals(program: _native.Program) -> Arrivals:
    """What has arrived at a sink so far."""
    flows, latencies, extremes, failure = program.tally()
    return Arrivals(tuple(Arrived(*flow) for flow in flows), tuple(latencies), extremes, failure)


def check_sink(sink: _native.Program, name: str) -> None:
    """Whether a sink that is ready has its port.

    Raises:
        VnetError: it has not, and says why.
    """
    if why := sink.tally()[3]:
        raise VnetError(f"{name} could not receive: {why}")


class Drain:
    """Waits for what is on its way to a sink, but not longer than nothing comes any more."""

    def __init__(self, sink: _native.Program, expected: Sequence[int]) -> None:
        self._sink = sink
        self._expected = expected
        self._before: Sequence[int] = ()
        self._quiet_since = time.monotonic()

    def is_over(self) -> bool:
        """Whether all has come, or nothing has for a while."""
        now = self._sink.arrived()
        if all(came >= expected for came, expected in zip(now, self._expected, strict=True)):
            return True
        if now != self._before:
            self._before, self._quiet_since = now, time.monotonic()
        return time.monotonic() - self._quiet_since > _DRAIN


class HostParty:
    """A built-in host that takes part."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._sink: _native.Program | None = None
        self._sources: list[_native.Program] = []
        self._drain: Drain | None = None

    def prepare(self, incoming: Sequence[FlowSpec], outgoing: Sequence[FlowSpec], plan: TrafficPlan) -> None:
        if incoming:
            self._sink = make_sink(plan, incoming)
            self._host._start(self._sink)
            while not self._sink.ready():
                time.sleep(0.0001)
            check_sink(self._sink, self._host.name)
        self._sources = [make_source(plan, flow) for flow in outgoing]

    def begin(self, at: float) -> None:
        for source in self._sources:
            self._host._start(source)

    def sent(self) -> Sequence[Sent] | None:
        if not all(source.wait(0) for source in self._sources):
            return None
        return [read_sent(source) for source in self._sources]

    def expect(self, datagrams: Sequence[int]) -> None:
        if self._sink is not None:
            self._drain = Drain(self._sink, datagrams)

    def arrivals(self) -> Arrivals | None:
        if self._sink is None or self._drain is None:
            return Arrivals((), (), None, None)
        if not self._sink.wait(0) and not self._drain.is_over():
            return None
        return read_arrivals(self._sink)

    def end(self) -> None:
        programs = [*self._sources, *([self._sink] if self._sink is not None else [])]
        for program in programs:
            program.stop()
        self._host._wake()
        for program in programs:
            # A visit takes microseconds; whoever has not been started has nothing to end.
            program.wait(0.5 if program is self._sink or program.sent()[3] else 0.0)
