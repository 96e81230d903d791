"""``vnet run``: build a lab, take its steps, report, take it down."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vnet.cli.completing import complete_lab_file
from vnet.cli.output import abandon_output, complain
from vnet.errors import LabError, VnetError

if TYPE_CHECKING:
    from vnet.lab.plan import Lab
    from vnet.lab.report import Report

__all__ = ["LAB_HELP", "add_to", "error_as_json"]

LAB_HELP = "A lab file, the name of a lab that comes with vnet, or - for standard input."


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("run", short_help="Build a lab, run its steps, report, and take it down.")(run)


def run(
    lab: Annotated[str, typer.Argument(metavar="FILE|NAME|-", help=LAB_HELP, autocompletion=complete_lab_file)],
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    out: Annotated[
        str,
        typer.Option(metavar="DIR", help="Leave report.json, report.xml, capture.pcapng, graph.svg and logs/ there."),
    ] = "",
    seed: Annotated[
        int | None, typer.Option(metavar="N", min=0, max=2**64 - 1, help="Use this seed instead of the lab's.")
    ] = None,
    keep_going: Annotated[bool, typer.Option("--keep-going", help="Take the steps after one that failed.")] = False,
) -> None:
    """Build a lab, run its steps, report, and take it down.

    Exit codes: 0 all passed, 1 an expectation failed, 2 the lab is wrong or did not come up, 3 this machine lacks
    something that the lab needs.

    Example: vnet run quickstart --out out
    """
    try:
        report = _run(lab, _directory(out), seed, keep_going)
    except VnetError as error:
        if as_json:
            print(error_as_json(error))
        raise
    try:
        _print(report, as_json)
    except (BrokenPipeError, SystemExit):
        # Whoever read our output has seen enough; rich makes an exit of it.  The exit code is still the lab's.
        abandon_output()
    raise typer.Exit(0 if report.passed else 1)


def _print(report: Report, as_json: bool) -> None:
    if as_json:
        print(report.as_json(), flush=True)
    else:
        from rich.console import Console

        from vnet.lab.render import print_report

        print_report(report, Console(soft_wrap=False))


def _run(given: str, out: Path | None, seed: int | None, keep_going: bool) -> Report:
    from vnet.graph import from_lab, render
    from vnet.lab.report import write_report
    from vnet.lab.runner import Options, run_lab
    from vnet.lab.source import load

    with _progress() as (progress, say):
        progress("reading the lab")
        lab = load(given, seed=seed)
        _check_runnable(lab)
        if out is not None:
            _make(out)
        report = run_lab(lab, Options(out=out, keep_going=keep_going, progress=progress, say=say))
    if out is not None:
        try:
            write_report(report, out)
            (out / "graph.svg").write_bytes(render(from_lab(lab), "svg"))
        except OSError as error:
            raise VnetError(f"{out}: cannot write the report: {(error.strerror or str(error)).lower()}") from None
    return report


def _check_runnable(lab: Lab) -> None:
    if not lab.steps:
        raise LabError("the lab has no steps, so there is nothing to run; expected a list under 'steps'", file=lab.file)


def _directory(out: str) -> Path | None:
    return Path(out) if out else None


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VnetError(f"--out {out}: {(error.strerror or str(error)).lower()}; expected a directory") from None
    if not os.access(out, os.W_OK | os.X_OK):
        raise VnetError(f"--out {out}: permission denied; expected a directory that can be written to")


@contextlib.contextmanager
def _progress() -> Iterator[tuple[Callable[[str], None], Callable[[str], None]]]:
    """What tells what is going on, on a line of a terminal that goes away, and what tells a line that stays."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None, complain
        return
    with console.status("") as status:
        yield (
            lambda words: status.update(escape(words)),
            lambda line: console.print(line, markup=False, highlight=False),
        )


def error_as_json(error: VnetError) -> str:
    """An error in the form that ``--json`` prints in place of a report."""
    plain: dict[str, object] = {"message": str(error), "type": type(error).__name__}
    if isinstance(error, LabError):
        plain |= {
            "file": error.file,
            "line": error.line,
            "column": error.column,
            "key": error.key,
            "wrong": error.message,
        }
    return json.dumps({"format": 1, "error": plain}, indent=2, ensure_ascii=False)
