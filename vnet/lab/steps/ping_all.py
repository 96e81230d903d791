"""``ping_all``: every host and namespace pings every other that it can reach, or a seeded choice of the pairs."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from typing import Any, ClassVar

from vnet.lab.expect import expectations
from vnet.lab.plan import Node
from vnet.lab.schema import PingAllStepFile
from vnet.lab.steps.base import USUAL_TIMEOUT, Outcome, Stage, Step, StepContext
from vnet.lab.steps.ping import abandon, no_loss, ping_metrics, reasons, settled, start_ping
from vnet.lab.units import Dimension, show

__all__ = ["PingAllStep", "plan"]

# Enough to keep the base worker busy; each ping in flight holds a socket buffer in its host.
IN_FLIGHT = 256
# Each ping of a namespace is a process.
PROCESSES = 16
# Kinds of nodes that ping, and are pinged.
_PINGERS = ("host", "netns")


@dataclass(frozen=True)
class PingAllStep(Step):
    """Pings between ``pairs`` of (sender, destination address, name of the target)."""

    kind: ClassVar[str] = "ping_all"

    pairs: tuple[tuple[str, str, str], ...]
    possible: int
    count: int
    patience: float

    def title(self) -> str:
        if len(self.pairs) < self.possible:
            return f"ping {len(self.pairs):,} of {self.possible:,} pairs"
        return f"ping all {self.possible:,} pairs"

    @property
    def usual_timeout(self) -> float:
        return (len(self.pairs) // IN_FLIGHT + 1) * self.count * self.patience + USUAL_TIMEOUT

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for sender, _, target in self.pairs for name in (sender, target)))

    def run(self, stage: Stage) -> Outcome:
        sent = received = 0
        times: list[float] = []
        failed: list[str] = []
        errors: list[str] = []
        running: deque[tuple[str, Any]] = deque()
        at_once = PROCESSES if stage.namespaces else IN_FLIGHT
        try:
            for sender, destination, target in (*self.pairs, *[("", "", "")] * at_once):
                if len(running) == at_once or (not sender and running):
                    pair, run = running.popleft()
                    result = settled(run, stage.limit)
                    sent, received = sent + result.sent, received + result.received
                    times += result.rtts
                    errors += result.errors
                    if result.received < result.sent:
                        came = f"{result.received}/{result.sent} replies {reasons(result.errors)}"
                        failed.append(f"{pair}: {came}".rstrip())
                if sender:
                    run = start_ping(stage, sender, destination, count=self.count, timeout=self.patience)
                    running.append((f"{sender} → {target}", run))
        finally:
            for _, run in running:
                abandon(run)
        metrics = ping_metrics(sent, received, times) | {"pairs": len(self.pairs), "failed": len(failed)}
        told: dict[str, float | str | None] = {**metrics, "error": ", ".join(dict.fromkeys(errors))}
        summary = f"{received:,}/{sent:,} replies"
        if times:
            summary += f", avg {show(float(metrics['avg'] or 0), Dimension.DURATION)}"
        if errors:
            summary += f", {reasons(errors)}"
        more = (f"and {len(failed) - 10:,} more pairs",) if len(failed) > 10 else ()
        return Outcome(summary, told, details=(*failed[:10], *more))


def plan(said: PingAllStepFile, context: StepContext) -> PingAllStep:
    """Choose the pairs of a ping_all step.

    Raises:
        LabError: the lab has no two hosts or namespaces that could ping one another.
    """
    ping = said.ping_all
    groups = _groups(context, ping.family)
    sizes = [len(group) * (len(group) - 1) for _, group in groups]
    possible = sum(sizes)
    if not possible:
        family = f" with IPv{ping.family} addresses" if ping.family else ""
        raise context.error(f"no network has two hosts{family} that could ping one another")
    if any(node.kind == "netns" for _, group in groups for node in group):
        context.programs.add("ping")
    chosen = _choose(possible, ping.sample, context.random())
    return PingAllStep(
        name=said.name or "",
        line=context.line,
        expectations=expectations(said.expect) if said.expect is not None else no_loss(),
        timeout=said.timeout,
        pairs=tuple(_pair(groups, sizes, index) for index in chosen),
        possible=possible,
        count=ping.count,
        patience=ping.timeout,
    )


def _groups(context: StepContext, family: int | None) -> list[tuple[int, list[Node]]]:
    """The hosts and namespaces that can reach one another: of one network, or of such as routers and links join.

    Where only some have an IPv4 address they fall into two groups, and each pings by the family that it has.
    """
    parts = _joined_networks(context)
    groups: dict[tuple[str, int], list[Node]] = {}
    for node in context.nodes.values():
        version = family or (4 if node.address(4) else 6)
        if node.kind in _PINGERS and node.address(version):
            groups.setdefault((parts[node.network], version), []).append(node)
    return [(version, group) for (_, version), group in groups.items()]


def _joined_networks(context: StepContext) -> dict[str, str]:
    """For each network the first of those that routers, links and guests that forward join it to."""
    import networkx

    routers = [node for node in context.nodes.values() if node.kind == "router" or node.forward]
    if not routers:
        return {name: name for name in context.networks}
    graph = networkx.Graph()
    graph.add_nodes_from(context.networks)
    # A colon is in no name.
    graph.add_edges_from((each.network, f":{node.name}") for node in routers for each in node.joined)
    graph.add_edges_from((f":{link.ends[0]}", f":{link.ends[1]}") for link in context.links.values())
    rank = {name: number for number, name in enumerate(context.networks)}
    found: dict[str, str] = {}
    for part in networkx.connected_components(graph):
        own = sorted((name for name in part if name in rank), key=rank.__getitem__)
        found |= dict.fromkeys(own, own[0] if own else "")
    return found


def _choose(possible: int, sample: int | None, choices: random.Random) -> list[int] | range:
    # Pairs are numbered, not listed: 4,000 hosts make 16 million of them.
    if sample is None or sample >= possible:
        return range(possible)
    return choices.sample(range(possible), sample)


def _pair(groups: list[tuple[int, list[Node]]], sizes: list[int], index: int) -> tuple[str, str, str]:
    group = 0
    while index >= sizes[group]:
        index -= sizes[group]
        group += 1
    family, hosts = groups[group]
    first, second = divmod(index, len(hosts) - 1)
    sender, target = hosts[first], hosts[second + (second >= first)]
    return sender.name, str(target.address(family)), target.name
