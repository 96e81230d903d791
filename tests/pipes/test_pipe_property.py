"""Whatever is written, read, ended and closed, in any order: a pipe is a plain byte string each way."""

from __future__ import annotations

import hashlib
import io
import json
import random
import select
import threading
from collections.abc import Callable
from typing import Any

import pytest
import support
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from vnet.pipes import Pipe, pair

SIDES = st.sampled_from([0, 1])
# Else there would be little between the beginning and the end.
SELDOM = st.sampled_from([False, False, False, True])


class _Way:
    """One direction, as a plain byte string."""

    def __init__(self) -> None:
        self.waiting = b""
        # The writer shut it or closed; the reader shut it or closed.
        self.ended = False
        self.unread = False


class Streams(RuleBasedStateMachine):
    """Both ends in one process, neither of which waits; the model is a byte string for each direction."""

    @initialize(size=st.sampled_from([4096, 8192, 65536]), polled=st.tuples(st.booleans(), st.booleans()))
    def begin(self, size: int, polled: tuple[bool, bool]) -> None:
        self.ends = pair(size=size)
        self.size = size
        self.ways = _Way(), _Way()  # what side 0 writes, and side 1
        # Those whose descriptor was asked for, from when on it is kept up to date.
        self.polled = {side for side in (0, 1) if polled[side]}
        for side, end in enumerate(self.ends):
            end.setblocking(False)
            if side in self.polled:
                end.fileno()

    def out(self, side: int) -> _Way:
        return self.ways[side]

    def into(self, side: int) -> _Way:
        return self.ways[1 - side]

    @rule(side=SIDES, data=st.binary(max_size=300), times=st.sampled_from([1, 1, 2, 50, 1000]))
    def write(self, side: int, data: bytes, times: int) -> None:
        end, way = self.ends[side], self.out(side)
        data *= times
        if end.closed:
            with pytest.raises(ValueError, match="closed"):
                end.write(data)
            return
        try:
            written = end.write(data)
        except BrokenPipeError:
            assert way.ended or way.unread
            return
        if data:
            assert not way.ended
            assert not way.unread
        # None, or as much as there is room for: all of it where it fits.
        room = self.size - len(way.waiting)
        assert (written or 0) <= min(len(data), room)
        assert (written is None) == (bool(data) and room == 0)
        if written:
            assert written == min(len(data), room)
            way.waiting += data[:written]

    @rule(side=SIDES, count=st.integers(0, 100_000), how=st.sampled_from(["read", "readinto", "peek", "readline"]))
    def read(self, side: int, count: int, how: str) -> None:
        end, way = self.ends[side], self.into(side)
        if end.closed:
            with pytest.raises(ValueError, match="closed"):
                end.read(count)
            return
        expected: bytes | None = way.waiting[:count]
        if way.unread:
            expected = b""
        elif not expected and count and not way.ended:
            expected = None
        if how == "peek":
            peeked = end.peek(count)
            assert peeked == (b"" if way.unread else way.waiting[: len(peeked)])
            assert bool(peeked) == (bool(way.waiting) and not way.unread)
            return
        if how == "readline" and not way.unread:
            expected = io.BytesIO(way.waiting).readline(count) or (expected if count else b"")
        if how in ("read", "readline"):
            got = getattr(end, how)(count)
        else:
            buffer = bytearray(count)
            taken = end.readinto(buffer)
            got = None if taken is None else bytes(buffer[:taken])
        assert got == expected
        if got:
            way.waiting = way.waiting[len(got) :]

    @rule(side=SIDES)
    def read_all(self, side: int) -> None:
        end, way = self.ends[side], self.into(side)
        if end.closed or way.unread:
            return
        assert end.readall() == (way.waiting or (b"" if way.ended else None))
        way.waiting = b""

    @rule(side=SIDES, really=SELDOM)
    def shut_write(self, side: int, really: bool) -> None:
        if really and not self.ends[side].closed:
            self.ends[side].shut_write()
            self.out(side).ended = True

    @rule(side=SIDES, really=SELDOM)
    def shut_read(self, side: int, really: bool) -> None:
        if really and not self.ends[side].closed:
            self.ends[side].shut_read()
            self.into(side).unread = True

    @rule(side=SIDES)
    def ask_for_the_descriptor(self, side: int) -> None:
        if not self.ends[side].closed:
            self.ends[side].fileno()
            self.polled.add(side)

    @rule(side=SIDES, really=SELDOM)
    def close(self, side: int, really: bool) -> None:
        if really:
            self.ends[side].close()
            self.out(side).ended = True
            self.into(side).unread = True

    @invariant()
    def it_tells_what_waits(self) -> None:
        if not hasattr(self, "ends"):
            return
        for side, end in enumerate(self.ends):
            if end.closed:
                continue
            way = self.into(side)
            if not way.unread:
                assert end.available() == len(way.waiting)
                assert end.poll() == bool(way.waiting or way.ended)

    @invariant()
    def its_descriptor_tells_the_same(self) -> None:
        if not hasattr(self, "ends"):
            return
        for side in self.polled:
            end = self.ends[side]
            if end.closed:
                continue
            poll = select.poll()
            poll.register(end.fileno(), select.POLLIN | select.POLLOUT)
            events = dict(poll.poll(0)).get(end.fileno(), 0)
            to, out = self.into(side), self.out(side)
            assert bool(events & select.POLLIN) == bool(to.waiting or to.ended or to.unread)
            if out.unread or not out.waiting:
                assert events & select.POLLOUT
            elif len(out.waiting) == self.size:
                assert not events & select.POLLOUT

    def teardown(self) -> None:
        for end in getattr(self, "ends", ()):
            end.close()


TestStreams = Streams.TestCase
TestStreams.settings = settings(
    max_examples=support.examples(60),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@settings(max_examples=support.examples(40), deadline=None)
@given(
    messages=st.lists(st.one_of(st.binary(max_size=200), st.integers(0, 30_000).map(bytes)), max_size=30),
    size=st.sampled_from([4096, 65536]),
)
def test_messages_are_a_list_of_byte_strings(messages: list[bytes], size: int) -> None:
    a, b = pair(messages=True, size=size)
    with a, b:

        def send() -> None:
            for each in messages:
                a.send_bytes(each)
            a.close()

        thread = threading.Thread(target=send)
        thread.start()
        got = []
        with pytest.raises(EOFError):
            while True:
                got.append(b.recv_bytes())
        thread.join()
        assert got == messages


# How one side writes: pieces of so many bytes, and what of the io module it goes through; how it reads likewise.
_SIDE = st.fixed_dictionaries(
    {
        "pieces": st.lists(st.sampled_from([1, 7, 100, 4095, 4096, 4097, 20_000, 100_000]), max_size=12),
        "reads": st.lists(st.sampled_from([1, 10, 1000, 4096, 70_000]), min_size=1, max_size=5),
        "buffered": st.booleans(),
        "polled": st.booleans(),
        "half_close": st.booleans(),
    }
)

_RUN = """
def run(pipe, plan, seed):
    # Writes the plan's pieces in one thread, reads to the end in the other; digests of both.
    import hashlib, io, random, select, threading
    data = random.Random(seed).randbytes(sum(plan["pieces"]))
    def write():
        file = pipe.makefile("wb", 5000) if plan["buffered"] else pipe
        at = 0
        for piece in plan["pieces"]:
            file.write(data[at:at + piece])
            at += piece
        if plan["buffered"]:
            file.close()
        pipe.shut_write()
    writer = threading.Thread(target=write)
    writer.start()
    digest, count, turn = hashlib.sha256(), 0, 0
    file = pipe.makefile("rb", 3000) if plan["buffered"] else pipe
    while True:
        if plan["polled"] and not plan["buffered"]:
            select.select([pipe], [], [])
        piece = file.read(plan["reads"][turn % len(plan["reads"])])
        turn += 1
        if not piece:
            break
        digest.update(piece)
        count += len(piece)
    writer.join()
    if file is not pipe:
        file.close()
    return [count, digest.hexdigest()]
"""
_names: dict[str, Any] = {}
exec(_RUN, _names)


def test_two_processes_read_what_the_other_wrote(named: Any, guest: Callable[..., support.Guest]) -> None:
    with named.attach("host") as host, host.listen("svc") as listener:
        other = guest(
            "import json\n"
            + _RUN
            + """
nic = vnet.attach("office", "b")
for line in sys.stdin:
    plan, size, seed = json.loads(line)
    with nic.connect("host", "svc", size=size) as pipe:
        say(json.dumps(run(pipe, plan, seed)))
nic.close()
"""
        )

        @settings(max_examples=support.examples(40), deadline=None)
        @given(ours=_SIDE, theirs=_SIDE, size=st.sampled_from([4096, 16384, 1 << 20]), seed=st.integers(0, 1000))
        def agree(ours: dict[str, Any], theirs: dict[str, Any], size: int, seed: int) -> None:
            other.say(json.dumps([theirs, size, seed]))
            with listener.accept(20) as pipe:
                got = _names["run"](pipe, ours, seed + 1)
                heard = json.loads(other.hear())
            assert got == _digest(theirs, seed)
            assert heard == _digest(ours, seed + 1)

        agree()
        assert other.end()[0] == 0


def _digest(plan: dict[str, Any], seed: int) -> list[Any]:
    data = random.Random(seed).randbytes(sum(plan["pieces"]))
    return [len(data), hashlib.sha256(data).hexdigest()]


def test_interleavings_of_threads_keep_both_directions_whole() -> None:
    # Buffered and raw, in small rings, with both ends busy in both directions.
    for size in (4096, 16384):
        a, b = pair(size=size)
        with a, b:
            results: dict[Pipe, Any] = {}
            plans = {
                a: {"pieces": [1, 4096, 4097, 100_000, 3] * 20, "reads": [10, 4096], "buffered": False, "polled": True},
                b: {"pieces": [7, 20_000] * 40, "reads": [1000, 1, 70_000], "buffered": True, "polled": False},
            }

            def run(pipe: Pipe, seed: int) -> None:
                results[pipe] = _names["run"](pipe, plans[pipe], seed)  # noqa: B023

            threads = [threading.Thread(target=run, args=(pipe, seed)) for seed, pipe in enumerate((a, b))]
            for each in threads:
                each.start()
            for each in threads:
                each.join()
            assert results == {a: _digest(plans[b], 1), b: _digest(plans[a], 0)}
