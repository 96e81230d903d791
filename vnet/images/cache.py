"""Finding an image, or building and publishing it.

An image is built in ``KEY.building`` and gets its name ``KEY.img`` when it is whole, so whoever finds the name finds
all of it.  Whoever builds holds a lock (flock) on the file that it builds; the kernel takes the lock from a builder
that is killed, and the next one builds in the file that was left.  So there is no lock file, and nothing has to be
cleared away before an image can be built; what killed builders left of images that nobody needs any more goes when
somebody prunes.

::

    find KEY.img ──fit──▶ map it
        │ not there, or unfit
        ▼
    lock KEY.building ──somebody else builds──▶ wait for KEY.img, at most ``patience`` ──▶ compile, publish nothing
        │
        ▼
    compile ─▶ write ─▶ fsync ─▶ read-only ─▶ rename to KEY.img ─▶ find it, as everybody else does
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from vnet import _native
from vnet.errors import ImageError

from . import keeping
from .place import CacheTrouble, FileUnfit, cache_directory, open_directory, open_file
from .recipe import Recipe

__all__ = ["Cache", "Obtained"]

# Seconds between two looks whether somebody else has published what is waited for, at first and at most.
_LOOK, _LONG_LOOK = 0.002, 0.05

Write = Callable[[int], object]
"""Writes what was compiled, as an image, to a descriptor."""


@dataclass
class Obtained:
    """How a LAN came by what it needs.  A context manager; closes the file.

    Attributes:
        recipe: what was asked for.
        fd: the image, open for reading and checked; -1 where there is none, and what was compiled is in memory only.
        sections: what is in the image: kind, beginning in bytes, words.
        bytes: of the file.
        built: whether it was compiled here and now.
        unfit: why an image that was there was not used, as a sentence about it; otherwise empty.
        trouble: why there is no image, as a sentence; otherwise empty.
    """

    recipe: Recipe
    fd: int = -1
    sections: list[tuple[str, int, int]] = field(default_factory=list)
    bytes: int = 0
    built: bool = False
    unfit: str = ""
    trouble: str = ""

    def close(self) -> None:
        """Closes the file.  May be called twice; what was mapped stays mapped."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Obtained:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Cache:
    """The images of this user.

    Arguments:
        patience: seconds to wait for another process that builds the same image.
        most: bytes that the images may take in all; those that were not used for longest go first.
    """

    def __init__(self, *, patience: float = 10.0, most: int = 1 << 30) -> None:
        self.patience = patience
        self.most = most

    def obtain(self, recipe: Recipe, build: Callable[[], Write]) -> Obtained:
        """Finds the image of ``recipe``, or builds and publishes it.

        Whatever is wrong with the cache directory or with the image that lies there is told in the answer and is no
        error.

        Arguments:
            recipe: what it is compiled from.
            build: compiles it, and returns what writes it as an image of that recipe.  Called at most once, and not
                where the image is found.

        Raises:
            Exception: what ``build`` raises; then nothing is published.
        """
        came = Obtained(recipe)
        try:
            directory = open_directory(make=True)
            assert directory is not None
        except CacheTrouble as trouble:
            build()
            came.built, came.trouble = True, str(trouble)
            return came
        try:
            if not _find(directory, came):
                self._build(directory, came, build)
        except BaseException:
            came.close()
            raise
        finally:
            os.close(directory)
        return came

    def _build(self, directory: int, came: Obtained, build: Callable[[], Write]) -> None:
        """Compiles what nobody has published, or waits for whoever compiles it."""
        place = _names(came.recipe)[1]
        try:
            building = self._lock(directory, came)
        except (OSError, FileUnfit) as error:
            came.trouble = f"{cache_directory()} cannot be used: {_sentence(error)}"
            building = None
        if came.fd >= 0:
            return
        if building is None:
            build()
            came.built = True
            return
        try:
            write = build()
            came.built = True
            try:
                _publish(directory, building, came.recipe, write)
            except OSError as error:
                came.trouble = f"the image cannot be written to {cache_directory()}: {_sentence(error)}"
                return
            place = ""
        finally:
            if place:
                with contextlib.suppress(OSError):
                    os.unlink(place, dir_fd=directory)
            os.close(building)
        if not _find(directory, came):
            came.trouble = f"the image was written and read back, and {came.unfit or 'it was gone'}"
            return
        with contextlib.suppress(OSError):
            keeping.trim(directory, self.most, keep=_names(came.recipe)[0])

    def _lock(self, directory: int, came: Obtained) -> int | None:
        """A descriptor of the file to build in, locked and empty.

        ``None`` where somebody else has the lock for too long, or has published the image, which is in ``came`` then.
        """
        place = _names(came.recipe)[1]
        deadline, pause = time.monotonic() + self.patience, _LOOK
        while True:
            fd = os.open(
                place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=directory
            )
            try:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    raise FileUnfit(f"{place} is no ordinary file")
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    # Who had the lock before may have published this very file, or pruned it: it must still have its
                    # name, and keeps it while it is locked.
                    if _leads_to(directory, place, fd):
                        if _find(directory, came):
                            os.unlink(place, dir_fd=directory)
                            return None
                        os.ftruncate(fd, 0)
                        fd, mine = -1, fd
                        return mine
                    continue
            finally:
                if fd >= 0:
                    os.close(fd)
            if time.monotonic() >= deadline:
                came.trouble = f"another process has been compiling the same for {self.patience:g} s and more"
                return None
            time.sleep(pause)
            pause = min(2 * pause, _LONG_LOOK)
            if _find(directory, came):
                return None


def _names(recipe: Recipe) -> tuple[str, str]:
    """The names of an image and of the file in which it is built."""
    key = recipe.key.hex()
    return key + keeping.SUFFIX, key + keeping.BUILDING


def _find(directory: int, came: Obtained) -> bool:
    """Opens and checks the image, if it is there and fit."""
    name = _names(came.recipe)[0]
    try:
        fd = open_file(directory, name)
    except FileNotFoundError:
        return False
    except FileUnfit as unfit:
        came.unfit = str(unfit)
        return False
    try:
        _, _, came.bytes, came.sections = _native.image_check(fd, came.recipe.key)
    except ImageError as unfit:
        os.close(fd)
        came.unfit = str(unfit)
        return False
    came.fd = fd
    with contextlib.suppress(OSError):
        # When it was used last, whether or not the file system notes that itself.
        os.utime(fd, ns=(time.time_ns(), os.fstat(fd).st_mtime_ns))
    return True


def _publish(directory: int, building: int, recipe: Recipe, write: Write) -> None:
    name, place = _names(recipe)
    write(building)
    # Before it has its name: after a power failure the name may be there and the rest not, which only the check would
    # find.
    os.fsync(building)
    os.fchmod(building, 0o400)
    os.rename(place, name, src_dir_fd=directory, dst_dir_fd=directory)


def _leads_to(directory: int, name: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(name, dir_fd=directory, follow_symlinks=False), os.fstat(fd))
    except FileNotFoundError:
        return False


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError):
        if error.errno == errno.ELOOP:
            return "a name in it is a symbolic link"
        return (os.strerror(error.errno) if error.errno else str(error)).lower()
    return str(error)
