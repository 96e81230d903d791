"""Calls by those who have no interface of a service: what ``vnet call`` and ``call`` steps share.

The service is asked what it declares, and a call is checked and encoded here as by every caller, with what
:mod:`vnet.rpc.shell` makes of that: nothing leaves that the service would not take.  Values come and go as JSON has
them: bytes as base64, dates as text, structures as mappings.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from vnet.errors import CallTimeout, VnetError
from vnet.lab.limits import Limit
from vnet.pipes import connect_operator
from vnet.rpc.caller import Caller, Pending, Stream
from vnet.rpc.description import Description
from vnet.rpc.links import pipe_size
from vnet.rpc.shell import caller_of
from vnet.rpc.wire import Limits
from vnet.sharing.doors import Door, LocalDoor
from vnet.sharing.guest import Sharing

__all__ = ["CallFailed", "call_once", "is_remote", "open_service", "plain", "words_of"]

# Seconds that a service which is there takes at most to tell what it declares.
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


def is_remote(error: BaseException) -> bool:
    """Whether the service raised it, and not who called."""
    return hasattr(error, "remote_type")


def plain(value: Any) -> Any:
    """A result as JSON has it: bytes as base64, dates as text, structures as mappings."""
    return msgspec.to_builtins(value, str_keys=True)


@contextlib.contextmanager
def open_service(
    lan: Any, node: str, service: str, *, guest: Sharing | None = None, patience: float | None = None
) -> Iterator[tuple[Description, Caller[Any]]]:
    """What a service declares, and a caller of it, which is closed on leaving.

    Args:
        lan: the name of a live LAN, or a LAN of this process.
        node: who serves.
        service: the service's name.
        guest: who calls; None: the operator.
        patience: seconds in which it must have told what it declares, where that is less than the usual ten.

    Raises:
        VnetError: nobody serves that, does not let in, or does not answer.
    """
    size = pipe_size(Limits())
    if guest is None:
        pipe = connect_operator(lan, node, service, messages=True, size=size)
    else:
        pipe = guest.connect(node, service, messages=True, size=size)
    greeting = _GREETING if patience is None else min(patience, _GREETING)
    description, caller = caller_of(pipe, f"{service!r} of {node!r}", greeting=greeting)
    try:
        yield description, caller
    finally:
        caller.close()


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
            with open_service(lan, node, service, guest=who, patience=timeout) as (_, caller):
                streams = caller.interface.method(method).stream
                remote = getattr(caller.with_timeout(min(timeout, limit.left())), method)
                if streams:
                    return plain(_values(remote(*args, **named), deadline, timeout, limit))
                return plain(_answer(remote.start(*args, **named), deadline, timeout, limit))
        except Exception as error:
            if isinstance(error, VnetError) or is_remote(error):
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
