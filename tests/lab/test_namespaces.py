"""Labs with real namespaces, in the test's own process: their steps, their changes, and what becomes of failures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reading import ReadLab
from support import children, eventually

from vnet.errors import MachineLacks, VnetError
from vnet.lab.runner import Options, run_lab
from vnet.lab.session import Session, Settings

sys.path.insert(0, str(Path(__file__).parents[1] / "netns"))

import namespaces

LAB = """\
name: kernels
networks: {lan: {prefix: [10.0.0.0/24, "fd00::/64"], mtu: 1500}}
nodes:
  host: {serve: {tcp: 80, http: hello}}
  web:
    kind: netns
    env: {COLOUR: red}
    exec:
      - {command: 'exec python3 -m http.server 80 --bind 0.0.0.0', name: http}
      - {command: 'echo $COLOUR; exec sleep 1000', name: bed}
    ready: {port: 80, output: red, command: ip route get 10.0.0.1}
  client: {kind: netns, gateway: host, interface: net0}
"""
STEPS = """\
steps:
  - ping: {from: client, to: web, count: 3}
    expect: {loss: 0%, received: 3, avg: "> 0s", max: "< 1s"}
  - ping: {from: client, to: host, count: 3, interval: 5ms, size: 8000, family: 6}
  - ping: {from: host, to: client, count: 3}
  - ping: {from: client, to: 10.0.0.200, count: 2, timeout: 50ms}
    expect: {loss: 100%}
  - ping_all: {count: 2}
    expect: {pairs: 6, failed: 0}
  - http: {from: host, to: web, path: /lab.yaml}
    expect: {body: {contains: "name: kernels"}}
  - tcp: {from: host, to: web, port: 81}
    expect: {state: refused}
  - exec: {on: client, command: 'curl --silent --show-error http://10.0.0.1/'}
    expect: {stdout: hello}
  - exec: {on: client, command: ip route show default}
    expect: {stdout: {contains: "default via 10.0.0.1 dev net0"}}
  - exec: {on: client, command: 'ip -o link show net0'}
    expect: {stdout: {contains: mtu 1500}}
  - inject: {from: client, packet: 'IP(dst="web")/UDP(dport=9)/b"x"'}
    expect: {delivered: 1}
"""


@pytest.fixture(autouse=True)
def _namespaces_are_there() -> None:
    if (lack := namespaces.missing()) is not None:
        pytest.skip(lack)


@pytest.fixture
def session(read: ReadLab) -> Iterator[Session]:
    """The lab, up."""
    with Session(read(LAB), Settings()) as session:
        session.build()
        session.start()
        yield session


def inside(session: Session, node: str, *words: str) -> str:
    """What a program prints in the namespace of a node."""
    done: subprocess.CompletedProcess[str] = session.namespaces[node].run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def space(session: Session, node: str) -> str:
    """The kernel's own name of the network namespace of a node."""
    return inside(session, node, "readlink", "/proc/self/ns/net").strip()


def pids(session: Session, node: str) -> dict[str, int | None]:
    """The process of each of the commands of a node that runs."""
    state = next(state for state in session.states() if state.node.name == node)
    return {each.command.name: each.pid for each in state.commands}


def test_a_run_takes_its_steps_between_namespaces_and_hosts(read: ReadLab, tmp_path: Path) -> None:
    before = set(children())
    report = run_lab(read(LAB + STEPS), Options(out=tmp_path / "out") if (tmp_path / "out").mkdir() is None else None)
    assert report.passed, report.as_json()
    assert {path.name for path in (tmp_path / "out/logs").iterdir()} == {"web.http.log", "web.bed.log"}
    assert '"GET /lab.yaml HTTP/1.1" 200' in (tmp_path / "out/logs/web.http.log").read_text()
    assert eventually(lambda: set(children()) == before)


def test_commands_run_in_the_namespace_of_their_node(session: Session) -> None:
    assert {os.readlink(f"/proc/{pid}/ns/net") for pid in pids(session, "web").values()} == {space(session, "web")}
    assert len({space(session, "web"), space(session, "client"), os.readlink("/proc/self/ns/net")}) == 3
    links = json.loads(inside(session, "client", "ip", "-j", "address"))
    assert {link["ifname"] for link in links} == {"lo", "net0"}


def test_a_restarted_namespace_is_another_with_the_same_addresses(session: Session) -> None:
    def addresses() -> list[str]:
        (link,) = json.loads(inside(session, "client", "ip", "-j", "address", "show", "dev", "net0"))
        return [each["local"] for each in link["addr_info"]]

    before, own = space(session, "client"), addresses()
    assert session.hosts["host"].ping("10.0.0.3").received
    inside(session, "client", "ip", "address", "add", "10.0.0.99/24", "dev", "net0")
    session.restart("client")
    assert space(session, "client") != before
    assert addresses() == own
    assert session.hosts["host"].ping("10.0.0.3").received


def test_only_what_differs_is_made_anew(session: Session, read: ReadLab) -> None:
    spaces, first = {name: space(session, name) for name in ("web", "client")}, pids(session, "web")
    # Another environment: the commands anew, in the same namespace.
    blue = LAB.replace("COLOUR: red", "COLOUR: red, MORE: blue")
    assert session.apply(read(blue)).as_json()["nodes"] == {
        "added": [],
        "removed": [],
        "changed": [],
        "restarted": ["web"],
    }
    assert {name: space(session, name) for name in spaces} == spaces
    second = pids(session, "web")
    assert not set(second.values()) & set(first.values())
    # Another interface: another namespace, and the other node goes on.
    renamed = blue.replace("net0", "net1")
    assert session.apply(read(renamed)).as_json()["nodes"]["changed"] == ["client"]
    assert "net1" in inside(session, "client", "ip", "link")
    assert (space(session, "web"), pids(session, "web")) == (spaces["web"], second)
    # Another gateway.
    assert session.apply(read(renamed.replace("gateway: host", "gateway: 10.0.0.9"))).changed == ("client",)
    assert "via 10.0.0.9" in inside(session, "client", "ip", "route")
    # A command less, and what it printed; then none, and the namespace is there all the same.
    less = renamed.replace("      - {command: 'echo $COLOUR; exec sleep 1000', name: bed}\n", "")
    less = less.replace(", output: red", "")
    assert session.apply(read(less)).rerun == ("web",)
    assert list(pids(session, "web")) == ["http"]
    with pytest.raises(ValueError, match="'web' has no command called 'bed'"):
        session.outputs("web/bed")
    none = less[: less.index("    exec:")] + less[less.index("  client:") :]
    assert session.apply(read(none)).rerun == ("web",)
    assert (pids(session, "web"), space(session, "web")) == ({}, spaces["web"])
    assert session.apply(read(none)).as_json()["nodes"] == {"added": [], "removed": [], "changed": [], "restarted": []}


def test_a_node_that_does_not_come_up_leaves_the_others_and_is_tried_again(session: Session, read: ReadLab) -> None:
    bad = LAB + "  more: {kind: netns, exec: exit 4, ready: {output: x}}\n"
    with pytest.raises(VnetError, match=r"lab.yaml:13: nodes.more: the command ended with code 4 before it was ready"):
        session.apply(read(bad))
    assert session.hosts["host"].ping("10.0.0.2").received
    good = bad.replace("exit 4, ready: {output: x}", "sleep 1000")
    assert session.apply(read(good)).changed == ("more",)
    assert session.hosts["host"].ping("10.0.0.4").received


def test_an_interface_that_is_deleted_takes_its_node_down_and_a_restart_brings_it_back(session: Session) -> None:
    def is_up() -> bool:
        return next(state for state in session.states() if state.node.name == "client").up

    assert is_up()
    inside(session, "client", "ip", "link", "delete", "net0")
    assert eventually(lambda: not is_up())
    assert session.hosts["host"].ping("10.0.0.2").received
    session.restart("client")
    assert is_up()
    assert session.hosts["host"].ping("10.0.0.3").received


@pytest.mark.parametrize(
    ("text", "raised", "says"),
    [
        ("exec: no-such-program, ready: {output: x}", MachineLacks, "the shell found no such command"),
        ("exec: [no-such-program]", MachineLacks, "cannot run no-such-program"),
        (
            "exec: [{command: sleep 9}, {command: 'echo oh; exit 4'}], ready: {output: x}",
            VnetError,
            "'echo oh; exit 4'",
        ),
        ("exec: sleep 9, ready: {command: 'false', timeout: 200ms}", VnetError, "was not ready within 200 ms|0.2 s"),
    ],
)
def test_a_lab_of_which_a_node_does_not_come_up_is_gone(
    read: ReadLab, text: str, raised: type[Exception], says: str
) -> None:
    before = set(children())
    with pytest.raises(raised, match=says) as caught:
        run_lab(read(LAB + f"  bad: {{kind: netns, {text}}}\nsteps: [{{wait: 0}}]\n"), Options())
    assert "lab.yaml:13: nodes.bad: " in str(caught.value)
    assert eventually(lambda: set(children()) == before)


def test_a_fixture_s_lab_runs_programs_in_its_namespaces(read: ReadLab) -> None:
    from vnet.testing.labs import LiveLab

    with LiveLab(read(LAB + "steps:\n  - ping: {from: client, to: web}\n"), lambda: "of-a-test") as lab:
        lab.build()
        lab.start()
        words = ["curl", "--silent", "http://10.0.0.2/lab.yaml"]
        assert "name: kernels" in lab.namespaces["client"].run(words, capture_output=True, text=True).stdout
        assert lab.wait_output("web/bed", "red") == "red\n"
        with pytest.raises(ValueError, match="'web' runs several commands; say which of web/http, web/bed"):
            lab.output("web")
        report: Any = lab.run_steps()
        assert report.passed
