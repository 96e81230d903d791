"""What a lab file says of regions and services means what docs/labs.md says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from reading import ReadLab

from vnet.lab.difference import Difference, compare
from vnet.lab.plan import GuestService, Region

HEAD = """\
networks: {lan: 10.0.0.0/24, far: 10.1.0.0/24}
nodes:
  wall: {networks: lan}
  alice: {kind: process, networks: lan, exec: sleep 9}
  bob: {kind: netns, networks: [lan, far]}
  carol: {kind: process, networks: lan, exec: sleep 9}
"""


def test_a_size_alone_is_a_region_of_all_who_run_programs(read: ReadLab) -> None:
    lab = read(HEAD + "regions: {cache: 64MiB, page: 1}\n")
    assert lab.regions["cache"] == Region("cache", 64 << 20, ("alice", "bob", "carol"), line=7)
    assert lab.regions["page"].size == 1


def test_a_region_has_its_nodes_and_those_that_only_read(read: ReadLab) -> None:
    text = "regions:\n  cache: {size: 1.5KiB, nodes: [bob, alice], readonly: alice, huge: true}\n"
    lab = read(HEAD + text)
    assert lab.regions["cache"] == Region("cache", 1536, ("bob", "alice"), ("alice",), huge=True, line=8)


def test_a_name_alone_is_a_service_for_everybody_that_is_waited_for(read: ReadLab) -> None:
    lab = read(HEAD + "services: {disk: alice}\n")
    assert lab.services["disk"] == GuestService("disk", "alice", None, ready=True, line=7)


def test_nobody_waits_for_a_server_that_nobody_starts(read: ReadLab) -> None:
    lab = read(HEAD + "services: {disk: {node: bob, clients: []}, tape: {node: alice, ready: false}}\n")
    assert lab.services["disk"] == GuestService("disk", "bob", (), ready=False, line=7)
    assert not lab.services["tape"].ready


SHARED = """\
regions: {cache: {size: 1MiB, nodes: [alice, carol], readonly: [carol]}}
services: {disk: {node: alice, clients: [carol]}}
"""


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("size: 1MiB", "size: 1024KiB", {}),
        ("size: 1MiB", "size: 2MiB", {"regions_changed": ("cache",), "rerun": ("alice", "carol")}),
        # More rights hold at once; with fewer, what a program has mapped must go.
        ("nodes: [alice, carol]", "nodes: [alice, carol, bob]", {"regions_shared": ("cache",)}),
        (", readonly: [carol]", "", {"regions_shared": ("cache",)}),
        ("readonly: [carol]", "readonly: [carol, alice]", {"regions_shared": ("cache",), "rerun": ("alice",)}),
        (
            "{cache: {size: 1MiB, nodes: [alice, carol], readonly: [carol]}}",
            "{}",
            {"regions_removed": ("cache",), "rerun": ("alice", "carol")},
        ),
        ("cache:", "store:", {"regions_removed": ("cache",), "regions_added": ("store",), "rerun": ("alice", "carol")}),
        ("clients: [carol]", "clients: [carol, bob]", {"services_changed": ("disk",)}),
        ("clients: [carol]", "clients: []", {"services_changed": ("disk",), "rerun": ("carol",)}),
        (", clients: [carol]", "", {"services_changed": ("disk",)}),
        ("node: alice", "node: carol", {"services_changed": ("disk",), "rerun": ("alice", "carol")}),
        ("node: alice", "node: alice, ready: false", {}),
        ("disk:", "tape:", {"services_removed": ("disk",), "services_added": ("tape",)}),
    ],
)
def test_a_change_says_who_starts_again(
    read: ReadLab, before: str, after: str, expected: dict[str, tuple[str, ...]]
) -> None:
    text = HEAD + SHARED
    assert before in text
    old, new = read(text), read("# Every line moves.\n" + text.replace(before, after))
    assert compare(old, new) == replace(Difference(), **expected)
