"""``traffic``: streams of datagrams or of bytes between nodes, and what arrives of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from vnet.lab.expect import Expectation, NumberExpectation, expectations
from vnet.lab.plan import Node
from vnet.lab.schema import DatagramRate, TrafficFile, TrafficStepFile
from vnet.lab.steps.base import USUAL_TIMEOUT, Outcome, Stage, Step, StepContext
from vnet.lab.steps.ping import common_family
from vnet.lab.units import Dimension, parse_comparison, show
from vnet.traffic.parties import End
from vnet.traffic.plan import DEFAULT_RATE, DEFAULT_SIZE, IMIX, TrafficPlan

__all__ = ["TrafficStep", "plan"]

# Flows of one step; each is a socket at either end.
MOST_FLOWS = 4000


@dataclass(frozen=True)
class TrafficStep(Step):
    """``plan.flows`` flows for each of ``pairs``."""

    kind: ClassVar[str] = "traffic"

    pairs: tuple[tuple[End, End], ...] = field(repr=False)
    plan: TrafficPlan

    def title(self) -> str:
        first = self.pairs[0]
        who = f"{first[0].name} → {first[1].name}" if len(self.pairs) == 1 else f"{len(self.pairs)} pairs"
        flows = f", {self.plan.flows} flows" + (" each" if len(self.pairs) > 1 else "") if self.plan.flows > 1 else ""
        return f"{self.plan.protocol} traffic {who}: {self._amount()}{flows}"

    def _amount(self) -> str:
        plan = self.plan
        parts = []
        if plan.protocol == "udp":
            rate = f"{plan.datagrams:g}/s" if plan.datagrams is not None else show(plan.rate or 0, Dimension.RATE)
            parts.append(rate)
        if plan.duration is not None:
            parts.append(f"for {show(plan.duration, Dimension.DURATION)}")
        elif plan.count is not None:
            parts.append(f"{plan.count:,} datagrams")
        elif plan.size is not None:
            parts.append(show(plan.size, Dimension.SIZE))
        return " ".join(parts)

    @property
    def usual_timeout(self) -> float:
        return self.plan.seconds() + USUAL_TIMEOUT

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(end.name for pair in self.pairs for end in pair))

    def run(self, stage: Stage) -> Outcome:
        from vnet.lab.steps.traffic_guests import GuestParty
        from vnet.traffic.measuring import number_flows, run
        from vnet.traffic.parties import HostParty, Party

        parties: dict[str, Party] = {
            name: HostParty(stage.hosts[name]) if name in stage.hosts else GuestParty(stage, name)
            for name in self.nodes
        }
        flows = number_flows(self.pairs, self.plan, stage.random.getrandbits(32))
        result = run(flows, parties, self.plan, stage.limit.sleep)
        metrics: dict[str, float | str | None] = {
            name: value if not isinstance(value, float) or math.isfinite(value) else None
            for name, value in {
                "throughput": result.throughput,
                "loss": result.loss,
                "jitter": result.jitter,
                "min": result.min,
                "avg": result.avg,
                "p50": result.p50,
                "p90": result.p90,
                "p99": result.p99,
                "max": result.max,
                "sent": result.sent,
                "received": result.received,
                "out_of_order": result.out_of_order,
                "duplicates": result.duplicates,
                "bytes_sent": result.bytes_sent,
                "bytes_received": result.bytes_received,
                "failed": len(result.failures),
            }.items()
        }
        summary = show(result.throughput, Dimension.RATE)
        if result.sent:
            summary += f", {show(result.loss, Dimension.FRACTION)} lost, p99 {show(result.p99, Dimension.DURATION)}"
        if result.failures:
            summary += f", {len(result.failures)} of {len(result.flows)} flows failed"
        lost = {v: n for v, n in result.verdicts.items() if n and v.name != "DELIVERED"}
        details = [f"{count:,} datagrams were {verdict.name.lower()}" for verdict, count in lost.items()]
        return Outcome(summary, metrics, details=(*result.failures[:10], *details))


def plan(said: TrafficStepFile, context: StepContext) -> TrafficStep:
    """Resolve the nodes of a traffic step, and see that its datagrams fit their networks.

    Raises:
        LabError: a node is unknown or cannot take part, two have no addresses of one family, a size cannot be.
    """
    traffic = said.traffic
    traffic_plan = _plan(traffic, context)
    sources = [_guest(context, name, "from", index) for index, name in enumerate(traffic.from_)]
    targets = [_guest(context, name, "to", index) for index, name in enumerate(traffic.to)]
    if len(sources) == len(targets):
        chosen = list(zip(sources, targets, strict=True))
    else:
        chosen = [(source, target) for source in sources for target in targets if source.name != target.name]
    if len(chosen) * traffic_plan.flows > MOST_FLOWS:
        raise context.error(f"{len(chosen) * traffic_plan.flows:,} flows are too many; expected at most {MOST_FLOWS:,}")
    given = expectations(said.expect)
    return TrafficStep(
        name=said.name or "",
        line=context.line,
        expectations=given if any(e.metric == "failed" for e in given) else (_no_failure(), *given),
        timeout=said.timeout,
        pairs=tuple(_pair(source, target, traffic.family, traffic_plan, context) for source, target in chosen),
        plan=traffic_plan,
    )


def _no_failure() -> Expectation:
    return NumberExpectation("failed", parse_comparison(0, Dimension.COUNT))


def _plan(said: TrafficFile, context: StepContext) -> TrafficPlan:
    sizes: Sequence[int] = (
        IMIX if said.size == "imix" else [DEFAULT_SIZE] if said.size is None else list(map(int, said.size))
    )
    amount = said.count if said.protocol == "udp" else None if said.bytes is None else int(said.bytes)
    per_second = isinstance(said.rate, DatagramRate)
    try:
        return TrafficPlan(
            protocol=said.protocol,
            rate=None if per_second else said.rate or DEFAULT_RATE,
            datagrams=float(said.rate) if per_second and said.rate is not None else None,
            sizes=tuple(sizes),
            duration=(said.duration or 1.0) if amount is None else None,
            count=said.count,
            size=None if said.bytes is None else int(said.bytes),
            flows=said.flows,
            port=said.port,
        )
    except ValueError as error:
        raise context.error(str(error)) from None


def _guest(context: StepContext, name: str, key: str, index: int) -> Node:
    place = (key, index) if (*context.path, key, index) in context.tree.values else (key,)
    node = context.node(name, *place)
    if node.kind not in ("host", "process"):
        return context.host(name, *place, instead="iperf3")
    if node.commands:
        message = f"{name!r} is a process node whose own command holds its NIC; expected a host, or one without 'exec'"
        raise context.error(message, *place)
    return node


def _pair(
    source: Node, target: Node, family: int | None, traffic: TrafficPlan, context: StepContext
) -> tuple[End, End]:
    if source.name == target.name:
        raise context.error(f"{source.name!r} cannot send to itself; expected another node", "to")
    version = family or common_family(source, target)
    ends = (source.address(version), target.address(version)) if version else (None, None)
    if version is None or ends[0] is None or ends[1] is None:
        lacking = f"IPv{version} address" if version else "address of one family"
        raise context.error(f"{source.name!r} and {target.name!r} do not both have an {lacking}", "to")
    mtu = min(context.networks[node.network].mtu for node in (source, target))
    try:
        traffic.check_size(version, mtu)
    except ValueError as error:
        raise context.error(str(error), "size") from None
    return End(source.name, str(ends[0])), End(target.name, str(ends[1]))
