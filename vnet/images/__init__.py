"""Images: what was compiled for a LAN, kept in files that later LANs map instead of compiling it again.

The route table of the Internet or the paths of a thousand routers take a moment to compile and are the same each
time.  Whoever needs them first compiles them and publishes them in a file of the user's cache directory, under the hash
of what they were compiled from; who needs them later finds the file, checks it and maps it read-only.  All processes
that map it share one copy in memory, that of the kernel's page cache.

An image is never trusted: one that is truncated, damaged, of another version or of another machine is compiled anew, as
is one that belongs to somebody else or that others could have written to.  And it is never needed: where the cache
directory cannot be used, the LAN compiles into its own memory and says why.

``lan.py`` is what a LAN has of it, ``place.py`` the directory and who may have written to it, ``recipe.py`` the hash
of what an image is compiled from, ``cache.py`` finds, builds and publishes, ``keeping.py`` lists and prunes.  What is
in the file is drawn in ``tables/src/image.rs``, which also writes and checks it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cache import Cache, Obtained
    from .keeping import Listed, Pruned
    from .lan import ImageUse, LanImages
    from .place import CacheTrouble, cache_directory
    from .recipe import Recipe

__all__ = [
    "Cache",
    "CacheTrouble",
    "ImageUse",
    "LanImages",
    "Listed",
    "Obtained",
    "Pruned",
    "Recipe",
    "cache_directory",
]

_MODULES = {
    "Cache": "cache",
    "CacheTrouble": "place",
    "ImageUse": "lan",
    "LanImages": "lan",
    "Listed": "keeping",
    "Obtained": "cache",
    "Pruned": "keeping",
    "Recipe": "recipe",
    "cache_directory": "place",
}


def __getattr__(name: str) -> Any:
    # Each LAN has images, and few LANs use them.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
