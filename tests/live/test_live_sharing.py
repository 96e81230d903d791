"""Regions and services of labs that are up: made and dropped as the file says, and waited for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .kernels import missing
from .users import User

# Listens, has the region as long as it lives, and says what stands in it.
PROGRAM = """\
import sys, time, vnet
what = sys.argv[1:]
with vnet.attach() as nic:
    if "late" in what:
        time.sleep(0.4)
    if "cache" in what:
        cache = nic.attach_region(nic.find_region("cache"))
        print("found", cache[:4], flush=True)
        if not cache.readonly:
            cache[:4] = b"mine"
    if "disk" in what:
        listener = nic.listen("disk")
    time.sleep(1000)
"""
LAB = """\
networks: {lan: 10.0.0.0/24}
regions: {cache: {size: 64KiB, nodes: [alice, bob], readonly: [bob]}}
services: {disk: {node: alice, clients: [bob]}}
nodes:
  alice: {kind: process, exec: python3 program.py disk cache late, networks: {lan: 10.0.0.1}}
  bob: {kind: process, exec: python3 program.py cache, networks: {lan: 10.0.0.2}}
  carol: {kind: process, exec: python3 program.py, networks: {lan: 10.0.0.3}}
"""


@pytest.fixture
def up(user: User) -> User:
    user.write("program.py", PROGRAM)
    user.write("lab.yaml", LAB)
    user.does("up", "lab.yaml")
    return user


def shown(user: User) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(user.does("show", "lab", "--json"))
    return found


def commands(user: User) -> dict[str, int]:
    return {node["name"]: node["pid"] for node in shown(user)["nodes"]}


def applied(user: User, *changes: str) -> dict[str, Any]:
    """What is changed when each first text of ``changes`` is replaced in the file by the one behind it."""
    text = LAB
    for before, after in zip(changes[::2], changes[1::2], strict=True):
        assert before in text
        text = text.replace(before, after)
    user.write("lab.yaml", text)
    said = json.loads(user.does("up", "lab.yaml", "--json"))["changed"]
    return {
        what: {how: names for how, names in said[what].items() if names} for what in said if any(said[what].values())
    }


def test_a_lab_is_up_when_its_services_listen_and_its_regions_are_there(up: User) -> None:
    found = shown(up)
    service = found["services"][0]
    assert (service["name"], service["node"], service["clients"], service["state"]) == (
        "disk",
        "alice",
        ["bob"],
        "listening",
    )
    region = found["regions"][0]
    assert (region["name"], region["size"], region["guests"], region["readonly"]) == (
        "cache",
        65536,
        ["alice", "bob"],
        ["bob"],
    )
    assert "service disk of alice: listening" in up.does("show", "lab")


def test_a_restart_waits_until_the_service_listens_again(up: User) -> None:
    before = shown(up)["services"][0]
    up.does("restart", "lab", "alice")
    after = shown(up)["services"][0]
    assert (before["state"], after["state"]) == ("listening", "listening")
    assert before["pid"] != after["pid"]
    # The region stays as it was: the lab has it, and not who wrote into it.
    assert "found b'mine'" in up.does("logs", "lab", "alice", "--lines", "1")


def test_a_node_that_does_not_listen_is_told_and_nothing_stays_up(user: User) -> None:
    user.write("program.py", PROGRAM)
    user.write("lab.yaml", LAB.replace("disk cache late", "cache, ready: {command: 'true', timeout: 700ms}"))
    done = user.types("up", "lab.yaml")
    assert done.returncode == 2
    assert "does not listen for the service 'disk'" in done.stderr
    assert "lab.yaml:5: nodes.alice" in done.stderr
    assert user.types("show", "lab").returncode == 2


def test_others_are_refused_a_region_and_the_name_of_a_service(up: User) -> None:
    up.write("lab.yaml", LAB + "  mallory: {kind: process, networks: {lan: 10.0.0.9}}\n")
    up.does("up", "lab.yaml")
    for attempt in ("nic.find_region('cache')", "nic.listen('disk')", "nic.connect('alice', 'disk')"):
        program = (
            f"import vnet\nwith vnet.attach() as nic:\n try: {attempt}\n"
            " except vnet.VnetError as error: print(type(error).__name__)"
        )
        assert up.does("exec", "lab", "mallory", "--", "python3", "-c", program) == "NotPermitted\n", attempt


def test_regions_and_services_come_and_go_with_the_file(up: User) -> None:
    before = commands(up)
    changed = applied(
        up,
        "regions: {",
        "regions: {page: {size: 4KiB, nodes: [carol]}, ",
        "services: {",
        "services: {tape: {node: carol, ready: false}, ",
    )
    assert changed == {"regions": {"added": ["page"]}, "services": {"added": ["tape"]}}
    assert commands(up) == before
    assert [each["name"] for each in shown(up)["regions"]] == ["page", "cache"]
    assert [(each["name"], each["state"]) for each in shown(up)["services"]] == [
        ("tape", "down"),
        ("disk", "listening"),
    ]
    up.write("lab.yaml", LAB)
    said = up.does("up", "lab.yaml")
    assert said.startswith("restarted node carol\nremoved region page\nremoved service tape\n")
    after = commands(up)
    # It might have the region that is gone.
    assert [name for name in after if after[name] != before[name]] == ["carol"]


def test_who_gets_more_is_left_alone_and_who_has_too_much_starts_again(up: User) -> None:
    before = commands(up)
    assert applied(up, "readonly: [bob]", "readonly: []") == {"regions": {"shared": ["cache"]}}
    assert commands(up) == before
    up.write("lab.yaml", LAB)
    assert up.does("up", "lab.yaml").startswith("restarted node bob\nchanged who has region cache\n")
    after = commands(up)
    assert [name for name in after if after[name] != before[name]] == ["bob"]


def test_a_region_of_another_size_is_anew_and_so_are_the_commands_that_have_it(up: User) -> None:
    before = commands(up)
    changed = applied(up, "64KiB", "128KiB")
    assert changed == {"regions": {"changed": ["cache"]}, "nodes": {"restarted": ["alice", "bob"]}}
    after = commands(up)
    assert [name for name in after if after[name] != before[name]] == ["alice", "bob"]
    region = shown(up)["regions"][0]
    assert (region["size"], region["attached"]) == (131072, ["alice", "bob"])
    # Somebody wrote into the old one, and the first who came found zeros in the new one.
    assert "found b'\\x00\\x00\\x00\\x00'" in up.does("logs", "lab", "alice", "--lines", "1") + up.does(
        "logs", "lab", "bob", "--lines", "1"
    )


def test_a_region_that_cannot_be_is_told_and_tried_again(up: User) -> None:
    before = commands(up)
    up.write("lab.yaml", LAB.replace("regions: {", "regions: {vast: {size: 1000000GiB, nodes: [carol]}, "))
    done = up.types("up", "lab.yaml")
    assert done.returncode in (2, 3)
    assert "lab.yaml:2: regions.vast: " in done.stderr
    assert [each["name"] for each in shown(up)["regions"]] == ["cache"]
    assert commands(up) == before
    assert applied(up, "regions: {", "regions: {vast: {size: 4KiB, nodes: [carol]}, ") == {
        "regions": {"added": ["vast"]}
    }


def test_a_service_of_another_node_starts_both_again(up: User) -> None:
    before = commands(up)
    changed = applied(
        up,
        "node: alice",
        "node: carol",
        "program.py disk cache late",
        "program.py cache",
        "program.py,",
        "program.py disk,",
    )
    assert changed == {"services": {"changed": ["disk"]}, "nodes": {"restarted": ["alice", "carol"]}}
    service = shown(up)["services"][0]
    assert (service["node"], service["state"]) == ("carol", "listening")
    assert commands(up)["bob"] == before["bob"]


# Takes no part in the network itself: vnet.member() is the namespace's.
MEMBER = """\
import sys, time, vnet
with vnet.member() as guest:
    board = guest.attach_region(guest.find_region("board"))
    if sys.argv[1] == "serve":
        board[:5] = b"hello"
        with guest.listen("tape"):
            time.sleep(1000)
    print(guest.name, board[:5].decode(), guest.connect("web", "tape").peer, flush=True)
"""


def test_programs_in_namespaces_share_and_serve_as_their_nodes(user: User) -> None:
    if (lack := missing()) is not None:
        pytest.skip(lack)
    user.write("member.py", MEMBER)
    user.write(
        "lab.yaml",
        """\
networks: {lan: 10.0.0.0/24, far: 10.1.0.0/24}
regions: {board: {size: 4KiB, nodes: [web, client]}}
services: {tape: {node: web, clients: [client]}}
nodes:
  web: {kind: netns, networks: [lan, far], exec: python3 member.py serve}
  client: {kind: netns, networks: [lan]}
  stranger: {kind: netns, networks: [lan]}
""",
    )
    user.does("up", "lab.yaml")
    assert user.does("exec", "lab", "client", "--", "python3", "member.py", "use") == "client hello web\n"
    done = user.types("exec", "lab", "stranger", "--", "python3", "member.py", "use")
    assert "NotPermitted" in done.stderr
    user.does("restart", "lab", "web")
    assert shown(user)["services"][0]["state"] == "listening"
