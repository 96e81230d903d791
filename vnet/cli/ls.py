"""``vnet ls``: what is up."""

from __future__ import annotations

import time

import typer

from vnet.cli.labverbs import AsJson, errors_as_json, print_json
from vnet.cli.output import complain
from vnet.cli.table import print_table, since

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("ls", short_help="List the labs and other LANs that are up.")(ls)


def ls(as_json: AsJson = False) -> None:
    """List the labs that are up, runs under way, and LANs of programs.

    Example: vnet ls
    """
    from vnet.lab.finding import live_lans

    with errors_as_json(as_json):
        found = live_lans()
    if as_json:
        now = time.time()
        lans = [
            {
                "name": lan.name,
                "kind": lan.kind,
                "nodes": lan.nodes,
                "uptime": round(now - lan.since, 3) if lan.since else None,
                "file": lan.origin or None,
                "pid": lan.pid,
            }
            for lan in found
        ]
        print_json({"lans": lans})
        return
    if not found:
        complain("no LAN of yours is up; vnet up FILE starts a lab")
        return
    rows = [
        [lan.name, lan.kind or "no answer", f"{lan.nodes:,}", since(lan.since), str(lan.pid), lan.origin]
        for lan in found
    ]
    print_table(["name", "kind", "nodes", "up for", "process", "file"], rows, {"no answer": "red"})
