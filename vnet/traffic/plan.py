"""What traffic sends."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEFAULT_PORT", "DEFAULT_RATE", "DEFAULT_SIZE", "IMIX", "TrafficPlan"]

IMIX = (64, 64, 576, 64, 64, 576, 64, 576, 64, 64, 576, 1500)
"""The simple Internet mix, in bytes of IP: of twelve datagrams 7 of 64, 4 of 576 and 1 of 1,500."""

DEFAULT_PORT = 5201
DEFAULT_RATE = 1e6
DEFAULT_SIZE = 1400
# Bytes of the payload that carry the flow, the number and the time.
_MARK = 16
_LARGEST_RATE = 1e12


@dataclass(frozen=True)
class TrafficPlan:
    """What each flow sends.

    Attributes:
        protocol: ``udp`` or ``tcp``.
        rate: bits of IP a second (UDP).
        datagrams: in place of ``rate``: datagrams a second (UDP).
        sizes: bytes of IP of the datagrams, which take turns (UDP).
        duration: seconds to send.
        count: in place of ``duration``: datagrams (UDP).
        size: in place of ``duration``: bytes (TCP).
        flows: between each pair of guests.
        port: at the receiver.

    Raises:
        ValueError: it cannot be sent; the message is one sentence.
    """

    protocol: str = "udp"
    rate: float | None = DEFAULT_RATE
    datagrams: float | None = None
    sizes: tuple[int, ...] = (DEFAULT_SIZE,)
    duration: float | None = 1.0
    count: int | None = None
    size: int | None = None
    flows: int = 1
    port: int = DEFAULT_PORT

    def __post_init__(self) -> None:
        if self.protocol not in ("udp", "tcp"):
            raise ValueError(f"protocol is 'udp' or 'tcp', not {self.protocol!r}")
        if not 1 <= self.port <= 65_535:
            raise ValueError(f"port is 1 to 65,535, not {self.port}")
        if not 1 <= self.flows <= 1000:
            raise ValueError(f"flows is 1 to 1,000, not {self.flows}")
        number = self.count if self.protocol == "udp" else self.size
        if (self.duration is None) is (number is None):
            raise ValueError(f"expected either a duration or a {'count' if self.protocol == 'udp' else 'size'}")
        if self.duration is not None and not 0 < self.duration <= 86_400:
            raise ValueError(f"duration is above 0 s and at most a day, not {self.duration:g} s")
        if number is not None and number < 1:
            raise ValueError(f"{'count' if self.protocol == 'udp' else 'size'} is at least 1, not {number}")
        rate = self.rate if self.datagrams is None else self.datagrams
        if self.protocol == "udp" and (rate is None or not 0 < rate <= _LARGEST_RATE):
            raise ValueError(f"a rate is above 0 and at most 10^12 a second, not {rate}")

    def check_size(self, family: int, mtu: int) -> None:
        """Whether datagrams of these sizes can be sent over IPv4 or IPv6 on a network of this MTU.

        Raises:
            ValueError: one is too small to carry what is measured by, or larger than the MTU.
        """
        least = _MARK + (28 if family == 4 else 48)
        for size in self.sizes if self.protocol == "udp" else ():
            if size < least:
                raise ValueError(
                    f"a datagram of IPv{family} that can be measured has at least {least} bytes, not {size}"
                )
            if size > mtu:
                raise ValueError(f"a datagram of {size} bytes is larger than the MTU of {mtu}")

    def seconds(self) -> float:
        """About how long a flow sends; 0 where that depends on how fast it goes."""
        if self.duration is not None:
            return self.duration
        if self.protocol == "tcp" or self.count is None:
            return 0.0
        if self.datagrams is not None:
            return self.count / self.datagrams
        return self.count * sum(self.sizes) / len(self.sizes) * 8 / (self.rate or DEFAULT_RATE)
