"""Filters at NICs, networks and routers: what they hold back, how it is counted, told and explained."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import support
from support import datagram

import vnet
from vnet.explain import Explanation
from vnet.filtering import Action, AttachedFilter, RuleError, read_filter

DELIVERED, FILTERED = vnet.Verdict.DELIVERED, vnet.Verdict.FILTERED


def udp(port: int, source: int = 7) -> bytes:
    return source.to_bytes(2, "big") + port.to_bytes(2, "big") + bytes([0, 8, 0, 0])


def received(nic: vnet.Nic) -> list[bytes]:
    found = []
    with contextlib.suppress(vnet.ReceiveTimeout):
        while True:
            found += nic.recv_many(64, timeout=0)
    return found


class Pair:
    """alice and bob on a LAN, and what alice sends to bob."""

    def __init__(self, lan: vnet.Lan) -> None:
        self.lan = lan
        self.alice, self.bob = lan.attach("alice"), lan.attach("bob")

    def send(self, port: int, family: int = 4) -> vnet.Verdict:
        ends = [nic.addresses[family == 6] for nic in (self.alice, self.bob)]
        return self.alice.send(datagram(ends[0], ends[1], udp(port)))


@pytest.fixture
def pair(lan: vnet.Lan) -> Pair:
    return Pair(lan)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    ("where", "direction"), [("bob", "in"), ("alice", "out"), ("lan", "in")], ids=["given", "sent", "network"]
)
def test_what_is_held_back_is_counted_at_its_sender(pair: Pair, where: str, direction: str, family: int) -> None:
    pair.lan.set_filter(where, ["deny udp port 9", {"deny": {"ports": [10, "20-29"]}}], direction=direction)
    verdicts = [pair.send(port, family) for port in (9, 10, 11, 25, 30)]
    assert verdicts == [FILTERED, FILTERED, DELIVERED, FILTERED, DELIVERED]
    assert pair.lan.statistics().nics["alice"].verdicts[FILTERED] == 3
    assert pair.lan.statistics().nics["bob"].rx_datagrams == 2
    assert len(received(pair.bob)) == 2
    # The other way is another matter.
    back = datagram(pair.bob.addresses[family == 6], pair.alice.addresses[family == 6], udp(9))
    assert pair.bob.send(back) == (FILTERED if where == "lan" else DELIVERED)


def test_every_way_of_sending_is_judged(pair: Pair) -> None:
    pair.lan.set_filter("bob", "deny udp port 9")
    made = [datagram("10.0.0.1", "10.0.0.2", udp(port)) for port in (9, 10, 9)]
    expected = [FILTERED, DELIVERED, FILTERED]
    assert pair.alice.send_many(made) == expected
    assert pair.lan.inject("alice", made) == expected


def test_a_built_in_host_hears_only_what_its_filter_allows(lan: vnet.Lan) -> None:
    alice, bob = lan.host("alice"), lan.host("bob")
    lan.set_filter(bob, {"rules": "allow icmp", "default": "deny"})
    assert alice.ping("10.0.0.2", count=2).received == 2
    assert alice.ping("fd00::2", count=1, timeout=0.1).errors == ("filtered",)
    lan.set_filter(bob, {"rules": [{"reject": {"protocol": "icmp6"}}]})
    assert alice.ping("fd00::2", count=1, timeout=1.0).errors != ("filtered",)


def test_a_filter_is_replaced_and_removed_as_one(pair: Pair) -> None:
    lan = pair.lan
    lan.set_filter("bob", "deny udp port 9")
    lan.set_filter("bob", "deny udp port 10")
    assert [pair.send(9), pair.send(10)] == [DELIVERED, FILTERED]
    lan.set_filter("bob", "deny any", direction="out")
    assert [(each.name, each.direction, str(each.filter)) for each in lan.filters] == [
        ("bob", "in", "deny udp port 10; default allow"),
        ("bob", "out", "deny any; default allow"),
    ]
    assert lan.filters[0] == AttachedFilter("nic", "bob", "in", read_filter("deny udp port 10"))
    lan.remove_filter("bob", direction="in")
    assert pair.send(10) == DELIVERED
    assert [each.direction for each in lan.filters] == ["out"]
    lan.remove_filter(lan.nics["bob"])
    lan.remove_filter(lan.nics["bob"])
    assert lan.filters == ()


def test_a_mistake_changes_nothing(pair: Pair) -> None:
    lan = pair.lan
    lan.set_filter("bob", "deny udp port 9")
    before = lan.filters
    for rules in (["deny udp", "dney tcp"], "deny udp prot 9", [{"deny": {"from": "carol"}}]):
        with pytest.raises(RuleError):
            lan.set_filter("bob", rules)
    with pytest.raises(RuleError, match=r"no NIC and no network is called 'alise' \(did you mean 'alice'\?\)"):
        lan.set_filter("bob", {"deny": {"from": "alise"}})
    assert lan.filters == before
    assert [pair.send(9), pair.send(10)] == [FILTERED, DELIVERED]


@pytest.mark.parametrize(
    ("where", "direction", "words"),
    [
        ("bobb", "in", r"no NIC and no network is called 'bobb' \(did you mean 'bob'\?\)"),
        ("bob", "inward", "direction is 'in' or 'out', not 'inward'"),
        ("lan", "out", "'lan' is a network, whose filter is of what enters it: direction is 'in'"),
        ("both", "in", r"both a NIC and a network are called 'both'; pass lan.networks\['both'\] or the NIC itself"),
    ],
)
def test_who_is_meant_is_told_where_it_is_not_clear(pair: Pair, where: str, direction: str, words: str) -> None:
    pair.lan.add_network("both", "10.1.0.0/24")
    both = pair.lan.attach("both", network="both")
    with pytest.raises(ValueError, match=words):
        pair.lan.set_filter(where, "deny any", direction=direction)
    pair.lan.set_filter(both, "deny any")
    pair.lan.set_filter(pair.lan.networks["both"], "deny any")
    assert [each.kind for each in pair.lan.filters] == ["nic", "network"]
    with pytest.raises(TypeError, match="a NIC or a network, or the name of one, not 7"):
        pair.lan.set_filter(7, "deny any")  # type: ignore[arg-type]


def test_a_nic_that_leaves_takes_its_filters_with_it(pair: Pair) -> None:
    lan = pair.lan
    lan.set_filter("bob", "deny any")
    lan.set_filter("bob", "deny any", direction="out")
    # Slots are used again, and the numbers of filters after a while.
    for number in range(200):
        pair.bob.close()
        pair.bob = lan.attach("bob")
        assert lan.filters == ()
        assert pair.send(9) == DELIVERED, number
        lan.set_filter("bob", f"deny udp dst port {number}")
        assert pair.send(number) == FILTERED
        assert pair.send(number + 1) == DELIVERED
    assert len(lan.filters) == 1


def test_each_of_many_nics_has_its_own(lan: vnet.Lan) -> None:
    alice = lan.attach("alice")
    others = [lan.attach(f"n{number}") for number in range(120)]
    for number, nic in enumerate(others):
        lan.set_filter(nic, {"deny": {"ports": number}})
    for number, nic in enumerate(others):
        ports = (number, number + 1)
        verdicts = [alice.send(datagram("10.0.0.1", nic.addresses[0], udp(port))) for port in ports]
        assert verdicts == [FILTERED, DELIVERED], number


def test_nothing_is_held_back_by_another_filter_while_they_come_and_go(lan: vnet.Lan) -> None:
    nics = [lan.attach(f"n{number}") for number in range(4)]
    # None of the filters is about these, whichever is whose, and whichever number it has.
    batches = [
        [datagram(nic.addresses[0], to.addresses[0], udp(60_000, source=60_000))] * 32
        for nic, to in zip(nics, [*nics[1:], nics[0]], strict=True)
    ]
    over = threading.Event()
    seen: set[vnet.Verdict] = set()

    def send(number: int) -> None:
        while not over.is_set():
            seen.update(nics[number].send_many(batches[number]))
            received(nics[number])

    senders = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for sender in senders:
        sender.start()
    for port in range(1, 400):
        where = f"n{port % 4}"
        lan.set_filter(where, [{"deny": {"ports": port}}, "deny tcp"], direction="in" if port % 3 else "out")
        if port % 7 == 0:
            lan.remove_filter(where)
    over.set()
    for sender in senders:
        sender.join()
    assert DELIVERED in seen
    assert seen <= {DELIVERED, vnet.Verdict.BUFFER_FULL}


def test_a_broadcast_reaches_those_who_may_have_it(lan: vnet.Lan) -> None:
    alice, *others = (lan.attach(name) for name in ("alice", "bob", "carol", "dave"))
    everyone = datagram("10.0.0.1", "10.0.0.255", udp(9))
    lan.set_filter("bob", "deny udp port 9")
    assert alice.send(everyone) == DELIVERED
    assert [len(received(nic)) for nic in others] == [0, 1, 1]
    explained = lan.explain("alice", everyone)
    assert (explained.verdict, explained.receivers) == (DELIVERED, ("carol", "dave"))
    lan.set_filter("lan", "deny udp port 9")
    assert alice.send(everyone) == FILTERED
    assert lan.explain("alice", everyone).verdict == FILTERED
    assert [len(received(nic)) for nic in others] == [0, 0, 0]


def test_a_guest_in_another_process_is_judged_by_what_holds_now(
    named: vnet.Lan, guest: Callable[..., support.Guest]
) -> None:
    named.reserve("carol", "10.0.0.9")
    named.set_filter("carol", "deny udp port 9", direction="out")
    bob = named.attach("bob", "10.0.0.2")
    other = guest(
        """
nic = vnet.attach("office", "carol")
for line in sys.stdin:
    port = int(line).to_bytes(2, "big")
    say(nic.send(datagram("10.0.0.9", "10.0.0.2", bytes(2) + port + bytes(4))).name)
"""
    )
    asked = []
    for port in (9, 10):
        other.say(f"{port}")
        asked.append(other.hear())
    assert asked == ["FILTERED", "DELIVERED"]
    named.set_filter("bob", "deny udp port 10")
    other.say("10")
    assert other.hear() == "FILTERED"
    named.remove_filter("bob")
    named.remove_filter("carol")
    for port in (9, 10):
        other.say(f"{port}")
        assert other.hear() == "DELIVERED"
    assert len(received(bob)) == 3


# Being told


@pytest.mark.parametrize(("where", "direction"), [("bob", "in"), ("alice", "out"), ("lan", "in")])
def test_who_is_rejected_is_told_once_for_each_datagram(pair: Pair, where: str, direction: str) -> None:
    from scapy.layers.inet import ICMP, IP
    from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6

    pair.lan.set_filter(where, "reject udp port 9", direction=direction)
    assert pair.send(9) == FILTERED
    (answer,) = received(pair.alice)
    told = IP(answer)
    assert (told.src, told.dst, told[ICMP].type, told[ICMP].code) == ("10.0.0.2", "10.0.0.1", 3, 13)
    # Its checksums are right: scapy's, computed anew, are the same.
    bare = IP(answer)
    del bare.chksum, bare[ICMP].chksum
    assert bytes(bare) == answer
    assert pair.send(9, 6) == FILTERED
    (answer,) = received(pair.alice)
    six = IPv6(answer)
    assert (six.src, six.dst, six.nh) == (pair.bob.addresses[1], pair.alice.addresses[1], 58)
    assert (six[ICMPv6DestUnreach].type, six[ICMPv6DestUnreach].code) == (1, 1)
    # A broadcast, an ICMP error and a later fragment are nothing to answer (RFC 1812 section 4.3.2.7).
    pair.lan.set_filter(where, "reject any", direction=direction)
    later = bytearray(datagram("10.0.0.1", "10.0.0.2", udp(9)))
    later[6:8] = b"\x00\x05"
    error = datagram("10.0.0.1", "10.0.0.2", bytes([3, 3]) + bytes(34), protocol=1)
    for made in (bytes(later), error, datagram("10.0.0.1", "10.0.0.255", udp(9))):
        assert pair.alice.send(made) == FILTERED
    assert received(pair.alice) == []


# Explained


def test_the_rule_is_named_that_holds_a_datagram_back(pair: Pair) -> None:
    pair.lan.set_filter("bob", ["allow tcp", {"deny": {"from": "alice", "ports": "1-9"}}], default="deny")
    for made, words, number in (
        (datagram("10.0.0.1", "10.0.0.2", udp(9)), "denies it: rule 2, deny tcp,udp,sctp from alice to port 1-9", 2),
        (datagram("10.0.0.1", "10.0.0.2", udp(10)), "denies it: default deny", None),
    ):
        told = pair.lan.explain("alice", made)
        assert told.verdict == FILTERED == pair.alice.send(made)
        assert told.reason == f"the filter of bob (in) {words}"
        assert "to do" in str(told)
        assert told.receivers == ()
        (_, rule) = told.steps[-1].facts["rules"]
        assert (rule["name"], rule["of"], rule["direction"], rule["number"]) == ("bob", "nic", "in", number)
        assert Explanation.from_dict(told.as_dict()).as_dict() == told.as_dict()
    passing = datagram("10.0.0.1", "10.0.0.2", bytes(20), protocol=6)
    told = pair.lan.explain("alice", passing)
    assert (told.verdict, told.receivers) == (DELIVERED, ("bob",))
    assert "the filter of bob (in) allows it: rule 1, allow tcp" in str(told)


# Routers


@pytest.fixture
def routed() -> Iterator[tuple[vnet.Lan, vnet.Nic, vnet.Nic]]:
    with vnet.Lan() as lan:
        lan.add_network("office", ["10.1.0.0/24", "fd00:1::/64"])
        lan.add_network("servers", ["10.2.0.0/24", "fd00:2::/64"])
        lan.router("gate", {"office": "10.1.0.1", "servers": "10.2.0.1"})
        yield lan, lan.attach("alice", "10.1.0.2", network="office"), lan.attach("bob", "10.2.0.2", network="servers")


AT_ROUTERS = [("gate.office", "in"), ("gate.servers", "out"), ("servers", "in"), ("bob", "in"), ("alice", "out")]


@pytest.mark.parametrize(("where", "direction"), AT_ROUTERS)
def test_a_datagram_on_its_way_meets_the_filters_of_the_way(
    routed: tuple[vnet.Lan, vnet.Nic, vnet.Nic], where: str, direction: str
) -> None:
    lan, alice, bob = routed
    lan.set_filter(where, ["deny udp port 9", "reject udp port 10"], direction=direction)
    made = {port: datagram("10.1.0.2", "10.2.0.2", udp(port)) for port in (9, 10, 11)}
    for port, expected in ((9, FILTERED), (10, FILTERED), (11, DELIVERED)):
        told = lan.explain("alice", made[port])
        assert (told.verdict, alice.send(made[port])) == (expected, expected), told
    (rejected,) = received(alice)
    at_router = where.startswith("gate")
    # A router speaks for itself; a NIC or a network in the name of whom it was for.
    assert rejected[12:16] == bytes([10, 1, 0, 1] if at_router else [10, 2, 0, 2])
    assert rejected[20:22] == b"\x03\x0d"
    (passed,) = received(bob)
    assert passed[8] == 63
    # What is not on this way is not judged.
    lan.set_filter(where, "deny any", direction=direction)
    assert bob.send(datagram("10.2.0.2", "10.1.0.2", udp(9))) == DELIVERED
    lan.remove_filter(where)
    assert alice.send(made[9]) == DELIVERED


def test_what_is_for_the_router_itself_is_judged_where_it_comes_in(
    routed: tuple[vnet.Lan, vnet.Nic, vnet.Nic],
) -> None:
    lan, alice, _ = routed
    request = datagram("10.1.0.2", "10.2.0.1", bytes([8, 0, 0xF7, 0xFF, 0, 0, 0, 0]), protocol=1)
    lan.set_filter("gate.servers", "deny any")
    lan.set_filter("gate.office", "deny any", direction="out")
    assert alice.send(request) == DELIVERED
    assert received(alice)[0][20] == 0, "an echo reply"
    lan.set_filter("gate.office", "deny icmp")
    assert lan.explain("alice", request).verdict == FILTERED == alice.send(request)
    assert received(alice) == []


def test_a_filter_comes_before_and_after_what_the_router_does(routed: tuple[vnet.Lan, vnet.Nic, vnet.Nic]) -> None:
    lan, alice, _ = routed
    dying = datagram("10.1.0.2", "10.2.0.2", udp(9), ttl=1)
    lan.set_filter("gate.office", "deny ip[8] = 1")
    assert lan.explain("alice", dying).verdict == FILTERED == alice.send(dying)
    lan.remove_filter("gate.office")
    lan.set_filter("gate.servers", "deny ip[8] = 63", direction="out")
    assert alice.send(dying) == vnet.Verdict.TTL_EXCEEDED
    assert alice.send(datagram("10.1.0.2", "10.2.0.2", udp(9))) == FILTERED


def test_all_of_them_agree_with_what_is_explained(routed: tuple[vnet.Lan, vnet.Nic, vnet.Nic]) -> None:
    lan, alice, _ = routed
    choices: list[Any] = [None, "deny udp port 9", {"rules": "allow udp port 9", "default": "deny"}]
    seen = set()
    for rules in itertools.product(choices, repeat=len(AT_ROUTERS)):
        # A third of all: each filter with each other.
        if sum(map(choices.index, rules)) % 3:
            continue
        for (where, direction), rule in zip(AT_ROUTERS, rules, strict=True):
            if rule is None:
                lan.remove_filter(where, direction=direction)
            else:
                lan.set_filter(where, rule, direction=direction)
        for port in (9, 10):
            made = datagram("10.1.0.2", "10.2.0.2", udp(port))
            told, verdict = lan.explain("alice", made), alice.send(made)
            denying = [r for r in rules if r is not None and (read_filter(r).default is Action.DENY) == (port == 10)]
            assert told.verdict == verdict == (FILTERED if denying else DELIVERED), rules
            seen.add(verdict)
    assert seen == {FILTERED, DELIVERED}
