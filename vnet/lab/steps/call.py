"""``call``: call what a node serves, as the operator or in the name of a node."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from vnet.lab.expect import Check, Expectation, Found, TextExpectation, expectations
from vnet.lab.plan import Node
from vnet.lab.schema import CallStepFile
from vnet.lab.sharing import can_share, why_not
from vnet.lab.steps.base import USUAL_TIMEOUT, Outcome, Stage, Step, StepContext
from vnet.lab.tree import did_you_mean

__all__ = ["CallStep", "plan"]


@dataclass(frozen=True)
class ResultExpectation:
    """What a call returned compared with a value, as JSON has it; metric ``value`` is JSON text."""

    metric: str
    text: str

    def check(self, found: Found) -> Check:
        return Check("result", self.text, _clipped(found) if isinstance(found, str) else "none", self._holds(found))

    def _holds(self, found: Found) -> bool:
        return isinstance(found, str) and _canonical(json.loads(found)) == _canonical(json.loads(self.text))


@dataclass(frozen=True)
class Succeeds:
    """That no exception came in place of a result."""

    metric: str = "error"

    def check(self, found: Found) -> Check:
        return Check("error", "none", found if isinstance(found, str) else "none", found is None)


def _canonical(value: Any) -> Any:
    """A value that equals another one only if both are the same to JSON: to Python ``True`` is 1."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, list):
        return [_canonical(each) for each in value]
    if isinstance(value, dict):
        return {key: _canonical(each) for key, each in value.items()}
    return value


@dataclass(frozen=True)
class CallStep(Step):
    """A call of ``method`` of the service that ``server`` has; ``caller`` is empty for the operator."""

    kind: ClassVar[str] = "call"

    server: str
    service: str
    method: str
    arguments: tuple[Any, ...]
    named: Mapping[str, Any]
    caller: str
    patience: float

    def title(self) -> str:
        who = f"{self.caller}: " if self.caller else ""
        words = [_short(each) for each in self.arguments] + [f"{k}={_short(v)}" for k, v in self.named.items()]
        return f"call {who}{self.server} {self.service}.{self.method}({', '.join(words)})"

    @property
    def usual_timeout(self) -> float:
        return self.patience + USUAL_TIMEOUT

    @property
    def nodes(self) -> tuple[str, ...]:
        return (self.caller, self.server) if self.caller else (self.server,)

    def run(self, stage: Stage) -> Outcome:
        from vnet.lab.asking import CallFailed, call_once

        try:
            answer = call_once(
                stage.lan,
                self.server,
                self.service,
                self.method,
                self.arguments,
                self.named,
                guest=self.caller or None,
                timeout=self.patience,
                limit=stage.limit,
            )
        except CallFailed as failed:
            details = (failed.trace,) if failed.trace else ()
            return Outcome(failed.text, {"error": failed.text, "result": None, "value": None}, details=details)
        text = answer if isinstance(answer, str) else _json(answer)
        return Outcome(_clipped(text, 60), {"error": None, "result": text, "value": _json(answer)})


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _short(value: Any) -> str:
    return _clipped(_json(value), 24)


def _clipped(text: str, limit: int = 2000) -> str:
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= limit else line[:limit] + "..."


def plan(said: CallStepFile, context: StepContext) -> CallStep:
    """Resolve the nodes of a call step.

    Raises:
        LabError: a node is unknown or runs no programs, or nothing says who serves.
    """
    step = said.call
    kept = context.services.get(step.service)
    if step.node is None and kept is None:
        close = did_you_mean(step.service, context.services)
        message = f"'services' names nobody who serves {step.service!r}{close}; expected that, or 'node' beside it"
        raise context.error(message, "service")
    server = kept.node if step.node is None and kept is not None else str(step.node)
    if step.node is not None:
        _able(context, context.node(step.node, "node"), "node")
        if kept is not None and kept.node != step.node:
            message = f"service {step.service!r} is that of {kept.node!r}, as 'services' says; expected {kept.node}"
            raise context.error(message, "node")
    if step.from_ is not None:
        _able(context, context.node(step.from_, "from"), "from")
    return CallStep(
        name=said.name or "",
        line=context.line,
        expectations=_expectations(said),
        timeout=said.timeout,
        server=server,
        service=step.service,
        method=step.method,
        arguments=tuple(step.args) if isinstance(step.args, list) else (),
        named=step.args if isinstance(step.args, dict) else {},
        caller=step.from_ or "",
        patience=step.timeout,
    )


def _able(context: StepContext, node: Node, key: str) -> None:
    if not can_share(node):
        raise context.error(f"{node.name!r} is {why_not(node)}", key)


def _expectations(said: CallStepFile) -> tuple[Expectation, ...]:
    """A call is expected to succeed unless the lab says which error it expects."""
    found = list(expectations(said.expect))
    if said.expect is None or said.expect.error is None:
        found.insert(0, Succeeds())
    result = None if said.expect is None else said.expect.result
    if result is not None:
        if "equals" in result.model_fields_set:
            found.append(ResultExpectation("value", _json(result.equals)))
        found += [TextExpectation("result", "contains", text) for text in result.contains or ()]
        if result.matches is not None:
            found.append(TextExpectation("result", "matches", result.matches))
    return tuple(found)
