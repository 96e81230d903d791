"""Labs with namespaces and taps, on a LAN of plain dictionaries: what is asked of the LAN, and where commands run."""

from __future__ import annotations

import ipaddress
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fake_lan import FakeLan
from reading import ReadLab

from vnet.errors import MachineLacks, VnetError
from vnet.lab.pinging import left_unanswered, read_ping
from vnet.lab.plan import Bridge, NodeCommand
from vnet.lab.report import Report
from vnet.lab.runner import Options, run_lab

HEAD = 'networks: {lan: [10.0.0.0/24, "fd00::/64"]}\nnodes:\n'
STEPS = "steps:\n  - wait: 0\n"


class Recorder:
    """Makes fake LANs and remembers them."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.made: list[FakeLan] = []

    def __call__(self, name: str, **settings: Any) -> FakeLan:
        self.made.append(FakeLan(name, **settings, **self.settings))
        return self.made[-1]


@pytest.fixture
def lans() -> Recorder:
    return Recorder()


def run(lab: Any, lans: Recorder, **options: Any) -> Report:
    return run_lab(lab, Options(make_lan=lans, **options))


# --- the plan ---------------------------------------------------------------------------------------------------------


def test_one_command_is_known_by_its_node_and_several_by_their_names_or_numbers(read: ReadLab) -> None:
    forms = {
        "a line": ("exec: sleep 9", [("n", "sleep 9")]),
        "words": ("exec: [sleep, '9']", [("n", ("sleep", "9"))]),
        "a mapping": ("exec: {command: sleep 9}", [("n", "sleep 9")]),
        "a mapping with a name": ("exec: {command: sleep 9, name: bed}", [("n/bed", "sleep 9")]),
        "a list of one": ("exec: [{command: sleep 9}]", [("n", "sleep 9")]),
        "mappings": (
            "exec: [{command: sleep 9, name: bed}, {command: [sleep, '8']}]",
            [("n/bed", "sleep 9"), ("n/2", ("sleep", "8"))],
        ),
        "lists of words": ("exec: [[sleep, '9'], [sleep, '8']]", [("n/1", ("sleep", "9")), ("n/2", ("sleep", "8"))]),
        "nothing": ("exec: ", []),
    }
    for name, (text, expected) in forms.items():
        node = read(HEAD + f"  n: {{kind: netns, {text}}}\n").nodes["n"]
        assert [(node.label(each), each.words) for each in node.commands] == expected, name


def test_a_gateway_is_a_neighbour_by_name_or_by_address(read: ReadLab) -> None:
    nodes = read(
        HEAD
        + '  uplink: {kind: tap, networks: {lan: [10.0.0.254, "fd00::ffff"]}, gateway: true}\n'
        + "  by_name: {kind: netns, gateway: uplink}\n"
        + "  by_address: {kind: netns, gateway: 10.0.0.77}\n"
        + '  by_both: {kind: netns, gateway: ["fd00::77", 10.0.0.77]}\n'
        + "  without: {kind: netns}\n"
    ).nodes
    found = {name: list(map(str, node.gateway or ())) for name, node in nodes.items()}
    assert found == {
        "uplink": [],
        "by_name": ["10.0.0.254", "fd00::ffff"],
        "by_address": ["10.0.0.77"],
        "by_both": ["10.0.0.77", "fd00::77"],
        "without": [],
    }
    assert [name for name, node in nodes.items() if node.nat] == ["uplink"]


def test_a_tap_in_a_bridge_has_the_addresses_that_the_file_gives_and_one_alone_has_one_of_each_prefix(
    read: ReadLab,
) -> None:
    nodes = read(
        HEAD
        + "  alone: {kind: tap}\n"
        + "  bridged: {kind: tap, bridge: br0}\n"
        + "  both: {kind: tap, networks: {lan: 10.0.0.9}, bridge: {name: br1, ports: eth1}, interface: t1}\n"
        + "  h:\n"
    ).nodes
    addresses = {name: list(map(str, node.addresses)) for name, node in nodes.items()}
    assert addresses == {
        "alone": ["10.0.0.1", "fd00::1"],
        "bridged": [],
        "both": ["10.0.0.9"],
        "h": ["10.0.0.2", "fd00::2"],
    }
    assert nodes["both"].bridge == Bridge("br1", ("eth1",))
    assert nodes["both"].interface == "t1"


def test_defaults_reach_the_kinds_that_take_them(read: ReadLab) -> None:
    nodes = read(
        HEAD.replace("nodes:", "defaults: {nodes: {kind: netns, exec: sleep 9, gateway: h, interface: net0}}\nnodes:")
        + "  n: {count: 2}\n  own: {exec: [{command: a}, {command: b}], interface: eth7}\n  h: {kind: host}\n"
    ).nodes
    assert [node.interface for node in nodes.values()] == ["net0", "net0", "eth7", None]
    assert nodes["n-2"].commands == (NodeCommand("sleep 9"),)
    assert len(nodes["own"].commands) == 2
    assert (nodes["h"].commands, nodes["h"].gateway) == ((), None)


# --- a session --------------------------------------------------------------------------------------------------------


def test_the_lan_is_asked_for_what_the_file_says(read: ReadLab, lans: Recorder) -> None:
    run(
        read(
            HEAD
            + "  n: {kind: netns, gateway: up, interface: net0, buffer: 64KiB}\n"
            + "  plain: {kind: netns}\n"
            + "  up: {kind: tap, gateway: true, interface: vtap}\n"
            + "  br: {kind: tap, bridge: {name: br0, ports: [eth1]}}\n"
            + STEPS
        ),
        lans,
    )
    (lan,) = lans.made
    assert lan.namespaces["n"].settings == {
        "address": ["10.0.0.1", "fd00::1"],
        "network": "lan",
        "buffer": 65536,
        "gateway": ["10.0.0.3", "fd00::3"],
        "interface": "net0",
    }
    # What the file leaves open, the LAN decides.
    assert not {"gateway", "interface"} & set(lan.namespaces["plain"].settings)
    assert lan.taps["up"].settings == {
        "address": ["10.0.0.3", "fd00::3"],
        "network": "lan",
        "buffer": 4 << 20,
        "interface": "vtap",
        "nat": True,
    }
    assert lan.taps["br"].settings == {
        "address": None,
        "network": "lan",
        "buffer": 4 << 20,
        "bridge": "br0",
        "ports": ("eth1",),
        "nat": False,
    }
    assert lan.closed


def test_commands_of_a_namespace_run_inside_and_each_has_a_log(read: ReadLab, lans: Recorder, tmp_path: Path) -> None:
    report = run(
        read(
            HEAD
            + "  n:\n    kind: netns\n    env: {COLOUR: red}\n    exec:\n"
            + "      - {command: 'echo one $INSIDE $COLOUR; sleep 9', name: first}\n"
            + "      - [sh, -c, echo two $INSIDE]\n"
            + "    ready: {command: 'test $INSIDE = n', output: two n}\n"
            + "  alone: {kind: netns, exec: 'echo alone in $INSIDE; sleep 9', ready: {output: alone in alone}}\n"
            + "  t: {kind: tap, exec: 'echo outside $INSIDE; sleep 9', ready: {output: ^outside$}}\n"
            + "steps:\n  - exec: {on: n, command: 'echo $INSIDE $VNET_NIC'}\n    expect: {stdout: n n}\n"
            + "  - exec: {on: t, command: 'echo $INSIDE $VNET_NIC'}\n    expect: {stdout: t}\n"
        ),
        lans,
        out=tmp_path,
    )
    assert report.passed, report.as_json()
    logs = {path.name: path.read_text() for path in (tmp_path / "logs").iterdir()}
    assert logs == {
        "n.first.log": "one n red\n",
        "n.2.log": "two n\n",
        "alone.log": "alone in alone\n",
        "t.log": "outside\n",
    }
    # Nothing is under guard any more: all groups have ended.
    assert lans.made[0].guarded == set()


def test_one_of_several_commands_that_fails_is_named(read: ReadLab, lans: Recorder) -> None:
    lab = read(
        HEAD
        + "  n: {kind: netns, exec: [{command: sleep 9}, {command: echo lost; exit 4}], ready: {output: never}}\n"
        + STEPS
    )
    with pytest.raises(
        VnetError, match=r"n: the command 'echo lost; exit 4' ended with code 4 before it was ready; its"
    ):
        run(lab, lans)
    assert lans.made[0].closed


def test_a_command_that_fails_later_fails_the_run_with_its_name(read: ReadLab, lans: Recorder) -> None:
    report = run(
        read(
            HEAD
            + "  n: {kind: netns, exec: [{command: sleep 9}, {command: sleep 0.05; exit 4, name: short}]}\n"
            + "steps:\n  - wait: 300ms\n"
        ),
        lans,
    )
    assert not report.passed
    assert [node.failure for node in report.nodes] == [
        "the command short ended with code 4 while the lab ran; it printed nothing"
    ]


def test_a_program_that_is_not_there_is_a_lack_of_this_machine(read: ReadLab, lans: Recorder) -> None:
    for command in ("[no-such-program]", "no-such-program"):
        with pytest.raises(MachineLacks, match=r"lab.yaml:3: nodes.n: .*'exec'"):
            run(read(HEAD + f"  n: {{kind: netns, exec: {command}, ready: {{output: x}}}}\n" + STEPS), lans)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (MachineLacks("there is no /dev/net/tun: `modprobe tun` provides it"), MachineLacks),
        (VnetError("no interface named 'eth1' is here"), VnetError),
        (ValueError("'x y' cannot name an interface"), VnetError),
    ],
)
def test_a_node_that_cannot_be_made_is_named_with_its_line_and_takes_the_others_along(
    read: ReadLab, error: Exception, raised: type[Exception]
) -> None:
    lans = Recorder(refuses={"b": error})
    lab = read(HEAD + "  a: {kind: netns}\n  b: {kind: tap}\n" + STEPS)
    with pytest.raises(VnetError) as caught:
        run(lab, lans)
    assert type(caught.value) is raised
    assert str(caught.value) == f"{lab.file}:4: nodes.b: {error}"
    assert lans.made[0].closed


def test_steps_that_ping_from_namespaces_need_ping_before_anything_is_built(
    read: ReadLab, lans: Recorder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lab = read(HEAD + "  n: {kind: netns}\n  h:\nsteps:\n  - ping: {from: n, to: h}\n")
    hosts = read(HEAD + "  g:\n  h:\nsteps:\n  - ping: {from: g, to: h}\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineLacks, match=r"apt-get install iputils-ping"):
        run(lab, lans)
    assert lans.made == []
    assert run(hosts, lans).passed


def test_pings_of_hosts_and_namespaces_are_one_kind_of_step(read: ReadLab, lans: Recorder) -> None:
    # INSIDE a fake namespace is where the test runs, so what is pinged is this machine's loopback.
    report = run(
        read(
            "networks: {lan: 127.0.0.0/8}\nnodes:\n  n: {kind: netns}\n  m: {kind: netns}\n  h:\n"
            "steps:\n  - ping: {from: n, to: m, count: 3}\n  - ping: {from: n, to: m, count: 2, interval: 20ms}\n"
            "  - ping_all: {}\n"
        ),
        lans,
    )
    first, second, everyone = report.steps
    assert first.outcome == second.outcome == "passed"
    assert (first.metrics["sent"], first.metrics["received"], first.metrics["loss"]) == (3, 3, 0)
    assert 0 < float(first.metrics["min"] or 0) <= float(first.metrics["avg"] or 0) <= float(first.metrics["max"] or 0)
    assert second.seconds > 0.02
    assert everyone.metrics["pairs"] == 6


# --- what ping says ---------------------------------------------------------------------------------------------------


def test_what_is_read_of_a_ping_is_what_ping_says_itself() -> None:
    words = ["ping", "-4", "-n", "-A", "-c", "20", "127.0.0.1"]
    said = subprocess.run(
        words, capture_output=True, text=True, env={"LC_ALL": "C", "PATH": "/bin:/usr/bin:/sbin"}, check=True
    ).stdout
    result = read_ping(said, "127.0.0.1", count=20, patience=1.0)
    least, mean, most = re.findall(r"= ([\d.]+)/([\d.]+)/([\d.]+)/", said)[0]
    assert (result.sent, result.received, len(result.rtts)) == (20, 20, 20)
    assert (f"{result.min * 1000:.3f}", f"{result.max * 1000:.3f}") == (least, most)
    # Its own mean is of times that it rounds only then.
    assert result.avg * 1000 == pytest.approx(float(mean), abs=0.001)


OUTPUTS = {
    "late": (
        "64 bytes from 10.0.0.2: icmp_seq=1 ttl=64 time=2000 ms\n2 packets transmitted, 1 received, 50% packet loss\n",
        *(2, 0, ()),
    ),
    "doubled": (
        "64 bytes from 10.0.0.2: icmp_seq=1 ttl=64 time=0.5 ms\n"
        "64 bytes from 10.0.0.2: icmp_seq=1 ttl=64 time=0.6 ms (DUP!)\n"
        "1 packets transmitted, 1 received, +1 duplicates, 0% packet loss, time 0ms\n",
        *(1, 1, ()),
    ),
    "unreachable": (
        "From 10.0.0.1 icmp_seq=1 Destination Host Unreachable\n"
        "2 packets transmitted, 0 received, +1 errors, 100% packet loss, time 9ms\n",
        *(2, 0, ("destination host unreachable from 10.0.0.1",)),
    ),
    "IPv6": (
        "64 bytes from fd00::2: icmp_seq=1 ttl=64 time=0.5 ms\n1 packets transmitted, 1 received, 0% packet loss\n",
        *(1, 1, ()),
    ),
    "no route": ("ping: connect: Network is unreachable\n", 2, 0, ("network is unreachable",) * 2),
    "too big": (
        "ping: local error: message too long, mtu=1500\n2 packets transmitted, 0 received, +1 errors, 100% packet loss",
        *(2, 0, ("message too long, mtu=1500",)),
    ),
}


@pytest.mark.parametrize(("text", "sent", "received", "errors"), OUTPUTS.values(), ids=OUTPUTS.keys())
def test_what_did_not_come_back_in_time_is_lost(text: str, sent: int, received: int, errors: tuple[str, ...]) -> None:
    result = read_ping(text, "10.0.0.2", count=2, patience=1.0)
    assert (result.sent, result.received, result.errors) == (sent, received, errors)


@pytest.mark.parametrize(
    ("lines", "unanswered"),
    [
        (["64 bytes from 10.0.0.2: icmp_seq=1 ttl=64 time=0.01 ms"], True),
        (["64 bytes from 10.0.0.2: icmp_seq=2 ttl=64 time=0.01 ms"], False),
        (["64 bytes from 10.0.0.2: icmp_seq=1 ttl=64 time=0.01 ms", "From 10.0.0.1 icmp_seq=2 Time exceeded"], False),
        # Nothing at all came back: it waited as long as it was told to.
        ([], False),
    ],
)
def test_a_last_request_that_had_no_time_is_told_from_a_lost_one(lines: list[str], unanswered: bool) -> None:
    text = "\n".join([*lines, "2 packets transmitted, 1 received, 50% packet loss"])
    assert left_unanswered(text, 2) is unanswered


def test_another_program_called_ping_is_no_ping() -> None:
    with pytest.raises(MachineLacks, match="iputils-ping"):
        read_ping("ping: invalid option -- 'A'\nBusyBox v1.36\nUsage: ping [OPTIONS] HOST\n", "x", count=1, patience=1)
    with pytest.raises(VnetError, match="ping failed: killed"):
        read_ping("killed\n", "x", count=1, patience=1)


def test_addresses_are_given_out_as_ever(read: ReadLab) -> None:
    nodes = read(HEAD + "  a: {kind: netns, count: 3}\n  b: {kind: tap}\n  c: {kind: process}\n").nodes
    assert [node.addresses[0] for node in nodes.values()] == [ipaddress.ip_address(f"10.0.0.{n}") for n in range(1, 6)]
