"""Takes one step: runs it within its time, holds it to its expectations, and says where to look when it fails."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from dataclasses import replace

from vnet.errors import VnetError
from vnet.lab.hints import Watch
from vnet.lab.limits import Limit, StepEnded
from vnet.lab.report import FAILED, PASSED, SKIPPED, StepReport
from vnet.lab.steps.base import Outcome, Stage, Step

__all__ = ["skipped", "take", "take_all"]


def take(step: Step, number: int, stage: Stage) -> StepReport:
    """Take a step.

    Args:
        step: what to do.
        number: from 1, among its neighbours.
        stage: that of the step around it, or of the lab.

    Raises:
        KeyboardInterrupt, Terminated: this process was asked to end.
    """
    place = _place(stage, number)
    clock = time.perf_counter()
    own = replace(
        stage,
        random=random.Random(f"{stage.lab.seed}:{place}"),
        limit=Limit(step.usual_timeout if step.timeout is None else step.timeout, stage.limit, f"step {place}"),
        place=place,
    )
    watch = Watch(own, step.nodes)
    try:
        outcome = step.run(own)
    except StepEnded as ended:
        outcome = Outcome(str(ended), {}, failure=str(ended))
    except VnetError as error:
        # A LAN that refuses what a step asks for is this step's failure, and the others may still tell something.
        outcome = Outcome(str(error), {}, failure=f"{type(error).__name__}: {error}")
    seconds = time.perf_counter() - clock
    metrics = {**outcome.metrics, "time": seconds}
    checks = tuple(expectation.check(metrics.get(expectation.metric)) for expectation in step.expectations)
    passed = not outcome.failure and all(check.passed for check in checks)
    return StepReport(
        number=number,
        place=place,
        kind=step.kind,
        name=step.name,
        title=step.title(),
        line=step.line,
        file=stage.lab.file,
        outcome=PASSED if passed else FAILED,
        summary=outcome.summary,
        seconds=seconds,
        metrics=dict(outcome.metrics),
        checks=checks,
        failure=outcome.failure,
        details=outcome.details,
        hints=() if passed or outcome.steps else watch.hints(),
        steps=outcome.steps,
    )


def skipped(step: Step, number: int, stage: Stage, why: str = "an earlier step failed") -> StepReport:
    """The report of a step that was not taken."""
    return StepReport(
        number=number,
        place=_place(stage, number),
        kind=step.kind,
        name=step.name,
        title=step.title(),
        line=step.line,
        file=stage.lab.file,
        outcome=SKIPPED,
        summary=why,
        seconds=0.0,
        metrics={},
        checks=(),
        failure="",
        details=(),
    )


def take_all(steps: Iterable[Step], stage: Stage) -> tuple[StepReport, ...]:
    """Take steps one after the other, those inside a step; what comes after one that failed is skipped."""
    reports: list[StepReport] = []
    failed = False
    for number, step in enumerate(steps, 1):
        reports.append(skipped(step, number, stage) if failed else take(step, number, stage))
        failed = failed or reports[-1].outcome == FAILED
    return tuple(reports)


def _place(stage: Stage, number: int) -> str:
    return f"{stage.place}.{number}" if stage.place else str(number)
