"""Captures of a live LAN from another process: the base writes into a descriptor of ours."""

from __future__ import annotations

import base64
import time
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

from .calls import stream
from .capture import CaptureOptions
from .control import describe
from .errors import LanClosed

__all__ = ["CaptureReport", "LiveCapture"]

# Instructions of a filter that a request has room for; those for hundreds of hosts have fewer.
_LONGEST_PROGRAM = 1000


@dataclass(frozen=True)
class CaptureReport:
    """What a capture did.

    Attributes:
        packets: packets written.
        datagrams: datagrams that these are of.
        missed: datagrams that came faster than they could be taken.
        why: it is over: ``stopped``; ``limit``, it has all its packets; ``reader``, whoever read it has gone;
            ``failed``, see :attr:`error`; ``lan``, the LAN has ended; ``base``, so has its base, without a word.
        error: why it could not be written whole.
    """

    packets: int = 0
    datagrams: int = 0
    missed: int = 0
    why: str = "base"
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Returns the same as plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        def number(count: int, what: str) -> str:
            return f"{count:,} {what}{'' if count == 1 else 's'}"

        written = f"{number(self.packets, 'packet')} of {number(self.datagrams, 'datagram')} captured"
        return f"{written}, {self.missed:,} missed" if self.why != "base" else "the base has ended without a word"


class LiveCapture:
    """A capture that the base of a live LAN makes for this process.  A context manager; leaving it ends the capture.

    Arguments:
        lan: the LAN's name.
        file: a descriptor to write to, which stays the caller's; of a directory where there is a name.
        options: what to capture.
        name: that of ring files.

    Raises:
        LanNotFound, NotPermitted: as of :func:`vnet.attach`.
        FilterError, MachineLacks: the filter does not compile; there is no libpcap.
        VnetError: the base refused, because there is no such NIC for one.
    """

    def __init__(self, lan: str, file: int, options: CaptureOptions, name: str = "") -> None:
        self.report: CaptureReport | None = None
        plain: dict[str, Any] = {
            "nics": None if options.nics is None else list(options.nics),
            "direction": options.direction,
            "drops": options.drops,
            "limit": options.limit,
            "snaplen": options.snaplen,
            "file_size": options.file_size,
            "keep_files": options.files,
            "name": name or None,
            **_filter(lan, options),
        }
        given = {key: value for key, value in plain.items() if value is not None}
        self._answers = stream(lan, "capture", files=(file,), **given)
        try:
            if self._answers.next(10.0) is None:
                raise LanClosed(f"the LAN {lan!r} has ended")
        except TimeoutError:
            self._answers.close()
            raise LanClosed(f"the base of {lan!r} does not answer; is it stopped?") from None
        except BaseException:
            self._answers.close()
            raise

    def fileno(self) -> int:
        """A descriptor that is readable when :meth:`over` has something to say."""
        return self._answers.fileno()

    def over(self, timeout: float = 0.0) -> CaptureReport | None:
        """Waits up to ``timeout`` seconds until the capture is over.  Returns what it did, if it is."""
        if self.report is None:
            try:
                answer = self._answers.next(timeout)
            except TimeoutError:
                return None
            except LanClosed:
                answer = None
            told = (answer or self._answers.result or {}).get("ended") or {}
            known = {key: told[key] for key in CaptureReport.__dataclass_fields__ if key in told}
            self.report = CaptureReport(**known)
        return self.report

    def ask_to_finish(self) -> None:
        """Has the base end the capture, once all that was sent before is written."""
        self._answers.finish()

    def finish(self, timeout: float = 10.0) -> CaptureReport:
        """Ends the capture, once all that was sent before is written.  Returns what it did."""
        deadline = time.monotonic() + timeout
        self.ask_to_finish()
        return self.over(max(0.0, deadline - time.monotonic())) or CaptureReport()

    def close(self) -> None:
        """Ends the capture.  May be called twice."""
        self._answers.close()

    def __enter__(self) -> LiveCapture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def addresses_of(lan: str) -> dict[str, list[str]]:
    """The NICs of a live LAN, and its routers and guests with several, and their addresses.

    Errors as of :func:`vnet.attach`.
    """
    about = describe(lan)
    found: dict[str, list[str]] = {nic["name"]: list(nic["addresses"]) for nic in about["nics"]}
    named = set(found)
    for nic in about["nics"]:
        if nic["node"] not in named:
            found.setdefault(nic["node"], []).extend(nic["addresses"])
    for link in about["links"]:
        for router, addresses in link["addresses"].items():
            if router not in named:
                found.setdefault(router, []).extend(addresses)
    for router in about["routers"]:
        found.setdefault(router, [])
    return found


def _filter(lan: str, options: CaptureOptions) -> dict[str, Any]:
    """The filter, compiled here: the base needs no libpcap, and runs nothing but a checked program."""
    if not options.filter:
        return {}
    from .filters import FilterError

    code = options.compiled(addresses_of(lan) if options.program is None else {}).program or b""
    if len(code) > 8 * _LONGEST_PROGRAM:
        raise FilterError(f"the filter takes {len(code) // 8:,} instructions; a live capture has room for 1,000")
    return {"filter": options.filter[:1000], "program": base64.b64encode(code).decode()}
