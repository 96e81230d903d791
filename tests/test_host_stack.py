"""Built-in hosts against what a host must do; scapy builds the requests and takes the answers apart."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6TimeExceeded,
    IPv6,
)
from scapy.packet import Packet, Raw
from support import datagram, examples

import vnet
from vnet import Verdict

NIC4, NIC6, HOST4, HOST6 = "10.0.0.1", "fd00::1", "10.0.0.2", "fd00::2"


@pytest.fixture
def nic(lan: vnet.Lan) -> vnet.Nic:
    """A NIC beside a built-in host."""
    nic = lan.attach("nic")
    host = lan.host("host")
    assert (nic.addresses, host.addresses) == ((NIC4, NIC6), (HOST4, HOST6))
    return nic


def ask(nic: vnet.Nic, request: Packet | bytes) -> bytes:
    assert nic.send(bytes(request)) is Verdict.DELIVERED
    return nic.recv(timeout=1)


def silent(nic: vnet.Nic, request: Packet | bytes) -> None:
    """The host says nothing, and then it still answers a ping."""
    assert nic.send(bytes(request)) is Verdict.DELIVERED
    answer = IP(ask(nic, IP(src=NIC4, dst=HOST4) / ICMP(id=77, seq=99)))
    assert (answer[ICMP].type, answer[ICMP].id, answer[ICMP].seq) == (0, 77, 99)
    with pytest.raises(vnet.ReceiveTimeout):
        nic.recv(timeout=0)


def intact(answer: bytes) -> Packet:
    """The answer dissected, its checksums and lengths those that scapy computes."""
    packet = IP(answer) if answer[0] >> 4 == 4 else IPv6(answer)
    again = packet.copy()
    layer = again
    while layer:
        for field in ("chksum", "cksum", "len", "plen"):
            if field in layer.fields:
                del layer.fields[field]
        if isinstance(layer, ICMP | ICMPv6DestUnreach):
            break  # what is quoted behind it stays as it is
        layer = layer.payload
    assert bytes(again) == answer
    return packet


@pytest.mark.parametrize("size", [0, 1, 7, 56, 1472, 1473, 9000, 20_000, 65_000, 65_487])
def test_echo_brings_back_what_was_sent(nic: vnet.Nic, lan: vnet.Lan, size: int) -> None:
    payload = (bytes(range(256)) * 256)[:size]
    four = intact(ask(nic, IP(src=NIC4, dst=HOST4, id=7) / ICMP(id=5, seq=9) / Raw(payload)))
    assert (four.src, four.dst, four[ICMP].type, four[ICMP].code, four[ICMP].id, four[ICMP].seq) == (
        *(HOST4, NIC4, 0, 0, 5, 9),
    )
    assert bytes(four[ICMP].payload) == payload
    six = intact(ask(nic, IPv6(src=NIC6, dst=HOST6) / ICMPv6EchoRequest(id=5, seq=9, data=payload)))
    assert (six.src, six.dst, six[ICMPv6EchoReply].id, six[ICMPv6EchoReply].seq) == (HOST6, NIC6, 5, 9)
    assert bytes(six[ICMPv6EchoReply].data) == payload


@pytest.mark.parametrize("size", [0, 1, 56, 1472, 30_000, 65_000, 65_487, 65_507])
@pytest.mark.parametrize("family", [0, 1])
def test_hosts_ping_each_other_at_every_size(lan: vnet.Lan, size: int, family: int) -> None:
    a, b = lan.host("a"), lan.host("b")
    result = a.ping(b.addresses[family], count=3, size=size)
    assert (result.sent, result.received, result.errors) == (3, 3, ())
    assert 0 < result.min <= result.avg <= result.max < 1
    assert a.ping(a.addresses[family], size=size).received == 1


@pytest.mark.parametrize("size", [0, 1, 18, 500, 520, 548, 549, 1500, 20_000])
def test_udp_to_a_closed_port_of_ipv4_gives_port_unreachable_with_the_request_in_it(nic: vnet.Nic, size: int) -> None:
    request = bytes(
        IP(src=NIC4, dst=HOST4, id=0x1234, tos=0x28, ttl=9, flags="DF") / UDP(sport=5, dport=9) / bytes(size)
    )
    answer = intact(ask(nic, request))
    assert (answer.src, answer.dst, answer[ICMP].type, answer[ICMP].code) == (HOST4, NIC4, 3, 3)
    assert bytes(answer)[28:] == request[: 576 - 28]
    assert len(bytes(answer)) == min(576, 28 + len(request))


@pytest.mark.parametrize("size", [0, 1, 500, 1183, 1184, 1185, 1500, 20_000])
def test_udp_to_a_closed_port_of_ipv6_gives_port_unreachable_with_the_request_in_it(nic: vnet.Nic, size: int) -> None:
    request = bytes(IPv6(src=NIC6, dst=HOST6, fl=0x12345, tc=0x28, hlim=9) / UDP(sport=5, dport=9) / bytes(size))
    answer = intact(ask(nic, request))
    assert (answer.src, answer.dst) == (HOST6, NIC6)
    assert (answer[ICMPv6DestUnreach].type, answer[ICMPv6DestUnreach].code) == (1, 4)
    assert bytes(answer)[48:] == request[: 1280 - 48]
    assert len(bytes(answer)) == min(1280, 48 + len(request))


@pytest.mark.parametrize("family", [4, 6])
def test_a_syn_to_a_closed_port_gives_a_reset(nic: vnet.Nic, family: int) -> None:
    ip = IP(src=NIC4, dst=HOST4) if family == 4 else IPv6(src=NIC6, dst=HOST6)
    answer = intact(ask(nic, ip / TCP(sport=1000, dport=80, flags="S", seq=41)))
    tcp = answer[TCP]
    # RFC 9293 section 3.10.7.1: sequence number 0, the SYN acknowledged.
    assert (tcp.sport, tcp.dport, tcp.flags, tcp.seq, tcp.ack) == (80, 1000, "RA", 0, 42)


def _unanswered() -> list[bytes]:
    inner4 = IP(src=HOST4, dst=NIC4) / UDP(sport=5, dport=9) / b"x"
    inner6 = IPv6(src=HOST6, dst=NIC6) / UDP(sport=5, dport=9) / b"x"
    bad_sum = bytearray(bytes(IP(src=NIC4, dst=HOST4) / ICMP()))
    bad_sum[10] ^= 1
    bad_icmp_sum = bytearray(bytes(IP(src=NIC4, dst=HOST4) / ICMP()))
    bad_icmp_sum[22] ^= 1
    bad_udp_sum = bytearray(bytes(IP(src=NIC4, dst=HOST4) / UDP(dport=9) / b"x"))
    bad_udp_sum[26] ^= 1
    packets = [
        IP(src=NIC4, dst=HOST4) / ICMP(type=3, code=3) / inner4,
        IP(src=NIC4, dst=HOST4) / ICMP(type=11) / inner4,
        IP(src=NIC4, dst=HOST4) / ICMP(type=0),
        IPv6(src=NIC6, dst=HOST6) / ICMPv6DestUnreach(code=4) / inner6,
        IPv6(src=NIC6, dst=HOST6) / ICMPv6TimeExceeded() / inner6,
        IPv6(src=NIC6, dst=HOST6) / ICMPv6EchoReply(),
        # RFC 1122 section 3.2.2: no error about a broadcast or multicast.
        IP(src=NIC4, dst="255.255.255.255") / UDP(dport=9) / b"x",
        IP(src=NIC4, dst="10.0.0.255") / UDP(dport=9) / b"x",
        IP(src=NIC4, dst="224.0.0.1") / UDP(dport=9) / b"x",
        IP(src=NIC4, dst="255.255.255.255") / ICMP(),
        IP(src=NIC4, dst="10.0.0.255") / ICMP(),
        IP(src=NIC4, dst="224.0.0.1") / ICMP(),
        IPv6(src=NIC6, dst="ff02::1") / UDP(dport=9) / b"x",
        IPv6(src=NIC6, dst="ff05::9") / UDP(dport=9) / b"x",
        IP(src=NIC4, dst="10.0.0.255") / TCP(dport=80, flags="S"),
        IP(src=NIC4, dst="224.0.0.1") / TCP(dport=80, flags="S"),
        IPv6(src=NIC6, dst="ff02::1") / TCP(dport=80, flags="S"),
        # A reset is not answered with another.
        IP(src=NIC4, dst=HOST4) / TCP(dport=80, flags="R"),
        # Nobody to answer to.
        IP(src="0.0.0.0", dst=HOST4) / ICMP(),
        IP(src="255.255.255.255", dst=HOST4) / UDP(dport=9) / b"x",
        IP(src="224.0.0.9", dst=HOST4) / ICMP(),
    ]
    return [*map(bytes, packets), bytes(bad_sum), bytes(bad_icmp_sum), bytes(bad_udp_sum)]


@pytest.mark.parametrize("number", range(len(_unanswered())))
def test_what_must_not_be_answered_is_not(nic: vnet.Nic, number: int) -> None:
    silent(nic, _unanswered()[number])


def test_an_echo_request_to_all_nodes_of_ipv6_is_answered(nic: vnet.Nic) -> None:
    answer = IPv6(ask(nic, IPv6(src=NIC6, dst="ff02::1") / ICMPv6EchoRequest(id=3)))
    assert (answer.src, answer.dst, answer[ICMPv6EchoReply].id) == (HOST6, NIC6, 3)


def test_an_answer_goes_to_whoever_sent_the_request(nic: vnet.Nic, lan: vnet.Lan) -> None:
    other = lan.attach("other", "10.0.0.50")
    assert nic.send(bytes(IP(src="10.0.0.50", dst=HOST4) / ICMP(id=1))) is Verdict.DELIVERED
    assert IP(other.recv(timeout=1))[ICMP].type == 0
    with pytest.raises(vnet.ReceiveTimeout):
        nic.recv(timeout=0.01)


# What comes of a ping


def test_a_ping_says_what_came_instead_of_a_reply(nic: vnet.Nic, lan: vnet.Lan) -> None:
    host = lan.host("asking")
    lan.reserve("kept", "10.0.0.60")
    assert host.ping("10.0.0.77", count=2).errors == ("no_host",) * 2
    assert host.ping("10.9.9.9").errors == ("no_route",)
    assert host.ping("10.0.0.60").errors == ("nic_down",)
    lost = host.ping(NIC4, count=2, timeout=0.01)
    assert (lost.sent, lost.received, lost.errors, lost.loss) == (2, 0, (), 1.0)
    assert lost.avg != lost.avg


@pytest.mark.parametrize("family", [4, 6])
def test_an_icmp_error_about_a_request_is_its_answer(lan: vnet.Lan, nic: vnet.Nic, family: int) -> None:
    host = lan.host("asking")
    run = host.start_ping(NIC4 if family == 4 else NIC6, timeout=5)
    request = nic.recv(timeout=1)
    assert run.result is not None
    with pytest.raises(TimeoutError):
        run.result(timeout=0.01)
    if family == 4:
        error = IP(src=NIC4, dst=host.addresses[0]) / ICMP(type=3, code=1) / Raw(request[:28])
    else:
        error = IPv6(src=NIC6, dst=host.addresses[1]) / ICMPv6DestUnreach(code=3) / Raw(request)
    nic.send(bytes(error))
    told = f"host unreachable from {NIC4}" if family == 4 else f"address unreachable from {NIC6}"
    assert run.result(timeout=1).errors == (told,)


def test_a_wrong_reply_is_no_reply(lan: vnet.Lan, nic: vnet.Nic) -> None:
    host = lan.host("asking")
    run = host.start_ping(NIC4, timeout=0.1, size=10)
    request = IP(nic.recv(timeout=1))
    reply = (
        IP(src=NIC4, dst=host.address) / ICMP(type=0, id=request[ICMP].id, seq=request[ICMP].seq) / Raw(b"otherwords")
    )
    nic.send(bytes(reply))
    other_source = IP(src="10.0.0.99", dst=host.address) / request[ICMP]
    other_source[ICMP].type = 0
    del other_source[ICMP].chksum
    nic.send(bytes(other_source))
    assert run.result(timeout=1).received == 0


def test_pings_keep_their_interval_and_run_side_by_side(lan: vnet.Lan) -> None:
    import time

    a, b = lan.host("a"), lan.host("b")
    started = time.monotonic()
    runs = [a.start_ping(b.address, count=5, interval=0.02) for _ in range(20)]
    assert {run.result(timeout=5).received for run in runs} == {5}
    assert 0.08 <= time.monotonic() - started < 1


def test_arguments_of_a_ping_that_make_no_sense_are_refused(lan: vnet.Lan) -> None:
    host = lan.host("a")
    nan = float("nan")
    for wrong in (
        {"count": 0},
        {"count": 65_536},
        {"size": -1},
        {"size": 65_508},
        {"timeout": -1.0},
        {"interval": nan},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            host.ping("10.0.0.9", **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="address"):
        host.ping("somewhere")


def test_many_requests_of_one_run_are_answered_soon(lan: vnet.Lan) -> None:
    a, b = lan.host("a"), lan.host("b")
    assert a.ping(b.address, count=65_535, size=0).received == 65_535


def test_pings_end_when_the_host_or_the_lan_does(lan: vnet.Lan, nic: vnet.Nic) -> None:
    a, b = lan.host("a"), lan.host("b")
    of_a, of_b = (each.start_ping(NIC4, timeout=60) for each in (a, b))
    a.close()
    assert of_a.result(timeout=1).loss == 1
    with pytest.raises(vnet.NicClosed):
        a.ping(NIC4)
    for number in range(30):
        with_none = lan.host(f"short{number}")
        run = with_none.start_ping(NIC4, timeout=60)
        with_none.close()
        assert run.result(timeout=1).loss == 1
    late = b.start_ping(NIC4, timeout=60)
    lan.close()
    assert of_b.result(timeout=1).loss == 1
    assert late.result(timeout=1).loss == 1


@settings(max_examples=examples(300), deadline=None)
@given(st.data())
def test_no_datagram_stops_a_host(data: st.DataObject) -> None:
    with vnet.Lan(None, ["10.0.0.0/24", "fd00::/64"], max_nics=4, buffer=256 << 10) as lan:
        nic, host = lan.attach("nic"), lan.host("host")
        for _ in range(data.draw(st.integers(1, 8))):
            protocol = data.draw(st.sampled_from([0, 1, 2, 6, 17, 43, 44, 58, 60, 255]))
            payload = data.draw(st.binary(max_size=80))
            six = data.draw(st.booleans())
            request = bytearray(
                datagram(NIC6, HOST6, payload, protocol=protocol)
                if six
                else datagram(NIC4, HOST4, payload, protocol=protocol)
            )
            for _ in range(data.draw(st.integers(0, 3))):
                at = data.draw(st.integers(0, len(request) - 1))
                if (24 if six else 16) <= at < (40 if six else 20):
                    continue
                request[at] = data.draw(st.integers(0, 255))
            nic.send(request)
        assert host.ping(host.address).received == 1
        assert host.ping(host.addresses[1]).received == 1
        assert lan.nics["host"].state == "up"
