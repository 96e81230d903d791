"""Traffic between built-in hosts: what is reported is what happened, as the NICs count it and as arithmetic says."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator

import pytest

import vnet
from vnet import _native
from vnet.traffic import IMIX, TrafficPlan, TrafficResult
from vnet.traffic.parties import End, FlowSpec, make_sink, read_arrivals


@pytest.fixture
def lan() -> Iterator[vnet.Lan]:
    with vnet.Lan(None, ["10.0.0.0/24", "fd00::/64"], mtu=1500) as lan:
        yield lan


def test_a_rate_is_kept_and_measured(lan: vnet.Lan) -> None:
    a, b = lan.host("a"), lan.host("b")
    result = a.traffic(b, rate=10e6, sizes=1250, duration=0.3)
    # 10 Mbit/s in datagrams of 1,250 bytes are a thousand a second: 300 of them, one each millisecond.
    assert (result.sent, result.received, result.bytes_sent) == (300, 300, 375_000)
    assert result.throughput == pytest.approx(10e6, rel=0.02)
    assert result.seconds == pytest.approx(0.3, rel=0.02)
    assert result.loss == 0


def test_sizes_take_turns_and_are_bytes_of_ip(lan: vnet.Lan) -> None:
    a, b = lan.host("a"), lan.host("b")
    for family in (4, 6):
        before = b.statistics()
        result = a.traffic(b, rate=50e6, sizes=IMIX, count=120, family=family)
        now = b.statistics()
        assert result.received == now.rx_datagrams - before.rx_datagrams == 120
        assert result.bytes_received == now.rx_bytes - before.rx_bytes == 10 * sum(IMIX)


def test_many_flows_are_each_counted(lan: vnet.Lan) -> None:
    result = lan.host("a").traffic(lan.host("b"), rate=1e6, sizes=500, count=50, flows=20)
    assert (result.sent, result.received, len(result.flows)) == (1000, 1000, 20)
    assert all((flow.sent, flow.received, flow.loss) == (50, 50, 0) for flow in result.flows)
    assert sum(flow.throughput for flow in result.flows) == pytest.approx(result.throughput, rel=0.1)


def test_what_a_full_buffer_drops_is_the_loss(lan: vnet.Lan) -> None:
    # Bursts of eight flows, 64 datagrams of 1,500 bytes each, do not fit into the smallest buffer, which its owner
    # empties in between.
    a, b = lan.host("a"), lan.host("b", buffer=4096)
    result = a.traffic(b, rate=20e9, sizes=1500, count=1000, flows=8)
    counted = a.statistics().verdicts
    assert result.verdicts == counted
    assert result.sent == 8000
    assert 0 < result.sent - result.received == counted[vnet.Verdict.BUFFER_FULL] == b.statistics().rx_dropped
    assert result.loss == pytest.approx(counted[vnet.Verdict.BUFFER_FULL] / 8000)


def test_a_rate_that_cannot_be_kept_shows_in_the_throughput(lan: vnet.Lan) -> None:
    result = lan.host("a").traffic(lan.host("b"), rate=1e12, sizes=1500, duration=0.1)
    assert result.throughput < 0.9e12
    assert result.bytes_received * 8 / result.seconds == pytest.approx(result.throughput)
    assert result.seconds < 2


def test_latencies_are_ordered_and_jitter_is_there(lan: vnet.Lan) -> None:
    result = lan.host("a").traffic(lan.host("b"), rate=20e6, duration=0.2)
    assert 0 <= result.min <= result.p50 <= result.p90 <= result.p99 <= result.max < 1
    assert result.min <= result.avg <= result.max
    assert 0 <= result.jitter < result.max + 1e-9


def test_tcp_arrives_whole_and_what_is_counted_went_over_the_lan(lan: vnet.Lan) -> None:
    a, b = lan.host("a"), lan.host("b")
    result = a.traffic(b, protocol="tcp", count=1_000_003, flows=3)
    assert result.bytes_received == result.bytes_sent == 3 * 1_000_003
    assert [flow.bytes_received for flow in result.flows] == [1_000_003] * 3
    # Headers come on top, and nothing is counted that no NIC has seen.
    assert result.bytes_received < b.statistics().rx_bytes < result.bytes_received * 1.2
    assert math.isnan(result.loss)
    assert math.isnan(result.p99)


def test_tcp_for_a_time_takes_that_time(lan: vnet.Lan) -> None:
    a, b = lan.host("a"), lan.host("b")
    result = a.traffic(b, protocol="tcp", duration=0.2, family=6)
    assert 0.15 < result.seconds < 2
    assert result.throughput == pytest.approx(result.bytes_received * 8 / result.seconds)
    assert result.bytes_received == result.bytes_sent < b.statistics().rx_bytes


def test_a_port_can_be_used_again_at_once(lan: vnet.Lan) -> None:
    a, b = lan.host("a"), lan.host("b")
    for protocol in ("udp", "tcp") * 10:
        result = a.traffic(b, protocol=protocol, rate=1e9, count=20_000 if protocol == "tcp" else 20)
        assert not result.failures


def test_a_port_that_is_taken_is_told(lan: vnet.Lan) -> None:
    a, b = lan.host("a"), lan.host("b")
    b.serve(udp=5201, discard=True)
    with pytest.raises(vnet.VnetError, match="b could not receive: port 5201 is taken"):
        a.traffic(b, duration=0.05)


def test_a_host_that_leaves_meanwhile_is_told(lan: vnet.Lan) -> None:
    a, b = lan.host("a"), lan.host("b")
    threading.Timer(0.1, b.close).start()
    with pytest.raises(vnet.VnetError, match="the guest left the LAN"):
        a.traffic(b, duration=0.4)


def test_what_else_comes_to_the_port_is_not_counted(lan: vnet.Lan) -> None:
    from scapy.all import IP, UDP

    a, b, stranger = lan.host("a"), lan.host("b"), lan.attach("s")
    noise = [bytes(IP(src=stranger.addresses[0], dst=b.address) / UDP(dport=5201) / bytes(n)) for n in (0, 15, 16, 99)]
    results: list[TrafficResult] = []
    thread = threading.Thread(target=lambda: results.append(a.traffic(b, rate=2e6, sizes=250, duration=0.3)))
    thread.start()
    while thread.is_alive():
        stranger.send_many(noise)
        time.sleep(0.001)
    thread.join()
    (result,) = results
    assert (result.sent, result.received, result.duplicates, result.out_of_order) == (300, 300, 0, 0)


def test_order_and_duplicates_are_those_of_the_wire(lan: vnet.Lan) -> None:
    # The datagrams of a flow, made by hand: number 3 comes late, number 1 twice, number 5 never.
    from scapy.all import IP, UDP

    b, nic = lan.host("b"), lan.attach("n")
    flow = FlowSpec(77, End("n", nic.addresses[0]), End("b", b.address))
    sink = make_sink(TrafficPlan(), [flow])
    b._start(sink)
    while not sink.ready():
        time.sleep(0.001)
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    for number in (0, 1, 2, 4, 3, 1, 6):
        payload = (77).to_bytes(4, "big") + number.to_bytes(4, "big") + (now - 5_000_000).to_bytes(8, "big")
        nic.send(IP(src=nic.addresses[0], dst=b.address) / UDP(dport=5201) / payload)
    deadline = time.monotonic() + 5
    while sink.arrived() != [6] and time.monotonic() < deadline:
        time.sleep(0.001)
    sink.stop()
    b._wake()
    assert sink.wait(5)
    (came,) = read_arrivals(sink).flows
    assert (came.received, came.duplicates, came.out_of_order, came.bytes) == (6, 1, 1, 6 * 44)
    low, high = read_arrivals(sink).extremes or (0, 0)
    assert 5_000_000 <= low <= high < 10_000_000_000


def test_percentiles_of_known_latencies() -> None:
    nothing = TrafficResult("udp", 1, 0, 0, 0, 0, 0, 0, 0, 0, 1.0, 0, 0, {}, ())
    assert math.isnan(nothing.p50)
    known = TrafficResult(
        "udp", 1, 100, 100, 0, 0, 0, 0, 0, 0, 1.0, 0, 0, {}, (), tuple((n * 10_000_000, 1) for n in range(1, 101))
    )
    assert (known.p50, known.p90, known.p99) == (0.5, 0.9, 0.99)
    assert (known.percentile(0), known.percentile(1)) == (0.01, 1.0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"protocol": "sctp"}, "protocol is 'udp' or 'tcp', not 'sctp'"),
        ({"rate": 0}, "a rate is above 0"),
        ({"rate": math.nan}, "a rate is above 0"),
        ({"sizes": 43}, "at least 44 bytes, not 43"),
        ({"sizes": 63, "family": 6}, "at least 64 bytes, not 63"),
        ({"sizes": 1501}, "larger than the MTU of 1500"),
        ({"sizes": ()}, "at least one size"),
        ({"duration": 0}, "duration is above 0"),
        ({"duration": -1}, "duration is above 0"),
        ({"duration": math.inf}, "at most a day"),
        ({"count": 0}, "count is at least 1"),
        ({"flows": 0}, "flows is 1 to 1,000"),
        ({"port": 0}, "port is 1 to 65,535"),
        ({"family": 5}, "family is 4 or 6, not 5"),
    ],
)
def test_what_cannot_be_sent_is_refused(lan: vnet.Lan, arguments: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        lan.host("a").traffic(lan.host("b"), **arguments)  # type: ignore[arg-type]


def test_a_program_runs_once(lan: vnet.Lan) -> None:
    a = lan.host("a")
    sink = _native.Program.udp_sink(9, [1])
    a._start(sink)
    with pytest.raises(RuntimeError, match="started already"):
        a._start(sink)
