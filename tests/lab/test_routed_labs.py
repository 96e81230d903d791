"""Labs of several networks: what a file means, and that what is built does it."""

from __future__ import annotations

import ipaddress
import itertools
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import networkx
import pytest
from reading import ReadLab

from vnet.lab.plan import Lab
from vnet.lab.runner import Options, run_lab
from vnet.lab.session import Session, Settings
from vnet.routing.graphs import read_graph

ZOO = Path(__file__).parents[3] / "shared/data/topology-zoo"

OFFICE = """\
networks: {desk: [10.1.0.0/24, "fd00:1::/64"], lab: {prefix: 10.2.0.0/24, mtu: 1500}}
nodes:
  alice: {networks: [desk]}
  bob: {networks: {lab: 10.2.0.20}}
  edge: {kind: router, networks: [desk]}
  core: {kind: router, networks: [lab], loopback: ["fd00:255::1", 10.255.0.1]}
"""


@contextmanager
def up(lab: Lab) -> Iterator[Session]:
    with Session(lab, Settings(spare_name=True)) as session:
        session.build()
        session.start()
        yield session


def passes(lab: Lab) -> None:
    report = run_lab(lab, Options())
    assert report.passed, report.as_json()


# --- what a file means ------------------------------------------------------------------------------------------------


def test_routers_have_the_first_addresses_of_their_networks_wherever_they_stand(read: ReadLab) -> None:
    lab = read(OFFICE + "links: [{endpoints: [edge, core]}]\n")
    addresses = {node.name: list(map(str, node.addresses)) for node in lab.nodes.values()}
    assert addresses["edge"][:2] == ["10.1.0.1", "fd00:1::1"]
    assert addresses["alice"] == ["10.1.0.2", "fd00:1::2"]
    # The loopback first, IPv4 first, then networks, then links.
    assert addresses["core"][:3] == ["10.255.0.1", "fd00:255::1", "10.2.0.1"]
    assert addresses["core"][3:] == ["172.31.0.1", "fd76:6e65:7400::1"]
    assert lab.nodes["alice"].gateway is None


def test_links_have_the_addresses_that_are_given_and_the_rest_of_the_pools(read: ReadLab) -> None:
    lab = read(
        OFFICE
        + "defaults: {links: {weight: 7, mtu: 9000}}\nlinks:\n"
        + "  - {endpoints: [edge, core]}\n"
        + "  - {endpoints: [edge, core], prefix: 192.0.2.0/30}\n"
        + "  - {endpoints: [edge, core], addresses: {core: 192.0.2.9, edge: 192.0.2.10}, weight: 1}\n"
        + "  - {endpoints: [core, edge], prefix: 172.31.0.2/31, addresses: {edge: 172.31.0.2}, name: x, mtu: 1000}\n"
    )
    assert list(lab.links) == ["edge-core", "edge-core.2", "edge-core.3", "x"]
    plain = {
        name: [" ".join(map(str, end)) for end in link.addresses] + list(map(str, link.prefixes))
        for name, link in lab.links.items()
    }
    six = "fd76:6e65:7400::"
    # The fourth has taken what the pool would have given to the second IPv4 link.
    assert plain["edge-core"] == [f"172.31.0.0 {six}", f"172.31.0.1 {six}1", "172.31.0.0/31", f"{six}/127"]
    assert plain["edge-core.2"] == [f"192.0.2.1 {six}2", f"192.0.2.2 {six}3", "192.0.2.0/30", f"{six}2/127"]
    assert plain["edge-core.3"] == [f"192.0.2.10 {six}4", f"192.0.2.9 {six}5", "192.0.2.8/30", f"{six}4/127"]
    # IPv6 has no room in so small an MTU (RFC 8200).
    assert plain["x"] == ["172.31.0.3", "172.31.0.2", "172.31.0.2/31"]
    assert [(link.weight, link.mtu) for link in lab.links.values()] == [(7, 9000), (7, 9000), (1, 9000), (7, 1000)]


def test_static_routes_are_to_neighbours_by_name_and_by_address(read: ReadLab) -> None:
    lab = read(
        OFFICE.replace(
            "edge: {kind: router, networks: [desk]}",
            'edge: {kind: router, networks: [desk], routes: {10.9.0.0/16: core, "fd00:9::/32": [alice, core], '
            "10.8.0.0/16: 10.1.0.77, 10.7.0.0/16: prohibit}}",
        )
        + "links: [{endpoints: [edge, core]}]\n"
    )
    found = {str(each.prefix): each.via for each in lab.nodes["edge"].routes}
    via = {prefix: hops if isinstance(hops, str) else list(map(str, hops)) for prefix, hops in found.items()}
    assert via == {
        "10.9.0.0/16": ["172.31.0.1"],
        "fd00:9::/32": ["fd00:1::2", "fd76:6e65:7400::1"],
        "10.8.0.0/16": ["10.1.0.77"],
        "10.7.0.0/16": "prohibit",
    }


@pytest.mark.parametrize(
    ("shape", "routers", "links", "networks", "names"),
    [
        ("line: 4", 4, 3, 4, "r1 r4"),
        ("ring: 5", 5, 5, 5, "r1 r5"),
        ("star: 5", 5, 4, 5, "r1 r5"),
        ("tree: 3", 15, 14, 15, "r1 r15"),
        ("tree: {height: 2, branches: 3}", 13, 12, 13, "r1 r13"),
        ("grid: [3, 4]", 12, 17, 12, "r1.1 r3.4"),
        ("fat_tree: 4", 20, 32, 8, "core-4 agg-4-2 edge-4-2"),
        ("random: {routers: 10, degree: 4}", 10, 20, 10, "r1 r10"),
    ],
)
def test_a_shape_has_routers_links_networks_and_hosts_with_names_that_say_where(
    read: ReadLab, shape: str, routers: int, links: int, networks: int, names: str
) -> None:
    lab = read(f"topology: {{{shape}, hosts: 2, weight: 3, mtu: 1500}}\n")
    kinds = [node.kind for node in lab.nodes.values()]
    assert (kinds.count("router"), len(lab.links), len(lab.networks)) == (routers, links, networks)
    assert kinds.count("host") == 2 * networks
    assert all(name in lab.nodes for name in names.split())
    assert {link.weight for link in lab.links.values()} == {3}
    assert {each.mtu for each in (*lab.links.values(), *lab.networks.values())} == {1500}
    for name, network in lab.networks.items():
        router = name.removesuffix("-net")
        # The router has the first address of its network, the hosts the next.
        for number, node in enumerate((router, f"{router}-host-1", f"{router}-host-2"), 1):
            (own,) = [each for each in lab.nodes[node].joined if each.network == name]
            assert own.addresses == tuple(prefix[number] for prefix in network.prefixes)


def test_a_random_graph_follows_from_the_seed(read: ReadLab) -> None:
    def ends(text: str, seed: int | None = None) -> list[tuple[str, str]]:
        return [link.ends for link in read(f"topology: {{random: {text}}}\n", seed=seed).links.values()]

    assert ends("20", seed=1) == ends("20", seed=1) != ends("20", seed=2)
    assert ends("{routers: 20, seed: 2}", seed=1) == ends("20", seed=2)


def test_prefixes_of_generated_networks_leave_out_what_the_file_gives(read: ReadLab) -> None:
    lab = read(
        "topology: {line: 4, prefix: 10.0.0.0/22, hosts: {count: 1, kind: process}}\n"
        + "networks: {own: 10.0.1.0/28}\nnodes: {x: {networks: [own]}, y: {networks: [r2-net]}}\n"
        + "links: [{endpoints: [r1, r4], prefix: 10.0.0.0/31}]\n"
    )
    prefixes = [ipaddress.ip_network(str(each.prefixes[0])) for each in lab.networks.values()]
    prefixes += [link.prefixes[0] for link in lab.links.values()]  # type: ignore[misc]
    assert not any(one.overlaps(other) for n, one in enumerate(prefixes) for other in prefixes[:n])  # type: ignore[arg-type]
    assert lab.nodes["r1-host"].kind == "process"
    assert lab.nodes["y"].addresses[0] in lab.networks["r2-net"].prefixes[0]


# --- what is built ----------------------------------------------------------------------------------------------------


def test_steps_cut_mend_weigh_and_trace(read: ReadLab, real_lan: Any) -> None:
    passes(
        read(
            OFFICE
            + "  side: {kind: router, networks: []}\n"
            + "links:\n  - {endpoints: [edge, core]}\n  - {endpoints: [edge, side], weight: 5}\n"
            + "  - {endpoints: [side, core], weight: 5}\n"
            + "steps:\n"
            + "  - traceroute: {from: alice, to: bob}\n    expect: {path: [edge, core, bob], hops: 3}\n"
            + "  - link: {of: edge-core, weight: 11}\n"
            + "  - traceroute: {from: alice, to: bob}\n    expect: {path: [edge, side, core, bob]}\n"
            + "  - link: {cut: [side, edge]}\n"
            + "  - traceroute: {from: bob, to: alice}\n    expect: {path: [core, 172.31.0.0, alice]}\n"
            + "  - link: {cut: edge-core}\n"
            + "  - ping: {from: alice, to: bob}\n"
            + "    expect: {loss: 100%, error: network unreachable from 10.1.0.1}\n"
            + "  - link: {mend: edge-core}\n"
            + "  - ping: {from: alice, to: bob, ttl: 2}\n    expect: {error: time exceeded from 172.31.0.1}\n"
            + "  - ping_all: {}\n    expect: {pairs: 2, loss: 0%}\n"
            + "  - traceroute: {from: alice, to: 10.2.0.99}\n"
            + "    expect: {reached: false, error: host unreachable from 172.31.0.1}\n"
            + "  - traceroute: {from: alice, to: bob, hops: 1}\n    expect: {reached: false, path: [edge]}\n"
        )
    )


def test_a_traceroute_that_goes_another_way_says_so(read: ReadLab, real_lan: Any) -> None:
    lab = read(
        OFFICE
        + "links: [{endpoints: [edge, core]}]\nsteps:\n"
        + "  - traceroute: {from: alice, to: bob}\n    expect: {path: [core, bob]}\n"
    )
    report = run_lab(lab, Options())
    (step,) = report.steps
    (failed,) = [check for check in step.checks if not check.passed]
    assert (failed.metric, failed.expected, failed.found) == ("path", "'core bob'", "'edge core bob'")
    assert step.summary == "alice → edge → core → bob"


def test_gateways_are_the_first_router_another_or_none(read: ReadLab, real_lan: Any) -> None:
    lab = read(
        'networks: {desk: [10.1.0.0/24, "fd00:1::/64"], far: [10.2.0.0/24, "fd00:2::/64"]}\nnodes:\n'
        + "  plain: {networks: [desk]}\n"
        + "  other: {networks: [desk], gateway: second}\n"
        + "  by_address: {networks: [desk], gateway: [10.1.0.2, 'fd00:1::1']}\n"
        + "  alone: {networks: [desk], gateway: none}\n"
        + "  by_guest: {kind: process, networks: [desk], gateway: plain}\n"
        + "  there: {networks: [far]}\n"
        + "  first: {kind: router, networks: [desk, far]}\n"
        + "  second: {kind: router, networks: [desk, far]}\n"
    )
    with up(lab) as session:
        gateways = {name: nic.gateways for name, nic in session.lan.nics.items()}
        assert gateways["plain"] == ("10.1.0.1", "fd00:1::1")
        assert gateways["other"] == ("10.1.0.2", "fd00:1::2")
        assert gateways["by_address"] == ("10.1.0.2", "fd00:1::1")
        assert gateways["alone"] == ()
        assert gateways["by_guest"] == ("10.1.0.3", "fd00:1::3")
        reached = {name: session.hosts[name].ping("10.2.0.3").received for name in ("plain", "other", "alone")}
        assert reached == {"plain": 1, "other": 1, "alone": 0}
        assert session.hosts["other"].ping("10.2.0.3", ttl=1).errors == ("time exceeded from 10.1.0.2",)


def test_what_lies_outside_goes_to_who_has_it_behind_them(read: ReadLab, tmp_path: Path, real_lan: Any) -> None:
    (tmp_path / "table.txt").write_text("198.51.100.0/24\n2001:db8:5::/48  # documentation\n", encoding="utf-8")
    isp = '  isp: {kind: process, networks: {desk: [10.1.0.9, "fd00:1::9"]}}\n'
    routes = "routes:\n  - {file: table.txt, via: isp}\n  - {prefix: 203.0.113.0/24, via: 10.1.0.9}\n"
    routes += "  - {prefix: 203.0.113.128/25, via: prohibit}\n"
    lab = read(OFFICE.replace("lab: {prefix: 10.2.0.0/24", 'lab: {prefix: [10.2.0.0/24, "fd00:2::/64"]') + isp
               + "links: [{endpoints: [edge, core]}]\n" + routes)  # fmt: skip
    with up(lab) as session, session.lan.attach("isp") as nic:
        for target in ("198.51.100.7", "2001:db8:5::7", "203.0.113.7"):
            session.hosts["bob"].start_ping(target)
            assert ipaddress.ip_address(target).packed in nic.recv(timeout=5)
        assert session.hosts["bob"].ping("203.0.113.200").errors == ("administratively prohibited from 10.2.0.1",)
        assert session.hosts["bob"].ping("192.0.2.1").errors == ("network unreachable from 10.2.0.1",)


def test_filters_of_networks_and_nodes_hold(read: ReadLab, real_lan: Any) -> None:
    passes(
        read(
            "networks: {desk: 10.1.0.0/24, lab: {prefix: 10.2.0.0/24, filter: [deny udp dst port 53]}}\nnodes:\n"
            + "  alice: {networks: [desk], filter: {out: [reject: {to: bob, protocol: tcp}]}}\n"
            + "  bob: {networks: [lab]}\n  r: {kind: router, networks: [desk, lab]}\n"
            + "steps:\n  - ping: {from: alice, to: bob}\n"
            + "  - inject: {from: alice, packet: 'IP(dst=\"bob\")/UDP(dport=[53, 54])'}\n"
            + "    expect: {filtered: 1, delivered: 1}\n"
            + "  - tcp: {from: alice, to: bob, port: 80}\n    expect: {state: unreachable}\n"
        )
    )


def test_a_process_with_two_nics_forwards_between_them(read: ReadLab, real_lan: Any, tmp_path: Path) -> None:
    (tmp_path / "relay.py").write_text(
        "import os, selectors, vnet\n"
        "first, second = (vnet.attach(name=name) for name in os.environ['VNET_NICS'].split())\n"
        "ready = selectors.DefaultSelector()\n"
        "for nic, other in ((first, second), (second, first)):\n"
        "    ready.register(nic, selectors.EVENT_READ, (nic, other))\n"
        "while True:\n"
        "    for key, _ in ready.select():\n"
        "        nic, other = key.data\n"
        "        for datagram in nic.recv_many(timeout=0):\n"
        "            other.send(datagram)\n",
        encoding="utf-8",
    )
    lab = read(
        "networks: {desk: 10.1.0.0/24, lab: 10.2.0.0/24, far: 10.3.0.0/24}\nnodes:\n"
        "  alice: {networks: [desk]}\n  bob: {networks: [far]}\n"
        "  relay: {kind: process, networks: [desk, lab], forward: true, exec: python3 relay.py}\n"
        "  r: {kind: router, networks: [lab, far]}\n"
        "steps:\n  - ping: {from: alice, to: bob, count: 3}\n"
    )
    assert lab.nodes["relay"].nics == ("relay.desk", "relay.lab")
    passes(lab)


# --- many of them -----------------------------------------------------------------------------------------------------


def test_a_thousand_routers_and_two_thousand_hosts_reach_one_another(read: ReadLab, real_lan: Any) -> None:
    lab = read("topology: {random: 1000, hosts: 2}\nseed: 3\n")
    graph = networkx.Graph([link.ends for link in lab.links.values()])
    choices = random.Random(3)
    with up(lab) as session:
        for _ in range(100):
            one, other = choices.sample(sorted(graph), 2)
            far = networkx.shortest_path_length(graph, one, other) + 1
            host, target = session.hosts[f"{one}-host-1"], str(lab.nodes[f"{other}-host-2"].address(4))
            # So many routers take one from the TTL each; the last one to do it has none left to hand on.
            assert host.ping(target, ttl=far + 1).received == 1
            (error,) = host.ping(target, ttl=far).errors
            assert error.startswith("time exceeded from ")


@pytest.mark.parametrize("name", sorted(path.name for path in ZOO.glob("*.gml")) or ["none"])
def test_a_backbone_has_the_paths_that_networkx_says(read: ReadLab, tmp_path: Path, real_lan: Any, name: str) -> None:
    if name == "none":
        pytest.skip("needs the graph files of shared/")
    (tmp_path / name).write_bytes((ZOO / name).read_bytes())
    lab = read(f"graph: {{file: {name}, parallel: keep}}\n")
    graph = networkx.Graph(read_graph(ZOO / name, parallel="keep").graph())
    owners = {str(a): node.name for node in lab.nodes.values() for a in node.addresses}
    choices = random.Random(name)
    with up(lab) as session:
        for one in graph:
            host = session.hosts[f"{one}-host"]
            runs = {
                other: host.start_ping(str(lab.nodes[f"{other}-host"].address(version)), timeout=10)
                for other in graph
                for version in (4, 6)
            }
            assert all(run.result().received == 1 for run in runs.values()), one
        # One way of each host: of more a router would not tell it, as it answers nobody more than six times in a row.
        for one in graph:
            other = choices.choice(sorted(set(graph) - {one}))
            host, target = session.hosts[f"{one}-host"], str(lab.nodes[f"{other}-host"].address(4))
            length = networkx.shortest_path_length(graph, one, other)
            errors = [host.ping(target, ttl=ttl).errors for ttl in range(1, length + 2)]
            way = [owners[error[0].removeprefix("time exceeded from ")] for error in errors]
            assert host.ping(target, ttl=length + 2).received == 1
            # As long as a shortest path, from end to end, over links that are there.
            assert (way[0], way[-1], len(way)) == (one, other, length + 1)
            assert all(graph.has_edge(*pair) for pair in itertools.pairwise(way))
