"""Calls by those who have no interface of a service: the shell, and steps of labs.

The service is asked what it declares, and a call is checked and encoded here as by every caller: nothing leaves that
the service would not take.  Values come as a lab file or JSON has them: bytes as base64, dates as text, structures as
mappings.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import msgspec

from vnet.errors import CallTimeout, InterfaceError, VnetError
from vnet.lab.limits import Limit
from vnet.lab.tree import did_you_mean
from vnet.pipes import connect_operator
from vnet.rpc.caller import Caller, Pending, Stream
from vnet.rpc.channel import Channel, describe_over
from vnet.rpc.description import DescribedMethod
from vnet.rpc.links import PipeLink, pipe_size
from vnet.rpc.method import Method
from vnet.rpc.shapes import interface_from
from vnet.rpc.wire import Limits
from vnet.sharing.doors import Door, LocalDoor
from vnet.sharing.guest import Sharing

__all__ = ["Asked", "CallFailed", "call_once", "plain", "words_of"]

# Seconds that a service that is there takes to say what it declares.
_GREETING = 10.0
# Seconds between two looks whether a step must end.
_LOOK = 0.1
# Values of a stream that a step takes.
_MOST = 10_000


class CallFailed(Exception):
    """A call came to nothing.

    Attributes:
        text: the exception and what it says, such as ``KeyError: 7``.
        trace: where the service raised it, as far as it tells.
    """

    def __init__(self, error: BaseException) -> None:
        self.text = words_of(error)
        self.trace = str(getattr(error, "remote_traceback", "") or "")
        super().__init__(self.text)


def words_of(error: BaseException) -> str:
    """An exception as Python shows it at the end of a traceback, on one line."""
    name, message = type(error).__name__, " ".join(str(error).split())
    if name == "RemoteError":
        # It begins with the name of what was raised there.
        return message
    return f"{name}: {message}" if message else name


class Asked:
    """A service that was asked what it declares, and can be called.  A context manager.

    Args:
        lan: the name of a live LAN, or a LAN of this process.
        node: who serves.
        service: the service's name.
        guest: who calls; None: the operator.

    Attributes:
        description: what it declares.

    Raises:
        VnetError: nobody serves that, does not let in, or does not answer.
    """

    def __init__(self, lan: Any, node: str, service: str, guest: Sharing | None = None) -> None:
        limits = Limits()
        size = pipe_size(limits)
        if guest is None:
            pipe = connect_operator(lan, node, service, messages=True, size=size)
        else:
            pipe = guest.connect(node, service, messages=True, size=size)
        link = PipeLink(pipe)
        where = f"{service!r} of {node!r}"
        try:
            self.description = describe_over(link, where, _GREETING)
            self.interface = interface_from(self.description)
            channel = Channel(link, self.interface, where, limits, _GREETING)
        except BaseException:
            link.close()
            raise
        self._caller: Caller[Any] = Caller(channel, None, str)

    def method(self, name: str) -> DescribedMethod:
        """What the service declares of a method.

        Raises:
            InterfaceError: it declares none of that name.
        """
        self.interface.method(name)
        return next(each for each in self.description.methods if each.name == name)

    def arguments(self, name: str, args: Sequence[Any], named: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Plain values as the method takes them: of text a date, of a mapping a structure.

        Raises:
            InterfaceError: there is no such method or parameter, or a value is no such thing.
        """
        method = self.interface.method(name)
        kinds = kinds_of(method)
        by_place = [each.name for each in method.parameters if each.kind != "keyword"]
        if len(args) > len(by_place):
            raise InterfaceError(f"{method.full_name} takes {method.text()}, not {len(args)} arguments by place")
        placed = [convert(method, each, value, kinds) for each, value in zip(by_place, args, strict=False)]
        for each in named:
            if each not in kinds:
                close = did_you_mean(each, kinds)
                raise InterfaceError(f"{method.full_name} has no parameter {each!r}{close}; it takes {method.text()}")
        return placed, {each: convert(method, each, value, kinds) for each, value in named.items()}

    def start(
        self, name: str, args: Sequence[Any], named: Mapping[str, Any], timeout: float | None
    ) -> Pending[Any] | Stream:
        """Calls with values that the method takes; returns what waits for its answer, or its stream."""
        remote = getattr(self._caller.with_timeout(timeout), name)
        call = remote if self.interface.method(name).stream else remote.start
        started: Pending[Any] | Stream = call(*args, **named)
        return started

    def close(self) -> None:
        """Ends what is under way, and lets go of the pipe.  May be called twice."""
        self._caller.close()

    def __enter__(self) -> Asked:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def kinds_of(method: Method) -> dict[str, Any]:
    """The types of a method's parameters by name."""
    fields = msgspec.structs.fields(method.arguments)
    return {each.name: field.type for each, field in zip(method.parameters, fields, strict=True)}


def convert(method: Method, name: str, value: Any, kinds: Mapping[str, Any]) -> Any:
    """A plain value as the parameter's type has it.

    Raises:
        InterfaceError: it is no such thing.
    """
    try:
        return msgspec.convert(value, kinds[name])
    except (msgspec.ValidationError, ValueError, OverflowError, RecursionError) as error:
        raise InterfaceError(
            f"{method.full_name}: argument {name!r}: {_lowered(error)}; it takes {method.text()}"
        ) from None


def plain(value: Any) -> Any:
    """A result as JSON has it: bytes as base64, dates as text, structures as mappings."""
    return msgspec.to_builtins(value, str_keys=True)


def _lowered(error: Exception) -> str:
    text = str(error).replace("`", "'")
    return text[:1].lower() + text[1:]


# --- for steps --------------------------------------------------------------------------------------------------------


def call_once(
    lan: Any,
    node: str,
    service: str,
    method: str,
    args: Sequence[Any],
    named: Mapping[str, Any],
    *,
    guest: str | None,
    timeout: float,
    limit: Limit,
) -> Any:
    """Call a service of a LAN of this process, and wait for the answer; of a stream for all of its values, as a list.

    Args:
        guest: in whose name; None: as the operator.
        timeout: seconds after which the call is given up.
        limit: ends the waiting before.

    Raises:
        CallFailed: it came to nothing, for whatever reason.
        StepEnded: the step must end before.
    """
    deadline = time.monotonic() + timeout
    with _acting(lan, guest) as who:
        try:
            with Asked(lan, node, service, who) as asked:
                placed, given = asked.arguments(method, args, named)
                started = asked.start(method, placed, given, min(timeout, limit.left()))
                if isinstance(started, Stream):
                    return plain(_values(started, deadline, timeout, limit))
                return plain(_answer(started, deadline, timeout, limit))
        except Exception as error:
            if isinstance(error, VnetError) or hasattr(error, "remote_type"):
                raise CallFailed(error) from None
            raise


def _answer(pending: Pending[Any], deadline: float, timeout: float, limit: Limit) -> Any:
    # In slices: the run may be taken down meanwhile.
    while not pending.done():
        limit.check()
        left = deadline - time.monotonic()
        if left <= 0:
            pending.cancel()
            raise CallTimeout(f"not answered within {timeout:g} s")
        with contextlib.suppress(CallTimeout):
            return pending.result(min(left, _LOOK))
    return pending.result(_LOOK)


def _values(stream: Stream, deadline: float, timeout: float, limit: Limit) -> list[Any]:
    values = []
    with stream:
        for value in stream:
            values.append(value)
            limit.check()
            if time.monotonic() > deadline:
                raise CallTimeout(f"the stream has not ended within {timeout:g} s; {len(values):,} values came")
            if len(values) > _MOST:
                raise CallTimeout(f"the stream has not ended after {_MOST:,} values")
    return values


class _Acting(Sharing):
    """Somebody in the base who acts as a guest of the lab, as only the base can."""

    def __init__(self, lan: Any, name: str) -> None:
        self.name = name
        self._broker = lan._register.broker
        with self._broker.lock:
            self._guest = self._broker.welcome(name, os.getpid())

    def _door(self) -> Door:
        return LocalDoor(lambda: self._broker, lambda: self._guest)

    def leave(self) -> None:
        self._broker.let_go(self._guest)


@contextlib.contextmanager
def _acting(lan: Any, name: str | None) -> Iterator[_Acting | None]:
    if name is None:
        yield None
        return
    acting = _Acting(lan, name)
    try:
        yield acting
    finally:
        acting.leave()
