"""Calls: what the base of a live LAN does at the request of another process, beside letting it attach.

A call is a request on the control socket whose ``do`` was registered with :meth:`vnet.Lan.serve`.  It has a connection
and, in the base, a thread of its own, so it may take its time and answer more than once: each answer is a JSON object
on a line, and the last one bears ``"end": true``.  Descriptors may travel with the request and with each answer.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .errors import LanClosed, ProtocolError, VnetError
from .runtime import connect
from .wire import LineReader, close_all, send_fds, send_request

if TYPE_CHECKING:
    from .lan import Lan

__all__ = ["Call", "Handler", "Stream", "call", "stream"]

# Seconds after which a client that takes no answers is as good as gone.
_PATIENCE = 10.0


class Call:
    """A call, as its handler in the base sees it.

    Attributes:
        request: what the client asked; the arguments beside ``do``.
        files: descriptors that came with the request, closed when the handler returns.
        pid: the client's process id.
    """

    def __init__(self, sock: socket.socket, request: Mapping[str, Any], files: Sequence[int], pid: int) -> None:
        self.request = request
        self.files = tuple(files)
        self.pid = pid
        self._sock = sock
        self._sending = threading.Lock()
        self._gone = threading.Event()
        sock.settimeout(_PATIENCE)

    def argument(self, name: str, kind: type | tuple[type, ...], default: Any = ...) -> Any:
        """Returns an argument of the request.

        Raises:
            ProtocolError: it is missing and has no default, or is of another kind.
        """
        value = self.request.get(name)
        if value is None:
            if default is ...:
                raise ProtocolError(f"{self.request['do']!r} needs {name!r}")
            return default
        # To Python true is a number.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ProtocolError(f"{name!r} of {self.request['do']!r} is not {value!r}")
        return value

    def send(self, answer: Mapping[str, Any], files: Sequence[int] = ()) -> None:
        """Sends an answer that is not the last, with descriptors, which stay open here.

        Raises:
            LanClosed: the client is gone, takes no answers, or the LAN ends.
        """
        self._reply({"ok": True, **answer}, files)

    def gone(self, timeout: float = 0.0) -> bool:
        """Whether the client has gone or the LAN ends; waits up to ``timeout`` seconds for that.

        Loops that answer again and again ask it between two answers, instead of sleeping.
        """
        if self._gone.is_set():
            return True
        watched = select.poll()
        watched.register(self._sock.fileno(), select.POLLRDHUP)
        if watched.poll(timeout * 1000):
            self._gone.set()
        return self._gone.is_set()

    def _reply(self, reply: Mapping[str, Any], files: Sequence[int] = ()) -> None:
        data = json.dumps(reply).encode() + b"\n"
        try:
            with self._sending:
                sent = send_fds(self._sock, data, files)
                if sent < len(data):
                    # Nothing at all would be an error too where the client has read its answer and gone.
                    self._sock.sendall(data[sent:])
        except OSError:
            self._gone.set()
            raise LanClosed("whoever called has gone") from None

    def _end(self) -> None:
        """Has the handler end: for whatever it does next, the client is gone."""
        self._gone.set()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def _run(self, lan: Lan, handler: Handler) -> None:
        """Runs the handler to its end and answers for the last time."""
        try:
            try:
                last = {"ok": True, "end": True, **(handler(lan, self) or {})}
            except (VnetError, ValueError, TypeError) as error:
                known = type(error).__name__ if isinstance(error, VnetError) else "ValueError"
                last = {"ok": False, "error": known, "message": str(error)}
            except Exception as error:
                # Whatever else goes wrong is this client's misfortune, not the base's end.
                last = {"ok": False, "error": "VnetError", "message": f"the base failed at this request: {error!r}"}
            with contextlib.suppress(LanClosed):
                self._reply(last)
        finally:
            close_all(self.files)
            self._sock.close()


Handler = Callable[["Lan", Call], Mapping[str, Any] | None]
"""Serves a call: gets the LAN and the call, and returns the last answer.

A :class:`vnet.VnetError` or :class:`ValueError` refuses; the client raises it again.
"""


class Stream:
    """The answers to a call, as the client sees them: an iterator and a context manager; leaving it ends the call.

    Attributes:
        result: the last answer, once the iterator has ended.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.result: dict[str, Any] | None = None
        self._reader = LineReader(connection)

    def fileno(self) -> int:
        """A descriptor that is readable when an answer, or its beginning, has come."""
        return self._reader.connection.fileno()

    def take_files(self) -> list[int]:
        """Hands the descriptors that came with the answers so far to the caller, who closes them."""
        return self._reader.take_files()

    def next(self, timeout: float | None = None) -> dict[str, Any] | None:
        """Waits up to ``timeout`` seconds for the next answer; ``None`` after the last, which is then ``result``.

        Raises:
            TimeoutError: none came in time.
            LanClosed: the base ended before the last answer.
            VnetError, ValueError: the base refused.
        """
        if self.result is not None:
            return None
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self._reader.waits() and timeout is not None and not select.select([self], [], [], timeout)[0]:
            raise TimeoutError(f"no answer within {timeout:g} s")
        left = None if deadline is None else max(0.001, deadline - time.monotonic())
        self._reader.connection.settimeout(left)
        answer = self._reader.next()
        if answer is None:
            raise LanClosed("the base ended before it had answered")
        if answer.get("end"):
            self.result = answer
            return None
        return answer

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> dict[str, Any]:
        answer = self.next()
        if answer is None:
            raise StopIteration
        return answer

    def finish(self) -> None:
        """Says that no more is wanted: to the handler the client is gone, but its answers can still be read."""
        with contextlib.suppress(OSError):
            self._reader.connection.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Ends the call.  May be called twice."""
        self._reader.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def stream(lan: str, do: str, /, *, files: Sequence[int] = (), **arguments: Any) -> Stream:
    """Calls the base of the live LAN ``lan`` and returns its answers as they come.

    Arguments:
        lan: the LAN's name.
        do: what to do.
        files: descriptors that go with the request; they stay open here.
        arguments: what else the request says, as JSON values.

    Raises:
        LanNotFound, NotPermitted: as of :func:`vnet.attach`.  What the base refuses is raised when answers are read.
    """
    connection = connect(lan)
    try:
        send_request(connection, {"do": do, **arguments}, files)
    except BaseException:
        connection.close()
        raise
    return Stream(connection)


def call(
    lan: str, do: str, /, *, files: Sequence[int] = (), timeout: float | None = 10.0, **arguments: Any
) -> dict[str, Any]:
    """Calls the base of the live LAN ``lan`` and returns its last answer; arguments and errors as of :func:`stream`.

    Arguments:
        timeout: seconds to wait for the answer; ``None`` where what is asked may take any time.

    Raises:
        ProtocolError: the base did not answer in time.
    """
    with stream(lan, do, files=files, **arguments) as answers:
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            while answers.next(None if deadline is None else max(0.0, deadline - time.monotonic())) is not None:
                pass
        except TimeoutError:
            raise ProtocolError(f"the base of {lan!r} did not answer within {timeout:g} s; is it stopped?") from None
        assert answers.result is not None
        return answers.result
