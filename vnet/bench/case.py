"""One row of the table: what is measured beside what, and what was found."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Case", "Result"]


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        ours, reference: names of halves.
        beside: other systems' halves, by the name that the table shows.
        size: bytes of a datagram, message or piece; for TCP the MTU.
        count: datagrams, round trips, or bytes of a TCP stream, of one measurement.
        bar: what this project promises of the ratio, the value, or the difference to the reference; see :attr:`lower`.
        lower: whether less is better.
        on: of what the bar is.
        limits: shares that may not be exceeded beside, by name; see :attr:`Result.shares`.
        needs: the module without which there is no reference, and what provides it.
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
    on: Literal["ratio", "value", "difference"] = "ratio"
    limits: dict[str, float] = field(default_factory=dict)
    needs: tuple[str, str] | None = None


@dataclass
class Result:
    """One row's figures: every kept pair's, in order."""

    case: Case
    values: list[float] = field(default_factory=list)
    references: list[float] = field(default_factory=list)
    distances: list[float] = field(default_factory=list)
    beside: dict[str, list[float]] = field(default_factory=dict)
    left_out: int = 0
    # What our halves tell beside their figure, by name: of the datagrams, those that a capture missed; of the posts,
    # those that interrupted; of the bytes that two processes have in common, those that count as resident.
    shares: dict[str, list[float]] = field(default_factory=dict)
    # Why there is no reference, in one sentence.
    missing: str = ""

    @property
    def ratios(self) -> list[float]:
        """Ours divided by the reference, pair by pair; none without a reference."""
        return [value / reference for value, reference in zip(self.values, self.references, strict=False)]

    @property
    def differences(self) -> list[float]:
        """Ours minus the reference, pair by pair; none without a reference."""
        return [value - reference for value, reference in zip(self.values, self.references, strict=False)]

    @property
    def ratio(self) -> float | None:
        """The median ratio; None without a reference."""
        return statistics.median(self.ratios) if self.references else None

    @property
    def difference(self) -> float | None:
        """The median difference; None without a reference."""
        return statistics.median(self.differences) if self.references else None

    @property
    def value(self) -> float:
        """Our median."""
        return statistics.median(self.values)

    @property
    def reference(self) -> float | None:
        """The reference's median; None without one."""
        return statistics.median(self.references) if self.references else None

    @property
    def met(self) -> bool | None:
        """Whether the promise is kept; None where it is of a reference that is missing."""
        found = {"ratio": self.ratio, "value": self.value, "difference": self.difference}[self.case.on]
        if found is None:
            return None
        if any(statistics.median(self.shares.get(name, [0.0])) > most for name, most in self.case.limits.items()):
            return False
        return found <= self.case.bar if self.case.lower else found >= self.case.bar
