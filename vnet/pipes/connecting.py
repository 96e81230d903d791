"""How guests listen and connect: what they ask the base for, and what they make of its answer."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .. import _native
from ..errors import LanClosed, ProtocolError, ServiceBusy, ServiceGone, ServiceNotFound
from ..runtime import check_name
from ..wire import close_all
from .listener import Listener
from .pipe import Pipe
from .sizes import BACKLOG, LONGEST, SIZE, check_backlog, check_longest, check_size

if TYPE_CHECKING:
    import asyncio

    from ..lan import Lan
    from ..sharing import Sharing

__all__ = ["aconnect", "connect", "connect_operator", "listen", "services"]

# What may be another in a moment: the service starts, takes those who wait, or starts again.
_PASSING = (ServiceNotFound, ServiceBusy, ServiceGone)
# Seconds between two attempts, at first and at most.
_SOON, _LATER = 0.002, 0.05

_Ask = Callable[..., "tuple[dict[str, Any], list[int]]"]


def listen(
    guest: Sharing,
    service: str,
    *,
    backlog: int = BACKLOG,
    guests: Sequence[str] | None = None,
    messages: bool | None = None,
    longest: int = LONGEST,
) -> Listener:
    """Listens for those who connect to a service of a guest; ``guest.listen(service)`` is the same.

    Arguments:
        guest: a NIC, a built-in host, or whoever else takes part.
        service: its name, such as ``"disk"``: letters, digits, ``.``, ``_`` and ``-``.
        backlog: how many may wait to be accepted, 1 to 128; others get :class:`vnet.ServiceBusy`.
        guests: names of those who may connect; ``None`` for all.  The operator, who can do all else, may always.
        messages: whether it takes pipes of messages only, or of bytes only; ``None`` for either.
        longest: bytes of the longest message that this end sends or takes; 256 MiB unless given.

    Raises:
        NameTaken: the guest listens for it already.
        NotPermitted: the lab keeps the name for another guest.
        NicClosed, LanClosed, ForkedNic: the guest cannot be used.
        TypeError, ValueError: an argument is wrong.
    """
    check_name("service", service)
    check_backlog(backlog)
    check_longest(longest)
    if isinstance(guests, str):
        raise TypeError(f"guests is a list of names: [{guests!r}]")
    allowed = None if guests is None else tuple(guests)
    for each in allowed or ():
        check_name("guest", each)
    if messages is not None and not isinstance(messages, bool):
        raise TypeError(f"messages is True, False or None, not {messages!r}")
    about: dict[str, Any] = {
        "backlog": backlog,
        "guests": None if allowed is None else list(allowed),
        "messages": messages,
    }
    answer, files = guest._door().ask("service.listen", service=service, **about)
    if len(files) != 1:
        close_all(files)
        raise ProtocolError(f"the base sent {len(files)} descriptors for a service, not 1")
    door = socket.socket(fileno=files[0])
    name = str(answer.get("guest") or guest.name)
    about = {"backlog": backlog, "guests": allowed, "messages": messages, "longest": longest}
    return Listener(guest, door, service=service, guest=name, **about)


def connect(
    guest: Sharing,
    peer: str,
    service: str,
    *,
    timeout: float | None = None,
    messages: bool = False,
    size: int = SIZE,
    longest: int = LONGEST,
) -> Pipe:
    """Connects to a service of another guest; ``guest.connect(peer, service)`` is the same.

    It does not wait until the other accepts: what is written before waits for him.

    Arguments:
        guest: a NIC, a built-in host, or whoever else takes part.
        peer: the name of the guest that listens; a guest may connect to itself.
        service: the service's name.
        timeout: seconds to go on trying while the service is not there, or has no room; ``None`` to try once.
        messages: have the pipe keep the boundaries of what is written.
        size: bytes that may wait in each direction, 4 KiB to 1 GiB; memory is taken as they are used.
        longest: bytes of the longest message that this end sends or takes; 256 MiB unless given.

    Raises:
        ServiceNotFound: the guest does not listen for it, or there is no such guest.
        ServiceGone: it did, and has ended.
        ServiceBusy: too many wait to be accepted.
        NotPermitted: the service does not let this guest in.
        ValueError: the service takes the other kind of pipes, or an argument is wrong.
        NicClosed, LanClosed, ForkedNic: the guest cannot be used.
    """
    asked = _request(peer, service, messages, size)
    check_longest(longest)
    pauses = _pauses(timeout)
    while True:
        try:
            return _once(guest._door().ask, asked, longest)
        except _PASSING:
            pause = next(pauses, None)
            if pause is None:
                raise
            time.sleep(pause)


async def aconnect(
    guest: Sharing,
    peer: str,
    service: str,
    *,
    timeout: float | None = None,
    messages: bool = False,
    size: int = SIZE,
    longest: int = LONGEST,
) -> Pipe:
    """Connects as :func:`connect`, and lets other tasks run meanwhile."""
    import asyncio

    asked = _request(peer, service, messages, size)
    check_longest(longest)
    pauses = _pauses(timeout)
    loop = asyncio.get_running_loop()
    while True:
        # The base may be another process, and may be stopped.
        attempt = loop.run_in_executor(None, lambda: _once(guest._door().ask, asked, longest))
        try:
            return await asyncio.shield(attempt)
        except asyncio.CancelledError:
            attempt.add_done_callback(_close_unwanted)
            raise
        except _PASSING:
            pause = next(pauses, None)
            if pause is None:
                raise
            await asyncio.sleep(pause)


def connect_operator(
    lan: str | Lan,
    peer: str,
    service: str,
    *,
    timeout: float | None = None,
    messages: bool = False,
    size: int = SIZE,
    longest: int = LONGEST,
) -> Pipe:
    """Connects to a service of a guest as the operator of the LAN, who needs no NIC; ``vnet call`` does so.

    Arguments:
        lan: the name of a live LAN of this user, or a LAN of this process.
        peer, service, timeout, messages, size, longest: as of :func:`connect`, like the errors.

    Raises:
        LanNotFound, NotPermitted, AbiMismatch: as of :func:`vnet.attach`.
    """
    asked = _request(peer, service, messages, size)
    check_longest(longest)
    with _operator(lan) as ask:
        pauses = _pauses(timeout)
        while True:
            try:
                return _once(ask, asked, longest)
            except _PASSING:
                pause = next(pauses, None)
                if pause is None:
                    raise
                time.sleep(pause)


def services(lan: str | Lan | Sharing) -> list[dict[str, Any]]:
    """Returns what services there are on a LAN, each as :class:`vnet.pipes.ServiceInfo` has it.

    Arguments:
        lan: the name of a live LAN of this user, a LAN of this process, or a guest.
    """
    with _operator(lan) as ask:
        answer, files = ask("service.list")
    close_all(files)
    found = answer.get("services")
    if not isinstance(found, list):
        raise ProtocolError("the base's answer lacks 'services', or it is no list")
    return found


@contextlib.contextmanager
def _operator(lan: str | Lan | Sharing) -> Iterator[_Ask]:
    """How the operator of a LAN asks its broker, or how a guest does."""
    if isinstance(lan, str):
        from ..sharing import member

        with member(lan, operator=True) as operator:
            yield operator._door().ask
    elif hasattr(lan, "_door"):
        yield lan._door().ask
    else:
        register = lan._register

        def ask(do: str, **arguments: Any) -> tuple[dict[str, Any], list[int]]:
            if register.closed:
                raise LanClosed("this LAN is closed")
            return register.broker.ask(None, {"do": do, **arguments}, [])

        yield ask


def _request(peer: Any, service: str, messages: bool, size: int) -> dict[str, Any]:
    if not isinstance(peer, str):
        raise TypeError(f"connect to a guest by its name, not {peer!r}")
    check_name("service", service)
    if not isinstance(messages, bool):
        raise TypeError(f"messages is True or False, not {messages!r}")
    return {"guest": peer, "service": service, "messages": messages, "size": check_size(size)}


def _once(ask: _Ask, asked: dict[str, Any], longest: int) -> Pipe:
    answer, files = ask("service.connect", **asked)
    try:
        about: dict[str, Any] = {"peer": str(answer["peer"]), "guest": answer["guest"]}
    except KeyError as error:
        close_all(files)
        raise ProtocolError(f"the base's answer lacks {error}") from None
    end = _native.PipeEnd(files, True, largest=longest)
    return Pipe(end, service=asked["service"], **about)


def _pauses(timeout: float | None) -> Iterator[float]:
    """Seconds to wait before each further attempt, until the time is over."""
    if timeout is None:
        return
    if not timeout >= 0:
        raise ValueError(f"a timeout is 0 or more seconds, not {timeout}")
    deadline = time.monotonic() + timeout
    pause = _SOON
    while (left := deadline - time.monotonic()) > 0:
        yield min(pause, left)
        pause = min(2 * pause, _LATER)


def _close_unwanted(attempt: asyncio.Future[Pipe]) -> None:
    """Closes the pipe that an attempt brought after all."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()
