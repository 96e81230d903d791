"""Servers of the standard library on the LAN: socketserver and http.server."""

from __future__ import annotations

import socket
import socketserver
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .addresses import family_of, split

if TYPE_CHECKING:
    from .stack import Stack

__all__ = ["serve"]


def serve(
    stack: Stack, kind: type[socketserver.BaseServer], address: int | tuple[str, int], handler: Callable[..., Any]
) -> Any:
    """Returns a server of class ``kind`` on the LAN; see :meth:`Stack.server`."""
    if not issubclass(kind, socketserver.TCPServer):
        raise TypeError(f"{kind.__name__} is no TCP or UDP server of socketserver")
    host, port = ("", address) if isinstance(address, int) else split(address, socket.AF_INET6, "server")
    own = stack.resolve(host)[0] if host else stack.addresses[0]
    about = {
        "stack": stack,
        "address_family": family_of(own),
        # socketserver's own five are soon too few, and who finds no room tries again a second later only.
        "request_queue_size": max(kind.request_queue_size, 128),
    }
    return type(kind.__name__, (_OnTheLan, kind), about)((own if host else "", port), handler)


class _OnTheLan(socketserver.TCPServer):
    """Goes before a server's class and has it listen on a stack's socket in place of one of the kernel."""

    stack: Stack

    def __init__(self, address: Any, handler: Any, bind_and_activate: bool = True) -> None:
        super().__init__(address, handler, bind_and_activate=False)
        self.socket.close()
        self.socket = self.stack.socket(self.address_family, self.socket_type)
        try:
            if bind_and_activate:
                self.server_bind()
                self.server_activate()
        except BaseException:
            self.server_close()
            raise

    def server_bind(self) -> None:
        # Not super(): that of http.server asks the machine's DNS who this host is.
        socketserver.TCPServer.server_bind(self)
        self.server_name = self.stack.nic.name
        self.server_port = self.server_address[1]
