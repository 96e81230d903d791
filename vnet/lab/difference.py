"""What must change on a LAN that is up for one plan of a lab to become another."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from vnet.lab.plan import Lab, Node

__all__ = ["Difference", "compare"]

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
    """

    networks_added: tuple[str, ...] = ()
    networks_removed: tuple[str, ...] = ()
    networks_changed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    rerun: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return any(dataclasses.astuple(self))

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
        }


def compare(before: Lab, after: Lab, failed: Collection[str] = ()) -> Difference:
    """Compare two plans.

    Args:
        before: what is up.
        after: what shall be.
        failed: nodes of ``before`` that did not come up; they are tried again.
    """
    networks_changed = [
        name for name, network in after.networks.items() if before.networks.get(name, network) != network
    ]
    changed, rerun = [], []
    for name, node in after.nodes.items():
        old = before.nodes.get(name)
        if old is None:
            continue
        anew = (
            name in failed
            or node.network in networks_changed
            or _nic(old) != _nic(node)
            # Whoever holds the NIC of a process node without a command is asked to leave it.
            or (node.kind == "process" and (not old.commands) != (not node.commands))
            # All that a built-in host chooses follows from the seed.
            or (node.kind == "host" and before.seed != after.seed)
        )
        if anew:
            changed.append(name)
        elif _of_commands(old) != _of_commands(node) or (node.commands and before.directory != after.directory):
            rerun.append(name)
    return Difference(
        networks_added=_without(after.networks, before.networks),
        networks_removed=_without(before.networks, after.networks),
        networks_changed=tuple(networks_changed),
        added=_without(after.nodes, before.nodes),
        removed=_without(before.nodes, after.nodes),
        changed=tuple(changed),
        rerun=tuple(rerun),
    )


def _without(names: Iterable[str], others: Collection[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in others)


def _nic(node: Node) -> Node:
    """A node without what its commands are, and without where it stands in the file."""
    return dataclasses.replace(node, line=0, commands=(), environment=(), ready=None)


def _of_commands(node: Node) -> tuple[Any, ...]:
    return tuple(getattr(node, name) for name in _OF_THE_COMMANDS)
