"""Nodes and their commands as they stand."""

from __future__ import annotations

from dataclasses import dataclass

from vnet.lab.plan import Node, NodeCommand

__all__ = ["CommandState", "NodeState"]


@dataclass(frozen=True)
class CommandState:
    """A command of a node as it stands; ``pid`` while it runs, ``code``, negative for a signal, when it has ended."""

    command: NodeCommand
    pid: int | None = None
    code: int | None = None


@dataclass(frozen=True)
class NodeState:
    """A node as it stands.

    Attributes:
        node: the plan.
        up: whether somebody holds its NIC; of a netns or tap node, whether its interface is there.
        since: when it was started, in seconds since the epoch.
        commands: its commands, in file order.
        failure: why it did not come up; empty where it did.
    """

    node: Node
    up: bool
    since: float
    commands: tuple[CommandState, ...]
    failure: str

    @property
    def pid(self) -> int | None:
        """Of the first of its commands that runs."""
        return next((each.pid for each in self.commands if each.pid is not None), None)

    @property
    def code(self) -> int | None:
        """Of the first of its commands that ended wrongly; 0 where all have ended well, None where any runs."""
        codes = [each.code for each in self.commands]
        wrong = next((code for code in codes if code), None)
        return wrong if wrong is not None or not codes or None in codes else 0
