"""Receiving: one, many, in place; with timeouts, in selectors and in asyncio."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import select
import selectors
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import datagram, sized

import vnet
from vnet import Verdict


def _pair(lan: vnet.Lan, **settings: int) -> tuple[vnet.Nic, vnet.Nic]:
    return lan.attach("a"), lan.attach("b", **settings)


def _numbered(number: int) -> bytes:
    return datagram("10.0.0.1", "10.0.0.2", number.to_bytes(4, "big"))


def _number(data: bytes) -> int:
    return int.from_bytes(data[20:24], "big")


def _receive(nic: vnet.Nic, timeout: float | None) -> object:
    return nic.recv(timeout=timeout)


def _receive_many(nic: vnet.Nic, timeout: float | None) -> object:
    return nic.recv_many(timeout=timeout)


def _view(nic: vnet.Nic, timeout: float | None) -> object:
    with nic.recv_view(timeout=timeout) as view:
        return bytes(view)


ways = pytest.mark.parametrize("receive", [_receive, _receive_many, _view], ids=lambda way: way.__name__.strip("_"))
polled = pytest.mark.parametrize("polled", [False, True], ids=["sleeping", "polled"])
Receive = Callable[[vnet.Nic, "float | None"], object]


@ways
@polled
def test_a_timeout_is_kept(lan: vnet.Lan, receive: Receive, polled: bool) -> None:
    _, b = _pair(lan)
    if polled:
        b.fileno()
    for timeout in (0, 0.0, 0.005, 0.15):
        started = time.monotonic()
        with pytest.raises(vnet.ReceiveTimeout) as caught:
            receive(b, timeout)
        took = time.monotonic() - started
        assert isinstance(caught.value, TimeoutError)
        assert timeout <= took < timeout + 0.1


@ways
def test_a_timeout_that_is_none_is_refused(lan: vnet.Lan, receive: Receive) -> None:
    _, b = _pair(lan)
    for wrong in (-1, -0.001, math.nan, -math.inf):
        with pytest.raises(ValueError, match="timeout"):
            receive(b, wrong)
    with pytest.raises(TypeError):
        receive(b, "soon")  # type: ignore[arg-type]


@ways
@polled
@pytest.mark.parametrize("timeout", [None, 10.0, math.inf, 1e300])
def test_a_waiting_receiver_gets_what_is_sent_later(
    lan: vnet.Lan, receive: Receive, timeout: float | None, polled: bool
) -> None:
    a, b = _pair(lan)
    if polled:
        b.fileno()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(receive, b, timeout)
        time.sleep(0.03)
        a.send(_numbered(1))
        assert waiting.result(1) in (_numbered(1), [_numbered(1)])


def test_recv_many_takes_no_more_than_asked_and_leaves_the_rest(lan: vnet.Lan) -> None:
    a, b = _pair(lan)
    a.send_many([_numbered(number) for number in range(3000)])
    assert [len(b.recv_many(most)) for most in (1, 10, 1000)] == [1, 10, 1000]
    # 1,024 without a word.
    assert [_number(data) for data in b.recv_many()] == list(range(1011, 2035))
    assert len(b.recv_many(10_000)) == 965
    with pytest.raises(ValueError, match="max"):
        b.recv_many(0)


@polled
def test_a_look_never_misses_a_datagram_that_is_there(lan: vnet.Lan, polled: bool) -> None:
    a, b = _pair(lan)
    if polled:
        b.fileno()
    for number in range(5000):
        a.send(_numbered(number))
        assert _number(b.recv(timeout=0)) == number


# Views


def test_a_view_is_the_datagram_in_place_and_read_only(lan: vnet.Lan) -> None:
    a, b = _pair(lan)
    data = sized("10.0.0.1", "10.0.0.2", 65_535)
    a.send_many([data, _numbered(2)])
    with b.recv_view(timeout=1) as view:
        assert isinstance(view, memoryview)
        assert view.readonly
        assert view == data
        # The next one is behind it and does not come before the view is released.
        assert len(view[20:30].tolist()) == 10
    with pytest.raises(ValueError, match="released"):
        view.tolist()
    assert b.recv(timeout=0) == _numbered(2)


def test_a_view_that_is_left_open_ends_with_the_next_receive(lan: vnet.Lan) -> None:
    a, b = _pair(lan)
    a.send_many([_numbered(number) for number in range(4)])
    first = b.recv_view(timeout=1)
    assert _number(bytes(first)) == 0
    assert len(first) == 24
    assert _number(b.recv(timeout=1)) == 1
    second = b.recv_view(timeout=1)
    third = b.recv_view(timeout=1)
    assert (_number(bytes(second)), _number(bytes(third))) == (2, 3)
    # Releasing views that have ended takes nothing away from what comes after.
    a.send(_numbered(4))
    for view in (first, second, second, third, third):
        view.release()
    assert _number(b.recv(timeout=1)) == 4


@polled
def test_a_view_left_open_does_not_hide_that_nothing_is_there(lan: vnet.Lan, polled: bool) -> None:
    a, b = _pair(lan)
    if polled:
        b.fileno()
    a.send(_numbered(1))
    view = b.recv_view(timeout=1)
    with pytest.raises(vnet.ReceiveTimeout):
        b.recv_view(timeout=0.05)
    a.send(_numbered(2))
    assert _number(b.recv(timeout=1)) == 2
    view.release()


def test_a_view_that_nobody_holds_gives_its_place_back(lan: vnet.Lan) -> None:
    a, b = _pair(lan, buffer=1)
    for number in range(3000):
        assert a.send(sized("10.0.0.1", "10.0.0.2", 9000)) is Verdict.DELIVERED, number
        b.recv_view(timeout=1)


def test_a_part_of_a_view_that_outlives_it_can_still_be_read(lan: vnet.Lan) -> None:
    a, b = _pair(lan)
    a.send(_numbered(77))
    with b.recv_view(timeout=1) as view:
        part = view[20:]
    assert len(part) == 4
    b.close()
    lan.close()
    del b, lan
    gc.collect()
    # Memory that is mapped, whatever stands there by now.
    assert len(bytes(part)) == 4


# Descriptors


def _readable_select(nic: vnet.Nic, timeout: float) -> bool:
    return bool(select.select([nic], [], [], timeout)[0])


def _readable_poll(nic: vnet.Nic, timeout: float) -> bool:
    poll = select.poll()
    poll.register(nic, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def _readable_selectors(nic: vnet.Nic, timeout: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(nic, selectors.EVENT_READ)
        return bool(selector.select(timeout))


@pytest.mark.parametrize("readable", [_readable_select, _readable_poll, _readable_selectors])
def test_the_descriptor_is_readable_exactly_while_datagrams_wait(
    lan: vnet.Lan, readable: Callable[[vnet.Nic, float], bool]
) -> None:
    a, b = _pair(lan)
    assert b.fileno() == b.fileno() >= 0
    assert not os.get_inheritable(b.fileno())
    for round_ in range(50):
        assert not readable(b, 0)
        a.send_many([_numbered(1), _numbered(2), _numbered(3)])
        assert readable(b, 1)
        assert readable(b, 1), "looking takes nothing away"
        b.recv(timeout=0)
        assert readable(b, 1), "two are left"
        if round_ % 2:
            b.recv_many(timeout=0)
        else:
            b.recv(timeout=0)
            with b.recv_view(timeout=0) as view:
                assert len(view) == 24
        assert not readable(b, 0.001)


def test_a_descriptor_asked_for_late_knows_of_what_came_before(lan: vnet.Lan) -> None:
    a, b = _pair(lan)
    a.send(_numbered(1))
    assert _readable_select(b, 1)
    assert _number(b.recv(timeout=0)) == 1


def test_a_sleeping_poll_is_woken_by_a_datagram_by_close_and_by_the_end_of_the_lan(lan: vnet.Lan) -> None:
    a, b = _pair(lan)
    c = lan.attach("c")
    descriptors = b.fileno(), c.fileno()
    with ThreadPoolExecutor(1) as pool:
        for act in (lambda: a.send(_numbered(1)), b.close):
            polling = pool.submit(select.select, [descriptors[0]], [], [], 5)
            time.sleep(0.03)
            started = time.monotonic()
            act()
            assert polling.result()[0]
            assert time.monotonic() - started < 0.2
            with pytest.raises(vnet.NicClosed) if act == b.close else pytest.MonkeyPatch.context():
                b.recv(timeout=0)
        polling = pool.submit(select.select, [descriptors[1]], [], [], 5)
        time.sleep(0.03)
        started = time.monotonic()
        lan.close()
        assert polling.result()[0]
        assert time.monotonic() - started < 0.3
    with pytest.raises(vnet.LanClosed):
        c.recv(timeout=0)
    with pytest.raises(vnet.LanClosed):
        c.fileno()


def test_a_blocked_recv_goes_on_when_another_thread_asks_for_the_descriptor(lan: vnet.Lan) -> None:
    a, b = _pair(lan)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(b.recv, 5)
        time.sleep(0.03)
        b.fileno()
        time.sleep(0.03)
        a.send(_numbered(9))
        assert _number(waiting.result(1)) == 9


# asyncio


def test_asyncio_iterates_over_datagrams_until_the_nic_is_closed(lan: vnet.Lan) -> None:
    a, b = _pair(lan)

    async def collect() -> list[int]:
        return [_number(data) async for data in b]

    async def main() -> list[int]:
        collecting = asyncio.create_task(collect())
        for number in range(200):
            a.send(_numbered(number))
            if number % 7 == 0:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        assert not collecting.done()
        b.close()
        return await asyncio.wait_for(collecting, 2)

    assert asyncio.run(main()) == list(range(200))


def test_asyncio_tasks_may_share_a_nic(lan: vnet.Lan) -> None:
    a, b = _pair(lan)
    got: list[int] = []

    async def collect() -> None:
        async for data in b:
            got.append(_number(data))
            await asyncio.sleep(0)

    async def main() -> None:
        tasks = [asyncio.create_task(collect()) for _ in range(3)]
        for number in range(90):
            a.send(_numbered(number))
            await asyncio.sleep(0.001 if number % 5 else 0)
        await asyncio.sleep(0.05)
        tasks[0].cancel()
        a.send(_numbered(90))
        await asyncio.sleep(0.05)
        b.close()
        await asyncio.wait_for(asyncio.gather(*tasks[1:]), 2)

    asyncio.run(main())
    assert sorted(got) == list(range(91))


def test_asyncio_learns_of_the_end_of_the_lan(lan: vnet.Lan) -> None:
    _, b = _pair(lan)

    async def main() -> None:
        async def wait() -> None:
            async for _ in b:
                raise AssertionError("nobody sent anything")

        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0.02)
        lan.close()
        with pytest.raises(vnet.LanClosed):
            await asyncio.wait_for(waiting, 1)

    asyncio.run(main())


def test_add_reader_works_with_a_nic(lan: vnet.Lan) -> None:
    a, b = _pair(lan)

    async def main() -> list[int]:
        got: list[int] = []
        done = asyncio.Event()

        def ready() -> None:
            got.extend(map(_number, b.recv_many(timeout=0)))
            if len(got) == 100:
                done.set()

        loop = asyncio.get_running_loop()
        loop.add_reader(b, ready)
        for number in range(100):
            a.send(_numbered(number))
            await asyncio.sleep(0)
        await asyncio.wait_for(done.wait(), 2)
        loop.remove_reader(b)
        return got

    assert asyncio.run(main()) == list(range(100))


# Threads


@polled
def test_threads_that_share_nics_lose_nothing_double_nothing_and_keep_each_senders_order(
    lan: vnet.Lan, polled: bool
) -> None:
    senders, each = 4, 5000
    a, b = _pair(lan)
    if polled:
        b.fileno()
    got: list[list[tuple[int, int]]] = [[], []]
    done = threading.Event()

    def send(who: int) -> None:
        for start in range(0, each, 50):
            batch = [
                datagram("10.0.0.1", "10.0.0.2", bytes([who]) + n.to_bytes(3, "big")) for n in range(start, start + 50)
            ]
            if start % 100:
                assert set(a.send_many(batch, block=True)) == {Verdict.DELIVERED}
            else:
                assert {a.send(data, block=True) for data in batch} == {Verdict.DELIVERED}

    def receive(into: list[tuple[int, int]]) -> None:
        while not done.is_set():
            try:
                for data in b.recv_many(64, timeout=0.05):
                    into.append((data[20], int.from_bytes(data[21:24], "big")))
            except vnet.ReceiveTimeout:
                continue

    with ThreadPoolExecutor(senders + 2) as pool:
        receiving = [pool.submit(receive, into) for into in got]
        for sending in [pool.submit(send, who) for who in range(senders)]:
            sending.result(30)
        deadline = time.monotonic() + 5
        while sum(map(len, got)) < senders * each and time.monotonic() < deadline:
            time.sleep(0.005)
        done.set()
        for each_receiving in receiving:
            each_receiving.result(5)
    assert sorted(got[0] + got[1]) == [(who, n) for who in range(senders) for n in range(each)]
    for into in got:
        for who in range(senders):
            of_one = [n for sender, n in into if sender == who]
            assert of_one == sorted(of_one)


@ways
@polled
def test_close_in_another_thread_ends_a_blocked_receive(lan: vnet.Lan, receive: Receive, polled: bool) -> None:
    _, b = _pair(lan)
    if polled:
        b.fileno()
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(receive, b, None) for _ in range(2)]
        time.sleep(0.05)
        started = time.monotonic()
        b.close()
        for each in waiting:
            with pytest.raises(vnet.NicClosed):
                each.result(2)
        assert time.monotonic() - started < 0.25
    b.close()
    for call in (lambda: receive(b, 0), lambda: b.send(_numbered(0)), lambda: b.send_many([]), b.fileno):
        with pytest.raises(vnet.NicClosed):
            call()
