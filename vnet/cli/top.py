"""``vnet top``: a live LAN in a terminal."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from vnet.cli.looking import LanArgument, lan_name, seconds
from vnet.errors import VnetError

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("top", short_help="Watch a live LAN in the terminal.")(top)


def top(
    lab: LanArgument,
    interval: Annotated[str, typer.Option(metavar="TIME", help="Time between two looks.")] = "1s",
    sort: Annotated[str, typer.Option(metavar="KEY", help="traffic, tx, rx, drops or name.")] = "traffic",
) -> None:
    """Watch a live LAN: its NICs with their rates and drops, and the datagrams that were dropped last.

    Keys: q quits, s goes to the next sort key, / filters, d shows or hides the drops, p pauses; arrows and Page Up and
    Down scroll. When the LAN ends, the view says so and stays until q.

    Exit codes: 0 after q, 2 there is no such LAN or no terminal.

    Example: vnet top office --sort drops
    """
    every = seconds(interval, "--interval", least=0.05)
    keys = ("traffic", "tx", "rx", "drops", "name")
    if sort not in keys:
        raise typer.BadParameter(f"--sort takes {', '.join(keys)}, not {sort!r}")
    name = lan_name(lab)
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM", "dumb") == "dumb":
        raise VnetError(f"vnet top needs a terminal; without one, `vnet stats {name} --watch` prints rates")
    from vnet.top.app import TopApp

    app = TopApp(name, every, sort)
    app.run()
    raise typer.Exit(app.return_code or 0)
