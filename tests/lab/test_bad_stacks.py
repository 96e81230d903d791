"""What a lab file says wrongly of namespaces and taps is one sentence with its place, and nothing starts."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from vnet.errors import LabError
from vnet.lab.schema.published import lab_schema
from vnet.lab.source import load
from vnet.lab.tree import read_yaml

HEAD = 'networks: {lan: [10.0.0.0/24, "fd00::/64"]}\nnodes:\n'
NODE = HEAD + "  a: {kind: %s}\n"
"""One node; what it says behind its kind begins in line 3, column 20 for a netns and column 18 for a tap."""
STEP = HEAD + "  h:\n  n: {kind: netns}\n  t: {kind: tap}\nsteps:\n  - "

# What the file holds, and then line, column, key, and what the sentence says; and whether a schema can see it.
MISTAKES = {
    "interface too long": (
        NODE % "netns, interface: ethernet-number-one",
        *(3, 31, "nodes.a.interface", "up to 15 letters, digits, '.', '_' and '-'; found 'ethernet-number-one'"),
        True,
    ),
    "interface with a slash": (NODE % "netns, interface: eth0/1", 3, 31, "nodes.a.interface", "found 'eth0/1'", True),
    "interface that is there": (
        NODE % "netns, interface: lo",
        *(3, 31, "nodes.a.interface", "the kernel keeps 'lo' for itself"),
        True,
    ),
    "interface of a number": (NODE % "netns, interface: 7", 3, 31, "nodes.a.interface", "found 7", True),
    "interface of a host": (
        NODE % "host, interface: eth0",
        *(3, 19, "nodes.a.interface", "a host node has no interface of the kernel's; expected 'kind: netns or tap'"),
        False,
    ),
    "misspelt key": (
        NODE % "netns, inteface: eth0",
        *(3, 20, "nodes.a.inteface", "unknown key 'inteface' (did you mean 'interface'?)"),
        True,
    ),
    "bridge of a namespace": (
        NODE % "netns, bridge: br0",
        *(3, 20, "nodes.a.bridge", "a netns node has no bridge; expected 'kind: tap'"),
        False,
    ),
    "bridge without a name": (
        NODE % "tap, bridge: {ports: [eth1]}",
        *(3, 26, "nodes.a.bridge", "'name' is missing"),
        True,
    ),
    "bridge with a long name": (
        NODE % "tap, bridge: bridge-of-the-office",
        *(3, 26, "nodes.a.bridge", "found 'bridge-of-the-office', which has 20 letters"),
        True,
    ),
    "misspelt key of a bridge": (
        NODE % "tap, bridge: {name: br0, prots: [eth1]}",
        *(3, 38, "nodes.a.bridge.prots", "unknown key 'prots' (did you mean 'ports'?)"),
        True,
    ),
    "port that is no name": (
        NODE % "tap, bridge: {name: br0, ports: [eth1, 'e t h']}",
        *(3, 52, "nodes.a.bridge.ports[1]", "found 'e t h'"),
        True,
    ),
    "port twice": (
        NODE % "tap, bridge: {name: br0, ports: [eth1, eth1]}",
        *(3, 52, "nodes.a.bridge.ports[1]", "'eth1' is here twice"),
        False,
    ),
    "bridge in itself": (
        NODE % "tap, bridge: {name: br0, ports: br0}",
        *(3, 45, "nodes.a.bridge.ports", "'br0' cannot be a port of itself"),
        False,
    ),
    "gateway outside": (
        NODE % "netns, gateway: 10.9.0.1",
        *(3, 29, "nodes.a.gateway", "10.9.0.1 is outside network 'lan' (10.0.0.0/24, fd00::/64); a gateway is"),
        False,
    ),
    "gateway that is close": (
        HEAD + "  a: {kind: netns, gateway: uplnk}\n  uplink: {kind: tap}\n",
        *(3, 29, "nodes.a.gateway", "neither a node nor an IP address (did you mean 'uplink'?)"),
        False,
    ),
    "gateway of a netns that is true": (
        NODE % "netns, gateway: true",
        *(3, 29, "nodes.a.gateway", "expected a node or an address that the default route leads to"),
        False,
    ),
    "own gateway": (NODE % "netns, gateway: a", 3, 29, "nodes.a.gateway", "a node is not its own gateway", False),
    "own address as gateway": (NODE % "netns, gateway: 10.0.0.1", 3, 29, "nodes.a.gateway", "own gateway", False),
    "two gateways of a family": (
        NODE % "netns, gateway: [10.0.0.8, 10.0.0.9]",
        *(3, 40, "nodes.a.gateway[1]", "there is one default route for IPv4"),
        False,
    ),
    "gateway on another network": (
        "networks: {lan: 10.0.0.0/24, far: 10.1.0.0/24}\nnodes:\n  a: {kind: netns, networks: [lan], gateway: b}\n"
        "  b: {networks: [far]}\n",
        *(3, 46, "nodes.a.gateway", "'b' is on network 'far'; expected a neighbour on network 'lan'"),
        False,
    ),
    "gateway without an address": (
        HEAD + "  a: {kind: netns, gateway: t}\n  t: {kind: tap, bridge: br0}\n",
        *(3, 29, "nodes.a.gateway", "'t' has no address that 'a' could reach it at"),
        False,
    ),
    "tap that leads to an address": (
        NODE % "tap, gateway: 10.0.0.1",
        *(3, 27, "nodes.a.gateway", "a tap is a gateway or is none; expected true or false"),
        False,
    ),
    "bridged gateway without an address": (
        NODE % "tap, bridge: br0, gateway: true",
        *(3, 40, "nodes.a.gateway", "a gateway has an address, which its bridge bears; expected 'networks: {NETWORK"),
        False,
    ),
    "two gateways of a network": (
        HEAD + "  a: {kind: tap, gateway: true}\n  b: {kind: tap, gateway: true}\n",
        *(4, 27, "nodes.b.gateway", "network 'lan' has its gateway already, 'a'"),
        False,
    ),
    "two taps in a bridge": (
        HEAD + "  a: {kind: tap, bridge: br0}\n  b: {kind: tap, bridge: br0}\n",
        *(4, 26, "nodes.b.bridge", "'br0' and network 'lan' are joined by 'a' already, and two such taps would make a"),
        False,
    ),
    "two taps of one name": (
        HEAD + "  a: {kind: tap, interface: vtap}\n  b: {kind: tap, interface: vtap}\n",
        *(4, 29, "nodes.b.interface", "'vtap' is an interface of 'a' already"),
        False,
    ),
    "generated taps of one name": (
        HEAD + "  a: {kind: tap, count: 2, interface: vtap}\n",
        *(3, 39, "nodes.a.interface", "'vtap' is an interface of 'a-1' already"),
        False,
    ),
    "port of two bridges": (
        HEAD
        + "  a: {kind: tap, bridge: {name: br0, ports: eth1}}\n  b: {kind: tap, bridge: {name: br1, ports: eth1}}\n",
        *(4, 26, "nodes.b.bridge", "'eth1' is an interface of 'a' already"),
        False,
    ),
    "serve of a namespace": (
        NODE % "netns, serve: {tcp: 80, http: x}",
        *(3, 20, "nodes.a.serve", "a netns node serves with its own commands; expected 'kind: host' beside it"),
        False,
    ),
    "serve of a tap": (
        NODE % "tap, serve: {udp: 7, echo: true}",
        3,
        18,
        "nodes.a.serve",
        "expected 'kind: host'",
        False,
    ),
    "lines where words are meant": (
        NODE % 'netns, exec: ["python3 -m http.server 80", "tcpdump -l"]',
        *(3, 26, "nodes.a.exec", "several commands are a list of mappings, such as [{command: python3 -m http.server"),
        False,
    ),
    "a line among mappings": (
        NODE % "netns, exec: [{command: ls}, tcpdump -l]",
        *(3, 42, "nodes.a.exec[1]", "expected a command as a mapping such as {command: tcpdump -l}"),
        True,
    ),
    "a line among words": (
        NODE % "netns, exec: [[sleep, '1'], tcpdump -l]",
        *(3, 41, "nodes.a.exec[1]", "expected a list of words, as the other commands are; found 'tcpdump -l'"),
        True,
    ),
    "command without words": (NODE % "netns, exec: [[]]", 3, 27, "nodes.a.exec[0]", "a list of its words", True),
    "command of a number": (NODE % "netns, exec: [7]", 3, 27, "nodes.a.exec[0]", "expected a mapping", True),
    "commands of one name": (
        NODE % "netns, exec: [{command: ls, name: x}, {command: ls, name: x}]",
        *(3, 51, "nodes.a.exec[1]", "two commands of a node are called 'x'"),
        False,
    ),
    "name that is a number already": (
        NODE % "netns, exec: [{command: ls, name: '2'}, {command: ls}]",
        *(3, 53, "nodes.a.exec[1]", "two commands of a node are called '2'"),
        False,
    ),
    "name with a slash": (
        NODE % "netns, exec: {command: ls, name: a/b}",
        *(3, 46, "nodes.a.exec.name", "'a/b' is not a name"),
        True,
    ),
    "misspelt key of a command": (
        NODE % "netns, exec: {comand: ls}",
        *(3, 27, "nodes.a.exec.comand", "unknown key 'comand' (did you mean 'command'?)"),
        True,
    ),
    "two commands of a process": (
        NODE % "process, exec: [{command: ls}, {command: ls}]",
        *(3, 44, "nodes.a.exec[1]", "a process node runs one command, which holds its NIC"),
        False,
    ),
    "log of another node": (
        HEAD + "  a: {kind: netns, exec: [{command: ls, name: b}]}\n  a.b: {kind: netns, exec: ls}\n",
        *(3, 26, "nodes.a.exec", "the log of 'a/b' would be that of 'a.b'"),
        False,
    ),
    "ready port of a tap without an address": (
        NODE % "tap, bridge: br0, ready: {port: 80}",
        *(3, 39, "nodes.a.ready.port", "a tap without an address has no ports"),
        False,
    ),
    "several networks": (
        "networks: {lan: 10.0.0.0/24, far: 10.1.0.0/24}\nnodes:\n  a: {kind: tap, networks: [lan, far]}\n",
        *(3, 28, "nodes.a.networks", "joins 2 networks, but a tap node has one NIC"),
        False,
    ),
    "http from a namespace": (
        STEP + "http: {from: n, to: h}",
        *(7, 18, "steps[0].http.from", "expected a host, or an exec step: exec: {on: n, command: curl ...}"),
        False,
    ),
    "tcp from a tap": (
        STEP + "tcp: {from: t, to: h, port: 80}",
        *(
            7,
            17,
            "steps[0].tcp.from",
            "an interface of this machine; expected a host, or an exec step: exec: {on: t, command: curl",
        ),
        False,
    ),
    "traffic from a namespace": (
        STEP + "traffic: {from: n, to: h}",
        *(7, 21, "steps[0].traffic.from", "exec: {on: n, command: iperf3 ...}"),
        False,
    ),
    "ping from a tap": (STEP + "ping: {from: t, to: h}", 7, 18, "steps[0].ping.from", "command: ping ...", False),
    "address of a bridged tap in a log": (
        HEAD + "  t: {kind: tap, bridge: br0}\nsteps:\n  - log: at {t}\n",
        *(5, 10, "steps[0].log", "'t' has no address to write"),
        False,
    ),
    "exec on a host": (STEP + "exec: {on: h, command: ls}", 7, 16, "steps[0].exec.on", "process, netns or tap", False),
}


@pytest.mark.parametrize(("text", "line", "column", "key", "says", "_seen"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_sentence_with_its_place(
    tmp_path: Path, text: str, line: int, column: int, key: str, says: str, _seen: bool
) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(LabError) as caught:
        load(str(path))
    error = caught.value
    assert says in error.message
    assert (error.line, error.column, error.key) == (line, column, key)
    assert "\n" not in str(error)


def test_the_published_schema_sees_the_mistakes_that_a_schema_can_see() -> None:
    schema = jsonschema.Draft202012Validator(lab_schema())
    for name, (text, *_, seen) in MISTAKES.items():
        assert schema.is_valid(read_yaml(text, "x.yaml").data) is not seen, name
