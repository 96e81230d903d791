"""Captures of what crosses routers, as tshark reads them: the sender's datagram, the receiver's, answers, and drops."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.all import ICMP, IP, UDP, IPv6, raw

import vnet
from capture.reading import needs_tshark
from vnet.drops import follow

OUT, IN = "0x00000002", "0x00000001"


@pytest.fixture
def line() -> Iterator[vnet.Lan]:
    """A named LAN: alice's desk, three routers in a line, of which the second has links alone, and bob's lab."""
    with vnet.Lan("captured-line") as lan:
        lan.add_network("desk", ["10.1.0.0/24", "fd00:1::/64"])
        lan.add_network("dock", "10.3.0.0/24")
        lan.add_network("lab", ["10.2.0.0/24", "fd00:2::/64"])
        lan.router("r1", ["desk", "dock"])
        lan.router("r2")
        lan.router("r3", ["lab"])
        lan.link("r1", "r2", addresses=("172.31.0.0", "172.31.0.1"))
        lan.link("r2", "r3", addresses=("172.31.0.2", "172.31.0.3"), mtu=1400)
        yield lan


def ends(lan: vnet.Lan) -> tuple[vnet.Nic, vnet.Nic]:
    alice = lan.attach("alice", ["10.1.0.2", "fd00:1::2"], network="desk")
    return alice, lan.attach("bob", ["10.2.0.2", "fd00:2::2"], network="lab")


def packets(path: Path) -> list[tuple[str, ...]]:
    """NIC, direction, first source, first TTL or hop limit, and comment of each packet."""
    fields = ("frame.interface_name", "frame.packet_flags_direction", "ip.src", "ipv6.src", "ip.ttl", "ipv6.hlim")
    command = ["tshark", "-r", str(path), "-T", "fields", "-E", "occurrence=f"]
    for field in (*fields, "frame.comment"):
        command += ["-e", field]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = [line.split("\t") for line in text.splitlines()]
    return [(nic, way, four or six, ttl or hops, why) for nic, way, four, six, ttl, hops, why in rows]


@needs_tshark
def test_a_datagram_is_there_as_sent_and_as_received_with_the_routers_that_it_comes_by(
    line: vnet.Lan, tmp_path: Path
) -> None:
    alice, _bob = ends(line)
    for source, packet in (
        ("10.1.0.2", IP(src="10.1.0.2", dst="10.2.0.2") / UDP()),
        ("fd00:1::2", IPv6(src="fd00:1::2", dst="fd00:2::2", hlim=64) / UDP()),
        # The long way, which settles router by router.
        ("10.1.0.2", IP(src="10.1.0.2", dst="10.2.0.2") / UDP() / (b"x" * 1000)),
    ):
        with line.capture(tmp_path / "x.pcapng"):
            alice.send(raw(packet))
        assert packets(tmp_path / "x.pcapng") == [
            ("alice", OUT, source, "64", ""),
            ("r1.desk", IN, source, "64", ""),
            ("r3", OUT, source, "61", ""),
            ("bob", IN, source, "61", ""),
        ]


@needs_tshark
@pytest.mark.parametrize(
    ("packet", "at", "why", "source"),
    [
        (IP(src="10.1.0.2", dst="10.2.0.2", ttl=2) / ICMP(), "r2", "ttl_exceeded", "172.31.0.1"),
        (IP(src="10.1.0.2", dst="10.2.0.2", flags="DF") / UDP() / (b"x" * 1400), "r2", "too_big", "172.31.0.1"),
        (IP(src="10.1.0.2", dst="10.2.0.99") / UDP(), "r3", "no_host", "172.31.0.3"),
        (IP(src="10.1.0.2", dst="192.0.2.1") / UDP(), "r1.desk", "no_route", "10.1.0.1"),
        (IPv6(src="fd00:1::2", dst="fd00:2::2", hlim=1) / UDP(), "r1.desk", "ttl_exceeded", "fd00:1::1"),
        (IP(src="10.1.0.2", dst="10.2.0.2", chksum=1) / UDP(), "r1.desk", "malformed", ""),
    ],
)
def test_a_drop_is_noted_at_the_router_that_drops_and_then_comes_its_answer_by_the_nic_that_it_arrives_from(
    line: vnet.Lan, tmp_path: Path, packet: object, at: str, why: str, source: str
) -> None:
    alice, _bob = ends(line)
    with line.capture(tmp_path / "x.pcapng"):
        alice.send(raw(packet))
    sent, taken, dropped, *answer = packets(tmp_path / "x.pcapng")
    assert (sent[:2], taken[:2]) == (("alice", OUT), ("r1.desk", IN))
    assert (dropped[0], dropped[1], dropped[4]) == (at, OUT, f"dropped: {why}")
    assert [(nic, way, who) for nic, way, who, *_ in answer] == (
        [("r1.desk", OUT, source), ("alice", IN, source)] if source else []
    )


@needs_tshark
def test_a_router_is_captured_by_name_with_all_of_its_nics_or_by_one_of_them(line: vnet.Lan, tmp_path: Path) -> None:
    alice, _bob = ends(line)
    files = {name: tmp_path / f"{name}.pcapng" for name in ("r1", "r1.dock", "r2")}
    running = [line.capture(path, nics=[name]) for name, path in files.items()]
    alice.send(raw(IP(src="10.1.0.2", dst="10.2.0.2", ttl=2) / UDP()))
    for each in running:
        each.close()
    seen = {name: [packet[:2] for packet in packets(path)] for name, path in files.items()}
    assert seen == {"r1": [("r1.desk", IN), ("r1.desk", OUT)], "r1.dock": [], "r2": [("r2", OUT)]}


@needs_tshark
def test_a_filter_knows_the_addresses_of_routers_by_their_names(line: vnet.Lan, tmp_path: Path) -> None:
    alice, _bob = ends(line)
    with line.capture(tmp_path / "x.pcapng", filter="src r2 or host r1.desk"):
        alice.send(raw(IP(src="10.1.0.2", dst="10.2.0.2", ttl=2) / UDP()))
        alice.send(raw(IP(src="10.1.0.2", dst="10.1.0.1") / ICMP()))
    found = [(nic, way, source) for nic, way, source, *_ in packets(tmp_path / "x.pcapng")]
    assert found[:2] == [("r1.desk", OUT, "172.31.0.1"), ("alice", IN, "172.31.0.1")]
    assert [source for *_, source in found[2:]] == ["10.1.0.2", "10.1.0.2", "10.1.0.1", "10.1.0.1"]


def test_the_verb_takes_names_of_routers_and_drops_are_told_at_theirs(line: vnet.Lan) -> None:
    alice, _bob = ends(line)
    packet = raw(IP(src="10.1.0.2", dst="10.2.0.2", ttl=2) / UDP())
    with follow("captured-line", ["r2"]) as drops:
        alice.send(packet)
        drop = drops.next(5.0)
    assert drop is not None
    assert (drop.nic, drop.reason) == ("r2", vnet.Verdict.TTL_EXCEEDED)
    with subprocess.Popen(
        [sys.executable, "-m", "vnet", "capture", "captured-line", "r2", "udp", "--count", "1"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as running:  # fmt: skip
        while running.poll() is None:
            alice.send(packet)
        assert running.stdout is not None
        text = running.stdout.read()
    assert running.returncode == 0
    assert "r2    Out IP 10.1.0.2.53 > 10.2.0.2.53: UDP, length 0  dropped: ttl_exceeded" in text
