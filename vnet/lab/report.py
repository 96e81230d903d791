"""What came of a run: as a table for people, as JSON, and as JUnit XML for CI systems."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from vnet.lab.expect import Check

__all__ = ["FORMAT", "CaptureReport", "NodeReport", "Report", "StepReport", "write_report"]

FORMAT = 1
"""The version of the JSON form; a change that readers would trip over raises it."""

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


@dataclass(frozen=True)
class StepReport:
    """One step and what came of it.

    Attributes:
        number: from 1, among its neighbours.
        place: its number within those of the steps around it, such as ``3.1``.
        kind: ``ping``, ``exec`` ...
        name: as in the lab file; empty where it has none.
        title: what it does in a few words.
        file, line: where it stands.
        outcome: ``passed``, ``failed`` or ``skipped``.
        summary: the result in a few words.
        seconds: how long it took.
        metrics: what it measured.
        checks: its expectations, each with what was found.
        failure: why it could not be done; empty when it was.
        details: lines that help to see why.
        hints: where to look, when it failed.
        steps: those inside it.
    """

    number: int
    kind: str
    name: str
    title: str
    file: str
    line: int
    outcome: str
    summary: str
    seconds: float
    metrics: Mapping[str, float | str | None]
    checks: tuple[Check, ...]
    failure: str
    details: tuple[str, ...]
    place: str = ""
    hints: tuple[str, ...] = ()
    steps: tuple[StepReport, ...] = ()

    @property
    def what(self) -> str:
        """Its name, or what it does."""
        return self.name or self.title

    def walk(self) -> Iterator[StepReport]:
        """This step, and all inside it, in the order of their places."""
        yield self
        for step in self.steps:
            yield from step.walk()


@dataclass(frozen=True)
class NodeReport:
    """One guest; ``code`` is its command's exit code where it ended by itself, ``failure`` why that was wrong."""

    name: str
    kind: str
    network: str
    addresses: tuple[str, ...]
    line: int
    code: int | None
    failure: str


@dataclass(frozen=True)
class CaptureReport:
    """The capture of a run.

    Attributes:
        file: where it is.
        datagrams: how many are in it.
        missed: how many came faster than they could be written.
        failure: why it is not whole, such as a full disk; empty where it is.
    """

    file: str
    datagrams: int
    missed: int
    failure: str


@dataclass(frozen=True)
class Report:
    """A run.

    Attributes:
        lab, file, seed: of the plan.
        lan: the LAN's name; it differs from the lab's when that was taken.
        started: ISO 8601, UTC.
        up_seconds: until every guest was on the LAN.
        seconds: from the beginning until everything was down.
        steps, nodes: in file order.
        capture: None where nothing was captured.
    """

    lab: str
    file: str
    seed: int
    lan: str
    started: str
    up_seconds: float
    seconds: float
    steps: tuple[StepReport, ...]
    nodes: tuple[NodeReport, ...]
    capture: CaptureReport | None

    @property
    def crashed(self) -> tuple[NodeReport, ...]:
        """The nodes whose commands ended wrongly while the lab ran."""
        return tuple(node for node in self.nodes if node.failure)

    @property
    def passed(self) -> bool:
        """Every step passed, no guest's command ended wrongly, and the capture that was asked for is whole."""
        whole = self.capture is None or not self.capture.failure
        return all(step.outcome == PASSED for step in self.steps) and not self.crashed and whole

    def count(self, outcome: str) -> int:
        """How many steps have this outcome."""
        return sum(step.outcome == outcome for step in self.steps)

    def as_json(self) -> str:
        """The report as JSON text; docs/labs.md describes its form."""
        return json.dumps(self._plain(), indent=2, ensure_ascii=False, allow_nan=False)

    def as_junit(self) -> bytes:
        """The report as JUnit XML: one test suite, a test case a step, nested ones included, and one for each other
        failure."""
        return _junit(self)

    def _plain(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "lab": self.lab,
            "file": self.file,
            "lan": self.lan,
            "seed": self.seed,
            "started": self.started,
            "up_seconds": self.up_seconds,
            "seconds": self.seconds,
            "passed": self.passed,
            "steps": [_plain_step(step) for step in self.steps],
            "nodes": [
                {
                    "name": node.name,
                    "kind": node.kind,
                    "network": node.network,
                    "addresses": list(node.addresses),
                    "line": node.line,
                    "code": node.code,
                    "failure": node.failure,
                }
                for node in self.nodes
            ],
            "capture": None
            if self.capture is None
            else {
                "file": self.capture.file,
                "datagrams": self.capture.datagrams,
                "missed": self.capture.missed,
                "failure": self.capture.failure,
            },
        }


def _plain_step(step: StepReport) -> dict[str, Any]:
    return {
        "number": step.number,
        "place": step.place,
        "kind": step.kind,
        "name": step.name,
        "title": step.title,
        "file": step.file,
        "line": step.line,
        "outcome": step.outcome,
        "summary": step.summary,
        "seconds": step.seconds,
        "metrics": {name: _finite(value) for name, value in step.metrics.items()},
        "expectations": [
            {"metric": c.metric, "expected": c.expected, "found": c.found, "passed": c.passed} for c in step.checks
        ],
        "failure": step.failure,
        "details": list(step.details),
        "hints": list(step.hints),
        "steps": [_plain_step(inner) for inner in step.steps],
    }


def _finite(value: float | str | None) -> float | str | None:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def explain(step: StepReport) -> list[str]:
    """Why a step failed: what was expected and what was found, why it could not be done, what helps to see why."""
    lines = [step.failure] if step.failure else []
    # A step that could not be done has measured nothing, which says no more than that.
    missed = [c for c in step.checks if not c.passed and not (step.failure and c.found == "none")]
    lines += [f"expected {c.metric} {c.expected}, found {c.found}" for c in missed]
    lines += [line for detail in step.details for line in detail.splitlines()]
    lines += [f"look at: {hint}" for hint in step.hints]
    return lines


def failed_leaves(step: StepReport) -> Iterator[StepReport]:
    """The steps that failed by themselves: this one, or those inside it."""
    inner = [leaf for each in step.steps for leaf in failed_leaves(each)]
    if step.kind == "wait_until":
        inner = []  # what the last look found is part of what it says itself
    if step.outcome == FAILED and (not inner or any(not check.passed for check in step.checks)):
        yield step
    yield from inner


def _junit(report: Report) -> bytes:
    crashed = report.crashed
    broken = report.capture is not None and bool(report.capture.failure)
    # Steps that hold others are cases too: what they expect of the whole is theirs.
    steps = [step for top in report.steps for step in top.walk()]
    failed, skipped = (sum(step.outcome == outcome for step in steps) for outcome in (FAILED, SKIPPED))
    totals = {
        "name": report.lab,
        "tests": str(len(steps) + len(crashed) + broken),
        "failures": str(failed + len(crashed) + broken),
        "errors": "0",
        "skipped": str(skipped),
        "time": f"{report.seconds:.6f}",
    }
    root = ElementTree.Element("testsuites", {k: v for k, v in totals.items() if k != "skipped"})
    suite = ElementTree.SubElement(root, "testsuite", {**totals, "timestamp": report.started})
    for step in steps:
        case = _case(suite, report, f"{step.place or step.number}. {step.what}", step.line, step.seconds)
        if step.outcome == SKIPPED:
            ElementTree.SubElement(case, "skipped", {"message": step.summary})
        elif step.outcome == FAILED:
            why = explain(step)
            _failure(case, why[0] if why else step.summary, [f"{step.file}:{step.line}: {step.title}", *why])
        output = step.metrics.get("stdout")
        if isinstance(output, str) and output:
            ElementTree.SubElement(case, "system-out").text = _xml_text(output)
    for node in crashed:
        case = _case(suite, report, f"node {node.name}", node.line, report.seconds)
        _failure(case, node.failure, [f"{report.file}:{node.line}: nodes.{node.name}", node.failure])
    if report.capture is not None and broken:
        case = _case(suite, report, "capture", 0, report.seconds)
        _failure(case, report.capture.failure, [report.capture.failure])
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _case(suite: ElementTree.Element, report: Report, name: str, line: int, seconds: float) -> ElementTree.Element:
    attributes = {
        "classname": _xml_text(report.lab),
        "name": _xml_text(name),
        "file": _xml_text(report.file),
        "line": str(line),
        "time": f"{seconds:.6f}",
    }
    return ElementTree.SubElement(suite, "testcase", attributes)


def _failure(case: ElementTree.Element, message: str, lines: list[str]) -> None:
    attributes = {"message": _xml_text(message), "type": "expectation"}
    ElementTree.SubElement(case, "failure", attributes).text = _xml_text("\n".join(lines))


# XML 1.0 has no way to write these, and a command may print any of them.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _xml_text(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)


def write_report(report: Report, out: Path) -> None:
    """Leave ``report.json`` and ``report.xml`` in the directory ``out``."""
    (out / "report.json").write_text(report.as_json() + "\n", encoding="utf-8")
    (out / "report.xml").write_bytes(report.as_junit())
