"""What must change on a LAN that is up for one plan of a lab to become another."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from vnet.lab.plan import GuestService, Lab, Link, Node, Outside, Region

__all__ = ["Difference", "compare"]

T = TypeVar("T")

# What a node can change and keep its NIC.
_OF_THE_COMMANDS = ("commands", "environment", "ready")


@dataclass(frozen=True)
class Difference:
    """The way from one plan to another; all in file order.

    Attributes:
        networks_added, networks_removed, networks_changed: by name; a changed network is made anew.
        added, removed: nodes by name.
        changed: nodes that leave the LAN and come again, because their NIC, their network or what they are changed.
        rerun: nodes that keep their NIC and get their commands started again.
        links_added, links_removed, links_changed: by name; a changed link is made anew.
        links_weighed: links that get another weight and are the same otherwise.
        rerouted: routers that get other static routes.
        outside_added, outside_removed: what lies outside of the lab.
        refiltered: nodes and networks that are the same and get other filters.
        regions_added, regions_removed, regions_changed: by name; a changed region is made anew, empty.
        regions_shared: regions that are the same memory for others than before.
        services_added, services_removed, services_changed: by name; changed is who serves, or who may connect.
    """

    networks_added: tuple[str, ...] = ()
    networks_removed: tuple[str, ...] = ()
    networks_changed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    rerun: tuple[str, ...] = ()
    links_added: tuple[str, ...] = ()
    links_removed: tuple[str, ...] = ()
    links_changed: tuple[str, ...] = ()
    links_weighed: tuple[str, ...] = ()
    rerouted: tuple[str, ...] = ()
    outside_added: tuple[Outside, ...] = ()
    outside_removed: tuple[Outside, ...] = ()
    refiltered: tuple[str, ...] = ()
    regions_added: tuple[str, ...] = ()
    regions_removed: tuple[str, ...] = ()
    regions_changed: tuple[str, ...] = ()
    regions_shared: tuple[str, ...] = ()
    services_added: tuple[str, ...] = ()
    services_removed: tuple[str, ...] = ()
    services_changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) for field in dataclasses.fields(self))

    @property
    def networks_leaving(self) -> tuple[str, ...]:
        """Networks that must go before anything comes."""
        return (*self.networks_removed, *self.networks_changed)

    @property
    def networks_coming(self) -> tuple[str, ...]:
        """Networks to be made."""
        return (*self.networks_added, *self.networks_changed)

    @property
    def coming(self) -> frozenset[str]:
        """Nodes to be put on the LAN."""
        return frozenset((*self.added, *self.changed))

    def as_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "networks": {
                "added": list(self.networks_added),
                "removed": list(self.networks_removed),
                "changed": list(self.networks_changed),
            },
            "nodes": {
                "added": list(self.added),
                "removed": list(self.removed),
                "changed": list(self.changed),
                "restarted": list(self.rerun),
            },
            "links": {
                "added": list(self.links_added),
                "removed": list(self.links_removed),
                "changed": list(self.links_changed),
                "weighed": list(self.links_weighed),
            },
            "filters": {"changed": list(self.refiltered)},
            "regions": {
                "added": list(self.regions_added),
                "removed": list(self.regions_removed),
                "changed": list(self.regions_changed),
                "shared": list(self.regions_shared),
            },
            "services": {
                "added": list(self.services_added),
                "removed": list(self.services_removed),
                "changed": list(self.services_changed),
            },
            "routes": {
                "changed": list(self.rerouted),
                "added": [str(each.prefix or each.file) for each in self.outside_added],
                "removed": [str(each.prefix or each.file) for each in self.outside_removed],
            },
        }


def compare(before: Lab, after: Lab, failed: Collection[str] = ()) -> Difference:
    """Compare two plans.

    Args:
        before: what is up.
        after: what shall be.
        failed: nodes of ``before`` that did not come up; they are tried again.
    """
    networks_changed = [
        name
        for name, network in after.networks.items()
        if dataclasses.replace(before.networks.get(name, network), filter=network.filter) != network
    ]
    changed, rerun, disowned = [], [], _disowned(before, after)
    for name, node in after.nodes.items():
        old = before.nodes.get(name)
        if old is None:
            continue
        anew = (
            name in failed
            or any(each.network in networks_changed for each in node.joined)
            or _nic(old) != _nic(node)
            # Whoever holds the NIC of a process node without a command is asked to leave it.
            or (node.kind == "process" and (not old.commands) != (not node.commands))
            # All that a built-in host chooses follows from the seed.
            or (node.kind == "host" and before.seed != after.seed)
        )
        if anew:
            changed.append(name)
        elif (
            _of_commands(old) != _of_commands(node)
            or (node.commands and before.directory != after.directory)
            or (node.commands and name in disowned)
        ):
            rerun.append(name)
    links_changed = [
        name for name, link in after.links.items() if name in before.links and _wire(before.links[name]) != _wire(link)
    ]
    again = frozenset(networks_changed)
    outside_before, outside_after = _outside(before, after, again), _outside(after, before, again)
    return Difference(
        networks_added=_without(after.networks, before.networks),
        networks_removed=_without(before.networks, after.networks),
        networks_changed=tuple(networks_changed),
        added=_without(after.nodes, before.nodes),
        removed=_without(before.nodes, after.nodes),
        changed=tuple(changed),
        rerun=tuple(rerun),
        links_added=_without(after.links, before.links),
        links_removed=_without(before.links, after.links),
        links_changed=tuple(links_changed),
        links_weighed=tuple(
            name
            for name, link in after.links.items()
            if name in before.links and name not in links_changed and before.links[name].weight != link.weight
        ),
        rerouted=tuple(
            name
            for name, node in after.nodes.items()
            if name in before.nodes and name not in changed and before.nodes[name].routes != node.routes
        ),
        refiltered=tuple(
            dict.fromkeys(
                [n for n, each in after.networks.items() if before.networks.get(n, each).filter != each.filter]
                + [n for n, each in after.nodes.items() if before.nodes.get(n, each).filter != each.filter]
            )
        ),
        outside_added=outside_after,
        outside_removed=outside_before,
        regions_added=_without(after.regions, before.regions),
        regions_removed=_without(before.regions, after.regions),
        regions_changed=_changed(before.regions, after.regions, _memory),
        regions_shared=tuple(
            name
            for name in _changed(before.regions, after.regions, _rights)
            if _memory(before.regions[name]) == _memory(after.regions[name])
        ),
        services_added=_without(after.services, before.services),
        services_removed=_without(before.services, after.services),
        services_changed=_changed(before.services, after.services, _offer),
    )


# --- regions and services ---------------------------------------------------------------------------------------------


def _memory(region: Region) -> tuple[int, bool]:
    return region.size, region.huge


def _rights(region: Region) -> tuple[frozenset[str], frozenset[str]]:
    """Who may read, and who may write."""
    return frozenset(region.nodes), frozenset(region.nodes) - frozenset(region.readonly)


def _offer(service: GuestService) -> tuple[str, frozenset[str] | None]:
    return service.node, None if service.clients is None else frozenset(service.clients)


def _disowned(before: Lab, after: Lab) -> frozenset[str]:
    """Nodes with what they should not have any more: only the end of their commands takes memory and pipes away."""
    found: set[str] = set()
    for name, region in before.regions.items():
        new = after.regions.get(name)
        if new is None or _memory(new) != _memory(region):
            found.update(region.nodes, () if new is None else new.nodes)
        else:
            for had, have in zip(_rights(region), _rights(new), strict=True):
                found |= had - have
    for name, service in before.services.items():
        offer = after.services.get(name)
        if offer is None:
            # Whoever wants may listen by the name now, and who does may go on.
            continue
        if offer.node != service.node:
            found.update((service.node, offer.node))
        elif offer.clients is not None:
            # Where everybody was a client nobody knows who has connected, and that holds for who connects from now on.
            found |= frozenset(service.clients or ()) - frozenset(offer.clients)
    return frozenset(found)


def _changed(before: Mapping[str, T], after: Mapping[str, T], what: Callable[[T], Any]) -> tuple[str, ...]:
    return tuple(name for name, each in after.items() if name in before and what(before[name]) != what(each))


def _wire(link: Link) -> Link:
    """A link without what can change while it is there, and without where it stands in the file."""
    return dataclasses.replace(link, weight=1, line=0)


def _outside(here: Lab, there: Lab, networks: Collection[str]) -> tuple[Outside, ...]:
    """What lies outside of one lab and not of the other, or is reached by a network that is made anew."""
    others = {dataclasses.replace(each, line=0) for each in there.outside}
    prefixes = [prefix for name in networks for lab in (here, there) for prefix in lab.networks[name].prefixes]

    def is_anew(each: Outside) -> bool:
        via = () if isinstance(each.via, str) else each.via
        return any(address in prefix for address in via for prefix in prefixes)

    return tuple(each for each in here.outside if dataclasses.replace(each, line=0) not in others or is_anew(each))


def _without(names: Iterable[str], others: Collection[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in others)


def _nic(node: Node) -> Node:
    """A node without what it can change in place, and without where it stands in the file."""
    return dataclasses.replace(node, line=0, commands=(), environment=(), ready=None, on_links=(), routes=(), filter=())


def _of_commands(node: Node) -> tuple[Any, ...]:
    return tuple(getattr(node, name) for name in _OF_THE_COMMANDS)
