"""sniff and AsyncSniffer on NICs: what they see, and how they end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import support
from families import Family
from scapy.all import ICMP, IP, TCP, UDP, AsyncSniffer, Raw, conf, rdpcap, send, sniff, sr1, wrpcapng
from scapy.error import Scapy_Exception

import vnet


@contextmanager
def sniffing(**arguments: Any) -> Iterator[AsyncSniffer]:
    """A sniffer that listens already, and ends."""
    listening = threading.Event()
    sniffer = AsyncSniffer(started_callback=listening.set, **arguments)
    sniffer.start()
    assert listening.wait(5)
    try:
        yield sniffer
    finally:
        if sniffer.running:
            sniffer.stop(join=False)
        sniffer.thread.join(5)
        assert not sniffer.thread.is_alive()


def number(packet: Any) -> int:
    """The payload of `numbered`."""
    return int(packet[UDP].payload.load)


def numbered(family: Family, nic: vnet.Nic, count: int) -> list[Any]:
    return [family.datagram(nic, str(each).encode()) for each in range(count)]


def test_sniff_brings_what_comes_up_to_count(family: Family, a: vnet.Nic, b: vnet.Nic, iface: Any) -> None:
    send(numbered(family, a, 5), iface=b)

    packets = sniff(iface=iface, count=3, timeout=5)

    assert [number(each) for each in packets] == [0, 1, 2]
    assert {each.src for each in packets} == {family.of(b)}
    assert all(each.sniffed_on == iface for each in packets)


def test_sniff_ends_in_time_with_what_came(family: Family, a: vnet.Nic, b: vnet.Nic, iface: Any) -> None:
    send(numbered(family, a, 2), iface=b)
    begin = time.monotonic()

    packets = sniff(iface=iface, timeout=0.2)

    assert len(packets) == 2
    assert 0.2 <= time.monotonic() - begin < 2


def test_sniff_calls_back_and_stops_as_told(family: Family, a: vnet.Nic, b: vnet.Nic) -> None:
    seen: list[int] = []
    send(numbered(family, a, 9), iface=b)

    packets = sniff(
        iface=a,
        prn=lambda packet: seen.append(number(packet)),
        lfilter=lambda packet: number(packet) % 2 == 0,
        stop_filter=lambda packet: number(packet) == 4,
        store=False,
        timeout=5,
    )

    assert seen == [0, 2, 4]
    assert not packets


def test_conf_iface_is_where_sniff_listens(family: Family, a: vnet.Nic, b: vnet.Nic, iface: Any) -> None:
    conf.iface = iface
    send(family.datagram(a), iface=b)

    assert len(sniff(count=1, timeout=5)) == 1


def test_several_nics_are_told_apart(family: Family, a: vnet.Nic, b: vnet.Nic) -> None:
    send(family.datagram(a), iface=b)
    send(family.datagram(b), iface=a)

    packets = sniff(iface=["a", "b"], count=2, timeout=5)

    assert {(each.sniffed_on, each.dst) for each in packets} == {("a", family.of(a)), ("b", family.of(b))}


def test_all_sockets_of_a_nic_see_all_that_comes(family: Family, a: vnet.Nic, web: vnet.Host) -> None:
    with sniffing(iface="a") as one, sniffing(iface=a) as other:
        answers = [sr1(family.ping(web, seq=each), iface=a, timeout=5) for each in range(20)]
        results = [one.stop(), other.stop()]

    assert [answer.seq for answer in answers] == list(range(20))
    for packets in results:
        echoes = [(each.payload.seq, each.direction) for each in packets]
        # pcapng's epb_flags: 1 is inbound, 2 outbound. Each question stands before its answer.
        assert echoes == [pair for each in range(20) for pair in ((each, 2), (each, 1))]


def test_many_threads_ask_at_once_on_one_nic(a: vnet.Nic, web: vnet.Host) -> None:
    answered: list[tuple[int, int]] = []

    def ask(which: int) -> None:
        for each in range(50):
            answer = sr1(IP(dst=web.address) / ICMP(id=which, seq=each), iface=a, timeout=5)
            answered.append((answer[ICMP].id, answer[ICMP].seq))

    threads = [threading.Thread(target=ask, args=(which,)) for which in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted(answered) == [(which, each) for which in range(4) for each in range(50)]


def test_direction_goes_into_pcapng(family: Family, a: vnet.Nic, web: vnet.Host, tmp_path: Path) -> None:
    with sniffing(iface="a") as sniffer:
        sr1(family.ping(web), iface=a, timeout=5)
        packets = sniffer.stop()
    wrpcapng(str(tmp_path / "a.pcapng"), packets)

    back = rdpcap(str(tmp_path / "a.pcapng"))

    assert [(each.direction, each.sniffed_on, bytes(each)) for each in back] == [
        (2, "a", bytes(packets[0])),
        (1, "a", bytes(packets[1])),
    ]


def test_what_no_scapy_socket_takes_is_left_to_recv(family: Family, a: vnet.Nic, b: vnet.Nic) -> None:
    send(numbered(family, a, 2), iface=b)
    sniff(iface=a, count=2, timeout=5)

    send(family.datagram(a, b"after"), iface=b)

    assert family.layer(a.recv(timeout=1))[UDP].payload.load == b"after"


def test_what_is_no_ip_inside_comes_as_it_is(a: vnet.Nic, b: vnet.Nic) -> None:
    broken = support.datagram(b.address, a.address, b"\1\2\3", protocol=6)
    b.send(broken)

    (packet,) = sniff(iface=a, count=1, timeout=5)

    assert bytes(packet) == broken
    assert packet.src == b.address


def test_a_broadcast_is_seen_by_the_others_and_on_its_way_out(a: vnet.Nic, b: vnet.Nic) -> None:
    with sniffing(iface=["a", "b"]) as sniffer:
        send(IP(dst="255.255.255.255") / UDP() / b"all", iface=a)
        assert support.eventually(lambda: sniffer.count == 2)
        packets = sniffer.stop()

    assert sorted((each.sniffed_on, each.direction) for each in packets) == [("a", 2), ("b", 1)]


# Filters


@pytest.mark.parametrize(
    ("expression", "expected"),
    [("icmp", 1), ("icmp6", 1), ("ip6", 2), ("tcp dst port 80", 1), ("udp or icmp", 3), ("src host 10.0.0.2", 3)],
)
def test_filter_speaks_the_language_of_tcpdump(a: vnet.Nic, b: vnet.Nic, expression: str, expected: int) -> None:
    four, six = Family(4, IP, ICMP, ICMP), Family(6, *_six())
    send([four.ping(a), four.datagram(a), IP(dst=a.address) / TCP(dport=80)], iface=b)
    send([six.ping(a), six.datagram(a)], iface=b)

    assert len(sniff(iface=a, filter=expression, timeout=0.1)) == expected


def _six() -> tuple[Any, Any, Any]:
    from scapy.all import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6

    return IPv6, ICMPv6EchoRequest, ICMPv6EchoReply


def test_sockets_of_one_nic_filter_each_for_itself(a: vnet.Nic, b: vnet.Nic) -> None:
    with sniffing(iface=a, filter="icmp") as pings, sniffing(iface=a, filter="udp") as others:
        send([IP(dst=a.address) / ICMP(), IP(dst=a.address) / UDP()] * 50, iface=b)
        assert support.eventually(lambda: pings.count + others.count == 100)

    assert {each.proto for each in pings.results} == {1}
    assert {each.proto for each in others.results} == {17}


def test_except_filter_holds_for_nics_too(monkeypatch: pytest.MonkeyPatch, a: vnet.Nic, b: vnet.Nic) -> None:
    monkeypatch.setattr(conf, "except_filter", "udp")
    send([IP(dst=a.address) / ICMP(), IP(dst=a.address) / UDP()], iface=b)

    assert [each.proto for each in sniff(iface=a, timeout=0.1)] == [1]


@pytest.mark.parametrize("expression", ["no such thing", "arp", "ether host 02:00:00:00:00:01"])
def test_a_filter_that_cannot_be_is_an_error(a: vnet.Nic, expression: str) -> None:
    with pytest.raises(Scapy_Exception, match="does not compile"):
        sniff(iface=a, filter=expression, timeout=0.1)


def test_a_filter_without_libpcap_says_what_to_install(monkeypatch: pytest.MonkeyPatch, a: vnet.Nic) -> None:
    def lacks() -> None:
        raise vnet.MachineLacks("no libpcap")

    monkeypatch.setattr("vnet.filters._library", lacks)
    with pytest.raises(vnet.MachineLacks, match="filter='icmp' needs libpcap: apt install libpcap"):
        sniff(iface=a, filter="icmp", timeout=0.1)


# Ends


def test_closing_the_nic_ends_a_sniffer_in_good_order(family: Family, a: vnet.Nic, b: vnet.Nic) -> None:
    with sniffing(iface=a) as sniffer:
        send(family.datagram(a), iface=b)
        assert support.eventually(lambda: sniffer.count == 1)
        a.close()
        sniffer.join(5)
        assert not sniffer.running

    assert len(sniffer.results) == 1


def test_the_end_of_the_lan_ends_a_sniffer_in_good_order(lan: vnet.Lan, a: vnet.Nic) -> None:
    with sniffing(iface=a) as sniffer:
        lan.close()
        sniffer.join(5)
        assert not sniffer.running


def test_the_death_of_the_base_ends_a_sniffer_in_good_order(guest: Callable[..., support.Guest]) -> None:
    base = guest("lan = vnet.Lan('office', '10.0.0.0/24')\nsay('up')\nhear()")
    base.hear()
    with vnet.attach("office", "laptop") as nic, sniffing(iface=nic) as sniffer:
        base.kill()
        sniffer.join(5)
        assert not sniffer.running


def test_a_closed_nic_is_an_error_and_not_another_interface(family: Family, a: vnet.Nic, b: vnet.Nic) -> None:
    conf.iface = a
    a.close()

    for use in (
        lambda: sniff(iface=a, timeout=0.1),
        lambda: sniff(timeout=0.1),
        lambda: sr1(family.ping(b), iface=a, timeout=0.1),
        lambda: sr1(family.ping(b), timeout=0.1),
        lambda: send(family.ping(b), iface=a),
    ):
        with pytest.raises((vnet.NicClosed, ValueError), match=r"closed|not found"):
            use()


def test_a_closed_lan_is_an_error(lan: vnet.Lan, family: Family, a: vnet.Nic, b: vnet.Nic) -> None:
    lan.close()

    with pytest.raises(vnet.LanClosed):
        sniff(iface="a", timeout=0.1)
    with pytest.raises(vnet.LanClosed):
        sr1(family.ping(b), iface="a", timeout=0.1)


def test_sockets_leave_no_descriptor(a: vnet.Nic, web: vnet.Host) -> None:
    def ask() -> None:
        sr1(IP(dst=web.address) / ICMP(), iface=a, timeout=5)
        sniff(iface=a, filter="icmp", timeout=0.01)

    ask()
    before = len(support.descriptors())
    for _ in range(20):
        ask()

    assert len(support.descriptors()) <= before


def test_a_socket_that_is_not_read_holds_nobody_up_and_counts_what_it_misses(
    monkeypatch: pytest.MonkeyPatch, a: vnet.Nic, b: vnet.Nic
) -> None:
    monkeypatch.setattr("vnet.scapy_socket._QUEUE_LIMIT", 1000)
    interface = conf.ifaces["a"]
    with interface.l2listen()(iface=a) as idle, interface.l2listen()(iface=a) as busy:
        for each in range(100):
            b.send(bytes(IP(src=b.address, dst=a.address) / UDP(sport=9, dport=9) / Raw(bytes([each]) * 72)))
            assert busy.recv().load == bytes([each]) * 72
        assert idle.missed == 90
        assert [idle.recv().load[0] for _ in range(10)] == list(range(10))
        assert idle.recv() is None
