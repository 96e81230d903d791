"""Commands that a lab runs: each in a process group of its own, with bounded output, and none left behind.

Three things end a command's group: :meth:`Command.stop` at tear-down, the time limit of an ``exec`` step, and, when
this process is killed without a chance to do either, the LAN's guardian.  (``PR_SET_PDEATHSIG`` would reach a command's
first process only, not what a shell started.)

No instant is left between a command's start and the guardian's knowing of it: each command begins as a shell that waits
for a line, which it gets when the guardian has been told; where this process dies before, the shell reads the end of
the file and goes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from vnet.errors import MachineLacks
from vnet.lab.output import Output

__all__ = [
    "Command",
    "Entrance",
    "Guard",
    "Output",
    "check_program",
    "command_environment",
    "describe_end",
    "shown",
    "stop_all",
]

# How long a command may take between SIGTERM and SIGKILL.
GRACE_SECONDS = 2.0

# Becomes the command when it reads a line, and ends when there is none to come.
_GATE = 'read -r _ && exec "$@" </dev/null'


class Guard(Protocol):
    """Ends the process groups that it was told of when this process dies without having ended them: a ``vnet.Lan``."""

    def guard(self, group: int) -> None:
        """From now on, ``group`` must not outlive this process."""

    def unguard(self, group: int) -> None:
        """``group`` has ended; its number may soon be another's."""


class Entrance(Protocol):
    """Where a command runs that does not run where this process does: a ``vnet.Netns``."""

    def enter_words(self, words: Sequence[str]) -> tuple[list[str], tuple[int, ...]]:
        """The words that run ``words`` there, and the descriptors that they need to inherit."""


class Command:
    """A running command and its process group; ``start`` is the position in its output where its own begins.

    Args:
        command: a line for the shell, or a list of words.
        environment: all of its environment.
        directory: where it begins.
        guard: is told of its group.
        output: keeps what it prints, standard error too; None: a new one.
        merged: keep standard error in ``output`` too, where it is new.
        inside: where it runs; None: here.

    Raises:
        MachineLacks: there is no such program here.
    """

    def __init__(
        self,
        command: str | Sequence[str],
        *,
        environment: Mapping[str, str],
        directory: Path,
        guard: Guard,
        output: Output | None = None,
        merged: bool = False,
        inside: Entrance | None = None,
    ) -> None:
        self.command = command
        self._guard = guard
        words = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        merged = merged or output is not None
        inherited: tuple[int, ...] = ()
        try:
            check_program(words[0], environment.get("PATH", os.defpath), directory)
            if inside is not None:
                # Behind the gate: what waits there is not in the namespace yet, and leaves nothing in it.
                words, inherited = inside.enter_words(words)
            self.process = subprocess.Popen(
                ["/bin/sh", "-c", _GATE, "vnet", *words],
                cwd=directory,
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if merged else subprocess.PIPE,
                start_new_session=True,
                bufsize=0,
                pass_fds=inherited,
            )
        except OSError as error:
            raise MachineLacks(f"cannot run {shown(command)}: {error.strerror or error}") from None
        self.group = self.process.pid
        self._stopped = False
        guard.guard(self.group)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(b"\n")
        self.process.stdin.close()
        self.output = output if output is not None else Output()
        self.start = self.output.end
        self.output.follow(self.process.stdout)
        self.errors = self.output
        if self.process.stderr is not None:
            self.errors = Output()
            self.errors.follow(self.process.stderr)

    @property
    def code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs.

        The kernel keeps the ended process until :meth:`stop`, and so its number and its group's from becoming
        another's.
        """
        if self.process.returncode is None:
            with contextlib.suppress(ChildProcessError):
                ended = os.waitid(os.P_PID, self.group, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if ended is None:
                    return None
                return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        return self.process.returncode

    @property
    def found(self) -> bool:
        """Whether there was such a program to run; where not, the shell has said so and ended with code 127."""
        return self.code != 127

    def last_words(self) -> str:
        """The last lines of its own output, as the end of a sentence."""
        if self.code is not None:
            self.output.finish()
        tail = self.output.tail(start=self.start)
        return f"; its last output was: {tail}" if tail else "; it printed nothing"

    def wait(self, timeout: float) -> bool:
        """Wait for its first process to end; False when it still runs after ``timeout`` seconds."""
        process = os.pidfd_open(self.group)
        watched = select.poll()
        watched.register(process, select.POLLIN)
        try:
            return bool(watched.poll(max(0.0, timeout) * 1000))
        finally:
            os.close(process)

    def terminate(self) -> None:
        """Ask its group to end; :meth:`stop` makes sure."""
        self._signal(signal.SIGTERM)

    def stop(self, deadline: float | None = None) -> None:
        """End the whole group: SIGTERM, then SIGKILL after a grace (or at ``deadline``, on the monotonic clock)."""
        if self._stopped:
            return
        if self.code is None:
            self._signal(signal.SIGTERM)
            limit = time.monotonic() + GRACE_SECONDS if deadline is None else deadline
            _await_end([self], lambda: time.monotonic() >= limit)
        self._signal(signal.SIGKILL)
        self._stopped = True
        # Before the number is free.
        self._guard.unguard(self.group)
        self.process.wait()
        self.output.finish()
        self.errors.finish()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.group, number)


def stop_all(commands: Iterable[Command], hurry: Callable[[], bool] = lambda: False) -> None:
    """End commands: all are asked at once, so that the grace is one grace; ``hurry`` may come true and cut it short."""
    commands = list(commands)
    running = [command for command in commands if command.code is None]
    for command in running:
        command.terminate()
    deadline = time.monotonic() + GRACE_SECONDS
    _await_end(running, lambda: time.monotonic() >= deadline or hurry())
    for command in commands:
        command.stop(0.0)


def _await_end(commands: Iterable[Command], over: Callable[[], bool]) -> None:
    """Wait for commands to end with all that they started, until ``over`` comes true."""
    groups = {command.group for command in commands}
    pause = 0.001
    while groups and (groups := groups & _living_groups()) and not over():
        time.sleep(pause)
        pause = min(2 * pause, 0.02)


def _living_groups() -> set[int]:
    """The groups of which any process runs: a shell ends at once and leaves its program to end in its own time.

    Not kill(2): to it those live, too, that have ended and wait to be noticed, which in a container may be for ever.
    """
    found = set()
    with os.scandir("/proc") as entries:
        for entry in entries:
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    # The third and fifth field of stat: proc(5).
                    state, _, group = Path(entry.path, "stat").read_text().rpartition(")")[2].split()[:3]
                    if state not in "ZX":
                        found.add(int(group))
    return found


def check_program(program: str, path: str, directory: Path) -> None:
    """Raise the OSError that running ``program`` in ``directory`` would: its shell could only print it.

    Args:
        program: its name, or its path.
        path: where programs are looked for, as in ``PATH``.
        directory: where it would begin.
    """
    if not directory.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"there is no directory {directory}")
    folders = [""] if "/" in program else [folder or "." for folder in path.split(os.pathsep)]
    candidates = [directory / folder / program for folder in folders]
    there = [candidate for candidate in candidates if candidate.is_file()]
    if not there:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    if not any(os.access(candidate, os.X_OK) for candidate in there):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def shown(command: str | Sequence[str]) -> str:
    """A command on one line, not longer than people read."""
    text = " ".join((command if isinstance(command, str) else " ".join(command)).split())
    return text if len(text) <= 60 else text[:57] + "..."


def describe_end(code: int) -> str:
    """``ended with code 1`` or ``was ended by SIGSEGV``."""
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def command_environment() -> dict[str, str]:
    """What commands inherit: our environment, with the interpreter that runs vnet found first as ``python3``."""
    path = os.environ.get("PATH", os.defpath)
    return {**os.environ, "PATH": os.path.dirname(sys.executable) + os.pathsep + path, "PYTHONUNBUFFERED": "1"}
