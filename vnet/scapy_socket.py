"""The sockets that scapy opens on a NIC.

Theory of operation
===================

A NIC has one input buffer, but scapy opens several sockets on one interface at a time: ``sr`` has one while an
``AsyncSniffer`` has another, and each must see every datagram.  So the sockets of a NIC share a hub.  Whichever of them
is read first takes all that waits in the input buffer and gives a copy to each::

    input buffer ──▶ Hub.take() ──▶ the queue of each socket that listens ──▶ recv()

No thread stands in between.  What scapy polls is an epoll descriptor over two others: that of the NIC, readable while
datagrams wait in the input buffer, and the socket's own event, readable while its queue is not empty.

While such a socket listens, the input buffer is scapy's: ``nic.recv()`` gets what scapy's sockets leave.  A socket that
scapy opens only to send never listens.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import os
import select
import threading
import time
import weakref
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from scapy.config import conf
from scapy.data import ETH_P_ALL, MTU
from scapy.error import Scapy_Exception
from scapy.interfaces import resolve_iface
from scapy.supersocket import SuperSocket

from .errors import LanClosed, MachineLacks, NicClosed, ReceiveTimeout
from .filters import FilterError, runner
from .scapy_packet import can_fragment, complete, layer_of
from .verdict import Verdict

if TYPE_CHECKING:
    from .nic import Nic
    from .scapy_interface import NicInterface

__all__ = ["Hub", "NicListenSocket", "NicSocket"]

# Packet.direction has the values of the pcapng option epb_flags, draft-ietf-opsawg-pcapng section 4.3.
INBOUND, OUTBOUND = 1, 2

# Bytes that wait for a socket which is not read while another socket of the NIC is.
_QUEUE_LIMIT = 16 << 20

# scapy's sr functions say nofilter=, its send functions do not.
_UNSAID: Any = object()


class Hub:
    """What the sockets of one NIC share."""

    def __init__(self) -> None:
        # Reentrant: the collector may close a forgotten socket anywhere.
        self.lock = threading.RLock()
        self._sockets: tuple[weakref.ref[NicSocket], ...] = ()

    def join(self, socket: NicSocket, nic: Nic, fresh: bool) -> None:
        """Lets ``socket`` see what comes from now on; with ``fresh`` nothing of what waits already."""
        with self.lock:
            if fresh:
                with contextlib.suppress(ReceiveTimeout):
                    for _ in range(256):
                        self.take(nic)
            self._sockets += (weakref.ref(socket),)

    def leave(self, socket: NicSocket) -> None:
        with self.lock:
            self._sockets = tuple(each for each in self._sockets if each() not in (None, socket))

    def take(self, nic: Nic) -> None:
        """Gives every socket what waits in the input buffer.  Raises ReceiveTimeout where nothing does."""
        with self.lock:
            self._give(nic.recv_many(1024, 0), INBOUND)

    def show(self, datagram: bytes) -> None:
        """Gives a datagram that the NIC is about to send to the sockets that see such."""
        with self.lock:
            if self._sockets:
                self._give([datagram], OUTBOUND)

    def _give(self, datagrams: list[bytes], direction: int) -> None:
        now = time.time()
        for reference in self._sockets:
            socket = reference()
            if socket is not None and (direction == INBOUND or socket.sees_outbound):
                socket.put(datagrams, now, direction)


class Filter:
    """A filter in tcpdump's language, compiled by libpcap for raw IP.

    Raises:
        MachineLacks: there is no libpcap.
        Scapy_Exception: the expression is wrong, or about what raw IP has not, such as ``ether`` or ``arp``.
    """

    def __init__(self, expression: str) -> None:
        try:
            self._program = runner(expression)
        except MachineLacks:
            raise MachineLacks(
                f"filter={expression!r} needs libpcap: apt install libpcap0.8; without it, lfilter= takes a function"
            ) from None
        except FilterError as error:
            raise Scapy_Exception(str(error)) from None

    def passes(self, datagram: bytes) -> bool:
        return self._program.run(datagram) > 0


class NicSocket(SuperSocket):  # type: ignore[misc]
    """Sends and receives IP datagrams on a NIC.  Does not see what the NIC sends itself.

    ``recv()`` never waits: scapy polls first.  It returns ``None`` where nothing is there and raises ``EOFError``,
    which ends sniffers in good order, when the NIC or its LAN is closed.

    Attributes:
        missed: datagrams lost because this socket was not read for long, while others of the NIC were.
    """

    desc = "send and receive IP datagrams on a vnet NIC"
    sees_outbound = False

    # Stand when __init__ failed, too: SuperSocket.__del__ closes.
    closed = True
    _listening = False

    def __init__(
        self,
        iface: Any = None,
        type: int = ETH_P_ALL,
        promisc: bool | None = None,
        filter: str | None = None,
        nofilter: Any = _UNSAID,
        monitor: Any = None,
        **_others: Any,
    ) -> None:
        # What dissects IP, for the sake of who imported scapy.sendrecv alone.
        import scapy.layers.inet  # noqa: F401

        interface: NicInterface = resolve_iface(iface or conf.iface)
        self._interface = interface
        self.nic: Nic = interface.nic
        self.nic.check()
        self.iface = interface.network_name
        self.promisc = promisc
        self.outs = self.ins = None
        self.missed = 0
        self._hub = interface.hub
        self._queue: collections.deque[tuple[bytes, float, int]] = collections.deque()
        self._queued = 0
        self._event = -1
        self._filter: Filter | None = None
        self.closed = False
        if nofilter is _UNSAID or not nofilter:
            expression = filter
            if conf.except_filter:
                expression = f"({filter}) and not ({conf.except_filter})" if filter else f"not ({conf.except_filter})"
            if expression:
                self._filter = Filter(expression)
        if self.sees_outbound:
            self._listen()
        elif nofilter is not _UNSAID:
            # What waits already answers no question of this socket's.
            self._listen(fresh=True)

    def _listen(self, fresh: bool = False) -> None:
        if self._listening or self.closed:
            return
        nic_readable = self.nic.fileno()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.epoll()
        self._poll.register(nic_readable, select.EPOLLIN)
        self._poll.register(self._event, select.EPOLLIN)
        self._hub.join(self, self.nic, fresh)
        self._listening = True

    def fileno(self) -> int:
        self._listen()
        return self._poll.fileno()

    # What comes

    def put(self, datagrams: Iterable[bytes], when: float, direction: int) -> None:
        """Queues those that the filter lets pass.  The hub calls it, and holds its lock."""
        was_empty = not self._queue
        for datagram in datagrams:
            if self._filter is not None and not self._filter.passes(datagram):
                continue
            if self._queued + len(datagram) > _QUEUE_LIMIT:
                self.missed += 1
                continue
            self._queued += len(datagram)
            self._queue.append((datagram, when, direction))
        if was_empty and self._queue:
            os.eventfd_write(self._event, 1)

    def _next(self) -> tuple[bytes, float, int] | None:
        self._listen()
        with self._hub.lock:
            if self.closed:
                raise EOFError
            if not self._queue:
                try:
                    self._hub.take(self.nic)
                except ReceiveTimeout:
                    return None
                except (LanClosed, NicClosed):
                    raise EOFError from None
                if not self._queue:
                    return None
            entry = self._queue.popleft()
            self._queued -= len(entry[0])
            if not self._queue:
                os.eventfd_read(self._event)
            return entry

    def recv_raw(self, x: int = MTU) -> tuple[Any, bytes | None, float | None]:
        entry = self._next()
        return (None, None, None) if entry is None else (layer_of(entry[0]), entry[0][:x], entry[1])

    def recv(self, x: int = MTU, **kwargs: Any) -> Any:
        entry = self._next()
        if entry is None:
            return None
        datagram, when, direction = entry
        try:
            packet = layer_of(datagram)(datagram[:x], **kwargs)
        except Exception:
            if conf.debug_dissector:
                raise
            packet = conf.raw_layer(datagram[:x])
        packet.time = when
        packet.direction = direction
        return packet

    # What goes

    def send(self, x: Any) -> int:
        """Sends a packet, or bytes.

        A link-layer header is left off, an IP header without a source gets the NIC's address, and with
        ``conf.auto_fragment`` IPv4 that is longer than the MTU goes in fragments, unless it says DF.

        Returns:
            Its bytes of IP.

        Raises:
            OSError: EMSGSIZE, it is longer than the MTU.
            Scapy_Exception: it is no IP.
            LanClosed, NicClosed, ForkedNic: the NIC cannot be used.
        """
        datagram: Any = x if isinstance(x, bytes) else complete(x, self.sources, copy=True)
        data = bytes(datagram)
        mtu = self.nic.mtu
        pieces = [data]
        if len(data) > mtu and conf.auto_fragment and can_fragment(datagram):
            header = (data[0] & 15) * 4
            pieces = [bytes(each) for each in datagram.fragment((mtu - header) // 8 * 8)]
        with contextlib.suppress(AttributeError):
            x.sent_time = time.time()
        for piece in pieces:
            if len(piece) <= mtu:
                self._hub.show(piece)
            if self.nic.send(piece) is Verdict.TOO_BIG:
                raise OSError(
                    errno.EMSGSIZE,
                    f"{len(piece)} bytes of IP are more than the MTU of NIC {self.nic.name!r}, {mtu} bytes",
                )
        return len(data)

    @property
    def sources(self) -> Mapping[int, str]:
        """The NIC's address for each IP version."""
        return self._interface.sources

    def close(self) -> None:
        if self.closed:
            return
        with self._hub.lock:
            self.closed = True
            self._queue.clear()
            if self._listening:
                self._hub.leave(self)
                self._poll.close()
                os.close(self._event)


class NicListenSocket(NicSocket):
    """Receives IP datagrams on a NIC and sees those that scapy sends on it, told apart by ``packet.direction``."""

    desc = "receive IP datagrams on a vnet NIC, those that scapy sends on it included"
    sees_outbound = True

    def send(self, x: Any) -> NoReturn:
        raise Scapy_Exception("a listening socket does not send")
