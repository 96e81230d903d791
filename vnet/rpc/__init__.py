"""Calls: a guest serves an object, and others call its methods as if it were theirs.

>>> import typing, vnet
>>> class Disk(typing.Protocol):
...     def read(self, block: int) -> bytes: ...
>>> class Ram:
...     def read(self, block: int) -> bytes:
...         return bytes([block]) * 4
>>> with vnet.Lan(None, "10.0.0.0/24") as lan, lan.attach("host") as host, lan.attach("alice") as alice:
...     with host.serve_calls("disk", Ram(), Disk), alice.caller("host", "disk", Disk) as disk:
...         disk.read(3)
...         disk.read("three")
Traceback (most recent call last):
...
vnet.errors.InterfaceError: Disk.read: argument 'block' is 'three' (str): expected int

Only calls that the interface declares leave the caller, and only those reach the object.

::

    interface.py    classes with annotated methods, compiled; checks of arguments and results, with their sentences
    terms.py        their types, as two sides compare them
    wire.py         messages, and bounds on them
    inbound.py      what a service makes of what a caller wrote
    failures.py     exceptions on their way
    channel.py      a caller's side of a pipe
    caller.py       the stand-in, streams, calls under way
    calling.py      connect
    tasks.py        the same three for asyncio
    service.py      the object, its callers and the threads; crew.py, watch.py
    connection.py   one caller, as the service has it; borrowed.py: the regions that it passed
    serving.py      listen
    loops.py        the same three for asyncio
    description.py  an interface, told to those who do not have it; shapes.py makes classes of it, shell.py calls
"""

from __future__ import annotations

from .caller import Caller, Pending, Stream, start, with_timeout
from .calling import caller
from .context import CurrentCall, current_call
from .interface import Interface, interface_of, raises
from .serving import Served, serve_calls
from .wire import Limits

__all__ = [
    "Caller",
    "CurrentCall",
    "Interface",
    "Limits",
    "Pending",
    "Served",
    "Stream",
    "caller",
    "current_call",
    "interface_of",
    "raises",
    "serve_calls",
    "start",
    "with_timeout",
]
