"""``wait``: let time pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vnet.lab.schema import WaitStepFile
from vnet.lab.steps.base import USUAL_TIMEOUT, Outcome, Stage, Step, StepContext
from vnet.lab.units import Dimension, show

__all__ = ["WaitStep", "plan"]


@dataclass(frozen=True)
class WaitStep(Step):
    """Nothing happens for ``seconds``."""

    kind: ClassVar[str] = "wait"

    seconds: float

    def title(self) -> str:
        return f"wait {show(self.seconds, Dimension.DURATION)}"

    @property
    def usual_timeout(self) -> float:
        return self.seconds + USUAL_TIMEOUT

    def run(self, stage: Stage) -> Outcome:
        stage.limit.sleep(self.seconds)
        return Outcome("waited", {})


def plan(said: WaitStepFile, context: StepContext) -> WaitStep:
    """A wait step as it stands."""
    return WaitStep(said.name or "", context.line, (), said.wait, timeout=said.timeout)
