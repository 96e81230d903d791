"""Traffic between guests, measured: datagrams at a rate, or streams as fast as they go."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, TypeVar

from . import _native
from .errors import VnetError
from .verdict import Verdict

if TYPE_CHECKING:
    from .hosts import Host

__all__ = ["IMIX", "FlowResult", "TrafficPlan", "TrafficResult", "between"]

IMIX = (64, 64, 576, 64, 64, 576, 64, 576, 64, 64, 576, 1500)
"""The simple Internet mix, in bytes of IP: of twelve datagrams 7 of 64, 4 of 576 and 1 of 1,500."""

DEFAULT_PORT = 5201
DEFAULT_RATE = 1e6
DEFAULT_SIZE = 1400
# Bytes of the payload that carry the flow, the number and the time.
_MARK = 16
# Seconds after the last arrival in which a datagram that was delivered into a buffer is still waited for.
_DRAIN = 1.0
_LARGEST_RATE = 1e12


@dataclass(frozen=True)
class TrafficPlan:
    """What each flow sends.

    Attributes:
        protocol: ``udp`` or ``tcp``.
        rate: bits of IP a second (UDP).
        datagrams: in place of ``rate``: datagrams a second (UDP).
        sizes: bytes of IP of the datagrams, which take turns (UDP).
        duration: seconds to send.
        count: in place of ``duration``: datagrams (UDP).
        size: in place of ``duration``: bytes (TCP).
        flows: between each pair of guests.
        port: at the receiver.

    Raises:
        ValueError: it cannot be sent; the message is one sentence.
    """

    protocol: str = "udp"
    rate: float | None = DEFAULT_RATE
    datagrams: float | None = None
    sizes: tuple[int, ...] = (DEFAULT_SIZE,)
    duration: float | None = 1.0
    count: int | None = None
    size: int | None = None
    flows: int = 1
    port: int = DEFAULT_PORT

    def __post_init__(self) -> None:
        if self.protocol not in ("udp", "tcp"):
            raise ValueError(f"protocol is 'udp' or 'tcp', not {self.protocol!r}")
        if not 1 <= self.port <= 65_535:
            raise ValueError(f"port is 1 to 65,535, not {self.port}")
        if not 1 <= self.flows <= 1000:
            raise ValueError(f"flows is 1 to 1,000, not {self.flows}")
        number = self.count if self.protocol == "udp" else self.size
        if (self.duration is None) is (number is None):
            raise ValueError(f"expected either a duration or a {'count' if self.protocol == 'udp' else 'size'}")
        if self.duration is not None and not 0 < self.duration <= 86_400:
            raise ValueError(f"duration is above 0 s and at most a day, not {self.duration:g} s")
        if number is not None and number < 1:
            raise ValueError(f"{'count' if self.protocol == 'udp' else 'size'} is at least 1, not {number}")
        rate = self.rate if self.datagrams is None else self.datagrams
        if self.protocol == "udp" and (rate is None or not 0 < rate <= _LARGEST_RATE):
            raise ValueError(f"a rate is above 0 and at most 10^12 a second, not {rate}")

    def check_size(self, family: int, mtu: int) -> None:
        """Whether datagrams of these sizes can be sent over IPv4 or IPv6 on a network of this MTU.

        Raises:
            ValueError: one is too small to carry what is measured by, or larger than the MTU.
        """
        least = _MARK + (28 if family == 4 else 48)
        for size in self.sizes if self.protocol == "udp" else ():
            if size < least:
                raise ValueError(
                    f"a datagram of IPv{family} that can be measured has at least {least} bytes, not {size}"
                )
            if size > mtu:
                raise ValueError(f"a datagram of {size} bytes is larger than the MTU of {mtu}")

    def seconds(self) -> float:
        """About how long a flow sends; 0 where that depends on how fast it goes."""
        if self.duration is not None:
            return self.duration
        if self.protocol == "tcp" or self.count is None:
            return 0.0
        if self.datagrams is not None:
            return self.count / self.datagrams
        return self.count * sum(self.sizes) / len(self.sizes) * 8 / (self.rate or DEFAULT_RATE)


@dataclass(frozen=True)
class FlowResult:
    """One flow.  Times in seconds; nan where nothing was measured.  Bytes and rates as in :class:`TrafficResult`.

    Attributes:
        source, destination: the guests' names.
        failure: why it did not come about; empty where it did.
    """

    source: str
    destination: str
    sent: int
    received: int
    bytes_sent: int
    bytes_received: int
    throughput: float
    jitter: float
    avg: float
    out_of_order: int
    duplicates: int
    failure: str = ""

    @property
    def loss(self) -> float:
        """Share of the datagrams that never arrived, 0 to 1; nan for TCP."""
        return 1 - self.received / self.sent if self.sent else math.nan


@dataclass(frozen=True)
class TrafficResult:
    """What came of traffic, over all flows.  Times in seconds; nan where nothing was measured, as latency of TCP.

    Attributes:
        protocol: ``udp`` or ``tcp``.
        seconds: from the first departure to the end of the last interval, or to the last arrival.
        sent, received: datagrams, received ones once each; 0 for TCP.
        bytes_sent, bytes_received: of IP datagrams for UDP, of the stream for TCP.
        throughput: received bits a second.
        jitter: RFC 3550 section 6.4.1, the mean of the flows.
        min, avg, max: latency, one way.
        out_of_order, duplicates: datagrams.
        verdicts: what the LAN said when the datagrams were sent.
        flows: each by itself.
    """

    protocol: str
    seconds: float
    sent: int
    received: int
    bytes_sent: int
    bytes_received: int
    throughput: float
    jitter: float
    min: float
    avg: float
    max: float
    out_of_order: int
    duplicates: int
    verdicts: Mapping[Verdict, int]
    flows: tuple[FlowResult, ...]
    _latencies: tuple[tuple[int, int], ...] = field(default=(), repr=False)

    @property
    def loss(self) -> float:
        """Share of the datagrams that never arrived, 0 to 1; nan for TCP."""
        return 1 - self.received / self.sent if self.sent else math.nan

    def percentile(self, share: float) -> float:
        """The latency in seconds that ``share`` (0 to 1) of the datagrams stay within, to three digits."""
        total = sum(count for _, count in self._latencies)
        if not total:
            return math.nan
        wanted, passed = max(1, math.ceil(share * total)), 0
        for value, count in self._latencies:
            passed += count
            if passed >= wanted:
                return min(value / 1e9, self.max)
        return self.max

    @property
    def p50(self) -> float:
        """Median latency in seconds."""
        return self.percentile(0.5)

    @property
    def p90(self) -> float:
        """Latency in seconds that 90% of the datagrams stay within."""
        return self.percentile(0.9)

    @property
    def p99(self) -> float:
        """Latency in seconds that 99% of the datagrams stay within."""
        return self.percentile(0.99)

    @property
    def failures(self) -> tuple[str, ...]:
        """Why flows did not come about, one sentence for each that did not."""
        return tuple(f"{flow.source} → {flow.destination}: {flow.failure}" for flow in self.flows if flow.failure)


# --- parties ----------------------------------------------------------------------------------------------------------


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


# --- the whole --------------------------------------------------------------------------------------------------------


def run(
    flows: Sequence[FlowSpec],
    parties: Mapping[str, Party],
    plan: TrafficPlan,
    pause: Callable[[float], None] = time.sleep,
) -> TrafficResult:
    """Send the flows and measure what arrives.

    Args:
        flows: with numbers of their own.
        parties: by the names of the flows' ends.
        plan: what each flow sends.
        pause: waits so many seconds; raises where the traffic is not wanted any more.

    Raises:
        VnetError: a party could not take part.
    """
    incoming = {name: [flow for flow in flows if flow.destination.name == name] for name in parties}
    outgoing = {name: [flow for flow in flows if flow.source.name == name] for name in parties}
    try:
        for name, party in parties.items():
            party.prepare(incoming[name], outgoing[name], plan)
        # A guest in a process of its own hears of it first.
        at = time.monotonic() + (0.02 if any(not isinstance(party, HostParty) for party in parties.values()) else 0.0)
        for party in sorted(parties.values(), key=lambda party: isinstance(party, HostParty)):
            if isinstance(party, HostParty) and (left := at - time.monotonic()) > 0:
                pause(left)
            party.begin(at)
        sent: dict[int, Sent] = {}
        for name, party in parties.items():
            sent.update(zip((flow.number for flow in outgoing[name]), _wait(party.sent, pause), strict=True))
        for name, party in parties.items():
            party.expect([_expected(sent[flow.number]) for flow in incoming[name]])
        arrived = {name: _wait(party.arrivals, pause) for name, party in parties.items()}
    finally:
        for party in parties.values():
            party.end()
    return _result(plan, flows, sent, incoming, arrived)


T = TypeVar("T")


def _wait(ask: Callable[[], T | None], pause: Callable[[float], None]) -> T:
    nap = 0.0005
    while (answer := ask()) is None:
        pause(nap)
        nap = min(nap * 1.5, 0.02)
    return answer


def _expected(sent: Sent) -> int:
    return sent.verdicts[Verdict.DELIVERED] if sent.datagrams else sent.bytes


def _result(
    plan: TrafficPlan,
    flows: Sequence[FlowSpec],
    sent: Mapping[int, Sent],
    incoming: Mapping[str, Sequence[FlowSpec]],
    arrived: Mapping[str, Arrivals],
) -> TrafficResult:
    came = {
        flow.number: arrivals
        for name in incoming
        for flow, arrivals in zip(incoming[name], arrived[name].flows, strict=True)
    }
    refused = {name: arrivals.failure for name, arrivals in arrived.items() if arrivals.failure}
    results = [_flow(plan, flow, sent[flow.number], came[flow.number], refused) for flow in flows]
    begun = [sent[flow.number].first for flow in flows if sent[flow.number].first]
    ends = [max(_end(plan, sent[flow.number]), came[flow.number].last) for flow in flows]
    seconds = max(0.0, (max(ends) - min(begun)) / 1e9) if begun else 0.0
    received, size = sum(flow.received for flow in results), sum(flow.bytes_received for flow in results)
    latencies: dict[int, int] = {}
    for value, count in itertools.chain.from_iterable(arrivals.latencies for arrivals in arrived.values()):
        latencies[value] = latencies.get(value, 0) + count
    extremes = [arrivals.extremes for arrivals in arrived.values() if arrivals.extremes is not None]
    total = sum(arrivals.latency for arrivals in came.values())
    weights = [(flow.jitter, flow.received) for flow in results if flow.received and not math.isnan(flow.jitter)]
    return TrafficResult(
        protocol=plan.protocol,
        seconds=seconds,
        sent=sum(flow.sent for flow in results),
        received=received,
        bytes_sent=sum(flow.bytes_sent for flow in results),
        bytes_received=size,
        throughput=size * 8 / seconds if seconds else 0.0,
        jitter=sum(jitter * count for jitter, count in weights) / sum(count for _, count in weights)
        if weights
        else math.nan,
        min=min((low for low, _ in extremes), default=math.nan) / 1e9,
        avg=total / received / 1e9 if received else math.nan,
        max=max((high for _, high in extremes), default=math.nan) / 1e9,
        out_of_order=sum(flow.out_of_order for flow in results),
        duplicates=sum(flow.duplicates for flow in results),
        verdicts=MappingProxyType({v: sum(one.verdicts[v] for one in sent.values()) for v in Verdict}),
        flows=tuple(results),
        _latencies=tuple(sorted(latencies.items())),
    )


def _end(plan: TrafficPlan, sent: Sent) -> int:
    # A stream is over when its last byte has arrived; that its sender heard of it says nothing about the stream.
    return sent.last if plan.protocol == "udp" else sent.first


def _flow(
    plan: TrafficPlan, flow: FlowSpec, sent: Sent, came: Arrived, refused: Mapping[str, str | None]
) -> FlowResult:
    seconds = (max(_end(plan, sent), came.last) - sent.first) / 1e9 if sent.first else 0.0
    failure = sent.failure or ""
    if why := refused.get(flow.destination.name):
        failure = f"{flow.destination.name} could not receive: {why}"
    return FlowResult(
        source=flow.source.name,
        destination=flow.destination.name,
        sent=sent.datagrams,
        received=came.received,
        bytes_sent=sent.bytes,
        bytes_received=came.bytes,
        throughput=came.bytes * 8 / seconds if seconds > 0 else 0.0,
        jitter=came.jitter / 1e9 if came.received > 1 else math.nan,
        avg=came.latency / came.received / 1e9 if came.received else math.nan,
        out_of_order=came.out_of_order,
        duplicates=came.duplicates,
        failure=failure,
    )


def number_flows(pairs: Iterable[tuple[End, End]], plan: TrafficPlan, first: int) -> tuple[FlowSpec, ...]:
    """``plan.flows`` flows for each pair; numbers begin at ``first``, which differs from run to run."""
    ends = [(source, destination) for source, destination in pairs for _ in range(plan.flows)]
    return tuple(FlowSpec((first + n) % 2**32, *pair) for n, pair in enumerate(ends))


def between(source: Host, destination: Host, plan: TrafficPlan, family: int | None = None) -> TrafficResult:
    """Send flows from one built-in host to another and measure what arrives; see :meth:`vnet.Host.traffic`.

    Raises:
        ValueError: the two have no addresses of one family, or the plan does not fit their network.
        VnetError: one of them is off the LAN.
    """
    for version in (4, 6) if family is None else (family,):
        addresses = [
            next((a for a in host.addresses if (":" in a) is (version == 6)), None) for host in (source, destination)
        ]
        if addresses[0] is not None and addresses[1] is not None:
            break
    else:
        raise ValueError(f"{source.name!r} and {destination.name!r} have no addresses of one family")
    plan.check_size(version, min(source.mtu, destination.mtu))
    ends = (End(source.name, addresses[0]), End(destination.name, addresses[1]))
    flows = number_flows([ends], plan, time.monotonic_ns() & 0xFFFF_FFFF)
    result = run(flows, {host.name: HostParty(host) for host in (source, destination)}, plan)
    if result.failures:
        raise VnetError(result.failures[0])
    return result
