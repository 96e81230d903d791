"""A LAN of plain dictionaries that keeps the promises of :class:`vnet.Lan` which the lab runner stands on.

It proves the runner without the base: what is built in which order, what is taken down, what becomes of failures.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vnet.errors import NameTaken
from vnet.statistics import LanStatistics
from vnet.verdict import Verdict

names: set[str] = set()


@dataclass
class FakeResult:
    destination: str
    sent: int
    received: int
    rtts: tuple[float, ...]
    errors: tuple[str, ...]

    @property
    def loss(self) -> float:
        return 1 - self.received / self.sent

    @property
    def avg(self) -> float:
        return sum(self.rtts) / len(self.rtts) if self.rtts else math.nan


@dataclass
class FakeRun:
    answer: FakeResult

    def result(self, timeout: float | None = None) -> FakeResult:
        return self.answer


@dataclass
class FakeHost:
    lan: FakeLan
    name: str

    def ping(
        self, dst: str, *, count: int = 1, interval: float = 0.0, timeout: float = 1.0, size: int = 56, ttl: int = 64
    ) -> FakeResult:
        there = self.lan.owner(dst) in self.lan.hosts
        rtts = (0.0001,) * count if there else ()
        return FakeResult(dst, count, len(rtts), rtts, () if there else ("no_host",) * count)

    def start_ping(self, dst: str, **settings: Any) -> FakeRun:
        return FakeRun(self.ping(dst, **settings))


@dataclass
class FakeNetns:
    """A namespace in which commands run as anywhere else, with a mark that they were told to enter it."""

    lan: FakeLan
    name: str
    settings: dict[str, Any]
    closed: bool = False

    def enter_words(self, words: Sequence[str]) -> tuple[list[str], tuple[int, ...]]:
        return ["/usr/bin/env", f"INSIDE={self.name}", *words], ()

    def close(self) -> None:
        self.closed = True


@dataclass
class FakeTap:
    lan: FakeLan
    name: str
    settings: dict[str, Any]
    closed: bool = False

    def close(self) -> None:
        self.closed = True


@dataclass
class FakeCapture:
    datagrams: int = 0
    missed: int = 0
    closed: bool = False

    def close(self) -> None:
        self.closed = True


@dataclass
class FakeLan:
    name: str | None
    prefix: None = None
    mtu: int = 65535
    seed: int = 0
    max_nics: int = 4096
    attaches: bool = True
    networks: dict[str, list[str]] = field(default_factory=dict)
    hosts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    reserved: dict[str, tuple[str, ...]] = field(default_factory=dict)
    namespaces: dict[str, FakeNetns] = field(default_factory=dict)
    taps: dict[str, FakeTap] = field(default_factory=dict)
    refuses: dict[str, Exception] = field(default_factory=dict)
    injected: list[tuple[str, bytes]] = field(default_factory=list)
    captures: list[FakeCapture] = field(default_factory=list)
    guarded: set[int] = field(default_factory=set)
    asked: dict[str, int] = field(default_factory=dict)
    served: set[str] = field(default_factory=set)
    about: dict[str, Any] = field(default_factory=dict)
    nics: dict[str, Any] = field(default_factory=dict)
    buffer: int = 4 << 20
    images: Any = False
    closed: bool = False

    def __post_init__(self) -> None:
        if self.name in names:
            raise NameTaken(f"a LAN called {self.name!r} is there already")
        names.add(str(self.name))

    def __enter__(self) -> FakeLan:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.closed = True
        names.discard(str(self.name))

    def add_network(self, name: str, prefix: Sequence[str], *, mtu: int = 65535) -> None:
        self.networks[name] = list(prefix)

    def host(self, name: str, address: Sequence[str], *, network: str, buffer: int | None = None) -> FakeHost:
        self.hosts[name] = tuple(address)
        return FakeHost(self, name)

    def reserve(self, name: str, address: Sequence[str], *, network: str, buffer: int | None = None) -> None:
        self.reserved[name] = tuple(address)

    def netns(self, name: str, address: Sequence[str], **settings: Any) -> FakeNetns:
        if name in self.refuses:
            raise self.refuses[name]
        self.namespaces[name] = FakeNetns(self, name, {"address": list(address), **settings})
        return self.namespaces[name]

    def tap(self, name: str, address: Sequence[str] | None, **settings: Any) -> FakeTap:
        if name in self.refuses:
            raise self.refuses[name]
        self.taps[name] = FakeTap(self, name, {"address": address and list(address), **settings})
        return self.taps[name]

    def remove(self, name: str) -> None:
        raise KeyError(name)

    def guard(self, group: int) -> None:
        self.guarded.add(group)

    def unguard(self, group: int) -> None:
        self.guarded.discard(group)

    def attached(self, name: str) -> bool:
        return self.attaches

    def attachments(self, name: str) -> int:
        self.asked[name] = self.asked.get(name, -1) + 1
        return self.asked[name] if self.attaches else 0

    def serve(self, do: str, handler: Any) -> None:
        self.served.add(do)

    def describe_as(self, **what: Any) -> None:
        self.about.update(what)

    def owner(self, address: str) -> str | None:
        everyone = {**self.hosts, **self.reserved}
        return next((name for name, addresses in everyone.items() if address in addresses), None)

    def inject(
        self, nic: str, datagrams: Sequence[bytes], *, block: bool = False, timeout: Any = None
    ) -> list[Verdict]:
        self.injected += [(nic, datagram) for datagram in datagrams]
        return [self._verdict(datagram) for datagram in datagrams]

    def _verdict(self, datagram: bytes) -> Verdict:
        if len(datagram) < 20 or datagram[0] >> 4 != 4:
            return Verdict.MALFORMED
        destination = ipaddress.IPv4Address(datagram[16:20])
        if self.owner(str(destination)):
            return Verdict.DELIVERED
        inside = any(destination in ipaddress.ip_network(p) for prefixes in self.networks.values() for p in prefixes)
        return Verdict.NO_HOST if inside else Verdict.NO_ROUTE

    def statistics(self) -> LanStatistics:
        return LanStatistics({})

    def capture(self, path: object) -> FakeCapture:
        self.captures.append(FakeCapture())
        return self.captures[-1]
