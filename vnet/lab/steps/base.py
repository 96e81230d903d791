"""What every step has, what it may use while it runs, and what it reports."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from vnet.errors import LabError
from vnet.lab.limits import Limit
from vnet.lab.tree import Key, Path, Tree, did_you_mean

if TYPE_CHECKING:
    from vnet.lab.expect import Expectation
    from vnet.lab.plan import Address, GuestService, Lab, Link, Network, Node
    from vnet.lab.report import StepReport

__all__ = ["USUAL_TIMEOUT", "Outcome", "Stage", "Step", "StepContext"]

# Keys and indices on the way to a step inside steps: about ten levels.
DEEPEST = 32
# For steps that hang: nobody wants to find a run of yesterday still at it.
USUAL_TIMEOUT = 600.0


@dataclass(frozen=True)
class Outcome:
    """What a step found.

    Attributes:
        summary: the result in a few words, for the table.
        metrics: what expectations compare: seconds, loss from 0 to 1, bits a second, counts, text.
        failure: why the step could not be done, whatever was expected; empty when it was done.
        details: lines that help to see why an expectation failed.
        steps: the reports of the steps inside it.
    """

    summary: str
    metrics: Mapping[str, float | str | None]
    failure: str = ""
    details: tuple[str, ...] = ()
    steps: tuple[StepReport, ...] = ()


@dataclass(frozen=True)
class Stage:
    """The running lab, as steps see it.

    Attributes:
        lan: the ``vnet.Lan``.
        lab: the plan that it was built from.
        hosts: the built-in hosts by name.
        random: the stream of random choices of this step.
        environment: what commands inherit; ``VNET_LAN`` is set.
        limit: the time that this step has; every wait goes through it.
        place: the number of this step, such as ``3`` or ``3.1``.
        say: tells whoever watches a line.
        last_output: the last lines that the command of a node printed; empty where there are none.
        capture: the file of the capture that runs; empty where none does.
        namespaces: those of the netns nodes by name.
    """

    lan: Any
    lab: Lab
    hosts: Mapping[str, Any]
    random: random.Random
    environment: Mapping[str, str]
    limit: Limit = field(default_factory=Limit)
    place: str = ""
    say: Callable[[str], None] = lambda _: None
    last_output: Callable[[str], str] = lambda _: ""
    capture: str = ""
    namespaces: Mapping[str, Any] = field(default_factory=dict)

    def environment_of(self, node: str) -> dict[str, str]:
        """All of the environment of a node's commands."""
        own = self.lab.nodes[node]
        return {**self.environment, **dict(own.environment), **own.nic_environment}


@dataclass(frozen=True)
class Step(ABC):
    """One step, ready to be run.

    Attributes:
        name: as in the lab file; empty where it has none.
        line: its line in the lab file.
        expectations: what its outcome is held to.
        timeout: seconds that it may take; None: :attr:`usual_timeout`.
    """

    kind: ClassVar[str]

    name: str
    line: int
    expectations: tuple[Expectation, ...]
    timeout: float | None = field(default=None, kw_only=True)

    @abstractmethod
    def title(self) -> str:
        """What it does in a few words, such as ``ping alice -> bob``."""

    @abstractmethod
    def run(self, stage: Stage) -> Outcome:
        """Do it.

        Raises:
            StepEnded: it was ended by ``stage.limit``.
        """

    @property
    def usual_timeout(self) -> float:
        """Seconds that it may take where the lab does not say: far more than it needs, so that no run hangs."""
        return USUAL_TIMEOUT

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes that have a part in it: where to look when it fails."""
        return ()


@dataclass(frozen=True)
class StepContext:
    """What planning a step needs to know: the nodes, and where in the file the step stands.

    Attributes:
        tree: places in the lab file.
        path: the path of the step's own mapping, such as ``("steps", 0, "ping")``.
        networks: by name.
        nodes: by name.
        directory: where relative file names begin.
        seed: of the lab.
        owners: which node has an address.
        links: between routers, by name.
        planners: what plans a step, by its kind.
        programs: what steps run in namespaces without the lab's naming it; filled as they are planned.
        services: that nodes have for one another, by name.
    """

    tree: Tree
    path: Path
    networks: Mapping[str, Network]
    nodes: Mapping[str, Node]
    directory: Any
    seed: int
    owners: Mapping[Address, Node] = field(default_factory=dict)
    links: Mapping[str, Link] = field(default_factory=dict)
    planners: Mapping[str, Callable[[Any, StepContext], Step]] = field(default_factory=dict)
    programs: set[str] = field(default_factory=set)
    services: Mapping[str, GuestService] = field(default_factory=dict)

    @property
    def line(self) -> int:
        """The line at which the step begins."""
        return self.tree.values[self.tree.resolve(self.path[:-1])][0]

    @property
    def own_line(self) -> int:
        """The line of the path itself."""
        return self.tree.keys[self.tree.resolve(self.path)][0]

    @property
    def holds_mapping(self) -> bool:
        """Whether a mapping stands at the path, not a list."""
        return not isinstance(self._said(), list)

    def at(self, *keys: Key) -> StepContext:
        """The same for what is ``keys`` below."""
        return replace(self, path=(*self.path, *keys))

    def plan(self, said: Any, *keys: Key) -> Step:
        """Plan the step that stands ``keys`` below.

        Raises:
            LabError: the first mistake in it.
        """
        if len(self.path) > DEEPEST:
            raise self.error("steps are nested too deeply; expected few levels, which people can read")
        kind = next(kind for kind in self.planners if kind in type(said).model_fields)
        return self.planners[kind](said, replace(self, path=(*self.path, *keys, kind)))

    def _said(self) -> Any:
        value = self.tree.data
        for part in self.path:
            value = value[part]
        return value

    def error(self, message: str, *keys: Key, at_key: bool = False) -> LabError:
        """A mistake at ``keys`` below the step's own mapping."""
        return self.tree.error(message, (*self.path, *keys), at_key=at_key)

    def node(self, name: str, *keys: Key) -> Node:
        """The node of that name.

        Raises:
            LabError: there is none.
        """
        if name in self.nodes:
            return self.nodes[name]
        raise self.error(f"no node is called {name!r}{did_you_mean(name, self.nodes)}; {self._known_nodes()}", *keys)

    def _known_nodes(self) -> str:
        names = list(self.nodes)
        return f"the nodes are {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}"

    def guest(self, name: str, *keys: Key) -> Node:
        """The node of that name, which must be one that sends.

        Raises:
            LabError: there is none, or it is a router.
        """
        node = self.node(name, *keys)
        if node.kind == "router":
            raise self.error(f"{name!r} is a router, which sends nothing of its own; expected a guest", *keys)
        return node

    def host(self, name: str, *keys: Key, instead: str) -> Node:
        """The node of that name, which must be a built-in host.

        Args:
            name: the node's.
            keys: where it is named, below the step's own mapping.
            instead: the program that an exec step may run in a namespace to the same end.

        Raises:
            LabError: there is none, or its NIC belongs to its own command, or to the kernel.
        """
        node = self.node(name, *keys)
        if node.kind != "host":
            raise self.error(f"{_not_a_host(node, instead)}", *keys)
        return node

    def pinger(self, name: str, *keys: Key) -> Node:
        """The node of that name, which must be one that pings: a built-in host or a namespace.

        Raises:
            LabError: there is none, or it is another.
        """
        node = self.node(name, *keys)
        if node.kind == "netns":
            self.programs.add("ping")
            return node
        return self.host(name, *keys, instead="ping")

    def random(self) -> random.Random:
        """A stream of random choices that follows from the seed and the step's place in the file."""
        return random.Random(f"{self.seed}:{self.path}")


def _not_a_host(node: Node, instead: str) -> str:
    if node.kind == "router":
        return f"{node.name!r} is a router, which sends nothing of its own; expected a host"
    if node.kind == "netns":
        return (
            f"{node.name!r} is a netns node, whose traffic is its own programs'; expected a host, or an exec step: "
            f"exec: {{on: {node.name}, command: {instead} ...}}"
        )
    if node.kind == "tap":
        return (
            f"{node.name!r} is a tap node, an interface of this machine; expected a host, or an exec step: "
            f"exec: {{on: {node.name}, command: {instead} ...}}"
        )
    return f"{node.name!r} is a {node.kind} node, whose command owns its NIC; expected a host"
