"""Sends flows between parties and works out what came of them."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from vnet.errors import VnetError
from vnet.traffic.parties import Arrivals, Arrived, End, FlowSpec, HostParty, Party, Sent
from vnet.traffic.plan import TrafficPlan
from vnet.traffic.results import FlowResult, TrafficResult
from vnet.verdict import Verdict

if TYPE_CHECKING:
    from vnet.hosts import Host

__all__ = ["between", "number_flows", "run"]


T = TypeVar("T")


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
    if family not in (None, 4, 6):
        raise ValueError(f"family is 4 or 6, not {family}")
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
