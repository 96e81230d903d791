"""Answering machines and bridges on NICs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import support
from families import Family
from scapy.all import (
    DNS,
    DNSQR,
    ICMP,
    UDP,
    AnsweringMachine,
    AsyncSniffer,
    DNS_am,
    ICMPEcho_am,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    IPv6,
    bridge_and_sniff,
    send,
    sr1,
)

import vnet


class ICMPv6EchoMachine(AnsweringMachine):  # type: ignore[misc]
    """Answers pings over IPv6; scapy brings one for IPv4 alone."""

    function_name = "icmpv6echod"
    filter = "icmp6"

    def is_request(self, request: Any) -> bool:
        return ICMPv6EchoRequest in request

    def make_reply(self, request: Any) -> Any:
        echo = request[ICMPv6EchoRequest]
        return IPv6(src=request.dst, dst=request.src) / ICMPv6EchoReply(id=echo.id, seq=echo.seq, data=echo.data)


class EchoOverLayer3(ICMPEcho_am):  # type: ignore[misc]
    """Sends with send() instead of sendp()."""

    function_name = "icmpechod3"
    send_function = staticmethod(send)


@contextmanager
def running(machine: Any) -> Iterator[None]:
    sniffer = machine.bg()
    assert support.eventually(lambda: hasattr(sniffer, "continue_sniff"))
    try:
        yield
    finally:
        sniffer.stop()


@pytest.mark.parametrize("machine", [ICMPEcho_am, EchoOverLayer3, ICMPv6EchoMachine])
def test_a_host_gets_its_pings_answered(a: vnet.Nic, web: vnet.Host, iface: Any, machine: Any) -> None:
    address = a.addresses[1 if machine is ICMPv6EchoMachine else 0]
    with running(machine(iface=iface, verbose=False)):
        result = web.ping(address, count=5, interval=0.01, timeout=5)

    assert result.received == 5


def test_a_name_server_answers_another_nic(family: Family, a: vnet.Nic, b: vnet.Nic, iface: Any) -> None:
    question = family.layer(dst=family.of(a)) / UDP(sport=5353) / DNS(rd=1, qd=DNSQR(qname="printer.office"))

    with running(DNS_am(iface=iface, match={"printer.office": "10.0.0.77"}, from_ip6=True, verbose=False)):
        answer = sr1(question, iface=b, timeout=5)

    assert (answer.src, answer.dst) == (family.of(a), family.of(b))

    assert answer[DNS].an[0].rdata == "10.0.0.77"


@pytest.fixture
def bridged() -> Iterator[tuple[vnet.Host, vnet.Host, vnet.Nic, vnet.Nic]]:
    """Two LANs of the same network, with a client on one and a server on the other.

    Each LAN has a NIC with the address of the host on the far side.
    """
    prefixes = ["10.0.0.0/24", "fd00::/64"]
    client, server = ("10.0.0.1", "fd00::1"), ("10.0.0.2", "fd00::2")
    with (
        vnet.Lan(None, prefixes) as here,
        vnet.Lan(None, prefixes) as there,
        here.attach("near", server) as near,
        there.attach("far", client) as far,
    ):
        yield here.host("client", client), there.host("server", server), near, far


@pytest.mark.parametrize("by", ["name", "nic"])
def test_bridge_and_sniff_joins_two_lans(
    family: Family, bridged: tuple[vnet.Host, vnet.Host, vnet.Nic, vnet.Nic], by: str
) -> None:
    client, server, near, far = bridged
    ends = (near, far) if by == "nic" else ("near", "far")
    seen: list[Any] = []
    bridge = _Bridge(*ends, prn=lambda packet: seen.append((str(packet.sniffed_on), packet.src)))

    with bridge:
        result = client.ping(family.of(server), count=3, interval=0.01, timeout=5)

    assert result.received == 3
    assert seen == [("near", family.of(client)), ("far", family.of(server))] * 3


def test_a_bridge_changes_and_drops_what_it_is_told_to(
    bridged: tuple[vnet.Host, vnet.Host, vnet.Nic, vnet.Nic],
) -> None:
    client, server, near, far = bridged

    def only_even(packet: Any) -> Any:
        if packet[ICMP].seq % 2:
            return False
        packet.ttl = 9
        del packet.chksum
        return packet

    with _Bridge(near, far, xfrm12=only_even) as bridge:
        result = client.ping(server.address, count=4, interval=0.01, timeout=0.2)

    assert result.received == 2
    assert {each.ttl for each in bridge.sniffer.results if each.sniffed_on == "near" and not each[ICMP].seq % 2} == {9}


class _Bridge:
    """bridge_and_sniff in a thread; scapy itself offers no way to stop it."""

    def __init__(self, one: Any, other: Any, **arguments: Any) -> None:
        self.sniffer = AsyncSniffer()
        self._arguments = (one, other), arguments

    def __enter__(self) -> _Bridge:
        from scapy import sendrecv

        def sniff_in_background(**arguments: Any) -> None:
            self.sniffer.kwargs = arguments
            self.sniffer.start()

        ends, arguments = self._arguments
        original, sendrecv.sniff = sendrecv.sniff, sniff_in_background
        try:
            bridge_and_sniff(*ends, **arguments)
        finally:
            sendrecv.sniff = original
        assert support.eventually(lambda: hasattr(self.sniffer, "continue_sniff"))
        return self

    def __exit__(self, *exception: object) -> None:
        self.sniffer.stop()
        for socket in self.sniffer.kwargs["opened_socket"]:
            socket.close()
