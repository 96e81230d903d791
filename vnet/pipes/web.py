"""HTTP over pipes: a connection of :mod:`http.client`, and servers of :mod:`socketserver` and :mod:`http.server`."""

from __future__ import annotations

import http.client
import socket
import socketserver
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from .connecting import connect

if TYPE_CHECKING:
    from ..sharing import Sharing
    from .listener import Listener

__all__ = ["HTTPConnection", "make_server"]

_Server = TypeVar("_Server", bound=socketserver.TCPServer)


class HTTPConnection(http.client.HTTPConnection):
    """A connection of :mod:`http.client` over a pipe.

    Arguments:
        guest: who connects.
        peer: the guest that serves, whose name is in the ``Host`` header.
        service: what it serves.
        options: those of :class:`http.client.HTTPConnection`, such as ``timeout``.
    """

    def __init__(self, guest: Sharing, peer: str, service: str, **options: Any) -> None:
        super().__init__(peer, **options)
        self._guest = guest
        self._service = service

    def connect(self) -> None:
        """Connects; http.client calls it.  Errors as of :func:`vnet.pipes.connect`."""
        self.sock = connect(self._guest, self.host, self._service).socket()
        if self.timeout is not socket._GLOBAL_DEFAULT_TIMEOUT:  # type: ignore[attr-defined]
            self.sock.settimeout(self.timeout)


def make_server(listener: Listener, kind: type[_Server], handler: Callable[..., Any]) -> _Server:
    """Returns a server of class ``kind`` that serves those who connect to a listener, which is its own from then on.

    Arguments:
        listener: takes no messages.
        kind: :class:`socketserver.TCPServer`, :class:`http.server.ThreadingHTTPServer`, or one made of them.
        handler: as of all these.

    Raises:
        TypeError: the class is no server of streams.
        ValueError: the listener takes messages.
    """
    if not (isinstance(kind, type) and issubclass(kind, socketserver.TCPServer)) or issubclass(
        kind, socketserver.UDPServer
    ):
        raise TypeError(f"{kind!r} is no server of streams of socketserver")
    if listener.messages:
        raise ValueError(f"service {listener.service!r} takes messages, and a server of socketserver wants a stream")
    server: _Server = type(kind.__name__, (_OverPipes, kind), {"listener": listener})(None, handler)
    return server


class _OverPipes(socketserver.TCPServer):
    """Goes before a server's class and has it take a listener in place of a socket of the kernel."""

    listener: Listener
    address_family = socket.AF_UNIX

    def __init__(self, _: None, handler: Any) -> None:
        super().__init__(("", 0), handler, bind_and_activate=False)
        # Made by the base class, and never bound.
        self.socket.close()
        self.socket = self.listener.socket()
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.listener.guest, self.listener.service
