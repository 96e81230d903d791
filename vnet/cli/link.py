"""``vnet link``: the links of a lab that is up."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from vnet.cli.complete import complete_node
from vnet.cli.labverbs import AsJson, LabArgument, errors_as_json, print_json
from vnet.errors import VnetError

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("link", short_help="List the links of a lab; this version has none.")(link)


def link(
    lab: LabArgument,
    node: Annotated[
        str | None, typer.Argument(metavar="[NODE", help="One end of a link.", autocompletion=complete_node)
    ] = None,
    network: Annotated[str | None, typer.Argument(metavar="NETWORK]", help="The other end.")] = None,
    delay: Annotated[str | None, typer.Option(metavar="TIME", help="Delay every datagram, such as 20ms.")] = None,
    jitter: Annotated[str | None, typer.Option(metavar="TIME", help="Let the delay vary.")] = None,
    loss: Annotated[str | None, typer.Option(metavar="SHARE", help="Lose datagrams, such as 0.1%.")] = None,
    rate: Annotated[str | None, typer.Option(metavar="RATE", help="Limit the rate, such as 100mbit.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the links of a lab that is up, or change one of them.

    In this version every node is on its network directly, without a link that could be changed: the list is empty, and
    a change is refused.

    Example: vnet link office
    """
    changes = any(value is not None for value in (delay, jitter, loss, rate))
    if (node is None) != (network is None) or (changes and node is None):
        raise typer.BadParameter("name both ends of the link: vnet link LAB NODE NETWORK --delay 20ms")
    with errors_as_json(as_json):
        name, shown = _ask(lab)
        if node is not None and network is not None:
            _refuse(name, shown, node, network)
    if as_json:
        print_json({"lab": name, "links": []})
    else:
        print(f"{name} has no links: in this version every node is on its network directly")


def _ask(given: str) -> tuple[str, dict[str, Any]]:
    from vnet.calls import call
    from vnet.lab.finding import find_lab

    found = find_lab(given, kinds=("lab", "run"), what="it has no links")
    return found.name, call(found.name, "lab.show")


def _refuse(lab: str, shown: dict[str, Any], node: str, network: str) -> None:
    from vnet.lab.tree import did_you_mean

    for kind, name, known in (
        ("node", node, [each["name"] for each in shown["nodes"]]),
        ("network", network, [each["name"] for each in shown["networks"]]),
    ):
        if name not in known:
            raise VnetError(f"lab {lab!r} has no {kind} {name!r}{did_you_mean(name, known)}")
    raise VnetError(
        f"lab {lab!r} has no link between {node!r} and {network!r}: in this version every node is on its network "
        "directly"
    )
