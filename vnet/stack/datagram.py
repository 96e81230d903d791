"""UDP sockets."""

from __future__ import annotations

import errno
import socket
import time
from typing import TYPE_CHECKING, Any

from .addresses import ANY, error, shown
from .sockets import Missing, Socket, waiting

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from .._native import UdpSocket
    from .stack import Stack

__all__ = ["DatagramSocket"]

_UNBOUND = Missing(errno.ENOTCONN)


class DatagramSocket(Socket):
    """A UDP socket on the LAN.  See :class:`vnet.stack.Socket`."""

    def __init__(self, stack: Stack, family: int) -> None:
        super().__init__(stack, family, socket.SOCK_DGRAM)
        self._end: UdpSocket | Missing = _UNBOUND
        self._peer: tuple[str, int] | None = None

    def bind(self, address: Any, /) -> None:
        """Binds the socket to an address of the NIC, or to all of them (``""``); port 0 takes a free one."""
        self._check()
        if not isinstance(self._end, Missing):
            raise error(errno.EINVAL)
        self._settle(self._stack._native.udp(self._local(address, "bind")))

    def _opened(self) -> UdpSocket | Missing:
        """The native socket; where the program did not bind, one on a free port."""
        if self._end is _UNBOUND:
            self.bind((ANY[self._family], 0))
        return self._end

    def listen(self, backlog: int = 128, /) -> None:
        """Raises ``EOPNOTSUPP``: UDP has no connections."""
        raise error(errno.EOPNOTSUPP)

    def accept(self) -> Any:
        """Raises ``EOPNOTSUPP``: UDP has no connections."""
        raise error(errno.EOPNOTSUPP)

    def shutdown(self, how: int, /) -> None:
        """Does nothing on a socket that has a peer; otherwise ``ENOTCONN``."""
        self._check()
        if self._peer is None:
            raise error(errno.ENOTCONN)

    # A peer

    def connect(self, address: Any, /) -> None:
        """From now on sends to this address, and hears nobody else."""
        self._check()
        self._peer = self._remote(address, "connect")
        self._opened()

    def connect_ex(self, address: Any, /) -> int:
        """Connects, and returns an ``errno`` in place of raising it."""
        try:
            self.connect(address)
        except socket.gaierror:
            raise
        except OSError as failure:
            return failure.errno or errno.EIO
        return 0

    def getpeername(self) -> Any:
        """Returns the address that :meth:`connect` was given."""
        self._check()
        if self._peer is None:
            raise error(errno.ENOTCONN)
        return shown(self._peer, self._family)

    # Sending

    def send(self, data: Buffer, flags: int = 0, /) -> int:
        """Sends a datagram to the peer that :meth:`connect` was given."""
        self._check()
        if self._peer is None:
            raise error(errno.EDESTADDRREQ)
        return self._opened().sendto(data, self._peer, waiting(flags, self._timeout))

    def sendall(self, data: Buffer, flags: int = 0, /) -> None:
        """Sends as :meth:`send`: a datagram goes whole or not at all."""
        self.send(data, flags)

    def sendto(self, data: Buffer, *where: Any) -> int:
        """``sendto(data, address)`` or ``sendto(data, flags, address)``: sends a datagram to the address."""
        self._check()
        if not 1 <= len(where) <= 2:
            raise TypeError(f"sendto() takes 2 or 3 arguments ({len(where) + 1} given)")
        flags = where[0] if len(where) == 2 else 0
        remote = self._remote(where[-1], "sendto")
        return self._opened().sendto(data, remote, waiting(flags, self._timeout))

    # Receiving

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        """Returns a datagram's payload, cut to ``bufsize`` bytes, and the address that it came from."""
        if bufsize < 0:
            raise ValueError("negative buffersize in recvfrom")
        self._check()
        timeout = waiting(flags, self._timeout)
        end = self._opened()
        peer = self._peer
        if peer is None:
            data, address = end.recvfrom(bufsize, timeout)
            return data, shown(address, self._family)
        deadline = time.monotonic() + timeout if timeout else 0.0
        while True:
            data, address = end.recvfrom(bufsize, timeout)
            if address == peer:
                return data, shown(address, self._family)
            if timeout:
                timeout = max(deadline - time.monotonic(), 1e-6)

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Returns a datagram's payload, cut to ``bufsize`` bytes."""
        return self.recvfrom(bufsize, flags)[0]

    def recvfrom_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        """Receives a datagram into ``buffer``; returns how many bytes, and the address that it came from."""
        view = memoryview(buffer).cast("B")
        if nbytes < 0:
            raise ValueError("negative buffersize in recvfrom_into")
        if nbytes > len(view):
            raise ValueError("nbytes is greater than the length of the buffer")
        data, address = self.recvfrom(nbytes or len(view), flags)
        view[: len(data)] = data
        return len(data), address

    def recv_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> int:
        """Receives a datagram into ``buffer`` and returns how many bytes."""
        return self.recvfrom_into(buffer, nbytes, flags)[0]
