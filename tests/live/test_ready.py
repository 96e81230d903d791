"""``vnet up`` returns when every node is ready, and says which is not and why."""

from __future__ import annotations

import json

import pytest

from .users import User, eventually

LAB = """\
networks: {lan: 10.0.0.0/29}
nodes:
  alice:
  web:
    kind: process
    exec: python3 web.py
    ready: %s
"""
# Attaches at once and is ready half a second later, in each of the ways that can be asked for.
WEB = """\
import pathlib, time, vnet
nic = vnet.attach()
time.sleep(0.5)
{more}
pathlib.Path("ready").touch()
print("now listening", flush=True)
time.sleep(1000)
"""
LISTEN = "listener = nic.stack().listen(80)"


@pytest.mark.parametrize(
    "ready", ["{output: 'listen'}", "{output: '^now.*ing$'}", "{command: test -e ready}", "{port: 80}"]
)
def test_up_returns_when_the_check_holds_and_not_before(user: User, ready: str) -> None:
    user.write("web.py", WEB.format(more=LISTEN))
    user.write("web.yaml", LAB % ready)
    said = json.loads(user.does("up", "web.yaml", "--json"))
    assert said["seconds"] > 0.5
    assert (user.directory / "ready").exists()
    # The NIC that probed the port is gone, with its address.
    assert [node["name"] for node in json.loads(user.does("show", "web", "--json"))["nodes"]] == ["alice", "web"]
    assert json.loads(user.does("ls", "--json"))["lans"][0]["nodes"] == 2


@pytest.mark.parametrize(
    ("ready", "says"),
    [
        ("{output: nothing like it, timeout: 900ms}", "no line of its output matched 'nothing like it'"),
        ("{port: 81, timeout: 900ms}", "TCP port 81 of 10.0.0.2 refused connections"),
        ("{command: 'echo not yet; exit 3', timeout: 900ms}", "ended with code 3, and its last output was: not yet"),
        ("{command: sleep 1000, timeout: 900ms}", "'sleep 1000' has not ended"),
    ],
)
def test_a_check_that_does_not_hold_in_time_is_told_with_what_is_missing(user: User, ready: str, says: str) -> None:
    user.write("web.py", WEB.format(more=LISTEN))
    user.write("web.yaml", LAB % ready)
    said = user.fails("up", "web.yaml")
    assert said.startswith("vnet: web.yaml:4: nodes.web: the command was not ready within 0.9 s; ")
    assert says in said
    assert said.endswith("; its last output was: now listening")
    assert user.left() == []


def test_a_program_that_a_check_lacks_is_what_the_machine_lacks(user: User) -> None:
    user.write("web.py", WEB.format(more=""))
    user.write("web.yaml", LAB % "{command: no-such-check}")
    assert "nodes.web: ready: no such command is here" in user.fails("up", "web.yaml", code=3)


def test_a_command_that_dies_before_it_is_ready_is_told_at_once(user: User) -> None:
    user.write("web.py", "import vnet\nnic = vnet.attach()\nraise SystemExit('no certificate')\n")
    user.write("web.yaml", LAB % "{port: 80, timeout: 60s}")
    said = user.fails("up", "web.yaml")
    assert said.endswith("the command ended with code 1 before it was ready; its last output was: no certificate")


def test_a_port_is_probed_on_a_network_that_has_hardly_an_address_left(user: User) -> None:
    user.write("web.py", WEB.format(more=LISTEN))
    user.write("web.yaml", LAB.replace("alice:", "h: {count: 4}") % "{port: 80}")
    user.does("up", "web.yaml")
    user.does("down", "web")
    user.write("web.yaml", LAB.replace("alice:", "h: {count: 5}") % "{port: 80}")
    assert "no address of 10.0.0.0/29 is left to probe a port from" in user.fails("up", "web.yaml")


def test_ctrl_c_ends_the_check_too(user: User) -> None:
    user.write("web.py", WEB.format(more=""))
    user.write("web.yaml", LAB % "{command: sleep 1234, timeout: 60s}")
    client = user.starts("up", "web.yaml")
    assert eventually(lambda: any("sleep 1234" in each for each in user.left()))
    client.terminate()
    client.communicate(timeout=20)
    assert user.left() == []


# Each waits for all others to have started.
TOGETHER = """\
import pathlib, time, vnet
nic = vnet.attach()
pathlib.Path(nic.name).touch()
while len(list(pathlib.Path().glob("w-*"))) < 4:
    time.sleep(0.01)
print("ready", flush=True)
time.sleep(1000)
"""


def test_nodes_become_ready_side_by_side(user: User) -> None:
    user.write("web.py", TOGETHER)
    user.write("web.yaml", LAB.replace("web:", "w:\n    count: 4") % "{output: ready}")
    user.does("up", "web.yaml")
