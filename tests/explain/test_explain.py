"""What `lan.explain()` says against what then happens."""

from __future__ import annotations

import dataclasses
import json
import threading

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from support import datagram, eventually, examples, sized
from test_verdict_model import LARGEST, PREFIXES, datagrams

import vnet
from vnet import Verdict
from vnet.explain import ADVICE, Explanation

NICS = ("nic0", "nic1", "nic2", "nic3", "nic4")


def facts(told: Explanation, name: str) -> dict[str, object]:
    """The facts of one of its steps."""
    (step,) = (step for step in told.steps if step.name == name)
    return dict(step.facts)


@settings(max_examples=examples(40), deadline=None)
@given(data=st.data())
def test_a_datagram_gets_the_verdict_and_the_receivers_that_were_said(data: st.DataObject) -> None:
    with vnet.Lan(None, max_nics=8, buffer=256 << 10) as lan:
        for name, prefixes in PREFIXES.items():
            lan.add_network(name, prefixes, mtu=LARGEST[name])
        held = {name: lan.attach(name, network=data.draw(st.sampled_from(sorted(PREFIXES)))) for name in NICS}
        lan.host("host", network="left")
        lan.reserve("kept", network="left")
        for name in data.draw(st.sets(st.sampled_from(NICS[1:]))):
            # Full buffers: whatever is not tiny finds no room.
            whole = sized("10.0.0.9", "10.0.0.9", 65_000 if lan.nics[name].network == "left" else 500)
            own = lan.nics[name].addresses[0]
            if ":" not in own:
                whole = whole[:16] + bytes(map(int, own.split("."))) + whole[20:]
                lan.inject(name, [whole] * 400)
        for batch in data.draw(st.lists(datagrams(), min_size=1, max_size=12)):
            before = lan.statistics()
            told = lan.explain("nic0", batch)
            assert lan.statistics() == before
            assert held["nic0"].send(batch) is told.verdict
            after = lan.statistics()
            grown = {name for name in after.nics if after.nics[name].rx_datagrams > before.nics[name].rx_datagrams}
            assert set(told.receivers) - {"host"} == grown - {"host"}
            assert told.verdict.name.lower() in str(told)
            assert (told.verdict in ADVICE) == (told.verdict is not Verdict.DELIVERED)
            plain = json.loads(json.dumps(told.as_dict()))
            assert Explanation.from_dict(plain).as_dict() == told.as_dict()
            assert [step.number for step in told.steps] == list(range(1, len(told.steps) + 1))


def test_the_row_of_the_table_is_named(lan: vnet.Lan) -> None:
    a, _b = lan.attach("a"), lan.attach("b", ["10.0.0.7", "fd00::7"])
    for text, version in (("10.0.0.7", 4), ("fd00::7", 6)):
        told = lan.explain("a", datagram(a.addresses[version == 6], text))
        found = facts(told, "look up")
        assert (found["network"], found["table"]) == ("lan", f"IPv{version}")
        row = found["row"]
        assert isinstance(row, dict)
        assert (row["address"], row["nic"], row["slot"], row["state"]) == (text, "b", 2, "up")
        assert f"{text} → b, slot 2, generation {row['generation']}, up" in str(told)
        assert told.receivers == ("b",)


def test_a_nic_that_changes_hands_has_another_generation(lan: vnet.Lan) -> None:
    _a = lan.attach("a")
    lan.reserve("kept", "10.0.0.9")
    datagram_to_it = datagram("10.0.0.1", "10.0.0.9")
    generations = []
    for _ in range(2):
        with lan.attach("kept"):
            row = facts(lan.explain("a", datagram_to_it), "look up")["row"]
            assert isinstance(row, dict)
            generations.append(row["generation"])
        told = lan.explain("a", datagram_to_it)
        assert told.verdict is Verdict.NIC_DOWN
        assert "10.0.0.9 is kept for kept, which nobody holds" in str(told)
    assert generations[0] < generations[1]


def test_a_full_buffer_is_told_in_bytes(lan: vnet.Lan) -> None:
    a, _b = lan.attach("a"), lan.attach("b", buffer=256 << 10)
    large = sized("10.0.0.1", "10.0.0.2", 40_000)
    assert Verdict.BUFFER_FULL in a.send_many([large] * 10)
    told = lan.explain("a", large)
    (receiver,) = facts(told, "write")["receivers"]  # type: ignore[misc]
    assert told.verdict is Verdict.BUFFER_FULL
    assert receiver["size"] == 256 << 10
    assert receiver["free"] == receiver["size"] - receiver["used"] < receiver["needed"]
    assert f"{receiver['free']:,} of 262,144 bytes free" in str(told)
    assert lan.explain("a", datagram("10.0.0.1", "10.0.0.2")).verdict is Verdict.DELIVERED
    assert [step.name for step in told.steps] == ["read", "look up", "apply", "write"]


def test_a_broadcast_names_those_who_have_no_room(lan: vnet.Lan) -> None:
    a, full = lan.attach("a"), lan.attach("full", buffer=256 << 10)
    _other = lan.attach("other")
    large = sized(a.address, full.address, 60_000)
    while a.send(large) is Verdict.DELIVERED:
        pass
    told = lan.explain("a", sized("10.0.0.1", "255.255.255.255", 60_000))
    assert (told.verdict, told.receivers) == (Verdict.DELIVERED, ("other",))
    assert "no room at 1 (full)" in str(told)


def test_the_ring_says_who_would_be_woken(lan: vnet.Lan) -> None:
    a, _web = lan.attach("a"), lan.host("web")
    sleeper = lan.attach("sleeper")

    def would_ring(last: int) -> object:
        return facts(lan.explain("a", datagram("10.0.0.1", f"10.0.0.{last}")), "ring")["rings"]

    # A host is its worker's once that has seen it for the first time.
    assert eventually(lambda: would_ring(2) == {"web": "worker"})
    assert would_ring(3) == {"sleeper": "nobody"}
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(sleeper.recv(timeout=10)))
    thread.start()
    assert eventually(lambda: would_ring(3) == {"sleeper": "guest"})
    rung = a.statistics().doorbells_rung
    assert a.send(datagram("10.0.0.1", "10.0.0.3")) is Verdict.DELIVERED
    thread.join()
    assert a.statistics().doorbells_rung == rung + len(got) == rung + 1


def test_oddities_that_are_carried_are_told(lan: vnet.Lan) -> None:
    _a, _b = lan.attach("a"), lan.attach("b")
    data = bytearray(datagram("10.9.9.9", "10.0.0.2", b"payload"))
    data[3] += 1
    told = lan.explain("a", data)
    assert told.verdict is Verdict.DELIVERED
    assert "the header says 28 bytes" in str(told)
    assert "the header's checksum is wrong" in str(told)
    assert "the source is no address of a" in str(told)
    assert facts(told, "read")["spoofed"] is True
    assert "as it is" not in str(lan.explain("a", datagram("10.0.0.1", "10.0.0.2")))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no byte at all"),
        (b"\x45\0", "2 bytes of IPv4, whose fixed header alone has 20"),
        (b"\x60" * 39, "39 bytes of IPv6, whose fixed header alone has 40"),
        (b"\x75" * 60, "version 7; IP has 4 and 6"),
        (b"\x45" * 65_536, "65,536 bytes; no IP datagram has more than 65,535"),
    ],
)
def test_what_cannot_be_read_says_why(lan: vnet.Lan, data: bytes, says: str) -> None:
    nic = lan.attach("a")
    told = lan.explain("a", data)
    assert says in str(told)
    assert len(told.steps) == 1
    assert nic.send(data) is told.verdict


def test_scapy_packets_can_be_explained(lan: vnet.Lan) -> None:
    from scapy.all import ICMP, IP

    _a = lan.attach("a")
    assert "ICMP" in str(lan.explain("a", IP(src="10.0.0.1", dst="10.0.0.77") / ICMP()))


def test_wrong_arguments_are_refused(lan: vnet.Lan) -> None:
    _a = lan.attach("a")
    with pytest.raises(KeyError):
        lan.explain("nobody", b"")
    for wrong in ("45", 45, None):
        with pytest.raises(TypeError):
            lan.explain("a", wrong)
    told = lan.explain("a", b"")
    with pytest.raises(dataclasses.FrozenInstanceError):
        told.verdict = Verdict.DELIVERED  # type: ignore[misc]
    lan.close()
    with pytest.raises(vnet.LanClosed):
        lan.explain("a", b"")


def test_what_leads_out_of_a_network_is_told_as_it_is_sent() -> None:
    with vnet.Lan(None, "10.0.0.0/24") as lan:
        a, out = lan.attach("a"), lan.attach("out")
        lan._base.set_gateway(lan.networks["lan"]._number, lan._register.nics["out"].slot)
        outward = datagram(a.addresses[0], "198.51.100.1")
        told = lan.explain("a", outward)
        assert (told.receivers, told.steps[1].facts["gateway"]) == (("out",), "out")
        assert a.send(outward) is told.verdict is vnet.Verdict.DELIVERED
        assert out.recv(timeout=1.0) == outward
        # It leads nowhere for itself; once it has gone, others are told that it is down.
        assert out.send(outward) is lan.explain("out", outward).verdict is vnet.Verdict.NO_ROUTE
        out.close()
        assert a.send(outward) is lan.explain("a", outward).verdict is vnet.Verdict.NIC_DOWN
