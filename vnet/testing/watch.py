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

__all__ = ["Watch"]

_kept = 0
"""Captures that this process has kept."""


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
        directory: where captures go; asked when the first is made.
        capture: whether LANs are captured, where they do not say so themselves.
        most: how many captures this process keeps.
    """

    def __init__(self, test: str, *, directory: Callable[[], Path], capture: bool, most: int) -> None:
        self.test = test
        self._directory = directory
        self._captures = capture
        self._most = most
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
        self._stop()
        self._undo.close()

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
        if self._captures if capture is None else capture:
            try:
                watched.capture = lan.capture(self._place(len(self._watched)))
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
        directory = self._directory()
        directory.mkdir(parents=True, exist_ok=True)
        return directory / f"{_file_name(self.test)}{f'-{number}' if number > 1 else ''}.{os.getpid()}.running"

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
                    with contextlib.suppress(OSError):
                        os.unlink(watched.capture.path)

    def _tell(self, item: pytest.Item, report: pytest.TestReport, watched: _Watched) -> str:
        evidence = Evidence()
        capture = watched.capture
        if capture is not None:
            try:
                evidence = read_evidence(capture.path)
            except OSError as error:
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
        global _kept
        if _kept >= self._most:
            with contextlib.suppress(OSError):
                os.unlink(capture.path)
            return f"its capture was not kept: {_kept} were before it (vnet_captures_kept)"
        path = re.sub(r"\.\d+\.running$", ".pcapng", capture.path)
        try:
            os.replace(capture.path, path)
        except OSError as error:
            return f"its capture could not be kept: {error}"
        _kept += 1
        # For the summary, and for JUnit files, which take it from the report of the teardown that follows.
        item.user_properties.append(("vnet_capture", path))
        report.user_properties.append(("vnet_capture", path))
        held = f"{capture.datagrams} datagram{'' if capture.datagrams == 1 else 's'}"
        missed = f", {capture.missed} more missed" if capture.missed else ""
        return f"capture ({held}{missed}): {path}"


def _file_name(test: str) -> str:
    """A test's id as a file's name: readable, not too long, and its own."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", test.replace(".py::", "-")).strip("._-") or "test"
    if len(name) <= 120:
        return name
    return f"{name[:100]}-{hashlib.blake2b(test.encode(), digest_size=4).hexdigest()}"
