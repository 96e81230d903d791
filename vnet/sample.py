"""Samples: all counters of a LAN at one moment, with what one must know of the NICs to read them; rates between two."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from .statistics import NicStatistics, read_statistics
from .verdict import Verdict

if TYPE_CHECKING:
    from .lan import Lan

__all__ = ["REASONS", "NicRates", "NicSample", "Sample", "rates", "take"]

REASONS: tuple[Verdict, ...] = tuple(verdict for verdict in Verdict if verdict is not Verdict.DELIVERED)
"""The verdicts on datagrams that do not arrive, in the order of their numbers."""


@dataclass(frozen=True)
class NicSample:
    """A NIC at one moment: what :class:`vnet.NicInfo` says of it, and its counters."""

    name: str
    kind: str
    network: str
    addresses: tuple[str, ...]
    state: str
    statistics: NicStatistics


@dataclass(frozen=True)
class Sample:
    """A LAN at one moment.

    Attributes:
        lan: its name, or an empty string.
        time: seconds since the epoch.
        clock: seconds of a clock that only goes forward, for rates.
        nics: in the order in which they came.
    """

    lan: str
    time: float
    clock: float
    nics: tuple[NicSample, ...]

    def as_dict(self) -> dict[str, Any]:
        """Returns the same as plain values, for JSON."""
        return {
            "lan": self.lan,
            "time": self.time,
            "clock": self.clock,
            "nics": [
                {
                    "name": nic.name,
                    "kind": nic.kind,
                    "network": nic.network,
                    "addresses": list(nic.addresses),
                    "state": nic.state,
                    **_plain(nic.statistics),
                }
                for nic in self.nics
            ],
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Sample:
        """Makes a sample of what :meth:`as_dict` returned."""
        nics = (
            NicSample(
                name=nic["name"],
                kind=nic["kind"],
                network=nic["network"],
                addresses=tuple(nic["addresses"]),
                state=nic["state"],
                statistics=_statistics(nic),
            )
            for nic in plain["nics"]
        )
        return cls(plain["lan"], plain["time"], plain["clock"], tuple(nics))


_COUNTERS = ("tx_datagrams", "tx_bytes", "rx_datagrams", "rx_bytes", "rx_dropped", "doorbells_rung", "doorbells_saved")


def _plain(statistics: NicStatistics) -> dict[str, Any]:
    verdicts = {verdict.name.lower(): count for verdict, count in statistics.verdicts.items()}
    counters = {name: getattr(statistics, name) for name in _COUNTERS}
    return {**counters, "verdicts": verdicts, "frames": dict(statistics.frames)}


def _statistics(plain: Mapping[str, Any]) -> NicStatistics:
    verdicts = MappingProxyType({verdict: plain["verdicts"].get(verdict.name.lower(), 0) for verdict in Verdict})
    frames = MappingProxyType(dict(plain.get("frames", {})))
    return NicStatistics(**{name: plain[name] for name in _COUNTERS}, verdicts=verdicts, frames=frames)


def take(lan: Lan) -> Sample:
    """Takes a sample of a LAN in this process.

    Raises:
        LanClosed: the LAN is closed.
    """
    lan._check()
    register = lan._register
    with register.lock:
        register.bury_dropped()
        nics = [
            (register.info(entry), read_statistics(lan._segment, entry.slot, lan._base))
            for entry in register.nics.values()
        ]
    return Sample(
        lan=lan.name or "",
        time=time.time(),
        clock=time.monotonic(),
        nics=tuple(
            NicSample(info.name, info.kind, info.network, info.addresses, info.state, counters)
            for info, counters in nics
        ),
    )


@dataclass(frozen=True)
class NicRates:
    """What a NIC does each second, between two samples.

    Attributes:
        tx: datagrams that it sent, whatever became of them.
        tx_bits: bits of those that were delivered.
        rx: datagrams put into its input buffer.
        rx_bits: bits of those.
        rx_dropped: datagrams that found its input buffer full.
        drops: datagrams that it sent and that were dropped, by reason.
    """

    tx: float
    tx_bits: float
    rx: float
    rx_bits: float
    rx_dropped: float
    drops: Mapping[Verdict, float]

    @property
    def dropped(self) -> float:
        """Datagrams a second that it sent and that were dropped."""
        return sum(self.drops.values())


_NOTHING = NicStatistics(0, 0, 0, 0, 0, MappingProxyType(dict.fromkeys(Verdict, 0)), 0, 0)


def rates(before: Sample, after: Sample) -> dict[str, NicRates]:
    """Returns the rates of the NICs of ``after``, by name.

    A NIC that came in between, or whose counters went back because another has its name now, counts from zero.
    """
    seconds = after.clock - before.clock
    earlier = {nic.name: nic.statistics for nic in before.nics}
    found = {}
    for nic in after.nics:
        now, then = nic.statistics, earlier.get(nic.name, _NOTHING)
        if now.tx_datagrams < then.tx_datagrams or now.rx_datagrams < then.rx_datagrams:
            then = _NOTHING
        per = (lambda count: count / seconds) if seconds > 0 else (lambda count: 0.0)
        found[nic.name] = NicRates(
            tx=per(now.tx_datagrams - then.tx_datagrams),
            tx_bits=per(8 * (now.tx_bytes - then.tx_bytes)),
            rx=per(now.rx_datagrams - then.rx_datagrams),
            rx_bits=per(8 * (now.rx_bytes - then.rx_bytes)),
            rx_dropped=per(now.rx_dropped - then.rx_dropped),
            drops=MappingProxyType({reason: per(now.verdicts[reason] - then.verdicts[reason]) for reason in REASONS}),
        )
    return found
