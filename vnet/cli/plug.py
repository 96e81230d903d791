"""``vnet plug``: give a namespace or container that is there an interface on a live LAN."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from vnet.cli.complete import complete_namespace, complete_network
from vnet.cli.labverbs import AsJson, errors_as_json, print_json
from vnet.cli.looking import LanArgument, lan_name

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("plug", short_help="Give a container or namespace that runs an interface on a LAN.")(plug)


def plug(
    lab: LanArgument,
    nic: Annotated[str, typer.Argument(metavar="NIC", help="What it is called on the LAN.")],
    netns: Annotated[
        str,
        typer.Option(
            "--netns",
            metavar="PID|PATH|NAME",
            help="Whose namespace: of a process, at a path, or by its name under /run/netns.",
            autocompletion=complete_namespace,
        ),
    ],
    network: Annotated[
        str | None,
        typer.Option(
            metavar="NETWORK", help="Which network, where the LAN has several.", autocompletion=complete_network
        ),
    ] = None,
    address: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS", help="An IP address; again for another. Without, the next free ones."),
    ] = None,
    interface: Annotated[
        str, typer.Option(metavar="NAME", help="What the interface is called in there, up to 15 letters.")
    ] = "eth1",
    as_json: AsJson = False,
) -> None:
    """Give a container or network namespace that is there already an interface on a live LAN, of a lab or of a program.

    The interface goes with vnet unplug, with the LAN, or with the namespace. Without root the namespace must be one of
    this user's own, such as that of a container that runs without root.

    Example: vnet plug office c1 --netns $(docker inspect -f '{{.State.Pid}}' web)
    """
    with errors_as_json(as_json):
        name, plugged = _plug(lab, nic, netns, network, address or None, interface)
    if as_json:
        print_json({"lan": name, **{key: plugged[key] for key in _TOLD}})
        return
    addresses = " ".join(plugged["addresses"])
    print(f"{plugged['nic']} is on {name}: {plugged['interface']} in {_whose(netns)} has {addresses}")


_TOLD = ("nic", "network", "addresses", "mac", "mtu", "interface")


def _plug(
    lab: str, nic: str, netns: str, network: str | None, addresses: list[str] | None, interface: str
) -> tuple[str, dict[str, Any]]:
    from vnet.calls import call
    from vnet.netns.places import open_namespace

    name = lan_name(lab)
    # Opened here, where names, paths and process ids mean what the user means by them.
    namespace = open_namespace(netns)
    try:
        asked: dict[str, Any] = {"nic": nic, "network": network, "addresses": addresses, "interface": interface}
        return name, call(name, "plug", files=[namespace], timeout=None, **asked)
    finally:
        os.close(namespace)


def _whose(netns: str) -> str:
    return f"the namespace of process {netns}" if netns.isdecimal() else netns
