"""What labs mean that are right."""

from __future__ import annotations

import random
from pathlib import Path
from typing import get_type_hints

import pytest
from reading import ReadLab

from vnet.lab import schema
from vnet.lab.packets import datagrams
from vnet.lab.source import describe, load, shipped_labs
from vnet.verdict import Verdict

TWO = 'networks: {lan: [10.0.0.0/24, "fd00::/64"]}\nnodes: {alice: , bob: }\nsteps:\n'


def test_expectations_know_every_verdict() -> None:
    assert {verdict.name.lower() for verdict in Verdict} <= set(get_type_hints(schema.InjectExpect))


@pytest.mark.parametrize("name", sorted(shipped_labs()))
def test_a_shipped_lab_is_right_and_says_what_it_shows(name: str) -> None:
    lab = load(name)
    assert lab.name == name
    assert describe(shipped_labs()[name]).endswith(".")


def test_no_shipped_lab_is_left_untested() -> None:
    assert {"dual-stack", "injection", "process-guests", "quickstart", "replay", "services", "thousand-hosts"} <= set(
        shipped_labs()
    )


def test_a_file_goes_before_a_shipped_lab_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").write_text(TWO + "  - wait: 1s\n")
    assert len(load("quickstart").steps) == 1
    (tmp_path / "quickstart").unlink()
    (tmp_path / "quickstart").mkdir()
    assert len(load("quickstart").steps) > 1


def test_a_lab_without_a_name_bears_its_file_s(tmp_path: Path) -> None:
    (tmp_path / "my lab (2).yaml").write_text(TWO)
    assert load(str(tmp_path / "my lab (2).yaml")).name == "my-lab-2"


def test_the_same_lab_means_the_same_every_time(read: ReadLab) -> None:
    text = (
        "seed: 3\n"
        + TWO.replace("bob: ", "bob: {count: 50}")
        + ("  - ping_all: {sample: 9}\n  - inject: {from: alice, packet: 'fuzz(IP(dst=\"bob-1\")/UDP())', count: 5}\n")
    )
    assert read(text) == read(text)
    assert read(text).steps != read(text, seed=4).steps


def test_reading_a_lab_leaves_the_program_s_own_random_numbers_alone(read: ReadLab) -> None:
    random.seed(5)
    expected = random.random()
    random.seed(5)
    read(TWO + "  - inject: {from: alice, packet: 'IP(dst=\"bob\")/UDP(sport=RandShort())'}\n")
    assert random.random() == expected


def test_defaults_are_what_nodes_share(read: ReadLab) -> None:
    lab = read(
        "networks: {a: 10.0.0.0/24, b: 10.0.1.0/24}\n"
        "defaults: {nodes: {kind: process, networks: [b], exec: sleep 9, env: {X: one, Y: two}}}\n"
        "nodes: {p: {env: {Y: three}}, h: {kind: host, networks: [a]}}\n"
    )
    assert (lab.nodes["p"].kind, lab.nodes["p"].network, lab.nodes["p"].commands[0].words) == (
        "process",
        "b",
        "sleep 9",
    )
    assert dict(lab.nodes["p"].environment) == {"X": "one", "Y": "three"}
    assert (lab.nodes["h"].kind, lab.nodes["h"].network, lab.nodes["h"].commands) == ("host", "a", ())


def test_merge_keys_share_what_is_alike(read: ReadLab) -> None:
    lab = read(
        "networks: {a: 10.0.0.0/24, b: 10.0.1.0/24}\n"
        "nodes:\n  x: &like {networks: [b], kind: process}\n  y:\n    <<: *like\n    kind: host\n"
    )
    assert (lab.nodes["y"].network, lab.nodes["y"].kind) == ("b", "host")


def test_a_ping_without_expect_expects_no_loss(read: ReadLab) -> None:
    (step,) = read(TWO + "  - ping: {from: alice, to: bob}\n").steps
    assert [(e.metric, e.comparison.text) for e in step.expectations] == [("loss", "0%")]  # type: ignore[attr-defined]


def test_an_exec_expects_code_0_unless_it_names_another(read: ReadLab) -> None:
    lab = read(
        TWO + "  - exec: {command: ls}\n    expect: {stdout: x}\n  - exec: {command: ls}\n    expect: {code: 2}\n"
    )
    assert [[e.metric for e in step.expectations] for step in lab.steps] == [["code", "stdout"], ["code"]]


def test_several_comparisons_of_one_metric_make_a_range(read: ReadLab) -> None:
    (step,) = read(TWO + '  - ping: {from: alice, to: bob}\n    expect: {avg: ["> 1us", "< 30ms"]}\n').steps
    assert [e.check(0.01).passed for e in step.expectations] == [True, True]
    assert [e.check(0.04).passed for e in step.expectations] == [True, False]


def build(read: ReadLab, packet: str, count: int = 1) -> list[bytes]:
    nodes = read(TWO).nodes
    built, repeat = datagrams(packet, sender=nodes["alice"], nodes=nodes, count=count, seed="1")
    return list(built) * repeat


def test_the_sender_s_address_is_the_source_unless_the_packet_has_one(read: ReadLab) -> None:
    (plain,) = build(read, 'IP(dst="bob")/UDP()')
    assert (plain[12:16], plain[16:20]) == (bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2]))
    (spoofed,) = build(read, 'IP(src="192.0.2.1", dst="bob")/UDP()')
    assert spoofed[12:16] == bytes([192, 0, 2, 1])
    (six,) = build(read, 'IPv6(dst="bob")/ICMPv6EchoRequest()')
    assert (six[8:24][-1], six[24:40][-1]) == (1, 2)


def test_an_expression_may_give_many_packets(read: ReadLab) -> None:
    assert len(build(read, '[IP(dst="bob", ttl=t)/ICMP() for t in range(1, 6)]')) == 5
    assert len(build(read, '(IP(dst="bob", id=i) for i in range(7))')) == 7
    assert len(build(read, 'IP(dst="bob")/TCP(dport=(1, 100), seq=[7, 8])')) == 200
    assert len(build(read, 'IP(dst=["bob", "10.0.0.0/30"])/ICMP()', count=2)) == 10
    assert build(read, '[b"raw", bytes.fromhex("45 00"), Raw(b"x")]') == [b"raw", b"\x45\0", b"x"]


def test_random_values_differ_from_datagram_to_datagram(read: ReadLab) -> None:
    assert len(set(build(read, 'IP(dst="bob")/UDP(sport=RandShort())', count=100))) > 90


@pytest.mark.parametrize(
    "packet",
    [
        'open("/etc/passwd").read()',
        "().__class__.__bases__[0].__subclasses__()",
        'eval("1")',
        "os",
        "sniff()",
        "rdpcap('x')",
        '"{0.__class__}".format(IP())',
        'f"{IP().__class__}"',
        "[x := IP()]",
        "conf",
    ],
)
def test_an_expression_reaches_nothing_but_packets(read: ReadLab, packet: str) -> None:
    with pytest.raises(ValueError, match=r"may not use|may not hold|scapy has no packet called"):
        build(read, packet)
