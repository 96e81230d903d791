"""asyncio on the LAN.

The event loop's own transports do the work: they take any socket that is connected or listens, and wait for its
``fileno()``.  What is here are the ways to such sockets that do not block the loop, and a server that notices the end
of its LAN.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from .addresses import is_literal
from .stream import StreamSocket

if TYPE_CHECKING:
    from .stack import Stack

__all__ = ["Server", "open_connection", "sock_connect", "start_server"]


async def sock_connect(stack: Stack, host: str, port: int, local_addr: tuple[str, int] | None) -> StreamSocket:
    """Connects to the first of the host's addresses that answers; see :meth:`Stack.sock_connect`."""
    loop = asyncio.get_running_loop()
    if is_literal(host):
        found = stack.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    else:
        # Another process may have to be asked for the name.
        found = await loop.run_in_executor(None, lambda: stack.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    failures: list[OSError] = []
    for family, _, _, _, remote in found:
        sock = StreamSocket(stack, family)
        try:
            sock.setblocking(False)
            if local_addr is not None:
                sock.bind(local_addr)
            await loop.sock_connect(sock, remote)
            return sock
        except OSError as failure:
            sock.close()
            failures.append(failure)
        except BaseException:
            sock.close()
            raise
    try:
        raise failures[0]
    finally:
        failures.clear()


async def open_connection(
    stack: Stack, host: str, port: int, limit: int, local_addr: tuple[str, int] | None, options: dict[str, Any]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connects and returns a reader and a writer; see :meth:`Stack.open_connection`."""
    if options.get("ssl") and "server_hostname" not in options:
        # The loop takes the certificate's name from the host that it connects to, and here it gets a socket instead.
        options["server_hostname"] = host
    sock = await sock_connect(stack, host, port, local_addr)
    try:
        return await asyncio.open_connection(sock=sock, limit=limit, **options)
    except BaseException:
        sock.close()
        raise


async def start_server(
    stack: Stack,
    connected: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None],
    host: str | None,
    port: int,
    limit: int,
    backlog: int,
    options: dict[str, Any],
) -> Server:
    """Serves connections; see :meth:`Stack.start_server`."""
    listener = stack.listen((host, port) if host else port, backlog=backlog)
    try:
        listener.setblocking(False)
        server = await asyncio.start_server(connected, sock=listener, limit=limit, backlog=backlog, **options)
    except BaseException:
        listener.close()
        raise
    return Server(server, listener)


class Server(asyncio.AbstractServer):
    """A server on the LAN: asyncio's own, which besides ends when its LAN or NIC does."""

    def __init__(self, server: asyncio.Server, listener: StreamSocket) -> None:
        self._server = server
        self._ended: BaseException | None = None
        self._end = asyncio.Event()
        listener._on_end = self._notice

    def _notice(self, why: BaseException) -> None:
        # Called by accept(), and so within the event loop.
        self._ended = why
        self._end.set()

    @property
    def sockets(self) -> tuple[Any, ...]:
        """The sockets that listen."""
        return self._server.sockets

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Returns the event loop that serves."""
        return self._server.get_loop()

    def is_serving(self) -> bool:
        """Whether connections are accepted."""
        return self._ended is None and self._server.is_serving()

    async def start_serving(self) -> None:
        """Begins to accept connections, where ``start_serving=False`` was given."""
        await self._server.start_serving()

    async def serve_forever(self) -> None:
        """Accepts connections until it is cancelled.

        Raises:
            LanClosed, NicClosed: the LAN ended, or the NIC went off it.
        """
        serving = asyncio.ensure_future(self._server.serve_forever())
        ending = asyncio.ensure_future(self._end.wait())
        try:
            await asyncio.wait([serving, ending], return_when=asyncio.FIRST_COMPLETED)
            if self._ended is not None:
                raise self._ended
            await serving
        finally:
            for task in (serving, ending):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    def close(self) -> None:
        """Stops accepting.  Connections that there are go on."""
        self._server.close()

    async def wait_closed(self) -> None:
        """Waits until the server is closed."""
        await self._server.wait_closed()

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
        await self.wait_closed()
