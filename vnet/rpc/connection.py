"""One caller, as the service has it: reads its calls, works on them, answers.

Theory of operation.  One thread at a time reads a connection.  It works on a quick call itself and reads on; slow ones
it leaves to other threads (:mod:`vnet.rpc.watch` says which).  Answers are written by whoever has them, without
waiting: what finds no room in the pipe is put aside, and one thread of the connection waits for room.  So a caller
that does not read holds up that one thread, and no other caller.

A stream is a generator that is asked for values while its caller has room for them.  Where it has none, the generator
is left where it is and its thread goes; the message that there is room again brings another one.
"""

from __future__ import annotations

import errno
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from ..errors import InterfaceError, ServiceBusy, ServiceGone, VnetError
from . import wire
from .borrowed import Borrowed
from .context import CurrentCall, current
from .description import describe
from .failures import Failure, refusal_of
from .inbound import Asked, Cancelled, Credited, Garbage, Judge, Refused
from .method import WrongResult
from .wire import HEAD, Link, bare, head_into

if TYPE_CHECKING:
    from .service import Service

__all__ = ["Connection", "ServedCall"]

# Bytes put aside above which streams of the connection wait.
_MUCH = 4 << 20
# A pipe that this side closed meanwhile says ValueError.
_GONE = (EOFError, OSError, ValueError)


class ServedCall(CurrentCall):
    """A call that the service works on."""

    __slots__ = ("_asked", "_connection", "_credit", "_generator", "_lock", "_parked", "_taken", "method_number")

    def __init__(self, connection: Connection, asked: Asked) -> None:
        super().__init__(connection.guest, connection.service.name, asked.method.name)
        self.method_number: int = asked.method.number
        self._connection = connection
        self._asked = asked
        self._lock = threading.Lock()
        self._credit = asked.credit
        self._generator: Any = None
        self._parked = False
        self._taken: list[tuple[str, bool]] = []

    def run(self) -> None:
        """Works on the call: to its end, or until a stream has to wait for its caller.  Raises nothing."""
        token = current.set(self)
        try:
            if self._generator is None:
                self._start()
            else:
                self._pump()
        finally:
            current.reset(token)

    def give_credit(self, count: int) -> bool:
        """So many more values may be sent; whether the call is to be run again for that."""
        with self._lock:
            self._credit = min(self._credit + count, 0xFFFF)
            return self._unpark()

    def cancel(self) -> bool:
        """Nobody waits for the answer any more; whether the call is to be run again for that."""
        self._cancel()
        with self._lock:
            return self._unpark()

    def resume(self) -> bool:
        """There is room in the pipe again; whether the call is to be run again for that."""
        with self._lock:
            return self._credit > 0 and self._unpark()

    def _unpark(self) -> bool:
        parked, self._parked = self._parked, False
        return parked

    def _start(self) -> None:
        asked, connection = self._asked, self._connection
        method = asked.method
        if self._cancelled:
            connection.finished(asked.call, self)
            return
        try:
            implementation, names = connection.service.handlers[method.number]
            values = msgspec.structs.astuple(asked.request)
            if method.regions:
                values = self._with_regions(values)
            if names:
                # Those that can only be given by name stand last.
                count = len(values) - len(names)
                result = implementation(*values[:count], **dict(zip(names, values[count:], strict=True)))
            else:
                result = implementation(*values)
            if method.stream:
                self._generator = _iterator(method, result)
            else:
                answer = method.encode_result(result, HEAD)
        except BaseException as error:
            self._fail(error)
            return
        if method.stream:
            self._pump()
            return
        self._answer(wire.RESULT, answer)
        connection.finished(asked.call, self)

    def _pump(self) -> None:
        call, connection = self._asked.call, self._connection
        while True:
            with self._lock:
                if not self._cancelled:
                    if self._credit == 0 or connection.congested:
                        self._parked = True
                        return
                    self._credit -= 1
            if self._cancelled:
                self._close_generator()
                connection.finished(call, self)
                return
            try:
                answer = self._asked.method.encode_result(next(self._generator), HEAD)
            except StopIteration:
                connection.send(bare(wire.END, call))
                connection.finished(call, self)
                return
            except BaseException as error:
                self._close_generator()
                self._fail(error)
                return
            if not self._answer(wire.ITEM, answer):
                self._close_generator()
                connection.finished(call, self)
                return

    def _answer(self, kind: int, message: bytearray) -> bool:
        connection = self._connection
        if len(message) > connection.judge.longest_answer:
            error = InterfaceError(
                f"{self._asked.method.full_name}: the answer takes {len(message)} bytes, more than the "
                f"{connection.judge.longest_answer} that the caller takes; pass large ones as regions, or as a stream"
            )
            connection.send_failure(self._asked.call, refusal_of(error))
            return False
        if not self._cancelled:
            head_into(message, 0, kind, 0, 0, self._asked.call)
            connection.send(message)
        return True

    def _fail(self, error: BaseException) -> None:
        self._connection.fail(self._asked, error)
        self._connection.finished(self._asked.call, self)

    def _close_generator(self) -> None:
        close = getattr(self._generator, "close", None)
        if close is None:
            return
        try:
            close()
        except BaseException as error:
            self._connection.service.complain(self._asked.method, error)

    def _with_regions(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        given = list(values)
        for place in self._asked.method.regions:
            handle = given[place]
            if handle is not None:
                readonly = self._asked.method.parameters[place].readonly
                given[place] = self._connection.borrowed.take(handle, readonly)
                self._taken.append((handle, readonly))
        return tuple(given)

    def let_go(self) -> None:
        """Gives back what the call had of its caller."""
        # A generator's frame holds on to the regions.
        self._generator = None
        for handle, readonly in self._taken:
            self._connection.borrowed.give_back(handle, readonly)
        self._taken.clear()


def _iterator(method: Any, result: Any) -> Any:
    try:
        return iter(result)
    except TypeError:
        raise WrongResult(f"{method.full_name} returned {type(result).__name__}, and declares a stream") from None


class Connection:
    """A caller's pipe, as the service has it.

    Arguments:
        service: whom it calls.
        link: the service's side.
        guest: who calls.

    Attributes:
        current: the call that the thread that reads works on.
        counted: calls so far.
        congested: so much waits for the caller to read that streams wait, too.
    """

    def __init__(self, service: Service, link: Link, guest: str | None) -> None:
        self.service = service
        self.guest = guest
        self.judge = Judge(service.interface, service.limits)
        self.borrowed = Borrowed(service.guest)
        self.current: ServedCall | None = None
        self.counted = 0
        self.congested = False
        self._link = link
        self._lock = threading.Lock()
        self._calls: dict[int, ServedCall] = {}
        self._greeted = False
        self._ended = False
        self._writing = threading.Lock()
        self._aside: deque[bytes | bytearray] = deque()
        self._aside_bytes = 0
        self._flushing = False

    @property
    def under_way(self) -> int:
        """How many calls are under way."""
        return len(self._calls)

    # Reading

    def read(self) -> None:
        """Reads until the end, or until another thread has taken over."""
        try:
            if not self._greeted and not self._greet():
                return
            read, judge = self._link.read_message, self.judge.judge
            while True:
                data = read(True, None)
                if data is None:
                    continue
                asked = judge(data)
                del data
                if isinstance(asked, Asked):
                    call = ServedCall(self, asked)
                    if self._admit(asked.call, call) and not self._work(call):
                        return
                elif isinstance(asked, Refused):
                    self.send_failure(asked.call, refusal_of(_as_ours(asked.error)))
                else:
                    self._attend(asked)
        except _GONE:
            self.end()
        except Garbage as error:
            self.service.tell("a caller wrote what is no message: %s; its pipe is closed", error)
            self.end()
        except BaseException:
            self.end()
            raise

    def relieve(self, call: ServedCall) -> None:
        """Puts another thread in the place of the reader, which has been busy with ``call`` for long."""
        with self._lock:
            if self.current is not call:
                return
            self.current = None
        self.service.found_slow(call.method_number)
        self.service.crew.submit(self.read)

    def _greet(self) -> bool:
        deadline = time.monotonic() + self.service.limits.greeting
        while True:
            data = self._link.read_message(True, max(0.001, deadline - time.monotonic()))
            if data is None:
                raise TimeoutError
            try:
                answer = self.judge.greet(data)
            except InterfaceError as error:
                self.send(bare(wire.REFUSED) + wire.encode(refusal_of(error)))
                self.end(linger=True)
                return False
            if answer is None:
                self.send(bare(wire.DESCRIPTION) + wire.encode(describe(self.service.interface)))
                continue
            self.send(answer)
            self._greeted = True
            return True

    def _admit(self, number: int, call: ServedCall) -> bool:
        service = self.service
        most = service.limits.calls
        if service.closing:
            self.send_failure(number, refusal_of(ServiceGone(f"the service {service.name!r} is closing")))
            return False
        if len(self._calls) >= most:
            error = ServiceBusy(
                f"{most} calls to {service.name!r} are under way over this pipe, which is as many as may be"
            )
            self.send_failure(number, refusal_of(error))
            return False
        self._calls[number] = call
        self.counted += 1
        return True

    def _attend(self, asked: Cancelled | Credited) -> None:
        # A call that has been answered is not there any more, and that is no mistake of the caller.
        call = self._calls.get(asked.call)
        if call is None:
            return
        if isinstance(asked, Cancelled):
            again = call.cancel()
            # Nobody waits for this, but a thread that reads on the other side looks again what it waits for.
            self.send(bare(wire.END, asked.call))
        else:
            again = call.give_credit(asked.count)
        if again:
            self.service.hire(call)

    def _work(self, call: ServedCall) -> bool:
        """Works on a call, or has another thread do so; whether this thread still is the reader."""
        service = self.service
        if service.is_slow(call.method_number):
            service.hire(call)
            return True
        self.current = call
        if service.watch.asleep:
            service.watch.wake()
        call.run()
        with self._lock:
            mine = self.current is call
            if mine:
                self.current = None
        if not mine:
            service.done_slow()
        return mine

    # Writing

    def send(self, message: bytes | bytearray) -> None:
        """Writes a message, or puts it aside until the caller has made room.  What nobody will read is dropped."""
        with self._writing:
            if not self._flushing:
                try:
                    if self._link.write(message, False, None) is not None:
                        return
                except _GONE as error:
                    if getattr(error, "errno", None) == errno.EMSGSIZE:
                        # The caller has a pipe that its own longest answer does not fit in; it would wait for ever.
                        self._link.close()
                    return
                self._flushing = True
                self.service.crew.submit(self._flush)
            self._aside.append(message)
            self._aside_bytes += len(message)
            self.congested = self._aside_bytes > _MUCH or self._ended

    def send_failure(self, call: int, failure: Failure) -> None:
        """Answers a call with an error."""
        self.send(wire.failed(call, failure, self.judge.longest_answer))

    def fail(self, asked: Asked, error: BaseException) -> None:
        """Answers a call with what its implementation raised."""
        self.send_failure(asked.call, self.service.failure_for(asked.method, error))

    def _flush(self) -> None:
        """Waits for room and writes what was put aside."""
        while True:
            with self._writing:
                if not self._aside:
                    self._flushing = False
                    self.congested = False
                    break
                message = self._aside[0]
            try:
                self._link.write(message, True, None)
            except _GONE:
                with self._writing:
                    self._aside.clear()
                    self._aside_bytes = 0
                continue
            with self._writing:
                if self._aside:
                    self._aside.popleft()
                    self._aside_bytes -= len(message)
        for call in list(self._calls.values()):
            if call.resume():
                self.service.hire(call)

    # The end

    def finished(self, number: int, call: ServedCall) -> None:
        """A call has been answered, or nobody wants its answer."""
        call.let_go()
        self._calls.pop(number, None)
        if self._ended or self.service.closing:
            if self._ended and not self._calls:
                self.borrowed.close()
            self.service.one_less()

    def leave(self) -> None:
        """Tells the caller that no more calls are taken."""
        if self._greeted:
            self.send(bare(wire.LEAVING))

    def cancel_all(self) -> None:
        """Tells all calls that nobody waits for them."""
        for call in list(self._calls.values()):
            if call.cancel():
                self.service.hire(call)

    def end(self, *, linger: bool = False) -> None:
        """The caller is gone, or has to go: its calls are cancelled, its streams closed, its regions let go of.

        Arguments:
            linger: the caller is to read what was written.
        """
        with self._lock:
            if self._ended:
                return
            self._ended = True
        if linger:
            # It closes its side when it has read it; nobody waits for that longer than for a greeting.
            self._await_end()
        self._link.close()
        self.service.forget(self)
        self.cancel_all()
        if not self._calls:
            self.borrowed.close()

    def _await_end(self) -> None:
        deadline = time.monotonic() + min(1.0, self.service.limits.greeting)
        try:
            while (left := deadline - time.monotonic()) > 0:
                self._link.read_message(True, left)
        except _GONE:
            return


def _as_ours(error: Exception) -> VnetError:
    return error if isinstance(error, VnetError) else InterfaceError(str(error))
