"""Regions: each sharer makes them and attaches those of the other, which comes and goes, or is killed, meanwhile."""

from __future__ import annotations

import contextlib
import struct

from vnet.errors import RegionNotFound

from .guest import Place
from .ledger import Phase

# Who made the region, which of its it is; over and over.
_STAMP = struct.Struct("<QQ")


def sharer(place: Place) -> None:
    count = 0
    place.ledger.set_sharer(place.index, place.me)
    place.ledger.set_up(place.me)
    while not place.leaving:
        count += 1
        size = place.chance.choice((4096, 65_536, 1 << 20))
        with place.at(Phase.CREATE):
            region = place.nic.create_region(size)
        with contextlib.closing(region):
            with memoryview(region) as view:
                view[:] = _STAMP.pack(place.me, count) * (size // _STAMP.size)
            place.ledger.set_handle(place.me, region.handle)
            for _ in range(place.chance.randrange(1, 4)):
                _visit(place, place.ledger.handle(place.ledger.sharer(1 - place.index)))
            with place.at(Phase.HOLD), memoryview(region) as view:
                stamps = bytes(view)
            # Others have only read, and another region's memory was never this one's.
            assert stamps == _STAMP.pack(place.me, count) * (size // _STAMP.size), "somebody else wrote here"
            place.ledger.set_phase(place.me, Phase.DROP)
        place.ledger.set_phase(place.me, Phase.ELSEWHERE)


def _visit(place: Place, handle: str | None) -> None:
    """Attaches the other's region, if it is still there, and holds its bytes against one another."""
    place.pace.step()
    place.rest()
    if handle is None:
        return
    try:
        with place.at(Phase.MAP):
            region = place.nic.attach_region(handle, readonly=place.chance.random() < 0.5)
    except RegionNotFound:
        return
    with place.at(Phase.HOLD), contextlib.closing(region), memoryview(region) as view:
        stamp = bytes(view[: _STAMP.size])
        assert bytes(view) == stamp * (len(view) // _STAMP.size), "not as its owner left it"
        assert _STAMP.unpack(stamp)[0] != place.me
    place.ledger.add_region(place.me)
