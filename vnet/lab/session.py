"""A lab that is up: its LAN, its guests and their commands, from the first to the last.

``vnet run`` takes its steps on a session and ends it; the base that ``vnet up`` leaves behind keeps one and changes it
when it is asked to (:mod:`vnet.lab.daemon`).
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from vnet.errors import LanClosed, MachineLacks, NameTaken, VnetError
from vnet.lab.commands import Command, command_environment, stop_all
from vnet.lab.difference import Difference, compare
from vnet.lab.output import Output
from vnet.lab.plan import Lab, Network, Node
from vnet.lab.readiness import Probes, Readiness

__all__ = ["ATTACH_SECONDS", "NodeState", "Session", "Settings"]

# A Python guest that imports scapy attaches after one to two seconds on a slow machine.
ATTACH_SECONDS = 10.0

# Address space, which becomes memory as it fills.
DEFAULT_BUFFER = 4 << 20

# Hosts that are made between two looks whether the lab is still wanted; they take a few milliseconds.
AT_A_TIME = 250
# Seconds between two looks at guests that are not ready.
_LOOK = 0.005
# Seconds that the base may take to notice that a guest has gone whose command has ended.
_PARTING = 1.0


@dataclass(frozen=True)
class Settings:
    """How to build a lab.

    Attributes:
        kind: what others are told that the LAN is: ``run`` or ``lab``.
        spare_name: take ``NAME-PID`` where the LAN's name is taken, instead of giving up.
        origin: which file the lab comes from, in a form that is the same for the same file.
        logs: the directory that gets ``NODE.log`` with each command's output; None: it is kept in memory only.
        progress: called with a few words before each thing that may take a while.
        pause: waits so many seconds; raises where the lab is not wanted any more.
        make_lan: makes the LAN; ``vnet.Lan`` unless a test says otherwise.
        attach_seconds: how long a process node's command may take until it has attached.
    """

    kind: str = "run"
    spare_name: bool = False
    origin: str = ""
    logs: Path | None = None
    progress: Callable[[str], None] = lambda _: None
    pause: Callable[[float], None] = time.sleep
    make_lan: Callable[..., Any] | None = None
    attach_seconds: float = ATTACH_SECONDS


@dataclass(frozen=True)
class NodeState:
    """A node as it stands.

    Attributes:
        node: the plan.
        up: whether somebody holds its NIC.
        since: when it was started, in seconds since the epoch.
        pid: of its command while that runs.
        code: of its command when that has ended, negative for a signal.
        failure: why it did not come up; empty where it did.
    """

    node: Node
    up: bool
    since: float
    pid: int | None
    code: int | None
    failure: str


class Session:
    """A lab and what is up of it.  Leaving the context ends the commands, then the LAN.

    :meth:`build` and :meth:`start` bring it up.  Methods may be called from any thread; changes come one after the
    other.

    Attributes:
        lab: the plan that it follows.
        lan: the LAN; after :meth:`build`.
        hosts: the built-in hosts by name.
        commands: the commands of process nodes by name, those that have ended included.
    """

    def __init__(self, lab: Lab, settings: Settings | None = None) -> None:
        self.lab = lab
        self.settings = settings or Settings()
        self.lan: Any = None
        self.hosts: dict[str, Any] = {}
        self.commands: dict[str, Command] = {}
        self.environment: dict[str, str] = {}
        self._outputs: dict[str, Output] = {}
        self._since: dict[str, float] = {}
        self._failures: dict[str, str] = {}
        self._changing = threading.RLock()
        self._ended = False
        self._largest_buffer = max(DEFAULT_BUFFER, *(node.buffer or 0 for node in lab.nodes.values()))

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Up

    def build(self) -> None:
        """Make the LAN, its networks and everyone's NICs.

        Raises:
            VnetError: the LAN refuses something; :meth:`close` takes down what is there.
        """
        with self._changing:
            self.lan = self._make_lan()
            self.environment = {**command_environment(), "VNET_LAN": str(self.lan.name)}
            for network in self.lab.networks.values():
                self._add_network(network)
            self._join(self.lab.nodes.values())
            # Not before: whoever asks for the lab by what it is finds it whole.
            self.lan.describe_as(kind=self.settings.kind, origin=self.settings.origin, **_about(self.lab))

    def start(self) -> None:
        """Start the commands and wait until every node is ready.

        Raises:
            MachineLacks: the program of a node is not here.
            VnetError: a command failed, or its node was not ready in time.
        """
        with self._changing:
            self._run(self.lab.nodes.values(), patient=False)

    # What is there

    def node(self, name: str) -> Node:
        """The node of that name.

        Raises:
            ValueError: there is none.
        """
        from vnet.lab.tree import did_you_mean

        nodes = self.lab.nodes
        if name not in nodes:
            close = did_you_mean(name, nodes)
            known = ", ".join(list(nodes)[:8]) + (" ..." if len(nodes) > 8 else "")
            raise ValueError(f"lab {self.lab.name!r} has no node {name!r}{close}; its nodes are {known}")
        return nodes[name]

    def states(self) -> list[NodeState]:
        """Every node as it stands, in file order."""
        nics = self.lan.nics
        states = []
        for node in list(self.lab.nodes.values()):
            command = self.commands.get(node.name)
            code = command.code if command is not None else None
            states.append(
                NodeState(
                    node=node,
                    up=node.name in nics and nics[node.name].state == "up",
                    since=self._since.get(node.name, 0.0),
                    pid=command.process.pid if command is not None and code is None else None,
                    code=code,
                    failure=self._failures.get(node.name, ""),
                )
            )
        return states

    def output(self, name: str) -> Output:
        """What the commands of a node have printed.

        Raises:
            ValueError: there is no such node, or it runs no command.
        """
        node = self.node(name)
        output = self._outputs.get(name)
        if output is None:
            why = "a built-in host, which prints nothing" if node.kind == "host" else "a node without a command"
            raise ValueError(f"{name!r} is {why}; logs are those of nodes with 'exec'")
        return output

    def environment_of(self, node: Node) -> dict[str, str]:
        """All of the environment of a node's commands."""
        return {**self.environment, **dict(node.environment), "VNET_NIC": node.name}

    # Changes

    def restart(self, name: str) -> None:
        """End a node and start it again, with the same addresses; wait until it is ready.

        Raises:
            ValueError: there is no such node, or there is nothing of it to start again.
            MachineLacks, VnetError: it did not come up again; the rest of the lab stays as it is.
        """
        with self._changing:
            node = self.node(name)
            if node.kind != "host" and node.command is None:
                raise ValueError(f"{name!r} has no command to start again; whoever attached to it is on its own")
            self._stop([node])
            if node.kind == "host":
                self.lan.remove(name)
                self._join([node])
            else:
                self._await_departure(name)
            self._run([node])

    def apply(self, lab: Lab) -> Difference:
        """Change the lab into ``lab``: what is the same in both goes on undisturbed.

        Returns:
            What was changed.

        Raises:
            ValueError: what is up cannot become ``lab``; nothing was changed.
            MachineLacks, VnetError: a node did not come up; everything else is as in ``lab``, and applying it once more
                tries that node again.
        """
        with self._changing:
            difference = compare(self.lab, lab, set(self._failures))
            self._check_possible(lab, difference)
            leaving = [self.lab.nodes[name] for name in (*difference.removed, *difference.changed)]
            self._stop(leaving)
            for node in leaving:
                # A node that failed to join is not there.
                with contextlib.suppress(KeyError):
                    self.lan.remove(node.name)
                self.hosts.pop(node.name, None)
                self._failures.pop(node.name, None)
                if node.name not in lab.nodes or lab.nodes[node.name].command is None:
                    self.commands.pop(node.name, None)
                    self._outputs.pop(node.name, None)
            for name in difference.networks_leaving:
                self.lan.remove_network(name)
            self.lab = lab
            self.lan.seed = lab.seed
            self.lan.describe_as(**_about(lab))
            for name in difference.networks_coming:
                self._add_network(lab.networks[name])
            coming = [lab.nodes[name] for name in lab.nodes if name in difference.coming]
            rerun = [lab.nodes[name] for name in difference.rerun]
            for node in (*coming, *rerun):
                # Until it is up; a failure on the way leaves the mark, and the next time finds it.
                self._failures[node.name] = "it was not started"
            failures: list[VnetError] = []
            there = []
            for node in coming:
                with self._noting(node, failures, patient=True):
                    self._join([node])
                    there.append(node)
            self._stop(rerun)
            for node in rerun:
                self._await_departure(node.name)
            self._run([*there, *rerun])
            if failures:
                raise failures[0]
            return difference

    # Down

    def stop(self, hurry: Callable[[], bool] = lambda: False) -> None:
        """End all commands; ``hurry`` may come true and cut their grace short."""
        with self._changing:
            stop_all(self.commands.values(), hurry)

    def close(self, hurry: Callable[[], bool] = lambda: False) -> None:
        """End all commands, then the LAN.  May be called twice."""
        with self._changing:
            if self._ended:
                return
            self._ended = True
            try:
                stop_all(self.commands.values(), hurry)
            finally:
                if self.lan is not None:
                    self.lan.close()

    # How

    def _make_lan(self) -> Any:
        make = self.settings.make_lan
        if make is None:
            import vnet

            make = vnet.Lan
        lab = self.lab
        arguments: dict[str, Any] = {
            "seed": lab.seed,
            "max_nics": max(4096, len(lab.nodes) + 64),
            "buffer": self._largest_buffer,
        }
        try:
            return make(lab.name, **arguments)
        except NameTaken:
            if not self.settings.spare_name:
                raise
            # The same lab may run twice at once, as on a CI machine.
            return make(f"{lab.name}-{os.getpid()}", **arguments)

    def _add_network(self, network: Network) -> None:
        self.lan.add_network(network.name, [str(prefix) for prefix in network.prefixes], mtu=network.mtu)

    def _join(self, nodes: Iterable[Node]) -> None:
        for number, node in enumerate(nodes):
            if number % AT_A_TIME == AT_A_TIME - 1:
                self.settings.pause(0)
            join = self.lan.host if node.kind == "host" else self.lan.reserve
            addresses = [str(address) for address in node.addresses]
            try:
                joined = join(node.name, addresses, network=node.network, buffer=node.buffer or DEFAULT_BUFFER)
            except LanClosed:
                raise
            except VnetError as error:
                raise type(error)(f"{self._place(node)}: {error}") from None
            self._since[node.name] = time.time()
            if node.kind == "host":
                for service in node.serve:
                    joined.serve(**service.arguments())
                self.hosts[node.name] = joined
            if node.command is None:
                self._failures.pop(node.name, None)

    def _run(self, nodes: Iterable[Node], *, patient: bool = True) -> None:
        """Start the commands of ``nodes`` and wait until all of them are ready.

        Raises:
            MachineLacks, VnetError: what kept the first of them from being ready; when ``patient``, after the others
                are ready, so that they are known to be.
        """
        waiting: list[Readiness] = []
        failures: list[VnetError] = []
        with contextlib.closing(Probes(self.lan)) as probes:
            try:
                for node in nodes:
                    with self._noting(node, failures, patient):
                        if node.command is not None:
                            attached = self.lan.attachments(node.name)
                            self.commands[node.name] = self._start_command(node)
                            waiting.append(self._readiness(node, probes, attached))
                        elif node.ready is not None:
                            waiting.append(self._readiness(node, probes, None))
                if waiting:
                    names = ", ".join(each.node.name for each in waiting[:3]) + (" ..." if len(waiting) > 3 else "")
                    self.settings.progress(f"waiting for {names} to be ready")
                while waiting:
                    waiting = [each for each in waiting if self._is_awaited(each, failures, patient)]
                    if waiting:
                        self.settings.pause(_LOOK)
            finally:
                for readiness in waiting:
                    readiness.close()
        if failures:
            raise failures[0]

    def _is_awaited(self, readiness: Readiness, failures: list[VnetError], patient: bool) -> bool:
        """Whether a node may still become ready."""
        with self._noting(readiness.node, failures, patient):
            if not readiness.holds():
                return True
            self._failures.pop(readiness.node.name, None)
        readiness.close()
        return False

    @contextlib.contextmanager
    def _noting(self, node: Node, failures: list[VnetError], patient: bool) -> Iterator[None]:
        """Notes what goes wrong with ``node``, and lets it pass when ``patient``."""
        try:
            yield
        except LanClosed:
            raise
        except VnetError as error:
            self._failures[node.name] = str(error)
            if not patient:
                raise
            failures.append(error)

    def _start_command(self, node: Node) -> Command:
        assert node.command is not None
        if node.name not in self._outputs:
            logs = self.settings.logs
            if logs is not None:
                logs.mkdir(exist_ok=True)
            self._outputs[node.name] = Output(log=logs / f"{node.name}.log" if logs is not None else None)
        self._since[node.name] = time.time()
        try:
            return Command(
                node.command,
                environment=self.environment_of(node),
                directory=self.lab.directory,
                guard=self.lan,
                output=self._outputs[node.name],
            )
        except MachineLacks as error:
            raise MachineLacks(f"{self._place(node)}: {error}; install the program or correct 'exec'") from None

    def _readiness(self, node: Node, probes: Probes, attached: int | None) -> Readiness:
        return Readiness(
            node,
            place=self._place(node),
            command=self.commands.get(node.name),
            has_attached=None if attached is None else lambda: self.lan.attachments(node.name) > attached,
            attach_seconds=self.settings.attach_seconds,
            probes=probes,
            environment=self.environment_of(node),
            directory=self.lab.directory,
            guard=self.lan,
        )

    def _place(self, node: Node) -> str:
        return f"{self.lab.file}:{node.line}: nodes.{node.name}"

    def _stop(self, nodes: Iterable[Node]) -> None:
        stop_all([self.commands[node.name] for node in nodes if node.name in self.commands])

    def _await_departure(self, name: str) -> None:
        """Wait for the base to notice that a command's process has gone: until then its NIC counts as held."""
        deadline = time.monotonic() + _PARTING
        while self.lan.attached(name) and time.monotonic() < deadline:
            time.sleep(_LOOK)

    def _check_possible(self, lab: Lab, difference: Difference) -> None:
        again = f"; to have it, vnet down {self.lab.name} and vnet up it again"
        own = self.lab.nodes
        for name in difference.networks_leaving:
            stranger = next((n.name for n in self.lan.nics.values() if n.network == name and n.name not in own), None)
            if stranger is not None:
                raise ValueError(
                    f"network {name!r} cannot change while {stranger!r}, which is no node of the lab, is on it{again}"
                )
        for name in difference.coming:
            if name not in own and name in self.lan.nics:
                raise ValueError(f"{name!r} cannot be added: a guest of that name has attached{again}")
            buffer = lab.nodes[name].buffer or 0
            if buffer > self._largest_buffer:
                raise ValueError(f"{name!r} cannot have a buffer of {buffer:,} bytes, more than this LAN has{again}")


def _about(lab: Lab) -> dict[str, Any]:
    return {"lab": lab.name, "file": lab.file, "seed": lab.seed, "nodes": len(lab.nodes)}
