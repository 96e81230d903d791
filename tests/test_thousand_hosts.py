"""A LAN of 1,000 built-in hosts."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import support

import vnet

COUNT = 1000


def resident_kib() -> int:
    """Memory of this process, shared memory included, in KiB."""
    text = Path("/proc/self/smaps_rollup").read_text()
    return int(text.partition("\nPss:")[2].split()[0])


def _up(lan: vnet.Lan) -> list[vnet.Host]:
    return [lan.host(f"h{number}") for number in range(COUNT)]


def test_1000_hosts_come_up_answer_1000_pings_and_go_in_under_3_s(record_property: pytest.RecordProperty) -> None:
    chance = random.Random(1)
    started = time.perf_counter()
    with vnet.Lan(None, ["10.0.0.0/16", "fd00::/64"], seed=1) as lan:
        hosts = _up(lan)
        up = time.perf_counter()
        pairs = [chance.sample(hosts, 2) for _ in range(COUNT)]
        runs = [a.start_ping(b.addresses[number % 2]) for number, (a, b) in enumerate(pairs)]
        results = [run.result() for run in runs]
        pinged = time.perf_counter()
    down = time.perf_counter()
    assert [(result.received, result.loss) for result in results] == [(1, 0.0)] * COUNT
    figures = {"up": up - started, "pings": pinged - up, "down": down - pinged, "all": down - started}
    for name, seconds in figures.items():
        record_property(name, round(seconds, 3))
    print(figures)
    assert down - started < 3


# In a process of its own: pytest and what the other tests left in its memory are no part of the LAN.
_IDLE = """
from pathlib import Path

def resident_kib():
    return int(Path("/proc/self/smaps_rollup").read_text().partition("\\nPss:")[2].split()[0])

with vnet.Lan(None, ["10.0.0.0/16", "fd00::/64"]) as lan:
    empty = resident_kib()
    hosts = [lan.host(f"h{number}") for number in range(1000)]
    time.sleep(0.05)
    idle = resident_kib()
    assert {each.ping(hosts[0].address).received for each in hosts} == {1}
    time.sleep(0.05)
    say(empty, idle, resident_kib())
"""


def test_1000_idle_hosts_take_under_100_mib_and_64_kib_each(
    guest: Callable[[str], support.Guest], record_property: Callable[[str, object], None]
) -> None:
    empty, idle, used = (int(word) for word in guest(_IDLE).hear().split())
    print({"empty": empty, "idle": idle, "after a ping each": used})
    record_property("idle_kib", idle)
    assert idle < 100 * 1024
    assert (idle - empty) / COUNT < 64
    assert (used - empty) / COUNT < 64


def test_1000_idle_process_nics_take_under_64_kib_each() -> None:
    with vnet.Lan(None, "10.0.0.0/16") as lan:
        empty = resident_kib()
        nics = [lan.attach(f"n{number}") for number in range(COUNT)]
        idle = resident_kib()
        assert nics[0].addresses == ("10.0.0.1",)
    print({"a NIC": (idle - empty) / COUNT})
    assert (idle - empty) / COUNT < 64


def test_an_idle_lan_of_1000_hosts_uses_no_processor() -> None:
    with vnet.Lan(None, "10.0.0.0/16") as lan:
        hosts = _up(lan)
        hosts[0].ping(hosts[-1].address)
        time.sleep(0.1)
        before = time.process_time()
        time.sleep(0.5)
        assert time.process_time() - before < 0.05


def test_a_ring_that_was_full_gives_its_memory_back_with_its_nic() -> None:
    with vnet.Lan(None, "10.0.0.0/16") as lan:
        sender, receivers = lan.attach("sender"), [lan.attach(f"r{number}") for number in range(20)]
        before = resident_kib()
        data = [bytes([0x45, *[0] * 15, *map(int, each.address.split(".")), *[1] * 60_000]) for each in receivers]
        for _ in range(70):
            sender.send_many(data)
        full = resident_kib()
        assert full - before > 20 * 4000
        for each in receivers:
            each.close()
        assert resident_kib() - before < 2000
