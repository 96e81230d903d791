"""What the tests of trace, stats and top share: the command as a user types it, and a pseudo-terminal for it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import pytest

VNET = [sys.executable, "-m", "vnet"]


def vnet_command(
    *arguments: str, stdin: bytes = b"", environment: dict[str, str] | None = None
) -> tuple[int, str, str]:
    """Runs `vnet` and returns its exit code, what it printed and what it complained."""
    done = subprocess.run(
        [*VNET, *arguments],
        input=stdin,
        capture_output=True,
        env={**os.environ, **(environment or {})},
        timeout=60,
        check=False,
    )
    output, errors = done.stdout.decode(), done.stderr.decode()
    assert "Traceback" not in output + errors
    return done.returncode, output, errors


def vnet_here(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """As :func:`vnet_command`, in this process: for what depends on no process, and comes in many variants."""
    from vnet.cli import main

    before, sys.argv = sys.argv, ["vnet", *arguments]
    try:
        main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv = before
    assert isinstance(code, int)
    output, errors = capsys.readouterr()
    return code, output, errors


class Follower:
    """A `vnet` that goes on: its output line by line."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*VNET, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, start_new_session=True
        )
        self._pending = b""

    def line(self, timeout: float = 20.0) -> str:
        """The next line of its output; an empty string at its end."""
        assert self.process.stdout
        deadline = time.monotonic() + timeout
        while b"\n" not in self._pending:
            left = deadline - time.monotonic()
            assert select.select([self.process.stdout], [], [], max(0.0, left))[0], f"nothing after {self._pending!r}"
            more = os.read(self.process.stdout.fileno(), 65_536)
            if not more:
                rest, self._pending = self._pending, b""
                return rest.decode()
            self._pending += more
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode()

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def end(self, timeout: float = 20.0) -> tuple[int, str, str]:
        """Waits for its end: exit code, the rest of its output, what it complained."""
        output, errors = self.process.communicate(timeout=timeout)
        text, words = (self._pending + output).decode(), errors.decode()
        assert "Traceback" not in text + words
        return self.process.returncode, text, words


@contextlib.contextmanager
def follower(*arguments: str) -> Iterator[Follower]:
    """A follower that ends with the test."""
    follower = Follower(*arguments)
    try:
        yield follower
    finally:
        if follower.process.poll() is None:
            follower.process.kill()
        follower.process.wait()
        for pipe in (follower.process.stdout, follower.process.stderr):
            assert pipe
            pipe.close()


def in_terminal(*arguments: str, columns: int = 80, rows: int = 24) -> tuple[int, str]:
    """Runs `vnet` in a pseudo-terminal of this size to its end; its exit code and all that it wrote there."""
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover - another program in a moment
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
        os.execve(VNET[0], [*VNET, *arguments], {**os.environ, "TERM": "xterm"})
    written = b""
    with contextlib.suppress(OSError):
        while more := os.read(terminal, 65_536):
            written += more
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), written.decode().replace("\r\n", "\n")
