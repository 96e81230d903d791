"""Doorbells: the busy are left alone, the sleeping are woken."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import Guest, datagram

import vnet
from vnet import Verdict

_BUSY = """
nic = vnet.attach("office", "busy", "10.0.0.9")
{spin}
say("up")
count = 0
while count < {count}:
    try:
        count += len(nic.recv_many({most}, timeout={timeout}))
    except vnet.ReceiveTimeout:
        pass
say(count)
hear()
"""


@pytest.mark.parametrize(
    ("spin", "most", "timeout"),
    [("", 1024, 0), ("", 1, 0), ('nic.set_spin("always")', 1024, 1.0)],
)
def test_a_receiver_that_is_never_idle_is_hardly_ever_rung(
    named: vnet.Lan, guest: Callable[..., Guest], spin: str, most: int, timeout: float
) -> None:
    batches, size = 3000, 8
    receiver = guest(_BUSY.format(spin=spin, most=most, timeout=timeout, count=batches * size))
    assert receiver.hear() == "up"
    sender = named.attach("sender", "10.0.0.1")
    batch = [datagram("10.0.0.1", "10.0.0.9", bytes(100))] * size
    for _ in range(batches):
        assert set(sender.send_many(batch, block=True)) == {Verdict.DELIVERED}
    assert receiver.hear() == str(batches * size)
    counted = sender.statistics()
    assert counted.doorbells_rung + counted.doorbells_saved >= batches
    assert counted.doorbells_rung < 0.01 * batches


def test_a_sleeping_receiver_is_rung_once_for_each_datagram(named: vnet.Lan, guest: Callable[..., Guest]) -> None:
    count = 50
    receiver = guest(f"""
nic = vnet.attach("office", "idle", "10.0.0.9")
nic.set_spin("never")
for _ in range({count}):
    say("waiting")
    nic.recv()
say("done")
hear()
""")
    sender = named.attach("sender", "10.0.0.1")
    for _ in range(count):
        assert receiver.hear() == "waiting"
        time.sleep(0.005)
        assert sender.send(datagram("10.0.0.1", "10.0.0.9")) is Verdict.DELIVERED
    assert receiver.hear() == "done"
    counted = sender.statistics()
    assert counted.doorbells_rung == count
    assert counted.doorbells_saved == 0


def test_a_burst_to_a_sleeping_receiver_rings_once(lan: vnet.Lan) -> None:
    a, b = lan.attach("a"), lan.attach("b")
    b.set_spin("never")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(b.recv)
        time.sleep(0.03)
        a.send_many([datagram("10.0.0.1", "10.0.0.2")] * 60)
        waiting.result(1)
    assert a.statistics().doorbells_rung == 1
    assert len(b.recv_many()) == 59


def test_a_broadcast_rings_every_sleeper(lan: vnet.Lan) -> None:
    sender, nics = lan.attach("sender"), [lan.attach(f"n{number}") for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(nic.recv, 5) for nic in nics]
        time.sleep(0.05)
        sender.send(datagram("10.0.0.1", "255.255.255.255"))
        for each in waiting:
            assert len(each.result(1)) == 20
    assert sender.statistics().doorbells_rung == 4


def test_the_bell_counters_speak_of_batches_not_of_datagrams(lan: vnet.Lan) -> None:
    a, b = lan.attach("a"), lan.attach("b")
    a.send_many([datagram("10.0.0.1", "10.0.0.2")] * 10)
    a.send(datagram("10.0.0.1", "10.0.0.77"))
    counted = a.statistics()
    assert (counted.doorbells_rung, counted.doorbells_saved) == (0, 1)
    assert b.statistics().rx_datagrams == 10
