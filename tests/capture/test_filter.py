"""Filters give the verdicts that libpcap's own machine gives."""

from __future__ import annotations

import ctypes
import random
import shutil
import subprocess
from typing import Any

import pytest
from support import ROOT, datagram, examples

import vnet
from vnet import _native, filters
from vnet.lab.recording import read_recording

PCAPS = ROOT.parent / "shared/data/pcaps"

EXPRESSIONS = (
    "udp",
    "tcp",
    "icmp or icmp6",
    "ip6",
    "host 10.0.0.1",
    "src net 10.0.0.0/8 and not dst port 53",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "tcp port 80 and (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0)",
    "greater 100",
    "less 60",
    "len % 3 = 1",
    "ip[0] & 0xf > 5",
    "ip[6:2] & 0x1fff != 0",
    "portrange 1000-2000",
    "ip proto 47 or ip6 proto 6",
    "udp[8:4] = 0x01020304",
    "ip[ip[20]] = 7",
    "ip[1000] = 0",
    "ip[8] / ip[9] = 4",
    "ip[10] << ip[11] = 0",
    "ip6 and tcp src port 443",
    "ip multicast or ip6 multicast",
    "icmp[icmptype] = icmp-echo",
    "not ip",
    " or ".join(f"host 10.{number}.0.1" for number in range(60)),
)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("host alice", "host 10.0.0.1 or host fd00::1"),
        ("src bob and udp", "src 10.0.0.2 and udp"),
        ("udp and (dst host bob)", "udp and (dst host 10.0.0.2)"),
        ("src alice or bob and port 53", "(src 10.0.0.1 or src fd00::1) or src 10.0.0.2 and port 53"),
        ("src or dst alice or bob", "host 10.0.0.1 or host fd00::1 or host 10.0.0.2"),
        ("not host alice && !host bob", "not (host 10.0.0.1 or host fd00::1) && !(host 10.0.0.2)"),
        # What only looks like a name of a host is left alone.
        ("host udp and udp", "host 10.0.0.3 and udp"),
        ("host bob and port 53", "host 10.0.0.2 and port 53"),
        ("udp port 53", "udp port 53"),
    ],
)
def test_names_of_nics_stand_for_their_addresses(written: str, meant: str) -> None:
    names = {"alice": ["10.0.0.1", "fd00::1"], "bob": ["10.0.0.2"], "udp": ["10.0.0.3"], "53": ["10.0.0.9"]}
    chosen = filters.with_addresses(written, names)
    # libpcap may order its tests otherwise: what counts is what is let through.
    ours, theirs = filters.runner(chosen), filters.runner(meant)
    ends = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.9", "fd00::1", "fd00::9"]
    let_through = 0
    for a in ends:
        for b in ends:
            if (":" in a) != (":" in b):
                continue
            for port in (53, 9):
                for protocol in (17, 6):
                    packet = datagram(a, b, port.to_bytes(2, "big") * 2 + bytes(20), protocol=protocol)
                    assert bool(ours.run(packet)) == bool(theirs.run(packet)), (a, b, port, protocol)
                    let_through += bool(ours.run(packet))
    assert let_through


class _Header(ctypes.Structure):
    """struct pcap_pkthdr."""

    _fields_ = (("seconds", ctypes.c_long), ("microseconds", ctypes.c_long), ("kept", ctypes.c_uint32),
                ("length", ctypes.c_uint32))  # fmt: skip


class _Oracle:
    """libpcap: pcap_offline_filter() of an expression that it has compiled itself."""

    def __init__(self, expression: str) -> None:
        self._library = filters._library()
        self._handle = self._library.pcap_open_dead(12, 262_144)
        self._program = filters._Program()
        compiled = self._library.pcap_compile(
            self._handle, ctypes.byref(self._program), expression.encode(), 1, 0xFFFFFFFF
        )
        assert compiled == 0
        self._run = self._library["pcap_offline_filter"]
        self._run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p]

    def takes(self, data: bytes, length: int) -> bool:
        header = _Header(0, 0, len(data), length)
        return bool(self._run(ctypes.byref(self._program), ctypes.byref(header), data))

    def close(self) -> None:
        self._library.pcap_freecode(ctypes.byref(self._program))
        self._library.pcap_close(self._handle)


def _generated(count: int) -> list[bytes]:
    """Datagrams that are right, cut off, or nonsense."""
    chance = random.Random(7)
    made = []
    for _ in range(count):
        payload = bytes(chance.choices((0, 1, 2, 3, 4, 7, 53, 80, 255), k=chance.randrange(60)))
        family = chance.choice((("10.0.0.1", "10.9.8.7"), ("10.7.0.1", "224.0.0.1"), ("fd00::1", "ff02::1")))
        made.append(
            datagram(*family, payload, protocol=chance.choice((1, 6, 17, 47, 58)), ttl=chance.choice((0, 1, 64)))
        )
        made.append(made[-1][: chance.randrange(len(made[-1]))])
        made.append(bytes(chance.choices(range(256), k=chance.randrange(80))))
    return made


def _recorded() -> list[bytes]:
    found = sorted(PCAPS.glob("*.pcap*"))
    return [record.datagram for path in found for record in read_recording(path).datagrams]


def _compare(datagrams: list[bytes]) -> set[bool]:
    verdicts = set()
    for expression in EXPRESSIONS:
        ours = _native.Filter(filters.compile_filter(expression))
        oracle = _Oracle(expression)
        for data in datagrams:
            for length in (len(data), len(data) + 1000):
                expected = oracle.takes(data, length)
                assert bool(ours.run(data, length)) == expected, (expression, data.hex(), length)
                verdicts.add(expected)
        oracle.close()
    return verdicts


def test_verdicts_on_generated_datagrams_are_those_of_libpcap() -> None:
    assert _compare(_generated(examples(150))) == {True, False}


@pytest.mark.skipif(not PCAPS.is_dir(), reason="needs the captures of shared/")
def test_verdicts_on_recorded_datagrams_are_those_of_libpcap() -> None:
    recorded = _recorded()
    assert recorded
    assert _compare(recorded) == {True, False}


@pytest.mark.skipif(shutil.which("tcpdump") is None, reason="needs tcpdump: apt-get install tcpdump")
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_the_program_is_the_one_that_tcpdump_compiles(expression: str) -> None:
    told = subprocess.run(
        ["tcpdump", "-ddd", "-y", "RAW", "-s", "262144", expression], capture_output=True, text=True, check=True
    )
    count, *lines = told.stdout.split("\n")
    program = b"".join(
        int(code).to_bytes(2, "little") + bytes([int(yes), int(no)]) + int(k).to_bytes(4, "little")
        for code, yes, no, k in (line.split() for line in lines if line)
    )
    assert len(program) == int(count) * 8
    assert program == filters.compile_filter(expression)


@pytest.mark.parametrize(
    ("expression", "words"),
    [("ud", "syntax error|unknown host"), ("udp port", "syntax error"), ("ether host 1:2:3:4:5:6", "ether|link"),
     ("host 10.0.0.300", "invalid|illegal|unknown|syntax"), ("udp\0tcp", "zero byte")],
)  # fmt: skip
def test_what_does_not_compile_is_told_in_libpcaps_words(expression: str, words: str) -> None:
    with pytest.raises(filters.FilterError, match=words):
        filters.compile_filter(expression)


def test_without_libpcap_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: Any) -> None:
        raise OSError

    filters._library.cache_clear()
    monkeypatch.setattr(filters.ctypes, "CDLL", nothing)
    monkeypatch.setattr(filters.ctypes.util, "find_library", lambda name: None)
    with pytest.raises(vnet.MachineLacks, match=r"apt-get install libpcap0\.8"):
        filters.compile_filter("udp")
    filters._library.cache_clear()


@pytest.mark.parametrize("program", [b"", b"\0" * 7, b"\0" * 8, b"\xff" * 16])
def test_a_program_that_the_kernel_would_not_take_is_refused(program: bytes) -> None:
    with pytest.raises(ValueError, match="filter"):
        _native.Filter(program)
