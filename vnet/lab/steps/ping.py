"""``ping``: a host or a namespace sends echo requests to a node or an address."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from vnet.lab.addresses import parse_address
from vnet.lab.expect import NumberExpectation, expectations
from vnet.lab.limits import Limit
from vnet.lab.pinging import NamespacePing
from vnet.lab.plan import Node
from vnet.lab.schema import PingStepFile
from vnet.lab.steps.base import USUAL_TIMEOUT, Outcome, Stage, Step, StepContext
from vnet.lab.tree import did_you_mean
from vnet.lab.units import Dimension, parse_comparison, show

__all__ = [
    "PingStep",
    "abandon",
    "common_family",
    "destination",
    "no_loss",
    "ping_metrics",
    "plan",
    "settled",
    "start_ping",
]


@dataclass(frozen=True)
class PingStep(Step):
    """``count`` echo requests of ``size`` payload bytes from ``sender`` to ``destination``."""

    kind: ClassVar[str] = "ping"

    sender: str
    target: str
    destination: str
    count: int
    interval: float
    patience: float
    size: int
    ttl: int

    def title(self) -> str:
        address = f" ({self.destination})" if self.destination != self.target else ""
        return f"ping {self.sender} → {self.target}{address}"

    @property
    def usual_timeout(self) -> float:
        return self.count * max(self.interval, self.patience) + USUAL_TIMEOUT

    @property
    def nodes(self) -> tuple[str, ...]:
        return (self.sender, self.target) if self.target != self.destination else (self.sender,)

    def run(self, stage: Stage) -> Outcome:
        settings = {"interval": self.interval, "timeout": self.patience, "size": self.size, "ttl": self.ttl}
        run = start_ping(stage, self.sender, self.destination, count=self.count, **settings)
        result = settled(run, stage.limit)
        metrics: dict[str, float | str | None] = {**ping_metrics(result.sent, result.received, result.rtts)}
        metrics["error"] = ", ".join(dict.fromkeys(map(str, result.errors)))
        summary = f"{result.received}/{result.sent} replies"
        if result.rtts:
            summary += f", avg {show(float(metrics['avg'] or 0), Dimension.DURATION)}"
        elif result.errors:
            summary += f", {reasons(result.errors)}"
        return Outcome(summary, metrics, details=(reasons(result.errors),) if result.errors else ())


def start_ping(stage: Stage, sender: str, destination: str, **settings: Any) -> Any:
    """Start echo requests of a host or a namespace; the settings are those of :meth:`vnet.Host.start_ping`.

    Raises:
        MachineLacks: the machine has no ping for its namespaces.
    """
    if sender in stage.hosts:
        return stage.hosts[sender].start_ping(destination, **settings)
    return NamespacePing(
        stage.namespaces[sender],
        destination,
        environment=stage.environment_of(sender),
        directory=stage.lab.directory,
        guard=stage.lan,
        **settings,
    )


def settled(run: Any, limit: Limit) -> Any:
    """What came of a run of echo requests, once all are settled.

    Raises:
        StepEnded: the step must end before.
    """
    try:
        while True:
            limit.check()
            # In slices: the run may be taken down meanwhile.
            with contextlib.suppress(TimeoutError):
                return run.result(timeout=min(0.2, limit.left()))
    finally:
        abandon(run)


def abandon(run: Any) -> None:
    """End what still runs of a run of echo requests; a host's end by themselves."""
    if isinstance(run, NamespacePing):
        run.stop()


def ping_metrics(sent: int, received: int, rtts: Iterable[float]) -> dict[str, float | None]:
    """The metrics that every kind of ping has; times are None where nothing came back."""
    times = list(rtts)
    return {
        "sent": sent,
        "received": received,
        "loss": 1 - received / sent if sent else 0.0,
        "min": min(times, default=None),
        "avg": math.fsum(times) / len(times) if times else None,
        "max": max(times, default=None),
    }


def reasons(errors: Iterable[Any]) -> str:
    """``"3 times no_host, timeout"`` out of one text for each request that went wrong."""
    counts: dict[str, int] = {}
    for error in errors:
        counts[str(error)] = counts.get(str(error), 0) + 1
    return ", ".join(f"{count:,} times {text}" if count > 1 else text for text, count in counts.items())


def no_loss() -> tuple[NumberExpectation, ...]:
    """What a ping step without ``expect`` is held to."""
    return (NumberExpectation("loss", parse_comparison("0%", Dimension.FRACTION)),)


def common_family(one: Node, other: Node) -> int | None:
    """4 or 6: the family of addresses that both nodes have, IPv4 first; None where they share none."""
    return next((family for family in (4, 6) if one.address(family) and other.address(family)), None)


def plan(said: PingStepFile, context: StepContext) -> PingStep:
    """Resolve the names of a ping step.

    Raises:
        LabError: a name is unknown, or the two have no addresses of one family.
    """
    ping = said.ping
    sender = context.pinger(ping.from_, "from")
    return PingStep(
        name=said.name or "",
        line=context.line,
        expectations=expectations(said.expect) if said.expect is not None else no_loss(),
        timeout=said.timeout,
        sender=sender.name,
        target=ping.to,
        destination=destination(ping.to, ping.family, sender, context),
        count=ping.count,
        interval=ping.interval,
        patience=ping.timeout,
        size=ping.size,
        ttl=ping.ttl,
    )


def destination(to: str, family: int | None, sender: Node, context: StepContext) -> str:
    """The address that ``to``, a node or an address, has for ``sender``.

    Raises:
        LabError: there is no such node, or the two have no addresses of one family.
    """
    if to in context.nodes:
        target = context.nodes[to]
        chosen = family or common_family(sender, target)
        address = target.address(chosen) if chosen else None
        if address is None or not sender.address(chosen):
            lacking = f"IPv{chosen} address" if chosen else "address of one family"
            raise context.error(f"{sender.name!r} and {to!r} do not both have an {lacking}", "to")
        return str(address)
    try:
        literal = parse_address(to)
    except ValueError:
        close = did_you_mean(to, context.nodes)
        raise context.error(f"{to!r} is neither a node nor an IP address{close}", "to") from None
    if family not in (None, literal.version):
        raise context.error(f"{to} is an IPv{literal.version} address; expected family {literal.version}", "family")
    if sender.address(literal.version) is None:
        raise context.error(f"{sender.name!r} has no IPv{literal.version} address to reach {to} from", "to")
    return str(literal)
