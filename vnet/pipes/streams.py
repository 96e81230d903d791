"""asyncio over pipes: its own transports, readers and writers, over the pipe's socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ..stack.streams import Server
from .connecting import aconnect
from .sizes import SIZE

if TYPE_CHECKING:
    from ..sharing import Sharing
    from .listener import Listener

__all__ = ["open_connection", "start_server"]


async def open_connection(
    guest: Sharing,
    peer: str,
    service: str,
    *,
    timeout: float | None = None,
    size: int = SIZE,
    limit: int = 1 << 16,
    **options: Any,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connects to a service and returns asyncio's own reader and writer.

    Arguments:
        guest, peer, service, timeout, size: as of :func:`vnet.pipes.connect`.
        limit: as of :func:`asyncio.open_connection`, like ``options``.

    Raises:
        VnetError, ValueError: as of :func:`vnet.pipes.connect`.
    """
    if options.get("ssl") and "server_hostname" not in options:
        # The loop takes the certificate's name from the host that it connects to, and here it gets a socket instead.
        options["server_hostname"] = peer
    pipe = await aconnect(guest, peer, service, timeout=timeout, size=size)
    try:
        return await pipe.streams(limit=limit, **options)
    except BaseException:
        pipe.close()
        raise


async def start_server(
    listener: Listener,
    connected: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None],
    *,
    limit: int = 1 << 16,
    **options: Any,
) -> asyncio.AbstractServer:
    """Serves those who connect with ``connected``, in a task each; the listener is the server's from then on.

    Arguments:
        listener: takes no messages.
        connected: gets asyncio's own reader and writer; who it is says ``writer.get_extra_info("peername")``.
        limit: as of :func:`asyncio.start_server`, like ``options``, such as ``ssl`` and ``start_serving``.

    Returns:
        A server as that of asyncio.  Its ``serve_forever()`` raises LanClosed, NicClosed or ServiceGone once nobody can
        connect any more.

    Raises:
        ValueError: the listener takes messages.
    """
    if listener.messages:
        raise ValueError(f"service {listener.service!r} takes messages, and a reader and a writer are for a stream")
    sock = listener.socket()
    server = await asyncio.start_server(connected, sock=sock, limit=limit, backlog=listener.backlog, **options)
    listener._held = True
    return _Server(server, sock)  # type: ignore[arg-type]


class _Server(Server):
    """asyncio's own server, which besides ends when its listener does."""

    def _notice(self, why: BaseException) -> None:
        super()._notice(why)
        # The end of a listener is to be read again and again.
        self._server.close()
