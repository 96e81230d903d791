"""Images: what was compiled for a LAN, kept in files that later LANs map instead of compiling it again.

The route table of the Internet or the paths of a thousand routers take a moment to compile and are the same each
time.  Whoever needs them first compiles them and publishes them in a file of the user's cache directory, under the hash
of what they were compiled from; who needs them later finds the file, checks it and maps it read-only.  All processes
that map it share one copy in memory, that of the kernel's page cache.

An image is never trusted: one that is truncated, damaged, of another version or of another machine is compiled anew, as
is one that belongs to somebody else or that others could have written to.  And it is never needed: where the cache
directory cannot be used, the LAN compiles into its own memory and says why.

``place.py`` is the directory and who may have written to it, ``recipe.py`` the hash of what an image is compiled from,
``cache.py`` finds, builds and publishes, ``keeping.py`` lists and prunes.  What is in the file is drawn in
``tables/src/image.rs``, which also writes and checks it.
"""

from __future__ import annotations

from .cache import Cache, Obtained
from .keeping import Listed, Pruned
from .place import CacheTrouble, cache_directory
from .recipe import Recipe

__all__ = ["Cache", "CacheTrouble", "Listed", "Obtained", "Pruned", "Recipe", "cache_directory"]
