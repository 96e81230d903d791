"""Calling from tasks of an event loop: the same stand-ins, with methods that are awaited.

A task that is cancelled, or runs out of time, cancels its call: the service is told, and the answer is dropped.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from types import TracebackType
from typing import Any

from ..errors import CallTimeout, InterfaceError, ServiceGone
from . import wire
from .caller import NoSuchMethod
from .channel import read_failure, welcome_of
from .interface import Interface, interface_of
from .links import PipeLink, pipe_size
from .looplink import LoopLink
from .method import Method
from .wire import HEAD, Limits, Link, bare, head_into, read_head

__all__ = ["AsyncCaller", "AsyncStream", "async_caller"]

_GREETING = 10.0


class _Awaited:
    """What a call's task waits for: answers, one after another."""

    __slots__ = ("answers", "future")

    def __init__(self) -> None:
        self.answers: deque[bytes] = deque()
        self.future: asyncio.Future[None] | None = None

    def wake(self) -> None:
        if self.future is not None and not self.future.done():
            self.future.set_result(None)


class TaskChannel:
    """Calls over one link, by the tasks of one event loop."""

    def __init__(self, link: Link, interface: Interface, where: str, limits: Limits) -> None:
        self.interface = interface
        self.where = where
        self.limits = limits
        self.deepest = limits.depth
        self._numbers = itertools.count(1)
        self._waiting: dict[int, _Awaited] = {0: _Awaited()}
        self._gone: str | None = None
        self._leaving = False
        self._longest = limits.message
        self._methods: list[int] = []
        self._link = LoopLink(link, self._came, self._die)

    async def greet(self) -> None:
        """Says hello, and waits for the answer."""
        said = wire.hello(self.interface, self.limits.message)
        self._link.send(bare(wire.HELLO) + wire.encode(said))
        data = await self._answer(self._waiting[0], _GREETING)
        welcome = welcome_of(data, self.interface, self.where)
        del self._waiting[0]
        self.deepest = min(welcome.deepest, self.limits.depth)
        self._longest = min(welcome.longest, self.limits.message)
        self._methods = welcome.numbers

    async def call(self, method: Method, message: bytearray, timeout: float | None) -> Any:
        """Calls, and waits for the answer."""
        number, waiting = await self.begin(method, message)
        try:
            data = await self._answer(waiting, timeout)
        finally:
            self.give_up(number, done=bool(waiting.future is None))
        kind = data[0]
        if kind == wire.RESULT:
            return method.decode_result(memoryview(data)[HEAD:], self.limits.depth)
        if kind == wire.FAILED:
            raise read_failure(data, self.interface.raises, f"{self.where}, {method.name}")
        raise InterfaceError(f"{method.full_name}: the service answered with values of a stream, and none is declared")

    async def begin(self, method: Method, message: bytearray, credit: int = 0) -> tuple[int, _Awaited]:
        """Sends a call, once there is room for it."""
        if len(message) > self._longest:
            raise InterfaceError(
                f"{method.full_name}: the arguments take {len(message)} bytes, more than the {self._longest} that "
                f"{self.where} takes; pass large ones as regions"
            )
        if self._link.congested:
            await self._link.room()
        if self._gone is not None or self._leaving:
            raise self.is_gone()
        number, waiting = next(self._numbers), _Awaited()
        self._waiting[number] = waiting
        head_into(message, 0, wire.CALL, credit, self._methods[method.number], number)
        self._link.send(message)
        return number, waiting

    async def next_value(self, method: Method, waiting: _Awaited, timeout: float | None) -> tuple[bool, Any]:
        """The next value of a stream, or that there is none."""
        data = await self._answer(waiting, timeout)
        kind = data[0]
        if kind == wire.ITEM:
            return True, method.decode_result(memoryview(data)[HEAD:], self.limits.depth)
        if kind == wire.END:
            return False, None
        if kind == wire.FAILED:
            raise read_failure(data, self.interface.raises, f"{self.where}, {method.name}")
        raise InterfaceError(f"{method.full_name}: the service answered with one value, and a stream is declared")

    async def _answer(self, waiting: _Awaited, timeout: float | None) -> bytes:
        if not waiting.answers:
            if self._gone is not None:
                raise self.is_gone()
            loop = asyncio.get_running_loop()
            future = waiting.future = loop.create_future()
            late = None if timeout is None else loop.call_later(timeout, waiting.wake)
            try:
                await future
            finally:
                if late is not None:
                    late.cancel()
            if not waiting.answers:
                if self._gone is not None:
                    raise self.is_gone()
                raise CallTimeout(f"{self.where} did not answer within {timeout:g} s")
            waiting.future = None
        return waiting.answers.popleft()

    def give_credit(self, number: int, count: int) -> None:
        """Says that so many more values of a stream may come."""
        self._link.send(bare(wire.CREDIT, number, count))

    def give_up(self, number: int, *, done: bool = False) -> None:
        """Says that an answer is not awaited any more; nothing is said where it came."""
        if self._waiting.pop(number, None) is not None and not done and self._gone is None:
            self._link.send(bare(wire.CANCEL, number))

    def _came(self, data: bytes) -> None:
        if not HEAD <= len(data) <= self.limits.message:
            raise self._nonsense(f"a message of {len(data)} bytes")
        kind, _, _, number = read_head(data)
        if kind in (wire.RESULT, wire.ITEM, wire.END, wire.FAILED, wire.WELCOME, wire.REFUSED):
            waiting = self._waiting.get(number)
            # Without one: its caller has given up.
            if waiting is None:
                return
            if len(waiting.answers) > self.limits.window:
                raise self._nonsense(f"more values of call {number} than were asked for")
            waiting.answers.append(data)
            waiting.wake()
        elif kind == wire.LEAVING:
            self._leaving = True
        else:
            raise self._nonsense(f"a message of kind {kind}")

    def _nonsense(self, what: str) -> ConnectionError:
        self._gone = f"{self.where} wrote what no service says: {what}"
        return ConnectionError(what)

    def _die(self, error: BaseException | None) -> None:
        if self._gone is None:
            closed = f"{self.where} has closed the service"
            gone = f"{self.where} is gone: its process ended, or it closed the service"
            own = f"the pipe to {self.where} is closed"
            self._gone = own if error is None else closed if self._leaving else gone
        for waiting in self._waiting.values():
            waiting.wake()
        self._link.close()

    @property
    def gone(self) -> bool:
        """Whether the service is gone, or this side was closed."""
        return self._gone is not None

    def is_gone(self) -> ServiceGone:
        """Why no call can be made."""
        return ServiceGone(self._gone or f"{self.where} takes no more calls: it is closing the service")

    def close(self) -> None:
        """Closes the link; calls that wait end with ServiceGone."""
        self._die(None)


class AsyncRemoteMethod:
    """A method of a service; what it returns is awaited, or, where it is a stream, iterated over."""

    def __init__(self, method: Method, caller: AsyncCaller, timeout: float | None) -> None:
        self.__name__ = method.name
        self.__qualname__ = method.full_name
        self.__doc__ = method.doc or None
        self.__signature__ = method.signature
        self._method = method
        self._caller = caller
        self._timeout = timeout

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # Refused here and now, not only once it is awaited.
        channel = self._caller._channel
        message = self._method.encode(args, kwargs, HEAD, channel.deepest)
        if self._method.stream:
            return AsyncStream(self, channel, message)
        return self._call(channel, message)

    async def _call(self, channel: TaskChannel, message: bytearray) -> Any:
        return await self._given(await channel.call(self._method, message, self._timeout))

    async def _given(self, value: Any) -> Any:
        if not self._method.returns_region or value is None:
            return value
        return await asyncio.get_running_loop().run_in_executor(None, self._caller._attach, value)

    def __repr__(self) -> str:
        return f"<{self._method.text()} of {self._caller._channel.where}>"


class AsyncStream(AsyncIterator[Any]):
    """The values of a stream.  It begins with the first that is asked for; the timeout holds for each.

    Leaving it as a context, or ``aclose()``, ends the generator at the service.
    """

    def __init__(self, remote: AsyncRemoteMethod, channel: TaskChannel, message: bytearray) -> None:
        self._remote = remote
        self._channel = channel
        self._message: bytearray | None = message
        self._window = channel.limits.window
        self._taken = 0
        self._ended = False
        self._number = 0
        self._waiting: _Awaited | None = None

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> Any:
        if self._ended:
            raise StopAsyncIteration
        remote, channel = self._remote, self._channel
        try:
            if self._waiting is None:
                assert self._message is not None
                message, self._message = self._message, None
                self._number, self._waiting = await channel.begin(remote._method, message, self._window)
            there, value = await channel.next_value(remote._method, self._waiting, remote._timeout)
        except BaseException:
            await self.aclose()
            raise
        if not there:
            self._ended = True
            channel.give_up(self._number, done=True)
            raise StopAsyncIteration
        self._taken += 1
        if self._taken * 2 >= self._window:
            channel.give_credit(self._number, self._taken)
            self._taken = 0
        return await remote._given(value)

    async def aclose(self) -> None:
        """Takes no more values.  May be called twice."""
        if not self._ended:
            self._ended = True
            self._channel.give_up(self._number)

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class AsyncProxy:
    """Stands for the object that another guest serves: has the interface's methods, to be awaited, and nothing else."""

    def __init__(self, caller: AsyncCaller, timeout: float | None) -> None:
        own = vars(self)
        own["_caller"] = caller
        for method in caller.interface.numbered:
            own[method.name] = AsyncRemoteMethod(method, caller, timeout)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return vars(self)["_caller"].interface.method(name)
        except InterfaceError as error:
            raise NoSuchMethod(str(error)) from None

    def __setattr__(self, name: str, value: Any) -> None:
        raise InterfaceError(f"{name!r} cannot be set: this stands for an object elsewhere")

    def __repr__(self) -> str:
        return f"<{vars(self)['_caller'].interface.name}, awaited>"

    def __dir__(self) -> list[str]:
        return sorted(vars(self)["_caller"].interface.methods)


class AsyncCaller:
    """A caller's pipe to a service, for the tasks of one event loop.

    ``async with guest.async_caller(...) as disk`` gives the stand-in; ``caller = await guest.async_caller(...)`` the
    caller, whose :attr:`proxy` it is and which is closed by :meth:`close`.

    Attributes:
        interface: what may be called.
        proxy: the stand-in, once it is connected.
    """

    proxy: Any

    def __init__(
        self, connect: Callable[[], Awaitable[Link]], interface: Interface, where: str, timeout: float | None,
        limits: Limits, attach: Callable[[str], Any],
    ) -> None:  # fmt: skip
        self.interface = interface
        self._connect = connect
        self._where = where
        self._timeout = timeout
        self._limits = limits
        self._attach = attach

    async def _begin(self) -> AsyncCaller:
        link = await self._connect()
        try:
            self._channel = TaskChannel(link, self.interface, self._where, self._limits)
        except BaseException:
            link.close()
            raise
        try:
            await self._channel.greet()
        except BaseException:
            self._channel.close()
            raise
        self.proxy = AsyncProxy(self, self._timeout)
        return self

    def with_timeout(self, timeout: float | None) -> Any:
        """Another stand-in over the same pipe, of which calls wait up to ``timeout`` seconds for their answers."""
        return AsyncProxy(self, wire.check_timeout("timeout", timeout))

    async def close(self) -> None:
        """Closes the pipe; what waits for answers ends with :class:`vnet.ServiceGone`.  May be called twice."""
        self._channel.close()

    def __await__(self) -> Generator[Any, None, AsyncCaller]:
        return self._begin().__await__()

    async def __aenter__(self) -> Any:
        await self._begin()
        return self.proxy

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def async_caller(
    guest: Any,
    peer: str,
    service: str,
    interface: Any,
    *,
    timeout: float | None = None,
    connect_timeout: float | None = None,
    limits: Limits | None = None,
) -> AsyncCaller:
    """Connects to what another guest serves, for the tasks of the running event loop.

    >>> async with other.async_caller("host", "disk", BlockStore) as disk:  # doctest: +SKIP
    ...     await disk.read(3)
    ...     async for block in disk.scan(0, 9):
    ...         ...

    Arguments and errors are those of :func:`vnet.rpc.caller`; it connects when it is awaited or entered.
    """
    declared = interface_of(interface)
    timeout = wire.check_timeout("timeout", timeout)
    taken = limits or Limits()

    async def connect() -> Link:
        from ..pipes import aconnect

        return PipeLink(
            await aconnect(guest, peer, service, timeout=connect_timeout, messages=True, size=pipe_size(taken))
        )

    return AsyncCaller(connect, declared, f"{service!r} of {peer!r}", timeout, taken, guest.attach_region)
