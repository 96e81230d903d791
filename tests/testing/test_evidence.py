"""Datagrams in words, and captures read back."""

from __future__ import annotations

from pathlib import Path

import hypothesis.strategies as st
from hypothesis import given, settings
from support import datagram, examples

import vnet
from vnet import Verdict
from vnet.testing.evidence import Drop, read_evidence


@settings(max_examples=examples(500), deadline=None)
@given(st.binary(max_size=80) | st.binary(min_size=60, max_size=60).map(lambda tail: b"\x45" + tail))
def test_any_drop_can_be_told(data: bytes) -> None:
    told = str(Drop("a", "malformed", data)).splitlines()
    assert told[0].startswith(f"a  malformed  {len(data)} B  ")
    assert bytes.fromhex(told[1].removesuffix(" ...")) == data[:28]
    assert len(told) == 2


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
