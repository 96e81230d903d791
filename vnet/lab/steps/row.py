"""Steps one after the other, as a branch of ``parallel`` or a round of ``repeat``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from vnet.lab.report import FAILED, PASSED, StepReport
from vnet.lab.steps.base import Outcome, Stage, Step

__all__ = ["Row", "tell", "why"]


@dataclass(frozen=True)
class Row(Step):
    """``steps``, up to the first that fails."""

    kind: ClassVar[str] = "steps"

    steps: tuple[Step, ...]

    def title(self) -> str:
        return self.steps[0].title() if len(self.steps) == 1 else f"{len(self.steps)} steps"

    @property
    def usual_timeout(self) -> float:
        return sum(step.usual_timeout if step.timeout is None else step.timeout for step in self.steps)

    def run(self, stage: Stage) -> Outcome:
        from vnet.lab.taking import take_all

        reports = take_all(self.steps, stage)
        return Outcome(tell(reports), {}, why(reports), steps=reports)


def tell(reports: Sequence[StepReport]) -> str:
    """``3 passed, 1 failed``."""
    counts = {word: sum(report.outcome == word for report in reports) for word in (PASSED, FAILED, "skipped")}
    return ", ".join(f"{count:,} {word}" for word, count in counts.items() if count)


def why(reports: Sequence[StepReport]) -> str:
    """Which of the steps failed; empty where none did."""
    failed = [f"{report.place} ({report.what})" for report in reports if report.outcome == FAILED]
    more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
    return f"failed: {', '.join(failed[:3])}{more}" if failed else ""
