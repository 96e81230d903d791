"""Streams: sources that write into a pipe as fast as they can, and a sink with a thread for each of them."""

from __future__ import annotations

import contextlib
import struct
import threading
import time

from vnet.errors import ServiceBusy, ServiceGone, ServiceNotFound
from vnet.pipes import Listener, Pipe

from .guest import PATIENCE, STUCK, Place, Waits, on_tape
from .ledger import End, Phase

# Both sides say who they are first: who, the sender's number for the connection.
_GREETING = struct.Struct("<QQ")
# What one says to whom one never meets again: nobody of that name, or nobody there yet, or no place in the queue.
ABSENT = (ServiceNotFound, ServiceBusy, ServiceGone, ConnectionError)


def connect(place: Place, guest: str, service: str, **how: object) -> Pipe | None:
    """Connects as soon as there is somebody; `None` when it is time to leave."""
    deadline = time.monotonic() + PATIENCE
    while not place.leaving:
        try:
            with place.at(Phase.CONNECT):
                return place.nic.connect(guest, service, timeout=STUCK, **how)  # type: ignore[arg-type]
        except ABSENT:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.001)
    return None


def read_exactly(pipe: Pipe, size: int) -> bytes:
    """That many bytes, or fewer at the end of the file."""
    parts = b""
    while len(parts) < size and (part := pipe.read(size - len(parts))):
        parts += part
    return parts


def source(place: Place) -> None:
    """Connects to the sink, writes for a while, goes in good order or when the sink has died, and connects again."""
    number = 0
    while not place.leaving:
        place.ledger.set_phase(place.me, Phase.ELSEWHERE)
        pipe = connect(place, "sink0", "stream")
        if pipe is None:
            return
        number += 1
        with contextlib.closing(pipe):
            pipe.settimeout(STUCK)
            try:
                _stream(place, pipe, number)
            except ConnectionError:
                place.lost()
            else:
                place.ledger.set_alone(place.me)
            place.ledger.set_phase(place.me, Phase.DROP)


def _stream(place: Place, pipe: Pipe, number: int) -> None:
    with place.at(Phase.CONNECT):
        pipe.write(_GREETING.pack(place.me, number))
        greeting = read_exactly(pipe, 8)
    if len(greeting) < 8:
        # The sink closes a connection only after it has read all of it, so this one never got as far.
        raise ConnectionResetError
    place.begin(number, int.from_bytes(greeting, "little"))
    position, chance = 0, place.chance
    pieces = chance.choice((50, 2000))
    for _ in range(pieces):
        if place.leaving:
            break
        piece = on_tape(position, chance.choice((1, 100, 4096, 65_536, 300_000)))
        with place.at(Phase.WRITE):
            # An io.RawIOBase may take less than all; this says how much it took.
            position += pipe.write(piece) or 0
        place.ledger.set_certain(place.me, number, position)
        place.pace.step()
        place.rest()
    with place.at(Phase.DROP):
        pipe.shut_write()
        # The sink says how much it got, which it can only do once it has seen the end.
        said = read_exactly(pipe, 8)
    assert int.from_bytes(said, "little") == position, "the sink got another number of bytes"
    assert pipe.read(1) == b"", "the sink closes after its answer"


def sink(place: Place) -> None:
    """Accepts streams and holds every byte against what it must be."""
    with place.at(Phase.LISTEN), place.nic.listen("stream") as listener:
        place.ledger.set_up(place.me)
        threads: list[threading.Thread] = []
        failures: list[BaseException] = []
        while not place.over:
            with place.at(Phase.ACCEPT), contextlib.suppress(TimeoutError):
                pipe, _ = accepted(listener)
                threads.append(threading.Thread(target=_drain, args=(place, pipe, failures), name="drain"))
                threads[-1].start()
            if failures:
                raise failures[0]
            threads = [thread for thread in threads if thread.is_alive()]
            place.pace.step()
        for thread in threads:
            thread.join(STUCK)


def accepted(listener: Listener) -> tuple[Pipe, str | None]:
    """The next pipe, and who is at its other end."""
    pipe = listener.accept(timeout=0.2)
    return pipe, pipe.peer


def _drain(place: Place, pipe: Pipe, failures: list[BaseException]) -> None:
    try:
        with contextlib.closing(pipe):
            pipe.settimeout(STUCK)
            _check(place, pipe)
    except BaseException as error:
        failures.append(error)


def _check(place: Place, pipe: Pipe) -> None:
    sender = number = position = 0
    buffer = bytearray(1 << 18)
    how = End.BROKEN
    try:
        greeting = read_exactly(pipe, _GREETING.size)
        if not greeting:
            return
        sender, number = _GREETING.unpack(greeting)
        pipe.write(place.me.to_bytes(8, "little"))
        size = place.chance.choice((1 << 12, 1 << 18))
        view = memoryview(buffer)[:size]
        waits = Waits(place.ledger)
        while True:
            waits.look()
            with place.at(Phase.READ):
                got = pipe.readinto(view)
            assert got is not None
            if not got:
                how = End.FINISHED
                break
            assert view[:got] == on_tape(position, got), f"{sender}'s bytes at {position} are not what it wrote"
            position += got
            place.ledger.set_got(sender, number, position)
        pipe.write(position.to_bytes(8, "little"))
    except ConnectionError:
        pass
    if sender:
        place.ledger.set_end(sender, number, how, time.monotonic_ns())
