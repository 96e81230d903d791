"""Where live LANs are found, and how nothing is left of dead ones.

A LAN with a name has one Unix socket, ``NAME.sock``, in the user's runtime directory: ``$XDG_RUNTIME_DIR/vnet``, or
``/run/vnet`` for root, or a private directory under the temporary directory.  A socket file does not go away with the
process that bound it, so each base keeps a guardian: a shell that sleeps on a pipe from the base and, when the base is
gone without a word, removes the socket file and ends the commands that the base had started.

The guardian is there before anything that it must remove, so that there is no moment at which a base that is killed
leaves something: the socket is bound under a name of its own, the guardian is told its inode, and then it gets the name
under which others find it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket
import stat
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from .errors import LanNotFound, NameTaken, NotPermitted, VnetError

__all__ = ["Guardian", "check_name", "claim_socket", "connect", "live_names", "runtime_directory", "socket_path"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)

# How the name of a socket ends that is being made.
_BIRTH = ".birth"

# Seconds in which a guardian has done its work; it takes some milliseconds.
_GUARDIAN_TAKES = 0.3

# Bytes that sun_path holds, the closing zero left out: unix(7).
_SUN_PATH = 107

_GUARDIAN = """
trap '' HUP INT TERM
groups=' ' inode='' dead=yes
while read -r verb number; do
    case $verb in
        socket) inode=$number ;;
        done) dead='' ;;
        guard) groups="$groups$number " ;;
        free) case $groups in *" $number "*) groups="${groups%%" $number "*} ${groups#*" $number "}" ;; esac ;;
    esac
done
for group in $groups; do kill -KILL "-$group" 2>/dev/null; done
if [ -n "$dead" ] && [ -n "$1" ]; then
    rm -f -- "$2"
    if [ -n "$inode" ] && [ "$(stat -c %i -- "$1" 2>/dev/null)" = "$inode" ]; then rm -f -- "$1"; fi
    if [ -n "$inode$3" ]; then rmdir -- "${1%/*}" 2>/dev/null; fi
fi
"""


def check_name(kind: str, name: str) -> str:
    """Returns ``name`` if it can name a LAN, network or NIC.

    A name has 1 to 64 ASCII letters, digits, dots, underscores and hyphens, and starts with a letter or digit.

    Raises:
        TypeError: the name is not a string.
        ValueError: it has another form.
    """
    if not isinstance(name, str):
        raise TypeError(f"a {kind}'s name is a string, not {type(name).__name__}")
    if not _NAME.fullmatch(name):
        shown = name if len(name) <= 80 else f"{name[:77]}..."
        raise ValueError(
            f"{shown!r} cannot name a {kind}: 1 to 64 ASCII letters, digits, '.', '_' and '-', a letter or digit first"
        )
    return name


def runtime_directory() -> Path:
    """Returns this user's runtime directory; it need not exist."""
    given = os.environ.get("XDG_RUNTIME_DIR")
    if given and os.path.isdir(given):
        return Path(given) / "vnet"
    if os.geteuid() == 0:
        return Path("/run/vnet")
    return Path(tempfile.gettempdir()) / f"vnet-{os.geteuid()}"


def _make_directory(directory: Path) -> int:
    """Makes the directory if need be and returns a descriptor of it, locked against others who claim a name in it."""
    for _ in range(100):
        try:
            directory.mkdir(mode=0o700, parents=False)
        except FileExistsError:
            pass
        except OSError as error:
            raise VnetError(f"{directory} cannot be made: {error.strerror}") from None
        try:
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise VnetError(f"{directory} cannot be the runtime directory: {error.strerror}") from None
        fcntl.flock(fd, fcntl.LOCK_EX)
        found = os.fstat(fd)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
            os.close(fd)
            raise NotPermitted(f"{directory} belongs to user {found.st_uid} or others may write to it")
        if found.st_nlink > 0:
            return fd
        # Removed by a base that ended between the two calls: once more.
        os.close(fd)
    raise VnetError(f"{directory} cannot be made: other processes keep removing it")


@contextlib.contextmanager
def _short_path(path: Path) -> Iterator[str]:
    """A name of the socket that fits ``sun_path``, however deep its directory lies."""
    if len(os.fsencode(path)) <= _SUN_PATH:
        yield str(path)
        return
    fd = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)


def _is_live(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, _short_path(path) as name:
        probe.settimeout(2.0)
        try:
            probe.connect(name)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            # Busy or forbidden, but somebody listens.
            return True
    return True


def socket_path(name: str) -> Path:
    """Returns where the control socket of the LAN ``name`` is, or would be."""
    return runtime_directory() / f"{name}.sock"


def claim_socket(guardian: Guardian) -> socket.socket:
    """Makes and returns the listening control socket at the place that ``guardian`` guards.

    Raises:
        NameTaken: a live LAN has the name.
        NotPermitted: the runtime directory is another user's.
        VnetError: the runtime directory cannot be made.
    """
    path = guardian.path
    assert path is not None
    for _ in range(100):
        try:
            return _bind(path, guardian)
        except FileNotFoundError:
            # The directory was removed by a base that ended just now.
            continue
        except OSError as error:
            raise VnetError(f"{path} cannot be made: {error.strerror or error}") from None
    raise VnetError(f"{path} cannot be made: other processes keep removing its directory")


def _bind(path: Path, guardian: Guardian) -> socket.socket:
    lock = _make_directory(path.parent)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists():
            if _is_live(path):
                raise NameTaken(f"a LAN named {path.stem!r} is up already (its socket is {path})")
            _clear_away(path)
        for stale in path.parent.glob(f".*{_BIRTH}"):
            # Whoever makes one holds the lock.
            stale.unlink(missing_ok=True)
        birth = guardian.birth
        with _short_path(birth) as short:
            listener.bind(short)
        listener.listen(512)
        listener.setblocking(False)
        guardian.tell("socket", birth.stat().st_ino)
        birth.rename(path)
    except BaseException:
        listener.close()
        raise
    finally:
        os.close(lock)
    return listener


def _clear_away(path: Path) -> None:
    """Removes the socket of a base that is dead.

    Its guardian may be about to do that.  It gets the time, because it might remove the next base's socket instead,
    which can have the same inode; only where base and guardian died together there is nobody to wait for.
    """
    deadline = time.monotonic() + _GUARDIAN_TAKES
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    path.unlink(missing_ok=True)


def release_socket(path: Path) -> None:
    """Removes a control socket, and the runtime directory if it was the last."""
    with contextlib.suppress(OSError):
        path.unlink()
    with contextlib.suppress(OSError):
        path.parent.rmdir()


def _timeval(seconds: float) -> tuple[int, int]:
    return int(seconds), int(seconds % 1 * 1_000_000)


def connect(name: str, *, timeout: float = 5.0) -> socket.socket:
    """Connects to the base of the live LAN ``name``.

    Raises:
        LanNotFound: no LAN of that name is up.
        NotPermitted: it is another user's.
    """
    check_name("LAN", name)
    path = socket_path(name)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Where many wait for the base, the kernel makes this one wait its turn; without blocking it would be turned away.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("2l", *_timeval(timeout)))
    try:
        with _short_path(path) as short:
            connection.connect(short)
        connection.settimeout(timeout)
    except OSError as error:
        connection.close()
        if error.errno in (errno.EACCES, errno.EPERM):
            raise NotPermitted(f"the LAN {name!r} ({path}) belongs to another user") from None
        if error.errno in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR):
            others = live_names()
            known = f"; up are {', '.join(others)}" if others else "; no LAN of this user is up"
            raise LanNotFound(f"no LAN named {name!r} is up in {path.parent}{known}") from None
        raise LanNotFound(f"the LAN {name!r} ({path}) does not answer: {error.strerror or error}") from None
    # A directory under the temporary one may have been made by somebody who waits for callers. struct ucred, unix(7).
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if os.geteuid() not in (uid, 0) and uid != 0:
        connection.close()
        raise NotPermitted(f"the LAN {name!r} ({path}) belongs to user {uid}")
    return connection


def live_names() -> list[str]:
    """Returns the names of this user's live LANs, sorted."""
    try:
        paths = sorted(runtime_directory().glob("*.sock"))
        return [path.stem for path in paths if _is_live(path)]
    except OSError:
        return []


class Guardian:
    """Outlives its base by a moment, to remove the control socket and end the commands that the base had started.

    Arguments:
        path: where the control socket will be, or ``None``.  ``birth`` is where it is before it is there.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.birth = path.with_name(f".{path.stem}.{os.getpid()}{_BIRTH}") if path else Path()
        # A directory that is there already and turns out to be none of ours stays.
        makes_directory = "yes" if path and not path.parent.exists() else ""
        self._shell: subprocess.Popen[bytes] | None = subprocess.Popen(
            ["/bin/sh", "-c", _GUARDIAN, "vnet-guardian", str(path or ""), str(self.birth), makes_directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            bufsize=0,
            cwd="/",
        )

    def tell(self, verb: str, number: int = 0) -> None:
        """Tells it what to do, and with what."""
        if self._shell and self._shell.stdin:
            with contextlib.suppress(OSError):
                self._shell.stdin.write(f"{verb} {number}\n".encode())

    def guard(self, group: int) -> None:
        """Ends the process group ``group`` when the base is gone."""
        self.tell("guard", group)

    def free(self, group: int) -> None:
        """Takes :meth:`guard` back, before the group's number can be another's."""
        self.tell("free", group)

    def dismiss(self, *, clear: bool = False) -> None:
        """Ends the guardian.  Groups under guard are ended.  May be called twice.

        Arguments:
            clear: have it remove whatever there is of the socket; otherwise the caller has done so.
        """
        if not clear:
            self.tell("done")
        shell, self._shell = self._shell, None
        if shell is None:
            return
        if shell.stdin:
            with contextlib.suppress(OSError):
                shell.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            shell.wait(timeout=5)

    def abandon(self) -> None:
        """Forgets the guardian in a forked child, which must not keep its pipe open."""
        shell, self._shell = self._shell, None
        if shell and shell.stdin:
            with contextlib.suppress(OSError):
                shell.stdin.close()
            # Not this process's child: nothing to wait for.
            shell.returncode = 0
