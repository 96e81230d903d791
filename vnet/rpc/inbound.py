"""What a service makes of a caller's message, before anything of the service is touched.

Nothing here has effects: bytes go in, and out comes what to do.  That is where everything that a peer wrote is judged,
and it is what the fuzzer feeds (:func:`judge_bytes`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..errors import InterfaceError, ProtocolError
from . import wire
from .interface import Interface
from .wire import HEAD, Hello, Limits, Welcome, read_head

__all__ = ["Asked", "Cancelled", "Credited", "Garbage", "Judge", "Refused", "judge_bytes"]

_HELLO = msgspec.msgpack.Decoder(Hello)
_ENCODER = msgspec.msgpack.Encoder()


class Garbage(ProtocolError):
    """This is no message of a caller; whoever wrote it has lost its place, and the pipe is of no more use."""


class Asked(msgspec.Struct, frozen=True, gc=False):
    """A call that the service understands: its number on this pipe, the method, the arguments, a stream's credit."""

    call: int
    method: Any
    request: Any
    credit: int


class Cancelled(msgspec.Struct, frozen=True):
    """The answer to that call is not awaited any more."""

    call: int


class Credited(msgspec.Struct, frozen=True):
    """So many more values of that stream may be sent."""

    call: int
    count: int


class Refused(msgspec.Struct, frozen=True):
    """A call that is answered with an error and goes no further."""

    call: int
    error: Exception


class Judge:
    """Judges the messages of one caller.

    Arguments:
        interface: what the service serves.
        limits: what it takes.
    """

    def __init__(self, interface: Interface, limits: Limits) -> None:
        self._methods = interface.numbered
        self._interface = interface
        self._limits = limits
        self._last = 0

    def judge(self, data: bytes) -> Asked | Cancelled | Credited | Refused:
        """Says what a message asks for.

        Raises:
            Garbage: it is no message at all, or one that nobody sends who keeps to the protocol.
        """
        length = len(data)
        if length < HEAD:
            raise Garbage(f"a message of {length} bytes, which has no head")
        kind, credit, number, call = read_head(data)
        if kind == wire.CALL:
            # Calls count up: a number that came before would have two calls answer to it.
            if call <= self._last:
                raise Garbage(f"call {call} after call {self._last}")
            self._last = call
            if length > self._limits.message:
                error = f"the call takes {length} bytes, more than the {self._limits.message} that the service takes"
                return Refused(call, InterfaceError(f"{error}; pass large arguments as regions"))
            if number >= len(self._methods):
                return Refused(call, InterfaceError(f"{self._interface.name} has no method of number {number}"))
            method = self._methods[number]
            try:
                request = method.decode(memoryview(data)[HEAD:], self._limits.depth)
            except InterfaceError as error:
                return Refused(call, error)
            return Asked(call, method, request, credit)
        if length > HEAD:
            raise Garbage(f"a message of kind {kind} with {length - HEAD} bytes too many")
        if kind == wire.CANCEL:
            return Cancelled(call)
        if kind == wire.CREDIT:
            return Credited(call, number)
        raise Garbage(f"a message of kind {kind}")

    def greet(self, data: bytes) -> bytes | None:
        """Answers a caller's first message; ``None`` where it asks for the description and has not said hello yet.

        Raises:
            InterfaceError: it has another version, or an interface that does not fit; the message says what differs.
            Garbage: it is no greeting.
        """
        if len(data) < HEAD or len(data) > self._limits.message:
            raise Garbage(f"a first message of {len(data)} bytes")
        kind, _, _, _ = read_head(data)
        if kind == wire.DESCRIBE and len(data) == HEAD:
            return None
        if kind != wire.HELLO:
            raise Garbage(f"a first message of kind {kind}")
        try:
            said = _HELLO.decode(memoryview(data)[HEAD:])
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            # Another version may say hello differently; all agree on how it begins.
            other = _version_in(data)
            if other is not None and other != wire.VERSION:
                raise InterfaceError(_versions(other)) from None
            raise Garbage(f"a greeting that cannot be read: {error}") from None
        if not wire.is_hello(said):
            raise Garbage("a greeting of something else")
        if said.version != wire.VERSION:
            raise InterfaceError(_versions(said.version))
        limits = self._limits
        numbers = self._numbers(said)
        self.longest_answer = max(1024, min(said.longest, 1 << 30))
        welcome = Welcome(wire.VERSION, numbers, limits.message, limits.depth, limits.calls)
        return wire.bare(wire.WELCOME) + _ENCODER.encode(welcome)

    longest_answer = 1024

    def _numbers(self, said: Hello) -> list[int]:
        """The service's numbers of the caller's methods."""
        if said.fingerprint == self._interface.fingerprint and [name for name, _ in said.methods] == [
            each.name for each in self._methods
        ]:
            return list(range(len(self._methods)))
        numbers, differ = [], []
        for name, digest in said.methods:
            method = self._interface.methods.get(name)
            if method is None:
                differ.append(f"{name} (the service has none)")
            elif method.digest != digest:
                differ.append(f"{name} (the service has {method.text()})")
            else:
                numbers.append(method.number)
        if differ:
            shown = ", ".join(differ[:8]) + (f" and {len(differ) - 8} more" if len(differ) > 8 else "")
            raise InterfaceError(
                f"the caller's interface {said.interface} and the service's {self._interface.name} differ in {shown}"
            )
        return numbers


def _versions(other: int) -> str:
    return f"the caller speaks version {other} of calls, and the service version {wire.VERSION}"


def _version_in(data: bytes) -> int | None:
    try:
        said = msgspec.msgpack.decode(memoryview(data)[HEAD:])
    except (msgspec.MsgspecError, ValueError, RecursionError, TypeError):
        return None
    if isinstance(said, list) and len(said) > 1 and said[0] == "vnet calls" and type(said[1]) is int:
        return said[1]
    return None


def judge_bytes(interface: Interface, data: bytes, limits: Limits | None = None) -> str:
    """Judges one message of a caller that has just said hello, and says in a word what it is.  For the fuzzer.

    Raises nothing: whatever raises here is a flaw.
    """
    judge = Judge(interface, limits or Limits())
    try:
        return type(judge.judge(data)).__name__.lower()
    except Garbage:
        return "garbage"


def greet_bytes(interface: Interface, data: bytes, limits: Limits | None = None) -> str:
    """Judges a caller's first message, and says in a word what comes of it.  For the fuzzer."""
    judge = Judge(interface, limits or Limits())
    try:
        return "describe" if judge.greet(data) is None else "welcome"
    except InterfaceError:
        return "refused"
    except Garbage:
        return "garbage"
