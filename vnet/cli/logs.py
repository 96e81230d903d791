"""``vnet logs``: what the command of a node has printed."""

from __future__ import annotations

import base64
import sys
from typing import Annotated

import typer

from vnet.cli.labverbs import LabArgument, NodeArgument, errors_as_json
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
) -> None:
    """Show what the command of a node has printed, standard error too; the last MiB is kept.

    Example: vnet logs office carol --follow
    """
    from vnet.calls import stream
    from vnet.lab.finding import find_lab

    with errors_as_json(False):
        found = find_lab(lab, kinds=("lab", "run"), what="it has no nodes whose output is kept")
        with stream(found.name, "lab.logs", node=node, follow=follow, lines=lines) as answers:
            try:
                for answer in answers:
                    if "missing" in answer:
                        complain(f"[{answer['missing']:,} bytes earlier are not kept]")
                        continue
                    sys.stdout.buffer.write(base64.b64decode(answer["data"]))
                    sys.stdout.buffer.flush()
            except LanClosed:
                # Who follows a lab to its end has seen all of it.
                if not follow:
                    raise
