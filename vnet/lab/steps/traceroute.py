"""``traceroute``: which routers a datagram crosses, by their answers to requests whose TTL runs out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from vnet.lab.addresses import parse_address
from vnet.lab.expect import Expectation, TextExpectation, expectations
from vnet.lab.schema import TracerouteStepFile
from vnet.lab.steps.base import USUAL_TIMEOUT, Outcome, Stage, Step, StepContext
from vnet.lab.steps.ping import destination, settled, start_ping
from vnet.lab.tree import did_you_mean

__all__ = ["TracerouteStep", "plan"]

# What routers say when TTL or hop limit runs out: the hosts' ping, and iputils' of either family.
_RAN_OUT = ("time exceeded", "time to live exceeded", "time exceeded: hop limit")


@dataclass(frozen=True)
class TracerouteStep(Step):
    """Echo requests from ``sender`` to ``destination`` with a TTL from 1 to ``most``, until one is answered.

    ``owners`` has the name of the node that has an address; where ``as_addresses`` has the number of a hop, it is told
    by its address.
    """

    kind: ClassVar[str] = "traceroute"

    sender: str
    target: str
    destination: str
    most: int
    tries: int
    patience: float
    owners: Mapping[str, str]
    as_addresses: frozenset[int]

    def title(self) -> str:
        address = f" ({self.destination})" if self.destination != self.target else ""
        return f"traceroute {self.sender} → {self.target}{address}"

    @property
    def usual_timeout(self) -> float:
        return self.most * self.tries * self.patience + USUAL_TIMEOUT

    @property
    def nodes(self) -> tuple[str, ...]:
        return (self.sender, self.target) if self.target != self.destination else (self.sender,)

    def run(self, stage: Stage) -> Outcome:
        hops: list[str | None] = []
        reached, last = False, ""
        for ttl in range(1, self.most + 1):
            hop, reached, last = self._hop(stage, ttl)
            hops.append(hop)
            if reached or last:
                break
        if last:
            # Whoever said no has told of itself already, or is the last of the way.
            who = last.rpartition(" from ")[2]
            if hops[-1] is None and hops[-2:-1] != [who] and who != last:
                hops[-1] = who
            elif hops[-1] is None:
                hops.pop()
        names = [self._name(number, hop) for number, hop in enumerate(hops)]
        metrics: dict[str, float | str | None] = {
            "path": " ".join(names),
            "hops": float(len(hops)),
            "reached": "yes" if reached else "no",
            "error": last,
        }
        summary = " → ".join((self.sender, *names)) + (f": {last}" if last else "" if reached else ", and no further")
        details = tuple(f"{number}  {hop or 'no answer'}" for number, hop in enumerate(hops, 1))
        return Outcome(summary, metrics, details=details)

    def _hop(self, stage: Stage, ttl: int) -> tuple[str | None, bool, str]:
        """Who answers a request with that TTL, whether it is the destination, and what it says that ends the way."""
        for _ in range(self.tries):
            run = start_ping(stage, self.sender, self.destination, timeout=self.patience, ttl=ttl)
            result = settled(run, stage.limit)
            if result.received:
                return self.destination, True, ""
            for error in result.errors:
                what, _, who = error.rpartition(" from ")
                if what in _RAN_OUT:
                    return str(parse_address(who)), False, ""
                return None, False, error
        return None, False, ""

    def _name(self, number: int, hop: str | None) -> str:
        if hop is None:
            return "*"
        return hop if number in self.as_addresses else self.owners.get(hop, hop)


def plan(said: TracerouteStepFile, context: StepContext) -> TracerouteStep:
    """Resolve the names of a traceroute step.

    Raises:
        LabError: a name is unknown, or the two have no addresses of one family.
    """
    body, expect = said.traceroute, said.expect
    sender = context.pinger(body.from_, "from")
    wanted: list[Expectation] = [*expectations(expect)]
    as_addresses: set[int] = set()
    if expect is not None and expect.path is not None:
        names = []
        for index, text in enumerate(expect.path):
            name, by_address = _hop_of(text, context, index)
            names.append(name)
            if by_address:
                as_addresses.add(index)
        wanted.insert(0, TextExpectation("path", "equals", " ".join(names)))
    if expect is None or (expect.reached is None and expect.error is None):
        wanted.append(TextExpectation("reached", "equals", "yes"))
    elif expect.reached is not None:
        wanted.append(TextExpectation("reached", "equals", "yes" if expect.reached else "no"))
    return TracerouteStep(
        name=said.name or "",
        line=context.line,
        expectations=tuple(wanted),
        timeout=said.timeout,
        sender=sender.name,
        target=body.to,
        destination=destination(body.to, body.family, sender, context),
        most=body.hops,
        tries=body.tries,
        patience=body.timeout,
        owners={str(address): node.name for node in context.nodes.values() for address in node.addresses},
        as_addresses=frozenset(as_addresses),
    )


def _hop_of(text: str, context: StepContext, index: int) -> tuple[str, bool]:
    """A hop that is expected: a node's name, or an address, and whether it is one; ``*`` for one that says nothing."""
    if text in context.nodes or text == "*":
        return text, False
    try:
        return str(parse_address(text)), True
    except ValueError:
        close = did_you_mean(text, context.nodes)
        above = replace(context, path=context.path[:-1])
        message = f"{text!r} is neither a node nor an IP address{close}; expected one, or '*'"
        raise above.error(message, "expect", "path", index) from None
