"""``wait_until``: look at a condition until it holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from vnet.lab.expect import expectations
from vnet.lab.limits import Limit, StepEnded
from vnet.lab.report import PASSED, StepReport, explain
from vnet.lab.schema import WaitUntilStepFile
from vnet.lab.steps.base import USUAL_TIMEOUT, Outcome, Stage, Step, StepContext
from vnet.lab.units import Dimension, show

__all__ = ["WaitUntilStep", "plan"]


@dataclass(frozen=True)
class WaitUntilStep(Step):
    """``condition``, taken every ``interval`` seconds until it passes or ``patience`` seconds are over."""

    kind: ClassVar[str] = "wait_until"

    condition: Step
    interval: float
    patience: float

    def title(self) -> str:
        return f"wait until: {self.condition.name or self.condition.title()}"

    @property
    def usual_timeout(self) -> float:
        return self.patience + USUAL_TIMEOUT

    def run(self, stage: Stage) -> Outcome:
        from vnet.lab.taking import take

        limit = Limit(self.patience, stage.limit, "the condition")
        inside = replace(stage, limit=limit)
        last: StepReport | None = None
        tries = 0
        try:
            while True:
                limit.check()
                report = take(self.condition, 1, inside)
                tries += 1
                if report.outcome == PASSED:
                    looks = "at once" if tries == 1 else f"at the {_ordinal(tries)} look"
                    return Outcome(f"held {looks}: {report.summary}", {"tries": tries}, steps=(report,))
                # What a look found that was cut short says less than what the one before it found.
                if last is None or not limit.why():
                    last = report
                limit.sleep(self.interval)
        except StepEnded:
            why = stage.limit.why() or f"did not hold within {show(self.patience, Dimension.DURATION)}"
        looks = "1 look" if tries == 1 else f"{tries:,} looks"
        found = "; ".join(explain(last)[:2]) if last is not None else ""
        failure = f"{why} ({looks})" + (f"; the last one: {found}" if found else "")
        if last is None:
            return Outcome(f"{why} ({looks})", {"tries": tries}, failure)
        details = (*last.details, *(f"look at: {hint}" for hint in last.hints))
        return Outcome(f"{why} ({looks})", {"tries": tries}, failure, details, steps=(last,))


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"


def plan(said: WaitUntilStepFile, context: StepContext) -> WaitUntilStep:
    """Plan the condition.

    Raises:
        LabError: the first mistake in it.
    """
    return WaitUntilStep(
        name=said.name or "",
        line=context.line,
        expectations=expectations(said.expect),
        timeout=said.timeout,
        condition=context.plan(said.wait_until.condition),
        interval=said.wait_until.interval,
        patience=said.wait_until.timeout,
    )
