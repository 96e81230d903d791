"""Which columns fit a width, and the line of a NIC in them: plain text, because colour may not be there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vnet.sample import NicSample
from vnet.view import Row, rate

__all__ = ["Field", "NicLine", "SORTS", "cells", "fit", "heading", "reasons", "sparkline"]

_BARS = " ▁▂▃▄▅▆▇█"


@dataclass
class NicLine:
    """A NIC as the view shows it: its row, and its traffic in the samples so far, the newest last."""

    row: Row
    history: list[float] = field(default_factory=list)

    @property
    def nic(self) -> NicSample:
        return self.row.nic

    @property
    def traffic(self) -> float:
        """Datagrams a second, sent and received."""
        return self.row.rates.tx + self.row.rates.rx if self.row.rates else 0.0

    @property
    def dropped(self) -> float:
        """Datagrams a second that it sent in vain, and that it could not take."""
        return self.row.rates.dropped + self.row.rates.rx_dropped if self.row.rates else 0.0


@dataclass(frozen=True)
class Field:
    """A column of the view.

    Attributes:
        title: its heading.
        width: signs that it takes.
        rank: the lower, the longer it stays when it gets narrow.
        text: what it shows of a NIC, in so many signs at most.
        right: whether that stands at its right end.
        grows: how many signs more it takes where there is room.
        alarm: whether it stands out at a NIC that drops.
    """

    title: str
    width: int
    rank: int
    text: Callable[[NicLine, int], str]
    right: bool = True
    grows: int = 0
    alarm: bool = False


def sparkline(values: Sequence[float], width: int) -> str:
    """The last ``width`` values as bars, the highest of them a full one."""
    shown = values[-width:]
    most = max(shown, default=0.0)
    if most <= 0:
        return (" " if not shown else "▁" * len(shown)).rjust(width)
    # What is not nothing is seen.
    steps = (0 if value <= 0 else max(1, round(value / most * 8)) for value in shown)
    return "".join(_BARS[max(1, step)] if step else "▁" for step in steps).rjust(width)


def reasons(shown: NicLine, width: int) -> str:
    """Why datagrams are dropped, the most frequent reason first, as far as there is room."""
    if shown.row.rates is None:
        return ""
    found = {reason.name.lower(): value for reason, value in shown.row.rates.drops.items()}
    found["rx full"] = shown.row.rates.rx_dropped
    text = ""
    for name, value in sorted(found.items(), key=lambda item: -item[1]):
        more = f"{', ' if text else ''}{name} {rate(value)}"
        if value <= 0 or len(text) + len(more) > width:
            break
        text += more
    return text


def _rate(read: Callable[[NicLine], float]) -> Callable[[NicLine, int], str]:
    return lambda shown, width: rate(read(shown)) if shown.row.rates else ""


FIELDS = (
    Field("NIC", 12, 0, lambda shown, width: _cut(shown.nic.name, width), right=False, grows=12),
    Field("network", 9, 8, lambda shown, width: _cut(shown.nic.network, width), right=False),
    Field("state", 5, 1, lambda shown, width: shown.nic.state, right=False),
    Field("tx/s", 6, 2, _rate(lambda shown: shown.row.rates.tx if shown.row.rates else 0.0)),
    Field("tx bit/s", 8, 5, _rate(lambda shown: shown.row.rates.tx_bits if shown.row.rates else 0.0)),
    Field("rx/s", 6, 3, _rate(lambda shown: shown.row.rates.rx if shown.row.rates else 0.0)),
    Field("rx bit/s", 8, 6, _rate(lambda shown: shown.row.rates.rx_bits if shown.row.rates else 0.0)),
    Field("traffic", 7, 7, lambda shown, width: sparkline(shown.history, width), grows=13),
    Field("drops/s", 7, 4, _rate(lambda shown: shown.dropped), alarm=True),
    Field("why", 13, 6, reasons, right=False, grows=60, alarm=True),
)

SORTS: dict[str, Callable[[NicLine], float]] = {
    "traffic": lambda shown: shown.traffic,
    "tx": lambda shown: shown.row.rates.tx if shown.row.rates else 0.0,
    "rx": lambda shown: shown.row.rates.rx if shown.row.rates else 0.0,
    "drops": lambda shown: shown.dropped,
    "name": lambda shown: 0.0,
}
"""What the view can be sorted by, highest first; by name where equal."""


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def fit(width: int, networks: int) -> list[tuple[Field, int]]:
    """The columns that fit, in their order, with their widths."""
    chosen: list[Field] = []
    used = -1
    for each in sorted(FIELDS, key=lambda each: each.rank):
        if each.title == "network" and networks < 2:
            continue
        if used + each.width + 1 > width and chosen:
            break
        chosen.append(each)
        used += each.width + 1
    widths = {each.title: each.width for each in chosen}
    spare = max(0, width - used)
    # Why datagrams are dropped is told at length first.
    for each in sorted((each for each in chosen if each.grows), key=lambda each: -each.grows):
        more = min(each.grows, spare // 2 if each.alarm else spare)
        widths[each.title] += more
        spare -= more
    return [(each, widths[each.title]) for each in FIELDS if each in chosen]


def heading(columns: Sequence[tuple[Field, int]]) -> str:
    """The line above the NICs."""
    return " ".join(each.title.rjust(width) if each.right else each.title.ljust(width) for each, width in columns)


def cells(columns: Sequence[tuple[Field, int]], shown: NicLine) -> list[tuple[str, bool]]:
    """The line of a NIC, in parts that stand out and parts that do not."""
    found: list[tuple[str, bool]] = []
    for each, width in columns:
        text, alarm = each.text(shown, width), each.alarm and shown.dropped > 0
        text = f"{text.rjust(width) if each.right else text.ljust(width)} "
        if found and found[-1][1] == alarm:
            text = found.pop()[0] + text
        found.append((text, alarm))
    return found
