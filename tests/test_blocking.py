"""Senders that wait for room."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import Guest, datagram, sized

import vnet
from vnet import Verdict


def _full(lan: vnet.Lan) -> tuple[vnet.Nic, vnet.Nic]:
    a, b = lan.attach("a"), lan.attach("b", buffer=1)
    while a.send(sized("10.0.0.1", "10.0.0.2", 65_535)) is Verdict.DELIVERED:
        pass
    return a, b


LARGE = sized("10.0.0.1", "10.0.0.2", 65_535)


@pytest.mark.parametrize("size", [20, 1500, 9001, 65_535])
def test_a_sender_that_waits_loses_nothing_to_a_slow_reader(lan: vnet.Lan, size: int) -> None:
    a, b = lan.attach("a"), lan.attach("b", buffer=1)
    count = 2000 if size < 1501 else 200
    batch = [datagram("10.0.0.1", "10.0.0.2", n.to_bytes(4, "big") + bytes(max(0, size - 24))) for n in range(count)]
    got: list[bytes] = []

    def read() -> None:
        while len(got) < count:
            got.extend(b.recv_many(3 if len(got) % 2 else 40, timeout=5))
            if len(got) % 5 == 0:
                time.sleep(0.001)

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        assert set(a.send_many(batch[: count // 2], block=True)) == {Verdict.DELIVERED}
        assert {a.send(each, block=True, timeout=10) for each in batch[count // 2 :]} == {Verdict.DELIVERED}
        reading.result(20)
    assert got == batch
    counted = a.statistics()
    assert counted.verdicts[Verdict.DELIVERED] == count
    assert counted.verdicts[Verdict.BUFFER_FULL] == 0
    assert b.statistics().rx_dropped == 0


def test_another_process_that_waits_loses_nothing_to_a_slow_reader(
    named: vnet.Lan, guest: Callable[..., Guest]
) -> None:
    b = named.attach("b", "10.0.0.2", buffer=1)
    sender = guest("""
a = vnet.attach("office", "a", "10.0.0.1")
batch = [datagram("10.0.0.1", "10.0.0.2", n.to_bytes(4, "big") * 1000) for n in range(1000)]
say(set(a.send_many(batch[:500], block=True)) | {a.send(each, block=True) for each in batch[500:]})
""")
    got = []
    while len(got) < 1000:
        got.extend(b.recv_many(7, timeout=5))
        time.sleep(0.0002)
    assert [int.from_bytes(data[20:24], "big") for data in got] == list(range(1000))
    assert sender.hear() == "{<Verdict.DELIVERED: 0>}"


@pytest.mark.parametrize("timeout", [0, 0.05, 0.25])
def test_a_wait_for_room_ends_with_buffer_full_and_is_counted_once(lan: vnet.Lan, timeout: float) -> None:
    a, b = _full(lan)
    before, dropped = a.statistics().verdicts[Verdict.BUFFER_FULL], b.statistics().rx_dropped
    for number, send in enumerate(
        (
            lambda: a.send(LARGE, block=True, timeout=timeout),
            lambda: a.send_many([LARGE], block=True, timeout=timeout)[0],
            lambda: lan.inject("a", [LARGE], block=True, timeout=timeout)[0],
        ),
        1,
    ):
        started = time.monotonic()
        assert send() is Verdict.BUFFER_FULL
        assert timeout <= time.monotonic() - started < timeout + 0.15
        assert a.statistics().verdicts[Verdict.BUFFER_FULL] == before + number
        assert b.statistics().rx_dropped == dropped + number


def test_a_timeout_that_is_none_is_refused(lan: vnet.Lan) -> None:
    a, _ = _full(lan)
    for wrong in (-1, math.nan):
        with pytest.raises(ValueError, match="timeout"):
            a.send(LARGE, block=True, timeout=wrong)
        with pytest.raises(ValueError, match="timeout"):
            a.send_many([LARGE], block=True, timeout=wrong)


def test_room_ends_a_wait_at_once(lan: vnet.Lan) -> None:
    a, b = _full(lan)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(a.send, LARGE, block=True)
        time.sleep(0.03)
        assert not sending.done()
        started = time.monotonic()
        b.recv_many(timeout=1)
        # Senders learn of the room when the receiver sleeps.
        assert len(b.recv(timeout=1)) == len(LARGE)
        assert sending.result(1) is Verdict.DELIVERED
        assert time.monotonic() - started < 0.15


@pytest.mark.parametrize("act", ["close the receiver", "close the sender", "close the LAN"])
@pytest.mark.parametrize("way", ["send", "inject"])
def test_a_waiting_sender_learns_of_the_end(lan: vnet.Lan, act: str, way: str) -> None:
    a, b = _full(lan)
    with ThreadPoolExecutor(1) as pool:
        if way == "send":
            sending = pool.submit(lambda: [a.send(LARGE, block=True)])
        else:
            sending = pool.submit(lambda: lan.inject("a", [LARGE], block=True))
        time.sleep(0.03)
        started = time.monotonic()
        if act == "close the receiver":
            b.close()
            assert sending.result(1) in ([Verdict.NIC_DOWN], [Verdict.NO_HOST])
        elif act == "close the LAN":
            lan.close()
            with pytest.raises(vnet.LanClosed):
                sending.result(1)
        elif way == "send":
            a.close()
            with pytest.raises(vnet.NicClosed):
                sending.result(1)
        else:
            # What is injected is the base's own; it goes on whoever holds the NIC.
            a.close()
            b.recv_many(timeout=1)
            assert len(b.recv(timeout=1)) == len(LARGE)
            assert sending.result(1) == [Verdict.DELIVERED]
        assert time.monotonic() - started < 0.3


def test_a_thread_that_waits_for_room_does_not_keep_others_from_sending(lan: vnet.Lan) -> None:
    a, _full_one = _full(lan)
    c = lan.attach("c")
    longest = 0.0
    stop = threading.Event()

    def wait() -> None:
        while not stop.is_set():
            a.send(LARGE, block=True, timeout=0.2)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait)
        time.sleep(0.02)
        for _ in range(20):
            started = time.monotonic()
            assert a.send(datagram("10.0.0.1", c.address)) is Verdict.DELIVERED
            longest = max(longest, time.monotonic() - started)
            time.sleep(0.003)
        stop.set()
        waiting.result(2)
    assert longest < 0.05
