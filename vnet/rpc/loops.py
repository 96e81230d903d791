"""Serving calls in an event loop: methods are coroutines, streams are asynchronous generators.

A coroutine whose caller gives up, runs out of time or is gone is cancelled.  Methods that are plain functions are
called in the loop's own thread, which they hold up; one that may take its time belongs in a coroutine, or is served in
threads, with ``serve_calls``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Generator, Sequence
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from ..errors import InterfaceError, LanClosed, NicClosed, ServiceBusy, ServiceGone
from . import wire
from .borrowed import Borrowed
from .context import CurrentCall, current
from .description import describe
from .failures import refusal_of
from .inbound import Asked, Cancelled, Garbage, Judge, Refused
from .interface import interface_of
from .links import PipeLink
from .looplink import LoopLink
from .method import WrongResult
from .service import failure_for, handlers_of
from .serving import turn_away
from .wire import HEAD, Limits, Link, bare, head_into

__all__ = ["AsyncServed", "serve_calls_async"]

T = TypeVar("T")
_log = logging.getLogger("vnet.rpc")


class _LoopCall(CurrentCall):
    """A call that a task works on."""

    __slots__ = ("credit", "more", "task")

    def __init__(self, guest: str | None, service: str, method: str, credit: int) -> None:
        super().__init__(guest, service, method)
        self.credit = credit
        self.more = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def give_up(self) -> None:
        self._cancel()
        if self.task is not None:
            self.task.cancel()


class _LoopConnection:
    """A caller's pipe, as the service has it."""

    def __init__(self, served: AsyncServed, link: Link, guest: str | None) -> None:
        self.guest = guest
        self.name = served.service
        self.calls: dict[int, _LoopCall] = {}
        self._served = served
        self._judge = Judge(served.interface, served.limits)
        self._borrowed = Borrowed(served.sharing)
        self._greeted = False
        self._ended = False
        self._link = LoopLink(link, self._came, self._gone)
        loop = asyncio.get_running_loop()
        self._greeting = loop.call_later(served.limits.greeting, self._gone, TimeoutError())

    def _came(self, data: bytes) -> None:
        try:
            if not self._greeted:
                self._greet(data)
                return
            asked = self._judge.judge(data)
        except Garbage as error:
            _log.info(
                "service %r: a caller wrote what is no message: %s; its pipe is closed", self._served.service, error
            )
            raise ConnectionError(str(error)) from None
        if isinstance(asked, Asked):
            self._admit(asked)
        elif isinstance(asked, Refused):
            self._fail(asked.call, asked.error)
        elif (call := self.calls.get(asked.call)) is not None:
            if isinstance(asked, Cancelled):
                self._link.send(bare(wire.END, asked.call))
                call.give_up()
            else:
                call.credit = min(call.credit + asked.count, 0xFFFF)
                call.more.set()

    def _greet(self, data: bytes) -> None:
        try:
            answer = self._judge.greet(data)
        except InterfaceError as error:
            self._link.send(bare(wire.REFUSED) + wire.encode(refusal_of(error)))
            # What was written stays to be read when this side has closed.
            raise ConnectionError(str(error)) from None
        if answer is None:
            self._link.send(bare(wire.DESCRIPTION) + wire.encode(describe(self._served.interface)))
            return
        self._greeted = True
        self._greeting.cancel()
        self._link.send(answer)

    def _admit(self, asked: Asked) -> None:
        served, most = self._served, self._served.limits.calls
        if served.closing:
            self._fail(asked.call, ServiceGone(f"the service {served.service!r} is closing"))
        elif len(self.calls) >= most:
            what = f"{most} calls to {served.service!r} are under way over this pipe, which is as many as may be"
            self._fail(asked.call, ServiceBusy(what))
        else:
            call = _LoopCall(self.guest, served.service, asked.method.name, asked.credit)
            self.calls[asked.call] = call
            call.task = asyncio.get_running_loop().create_task(self._run(asked, call))
            call.task.add_done_callback(lambda _: self._finished(asked.call))

    async def _run(self, asked: Asked, call: _LoopCall) -> None:
        current.set(call)
        taken: list[tuple[str, bool]] = []
        method = asked.method
        try:
            handler, names = self._served.handlers[method.number]
            values = list(msgspec.structs.astuple(asked.request))
            for place in method.regions:
                if values[place] is not None:
                    values[place] = await self._region(values[place], method.parameters[place].readonly, taken)
            count = len(values) - len(names)
            result = handler(*values[:count], **dict(zip(names, values[count:], strict=True)))
            if asyncio.iscoroutine(result) or isinstance(result, asyncio.Future):
                result = await result
            if method.stream:
                await self._pump(asked, call, result)
            else:
                self._answer(asked, wire.RESULT, method.encode_result(result, HEAD))
        except asyncio.CancelledError:
            if not call.cancelled:
                # The loop ends, or the task was cancelled by somebody else: its caller waits still.
                self._fail(asked.call, ServiceGone(f"the service {self._served.service!r} gave the call up"))
            raise
        except Exception as error:
            failure = failure_for(self._served.service, method, error, traces=self._served.tracebacks)
            self._send_failure(asked.call, failure)
        finally:
            for handle, readonly in taken:
                self._borrowed.give_back(handle, readonly)

    async def _region(self, handle: str, readonly: bool, taken: list[tuple[str, bool]]) -> Any:
        if self._borrowed.has(handle, readonly):
            region = self._borrowed.take(handle, readonly)
        else:
            # The base may be another process, and takes its time.
            loop = asyncio.get_running_loop()
            region = await loop.run_in_executor(None, self._borrowed.take, handle, readonly)
        taken.append((handle, readonly))
        return region

    async def _pump(self, asked: Asked, call: _LoopCall, values: Any) -> None:
        """Sends the values of a stream, no more than its caller has room for."""
        iterator = _iterator(asked.method, values)
        try:
            while True:
                while call.credit == 0:
                    call.more.clear()
                    await call.more.wait()
                call.credit -= 1
                if self._link.congested:
                    await self._link.room()
                try:
                    value = await iterator.__anext__()
                except StopAsyncIteration:
                    break
                if not self._answer(asked, wire.ITEM, asked.method.encode_result(value, HEAD)):
                    return
            self._link.send(bare(wire.END, asked.call))
        finally:
            close = getattr(iterator, "aclose", None)
            if close is not None:
                await close()

    def _answer(self, asked: Asked, kind: int, message: bytearray) -> bool:
        longest = self._judge.longest_answer
        if len(message) > longest:
            what = f"{asked.method.full_name}: the answer takes {len(message)} bytes, more than the {longest}"
            self._fail(asked.call, InterfaceError(f"{what} that the caller takes; pass large ones as regions"))
            return False
        head_into(message, 0, kind, 0, 0, asked.call)
        self._link.send(message)
        return True

    def _fail(self, number: int, error: Exception) -> None:
        shown = error if isinstance(error, (InterfaceError, ServiceGone, ServiceBusy)) else InterfaceError(str(error))
        self._send_failure(number, refusal_of(shown))

    def _send_failure(self, number: int, failure: Any) -> None:
        self._link.send(wire.failed(number, failure, self._judge.longest_answer))

    def _finished(self, number: int) -> None:
        self.calls.pop(number, None)
        if self._ended and not self.calls:
            self._borrowed.close()

    def leave(self) -> None:
        """Tells the caller that no more calls are taken."""
        if self._greeted:
            self._link.send(bare(wire.LEAVING))

    def end(self) -> None:
        """Cancels the calls and closes the pipe."""
        self._gone(EOFError())

    def _gone(self, error: BaseException) -> None:
        if self._ended:
            return
        self._ended = True
        self._greeting.cancel()
        self._link.close()
        self._served.forget(self)
        for call in list(self.calls.values()):
            call.give_up()
        if not self.calls:
            self._borrowed.close()


class _Stepwise:
    """An ordinary iterator as an asynchronous one."""

    def __init__(self, within: Any) -> None:
        self._within = within

    async def __anext__(self) -> Any:
        try:
            value = next(self._within)
        except StopIteration:
            raise StopAsyncIteration from None
        # Whoever has values ready at once lets others have their turn.
        await asyncio.sleep(0)
        return value

    async def aclose(self) -> None:
        close = getattr(self._within, "close", None)
        if close is not None:
            close()


def _iterator(method: Any, values: Any) -> Any:
    if hasattr(values, "__aiter__"):
        return values.__aiter__()
    try:
        return _Stepwise(iter(values))
    except TypeError:
        raise WrongResult(f"{method.full_name} returned {type(values).__name__}, and declares a stream") from None


class AsyncServed:
    """An object that others may call, served in an event loop.  ``async with``, or ``await`` and :meth:`close`.

    Attributes:
        service: the name.
        guest: the guest that serves.
    """

    def __init__(self, sharing: Any, service: str, implementation: Any, interface: Any, limits: Limits) -> None:
        self.service = service
        self.guest = sharing.name
        self.sharing = sharing
        self.interface = interface_of(interface)
        self.handlers = handlers_of(implementation, self.interface)
        self.limits = limits
        self.closing = False
        self.tracebacks = True
        self._listener: Any = None
        self._listening: Callable[[], Any] = lambda: None
        self._accepting: asyncio.Task[None] | None = None
        self._connections: set[_LoopConnection] = set()
        self._closed: asyncio.Event | None = None

    @property
    def callers(self) -> list[str | None]:
        """The guests that have a pipe to the service now; ``None`` is the operator's shell."""
        return [each.guest for each in self._connections]

    @property
    def under_way(self) -> int:
        """How many calls are under way."""
        return sum(len(each.calls) for each in self._connections)

    async def wait(self) -> None:
        """Waits until nobody is let in any more: the service was closed, or the LAN has ended."""
        if self._closed is not None:
            await self._closed.wait()

    async def close(self, timeout: float = 5.0) -> None:
        """Takes no more calls, lets those under way end, and closes all pipes.  May be called twice.

        Arguments:
            timeout: seconds after which calls that have not ended are cancelled.
        """
        self.closing = True
        if self._listener is None:
            return
        self._listener.close()
        if self._accepting is not None:
            self._accepting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._accepting
            self._accepting = None
        for connection in self._connections:
            connection.leave()
        own = asyncio.current_task()
        tasks = [call.task for each in self._connections for call in each.calls.values() if call.task]
        waited = [task for task in tasks if task is not own]
        if waited:
            await asyncio.wait(waited, timeout=timeout)
        for connection in list(self._connections):
            connection.end()
        if waited:
            await asyncio.wait(waited, timeout=1.0)
        if self._closed is not None:
            self._closed.set()

    def forget(self, connection: _LoopConnection) -> None:
        """A caller is gone."""
        self._connections.discard(connection)

    async def _begin(self) -> AsyncServed:
        # The base may be another process, and may be stopped.
        self._listener = await asyncio.get_running_loop().run_in_executor(None, self._listening)
        self._closed = asyncio.Event()
        self._accepting = asyncio.get_running_loop().create_task(self._accept())
        return self

    async def _accept(self) -> None:
        while True:
            try:
                pipe = await self._listener.aaccept()
            except (ServiceGone, NicClosed, LanClosed):
                if self._closed is not None:
                    self._closed.set()
                return
            except OSError as error:
                _log.info("service %r: somebody who wanted to call was turned away: %s", self.service, error)
                continue
            link = PipeLink(pipe)
            if len(self._connections) >= self.limits.connections:
                turn_away(link, self.service, self.limits)
            else:
                self._connections.add(_LoopConnection(self, link, pipe.peer))

    def __await__(self) -> Generator[Any, None, AsyncServed]:
        return self._begin().__await__()

    async def __aenter__(self) -> AsyncServed:
        return await self._begin()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closing else f"{len(self._connections)} callers"
        return f"<{self.interface.name} served as {self.service!r} by {self.guest}, {state}>"


def serve_calls_async(
    guest: Any,
    service: str,
    implementation: Any,
    interface: Any,
    *,
    guests: Sequence[str] | None = None,
    backlog: int = 16,
    limits: Limits | None = None,
    tracebacks: bool = True,
) -> AsyncServed:
    """Serves an object to other guests in the running event loop; ``async with guest.serve_calls_async(...)``.

    Methods may be coroutines, streams asynchronous generators; the interface may declare them so, or not.  Arguments
    and errors are those of :func:`vnet.rpc.serve_calls`.
    """
    served = AsyncServed(guest, service, implementation, interface, limits or Limits())
    served.tracebacks = tracebacks
    served._listening = lambda: guest.listen(service, backlog=backlog, guests=guests, messages=True)
    return served
