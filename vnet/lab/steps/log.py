"""``log``: a line for the report, and for whoever watches."""

from __future__ import annotations

import string
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from vnet.lab.schema import LogStepFile
from vnet.lab.steps.base import Outcome, Stage, Step, StepContext
from vnet.lab.tree import did_you_mean
from vnet.statistics import NicStatistics
from vnet.verdict import Verdict

__all__ = ["LogStep", "plan"]

_COUNTERS = tuple(
    field.name
    for field in fields(NicStatistics)
    if field.type in ("int", int) and not field.name.startswith("doorbells")
)
_VERDICTS = {verdict.name.lower(): verdict for verdict in Verdict}


@dataclass(frozen=True)
class LogStep(Step):
    """``parts`` of text, each followed by what stands between it and the next: a node, or one of its counters."""

    kind: ClassVar[str] = "log"

    text: str
    parts: tuple[tuple[str, str, str], ...]

    def title(self) -> str:
        return "log"

    def run(self, stage: Stage) -> Outcome:
        counters: Any = None
        line = ""
        for text, node, counter in self.parts:
            line += text
            if counter:
                counters = counters or stage.lan.statistics().nics
                own = stage.lab.nodes[node].nics
                line += f"{sum(_read(counters[nic], counter) for nic in own):,}"
            elif node:
                line += str(stage.lab.nodes[node].address())
        stage.say(line)
        return Outcome(line, {})


def _read(counters: Any, name: str) -> int:
    return int(counters.verdicts[_VERDICTS[name]] if name in _VERDICTS else getattr(counters, name))


def plan(said: LogStepFile, context: StepContext) -> LogStep:
    """Find the nodes and counters that the line names.

    Raises:
        LabError: there is no such node or counter, or the braces do not match.
    """
    try:
        found = [(text, field) for text, field, _, _ in string.Formatter().parse(said.log)]
    except ValueError as error:
        raise context.error(f"{error}; expected {{{{ for a brace that is meant as one") from None
    return LogStep(
        name=said.name or "",
        line=context.line,
        expectations=(),
        timeout=said.timeout,
        text=said.log,
        parts=tuple((text, *_place(field, context)) for text, field in found),
    )


def _place(field: str | None, context: StepContext) -> tuple[str, str]:
    if field is None:
        return "", ""
    if field in context.nodes:
        if not context.nodes[field].addresses:
            raise context.error(f"{field!r} has no address to write; expected another node, or one of its counters")
        return field, ""
    name, _, counter = field.rpartition(".")
    if not name:
        context.node(field)
    node = context.node(name).name
    known = (*_COUNTERS, *_VERDICTS)
    if counter not in known:
        close = did_you_mean(counter, known)
        raise context.error(f"a NIC has no counter {counter!r}{close}; expected one of {', '.join(known)}")
    if not context.nodes[node].nics:
        raise context.error(f"router {node!r} has links only, and no NIC that counts; expected another node")
    return node, counter
