"""The regions and services of a lab: held against its nodes when it is planned, there before its nodes start.

The planner calls :func:`plan_regions` and :func:`plan_services` once every node is known.  The session makes what they
say with :class:`Shared` when the LAN is built, before any command runs: a program finds its region at once, and nobody
gets ahead of the node that serves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from vnet.errors import LanClosed, VnetError
from vnet.lab.difference import Difference
from vnet.lab.members import check_name
from vnet.lab.plan import GuestService, Lab, Node, Region
from vnet.lab.schema import LabFile
from vnet.lab.tree import Key, Tree, did_you_mean

__all__ = ["Shared", "can_share", "plan_regions", "plan_services", "told_service", "why_not"]

_SHARING = ("process", "netns")
_NEEDED = "expected a process node, or a netns node"
_WHY_NOT = {
    "host": "a host, which runs no program",
    "router": "a router, which is simulated and runs no program",
    "tap": "a tap node, whose commands cannot be told from others of this machine",
}


def can_share(node: Node) -> bool:
    """Whether programs of the node can have regions and services: they can show that they are the node's."""
    return node.kind in _SHARING


def why_not(node: Node) -> str:
    """What a node is that cannot share, and what is expected in its place, as the end of a sentence."""
    return f"{_WHY_NOT[node.kind]}; {_NEEDED}"


def plan_regions(tree: Tree, said: LabFile, nodes: Mapping[str, Node]) -> dict[str, Region]:
    """The regions of a lab.

    Raises:
        LabError: a name cannot be one, or a node is unknown or runs no programs.
    """
    able = tuple(name for name, node in nodes.items() if can_share(node))
    regions: dict[str, Region] = {}
    for name, each in said.regions.items():
        path = ("regions", name)
        check_name(tree, name, *path, at_key=True)
        if each.nodes is None and not able:
            raise tree.error(f"nobody could attach it: {_NEEDED}", path, at_key=True)
        some = able if each.nodes is None else _named(tree, (*path, "nodes"), each.nodes, nodes)
        readonly = _named(tree, (*path, "readonly"), each.readonly or (), nodes)
        for index, node in enumerate(readonly):
            if node not in some:
                message = f"{node!r} is not one of the region's nodes ({_few(some)}); expected it there too"
                raise tree.error(message, (*path, "readonly", index))
        line = tree.keys[tree.resolve(path)][0]
        regions[name] = Region(name, each.size, some, readonly, each.huge, line)
    return regions


def plan_services(tree: Tree, said: LabFile, nodes: Mapping[str, Node]) -> dict[str, GuestService]:
    """The services of a lab.

    Raises:
        LabError: a name cannot be one, or a node is unknown or runs no programs.
    """
    services: dict[str, GuestService] = {}
    for name, each in said.services.items():
        path = ("services", name)
        check_name(tree, name, *path, at_key=True)
        server = _able(tree, (*path, "node"), each.node, nodes)
        clients = None if each.clients is None else _named(tree, (*path, "clients"), each.clients, nodes)
        if each.ready and not server.commands:
            message = f"nobody starts {each.node!r}, which has no command; expected 'exec' there, or no 'ready' here"
            raise tree.error(message, (*path, "ready"))
        ready = bool(server.commands) if each.ready is None else each.ready
        services[name] = GuestService(name, each.node, clients, ready, tree.keys[tree.resolve(path)][0])
    return services


def _named(tree: Tree, path: tuple[Key, ...], names: Sequence[str], nodes: Mapping[str, Node]) -> tuple[str, ...]:
    for index, name in enumerate(names):
        _able(tree, (*path, index), name, nodes)
    return tuple(names)


def _able(tree: Tree, path: tuple[Key, ...], name: str, nodes: Mapping[str, Node]) -> Node:
    if name not in nodes:
        raise tree.error(f"no node is called {name!r}{did_you_mean(name, nodes)}; the nodes are {_few(nodes)}", path)
    node = nodes[name]
    if not can_share(node):
        raise tree.error(f"{name!r} is {why_not(node)}", path)
    return node


def _few(names: Iterable[str]) -> str:
    some = list(names)
    return f"{', '.join(some[:8])}{' ...' if len(some) > 8 else ''}"


class Shared:
    """The regions and services of a lab that is up.

    Args:
        lan: the LAN.
        place: says where the lab file speaks of something in that line.
    """

    def __init__(self, lan: Any, place: Callable[[int, str], str]) -> None:
        self._lan = lan
        self._place = place

    @property
    def _broker(self) -> Any:
        # It makes the parts when they are first asked for, which a lab that shares nothing never does.
        return self._lan._register.broker

    @property
    def _services(self) -> Any:
        return self._broker.part("service")

    def make(self, lab: Lab) -> None:
        """Make all regions, and keep the names of all services.

        Raises:
            MachineLacks: this machine has not as much memory, or no huge pages.
            VnetError: the LAN refuses one.
        """
        for region in lab.regions.values():
            self._make_region(region)
        for service in lab.services.values():
            self._keep_service(service)

    def change(self, lab: Lab, difference: Difference) -> tuple[Lab, list[VnetError]]:
        """Follow a difference, when whoever must let go of something has ended and nobody has come yet.

        Returns:
            The lab that shall be, without what the LAN refuses, and why it does.
        """
        for name in (*difference.regions_removed, *difference.regions_changed):
            self._broker.drop_region(name)
        for name in (*difference.services_removed, *difference.services_changed):
            self._services.forget(name)
        for name in difference.regions_shared:
            self._broker.set_access(name, lab.regions[name].nodes, lab.regions[name].readonly)
        regions, services, failures = dict(lab.regions), dict(lab.services), []
        for name in (*difference.regions_added, *difference.regions_changed):
            try:
                self._make_region(lab.regions[name])
            except LanClosed:
                raise
            except VnetError as error:
                failures.append(error)
                del regions[name]
        for name in (*difference.services_added, *difference.services_changed):
            try:
                self._keep_service(lab.services[name])
            except LanClosed:
                raise
            except VnetError as error:
                failures.append(error)
                del services[name]
        return replace(lab, regions=regions, services=services), failures

    def awaited(self, lab: Lab, node: Node) -> dict[str, Callable[[], bool]]:
        """The services that a node has to listen for until it is ready, each with whether it does."""
        names = [each.name for each in lab.services.values() if each.node == node.name and each.ready]
        return {name: partial(self._services.is_listening, name, node.name) for name in names}

    def told(self, lab: Lab) -> dict[str, list[dict[str, Any]]]:
        """What there is, for ``vnet show``: the lab's regions and services, then what guests have made themselves."""
        regions = self._broker.list_regions()
        regions.sort(key=lambda each: (not each["kept"], list(lab.regions).index(each["name"]) if each["kept"] else 0))
        there = {(each.service, each.guest): vars(each) for each in self._services.all()}
        services = []
        for service in lab.services.values():
            found = there.pop((service.name, service.node), None)
            services.append(told_service(service.name, service.node, service.clients, found))
        services += [told_service(each["service"], each["guest"], each["guests"], each) for each in there.values()]
        return {"regions": regions, "services": services}

    def _make_region(self, region: Region) -> None:
        with self._at(region.line, f"regions.{region.name}"):
            self._broker.keep_region(
                region.name, region.size, guests=region.nodes, readonly=region.readonly, huge=region.huge
            )

    def _keep_service(self, service: GuestService) -> None:
        with self._at(service.line, f"services.{service.name}"):
            self._services.keep(service.name, [service.node], service.clients)

    @contextlib.contextmanager
    def _at(self, line: int, what: str) -> Iterator[None]:
        """Says where the lab file has what the LAN refuses."""
        try:
            yield
        except LanClosed:
            raise
        except VnetError as error:
            raise type(error)(f"{self._place(line, what)}: {error}") from None
        except ValueError as error:
            raise VnetError(f"{self._place(line, what)}: {error}") from None


def told_service(
    name: str, node: str, clients: Sequence[str] | None, found: Mapping[str, Any] | None
) -> dict[str, Any]:
    """A service as ``vnet show`` has it; ``found``: what its listener is, if there is one."""
    return {
        "name": name,
        "node": node,
        "clients": None if clients is None else list(clients),
        "state": "down" if found is None else "listening",
        "pid": None if found is None else found["pid"],
        "waiting": 0 if found is None else found["waiting"],
        "connected": 0 if found is None else found["connected"],
    }
