"""Blocks of 4 KiB in a file that a crash at any instant leaves whole.

Each block has two places in the file, and a write goes to the one with its older content:

    block 0                         block 1
    ┌─────────────┬─────────────┐   ┌─────────────┬─────────────┐
    │ place 0     │ place 1     │   │ place 0     │ place 1     │  ...     8 KiB a place
    └─────────────┴─────────────┘   └─────────────┴─────────────┘
    place:  "VBLK" │ CRC-32 of what follows │ version │ block │ zeros up to 4 KiB │ content

A place whose checksum is wrong was being written when the machine failed, and counts as empty; of two that are right
the higher version holds.  A write is there for good once `write` returns: what it replaces is not touched before that.
"""

import fcntl
import os
import struct
import threading
import zlib

BLOCK = 4096
_HEAD = struct.Struct("<4sIQQ")
_PLACE = 2 * BLOCK


class BlockFile:
    """The file `path` with `blocks` blocks; made, for its owner alone, where it is not there."""

    def __init__(self, path, blocks):
        self.blocks = blocks
        self._lock = threading.Lock()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # two who write would be the end of it
        os.ftruncate(self._file, blocks * 2 * _PLACE)
        os.fsync(self._file)
        folder = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY | os.O_CLOEXEC)
        os.fsync(folder)  # or the file is there, and its name is not
        os.close(folder)
        # The version of each block and the place where it is.
        self._newest = [max((self._version(block, place), place) for place in (0, 1)) for block in range(blocks)]

    def read(self, block):
        """The content of a block; zeros if it was never written."""
        with self._lock:
            version, place = self._newest[block]
            return self._load(block, place)[1] if version else bytes(BLOCK)

    def write(self, contents):
        """Writes blocks, given as `{number: content}`; returns when no crash can undo it any more."""
        coming = {}
        with self._lock:
            for block, content in contents.items():
                version, place = self._newest[block][0] + 1, 1 - self._newest[block][1]
                covered = struct.pack("<QQ", version, block).ljust(BLOCK - 8, b"\0") + content
                os.pwrite(self._file, b"VBLK" + struct.pack("<I", zlib.crc32(covered)) + covered, _at(block, place))
                coming[block] = version, place
        os.fdatasync(self._file)  # one for all of them; who reads meanwhile gets what was there before
        with self._lock:
            for block, newest in coming.items():
                self._newest[block] = newest

    def close(self):
        os.close(self._file)

    def _version(self, block, place):
        return self._load(block, place)[0]

    def _load(self, block, place):
        """Version and content of a place; version 0 where it holds nothing that is whole."""
        found = os.pread(self._file, _PLACE, _at(block, place))
        magic, checksum, version, number = _HEAD.unpack_from(found)
        if magic != b"VBLK" or number != block or checksum != zlib.crc32(found[8:]):
            return 0, b""
        return version, found[BLOCK:]


def _at(block, place):
    return (2 * block + place) * _PLACE
