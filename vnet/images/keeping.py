"""What lies in the cache directory: listing, checking, pruning.

Removing an image never disturbs a LAN that has it mapped: the file has no name any more, and goes with its last user.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from dataclasses import dataclass
from enum import Enum

from vnet import _native
from vnet.errors import ImageError

from .place import FileUnfit, open_directory, open_file

__all__ = ["BUILDING", "SUFFIX", "Listed", "Pruned", "State", "listed", "prune", "trim"]

SUFFIX = ".img"
"""How the name of an image ends; what comes before is its key."""

BUILDING = ".building"
"""How the name of a file ends in which an image is built."""

_OURS = re.compile(r"([0-9a-f]{64})(\.img|\.building)", re.ASCII)


class State(Enum):
    """What a file in the cache directory is."""

    FIT = "fit"
    """An image, and nothing was found that is wrong with it."""
    UNFIT = "unfit"
    """To be compiled anew by the next LAN that needs it."""
    BUILDING = "building"
    """Somebody compiles it at this moment."""
    LEFT = "left"
    """Its builder was killed."""


@dataclass(frozen=True)
class Listed:
    """An image that lies in the cache directory.

    Attributes:
        name: its file name.
        key: what it was compiled from: 64 hexadecimal digits.
        label: the same in words; empty where the header cannot be read.
        bytes: of the file.
        made: when it was compiled, in seconds since 1970.
        used: when a LAN mapped it last, in seconds since 1970.
        sections: bytes of each section, by its kind.
        state: what it is.
        unfit: why it cannot be used, a sentence about it; empty where nothing was found.
    """

    name: str
    key: str
    label: str
    bytes: int
    made: float
    used: float
    sections: dict[str, int]
    state: State
    unfit: str


@dataclass(frozen=True)
class Pruned:
    """An image that was removed, or would be; and why, as a sentence about it."""

    image: Listed
    why: str


def listed(*, thorough: bool) -> list[Listed]:
    """What lies in the cache directory, that which was used last first.

    Arguments:
        thorough: check all of each image instead of its header and length.

    Raises:
        CacheTrouble: the directory cannot be used.
    """
    directory = open_directory(make=False)
    if directory is None:
        return []
    try:
        return _listed(directory, thorough)
    finally:
        os.close(directory)


def _listed(directory: int, thorough: bool) -> list[Listed]:
    found = []
    for name in os.listdir(directory):
        if ours := _OURS.fullmatch(name):
            # It may have been published, replaced or pruned since.
            with contextlib.suppress(FileNotFoundError):
                look = _look if ours[2] == SUFFIX else _look_at_building
                found.append(look(directory, name, ours[1], thorough))
    return sorted(found, key=lambda each: (-each.used, each.name))


def _look(directory: int, name: str, key: str, thorough: bool) -> Listed:
    at = os.stat(name, dir_fd=directory, follow_symlinks=False)
    label, sections, unfit = "", {}, ""
    try:
        fd = open_file(directory, name)
    except FileUnfit as found:
        unfit = str(found)
    else:
        try:
            # With what the header alone says where the rest is damaged.
            with contextlib.suppress(ImageError):
                _, label, _, contents = _native.image_peek(fd)
                sections = {kind: 4 * words for kind, _, words in contents}
            _, label, _, contents = (_native.image_check if thorough else _native.image_peek)(fd, bytes.fromhex(key))
        except ImageError as found:
            unfit = str(found)
        finally:
            os.close(fd)
    state = State.UNFIT if unfit else State.FIT
    return Listed(name, key, label, at.st_size, at.st_mtime, max(at.st_atime, at.st_mtime), sections, state, unfit)


def _look_at_building(directory: int, name: str, key: str, thorough: bool) -> Listed:
    at = os.stat(name, dir_fd=directory, follow_symlinks=False)
    left = _is_left(directory, name)
    state, unfit = (State.LEFT, "its builder was killed") if left else (State.BUILDING, "it is being built")
    return Listed(name, key, "", at.st_size, at.st_mtime, at.st_mtime, {}, state, unfit)


def _is_left(directory: int, name: str) -> bool:
    """Whether nobody builds in this file any more."""
    try:
        fd = open_file(directory, name)
    except (FileUnfit, FileNotFoundError):
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(fd)


def prune(
    *, older: float | None = None, most: int | None = None, everything: bool = False, dry: bool = False
) -> list[Pruned]:
    """Removes images: always those that are unfit and what killed builders left.

    Arguments:
        older: also those that no LAN has mapped for so many seconds.
        most: also those that were not used for longest, until the rest takes at most so many bytes.
        everything: all of them.
        dry: remove nothing, and say what would be removed.

    Returns:
        What was removed.

    Raises:
        CacheTrouble: the directory cannot be used.
        OSError: a file cannot be removed.
    """
    directory = open_directory(make=False)
    if directory is None:
        return []
    try:
        pruned = _condemned(_listed(directory, thorough=True), older, most, everything)
        if not dry:
            pruned = [each for each in pruned if _remove(directory, each.image)]
        return pruned
    finally:
        os.close(directory)


def trim(directory: int, most: int, *, keep: str) -> None:
    """Removes the images that were not used for longest, until the rest takes at most ``most`` bytes; not ``keep``."""
    if sum(entry.stat(follow_symlinks=False).st_size for entry in os.scandir(directory)) <= most:
        return
    others = [each for each in _listed(directory, thorough=False) if each.name != keep]
    room = most - os.stat(keep, dir_fd=directory).st_size
    for each in _condemned(others, None, room, everything=False):
        _remove(directory, each.image)


def _condemned(images: list[Listed], older: float | None, most: int | None, everything: bool) -> list[Pruned]:
    """Which of ``images``, that which was used last first, are to go."""
    now, kept, pruned = time.time(), 0, []
    for each in images:
        if each.state is State.BUILDING:
            continue
        why = each.unfit
        if not why and everything:
            why = "all were to go"
        if not why and older is not None and now - each.used > older:
            why = "it was not used for long"
        if not why and most is not None and kept + each.bytes > most:
            why = "others were used since, and all together take too much room"
        if why:
            pruned.append(Pruned(each, why))
        else:
            kept += each.bytes
    return pruned


def _remove(directory: int, image: Listed) -> bool:
    """Removes a file; not one in which somebody builds by now."""
    if image.state is State.LEFT:
        # Under its lock, so that whoever comes to build in it finds that it has lost its name.
        try:
            fd = open_file(directory, image.name)
        except FileNotFoundError:
            return False
        except FileUnfit:
            fd = -1
        try:
            if fd >= 0:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(image.name, dir_fd=directory)
        except (BlockingIOError, FileNotFoundError):
            return False
        finally:
            if fd >= 0:
                os.close(fd)
        return True
    try:
        os.unlink(image.name, dir_fd=directory)
    except FileNotFoundError:
        return False
    return True
