"""``vnet show``: a lab that is up, node by node."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import typer

from vnet.cli.labverbs import AsJson, LabArgument, errors_as_json, print_json
from vnet.cli.output import complain
from vnet.cli.table import print_table, since

if TYPE_CHECKING:
    from vnet.lab.finding import LiveLan

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("show", short_help="Show the nodes of a lab that is up.")(show)


def show(lab: LabArgument, as_json: AsJson = False) -> None:
    """Show a lab that is up: its nodes, their addresses, whether they are up, and what their commands do; what was
    plugged into it; and the regions and services that its nodes share.

    Example: vnet show office
    """
    with errors_as_json(as_json):
        found, shown = _ask(lab)
    if as_json:
        print_json(_plain(found, shown))
        return
    kinds = {"lab": "a lab", "run": "a run", "program": "the LAN of a program"}
    origin = f" from {found.origin}" if found.origin else ""
    print(f"{found.name}: {kinds[found.kind or 'program']}{origin}, up for {since(found.since)}, process {found.pid}")
    for network in shown["networks"]:
        print(f"network {network['name']}: {' '.join(network['prefixes'])}, mtu {network['mtu']}")
    rows = [
        [
            node["name"],
            node["kind"],
            " ".join(node["networks"]) if "networks" in node else node["network"],
            " ".join(node["addresses"]),
            _state(node),
            since(node["since"] or 0.0),
            node["command"] or "",
        ]
        for node in (*shown["nodes"], *shown["plugged"])
    ]
    styles = {"up": "green", "free": "dim"}
    print_table(["node", "kind", "network", "addresses", "state", "up for", "command"], rows, styles)
    cut = [link["name"] for link in shown["links"] if link["state"] == "cut"]
    if shown["links"]:
        number = len(shown["links"])
        those = f", of which {', '.join(cut)} cut" if cut else ""
        print(f"{number:,} {'link' if number == 1 else 'links'}{those}; vnet link {found.name} lists them")
    for region in shown["regions"]:
        print(_region(region))
    for service in shown["services"]:
        print(_service(service))
    for node in shown["nodes"]:
        if node["failure"]:
            complain(f"{node['name']} did not come up: {node['failure']}")


def _ask(given: str) -> tuple[LiveLan, dict[str, Any]]:
    from vnet.calls import call
    from vnet.control import describe
    from vnet.lab.finding import find_lab

    found = find_lab(given, kinds=("lab", "run", "program"), what="it cannot be shown")
    if found.kind == "program":
        about = describe(found.name)
        return found, {
            "networks": about["networks"],
            "nodes": [{**_NOT_A_NODE, **nic} for nic in about["nics"]],
            "plugged": [],
            "links": about["links"],
            **_shared(found.name),
        }
    shown = call(found.name, "lab.show")
    return found, {**shown, "plugged": [{**_NOT_A_NODE, **nic} for nic in shown["plugged"]]}


def _shared(lan: str) -> dict[str, Any]:
    """The regions and services of a program's LAN, in the form of a lab's."""
    from vnet.lab.sharing import told_service
    from vnet.sharing import member

    with member(lan, operator=True) as operator:
        regions, _ = operator._door().ask("region.list")
        services, _ = operator._door().ask("service.list")
    told = [told_service(each["service"], each["guest"], each["guests"], each) for each in services["services"]]
    return {"regions": regions["regions"], "services": told}


def _region(region: dict[str, Any]) -> str:
    """``region cache, 64 MiB: alice, bob (reads); attached by alice``."""
    from vnet.lab.units import Dimension, show

    name = f"region {region['name']}" if region["name"] else "a region without a name"
    readers = set(region["readonly"])
    guests = ["whoever has its handle"] if region["guests"] is None else region["guests"]
    those = ", ".join(f"{each} (reads)" if each in readers else each for each in guests)
    owner = "" if region["owner"] is None else f" of {region['owner']}"
    attached = f"attached by {', '.join(region['attached'])}" if region["attached"] else "not attached"
    huge = " of huge pages" if region["huge"] else ""
    return f"{name}{owner}, {show(region['size'], Dimension.SIZE)}{huge}: {those or 'nobody else'}; {attached}"


def _service(service: dict[str, Any]) -> str:
    """``service disk of host: listening, process 4711, 3 connected so far; for alice, bob``."""
    clients = service["clients"]
    those = "everybody" if clients is None else ", ".join(clients) or "nobody but vnet call"
    state = "not listening"
    if service["state"] == "listening":
        waiting = f", {service['waiting']:,} waiting" if service["waiting"] else ""
        state = f"listening, process {service['pid']}, {service['connected']:,} connected so far{waiting}"
    return f"service {service['name']} of {service['node']}: {state}; for {those}"


# What is known of the nodes of a lab, and of no other NIC.
_NOT_A_NODE: dict[str, Any] = {
    "since": None,
    "command": None,
    "pid": None,
    "code": None,
    "commands": [],
    "failure": "",
}


def _state(node: dict[str, Any]) -> str:
    """A node's state in a few words."""
    from vnet.lab.commands import describe_end

    ended = [
        f"{each['name']} {describe_end(each['code'])}" if each["name"] else describe_end(each["code"])
        for each in node["commands"]
        if each["code"] is not None
    ]
    if node["kind"] in ("netns", "tap", "plug", "router"):
        # There, whatever its commands do.
        return "; ".join([node["state"], *ended])
    if ended:
        return ended[0]
    if node["state"] == "up":
        return "up"
    return "free" if node["command"] is None else "not attached"


def _plain(found: LiveLan, shown: dict[str, Any]) -> dict[str, Any]:
    now = time.time()
    keys = (
        "name",
        "kind",
        "network",
        "networks",
        "addresses",
        "state",
        "command",
        "pid",
        "code",
        "commands",
        "failure",
    )
    return {
        "name": found.name,
        "kind": found.kind,
        "file": found.origin or None,
        "pid": found.pid,
        "uptime": round(now - found.since, 3),
        "networks": shown["networks"],
        "links": shown["links"],
        "nodes": [
            {
                **{key: node[key] for key in keys if key in node},
                "uptime": round(now - node["since"], 3) if node["since"] else None,
            }
            for node in shown["nodes"]
        ],
        "plugged": [
            {key: nic[key] for key in ("name", "kind", "network", "addresses", "state")} for nic in shown["plugged"]
        ],
        "regions": shown["regions"],
        "services": shown["services"],
    }
