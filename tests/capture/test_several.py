"""Several captures of one LAN at a time, each with what it wants."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Guest, datagram, descriptors, eventually, sized, threads

import vnet
from capture.reading import needs_tshark, packets, seen
from vnet import Verdict
from vnet.pcapng import PcapngReader


@needs_tshark
def test_each_capture_gets_what_it_wants(lan: vnet.Lan, tmp_path: Path) -> None:
    a, b, c = lan.attach("a"), lan.attach("b"), lan.attach("c")
    wanted = {
        "all": {},
        "of_b": {"nics": ["b"]},
        "into_b": {"nics": ["b"], "direction": "in"},
        "sent": {"direction": "out"},
        "drops": {"drops": True},
        "three": {"limit": 3},
        "filtered": {"filter": "udp dst port 53"},
        "dropped_dns": {"filter": "udp dst port 53", "drops": True},
    }
    dns, other = b"\x10\x00\x00\x35\x00\x0c\x00\x00ping", b"\x10\x00\x00\x09\x00\x0c\x00\x00ping"
    captures = {name: lan.capture(tmp_path / name, **options) for name, options in wanted.items()}
    for payload in (dns, other):
        a.send(datagram("10.0.0.1", "10.0.0.2", payload))
        b.send(datagram("10.0.0.2", "10.0.0.3", payload))
        a.send(datagram("10.0.0.1", "10.0.0.99", payload))
        c.send(datagram("10.0.0.3", "255.255.255.255", payload))
    for capture in captures.values():
        capture.close()
    once = [("a", "out"), ("b", "in"), ("b", "out"), ("c", "in"), ("a", "out")]
    flood = {("c", "out"), ("a", "in"), ("b", "in")}
    everything = seen(tmp_path / "all")
    assert everything[:5] == once
    assert set(everything[5:8]) == flood
    assert len(everything) == 16
    assert seen(tmp_path / "of_b") == [each for each in everything if each[0] == "b"]
    assert seen(tmp_path / "into_b") == [("b", "in")] * 4
    assert seen(tmp_path / "sent") == [each for each in everything if each[1] == "out"]
    assert seen(tmp_path / "drops") == [("a", "out")] * 2
    assert seen(tmp_path / "three") == everything[:3]
    assert seen(tmp_path / "filtered") == everything[:8]
    assert {packet["udp.dstport"] for packet in packets(tmp_path / "filtered")} == {"53"}
    assert seen(tmp_path / "dropped_dns") == [("a", "out")]
    assert captures["three"].ended == "limit"
    assert [captures[name].datagrams for name in ("all", "of_b", "sent", "drops")] == [8, 4, 8, 2]
    assert [captures[name].packets for name in ("all", "three")] == [16, 3]
    assert not any(capture.missed for capture in captures.values())


@needs_tshark
def test_a_snap_length_cuts_the_bytes_and_not_the_length(lan: vnet.Lan, tmp_path: Path) -> None:
    a = lan.attach("a")
    # The second wants more of each datagram than the first, which must not get it.
    with lan.capture(tmp_path / "short", snaplen=40), lan.capture(tmp_path / "long", snaplen=100):
        a.send(sized("10.0.0.1", "10.0.0.1", 1000))
        a.send(sized("10.0.0.1", "10.0.0.1", 30))
    for name, kept in (("short", [40, 40, 30, 30]), ("long", [100, 100, 30, 30])):
        found = packets(tmp_path / name)
        assert [int(packet["frame.cap_len"]) for packet in found] == kept
        assert [int(packet["frame.len"]) for packet in found] == [1000, 1000, 30, 30]


@needs_tshark
def test_a_filter_sees_all_bytes_whatever_is_kept_of_them(lan: vnet.Lan, tmp_path: Path) -> None:
    a = lan.attach("a")
    with lan.capture(tmp_path / "c", snaplen=20, filter="ip[500] = 7") as capture:
        for value in (7, 8):
            a.send(datagram("10.0.0.1", "10.0.0.1", bytes(480) + bytes([value])))
    assert capture.datagrams == 1
    assert [int(packet["frame.cap_len"]) for packet in packets(tmp_path / "c")] == [20, 20]


@needs_tshark
def test_ring_files_are_whole_each_and_the_oldest_go(lan: vnet.Lan, tmp_path: Path) -> None:
    a = lan.attach("a")
    lan.attach("quiet")
    with lan.capture(tmp_path / "ring.pcapng", file_size=20_000, files=3) as capture:
        for number in range(200):
            a.send(sized("10.0.0.1", "10.0.0.1", 480 + number))
    assert capture.datagrams == 200
    files = sorted(tmp_path.iterdir())
    assert len(files) == 3
    numbers = [int(path.name.split("_")[1]) for path in files]
    assert numbers == list(range(numbers[0], numbers[0] + 3))
    assert numbers[0] > 1
    sizes = [int(packet["frame.len"]) for path in files for packet in packets(path)]
    # The last of them, twice each, without a gap between two files.
    assert sizes == sorted(size for size in range(sizes[0], 680) for _ in range(2))[-len(sizes) :]
    for path in files:
        assert path.stat().st_size < 20_000 + 800
        told = subprocess.run(["capinfos", str(path)], capture_output=True, text=True, check=True).stdout
        assert "Name = quiet" in told


def test_a_reader_that_takes_nothing_holds_up_neither_the_lan_nor_other_captures(lan: vnet.Lan, tmp_path: Path) -> None:
    a, b = lan.attach("a"), lan.attach("b")
    reading, writing = os.pipe()
    stuck = lan.capture(writing)
    os.close(writing)
    batch = [sized("10.0.0.1", "10.0.0.2", 60_000)] * 20
    with lan.capture(tmp_path / "good") as good:
        for _ in range(60):
            assert set(a.send_many(batch)) == {Verdict.DELIVERED}
            b.recv_many(1000)
            # What the good one takes, so that it is known to lose nothing because of the other.
            assert eventually(lambda done=good.datagrams: good.datagrams >= done)
            time.sleep(0.005)
    assert good.datagrams + good.missed == 1200
    assert stuck.ended is None
    # 72 MB twice, into a queue of 32 MiB.
    assert eventually(lambda: stuck.missed > 0)
    begun = time.monotonic()
    os.close(reading)
    stuck.close()
    assert time.monotonic() - begun < 2
    assert stuck.ended == "reader"


def test_the_end_waits_for_a_slow_reader_and_nothing_is_lost(lan: vnet.Lan) -> None:
    a = lan.attach("a")
    reading, writing = os.pipe()
    capture = lan.capture(writing)
    os.close(writing)
    taken: list[bytes] = []

    def read() -> None:
        while data := os.read(reading, 20_000):
            taken.append(data)
            time.sleep(0.0005)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(50):
        a.send_many([sized("10.0.0.1", "10.0.0.1", 1400)] * 50)
        a.recv_many(1000)
    capture.close()
    reader.join(10)
    os.close(reading)
    found = list(PcapngReader().feed(b"".join(taken)))
    assert capture.missed == 0
    assert len(found) == capture.packets == 5000


def test_a_reader_that_has_gone_ends_the_capture_though_nothing_is_sent(lan: vnet.Lan) -> None:
    reading, writing = os.pipe()
    with lan.capture(writing) as capture:
        os.close(writing)
        os.read(reading, 1)
        assert not capture.wait(0.01)
        os.close(reading)
        assert capture.wait(5)
        assert capture.ended == "reader"
    assert not [name for name in threads().values() if name.startswith("vnet-capture")]


def test_a_pipe_is_given_what_there_is_promptly(lan: vnet.Lan) -> None:
    a = lan.attach("a")
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    reader = PcapngReader()
    with lan.capture(writing):
        os.close(writing)
        for number in range(5):
            a.send(datagram("10.0.0.1", "10.0.0.1", bytes([number])))
            found: list[bytes] = []

            def look(found: list[bytes] = found) -> bool:
                with contextlib.suppress(BlockingIOError):
                    found.extend(packet.data for packet in reader.feed(os.read(reading, 65_536)))
                return len(found) == 2

            # It is the capture that hands it over, not the end of anything.
            assert eventually(look)
            assert found == [datagram("10.0.0.1", "10.0.0.1", bytes([number]))] * 2
    os.close(reading)


def test_a_discarded_capture_leaves_no_file_and_no_thread(lan: vnet.Lan, tmp_path: Path) -> None:
    a = lan.attach("a")
    open_before = len(descriptors())
    for _ in range(100):
        capture = lan.capture(tmp_path / "c")
        a.send(datagram("10.0.0.1", "10.0.0.1"))
        capture.discard()
        capture.close()
        assert not (tmp_path / "c").exists()
    assert not [name for name in threads().values() if name.startswith("vnet-capture")]
    assert len(descriptors()) == open_before


def test_what_was_sent_before_the_end_is_in_it_whoever_sent(lan: vnet.Lan, tmp_path: Path) -> None:
    """The answer of a host, whose thread is the base's, is known to its asker: then it is in the capture."""
    a, host = lan.attach("a"), lan.host("host")
    ping = datagram(a.address, host.address, b"\x08\x00\xf7\xff\x00\x00\x00\x00", protocol=1)
    for number in range(100):
        with lan.capture(tmp_path / "c", direction="out") as capture:
            a.send(ping)
            a.recv(timeout=5)
        assert capture.datagrams == 2, number


def test_a_forked_child_does_not_keep_a_pipe_open(guest: Callable[..., Guest]) -> None:
    process = guest("""
import time
lan = vnet.Lan(None, "10.0.0.0/24")
a = lan.attach("a")
reading, writing = os.pipe()
capture = lan.capture(writing)
os.close(writing)
a.send(datagram("10.0.0.1", "10.0.0.1"))
child = os.fork()
if child == 0:
    time.sleep(20)
    os._exit(0)
capture.close()
size = 0
while data := os.read(reading, 65536):
    size += len(data)
say("end of file", size > 100)
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
lan.close()
""")
    assert process.hear() == "end of file True"
    assert process.end() == (0, "", "")


@needs_tshark
def test_misses_are_told_in_the_file_where_they_happened(lan: vnet.Lan, tmp_path: Path) -> None:
    a = lan.attach("a", buffer=1 << 20)
    reading, writing = os.pipe()
    capture = lan.capture(writing, direction="out")
    os.close(writing)
    sent = 0
    while capture.missed == 0:
        sent += len(a.send_many([sized("10.0.0.1", "10.0.0.1", 60_000)] * 10))
        a.recv_many()
        assert sent < 20_000
    taken = bytearray()

    def read() -> None:
        while data := os.read(reading, 1 << 20):
            taken.extend(data)

    reader = threading.Thread(target=read)
    reader.start()
    # There is room again, and with the next packet the gap is known.
    assert eventually(lambda: capture.datagrams > 100, 10)
    sent += 1
    a.send(sized("10.0.0.1", "10.0.0.1", 100))
    capture.close()
    reader.join(10)
    os.close(reading)
    found = list(PcapngReader().feed(bytes(taken)))
    assert capture.datagrams + capture.missed == sent
    assert sum(packet.missed for packet in found) == capture.missed
    path = tmp_path / "c.pcapng"
    path.write_bytes(taken)
    command = ["tshark", "-r", str(path), "-Y", "frame.drop_count > 0", "-T", "fields", "-e", "frame.drop_count"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert sum(map(int, told)) == capture.missed


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"direction": "up"}, "direction is both, in or out"),
        ({"limit": 0}, "limit is at least 1"),
        ({"snaplen": 0}, "snaplen is 1 to"),
        ({"file_size": 10}, "file_size is at least 4096"),
        ({"files": 3}, "needs file_size"),
        ({"filter": "no such filter"}, "'no such filter' does not compile: .*syntax error"),
        ({"filter": "arp"}, "does not compile"),
    ],
)
def test_wrong_arguments_are_told_and_make_no_file(
    lan: vnet.Lan, tmp_path: Path, options: dict[str, object], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        lan.capture(tmp_path / "c", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "c").exists()
    with pytest.raises(TypeError, match=r"not one name: \['a'\]"):
        lan.capture(tmp_path / "c", nics="a")


def test_a_capture_that_has_all_its_packets_lets_go_of_its_output(lan: vnet.Lan, tmp_path: Path) -> None:
    a = lan.attach("a")
    reading, writing = os.pipe()
    capture = lan.capture(writing, limit=3)
    os.close(writing)
    other = lan.capture(tmp_path / "c", limit=3)
    for _ in range(3):
        a.send(datagram("10.0.0.1", "10.0.0.1"))
    taken = b""
    # To the end, though nobody has closed the capture.
    while data := os.read(reading, 65_536):
        taken += data
    os.close(reading)
    assert len(list(PcapngReader().feed(taken))) == 3
    assert capture.wait(5)
    assert other.wait(5)
    assert eventually(lambda: len(list(PcapngReader().feed((tmp_path / "c").read_bytes()))) == 3)
    assert (capture.ended, other.ended) == ("limit", "limit")
    # Both are over: nothing is noted any more, and no thread waits for it.
    assert eventually(lambda: not [name for name in threads().values() if name.startswith("vnet-capture")])


def test_many_threads_end_captures_at_once(lan: vnet.Lan, tmp_path: Path) -> None:
    a = lan.attach("a")
    captures = [lan.capture(tmp_path / str(number)) for number in range(16)]
    for _ in range(20):
        a.send_many([datagram("10.0.0.1", "10.0.0.1")] * 10)
        a.recv_many()
    enders = [threading.Thread(target=each.close if at % 2 else each.discard) for at, each in enumerate(captures)]
    for ender in enders:
        ender.start()
    for ender in enders:
        ender.join(10)
    assert [capture.datagrams for capture in captures[1::2]] == [200] * 8
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(str(number) for number in range(1, 16, 2))
    again = lan.capture(tmp_path / "again")
    a.send(datagram("10.0.0.1", "10.0.0.1"))
    again.close()
    assert again.datagrams == 1
