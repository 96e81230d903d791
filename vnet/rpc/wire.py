"""What caller and service say to one another over a pipe that keeps messages apart.

::

     0        1        2                 4                            12
    +--------+--------+-----------------+----------------------------+----------------------
    | kind   | credit | method or count | call                       | body: MessagePack
    +--------+--------+-----------------+----------------------------+----------------------

Little endian.  Each side's first message says which version it speaks and what it takes.  A call's number is the
caller's; it counts up and is never used again on that pipe.  ``credit`` of a CALL is how many values of a stream may be
sent before the caller says that it has taken some (CREDIT, with how many more in the place of the method).

============  ==========  ==========================================================================
kind          from        body
============  ==========  ==========================================================================
HELLO         caller      :class:`Hello`: its version and its methods with their digests
DESCRIBE      caller      nothing; asked instead of HELLO, or before it, by who has no interface
CALL          caller      the arguments, an array
CANCEL        caller      nothing; the answer to that call is not awaited any more
CREDIT        caller      nothing; so many more values may come
WELCOME       service     :class:`Welcome`: the numbers of the caller's methods, and what the service takes
DESCRIPTION   service     :class:`vnet.rpc.description.Description`
REFUSED       service     :class:`vnet.rpc.failures.Failure`; the pipe is closed behind it
RESULT        service     what the method returned
ITEM          service     one value of a stream
END           service     nothing; the stream has ended
FAILED        service     :class:`vnet.rpc.failures.Failure`
LEAVING       service     nothing; the service takes no more calls on this pipe
============  ==========  ==========================================================================
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

__all__ = ["HEAD", "VERSION", "Hello", "Limits", "Link", "Welcome", "check_timeout", "head_into", "read_head"]

VERSION = 1
_MAGIC = "vnet calls"

HELLO, DESCRIBE, CALL, CANCEL, CREDIT = 1, 2, 3, 4, 5
WELCOME, DESCRIPTION, REFUSED, RESULT, ITEM, END, FAILED, LEAVING = 17, 18, 19, 20, 21, 22, 23, 24

_HEAD = struct.Struct("<BBHQ")
HEAD = _HEAD.size
"""Bytes before the body."""

head_into = _HEAD.pack_into
"""Writes kind, credit, method and call into a buffer, at an offset."""

read_head = _HEAD.unpack_from
"""Reads kind, credit, method and call of a message of at least :data:`HEAD` bytes."""


_ENCODER = msgspec.msgpack.Encoder()
encode = _ENCODER.encode
"""Encodes a body."""


def failed(call: int, failure: Any, longest: int) -> bytearray:
    """The answer to a call that failed; shortened where the caller takes no more than ``longest`` bytes."""
    message = bytearray(HEAD)
    _ENCODER.encode_into(failure, message, HEAD)
    if len(message) > longest:
        short = type(failure)(failure.origin, failure.name, failure.message[:200], None, {}, "")
        message = bytearray(HEAD)
        _ENCODER.encode_into(short, message, HEAD)
    head_into(message, 0, FAILED, 0, 0, call)
    return message


def bare(kind: int, call: int = 0, method: int = 0) -> bytes:
    """A message without a body."""
    return _HEAD.pack(kind, 0, method, call)


class Hello(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A caller's first message.

    Attributes:
        version: of what this module describes.
        fingerprint: of the caller's interface.
        methods: of the caller's interface, in its order: names and digests.
        longest: bytes of an answer that the caller takes.
    """

    magic: str
    version: int
    interface: str
    fingerprint: str
    methods: list[tuple[str, str]]
    longest: int


class Welcome(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A service's answer to :class:`Hello`.

    Attributes:
        numbers: the service's number of each of the caller's methods.
        longest: bytes of a call that the service takes.
        deepest: how deep it takes arguments.
        calls: how many calls may be under way on this pipe.
    """

    version: int
    numbers: list[int]
    longest: int
    deepest: int
    calls: int


def hello(interface: Any, longest: int) -> Hello:
    """The first message of a caller that has the interface."""
    methods = [(each.name, each.digest) for each in interface.numbered]
    return Hello(_MAGIC, VERSION, interface.name, interface.fingerprint, methods, longest)


def is_hello(said: Hello) -> bool:
    """Whether that is one of ours at all."""
    return said.magic == _MAGIC


@dataclass(frozen=True)
class Limits:
    """What one side takes of the other.

    Attributes:
        message: bytes of a message, its head included; what one side takes, and the most that it sends.
        depth: how deep arrays and maps may be nested, the array of the arguments included.
        calls: calls that may be under way on one pipe.
        connections: pipes that a service has open at one time.
        handlers: calls that a service works on at one time, beside one for each pipe.
        window: values of a stream that are under way at one time.
        greeting: seconds that a service waits for a caller's first message.
    """

    message: int = 1 << 20
    depth: int = 64
    calls: int = 64
    connections: int = 64
    handlers: int = 32
    window: int = 32
    greeting: float = 10.0

    def __post_init__(self) -> None:
        for name, least, most in (
            ("message", 1024, 1 << 30),
            ("depth", 1, 500),
            ("calls", 1, 1 << 16),
            ("connections", 1, 1 << 16),
            ("handlers", 1, 4096),
            ("window", 1, 255),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
                raise ValueError(f"{name} is {value!r}; it is a whole number from {least} to {most}")
        if not self.greeting > 0:
            raise ValueError(f"greeting is {self.greeting!r}; it is a number of seconds above zero")


def check_timeout(what: str, value: Any) -> float | None:
    """Returns ``value`` if it is a number of seconds, or ``None``.

    Raises:
        TypeError, ValueError: it is something else, or below zero.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what} is None or a number of seconds, not {value!r}")
    if not value >= 0:
        raise ValueError(f"{what} is 0 or more seconds, not {value}")
    return None if value == float("inf") else float(value)


class Link(Protocol):
    """What calls go over: one side of a pipe that keeps messages apart.

    Several threads may write, one at a time reads.  ``close`` in one thread ends what others wait for in it.
    """

    def write(self, data: bytes | bytearray, block: bool = True, timeout: float | None = None) -> int | None:
        """Writes a message whole, and returns how long it is; ``None`` where there is no room and it is not to block.

        Raises:
            TimeoutError: there was no room in time.
            OSError: nobody will read it.
        """

    def read_message(self, block: bool = True, timeout: float | None = None) -> bytes | None:
        """Reads a message; ``None`` where none is there and it is not to block.

        Raises:
            TimeoutError: none came in time.
            EOFError, OSError: none will come any more.
        """

    def fileno(self) -> int:
        """A descriptor that is readable when a message, or the end, is there, and writable when there is room."""

    def close(self) -> None:
        """Ends both directions.  May be called twice."""
