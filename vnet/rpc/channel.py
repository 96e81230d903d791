"""A caller's side of a pipe, for threads.

Theory of operation.  There is no thread that reads: of the threads that wait for answers, one reads for all of them,
gives each its own, and hands the reading on when its own has come.  So a call of one thread alone is one write and one
read by that thread, with nobody to wake in between, and many threads share one pipe.

Nobody reads while nobody waits.  What may then lie in the pipe is bounded: answers to calls that were given up, and
values of streams as far as they were given credit.  A thread that finds no room for its call reads meanwhile, since
the service may itself be waiting for room.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec

from ..errors import CallTimeout, InterfaceError, ProtocolError, ServiceGone
from . import failures, wire
from .description import Description
from .failures import exception_of
from .interface import Interface
from .method import Method
from .wire import HEAD, Limits, Link, Welcome, bare, head_into, read_head

__all__ = ["GONE", "Channel", "Waiting", "describe_over", "greet", "read_failure"]

GONE = (EOFError, OSError, ValueError)
"""What a link raises once nothing goes over it any more; ValueError is a pipe's word for one that was closed here."""

_ENCODER = msgspec.msgpack.Encoder()
_WELCOME = msgspec.msgpack.Decoder(Welcome)
_DESCRIPTION = msgspec.msgpack.Decoder(Description)
# Seconds between looks at both directions of a pipe that is full.
_STUFFED = 0.001


class Waiting:
    """A call that waits for its answer, or for the next value of its stream."""

    __slots__ = ("answers", "bell", "leads")

    def __init__(self) -> None:
        self.answers: deque[bytes] = deque()
        # Made, and locked, by a thread that sleeps until another one has read something for it.
        self.bell: Any = None
        # Its thread is to read from now on.
        self.leads = False


class Channel:
    """Calls over one link, by any number of threads.

    Arguments:
        link: the caller's side.
        interface: what may be called.
        where: what is called, for messages: ``'disk' of 'host'``.
        limits: what is taken of the service.

    Attributes:
        deepest: how deep the service takes arguments.
    """

    def __init__(self, link: Link, interface: Interface, where: str, limits: Limits, timeout: float | None) -> None:
        self.interface = interface
        self.where = where
        self.limits = limits
        self._link = link
        self._raises: Mapping[str, type[Exception]] = interface.raises
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._reading = threading.Lock()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Waiting] = {}
        self._sleepers: list[Waiting] = []
        # Streams that nobody closed and the collector found.
        self._abandoned: deque[int] = deque()
        self._gone: str | None = None
        self._leaving = False
        # Nothing can be written any more.
        self._cut = False
        welcome = greet(link, interface, where, limits, timeout)
        self.deepest = min(welcome.deepest, limits.depth)
        # What is longer than the pipe's own memory would wait in the middle for the service to read.
        self._longest = min(welcome.longest, limits.message)
        self._most = welcome.calls
        self._methods = welcome.numbers

    # Calls

    def call(self, method: Method, message: bytearray, timeout: float | None) -> Any:
        """Calls, and waits for the answer."""
        number, waiting = self.begin(method, message, timeout)
        try:
            data = self.wait(number, waiting, timeout)
        except BaseException:
            self.give_up(number)
            raise
        # Answers come off the wire one for each call, and nobody else waits for this one.
        del self._waiting[number]
        return self.result(method, data)

    def begin(self, method: Method, message: bytearray, timeout: float | None, credit: int = 0) -> tuple[int, Waiting]:
        """Sends a call whose arguments stand in ``message``, behind the room for the head."""
        if len(message) > self._longest:
            raise InterfaceError(
                f"{method.full_name}: the arguments take {len(message)} bytes, more than the {self._longest} that "
                f"{self.where} takes; pass large ones as regions"
            )
        if self._gone is not None or self._leaving or self._cut:
            raise self._is_gone()
        while self._abandoned:
            self.give_up(self._abandoned.popleft())
        waiting = Waiting()
        with self._writing:
            # Under the lock, because numbers arrive in order.
            number = next(self._numbers)
            self._waiting[number] = waiting
            head_into(message, 0, wire.CALL, credit, self._methods[method.number], number)
            try:
                if self._link.write(message, False, None) is None:
                    self._write_slowly(message, timeout)
            except CallTimeout:
                del self._waiting[number]
                raise
            except GONE:
                self._waiting.pop(number, None)
                # Answers to other calls may be there still; whoever waits for them reads to the end.
                self._cut = True
                raise self._is_gone() from None
            except BaseException:
                self._waiting.pop(number, None)
                raise
        return number, waiting

    def wait(self, number: int, waiting: Waiting, timeout: float | None) -> bytes:
        """Waits for an answer to a call; reads for others meanwhile.

        Raises:
            CallTimeout: it did not come in time.
            ServiceGone: it will not come any more.
        """
        answers = waiting.answers
        deadline = None if timeout is None else time.monotonic() + timeout
        while not answers:
            if self._reading.acquire(False):
                try:
                    if not answers and self._gone is None:
                        self._read_for(number, answers, deadline)
                finally:
                    self._reading.release()
                    if self._sleepers:
                        self._promote()
            elif self._gone is None:
                self._sleep(waiting, deadline)
            if not answers:
                if self._gone is not None:
                    raise self._is_gone()
                if deadline is not None and time.monotonic() >= deadline:
                    raise CallTimeout(f"{self.where} did not answer within {timeout:g} s")
        return answers.popleft()

    def _read_for(self, number: int, answers: deque[bytes], deadline: float | None) -> None:
        """Reads until an answer to that call came, or time is over, or nothing will come any more."""
        read, most = self._link.read_message, self.limits.message
        left = None
        try:
            while not answers:
                if deadline is not None:
                    left = deadline - time.monotonic()
                    if left <= 0:
                        return
                data = read(True, left)
                if data is None:
                    return
                if HEAD <= len(data) <= most and read_head(data)[3] == number and wire.RESULT <= data[0] <= wire.FAILED:
                    answers.append(data)
                else:
                    self._deliver(data)
        except TimeoutError:
            return
        except (*GONE, ProtocolError) as error:
            self._die(error)

    def poll(self, waiting: Waiting) -> bool:
        """Reads what is there without waiting, and says whether something of it is for that call."""
        while not waiting.answers and self._gone is None and self._reading.acquire(False):
            try:
                data = self._link.read_message(False, None)
                if data is None:
                    break
                self._deliver(data)
            except (*GONE, ProtocolError) as error:
                self._die(error)
            finally:
                self._reading.release()
                if self._sleepers:
                    self._promote()
        return bool(waiting.answers) or self._gone is not None

    def _sleep(self, waiting: Waiting, deadline: float | None) -> None:
        """Sleeps until somebody has read an answer, or hands the reading over, or time is over."""
        bell = threading.Lock()
        bell.acquire()
        with self._lock:
            if waiting.answers or self._gone is not None:
                return
            waiting.bell = bell
            self._sleepers.append(waiting)
        # Whoever read may have gone before it could see this sleeper.
        if not self._reading.locked():
            self._promote()
        try:
            bell.acquire(timeout=-1 if deadline is None else max(0.0, deadline - time.monotonic()))
        finally:
            with self._lock:
                waiting.bell = None
                handed, waiting.leads = waiting.leads, False
                if waiting in self._sleepers:
                    self._sleepers.remove(waiting)
            # Whoever is woken to read and does not, because it was interrupted, wakes the next.
            if handed and self._sleepers and not self._reading.locked():
                self._promote()

    def _promote(self) -> None:
        """Has one of those that sleep read for all."""
        with self._lock:
            while self._sleepers:
                waiting = self._sleepers.pop(0)
                if waiting.bell is not None:
                    waiting.leads = True
                    waiting.bell.release()
                    waiting.bell = None
                    return

    def _deliver(self, data: bytes) -> None:
        """Gives an answer to whoever waits for it.

        Raises:
            ProtocolError: it is nothing that a service says.
        """
        if not HEAD <= len(data) <= self.limits.message:
            raise ProtocolError(f"a message of {len(data)} bytes")
        kind, _, _, number = read_head(data)
        if kind in (wire.RESULT, wire.ITEM, wire.END, wire.FAILED):
            waiting = self._waiting.get(number)
            # Without one: its caller has given up.
            if waiting is None:
                return
            if len(waiting.answers) > self.limits.window:
                raise ProtocolError(f"more values of call {number} than were asked for")
            self._put(waiting, data)
        elif kind == wire.LEAVING:
            self._leaving = True
        else:
            raise ProtocolError(f"a message of kind {kind}")

    def _put(self, waiting: Waiting, data: bytes) -> None:
        with self._lock:
            waiting.answers.append(data)
            if waiting.bell is not None:
                waiting.bell.release()
                waiting.bell = None

    def result(self, method: Method, data: bytes) -> Any:
        """What an answer that is the only one says.

        Raises:
            Exception: what the service raised.
            InterfaceError: it answered with something other than the interface declares.
        """
        kind = data[0]
        if kind == wire.RESULT:
            return method.decode_result(memoryview(data)[HEAD:], self.limits.depth)
        if kind == wire.FAILED:
            raise read_failure(data, self._raises, f"{self.where}, {method.name}")
        raise InterfaceError(f"{method.full_name}: the service answered with values of a stream, and none is declared")

    # Streams

    def next_value(self, method: Method, number: int, waiting: Waiting, timeout: float | None) -> tuple[bool, Any]:
        """The next value of a stream, or that there is none."""
        data = self.wait(number, waiting, timeout)
        kind = data[0]
        if kind == wire.ITEM:
            return True, method.decode_result(memoryview(data)[HEAD:], self.limits.depth)
        if kind == wire.END:
            return False, None
        if kind == wire.FAILED:
            raise read_failure(data, self._raises, f"{self.where}, {method.name}")
        raise InterfaceError(f"{method.full_name}: the service answered with one value, and a stream is declared")

    def give_credit(self, number: int, count: int) -> None:
        """Says that so many more values of a stream may come."""
        self._say(bare(wire.CREDIT, number, count))

    # The end of a call

    def give_up(self, number: int) -> None:
        """Says that an answer is not awaited any more; whoever waits for it gets an empty one."""
        waiting = self._waiting.pop(number, None)
        if waiting is None or self._gone is not None:
            return
        self._put(waiting, b"")
        # The service says something to that, which has the thread that reads look again.
        self._say(bare(wire.CANCEL, number))

    def abandon(self, number: int) -> None:
        """Gives a call up with the next one; takes no lock."""
        self._abandoned.append(number)

    def forget(self, number: int) -> None:
        """A stream has come to its end."""
        self._waiting.pop(number, None)

    def _say(self, message: bytes) -> None:
        try:
            with self._writing:
                if self._link.write(message, False, None) is None:
                    self._write_slowly(message, None)
        except GONE:
            self._cut = True

    def _write_slowly(self, message: bytes | bytearray, timeout: float | None) -> None:
        """Writes once there is room, and reads meanwhile, where nobody else does."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            if self._reading.acquire(False):
                try:
                    while (data := self._link.read_message(False, None)) is not None:
                        self._deliver(data)
                finally:
                    self._reading.release()
                    if self._sleepers:
                        self._promote()
            try:
                if self._link.write(message, True, _STUFFED) is not None:
                    return
            except TimeoutError:
                pass
            if deadline is not None and time.monotonic() > deadline:
                raise CallTimeout(f"{self.where} did not take the call within {timeout:g} s")

    # The end

    @property
    def gone(self) -> bool:
        """Whether the service is gone, or this side was closed."""
        return self._gone is not None or self._cut

    def close(self) -> None:
        """Closes the link; calls that wait end with ServiceGone.  May be called twice."""
        self._die(None)
        self._link.close()

    def _die(self, error: BaseException | None) -> None:
        with self._lock:
            if self._gone is None:
                if error is None:
                    self._gone = f"the pipe to {self.where} is closed"
                elif isinstance(error, ProtocolError):
                    self._gone = f"{self.where} wrote what no service says: {error}"
                elif self._leaving:
                    self._gone = f"{self.where} has closed the service"
                else:
                    self._gone = f"{self.where} is gone: its process ended, or it closed the service"
            sleepers, self._sleepers = self._sleepers, []
            for waiting in sleepers:
                if waiting.bell is not None:
                    waiting.bell.release()
                    waiting.bell = None
        if isinstance(error, ProtocolError):
            self._link.close()

    def _is_gone(self) -> ServiceGone:
        if self._gone is None and self._leaving:
            return ServiceGone(f"{self.where} takes no more calls: it is closing the service")
        return ServiceGone(self._gone or f"{self.where} is gone: its process ended, or it closed the service")


def greet(link: Link, interface: Interface, where: str, limits: Limits, timeout: float | None) -> Welcome:
    """Says hello and reads the answer.

    Raises:
        InterfaceError: the interface is not what the service serves.
        CallTimeout, ServiceGone: there was no answer.
    """
    data = _exchange(link, bare(wire.HELLO) + _ENCODER.encode(wire.hello(interface, limits.message)), where, timeout)
    return welcome_of(data, interface, where)


def welcome_of(data: bytes, interface: Interface, where: str) -> Welcome:
    """What a service's first answer says."""
    kind = data[0] if len(data) >= HEAD else 0
    if kind == wire.REFUSED:
        raise read_failure(data, {}, where)
    try:
        if kind == wire.WELCOME:
            welcome = _WELCOME.decode(memoryview(data)[HEAD:])
            if len(welcome.numbers) == len(interface.numbered) and all(0 <= each < 0x10000 for each in welcome.numbers):
                return welcome
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    raise ServiceGone(f"{where} does not serve calls: it answered with something else")


def describe_over(link: Link, where: str, timeout: float | None) -> Description:
    """Asks a service for its interface, before hello."""
    data = _exchange(link, bare(wire.DESCRIBE), where, timeout)
    if len(data) >= HEAD and data[0] == wire.REFUSED:
        raise read_failure(data, {}, where)
    try:
        if len(data) >= HEAD and data[0] == wire.DESCRIPTION:
            return _DESCRIPTION.decode(memoryview(data)[HEAD:])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    raise ServiceGone(f"{where} does not serve calls: it answered with something else")


def _exchange(link: Link, message: bytes, where: str, timeout: float | None) -> bytes:
    try:
        # One that turns callers away has perhaps said so, and closed, before it heard anything.
        with contextlib.suppress(BrokenPipeError):
            link.write(message, True, timeout)
        data = link.read_message(True, timeout)
    except TimeoutError:
        raise CallTimeout(f"{where} did not answer within {timeout:g} s; does it serve calls?") from None
    except GONE:
        raise ServiceGone(f"{where} is gone: its process ended, or it closed the service") from None
    if data is None:
        raise CallTimeout(f"{where} did not answer; does it serve calls?")
    return data


def read_failure(data: bytes, raises: Mapping[str, type[Exception]], where: str) -> Exception:
    """The exception that a message says."""
    try:
        failure = failures.DECODER.decode(memoryview(data)[HEAD:])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return InterfaceError(f"{where} answered with an error that cannot be read: {error}")
    return exception_of(failure, raises, where)
