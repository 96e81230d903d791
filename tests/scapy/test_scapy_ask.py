"""sr, srp, send and their kin: scapy asks over a NIC as over any interface."""

from __future__ import annotations

import errno
import time
from typing import Any

import pytest
from families import Family
from scapy.all import (
    ARP,
    ICMP,
    IP,
    TCP,
    UDP,
    Ether,
    ICMPv6DestUnreach,
    IPv6,
    Net,
    Raw,
    conf,
    defragment,
    send,
    sendp,
    sr,
    sr1,
    sr1flood,
    srflood,
    srloop,
    srp,
    srp1,
    srpflood,
    traceroute,
    traceroute6,
)
from scapy.error import Scapy_Exception

import vnet


def test_sr1_brings_the_answer_of_a_host(family: Family, a: vnet.Nic, web: vnet.Host, iface: Any) -> None:
    answer = sr1(family.ping(web), iface=iface, timeout=2)

    assert (answer.src, answer.dst) == (family.of(web), family.of(a))
    assert family.reply in answer
    assert answer.time >= answer.sent_time if answer.sent_time else answer.time > 0


def test_sr_tells_who_answered_and_who_did_not(a: vnet.Nic, web: vnet.Host, iface: Any) -> None:
    answered, unanswered = sr(IP(dst=Net("10.0.0.0/29")) / ICMP(), iface=iface, timeout=0.5)

    assert [pair.answer.src for pair in answered] == [web.address]
    assert len(unanswered) == 7
    assert all(question.src == a.address for question in unanswered)
    assert all(pair.answer.time >= pair.query.sent_time for pair in answered)


def test_sr_takes_a_list_of_packets_and_of_destinations(
    family: Family, lan: vnet.Lan, web: vnet.Host, iface: Any
) -> None:
    other = lan.host("other")
    packets = [family.ping(web), family.ping(other)]
    both = family.layer(dst=[family.of(web), family.of(other)]) / family.echo()

    for question in (packets, both):
        answered, unanswered = sr(question, iface=iface, timeout=2)
        assert {pair.answer.src for pair in answered} == {family.of(web), family.of(other)}
        assert not unanswered


def test_a_closed_port_answers(family: Family, web: vnet.Host, iface: Any) -> None:
    answer = sr1(family.datagram(web), iface=iface, timeout=2)

    assert answer.src == family.of(web)
    assert (ICMP in answer and answer[ICMP].type == 3) or ICMPv6DestUnreach in answer


def test_a_retry_asks_again(family: Family, a: vnet.Nic, b: vnet.Nic) -> None:
    _, unanswered = sr(family.ping(b), iface=a, timeout=0.05, retry=2)

    assert len(b.recv_many(timeout=1)) == 3
    assert len(unanswered) == 1


@pytest.mark.parametrize("framed", [False, True], ids=["layer_3", "ethernet"])
def test_srp_takes_packets_with_and_without_a_frame(family: Family, web: vnet.Host, iface: Any, framed: bool) -> None:
    question = Ether() / family.ping(web) if framed else family.ping(web)

    answer = srp1(question, iface=iface, timeout=2)

    assert answer.src == family.of(web)
    assert Ether not in answer


def test_srloop_asks_again_and_again(family: Family, web: vnet.Host, iface: Any) -> None:
    answered, unanswered = srloop(family.ping(web), iface=iface, count=3, inter=0.01, timeout=2)

    assert (len(answered), len(unanswered)) == (3, 0)


@pytest.mark.parametrize("flood", [srflood, srpflood])
def test_floods_count_the_answers(family: Family, web: vnet.Host, iface: Any, flood: Any) -> None:
    answered, _ = flood(family.ping(web), iface=iface, timeout=0.2)

    assert answered
    assert {pair.answer.src for pair in answered} == {family.of(web)}


def test_sr1flood_brings_one(family: Family, web: vnet.Host, iface: Any) -> None:
    assert sr1flood(family.ping(web), iface=iface, timeout=0.2).src == family.of(web)


@pytest.mark.parametrize("l4", [None, UDP(dport=33434)], ids=["tcp", "udp"])
def test_traceroute_arrives(family: Family, web: vnet.Host, iface: Any, l4: Any) -> None:
    trace = traceroute if family.version == 4 else traceroute6

    result, unanswered = trace(family.of(web), iface=iface, l4=l4, maxttl=3, timeout=2)

    assert {pair.answer.src for pair in result} == {family.of(web)}
    assert len(result) == 3
    assert not unanswered


# What goes onto the LAN


@pytest.mark.parametrize("how", [send, sendp])
def test_a_packet_without_a_source_gets_the_address_of_the_nic(
    family: Family, a: vnet.Nic, b: vnet.Nic, iface: Any, how: Any
) -> None:
    packet = family.datagram(b)

    how(packet, iface=iface)

    arrived = family.layer(b.recv(timeout=1))
    assert arrived.src == family.of(a)
    # The checksum covers the source, so it was computed after the source was there.
    checksum = arrived[UDP].chksum
    del arrived[UDP].chksum
    assert family.layer(bytes(arrived))[UDP].chksum == checksum
    # The user's own packet is as it was.
    assert packet.getfieldval("src") is None


def test_a_given_source_stays_even_a_spoofed_one(family: Family, a: vnet.Nic, b: vnet.Nic, iface: Any) -> None:
    spoofed = {4: "192.0.2.7", 6: "2001:db8::7"}[family.version]
    packet = family.datagram(b, src=spoofed)

    send(packet, iface=iface)
    sendp(Ether() / packet, iface=iface)

    assert b.recv_many(timeout=1) == [bytes(packet)] * 2


def test_bytes_that_are_no_packet_go_as_they_are(a: vnet.Nic, b: vnet.Nic, iface: Any) -> None:
    broken = bytes(IP(src=a.address, dst=b.address, chksum=0xDEAD, ihl=5, options=[], tos=255) / b"?")

    sendp(Raw(broken), iface=iface)

    assert b.recv(timeout=1) == broken


def test_a_captured_frame_loses_header_and_padding(family: Family, a: vnet.Nic, b: vnet.Nic, iface: Any) -> None:
    datagram = bytes(family.datagram(b, b"", src=family.of(a)))
    ethertype = {4: b"\x08\x00", 6: b"\x86\xdd"}[family.version]
    frame = Ether(b"\x02" * 12 + ethertype + datagram + bytes(46))

    sendp([frame], iface=iface)

    assert b.recv(timeout=1) == datagram


@pytest.mark.parametrize("packet", [Ether() / ARP(pdst="10.0.0.2"), ARP(pdst="10.0.0.2")])
@pytest.mark.parametrize("how", [sendp, srp])
def test_what_is_no_ip_is_refused(a: vnet.Nic, packet: Any, how: Any) -> None:
    with pytest.raises(Scapy_Exception, match=r"a vnet LAN carries IP, not .*ARP"):
        how(packet, iface=a)


def test_a_long_datagram_goes_in_fragments_unless_it_must_not(lan: vnet.Lan) -> None:
    network = lan.add_network("narrow", ["10.9.0.0/24", "fd09::/64"], mtu=1280)
    with lan.attach("c", network=network.name) as c, lan.attach("d", network=network.name) as d:
        packet = IP(dst=d.addresses[0], id=7) / UDP() / (b"x" * 3000)

        send(packet, iface=c)

        pieces = [IP(each) for each in d.recv_many(timeout=1)]
        assert len(pieces) == 3
        assert max(map(len, pieces)) <= 1280
        assert bytes(defragment(pieces)[0][UDP].payload) == b"x" * 3000

        packet.flags = "DF"
        for whole in (packet, IPv6(dst=d.addresses[1]) / UDP() / (b"x" * 3000)):
            with pytest.raises(OSError, match="more than the MTU of NIC 'c', 1280 bytes") as caught:
                send(whole, iface=c)
            assert caught.value.errno == errno.EMSGSIZE
        assert c.statistics().verdicts[vnet.Verdict.TOO_BIG] == 2


def test_what_is_off_the_lan_stays_off_the_machine(a: vnet.Nic, iface: Any) -> None:
    assert sr1(IP(dst="192.0.2.1") / ICMP(), iface=iface, timeout=0.05) is None
    assert sr1(IPv6(dst="2001:db8::1") / TCP(), iface=iface, timeout=0.05) is None

    assert a.statistics().verdicts[vnet.Verdict.NO_ROUTE] == 2


def test_to_ones_own_address_goes_over_the_lan_and_not_over_lo(family: Family, a: vnet.Nic, iface: Any) -> None:
    send(family.datagram(a), iface=iface)

    assert family.layer(a.recv(timeout=1)).src == family.of(a)


# Whose datagrams they are


def test_an_answer_from_before_the_question_is_not_taken_for_its_answer(
    family: Family, a: vnet.Nic, web: vnet.Host
) -> None:
    question = family.ping(web, id=1, seq=1)
    question.src = family.of(a)
    a.send(bytes(question))
    deadline = time.monotonic() + 2
    while not a.statistics().rx_datagrams and time.monotonic() < deadline:
        time.sleep(0.001)
    web.close()

    assert sr1(question, iface=a, timeout=0.1) is None


def test_send_leaves_alone_what_waits_in_the_input_buffer(family: Family, a: vnet.Nic, b: vnet.Nic) -> None:
    send(family.datagram(a, b"for a"), iface=b)

    send(family.datagram(b), iface=a)
    sendp(Ether() / family.datagram(b), iface=a)

    assert family.layer(a.recv(timeout=1))[UDP].payload.load == b"for a"


def test_conf_iface_is_where_packets_go_that_name_no_interface(
    family: Family, b: vnet.Nic, web: vnet.Host, iface: Any, a: vnet.Nic
) -> None:
    conf.iface = iface

    assert sr1(family.ping(web), timeout=2).dst == family.of(a)
    assert srp1(Ether() / family.ping(web), timeout=2).dst == family.of(a)
    assert srflood(family.ping(web), timeout=0.05)[0]
    send(family.datagram(b))
    assert family.layer(b.recv(timeout=1)).src == family.of(a)


def test_a_scope_names_the_nic(family: Family, a: vnet.Nic, web: vnet.Host) -> None:
    question = family.layer(dst=f"{family.of(web)}%a") / family.echo()

    assert question.src == family.of(a)
    assert sr1(question, timeout=2).src == family.of(web)
