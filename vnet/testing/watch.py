"""Watches the LANs of a test: they end with it, and tell what became of their datagrams where it fails."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import pytest

from vnet.errors import CaptureError, NameTaken, VnetError
from vnet.lan import Lan
from vnet.testing.evidence import Evidence, read_evidence

if TYPE_CHECKING:
    from vnet.capture import Capture
    from vnet.statistics import LanStatistics
    from vnet.testing.marks import LanSettings

__all__ = ["Captures", "Watch"]

# Bytes of a capture's file, of which there is one more when it is full; what is older goes.  It is the last datagrams
# that tell why a test failed, and no test fills the disk.
_FILE = 8 << 20
_FILES = 2

# What the directory of a capture ends with while its test runs.
_RUNNING = ".running"


@dataclass
class Captures:
    """Where the captures of failed tests go.

    Attributes:
        directory: where they go.
        most: how many this process keeps.
        kept: how many it has kept so far.
    """

    directory: Path
    most: int
    kept: int = 0


@dataclass
class _Watched:
    """A LAN, and what is known of it."""

    lan: Lan
    capture: Capture | None = None
    statistics: LanStatistics | None = None
    # Why there is no capture, or not all of it.
    trouble: str = ""


class Watch:
    """What a test has made.  Leaving it ends all of that.

    Arguments:
        test: the test's id.
        captures: where its captures go.
        capture: whether LANs are captured, where they do not say so themselves.
    """

    def __init__(self, test: str, captures: Captures, *, capture: bool) -> None:
        self.test = test
        self._captures = captures
        self._capture = capture
        self._watched: list[_Watched] = []
        self._tellers: list[Callable[[], tuple[str, str]]] = []
        self._undo = contextlib.ExitStack()
        self._told = False

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A fixture that depends on the LAN may have failed by now, which its test's last report tells.
        with self._undo:
            self._stop()

    def make_lan(self, settings: LanSettings) -> Lan:
        """Makes a LAN that ends with the test.

        Raises:
            NameTaken, AddressError, ValueError: as of :class:`vnet.Lan`.
        """
        lan = self._named(settings) if settings.named else Lan(settings.name, settings.prefixes, **settings.options)
        self._undo.callback(lan.close)
        if lan.name is not None:
            # Guests that the test starts find the LAN as those of a lab do.
            environment = pytest.MonkeyPatch()
            environment.setenv("VNET_LAN", lan.name)
            self._undo.callback(environment.undo)
        self.add(lan, settings.capture)
        return lan

    def unique_name(self) -> str:
        """Returns a name for a LAN that no other test has, on whichever worker."""
        function = re.sub(r"[^A-Za-z0-9._-]+", "-", self.test.rpartition("::")[2].partition("[")[0]).strip("._-")
        return f"{function[:40] or 'test'}-{secrets.token_hex(4)}"

    def _named(self, settings: LanSettings) -> Lan:
        while True:
            with contextlib.suppress(NameTaken):
                return Lan(self.unique_name(), settings.prefixes, **settings.options)

    def add(self, lan: Lan, capture: bool | None = None) -> None:
        """Watches a LAN that somebody else closes, after the test or within it."""
        watched = _Watched(lan)
        self._watched.append(watched)
        if self._capture if capture is None else capture:
            try:
                place = self._place(len(self._watched))
                watched.capture = lan.capture(place / "capture.pcapng", file_size=_FILE, files=_FILES)
            except (CaptureError, OSError) as error:
                # The test is not about its capture.
                watched.trouble = f"no capture: {error}"

    def undo(self, ending: Callable[[], object]) -> None:
        """Has ``ending`` called when the test is over; what was made last ends first."""
        self._undo.callback(ending)

    def tells(self, teller: Callable[[], tuple[str, str]]) -> None:
        """Adds the section (title and text) that ``teller`` returns to the report of a failure."""
        self._tellers.append(teller)

    def _place(self, number: int) -> Path:
        """A new directory for a capture.  One of a process that dies in a test is left, and bears the test's name."""
        name = f"{_file_name(self.test)}{f'-{number}' if number > 1 else ''}"
        place = self._captures.directory / f"{name}.{os.getpid()}{_RUNNING}"
        place.mkdir(parents=True, exist_ok=True)
        return place

    def _stop(self) -> None:
        """Ends the captures, once all that was sent before is in them, and reads the counters."""
        for watched in self._watched:
            if watched.statistics is None:
                with contextlib.suppress(VnetError):
                    watched.statistics = watched.lan.statistics()
            if watched.capture is not None:
                try:
                    watched.capture.close()
                except CaptureError as error:
                    watched.trouble = str(error)

    def follow(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Tells in the report of a failure what is known, and lets go of the captures of a test that passed."""
        if report.failed and not self._told:
            self._told = True
            self._stop()
            for number, watched in enumerate(self._watched, 1):
                title = "vnet drops" if len(self._watched) == 1 else f"vnet drops, LAN {number} of {len(self._watched)}"
                report.sections.append((title, self._tell(item, report, watched)))
            report.sections += [teller() for teller in self._tellers]
        elif report.when == "teardown" and not self._told:
            for watched in self._watched:
                if watched.capture is not None:
                    _remove(watched.capture)

    def _tell(self, item: pytest.Item, report: pytest.TestReport, watched: _Watched) -> str:
        evidence = Evidence()
        capture = watched.capture
        if capture is not None:
            try:
                evidence = read_evidence(_files(capture))
            except (OSError, ValueError) as error:
                watched.trouble = watched.trouble or f"the capture cannot be read: {error}"
        evidence.count(watched.statistics)
        lines = list(evidence.lines())
        if watched.trouble:
            lines.append(watched.trouble)
        if capture is not None:
            lines.append(self._keep(item, report, capture))
        return "\n".join(lines)

    def _keep(self, item: pytest.Item, report: pytest.TestReport, capture: Capture) -> str:
        """Keeps a capture, if there are not enough of them.  Returns what there is to say about it."""
        if self._captures.kept >= self._captures.most:
            _remove(capture)
            return f"its capture was not kept: {self._captures.kept} were before it (vnet_captures_kept)"
        place = Path(capture.path).parent
        stem = place.name.removesuffix(_RUNNING).rpartition(".")[0]
        files = _files(capture)
        paths = []
        try:
            for number, file in enumerate(files, 1):
                kept = place.with_name(f"{stem}.{number}.pcapng" if len(files) > 1 else f"{stem}.pcapng")
                paths.append(str(file.replace(kept)))
            place.rmdir()
        except OSError as error:
            return f"its capture could not be kept: {error}"
        self._captures.kept += 1
        # For the summary, and for JUnit files, which take it from the report of the teardown that follows.
        for path in paths:
            item.user_properties.append(("vnet_capture", path))
            report.user_properties.append(("vnet_capture", path))
        held = f"{capture.datagrams} datagram{'' if capture.datagrams == 1 else 's'}"
        missed = f", {capture.missed} more missed" if capture.missed else ""
        last = f", the last {_FILE * _FILES >> 20} MiB kept" if len(files) == _FILES else ""
        return f"capture ({held}{missed}{last}): {' '.join(paths)}"


def _files(capture: Capture) -> list[Path]:
    """The files of a capture, the oldest first."""
    return sorted(Path(capture.path).parent.iterdir())


def _remove(capture: Capture) -> None:
    with contextlib.suppress(OSError):
        for file in _files(capture):
            file.unlink()
        Path(capture.path).parent.rmdir()


def _file_name(test: str) -> str:
    """A test's id as a file's name: readable, not too long, and its own."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", test.replace(".py::", "-")).strip("._-") or "test"
    if len(name) <= 120:
        return name
    return f"{name[:100]}-{hashlib.blake2b(test.encode(), digest_size=4).hexdigest()}"
