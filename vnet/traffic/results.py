"""What came of traffic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from vnet.verdict import Verdict

__all__ = ["FlowResult", "TrafficResult"]


@dataclass(frozen=True)
class FlowResult:
    """One flow.  Times in seconds; nan where nothing was measured.  Bytes and rates as in :class:`TrafficResult`.

    Attributes:
        source, destination: the guests' names.
        failure: why it did not come about; empty where it did.
    """

    source: str
    destination: str
    sent: int
    received: int
    bytes_sent: int
    bytes_received: int
    throughput: float
    jitter: float
    avg: float
    out_of_order: int
    duplicates: int
    failure: str = ""

    @property
    def loss(self) -> float:
        """Share of the datagrams that never arrived, 0 to 1; nan for TCP."""
        return 1 - self.received / self.sent if self.sent else math.nan


@dataclass(frozen=True)
class TrafficResult:
    """What came of traffic, over all flows.  Times in seconds; nan where nothing was measured, as latency of TCP.

    Attributes:
        protocol: ``udp`` or ``tcp``.
        seconds: from the first departure to the end of the last interval, or to the last arrival.
        sent, received: datagrams, received ones once each; 0 for TCP.
        bytes_sent, bytes_received: of IP datagrams for UDP, of the stream for TCP.
        throughput: received bits a second.
        jitter: RFC 3550 section 6.4.1, the mean of the flows.
        min, avg, max: latency, one way.
        out_of_order, duplicates: datagrams.
        verdicts: what the LAN said when the datagrams were sent.
        flows: each by itself.
    """

    protocol: str
    seconds: float
    sent: int
    received: int
    bytes_sent: int
    bytes_received: int
    throughput: float
    jitter: float
    min: float
    avg: float
    max: float
    out_of_order: int
    duplicates: int
    verdicts: Mapping[Verdict, int]
    flows: tuple[FlowResult, ...]
    _latencies: tuple[tuple[int, int], ...] = field(default=(), repr=False)

    @property
    def loss(self) -> float:
        """Share of the datagrams that never arrived, 0 to 1; nan for TCP."""
        return 1 - self.received / self.sent if self.sent else math.nan

    def percentile(self, share: float) -> float:
        """The latency in seconds that ``share`` (0 to 1) of the datagrams stay within, to three digits."""
        total = sum(count for _, count in self._latencies)
        if not total:
            return math.nan
        wanted, passed = max(1, math.ceil(share * total)), 0
        for value, count in self._latencies:
            passed += count
            if passed >= wanted:
                return min(value / 1e9, self.max)
        return self.max

    @property
    def p50(self) -> float:
        """Median latency in seconds."""
        return self.percentile(0.5)

    @property
    def p90(self) -> float:
        """Latency in seconds that 90% of the datagrams stay within."""
        return self.percentile(0.9)

    @property
    def p99(self) -> float:
        """Latency in seconds that 99% of the datagrams stay within."""
        return self.percentile(0.99)

    @property
    def failures(self) -> tuple[str, ...]:
        """Why flows did not come about, one sentence for each that did not."""
        return tuple(f"{flow.source} → {flow.destination}: {flow.failure}" for flow in self.flows if flow.failure)
