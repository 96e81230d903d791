"""What NICs and LANs count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from .verdict import Verdict

if TYPE_CHECKING:
    from ._native import Base, Segment

__all__ = ["LanStatistics", "NicStatistics"]


@dataclass(frozen=True)
class NicStatistics:
    """What one NIC sent and received since it joined.  rx and tx are as the NIC sees them."""

    tx_datagrams: int
    """Datagrams that the NIC sent, whatever became of them."""
    tx_bytes: int
    """Bytes of those that were delivered."""
    rx_datagrams: int
    """Datagrams put into its input buffer."""
    rx_bytes: int
    """Bytes put into its input buffer."""
    rx_dropped: int
    """Datagrams, copies of broadcasts included, that found its input buffer full."""
    verdicts: Mapping[Verdict, int]
    """What became of those that it sent; every verdict is a key."""
    doorbells_rung: int
    """Batches after which a receiver had to be woken."""
    doorbells_saved: int
    """Batches after which the receiver was busy and was left alone."""
    frames: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """What befell the frames of a guest behind a TAP device, by reason (docs/linux.md lists them); empty for others."""

    @property
    def delivered(self) -> int:
        """Datagrams that the NIC sent and that arrived."""
        return self.verdicts[Verdict.DELIVERED]

    @property
    def dropped(self) -> int:
        """Datagrams that the NIC sent and that did not arrive."""
        return self.tx_datagrams - self.delivered


@dataclass(frozen=True)
class LanStatistics:
    """What the NICs of a LAN count, by name."""

    nics: Mapping[str, NicStatistics]

    def total(self, verdict: Verdict) -> int:
        """Returns how many datagrams of all NICs came to ``verdict``."""
        return sum(nic.verdicts[verdict] for nic in self.nics.values())


def read_statistics(segment: Segment, slot: int, base: Base | None = None) -> NicStatistics:
    """Reads the counters of a slot; those of frames, too, where the LAN's ``base`` is in this process."""
    counts, tx_bytes, rx_datagrams, rx_bytes, rx_dropped, rung, saved = segment.counters(slot)
    return NicStatistics(
        tx_datagrams=sum(counts),
        tx_bytes=tx_bytes,
        rx_datagrams=rx_datagrams,
        rx_bytes=rx_bytes,
        rx_dropped=rx_dropped,
        verdicts=MappingProxyType({verdict: counts[verdict] for verdict in Verdict}),
        doorbells_rung=rung,
        doorbells_saved=saved,
        frames=MappingProxyType(base.tap_counters(slot) if base is not None else {}),
    )
