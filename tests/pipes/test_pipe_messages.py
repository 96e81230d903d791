"""Pipes that keep the boundaries of messages, beside multiprocessing's own connections."""

from __future__ import annotations

import asyncio
import io
import multiprocessing
import multiprocessing.connection
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import support

from vnet.pipes import Pipe

Ends = Callable[..., tuple[Pipe, Pipe]]


@pytest.fixture
def both(ends: Ends) -> tuple[Pipe, Pipe]:
    return ends(messages=True)


def test_each_message_comes_whole_and_alone(both: tuple[Pipe, Pipe]) -> None:
    a, b = both
    said = [b"one", b"", b"two" * 1000, b"\0", b"last"]
    for each in said:
        a.send_bytes(each)
    assert [b.recv_bytes() for _ in said] == said
    assert not b.poll()


def test_objects_are_pickled(both: tuple[Pipe, Pipe]) -> None:
    a, b = both
    thing = {"numbers": list(range(1000)), "text": "größe", "bytes": bytes(10_000), "nothing": None}
    a.send(thing)
    b.send([thing])
    assert b.recv() == thing
    assert a.recv() == [thing]


def test_a_message_may_be_longer_than_the_pipe(ends: Ends) -> None:
    a, b = ends(messages=True, size=4096)
    big = os.urandom(3_000_000)
    thread = threading.Thread(target=lambda: [a.send_bytes(b"before"), a.send_bytes(big), a.send_bytes(b"after")])
    thread.start()
    assert b.recv_bytes() == b"before"
    assert b.recv_bytes() == big
    assert b.recv_bytes() == b"after"
    thread.join()


def _errors(act: Callable[[], Any]) -> Any:
    try:
        return act()
    except Exception as error:
        return type(error)


# What one does with a connection, the other end being `other`; the oracle is what multiprocessing's does with it.
_ACTS: dict[str, Callable[[Any, Any], Any]] = {
    "offset": lambda end, other: (other.send_bytes(b"0123456789", 4), end.recv_bytes()),
    "part": lambda end, other: (other.send_bytes(b"0123456789", 2, 5), end.recv_bytes()),
    "nothing of it": lambda end, other: (other.send_bytes(b"0123456789", 10), end.recv_bytes()),
    "offset beyond": lambda end, other: other.send_bytes(b"0123", 5),
    "offset negative": lambda end, other: other.send_bytes(b"0123", -1),
    "size beyond": lambda end, other: other.send_bytes(b"0123", 2, 3),
    "size negative": lambda end, other: other.send_bytes(b"0123", 0, -1),
    "text": lambda end, other: other.send_bytes("text"),
    "number": lambda end, other: other.send_bytes(5),
    "array": lambda end, other: (other.send_bytes(memoryview(b"12345678").cast("I")), end.recv_bytes()),
    "unpicklable": lambda end, other: other.send(lambda: 1),
    "negative most": lambda end, other: end.recv_bytes(-1),
    "most": lambda end, other: (other.send_bytes(b"1234"), end.recv_bytes(4)),
    "into offset beyond": lambda end, other: end.recv_bytes_into(bytearray(4), 5),
    "into offset negative": lambda end, other: end.recv_bytes_into(bytearray(4), -1),
    "into too short": lambda end, other: (other.send_bytes(b"12345"), end.recv_bytes_into(bytearray(4))),
    "polled at the end": lambda end, other: (other.close(), end.poll()),
    "end": lambda end, other: (other.send_bytes(b"last"), other.close(), end.recv_bytes(), end.recv_bytes()),
    "object at the end": lambda end, other: (other.close(), end.recv()),
    "sent to nobody": lambda end, other: (other.close(), end.send_bytes(b"x")),
    "is closed": lambda end, other: (end.closed, end.close(), end.closed),
    "can be read and written": lambda end, other: (end.readable if callable(end.readable) else 0, 0)[1],
}


@pytest.mark.parametrize("act", _ACTS)
def test_it_does_what_a_connection_of_multiprocessing_does(both: tuple[Pipe, Pipe], act: str) -> None:
    one, other = multiprocessing.Pipe()
    with one, other:
        expected = _errors(lambda: _ACTS[act](one, other))
    assert _errors(lambda: _ACTS[act](*both)) == expected


def test_a_message_goes_into_a_buffer(both: tuple[Pipe, Pipe]) -> None:
    a, b = both
    buffer = bytearray(b"." * 10)
    a.send_bytes(b"1234")
    assert b.recv_bytes_into(buffer, 3) == 4
    assert buffer == b"...1234..."
    a.send_bytes(b"much too long")
    with pytest.raises(multiprocessing.BufferTooShort) as caught:
        b.recv_bytes_into(buffer)
    assert caught.value.args == (b"much too long",)


def test_a_message_that_is_too_long_is_an_error_and_the_next_is_good(both: tuple[Pipe, Pipe]) -> None:
    a, b = both
    a.send_bytes(b"12345")
    a.send_bytes(b"next")
    with pytest.raises(OSError, match="5 bytes came, and 4"):
        b.recv_bytes(4)
    assert b.recv_bytes(4) == b"next"


def test_polling_waits_for_as_long_as_it_is_told(both: tuple[Pipe, Pipe]) -> None:
    a, b = both
    began = time.monotonic()
    assert b.poll(0.05) is False
    assert time.monotonic() - began >= 0.05
    threading.Timer(0.05, lambda: a.send_bytes(b"x")).start()
    assert b.poll(20) is True
    assert b.poll(None) is True
    assert b.recv_bytes() == b"x"


def test_timeouts_and_not_waiting_apply(ends: Ends) -> None:
    a, b = ends(messages=True, size=4096)
    b.settimeout(0.05)
    with pytest.raises(TimeoutError):
        b.recv_bytes()
    b.setblocking(False)
    with pytest.raises(BlockingIOError):
        b.recv_bytes()
    a.setblocking(False)
    sent = 0
    with pytest.raises(BlockingIOError):
        while True:
            a.send_bytes(bytes([sent]) * 500)
            sent += 1
    # Each whole or not at all.
    for number in range(sent):
        assert b.recv_bytes() == bytes([number]) * 500
    assert not b.poll()


def test_a_pipe_of_messages_is_no_stream(both: tuple[Pipe, Pipe]) -> None:
    a, b = both
    b.send_bytes(b"stays")
    for act in (
        lambda: a.read(1),
        lambda: a.readinto(bytearray(4)),
        lambda: a.write(b"x"),
        a.readall,
        a.readline,
        lambda: a.makefile("rb"),
        a.socket,
    ):
        with pytest.raises(io.UnsupportedOperation, match="messages"):
            act()
    assert a.recv_bytes() == b"stays"
    assert "messages" in repr(a)


def test_multiprocessing_waits_for_many(ends: Ends) -> None:
    pairs = [ends(messages=True) for _ in range(20)]
    readers = [b for _, b in pairs]
    one, other = multiprocessing.Pipe()
    with one, other:
        # Beside its own.
        assert multiprocessing.connection.wait([*readers, one], timeout=0) == []
        pairs[3][0].send(3)
        pairs[17][0].close()
        other.send(1)
        ready = multiprocessing.connection.wait([*readers, one], timeout=10)
        assert sorted(map(id, ready)) == sorted(map(id, [readers[3], readers[17], one]))
        assert readers[3].recv() == 3
        with pytest.raises(EOFError):
            readers[17].recv()
        assert multiprocessing.connection.wait(readers[:10], timeout=0) == []


def test_multiprocessing_authenticates_over_it(
    across: Callable[..., tuple[Pipe, support.Guest]],
) -> None:
    # As multiprocessing.connection.Listener and Client do it: each shows the other that it has the key.
    pipe, other = across(
        """
from multiprocessing import AuthenticationError
from multiprocessing.connection import answer_challenge, deliver_challenge
answer_challenge(pipe, b"secret")
deliver_challenge(pipe, b"secret")
say("both know")
try:
    answer_challenge(pipe, b"wrong")
except AuthenticationError as error:
    say("refused")
pipe.close()
nic.close()
""",
        messages=True,
    )
    from multiprocessing.connection import answer_challenge, deliver_challenge

    deliver_challenge(pipe, b"secret")
    answer_challenge(pipe, b"secret")
    assert other.hear() == "both know"
    with pytest.raises(multiprocessing.AuthenticationError):
        deliver_challenge(pipe, b"secret")
    assert other.hear() == "refused"
    assert other.end()[0] == 0


def test_objects_go_to_another_process_and_back(across: Callable[..., tuple[Pipe, support.Guest]]) -> None:
    # A pool's worker, as one writes it over multiprocessing.Pipe().
    pipe, other = across(
        """
while True:
    try:
        task = pipe.recv()
    except EOFError:
        break
    pipe.send((len(task), sum(task[:100])))
pipe.close()
nic.close()
""",
        messages=True,
    )
    for size in [0, 1, 1000, 5_000_000, 3]:
        data = os.urandom(size)
        pipe.send(data)
        assert pipe.recv() == (size, sum(data[:100]))
    pipe.close()
    assert other.end()[0] == 0


# Tasks


def test_tasks_wait_for_messages_and_let_others_run(both: tuple[Pipe, Pipe]) -> None:
    a, b = both

    async def main() -> list[bytes]:
        waiting = [asyncio.create_task(b.arecv_bytes()) for _ in range(5)]
        await asyncio.sleep(0.05)
        assert not any(each.done() for each in waiting)
        for number in range(5):
            await a.asend_bytes(b"%d" % number)
        return sorted(await asyncio.gather(*waiting))

    assert asyncio.run(main()) == [b"0", b"1", b"2", b"3", b"4"]


def test_a_task_that_is_cancelled_has_taken_nothing(both: tuple[Pipe, Pipe]) -> None:
    a, b = both

    async def main() -> bytes:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(b.arecv_bytes(), 0.05)
        # The loop waits for it no longer.
        assert not asyncio.get_running_loop().remove_reader(b.fileno())
        gone = asyncio.create_task(b.arecv_bytes())
        stays = asyncio.create_task(b.arecv_bytes())
        await asyncio.sleep(0.05)
        gone.cancel()
        a.send_bytes(b"for the other")
        return await stays

    assert asyncio.run(main()) == b"for the other"
    assert not b.poll()


def test_tasks_send_thousands_to_a_slow_reader(ends: Ends) -> None:
    a, b = ends(messages=True, size=4096)

    async def main() -> int:
        async def send() -> None:
            for number in range(3000):
                await a.asend_bytes(b"%05d" % number * 20)

        sending = asyncio.create_task(send())
        for number in range(3000):
            assert await b.arecv_bytes() == b"%05d" % number * 20
        await sending
        a.close()
        with pytest.raises(EOFError):
            await b.arecv_bytes()
        return number

    assert asyncio.run(main()) == 2999


def test_tasks_send_what_is_longer_than_the_pipe(ends: Ends) -> None:
    a, b = ends(messages=True, size=4096)
    big = os.urandom(1_000_000)

    async def main() -> bytes:
        sending = asyncio.create_task(a.asend_bytes(big))
        got = await b.arecv_bytes()
        await sending
        return got

    assert asyncio.run(main()) == big


def test_long_and_short_messages_of_many_tasks_do_not_cut_one_another(ends: Ends) -> None:
    a, b = ends(messages=True, size=4096)
    said = [bytes([number]) * (50_000 if number % 3 == 0 else 10) for number in range(30)]

    async def main() -> list[bytes]:
        sending = asyncio.gather(*(a.asend_bytes(each) for each in said))
        got = [await asyncio.wait_for(b.arecv_bytes(), 30) for _ in said]
        await sending
        return got

    assert asyncio.run(main()) == said


def test_a_long_message_that_is_given_up_was_never_sent(ends: Ends) -> None:
    a, b = ends(messages=True, size=4096)

    async def main() -> bytes:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(a.asend_bytes(bytes(100_000)), 0.05)
        next_one = asyncio.create_task(a.asend_bytes(b"next"))
        got = await asyncio.wait_for(b.arecv_bytes(), 30)
        await next_one
        return got

    assert asyncio.run(main()) == b"next"


@pytest.mark.parametrize("here", [True, False])
def test_tasks_are_told_when_the_pipe_is_closed(both: tuple[Pipe, Pipe], here: bool) -> None:
    _, b = both

    async def main() -> None:
        waiting = [asyncio.create_task(b.arecv_bytes()) for _ in range(3)]
        await asyncio.sleep(0.05)
        if here:
            b.close()
        else:
            await asyncio.to_thread(b.close)
        for each in await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10):
            assert isinstance(each, ValueError)

    asyncio.run(main())
