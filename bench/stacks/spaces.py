"""Network namespaces and programs that live as long as the benchmark lets them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Protocol

__all__ = ["Place", "Program", "Space", "Trouble", "run"]

# Seconds within which a program says that it is ready, and ends when it is told to.
_PATIENCE = 20.0


class Trouble(Exception):
    """A program did not do what it is there for; the message says which, and its last words, on one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class Place(Protocol):
    """A network namespace into which commands can be sent."""

    def enter_words(self, words: Sequence[str]) -> tuple[list[str], tuple[int, ...]]:
        """The words that run ``words`` in there, and the descriptors that they need."""
        ...


class Space:
    """A network namespace without a name: it lives while its descriptor is open."""

    def __init__(self) -> None:
        # cat answers when it runs in the new namespace, and goes when its standard input does.
        words = ["unshare", "--net", "cat"]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as holder:
            assert holder.stdin
            assert holder.stdout
            assert holder.stderr
            with contextlib.suppress(BrokenPipeError):
                holder.stdin.write(b"\n")
                holder.stdin.flush()
            if not holder.stdout.read(1):
                raise Trouble(f"no network namespace: {holder.stderr.read().decode().strip()}")
            self.fd = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            holder.stdin.close()
        self.ip("link set lo up")

    @property
    def path(self) -> str:
        """The namespace as a path, for programs that are started with :attr:`fd` passed on."""
        return f"/proc/self/fd/{self.fd}"

    def enter_words(self, words: Sequence[str]) -> tuple[list[str], tuple[int, ...]]:
        """The words that run ``words`` in here, and the descriptors that they need."""
        return ["nsenter", f"--net={self.path}", *words], (self.fd,)

    def ip(self, *lines: str, others: Sequence[Space] = ()) -> None:
        """Runs lines of ``ip`` in here; ``others`` are namespaces whose :attr:`path` they name.

        Raises:
            Trouble: what ``ip`` said.
        """
        words, fds = self.enter_words(["ip", "-batch", "-"])
        fds += tuple(other.fd for other in others)
        done = subprocess.run(words, input="\n".join(lines) + "\n", pass_fds=fds, text=True, capture_output=True)
        if done.returncode:
            raise Trouble(f"ip: {done.stderr.strip()}")

    def close(self) -> None:
        """Lets the namespace go, once; the kernel takes what is in it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Space:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Program:
    """A program that runs beside the measurements, and is ended by its process id.

    Args:
        words: the command.
        place: the namespace in which it runs; None: the benchmark's own.
        ready: what a line of its output starts with when it is ready; None: do not wait.
        fds: descriptors that it inherits.
    """

    def __init__(
        self,
        words: Sequence[str],
        place: Place | None = None,
        *,
        ready: str | None = None,
        fds: Sequence[int] = (),
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = words[0]
        entered, more = place.enter_words(words) if place else (list(words), ())
        self._process = subprocess.Popen(
            entered, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            pass_fds=(*fds, *more), env=env, cwd=cwd,
        )  # fmt: skip
        self.said: list[str] = []
        if ready is not None:
            self._wait_for(ready)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def _wait_for(self, ready: str) -> None:
        output: IO[bytes] | None = self._process.stdout
        assert output is not None
        for line in output:
            self.said.append(line.decode(errors="replace").rstrip())
            if self.said[-1].startswith(ready):
                return
        self.close()
        raise Trouble(f"{Path(self.name).name} ended: {' / '.join(self.said[-3:]) or 'it said nothing'}")

    def close(self) -> None:
        """Ends it: first as if whoever started it had gone, then by signal."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def run(
    words: Sequence[str],
    place: Place | None = None,
    *,
    core: int | None = None,
    timeout: float = 60.0,
    output: IO[str] | None = None,
) -> str:
    """Runs a command to its end, in ``place`` and on one processor where given.

    Returns what it printed, unless that goes into ``output``.

    Raises:
        Trouble: it failed, or took longer than ``timeout`` seconds.
    """
    pinned = ["taskset", "--cpu-list", str(core), *words] if core is not None else list(words)
    entered, fds = place.enter_words(pinned) if place else (pinned, ())
    try:
        done = subprocess.run(
            entered, stdin=subprocess.DEVNULL, stdout=output or subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            pass_fds=fds, timeout=timeout,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Trouble(f"{words[0]} took longer than {timeout:g} s") from None
    except FileNotFoundError:
        raise Trouble(f"{entered[0]} is not installed") from None
    if done.returncode:
        raise Trouble(f"{' '.join(words)}: {(done.stderr.strip() or (done.stdout or '').strip())[-300:]}")
    return done.stdout or ""
