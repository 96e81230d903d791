"""The stack of one NIC."""

from __future__ import annotations

import errno
import os
import secrets
import weakref
from collections.abc import Awaitable, Callable
from socket import (
    AF_INET,
    AF_INET6,
    AF_UNSPEC,
    AI_NUMERICHOST,
    AI_PASSIVE,
    EAI_ADDRFAMILY,
    EAI_FAMILY,
    EAI_NONAME,
    EAI_SOCKTYPE,
    IPPROTO_TCP,
    IPPROTO_UDP,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    AddressFamily,
    SocketKind,
)
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .. import _native
from ..errors import NicClosed
from .addresses import ANY, error, family_of, gai_error, literal, port_numbers, shown, split
from .datagram import DatagramSocket
from .names import Names
from .sockets import Socket
from .stream import StreamSocket

if TYPE_CHECKING:
    import asyncio
    import http.client
    import socketserver
    import ssl
    import urllib.request

    from ..nic import Nic
    from .streams import Server

__all__ = ["Stack"]

# The timeout of those who name none, as the socket module has it: that of socket.setdefaulttimeout().
_DEFAULT: Any = object()
_FAMILIES = (AF_INET, AF_INET6)


class Stack:
    """A TCP/IP stack on a NIC of this process, and the way to sockets on the LAN; made by :meth:`vnet.Nic.stack`.

    While it is open the NIC's datagrams are the stack's: it answers ping, refuses what nobody listens for, and does all
    that TCP takes, without root and without the kernel.  A context manager; :meth:`close` may be called twice.  Threads
    may share it.

    Attributes:
        nic: its NIC.
        addresses: the NIC's addresses, which are the stack's, IPv4 first.
    """

    def __init__(self, nic: Nic, seed: int | None = None) -> None:
        self._names = Names(nic)
        if seed is None:
            seed = secrets.randbits(64)
        elif not 0 <= seed < 2**64:
            raise ValueError(f"seed is a whole number from 0 to 2**64 - 1, not {seed!r}")
        self._native = _native.Stack(nic, self._names.with_bits(), nic.mtu, seed)
        # Also when the program ends: its connections end in good order then, as those of the kernel do.
        self._finalizer = weakref.finalize(self, self._native.close)
        self.nic = nic
        self.addresses = nic.addresses

    def __repr__(self) -> str:
        return f"<Stack of {self.nic!r}{', closed' if self.closed else ''}>"

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called, here or by closing the NIC."""
        return not self._finalizer.alive

    def close(self) -> None:
        """Ends the stack and every socket of it, and gives the NIC back to ``nic.recv()``.  May be called twice."""
        if os.getpid() == self.nic._pid:
            self._finalizer()

    def __enter__(self) -> Stack:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Names

    def resolve(self, name: str, family: int = AF_UNSPEC) -> list[str]:
        """Returns the addresses that a name stands for: those of the NIC of that name; of an address, itself.

        Arguments:
            name: a NIC's name, ``localhost`` for this NIC, or an address.
            family: ``AF_INET`` or ``AF_INET6`` for those of one family only.

        Raises:
            socket.gaierror: no NIC has the name, or it has no address of the family.
            LanClosed: the base has ended.
        """
        if family not in (AF_UNSPEC, *_FAMILIES):
            raise gai_error(EAI_FAMILY, f"a LAN has AF_INET and AF_INET6, not family {family!r}")
        found = self._names.addresses(name)
        if family != AF_UNSPEC:
            fitting = [address for address in found if family_of(address) == family]
            if not fitting:
                kind = "IPv6" if family == AF_INET6 else "IPv4"
                number = EAI_NONAME if literal(name) is None else EAI_ADDRFAMILY
                raise gai_error(number, f"{name!r} has no {kind} address; it has {', '.join(found)}")
            return fitting
        # Of another's addresses, those come first that this NIC can speak to.
        own = {family_of(address) for address in self.addresses}
        return sorted(found, key=lambda address: family_of(address) not in own)

    def getaddrinfo(
        self,
        host: str | bytes | None,
        port: str | bytes | int | None,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[tuple[AddressFamily, SocketKind, int, str, tuple[Any, ...]]]:
        """Does on the LAN what :func:`socket.getaddrinfo` does on the machine: same arguments, same answer."""
        kinds = [
            (kind, protocol)
            for kind, protocol in ((SOCK_STREAM, IPPROTO_TCP), (SOCK_DGRAM, IPPROTO_UDP))
            if type in (0, kind) and proto in (0, protocol)
        ]
        if not kinds:
            raise gai_error(EAI_SOCKTYPE, "a stack has SOCK_STREAM over TCP and SOCK_DGRAM over UDP")
        numbers = port_numbers(port, [protocol for _, protocol in kinds])
        if isinstance(host, bytes):
            host = host.decode("ascii")
        passive = bool(flags & AI_PASSIVE)
        if not host:
            if port is None:
                raise gai_error(EAI_NONAME, "name a host or a port")
            families = [each for each in _FAMILIES if family in (0, each)]
            addresses = [ANY[each] for each in families] if passive else self.resolve("localhost", family)
        else:
            if flags & AI_NUMERICHOST and literal(host) is None:
                raise gai_error(EAI_NONAME, f"{host!r} is no address")
            addresses = self.resolve(host, family)
        return [
            (family_of(address), kind, int(protocol), "", shown((address, numbers[protocol]), family_of(address)))
            for address in addresses
            for kind, protocol in kinds
            if protocol in numbers
        ]

    # Sockets

    def socket(self, family: int = AF_INET, type: int = SOCK_STREAM, proto: int = 0) -> Socket:
        """Returns a new socket, to be bound, connected or listened on; arguments as of :class:`socket.socket`.

        Raises:
            OSError: ``EAFNOSUPPORT``, ``EPROTONOSUPPORT`` where it is neither TCP nor UDP over IPv4 or IPv6.
        """
        self._check()
        if family == -1:
            family = AF_INET
        if family not in _FAMILIES:
            raise error(errno.EAFNOSUPPORT)
        kind = (SOCK_STREAM if type == -1 else type) & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)
        if kind == SOCK_STREAM and proto in (-1, 0, IPPROTO_TCP):
            made: Socket = StreamSocket(self, family)
        elif kind == SOCK_DGRAM and proto in (-1, 0, IPPROTO_UDP):
            made = DatagramSocket(self, family)
        else:
            raise error(errno.EPROTONOSUPPORT)
        if type != -1 and type & SOCK_NONBLOCK:
            made.setblocking(False)
        return made

    def connect(
        self, address: tuple[str, int], timeout: float | None = _DEFAULT, source_address: tuple[str, int] | None = None
    ) -> StreamSocket:
        """Connects by TCP to an address, or to a NIC by its name, and returns the socket.

        Arguments:
            address: host and port.  Of a name, each address is tried until one answers.
            timeout: seconds for each address; ``None`` waits for ever.  It is the socket's timeout from then on.
            source_address: the own address and port to connect from; ``""`` and 0 leave it open.

        Raises:
            socket.gaierror: the name stands for no address.
            ConnectionRefusedError: nobody listens there.
            OSError: ``EHOSTUNREACH`` where no NIC has the address; others as of any socket.
            TimeoutError: no answer came in time.
            LanClosed, NicClosed, ForkedNic: the NIC cannot be used.
        """
        if not isinstance(address, tuple) or len(address) < 2:
            raise TypeError(f"connect to a tuple (host, port), not {address!r}")
        host, port = address[:2]
        failures: list[OSError] = []
        self._check()
        for family, _, _, _, remote in self.getaddrinfo(host, port, type=SOCK_STREAM):
            sock = StreamSocket(self, family)
            try:
                if timeout is not _DEFAULT:
                    sock.settimeout(timeout)
                if source_address is not None:
                    sock.bind(source_address)
                sock.connect(remote)
                return sock
            except OSError as failure:
                sock.close()
                failures.append(failure)
            except BaseException:
                sock.close()
                raise
        try:
            # As the socket module does: the first address is the one that was meant.
            raise failures[0]
        finally:
            # The error's traceback holds this frame.
            failures.clear()

    def create_connection(
        self,
        address: tuple[str, int],
        timeout: Any = _DEFAULT,
        source_address: tuple[str, int] | None = None,
    ) -> StreamSocket:
        """Connects as :meth:`connect`, with the signature of :func:`socket.create_connection`."""
        if timeout is not None and not isinstance(timeout, (int, float)):
            # The socket module's own sign for "the default", which others hand on.
            timeout = _DEFAULT
        return self.connect(address, timeout, source_address)

    def listen(self, address: int | tuple[str, int], *, backlog: int = 128) -> StreamSocket:
        """Returns a listening TCP socket.

        Arguments:
            address: a port, at all the NIC's addresses, IPv4 and IPv6; or host and port.  Port 0 takes a free one.
            backlog: how many connections may wait to be accepted.

        Raises:
            OSError: ``EADDRINUSE``, ``EADDRNOTAVAIL`` where the address is not the NIC's.
        """
        self._check()
        if isinstance(address, int):
            both = len({family_of(own) for own in self.addresses}) == 2
            sock = StreamSocket(self, family_of(self.addresses[-1]))
            port = split(("", address), sock.family, "listen")[1]
            if both:
                sock._listener = self._native.listen((None, port), max(1, min(backlog, 4096)))
                sock._start_accepting()
                return sock
            host = ""
        else:
            host, port = split(address, AF_INET6, "listen")
            found = self.resolve(host)[0] if host else None
            sock = StreamSocket(self, family_of(found) if found else family_of(self.addresses[0]))
            host = found or ""
        try:
            sock.bind((host, port))
            sock.listen(backlog)
        except BaseException:
            sock.close()
            raise
        return sock

    def _check(self) -> None:
        if self.closed:
            raise NicClosed("the stack of this NIC was closed")

    # asyncio

    async def open_connection(
        self, host: str, port: int, *, limit: int = 2**16, local_addr: tuple[str, int] | None = None, **options: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connects and returns reader and writer: :func:`asyncio.open_connection` on the LAN.

        Arguments:
            host, port: where to connect; the host is an address or a NIC's name.
            limit: bytes that the reader buffers.
            local_addr: own host and port.
            options: ``ssl``, ``server_hostname`` and the like go to the event loop's ``create_connection``.
        """
        from . import streams

        return await streams.open_connection(self, host, port, limit, local_addr, options)

    async def start_server(
        self,
        client_connected_cb: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None],
        host: str | None = None,
        port: int = 0,
        *,
        limit: int = 2**16,
        backlog: int = 100,
        **options: Any,
    ) -> Server:
        """Serves connections with a coroutine each: :func:`asyncio.start_server` on the LAN.

        ``serve_forever()`` of the server that it returns raises :class:`vnet.LanClosed` when the LAN ends.

        Arguments:
            client_connected_cb: called with reader and writer of each connection.
            host: an own address; ``None`` for all of them.
            port: 0 takes a free one.
            limit: bytes that each reader buffers.
            backlog: how many connections may wait.
            options: ``ssl``, ``start_serving`` and the like go to the event loop's ``create_server``.
        """
        from . import streams

        return await streams.start_server(self, client_connected_cb, host, port, limit, backlog, options)

    async def sock_connect(self, host: str, port: int, *, local_addr: tuple[str, int] | None = None) -> StreamSocket:
        """Connects without blocking the event loop and returns the socket.

        It is for ``loop.create_connection(factory, sock=...)``; for servers, ``loop.create_server(factory, sock=...)``
        takes what :meth:`listen` returns.
        """
        from . import streams

        return await streams.sock_connect(self, host, port, local_addr)

    # HTTP, and servers of the standard library

    def http_connection(
        self,
        host: str,
        port: int | None = None,
        timeout: float | None = _DEFAULT,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> http.client.HTTPConnection:
        """Returns an :class:`http.client.HTTPConnection` over the LAN, or one of HTTPS where ``tls`` is given."""
        from . import web

        return web.http_connection(self, host, port, None if timeout is _DEFAULT else (timeout,), tls)

    def url_opener(self, *handlers: Any, tls: ssl.SSLContext | None = None) -> urllib.request.OpenerDirector:
        """Returns an opener whose ``open(url)`` goes over the LAN: :func:`urllib.request.build_opener`.

        Arguments:
            handlers: more handlers of urllib, such as one for cookies.
            tls: the context for https; ``None`` for a default one.
        """
        from . import web

        return web.url_opener(self, handlers, tls)

    def server(
        self, kind: type[socketserver.BaseServer], address: int | tuple[str, int], handler: Callable[..., Any]
    ) -> Any:
        """Returns a server of :mod:`socketserver` or :mod:`http.server` that serves on the LAN.

        Arguments:
            kind: its class, such as ``http.server.ThreadingHTTPServer``.
            address: a port at all addresses, or host and port.
            handler: its class of request handlers.

        Raises:
            OSError: as of :meth:`listen`.
        """
        from . import servers

        return servers.serve(self, kind, address, handler)
