"""How a guest asks the broker.

A guest in the base's own process asks it directly.  Every other one asks over its connection to the base, which is what
the broker knows it by: the lease of its NIC, or that of a :class:`vnet.sharing.Member`.  Each request bears a tag that
its answer repeats: who gave up on an answer finds it later, before his next one, and throws it away.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import ForkedNic, LanClosed, NicClosed, ProtocolError, VnetError
from ..wire import LONGEST, LineReader, close_all, refusal, request_line, send_fds

if TYPE_CHECKING:
    from ..register import Entry, Register
    from .broker import Broker, Guest

__all__ = ["Door", "LocalDoor", "RemoteDoor", "local_door"]

# Seconds in which a base answers, which takes it some hundred microseconds; the thread that answers makes LANs, too.
_PATIENCE = 10.0
# What of an answer is the control socket's own.
_FRAME = frozenset({"ok", "tag", "descriptors"})
# Notices that are kept for later where the base does not take them now; it learns of the rest when the guest ends.
_NOTICES = 4096


class Door(Protocol):
    """How a guest asks the broker."""

    def ask(self, do: str, files: Sequence[int] = (), **arguments: Any) -> tuple[dict[str, Any], list[int]]:
        """Asks the broker and waits for the answer.  Threads may ask at one time.

        Arguments:
            do: what to do, such as ``"region.create"``.
            files: descriptors that go with the request, at most 10; they stay open here.
            arguments: what else the request says, as JSON values.

        Returns:
            The answer, and descriptors that came with it, which the caller closes.

        Raises:
            LanClosed: the base has ended.
            NicClosed: the guest is off the LAN.
            ForkedNic: this is a forked child.
            ProtocolError: the base did not answer in time: it is stopped, or overloaded.
            VnetError, ValueError: the broker refused.
        """

    def tell(self, do: str, **arguments: Any) -> None:
        """Tells the broker without waiting, and whatever comes of it.  Safe wherever the collector runs."""


class LocalDoor:
    """The door of a guest in the base's own process.

    Arguments:
        broker: the broker, made when it is first asked.
        guest: who asks; raises where the guest is off the LAN.
    """

    def __init__(self, broker: Callable[[], Broker], guest: Callable[[], Guest]) -> None:
        self._broker = broker
        self._guest = guest
        self._pid = os.getpid()

    def ask(self, do: str, files: Sequence[int] = (), **arguments: Any) -> tuple[dict[str, Any], list[int]]:
        if os.getpid() != self._pid:
            raise _forked()
        broker = self._broker()
        given: list[int] = []
        try:
            # What the broker keeps is its own, as where it comes over a socket.
            given.extend(os.dup(file) for file in files)
            with broker.lock:
                return broker.ask(self._guest(), {"do": do, **arguments}, given)
        finally:
            close_all(given)

    def tell(self, do: str, **arguments: Any) -> None:
        if os.getpid() == self._pid:
            self._broker().tell(self._guest, {"do": do, **arguments})


def local_door(register: Register, entry: Entry) -> LocalDoor:
    """The door of a guest that the base's own process holds the NIC of."""
    generation = entry.generation
    return LocalDoor(lambda: register.broker, lambda: register.broker.holder(entry, generation, os.getpid()))


class RemoteDoor:
    """The door of a guest in another process than the base.

    Arguments:
        connection: to the base; whoever closes it asks no more.
        lan: the LAN's name, for messages.
    """

    def __init__(self, connection: socket.socket, lan: str) -> None:
        self._connection = connection
        self._lan = lan
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._reader = LineReader(connection)
        self._tag = 0
        self._notices: deque[bytes] = deque(maxlen=_NOTICES)
        # Part of a request was sent, and the rest was not: nothing that follows would be understood.
        self._torn = False

    def ask(self, do: str, files: Sequence[int] = (), **arguments: Any) -> tuple[dict[str, Any], list[int]]:
        return self.ask_within(_PATIENCE, {"do": do, **arguments}, files)

    def ask_within(
        self, patience: float, request: dict[str, Any], files: Sequence[int] = ()
    ) -> tuple[dict[str, Any], list[int]]:
        """Asks as :meth:`ask` does, and waits up to ``patience`` seconds."""
        if os.getpid() != self._pid:
            raise _forked()
        deadline = time.monotonic() + patience
        if not self._lock.acquire(timeout=patience):
            raise self._late(patience)
        try:
            self._tag += 1
            tag = self._tag
            line = request_line({**request, "tag": tag, "descriptors": len(files)})
            if len(line) > LONGEST:
                raise ValueError(
                    f"what {request['do']} asks takes {len(line)} bytes, more than the {LONGEST} of a request"
                )
            while self._notices:
                self._send(self._notices.popleft(), (), deadline)
            self._send(line, files, deadline)
            return self._answer(tag, deadline)
        except VnetError:
            # What the base refuses with may be an OSError, too: ServiceGone is one.
            raise
        except TimeoutError:
            raise self._late(patience) from None
        except OSError as error:
            if self._connection.fileno() < 0:
                raise NicClosed("this guest was closed while it asked the base") from None
            raise LanClosed(f"the base of {self._lan!r} has ended: {error.strerror or error}") from None
        finally:
            self._lock.release()
            if self._notices:
                self._give_notice()

    def tell(self, do: str, **arguments: Any) -> None:
        if os.getpid() == self._pid:
            self._notices.append(request_line({"do": do, **arguments, "quiet": True}))
            self._give_notice()

    def _give_notice(self) -> None:
        """Sends the notices that wait, unless somebody asks at this moment, who then does it: this very thread perhaps,
        where the collector runs in the middle of a request.  What the base does not take at once waits on."""
        while self._notices and self._lock.acquire(blocking=False):
            try:
                # With another timeout Python would wait for room.
                self._connection.settimeout(0)
                while self._notices and not self._torn:
                    # So short a line goes whole or not at all.
                    self._connection.send(self._notices[0], socket.MSG_NOSIGNAL)
                    self._notices.popleft()
                return
            except BlockingIOError:
                return
            except OSError:
                # The base is gone, or the guest is: either way nobody minds any more.
                self._notices.clear()
            finally:
                self._lock.release()

    def _late(self, patience: float) -> ProtocolError:
        return ProtocolError(f"the base of {self._lan!r} did not answer within {patience:g} s; is it stopped?")

    def _send(self, line: bytes, files: Sequence[int], deadline: float) -> None:
        if self._torn:
            raise ProtocolError(f"a request to the base of {self._lan!r} was cut off; attach anew")
        self._connection.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            sent = send_fds(self._connection, line, files)
        except (BrokenPipeError, ConnectionResetError):
            # What the base said before it closed the connection is there to be read.
            return
        if sent < len(line):
            self._torn = True
            self._connection.sendall(line[sent:])
            self._torn = False

    def _answer(self, tag: int, deadline: float) -> tuple[dict[str, Any], list[int]]:
        while True:
            self._connection.settimeout(max(0.001, deadline - time.monotonic()))
            reply = self._reader.next_reply()
            if reply is None:
                raise LanClosed(f"the base of {self._lan!r} has ended, or took this guest off the LAN")
            count = reply.get("descriptors", 0)
            files = self._reader.take_files(count if isinstance(count, int) else None)
            # Without a tag: the base refuses the connection as such.
            if reply.get("tag", tag) != tag:
                close_all(files)
                continue
            if reply.get("ok") is not True:
                close_all(files)
                raise refusal(reply)
            return {key: value for key, value in reply.items() if key not in _FRAME}, files

    def leave(self, patience: float = 2.0) -> None:
        """Says that the guest leaves, and closes what nobody took.  A base that is gone finds out by itself."""
        with contextlib.suppress(VnetError, ValueError):
            close_all(self.ask_within(patience, {"do": "detach"})[1])
        if self._lock.acquire(blocking=False):
            close_all(self._reader.take_files())
            self._lock.release()


def _forked() -> ForkedNic:
    return ForkedNic("this guest belongs to the parent process; attach one of its own after fork()")
