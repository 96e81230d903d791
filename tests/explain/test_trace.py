"""`vnet trace`: what it prints, its exit codes, and what it says of wrong use."""

from __future__ import annotations

import json

import pytest
from support import datagram
from viewing import in_terminal, vnet_command, vnet_here

import vnet
from vnet import Verdict
from vnet.explain import Explanation


def test_a_scapy_expression_with_names_is_explained_and_not_sent(named: vnet.Lan) -> None:
    a, b = named.attach("a"), named.attach("b", "10.0.0.42")
    code, output, errors = vnet_command("trace", "office", "--from", "a", 'IP(dst="b")/ICMP()')
    assert (code, errors) == (0, "")
    assert [line.split()[0] for line in output.splitlines()] == ["1", "2", "3", "4", "5", "verdict"]
    # The names are addresses, and the source is the NIC's own.
    assert "10.0.0.1 → 10.0.0.42" in output
    assert "10.0.0.42 → b, slot 2" in output
    assert output.splitlines()[-1].split() == ["verdict", "delivered:", "to", "b"]
    assert a.statistics().tx_datagrams == b.statistics().rx_datagrams == 0


def test_what_would_be_dropped_is_exit_code_1_and_says_what_to_do(
    named: vnet.Lan, capsys: pytest.CaptureFixture[str]
) -> None:
    _a = named.attach("a")
    code, output, errors = vnet_here(capsys, "trace", "office", "--from", "a", 'IP(dst="10.0.0.9")/ICMP()')
    assert (code, errors) == (1, "")
    assert "no row for 10.0.0.9" in output
    assert "verdict  no_host: 10.0.0.9 is inside lan, but no NIC has the address" in output
    assert output.splitlines()[-1].split()[:2] == ["to", "do"]


def test_several_datagrams_are_told_one_by_one_and_counted(named: vnet.Lan, capsys: pytest.CaptureFixture[str]) -> None:
    _a, _b = named.attach("a"), named.attach("b")
    code, output, _ = vnet_here(capsys, "trace", "office", "--from", "a", 'IP(dst=["b", "10.0.0.9", "8.8.8.8"])/UDP()')
    assert code == 1
    assert output.count("verdict") == 3
    assert output.splitlines()[-1] == "3 datagrams: 1 delivered, 1 no_route, 1 no_host"


@pytest.mark.parametrize("way", ["hex", "spaced", "stdin"])
def test_bytes_are_explained_as_they_are(named: vnet.Lan, way: str) -> None:
    _a, _b = named.attach("a"), named.attach("b")
    data = datagram("10.9.9.9", "10.0.0.2", b"payload")
    given = {"hex": ["--hex", data.hex()], "spaced": ["--hex", data.hex(" ", 2)], "stdin": ["-"]}[way]
    code, output, _ = vnet_command(
        "trace", "office", "--from", "a", "--json", *given, stdin=data if way == "stdin" else b""
    )
    plain = json.loads(output)
    assert (code, plain["format"], plain["lan"]) == (0, 1, "office")
    (told,) = plain["explanations"]
    assert bytes.fromhex(told["bytes"]) == data
    assert Explanation.from_dict(told) == Explanation.from_dict(named.explain("a", data).as_dict())


def test_a_datagram_that_is_too_big_for_a_request_or_for_ip_is_explained(named: vnet.Lan) -> None:
    _a, _b = named.attach("a"), named.attach("b")
    code, output, _ = vnet_command("trace", "office", "--from", "a", "-", stdin=b"\x45" * 70_000)
    assert code == 1
    assert "70,000 bytes; no IP datagram has more than 65,535" in output
    code, output, _ = vnet_command("trace", "office", "--from", "a", 'IP(dst="b")/Raw(b"x"*60000)')
    assert (code, "60,020 bytes" in output) == (0, True)


def test_lines_are_folded_below_their_column_in_a_narrow_terminal(named: vnet.Lan) -> None:
    _a, _b = named.attach("a"), named.attach("b")
    code, written = in_terminal("trace", "office", "--from", "a", 'IP(dst="b")/ICMP()', columns=60)
    assert code == 0
    lines = written.splitlines()
    assert all(len(line) <= 60 for line in lines)
    assert any(line.startswith(" " * 11) for line in lines)
    wide = vnet_command("trace", "office", "--from", "a", 'IP(dst="b")/ICMP()')[1]
    assert " ".join(written.split()) == " ".join(wide.split())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["offcie", "--from", "a", "--hex", "45"], "no LAN named 'offcie' is up (did you mean 'office'?)"),
        (["office", "--from", "alcie", "--hex", "45"], "no NIC is called 'alcie' (did you mean 'alice'?)"),
        (["office", "--from", "alcie", "IP()"], "no NIC of office is called 'alcie' (did you mean 'alice'?)"),
        (
            ["office", "--from", "alice", 'IP(dst="bop")'],
            "'bop' is neither a node nor an IPv4 address (did you mean 'bob'?)",
        ),
        (
            ["office", "--from", "alice", "IP(dest='bob')"],
            "IP has no field 'dest' at character 1 (did you mean 'dst'?)",
        ),
        (["office", "--from", "alice", "IP("], "not a Python expression"),
        (["office", "--from", "alice", "[]"], "the expression gives no packet"),
        (["office", "--from", "alice", 'IP(dst="bob", ttl=(1, 250))/UDP(dport=(1, 9))'], "trace tells of up to 1,000"),
        (["office", "--from", "alice", "--hex", "45zz"], "--hex takes pairs of hexadecimal digits, not '45zz'"),
        (["office", "--from", "alice", "--hex", "45", "IP()"], "one of them"),
        (["office", "--from", "alice"], "give a packet, - or --hex"),
        (["office", "IP()"], "say whose datagram it is: --from NIC"),
        (["office", "--from", "alice", "--count", "3", "IP()"], "--count is for --drops"),
        (["office", "--drops", "--from", "carol"], "no NIC is called 'carol'"),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_code_2(
    named: vnet.Lan, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    _alice, _bob = named.attach("alice"), named.attach("bob")
    code, output, errors = vnet_here(capsys, "trace", *arguments)
    assert (code, output) == (2, "")
    assert says in errors
    assert len(errors.splitlines()) == 1


def test_errors_are_json_where_json_is_wanted(named: vnet.Lan) -> None:
    code, output, _ = vnet_command("trace", "office", "--from", "nobody", "--hex", "45", "--json")
    assert code == 2
    assert "no NIC is called 'nobody'" in json.loads(output)["error"]["message"]


def test_the_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("trace", "stats", "top"):
        code, output, _ = vnet_here(capsys, verb, "--help")
        assert (code, f"Example: vnet {verb} office" in output) == (0, True)


def test_the_base_refuses_what_is_no_datagram_in_a_file(named: vnet.Lan) -> None:
    import os

    from vnet.calls import call

    _a = named.attach("a")
    with pytest.raises(vnet.ProtocolError, match="a file that comes with the request"):
        call("office", "explain", sender="a")
    reading, writing = os.pipe()
    try:
        # A pipe could keep the base waiting for ever.
        with pytest.raises(vnet.ProtocolError, match="a file that comes with the request"):
            call("office", "explain", sender="a", files=(reading,))
    finally:
        os.close(reading)
        os.close(writing)
    assert named.explain("a", b"").verdict is Verdict.MALFORMED
