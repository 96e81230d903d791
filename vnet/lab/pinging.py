"""Echo requests from a namespace: the kernel's stack sends them at the request of iputils' ``ping``.

What it prints becomes a :class:`vnet.PingResult`, as of a built-in host.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path

from vnet.errors import MachineLacks, VnetError
from vnet.hosts import PingResult
from vnet.lab.commands import Command, Entrance, Guard, Output

__all__ = ["NamespacePing", "read_ping"]

INSTALL = "apt-get install iputils-ping, or what it is called here"

# Bytes of what it prints: a line of less than a hundred for each of 65,535 requests.
_LIMIT = 8 << 20

# Seconds that a wait without end may have; the kernel counts milliseconds in an int.
_FOR_EVER = 1e6

_REPLY = re.compile(r"^\d+ bytes from .*?icmp_seq=(\d+) .*?time=([\d.]+) ms$")
# An IPv6 address may end in two colons, and some versions put one behind any address.
_ERROR = re.compile(r"^From (\S*?(?:::|[^\s:])):? icmp_seq=(\d+) (.+)$")
_LOCAL = re.compile(r"^(?:ping: )?(?:sendmsg|local error): (.+)$")
_TOTAL = re.compile(r"^(\d+) packets transmitted, (\d+) received")
# What it says where the kernel does not even let it begin.
_REFUSED = re.compile(r"^ping: (?:connect|socket|sendmsg|bind): (.+)$")


class NamespacePing:
    """A ``ping`` that runs in a namespace; the arguments are those of :meth:`vnet.Host.start_ping`.

    Args:
        inside: the namespace.
        environment: all of the environment of the namespace's commands.
        directory: where it begins.
        guard: is told of its group.

    Raises:
        MachineLacks: there is no such program here.
    """

    def __init__(
        self,
        inside: Entrance,
        destination: str,
        *,
        environment: Mapping[str, str],
        directory: Path,
        guard: Guard,
        count: int = 1,
        interval: float = 0.0,
        timeout: float = 1.0,
        size: int = 56,
        ttl: int | None = None,
    ) -> None:
        self._destination = destination
        self._count = count
        self._patience = timeout
        # Adaptive: the next goes out when the last is answered, or lost.
        pace = ["-i", f"{interval:.6f}"] if interval else ["-A", "-i", f"{max(timeout, 0.001):.6f}"]
        words = ["ping", "-6" if ":" in destination else "-4", "-n", "-W", f"{timeout:.6f}", "-s", str(size)]
        words += [*(["-t", str(ttl)] if ttl else []), destination]
        self._first: PingResult | None = None
        self._run = functools.partial(
            self._started, words, environment=environment, directory=directory, guard=guard, inside=inside
        )
        self._command = self._run(["-c", str(count), *pace])

    @staticmethod
    def _started(
        words: list[str],
        options: list[str],
        *,
        environment: Mapping[str, str],
        directory: Path,
        guard: Guard,
        inside: Entrance,
    ) -> Command:
        try:
            return Command(
                [*words[:-1], *options, words[-1]],
                environment={**environment, "LC_ALL": "C"},
                directory=directory,
                guard=guard,
                output=Output(limit=_LIMIT),
                inside=inside,
            )
        except MachineLacks as error:
            raise MachineLacks(f"{error}; a namespace pings with iputils' ping: {INSTALL}") from None

    def result(self, timeout: float | None = None) -> PingResult:
        """Wait until every request is settled.

        Raises:
            TimeoutError: ``timeout`` seconds passed before.
            MachineLacks: what is called ping here is another program.
            VnetError: it failed in a way that has nothing to do with the LAN.
        """
        if not self._command.wait(timeout if timeout is not None else _FOR_EVER):
            raise TimeoutError(f"the ping of {self._destination} is not over after {timeout} s")
        self._command.stop()
        text = self._command.output.text()
        if (first := self._first) is not None:
            last = read_ping(text, self._destination, count=1, patience=self._patience)
            rtts = (*first.rtts, *last.rtts)
            return PingResult(self._destination, first.sent, len(rtts), rtts, (*first.errors, *last.errors))
        result = read_ping(text, self._destination, count=self._count, patience=self._patience)
        if not left_unanswered(text, self._count):
            return result
        # iputils waits for the last answer twice as long as the slowest took before, which may be some microseconds:
        # too short where the machine has other work.  So the last request is sent once more, and has its time.
        self._first, self._command = result, self._run(["-c", "1"])
        return self.result(timeout)

    def stop(self) -> None:
        """End it, wherever it is.  May be called twice."""
        self._command.stop(0.0)


def left_unanswered(text: str, count: int) -> bool:
    """Whether nothing came back for the last of several requests, though something did for one before.

    Args:
        text: all that ``ping`` printed, in the C locale.
        count: how many requests it was to send.
    """
    lines = text.splitlines()
    answered = {int(reply[1]) for line in lines if (reply := _REPLY.match(line)) is not None}
    refused = {int(error[2]) for line in lines if (error := _ERROR.match(line)) is not None}
    total = next((int(total[1]) for line in lines if (total := _TOTAL.match(line)) is not None), 0)
    return bool(answered) and total == count and count not in answered | refused


def read_ping(text: str, destination: str, *, count: int, patience: float) -> PingResult:
    """What came of the requests of a ``ping``.

    Args:
        text: all that it printed, in the C locale.
        destination: whom it asked.
        count: how many requests it was to send.
        patience: seconds after which an answer is none.

    Raises:
        MachineLacks: this is not what iputils' ping prints.
        VnetError: it failed in a way that has nothing to do with the LAN.
    """
    rtts: dict[int, float] = {}
    errors: list[str] = []
    sent = None
    for line in text.splitlines():
        if (reply := _REPLY.match(line)) is not None:
            # A reply that comes twice counts once; in time or not, it is the first that tells.
            rtts.setdefault(int(reply[1]), float(reply[2]) / 1000)
        elif (error := _ERROR.match(line)) is not None:
            errors.append(f"{error[3].lower()} from {error[1]}")
        elif (total := _TOTAL.match(line)) is not None:
            sent = int(total[1])
        elif (local := _LOCAL.match(line)) is not None:
            errors.append(local[1].lower())
    if sent is not None:
        in_time = tuple(rtt for rtt in rtts.values() if rtt <= patience)
        return PingResult(destination, sent, len(in_time), in_time, tuple(errors[: sent - len(in_time)]))
    last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it printed nothing")
    if (refused := _REFUSED.match(last)) is not None:
        # No route, or an address that is not there: to whoever asks, all of its requests failed.
        return PingResult(destination, count, 0, (), (refused[1].lower(),) * count)
    if "option" in text or "usage:" in text.lower():
        raise MachineLacks(f"the ping of this machine is not iputils' ({last}): {INSTALL}")
    raise VnetError(f"ping failed: {last}")
