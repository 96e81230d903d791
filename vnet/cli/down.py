"""``vnet down``: end labs."""

from __future__ import annotations

import contextlib
import os
import select
import time
from typing import TYPE_CHECKING, Annotated

import typer

from vnet.cli.complete import complete_lab
from vnet.cli.labverbs import AsJson, errors_as_json, print_json
from vnet.cli.progress import Progress, progress
from vnet.errors import LanNotFound, VnetError

if TYPE_CHECKING:
    from vnet.lab.finding import LiveLan

__all__ = ["add_to"]

# Seconds after which a base that was asked to end must have: its commands get two of them.
_PATIENCE = 15.0


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("down", short_help="End labs that vnet up started.")(down)


def down(
    labs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="LAB...", help="Labs that are up: their names, or their files.", autocompletion=complete_lab
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="End all labs of yours.")] = False,
    as_json: AsJson = False,
) -> None:
    """End labs that vnet up started, and return when nothing is left of them.

    Commands get SIGTERM, and two seconds later SIGKILL.

    Example: vnet down office
    """
    if bool(labs) == everything:
        raise typer.BadParameter("name the labs to end, or say --all")
    with errors_as_json(as_json), progress() as line:
        found = _own() if everything else _named(labs or [])
        _end(found, line)
    if as_json:
        print_json({"down": [lab.name for lab in found]})
        return
    for lab in found:
        print(f"{lab.name} is down")
    if not found:
        print("no lab of yours is up")


def _own() -> list[LiveLan]:
    """This user's own labs: a base of another's in our runtime directory is theirs to end."""
    from vnet.lab.finding import live_lans

    return [lan for lan in live_lans() if lan.kind == "lab" and lan.own]


def _named(given: list[str]) -> list[LiveLan]:
    """All that were named, before any of them is ended."""
    from vnet.lab.finding import find_lab

    found = [find_lab(each, what="it ends with its process") for each in given]
    return list({lab.name: lab for lab in found}.values())


def _end(labs: list[LiveLan], line: Progress) -> None:
    from vnet.calls import stream

    with contextlib.ExitStack() as opened:
        waiting = []
        for lab in labs:
            with contextlib.suppress(LanNotFound, ProcessLookupError):
                process = os.pidfd_open(lab.pid)
                opened.callback(os.close, process)
                # Kept open until the base is gone: were it to close, the base would end its commands in a hurry.
                opened.enter_context(stream(lab.name, "lab.down"))
                waiting.append((lab, process))
        deadline = time.monotonic() + _PATIENCE
        for lab, process in waiting:
            line(f"ending {lab.name}")
            if not select.select([process], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise VnetError(
                    f"the base of {lab.name!r} (process {lab.pid}) does not end; kill -KILL {lab.pid} ends it and "
                    "leaves nothing"
                )
