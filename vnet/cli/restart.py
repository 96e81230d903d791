"""``vnet restart``: end a node of a lab that is up and start it again."""

from __future__ import annotations

import time

import typer

from vnet.cli.labverbs import AsJson, LabArgument, NodeArgument, errors_as_json, print_json
from vnet.cli.progress import progress

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("restart", short_help="End a node of a lab and start it again.")(restart)


def restart(lab: LabArgument, node: NodeArgument, as_json: AsJson = False) -> None:
    """End a node of a lab that is up and start it again, with the same addresses; return when it is ready.

    A built-in host is made anew. The rest of the lab goes on undisturbed.

    Example: vnet restart office carol
    """
    from vnet.calls import call
    from vnet.lab.finding import find_lab

    with errors_as_json(as_json), progress() as line:
        found = find_lab(lab, what="its nodes cannot be started again")
        line(f"restarting {node}")
        began = time.perf_counter()
        call(found.name, "lab.restart", timeout=None, node=node)
        seconds = time.perf_counter() - began
    if as_json:
        print_json({"lab": found.name, "node": node, "seconds": round(seconds, 6)})
    else:
        print(f"{node} is up again ({seconds:.2f} s)")
