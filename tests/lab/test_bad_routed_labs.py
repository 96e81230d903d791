"""What a lab file says wrongly of routers, links and routes is one sentence with its place, and nothing starts."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from vnet.errors import LabError
from vnet.lab.schema.published import lab_schema
from vnet.lab.source import load
from vnet.lab.tree import read_yaml

HEAD = 'networks: {desk: [10.1.0.0/24, "fd00:1::/64"], lab: 10.2.0.0/24}\nnodes:\n  a: {networks: [desk]}\n'
TWO = HEAD + "  r1: {kind: router, networks: [desk]}\n  r2: {kind: router, networks: [lab]}\n"
"""Five lines that are right; what follows stands in line 6."""
LINK = TWO + "links:\n  - {%s}\n"
"""A link in line 7, column 5."""
ROUTES = HEAD + "  r1: {kind: router, networks: [desk], routes: {%s}}\n  r2: {kind: router, networks: [desk, lab]}\n"
"""Static routes of r1 in line 4, column 48."""
GRAPH = "graph [\n%s]\n"
THREE = "".join(f'  node [ id {n} label "n{n}" ]\n' for n in range(3))

# What the file holds, and then line, column, key, and what the sentence says; and whether a schema can see it.
MISTAKES = {
    # Routers
    "router of nothing": (
        HEAD + "  r: {kind: router}\n",
        *(4, 3, "nodes.r", "router 'r' has neither a network nor a link; expected 'networks', or a link"),
        False,
    ),
    "router with a command": (
        HEAD + "  r: {kind: router, networks: [desk], exec: ls}\n",
        *(4, 39, "nodes.r.exec", "a router runs no command: it is simulated; expected no 'exec' here"),
        False,
    ),
    "router that is ready": (
        HEAD + "  r: {kind: router, networks: [desk], ready: {port: 80}}\n",
        *(4, 39, "nodes.r.ready", "a router is ready as soon as it is there"),
        False,
    ),
    "router with a buffer": (
        HEAD + "  r: {kind: router, networks: [desk], buffer: 1MiB}\n",
        *(4, 39, "nodes.r.buffer", "a router has no input buffer"),
        False,
    ),
    "router with a gateway": (
        HEAD + "  r: {kind: router, networks: [desk], gateway: a}\n",
        *(
            4,
            39,
            "nodes.r.gateway",
            "a router has no default gateway; where it sends what is for elsewhere is 'routes:",
        ),
        False,
    ),
    "router that serves": (
        HEAD + "  r: {kind: router, networks: [desk], serve: {tcp: 80, http: x}}\n",
        *(4, 39, "nodes.r.serve", "a router serves nothing"),
        False,
    ),
    "loopback of a host": (
        HEAD + "  h: {networks: [desk], loopback: 10.9.0.1}\n",
        *(4, 25, "nodes.h.loopback", "a host node has no loopback address; expected 'kind: router' beside it"),
        False,
    ),
    "loopback in a network": (
        HEAD + "  r: {kind: router, networks: [lab], loopback: 10.1.0.9}\n",
        *(4, 48, "nodes.r.loopback", "10.1.0.9 is in 10.1.0.0/24 of network 'desk'; expected an address of no network"),
        False,
    ),
    "loopback twice": (
        HEAD
        + "  r: {kind: router, networks: [lab], loopback: 10.9.0.1}\n"
        + "  s: {kind: router, networks: [lab], loopback: 10.9.0.1}\n",
        *(5, 48, "nodes.s.loopback", "10.9.0.1 is in 10.9.0.1/32 of router 'r'"),
        False,
    ),
    "loopback of many": (
        HEAD + "  r: {kind: router, networks: [lab], count: 2, loopback: 10.9.0.1}\n",
        *(4, 58, "nodes.r.loopback", "a loopback address is one router's; expected no 'count' beside it"),
        False,
    ),
    "same network twice": (
        HEAD + "  r: {kind: router, networks: [lab, lab]}\n",
        *(4, 37, "nodes.r.networks[1]", "'lab' is here twice; a node is on a network once"),
        False,
    ),
    "NIC called as a node": (
        HEAD + "  r: {kind: router, networks: [desk, lab]}\n  r.lab: {networks: [lab]}\n",
        *(5, 3, "nodes.r.lab", "the NIC of 'r' on network 'lab' is called so already; expected another name"),
        False,
    ),
    "forwarding between nothing": (
        HEAD + "  n: {kind: netns, networks: [desk], forward: true}\n",
        *(4, 38, "nodes.n.forward", "a node forwards between networks, and this one joins one"),
        False,
    ),
    "host that forwards": (
        HEAD + "  h: {networks: [desk], forward: true}\n",
        *(4, 25, "nodes.h.forward", "a host node forwards nothing; expected 'kind: netns or process' beside it"),
        False,
    ),
    "host on several networks": (
        HEAD + "  h: {networks: [desk, lab]}\n",
        *(4, 17, "nodes.h.networks", "joins 2 networks, but a host node has one NIC"),
        False,
    ),
    # Gateways
    "gateway outside": (
        TWO + "  h: {networks: [desk], gateway: 10.2.0.1}\n",
        *(
            6,
            34,
            "nodes.h.gateway",
            "10.2.0.1 is outside network 'desk' (10.1.0.0/24, fd00:1::/64); a gateway is a nei",
        ),
        False,
    ),
    "gateway elsewhere": (
        TWO + "  h: {networks: [desk], gateway: r2}\n",
        *(6, 34, "nodes.h.gateway", "'r2' is on network 'lab'; expected a neighbour on network 'desk'"),
        False,
    ),
    "gateway that nobody is": (
        TWO + "  h: {networks: [desk], gateway: 10.1.0.99}\n",
        *(6, 34, "nodes.h.gateway", "nobody has the address 10.1.0.99; expected that of a router or another node"),
        False,
    ),
    "gateway that is a list of one family": (
        TWO + "  h: {networks: [desk], gateway: [10.1.0.1, 10.1.0.2]}\n",
        *(6, 45, "nodes.h.gateway[1]", "there is one default route for IPv4"),
        False,
    ),
    # Links
    "links of a mapping": (TWO + "links: {}\n", 6, 8, "links", "expected a list of links such as", True),
    "link of one end": (LINK % "endpoints: [r1]", 7, 17, "links[0].endpoints", "a link has two ends", True),
    "link to itself": (
        LINK % "endpoints: [r1, r1]",
        *(7, 22, "links[0].endpoints[1]", "a link from 'r1' to itself leads nowhere; expected two routers"),
        False,
    ),
    "link to nobody": (
        LINK % "endpoints: [r1, r3]",
        *(7, 22, "links[0].endpoints[1]", "no router is called 'r3'; expected two of r1, r2"),
        False,
    ),
    "link to a host": (
        LINK % "endpoints: [r1, a]",
        *(7, 22, "links[0].endpoints[1]", "'a' is a host node; expected two routers: a guest is on a network"),
        False,
    ),
    "link to a network": (
        LINK % "endpoints: [a, desk]",
        *(7, 18, "links[0].endpoints[0]", "does not support links between a node and a network yet; expected two rou"),
        False,
    ),
    "link of a router to a network": (
        LINK % "endpoints: [r1, desk]",
        *(7, 22, "links[0].endpoints[1]", "does not support links between a node and a network yet; expected two rou"),
        False,
    ),
    "link with a delay": (
        LINK % "endpoints: [r1, r2], delay: 5ms",
        *(
            7,
            34,
            "links[0].delay",
            "this version of vnet does not support links with an impairment such as 'delay' yet",
        ),
        True,
    ),
    "all links with a loss": (
        "defaults: {links: {loss: 1%}}\n" + TWO,
        *(1, 26, "defaults.links.loss", "does not support links with an impairment such as 'loss' yet"),
        True,
    ),
    "link called twice": (
        TWO + "links:\n  - {endpoints: [r1, r2], name: x}\n  - {endpoints: [r1, r2], name: x}\n",
        *(8, 33, "links[1].name", "a link called 'x' is there already; expected another name"),
        False,
    ),
    "weight of nothing": (LINK % "endpoints: [r1, r2], weight: 0", 7, 35, "links[0].weight", "at least 1", True),
    "link in a network": (
        LINK % "endpoints: [r1, r2], prefix: 10.1.0.0/31",
        *(7, 35, "links[0].prefix", "10.1.0.0/31 overlaps 10.1.0.0/24 of network 'desk'; expected a prefix of its own"),
        False,
    ),
    "links in one another": (
        TWO
        + "links:\n  - {endpoints: [r1, r2], prefix: 192.0.2.0/30}\n  - {endpoints: [r1, r2], prefix: 192.0.2.2/31}\n",
        *(8, 35, "links[1].prefix", "192.0.2.2/31 overlaps 192.0.2.0/30 of link 'r1-r2'"),
        False,
    ),
    "link of one address": (
        LINK % "endpoints: [r1, r2], prefix: 192.0.2.1/32",
        *(7, 35, "links[0].prefix", "192.0.2.1/32 is one address, and a link has two ends"),
        False,
    ),
    "address of no end": (
        LINK % "endpoints: [r1, r2], addresses: {r3: 192.0.2.1}",
        *(7, 39, "links[0].addresses.r3", "'r3' is no end of this link; expected 'r1' and 'r2'"),
        False,
    ),
    "address of one end": (
        LINK % "endpoints: [r1, r2], addresses: {r1: 192.0.2.1}",
        *(7, 38, "links[0].addresses", "'r2' has no IPv4 address here; expected both, or 'prefix' beside it"),
        False,
    ),
    "address outside of the link": (
        LINK % "endpoints: [r1, r2], prefix: 192.0.2.0/31, addresses: {r1: 192.0.2.9}",
        *(7, 65, "links[0].addresses.r1", "192.0.2.9 is no address of an end of 192.0.2.0/31"),
        False,
    ),
    "IPv6 on a narrow link": (
        LINK % 'endpoints: [r1, r2], mtu: 1000, prefix: "fd00:9::/127"',
        *(7, 32, "links[0].mtu", "IPv6 needs an MTU of at least 1280 bytes"),
        False,
    ),
    # Static routes
    "routes of a list": (ROUTES.replace("{%s}", "[x]"), 4, 48, "nodes.r1.routes", "expected a mapping such as", True),
    "route to an address": (
        ROUTES % "10.9.0.1/16: a",
        *(4, 49, "nodes.r1.routes.10.9.0.1/16", "an address inside 10.9.0.0/16; expected the prefix 10.9.0.0/16"),
        False,
    ),
    "route via nobody": (
        ROUTES % "10.9.0.0/16: 10.7.0.1",
        *(4, 62, "nodes.r1.routes.10.9.0.0/16", "10.7.0.1 is the address of no neighbour of 'r1'; expected one on its"),
        False,
    ),
    "route via a stranger": (
        ROUTES % "10.9.0.0/16: blackhol",
        *(4, 62, "nodes.r1.routes.10.9.0.0/16", "'blackhol' is neither a node nor an IP address (did you mean 'black"),
        False,
    ),
    "route via itself": (
        ROUTES % "10.9.0.0/16: r1",
        *(4, 62, "nodes.r1.routes.10.9.0.0/16", "a router is not its own next hop; expected a neighbour"),
        False,
    ),
    "route of another family": (
        ROUTES % '10.9.0.0/16: "fd00:1::9"',
        *(4, 62, "nodes.r1.routes.10.9.0.0/16", "fd00:1::9 is an IPv6 address, and 10.9.0.0/16 is IPv4"),
        False,
    ),
    "next hop and refusal": (
        ROUTES % "10.9.0.0/16: [a, prohibit]",
        *(4, 62, "nodes.r1.routes.10.9.0.0/16", "'prohibit' stands alone; expected it, or next hops"),
        False,
    ),
    "static routes of a host": (
        HEAD + "  h: {networks: [desk], routes: {10.9.0.0/16: a}}\n",
        *(4, 25, "nodes.h.routes", "a host node has no static routes: its gateway is where all goes"),
        False,
    ),
    "static routes in a circle": (
        HEAD
        + "  r1: {kind: router, networks: [desk], routes: {10.9.0.0/16: r2}}\n"
        + "  r2: {kind: router, networks: [desk], routes: {0.0.0.0/0: r1}}\n",
        *(4, 49, "nodes.r1.routes.10.9.0.0/16", "what is for 10.9.0.0/16 goes round in a circle: r1 → r2 → r1; expe"),
        False,
    ),
    # Outside
    "route to a network of the lab": (
        TWO + "routes: {10.2.0.0/24: a}\n",
        *(6, 10, "routes.10.2.0.0/24", "10.2.0.0/24 is the prefix of network 'lab'; expected one outside of the lab"),
        False,
    ),
    "route behind a router": (
        TWO + "routes: {203.0.113.0/24: r1}\n",
        *(6, 26, "routes.203.0.113.0/24", "'r1' is a router; what lies behind a router is in the lab"),
        False,
    ),
    "routes of a file that is not there": (
        TWO + "routes:\n  - {file: none.txt, via: a}\n",
        *(7, 12, "routes[0].file", "'none.txt' cannot be read: no such file or directory"),
        False,
    ),
    "route twice": (
        TWO + "routes:\n  - {prefix: 203.0.113.0/24, via: a}\n  - {prefix: 203.0.113.0/24, via: a}\n",
        *(8, 14, "routes[1].prefix", "203.0.113.0/24 is here twice"),
        False,
    ),
    "route of nothing": (
        TWO + "routes:\n  - {via: a}\n",
        7,
        5,
        "routes[0]",
        "expected one of 'prefix' and 'file'",
        False,
    ),
    # Shapes
    "two shapes": (
        "topology: {line: 2, ring: 4}\n",
        *(1, 21, "topology.ring", "a topology has one shape, but this one has both 'line' and 'ring'"),
        False,
    ),
    "unknown shape": (
        "topology: {fattree: 4}\n",
        *(
            1,
            12,
            "topology.fattree",
            "a topology without a shape (did you mean 'fat_tree'?); expected one of line, ring",
        ),
        True,
    ),
    "odd fat tree": ("topology: {fat_tree: 5}\n", 1, 22, "topology.fat_tree", "expected an even number of ports", True),
    "graph and shape": (
        "topology: {line: 2}\ngraph: x.gml\n",
        *(1, 1, "topology", "a lab has either a 'graph' or a 'topology', not both"),
        False,
    ),
    "hosts that are routers": (
        "topology: {line: 2, hosts: {kind: router}}\n",
        *(1, 35, "topology.hosts.kind", "expected host, process or netns at each router"),
        False,
    ),
    "pool that is too small": (
        "topology: {line: 9, hosts: 20, prefix: 10.0.0.0/24}\n",
        *(1, 40, "topology.prefix", "10.0.0.0/24 has no room for 9 networks of 21 addresses each; expected a larger"),
        False,
    ),
    "node called as a generated one": (
        "topology: {line: 2}\nnodes:\n  r1: {networks: [r1-net]}\n",
        *(3, 3, "nodes.r1", "a node called 'r1' is made by 'topology' too; expected names that are there once"),
        False,
    ),
    "network called as a generated one": (
        "topology: {line: 2}\nnetworks: {r1-net: 10.9.0.0/24}\n",
        *(2, 12, "networks.r1-net", "a network called 'r1-net' is made by 'topology' too; expected another name"),
        False,
    ),
    # Steps
    "link step of two things": (
        LINK % "endpoints: [r1, r2]" + "steps:\n  - link: {cut: [r1, r2], mend: [r1, r2]}\n",
        *(9, 27, "steps[0].link.mend", "a link step does one thing; expected one of {cut: [A, B]}"),
        False,
    ),
    "weight of no link": (
        LINK % "endpoints: [r1, r2]" + "steps:\n  - link: {of: [r1, r2]}\n",
        *(9, 12, "steps[0].link.of", "'of' goes with 'weight'; expected {of: [A, B], weight: N}"),
        False,
    ),
    "cut of nothing": (
        TWO + "steps:\n  - link: {cut: [r1, r2]}\n",
        *(7, 17, "steps[0].link.cut", "there is no link between 'r1' and 'r2'; 'r1' has no links"),
        False,
    ),
    "cut of an unknown name": (
        LINK % "endpoints: [r1, r2]" + "steps:\n  - link: {cut: r1-r3}\n",
        *(9, 17, "steps[0].link.cut", "no link is called 'r1-r3' (did you mean 'r1-r2'?); the links are r1-r2"),
        False,
    ),
    "ping from a router": (
        TWO + "steps:\n  - ping: {from: r1, to: a}\n",
        *(7, 18, "steps[0].ping.from", "'r1' is a router, which sends nothing of its own; expected a host"),
        False,
    ),
    "inject as a router": (
        TWO + "steps:\n  - inject: {from: r1, packet: 'IP(dst=\"a\")'}\n",
        *(7, 20, "steps[0].inject.from", "'r1' is a router, which sends nothing of its own"),
        False,
    ),
    "exec on a router": (
        TWO + "steps:\n  - exec: {on: r1, command: ls}\n",
        *(7, 16, "steps[0].exec.on", "'r1' is a router node, which runs no commands"),
        False,
    ),
}

# What a graph file holds, the mapping beside it, and what the sentence says.
GRAPHS = {
    "not a graph": ("hello", "", "x.gml: it is no GML"),
    "self loop": (THREE + "  edge [ source 0 target 0 ]\n", "", "'n0' is linked to itself; 'self_loops: drop' leaves"),
    "parallel links": (
        THREE + "  edge [ source 0 target 1 ]\n" * 2 + "  edge [ source 1 target 2 ]\n",
        *("", "'n0' and 'n1' are linked more than once; 'parallel: keep' makes each edge a link"),
    ),
    "parts": (
        THREE + "  edge [ source 0 target 1 ]\n",
        *("", "the graph is not connected: no links lead from 'n0' to n2; expected 'links' that join the parts"),
    ),
    "weight that is no number": (
        THREE + '  edge [ source 0 target 1 cost "far" ]\n  edge [ source 1 target 2 cost 7 ]\n',
        *(", weight: cost", "'cost' of the edge from 'n0' to 'n1' is 'far'; expected a number from 1 to 1,048,575"),
    ),
    "weight that not all have": (
        THREE + "  edge [ source 0 target 1 cost 7 ]\n  edge [ source 1 target 2 ]\n",
        *(", weight: cost", "the edge from 'n1' to 'n2' has no attribute 'cost'; expected one that every edge has"),
    ),
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


@pytest.mark.parametrize(("graph", "beside", "says"), GRAPHS.values(), ids=GRAPHS.keys())
def test_a_mistake_in_a_graph_file_is_told_where_the_lab_names_it(
    tmp_path: Path, graph: str, beside: str, says: str
) -> None:
    (tmp_path / "x.gml").write_text(GRAPH % graph if graph != "hello" else graph, encoding="utf-8")
    path = tmp_path / "lab.yaml"
    path.write_text(f"name: x\ngraph: {{file: x.gml{beside}}}\n", encoding="utf-8")
    with pytest.raises(LabError) as caught:
        load(str(path))
    error = caught.value
    assert says in error.message
    assert (error.line, error.column) == ((2, 9 + 6) if not beside else (2, 9 + 6 + 7 + 8))
    assert "\n" not in str(error)


def test_a_graph_with_mistakes_can_be_taken_as_it_is(tmp_path: Path) -> None:
    edges = "  edge [ source 0 target 0 ]\n" + "  edge [ source 0 target 1 ]\n" * 2
    unnamed = THREE.replace(' label "n2"', "").replace("n1", "n0")
    (tmp_path / "x.gml").write_text(GRAPH % (unnamed + edges), encoding="utf-8")
    path = tmp_path / "lab.yaml"
    settings = "self_loops: drop, parallel: keep, disconnected: largest"
    path.write_text(f"graph: {{file: x.gml, {settings}}}\n", encoding="utf-8")
    lab = load(str(path))
    assert [link.name for link in lab.links.values()] == ["n0-n0-2", "n0-n0-2.2"]
    assert list(lab.nodes) == ["n0", "n0-2", "n0-host", "n0-2-host"]
    # Links of the lab file may join the parts.
    path.write_text(
        f"graph: {{file: x.gml, {settings.replace('largest', 'error')}}}\nlinks: [{{endpoints: [n0, node-2]}}]\n",
        encoding="utf-8",
    )
    assert list(load(str(path)).links) == ["n0-n0-2", "n0-n0-2.2", "n0-node-2"]
