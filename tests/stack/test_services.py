"""What built-in hosts serve; Python's http.client and plain sockets of the stack are the clients."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.packet import Raw

import vnet
from vnet.stack import Stack

HTTP = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"


@pytest.fixture
def host(lan: vnet.Lan) -> vnet.Host:
    return lan.host("web")


@pytest.fixture
def me(lan: vnet.Lan, host: vnet.Host) -> Iterator[Stack]:
    with lan.attach("me").stack(seed=1) as stack:
        yield stack


def connected(stack: Stack, host: vnet.Host, port: int, address: str | None = None) -> Any:
    sock = stack.create_connection((address or host.address, port), timeout=10)
    sock.settimeout(10)
    return sock


def everything(sock: Any) -> bytes:
    came = b""
    while piece := sock.recv(65536):
        came += piece
    sock.close()
    return came


def said(stack: Stack, host: vnet.Host, request: bytes) -> bytes:
    """What a host answers to a client that then says no more."""
    sock = connected(stack, host, 80)
    sock.sendall(request)
    sock.shutdown(socket.SHUT_WR)
    return everything(sock)


def status(answer: bytes) -> int:
    version, code, *_ = answer.split()
    assert version == b"HTTP/1.1"
    return int(code)


def test_http_answers_get_and_head_over_both_families(me: Stack, host: vnet.Host) -> None:
    host.serve(tcp=80, http="hello, wörld\n")
    for address in host.addresses:
        connection = http.client.HTTPConnection(address, 80)
        connection.sock = connected(me, host, 80, address)
        for method, body in (("GET", "hello, wörld\n".encode()), ("HEAD", b"")):
            connection.request(method, "/any/path?x=1")
            response = connection.getresponse()
            assert (response.status, response.read()) == (200, body)
            assert response.getheader("Content-Length") == str(len("hello, wörld\n".encode()))
            assert response.getheader("Content-Type") == "text/plain; charset=utf-8"
        connection.close()


def test_http_text_larger_than_any_buffer_comes_whole(me: Stack, host: vnet.Host) -> None:
    text = bytes(range(256)) * 20_000
    host.serve(tcp=80, http=text)
    answer = said(me, host, HTTP)
    assert answer.split(b"\r\n\r\n", 1)[1] == text


def test_http_pipelined_requests_are_answered_in_order_to_the_last(me: Stack, host: vnet.Host) -> None:
    host.serve(tcp=80, http="x")
    answer = said(me, host, HTTP * 200 + HTTP.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + HTTP)
    assert answer.count(b"200 OK") == 201
    assert answer.count(b"Connection: close") == 1


def test_http_reads_over_the_body_of_a_request(me: Stack, host: vnet.Host) -> None:
    host.serve(tcp=80, http="x")
    post = b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 100000\r\n\r\n" + b"GET" * 33333 + b"!"
    answer = said(me, host, post + HTTP)
    assert answer.count(b"HTTP/1.1 ") == 2
    assert (status(answer), answer.count(b"200 OK")) == (405, 1)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost", 400),  # and no more
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # a TLS client
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
    ],
)
def test_http_answers_nonsense_with_its_status_and_an_end(
    me: Stack, host: vnet.Host, request_: bytes, code: int
) -> None:
    host.serve(tcp=80, http="x")
    answer = said(me, host, request_)
    assert status(answer) == code
    assert b"Connection: close" in answer
    assert answer.count(b"HTTP/1.1 ") == 1


def test_http_takes_a_request_byte_by_byte(me: Stack, host: vnet.Host) -> None:
    host.serve(tcp=80, http="x")
    sock = connected(me, host, 80)
    for byte in HTTP:
        sock.sendall(bytes([byte]))
    assert status(sock.recv(1000)) == 200
    sock.close()


def test_echo_brings_back_every_byte_over_tcp(me: Stack, host: vnet.Host) -> None:
    host.serve(tcp=7, echo=True)
    sock = connected(me, host, 7)
    data = bytes(range(256)) * 20_000

    def send() -> None:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    assert everything(sock) == data
    sender.join()


def test_discard_takes_all_and_says_nothing(me: Stack, host: vnet.Host) -> None:
    host.serve(tcp=9, discard=True)
    sock = connected(me, host, 9)
    sock.sendall(bytes(5_000_000))
    sock.shutdown(socket.SHUT_WR)
    assert everything(sock) == b""


def test_udp_echo_answers_from_the_address_that_was_asked(lan: vnet.Lan) -> None:
    web = lan.host("web", ["10.0.0.80", "10.0.0.81"])
    web.serve(udp=7, echo=True)
    nic = lan.attach("me", "10.0.0.9")
    for address in web.addresses:
        nic.send(IP(src="10.0.0.9", dst=address) / UDP(sport=5000, dport=7) / Raw(b"hello"))
        answer = IP(nic.recv(timeout=1))
        assert (answer.src, answer[UDP].sport, answer[UDP].dport, bytes(answer[UDP].payload)) == (
            address,
            7,
            5000,
            b"hello",
        )


def test_two_echo_services_do_not_talk_for_ever(lan: vnet.Lan) -> None:
    for name in ("one", "two"):
        lan.host(name).serve(udp=7, echo=True)
    lan.attach("me").send(IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=7, dport=7) / Raw(b"round"))
    one = lan.statistics().nics["one"]
    assert (one.tx_datagrams, one.rx_datagrams) == (0, 0)


def test_discard_over_udp_does_not_refuse(lan: vnet.Lan, host: vnet.Host) -> None:
    host.serve(udp=9, discard=True)
    nic = lan.attach("me")
    nic.send(IP(src=nic.address, dst=host.address) / UDP(sport=5000, dport=9) / Raw(b"gone"))
    assert host.ping(nic.address, timeout=0.05).received == 0
    assert [IP(datagram).proto for datagram in nic.recv_many()] == [1]  # the ping, and no port unreachable


def test_a_closed_service_refuses_and_its_port_is_free(me: Stack, host: vnet.Host) -> None:
    with host.serve(tcp=80, http="one") as service:
        assert status(said(me, host, HTTP)) == 200
    service.close()
    with pytest.raises(ConnectionRefusedError):
        connected(me, host, 80)
    host.serve(tcp=80, http="two")
    assert said(me, host, HTTP).endswith(b"two")


def test_a_port_has_one_service(host: vnet.Host) -> None:
    host.serve(tcp=7, echo=True)
    host.serve(udp=7, echo=True)
    for port in ({"tcp": 7}, {"udp": 7}):
        with pytest.raises(vnet.PortTaken, match="port 7 of host 'web' is taken"):
            host.serve(**port, discard=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either tcp=PORT or udp=PORT"),
        ({"tcp": 1, "udp": 1, "echo": True}, "either tcp=PORT or udp=PORT"),
        ({"tcp": 0, "echo": True}, "1 to 65,535, not 0"),
        ({"tcp": 65_536, "echo": True}, "1 to 65,535"),
        ({"tcp": "80", "echo": True}, "1 to 65,535, not '80'"),
        ({"tcp": True, "echo": True}, "1 to 65,535, not True"),
        ({"tcp": 80}, "not none"),
        ({"tcp": 80, "http": "x", "echo": True}, "not http and echo"),
        ({"udp": 80, "http": "x"}, "expected tcp=PORT"),
    ],
)
def test_a_wrong_offer_is_told_in_a_sentence(host: vnet.Host, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        host.serve(**arguments)


def test_a_host_that_is_gone_serves_nothing(lan: vnet.Lan, host: vnet.Host) -> None:
    service = host.serve(tcp=80, http="x")
    host.close()
    with pytest.raises(vnet.NicClosed):
        host.serve(tcp=81, http="x")
    service.close()
    lan.close()
    with pytest.raises((vnet.NicClosed, vnet.LanClosed)):
        host.serve(tcp=81, http="x")


def test_a_thousand_connections_are_served_side_by_side(me: Stack, host: vnet.Host) -> None:
    host.serve(tcp=80, http="x")
    socks = []
    for _ in range(1000):
        socks.append(connected(me, host, 80))
    for sock in socks:
        sock.sendall(HTTP)
    assert {status(sock.recv(1000)) for sock in socks} == {200}
    for sock in socks:
        sock.close()


def test_segments_with_a_wrong_checksum_change_nothing(lan: vnet.Lan, host: vnet.Host) -> None:
    host.serve(tcp=80, http="x")
    nic = lan.attach("me")
    for flags in ("S", "SA", "A", "R", "F", ""):
        nic.send(IP(src=nic.address, dst=host.address) / TCP(sport=5000, dport=80, flags=flags, chksum=1))
    with pytest.raises(vnet.ReceiveTimeout):
        nic.recv(timeout=0.05)
    nic.send(IP(src=nic.address, dst=host.address) / TCP(sport=5000, dport=80, flags="S", seq=7))
    answer = IP(nic.recv(timeout=1))
    assert (answer[TCP].flags, answer[TCP].ack) == ("SA", 8)
