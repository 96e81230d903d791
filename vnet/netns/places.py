"""Network namespaces that are there already: by process, by path, by name."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from ..errors import NotPermitted
from . import reasons

__all__ = ["open_namespace", "owner"]

# linux/nsfs.h.
_NS_GET_USERNS, _NS_GET_NSTYPE = 0xB701, 0xB703
_CLONE_NEWNET = 0x4000_0000
# Where iproute2 keeps them.
_NAMED = Path("/run/netns")


def open_namespace(where: int | str | os.PathLike[str]) -> int:
    """Returns a descriptor of the network namespace of a process, at a path, or of a name that ``ip netns`` knows.

    Arguments:
        where: a process id, as a number or in digits; a path, with a slash in it; or a name.

    Raises:
        ValueError: there is none.
        NotPermitted: it is another user's.
    """
    if isinstance(where, bool) or not isinstance(where, int | str | os.PathLike):
        raise TypeError(f"where is a process id, a path or a name, not {type(where).__name__}")
    text = str(where) if isinstance(where, int) else os.fspath(where)
    if isinstance(where, int) or (isinstance(where, str) and text.isdecimal() and text.isascii()):
        return _of_process(int(text))
    if "/" in text or not isinstance(where, str):
        return _at(Path(text), f"{text}")
    path = _NAMED / text
    if not text or text in (".", "..") or not path.exists():
        try:
            known = ", ".join(sorted(os.listdir(_NAMED))) or "none"
        except OSError:
            known = "none"
        raise ValueError(f"there is no namespace named {text!r} in {_NAMED}; there are {known}")
    return _at(path, f"{text!r}")


def _of_process(pid: int) -> int:
    try:
        if pid < 1:
            raise ProcessLookupError
        return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        raise ValueError(f"there is no process {pid}, or it has ended") from None
    except PermissionError:
        raise NotPermitted(f"the namespace of process {pid} belongs to another user: run as root") from None


def _at(path: Path, name: str) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except PermissionError:
        raise NotPermitted(f"the namespace {name} belongs to another user: run as root") from None
    except (OSError, ValueError) as error:
        raise ValueError(
            f"the namespace {name} cannot be opened: {getattr(error, 'strerror', None) or error}"
        ) from None
    try:
        kind = fcntl.ioctl(fd, _NS_GET_NSTYPE)
    except OSError:
        kind = 0
    if kind != _CLONE_NEWNET:
        os.close(fd)
        raise ValueError(f"{path} is no network namespace")
    return fd


def owner(namespace: int) -> int | None:
    """Returns a descriptor of the user namespace that a network namespace belongs to; ``None`` if it is this process's.

    Raises:
        NotPermitted: it is none that this user made.
    """
    try:
        fd = fcntl.ioctl(namespace, _NS_GET_USERNS)
    except OSError as error:
        if error.errno == errno.EPERM:
            raise reasons.not_ours() from None
        raise
    if os.fstat(fd).st_ino == os.stat("/proc/self/ns/user").st_ino:
        os.close(fd)
        return None
    os.set_inheritable(fd, False)
    return fd
