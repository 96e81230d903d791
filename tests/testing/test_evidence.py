"""Datagrams in words, and captures read back."""

from __future__ import annotations

from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from support import datagram, examples

import vnet
from vnet import Verdict
from vnet.testing.evidence import describe, read_evidence


@settings(max_examples=examples(500), deadline=None)
@given(st.binary(max_size=80) | st.binary(min_size=60, max_size=60).map(lambda tail: b"\x45" + tail))
def test_any_bytes_can_be_put_in_words(data: bytes) -> None:
    said = describe(data)
    assert f"{len(data)} bytes" in said
    assert "\n" not in said


@pytest.mark.parametrize("seed", range(40))
def test_the_words_are_what_scapy_reads(seed: int) -> None:
    import random

    from scapy.layers.inet import ICMP, IP, TCP, UDP
    from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
    from scapy.packet import Raw

    chance = random.Random(seed)
    ports = {"sport": chance.randrange(65536), "dport": chance.randrange(65536)}
    upper = chance.choice([UDP(**ports), TCP(**ports), ICMP(type=chance.choice([0, 3, 8, 11]), code=1)])
    if chance.random() < 0.5:
        options = [] if chance.random() < 0.5 else [b"\x07\x07\x04\x00\x00\x00\x00\x00"]
        head = IP(src=f"10.1.2.{seed}", dst="192.0.2.7", ttl=chance.randrange(256), options=options)
        hops = f"ttl {head.ttl}"
    else:
        head = IPv6(src=f"fd00::{seed + 1}", dst="2001:db8::7", hlim=chance.randrange(256))
        hops = f"hop limit {head.hlim}"
        if ICMP in upper:
            upper = ICMPv6EchoRequest()
    data = bytes(head / upper / Raw(bytes(chance.randrange(40))))
    said = describe(data)
    assert said.endswith(f", {len(data)} bytes, {hops}")
    if "sport" in upper.fields:
        ends = (head.src, head.dst) if IP in head else (f"[{head.src}]", f"[{head.dst}]")
        assert said.startswith(f"{upper.name} {ends[0]}:{ports['sport']} > {ends[1]}:{ports['dport']},")
    else:
        name = "ICMP" if IP in head else "ICMPv6"
        assert said.startswith(f"{name} type {upper.type} code {upper.code} {head.src} > {head.dst},")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no IP datagram, 0 bytes"),
        (b"\x45" + bytes(18), "no IP datagram, 19 bytes"),
        (datagram("10.0.0.1", "10.0.0.2", protocol=89), "protocol 89 10.0.0.1 > 10.0.0.2, 20 bytes, ttl 64"),
        (
            datagram("10.0.0.1", "10.0.0.2", b"data")[:6] + b"\x00\x10" + datagram("10.0.0.1", "10.0.0.2", b"data")[8:],
            "fragment 10.0.0.1 > 10.0.0.2, UDP, 24 bytes",
        ),
    ],
)
def test_what_is_odd_has_words_too(data: bytes, said: str) -> None:
    assert describe(data) == said


def test_a_capture_tells_what_the_counters_tell(tmp_path: Path) -> None:
    """The counters and the capture are two accounts of the same datagrams; neither is made from the other."""
    with vnet.Lan(None, ["10.0.0.0/24", "fd00::/64"], mtu=2000) as lan:
        with lan.capture(tmp_path / "all.pcapng"):
            a, b = lan.attach("a"), lan.attach("b", buffer=1)
            lan.reserve("down", "10.0.0.9")
            for data in (
                *[datagram(a.address, b.address, bytes(1500))] * 100,
                datagram(a.address, "10.0.0.9"),
                datagram(a.address, "10.0.0.99"),
                datagram(a.address, "192.0.2.1"),
                datagram(a.address, b.address, bytes(2000)),
                datagram("fd00::1", "ff02::1"),
                b"",
            ):
                a.send(data)
                b.send(data)
        counted = lan.statistics().nics
    evidence = read_evidence([tmp_path / "all.pcapng"])
    for name in ("a", "b"):
        flow, own = evidence.flows[name], counted[name]
        assert flow.sent == own.tx_datagrams
        assert flow.received == own.rx_datagrams
        assert flow.dropped == {
            each.name.lower(): own.verdicts[each] for each in Verdict if each and own.verdicts[each]
        }
    assert counted["b"].rx_dropped > 0
    assert [drop.reason for drop in evidence.drops][-2:] == ["malformed", "malformed"]


def test_a_capture_that_ends_in_the_middle_counts_as_far_as_it_goes(tmp_path: Path) -> None:
    with vnet.Lan(None, "10.0.0.0/24") as lan, lan.capture(tmp_path / "whole.pcapng"):
        lan.attach("a").send_many([datagram("10.0.0.1", "10.0.0.99")] * 10)
    whole = (tmp_path / "whole.pcapng").read_bytes()
    counts = []
    for size in range(len(whole) + 1):
        (tmp_path / "part.pcapng").write_bytes(whole[:size])
        flows = read_evidence([tmp_path / "part.pcapng"]).flows
        counts.append(sum(flow.sent for flow in flows.values()))
    assert counts == sorted(counts)
    assert set(counts) == set(range(11))
