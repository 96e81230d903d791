"""Where images can be kept."""

from __future__ import annotations

import os
import shutil

from vnet.doctor.finding import Finding, State

__all__ = ["finding"]

# What the largest images take: a route table of the Internet some 16 MiB.
_ROOM = 64 << 20


def finding(topic: str) -> Finding:
    """The cache directory: whether images can be published there, and what lies in it."""
    from vnet.images import CacheTrouble, cache_directory
    from vnet.images.keeping import listed

    name = "image cache"
    why = "what takes long to compile, such as the routes of the Internet, is compiled once; without it, each time"
    directory = cache_directory()
    try:
        found = listed(thorough=False)
    except (CacheTrouble, OSError) as trouble:
        remedy = "export VNET_CACHE=a directory of your own"
        if os.environ.get("VNET_CACHE") == "off":
            remedy = "unset VNET_CACHE"
        elif directory is not None and directory.is_dir() and directory.stat().st_uid == os.geteuid():
            remedy = f"chmod u+rwx,go-w {directory}"
        return Finding(topic, name, State.LIMITED, str(trouble), why, remedy)
    assert directory is not None
    place = next(each for each in (directory, *directory.parents) if each.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        remedy = "export VNET_CACHE=a directory of your own"
        return Finding(topic, name, State.LIMITED, f"{place} cannot be written to", why, remedy)
    free = shutil.disk_usage(place).free
    if free < _ROOM:
        room = f"{place} has room for {free >> 20} MiB, and an image takes up to {_ROOM >> 20} MiB"
        return Finding(topic, name, State.LIMITED, room, why, "vnet image prune --all, or make room there")
    if place != directory:
        return Finding(topic, name, State.OK, f"{directory} can be made", why)
    size = sum(each.bytes for each in found) / 2**20
    unfit = sum(each.state.value in ("unfit", "left") for each in found)
    count = f"{len(found)} image{'' if len(found) == 1 else 's'}, {size:.1f} MiB, in {directory}"
    return Finding(topic, name, State.OK, count + (f"; {unfit} unfit" if unfit else ""), why)
