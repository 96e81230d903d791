"""Whether a node is ready: its command has attached, what its ``ready`` asks for holds, and what it serves is there.

What a process node's command holds is its NIC; what any node serves are the services that the lab says are its own.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from vnet.errors import AddressTaken, MachineLacks, NameTaken, VnetError
from vnet.lab.addresses import usable
from vnet.lab.commands import Command, Entrance, Guard, describe_end, shown, stop_all
from vnet.lab.output import Output
from vnet.lab.plan import Address, Node, Ready

__all__ = ["Probes", "Readiness"]

# Seconds between two tries of a command, or of a port that refuses.
_AGAIN = 0.05
# Seconds after which a port that says nothing is tried anew.
_SILENCE = 1.0
# Addresses that are tried, from the highest down, for the NIC that probes a port.
_MOST_TRIES = 4096


class Probes:
    """Connections to nodes' TCP ports, from a NIC that is on each network only while it is needed.

    Args:
        lan: the LAN.
    """

    def __init__(self, lan: Any) -> None:
        self._lan = lan
        self._stacks: dict[tuple[str, int], tuple[Any, Any]] = {}

    def connect(self, node: Node, address: Address, port: int) -> Any:
        """Start a connection; the answer has ``state()`` and ``close()``.

        Raises:
            VnetError: there is no address left to connect from.
        """
        place = (node.network, address.version)
        if place not in self._stacks:
            self._stacks[place] = self._plug_in(node.network, address)
        return self._stacks[place][1].connect((str(address), port))

    def close(self) -> None:
        """Take the NICs off the LAN.  May be called twice."""
        stacks, self._stacks = self._stacks, {}
        for nic, stack in stacks.values():
            stack.close()
            nic.close()

    def _plug_in(self, network: str, towards: Address) -> tuple[Any, Any]:
        from vnet import _native

        prefix = next(p for p in self._lan.networks[network].prefixes if p.version == towards.version)
        first, last = usable(prefix)
        for number in range(last, max(first - 1, last - _MOST_TRIES), -1):
            address = type(towards)(number)
            with contextlib.suppress(AddressTaken):
                nic = self._attach(network, address)
                stack = _native.Stack(nic, [(str(address), prefix.prefixlen)], nic.mtu, number & 0xFFFF_FFFF)
                return nic, stack
        raise VnetError(f"no address of {prefix} is left to probe a port from")

    def _attach(self, network: str, address: Address) -> Any:
        for attempt in range(100):
            with contextlib.suppress(NameTaken):
                return self._lan.attach(f"probe-{os.getpid()}-{attempt}", str(address), network=network)
        raise VnetError("no name is left for a NIC to probe a port with")


class _Check(Protocol):
    """One thing that a ``ready`` asks for."""

    def holds(self) -> bool:
        """Whether it holds; does not wait."""
        ...

    def missing(self) -> str:
        """What does not hold, as a part of a sentence."""
        ...

    def close(self) -> None:
        """Let go of what it took to look."""
        ...


class _OutputCheck:
    def __init__(self, pattern: str, commands: Sequence[Command]) -> None:
        self._pattern = re.compile(pattern)
        self._commands = commands
        self._seen = [command.start for command in commands]
        self._rest = [""] * len(commands)

    def holds(self) -> bool:
        return any(self._holds(index) for index in range(len(self._commands)))

    def _holds(self, index: int) -> bool:
        start, more = self._commands[index].output.read(self._seen[index])
        self._seen[index] = start + len(more)
        if not more:
            return False
        lines = (self._rest[index] + more.decode("utf-8", "replace")).split("\n")
        # The last one may go on; a prompt does not, and counts too.
        self._rest[index] = lines[-1]
        return any(self._pattern.search(line.rstrip("\r")) for line in lines)

    def missing(self) -> str:
        return f"no line of its output matched {self._pattern.pattern!r}"

    def close(self) -> None:
        pass


class _PortCheck:
    def __init__(self, probes: Probes, node: Node, port: int) -> None:
        self._probes = probes
        self._node = node
        self._port = port
        self._address = node.addresses[0]
        self._socket: Any = None
        self._due = 0.0
        self._last = "did not answer"

    def holds(self) -> bool:
        now = time.monotonic()
        if self._socket is None:
            if now < self._due:
                return False
            self._socket = self._probes.connect(self._node, self._address, self._port)
            self._due = now + _SILENCE
        state = self._socket.state()
        if state == "open":
            self.close()
            return True
        if state != "connecting" or now >= self._due:
            self._last = {"refused": "refused", "connecting": "did not answer"}.get(state, f"was {state}")
            self.close(abort=state == "connecting")
            self._due = now + _AGAIN
        return False

    def missing(self) -> str:
        what = f"TCP port {self._port} of {self._address}"
        return f"{what} {self._last}" if self._last != "refused" else f"{what} refused connections"

    def close(self, *, abort: bool = False) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.close(abort)


class _CommandCheck:
    def __init__(
        self,
        command: str | tuple[str, ...],
        *,
        place: str,
        environment: Mapping[str, str],
        directory: Path,
        guard: Guard,
        inside: Entrance | None,
    ) -> None:
        self._command = command
        self._place = place
        self._settings: dict[str, Any] = {
            "environment": environment,
            "directory": directory,
            "guard": guard,
            "inside": inside,
        }
        self._running: Command | None = None
        self._due = 0.0
        self._last = "has not ended"

    def holds(self) -> bool:
        now = time.monotonic()
        if self._running is None:
            if now < self._due:
                return False
            try:
                self._running = Command(self._command, output=Output(limit=1 << 16), **self._settings)
            except MachineLacks as error:
                raise MachineLacks(f"{self._place}: ready: {error}; install the program or correct 'ready'") from None
        code = self._running.code
        if code is None:
            return False
        ended, self._running = self._running, None
        ended.stop(0.0)
        if code == 127:
            raise MachineLacks(
                f"{self._place}: ready: no such command is here; install the program or correct "
                f"'ready'{ended.last_words()}"
            )
        self._last = describe_end(code) + ended.last_words().replace("; its last", ", and its last")
        self._due = now + _AGAIN
        return code == 0

    def missing(self) -> str:
        return f"{shown(self._command)!r} {self._last}"

    def close(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            stop_all([running], hurry=lambda: True)


class _ServiceCheck:
    def __init__(self, service: str, listens: Callable[[], bool]) -> None:
        self._service = service
        self._listens = listens

    def holds(self) -> bool:
        return self._listens()

    def missing(self) -> str:
        return f"it does not listen for the service {self._service!r}"

    def close(self) -> None:
        pass


class Readiness:
    """Watches one node from the start of its commands until it is ready.

    Args:
        node: the node.
        place: where it stands in the lab file, for messages.
        commands: those of the node.
        has_attached: whether somebody has attached as the node since; None where nobody needs to.
        attach_seconds: how long that may take.
        probes: connects to its port.
        services: what it must listen for, each with whether it has since.
        environment, directory, guard, inside: for the command that says whether it is ready.
    """

    def __init__(
        self,
        node: Node,
        *,
        place: str,
        commands: Sequence[Command],
        has_attached: Callable[[], bool] | None,
        attach_seconds: float,
        probes: Probes,
        environment: Mapping[str, str],
        directory: Path,
        guard: Guard,
        inside: Entrance | None = None,
        services: Mapping[str, Callable[[], bool]] | None = None,
    ) -> None:
        self.node = node
        self._place = place
        self._commands = commands
        self._has_attached = has_attached
        self._started = time.monotonic()
        ready = node.ready or Ready(timeout=Ready.timeout if services else 0.0)
        # Who gives a slow program more time to be ready gives it as much to attach.
        self._attach_seconds = max(attach_seconds, ready.timeout)
        self._ready_seconds = ready.timeout
        self._checks: list[_Check] = []
        if ready.output is not None and commands:
            self._checks.append(_OutputCheck(ready.output, commands))
        if ready.port is not None:
            self._checks.append(_PortCheck(probes, node, ready.port))
        if ready.command is not None:
            self._checks.append(
                _CommandCheck(
                    ready.command,
                    place=place,
                    environment=environment,
                    directory=directory,
                    guard=guard,
                    inside=inside,
                )
            )
        self._checks += [_ServiceCheck(name, listens) for name, listens in (services or {}).items()]

    def holds(self) -> bool:
        """Whether the node is ready; does not wait.

        Raises:
            MachineLacks: a program is not here.
            VnetError: the command ended in a bad way, or the time is over.
        """
        codes = [command.code for command in self._commands]
        attached = self._has_attached is None or self._has_attached()
        for command, code in zip(self._commands, codes, strict=True):
            if code:
                raise self._ended(command, code, attached)
        # A command that ends well without having attached had no need to.
        if not attached and None in codes:
            self._check_time(self._attach_seconds, "did not attach", "expected it to call vnet.attach()")
            return False
        while self._checks and self._checks[0].holds():
            self._checks.pop(0).close()
        if self._checks:
            self._check_time(self._ready_seconds, "was not ready", self._checks[0].missing())
        return not self._checks

    def close(self) -> None:
        """Let go of what it took to look.  May be called twice."""
        for check in self._checks:
            check.close()

    def _ended(self, command: Command, code: int, attached: bool) -> VnetError:
        started = attached and self._has_attached is not None
        if not started and not command.found:
            return MachineLacks(
                f"{self._place}: the shell found no such command; install the program or correct "
                f"'exec'{command.last_words()}"
            )
        which = "the command" if len(self._commands) == 1 else f"the command {shown(command.command)!r}"
        before = "before it was ready" if attached else "before it attached"
        return VnetError(f"{self._place}: {which} {describe_end(code)} {before}{command.last_words()}")

    def _check_time(self, seconds: float, what: str, why: str) -> None:
        if time.monotonic() < self._started + seconds:
            return
        who, words = ("the node", "")
        if len(self._commands) == 1:
            who, words = "the command", self._commands[0].last_words()
        elif self._commands:
            words = "".join(f"; {shown(each.command)!r}:{each.last_words().lstrip(';')}" for each in self._commands)
        raise VnetError(f"{self._place}: {who} {what} within {seconds:g} s; {why}{words}")
