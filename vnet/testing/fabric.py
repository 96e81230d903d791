"""A LAN's tables and input buffers as plain Python objects: what :class:`vnet.testing.FakeLan` stands on.

It takes the place of the native base below :class:`vnet.register.Register`, so that names, addresses and their errors
are those of the real LAN, and forwards by the same rules.  The contract tests hold both to the same answers.
"""

from __future__ import annotations

import ipaddress
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import MappingProxyType

from vnet.errors import LanFull
from vnet.statistics import NicStatistics
from vnet.verdict import Verdict

__all__ = ["Fabric", "Place"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Prefix = ipaddress.IPv4Network | ipaddress.IPv6Network

_LARGEST = 65_535
# What an input buffer holds at the least, and what stands before each datagram in it.
_SMALLEST_BUFFER = 128 << 10
_RECORD = 16

_LIMITED_BROADCAST = ipaddress.IPv4Address("255.255.255.255")
_LINK_LOCAL = ipaddress.IPv6Network("fe80::/10")

# Answers of scripted peers to one datagram, and to the answers: two peers that answer each other never end.
_MOST_ANSWERS = 10_000


@dataclass
class Place:
    """A NIC's place in the fabric."""

    name: str
    network: int
    addresses: tuple[Address, ...]
    mtu: int
    capacity: int
    generation: int = 1
    up: bool = False
    removed: bool = False
    waiting: deque[bytes] = field(default_factory=deque)
    used: int = 0
    # Verdicts to order: what the next datagrams come to, whatever they are.
    ordered: deque[Verdict] = field(default_factory=deque)
    # Called, without the lock, with each datagram that arrives; it returns what is sent in answer.
    answer: Callable[[bytes], Iterable[bytes]] | None = None
    # Called with each answer and what became of it.
    told: Callable[[bytes, Verdict], None] | None = None
    # Called when datagrams begin or cease to wait, and at the end.
    ring: Callable[[], None] | None = None
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    tx_bytes: int = 0
    rx_datagrams: int = 0
    rx_bytes: int = 0
    rx_dropped: int = 0

    def statistics(self) -> NicStatistics:
        """What it has counted; nobody rings doorbells here."""
        return NicStatistics(
            tx_datagrams=self.verdicts.total(),
            tx_bytes=self.tx_bytes,
            rx_datagrams=self.rx_datagrams,
            rx_bytes=self.rx_bytes,
            rx_dropped=self.rx_dropped,
            verdicts=MappingProxyType({verdict: self.verdicts[verdict] for verdict in Verdict}),
            doorbells_rung=0,
            doorbells_saved=0,
        )


class Fabric:
    """The base of a fake LAN; the methods down to :meth:`forget` are those of ``vnet._native.Base``."""

    def __init__(self, max_nics: int) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.closed = False
        self.places: dict[int, Place] = {}
        self._most = max_nics
        self._networks: list[tuple[Prefix, ...]] = []
        self._next_slot = 1

    def add_network(self, v4: tuple[str, int] | None, v6: tuple[str, int] | None, mtu: int) -> int:
        """Adds a network and returns its number."""
        prefixes = (ipaddress.ip_network(f"{address}/{bits}") for address, bits in filter(None, (v4, v6)))
        self._networks.append(tuple(prefixes))
        return len(self._networks) - 1

    def add_nic(
        self,
        name: str,
        network: int,
        addresses: list[str],
        mac: int,
        mtu: int,
        ring_bytes: int,
        served: bool,
        up: bool,
        *,
        bridges: bool = False,
    ) -> tuple[int, int]:
        """Adds a NIC and returns its slot and generation."""
        with self.changed:
            if len(self.places) >= self._most:
                raise LanFull(f"the LAN has {self._most} NICs, as many as it was made for")
            capacity = 1 << (max(ring_bytes, _SMALLEST_BUFFER) - 1).bit_length()
            slot = self._next_slot
            self._next_slot += 1
            self.places[slot] = Place(name, network, tuple(map(ipaddress.ip_address, addresses)), mtu, capacity, up=up)
            return slot, 1

    def hold(self, slot: int) -> int:
        """Gives a NIC that is down to a new holder and returns the new generation."""
        with self.changed:
            place = self.places[slot]
            place.generation += 1
            place.up = True
            place.waiting.clear()
            place.used = 0
            return place.generation

    def take_down(self, slot: int, generation: int) -> bool:
        """Takes the NIC down."""
        with self.changed:
            place = self.places.get(slot)
            if place is None or place.generation != generation or not place.up:
                return False
            place.up = False
            self._tell(place)
            return True

    def remove(self, slot: int, generation: int) -> bool:
        """Takes the NIC off the LAN."""
        with self.changed:
            place = self.places.get(slot)
            if place is None or place.generation != generation:
                return False
            del self.places[slot]
            place.up, place.removed = False, True
            self._tell(place)
            return True

    def is_up(self, slot: int, generation: int) -> bool:
        """Whether somebody holds the NIC."""
        place = self.places.get(slot)
        return place is not None and place.up and place.generation == generation

    def new_token(self) -> int:
        """Owners of locks have names; there are no locks here."""
        return 0

    def forget(self, watch: int) -> None:
        """Nobody is watched here: guests are in this process."""

    def close(self) -> None:
        """Ends the LAN, and whoever waits for something on it."""
        with self.changed:
            self.closed = True
            for place in self.places.values():
                if place.ring is not None:
                    place.ring()
            self.changed.notify_all()

    def _tell(self, place: Place) -> None:
        if place.ring is not None:
            place.ring()
        self.changed.notify_all()

    # Forwarding

    def send(self, place: Place, datagram: bytes, *, wait: Callable[[], bool] | None = None) -> Verdict:
        """Forwards a datagram in the name of a NIC, and what scripted peers answer.  Returns its verdict.

        Arguments:
            wait: called, with the lock, where the receiver's buffer is full; the sender gives up when it returns false.
        """
        verdict, reached = self._forward(place, datagram, wait)
        answers = deque((peer, datagram) for peer in reached if peer.answer is not None)
        count = 0
        while answers:
            peer, received = answers.popleft()
            assert peer.answer is not None
            for answer in peer.answer(received):
                count += 1
                if count > _MOST_ANSWERS:
                    raise RuntimeError(f"{peer.name!r} and others answer each other without end")
                answered, reached = self._forward(peer, answer, None)
                if peer.told is not None:
                    peer.told(answer, answered)
                answers.extend((other, answer) for other in reached if other.answer is not None)
        return verdict

    def _forward(
        self, place: Place, datagram: bytes, wait: Callable[[], bool] | None
    ) -> tuple[Verdict, tuple[Place, ...]]:
        with self.changed:
            reached: tuple[Place, ...] = ()
            verdict = place.ordered.popleft() if place.ordered else None
            if verdict is None:
                verdict, reached = self._carry(place, datagram, wait)
            place.verdicts[verdict] += 1
            place.tx_bytes += len(datagram) if verdict is Verdict.DELIVERED else 0
            return verdict, reached

    def _carry(
        self, place: Place, datagram: bytes, wait: Callable[[], bool] | None
    ) -> tuple[Verdict, tuple[Place, ...]]:
        # 1 read
        destination = _destination(datagram)
        if isinstance(destination, Verdict):
            return destination, ()
        # 2 look up
        owner = self._owner(place.network, destination)
        everyone = None if owner is not None else self._everyone(place, destination)
        if isinstance(everyone, Verdict):
            return everyone, ()
        # An address whose NIC is down has nowhere to go, so the size does not matter; as on the real LAN.
        if owner is not None and not owner.up:
            return Verdict.NIC_DOWN, ()
        # 3 apply
        if len(datagram) > place.mtu:
            return Verdict.TOO_BIG, ()
        # 4 write
        if everyone is not None:
            reached = tuple(other for other in everyone if self._put(other, datagram))
            return (Verdict.DELIVERED if reached or not everyone else Verdict.BUFFER_FULL), reached
        assert owner is not None
        while not self._put(owner, datagram, patient=wait is not None):
            if wait is None or not wait():
                if wait is not None:
                    owner.rx_dropped += 1
                return Verdict.BUFFER_FULL, ()
            if not owner.up:
                return Verdict.NIC_DOWN, ()
        return Verdict.DELIVERED, (owner,)

    def _owner(self, network: int, destination: Address) -> Place | None:
        places = self.places.values()
        return next((each for each in places if each.network == network and destination in each.addresses), None)

    def _everyone(self, place: Place, destination: Address) -> list[Place] | Verdict:
        """Whom a datagram that no NIC has the address of is for."""
        own = next((prefix for prefix in self._networks[place.network] if prefix.version == destination.version), None)
        if own is None:
            return Verdict.NO_ROUTE
        subnet = own.version == 4 and own.prefixlen <= 30 and destination == own.broadcast_address
        if destination == _LIMITED_BROADCAST or subnet or destination.is_multicast:
            others = self.places.values()
            return [each for each in others if each is not place and each.up and each.network == place.network]
        on_link = destination in own or (own.version == 6 and destination in _LINK_LOCAL)
        return Verdict.NO_HOST if on_link else Verdict.NO_ROUTE

    def _put(self, place: Place, datagram: bytes, *, patient: bool = False) -> bool:
        """Puts a datagram into an input buffer; false where it has no room."""
        if place.answer is None:
            size = _RECORD + len(datagram) + -len(datagram) % 8
            if place.used + size > place.capacity:
                place.rx_dropped += not patient
                return False
            place.used += size
            place.waiting.append(datagram)
        place.rx_datagrams += 1
        place.rx_bytes += len(datagram)
        self._tell(place)
        return True

    def deliver(self, place: Place, datagram: bytes) -> bool:
        """Puts a datagram into a NIC's buffer as if somebody had sent it; false where it has no room."""
        with self.changed:
            return self._put(place, datagram)

    def take(self, place: Place, most: int) -> list[bytes]:
        """Takes up to ``most`` datagrams out of an input buffer."""
        with self.changed:
            taken = [place.waiting.popleft() for _ in range(min(most, len(place.waiting)))]
            place.used -= sum(_RECORD + len(each) + -len(each) % 8 for each in taken)
            if taken:
                self._tell(place)
            return taken


def _destination(datagram: bytes) -> Address | Verdict:
    if len(datagram) > _LARGEST:
        return Verdict.TOO_BIG
    version = datagram[0] >> 4 if datagram else 0
    if version == 4 and len(datagram) >= 20:
        return ipaddress.IPv4Address(datagram[16:20])
    if version == 6 and len(datagram) >= 40:
        return ipaddress.IPv6Address(datagram[24:40])
    return Verdict.MALFORMED
