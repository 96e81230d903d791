"""Expectations of a step, and what came of them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from pydantic import BaseModel

from vnet.lab.schema import TextExpect
from vnet.lab.units import Comparison, Dimension, show, show_beside

__all__ = ["Check", "Expectation", "NumberExpectation", "TextExpectation", "expectations"]

Found = float | str | None

METRICS: Mapping[str, Dimension] = {
    "time": Dimension.DURATION,
    "min": Dimension.DURATION,
    "avg": Dimension.DURATION,
    "max": Dimension.DURATION,
    **dict.fromkeys(("connect", "jitter", "p50", "p90", "p99"), Dimension.DURATION),
    **dict.fromkeys(("bytes_sent", "bytes_received"), Dimension.SIZE),
    "loss": Dimension.FRACTION,
    "rate": Dimension.RATE,
    "throughput": Dimension.RATE,
}
"""What each metric measures; a metric that is not here is a count."""


@dataclass(frozen=True)
class Check:
    """One expectation held against what was found; ``expected`` and ``found`` are text for people."""

    metric: str
    expected: str
    found: str
    passed: bool


class Expectation(Protocol):
    """Anything that a step can be held to."""

    @property
    def metric(self) -> str: ...

    def check(self, found: Found) -> Check:
        """Compare; ``found`` is None where the step could not tell."""
        ...


@dataclass(frozen=True)
class NumberExpectation:
    """A metric compared with a quantity of its dimension."""

    metric: str
    comparison: Comparison

    def check(self, found: Found) -> Check:
        value = float(found) if isinstance(found, (int, float)) else math.nan
        dimension, passed = METRICS.get(self.metric, Dimension.COUNT), self.comparison.holds(value)
        if passed or self.comparison.sign == "!=":
            shown = show(value, dimension)
        else:
            end = self.comparison.high if value > self.comparison.high else self.comparison.value
            shown = show_beside(value, end, dimension)
        return Check(self.metric, self.comparison.text, shown, passed)


@dataclass(frozen=True)
class TextExpectation:
    """A command's output compared with text; ``how`` is ``equals``, ``contains`` or ``matches``.

    ``equals`` does not see trailing newlines: nearly every command ends its output with one, and YAML text rarely does.
    """

    metric: str
    how: str
    text: str

    def check(self, found: Found) -> Check:
        value = found if isinstance(found, str) else ""
        if self.how == "equals":
            passed = value.rstrip("\r\n") == self.text.rstrip("\r\n")
        elif self.how == "contains":
            passed = self.text in value
        else:
            passed = re.search(self.text, value, re.MULTILINE) is not None
        how = "" if self.how == "equals" else f"{self.how} "
        return Check(self.metric, f"{how}{self.text!r}", _clipped(value) if isinstance(found, str) else "none", passed)


def _clipped(text: str, limit: int = 2000) -> str:
    shown = text if len(text) <= limit else text[:limit] + f"... ({len(text)} characters in all)"
    return repr(shown)


def expectations(said: BaseModel | None) -> tuple[Expectation, ...]:
    """The expectations of a step's ``expect`` mapping, in the order in which they stand there."""
    found: list[Expectation] = []
    if said is None:
        return ()
    for metric in said.model_fields_set:
        value = getattr(said, metric)
        if isinstance(value, TextExpect):
            if value.equals is not None:
                found.append(TextExpectation(metric, "equals", value.equals))
            found += [TextExpectation(metric, "contains", text) for text in value.contains or ()]
            if value.matches is not None:
                found.append(TextExpectation(metric, "matches", value.matches))
        elif isinstance(value, tuple):
            # What is neither text nor comparisons is the step's own to make expectations of.
            found += [NumberExpectation(metric, comparison) for comparison in value]
    order = list(type(said).model_fields)
    return tuple(sorted(found, key=lambda expectation: order.index(expectation.metric)))
