"""Whatever a lab file holds, it is a lab or a LabError."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from support import examples

from vnet.errors import LabError
from vnet.lab.planner import plan_lab
from vnet.lab.tree import read_yaml

BASE: dict[str, Any] = {
    "name": "base",
    "seed": 1,
    "networks": {"a": "10.0.0.0/24", "b": {"prefix": ["10.0.1.0/24", "fd00::/64"], "mtu": 1500}},
    "defaults": {"nodes": {"networks": ["a"], "env": {"X": "y"}}, "links": {"weight": 2}},
    "nodes": {
        "one": None,
        "two": {"networks": {"b": ["10.0.1.7", "fd00::7"]}},
        "many": {"count": 3, "buffer": "64KiB"},
        "own": {"kind": "process", "exec": ["sleep", "1"], "env": {"Z": "1"}, "ready": {"port": 80, "timeout": "3s"}},
        "free": {"kind": "process"},
        "web": {"serve": [{"tcp": 80, "http": "x"}, {"udp": 7, "echo": True}], "gateway": ["r"]},
        "r": {
            "kind": "router",
            "networks": {"a": "10.0.0.77"},
            "loopback": "10.9.9.9",
            "routes": {"10.8.0.0/16": "one"},
        },
        "s": {"kind": "router", "networks": ["a", "b"], "routes": {"0.0.0.0/0": ["r"], "10.7.0.0/16": "prohibit"}},
        "fw": {"kind": "netns", "networks": ["a", "b"], "forward": True, "filter": {"in": ["deny udp"]}},
    },
    "links": [
        {"endpoints": ["r", "s"], "weight": 3, "name": "x", "prefix": ["192.0.2.0/31"]},
        {"endpoints": ["r", "s"], "addresses": {"r": "192.0.2.9", "s": "192.0.2.10"}, "mtu": 1500},
    ],
    "routes": {"203.0.113.0/24": "one", "198.51.100.0/24": "blackhole"},
    "topology": {"random": {"routers": 4, "degree": 2, "seed": 1}, "hosts": {"count": 1}, "prefix": "10.1.0.0/16"},
    "steps": [
        {"ping": {"from": "one", "to": "many-1", "count": 2, "timeout": "1s", "family": 4}, "expect": {"loss": "0%"}},
        {"name": "all", "ping_all": {"sample": 3}, "expect": {"avg": ["> 1us", "< 1s"]}},
        {"inject": {"from": "own", "packet": "IP(dst='one')/UDP()", "interval": "1ms"}, "expect": {"delivered": 1}},
        {"exec": {"on": "own", "command": "true"}, "expect": {"stdout": {"contains": ["a"], "matches": "b"}}},
        {"wait": "1ms"},
        {"link": {"cut": ["r", "s"]}},
        {"link": {"of": "x", "weight": 5}},
        {"traceroute": {"from": "one", "to": "two", "hops": 9}, "expect": {"path": ["r", "two"], "reached": True}},
        {"traffic": {"from": ["one"], "to": "web", "rate": "1 Mbit/s", "size": [64, 1400], "flows": 2}},
        {"traffic": {"from": "one", "to": "free", "protocol": "tcp", "bytes": "1MB"}, "timeout": "9s"},
        {"wait_until": {"tcp": {"from": "one", "to": "web", "port": 80}, "timeout": "2s", "interval": "1ms"}},
        {"http": {"from": "one", "to": "web", "path": "/a"}, "expect": {"status": 200, "body": {"contains": "x"}}},
        {"parallel": {"a": [{"wait": "1ms"}, {"log": "{one}"}], "b": {"wait": 0}}},
        {"parallel": [{"wait": "1ms"}, [{"wait": "1ms"}]]},
        {"repeat": {"count": 2, "until": "success", "steps": [{"log": "{round}"}]}, "expect": {"failed": "0..1"}},
    ],
}

words = st.sampled_from(
    [
        *(
            "one",
            "many",
            "many-2",
            "own",
            "a",
            "b",
            "host",
            "process",
            "10.0.0.0/24",
            "10.0.0.1",
            "10.0.0.255",
            "fd00::1",
        ),
        *("fe80::1%eth0", "0.0.0.0/0", "::/0", "255.255.255.255/32", "5ms", "0%", "> 1 Mbit/s", "IP()", "b''", "", "-"),
        *("1e999", "<", "{}", "max", "Ether()", "IP(dst=1)", "[IP()]*3", "(", "\x85", "%", "::"),
        *("r", "s", "r1-net", "none", "blackhole", "192.0.2.0/31", "router", "netns", "x", "deny any"),
    ]
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), words),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=3)),
    max_leaves=6,
)


def paths(value: Any) -> list[tuple[Any, ...]]:
    """The path of every value of a document."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(), *((key, *path) for key, child in children for path in paths(child))]


def changed(changes: list[tuple[tuple[Any, ...], Any]]) -> dict[str, Any]:
    """The base lab with other values at some paths."""
    lab = copy.deepcopy(BASE)
    for path, value in changes:
        place: Any = lab
        for key in path[:-1]:
            if not isinstance(place, (dict, list)) or (isinstance(place, list) and not isinstance(key, int)):
                break
            try:
                place = place[key]
            except (KeyError, IndexError):
                break
        else:
            if isinstance(place, dict) or (
                isinstance(place, list) and isinstance(path[-1], int) and path[-1] < len(place)
            ):
                place[path[-1]] = value
    return lab


@given(st.lists(st.tuples(st.sampled_from(paths(BASE)[1:]), values), min_size=1, max_size=3))
@settings(max_examples=examples(400), deadline=None)
def test_a_changed_lab_is_a_lab_or_a_lab_error(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    lab = changed(changes)
    try:
        plan_lab(read_yaml(json.dumps(lab, indent=1), "x.yaml"), directory=Path("/nonexistent"), default_name="x")
    except LabError as error:
        assert error.line >= 1  # noqa: PT017 - the other way out is a lab, which is as good
        assert "\n" not in error.message  # noqa: PT017


@given(st.text(max_size=200))
@settings(deadline=None)
def test_any_text_is_a_lab_or_a_lab_error(text: str) -> None:
    try:
        plan_lab(read_yaml(text, "x.yaml"), directory=Path("/nonexistent"), default_name="x")
    except LabError as error:
        assert "\n" not in error.message  # noqa: PT017
