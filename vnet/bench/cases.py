"""What is measured, beside what, and how often."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator

from .case import Case, Result
from .pair import Pair
from .sharing_cases import SHARING

__all__ = ["CASES", "run_case"]


_LAN = (
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
        "Unix datagram socket", {"UDP on loopback": "python_udp"}, 64, 1_000_000, 100_000, 3e6, on="value",
    ),
    Case(
        "python_many", "Python, send_many and recv_many", "datagrams/s", "python_lan_many", "python_unix",
        "Unix datagram socket", {"UDP on loopback": "python_udp"}, 64, 2_000_000, 100_000, 1e7, on="value",
    ),
    Case(
        "tcp_65535", "TCP between two stacks, MTU 65,535", "bit/s", "tcp", "tcp_loopback", "TCP on loopback",
        {}, 65_535, 1 << 29, 1 << 29, 5e9, on="value",
    ),
    Case(
        "tcp_1500", "TCP between two stacks, MTU 1,500", "bit/s", "tcp", "tcp_loopback", "TCP on loopback",
        {}, 1500, 1 << 29, 1 << 29, 1e9, on="value",
    ),
)  # fmt: skip

# The order of the table.
CASES = _LAN + SHARING

# A pair is left out when the distance between the processors changed by more than this between before and after.
_MOVED = 1.3
_TRIPS = 20_000


def run_case(pair: Pair, case: Case, rounds: int, progress: Callable[[], None]) -> Result:
    """Measures one case ``rounds`` times, ours and the reference in turns, after a round that only warms up."""
    result = Result(case)
    if case.needs is not None and importlib.util.find_spec(case.needs[0]) is None:
        result.missing = case.needs[1]
    halves = list(_in_turns(case, 0, result.missing))
    for half, count in reversed(halves):
        pair.measure(half, case.size, count)
    moved: list[tuple[float, float | None, float]] = []
    for turn in range(rounds):
        before = pair.measure("line", 64, _TRIPS)
        both = {}
        for half, count in _in_turns(case, turn, result.missing):
            both[half] = pair.measure(half, case.size, count)
            for name, share in pair.shares.items():
                result.shares.setdefault(name, []).append(share)
        after = pair.measure("line", 64, _TRIPS)
        figures = (both[case.ours], both.get(case.reference), before)
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


def _keep(result: Result, figures: tuple[float, float | None, float]) -> None:
    value, reference, distance = figures
    result.values.append(value)
    if reference is not None:
        result.references.append(reference)
    result.distances.append(distance)


def _in_turns(case: Case, turn: int, missing: str) -> Iterator[tuple[str, int]]:
    both = [(case.ours, case.count), (case.reference, case.reference_count)]
    if missing:
        yield both[0]
    else:
        yield from both if turn % 2 else reversed(both)
