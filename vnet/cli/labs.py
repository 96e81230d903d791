"""``vnet labs``: the labs that come with vnet."""

from __future__ import annotations

import json
from typing import Annotated

import typer

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("labs", short_help="List the labs that come with vnet.")(labs)


def labs(as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False) -> None:
    """List the labs that come with vnet, each with what it shows; vnet run takes their names.

    Example: vnet labs
    """
    from vnet.lab.source import describe, shipped_labs

    found = [{"name": name, "shows": describe(path), "file": str(path)} for name, path in shipped_labs().items()]
    if as_json:
        print(json.dumps({"format": 1, "labs": found}, indent=2, ensure_ascii=False))
        return
    width = max((len(lab["name"]) for lab in found), default=0)
    for lab in found:
        print(f"{lab['name']:<{width}}  {lab['shows']}")
