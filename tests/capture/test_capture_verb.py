"""``vnet capture`` as a user types it."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import datagram, eventually

import vnet
from capture.reading import needs_tshark, packets, seen

VNET = [sys.executable, "-m", "vnet", "capture"]
DNS = b"\x10\x00\x00\x35\x00\x0c\x00\x00ping"


def run(*words: str, **popen: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*VNET, *words], capture_output=True, text=True, timeout=60, **popen)  # type: ignore[call-overload, no-any-return]


@contextlib.contextmanager
def capturing(lan: vnet.Lan, *words: str, **popen: object) -> Iterator[subprocess.Popen[str]]:
    """The verb, once its capture has begun."""
    before = len(lan._captures)
    process = subprocess.Popen(  # type: ignore[call-overload]
        [*VNET, *words], text=True, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **popen}
    )
    try:
        assert eventually(lambda: len(lan._captures) > before or process.poll() is not None, 20)
        yield process
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def traffic(lan: vnet.Lan) -> Iterator[None]:
    """alice asks bob, and somebody who is not there, again and again."""
    alice = lan.attach("alice", "10.0.0.1")
    bob = lan.attach("bob", "10.0.0.2")
    stop = threading.Event()

    def send() -> None:
        while not stop.wait(0.002):
            alice.send(datagram("10.0.0.1", "10.0.0.2", DNS))
            alice.send(datagram("10.0.0.1", "10.0.0.99", b"\x10\x00\x00\x09\x00\x08\x00\x00"))
            bob.recv_many(100, 0) if bob.statistics().rx_datagrams else None

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_without_a_file_it_prints_a_line_for_each_packet(named: vnet.Lan) -> None:
    with traffic(named):
        done = run("office", "--count", "30")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 30
    kinds = {line.split(" ", 1)[1] for line in lines}
    assert kinds == {
        "alice Out IP 10.0.0.1.4096 > 10.0.0.2.53: UDP, length 4",
        "bob   In  IP 10.0.0.1.4096 > 10.0.0.2.53: UDP, length 4",
        "alice Out IP 10.0.0.1.4096 > 10.0.0.99.9: UDP, length 0  dropped: no_host",
    }
    assert "30 packets of" in done.stderr
    assert "0 missed" in done.stderr


def test_words_are_nics_until_one_is_not_and_then_a_filter(named: vnet.Lan) -> None:
    with traffic(named):
        done = run("office", "bob", "udp", "port", "53", "--count", "3", "--json")
        other = run("office", "-i", "alice", "udp dst port 9", "-c", "2")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["nic"], line["direction"], line["length"]) for line in lines[:3]] == [("bob", "in", 32)] * 3
    assert lines[3] == {
        "format": 1,
        "lan": "office",
        "capture": {"packets": 3, "datagrams": 3, "missed": 0, "why": "limit", "error": None},
    }
    assert other.stdout.count("> 10.0.0.99.9") == 2


@needs_tshark
def test_a_pipe_into_tshark_shows_packets_while_they_come(named: vnet.Lan) -> None:
    with traffic(named):
        shell = f"{sys.executable} -m vnet capture office -w - | tshark -l -r - -c 6 -T fields -e frame.interface_name"
        done = subprocess.run(shell, shell=True, capture_output=True, text=True, timeout=60)
    assert set(done.stdout.split()) == {"alice", "bob"}
    assert len(done.stdout.split()) == 6
    # tshark ended first: the verb ended well, too, and told so.
    assert "Traceback" not in done.stderr
    assert "captured, 0 missed" in done.stderr


@needs_tshark
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_good_order_with_a_whole_file(
    named: vnet.Lan, tmp_path: Path, number: signal.Signals
) -> None:
    path = tmp_path / "c.pcapng"
    with traffic(named), capturing(named, "office", "-w", str(path)) as process:
        time.sleep(0.1)
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    count = len(packets(path))
    assert count > 3
    assert errors.startswith(f"{count:,} packets of")
    assert not named._captures


@needs_tshark
def test_drops_are_captured_alone(named: vnet.Lan, tmp_path: Path) -> None:
    path = tmp_path / "c.pcapng"
    with traffic(named):
        done = run("office", "--drops", "-w", str(path), "--count", "5")
    assert done.returncode == 0
    assert seen(path) == [("alice", "out")] * 5
    assert {packet["frame.comment"] for packet in packets(path)} == {"dropped: no_host"}


@needs_tshark
def test_the_end_of_the_lan_is_told_and_the_file_is_whole(named: vnet.Lan, tmp_path: Path) -> None:
    path = tmp_path / "c.pcapng"
    with capturing(named, "office", "-w", str(path)) as process:
        alice = named.attach("alice")
        for _ in range(10):
            alice.send(datagram("10.0.0.1", "10.0.0.1"))
        named.close()
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert errors == "vnet: the LAN 'office' has ended\n20 packets of 10 datagrams captured, 0 missed\n"
    assert len(packets(path)) == 20


def test_a_client_that_is_killed_leaves_no_capture(named: vnet.Lan, tmp_path: Path) -> None:
    with capturing(named, "office", "-w", str(tmp_path / "c")) as process:
        process.kill()
        assert eventually(lambda: not named._captures)


def test_ctrl_c_in_a_terminal_ends_the_lines_without_a_traceback(named: vnet.Lan) -> None:
    leader, follower = pty.openpty()
    with traffic(named), capturing(named, "office", stdin=follower, stdout=follower, stderr=follower,
                                   start_new_session=True) as process:  # fmt: skip
        os.close(follower)
        shown = b""
        while b"no_host" not in shown:
            shown += os.read(leader, 65_536)
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):
            while data := os.read(leader, 65_536):
                shown += data
        assert process.wait(20) == 0
    os.close(leader)
    assert b"\x1b[31mdropped: no_host\x1b[m" in shown
    assert b"Traceback" not in shown
    assert b"captured, 0 missed" in shown


@needs_tshark
def test_a_full_disk_is_told_and_what_was_written_can_be_read(named: vnet.Lan, tmp_path: Path) -> None:
    """The base has a limit to its files, as a disk has."""
    import resource

    path = tmp_path / "c.pcapng"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    alice = named.attach("alice")
    with capturing(named, "office", "-w", str(path)) as process:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
        try:
            for _ in range(200):
                alice.send(datagram("10.0.0.1", "10.0.0.1", bytes(1000)))
            _, errors = process.communicate(timeout=20)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert process.returncode == 2
    count = len(packets(path))
    assert 40 < count < 50
    assert errors.startswith(f"{count} packets of")
    assert errors.endswith(
        f"vnet: {path}: the capture is not whole: File too large; what came until then can be read\n"
    )


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["nowhere"], 2, "no LAN named 'nowhere' is up"),
        (["office", "-i", "alcie"], 2, "no NIC of office is called 'alcie' (did you mean 'alice'?)"),
        (["office", "udp", "prot", "53"], 2, "the filter 'udp prot 53' does not compile: "),
        (["office", "-w", "/nowhere/c"], 2, "/nowhere/c cannot be written: No such file or directory"),
        (["office", "-w", "/dev/full"], 2, "cannot be written: No space left on device"),
        (["office", "--file-size", "1MB"], 2, "--file-size is for -w FILE"),
        (["office", "--files", "2", "-w", "x"], 2, "give that too"),
        (["office", "--file-size", "1B", "-w", "x"], 2, "at least 4096 bytes"),
        (["office", "--seconds", "soon"], 2, "--seconds"),
        (["office", "-Q", "up"], 2, "direction is both, in or out"),
    ],
)
def test_wrong_use_is_one_sentence(named: vnet.Lan, words: list[str], code: int, told: str) -> None:
    named.attach("alice")
    done = run(*words)
    assert (done.returncode, done.stdout) == (code, "")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert not Path("x").exists()


def test_a_terminal_gets_no_capture(named: vnet.Lan) -> None:
    leader, follower = pty.openpty()
    done = subprocess.run([*VNET, "office", "-w", "-"], stdout=follower, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(follower)
    os.close(leader)
    assert done.returncode == 2
    assert done.stderr == "vnet: a capture is nothing for a terminal; give -w FILE, or a pipe such as `| tshark -r -`\n"


def test_help_has_an_example() -> None:
    assert "Example: vnet capture" in run("--help").stdout
