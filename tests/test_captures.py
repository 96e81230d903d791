"""Captures, read back with tshark."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import Guest, datagram, sized

import vnet
from vnet import Verdict

needs_tshark = pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark: apt-get install tshark")

FIELDS = (
    "frame.interface_name",
    "frame.interface_description",
    "frame.packet_flags_direction",
    "frame.comment",
    "frame.time_epoch",
    "frame.len",
    "ip.src",
    "ip.dst",
    "ipv6.src",
    "ipv6.dst",
    "data.data",
)


def read(path: Path) -> list[dict[str, Any]]:
    """The packets of a capture, by the names of tshark's fields."""
    command = ["tshark", "-r", str(path), "-T", "json", *(word for field in FIELDS for word in ("-e", field))]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    layers = [packet["_source"]["layers"] for packet in json.loads(ended.stdout)]
    return [{field: layer.get(field, [None])[0] for field in FIELDS} for layer in layers]


def direction(packet: dict[str, Any]) -> str:
    # epb_flags: 1 inbound, 2 outbound.
    return {1: "in", 2: "out"}[int(packet["frame.packet_flags_direction"], 0)]


@needs_tshark
def test_every_datagram_is_there_as_its_sender_and_its_receiver_saw_it(lan: vnet.Lan, tmp_path: Path) -> None:
    path = tmp_path / "c.pcapng"
    a, b = lan.attach("alice"), lan.attach("bob")
    full = lan.attach("full", buffer=1)
    lan.reserve("reserved")
    before = time.time_ns()
    sent = [
        (datagram("10.0.0.1", "10.0.0.2", b"four"), Verdict.DELIVERED),
        (datagram("fd00::1", "fd00::2", b"six"), Verdict.DELIVERED),
        (datagram("10.0.0.1", "10.0.0.99", b"x"), Verdict.NO_HOST),
        (datagram("10.0.0.1", "10.9.9.9", b"x"), Verdict.NO_ROUTE),
        (datagram("10.0.0.1", "10.0.0.4", b"x"), Verdict.NIC_DOWN),
        (b"\x45malformed", Verdict.MALFORMED),
        (sized("10.0.0.1", "10.0.0.2", 65_535), Verdict.DELIVERED),
    ]
    while a.send(sized("10.0.0.1", "10.0.0.3", 65_535)) is Verdict.DELIVERED:
        pass
    with lan.capture(path) as capture:
        assert [a.send(data) for data, _ in sent] == [verdict for _, verdict in sent]
        assert a.send(sized("10.0.0.1", "10.0.0.3", 65_535)) is Verdict.BUFFER_FULL
    assert full.mtu == b.mtu
    assert (capture.datagrams, capture.missed) == (len(sent) + 1, 0)
    after = time.time_ns()
    packets = read(path)
    outbound = [packet for packet in packets if direction(packet) == "out"]
    inbound = [packet for packet in packets if direction(packet) == "in"]
    assert {packet["frame.interface_name"] for packet in outbound} == {"alice"}
    assert {packet["frame.interface_description"] for packet in outbound} == {"10.0.0.1 fd00::1"}
    assert {packet["frame.interface_name"] for packet in inbound} == {"bob"}
    verdicts = [verdict for _, verdict in sent] + [Verdict.BUFFER_FULL]
    comments = [None if verdict is Verdict.DELIVERED else f"dropped: {verdict.name.lower()}" for verdict in verdicts]
    assert [packet["frame.comment"] for packet in outbound] == comments
    assert [int(packet["frame.len"]) for packet in outbound] == [len(data) for data, _ in sent] + [65_535]
    assert [int(packet["frame.len"]) for packet in inbound] == [24, 43, 65_535]
    assert (outbound[0]["ip.src"], outbound[0]["ip.dst"]) == ("10.0.0.1", "10.0.0.2")
    assert (outbound[1]["ipv6.src"], outbound[1]["ipv6.dst"]) == ("fd00::1", "fd00::2")
    times = [round(float(packet["frame.time_epoch"]) * 1e6) for packet in packets]
    assert before // 1000 - 1000 <= min(times)
    assert max(times) <= after // 1000 + 1000
    # Nanoseconds: the last three digits of nine are not all zero.
    assert any(packet["frame.time_epoch"].split(".")[1][6:9] != "000" for packet in packets)


@needs_tshark
def test_a_broadcast_is_one_datagram_out_and_one_in_at_each_receiver(lan: vnet.Lan, tmp_path: Path) -> None:
    path = tmp_path / "c.pcapng"
    nics = [lan.attach(f"n{number}") for number in range(4)]
    with lan.capture(path) as capture:
        nics[0].send(datagram("10.0.0.1", "255.255.255.255", b"all"))
        nics[1].send_many([datagram("fd00::2", "ff02::1", b"all")] * 2)
    assert capture.datagrams == 3
    seen = [(packet["frame.interface_name"], direction(packet)) for packet in read(path)]
    assert seen.count(("n0", "out")) == 1
    assert seen.count(("n1", "out")) == 2
    assert sorted(each for each in seen if each[1] == "in") == sorted(
        [("n1", "in"), ("n2", "in"), ("n3", "in")] + [("n0", "in"), ("n2", "in"), ("n3", "in")] * 2
    )


@needs_tshark
def test_other_processes_injections_and_hosts_are_in_it(
    named: vnet.Lan, guest: Callable[..., Guest], tmp_path: Path
) -> None:
    path = tmp_path / "c.pcapng"
    a, host = named.attach("a"), named.host("host")
    with named.capture(path):
        process = guest("""
nic = vnet.attach("office", "stranger")
for _ in range(3):
    nic.send(datagram(nic.address, "10.0.0.1", b"hello"))
nic.close()
say("sent")
""")
        assert process.hear() == "sent"
        named.inject("a", [datagram("10.0.0.1", "10.0.0.200")])
        assert host.ping(a.address, timeout=0.001).received == 0
        assert host.ping("10.0.0.77").errors == ("no_host",)
    seen = [(packet["frame.interface_name"], direction(packet), packet["frame.comment"]) for packet in read(path)]
    assert seen.count(("stranger", "out", None)) == 3
    assert seen.count(("a", "in", None)) == 4
    assert seen.count(("a", "out", "dropped: no_host")) == 1
    assert seen.count(("host", "out", "dropped: no_host")) == 1
    assert len(seen) == 10


@needs_tshark
@pytest.mark.parametrize("stay", [0, 0.05], ids=["shorter than the writer sleeps", "longer"])
def test_nics_that_come_during_the_capture_have_interfaces_of_their_own(
    lan: vnet.Lan, tmp_path: Path, stay: float
) -> None:
    path = tmp_path / "c.pcapng"
    a = lan.attach("a")
    with lan.capture(path):
        for number in range(5):
            with lan.attach(f"late{number}", "10.0.0.50") as late:
                a.send(datagram("10.0.0.1", "10.0.0.50", bytes([number])))
                late.send(datagram("10.0.0.50", "10.0.0.1", bytes([number])))
                time.sleep(stay)
        quiet = lan.attach("quiet")
    packets = read(path)
    for number in range(5):
        name = f"late{number}"
        of_it = [direction(packet) for packet in packets if packet["frame.interface_name"] == name]
        assert sorted(of_it) == ["in", "out"], name
    blocks = subprocess.run(["capinfos", "-M", str(path)], capture_output=True, text=True, check=True).stdout
    for name in ("a", "quiet", "late0", "late4"):
        assert f"Name = {name}\n" in blocks
    assert blocks.count("Encapsulation = Raw IP") == 7
    assert quiet.address


@needs_tshark
def test_one_capture_after_the_other(lan: vnet.Lan, tmp_path: Path) -> None:
    a = lan.attach("a")
    for number in range(3):
        path = tmp_path / f"{number}.pcapng"
        with lan.capture(path) as capture:
            a.send(datagram("10.0.0.1", "10.0.0.1", bytes([number]) * 8))
        a.send(datagram("10.0.0.1", "10.0.0.1", b"between captures"))
        assert capture.datagrams == 1
        packets = read(path)
        assert [direction(packet) for packet in packets] == ["out", "in"]
        assert {int(packet["frame.len"]) for packet in packets} == {28}
        capture.close()


@needs_tshark
def test_a_capture_keeps_up_or_counts_what_it_missed(lan: vnet.Lan, tmp_path: Path) -> None:
    path = tmp_path / "c.pcapng"
    a, b = lan.attach("a"), lan.attach("b")
    batch = [sized("10.0.0.1", "10.0.0.2", 1000)] * 500
    with lan.capture(path) as capture:
        for _ in range(40):
            assert set(a.send_many(batch)) == {Verdict.DELIVERED}
            b.recv_many(1000)
    assert capture.datagrams + capture.missed == 20_000
    assert capture.datagrams > 0
    lengths = subprocess.run(["capinfos", "-c", "-M", str(path)], capture_output=True, text=True, check=True).stdout
    assert int(lengths.rpartition("Number of packets:")[2].split()[0]) == 2 * capture.datagrams


def test_a_path_that_cannot_be_written_is_named(lan: vnet.Lan, tmp_path: Path) -> None:
    for path, words in ((tmp_path, "directory"), (tmp_path / "no" / "such", "No such file"), ("/dev/full", "No space")):
        with pytest.raises(vnet.CaptureError, match=words):
            lan.capture(path)
    # A failed one is no obstacle to the next.
    lan.capture(tmp_path / "good").close()


def test_a_capture_on_a_disk_that_fills_says_so_when_it_is_closed(guest: Callable[..., Guest], tmp_path: Path) -> None:
    process = guest(
        """
import resource
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for close in ("capture", "lan"):
    lan = vnet.Lan("full", "10.0.0.0/24")
    a = lan.attach("a")
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
    capture = lan.capture(sys.argv[1])
    for _ in range(200):
        assert a.send(datagram("10.0.0.1", "10.0.0.1", bytes(1000))) is vnet.Verdict.DELIVERED
    assert len(a.recv_many()) == 200
    try:
        (capture if close == "capture" else lan).close()
    except vnet.CaptureError as error:
        say(error)
    capture.close()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert lan.closed == (close == "lan")
    lan.close()
    assert os.listdir(os.environ["XDG_RUNTIME_DIR"]) == []
say("done")
""",
        str(tmp_path / "c"),
    )
    for _ in range(2):
        assert "is not whole" in process.hear()
    assert process.hear() == "done"
    assert process.end() == (0, "", "")


@needs_tshark
def test_a_capture_that_nobody_closed_is_whole(guest: Callable[..., Guest], tmp_path: Path) -> None:
    path = tmp_path / "c.pcapng"
    process = guest(
        """
lan = vnet.Lan("open", "10.0.0.0/24")
a = lan.attach("a")
capture = lan.capture(sys.argv[1])
a.send_many([datagram("10.0.0.1", "10.0.0.1", bytes(100))] * 1000)
""",
        str(path),
    )
    assert process.end() == (0, "", "")
    assert len(read(path)) == 2000


def test_a_sender_is_not_held_up_by_a_capture_that_cannot_keep_up(lan: vnet.Lan, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = threading.Thread(target=fifo.read_bytes)
    keep = os.open(fifo, os.O_RDWR)
    a = lan.attach("a")
    capture = lan.capture(fifo)
    # Twice 60,000 bytes each: more than the capture's queue, the ring before it and the pipe have room for.
    for _ in range(100):
        started = time.monotonic()
        assert set(a.send_many([sized("10.0.0.1", "10.0.0.1", 60_000)] * 10)) == {Verdict.DELIVERED}
        assert time.monotonic() - started < 0.1
        a.recv_many()
    reader.start()
    time.sleep(0.05)
    os.close(keep)
    capture.close()
    reader.join(5)
    assert capture.missed > 0
    assert capture.datagrams + capture.missed == 1000
