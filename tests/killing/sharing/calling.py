"""Calls: a server, and callers of everything that it offers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Protocol

import pytest

from .guest import PATIENCE, STUCK, Place, on_tape
from .ledger import Phase
from .streams import ABSENT


class Work(Protocol):
    """What the server offers."""

    def who(self) -> int: ...

    def turned(self, data: bytes) -> bytes: ...

    def slow(self, milliseconds: int) -> int: ...

    def counted(self, count: int) -> Iterator[int]: ...

    def refused(self, why: str) -> int: ...


class _Worker:
    def __init__(self, place: Place) -> None:
        self._place = place

    def who(self) -> int:
        return self._place.me

    def turned(self, data: bytes) -> bytes:
        with self._place.at(Phase.HANDLE):
            return data[::-1]

    def slow(self, milliseconds: int) -> int:
        with self._place.at(Phase.HANDLE):
            time.sleep(milliseconds / 1000)
        return milliseconds

    def counted(self, count: int) -> Iterator[int]:
        with self._place.at(Phase.HANDLE):
            yield from range(count)

    def refused(self, why: str) -> int:
        raise LookupError(why)


def server(place: Place) -> None:
    with place.at(Phase.LISTEN), place.nic.serve_calls("work", _Worker(place), Work):
        place.ledger.set_up(place.me)
        while not place.over:
            time.sleep(0.01)
            place.pace.step()


def caller(place: Place) -> None:
    number, deadline = 0, time.monotonic() + PATIENCE
    while not place.leaving:
        number += 1
        try:
            with place.at(Phase.CONNECT), place.nic.caller("server0", "work", Work, timeout=STUCK) as work:
                receiver = work.who()
                place.begin(number, receiver)
                with place.at(Phase.CALL):
                    _call(place, work)
                place.ledger.set_alone(place.me)
                place.ledger.set_phase(place.me, Phase.DROP)
        except ABSENT:
            if place.ledger.partner(place.me):
                place.lost()
                deadline = time.monotonic() + PATIENCE
            elif time.monotonic() > deadline:
                raise
            else:
                time.sleep(0.001)
        place.ledger.set_phase(place.me, Phase.ELSEWHERE)


def _call(place: Place, work: Work) -> None:
    chance = place.chance
    for _ in range(chance.choice((5, 2000))):
        if place.leaving:
            return
        way = chance.random()
        if way < 0.7:
            data = on_tape(chance.randrange(1 << 20), chance.choice((0, 100, 100, 100, 60_000)))
            assert work.turned(data) == data[::-1]
        elif way < 0.8:
            assert work.slow(3) == 3
        elif way < 0.9:
            assert list(work.counted(200)) == list(range(200))
        else:
            with pytest.raises(LookupError, match="today"):
                work.refused("today")
        place.pace.step()
        place.rest()
