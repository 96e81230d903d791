"""Tests of names.py: its function alone, the program as a guest of a LAN, and a whole lab around it."""

import pytest
from names import answer
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import ICMP, IP, UDP
from scapy.sendrecv import sr1

import vnet

NAMES = {"web.office": ["10.1.0.80", "fd00:1::80"]}


def query(name: str, kind: str = "A") -> DNS:
    return DNS(id=7, qd=DNSQR(qname=name, qtype=kind))


# The function: what scapy asks, scapy must be able to read.


@pytest.mark.parametrize(("kind", "address"), [("A", "10.1.0.80"), ("AAAA", "fd00:1::80")])
def test_a_name_has_the_address_of_the_family_that_was_asked_for(kind, address):
    reply = DNS(answer(bytes(query("WEB.office", kind)), NAMES))
    assert (reply.id, reply.qr, reply.rcode, reply.ancount) == (7, 1, 0, 1)
    assert reply.an[0].rdata == address


def test_a_name_that_nobody_knows_is_an_error_and_one_without_addresses_is_not():
    assert DNS(answer(bytes(query("printer.office")), NAMES)).rcode == 3
    mail = DNS(answer(bytes(query("web.office", "MX")), NAMES))
    assert (mail.rcode, mail.ancount) == (0, 0)


@pytest.mark.parametrize("size", range(40))
def test_a_query_that_is_cut_off_harms_nobody(size):
    whole = bytes(query("a.long.name.in.the.office"))
    reply = answer(whole[:size], NAMES)
    assert reply is None or DNS(reply).rcode == 1


# The program, on a LAN of its own for each test.


def test_the_server_answers_over_the_lan(lan, guest):
    server = guest("names", "python3 names.py web.office=10.1.0.80")
    server.wait_output("answers at")
    me = lan.attach("me")
    reply = sr1(
        IP(dst=server.address) / UDP(sport=4000, dport=53) / query("web.office"), iface=me, timeout=5, verbose=0
    )
    assert reply[DNS].an[0].rdata == "10.1.0.80"
    assert server.code is None


def test_it_takes_a_thousand_questions_and_odd_ones(lan, guest):
    server = guest("names", "python3 names.py web.office=10.1.0.80")
    server.wait_output("answers at")
    me = lan.attach("me")
    for odd in (b"", b"\xff" * 12, b"\xff" * 512):
        me.send(IP(src=me.address, dst=server.address) / UDP(sport=4000, dport=53) / odd)
    question = bytes(IP(src=me.address, dst=server.address) / UDP(sport=4000, dport=53) / query("web.office"))
    for _ in range(1000):
        assert me.send(question, block=True, timeout=5) is vnet.Verdict.DELIVERED
        assert IP(me.recv(timeout=5))[UDP].sport == 53


def test_where_no_server_is_the_host_says_so(lan):
    me, host = lan.attach("me"), lan.host("silent")
    reply = sr1(IP(dst=host.address) / UDP(dport=53) / query("web.office"), iface=me, timeout=5, verbose=0)
    assert (reply[ICMP].type, reply[ICMP].code) == (3, 3)  # port unreachable


# The lab: everything at once, as office.yaml has it.


@pytest.mark.lab("office.yaml")
def test_the_office_finds_its_web_server_by_name(lab):
    lab.run_steps()
    me = lab.lan.attach("me")
    reply = sr1(IP(dst=lab.address("names")) / UDP(dport=53) / query("web.office"), iface=me, timeout=5, verbose=0)
    with me.stack() as stack, stack.connect((reply[DNS].an[0].rdata, 80), timeout=5) as web:
        web.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert b"hello from the office" in web.makefile("rb").read()
