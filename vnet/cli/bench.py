"""``vnet bench``: how fast the LAN is on this machine, beside bare references."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("bench", short_help="Measure the LAN beside bare references.")(bench)


def bench(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="What to measure; everything when left out.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer and shorter rounds: figures to look at, not to keep.")
    ] = False,
    routes: Annotated[
        str | None,
        typer.Option("--routes", metavar="FILE", help="Measure the route table with the prefixes of a file instead."),
    ] = None,
) -> None:
    """Measure the LAN and what guests share beside it on this machine, interleaved with bare references.

    Example: vnet bench --quick stream_64B

    Example: vnet bench --routes internet-prefixes.txt.gz
    """
    if routes is not None:
        from vnet.bench import run_routes

        if names:
            raise typer.BadParameter("'--routes' measures the route table alone; leave the names out")
        raise typer.Exit(run_routes(routes, as_json, quick))
    from vnet.bench import run_cli

    raise typer.Exit(run_cli(list(names or ()), as_json, quick))
