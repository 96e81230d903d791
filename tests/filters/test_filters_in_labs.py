"""Filters in lab files: each form is read, each mistake has its place, and the published schema goes along."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

import vnet
from vnet.errors import LabError
from vnet.filtering import read_filter
from vnet.lab.schema.filters import DirectedFilter
from vnet.lab.schema.published import lab_schema
from vnet.lab.source import load
from vnet.lab.tree import read_yaml

LAB = """\
networks:
  desk: {{prefix: 10.1.0.0/24, filter: {network}}}
  lab: 10.2.0.0/24
nodes:
  alice: {{networks: [desk]}}
  gate: {{kind: router, networks: [desk, lab], filter: {node}}}
"""

VALIDATOR = jsonschema.Draft202012Validator(lab_schema())

RULES = [
    "deny udp",
    "[]",
    "[deny any, allow]",
    "{deny: tcp port 22}",
    "[{deny: {from: alice, to: [lab, 10.9.0.0/16], protocol: tcp, ports: [22, 80-90]}}]",
    "{rules: [allow icmp], default: deny}",
    "{default: reject}",
    "[{reject: }, {allow: any}]",
    "[{deny: {protocol: [1, udp], from: fe80::/10}}]",
]


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def reading(network: str = "[]", node: str = "[]") -> Any:
        file = tmp_path / "lab.yaml"
        file.write_text(LAB.format(network=network, node=node))
        return load(str(file))

    return reading


def _schema_takes(network: str = "[]", node: str = "[]") -> bool:
    return bool(VALIDATOR.is_valid(read_yaml(LAB.format(network=network, node=node), "lab").data))


@pytest.mark.parametrize("rules", RULES)
def test_the_rules_of_a_network_are_those_of_python(read: Any, rules: str) -> None:
    expected = read_filter(read_yaml(f"x: {rules}", "lab").data["x"])
    assert read(network=rules).networks["desk"].filter == expected
    assert _schema_takes(network=rules)


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize(
    ("form", "meant"),
    [
        ("{}", [(None, "in")]),
        ("{{in: {}}}", [(None, "in")]),
        ("{{out: {}}}", [(None, "out")]),
        ("{{in: {}, out: {}}}", [(None, "in"), (None, "out")]),
        ("{{desk: {}}}", [("desk", "in")]),
        ("{{desk: {{out: {}}}, lab: {}}}", [("desk", "out"), ("lab", "in")]),
    ],
)
def test_a_node_says_where_its_rules_stand(read: Any, rules: str, form: str, meant: list[tuple[Any, str]]) -> None:
    said = form.format(*[rules] * 2)
    expected = read_filter(read_yaml(f"x: {rules}", "lab").data["x"])
    assert read(node=said).nodes["gate"].filter == tuple(DirectedFilter(*each, expected) for each in meant)
    assert _schema_takes(node=said)


# Rules of the network, whose value begins in line 2, column 39; of the node, in line 6, column 55.
MISTAKES = {
    "of another kind": ("7", "[]", 2, 39, "networks.desk.filter", "expected a list of rules such as", False),
    "action": ("[deny udp, dney tcp]", "[]", 2, 50, "networks.desk.filter[1]", "(did you mean 'deny'?)", False),
    "column": (
        "[{deny: {form: alice}}]",
        "[]",
        *(2, 48, "networks.desk.filter[0].deny.form", "unknown key 'form' (did you mean 'from'?)", False),
    ),
    "prefix": (
        "[{deny: {from: [10.0.0.0/8, 10.0.0.5/8]}}]",
        "[]",
        *(2, 67, "networks.desk.filter[0].deny.from[1]", "'10.0.0.5/8' is an address inside 10.0.0.0/8", True),
    ),
    "name": (
        "[{deny: {from: [alice, alise]}}]",
        "[]",
        *(2, 62, "networks.desk.filter[0].deny.from[1]", "no NIC and no network is called 'alise'", True),
    ),
    "expression": (
        "{rules: [deny any, {deny: tcp prot 22}]}",
        "[]",
        *(2, 65, "networks.desk.filter.rules[1].deny", "does not compile", True),
    ),
    "expression as text": ("[deny tcp prot 22]", "[]", 2, 40, "networks.desk.filter[0]", "does not compile", True),
    "direction of a network": (
        "{in: [deny any]}",
        "[]",
        *(2, 40, "networks.desk.filter.in", "a network's filter is of what enters it", False),
    ),
    "default": (
        "{default: drop}",
        "[]",
        2,
        49,
        "networks.desk.filter.default",
        "expected allow, deny or reject",
        False,
    ),
    "of a node": ("[]", "{in: [deny tpc]}", 6, 61, "nodes.gate.filter.in[0]", "does not compile", True),
    "network of a node": (
        "[]",
        "{desc: [deny any]}",
        *(6, 56, "nodes.gate.filter.desc", "'gate' is on no network 'desc' (did you mean 'desk'?)", True),
    ),
    "direction of a node": (
        "[]",
        "{desk: {in: [], inn: []}}",
        *(6, 71, "nodes.gate.filter.desk.inn", "unknown key 'inn'; expected in and out", False),
    ),
    "empty": ("[]", "{}", 6, 55, "nodes.gate.filter", "the filter is empty", False),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_has_its_place(read: Any, name: str) -> None:
    network, node, line, column, key, words, shape = MISTAKES[name]
    with pytest.raises(LabError) as caught:
        read(network, node)
    error = caught.value
    assert (error.line, error.column, error.key) == (line, column, key), error
    assert words in error.message
    # A schema sees shapes: what only the meaning tells, it lets pass.
    assert _schema_takes(network, node) is shape


def test_without_libpcap_a_lab_with_expressions_says_what_it_lacks(read: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing() -> Any:
        raise vnet.MachineLacks("a filter needs libpcap: apt-get install libpcap0.8")

    monkeypatch.setattr("vnet.filters._library", nothing)
    assert read(network="[{deny: {ports: 22}}]")
    with pytest.raises(vnet.MachineLacks, match="apt-get install"):
        read(network="deny udp")
