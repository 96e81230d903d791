"""Probes: what is sent into a lab, in terms of the lab's own names, and what the kernel's routers make of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .schemes import Scheme

# Seconds in which a router that looks for a host gives up: three questions, 20 ms apart, in a busy kernel.
PATIENCE = 2.0


class Way:
    """A source and a destination for one probe, that no other has.

    Errors to one address are counted: a probe that had another's would be told less.
    """

    def __init__(self, scheme: Scheme, family: int, sender: str, number: int) -> None:
        self.scheme, self.family, self.sender = scheme, family, sender
        self._number = number
        self.src = self.at(sender)

    def at(self, host: str) -> str:
        """A host's address for this probe."""
        addresses = self.scheme.host_addresses(host, self.family)
        # The last is for the harness's own.
        assert self._number < len(addresses) - 1, "more probes than a host has addresses"
        return addresses[self._number]

    @property
    def dst(self) -> str:
        """The address of the other host."""
        return self.at(next(each for each in self.scheme.hosts if each != self.sender))

    def router(self, name: str, attached: str) -> str:
        """A router's address on a network, or on its link to another router; ``lo``: that of its loopback."""
        if attached == "lo":
            return next(each for each in self.scheme.routers[name]["lo"] if (":" in each) == (self.family == 6))
        return self.scheme.port(name, attached).address(self.family)

    def ip(self, dst: str | None = None, *, src: str | None = None, ttl: int = 64, tos: int = 0, **more: Any) -> Any:
        """An IP header of the family; 0x1234 identifies an IPv4 datagram."""
        from scapy.all import IP, IPv6

        src, dst = src or self.src, dst or self.dst
        if self.family == 4:
            return IP(src=src, dst=dst, ttl=ttl, tos=tos, **{"id": 0x1234, **more})
        return IPv6(src=src, dst=dst, hlim=ttl, tc=tos, **more)

    def echo(self, data: bytes = b"abcdefgh", **more: Any) -> Any:
        """An echo request of the family."""
        from scapy.all import ICMP, ICMPv6EchoRequest

        if self.family == 4:
            return ICMP(type=8, id=0x77, seq=3, **more) / data
        return ICMPv6EchoRequest(id=0x77, seq=3, data=data, **more)


Made = Any  # a scapy packet, bytes, or several of them


@dataclass(frozen=True)
class Probe:
    """What is sent, and the fact that it shows.

    Arguments:
        name: the fact.
        make: makes it.
        told: what the kernel's routers do with it, as :func:`answers.told` says; a dictionary where families differ.
        families: those that it is for.
        sender: the host.
        wait: seconds until an answer may begin to come.
        differs: what vnet's do, where that is meant to be something else.
    """

    name: str
    make: Callable[[Way], Made]
    told: str | dict[int, str]
    families: Sequence[int] = (4, 6)
    sender: str = "a"
    wait: float = 0.0
    differs: str | None = None

    def datagrams(self, way: Way) -> list[bytes]:
        """The bytes to send."""
        from scapy.all import raw

        made = self.make(way)
        several = made if isinstance(made, list) else [made]
        return [each if isinstance(each, bytes) else bytes(raw(each)) for each in several]

    def expected(self, family: int) -> str:
        """What the kernel's routers do with it."""
        return self.told if isinstance(self.told, str) else self.told[family]


def cases(probes: Sequence[Probe]) -> list[Any]:
    """Parameters for a test: each probe with each of its families."""
    import pytest

    named = {f"IPv{family}: {probe.name}": (probe, family) for probe in probes for family in probe.families}
    assert len(named) == sum(len(probe.families) for probe in probes), "two probes have one name"
    return [pytest.param(*case, id=name) for name, case in named.items()]
