"""Sockets on the LAN, without root and without the kernel: ``nic.stack()`` gives a NIC a TCP/IP stack of its own.

>>> import vnet
>>> with vnet.Lan(None, "10.0.0.0/24") as lan, lan.attach("a").stack() as a, lan.attach("b").stack() as b:
...     with a.listen(80) as server, b.connect(("a", 80), timeout=5) as client:
...         connection, address = server.accept()
...         with connection:
...             connection.sendall(b"hello")
...         client.recv(100)
b'hello'

::

    stack.py       Stack: connect, listen, socket, names, and the ways into other libraries
    names.py       a NIC's name     →  its addresses
    sockets.py     what stream.py (TCP) and datagram.py (UDP) share; options.py, addresses.py
    streams.py     asyncio
    tls.py         ssl over blocking sockets
    web.py         http.client, urllib
    adapter.py     requests
    servers.py     socketserver, http.server

The native part (:mod:`vnet._native`: ``Stack``, ``TcpSocket``, ``TcpListener``, ``UdpSocket``) does the work; this
package gives it the face of the socket module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .sockets import Socket
from .stack import Stack

if TYPE_CHECKING:
    from .adapter import LanAdapter as LanAdapter
    from .tls import TlsSocket as TlsSocket
    from .tls import tls_context as tls_context

__all__ = ["LanAdapter", "Socket", "Stack", "TlsSocket", "tls_context"]


def __getattr__(name: str) -> Any:
    # ssl takes longer to import than all of vnet, and requests need not be there.
    if name in ("TlsSocket", "tls_context"):
        from . import tls

        return getattr(tls, name)
    if name == "LanAdapter":
        from .adapter import LanAdapter

        return LanAdapter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
