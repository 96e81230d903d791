"""``vnet unplug``: take back what ``vnet plug`` gave."""

from __future__ import annotations

from typing import Annotated

import typer

from vnet.cli.complete import complete_plugged
from vnet.cli.labverbs import AsJson, errors_as_json, print_json
from vnet.cli.looking import LanArgument, lan_name

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("unplug", short_help="Take back the interface that vnet plug gave.")(unplug)


def unplug(
    lab: LanArgument,
    nic: Annotated[
        str, typer.Argument(metavar="NIC", help="What was plugged, by its name.", autocompletion=complete_plugged)
    ],
    as_json: AsJson = False,
) -> None:
    """Take the interface back that vnet plug gave to a container or network namespace; it is gone at once.

    Example: vnet unplug office c1
    """
    from vnet.calls import call

    with errors_as_json(as_json):
        name = lan_name(lab)
        call(name, "unplug", timeout=None, nic=nic)
    if as_json:
        print_json({"lan": name, "nic": nic})
    else:
        print(f"{nic} is off {name}")
