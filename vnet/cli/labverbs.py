"""What the verbs for live labs share: their arguments, and errors as JSON."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from vnet.cli.complete import complete_lab, complete_node
from vnet.errors import VnetError

__all__ = ["AsJson", "LabArgument", "NodeArgument", "errors_as_json", "print_json"]

LabArgument = Annotated[
    str, typer.Argument(metavar="LAB", help="A lab that is up: its name, or its file.", autocompletion=complete_lab)
]
NodeArgument = Annotated[str, typer.Argument(metavar="NODE", help="One of its nodes.", autocompletion=complete_node)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def print_json(plain: dict[str, Any]) -> None:
    """Print an object in the form that ``--json`` has everywhere."""
    print(json.dumps({"format": 1, **plain}, indent=2, ensure_ascii=False), flush=True)


@contextlib.contextmanager
def errors_as_json(wanted: bool) -> Iterator[None]:
    """Print an error as JSON too, where that is wanted; what a base says about arguments is wrong usage."""
    from vnet.cli.run import error_as_json

    try:
        yield
    except (VnetError, ValueError) as error:
        plain = error if isinstance(error, VnetError) else VnetError(str(error))
        if wanted:
            print(error_as_json(plain), flush=True)
        raise plain from None
