"""What a shell offers where the name of a lab, of a node or the like is due: those of the LANs that are up.

All are quick and never complain: a base that does not answer at once offers nothing.
"""

from __future__ import annotations

import os
from typing import Any

import typer

__all__ = [
    "complete_lab",
    "complete_link",
    "complete_method",
    "complete_namespace",
    "complete_network",
    "complete_node",
    "complete_plugged",
    "complete_server",
    "complete_service",
]

# Seconds that a base has to answer.
_PATIENCE = 0.08


def complete_lab(context: typer.Context, args: list[str], incomplete: str) -> list[str]:
    """The names of live LANs that begin with ``incomplete``."""
    try:
        from vnet.runtime import live_names

        return [name for name in live_names() if name.startswith(incomplete)]
    except Exception:
        return []


def complete_node(context: typer.Context, args: list[str], incomplete: str) -> list[str]:
    """The nodes of the lab on the command line that begin with ``incomplete``."""
    return _names(context, "nics", incomplete)


def complete_plugged(context: typer.Context, args: list[str], incomplete: str) -> list[str]:
    """What vnet plug has put on the LAN on the command line, by names that begin with ``incomplete``."""
    return _names(context, "nics", incomplete, kind="plug")


def complete_network(context: typer.Context, args: list[str], incomplete: str) -> list[str]:
    """The networks of the LAN on the command line that begin with ``incomplete``."""
    return _names(context, "networks", incomplete)


def complete_link(context: typer.Context, args: list[str], incomplete: str) -> list[str]:
    """The links and routers of the lab on the command line that begin with ``incomplete``."""
    reply = _described(context)
    found = {str(each["name"]) for each in reply.get("links", ())} | set(map(str, reply.get("routers", ())))
    return sorted(name for name in found if name.startswith(incomplete))


def complete_namespace(context: typer.Context, args: list[str], incomplete: str) -> list[str]:
    """The network namespaces that ``ip netns`` knows and that begin with ``incomplete``."""
    try:
        return sorted(name for name in os.listdir("/run/netns") if name.startswith(incomplete))
    except OSError:
        return []


def _names(context: typer.Context, what: str, incomplete: str, **wanted: Any) -> list[str]:
    """The names of what a LAN has, as far as they begin with ``incomplete`` and the rest is as wanted."""
    known = _described(context).get(what, ())
    found = [each for each in known if all(each.get(key) == value for key, value in wanted.items())]
    return sorted(each["name"] for each in found if each["name"].startswith(incomplete))


def _described(context: typer.Context) -> dict[str, Any]:
    """What the base of the LAN on the command line tells of it; nothing where none answers."""
    try:
        from vnet.runtime import connect
        from vnet.wire import ask, close_all

        with connect(str(context.params["lab"]), timeout=_PATIENCE) as connection:
            reply, files = ask(connection, {"do": "describe"})
            close_all(files)
        return dict(reply)
    except Exception:
        return {}


def complete_server(context: typer.Context, args: list[str], incomplete: str) -> list[str]:
    """The guests of the LAN on the command line that serve something and begin with ``incomplete``."""
    return sorted({each["guest"] for each in _services(context) if each["guest"].startswith(incomplete)})


def complete_service(context: typer.Context, args: list[str], incomplete: str) -> list[str]:
    """The services of the guest on the command line that begin with ``incomplete``."""
    own = [each["service"] for each in _services(context) if each["guest"] == context.params.get("node")]
    return sorted(name for name in own if name.startswith(incomplete))


def complete_method(context: typer.Context, args: list[str], incomplete: str) -> list[tuple[str, str]]:
    """The methods of the service on the command line that begin with ``incomplete``, each with how it is declared."""
    try:
        from vnet.pipes import connect_operator
        from vnet.rpc.channel import describe_over
        from vnet.rpc.links import PipeLink

        lan, node, service = (str(context.params[name]) for name in ("lab", "node", "service"))
        link = PipeLink(connect_operator(lan, node, service, messages=True))
        try:
            description = describe_over(link, service, _PATIENCE)
        finally:
            link.close()
        return [(each.name, each.text) for each in description.methods if each.name.startswith(incomplete)]
    except Exception:
        return []


def _services(context: typer.Context) -> list[dict[str, Any]]:
    """Who listens on the LAN on the command line, and for what; nobody where no base answers."""
    try:
        from vnet.pipes import services

        return services(str(context.params["lab"]))
    except Exception:
        return []
