"""Pipes: ordered, lossless, flow-controlled streams between guests, through memory that both map.

>>> import vnet
>>> with vnet.Lan(None, "10.0.0.0/24") as lan, lan.attach("host") as host, lan.attach("a") as a:
...     with host.listen("disk") as listener, a.connect("host", "disk") as pipe:
...         with listener.accept() as other:
...             pipe.write(b"hello")
...             other.read(100)
5
b'hello'

::

    broker.py      the base's part: who listens for what, and who may connect
    connecting.py  a guest's part: listen, connect
    listener.py    Listener: accept
    pipe.py        Pipe: a raw file, with the methods of messages.py; files.py: buffered files of it
    sockets.py     a pipe and a listener as sockets, for whoever wants those
    streams.py     asyncio's readers, writers and servers
    web.py         http.client, http.server and socketserver

The native part (``PipeEnd``) moves the bytes; this package gives it the faces that Python's stream software knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .connecting import aconnect, connect, connect_operator, listen, services
from .listener import Listener
from .pipe import Pipe, PipeStatistics, pair

if TYPE_CHECKING:
    from .broker import ServiceInfo as ServiceInfo
    from .sockets import ListeningSocket as ListeningSocket
    from .sockets import PipeSocket as PipeSocket
    from .streams import open_connection as open_connection
    from .streams import start_server as start_server
    from .web import HTTPConnection as HTTPConnection
    from .web import make_server as make_server

__all__ = [
    "HTTPConnection",
    "Listener",
    "ListeningSocket",
    "Pipe",
    "PipeSocket",
    "PipeStatistics",
    "ServiceInfo",
    "aconnect",
    "connect",
    "connect_operator",
    "listen",
    "make_server",
    "open_connection",
    "pair",
    "services",
    "start_server",
]

# What only those pay for who use it.
_LATER = {
    "HTTPConnection": "web",
    "ListeningSocket": "sockets",
    "PipeSocket": "sockets",
    "ServiceInfo": "broker",
    "make_server": "web",
    "open_connection": "streams",
    "start_server": "streams",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
