"""Following drops: what is told is what was dropped, as scapy reads it from the capture of the same."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from support import datagram, descriptors, eventually, sized
from viewing import follower, vnet_here

import vnet
from vnet import Verdict
from vnet.drops import follow
from vnet.pcapng import PcapngReader

NOBODY = datagram("10.0.0.1", "10.0.0.99", b"first")
ELSEWHERE = datagram("10.0.0.1", "192.168.1.1", b"second")


@pytest.mark.parametrize("at_a_time", [1, 7, 100_000])
def test_a_capture_reads_as_scapy_reads_it_in_pieces_of_any_size(lan: vnet.Lan, tmp_path: Path, at_a_time: int) -> None:
    from scapy.utils import RawPcapNgReader

    a, _b = lan.attach("a"), lan.attach("b")
    with lan.capture(tmp_path / "x.pcapng"):
        a.send_many([NOBODY, datagram("10.0.0.1", "10.0.0.2", b"odd"), b"", sized("10.0.0.1", "255.255.255.255", 3000)])
    reader, packets = PcapngReader(), []
    data = (tmp_path / "x.pcapng").read_bytes()
    for at in range(0, len(data), at_a_time):
        packets += reader.feed(data[at : at + at_a_time])
    with RawPcapNgReader(str(tmp_path / "x.pcapng")) as opened:
        read = list(opened)
    assert [packet.data for packet in packets] == [data for data, _ in read]
    # "direction" of scapy: 1 in, 2 out.
    assert [packet.direction for packet in packets] == [("", "in", "out")[about.direction] for _, about in read]
    assert [packet.interface for packet in packets] == [about.ifname.decode() for _, about in read]
    assert [packet.time for packet in packets] == [(about.tshigh << 32) + about.tslow for _, about in read]
    comments = [about.comments[0].decode() if about.comments else "" for _, about in read]
    assert [packet.comment for packet in packets] == comments
    assert [packet.length for packet in packets] == [about.wirelen for _, about in read]


@pytest.mark.parametrize("data", [b"\0" * 64, b"\x0a\x0d\x0d\x0a" + b"\0" * 60, b"GET / HTTP/1.1\r\n\r\n"])
def test_what_is_no_capture_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no pcapng"):
        list(PcapngReader().feed(data))


def test_drops_are_told_with_reason_nic_and_first_bytes_and_nothing_else_is(named: vnet.Lan) -> None:
    a, b = named.attach("a"), named.attach("b")
    a.send(NOBODY)
    with follow("office") as drops:
        before = time.time_ns()
        large = sized("10.0.0.2", "192.168.1.1", 2000)
        b.send_many([datagram("10.0.0.2", "10.0.0.1"), large])
        a.send(NOBODY)
        told = [drops.next(5.0), drops.next(5.0)]
        with pytest.raises(TimeoutError):
            drops.next(0.1)
    assert all(before <= drop.time <= time.time_ns() for drop in told if drop)
    assert [(drop.nic, drop.direction, drop.reason, drop.length, drop.head, drop.missed) for drop in told if drop] == [
        ("b", "out", Verdict.NO_ROUTE, 2000, large[:96], 0),
        ("a", "out", Verdict.NO_HOST, len(NOBODY), NOBODY, 0),
    ]


def test_a_copy_of_a_broadcast_is_dropped_at_its_receiver(named: vnet.Lan) -> None:
    a, full, _other = named.attach("a"), named.attach("full", buffer=256 << 10), named.attach("other")
    large = sized(a.address, full.address, 60_000)
    while a.send(large) is Verdict.DELIVERED:
        pass
    with follow("office") as drops:
        assert a.send(sized(a.address, "255.255.255.255", 60_000)) is Verdict.DELIVERED
        drop = drops.next(5.0)
    assert drop is not None
    assert (drop.nic, drop.direction, drop.reason) == ("full", "in", Verdict.BUFFER_FULL)


def test_followers_of_some_nics_hear_of_no_others(named: vnet.Lan) -> None:
    a, b = named.attach("a"), named.attach("b")
    with follow("office", ["b"]) as drops:
        a.send(NOBODY)
        b.send(datagram("10.0.0.2", "10.0.0.99"))
        drop = drops.next(5.0)
        assert drop is not None
        assert drop.nic == "b"
    with pytest.raises(vnet.VnetError, match=r"no NIC is called 'c'.*on office are a, b"):
        follow("office", ["c"])


def test_a_follower_that_reads_nothing_holds_nobody_up_and_leaves_nothing(named: vnet.Lan) -> None:
    a, b = named.attach("a"), named.attach("b")
    open_before = len(descriptors())
    with follow("office"):
        for _ in range(200):
            a.send_many([NOBODY] * 1000)
        assert a.send(datagram("10.0.0.1", "10.0.0.2")) is Verdict.DELIVERED
        assert b.recv(timeout=1) == datagram("10.0.0.1", "10.0.0.2")
    assert a.statistics().verdicts[Verdict.NO_HOST] == 200_000
    assert eventually(lambda: len(descriptors()) == open_before)


def test_the_end_of_the_lan_ends_a_follower(named: vnet.Lan) -> None:
    a = named.attach("a")
    with follow("office") as drops:
        a.send(NOBODY)
        named.close()
        drop = drops.next(5.0)
        assert drop is not None
        assert drop.reason is Verdict.NO_HOST
        assert drops.next(5.0) is None
        assert list(drops) == []


def test_the_command_follows_drops_as_lines_of_json(named: vnet.Lan) -> None:
    a = named.attach("a")
    with follower("trace", "office", "--drops", "--json", "--count", "2") as trace:
        while trace.process.poll() is None:
            a.send(NOBODY)
            time.sleep(0.02)
        code, output, errors = trace.end()
    told = [json.loads(line) for line in output.splitlines()]
    assert (code, errors, len(told)) == (0, "", 2)
    assert (told[0]["nic"], told[0]["reason"], told[0]["length"]) == ("a", "no_host", len(NOBODY))
    assert bytes.fromhex(told[0]["bytes"]) == NOBODY
    assert "10.0.0.99" in told[0]["summary"]


def test_the_command_follows_until_the_lan_ends(named: vnet.Lan) -> None:
    a = named.attach("a")
    with follower("trace", "office", "--drops", "--from", "a") as trace:

        def shown() -> bool:
            a.send_many([NOBODY, ELSEWHERE, b"", b"\x45\x1b[2J" * 3])
            return bool(os.path.exists(f"/proc/{trace.process.pid}")) and _readable(trace)

        assert eventually(shown, timeout=20)
        lines = [trace.line() for _ in range(4)]
        named.close()
        code, _, errors = trace.end()
    assert sum("no_host" in line and "10.0.0.1" in line for line in lines) == 1
    assert sum("no_route" in line for line in lines) == 1
    assert sum("malformed" in line for line in lines) == 2
    # What is in a datagram must not reach the terminal as commands.
    assert "\x1b" not in "".join(lines)
    assert (code, errors) == (0, "vnet: the LAN 'office' has ended\n")


def _readable(trace: object) -> bool:
    import select

    return bool(select.select([trace.process.stdout], [], [], 0.05)[0])  # type: ignore[attr-defined]


def test_ctrl_c_and_a_closed_pipe_end_the_command_without_a_word(named: vnet.Lan) -> None:
    a = named.attach("a")
    with follower("trace", "office", "--drops") as trace:
        assert eventually(lambda: bool(a.send(NOBODY)) and _readable(trace), timeout=20)
        trace.interrupt()
        assert trace.end()[0] == 130
    with follower("trace", "office", "--drops") as trace:
        assert eventually(lambda: bool(a.send(NOBODY)) and _readable(trace), timeout=20)
        assert trace.process.stdout
        trace.process.stdout.close()
        assert eventually(lambda: bool(a.send(NOBODY)) and trace.process.poll() is not None, timeout=20)
        assert trace.process.stderr
        assert (trace.process.returncode, trace.process.stderr.read()) == (0, b"")


def test_a_count_that_is_not_reached_is_no_success(named: vnet.Lan) -> None:
    with follower("trace", "office", "--drops", "--count", "1") as trace:
        assert eventually(lambda: named._captures, timeout=20)
        named.close()
        assert trace.end()[0] == 2


def test_drops_take_no_packet(capsys: pytest.CaptureFixture[str]) -> None:
    code, output, errors = vnet_here(capsys, "trace", "office", "--drops", "IP()")
    assert (code, output) == (2, "")
    assert "leave out the packet" in errors
