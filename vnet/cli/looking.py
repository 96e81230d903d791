"""What verbs share that look at a live LAN and print what they see."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated, Any

import typer

from vnet.cli.complete import complete_lab, complete_node

__all__ = ["LanArgument", "json_line", "lan_name", "on_terminal", "seconds", "suggest_nic"]

LanArgument = Annotated[
    str,
    typer.Argument(
        metavar="LAB", help="A live lab, its name or its file; or the LAN of a program.", autocompletion=complete_lab
    ),
]
suggest_nic = complete_node


def lan_name(given: str) -> str:
    """The name of the live LAN that somebody means; errors as of :func:`vnet.lab.finding.find_lab`."""
    from vnet.lab.finding import find_lab

    return find_lab(given, kinds=("lab", "run", "program"), what="it cannot be looked at").name


def seconds(text: str, option: str, *, least: float) -> float:
    """Reads a time such as ``500ms``; seconds.

    Raises:
        BadParameter: it is none, or shorter than ``least`` seconds.
    """
    from vnet.lab.units import Dimension, parse

    try:
        found = parse(text, Dimension.DURATION)
    except ValueError as error:
        raise typer.BadParameter(f"{option}: {error}") from None
    if not least <= found <= 86_400:
        raise typer.BadParameter(f"{option} is {least * 1000:g}ms to 24h, not {text}")
    return found


def json_line(value: Any) -> None:
    """Prints a value as JSON on a line of its own, at once: whoever reads a pipe waits for it."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def on_terminal() -> bool:
    """Whether standard output is a terminal that moves its cursor."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
