"""Commands that a lab runs: each in a process group of its own, with bounded output, and none left behind.

Three things end a command's group: :meth:`Command.stop` at tear-down, the time limit of an ``exec`` step, and, when
this process is killed without a chance to do either, the LAN's guardian.  (``PR_SET_PDEATHSIG`` would reach a command's
first process only, not what a shell started.)
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol

from vnet.errors import MachineLacks

__all__ = ["Command", "Guard", "Output", "command_environment", "describe_end", "shown"]

# How long a command may take between SIGTERM and SIGKILL.
GRACE_SECONDS = 2.0


class Guard(Protocol):
    """Ends the process groups that it was told of when this process dies without having ended them: a ``vnet.Lan``."""

    def guard(self, group: int) -> None:
        """From now on, ``group`` must not outlive this process."""

    def unguard(self, group: int) -> None:
        """``group`` has ended; its number may soon be another's."""


class Output:
    """What a command prints: the last ``limit`` bytes kept, all of it written to ``log`` where one is given."""

    def __init__(self, stream: IO[bytes], *, limit: int = 1 << 20, log: Path | None = None) -> None:
        self._stream = stream
        self._limit = limit
        self._kept = bytearray()
        self._dropped = 0
        self._lock = threading.Lock()
        self._log = log.open("wb", buffering=0) if log is not None else None
        self._thread = threading.Thread(target=self._read, name="vnet command output", daemon=True)
        self._thread.start()

    def text(self) -> str:
        """What is kept, as text; its first line tells of bytes that are not."""
        with self._lock:
            kept, dropped = bytes(self._kept), self._dropped
        head = f"[{dropped:,} bytes earlier]\n" if dropped else ""
        return head + kept.decode("utf-8", "replace")

    def tail(self, lines: int = 3) -> str:
        """The last lines that are not blank, on one line."""
        last = [line.strip() for line in self.text().splitlines() if line.strip()][-lines:]
        return " | ".join(last)

    def finish(self, timeout: float = 1.0) -> None:
        """Wait until the command's end of the pipe is closed, but not for what a runaway child may still hold open."""
        self._thread.join(timeout)

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while chunk := os.read(self._stream.fileno(), 65536):
                if self._log is not None:
                    self._log.write(chunk)
                with self._lock:
                    self._kept += chunk
                    surplus = len(self._kept) - self._limit
                    if surplus > 0:
                        del self._kept[:surplus]
                        self._dropped += surplus
        self._stream.close()
        if self._log is not None:
            self._log.close()


class Command:
    """A running command and its process group.

    Args:
        command: a line for the shell, or a list of words.
        environment: all of its environment.
        directory: where it begins.
        guard: is told of its group.
        log: where its output goes too; with it, or with ``merged``, both streams are one.
        merged: keep standard error in ``output`` too.

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
        log: Path | None = None,
        merged: bool = False,
    ) -> None:
        self.command = command
        self._guard = guard
        try:
            self.process = subprocess.Popen(
                command if isinstance(command, str) else list(command),
                shell=isinstance(command, str),
                cwd=directory,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if merged else subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise MachineLacks(f"cannot run {shown(command)}: {error.strerror or error}") from None
        self.group = self.process.pid
        guard.guard(self.group)
        assert self.process.stdout is not None
        self.output = Output(self.process.stdout, log=log)
        self.errors = Output(self.process.stderr) if self.process.stderr is not None else self.output

    @property
    def code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self.process.poll()

    def wait(self, timeout: float) -> bool:
        """Wait for its first process to end; False when it still runs after ``timeout`` seconds."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def terminate(self) -> None:
        """Ask its group to end; :meth:`stop` makes sure."""
        self._signal(signal.SIGTERM)

    def stop(self, deadline: float | None = None) -> None:
        """End the whole group: SIGTERM, then SIGKILL after a grace (or at ``deadline``, on the monotonic clock)."""
        if self.process.poll() is None:
            self._signal(signal.SIGTERM)
            limit = time.monotonic() + GRACE_SECONDS if deadline is None else deadline
            self.wait(max(0.0, limit - time.monotonic()))
        self._signal(signal.SIGKILL)
        self.process.wait()
        self._guard.unguard(self.group)
        self.output.finish()
        self.errors.finish()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.group, number)


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
