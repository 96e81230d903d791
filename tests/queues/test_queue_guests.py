"""Work queues between processes: who dies, who stops, who scribbles, and who is left."""

from __future__ import annotations

import os
import random
import select
import signal
import struct
import time
from collections.abc import Callable, Iterator

import pytest
import support

import vnet
from vnet.queues import WorkQueue

# Where in a queue's memory file its lock lies, its first tail, its first head and its first item, as
# bus/src/queue/layout.rs draws it.
_LOCK, _TAIL, _HEAD, _ITEM = 0, 8, 128, 4096

_POSTER = """
with vnet.attach("office", sys.argv[1]) as nic, nic.open_queue(sys.argv[2]) as queue:
    say(queue._token)
    hear()
    number = 0
    while number < int(sys.argv[3]):
        batch = [int(n).to_bytes(8, "big") * 4 for n in range(number, min(number + 37, int(sys.argv[3])))]
        number += queue.post_many(batch, block=True)
        queue.post(sys.argv[1].encode(), 1, block=True)
    say("done")
    hear()
"""

_Start = Callable[..., support.Guest]


@pytest.fixture
def worker(named: vnet.Lan) -> Iterator[vnet.Nic]:
    with named.attach("worker") as nic:
        yield nic


def _token(start: _Start, queue: WorkQueue, name: str, count: int = 0) -> tuple[support.Guest, int]:
    poster = start(_POSTER, name, queue.handle, str(count))
    return poster, int(poster.hear())


def _scribble(queue: WorkQueue, at: int, what: bytes) -> None:
    """As some process of the user's that has the memory."""
    assert queue._file is not None
    os.pwrite(queue._file, what, at)


def test_items_of_many_processes_come_whole_once_and_in_each_ones_order(worker: vnet.Nic, guest: _Start) -> None:
    count = 20_000
    with worker.create_queue(capacity=64, item_size=40, priorities=2) as queue:
        dispatcher = worker.dispatcher()
        numbers: list[int] = []
        urgent: list[bytes] = []

        @dispatcher.on(queue, batch=50)
        def take(items: list[bytes]) -> None:
            for item in items:
                if len(item) == 32:
                    assert item == item[:8] * 4
                    numbers.append(int.from_bytes(item[:8], "big"))
                else:
                    urgent.append(item)

        posters = [guest(_POSTER, name, queue.handle, str(count)) for name in ("one", "two", "three")]
        for poster in posters:
            poster.hear()
        for poster in posters:
            poster.say()
        assert dispatcher.run(timeout=60, limit=3 * count) >= 3 * count
        while dispatcher.run(timeout=0.2):
            pass
        for poster in posters:
            assert poster.hear() == "done"
        assert sorted(numbers) == sorted(list(range(count)) * 3)
        # Split into three rising runs: each number's n-th time is behind its predecessor's n-th time.
        seen = [0] * (count + 1)
        seen[-1] = 3
        for number in numbers:
            seen[number] += 1
            assert number == 0 or seen[number] <= seen[number - 1]
        posted = queue.statistics()
        assert posted.posted == posted.taken == len(numbers) + len(urgent)


def test_whatever_a_killed_poster_had_posted_comes_and_nobody_else_is_kept(worker: vnet.Nic, guest: _Start) -> None:
    """Killed at any moment: what comes of it is the beginning of what it meant to post, and each item is whole."""
    dice = random.Random(7)
    with worker.create_queue(capacity=256, item_size=40, priorities=2) as queue:
        other, _ = _token(guest, queue, "other", 1 << 40)
        other.say()
        for turn in range(support.examples(12)):
            dying, _ = _token(guest, queue, f"dying{turn}", 1 << 40)
            dying.say()
            until = time.monotonic() + dice.uniform(0.0, 0.01)
            while time.monotonic() < until:
                queue.get(timeout=10)
            dying.kill()
            # The other one goes on: more comes of it than can have waited.
            for _ in range(3 * queue.capacity):
                item = queue.get(timeout=10)
                assert len(item) != 32 or item == item[:8] * 4
        other.kill()


def test_the_lock_of_a_dead_poster_is_taken_from_it(worker: vnet.Nic, guest: _Start) -> None:
    with worker.create_queue(item_size=40) as queue, worker.open_queue(queue) as other:
        dying, token = _token(guest, queue, "dying")
        other.post(b"before")
        # It died with the lock in its hand, behind an item half of which is written.
        _scribble(queue, _LOCK, struct.pack("<I", token))
        _scribble(queue, _ITEM + 48, struct.pack("<Q", 30) + b"half")
        with pytest.raises(vnet.QueueFull, match="another poster is stopped in the middle of posting"):
            other.post(b"while it lives")
        dying.kill()
        other.post(b"after", block=True, timeout=10)
        assert [queue.get(timeout=0), queue.get(timeout=0)] == [b"before", b"after"]
        with pytest.raises(vnet.ReceiveTimeout):
            queue.get(timeout=0)


@pytest.mark.parametrize("word", [0x2FFF_FFF0, 0x8000_0000, 0x4000_0000, 1])
def test_a_lock_that_nobody_can_hold_ends_the_queue(worker: vnet.Nic, word: int) -> None:
    with worker.create_queue() as queue, worker.open_queue(queue) as other, worker.create_queue() as whole:
        _scribble(queue, _LOCK, struct.pack("<I", word))
        with pytest.raises(vnet.QueueClosed, match="damaged"):
            other.post(b"x", block=True, timeout=10)
        whole.post(b"works")
        assert whole.get(timeout=0) == b"works"


@pytest.mark.parametrize(("at", "word"), [(_TAIL, 1 << 40), (_TAIL, 2**64 - 1), (_ITEM, 1 << 30)])
def test_a_dispatcher_that_finds_nonsense_gives_up_that_queue_alone(worker: vnet.Nic, at: int, word: int) -> None:
    with worker.create_queue() as queue, worker.create_queue() as whole:
        dispatcher = worker.dispatcher()
        got: list[bytes] = []
        told: list[tuple[str, WorkQueue]] = []
        dispatcher.on_error = lambda error, queue: told.append((str(error), queue))
        for each in (queue, whole):
            dispatcher.on(each)(got.append)
        queue.post(b"x")
        _scribble(queue, at, struct.pack("<Q", word))
        whole.post(b"works")
        dispatcher.run(timeout=0)
        dispatcher.run(timeout=0)
        assert got == [b"works"]
        [(error, of)] = told
        assert "damaged" in error
        assert of is queue
        with pytest.raises(vnet.QueueClosed, match="damaged"):
            queue.post(b"y")


def test_a_poster_that_finds_nonsense_ends_the_queue(worker: vnet.Nic) -> None:
    with worker.create_queue(capacity=2) as queue, worker.open_queue(queue) as other:
        other.post(b"x")
        _scribble(queue, _HEAD, struct.pack("<Q", 1 << 50))
        with pytest.raises(vnet.QueueClosed, match="damaged"):
            other.post_many([b"y", b"z"], block=True)
        with pytest.raises(vnet.QueueClosed, match="damaged"):
            queue.get(timeout=10)


def test_posters_learn_at_once_that_the_dispatcher_was_killed(named: vnet.Lan, guest: _Start) -> None:
    serving = guest(
        """
        nic = vnet.attach("office", "worker")
        queue = nic.create_queue(capacity=2)
        say(queue.handle)
        dispatcher = nic.dispatcher()
        dispatcher.on(queue)(lambda item: time.sleep(600))
        dispatcher.run()
        """.replace("\n        ", "\n")
    )
    with named.attach("poster") as poster, poster.open_queue(serving.hear()) as queue:
        queue.post_many([b"x"] * 3, block=True)
        serving.kill()
        with pytest.raises(vnet.QueueClosed, match="left the LAN or died"):
            # Waits for room, without a limit.
            while True:
                queue.post(b"y", block=True)
        with pytest.raises(vnet.RegionNotFound):
            poster.open_queue(queue.handle)


@pytest.mark.parametrize("killed", [True, False])
def test_both_ends_are_told_that_the_base_has_ended(guest: _Start, killed: bool) -> None:
    base = guest('lan = vnet.Lan("office", "10.0.0.0/24"); say("up"); hear(); lan.close()')
    base.hear()
    worker, poster = vnet.attach("office", "worker"), vnet.attach("office", "poster")
    queue = worker.create_queue(capacity=1)
    other = poster.open_queue(queue)
    dispatcher = worker.dispatcher()
    dispatcher.on(queue)(print)
    descriptor = dispatcher.fileno()
    other.post(b"x")
    if killed:
        base.kill()
    else:
        base.end()
    with pytest.raises(vnet.LanClosed):
        other.post(b"y", block=True)
    with pytest.raises(vnet.LanClosed):
        dispatcher.run()
    # Whoever polls is told, too.
    assert select.select([descriptor], [], [], 10)[0]
    for each in (other, queue, poster, worker):
        each.close()


def test_programs_take_part_as_members_without_a_nic_object(named: vnet.Lan, guest: _Start) -> None:
    program = guest(
        """
        with vnet.attach("office", "worker") as nic, nic.create_queue("jobs", guests=["worker"]) as queue:
            with vnet.member("office", "worker") as member, member.open_queue("jobs") as other:
                other.post_many([b"1", b"2"])
                say(queue.get(timeout=0), queue.get(timeout=0))
                with member.create_queue("own", guests=["worker"]) as own, nic.open_queue("own") as back:
                    back.post(b"3")
                    say(own.get(timeout=0))
            hear()
        """.replace("\n        ", "\n")
    )
    assert [program.hear(), program.hear()] == ["b'1' b'2'", "b'3'"]


def test_a_forked_child_uses_nothing_of_its_parents(worker: vnet.Nic) -> None:
    with worker.create_queue() as queue, worker.open_queue(queue) as other:
        dispatcher = worker.dispatcher()
        dispatcher.on(queue)(print)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            said = []
            for call in (lambda: other.post(b"x"), lambda: dispatcher.run(timeout=0), dispatcher.start, queue.get):
                try:
                    call()
                    said.append("nothing")
                except BaseException as error:
                    said.append(type(error).__name__)
            for each in (other, queue):
                each.close()
            os.write(writing, ",".join(said).encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            assert pipe.read() == "ForkedNic,ForkedNic,ForkedNic,ForkedNic"
        os.waitpid(child, 0)
        other.post(b"still works")
        assert dispatcher.run(timeout=0) == 1


def test_a_signal_interrupts_whoever_waits(worker: vnet.Nic, guest: _Start) -> None:
    waits = guest(
        """
        nic = vnet.attach("office", "waits")
        queue = nic.create_queue(capacity=1)
        queue.post(b"x")
        for call in (lambda: queue.post(b"y", block=True), lambda: (queue.get(), nic.dispatcher().run())):
            say("waiting")
            try:
                call()
            except KeyboardInterrupt:
                say("interrupted")
        """.replace("\n        ", "\n")
    )
    for _ in range(2):
        assert waits.hear() == "waiting"
        time.sleep(0.05)
        os.kill(waits.pid, signal.SIGINT)
        assert waits.hear() == "interrupted"


def test_nothing_is_left_of_queues(named: vnet.Lan, guest: _Start) -> None:
    """Neither in the base nor at the guests, whether they were closed, dropped or their guest was killed."""
    with named.attach("worker") as worker:
        worker.dispatcher()
        with worker.create_queue() as queue, worker.open_queue(queue):
            pass
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            with worker.create_queue("jobs") as queue, worker.open_queue(queue) as other:
                worker.dispatcher().on(queue, view=True)(bytes)
                other.post(b"x")
                worker.dispatcher().run(timeout=0)
            dropped = worker.create_queue("jobs")
            worker.open_queue(dropped)
            del dropped
        for _ in range(3):
            dying = guest('n = vnet.attach("office", "d"); q = n.create_queue("of-d", guests=["d"]); say("up"); hear()')
            dying.hear()
            dying.kill()
            dying.release()
        assert support.eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)
