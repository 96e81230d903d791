"""A ``vnet`` that kills itself with SIGKILL at the N-th line of its code that it comes to.

``python mortal.py WHO N TALLY ARGUMENTS``: WHO is ``client`` (the process that is started), or ``base`` (the one that
it forks).  N counts the lines of the package that its main thread comes to for the first time, from the moment at which
the lab is read; with 0 it lives, and the file TALLY tells how many lines there were.

Moments that are merely random hardly ever fall between the making of a socket and the next system call; this way each
of them is tried.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import vnet
import vnet.cli
import vnet.lab.source

PACKAGE = str(Path(vnet.__file__).parent)


class Fate:
    """Counts lines, and strikes."""

    def __init__(self, who: str, line: int, tally: Path) -> None:
        self.starter = os.getpid()
        self.of_base = who == "base"
        self.line = line
        self.tally = tally
        self.lines = 0
        self.ours: dict[CodeType, bool] = {}
        self.seen: set[tuple[CodeType, int]] = set()

    def call(self, frame: FrameType, event: str, _: Any) -> Any:
        code = frame.f_code
        if code not in self.ours:
            self.ours[code] = code.co_filename.startswith(PACKAGE)
        return self.strike if self.ours[code] else None

    def strike(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == "line" and (os.getpid() != self.starter) == self.of_base:
            place = (frame.f_code, frame.f_lineno)
            if place in self.seen:
                return self.strike
            self.seen.add(place)
            self.lines += 1
            if self.lines == self.line:
                os.kill(os.getpid(), signal.SIGKILL)
        return self.strike

    def tell(self) -> None:
        if (os.getpid() != self.starter) == self.of_base:
            self.tally.write_text(str(self.lines))


def main() -> None:
    who, line, tally, *arguments = sys.argv[1:]
    fate = Fate(who, int(line), Path(tally))
    sys.argv = ["vnet", *arguments]
    atexit.register(fate.tell)
    exit_at_once = os._exit

    def tell_and_exit(code: int) -> None:
        fate.tell()
        exit_at_once(code)

    os._exit = tell_and_exit  # type: ignore[assignment]
    plan = vnet.lab.source.plan

    def plan_and_count(*given: Any, **settings: Any) -> Any:
        lab = plan(*given, **settings)
        sys.settrace(fate.call)
        sys._getframe(1).f_trace = fate.strike
        return lab

    vnet.lab.source.plan = plan_and_count
    if arguments[0] == "down":
        sys.settrace(fate.call)
    vnet.cli.main()


if __name__ == "__main__":
    main()
