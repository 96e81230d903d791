"""``repeat``: steps round after round."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel

from vnet.lab.expect import expectations
from vnet.lab.report import FAILED, PASSED, StepReport
from vnet.lab.schema import RepeatFile, RepeatStepFile
from vnet.lab.steps.base import USUAL_TIMEOUT, Outcome, Stage, Step, StepContext
from vnet.lab.steps.row import Row
from vnet.lab.units import Dimension, show

__all__ = ["RepeatStep", "plan"]

ROUND = "{round}"
# Steps that name their round are planned for each; a packet expression takes about a millisecond.
MOST_PLANNED = 1000
# Rounds whose reports are kept: the first that failed, and the last ones.
KEPT_FAILED, KEPT_LAST = 20, 10


@dataclass(frozen=True)
class RepeatStep(Step):
    """``rounds``, or its only one, again and again.

    Attributes:
        rounds: what each round does; a single one where all do the same.
        count: rounds at most; None: any number.
        seconds: no round begins later than this; None: at any time.
        until: ``failure`` or ``success``: what ends it early.
        tolerant: whether rounds that failed are left to the expectations.
    """

    kind: ClassVar[str] = "repeat"

    rounds: tuple[Row, ...]
    count: int | None
    seconds: float | None
    until: str
    tolerant: bool

    def title(self) -> str:
        what = self.rounds[0].title()
        limits = [f"{self.count:,} times"] if self.count is not None else []
        limits += [f"for {show(self.seconds, Dimension.DURATION)}"] if self.seconds is not None else []
        limits += [f"until {self.until}"] if self.until == "success" or not limits else []
        return f"repeat {', '.join(limits)}: {what}"

    @property
    def usual_timeout(self) -> float:
        if self.count is None:
            return (self.seconds or 0.0) + USUAL_TIMEOUT
        return self.count * self.rounds[0].usual_timeout

    def run(self, stage: Stage) -> Outcome:
        begun = time.monotonic()
        kept = _Kept()
        failure = ""
        while self._another(kept.rounds, begun):
            if failure := stage.limit.why():
                break
            report = self._take(kept.rounds + 1, stage)
            kept.add(report)
            if self.until == "success" and report.outcome == PASSED:
                break
            if self.until == "failure" and report.outcome == FAILED and not self.tolerant:
                failure = stage.limit.why() or report.failure
                break
        if self.until == "success" and not failure and (kept.last is None or kept.last.outcome == FAILED):
            failure = f"none of {kept.rounds:,} rounds passed" + (
                f"; the last one {kept.last.failure}" if kept.last else ""
            )
        metrics: dict[str, Any] = {"rounds": kept.rounds, "failed": kept.failed}
        return Outcome(kept.summary(), metrics, failure, steps=kept.reports())

    def _take(self, number: int, stage: Stage) -> StepReport:
        from vnet.lab.taking import take

        return take(self.rounds[number - 1 if len(self.rounds) > 1 else 0], number, stage)

    def _another(self, taken: int, begun: float) -> bool:
        if self.count is not None and taken >= self.count:
            return False
        return self.seconds is None or taken == 0 or time.monotonic() < begun + self.seconds


class _Kept:
    """The rounds so far: all are counted, and the reports of some are kept."""

    def __init__(self) -> None:
        self.rounds = self.failed = 0
        self.last: StepReport | None = None
        self._failed: list[StepReport] = []
        self._latest: deque[StepReport] = deque(maxlen=KEPT_LAST)

    def add(self, report: StepReport) -> None:
        self.rounds += 1
        self.last = report
        self._latest.append(report)
        if report.outcome == FAILED:
            self.failed += 1
            if len(self._failed) < KEPT_FAILED:
                self._failed.append(report)

    def reports(self) -> tuple[StepReport, ...]:
        unique = {report.number: report for report in (*self._failed, *self._latest)}
        return tuple(unique[number] for number in sorted(unique))

    def summary(self) -> str:
        rounds = "1 round" if self.rounds == 1 else f"{self.rounds:,} rounds"
        return f"{rounds}, {self.failed:,} failed" if self.failed else f"{rounds}, all passed"


def plan(said: RepeatStepFile, context: StepContext) -> RepeatStep:
    """Plan the rounds: one for all, or each for itself where a step names its round.

    Raises:
        LabError: the first mistake in them.
    """
    repeat = said.repeat
    rounds = 1
    if any(_names_round(step) for step in repeat.steps):
        if repeat.count is None or repeat.count > MOST_PLANNED:
            raise context.error(
                f"steps that hold {ROUND} are planned beforehand; expected a 'count' of at most {MOST_PLANNED:,}"
            )
        rounds = repeat.count
    steps = context.at("steps")
    return RepeatStep(
        name=said.name or "",
        line=context.line,
        expectations=expectations(said.expect),
        timeout=said.timeout,
        rounds=tuple(_round(number, rounds, repeat, steps) for number in range(1, rounds + 1)),
        count=repeat.count,
        seconds=repeat.for_,
        until=repeat.until,
        tolerant=said.expect is not None and said.expect.failed is not None,
    )


def _round(number: int, rounds: int, said: RepeatFile, context: StepContext) -> Row:
    planned = []
    for index, step in enumerate(said.steps):
        planned.append(context.plan(_with_round(step, number) if rounds > 1 else step, index))
    return Row("", context.line, (), steps=tuple(planned))


def _names_round(said: Any) -> bool:
    if isinstance(said, str):
        return ROUND in said
    if isinstance(said, BaseModel):
        return any(_names_round(getattr(said, name)) for name in type(said).model_fields)
    if isinstance(said, dict):
        return any(map(_names_round, said.values()))
    return isinstance(said, (list, tuple)) and any(map(_names_round, said))


def _with_round(said: Any, number: int) -> Any:
    """The same with the number of the round in place of its name, in every text."""
    if isinstance(said, str):
        return said.replace(ROUND, str(number))
    if isinstance(said, BaseModel):
        changed = {name: _with_round(getattr(said, name), number) for name in said.model_fields_set}
        return said.model_copy(update=changed)
    if isinstance(said, dict):
        return {name: _with_round(value, number) for name, value in said.items()}
    if isinstance(said, Sequence) and not hasattr(said, "_fields"):
        return type(said)(_with_round(item, number) for item in said)  # type: ignore[call-arg]
    return said
