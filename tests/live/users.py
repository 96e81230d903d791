"""A user at a shell: commands, terminals, and a look at what is left of them."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

VNET = [sys.executable, "-W", "error", "-m", "vnet"]

# In the environment of everything that a test starts, and of everything that this starts.
MARK = "VNET_TEST_MARK"


def processes(mark: str) -> dict[int, str]:
    """The living processes that come from a test, by their ids: an environment is inherited, whoever is the parent."""
    wanted, found = f"{MARK}={mark}".encode(), {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if wanted in Path(entry.path, "environ").read_bytes().split(b"\0"):
                state = Path(entry.path, "stat").read_text().rpartition(")")[2].split()[0]
                if state not in "ZX":
                    command = Path(entry.path, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found[int(entry.name)] = command[:100]
    return found


def children(pid: int) -> list[int]:
    """The children of a process."""
    with contextlib.suppress(OSError):
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def eventually(holds: Callable[[], object], seconds: float = 10.0) -> bool:
    """Whether it comes true in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


class User:
    """Somebody with a runtime directory, who types commands.

    Arguments:
        directory: where files lie and commands begin.
        runtime: XDG_RUNTIME_DIR.

    Attributes:
        through: what every ``vnet`` is started through, such as ``unshare --net``.
    """

    def __init__(self, directory: Path, runtime: Path) -> None:
        self.directory = directory
        self.runtime = runtime
        self.through: list[str] = []
        self.mark = uuid.uuid4().hex
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("VNET_", "COLUMNS", "TERM"))}
        self.environment = {**kept, "XDG_RUNTIME_DIR": str(runtime), MARK: self.mark, "TERM": "xterm-256color"}

    def write(self, name: str, text: str) -> Path:
        """Write a file."""
        path = self.directory / name
        path.write_text(text)
        return path

    def types(
        self, *arguments: str, text: str = "", environment: Mapping[str, str] | None = None, **options: object
    ) -> subprocess.CompletedProcess[str]:
        """``vnet ARGUMENTS``, to its end."""
        return subprocess.run(  # type: ignore[call-overload,no-any-return]
            [*self.through, *VNET, *arguments],
            input=text,
            capture_output=True,
            text=True,
            cwd=self.directory,
            env={**self.environment, **(environment or {})},
            timeout=60,
            check=False,
            **options,
        )

    def does(self, *arguments: str, text: str = "") -> str:
        """``vnet ARGUMENTS``, which ends well; what it prints."""
        done = self.types(*arguments, text=text)
        assert (done.returncode, done.stderr) == (0, ""), (arguments, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def fails(self, *arguments: str, code: int = 2, text: str = "") -> str:
        """``vnet ARGUMENTS``, which ends with ``code`` and one sentence; the sentence."""
        done = self.types(*arguments, text=text)
        assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr.strip()

    def starts(self, *arguments: str) -> subprocess.Popen[str]:
        """``vnet ARGUMENTS``, under way."""
        return subprocess.Popen(
            [*self.through, *VNET, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.directory,
            env=self.environment,
        )

    def left(self) -> list[str]:
        """What there is of all that was ever typed: processes, sockets, directories."""
        # walk() bears with directories that go away under it.
        files = [os.path.join(at, name) for at, within, names in os.walk(self.runtime) for name in (*within, *names)]
        return [f"process {pid}: {command}" for pid, command in processes(self.mark).items()] + files

    def nothing_is_left(self, seconds: float = 1.0) -> bool:
        """Whether everything is gone within that time."""
        return eventually(lambda: not self.left(), seconds)

    def ends_all(self) -> None:
        """Ends whatever is there, however it is: for the end of a test that failed."""
        for pid in processes(self.mark):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGKILL)
        eventually(lambda: not processes(self.mark), 5.0)


class Terminal:
    """``vnet ARGUMENTS`` in a terminal of its own, of which it is the foreground."""

    def __init__(self, user: User, *arguments: str, **environment: str) -> None:
        self.pid, self._controller = pty.fork()
        if self.pid == 0:
            try:
                os.chdir(user.directory)
                words = [*user.through, *VNET, *arguments]
                os.execvpe(words[0], words, {**user.environment, **environment})
            finally:
                os._exit(127)
        self.shown = ""

    def read(self, timeout: float = 0.2) -> bool:
        """Take what is shown; False where nothing comes any more."""
        if not select.select([self._controller], [], [], timeout)[0]:
            return True
        try:
            more = os.read(self._controller, 65536)
        except OSError:
            # EIO: nobody has the terminal open any more.
            return False
        self.shown += more.decode(errors="replace")
        return bool(more)

    def shows(self, text: str, seconds: float = 20.0) -> bool:
        """Whether ``text`` is shown in time."""
        deadline = time.monotonic() + seconds
        while text not in self.shown and time.monotonic() < deadline and self.read():
            pass
        return text in self.shown

    def press(self, keys: str) -> None:
        """Press keys; ``\\x03`` is Ctrl-C."""
        os.write(self._controller, keys.encode())

    def end(self, seconds: float = 20.0) -> int:
        """Wait for its end; the exit code."""
        deadline = time.monotonic() + seconds
        while self.read(0.05) and time.monotonic() < deadline:
            pass
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self._controller)
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._controller)
        raise AssertionError(f"it does not end; it shows {self.shown!r}")


@contextlib.contextmanager
def at_a_shell(directory: Path, runtime: Path) -> Iterator[User]:
    """A user, of whose doings nothing is left in the end."""
    user = User(directory, runtime)
    try:
        yield user
        if user.left():
            user.types("down", "--all")
        assert user.nothing_is_left(), user.left()
    finally:
        user.ends_all()
