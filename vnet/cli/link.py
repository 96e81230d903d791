"""``vnet link``: the links of a lab that is up."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from vnet.cli.complete import complete_link
from vnet.cli.labverbs import AsJson, LabArgument, errors_as_json, print_json
from vnet.cli.table import print_table

__all__ = ["add_to"]

_IMPAIRED = "this version of vnet does not support links with an impairment yet: they are cut, mended and weighed"


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("link", short_help="List the links of a lab, cut, mend or weigh one.")(link)


def link(
    lab: LabArgument,
    one: Annotated[
        str | None,
        typer.Argument(metavar="[LINK | A", help="A link's name; or one of its ends.", autocompletion=complete_link),
    ] = None,
    other: Annotated[
        str | None, typer.Argument(metavar="[B]]", help="The other end.", autocompletion=complete_link)
    ] = None,
    cut: Annotated[bool, typer.Option("--cut", help="Have it carry nothing.")] = False,
    mend: Annotated[bool, typer.Option("--mend", help="Have it carry again.")] = False,
    weight: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=(1 << 20) - 1, help="Give it another weight.")
    ] = None,
    delay: Annotated[str | None, typer.Option(metavar="TIME", hidden=True)] = None,
    jitter: Annotated[str | None, typer.Option(metavar="TIME", hidden=True)] = None,
    loss: Annotated[str | None, typer.Option(metavar="SHARE", hidden=True)] = None,
    rate: Annotated[str | None, typer.Option(metavar="RATE", hidden=True)] = None,
    as_json: AsJson = False,
) -> None:
    """List the links between the routers of a lab that is up, or cut, mend or weigh one of them.

    Paths lead another way, where there is one, when the command returns. Between two routers there may be several
    links: naming the two means all of them, a name one.

    Example: vnet link campus edge core --cut
    """
    changes = [name for name, said in (("cut", cut), ("mend", mend), ("weigh", weight is not None)) if said]
    if any(value is not None for value in (delay, jitter, loss, rate)):
        raise typer.BadParameter(_IMPAIRED)
    if len(changes) > 1:
        raise typer.BadParameter("one change at a time: --cut, --mend or --weight")
    if changes and one is None:
        raise typer.BadParameter("name the link, or its two ends: vnet link LAB A B --cut")
    wanted = [each for each in (one, other) if each is not None]
    with errors_as_json(as_json):
        name, links = _ask(lab, wanted, changes[0] if changes else "", weight)
    if as_json:
        print_json({"lab": name, "links": links})
    elif not links:
        print(f"{name} has no links: every node is on its network directly")
    else:
        rows = [
            [each["name"], " - ".join(each["endpoints"]), each["state"], f"{each['weight']:,}", _addresses(each)]
            for each in links
        ]
        print_table(["link", "ends", "state", "weight", "addresses"], rows, {"cut": "red", "up": "green"})


def _ask(given: str, wanted: list[str], change: str, weight: int | None) -> tuple[str, list[dict[str, Any]]]:
    from vnet.calls import call
    from vnet.lab.finding import find_lab

    found = find_lab(given, kinds=("lab", "run"), what="its links are its own program's")
    answer = call(found.name, "lab.link", link=wanted, change=change, weight=weight)
    return found.name, answer["links"]


def _addresses(link: dict[str, Any]) -> str:
    """``192.0.2.0 - 192.0.2.1, fd00::0 - fd00::1``."""
    ends = [link["addresses"][end] for end in link["endpoints"]]
    return ", ".join(f"{one} - {other}" for one, other in zip(*ends, strict=True))
