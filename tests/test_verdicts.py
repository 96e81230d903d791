"""What becomes of datagrams: every verdict, from every way to send."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from support import Guest, datagram, sized

import vnet
from vnet import Verdict, _native

Send = Callable[[vnet.Lan, vnet.Nic, list[bytes]], list[Verdict]]


def _one_by_one(lan: vnet.Lan, nic: vnet.Nic, datagrams: list[bytes]) -> list[Verdict]:
    return [nic.send(each) for each in datagrams]


def _patiently(lan: vnet.Lan, nic: vnet.Nic, datagrams: list[bytes]) -> list[Verdict]:
    return [nic.send(each, block=True, timeout=0.01) for each in datagrams]


def _many(lan: vnet.Lan, nic: vnet.Nic, datagrams: list[bytes]) -> list[Verdict]:
    return nic.send_many(datagrams)


def _many_patiently(lan: vnet.Lan, nic: vnet.Nic, datagrams: list[bytes]) -> list[Verdict]:
    return nic.send_many(iter(datagrams), block=True, timeout=0.05)


def _injected(lan: vnet.Lan, nic: vnet.Nic, datagrams: list[bytes]) -> list[Verdict]:
    return lan.inject(nic.name, datagrams)


def _injected_patiently(lan: vnet.Lan, nic: vnet.Nic, datagrams: list[bytes]) -> list[Verdict]:
    return lan.inject(nic.name, datagrams, block=True, timeout=0.05)


WAYS = [_one_by_one, _patiently, _many, _many_patiently, _injected, _injected_patiently]


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__.strip("_"))
def send(request: pytest.FixtureRequest) -> Send:
    way: Send = request.param
    return way


# Each verdict, and a datagram from 10.0.0.1 or fd00::1 that comes to it on the LAN of `_crowd`.
EVERY_VERDICT = [
    (Verdict.DELIVERED, datagram("10.0.0.1", "10.0.0.2")),
    (Verdict.DELIVERED, datagram("fd00::1", "fd00::2")),
    (Verdict.NO_ROUTE, datagram("10.0.0.1", "10.0.1.2")),
    (Verdict.NO_ROUTE, datagram("10.0.0.1", "127.0.0.1")),
    (Verdict.NO_ROUTE, datagram("fd00::1", "fd01::2")),
    (Verdict.NO_HOST, datagram("10.0.0.1", "10.0.0.200")),
    (Verdict.NO_HOST, datagram("10.0.0.1", "10.0.0.0")),
    (Verdict.NO_HOST, datagram("fd00::1", "fd00::200")),
    (Verdict.NO_HOST, datagram("fd00::1", "fe80::200")),
    (Verdict.BUFFER_FULL, sized("10.0.0.1", "10.0.0.3", 65_535)),
    (Verdict.NIC_DOWN, datagram("10.0.0.1", "10.0.0.4")),
    (Verdict.NIC_DOWN, datagram("fd00::1", "fd00::4")),
    (Verdict.TOO_BIG, sized("10.0.0.1", "10.0.0.2", 65_535) + b"!"),
    (Verdict.TOO_BIG, b"\0" * 70_000),
    (Verdict.MALFORMED, b""),
    (Verdict.MALFORMED, b"\x45"),
    (Verdict.MALFORMED, datagram("10.0.0.1", "10.0.0.2")[:19]),
    (Verdict.MALFORMED, datagram("fd00::1", "fd00::2")[:39]),
    (Verdict.MALFORMED, b"\x55" * 60),
    (Verdict.MALFORMED, b"\0" * 65_535),
]

# The same for a LAN that has a router and filters besides.
BEHIND_A_ROUTER = [
    (Verdict.DELIVERED, datagram("10.0.0.1", "10.9.0.2")),
    (Verdict.TTL_EXCEEDED, datagram("10.0.0.1", "10.9.0.2", ttl=1)),
    (Verdict.TTL_EXCEEDED, datagram("fd00::1", "fd09::2", ttl=1)),
    (Verdict.FILTERED, datagram("10.0.0.1", "10.9.0.2", protocol=99)),
    (Verdict.FILTERED, datagram("10.0.0.1", "10.0.0.2", protocol=99)),
    (Verdict.NO_HOST, datagram("10.0.0.1", "10.9.0.3")),
    (Verdict.NO_ROUTE, datagram("10.0.0.1", "10.8.0.1")),
    (Verdict.MALFORMED, datagram("10.0.0.1", "127.0.0.1")),
]


def _crowd(lan: vnet.Lan) -> tuple[vnet.Nic, vnet.Nic, vnet.Nic]:
    """A sender, a receiver, one whose input buffer is full, and a place that nobody holds."""
    sender, receiver = lan.attach("sender"), lan.attach("receiver")
    full = lan.attach("full", buffer=1)
    lan.reserve("reserved")
    while lan.inject("receiver", [sized("10.0.0.2", "10.0.0.3", 60_000)]) == [Verdict.DELIVERED]:
        pass
    while lan.inject("receiver", [sized("10.0.0.2", "10.0.0.3", 1000)]) == [Verdict.DELIVERED]:
        pass
    return sender, receiver, full


def test_python_and_rust_know_the_same_verdicts() -> None:
    assert [(each.name.lower(), each.value) for each in Verdict] == _native.verdicts()


def test_the_table_below_has_every_verdict() -> None:
    assert {verdict for verdict, _ in EVERY_VERDICT + BEHIND_A_ROUTER} == set(Verdict)


def test_every_verdict_comes_from_every_way_to_send_and_is_counted(lan: vnet.Lan, send: Send) -> None:
    sender, receiver, _ = _crowd(lan)
    expected = [verdict for verdict, _ in EVERY_VERDICT]
    verdicts = send(lan, sender, [datagram for _, datagram in EVERY_VERDICT])
    assert verdicts == expected
    assert all(type(verdict) is Verdict for verdict in verdicts)
    counted = sender.statistics()
    assert counted.verdicts == {verdict: expected.count(verdict) for verdict in Verdict}
    assert counted.tx_datagrams == len(expected)
    assert counted.delivered == 2
    assert counted.dropped == len(expected) - 2
    assert counted.tx_bytes == 20 + 40
    assert lan.statistics().nics["full"].rx_dropped >= 1
    assert receiver.recv_many(timeout=1) == [EVERY_VERDICT[0][1], EVERY_VERDICT[1][1]]


def test_verdicts_of_routers_and_filters_come_from_every_way_to_send_and_are_counted(lan: vnet.Lan, send: Send) -> None:
    lan.add_network("beyond", ["10.9.0.0/24", "fd09::/64"])
    sender, near = lan.attach("sender", network="lan"), lan.attach("near", network="lan")
    lan.router("edge", {"lan": ["10.0.0.250", "fd00::250"], "beyond": None})
    far = lan.attach("far", network="beyond")
    for name in ("near", "far"):
        lan.set_filter(name, ["deny ip proto 99"])
    expected = [verdict for verdict, _ in BEHIND_A_ROUTER]
    assert send(lan, sender, [datagram for _, datagram in BEHIND_A_ROUTER]) == expected
    assert sender.statistics().verdicts == {verdict: expected.count(verdict) for verdict in Verdict}
    assert [each[8] for each in far.recv_many(timeout=1)] == [63]
    assert near.statistics().rx_datagrams == 0


def test_another_process_gets_the_same_verdicts(named: vnet.Lan, guest: Callable[..., Guest]) -> None:
    _, receiver, _ = _crowd(named)
    program = """
nic = vnet.attach("office", "stranger", ["10.0.0.9", "fd00::9"])
for line in sys.stdin:
    way, data = line.split(" ")
    data = bytes.fromhex(data)
    verdict = nic.send(data) if way == "send" else nic.send_many([data])[0]
    say(verdict.name)
"""
    stranger = guest(program)
    for verdict, data in EVERY_VERDICT:
        for way in ("send", "send_many"):
            stranger.say(f"{way} {data.hex()}")
            assert stranger.hear() == verdict.name
    assert len(receiver.recv_many(timeout=1)) == 4
    assert named.statistics().nics["stranger"].tx_datagrams == 2 * len(EVERY_VERDICT)
    assert stranger.end()[0] == 0


def test_a_datagram_arrives_byte_for_byte_however_odd_it_is(lan: vnet.Lan, send: Send) -> None:
    a, b = lan.attach("a"), lan.attach("b")
    good = bytearray(sized("10.0.0.1", "10.0.0.2", 200))
    wrong_checksum, lying_length, no_length, long_header, evil = (bytearray(good) for _ in range(5))
    wrong_checksum[10:12] = b"\xde\xad"
    lying_length[2:4] = b"\xff\xff"
    no_length[2:4] = b"\0\0"
    long_header[0] = 0x4F
    evil[0], evil[6:8] = 0x40, b"\xff\xff"
    expired = datagram("10.0.0.1", "10.0.0.2", b"x", ttl=0)
    spoofed = datagram("192.0.2.1", "10.0.0.2", b"somebody else")
    six = bytearray(sized("fd00::1", "fd00::2", 100))
    six[4:6], six[6] = b"\xff\xff", 0
    odd = [bytes(each) for each in (wrong_checksum, lying_length, no_length, long_header, evil, expired, spoofed, six)]
    assert send(lan, a, odd) == [Verdict.DELIVERED] * len(odd)
    assert b.recv_many(timeout=1) == odd


@pytest.mark.parametrize("version", [4, 6])
def test_every_size_up_to_65535_bytes_arrives_whole(lan: vnet.Lan, send: Send, version: int) -> None:
    a, b = lan.attach("a"), lan.attach("b")
    source, destination = ("10.0.0.1", "10.0.0.2") if version == 4 else ("fd00::1", "fd00::2")
    least = 20 if version == 4 else 40
    for size in [*range(least, least + 20), 63, 64, 65, 1499, 1500, 1501, 9000, 65_527, 65_528, 65_534, 65_535]:
        data = sized(source, destination, size)
        assert send(lan, a, [data]) == [Verdict.DELIVERED]
        assert b.recv(timeout=1) == data


def test_an_mtu_holds_for_its_network_and_counts_ip_bytes() -> None:
    with vnet.Lan(None) as lan:
        lan.add_network("narrow", "10.1.0.0/24", mtu=1500)
        lan.add_network("wide", "10.2.0.0/24")
        a, b = lan.attach("a", network="narrow"), lan.attach("b", network="narrow")
        c, d = lan.attach("c", network="wide"), lan.attach("d", network="wide")
        assert (a.mtu, c.mtu) == (1500, 65_535)
        assert a.send(sized("10.1.0.1", "10.1.0.2", 1500)) is Verdict.DELIVERED
        assert a.send(sized("10.1.0.1", "10.1.0.2", 1501)) is Verdict.TOO_BIG
        assert a.send(sized("10.1.0.1", "255.255.255.255", 1501)) is Verdict.TOO_BIG
        assert c.send(sized("10.2.0.1", "10.2.0.2", 1501)) is Verdict.DELIVERED
        assert len(b.recv(timeout=1)) == 1500
        assert len(d.recv(timeout=1)) == 1501


def test_a_datagram_to_ones_own_address_comes_back(lan: vnet.Lan, send: Send) -> None:
    a = lan.attach("a")
    data = [datagram("10.0.0.1", "10.0.0.1", b"me"), datagram("fd00::1", "fd00::1", b"me too")]
    assert send(lan, a, data) == [Verdict.DELIVERED] * 2
    assert a.recv_many(timeout=1) == data


EVERYONE = ["255.255.255.255", "10.0.0.255", "224.0.0.1", "239.255.255.250", "ff02::1", "ff05::2", "ff0e::1234"]


@pytest.mark.parametrize("destination", EVERYONE)
def test_broadcast_and_multicast_reach_all_others_of_the_network_and_nobody_else(destination: str, send: Send) -> None:
    with vnet.Lan(None) as lan:
        lan.add_network("ours", ["10.0.0.0/24", "fd00::/64"])
        lan.add_network("theirs", ["10.0.1.0/24", "fd01::/64"])
        ours = [lan.attach(f"ours{index}", network="ours") for index in range(5)]
        theirs = [lan.attach(f"theirs{index}", network="theirs") for index in range(3)]
        gone = lan.attach("gone", network="ours")
        gone.close()
        data = datagram("fd00::1" if ":" in destination else "10.0.0.1", destination, b"hear, hear")
        assert send(lan, ours[0], [data]) == [Verdict.DELIVERED]
        for nic in ours[1:]:
            assert nic.recv_many(timeout=1) == [data]
        for nic in [ours[0], *theirs]:
            with pytest.raises(vnet.ReceiveTimeout):
                nic.recv(timeout=0)
        # One datagram was sent, however many copies were made.
        assert ours[0].statistics().tx_datagrams == 1


def test_a_broadcast_with_nobody_else_there_is_delivered_to_all_of_nobody(lan: vnet.Lan) -> None:
    assert lan.attach("a").send(datagram("10.0.0.1", "10.0.0.255")) is Verdict.DELIVERED


def test_a_broadcast_reaches_those_with_room_and_is_counted_where_there_is_none(lan: vnet.Lan) -> None:
    sender, receiver, full = _crowd(lan)
    before = full.statistics().rx_dropped
    data = sized("10.0.0.1", "255.255.255.255", 2000)
    assert sender.send(data) is Verdict.DELIVERED
    assert receiver.recv(timeout=1) == data
    assert full.statistics().rx_dropped == before + 1


@pytest.mark.parametrize(
    ("prefix", "address", "verdict"),
    [
        ("10.0.0.0/31", "10.0.0.1", Verdict.NO_HOST),  # no broadcast address: RFC 3021
        ("10.0.0.0/30", "10.0.0.3", Verdict.DELIVERED),  # the broadcast address
        ("10.0.0.0/32", "10.0.0.1", Verdict.NO_ROUTE),
        ("0.0.0.0/0", "8.8.8.8", Verdict.NO_HOST),
        ("fd00::/64", "10.0.0.1", Verdict.NO_ROUTE),
        ("fd00::/64", "255.255.255.255", Verdict.NO_ROUTE),
        ("fd00::/64", "fd00::ffff:ffff:ffff:ffff", Verdict.NO_HOST),  # IPv6 has no broadcast
        ("10.0.0.0/24", "ff02::1", Verdict.NO_ROUTE),
        ("10.0.0.0/24", "fe80::1", Verdict.NO_ROUTE),
        ("fd00::/127", "fd00::1", Verdict.NO_HOST),
    ],
)
def test_the_edges_of_a_prefix(prefix: str, address: str, verdict: Verdict) -> None:
    with vnet.Lan(None, prefix) as lan:
        nic = lan.attach("a")
        assert nic.send(datagram("fd00::9" if ":" in address else "10.0.0.9", address)) is verdict


def test_anything_bytes_like_can_be_sent_and_nothing_else(lan: vnet.Lan) -> None:
    a, b = lan.attach("a"), lan.attach("b")
    data = datagram("10.0.0.1", "10.0.0.2", b"words")

    class Packet:
        def __bytes__(self) -> bytes:
            return data

    for same in (data, bytearray(data), memoryview(data), memoryview(b"x" + data)[1:], Packet()):
        assert a.send(same) is Verdict.DELIVERED
        assert a.send_many([same, same]) == [Verdict.DELIVERED] * 2
        assert b.recv_many(timeout=1) == [data] * 3
    for wrong in (None, 20, "text", [1, 2], (1,), 1.5, object()):
        with pytest.raises(TypeError, match="datagram"):
            a.send(wrong)
        with pytest.raises(TypeError, match="datagram"):
            a.send_many([data, wrong])
    for wrong_many in (None, 3, data):
        with pytest.raises(TypeError):
            a.send_many(wrong_many)
    # Nothing of a batch with a wrong one in it was sent.
    with pytest.raises(vnet.ReceiveTimeout):
        b.recv(timeout=0)


def test_what_an_iterable_raises_reaches_the_caller(lan: vnet.Lan) -> None:
    a = lan.attach("a")

    def datagrams() -> Any:
        yield datagram("10.0.0.1", "10.0.0.2")
        raise LookupError("out of datagrams")

    with pytest.raises(LookupError, match="out of datagrams"):
        a.send_many(datagrams())
    assert a.send_many([]) == []


def test_a_large_batch_to_many_receivers_keeps_the_order_of_each(lan: vnet.Lan) -> None:
    chance = random.Random(1)
    sender, receivers = lan.attach("sender"), [lan.attach(f"r{index}") for index in range(5)]
    sent: dict[str, list[bytes]] = {nic.address: [] for nic in receivers}
    batch = []
    for number in range(3000):
        address = chance.choice(list(sent))
        data = datagram("10.0.0.1", address, number.to_bytes(4, "big") + bytes(chance.randrange(300)))
        sent[address].append(data)
        batch.append(data)
    assert sender.send_many(batch) == [Verdict.DELIVERED] * len(batch)
    for nic in receivers:
        assert nic.recv_many(10_000, timeout=1) == sent[nic.address]


def test_an_injection_names_its_nic(lan: vnet.Lan) -> None:
    with pytest.raises(KeyError):
        lan.inject("nobody", [datagram("10.0.0.1", "10.0.0.2")])
