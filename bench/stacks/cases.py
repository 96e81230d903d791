"""What is measured, of which peers, and what came out."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from . import startup
from .measure import Ends, datagrams, round_trip, stream
from .peers import LARGEST_MTU
from .spaces import Trouble

__all__ = ["CASES", "Bar", "Case", "Effort", "Result", "cases_of", "measure_case"]

CASES = ("tcp", "ping", "udp", "queues", "start")

OURS = "vnet"

Figure = Callable[[str, "Ends | None"], float]
"""Measures once, given a peer's name and its ends."""


@dataclass(frozen=True)
class Effort:
    """How much is measured: rounds, seconds of a stream, echoes, bytes of UDP payload, and nodes."""

    rounds: int = 7
    seconds: int = 3
    echoes: int = 20_000
    sizes: tuple[int, ...] = (64, 1400)
    nodes: tuple[int, ...] = (16, 64, 100, 256)
    mtus: tuple[int, ...] = (1500, LARGEST_MTU)


@dataclass(frozen=True)
class Bar:
    """What this project promises: our figure divided by a peer's, or our figure itself where no peer is named."""

    value: float
    peer: str | None = None
    at_most: bool = False
    # More than, not at least.
    strict: bool = False

    def met(self, found: float) -> bool:
        """Whether ``found`` keeps the promise."""
        if self.at_most:
            return found <= self.value
        return found > self.value if self.strict else found >= self.value


@dataclass(frozen=True)
class Case:
    """One group of rows: the same thing measured of several peers.

    Attributes:
        name: such as ``tcp-1500``.
        unit: ``bit/s``, ``s`` or ``datagrams/s``.
        mtu: that of the peers, in bytes of IP; 0 where nothing is joined beforehand.
        peers: in the order of the turns.
        figure: measures once, given the peer's name and its ends.
    """

    name: str
    what: str
    unit: str
    mtu: int
    peers: tuple[str, ...]
    figure: Figure
    bars: tuple[Bar, ...] = ()


@dataclass
class Result:
    """What came out of a case: the figures of every round, by peer."""

    case: Case
    figures: dict[str, list[float]] = field(default_factory=dict)

    def median(self, peer: str) -> float:
        """The peer's median."""
        return statistics.median(self.figures[peer])

    def ratios(self, peer: str) -> list[float]:
        """Ours divided by the peer's, round by round; empty where one of them was not measured."""
        ours, theirs = self.figures.get(OURS, []), self.figures.get(peer, [])
        return [one / other for one, other in zip(ours, theirs, strict=False)] if peer != OURS else []

    def found(self, bar: Bar) -> float | None:
        """What is held against a bar, if it was measured."""
        if bar.peer is None:
            return self.median(OURS) if self.figures.get(OURS) else None
        ratios = self.ratios(bar.peer)
        return statistics.median(ratios) if ratios else None


def _joined(measure: Callable[[Ends], float]) -> Figure:
    def figure(peer: str, ends: Ends | None) -> float:
        assert ends is not None
        return measure(ends)

    return figure


def cases_of(names: Sequence[str], effort: Effort) -> list[Case]:
    """The cases of these kinds, in the order of :data:`CASES`."""
    cases = []
    everybody = (OURS, "loop", "bridge", "vde", "ovs", "ovs-tso")
    if "tcp" in names:
        bars = (Bar(1.0, "loop"), Bar(0.6, "bridge"), Bar(5.0, "vde"), Bar(1.0, "ovs-tso", strict=True))
        for mtu in effort.mtus:
            peers = (*everybody, "loop-bare") if mtu == 1500 else (OURS, "loop", "bridge")
            measure = _joined(lambda ends: stream(ends, effort.seconds))
            wanted = tuple(bar for bar in bars if bar.peer in peers)
            cases.append(Case(f"tcp-{mtu}", f"TCP, MTU {mtu:,}", "bit/s", mtu, peers, measure, wanted))
    if "ping" in names:
        measure = _joined(lambda ends: round_trip(ends, effort.echoes))
        bar = Bar(1.2, "loop", at_most=True)
        cases.append(Case("ping", "round trip, idle", "s", 1500, everybody, measure, (bar,)))
    if "udp" in names:
        for size in effort.sizes:
            measure = _joined(lambda ends, size=size: datagrams(ends, size, effort.seconds).received)  # type: ignore[misc]
            what = f"UDP, {size:,} bytes of payload"
            cases.append(Case(f"udp-{size}", what, "datagrams/s", 1500, (*everybody, "loop-2q"), measure))
    if "queues" in names:
        for flows in (1, 2):
            measure = _joined(lambda ends, flows=flows: stream(ends, effort.seconds, flows))  # type: ignore[misc]
            what = f"TCP, {flows} flow{'s' * (flows > 1)}, one queue and two"
            cases.append(Case(f"queues-{flows}", what, "bit/s", 1500, (OURS, "loop", "loop-2q"), measure))
    if "start" in names:
        for count in effort.nodes:
            cases.extend(_start_cases(count))
    return cases


def _start_cases(count: int) -> list[Case]:
    # Both figures come from one start, so the second case takes what the first has left.
    downs: dict[str, list[float]] = {}

    def up(peer: str, ends: Ends | None) -> float:
        both = startup.up_and_down(peer, count)
        downs.setdefault(peer, []).append(both.down)
        return both.up

    def down(peer: str, ends: Ends | None) -> float:
        if not downs.get(peer):
            raise Trouble("it did not come up")
        return downs[peer].pop(0)

    peers = tuple(startup.WAYS)
    bars = {100: (Bar(5.0, at_most=True),), -100: (Bar(3.0, at_most=True),)}
    return [
        Case(f"up-{count}", f"{count} nodes up", "s", 0, peers, up, bars.get(count, ())),
        Case(f"down-{count}", f"{count} nodes down", "s", 0, peers, down, bars.get(-count, ())),
    ]


def measure_case(
    case: Case,
    ends: dict[str, Ends | None],
    rounds: int,
    turn: Callable[[str], None],
    failed: Callable[[str, str], None],
) -> Result:
    """Measures a case ``rounds`` times, the peers in turns; a peer that fails is left out from then on.

    Args:
        ends: the peers that are joined; those of a case without MTU are joined by measuring them.
        turn: told before each figure, with what is measured.
        failed: told of a peer that is left out, and why.
    """
    result = Result(case)
    peers = [peer for peer in case.peers if peer in ends]
    for number in range(rounds):
        for peer in list(peers):
            turn(f"{case.name}: {peer}, round {number + 1} of {rounds}")
            try:
                value = case.figure(peer, ends[peer])
            except Trouble as trouble:
                failed(peer, str(trouble))
                peers.remove(peer)
                result.figures.pop(peer, None)
                continue
            result.figures.setdefault(peer, []).append(value)
    return result
