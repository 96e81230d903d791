"""Captures of a LAN."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING

from . import _native
from .errors import CaptureError

if TYPE_CHECKING:
    from .register import Register

__all__ = ["Capture", "CaptureOptions"]

# Bytes of the smallest of the ring files: the heads of a capture of some tens of NICs.
_SMALLEST_FILE = 4096


@dataclass(frozen=True)
class CaptureOptions:
    """What a capture takes, and how it is written; :meth:`vnet.Lan.capture` tells what each means."""

    nics: tuple[str, ...] | None = None
    direction: str = "both"
    filter: str | None = None
    drops: bool = False
    limit: int | None = None
    snaplen: int | None = None
    file_size: int | None = None
    files: int = 0
    # The filter compiled already, by whom the words came from.
    program: bytes | None = None

    def __post_init__(self) -> None:
        if self.direction not in ("both", "in", "out"):
            raise ValueError(f"direction is both, in or out, not {self.direction!r}")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit is at least 1 packet, not {self.limit}")
        if self.snaplen is not None and not 1 <= self.snaplen <= 65_535:
            raise ValueError(f"snaplen is 1 to 65,535 bytes, not {self.snaplen}")
        if self.file_size is not None and self.file_size < _SMALLEST_FILE:
            raise ValueError(f"file_size is at least {_SMALLEST_FILE} bytes, not {self.file_size}")
        if self.files < 0 or (self.files and self.file_size is None):
            raise ValueError("files is how many ring files are kept, which needs file_size")

    def compiled(self, names: Mapping[str, Sequence[str]]) -> CaptureOptions:
        """The same with the filter's program; ``names`` and errors as of :func:`vnet.filters.compile_filter`."""
        if self.program is not None or not self.filter:
            return self
        from .filters import compile_filter

        return replace(self, program=compile_filter(self.filter, names))

    def spelled_out(self, nodes: Mapping[str, Sequence[str]]) -> CaptureOptions:
        """The same with the NICs of each of ``nodes`` in the place of its name."""
        if self.nics is None:
            return self
        return replace(self, nics=tuple(nic for name in self.nics for nic in nodes.get(name, (name,))))

    def arguments(self) -> _native.CaptureArguments:
        """What the native part gets, once the filter is compiled."""
        program = self.program
        return {
            "nics": None if self.nics is None else list(self.nics),
            "direction": self.direction,
            "filter": None if program is None else (_native.Filter(program), self.filter or ""),
            "drops": self.drops,
            "limit": self.limit,
            "snaplen": self.snaplen,
            "ring": None,
        }


class Capture:
    """A running capture, made by :meth:`vnet.Lan.capture`.

    The file is pcapng: one interface block for each NIC, a packet block on the sender's interface (outbound) and one on
    each receiver's (inbound), the reason as a packet comment where a datagram was dropped, times in nanoseconds.  The
    datagrams of a batch have one time: they appear together.

    Attributes:
        path: the file; an empty string where it goes into a descriptor.
        closed: whether it has been ended.
    """

    def __init__(
        self,
        base: _native.Base,
        where: str | os.PathLike[str] | int,
        options: CaptureOptions,
        forget: Callable[[Capture], None] = lambda _: None,
    ) -> None:
        self.path = "" if isinstance(where, int) else os.fspath(where)
        self.closed = False
        # Set by who tells another process how the capture ended, for a LAN that closes and waits for that.
        self.told: threading.Event | None = None
        self._forget = forget
        arguments = options.arguments()
        try:
            if options.file_size is not None:
                self._capture = _ring(base, self.path, arguments, options)
            elif isinstance(where, int):
                self._capture = base.capture(where, arguments)
            else:
                with open(where, "wb", buffering=0) as file:
                    self._capture = base.capture(file.fileno(), arguments)
        except OSError as error:
            words = os.strerror(error.errno) if error.errno else str(error)
            raise CaptureError(f"{self._name()} cannot be written: {words}") from None

    def _name(self) -> str:
        return self.path or "the capture"

    @property
    def packets(self) -> int:
        """Packets in the file so far."""
        return self._capture.counts()[0]

    @property
    def datagrams(self) -> int:
        """Datagrams that were sent and are in the file so far, each as one packet or more."""
        return self._capture.counts()[1]

    @property
    def missed(self) -> int:
        """Datagrams and copies of broadcasts that came faster than they could be taken, so far."""
        return self._capture.counts()[2]

    @property
    def ended(self) -> str | None:
        """Why it is over, if it is: ``stopped``; ``limit``, it has all its packets; ``reader``, whoever read it has
        gone; ``failed``, it could not be written."""
        return self._capture.end()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits up to ``timeout`` seconds until it is over.  Returns whether it is."""
        if timeout is not None:
            return self._capture.wait(timeout)
        # In slices, so that Ctrl-C is answered.
        while not self._capture.wait(0.2):
            pass
        return True

    def close(self) -> None:
        """Ends the capture, once all that was sent before is in the file.  May be called twice.

        A reader that takes nothing for two seconds gets no more.

        Raises:
            CaptureError: the file could not be written whole.
        """
        if self.closed:
            return
        self.closed = True
        self._forget(self)
        why, number, words = self._capture.stop()
        if why == "failed":
            words = os.strerror(number) if number else words
            hint = "; what came until then can be read" if number in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT) else ""
            raise CaptureError(f"{self._name()} is not whole: {words}{hint}")

    def discard(self) -> None:
        """Ends the capture at once and removes its file.  Does nothing where it was closed already."""
        if self.closed:
            return
        self.closed = True
        self._forget(self)
        self._capture.discard()
        if self.path:
            # Ring files are left: which there are is the writer's knowledge.
            with contextlib.suppress(OSError):
                os.unlink(self.path)

    def _abandon(self) -> None:
        """Forgets the capture in a forked child: it is the parent's."""
        self.closed = True

    def __enter__(self) -> Capture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _ring(
    base: _native.Base, path: str, arguments: _native.CaptureArguments, options: CaptureOptions
) -> _native.Capture:
    """A capture into ring files: `x.pcapng` becomes `x_00001_20240131235959.pcapng` and so on."""
    directory, name = os.path.split(path)
    stem, suffix = os.path.splitext(name)
    if not stem:
        raise CaptureError("ring files need a file name")
    opened = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        arguments["ring"] = (opened, stem, suffix, options.file_size or 0, options.files)
        return base.capture(-1, arguments)
    finally:
        os.close(opened)


def nodes_by_name(register: Register) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Everybody by name, NICs and whoever has several of them, routers above all; the register's lock is held.

    Returns:
        The addresses of each, for filters; and the NICs of those who are no NIC by name.  A router on no network has
        one of its own name in captures.
    """
    addresses = {name: list(map(str, entry.addresses)) for name, entry in register.nics.items()}
    nodes: dict[str, list[str]] = {}
    for name, entry in register.nics.items():
        if entry.node and entry.node not in register.nics:
            nodes.setdefault(entry.node, []).append(name)
    for router in register.routing.model.routers:
        if router.name in register.nics:
            continue
        nics = [port.nic for port in router.ports if port.nic]
        nodes[router.name] = nics or [router.name]
        linked = [str(each) for port in router.ports for each in port.addresses if port.wire is not None]
        addresses.setdefault(router.name, linked)
    for name, nics in nodes.items():
        addresses.setdefault(name, []).extend(each for nic in nics for each in addresses[nic] if nic != name)
    return addresses, nodes


def options_of(
    nics: Iterable[str] | None,
    direction: str,
    filter: str | None,
    drops: bool,
    limit: int | None,
    snaplen: int | None,
    file_size: int | None,
    files: int,
) -> CaptureOptions:
    """The options of :meth:`vnet.Lan.capture`, checked."""
    if isinstance(nics, str):
        raise TypeError(f"nics is a list of names, not one name: [{nics!r}]")
    chosen = None if nics is None else tuple(nics)
    return CaptureOptions(chosen, direction, filter, drops, limit, snaplen, file_size, files)
