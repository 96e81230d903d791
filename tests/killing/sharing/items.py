"""Work queues: a target with a dispatcher, and posters of single items and of many, of several priorities."""

from __future__ import annotations

import struct
import time
import zlib

from vnet.errors import QueueClosed, RegionNotFound
from vnet.queues import WorkQueue

from .guest import PATIENCE, STUCK, Place
from .ledger import Phase

PRIORITIES = 3
# poster, its number for the queue, priority, the item's number among those of its priority, how many were posted before
_ITEM = struct.Struct("<QQIQQ")
_SUM = struct.Struct("<I")
ITEM_BYTES = _ITEM.size + _SUM.size
# A poster, and its number for the queue.
_Posted = tuple[int, int]


def item(poster: int, number: int, priority: int, sequence: int, before: int) -> bytes:
    fields = _ITEM.pack(poster, number, priority, sequence, before)
    return fields + _SUM.pack(zlib.crc32(fields))


def target(place: Place) -> None:
    """Works on a queue, which every life of the target makes anew."""
    with place.at(Phase.CREATE):
        queue = place.nic.create_queue(capacity=256, item_size=ITEM_BYTES, priorities=PRIORITIES)
    dispatcher = place.nic.dispatcher()
    last: dict[_Posted, list[int]] = {}
    totals: dict[_Posted, int] = {}
    failures: list[AssertionError] = []

    @dispatcher.on(queue)
    def take(text: bytes) -> None:
        with place.at(Phase.HANDLE):
            try:
                _take(place, bytes(text), last, totals)
            except AssertionError as error:
                failures.append(error)
                raise

    try:
        place.publish("queue", f"{queue.handle} {place.me}")
        place.ledger.set_up(place.me)
        while not place.over and not failures:
            with place.at(Phase.READ):
                dispatcher.run(timeout=0.1)
            place.pace.step()
        if failures:
            raise failures[0]
    finally:
        dispatcher.close()
        queue.close()


def _take(place: Place, text: bytes, last: dict[_Posted, list[int]], totals: dict[_Posted, int]) -> None:
    fields = text[: _ITEM.size]
    assert len(text) == ITEM_BYTES
    assert _SUM.unpack_from(text, _ITEM.size)[0] == zlib.crc32(fields), "damaged"
    poster, number, priority, sequence, _before = _ITEM.unpack(fields)
    # Within one priority nothing overtakes, is missing or comes twice.
    known = last.setdefault((poster, number), [0] * PRIORITIES)
    assert sequence == known[priority] + 1, f"item {sequence} of {poster} came after {known[priority]}"
    known[priority] = sequence
    totals[poster, number] = totals.get((poster, number), 0) + 1
    place.ledger.set_got(poster, number, totals[poster, number])


def poster(place: Place) -> None:
    """Posts in all ways, waits where the queue is full, and looks for the successor of a target that died."""
    number, dead = 0, ""
    while not place.leaving:
        found = _find(place, dead)
        if found is None:
            return
        handle, receiver = found
        try:
            with place.at(Phase.CONNECT):
                queue = place.nic.open_queue(handle)
        except (RegionNotFound, QueueClosed):
            dead = handle
            continue
        number += 1
        try:
            place.begin(number, receiver)
            _post(place, queue, number)
            place.ledger.set_alone(place.me)
        except QueueClosed:
            place.lost()
            dead = handle
        finally:
            with place.at(Phase.DROP):
                queue.close()


def _find(place: Place, dead: str) -> tuple[str, int] | None:
    """The handle of the queue, once there is another than the one that was found dead."""
    deadline = time.monotonic() + PATIENCE
    while not place.leaving:
        handle, _, receiver = (place.published("queue") or "").partition(" ")
        if handle and handle != dead:
            return handle, int(receiver)
        assert time.monotonic() < deadline, "no target comes up"
        time.sleep(0.001)
    return None


def _post(place: Place, queue: WorkQueue, number: int) -> None:
    chance, sequences, count = place.chance, [0] * PRIORITIES, 0

    def made(priority: int, ahead: int = 0) -> bytes:
        return item(place.me, number, priority, sequences[priority] + 1 + ahead, count + ahead)

    for _ in range(chance.choice((100, 20_000))):
        if place.leaving:
            return
        priority = chance.randrange(PRIORITIES)
        with place.at(Phase.POST):
            if chance.random() < 0.5:
                queue.post(made(priority), priority, block=True, timeout=STUCK)
                posted = 1
            else:
                wanted = [made(priority, ahead) for ahead in range(chance.choice((2, 30, 200)))]
                posted = queue.post_many(wanted, priority, block=True, timeout=STUCK)
        sequences[priority] += posted
        count += posted
        place.ledger.set_certain(place.me, number, count)
        place.pace.step()
        place.rest()
