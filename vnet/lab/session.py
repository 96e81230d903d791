"""A lab that is up: its LAN, its guests and their commands, from the first to the last.

``vnet run`` takes its steps on a session and ends it; the base that ``vnet up`` leaves behind keeps one and changes it
when it is asked to (:mod:`vnet.lab.daemon`).
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from vnet.errors import LanClosed, MachineLacks, NameTaken, VnetError
from vnet.lab.commands import Command, command_environment, describe_end, stop_all
from vnet.lab.difference import Difference, compare
from vnet.lab.joining import join
from vnet.lab.output import Output
from vnet.lab.plan import Lab, Network, Node, NodeCommand
from vnet.lab.readiness import Probes, Readiness
from vnet.lab.sharing import Shared
from vnet.lab.states import CommandState, NodeState
from vnet.lab.wiring import Wiring

__all__ = ["ATTACH_SECONDS", "CommandState", "NodeState", "Session", "Settings"]

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
        say: called with each line for whoever watches, such as what the LAN could not keep for the next time.
        pause: waits so many seconds; raises where the lab is not wanted any more.
        make_lan: makes the LAN; ``vnet.Lan`` unless a test says otherwise.
        attach_seconds: how long a process node's command may take until it has attached.
    """

    kind: str = "run"
    spare_name: bool = False
    origin: str = ""
    logs: Path | None = None
    progress: Callable[[str], None] = lambda _: None
    say: Callable[[str], None] = lambda _: None
    pause: Callable[[float], None] = time.sleep
    make_lan: Callable[..., Any] | None = None
    attach_seconds: float = ATTACH_SECONDS


class Session:
    """A lab and what is up of it.  Leaving the context ends the commands, then the LAN.

    :meth:`build` and :meth:`start` bring it up.  Methods may be called from any thread; changes come one after the
    other.

    Attributes:
        lab: the plan that it follows.
        lan: the LAN; after :meth:`build`.
        hosts: the built-in hosts by name.
        namespaces: the namespaces of netns nodes by name.
        commands: the commands of nodes, those that have ended included, by what they are known by: ``NODE``, or
            ``NODE/NAME`` where a node has several.
    """

    def __init__(self, lab: Lab, settings: Settings | None = None) -> None:
        self.lab = lab
        self.settings = settings or Settings()
        self.lan: Any = None
        self.hosts: dict[str, Any] = {}
        self.namespaces: dict[str, Any] = {}
        self.commands: dict[str, Command] = {}
        self.environment: dict[str, str] = {}
        # Of netns and tap nodes; leaving the LAN takes their interfaces down.
        self._guests: dict[str, Any] = {}
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
            wiring, nodes = self._wiring(), self.lab.nodes.values()
            with wiring.batch(self.lab):
                for network in self.lab.networks.values():
                    self._add_network(network)
                wiring.filter(self.lab, self.lab.networks, ())
                # Routers first: guests find their gateways there.
                self._join(node for node in nodes if node.kind == "router")
                wiring.add_links(self.lab, self.lab.links)
                wiring.route(self.lab)
                self._join(node for node in nodes if node.kind != "router")
                wiring.load(self.lab.outside)
            self._shared().make(self.lab)
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
            states.append(
                NodeState(
                    node=node,
                    up=self._is_up(node, nics),
                    since=self._since.get(node.name, 0.0),
                    commands=tuple(self._state_of(node, command) for command in node.commands),
                    failure=self._failures.get(node.name, ""),
                )
            )
        return states

    def _is_up(self, node: Node, nics: Mapping[str, Any]) -> bool:
        if node.kind == "router":
            return node.name in self.lan.routers
        return all(name in nics and nics[name].state == "up" for name in node.nics)

    def _state_of(self, node: Node, planned: NodeCommand) -> CommandState:
        command = self.commands.get(node.label(planned))
        if command is None:
            return CommandState(planned)
        code = command.code
        return CommandState(planned, command.process.pid if code is None else None, code)

    def shared(self) -> dict[str, list[dict[str, Any]]]:
        """The regions and services as they stand; see :meth:`vnet.lab.sharing.Shared.told`."""
        return self._shared().told(self.lab)

    def outputs(self, label: str) -> dict[str, Output]:
        """What the commands of a node have printed, or one of them, by what they are known by.

        Args:
            label: ``NODE``, or ``NODE/NAME``.

        Raises:
            ValueError: there is no such node or command, or the node runs none.
        """
        from vnet.lab.tree import did_you_mean

        name, _, wanted = label.partition("/")
        node = self.node(name)
        known = [command.name for command in node.commands]
        if wanted and wanted not in known:
            close = did_you_mean(wanted, known)
            those = f"; its commands are {', '.join(known)}" if any(known) else ""
            raise ValueError(f"{name!r} has no command called {wanted!r}{close}{those}")
        labels = [label] if wanted else node.labels
        found = {each: self._outputs[each] for each in labels if each in self._outputs}
        if not found:
            silent = {"host": "a built-in host, which prints nothing", "router": "a router, which prints nothing"}
            why = silent.get(node.kind, "a node without a command")
            raise ValueError(f"{name!r} is {why}; logs are those of nodes with 'exec'")
        return found

    def output(self, label: str) -> Output:
        """What a command has printed; arguments and errors as of :meth:`outputs`, which may be several."""
        return self._outputs[self.label(label)]

    def label(self, label: str) -> str:
        """What the one command is known by that ``label`` means: :meth:`outputs` says how it may be written.

        Raises:
            ValueError: there is none, or there are several.
        """
        found = self.outputs(label)
        if len(found) > 1:
            raise ValueError(f"{label!r} runs several commands; say which of {', '.join(found)}")
        return next(iter(found))

    def last_output(self, name: str) -> str:
        """The last lines that the commands of a node have printed, on one line; empty where there are none."""
        node = self.lab.nodes.get(name)
        tails = {
            label: self._outputs[label].tail() for label in (node.labels if node else ()) if label in self._outputs
        }
        if len(tails) == 1:
            return next(iter(tails.values()))
        return "; ".join(f"{label.partition('/')[2]}: {tail}" for label, tail in tails.items() if tail)

    def crash(self, state: NodeState) -> str:
        """What is wrong with a node whose command has ended in a bad way; empty where nothing is."""
        for each in state.commands:
            if each.code:
                which = f"the command {each.command.name}" if each.command.name else "the command"
                last = self.commands[state.node.label(each.command)].last_words()
                return f"{which} {describe_end(each.code)} while the lab ran{last}"
        return ""

    def environment_of(self, node: Node) -> dict[str, str]:
        """All of the environment of a node's commands."""
        return {**self.environment, **dict(node.environment), **node.nic_environment}

    # Changes

    def restart(self, name: str) -> None:
        """End a node and start it again, with the same addresses; wait until it is ready.

        Raises:
            ValueError: there is no such node, or there is nothing of it to start again.
            MachineLacks, VnetError: it did not come up again; the rest of the lab stays as it is.
        """
        with self._changing:
            node = self.node(name)
            if node.kind == "router":
                raise ValueError(f"{name!r} is a router, which is simulated: there is nothing of it to start again")
            if node.kind == "process" and not node.commands:
                raise ValueError(f"{name!r} has no command to start again; whoever attached to it is on its own")
            self._stop([node])
            if node.kind == "process":
                self._await_departure(node.nics[0])
            else:
                self._leave(node)
                with self._noting(node, [], patient=False):
                    self._join([node])
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
            before, wiring = self.lab, self._wiring()
            leaving = [before.nodes[name] for name in (*difference.removed, *difference.changed)]
            self._stop(leaving)
            with wiring.batch(before):
                for node in leaving:
                    if node.kind != "router":
                        self._leave(node)
                    self._failures.pop(node.name, None)
                wiring.take_away(before, difference)
            self._stop([before.nodes[name] for name in difference.rerun])
            self._forget_commands(lab)
            for name in difference.networks_leaving:
                self.lan.remove_network(name)
            # What cannot be shared is left out of the lab, and tried again the next time.
            self.lab, failures = self._shared().change(lab, difference)
            self.lan.seed = lab.seed
            self.lan.describe_as(**_about(lab))
            for name in difference.networks_coming:
                self._add_network(lab.networks[name])
            coming = [lab.nodes[name] for name in lab.nodes if name in difference.coming]
            rerun = [lab.nodes[name] for name in difference.rerun]
            for node in (*coming, *rerun):
                # Until it is up; a failure on the way leaves the mark, and the next time finds it.
                self._failures[node.name] = "it was not started"
            there = []
            with wiring.batch(lab):
                for node in sorted(coming, key=lambda node: node.kind != "router"):
                    with self._noting(node, failures, patient=True):
                        self._join([node])
                        there.append(node)
                try:
                    wiring.bring_back(lab, difference)
                    wiring.route(lab)
                    wiring.filter_again(before, lab)
                except LanClosed:
                    raise
                except VnetError as error:
                    failures.append(error)
            for node in rerun:
                if node.kind == "process":
                    self._await_departure(node.nics[0])
            self._run([*there, *rerun], self._servers(difference, (*difference.coming, *difference.rerun)))
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
            "max_nics": min(max(4096, sum(len(node.joined) for node in lab.nodes.values()) + 64), 65_533),
            "buffer": self._largest_buffer,
            "images": lambda sentence: self.settings.say(f"vnet: {sentence}"),
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

    def _wiring(self) -> Wiring:
        return Wiring(self.lan, lambda line, what: f"{self.lab.file}:{line}: {what}")

    def _shared(self) -> Shared:
        return Shared(self.lan, lambda line, what: f"{self.lab.file}:{line}: {what}")

    def _servers(self, difference: Difference, but: Collection[str]) -> list[Node]:
        """The nodes of services that are new, as far as they are there already."""
        new = (*difference.services_added, *difference.services_changed)
        names = dict.fromkeys(self.lab.services[name].node for name in new if name in self.lab.services)
        return [self.lab.nodes[name] for name in names if name not in but]

    def _join(self, nodes: Iterable[Node]) -> None:
        wiring, asking = self._wiring(), []
        for number, node in enumerate(nodes):
            if number % AT_A_TIME == AT_A_TIME - 1 or node.kind == "netns":
                self.settings.pause(0)
            if node.kind == "router":
                wiring.add_routers([node])
                wiring.filter(self.lab, (), [node.name])
                self._since[node.name] = time.time()
                self._failures.pop(node.name, None)
                continue
            late = self._asks_for_somebody(node)
            if late:
                # Who has the address of its gateway may come after it.
                asking.append(node)
            with self._placed(node):
                joined = join(self.lan, replace(node, gateway=()) if late else node, node.buffer or DEFAULT_BUFFER)
                wiring.filter(self.lab, (), [node.name])
            self._since[node.name] = time.time()
            if node.kind == "host":
                for service in node.serve:
                    joined.serve(**service.arguments())
                self.hosts[node.name] = joined
            elif node.kind in ("netns", "tap"):
                self._guests[node.name] = joined
                if node.kind == "netns":
                    self.namespaces[node.name] = joined
            if not node.commands:
                self._failures.pop(node.name, None)
        for node in asking:
            with self._placed(node):
                for name, each in zip(node.nics, node.joined, strict=True):
                    own = self.lab.networks[each.network].prefixes
                    there = [str(one) for one in node.gateway or () if any(one in prefix for prefix in own)]
                    if there:
                        self.lan.set_gateway(name, there)

    def _asks_for_somebody(self, node: Node) -> bool:
        """Whether a node's gateway is an address that must be somebody's; the kernel of a namespace asks for itself."""
        return bool(node.gateway) and node.kind in ("host", "process")

    @contextlib.contextmanager
    def _placed(self, node: Node) -> Iterator[None]:
        """Says where the lab file has what the LAN refuses."""
        try:
            yield
        except LanClosed:
            raise
        except VnetError as error:
            raise type(error)(f"{self._place(node)}: {error}") from None
        except ValueError as error:
            # What the LAN says of a name or an interface is said of the lab.
            raise VnetError(f"{self._place(node)}: {error}") from None

    def _leave(self, node: Node) -> None:
        """Take a node off the LAN; one that failed to join is not there."""
        self.hosts.pop(node.name, None)
        self.namespaces.pop(node.name, None)
        guest = self._guests.pop(node.name, None)
        if guest is not None:
            guest.close()
        for name in node.nics:
            with contextlib.suppress(KeyError):
                self.lan.remove(name)

    def _forget_commands(self, lab: Lab) -> None:
        """Forget the commands that are in the lab no more, and what they printed."""
        kept = {label for node in lab.nodes.values() for label in node.labels}
        for label in [label for label in self._outputs if label not in kept]:
            self.commands.pop(label, None)
            del self._outputs[label]

    def _run(self, nodes: Iterable[Node], servers: Iterable[Node] = (), *, patient: bool = True) -> None:
        """Start the commands of ``nodes`` and wait until all of them are ready, and ``servers``, which run, listen.

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
                        attached = self.lan.attachments(node.nics[0]) if node.kind == "process" else 0
                        for command in node.commands:
                            self.commands[node.label(command)] = self._start_command(node, command)
                        if node.commands or node.ready is not None:
                            attaches = node.kind == "process" and bool(node.commands)
                            waiting.append(self._readiness(node, probes, attached if attaches else None))
                        else:
                            self._failures.pop(node.name, None)
                for node in servers:
                    waiting.append(self._readiness(replace(node, ready=None), probes, None))
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

    def _start_command(self, node: Node, command: NodeCommand) -> Command:
        label = node.label(command)
        if label not in self._outputs:
            logs = self.settings.logs
            if logs is not None:
                logs.mkdir(exist_ok=True)
            self._outputs[label] = Output(log=logs / f"{label.replace('/', '.')}.log" if logs is not None else None)
        self._since[node.name] = time.time()
        try:
            return Command(
                command.words,
                environment=self.environment_of(node),
                directory=self.lab.directory,
                guard=self.lan,
                output=self._outputs[label],
                inside=self.namespaces.get(node.name),
            )
        except MachineLacks as error:
            raise MachineLacks(f"{self._place(node)}: {error}; install the program or correct 'exec'") from None

    def _readiness(self, node: Node, probes: Probes, attached: int | None) -> Readiness:
        return Readiness(
            node,
            place=self._place(node),
            commands=[self.commands[label] for label in node.labels],
            has_attached=None if attached is None else lambda: self.lan.attachments(node.nics[0]) > attached,
            attach_seconds=self.settings.attach_seconds,
            probes=probes,
            environment=self.environment_of(node),
            directory=self.lab.directory,
            guard=self.lan,
            inside=self.namespaces.get(node.name),
            services=self._shared().awaited(self.lab, node),
        )

    def _place(self, node: Node) -> str:
        return f"{self.lab.file}:{node.line}: nodes.{node.name}"

    def _stop(self, nodes: Iterable[Node]) -> None:
        stop_all([self.commands[label] for node in nodes for label in node.labels if label in self.commands])

    def _await_departure(self, name: str) -> None:
        """Wait for the base to notice that a command's process has gone: until then its NIC counts as held."""
        deadline = time.monotonic() + _PARTING
        while self.lan.attached(name) and time.monotonic() < deadline:
            time.sleep(_LOOK)

    def _check_possible(self, lab: Lab, difference: Difference) -> None:
        again = f"; to have it, vnet down {self.lab.name} and vnet up it again"
        own, mine = self.lab.nodes, {nic for node in self.lab.nodes.values() for nic in node.nics}
        for name in difference.networks_leaving:
            stranger = next((n.name for n in self.lan.nics.values() if n.network == name and n.name not in mine), None)
            if stranger is not None:
                raise ValueError(
                    f"network {name!r} cannot change while {stranger!r}, which is no node of the lab, is on it{again}"
                )
        for name in difference.coming:
            if name not in own and not self.lan.nics.keys().isdisjoint(lab.nodes[name].nics):
                raise ValueError(f"{name!r} cannot be added: a guest of that name has attached{again}")
            buffer = lab.nodes[name].buffer or 0
            if buffer > self._largest_buffer:
                raise ValueError(f"{name!r} cannot have a buffer of {buffer:,} bytes, more than this LAN has{again}")


def _about(lab: Lab) -> dict[str, Any]:
    return {"lab": lab.name, "file": lab.file, "seed": lab.seed, "nodes": len(lab.nodes)}
