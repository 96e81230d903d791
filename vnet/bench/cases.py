"""What is measured, beside what, and how often."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .pair import CAPTURED, Pair

__all__ = ["CASES", "Case", "Result", "run_case"]


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        ours, reference: names of halves.
        beside: other systems' halves, by the name that the table shows.
        size: bytes of a datagram; for TCP the MTU.
        count: datagrams, round trips, or bytes of a TCP stream, of one measurement.
        bar: the ratio, or the value, that this project promises; see :attr:`lower`.
        lower: whether less is better.
    """

    name: str
    what: str
    unit: str
    ours: str
    reference: str
    reference_name: str
    beside: dict[str, str]
    size: int
    count: int
    reference_count: int
    bar: float
    lower: bool = False
    bar_on_value: bool = False


CASES = (
    Case(
        "stream_64B", "64 B datagrams, batches of 32", "datagrams/s", "lan", "ring", "bare ring",
        {"Unix datagram socket": "unix", "UDP on loopback": "udp"}, 64, 2_000_000, 2_000_000, 0.75,
    ),
    Case(
        "stream_1500B", "1,500 B datagrams, batches of 32", "datagrams/s", "lan", "ring", "bare ring",
        {"Unix datagram socket": "unix", "UDP on loopback": "udp"}, 1500, 800_000, 800_000, 0.8,
    ),
    Case(
        "stream_64B_captured", "the same, all captured", "datagrams/s", "lan_captured", "lan", "not captured",
        {}, 64, 8_000_000, 8_000_000, 0.5,
    ),
    Case(
        "stream_1500B_captured", "the same, all captured", "datagrams/s", "lan_captured", "lan", "not captured",
        {}, 1500, 1_500_000, 1_500_000, 0.5,
    ),
    Case(
        "stream_64B_routed", "the same across 8 routers", "datagrams/s", "lan_routed", "lan", "one network",
        {}, 64, 2_000_000, 2_000_000, 0.8,
    ),
    Case(
        "roundtrip_spin", "round trip, both sides polling", "s", "lan_spin", "line", "cache line",
        {"Unix datagram socket": "unix_trip", "UDP on loopback": "udp_trip"}, 64, 200_000, 200_000, 1.5, lower=True,
    ),
    Case(
        "roundtrip_sleep", "round trip, both sides sleeping", "s", "lan_sleep", "futex", "futex",
        {"Unix datagram socket": "unix_trip", "UDP on loopback": "udp_trip"}, 64, 3_000, 3_000, 1.3, lower=True,
    ),
    Case(
        "python_single", "Python, one call a datagram", "datagrams/s", "python_lan", "python_unix",
        "Unix datagram socket", {"UDP on loopback": "python_udp"}, 64, 1_000_000, 100_000, 3e6, bar_on_value=True,
    ),
    Case(
        "python_many", "Python, send_many and recv_many", "datagrams/s", "python_lan_many", "python_unix",
        "Unix datagram socket", {"UDP on loopback": "python_udp"}, 64, 2_000_000, 100_000, 1e7, bar_on_value=True,
    ),
    Case(
        "tcp_65535", "TCP between two stacks, MTU 65,535", "bit/s", "tcp", "tcp_loopback", "TCP on loopback",
        {}, 65_535, 1 << 29, 1 << 29, 5e9, bar_on_value=True,
    ),
    Case(
        "tcp_1500", "TCP between two stacks, MTU 1,500", "bit/s", "tcp", "tcp_loopback", "TCP on loopback",
        {}, 1500, 1 << 29, 1 << 29, 1e9, bar_on_value=True,
    ),
)  # fmt: skip

# A pair is left out when the distance between the processors changed by more than this between before and after.
_MOVED = 1.3
_TRIPS = 20_000


@dataclass
class Result:
    """One row's figures: every kept pair's, in order."""

    case: Case
    values: list[float] = field(default_factory=list)
    references: list[float] = field(default_factory=list)
    distances: list[float] = field(default_factory=list)
    beside: dict[str, list[float]] = field(default_factory=dict)
    left_out: int = 0
    # Shares of the datagrams that a capture missed, of every measurement with one.
    missed: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """Ours divided by the reference, pair by pair."""
        return [value / reference for value, reference in zip(self.values, self.references, strict=True)]

    @property
    def ratio(self) -> float:
        """The median ratio."""
        return statistics.median(self.ratios)

    @property
    def value(self) -> float:
        """Our median."""
        return statistics.median(self.values)

    @property
    def reference(self) -> float:
        """The reference's median."""
        return statistics.median(self.references)

    @property
    def met(self) -> bool:
        """Whether the promise is kept."""
        found = self.value if self.case.bar_on_value else self.ratio
        return found <= self.case.bar if self.case.lower else found >= self.case.bar


def run_case(pair: Pair, case: Case, rounds: int, progress: Callable[[], None]) -> Result:
    """Measures one case ``rounds`` times, ours and the reference in turns, after a round that only warms up."""
    result = Result(case)
    pair.measure(case.ours, case.size, case.count)
    pair.measure(case.reference, case.size, case.reference_count)
    moved: list[tuple[float, float, float]] = []
    for turn in range(rounds):
        before = pair.measure("line", 64, _TRIPS)
        both = {}
        for half, count in _in_turns(case, turn):
            both[half] = pair.measure(half, case.size, count)
            if half == CAPTURED:
                result.missed.append(pair.missed)
        after = pair.measure("line", 64, _TRIPS)
        figures = (both[case.ours], both[case.reference], before)
        if max(before, after) > _MOVED * min(before, after):
            result.left_out += 1
            moved.append(figures)
        else:
            _keep(result, figures)
        progress()
    if not result.values:
        # Nothing held still: better a figure that says so than none.
        for figures in moved:
            _keep(result, figures)
    for label, half in case.beside.items():
        count = min(case.reference_count, 100_000 if case.unit != "s" else 3_000)
        result.beside[label] = [pair.measure(half, case.size, count) for _ in range(min(3, rounds))]
    return result


def _keep(result: Result, figures: tuple[float, float, float]) -> None:
    result.values.append(figures[0])
    result.references.append(figures[1])
    result.distances.append(figures[2])


def _in_turns(case: Case, turn: int) -> Iterator[tuple[str, int]]:
    both = [(case.ours, case.count), (case.reference, case.reference_count)]
    yield from both if turn % 2 else reversed(both)
