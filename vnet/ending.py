"""How LANs end: in this process when nobody holds them any more, and in its forked children at once."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import weakref
from typing import TYPE_CHECKING

from .errors import CaptureError

if TYPE_CHECKING:
    from . import _native
    from .capture import Capture
    from .control import ControlServer
    from .hostside.tap import Borrowed
    from .lan import Lan
    from .metrics import MetricsServer
    from .netns.client import Nursery
    from .register import Register
    from .runtime import Guardian

__all__ = ["Keeper", "close_captures", "living", "shut_down"]


class Keeper:
    """What else ends with a LAN. The finalizer reaches it here, because it must not keep the LAN alive."""

    def __init__(self, register: Register, captures: set[Capture]) -> None:
        self.guardian: Guardian | None = None
        self.server: ControlServer | None = None
        self.nursery: Nursery | None = None
        self.register = register
        self.metrics: list[MetricsServer] = []
        self.captures = captures
        # What NICs have of the machine beside their devices, by their names: given back before the LAN has ended.
        self.borrowed: dict[str, Borrowed] = {}
        self.borrowing = threading.Lock()


def shut_down(base: _native.Base, keeper: Keeper, pid: int) -> None:
    """Ends a LAN, in the process that made it and in no other."""
    if os.getpid() != pid:
        return
    keeper.register.closed = True
    for metrics in keeper.metrics:
        metrics.close()
    # What could not be written is told to whoever closes the capture or the LAN; here nobody listens.
    with contextlib.suppress(CaptureError):
        close_captures(keeper.captures)
    if keeper.server is not None:
        keeper.server.close()
    base.close()
    # After the worker, which must not be the last to have a TAP: the nursery is quicker at that.
    if keeper.nursery is not None:
        keeper.nursery.close()
    keeper.register.release_all()
    for borrowed in tuple(keeper.borrowed.values()):
        borrowed.close()
    if keeper.guardian is not None:
        keeper.guardian.dismiss()


def close_captures(captures: set[Capture]) -> None:
    """Ends captures and waits until those for other processes have been told of.

    Raises:
        CaptureError: of the first that could not be written whole.
    """
    failures = []
    ended = tuple(captures)
    for capture in ended:
        try:
            capture.close()
        except CaptureError as error:
            failures.append(error)
    for capture in ended:
        if capture.told is not None:
            capture.told.wait(1.0)
    if failures:
        raise failures[0]


@functools.cache
def living() -> weakref.WeakSet[Lan]:
    """The LANs of this process, for the sake of its children.

    A forked child must not keep a control socket, a guest's connection or a guardian's pipe open, or the LAN would seem
    to live on.
    """
    lans: weakref.WeakSet[Lan] = weakref.WeakSet()

    def abandon() -> None:
        for lan in lans:
            lan._abandon()

    os.register_at_fork(after_in_child=abandon)
    return lans
