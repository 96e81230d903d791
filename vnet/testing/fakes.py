"""A LAN and NICs in plain Python, for unit tests: they answer to a script, fail to order, and note what was sent."""

from __future__ import annotations

import contextlib
import math
import os
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, cast

from vnet.errors import LanClosed, NicClosed, ReceiveTimeout
from vnet.network import Network, parse_prefixes
from vnet.nic import DatagramView
from vnet.register import LARGEST, Entry, NicInfo, Register
from vnet.runtime import check_name
from vnet.statistics import LanStatistics, NicStatistics
from vnet.testing.fabric import Fabric, Place
from vnet.verdict import Verdict

if TYPE_CHECKING:
    import asyncio

    from vnet._native import Base, Held
    from vnet.nic import Nic

__all__ = ["Answer", "FakeLan", "FakeNic", "Sent", "echo"]

Answer = Callable[[bytes], "bytes | Iterable[bytes] | None"]
"""What a scripted peer does with a datagram that reaches it: it returns what it sends in answer, if anything."""


class Sent(NamedTuple):
    """A datagram that a NIC sent, and what became of it."""

    datagram: bytes
    verdict: Verdict


class FakeNic:
    """A NIC of a :class:`FakeLan`: the attributes and methods of :class:`vnet.Nic`, and what a test needs beside.

    Attributes:
        sent: what it has sent so far, and what became of it.
        name, lan, network, addresses, mac, mtu: as of :class:`vnet.Nic`.
    """

    def __init__(self, lan: FakeLan, entry: Entry, place: Place) -> None:
        info = lan._register.info(entry)
        self.name, self.lan, self.network = info.name, lan.name, info.network
        self.addresses, self.mac, self.mtu = info.addresses, info.mac, info.mtu
        self.sent: list[Sent] = []
        self._fabric, self._register = lan._fabric, lan._register
        self._entry, self._place = entry, place
        self._generation = entry.generation
        self._closed = False
        self._descriptor: int | None = None
        self._waiting: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        self._pid = os.getpid()
        # The LAN does not keep a NIC that nobody holds any more.
        ring = weakref.WeakMethod(self._ring)
        place.ring = lambda: _call(ring())

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            # Stacks and what guests share need a segment, and memory and descriptors of the kernel's.
            raise AttributeError(f"a FakeNic has no {name!r}; a NIC of a real LAN has all, as of the fixture `lan`")

    # For the test

    def order(self, verdict: Verdict, count: int = 1) -> None:
        """Has the next ``count`` datagrams that this NIC sends come to ``verdict``, whatever they are.

        They go nowhere.  With ``block=True`` too: an ordered ``BUFFER_FULL`` is one whose time is over.

        Raises:
            ValueError: the verdict is ``DELIVERED``, which only the LAN can see to.
        """
        if verdict is Verdict.DELIVERED:
            raise ValueError("a datagram is not delivered to order: let a NIC or a scripted peer have its destination")
        with self._fabric.changed:
            self._place.ordered.extend([verdict] * count)

    def deliver(self, *datagrams: Any) -> None:
        """Puts datagrams into this NIC's input buffer, as if somebody on the LAN had sent them.

        Raises:
            OverflowError: the input buffer has no room.
        """
        self.check()
        for datagram in map(_bytes, datagrams):
            if not self._fabric.deliver(self._place, datagram):
                raise OverflowError(f"the input buffer of {self.name!r} has no room for {len(datagram)} bytes more")

    # As of vnet.Nic

    @property
    def address(self) -> str:
        """The first of its addresses."""
        return self.addresses[0]

    def send(self, datagram: Any, *, block: bool = False, timeout: float | None = None) -> Verdict:
        """As of :class:`vnet.Nic`."""
        return self._send([_bytes(datagram)], block, timeout)[0]

    def send_many(
        self, datagrams: Iterable[Any], *, block: bool = False, timeout: float | None = None
    ) -> list[Verdict]:
        """As of :class:`vnet.Nic`."""
        return self._send([_bytes(datagram) for datagram in datagrams], block, timeout)

    def _send(self, datagrams: list[bytes], block: bool, timeout: float | None) -> list[Verdict]:
        deadline = _deadline(timeout)
        self.check()
        verdicts = []
        for datagram in datagrams:
            verdict = self._fabric.send(self._place, datagram, wait=self._room(deadline) if block else None)
            self.sent.append(Sent(datagram, verdict))
            verdicts.append(verdict)
        return verdicts

    def _room(self, deadline: float) -> Callable[[], bool]:
        def wait() -> bool:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._fabric.changed.wait(min(left, 0.1))
            self.check()
            return True

        return wait

    def recv(self, timeout: float | None = None) -> bytes:
        """As of :class:`vnet.Nic`."""
        return self.recv_many(1, timeout)[0]

    def recv_many(self, max: int = 1024, timeout: float | None = None) -> list[bytes]:
        """As of :class:`vnet.Nic`."""
        if max < 1:
            raise ValueError("max is at least 1")
        deadline = _deadline(timeout)
        with self._fabric.changed:
            while True:
                self.check()
                if taken := self._fabric.take(self._place, max):
                    return taken
                left = deadline - time.monotonic()
                if left <= 0:
                    raise ReceiveTimeout("no datagram came in time")
                self._fabric.changed.wait(min(left, 0.1))

    def recv_view(self, timeout: float | None = None) -> DatagramView:
        """As of :class:`vnet.Nic`, but nobody writes over a view that is read after its end."""
        return DatagramView(cast("Nic", self), memoryview(self.recv(timeout)), cast("Held", self))

    def release_record(self, held: Held) -> None:
        """What :class:`vnet.DatagramView` calls."""

    def fileno(self) -> int:
        """As of :class:`vnet.Nic`."""
        self.check()
        with self._fabric.changed:
            if self._descriptor is None:
                self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
                weakref.finalize(self, os.close, self._descriptor)
                self._ring()
            return self._descriptor

    def _ring(self) -> None:
        """Has the descriptor be readable while datagrams wait, and for ever once the NIC has ended."""
        if self._descriptor is None:
            return
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._descriptor)
        if self._place.waiting or self._over():
            os.eventfd_write(self._descriptor, 1)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while True:
            try:
                return self.recv(timeout=0)
            except ReceiveTimeout:
                await self._readable()
            except NicClosed:
                raise StopAsyncIteration from None

    async def _readable(self) -> None:
        import asyncio

        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        descriptor = self.fileno()
        # A loop has one reader for a descriptor, which all tasks that wait for this NIC share.
        waiting = self._waiting.setdefault(loop, [])
        if not waiting:
            loop.add_reader(descriptor, _settle, waiting)
        waiting.append(future)
        try:
            await future
        finally:
            waiting.remove(future)
            if not waiting:
                loop.remove_reader(descriptor)
                self._waiting.pop(loop, None)

    def set_spin(self, spin: str) -> None:
        """As of :class:`vnet.Nic`; nobody polls here."""
        if spin not in ("never", "adaptive", "always"):
            raise ValueError("spin is never, adaptive or always")

    def statistics(self) -> NicStatistics:
        """As of :class:`vnet.Nic`; no doorbells are rung."""
        with self._fabric.changed:
            return self._place.statistics()

    def _over(self) -> bool:
        return self._closed or self._fabric.closed or self._place.removed or not self._place.up

    def check(self) -> None:
        """Raises what makes the NIC unusable, if something does."""
        if self._fabric.closed and not self._closed:
            raise LanClosed("the LAN is closed")
        if self._over() or self._place.generation != self._generation:
            raise NicClosed(f"the NIC {self.name!r} is off the LAN")

    def close(self) -> None:
        """As of :class:`vnet.Nic`."""
        if not self._closed:
            self._closed = True
            self._register.leave(self._entry, self._generation)
            with self._fabric.changed:
                self._ring()
                self._fabric.changed.notify_all()

    def __del__(self) -> None:
        # Without close(): whoever comes next finds the name free.
        with contextlib.suppress(AttributeError):
            if not self._closed:
                self._register.drop(self._entry, self._generation)

    def __enter__(self) -> FakeNic:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<FakeNic {self.name} {' '.join(self.addresses)} on {self.lan or 'a fake LAN'}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"NIC {self.name!r} cannot be pickled: what it stands for cannot be either")


class FakeLan:
    """A LAN in plain Python, private to this process: no shared memory, no threads, nothing of Rust.

    It gives out names and addresses and forwards by the rules of :class:`vnet.Lan`; arguments, results and errors of
    what it has are the same, and the same tests hold both.  It has no built-in hosts, captures or other processes.

    Arguments:
        name, prefix, mtu, max_nics, buffer: as of :class:`vnet.Lan`; nobody finds the name.
    """

    def __init__(
        self,
        name: str | None = None,
        prefix: str | Sequence[str] | None = None,
        *,
        mtu: int = LARGEST,
        max_nics: int = 4096,
        buffer: int = 4 << 20,
    ) -> None:
        if name is not None:
            check_name("LAN", name)
        if not 1 <= max_nics <= 65_533:
            raise ValueError(f"max_nics is 1 to 65,533, not {max_nics}")
        if not 256 << 10 <= buffer <= 1 << 30:
            raise ValueError(f"buffer is 256 KiB to 1 GiB, not {buffer} bytes")
        self.name = name
        self._fabric = Fabric(max_nics)
        self._register = Register(cast("Base", self._fabric), name, buffer)
        if prefix is not None:
            self._register.add_network("lan", parse_prefixes(prefix), mtu)

    # For the test

    def peer(
        self, name: str, answer: Answer, address: str | Sequence[str] | None = None, *, network: str | None = None
    ) -> FakeNic:
        """Plugs a scripted peer into the LAN and returns its NIC, whose ``sent`` is what it has answered.

        It has no input buffer: each datagram that reaches it goes to ``answer``, in the sender's thread and before the
        sender's ``send`` returns, and what that returns is sent in the peer's name.

        Arguments:
            answer: gets a datagram; returns one or several in answer, or ``None``.
            name, address, network: as of :meth:`attach`.
        """
        nic = self.attach(name, address, network=network)

        def answers(datagram: bytes) -> list[bytes]:
            given = answer(datagram)
            if given is None:
                return []
            single = isinstance(given, bytes | bytearray | memoryview) or hasattr(given, "__bytes__")
            return [_bytes(each) for each in ([given] if single else given)]

        nic._place.answer = answers
        nic._place.told = lambda datagram, verdict: nic.sent.append(Sent(datagram, verdict))
        return nic

    # As of vnet.Lan

    @property
    def closed(self) -> bool:
        """Whether the LAN has ended."""
        return self._fabric.closed

    @property
    def networks(self) -> Mapping[str, Network]:
        """The networks by name."""
        return MappingProxyType(self._register.networks)

    def add_network(self, name: str, prefix: str | Sequence[str], *, mtu: int = LARGEST) -> Network:
        """As of :class:`vnet.Lan`."""
        self._check()
        return self._register.add_network(check_name("network", name), parse_prefixes(prefix), mtu)

    def remove_network(self, name: str) -> None:
        """As of :class:`vnet.Lan`."""
        self._check()
        self._register.remove_network(name)

    @property
    def nics(self) -> Mapping[str, NicInfo]:
        """What is known of each NIC, by name, in the order in which they came."""
        with self._register.lock:
            self._register.bury_dropped()
            return MappingProxyType({name: self._register.info(each) for name, each in self._register.nics.items()})

    def attach(
        self,
        name: str,
        address: str | Sequence[str] | None = None,
        *,
        network: str | None = None,
        buffer: int | None = None,
    ) -> FakeNic:
        """As of :class:`vnet.Lan`."""
        self._check()
        entry = self._register.join(name, "process", address, network, buffer)
        return FakeNic(self, entry, self._fabric.places[entry.slot])

    def reserve(
        self,
        name: str,
        address: str | Sequence[str] | None = None,
        *,
        network: str | None = None,
        buffer: int | None = None,
    ) -> NicInfo:
        """As of :class:`vnet.Lan`."""
        self._check()
        with self._register.lock:
            return self._register.info(self._register.join(name, "process", address, network, buffer, reserve=True))

    def remove(self, name: str) -> None:
        """As of :class:`vnet.Lan`."""
        self._check()
        if not self._register.withdraw(name):
            raise KeyError(name)

    def attached(self, name: str) -> bool:
        """As of :class:`vnet.Lan`."""
        with self._register.lock:
            entry = self._register.nics.get(name)
            return entry is not None and self._register.is_up(entry)

    def inject(
        self, nic: str, datagrams: Iterable[Any], *, block: bool = False, timeout: float | None = None
    ) -> list[Verdict]:
        """As of :class:`vnet.Lan`."""
        self._check()
        with self._register.lock:
            place = self._fabric.places[self._register.nics[nic].slot]
        deadline = _deadline(timeout)

        def wait() -> bool:
            left = deadline - time.monotonic()
            if left > 0:
                self._fabric.changed.wait(min(left, 0.1))
            self._check()
            return left > 0

        kept = [_bytes(datagram) for datagram in datagrams]
        return [self._fabric.send(place, datagram, wait=wait if block else None) for datagram in kept]

    def statistics(self) -> LanStatistics:
        """As of :class:`vnet.Lan`."""
        self._check()
        with self._register.lock, self._fabric.changed:
            entries = self._register.nics.items()
            counts = {name: self._fabric.places[entry.slot].statistics() for name, entry in entries}
        return LanStatistics(MappingProxyType(counts))

    def _check(self) -> None:
        if self.closed:
            raise LanClosed(f"the LAN {self.name!r} is closed" if self.name else "this LAN is closed")

    def close(self) -> None:
        """Ends the LAN.  Every NIC raises :class:`vnet.LanClosed` from now on.  May be called twice."""
        if not self.closed:
            self._fabric.close()
            self._register.closed = True

    def __enter__(self) -> FakeLan:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<FakeLan {self.name or '(private)'}: {len(self._register.nics)} NICs{', closed' * self.closed}>"


def echo(datagram: bytes) -> bytes | None:
    """An :data:`Answer` that answers echo requests over IPv4 and IPv6 as a host does, and nothing else.

    The reply has the request's payload; the checksums follow from the request's (RFC 1624), so that a wrong one stays
    wrong.
    """
    version = datagram[0] >> 4 if datagram else 0
    header = (datagram[0] & 15) * 4 if version == 4 else 40
    request, reply, protocol = (8, 0, 1) if version == 4 else (128, 129, 58)
    if len(datagram) < header + 8 or datagram[9 if version == 4 else 6] != protocol or datagram[header] != request:
        return None
    swapped = bytearray(datagram)
    at, size = (12, 4) if version == 4 else (8, 16)
    # Sums do not change with the order of what is summed: neither the header's nor, of ICMPv6, the pseudo header's.
    swapped[at : at + 2 * size] = datagram[at + size : at + 2 * size] + datagram[at : at + size]
    swapped[header] = reply
    before = int.from_bytes(datagram[header + 2 : header + 4], "big")
    total = (before ^ 0xFFFF) + ((request << 8) ^ 0xFFFF) + (reply << 8)
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    swapped[header + 2 : header + 4] = (total ^ 0xFFFF).to_bytes(2, "big")
    return bytes(swapped)


def _bytes(datagram: Any) -> bytes:
    """A datagram's bytes, from what :class:`vnet.Nic` takes."""
    if not isinstance(datagram, int | str | list | tuple | None):
        with contextlib.suppress(TypeError):
            return bytes(datagram)
    raise TypeError(f"a datagram is bytes-like or a scapy packet, not {type(datagram).__name__}")


def _deadline(timeout: float | None) -> float:
    if timeout is None:
        return math.inf
    if math.isnan(timeout) or timeout < 0:
        raise ValueError("timeout is in seconds and at least 0")
    return time.monotonic() + timeout


def _call(function: Callable[[], None] | None) -> None:
    if function is not None:
        function()


def _settle(waiting: list[asyncio.Future[None]]) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(None)
