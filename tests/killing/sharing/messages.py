"""Messages: askers that ask and wait for the answer, and one loop that answers them all, waiting on descriptors."""

from __future__ import annotations

import contextlib
import selectors
import struct
import time
import zlib
from dataclasses import dataclass

from vnet.pipes import Pipe

from .guest import STUCK, Place, on_tape
from .ledger import End, Phase
from .streams import accepted, connect

# asker, its number for the connection, the message's number, where on the tape it begins, how long it is
_HEAD = struct.Struct("<QQQII")
_SUM = struct.Struct("<I")


def message(asker: int, number: int, count: int, position: int, size: int) -> bytes:
    """A message that says what it is, with a checksum of that."""
    head = _HEAD.pack(asker, number, count, position, size)
    return head + _SUM.pack(zlib.crc32(head)) + on_tape(position, size)


def opened(text: bytes) -> tuple[int, int, int]:
    """Who sent a message: asker, connection, number; checked to the last byte."""
    head = text[: _HEAD.size]
    assert _SUM.unpack_from(text, _HEAD.size)[0] == zlib.crc32(head), "damaged head"
    asker, number, count, position, size = _HEAD.unpack(head)
    body = text[_HEAD.size + _SUM.size :]
    assert len(body) == size, f"cut: {len(body)} bytes of {size}"
    assert body == on_tape(position, size), "damaged body"
    return asker, number, count


def asker(place: Place) -> None:
    """Asks until it is time to leave, with another connection now and then."""
    number = 0
    while not place.leaving:
        place.ledger.set_phase(place.me, Phase.ELSEWHERE)
        pipe = connect(place, "echo0", "echo", messages=True)
        if pipe is None:
            return
        number += 1
        with contextlib.closing(pipe):
            pipe.settimeout(STUCK)
            try:
                _ask(place, pipe, number)
            except ConnectionError:
                place.lost()
            else:
                place.ledger.set_alone(place.me)
            place.ledger.set_phase(place.me, Phase.DROP)


def _ask(place: Place, pipe: Pipe, number: int) -> None:
    chance = place.chance
    with place.at(Phase.CONNECT):
        receiver = int.from_bytes(pipe.recv_bytes(), "little")
    place.begin(number, receiver)
    count = 0
    for _ in range(chance.choice((3, 3000))):
        if place.leaving:
            break
        burst = chance.choice((1, 1, 1, 10))
        sent = [
            message(place.me, number, count + at, chance.randrange(1 << 20), chance.choice((0, 1, 100, 3000, 60_000)))
            for at in range(burst)
        ]
        with place.at(Phase.WRITE):
            for text in sent:
                pipe.send_bytes(text)
        count += burst
        place.ledger.set_certain(place.me, number, count)
        with place.at(Phase.READ):
            for text in sent:
                assert pipe.recv_bytes() == text, "the answer is another"
        place.pace.step()
        place.rest()


@dataclass
class _Client:
    asker: int = 0
    number: int = 0
    count: int = 0


def echo(place: Place) -> None:
    """Answers every message, of any number of askers, from one loop."""
    with (
        place.at(Phase.LISTEN),
        place.nic.listen("echo", messages=True) as listener,
        selectors.DefaultSelector() as many,
    ):
        many.register(listener, selectors.EVENT_READ)
        place.ledger.set_up(place.me)
        clients: dict[Pipe, _Client] = {}
        try:
            while not place.over:
                with place.at(Phase.READ):
                    ready = many.select(0.2)
                place.pace.step()
                for key, _ in ready:
                    if key.fileobj is listener:
                        with contextlib.suppress(TimeoutError):
                            pipe, _name = accepted(listener)
                            pipe.settimeout(STUCK)
                            clients[pipe] = _Client()
                            many.register(pipe, selectors.EVENT_READ)
                            with contextlib.suppress(ConnectionError):
                                pipe.send_bytes(place.me.to_bytes(8, "little"))
                    else:
                        pipe = key.fileobj  # type: ignore[assignment]
                        if not _answer(place, pipe, clients[pipe]):
                            many.unregister(pipe)
                            del clients[pipe]
                            pipe.close()
        finally:
            for pipe in clients:
                pipe.close()


def _answer(place: Place, pipe: Pipe, client: _Client) -> bool:
    """Answers the messages that are there. False when there will be none."""
    how = End.BROKEN
    try:
        for _ in range(32):
            with place.at(Phase.READ):
                if not pipe.poll(0):
                    return True
                text = pipe.recv_bytes()
            asker, number, count = opened(text)
            if not client.asker:
                client.asker, client.number = asker, number
            assert (asker, number, count) == (client.asker, client.number, client.count), "not the next message"
            client.count += 1
            place.ledger.set_got(asker, number, client.count)
            # Whoever died still has questions in the pipe, which are to be read to the last.
            with place.at(Phase.WRITE), contextlib.suppress(BrokenPipeError):
                pipe.send_bytes(text)
        return True
    except EOFError:
        how = End.FINISHED
    except ConnectionResetError:
        pass
    if client.asker:
        place.ledger.set_end(client.asker, client.number, how, time.monotonic_ns())
    return False
