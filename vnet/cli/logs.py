"""``vnet logs``: what the command of a node has printed."""

from __future__ import annotations

import base64
import json
import sys
from typing import Annotated

import typer

from vnet.cli.labverbs import AsJson, LabArgument, NodeArgument, errors_as_json, print_json
from vnet.cli.output import complain
from vnet.errors import LanClosed

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("logs", short_help="Show what the command of a node has printed.")(logs)


def logs(
    lab: LabArgument,
    node: NodeArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    lines: Annotated[
        int | None, typer.Option("--lines", "-n", metavar="N", min=0, help="Only the last N lines.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what the command of a node has printed, standard error too; the last MiB is kept.

    With --json an object with all of it, and with --follow an object for each line.

    Example: vnet logs office carol --follow
    """
    from vnet.calls import stream
    from vnet.lab.finding import find_lab

    show = _AsObjects(lab, node, follow) if as_json else _AsItIs()
    with errors_as_json(as_json):
        found = find_lab(lab, kinds=("lab", "run"), what="it has no nodes whose output is kept")
        with stream(found.name, "lab.logs", node=node, follow=follow, lines=lines) as answers:
            try:
                for answer in answers:
                    if "missing" in answer:
                        show.missing(answer["missing"])
                    else:
                        show.output(base64.b64decode(answer["data"]))
            except LanClosed:
                # Who follows a lab to its end has seen all of it.
                if not follow:
                    raise
        show.end()


class _AsItIs:
    """Byte for byte what was printed."""

    def missing(self, count: int) -> None:
        complain(f"[{count:,} bytes earlier are not kept]")

    def output(self, data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def end(self) -> None:
        pass


class _AsObjects:
    """One object with all of it; or, where it goes on, one for each line as it is whole."""

    def __init__(self, lab: str, node: str, follow: bool) -> None:
        self._lab, self._node, self._follow = lab, node, follow
        self._missing = 0
        self._pending = b""

    def missing(self, count: int) -> None:
        self._missing += count

    def output(self, data: bytes) -> None:
        self._pending += data
        if self._follow:
            *whole, self._pending = self._pending.split(b"\n")
            for line in whole:
                self._line(line)

    def end(self) -> None:
        if not self._follow:
            text = self._pending.decode("utf-8", "replace")
            print_json({"lab": self._lab, "node": self._node, "missing_bytes": self._missing, "output": text})
        elif self._pending:
            self._line(self._pending)

    def _line(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace")
        print(json.dumps({"format": 1, "node": self._node, "line": text}, ensure_ascii=False), flush=True)
