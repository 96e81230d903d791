"""``exec``: run a command beside the LAN, in a namespace, or as the owner of a process node's NIC."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

from vnet.lab.commands import Command, describe_end, shown
from vnet.lab.expect import Expectation, NumberExpectation, expectations
from vnet.lab.schema import ExecStepFile
from vnet.lab.steps.base import USUAL_TIMEOUT, Outcome, Stage, Step, StepContext
from vnet.lab.units import Dimension, parse_comparison, show

__all__ = ["ExecStep", "plan"]


@dataclass(frozen=True)
class ExecStep(Step):
    """``command`` with ``VNET_LAN`` set, and ``VNET_NIC`` where it runs on a node."""

    kind: ClassVar[str] = "exec"

    node: str | None
    command: str | tuple[str, ...]
    patience: float

    def title(self) -> str:
        where = f" on {self.node}" if self.node else ""
        return f"exec{where}: {shown(self.command)}"

    @property
    def usual_timeout(self) -> float:
        return self.patience + USUAL_TIMEOUT

    @property
    def nodes(self) -> tuple[str, ...]:
        return (self.node,) if self.node is not None else ()

    def run(self, stage: Stage) -> Outcome:
        command = Command(
            self.command,
            environment=stage.environment if self.node is None else stage.environment_of(self.node),
            directory=stage.lab.directory,
            guard=stage.lan,
            inside=None if self.node is None else stage.namespaces.get(self.node),
        )
        due, in_time = time.monotonic() + self.patience, False
        try:
            # In slices: a step around this one may end it, and what it printed is kept.
            while not in_time and time.monotonic() < due and stage.limit.left():
                in_time = command.wait(min(0.1, max(0.0, due - time.monotonic())))
        finally:
            command.stop()
        output, errors = command.output.text(), command.errors.text()
        code = command.process.returncode if in_time else None
        metrics: dict[str, float | str | None] = {"code": code, "stdout": output, "stderr": errors}
        details = tuple(f"{name}: {text.rstrip()}" for name, text in (("stdout", output), ("stderr", errors)) if text)
        if not in_time:
            limit = show(self.patience, Dimension.DURATION)
            why = stage.limit.why() or f"the command still ran after {limit}"
            return Outcome(why.removeprefix("the command "), metrics, why, details)
        summary = f"code {code}" if code is not None and code >= 0 else describe_end(code or 0)
        return Outcome(summary + _first_line(output), metrics, details=details)


def _first_line(output: str) -> str:
    lines = output.strip().splitlines()
    if not lines:
        return ""
    line = "".join(c if c.isprintable() else " " for c in lines[0])
    more = " ..." if len(lines) > 1 or len(line) > 50 else ""
    return f": {line[:50]}{more}"


def plan(said: ExecStepFile, context: StepContext) -> ExecStep:
    """Resolve the node of an exec step.

    Raises:
        LabError: the node is unknown, or of a kind that runs no commands.
    """
    step = said.exec
    if step.on is not None:
        node = context.node(step.on, "on")
        if node.kind in ("host", "router"):
            raise context.error(
                f"{step.on!r} is a {node.kind} node, which runs no commands; expected a process, netns or tap node, or "
                "no 'on' to run the command beside the LAN",
                "on",
            )
    return ExecStep(
        name=said.name or "",
        line=context.line,
        expectations=_expectations(said),
        timeout=said.timeout,
        node=step.on,
        command=step.command if isinstance(step.command, str) else tuple(step.command),
        patience=step.timeout,
    )


def _expectations(said: ExecStepFile) -> tuple[Expectation, ...]:
    """A command is expected to end with code 0 unless the lab says which code it expects."""
    given = expectations(said.expect)
    if said.expect is not None and said.expect.code is not None:
        return given
    return (NumberExpectation("code", parse_comparison(0, Dimension.COUNT)), *given)
