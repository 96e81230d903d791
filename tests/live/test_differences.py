"""``vnet up`` of a file that changed applies the difference, and nothing else moves."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from .users import User, processes

PROGRAM = (
    "import os, time, vnet\nnic = vnet.attach()\nprint('up', os.environ.get('COLOUR'), flush=True)\ntime.sleep(1000)\n"
)
LAB = """\
networks:
  desk: 10.1.0.0/24
  lab: 10.2.0.0/24
defaults: {nodes: {networks: [desk]}}
nodes:
  alice: {networks: {desk: 10.1.0.10}}
  bob: {networks: {desk: 10.1.0.11}}
  web: {kind: process, networks: {desk: 10.1.0.20}, exec: python3 program.py}
  far: {kind: process, networks: {lab: 10.2.0.20}, exec: python3 program.py}
"""
NOTHING = {"added": [], "removed": [], "changed": []}


@pytest.fixture
def up(user: User) -> User:
    user.write("program.py", PROGRAM)
    user.write("lab.yaml", LAB)
    user.does("up", "lab.yaml")
    return user


def applied(user: User, before: str, after: str) -> dict[str, Any]:
    """What is changed when this is replaced in the file by that."""
    assert before in LAB
    user.write("lab.yaml", LAB.replace(before, after))
    said = json.loads(user.does("up", "lab.yaml", "--json"))
    assert said["started"] is False
    changed: dict[str, Any] = said["changed"]
    # Links, routes and filters, of which this lab has none: test_live_links.py is about them; and what nodes share.
    others = ("links", "routes", "filters", "regions", "services")
    assert not any(names for what in others for names in changed.pop(what).values())
    return changed


def commands(user: User) -> dict[str, int]:
    """The process of each node's command."""
    nodes = json.loads(user.does("show", "lab", "--json"))["nodes"]
    return {node["name"]: node["pid"] for node in nodes if node["pid"] is not None}


def test_nothing_changed_is_said(up: User) -> None:
    before = commands(up)
    assert up.does("up", "lab.yaml") == "lab is up as in lab.yaml: nothing changed\n"
    up.write("lab.yaml", "# A comment moves every line.\n" + LAB + "steps: [{wait: 1s}]\n")
    assert up.does("up", "./lab.yaml") == "lab is up as in ./lab.yaml: nothing changed\n"
    assert commands(up) == before


def test_a_node_that_was_added_comes_and_the_others_stay(up: User) -> None:
    before = commands(up)
    changed = applied(up, "  bob:", "  carol: {networks: {desk: 10.1.0.30}}\n  bob:")
    assert changed == {"networks": NOTHING, "nodes": {**NOTHING, "added": ["carol"], "restarted": []}}
    assert commands(up) == before
    up.does("ping", "lab", "alice", "carol", "-c", "1")


def test_a_node_that_was_removed_goes_with_its_command(up: User) -> None:
    gone = commands(up)["web"]
    changed = applied(up, "  web: {kind: process, networks: {desk: 10.1.0.20}, exec: python3 program.py}\n", "")
    assert changed["nodes"]["removed"] == ["web"]
    assert gone not in processes(up.mark)
    done = up.types("ping", "lab", "alice", "10.1.0.20", "-c", "1")
    assert (done.returncode, "no_host" in done.stdout) == (1, True)


def test_a_node_whose_address_changed_is_plugged_in_anew(up: User) -> None:
    before = commands(up)
    changed = applied(up, "10.1.0.20", "10.1.0.21")
    assert changed["nodes"]["changed"] == ["web"]
    after = commands(up)
    assert (after["web"] != before["web"], after["far"]) == (True, before["far"])
    assert up.does("exec", "lab", "web", "--", "python3", "-c", "import os; print(os.environ['VNET_NIC'])") == "web\n"
    up.does("ping", "lab", "bob", "alice", "-c", "1")


def test_a_host_that_becomes_a_process_is_one(up: User) -> None:
    assert applied(up, "  bob: {", "  bob: {kind: process, exec: python3 program.py, ")["nodes"]["changed"] == ["bob"]
    assert "bob" in commands(up)
    assert applied(up, "  bob: {", "  bob: {")["nodes"]["changed"] == ["bob"]
    up.does("ping", "lab", "bob", "alice", "-c", "1")


def test_a_command_that_changed_is_run_anew_on_the_same_nic(up: User) -> None:
    before = commands(up)
    changed = applied(up, "{desk: 10.1.0.20}, exec", "{desk: 10.1.0.20}, env: {COLOUR: red}, exec")
    assert changed["nodes"] == {**NOTHING, "restarted": ["web"]}
    after = commands(up)
    assert (after["web"] != before["web"], after["far"]) == (True, before["far"])
    assert up.does("logs", "lab", "web") == "up None\nup red\n"


def test_a_network_that_changed_takes_its_nodes_with_it_and_no_others(up: User) -> None:
    before = commands(up)
    changed = applied(up, "lab: 10.2.0.0/24", "lab: {prefix: 10.2.0.0/16, mtu: 1500}")
    assert changed["networks"]["changed"] == ["lab"]
    assert changed["nodes"]["changed"] == ["far"]
    after = commands(up)
    assert (after["far"] != before["far"], after["web"]) == (True, before["web"])
    assert json.loads(up.does("show", "lab", "--json"))["networks"][1] == {
        "name": "lab",
        "prefixes": ["10.2.0.0/16"],
        "mtu": 1500,
    }


def test_networks_come_and_go_and_a_prefix_moves_from_one_to_another(up: User) -> None:
    moved = LAB.replace("  lab: 10.2.0.0/24", "  new: 10.2.0.0/24").replace("{lab: 10.2", "{new: 10.2")
    up.write("lab.yaml", moved)
    changed = json.loads(up.does("up", "lab.yaml", "--json"))["changed"]
    assert changed["networks"] == {"added": ["new"], "removed": ["lab"], "changed": []}
    assert changed["nodes"]["changed"] == ["far"]
    assert [each["name"] for each in json.loads(up.does("show", "lab", "--json"))["networks"]] == ["desk", "new"]


# On the LAN, and no node of the lab.
STRANGER = """\
import time, vnet
nic = vnet.attach("lab", "stranger", network="lab")
print("in", flush=True)
time.sleep(60)
"""


def test_a_network_on_which_a_stranger_is_does_not_change(up: User) -> None:
    command = [sys.executable, "-c", STRANGER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=up.environment) as stranger:
        assert stranger.stdout
        assert stranger.stdout.readline() == "in\n"
        before = commands(up)
        up.write("lab.yaml", LAB.replace("lab: 10.2.0.0/24", "lab: 10.2.0.0/16"))
        said = up.fails("up", "lab.yaml")
        assert "network 'lab' cannot change while 'stranger', which is no node of the lab, is on it" in said
        assert commands(up) == before
        stranger.kill()


def test_an_address_that_a_stranger_has_is_told_and_the_rest_is_applied(up: User) -> None:
    command = [sys.executable, "-c", STRANGER.replace('network="lab"', '"10.1.0.30", network="desk"')]
    more = "  late: {networks: {desk: 10.1.0.30}}\n  new: {networks: {desk: 10.1.0.31}}\n"
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=up.environment) as stranger:
        assert stranger.stdout
        assert stranger.stdout.readline() == "in\n"
        up.write("lab.yaml", LAB.replace("exec: python3", "env: {COLOUR: red}, exec: python3") + more)
        assert up.fails("up", "lab.yaml") == ("vnet: lab.yaml:10: nodes.late: 10.1.0.30 belongs to NIC 'stranger'")
        up.does("ping", "lab", "alice", "new", "-c", "1")
        assert up.does("logs", "lab", "web") == "up None\nup red\n"
        stranger.kill()
        stranger.wait()
    assert up.does("up", "lab.yaml").startswith("changed node late\n")


def test_a_wrong_file_changes_nothing(up: User) -> None:
    before = commands(up)
    up.write("lab.yaml", LAB.replace("10.1.0.20", "10.9.0.20"))
    assert up.fails("up", "lab.yaml").startswith("lab.yaml:8:")
    assert commands(up) == before


def test_a_node_that_fails_to_come_is_told_the_rest_is_applied_and_the_next_up_tries_it_again(up: User) -> None:
    before = commands(up)
    more = "  new: {networks: {desk: 10.1.0.30}}\n  sick: {kind: process, networks: {desk: 10.1.0.31}, exec: %s}\n"
    up.write("sick.py", "raise SystemExit('no')\n")
    up.write("lab.yaml", LAB + more % "python3 sick.py")
    said = up.fails("up", "lab.yaml")
    assert "nodes.sick: the command ended with code 1 before it attached" in said
    assert commands(up) == before
    up.does("ping", "lab", "alice", "new", "-c", "1")
    assert "sick did not come up: lab.yaml:11: nodes.sick" in up.types("show", "lab").stderr
    up.write("sick.py", PROGRAM)
    assert up.does("up", "lab.yaml").startswith("changed node sick\n")
    assert set(commands(up)) == {"web", "far", "sick"}
    assert up.does("up", "lab.yaml").endswith("nothing changed\n")


def test_a_seed_that_changed_makes_hosts_anew_and_leaves_commands_alone(up: User) -> None:
    before = commands(up)
    said = json.loads(up.does("up", "lab.yaml", "--seed", "9", "--json"))
    assert said["changed"]["nodes"] == {**NOTHING, "changed": ["alice", "bob"], "restarted": []}
    assert commands(up) == before


def test_another_file_with_the_same_name_is_refused(up: User) -> None:
    up.write("other.yaml", "name: lab\n" + LAB)
    said = up.fails("up", "other.yaml")
    directory = up.directory.resolve()
    assert said == (
        f"vnet: lab 'lab' is up already, from {directory}/lab.yaml and not from {directory}/other.yaml; "
        "vnet down lab ends it"
    )


def test_a_lab_from_standard_input_changes_too(user: User) -> None:
    user.write("program.py", PROGRAM)
    user.does("up", "-", text=LAB)
    assert user.does("up", "-", text=LAB).endswith("nothing changed\n")
    assert "removed node bob" in user.does("up", "-", text=LAB.replace("  bob: {networks: {desk: 10.1.0.11}}\n", ""))
    assert user.does("down", "-") == "lab is down\n"
