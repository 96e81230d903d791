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

from typing import TYPE_CHECKING, Any

from .caller import Caller, Pending, Stream, start, with_timeout
from .calling import caller
from .context import CurrentCall, current_call
from .interface import Interface, interface_of, raises
from .serving import Served, serve_calls
from .wire import Limits

if TYPE_CHECKING:
    from .description import Description as Description
    from .loops import AsyncServed as AsyncServed
    from .loops import serve_calls_async as serve_calls_async
    from .shell import shell_call as shell_call
    from .shell import shell_describe as shell_describe
    from .tasks import AsyncCaller as AsyncCaller
    from .tasks import AsyncStream as AsyncStream
    from .tasks import async_caller as async_caller

__all__ = [
    "AsyncCaller",
    "AsyncServed",
    "AsyncStream",
    "Caller",
    "Description",
    "CurrentCall",
    "Interface",
    "Limits",
    "Pending",
    "Served",
    "Stream",
    "async_caller",
    "caller",
    "current_call",
    "interface_of",
    "raises",
    "serve_calls",
    "serve_calls_async",
    "shell_call",
    "shell_describe",
    "start",
    "with_timeout",
]

# What only those pay for who have an event loop, or a shell.
_LATER = {
    "AsyncCaller": "tasks",
    "AsyncServed": "loops",
    "AsyncStream": "tasks",
    "Description": "description",
    "async_caller": "tasks",
    "serve_calls_async": "loops",
    "shell_call": "shell",
    "shell_describe": "shell",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
