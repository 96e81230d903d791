"""The base's side of the nursery: starts it when it is first needed, asks it, and ends it."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import LanClosed, VnetError
from . import reasons
from .messages import Cut, close_all, pair, receive, refusal, send
from .wiring import Route, Wiring

__all__ = ["Made", "Nursery"]

# The nursery finds its modules where this process finds its own.
_PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from vnet.netns.nursery import main
main(int(sys.argv[2]))
"""

# Seconds in which the nursery answers; it takes milliseconds.
_PATIENCE = 30.0
# Descriptors that are left free for everything else: before the limit is raised, and where it cannot be.
_SPARE = 64
_LEAST = 16
# Routes in one message, which has 64 KiB.
_ROUTES = 200


class Nursery:
    """The nursery of a LAN.  Threads may use it at one time; it serves one after the other.

    A nursery that was killed takes nothing along but its share of the TAPs: the next request starts another.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        # The user namespace of those made without root.
        self._user: int | None = None
        self._generation = 0
        self._requests = 0
        self._all: weakref.WeakSet[Made] = weakref.WeakSet()
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The nursery's process, while there is one."""
        return self._process.pid if self._process else None

    def netns(self, wiring: Wiring) -> Made:
        """Makes a network namespace with an interface.

        Raises:
            MachineLacks: this machine does not let this user have one.
            VnetError: it could not be made.
        """
        with self._lock:
            if self._user is None:
                _, files = self._ask({"do": "user"}, ())
                self._user = files[0] if files else None
            user = () if self._user is None else (self._user,)
            reply, (namespace, tap) = self._ask({"do": "netns", "wiring": wiring.told()}, user)
            return self._made(
                Made(self, self._generation, int(reply["tap"]), tap, namespace, user[0] if user else None)
            )

    def plug(self, wiring: Wiring, namespace: int, owner: int | None) -> Made:
        """Gives a namespace that is there an interface.

        Arguments:
            wiring: what it is like.
            namespace: a descriptor of the network namespace; it stays the caller's.
            owner: one of the user namespace that it belongs to, if that is not this process's.

        Raises:
            NameTaken, AddressTaken: the namespace has such an interface.
            NotPermitted: the namespace is another user's.
            MachineLacks, VnetError: as of :meth:`netns`.
        """
        with self._lock:
            files = [namespace] if owner is None else [namespace, owner]
            reply, (tap,) = self._ask({"do": "plug", "wiring": wiring.told()}, files)
            return self._made(Made(self, self._generation, int(reply["tap"]), tap, None, None))

    def change_routes(self, made: Made, gone: Sequence[Route], came: Sequence[Route]) -> None:
        """Takes routes away from a namespace that :meth:`netns` made, and gives it others.

        Raises:
            VnetError: the kernel refuses a route.
        """
        for at in range(0, max(len(gone), len(came)), _ROUTES):
            with self._lock:
                if made.namespace is None:
                    return
                files = [made.namespace] if made.user is None else [made.namespace, made.user]
                some = {"gone": gone[at : at + _ROUTES], "came": came[at : at + _ROUTES]}
                told = {which: [route.told() for route in routes] for which, routes in some.items()}
                self._ask({"do": "routes", **told}, files)

    def let_go(self, generation: int, tap: int) -> None:
        """Has the nursery forget a TAP, which goes unless others have it."""
        with self._lock:
            if generation == self._generation:
                self._let_go(tap)

    def settle(self) -> None:
        """Waits until the TAPs that it let go of are gone."""
        with self._lock, contextlib.suppress(VnetError):
            if self._connection is not None:
                self._ask_once({"do": "settle"}, ())

    def close(self) -> None:
        """Ends the nursery and waits until it has.  May be called twice."""
        with self._lock:
            self._closed = True
            self._end()
            if self._user is not None:
                os.close(self._user)
                self._user = None

    def abandon(self) -> None:
        """Lets go, in a forked child, of what is the parent's: descriptors of namespaces and devices, too."""
        self._closed = True
        for made in tuple(self._all):
            made.close()
        # Whoever held the lock at the fork is not there to give it back.
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        process, self._process = self._process, None
        if process is not None:
            # Not this process's child: nothing to wait for.
            process.returncode = 0
        user, self._user = self._user, None
        if user is not None:
            os.close(user)

    def _made(self, made: Made) -> Made:
        """Notes what was made, and refuses what takes almost the last descriptors: no program could be started then."""
        self._all.add(made)
        if not _are_spare(made.tap):
            made.close()
            self._let_go(made.number)
            raise reasons.no_descriptors()
        return made

    def _let_go(self, tap: int) -> None:
        with contextlib.suppress(OSError):
            if self._connection is not None:
                send(self._connection, {"do": "let_go", "taps": [tap]})

    def _ask(self, request: dict[str, Any], files: Sequence[int]) -> tuple[dict[str, Any], list[int]]:
        if self._closed:
            raise LanClosed("this LAN is closed")
        if self._connection is not None:
            # It may have been killed since; whatever it made and did not hand over has gone with it.
            with contextlib.suppress(_Gone):
                return self._ask_once(request, files)
        self._start()
        try:
            return self._ask_once(request, files)
        except _Gone as error:
            raise VnetError(f"the process that makes namespaces ended: {error}") from None

    def _ask_once(self, request: dict[str, Any], files: Sequence[int]) -> tuple[dict[str, Any], list[int]]:
        assert self._connection is not None
        self._requests += 1
        try:
            send(self._connection, {**request, "number": self._requests}, files)
        except OSError as error:
            raise _Gone(error.strerror) from None
        reply, made = self._hear()
        while reply["number"] != self._requests:
            # The answer to a request that Ctrl-C broke off.
            close_all(made)
            if "tap" in reply:
                self._let_go(int(reply["tap"]))
            reply, made = self._hear()
        if reply["ok"] is not True:
            close_all(made)
            raise refusal(reply)
        return reply, made

    def _hear(self) -> tuple[dict[str, Any], list[int]]:
        assert self._connection is not None
        try:
            heard = receive(self._connection)
        except Cut:
            raise reasons.no_descriptors() from None
        except OSError as error:
            self._end()
            raise _Gone("it did not answer in time" if isinstance(error, TimeoutError) else error.strerror) from None
        if heard is None:
            status = self._end()
            raise _Gone(f"its exit status is {status}")
        return heard

    def _start(self) -> None:
        self._end()
        ours, theirs = pair()
        # From the first on: a child that is forked meanwhile must not keep it open.
        self._connection = ours
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", _PROGRAM, json.dumps(sys.path), str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
        except BaseException:
            self._end()
            raise
        ours.settimeout(_PATIENCE)
        self._generation += 1

    def _end(self) -> int | None:
        """Ends the process and returns its exit status; ``None`` where there was none."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        process, self._process = self._process, None
        if process is None:
            return None
        try:
            return process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def _are_spare(newest: int) -> bool:
    """Whether this process may open some more files than it has; where only few are left, raises what it may.

    Some hundred namespaces take more than the 1,024 that are usual.  Where there is no need the limit is left alone:
    programs inherit it, and some use select().
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The kernel gives the lowest number that is free.
    if soft not in (hard, resource.RLIM_INFINITY) and newest + _SPARE > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft == resource.RLIM_INFINITY or newest + _LEAST <= soft


class _Gone(VnetError):
    """The nursery has ended."""


@dataclass(eq=False)
class Made:
    """What the nursery made for a NIC, and the base has of it, until :meth:`release`.

    Attributes:
        tap: the TAP's descriptor; -1 once :meth:`close_tap` was called.
        namespace: that of the network namespace, unless it is another's.
        user: that of the user namespace to join before; it stays the nursery's.
    """

    nursery: Nursery
    generation: int
    number: int
    tap: int
    namespace: int | None
    user: int | None

    def close_tap(self) -> None:
        """Closes the TAP's descriptor, of which the worker has a duplicate."""
        tap, self.tap = self.tap, -1
        if tap != -1:
            os.close(tap)

    def release(self) -> None:
        """Lets go of all of it.  May be called twice."""
        self.close()
        self.nursery.let_go(self.generation, self.number)

    def close(self) -> None:
        """Closes this process's descriptors."""
        self.close_tap()
        namespace, self.namespace = self.namespace, None
        if namespace is not None:
            os.close(namespace)
