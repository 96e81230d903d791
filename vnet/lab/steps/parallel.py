"""``parallel``: several branches of steps at once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from vnet.lab.expect import expectations
from vnet.lab.report import StepReport
from vnet.lab.schema import ParallelStepFile
from vnet.lab.steps.base import Outcome, Stage, Step, StepContext
from vnet.lab.steps.row import Row, tell, why
from vnet.lab.tree import Key

__all__ = ["ParallelStep", "plan"]

# Each branch is a thread of this process.
MOST_BRANCHES = 256


@dataclass(frozen=True)
class ParallelStep(Step):
    """Every one of ``branches`` at once; it is over when the last of them is."""

    kind: ClassVar[str] = "parallel"

    branches: tuple[Step, ...]

    def title(self) -> str:
        names = [branch.name for branch in self.branches if branch.name]
        shown = f": {', '.join(names[:4])}{' ...' if len(names) > 4 else ''}" if names else ""
        return f"{len(self.branches)} at once{shown}"

    @property
    def usual_timeout(self) -> float:
        return max(branch.usual_timeout if branch.timeout is None else branch.timeout for branch in self.branches)

    def run(self, stage: Stage) -> Outcome:
        reports = _all_at_once(self.branches, stage)
        return Outcome(tell(reports), {}, why(reports), steps=reports)


def _all_at_once(branches: Sequence[Step], stage: Stage) -> tuple[StepReport, ...]:
    from vnet.lab.taking import take

    reports: list[StepReport | None] = [None] * len(branches)
    defects: list[BaseException] = []
    over = [threading.Event() for _ in branches]

    def run(index: int) -> None:
        try:
            reports[index] = take(branches[index], index + 1, stage)
        except BaseException as defect:
            # A defect of ours in one branch ends them all, and is told where all can see it.
            defects.append(defect)
            stage.limit.stop()
        finally:
            over[index].set()

    threads = [
        threading.Thread(target=run, args=(index,), name=f"vnet-branch-{stage.place}.{index + 1}", daemon=True)
        for index in range(len(branches))
    ]
    try:
        for thread in threads:
            thread.start()
        for event in over:
            # Not join(): in some versions of Python a thread passes for ended whose join() was interrupted.
            while not event.wait(0.1):
                pass
    except BaseException:
        stage.limit.stop()
        for thread, event in zip(threads, over, strict=True):
            # A command gets its grace; nothing else takes as long.
            if thread.ident is not None and event.wait(5.0):
                thread.join(1.0)
        raise
    for thread in threads:
        thread.join()
    if defects:
        raise defects[0]
    return tuple(report for report in reports if report is not None)


def plan(said: ParallelStepFile, context: StepContext) -> ParallelStep:
    """Plan the branches.

    Raises:
        LabError: the first mistake in them.
    """
    named = isinstance(said.parallel, dict)
    items: list[tuple[Key, Any]] = list(
        said.parallel.items() if isinstance(said.parallel, dict) else enumerate(said.parallel)
    )
    if len(items) > MOST_BRANCHES:
        raise context.error(f"{len(items):,} branches are too many; expected at most {MOST_BRANCHES}")
    branches: list[Step] = []
    for key, steps in items:
        whole = context.at(key)
        one = whole.holds_mapping
        planned = [whole.plan(step) if one else whole.plan(step, index) for index, step in enumerate(steps)]
        if len(planned) == 1:
            branches.append(replace(planned[0], name=planned[0].name or (str(key) if named else "")))
        else:
            branches.append(Row(str(key) if named else "", whole.own_line, (), steps=tuple(planned)))
    return ParallelStep(
        name=said.name or "",
        line=context.line,
        expectations=expectations(said.expect),
        timeout=said.timeout,
        branches=tuple(branches),
    )
