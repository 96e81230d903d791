"""A report for people: a table on a terminal, aligned plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from vnet.lab.expect import Check
from vnet.lab.report import FAILED, PASSED, SKIPPED, Report, StepReport, explain, failed_leaves
from vnet.lab.units import Dimension, show

__all__ = ["print_report"]

_STYLE = {PASSED: "green", FAILED: "bold red", SKIPPED: "dim"}
_MARK = {PASSED: "✓", FAILED: "✗", SKIPPED: "·"}
# Narrower than this, what a step expected and how the file puts it would fold into towers.
_WIDE = 110
# Rounds of a step that are shown; the report has more.
MOST_ROUNDS = 3
_WORD = {PASSED: "ok", FAILED: "FAIL", SKIPPED: "skip"}


def print_report(report: Report, console: Console) -> None:
    """Print the steps, why some of them failed, and one line that sums up."""
    if console.is_terminal:
        _table(report, console)
    else:
        _lines(report, console)
    for step in report.steps:
        for leaf in failed_leaves(step):
            _why(leaf, console)
    for node in report.crashed:
        _say(console, f"\n[bold red]node {escape(node.name)}[/]  {escape(report.file)}:{node.line}")
        _indented(console, node.failure)
    _summary(report, console)


def _table(report: Report, console: Console) -> None:
    guests = f"{len(report.nodes):,} {'guest' if len(report.nodes) == 1 else 'guests'}"
    wide = console.width >= _WIDE
    table = Table(
        title=f"[bold]{escape(report.lab)}[/]  [dim]{guests}, up in {_seconds(report.up_seconds)}[/]",
        title_justify="left",
        title_style="none",
        header_style="bold",
        border_style="dim",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("", justify="center", no_wrap=True)
    table.add_column("#", justify="left", style="dim", no_wrap=True)
    table.add_column("Step", overflow="fold")
    table.add_column("Result", overflow="fold")
    if wide:
        table.add_column("Expected", overflow="fold")
    table.add_column("Time", justify="right", no_wrap=True)
    for step in _rows(report.steps):
        style = _STYLE[step.outcome]
        what = Text(step.what)
        if step.name and wide and step.name != step.title:
            what.append(f"\n{step.title}", "dim")
        table.add_row(
            Text(_MARK[step.outcome], style),
            step.place or str(step.number),
            what,
            Text(step.summary, style if step.outcome == FAILED else ""),
            *([_expected(step)] if wide else []),
            "" if step.outcome == SKIPPED else _seconds(step.seconds),
            style="dim" if step.outcome == SKIPPED else "",
        )
    console.print(table)


def _rows(steps: Iterable[StepReport]) -> Iterator[StepReport]:
    """The steps to show: of ``repeat`` and ``wait_until`` only what failed, or there would be rows without end."""
    for step in steps:
        yield step
        inner = step.steps
        if step.kind in ("repeat", "wait_until"):
            inner = tuple(each for each in inner if each.outcome == FAILED)[-MOST_ROUNDS:]
        yield from _rows(inner)


def _expected(step: StepReport) -> Text:
    text = Text()
    for check in step.checks:
        if text:
            text.append("\n")
        text.append(_clause(check), "" if check.passed else "red")
    return text


def _clause(check: Check) -> str:
    expected = " ".join(check.expected.split())
    return f"{check.metric} {expected if len(expected) <= 50 else expected[:47] + '...'}"


def _lines(report: Report, console: Console) -> None:
    console.print(
        f"{report.lab}: {len(report.nodes):,} guests, up in {_seconds(report.up_seconds)}", markup=False, soft_wrap=True
    )
    rows = list(_rows(report.steps))
    width = min(60, max((len(step.what) for step in rows), default=0))
    places = max((len(step.place) for step in rows), default=2)
    for step in rows:
        time = "" if step.outcome == SKIPPED else f"  ({_seconds(step.seconds)})"
        expected = "; ".join(_clause(check) for check in step.checks)
        expected = f"  [expected {expected}]" if expected else ""
        place = f"{step.place or step.number:<{places}}"
        line = f"{_WORD[step.outcome]:<4}  {place}  {step.what:<{width}}  {step.summary}{expected}{time}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _why(step: StepReport, console: Console) -> None:
    _say(
        console,
        f"\n[bold red]step {step.place or step.number}[/] {escape(step.what)}  [dim]{escape(step.file)}:{step.line}[/]",
    )
    lines = explain(step)
    for line in lines[:20]:
        _indented(console, line)
    if len(lines) > 20:
        _say(console, f"  [dim]and {len(lines) - 20} more lines; --json and --out keep them all[/]")


def _summary(report: Report, console: Console) -> None:
    passed, failed, skipped = (report.count(outcome) for outcome in (PASSED, FAILED, SKIPPED))
    parts = [f"{passed} passed"]
    parts += [f"{failed} failed"] if failed else []
    parts += [f"{skipped} skipped"] if skipped else []
    parts += [f"{len(report.crashed)} crashed"] if report.crashed else []
    style = "bold green" if report.passed else "bold red"
    _say(console, f"\n[{style}]{', '.join(parts)}[/] in {_seconds(report.seconds)}")
    if report.capture is not None:
        missed = f", {report.capture.missed:,} missed" if report.capture.missed else ""
        capture = f"{report.capture.file} ({report.capture.datagrams:,} datagrams{missed})"
        _say(console, f"capture: {escape(report.capture.failure or capture)}")


def _say(console: Console, text: str) -> None:
    # Soft wrap leaves long lines whole where the output is read by a program.
    console.print(text, highlight=False, soft_wrap=not console.is_terminal)


def _indented(console: Console, line: str) -> None:
    if console.is_terminal:
        console.print(Padding(Text(line), (0, 0, 0, 2)))
    else:
        _say(console, f"  {escape(line)}")


def _seconds(seconds: float) -> str:
    return show(seconds, Dimension.DURATION)
