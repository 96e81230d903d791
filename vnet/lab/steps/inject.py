"""``inject``: send packets of a scapy expression as one of the nodes."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from typing import ClassVar

from vnet.lab.expect import expectations
from vnet.lab.packets import ExpressionError, datagrams
from vnet.lab.schema import InjectStepFile
from vnet.lab.steps.base import USUAL_TIMEOUT, Outcome, Stage, Step, StepContext
from vnet.lab.steps.sending import Tally, batches, sleep_until

__all__ = ["InjectStep", "plan"]


@dataclass(frozen=True)
class InjectStep(Step):
    """``datagrams``, all of them ``repeat`` times, sent as the NIC of ``sender``."""

    kind: ClassVar[str] = "inject"

    sender: str
    expression: str
    datagrams: tuple[bytes, ...] = field(repr=False)
    repeat: int
    interval: float
    block: bool

    def title(self) -> str:
        expression = " ".join(self.expression.split())
        number = len(self.datagrams) * self.repeat
        shown = expression if len(expression) <= 60 else expression[:57] + "..."
        return f"inject as {self.sender}: {shown}" + (f", {number:,} datagrams" if number > 1 else "")

    @property
    def usual_timeout(self) -> float:
        return len(self.datagrams) * self.repeat * self.interval + USUAL_TIMEOUT

    @property
    def nodes(self) -> tuple[str, ...]:
        return (self.sender,)

    def run(self, stage: Stage) -> Outcome:
        everything = itertools.chain.from_iterable(itertools.repeat(self.datagrams, self.repeat))
        tally, start = Tally(), time.perf_counter()
        for number, batch in enumerate(batches(everything, 1 if self.interval else 1024)):
            if self.interval:
                sleep_until(start + number * self.interval, stage.limit)
            tally.send(stage, self.sender, batch, block=self.block)
        return Outcome(tally.summary(), tally.metrics())


def plan(said: InjectStepFile, context: StepContext) -> InjectStep:
    """Build the datagrams of an inject step.

    Raises:
        LabError: the node is unknown or the expression is wrong.
    """
    inject = said.inject
    sender = context.guest(inject.from_, "from")
    try:
        built, repeat = datagrams(
            inject.packet,
            sender=sender,
            nodes=context.nodes,
            count=inject.count,
            seed=f"{context.seed}:{context.path}",
        )
    except ExpressionError as error:
        raise context.error(str(error), "packet") from None
    return InjectStep(
        name=said.name or "",
        line=context.line,
        expectations=expectations(said.expect),
        timeout=said.timeout,
        sender=sender.name,
        expression=inject.packet,
        datagrams=built,
        repeat=repeat,
        interval=inject.interval,
        block=inject.block,
    )
