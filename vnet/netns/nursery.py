"""The nursery: makes what the base asks for and hands over descriptors.

========  =====================================================  =======================================================
``do``    arguments                                              answer
========  =====================================================  =======================================================
user                                                             a user namespace, if this process needs one
netns     ``wiring``; perhaps that user namespace                the network namespace, its TAP, and ``tap``, its number
plug      ``wiring``; a network namespace, perhaps the user      the TAP, and ``tap``
          namespace that owns it
routes    ``gone``, ``came``; the namespace, perhaps the user     nothing more
          namespace that owns it
let_go    ``taps``: numbers                                      none
settle                                                           the TAPs let go of are gone, unless others have them
========  =====================================================  =======================================================

It makes namespaces itself and comes back from them; where it may not, a child makes them, and what is plugged.

It keeps a descriptor of every TAP that it hands over.  The last to close one waits for the kernel, some 20 ms, with all
who use that thread: the base's worker must not be the last, and the nursery closes many at a time.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import select
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import MachineLacks, VnetError
from . import reasons
from .devices import CLONE_NEWNET, CLONE_NEWUSER, become_root, enter, new_network_namespace, open_tap, privileged
from .messages import Cut, close_all, pair, receive, send
from .wiring import Route, Wiring

__all__ = ["main"]

# TAPs that are closed at one time.
_AT_A_TIME = 32

_Made = tuple[dict[str, Any], list[int]]


class Nursery:
    """Serves the base at the other end of ``connection`` until that ends."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._privileged = privileged()
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        # Root of a user namespace is not let back into the machine's network namespace.
        self._comes_back = self._privileged and self._may_enter(self._home)
        self._taps: dict[int, int] = {}
        self._next = 0
        self._leaving: list[int] = []

    def serve(self) -> None:
        """Serves until the base ends or closes the connection."""
        try:
            while (message := receive(self._connection)) is not None:
                self._answer(*message)
                # Many that leave together are closed together.
                if self._leaving and not select.select([self._connection], [], [], 0)[0]:
                    self._settle()
        except OSError:
            # The base has ended in the middle.
            pass
        self._close([*self._leaving, *self._taps.values()])

    def _answer(self, request: dict[str, Any], files: list[int]) -> None:
        made: list[int] = []
        try:
            try:
                reply, made = self._do(request, files)
            except Exception as error:
                reply = _refusal(error)
            if reply:
                send(self._connection, {**reply, "number": request["number"]}, made)
        finally:
            close_all([*files, *made])

    def _do(self, request: dict[str, Any], files: list[int]) -> _Made:
        if request["do"] == "user":
            return ({"ok": True}, []) if self._privileged else in_child(_make_user_namespace)
        if request["do"] == "let_go":
            numbers = request["taps"]
            self._leaving += [self._taps.pop(number) for number in numbers if number in self._taps]
            return {}, []
        if request["do"] == "settle":
            self._settle()
            return {"ok": True}, []
        if request["do"] == "routes":
            return self._change_routes(request, files)
        wiring = Wiring.heard(request["wiring"])
        if request["do"] == "netns":
            if self._comes_back:
                return self._kept(self._make_netns_here(wiring))
            user = None if self._privileged else files[0]
            return self._kept(in_child(lambda: _make_netns(wiring, user)))
        # A device that leaves may have the name of one that comes.
        self._settle()
        target, *owner = files
        user = owner[0] if owner and not self._privileged else None
        if user is None and not self._privileged:
            raise reasons.not_ours()
        return self._kept(in_child(lambda: _plug(wiring, target, user)))

    def _change_routes(self, request: dict[str, Any], files: list[int]) -> _Made:
        gone, came = ([Route(*map(str, each)) for each in request[which]] for which in ("gone", "came"))
        if self._comes_back:
            try:
                return _change_routes(files[0], None, gone, came)
            finally:
                enter(self._home, CLONE_NEWNET)
        user = None if self._privileged else files[1]
        return in_child(lambda: _change_routes(files[0], user, gone, came))

    @staticmethod
    def _may_enter(namespace: int) -> bool:
        try:
            enter(namespace, CLONE_NEWNET)
        except VnetError:
            return False
        return True

    def _make_netns_here(self, wiring: Wiring) -> _Made:
        """Makes one in this process, which then goes back to its own: that takes half the time of a child."""
        try:
            return _make_netns(wiring, None)
        finally:
            enter(self._home, CLONE_NEWNET)

    def _kept(self, made: _Made) -> _Made:
        """Keeps the TAP, which comes last."""
        reply, files = made
        self._next += 1
        self._taps[self._next] = os.dup(files[-1])
        return {**reply, "tap": self._next}, files

    def _settle(self) -> None:
        leaving, self._leaving = self._leaving, []
        self._close(leaving)

    def _close(self, taps: list[int]) -> None:
        """Closes descriptors, many at a time."""

        def close() -> None:
            with contextlib.suppress(IndexError):
                while True:
                    os.close(taps.pop())

        threads = [threading.Thread(target=close) for _ in range(min(_AT_A_TIME, len(taps)) - 1)]
        for thread in threads:
            thread.start()
        close()
        for thread in threads:
            thread.join()


def in_child(work: Callable[[], _Made]) -> _Made:
    """Does ``work`` in a child, whose namespaces change and which ends, and returns what came of it.

    Raises:
        VnetError, ValueError: that of ``work``.
    """
    ours, theirs = pair()
    with ours, theirs:
        child = os.fork()
        if not child:
            try:
                try:
                    send(theirs, *work())
                except Exception as error:
                    send(theirs, _refusal(error))
            finally:
                os._exit(0)
        theirs.close()
        try:
            message = receive(ours)
        except Cut:
            raise reasons.no_descriptors() from None
        finally:
            os.waitpid(child, 0)
    if message is None:
        raise VnetError("a child of the nursery was killed")
    if not message[0]["ok"]:
        raise _Refused(message[0])
    return message


class _Refused(Exception):
    """A child's refusal."""


def _refusal(error: Exception) -> dict[str, Any]:
    if isinstance(error, _Refused):
        reply: dict[str, Any] = error.args[0]
        return reply
    if isinstance(error, VnetError | ValueError):
        name = type(error).__name__ if isinstance(error, VnetError) else "ValueError"
        return {"ok": False, "error": name, "message": str(error)}
    return {"ok": False, "error": "VnetError", "message": f"the namespace could not be made: {error!r}"}


def _make_user_namespace() -> _Made:
    return {"ok": True}, [become_root()]


def _make_netns(wiring: Wiring, user: int | None) -> _Made:
    from .links import configure

    if user is not None:
        enter(user, CLONE_NEWUSER)
    made = [new_network_namespace()]
    try:
        # Made inside: moved, it would cost the kernel another 16 ms.
        made.append(open_tap(wiring.interface))
        configure(wiring, new=True)
    except BaseException:
        close_all(made)
        raise
    return {"ok": True}, made


def _plug(wiring: Wiring, target: int, user: int | None) -> _Made:
    from .links import configure, move

    if user is not None:
        enter(user, CLONE_NEWUSER)
    # Outside of the target: an open TAP keeps the namespace alive in which it was opened.
    new_network_namespace()
    tap = open_tap(wiring.interface)
    move(wiring.interface, target)
    enter(target, CLONE_NEWNET)
    configure(wiring, new=False)
    return {"ok": True}, [tap]


def _change_routes(namespace: int, user: int | None, gone: Sequence[Route], came: Sequence[Route]) -> _Made:
    from .links import change_routes

    if user is not None:
        enter(user, CLONE_NEWUSER)
    enter(namespace, CLONE_NEWNET)
    change_routes(gone, came)
    return {"ok": True}, []


def main(connection: int) -> None:
    """Runs the nursery."""
    # It ends with the base and not with what is typed at the base's terminal.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    with open("/proc/self/comm", "w") as file:
        file.write("vnet-nursery")
    with contextlib.suppress(OSError, ValueError):
        # One for each TAP; the base's own limit is its own affair.
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with socket.socket(fileno=connection) as sock:
        try:
            from . import links  # noqa: F401 - before the first fork, so that children need not
        except ImportError as error:
            refused = MachineLacks(f"namespaces need pyroute2 ({error}): `pip install pyroute2` provides it")
            _refuse_all(sock, refused)
        os.chdir("/")
        # Children copy no pages only because the collector has marked what lies in them.
        gc.freeze()
        Nursery(sock).serve()
    os._exit(0)


def _refuse_all(sock: socket.socket, error: Exception) -> None:
    while (message := receive(sock)) is not None:
        close_all(message[1])
        send(sock, {**_refusal(error), "number": message[0]["number"]})
    os._exit(1)
