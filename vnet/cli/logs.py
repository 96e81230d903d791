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

    A node may have several commands: NODE shows all of them, line by line with the command's name in front, NODE/NAME
    shows one. With --json an object with all of it, and with --follow an object for each line.

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
                    command = answer.get("command")
                    if "missing" in answer:
                        show.missing(answer["missing"], command)
                    else:
                        show.output(base64.b64decode(answer["data"]), command)
            except LanClosed:
                # Who follows a lab to its end has seen all of it.
                if not follow:
                    raise
        show.end()


class _Lines:
    """What commands print, cut into lines."""

    def __init__(self) -> None:
        self._pending: dict[str | None, bytes] = {}

    def add(self, data: bytes, command: str | None) -> list[bytes]:
        """The lines that are whole now."""
        *whole, self._pending[command] = (self._pending.get(command, b"") + data).split(b"\n")
        return whole

    def rest(self) -> dict[str | None, bytes]:
        """What is left at the end, and was not ended by its command."""
        return {command: line for command, line in self._pending.items() if line}


class _AsItIs:
    """Byte for byte what was printed; of several commands line by line, each with the name in front."""

    def __init__(self) -> None:
        self._lines = _Lines()

    def missing(self, count: int, command: str | None) -> None:
        whose = f" of {command}" if command is not None else ""
        complain(f"[{count:,} bytes earlier{whose} are not kept]")

    def output(self, data: bytes, command: str | None) -> None:
        if command is None:
            sys.stdout.buffer.write(data)
        for line in [] if command is None else self._lines.add(data, command):
            self._line(line, command)
        sys.stdout.buffer.flush()

    def end(self) -> None:
        for command, line in self._lines.rest().items():
            self._line(line, command)
        sys.stdout.buffer.flush()

    def _line(self, line: bytes, command: str | None) -> None:
        sys.stdout.buffer.write(f"{command} | ".encode() + line + b"\n")


class _AsObjects:
    """One object with all of it; or, where it goes on, one for each line as it is whole."""

    def __init__(self, lab: str, node: str, follow: bool) -> None:
        self._lab, self._node, self._follow = lab, node, follow
        self._missing: dict[str | None, int] = {}
        self._printed: dict[str | None, bytes] = {}
        self._lines = _Lines()

    def missing(self, count: int, command: str | None) -> None:
        self._missing[command] = self._missing.get(command, 0) + count

    def output(self, data: bytes, command: str | None) -> None:
        if not self._follow:
            self._printed[command] = self._printed.get(command, b"") + data
        else:
            for line in self._lines.add(data, command):
                self._line(line, command)

    def end(self) -> None:
        if self._follow:
            for command, line in self._lines.rest().items():
                self._line(line, command)
            return
        whole = {"lab": self._lab, "node": self._node, **self._of(None)}
        names = sorted({name for name in (*self._printed, *self._missing) if name is not None})
        if names:
            whole = {**whole, "commands": [{"command": name, **self._of(name)} for name in names]}
        print_json(whole)

    def _of(self, command: str | None) -> dict[str, object]:
        text = self._printed.get(command, b"").decode("utf-8", "replace")
        return {"missing_bytes": self._missing.get(command, 0), "output": text}

    def _line(self, line: bytes, command: str | None) -> None:
        about = {} if command is None else {"command": command}
        text = line.decode("utf-8", "replace")
        print(json.dumps({"format": 1, "node": self._node, **about, "line": text}, ensure_ascii=False), flush=True)
