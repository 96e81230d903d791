"""Routers, links and routes of a lab that is up: listed, cut, mended, weighed, and changed by ``vnet up``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .users import User

LAB = """\
name: campus
networks: {desk: 10.1.0.0/24, far: 10.2.0.0/24, out: 10.3.0.0/24}
nodes:
  alice: {networks: [desk]}
  bob: {networks: [far]}
  isp: {networks: {out: 10.3.0.9}}
  edge: {kind: router, networks: [desk]}
  core: {kind: router, networks: [out], loopback: 10.255.0.1}
  west: {kind: router, networks: [far]}
links:
  - {endpoints: [edge, core]}
  - {endpoints: [core, west]}
  - {endpoints: [edge, west], weight: 30, name: backup}
routes: {203.0.113.0/24: isp}
"""


@pytest.fixture
def campus(user: User) -> User:
    user.write("lab.yaml", LAB)
    user.does("up", "lab.yaml")
    return user


def links(user: User) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in json.loads(user.does("link", "campus", "--json"))["links"]}


def applied(user: User, before: str, after: str) -> dict[str, Any]:
    """What is changed when this is replaced in the file by that."""
    assert before in LAB
    user.write("lab.yaml", LAB.replace(before, after))
    return json.loads(user.does("up", "lab.yaml", "--json"))["changed"]  # type: ignore[no-any-return]


def answers(user: User, sender: str, target: str) -> bool:
    return user.types("ping", "campus", sender, target, "-c", "1").returncode == 0


def test_links_are_listed_as_they_stand(campus: User) -> None:
    found = links(campus)
    assert list(found) == ["edge-core", "core-west", "backup"]
    assert found["backup"]["weight"] == 30
    assert found["edge-core"]["addresses"] == {"edge": ["172.31.0.0"], "core": ["172.31.0.1"]}
    lines = campus.does("link", "campus").splitlines()
    assert lines[1].split() == ["edge-core", "edge", "-", "core", "up", "1", "172.31.0.0", "-", "172.31.0.1"]
    assert len(lines) == 4


def test_a_link_is_cut_and_mended_and_paths_follow(campus: User) -> None:
    assert answers(campus, "alice", "bob")
    campus.does("link", "campus", "edge-core", "--cut")
    assert links(campus)["edge-core"]["state"] == "cut"
    # There is the backup, and the core is reached by way of the west.
    assert answers(campus, "alice", "bob")
    assert answers(campus, "alice", "core")
    campus.does("link", "campus", "west", "edge", "--cut")
    assert not answers(campus, "alice", "bob")
    assert "1 links" not in campus.does("show", "campus")
    assert "3 links, of which edge-core, backup cut" in campus.does("show", "campus")
    campus.does("link", "campus", "core", "edge", "--mend")
    assert answers(campus, "bob", "alice")
    said = json.loads(campus.does("link", "campus", "backup", "--weight", "7", "--json"))
    assert [(each["name"], each["weight"], each["state"]) for each in said["links"]] == [("backup", 7, "cut")]


def test_what_is_no_link_is_said_and_nothing_changes(campus: User) -> None:
    before = links(campus)
    assert "no link is called 'bakcup' (did you mean 'backup'?)" in campus.fails("link", "campus", "bakcup", "--cut")
    assert "'edge' has links to core, west" in campus.fails("link", "campus", "edge", "edge", "--cut")
    assert "no router is called 'alice'" in campus.fails("link", "campus", "edge", "alice", "--cut")
    assert "one change at a time" in campus.fails("link", "campus", "backup", "--cut", "--weight", "3")
    assert "name the link" in campus.fails("link", "campus", "--cut")
    assert campus.types("link", "campus", "backup", "--weight", "0").returncode == 2
    assert links(campus) == before


def test_show_ls_and_graph_know_routers_and_links(campus: User) -> None:
    nodes = {each["name"]: each for each in json.loads(campus.does("show", "campus", "--json"))["nodes"]}
    assert (nodes["core"]["kind"], nodes["core"]["state"]) == ("router", "up")
    assert nodes["core"]["addresses"] == ["10.255.0.1", "10.3.0.1", "172.31.0.1", "172.31.0.2"]
    assert json.loads(campus.does("ls", "--json"))["lans"][0]["nodes"] == 6
    campus.does("link", "campus", "backup", "--cut")
    picture = json.loads(campus.does("graph", "campus", "--json"))
    assert {tuple(each["ends"]) for each in picture["links"]} == {("edge", "core"), ("core", "west"), ("edge", "west")}
    assert [each["cut"] for each in picture["links"]] == [False, False, True]


def test_a_router_cannot_be_told_what_only_guests_do(campus: User) -> None:
    assert "'edge' is a router, which runs no commands" in campus.fails("exec", "campus", "edge", "--", "true")
    assert "'edge' is a router, which is simulated" in campus.fails("restart", "campus", "edge")
    assert "'edge' is a router, which prints nothing" in campus.fails("logs", "campus", "edge")
    assert "which sends nothing of its own" in campus.fails("ping", "campus", "edge", "bob", "-c", "1")


def test_another_weight_and_other_routes_leave_everything_in_place(campus: User) -> None:
    changed = applied(campus, "weight: 30", "weight: 31")
    assert changed["links"] == {"added": [], "removed": [], "changed": [], "weighed": ["backup"]}
    assert links(campus)["backup"]["weight"] == 31
    changed = applied(
        campus, "networks: [desk]}\n  core", "networks: [desk], routes: {10.2.0.0/24: blackhole}}\n  core"
    )
    assert changed["routes"]["changed"] == ["edge"]
    assert changed["nodes"]["changed"] == []
    # It is longer than nothing, and goes before what shortest paths say of the same prefix.
    assert not answers(campus, "alice", "bob")
    changed = applied(campus, "203.0.113.0/24", "198.51.100.0/24")
    assert (changed["routes"]["added"], changed["routes"]["removed"]) == (["198.51.100.0/24"], ["203.0.113.0/24"])
    assert answers(campus, "alice", "bob")


def test_a_router_that_changed_comes_again_with_its_links(campus: User) -> None:
    campus.does("link", "campus", "backup", "--cut")
    changed = applied(campus, "10.255.0.1", "10.255.0.2")
    assert changed["nodes"]["changed"] == ["core"]
    assert answers(campus, "alice", "bob")
    assert answers(campus, "alice", "10.255.0.2")
    assert not answers(campus, "alice", "10.255.0.1")
    # What was done to others by hand stays done.
    assert [each["state"] for each in links(campus).values()] == ["cut", "up", "up"]


def test_routers_and_links_come_and_go(campus: User) -> None:
    more = "  south: {kind: router, networks: [desk]}\nlinks:\n  - {endpoints: [south, west], prefix: 192.0.2.0/31}\n"
    changed = applied(campus, "links:\n", more)
    assert (changed["nodes"]["added"], changed["links"]["added"]) == (["south"], ["south-west"])
    assert changed["links"]["changed"] == []
    campus.does("link", "campus", "edge", "core", "--cut")
    campus.does("link", "campus", "edge", "west", "--cut")
    # Two routers on one network: the first hands on what the second knows the way to.
    assert answers(campus, "alice", "bob")
    campus.write("lab.yaml", LAB)
    changed = json.loads(campus.does("up", "lab.yaml", "--json"))["changed"]
    assert (changed["nodes"]["removed"], changed["links"]["removed"]) == (["south"], ["south-west"])
    assert not answers(campus, "alice", "bob")


def test_a_network_that_changed_takes_its_router_with_it(campus: User) -> None:
    changed = applied(campus, "desk: 10.1.0.0/24", "desk: 10.9.0.0/24")
    assert (changed["networks"]["changed"], changed["nodes"]["changed"]) == (["desk"], ["alice", "edge"])
    assert answers(campus, "alice", "bob")
    assert answers(campus, "bob", "10.9.0.1")
