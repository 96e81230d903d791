"""Rules as users write them: each form means one thing, and each mistake is one sentence with its place."""

from __future__ import annotations

import ipaddress
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import datagram

import vnet
from vnet.filtering import Action, Filter, Rule, RuleError, Table, compile_filter, read_filter

ALLOW, DENY, REJECT = Action
PAYLOAD = bytes([0, 7, 0, 9]) + bytes(16)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("deny tcp port 22", Filter((Rule(DENY, "tcp port 22"),))),
        ("reject", Filter((Rule(REJECT),))),
        ("  allow   any ", Filter((Rule(ALLOW),))),
        ({"deny": None}, Filter((Rule(DENY),))),
        ({"deny": "any"}, Filter((Rule(DENY),))),
        ([], Filter()),
        ({"rules": [], "default": "deny"}, Filter((), DENY)),
        ({"default": "reject"}, Filter((), REJECT)),
        ({"rules": "deny udp"}, Filter((Rule(DENY, "udp"),))),
        (["allow udp", {"deny": {"protocol": "tcp"}}], Filter((Rule(ALLOW, "udp"), Rule(DENY, Table(protocols=(6,)))))),
        ({"deny": {"ports": 22}}, Filter((Rule(DENY, Table(protocols=(6, 17, 132), ports=((22, 22),))),))),
        (
            {"deny": {"from": "10.0.0.0/8", "to": ["alice", "fd00::1"], "protocol": ["UDP", 47]}},
            Filter((Rule(DENY, Table(("10.0.0.0/8",), ("alice", "fd00::1"), (17, 47))),)),
        ),
        (
            {"deny": {"protocol": "tcp", "ports": ["80-90", "443"], "from_ports": 7}},
            Filter((Rule(DENY, Table(None, None, (6,), ((80, 90), (443, 443)), ((7, 7),))),)),
        ),
        (
            {"deny": {"from": ipaddress.ip_network("10.0.0.0/8"), "protocol": "icmpv6"}},
            Filter((Rule(DENY, Table(("10.0.0.0/8",), protocols=(58,))),)),
        ),
    ],
)
def test_each_form_is_read(said: Any, meant: Filter) -> None:
    assert read_filter(said) == meant
    assert read_filter(meant) is meant


@pytest.mark.parametrize(
    ("said", "path", "words"),
    [
        (7, (), "expected a list of rules such as 'deny tcp port 22', found 7"),
        ({}, (), "the filter is empty; expected rules, a list of them, or default"),
        ("", (), "the rule is empty; expected one such as 'deny tcp port 22'"),
        ("dney udp", (), "expected allow, deny or reject, found 'dney' (did you mean 'deny'?)"),
        (["allow udp", "drop tcp"], (1,), "rule 2: expected allow, deny or reject, found 'drop'"),
        (["deny all"], (0,), "rule 1: 'all' is no expression; expected one such as"),
        ([7], (0,), "rule 1: expected a rule such as 'deny tcp port 22', found 7"),
        ([{}], (0,), "rule 1: the rule is empty; expected one of allow, deny, reject"),
        (
            [{"allow": "udp", "deny": "tcp"}],
            (0, "deny"),
            "rule 1: a rule does one thing, but this one has both 'allow' and 'deny'",
        ),
        ([{"from": "10.0.0.1"}], (0,), "rule 1: it is not said what the rule does; expected {deny: {from: ...}}"),
        (
            [{"deni": "udp"}],
            (0, "deni"),
            "rule 1: unknown key 'deni' (did you mean 'deny'?); expected one of allow, deny, reject",
        ),
        ({"rulez": []}, ("rulez",), "unknown key 'rulez' (did you mean 'rules'?); expected one of rules, default"),
        ({"rules": [], "default": "drop"}, ("default",), "expected allow, deny or reject, found 'drop'"),
        (
            [{"deny": {"form": "10.0.0.1"}}],
            (0, "deny", "form"),
            "rule 1: unknown key 'form' (did you mean 'from'?); expected one of from, to, protocol, ports, from_ports",
        ),
        ([{"deny": {}}], (0, "deny"), "rule 1: the table is empty; expected one of from, to,"),
        ([{"deny": 7}], (0, "deny"), "rule 1: expected an expression such as 'tcp port 22', a table"),
        (
            [{"deny": {"from": "10.0.0.5/8"}}],
            (0, "deny", "from"),
            "rule 1: '10.0.0.5/8' is an address inside 10.0.0.0/8; expected 10.0.0.0/8 or 10.0.0.5",
        ),
        (
            [{"deny": {"to": ["10.0.0.1", "10.0.0.300"]}}],
            (0, "deny", "to", 1),
            "rule 1: expected a prefix or an address such as 10.0.0.0/24, or the name of",
        ),
        ([{"deny": {"to": []}}], (0, "deny", "to"), "rule 1: the list is empty; expected at least one prefix"),
        ([{"deny": {"to": "fe80::1%eth0"}}], (0, "deny", "to"), "rule 1: expected a prefix or an address"),
        (
            [{"deny": {"protocol": "tpc"}}],
            (0, "deny", "protocol"),
            "rule 1: unknown protocol 'tpc' (did you mean 'tcp'?); expected tcp, udp,",
        ),
        ([{"deny": {"protocol": 256}}], (0, "deny", "protocol"), "rule 1: expected tcp, udp, icmp, icmp6, another"),
        (
            [{"deny": {"protocol": ["tcp", "icmp"], "ports": 22}}],
            (0, "deny", "protocol", 1),
            "rule 1: only tcp, udp and sctp have ports, not icmp",
        ),
        ([{"deny": {"ports": 70000}}], (0, "deny", "ports"), "rule 1: expected a port from 0 to 65535, or a range"),
        ([{"deny": {"ports": "http"}}], (0, "deny", "ports"), "rule 1: expected a port from 0 to 65535, or a range"),
        ([{"deny": {"ports": "90-80"}}], (0, "deny", "ports"), "rule 1: the range 90-80 is empty; expected 80-90"),
        ([{"deny": {"ports": True}}], (0, "deny", "ports"), "rule 1: expected a port from 0 to 65535"),
    ],
)  # fmt: skip
def test_each_mistake_is_told_with_its_place(said: Any, path: tuple[Any, ...], words: str) -> None:
    with pytest.raises(RuleError) as caught:
        read_filter(said)
    assert str(caught.value).startswith(words)
    assert caught.value.path == path
    # It is wrong input like any other.
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("said", "path", "words"),
    [
        ("deny tcp prot 22", (0, "deny"), "rule 1: the filter 'tcp prot 22' does not compile: "),
        (["allow udp", "deny ether host 1:2:3:4:5:6"], (1, "deny"), "rule 2: the filter 'ether host"),
        (["deny ip and ip6"], (0, "deny"), "rule 1: the filter 'ip and ip6' does not compile: expression rejects all"),
        (
            [{"deny": {"to": ["bob", "alise"]}}],
            (0, "deny", "to", 1),
            "rule 1: no NIC and no network is called 'alise' (did you mean 'alice'?)",
        ),
        (
            [{"deny": {"to": "both"}}],
            (0, "deny", "to", 0),
            "rule 1: both a NIC and a network are called 'both'; expected the address or the prefix",
        ),
    ],
)
def test_what_does_not_compile_is_told_with_its_place(said: Any, path: tuple[Any, ...], words: str) -> None:
    hosts = {"alice": ["10.0.0.1", "fd00::1"], "bob": ["10.0.0.2"], "both": ["10.0.0.3"]}
    with pytest.raises(RuleError) as caught:
        compile_filter(read_filter(said), hosts, {"desk": ["10.0.0.0/24"], "both": ["10.0.1.0/24"]})
    assert str(caught.value).startswith(words)
    assert caught.value.path == path


def test_names_mean_the_addresses_of_nics_and_the_prefixes_of_networks() -> None:
    hosts, networks = {"alice": ["10.0.0.1", "fd00::1"]}, {"desk": ["10.1.0.0/24", "fd00:1::/64"]}
    compiled = compile_filter(
        read_filter([{"deny": {"from": "alice"}}, {"reject": {"to": "desk"}}, "deny src alice"]), hosts, networks
    )
    for source, destination, expected in (
        ("10.0.0.1", "10.0.0.9", (1, 0)),
        ("fd00::1", "fd00::9", (1, 0)),
        ("10.0.0.2", "10.1.0.77", (2, 1)),
        ("fd00::2", "fd00:1::77", (2, 1)),
        ("10.0.0.2", "10.0.0.1", (0, None)),
    ):
        assert compiled.judge(datagram(source, destination)) == expected


def test_a_filter_shows_itself_in_the_words_of_rules() -> None:
    made = read_filter(
        [
            "allow tcp port 80",
            {"deny": {"from": "10.0.0.0/8", "to": [f"10.0.0.{n}" for n in range(9)], "ports": "1-9"}},
            {"reject": {"protocol": 99, "from": "alice"}},
            "deny any",
        ],
        "reject",
    )
    assert [str(rule) for rule in made.rules] == [
        "allow tcp port 80",
        "deny tcp,udp,sctp from 10.0.0.0/8 to 10.0.0.0,10.0.0.1,10.0.0.2,10.0.0.3 and 5 more to port 1-9",
        "reject protocol 99 from alice",
        "deny any",
    ]
    assert str(made).endswith("; deny any; default reject")


def test_a_filter_has_an_end() -> None:
    with pytest.raises(RuleError, match="at most 65536 rules, not 65537"):
        compile_filter(Filter((Rule(DENY),) * 65_537))
    many = tuple(f"fd00::{number:x}:1" for number in range(2, 65_000, 2))
    large = Filter(tuple(Rule(DENY, Table(sources=many)) for _ in range(5)))
    with pytest.raises(RuleError, match=r"the filter is too large: compiled it has [0-9]* bytes, of 4194304 at most"):
        compile_filter(large)


def test_without_libpcap_tables_are_all_that_one_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing() -> Any:
        raise vnet.MachineLacks("a filter needs libpcap: apt-get install libpcap0.8")

    monkeypatch.setattr("vnet.filters._library", nothing)
    assert compile_filter(read_filter({"deny": {"ports": 22}})).judge(b"") == (0, None)
    with pytest.raises(vnet.MachineLacks, match="apt-get install"):
        compile_filter(read_filter("deny tcp port 22"))


EXPRESSIONS = (
    "tcp port 80 or tcp port 443",
    "udp[8] = 7",
    "ip[1000] = 0",
    "src net 10.9.0.0/16",
    "icmp or icmp6",
    "greater 60",
    "ip6 and udp dst port 9",
    "tcp[tcpflags] & tcp-syn != 0",
)


@pytest.mark.skipif(shutil.which("tcpdump") is None, reason="needs tcpdump: apt-get install tcpdump")
def test_a_list_of_expressions_goes_by_the_first_that_tcpdump_says(tmp_path: Path) -> None:
    probes = [
        datagram(f"10.{net}.0.1", "10.0.0.2", head + bytes(size), protocol=protocol)
        for net in (0, 9)
        for protocol in (1, 6, 17, 99)
        for head in (b"", PAYLOAD[:4], bytes([0, 80, 1, 187, 0, 0, 0, 0, 7, 0, 0, 0, 0, 2]))
        for size in (0, 30)
    ]
    probes += [datagram("fd00::1", "fd00::2", PAYLOAD, protocol=protocol) for protocol in (6, 17, 58)]
    # LINKTYPE_RAW; each probe has its number as its time.
    file = bytes.fromhex("d4c3b2a1020004000000000000000000ffff000065000000")
    for number, probe in enumerate(probes):
        file += b"".join(word.to_bytes(4, "little") for word in (number, 0, len(probe), len(probe))) + probe
    (tmp_path / "probes.pcap").write_bytes(file)

    def taken(expression: str) -> set[int]:
        words = ["tcpdump", "-r", str(tmp_path / "probes.pcap"), "-nn", "-tt", expression]
        told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        return {int(line.split(".")[0]) for line in told.splitlines() if line[:1].isdigit()}

    matching = [taken(expression) for expression in EXPRESSIONS]
    compiled = compile_filter(Filter(tuple(Rule(DENY, expression) for expression in EXPRESSIONS)))
    found = [compiled.judge(probe)[1] for probe in probes]
    assert found == [
        next((rule for rule, those in enumerate(matching) if number in those), None) for number in range(len(probes))
    ]
    # The probes tell the rules apart.
    assert len(set(found)) >= 6
