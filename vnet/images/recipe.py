"""What an image is compiled from: the hash of it names the file."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import vnet
from vnet import _native

__all__ = ["Recipe"]


class Recipe:
    """What an image is compiled from, part by part.

    The key is the SHA-256 of all parts in their order, each with its name, and of what decides how they are compiled:
    the version of vnet, the ABI, the version of the format.  Two recipes that differ in anything have different keys.

    Arguments:
        label: the same in a few words, for people: ``internet.txt, 1,034,567 routes``.
    """

    def __init__(self, label: str) -> None:
        self.label = " ".join(label.split())
        self._hash = hashlib.sha256()
        versions = {"abi": _native.ABI, "format": _native.IMAGE_VERSION, "vnet": vnet.__version__}
        self.add("versions", versions)

    def add(self, name: str, part: Any) -> Recipe:
        """Adds a part, and returns the recipe.

        Arguments:
            name: what the part is.
            part: bytes-like, or whatever has one form in JSON: numbers, strings, lists, dictionaries with string keys.
        """
        plain = isinstance(part, (bytes, bytearray, memoryview))
        data = part if plain else json.dumps(part, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
        size = memoryview(data).nbytes
        # With lengths, so that no part's end can be another's beginning.
        self._hash.update(json.dumps([name, "bytes" if plain else "json", size]).encode() + b"\n")
        self._hash.update(data)
        return self

    @property
    def key(self) -> bytes:
        """The key, 32 bytes."""
        return self._hash.digest()
