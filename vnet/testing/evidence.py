"""What became of the datagrams of a LAN: from its counters, and from a capture of it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vnet.pcapng import CapturedPacket, PcapngReader
from vnet.statistics import LanStatistics
from vnet.verdict import Verdict

__all__ = ["Drop", "Evidence", "Flow", "read_evidence"]

# Drops that a report shows one by one, and bytes of each.
_SHOWN = 8
_BYTES = 28


@dataclass
class Flow:
    """What one NIC sent and received.

    Attributes:
        sent: datagrams that it sent, whatever became of them.
        received: datagrams put into its input buffer.
        refused: datagrams that found its input buffer full.
        dropped: those that it sent and that did not arrive, by reason.
    """

    sent: int = 0
    received: int = 0
    refused: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.dropped.most_common())
        lost = f", of which dropped: {reasons}" if reasons else ""
        refused = f" ({self.refused} more found its input buffer full)" if self.refused else ""
        return f"sent {self.sent}{lost}; received {self.received}{refused}"


@dataclass(frozen=True)
class Drop:
    """A datagram that did not arrive: who sent it, why it did not, and its bytes."""

    nic: str
    reason: str
    datagram: bytes

    def __str__(self) -> str:
        # As `vnet trace --drops` and `vnet capture` have it.
        from vnet.packetline import summary

        size = len(self.datagram)
        more = " ..." if size > _BYTES else ""
        words = f"{self.nic}  {self.reason}  {size} B  {summary(self.datagram, size)}"
        return f"{words}\n    {self.datagram[:_BYTES].hex(' ', 4)}{more}"


@dataclass
class Evidence:
    """What is known of a LAN's datagrams.

    Attributes:
        flows: by the NIC's name.
        drops: the last datagrams that did not arrive, the latest last.
    """

    flows: dict[str, Flow] = field(default_factory=dict)
    drops: deque[Drop] = field(default_factory=lambda: deque(maxlen=_SHOWN))

    def count(self, statistics: LanStatistics | None) -> None:
        """Takes over the LAN's own counters, which miss nothing, for the NICs that are still on it; they come first."""
        captured, self.flows = self.flows, {}
        for name, nic in statistics.nics.items() if statistics is not None else ():
            dropped = {verdict.name.lower(): count for verdict, count in nic.verdicts.items() if count}
            dropped.pop(Verdict.DELIVERED.name.lower(), None)
            self.flows[name] = Flow(nic.tx_datagrams, nic.rx_datagrams, nic.rx_dropped, Counter(dropped))
        self.flows = {**self.flows, **{name: flow for name, flow in captured.items() if name not in self.flows}}

    def lines(self) -> Iterator[str]:
        """The evidence for people: a line for each NIC, then the last drops."""
        width = max(map(len, self.flows), default=0)
        for name, flow in self.flows.items():
            yield f"{name:<{width}}  {flow}"
        if not self.flows:
            yield "the LAN had no NICs"
        elif not any(flow.dropped or flow.refused for flow in self.flows.values()):
            yield "nothing was dropped"
        if self.drops:
            yield "the last to be dropped:"
            for drop in self.drops:
                yield from str(drop).splitlines()


def read_evidence(paths: Iterable[Path]) -> Evidence:
    """Reads what a capture of :meth:`vnet.Lan.capture` tells.  A file that ends in the middle counts as far as it goes.

    Arguments:
        paths: its files, the oldest first.

    Raises:
        OSError: one cannot be read.
        ValueError: one is no capture.
    """
    evidence = Evidence()
    for path in paths:
        _read(evidence, path)
    return evidence


def _read(evidence: Evidence, path: Path) -> None:
    reader = PcapngReader()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            for packet in reader.feed(chunk):
                _count(evidence, packet)


def _count(evidence: Evidence, packet: CapturedPacket) -> None:
    name, told = packet.interface, packet.comment
    # "dropped: no_host", perhaps with more behind it.
    reason = told.removeprefix("dropped:").split()[0].strip(",;:") if told.startswith("dropped:") else ""
    flow = evidence.flows.setdefault(name, Flow())
    if packet.direction == "out":
        flow.sent += 1
        if reason:
            flow.dropped[reason] += 1
            evidence.drops.append(Drop(name, reason, packet.data))
    elif reason:
        flow.refused += 1
    else:
        flow.received += 1
