"""The directory that images lie in, and what in it may be used.

It is ``$VNET_CACHE/images``, or else ``$XDG_CACHE_HOME/vnet/images``, or else ``~/.cache/vnet/images``;
``VNET_CACHE=off`` does without.  It is used only where it is this user's and nobody else can write to it, and so is
each file in it; a name that is a symbolic link is never followed.

A file that is mapped must not become shorter: whoever reads what is not there any more is killed (SIGBUS).  So images
are published and replaced by renaming, and removed by unlinking, neither of which touches one that is mapped; they are
read-only for their owner too, so that no editor and no ``> file`` shortens one by mistake; and whoever checks one reads
it, and maps it only then.  What is left, a user who insists or a disk that fails under the file, would end a process as
much where its program or a library of its lies there, vnet's among them: those are mapped in the same way.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

__all__ = ["CacheTrouble", "FileUnfit", "cache_directory", "open_directory", "open_file", "switched_off"]

# Who can write to a file beside its owner.
_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class CacheTrouble(Exception):
    """The cache directory cannot be used; the message is a sentence that says why."""


class FileUnfit(Exception):
    """A file in the cache directory is not to be used; the message is a sentence about it."""


def switched_off() -> bool:
    """Whether this user wants no images."""
    return os.environ.get("VNET_CACHE") == "off"


def cache_directory() -> Path | None:
    """Returns the directory that this user's images lie in; it need not exist.  ``None`` where there is to be none."""
    given = os.environ.get("VNET_CACHE", "")
    if switched_off():
        return None
    if given:
        # Not below the working directory: the base of vnet up has another than its user.
        return Path(given) / "images" if os.path.isabs(given) else None
    home = os.environ.get("XDG_CACHE_HOME", "")
    # "All paths must be absolute; a relative path is to be ignored": XDG Base Directory Specification 0.8.
    if os.path.isabs(home):
        return Path(home) / "vnet" / "images"
    user = os.path.expanduser("~")
    if not os.path.isabs(user):
        return None
    return Path(user) / ".cache" / "vnet" / "images"


def open_directory(*, make: bool) -> int | None:
    """Opens the cache directory.

    Arguments:
        make: make it, where it is not there.

    Returns:
        A descriptor; ``None`` where it is not there and not to be made.

    Raises:
        CacheTrouble: it cannot be used.
    """
    directory = cache_directory()
    if directory is None:
        if switched_off():
            raise CacheTrouble("VNET_CACHE is off")
        if given := os.environ.get("VNET_CACHE"):
            raise CacheTrouble(f"VNET_CACHE is {given!r}, which is neither an absolute path nor 'off'")
        raise CacheTrouble("this user has no home directory, and VNET_CACHE names no other")
    if make:
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise CacheTrouble(f"{directory} cannot be made: {_reason(error)}") from None
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        if make:
            raise CacheTrouble(f"{directory} was removed just now") from None
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise CacheTrouble(f"{directory} is no directory, or a symbolic link") from None
        raise CacheTrouble(f"{directory} cannot be opened: {_reason(error)}") from None
    found = os.fstat(fd)
    if found.st_uid != os.geteuid() or found.st_mode & _OTHERS:
        os.close(fd)
        whose = "others may write to it" if found.st_uid == os.geteuid() else f"it belongs to user {found.st_uid}"
        raise CacheTrouble(f"{directory} is not used, because {whose}")
    return fd


def open_file(directory: int, name: str) -> int:
    """Opens a file of the cache directory for reading.

    Raises:
        FileNotFoundError: it is not there.
        FileUnfit: it may not be used: no ordinary file, another user's, or one that others may write to.
    """
    # A pipe in its place would be waited for.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        try:
            # Looking at an image is not using it.
            fd = os.open(name, flags | os.O_NOATIME, dir_fd=directory)
        except PermissionError:
            fd = os.open(name, flags, dir_fd=directory)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise FileUnfit("it is a symbolic link") from None
        raise FileUnfit(f"it cannot be opened: {_reason(error)}") from None
    found = os.fstat(fd)
    unfit = ""
    if not stat.S_ISREG(found.st_mode):
        unfit = "it is no ordinary file"
    elif found.st_uid != os.geteuid():
        unfit = f"it belongs to user {found.st_uid}"
    elif found.st_mode & _OTHERS:
        unfit = "others may write to it"
    if unfit:
        os.close(fd)
        raise FileUnfit(unfit)
    return fd


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
