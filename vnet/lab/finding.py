"""Which LANs are up, and which of them somebody means.

What is up is what answers on its control socket, nothing else: no file and no name tells.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vnet.errors import LanNotFound, VnetError
from vnet.lab.tree import did_you_mean
from vnet.runtime import connect, live_names
from vnet.wire import ask, close_all

__all__ = ["LiveLan", "find", "find_lab", "live_lan", "live_lans", "no_answer", "origin_of"]

# Seconds in which a base that is not stopped has answered.
_PATIENCE = 2.0


@dataclass(frozen=True)
class LiveLan:
    """A LAN whose base answers.

    Attributes:
        name: the LAN's.
        kind: ``lab`` (``vnet up``), ``run`` (``vnet run``) or ``program`` (``vnet.Lan`` in somebody's program); None
            where the base is there and does not answer.
        pid: of the base.
        user: the user id of the base.
        since: when it came up, in seconds since the epoch.
        nodes: how many guests and routers are on it.
        origin: the file that it is made from; empty for a program's.
    """

    name: str
    kind: str | None
    pid: int
    user: int
    since: float
    nodes: int
    origin: str

    @property
    def own(self) -> bool:
        """Whether it is this user's; root can reach others' too."""
        return self.user == os.geteuid()


def live_lan(name: str) -> LiveLan:
    """Ask the base of the LAN ``name`` what it is.

    Raises:
        LanNotFound, NotPermitted: as of :func:`vnet.attach`.
    """
    with connect(name, timeout=_PATIENCE) as connection:
        # struct ucred, unix(7).
        pid, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        try:
            reply, files = ask(connection, {"do": "describe"})
        except VnetError:
            return LiveLan(name, None, pid, user, 0.0, 0, "")
        close_all(files)
    return LiveLan(
        name=name,
        kind=str(reply.get("kind", "program")),
        pid=int(reply.get("pid", pid)),
        user=user,
        since=float(reply.get("since", 0.0)),
        nodes=len({*(nic["node"] for nic in reply.get("nics", ())), *reply.get("routers", ())}),
        origin=str(reply.get("origin", "")),
    )


def live_lans() -> list[LiveLan]:
    """Every LAN of this user's that is up, by name."""
    found = []
    for name in live_names():
        try:
            found.append(live_lan(name))
        except VnetError:
            # It ended in this moment, or is another user's.
            continue
    return found


def find(given: str) -> LiveLan:
    """The LAN that somebody means by its name, or by the lab file that it comes from.

    Raises:
        LanNotFound: none is up; the message tells what is.
    """
    names = live_names()
    if given in names:
        return live_lan(given)
    origins = origins_of(given)
    lans = live_lans()
    from_file = [lan for lan in lans if lan.origin and lan.origin in origins]
    if len(from_file) == 1:
        return from_file[0]
    if from_file:
        several = " and ".join(lan.name for lan in from_file)
        raise LanNotFound(f"{given!r} is up as {several}; say which of them by its name")
    up = f"up are {', '.join(names)}" if names else "no LAN of this user is up"
    if any(os.path.isfile(origin) for origin in origins):
        raise LanNotFound(f"the lab of {given} is not up ({up}); vnet up {given} starts it")
    raise LanNotFound(f"no LAN named {given!r} is up{did_you_mean(given, names)}; {up}")


def find_lab(given: str, *, kinds: Sequence[str] = ("lab",), what: str) -> LiveLan:
    """Like :func:`find`, for what only a lab can do.

    Args:
        given: a name or a file.
        kinds: those that can do it.
        what: what a LAN of another kind cannot, as the end of a sentence.

    Raises:
        LanNotFound: it is not up.
        VnetError: it is something else than a lab, or does not answer.
    """
    lan = find(given)
    if lan.kind is None:
        raise no_answer(lan)
    if lan.kind in kinds:
        return lan
    whose = f"the LAN of a program (process {lan.pid})" if lan.kind == "program" else f"a run (process {lan.pid})"
    raise VnetError(f"{lan.name!r} is {whose} and no lab that vnet up started: {what}")


def no_answer(lan: LiveLan) -> VnetError:
    """What is to be said of a base that is there and does not answer."""
    return VnetError(
        f"the base of {lan.name!r} (process {lan.pid}) does not answer; is it stopped? kill -KILL {lan.pid} ends it "
        "and leaves nothing"
    )


def origin_of(file: str, directory: Path) -> str:
    """Which file a lab comes from, in a form that is the same for the same file; for text, where it was said."""
    return f"{file} in {directory}" if file.startswith("<") else os.path.realpath(file)


def origins_of(given: str) -> set[str]:
    """The origins that somebody may mean by a path, the name of a shipped lab, or ``-``."""
    from vnet.lab.source import shipped_labs

    if given == "-":
        return {origin_of("<stdin>", Path.cwd())}
    found: Iterable[Any] = [given] if "\0" not in given else []
    return {os.path.realpath(path) for path in (*found, *filter(None, [shipped_labs().get(given)]))}
