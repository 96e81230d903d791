"""What became of the datagrams of a LAN: from its counters, and from a capture of it."""

from __future__ import annotations

import ipaddress
import struct
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vnet.statistics import LanStatistics
from vnet.verdict import Verdict

__all__ = ["Drop", "Evidence", "Flow", "describe", "read_evidence"]

# Drops that a report shows one by one, and bytes of each.
_SHOWN = 8
_BYTES = 28

# pcapng, draft-ietf-opsawg-pcapng: block types, and the options that matter here.
_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_COMMENT, _IF_NAME, _FLAGS = 1, 2, 2
_OUTBOUND = 2

_PROTOCOLS = {1: "ICMP", 2: "IGMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP"}


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
        first = self.datagram[:_BYTES].hex(" ", 4)
        more = " ..." if len(self.datagram) > _BYTES else ""
        return f"{self.nic}  {self.reason}  {describe(self.datagram)}\n    {first}{more}"


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
    """
    evidence = Evidence()
    for path in paths:
        _read(evidence, path)
    return evidence


def _read(evidence: Evidence, path: Path) -> None:
    interfaces: list[str] = []
    with path.open("rb") as file:
        while len(head := file.read(8)) == 8:
            # Captures are written in the machine's own byte order.
            kind, length = struct.unpack("=II", head)
            body = file.read(max(0, length - 8))
            if len(body) < length - 8 or length < 12:
                break
            if kind == _SECTION:
                interfaces.clear()
            elif kind == _INTERFACE:
                options = dict(_options(body[8:-4]))
                name = options.get(_IF_NAME, b"").decode("utf-8", "replace") or f"nic{len(interfaces)}"
                interfaces.append(name)
                evidence.flows.setdefault(name, Flow())
            elif kind == _PACKET:
                _count(evidence, interfaces, body)


def _count(evidence: Evidence, interfaces: list[str], body: bytes) -> None:
    interface, _, _, captured, _ = struct.unpack_from("=IIIII", body)
    datagram = body[20 : 20 + captured]
    reason, outbound = "", False
    for code, value in _options(body[20 + captured + -captured % 4 : -4]):
        if code == _FLAGS:
            outbound = struct.unpack("=I", value)[0] & 3 == _OUTBOUND
        elif code == _COMMENT:
            text = value.decode("utf-8", "replace")
            # "dropped: no_host", perhaps with more behind it.
            reason = text.removeprefix("dropped:").split()[0].strip(",;:") if text.startswith("dropped:") else reason
    name = interfaces[interface] if interface < len(interfaces) else f"nic{interface}"
    flow = evidence.flows.setdefault(name, Flow())
    if outbound:
        flow.sent += 1
        if reason:
            flow.dropped[reason] += 1
            evidence.drops.append(Drop(name, reason, datagram))
    elif reason:
        flow.refused += 1
    else:
        flow.received += 1


def _options(data: bytes) -> Iterable[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(data):
        code, length = struct.unpack_from("=HH", data, at)
        if code == 0:
            return
        yield code, data[at + 4 : at + 4 + length]
        at += 4 + length + -length % 4


def describe(datagram: bytes) -> str:
    """Returns a datagram in a few words: ``UDP 10.0.0.1:4000 > 10.0.0.9:53, 33 bytes, ttl 64``.

    It never fails, whatever the bytes are.
    """
    size = f"{len(datagram)} bytes"
    version = datagram[0] >> 4 if datagram else 0
    if version == 4 and len(datagram) >= 20:
        source, destination = ipaddress.ip_address(datagram[12:16]), ipaddress.ip_address(datagram[16:20])
        header, protocol, hops = (datagram[0] & 15) * 4, datagram[9], f"ttl {datagram[8]}"
        # A fragment but the first has no header of the protocol.
        if int.from_bytes(datagram[6:8], "big") & 0x1FFF:
            return f"fragment {source} > {destination}, {_PROTOCOLS.get(protocol, f'protocol {protocol}')}, {size}"
    elif version == 6 and len(datagram) >= 40:
        source, destination = ipaddress.ip_address(datagram[8:24]), ipaddress.ip_address(datagram[24:40])
        header, protocol, hops = 40, datagram[6], f"hop limit {datagram[7]}"
    else:
        return f"no IP datagram, {size}"
    name = _PROTOCOLS.get(protocol, f"protocol {protocol}")
    upper = datagram[header:]
    if name in ("TCP", "UDP", "SCTP") and len(upper) >= 4:
        ports = [int.from_bytes(upper[at : at + 2], "big") for at in (0, 2)]
        ends = (f"[{each}]" if version == 6 else f"{each}" for each in (source, destination))
        where = " > ".join(f"{end}:{port}" for end, port in zip(ends, ports, strict=True))
    else:
        where = f"{source} > {destination}"
        if protocol in (1, 58) and len(upper) >= 2:
            name += f" type {upper[0]} code {upper[1]}"
    return f"{name} {where}, {size}, {hops}"
