"""A NIC in this process."""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

from ._native import Held, Port, Segment
from .errors import ForkedNic, NicClosed, ReceiveTimeout, VnetError
from .sharing.guest import Sharing
from .statistics import NicStatistics, read_statistics

if TYPE_CHECKING:
    import asyncio
    import weakref

    from .sharing.doors import Door
    from .stack import Stack

__all__ = ["DatagramView", "Nic"]


class DatagramView:
    """A datagram read in place, in the NIC's input buffer.

    Good until it is released, or until the NIC receives again; then senders write over it.  Use it as a context
    manager, which gives the :class:`memoryview`, or read :attr:`data` and call :meth:`release`.
    """

    def __init__(self, nic: Nic, data: memoryview, held: Held) -> None:
        self.data = data
        self._nic = nic
        self._held: Held | None = held

    def release(self) -> None:
        """Gives the datagram's place back to the senders.  May be called twice."""
        held, self._held = self._held, None
        if held is not None:
            with contextlib.suppress(BufferError):
                self.data.release()
            if os.getpid() != self._nic._pid:
                # The place in the buffer is the parent's to give back.
                return
            with contextlib.suppress(VnetError):
                self._nic.release_record(held)

    def __enter__(self) -> memoryview:
        return self.data

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __del__(self) -> None:
        self.release()

    def __len__(self) -> int:
        return len(self.data)

    def __bytes__(self) -> bytes:
        return bytes(self.data)


class Nic(Port, Sharing):
    """A virtual NIC of a LAN, held by this process.

    Made by :meth:`vnet.Lan.attach` and :func:`vnet.attach`.  A context manager; :meth:`close` may be called twice.
    Threads of the process may share it.  It cannot be pickled, and a forked child cannot use it.

    Attributes:
        name: unique on the LAN.
        lan: the LAN's name, or ``None`` for a LAN without one.
        network: the name of its network.
        addresses: its IP addresses, IPv4 first.
        mac: its MAC address, as in ``02:5e:10:0a:4b:01``.
        mtu: largest datagram in bytes of IP.

    Methods of the native base, beside those below:

    ``send(datagram, *, block=False, timeout=None)`` forwards one datagram (bytes-like, or a scapy packet) and returns
    its :class:`vnet.Verdict`.  With ``block`` it waits for room, up to ``timeout`` seconds, where the receiver's input
    buffer is full.

    ``send_many(datagrams, *, block=False, timeout=None)`` forwards several, in order, and returns a list of verdicts.

    ``recv(timeout=None)`` returns the next datagram as bytes.  ``timeout`` in seconds, 0 to look only, ``None`` to wait
    for ever; raises :class:`vnet.ReceiveTimeout`.

    ``recv_many(max=1024, timeout=None)`` waits for a datagram and returns a list of those that are there.

    ``fileno()`` returns a descriptor that is readable while datagrams wait, for ``select``, ``selectors`` and asyncio.

    All of them raise :class:`vnet.LanClosed` when the base has ended, :class:`vnet.NicClosed` when the NIC is off the
    LAN, :class:`vnet.ForkedNic` in a forked child.
    """

    name: str
    lan: str | None
    network: str
    addresses: tuple[str, ...]
    mac: str
    mtu: int
    _leave: Callable[[], None]
    _drop: Callable[[int], None]
    _generation: int
    _waiting: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]]
    _connection: socket.socket | None
    _way: Door | None
    _memory: mmap.mmap | None
    _stack: weakref.ref[Stack] | None

    @classmethod
    def _make(
        cls,
        segment: Segment,
        slot: int,
        generation: int,
        token: int,
        *,
        name: str,
        lan: str | None,
        network: str,
        addresses: tuple[str, ...],
        mac: str,
        mtu: int,
        leave: Callable[[], None],
        drop: Callable[[int], None] | None = None,
        connection: socket.socket | None = None,
        door: Door | None = None,
    ) -> Nic:
        nic = cls(segment, slot, generation, token, connection.fileno() if connection else None)
        nic.name, nic.lan, nic.network = name, lan, network
        nic.addresses, nic.mac, nic.mtu = addresses, mac, mtu
        nic._leave, nic._drop = leave, drop or _nothing
        nic._generation = generation
        nic._waiting = {}
        nic._connection = connection
        nic._way = door
        nic._memory = None
        nic._stack = None
        nic._pid = os.getpid()
        return nic

    _pid: int

    @property
    def address(self) -> str:
        """The first of its addresses."""
        return self.addresses[0]

    def recv_view(self, timeout: float | None = None) -> DatagramView:
        """Returns the next datagram without copying it.

        Arguments:
            timeout: seconds to wait; 0 to look only, ``None`` to wait for ever.

        Returns:
            A context manager that gives a read-only :class:`memoryview` into the input buffer.

        Raises:
            ReceiveTimeout: no datagram came in time.
            LanClosed, NicClosed, ForkedNic: the NIC cannot be used.
        """
        at, length, held = self.hold_record(timeout)
        if self._memory is None:
            segment = self.segment
            self._memory = mmap.mmap(segment.files()[1], segment.sizes()[1], access=mmap.ACCESS_READ)
        return DatagramView(self, memoryview(self._memory)[at : at + length], held)

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
        # A third of the time that it takes to import vnet, for those who need it.
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

    def stack(self, *, seed: int | None = None) -> Stack:
        """Gives the NIC a TCP/IP stack of its own, and so sockets on the LAN: connect, listen, HTTP, asyncio.

        While the stack is open the NIC's datagrams are its own, and :meth:`recv` gets none.  A NIC has one stack at a
        time; closing the NIC closes it.

        Arguments:
            seed: what its choices follow from, such as first sequence numbers; ``None`` for random ones.

        Returns:
            A context manager, whose end closes the stack and leaves the NIC open.

        Raises:
            ValueError: the NIC has a stack already, or the seed is not 0 to 2**64 - 1.
            LanClosed, NicClosed, ForkedNic: the NIC cannot be used.
        """
        import weakref

        from .stack import Stack

        stack = Stack(self, seed)
        # The stack holds the NIC; the NIC, which only has to close it, does not hold the stack.
        self._stack = weakref.ref(stack)
        return stack

    def _door(self) -> Door:
        if os.getpid() != self._pid:
            raise ForkedNic("this NIC belongs to the parent process; attach one of its own after fork()")
        if self._way is None or self._leave is _nothing:
            raise NicClosed(f"the NIC {self.name!r} was closed")
        return self._way

    def statistics(self) -> NicStatistics:
        """Returns what the NIC has sent and received, as it stands."""
        return read_statistics(self.segment, self.slot)

    def close(self) -> None:
        """Takes the NIC off the LAN.  Its name and addresses are free when this returns.  May be called twice."""
        if os.getpid() != self._pid:
            # The connection and the NIC are the parent's.
            return
        stack = None if self._stack is None else self._stack()
        if stack is not None:
            stack.close()
        # First no thread sends any more: whoever leaves in good order is not watched over any longer, and must not be
        # holding a lock then.
        self.shut()
        leave, self._leave, self._drop = self._leave, _nothing, _nothing
        leave()
        if self._connection is not None:
            self._connection.close()

    def __del__(self) -> None:
        # Without close(): no waiting here, where the collector runs. The base finds the name free when it looks.
        try:
            if os.getpid() == self._pid:
                self._drop(self._generation)
                self.shut()
            if self._connection is not None:
                self._connection.close()
        except AttributeError:
            # It was never made whole.
            return

    def __enter__(self) -> Nic:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Nic {self.name} {' '.join(self.addresses)} on {self.lan or 'a private LAN'}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"NIC {self.name!r} cannot be pickled: it is shared memory and a connection of this process; "
            "pass its name and call vnet.attach() in the other process"
        )


def _settle(waiting: list[asyncio.Future[None]]) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(None)


def _nothing(*_: object) -> None:
    pass
