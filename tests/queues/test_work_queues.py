"""Work queues in one process: order, priorities, room, handlers, and what goes wrong."""

from __future__ import annotations

import asyncio
import logging
import select
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest
import support
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vnet
from vnet.queues import Dispatcher, WorkQueue


@pytest.fixture
def pair(lan: vnet.Lan) -> Iterator[tuple[vnet.Nic, vnet.Nic]]:
    """A guest that works and one that posts."""
    with lan.attach("worker") as worker, lan.attach("poster") as poster:
        yield worker, poster


def _collect(dispatcher: Dispatcher, queue: WorkQueue, **how: Any) -> list[Any]:
    got: list[Any] = []
    dispatcher.on(queue, **how)(got.append)
    return got


def test_items_come_in_the_order_in_which_they_were_posted(pair: tuple[vnet.Nic, vnet.Nic]) -> None:
    worker, poster = pair
    with worker.create_queue() as queue, poster.open_queue(queue.handle) as other:
        dispatcher = worker.dispatcher()
        got = _collect(dispatcher, queue)
        items = [bytes([n]) * n for n in range(100)]
        for item in items:
            other.post(item)
        assert dispatcher.run(timeout=0) == 100
        assert got == items


def test_the_more_urgent_come_first_however_late(pair: tuple[vnet.Nic, vnet.Nic]) -> None:
    worker, poster = pair
    with worker.create_queue(priorities=8) as queue, poster.open_queue(queue) as other:
        dispatcher = worker.dispatcher()
        got: list[bytes] = []

        @dispatcher.on(queue)
        def take(item: bytes) -> None:
            got.append(item)
            if item == b"first":
                # While a handler runs: it comes next, before all that waited.
                other.post(b"most urgent", priority=7)

        other.post(b"least", 0)
        other.post(b"first", 3)
        other.post(b"second", 3)
        dispatcher.run(limit=4)
        assert got == [b"first", b"most urgent", b"second", b"least"]


@settings(max_examples=support.examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.binary(max_size=20)), max_size=60))
def test_a_queue_is_a_bounded_deque_for_each_priority(
    pair: tuple[vnet.Nic, vnet.Nic], acts: list[tuple[int, int, bytes]]
) -> None:
    worker, poster = pair
    model: list[deque[bytes]] = [deque(), deque(), deque()]
    with worker.create_queue(capacity=3, item_size=20, priorities=3) as queue, poster.open_queue(queue) as other:
        for act, priority, item in acts:
            waiting = model[priority]
            if act < 3:
                try:
                    other.post(item, priority)
                except vnet.QueueFull:
                    assert len(waiting) == 3
                else:
                    waiting.append(item)
                    assert len(waiting) <= 3
            elif act == 3:
                taken = other.post_many([item] * 3, priority)
                assert taken == 3 - len(waiting)
                waiting.extend([item] * taken)
            else:
                expected = next((each.popleft() for each in reversed(model) if each), None)
                try:
                    assert queue.get(timeout=0) == expected
                except vnet.ReceiveTimeout:
                    assert expected is None
            assert queue.statistics().depth == tuple(len(each) for each in model)


def test_a_full_queue_refuses_or_is_waited_for(pair: tuple[vnet.Nic, vnet.Nic]) -> None:
    worker, poster = pair
    with worker.create_queue(capacity=2) as queue, poster.open_queue(queue) as other:
        assert other.post_many([b"1", b"2", b"3"]) == 2
        with pytest.raises(vnet.QueueFull, match="2 items of this priority wait"):
            other.post(b"3")
        start = time.monotonic()
        with pytest.raises(vnet.QueueFull):
            other.post(b"3", block=True, timeout=0.05)
        assert time.monotonic() - start >= 0.05
        assert other.post_many([b"3"], block=True, timeout=0.01) == 0
        assert other.statistics().refused == 4
        posting = threading.Thread(target=other.post_many, args=([b"3", b"4", b"5"],), kwargs={"block": True})
        posting.start()
        # Each that is taken lets one in.
        assert [queue.get(timeout=5) for _ in range(5)] == [b"1", b"2", b"3", b"4", b"5"]
        posting.join()


def test_nobody_is_interrupted_while_busy(pair: tuple[vnet.Nic, vnet.Nic]) -> None:
    """One interrupt for the item that came to an idle dispatcher, none for those that came while its handler ran."""
    worker, poster = pair
    with worker.create_queue() as queue, poster.open_queue(queue) as other, worker.dispatcher() as dispatcher:
        dispatcher.set_spin("never")
        running, go_on, got = threading.Event(), threading.Event(), []

        @dispatcher.on(queue)
        def take(item: bytes) -> None:
            got.append(item)
            running.set()
            go_on.wait(10)

        dispatcher.start()
        assert support.eventually(lambda: dispatcher._desk.native.idle)
        other.post(b"wakes")
        assert running.wait(5)
        for _ in range(500):
            other.post(b"waits")
        counted = other.statistics()
        assert (counted.posted, counted.interrupts, counted.saved) == (501, 1, 500)
        go_on.set()
        assert support.eventually(lambda: len(got) == 501)
        assert other.statistics().interrupts == 1


def test_one_dispatcher_sleeps_on_one_bell_for_all_its_queues(pair: tuple[vnet.Nic, vnet.Nic]) -> None:
    worker, poster = pair
    with worker.create_queue() as one, worker.create_queue() as other, worker.dispatcher() as dispatcher:
        dispatcher.set_spin("never")
        running, go_on, got = threading.Event(), threading.Event(), []

        def take(item: bytes) -> None:
            got.append(item)
            running.set()
            go_on.wait(10)

        for queue in (one, other):
            dispatcher.on(queue)(take)
        dispatcher.start()
        assert support.eventually(lambda: dispatcher._desk.native.idle)
        with poster.open_queue(one) as first, poster.open_queue(other) as second:
            first.post(b"first")
            assert running.wait(5)
            second.post(b"second")
            go_on.set()
            assert support.eventually(lambda: len(got) == 2)
            assert (first.statistics().interrupts, second.statistics().interrupts) == (1, 0)


def test_a_handler_that_fails_is_told_of_and_ends_nothing(
    pair: tuple[vnet.Nic, vnet.Nic], caplog: pytest.LogCaptureFixture
) -> None:
    worker, poster = pair
    with worker.create_queue("jobs", guests=["poster"]) as queue, poster.open_queue("jobs") as other:
        dispatcher = worker.dispatcher()
        got = []

        @dispatcher.on(queue)
        def take(item: bytes) -> None:
            if item == b"bad":
                raise ValueError("cannot do this one")
            got.append(item)

        other.post_many([b"good", b"bad", b"better"])
        with caplog.at_level(logging.ERROR, "vnet.queues"):
            assert dispatcher.run(timeout=0) == 3
        assert got == [b"good", b"better"]
        assert "jobs" in caplog.text
        assert "cannot do this one" in caplog.text
        told: list[tuple[Exception, WorkQueue]] = []
        dispatcher.on_error = lambda error, queue: told.append((error, queue))
        other.post(b"bad")
        dispatcher.run(timeout=0)
        [(error, of)] = told
        assert isinstance(error, ValueError)
        assert of is queue
        # Not even what tells of errors ends it.
        dispatcher.on_error = lambda error, queue: 1 / 0
        other.post_many([b"bad", b"good"])
        assert dispatcher.run(timeout=0) == 2
        # What was logged holds tracebacks, and they the LAN.
        caplog.clear()


def test_batches_are_lists_of_one_priority(pair: tuple[vnet.Nic, vnet.Nic]) -> None:
    worker, poster = pair
    with worker.create_queue(priorities=2) as queue, poster.open_queue(queue) as other:
        dispatcher = worker.dispatcher()
        got = _collect(dispatcher, queue, batch=4)
        other.post_many([bytes([n]) for n in range(6)])
        other.post_many([b"urgent", b"too"], priority=1)
        assert dispatcher.run(timeout=0) == 8
        assert got == [[b"urgent", b"too"], [b"\0", b"\1", b"\2", b"\3"], [b"\4", b"\5"]]
        other.post_many([b"x"] * 3)
        assert dispatcher.run(limit=2) == 2
        dispatcher.run(timeout=0)
        assert got[3:] == [[b"x", b"x"], [b"x"]]


def test_a_view_shows_the_item_where_it_lies_until_the_handler_returns(pair: tuple[vnet.Nic, vnet.Nic]) -> None:
    worker, poster = pair
    with worker.create_queue(capacity=1, item_size=5000) as queue, poster.open_queue(queue) as other:
        dispatcher = worker.dispatcher()
        kept, got = [], []

        @dispatcher.on(queue, view=True)
        def take(item: memoryview) -> None:
            assert item.readonly
            got.append(bytes(item))
            kept.append(item)
            with pytest.raises(vnet.QueueFull):
                # Its place is not free yet.
                other.post(b"too early")

        for item in (b"one" * 1000, b""):
            other.post(item)
            assert dispatcher.run(timeout=0) == 1
        assert got == [b"one" * 1000, b""]
        for view in kept:
            with pytest.raises(ValueError, match="released"):
                bytes(view)


def test_selectors_see_work_on_a_descriptor(pair: tuple[vnet.Nic, vnet.Nic]) -> None:
    worker, poster = pair
    with worker.create_queue() as queue, poster.open_queue(queue) as other:
        dispatcher = worker.dispatcher()
        got = _collect(dispatcher, queue)

        def readable(timeout: float = 0) -> bool:
            return bool(select.select([dispatcher], [], [], timeout)[0])

        assert not readable()
        other.post(b"one")
        assert readable(5)
        other.post(b"two")
        assert dispatcher.run(timeout=0, limit=1) == 1
        assert readable()
        assert dispatcher.run(timeout=0) == 1
        assert not readable()
        assert got == [b"one", b"two"]
        # Taken by other means, the descriptor still tells of what comes after.
        dispatcher.off(queue)
        other.post(b"three")
        assert queue.get(timeout=0) == b"three"
        dispatcher.on(queue)(got.append)
        dispatcher.run(timeout=0)
        other.post(b"four")
        assert readable(5)
        # One interrupt each time that it waited: for the first, the third and the fourth.
        assert other.statistics().interrupts == 3


def test_an_event_loop_serves_queues_with_async_handlers(pair: tuple[vnet.Nic, vnet.Nic]) -> None:
    worker, poster = pair
    with worker.create_queue() as queue, worker.create_queue() as plain, poster.open_queue(queue) as other:
        dispatcher = worker.dispatcher()
        got: list[bytes] = []
        dispatcher.on(plain)(got.append)

        @dispatcher.on(queue)
        async def take(item: bytes) -> None:
            await asyncio.sleep(0.001)
            got.append(item)

        async def work() -> int:
            with poster.open_queue(plain) as to_plain:
                running = asyncio.create_task(dispatcher.arun(limit=12))
                for n in range(10):
                    await asyncio.to_thread(other.post, bytes([n]), block=True)
                await asyncio.to_thread(to_plain.post_many, [b"a", b"b"])
                return await asyncio.wait_for(running, 10)

        assert asyncio.run(work()) == 12
        assert [item for item in got if item < b"a"] == [bytes([n]) for n in range(10)]
        assert [item for item in got if item >= b"a"] == [b"a", b"b"]
        # And a plain run says what to do instead.
        told: list[Exception] = []
        dispatcher.on_error = lambda error, _queue: told.append(error)
        other.post(b"x")
        dispatcher.run(timeout=0)
        assert "arun" in str(told[0])


def test_arun_stops_and_times_out(pair: tuple[vnet.Nic, vnet.Nic]) -> None:
    worker, _ = pair
    with worker.create_queue() as queue:
        dispatcher = worker.dispatcher()
        dispatcher.on(queue)(print)

        async def work() -> tuple[int, int, int]:
            none = await dispatcher.arun(timeout=0)
            short = await dispatcher.arun(timeout=0.02)
            running = asyncio.create_task(dispatcher.arun())
            await asyncio.sleep(0.01)
            dispatcher.stop()
            return none, short, await asyncio.wait_for(running, 5)

        assert asyncio.run(work()) == (0, 0, 0)


def test_a_guest_without_a_dispatcher_takes_items_one_by_one(pair: tuple[vnet.Nic, vnet.Nic]) -> None:
    worker, poster = pair
    with worker.create_queue("mail", guests=["poster"]), poster.open_queue("mail") as other:
        assert not other.mine
        assert other.owner == "worker"
        with pytest.raises(ValueError, match="worked on by worker"):
            other.get()
    queue = worker.create_queue()
    with poster.open_queue(queue) as other, queue:
        with pytest.raises(vnet.ReceiveTimeout):
            queue.get(timeout=0.01)
        got: list[bytes] = []
        taking = threading.Thread(target=lambda: got.extend(queue))
        taking.start()
        other.post_many([b"1", b"2"])
        assert support.eventually(lambda: got == [b"1", b"2"])
        # A second one at the desk is told, rather than left asleep.
        with pytest.raises(vnet.VnetError, match="works on the queues of worker already"):
            worker.dispatcher().run(timeout=0)
        queue.close()
        taking.join(5)
        assert not taking.is_alive()


def test_a_queue_that_is_closed_is_closed_to_all_at_once(pair: tuple[vnet.Nic, vnet.Nic]) -> None:
    worker, poster = pair
    queue = worker.create_queue(capacity=1)
    with poster.open_queue(queue) as other:
        other.post(b"fills it")
        failed: list[Exception] = []

        def post() -> None:
            try:
                other.post(b"waits", block=True)
            except vnet.VnetError as error:
                failed.append(error)

        waiting = [threading.Thread(target=post) for _ in range(3)]
        for thread in waiting:
            thread.start()
        queue.close()
        for thread in waiting:
            thread.join(5)
        assert [type(error) for error in failed] == [vnet.QueueClosed] * 3
        with pytest.raises(vnet.QueueClosed, match="was closed by the guest"):
            other.post(b"late")
        with pytest.raises(vnet.QueueClosed):
            other.post_many([b"late"])
        with pytest.raises(vnet.RegionNotFound):
            poster.open_queue(queue)
        with pytest.raises(ValueError, match="closed here"):
            queue.post(b"x")
        queue.close()


def test_a_guest_that_leaves_ends_its_queues_and_its_dispatcher(lan: vnet.Lan) -> None:
    with lan.attach("poster") as poster:
        worker = lan.attach("worker")
        queue = worker.create_queue()
        dispatcher = worker.dispatcher()
        dispatcher.on(queue)(print)
        dispatcher.start()
        other = poster.open_queue(queue)
        worker.close()
        with pytest.raises(vnet.QueueClosed, match="left the LAN or died"):
            other.post(b"x")
        dispatcher.stop(5)
        with pytest.raises(vnet.NicClosed):
            dispatcher.run(timeout=0)
        with pytest.raises(vnet.NicClosed):
            queue.post(b"x")
        # And a poster that is off the LAN posts no more.
        queue = poster.create_queue()
        other = poster.open_queue(queue)
        poster.close()
        with pytest.raises(vnet.NicClosed):
            other.post(b"x")


def test_the_end_of_the_lan_is_told_to_all() -> None:
    lan = vnet.Lan(None, "10.0.0.0/24")
    worker, poster = lan.attach("worker"), lan.attach("poster")
    queue = worker.create_queue(capacity=1)
    other = poster.open_queue(queue)
    other.post(b"x")
    told: list[BaseException] = []

    def catch(call: Any, *arguments: Any, **settings: Any) -> threading.Thread:
        def run() -> None:
            try:
                call(*arguments, **settings)
            except vnet.VnetError as error:
                told.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    dispatcher = worker.dispatcher()
    waiting = [catch(other.post, b"y", block=True), catch(dispatcher.run)]
    assert support.eventually(lambda: dispatcher._desk.native.idle)
    lan.close()
    for thread in waiting:
        thread.join(5)
    assert {type(error) for error in told} <= {vnet.LanClosed, vnet.NicClosed}
    assert len(told) == 2
    with pytest.raises((vnet.LanClosed, vnet.NicClosed)):
        other.post(b"late")
    for each in (queue, other, worker, poster):
        each.close()


def test_only_those_whom_the_list_names_may_post(lan: vnet.Lan) -> None:
    with lan.attach("worker") as worker, lan.attach("friend") as friend, lan.attach("other") as other:
        named = worker.create_queue("jobs", guests=["friend"])
        assert friend.open_queue("jobs").handle == friend.open_queue(named.handle).handle == named.handle
        for wanted in ("jobs", named.handle):
            with pytest.raises(vnet.NotPermitted, match="friend"):
                other.open_queue(wanted)
        # Whoever has the handle, but not whoever can spell the name.
        open_to_all = worker.create_queue("open")
        assert other.open_queue(open_to_all.handle).name == "open"
        with pytest.raises(vnet.NotPermitted, match="whoever has its handle"):
            other.open_queue("open")
        with pytest.raises(vnet.NameTaken):
            other.create_queue("jobs")
        for unknown in ("nothing", "0" * 32, "", "x" * 10_000):
            with pytest.raises(vnet.RegionNotFound):
                other.open_queue(unknown)


def test_bad_arguments_are_named(pair: tuple[vnet.Nic, vnet.Nic]) -> None:
    worker, poster = pair
    for settings_, said in [
        ({"capacity": 0}, "1 to 16777216 items"),
        ({"capacity": 1 << 40}, "less than 2\\*\\*32"),
        ({"capacity": -1}, "at least 1"),
        ({"item_size": 0}, "1 to 16777216 bytes, not 0"),
        ({"priorities": 9}, "1 to 8 priorities, not 9"),
        ({"name": "no such/name"}, "name"),
    ]:
        with pytest.raises(ValueError, match=said):
            worker.create_queue(**settings_)  # type: ignore[arg-type]
    for settings_ in ({"capacity": "many"}, {"priorities": True}, {"guests": "alice"}, {"name": 7}):
        with pytest.raises(TypeError):
            worker.create_queue(**settings_)  # type: ignore[arg-type]
    with pytest.raises(vnet.MachineLacks, match="more than this machine's memory"):
        worker.create_queue(capacity=1 << 24, item_size=1 << 24)
    with worker.create_queue(item_size=10, priorities=2) as queue, poster.open_queue(queue) as other:
        with pytest.raises(
            ValueError, match="an item of 11 bytes does not fit: those of the queue of worker have at most 10"
        ):
            other.post(b"x" * 11)
        with pytest.raises(ValueError, match="priorities 0 to 1, not 2"):
            other.post(b"x", 2)
        with pytest.raises(ValueError, match="not -1"):
            other.post_many([b"x"], -1)
        with pytest.raises(ValueError, match="priorities 0 to 1"):
            other.post(b"x", 1 << 70)
        with pytest.raises(TypeError, match="bytes-like, not str"):
            other.post("text")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="bytes-like, not int"):
            other.post(3)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="not one bytes object"):
            other.post_many(b"items")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="timeout"):
            other.post(b"x", block=True, timeout=-1)
        with pytest.raises(ValueError, match="11 bytes"):
            # None is left of items one of which is too large.
            other.post_many([b"fits", b"x" * 11])
        assert other.statistics().posted == 0
        for item in (bytearray(b"abc"), memoryview(b"abc"), memoryview(b"aXbXc")[::2]):
            other.post(item)
        assert [queue.get(timeout=0) for _ in range(3)] == [b"abc"] * 3
        dispatcher = worker.dispatcher()
        with pytest.raises(ValueError, match="this is the dispatcher of worker"):
            dispatcher.on(other)
        with pytest.raises(TypeError):
            dispatcher.on("queue")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="not both"):
            dispatcher.on(queue, batch=True, view=True)
        dispatcher.on(queue)(print)
        with pytest.raises(ValueError, match="has a handler already"):
            dispatcher.on(queue)(print)
        with pytest.raises(ValueError, match="served by the dispatcher"):
            queue.get(timeout=0)
        with pytest.raises(ValueError, match="limit"):
            dispatcher.run(limit=0)
        with pytest.raises(ValueError, match="timeout"):
            dispatcher.run(timeout=-1)
        assert worker.dispatcher() is dispatcher


def test_queues_of_guests_without_a_nic_object(lan: vnet.Lan) -> None:
    """Built-in hosts share as well as programs do."""
    host = lan.host("disk")
    with (
        lan.attach("client") as client,
        host.create_queue("requests", guests=["client"]) as queue,
        client.open_queue("requests") as other,
        host.dispatcher() as dispatcher,
    ):
        got = _collect(dispatcher, queue)
        dispatcher.start()
        other.post(b"read 7")
        assert support.eventually(lambda: got == [b"read 7"])


def test_a_queue_that_its_view_handler_closes_or_leaves_gives_no_item_twice(pair: tuple[vnet.Nic, vnet.Nic]) -> None:
    worker, poster = pair
    with worker.create_queue() as queue, poster.open_queue(queue) as other:
        dispatcher = worker.dispatcher()
        got: list[bytes] = []

        def take(item: memoryview) -> None:
            got.append(bytes(item))
            dispatcher.off(queue)

        for _ in range(2):
            dispatcher.on(queue, view=True)(take)
            other.post(b"%d" % len(got))
            dispatcher.run(timeout=0)
        assert got == [b"0", b"1"]
        dispatcher.on(queue, view=True)(lambda item: queue.close())
        other.post(b"last")
        assert dispatcher.run(timeout=0) == 1


def test_whoever_left_the_lan_posts_no_more(lan: vnet.Lan) -> None:
    """Guests without a NIC object here, too."""
    with lan.attach("worker") as worker, worker.create_queue() as queue:
        host = lan.host("poster")
        other = host.open_queue(queue)
        other.post(b"x")
        host.close()
        with pytest.raises(vnet.NicClosed):
            other.post(b"y")
        with pytest.raises(vnet.NicClosed):
            other.post_many([b"y"])
        other.close()
