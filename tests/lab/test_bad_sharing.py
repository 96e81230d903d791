"""What a lab file says wrongly of regions and services is one sentence with its place, and nothing starts."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from vnet.errors import LabError
from vnet.lab.schema.published import lab_schema
from vnet.lab.source import load
from vnet.lab.tree import read_yaml

HEAD = (
    "networks: {lan: 10.0.0.0/24}\n"
    "nodes:\n"
    "  alice: {kind: process}\n"
    "  bob: {kind: netns, exec: sleep 9}\n"
    "  wall: {kind: host}\n"
    "  tap: {kind: tap}\n"
    "  edge: {kind: router, networks: lan}\n"
)
REGION = HEAD + "regions:\n  cache: %s\n"
"""What it says of the region begins in line 9, column 10."""
SERVICE = HEAD + "services:\n  disk: %s\n"
"""What it says of the service begins in line 9, column 9."""

STEP = SERVICE % "bob" + "steps:\n  - call: {%s}\n"
"""What it says of the call begins in line 11, column 12."""

# What the file holds, and then line, column, key, and what the sentence says; and whether a schema can see it.
MISTAKES = {
    "regions as a list": (
        HEAD + "regions: [cache]\n",
        *(8, 10, "regions", "expected a mapping such as {cache: 64MiB}, found a list"),
        True,
    ),
    "region without a size": (REGION % "{nodes: [alice]}", 9, 10, "regions.cache", "'size' is missing", True),
    "region of nothing": (REGION % "0", 9, 10, "regions.cache", "a size of at least one byte, such as 64MiB", True),
    "region of less than nothing": (REGION % "-4KiB", 9, 10, "regions.cache", "'-4KiB', which is negative", True),
    "region of a part of a byte": (REGION % "0.5", 9, 10, "regions.cache", "at least one byte", True),
    "region of a size that is none": (REGION % "big", 9, 10, "regions.cache", "expected a size such as 64KiB", True),
    "region of an unknown unit": (
        REGION % "{size: 64Mb}",
        *(9, 17, "regions.cache.size", "unknown unit 'Mb'; known units are B, kB, MB"),
        True,
    ),
    "region that is true": (REGION % "true", 9, 10, "regions.cache", "expected a size such as 64MiB", True),
    "misspelt key of a region": (
        REGION % "{size: 1MiB, redonly: [bob]}",
        *(9, 23, "regions.cache.redonly", "unknown key 'redonly' (did you mean 'readonly'?)"),
        True,
    ),
    "huge that is a word": (
        REGION % "{size: 1MiB, huge: pages}",
        *(9, 29, "regions.cache.huge", "expected true or false, found 'pages'"),
        True,
    ),
    "name of a region with a slash": (
        HEAD + "regions:\n  a/b: 1MiB\n",
        *(9, 3, "regions.a/b", "up to 48 letters"),
        True,
    ),
    "nobody's region": (
        REGION % "{size: 1MiB, nodes: []}",
        *(9, 30, "regions.cache.nodes", "expected at least one node"),
        True,
    ),
    "region of an unknown node": (
        REGION % "{size: 1MiB, nodes: [alice, bbo]}",
        *(9, 38, "regions.cache.nodes[1]", "no node is called 'bbo' (did you mean 'bob'?); the nodes are alice, bob"),
        False,
    ),
    "region of a node twice": (
        REGION % "{size: 1MiB, nodes: [bob, bob]}",
        *(9, 36, "regions.cache.nodes[1]", "'bob' is here twice"),
        True,
    ),
    "region of a host": (
        REGION % "{size: 1MiB, nodes: [wall]}",
        *(9, 31, "regions.cache.nodes[0]", "'wall' is a host, which runs no program; expected a process node"),
        False,
    ),
    "region of a tap": (
        REGION % "{size: 1MiB, nodes: tap}",
        *(9, 30, "regions.cache.nodes", "'tap' is a tap node, whose commands cannot be told from others"),
        False,
    ),
    "region of a router": (
        REGION % "{size: 1MiB, nodes: [edge]}",
        *(9, 31, "regions.cache.nodes[0]", "'edge' is a router, which is simulated"),
        False,
    ),
    "region that nobody could have": (
        "networks: {lan: 10.0.0.0/24}\nnodes: {wall: }\nregions: {cache: 1MiB}\n",
        *(3, 11, "regions.cache", "nobody could attach it: expected a process node, or a netns node"),
        False,
    ),
    "reader who may not attach": (
        REGION % "{size: 1MiB, nodes: [alice], readonly: [bob]}",
        *(9, 50, "regions.cache.readonly[0]", "'bob' is not one of the region's nodes (alice); expected it there too"),
        False,
    ),
    "services as a name": (
        HEAD + "services: disk\n",
        *(8, 11, "services", "expected a mapping such as {disk: host}, found 'disk'"),
        True,
    ),
    "service of nobody": (SERVICE % "{clients: [bob]}", 9, 9, "services.disk", "'node' is missing", True),
    "service of two": (
        SERVICE % "[alice, bob]",
        *(9, 9, "services.disk", "expected the name of the node that serves, or a mapping with 'node'; found a list"),
        True,
    ),
    "service of an unknown node": (
        SERVICE % "alcie",
        *(9, 9, "services.disk", "no node is called 'alcie' (did you mean 'alice'?)"),
        False,
    ),
    "service of a host": (
        SERVICE % "{node: wall}",
        *(9, 16, "services.disk.node", "'wall' is a host, which runs no program"),
        False,
    ),
    "client that is a router": (
        SERVICE % "{node: bob, clients: [alice, edge]}",
        *(9, 38, "services.disk.clients[1]", "'edge' is a router"),
        False,
    ),
    "misspelt key of a service": (
        SERVICE % "{node: bob, cleints: [alice]}",
        *(9, 21, "services.disk.cleints", "unknown key 'cleints' (did you mean 'clients'?)"),
        True,
    ),
    "waiting for a server that nobody starts": (
        SERVICE % "{node: alice, ready: true}",
        *(9, 30, "services.disk.ready", "nobody starts 'alice', which has no command; expected 'exec' there"),
        False,
    ),
    "ready that is a time": (
        SERVICE % "{node: bob, ready: 10s}",
        *(9, 28, "services.disk.ready", "expected true or false, found '10s'"),
        True,
    ),
    "call of nothing": (STEP % "service: disk", 11, 11, "steps[0].call", "'method' is missing", True),
    "call of a service that nobody serves": (
        STEP % "service: dsik, method: read",
        *(11, 21, "steps[0].call.service", "'services' names nobody who serves 'dsik' (did you mean 'disk'?)"),
        False,
    ),
    "call of a service of another": (
        STEP % "service: disk, method: read, node: alice",
        *(11, 47, "steps[0].call.node", "service 'disk' is that of 'bob', as 'services' says; expected bob"),
        False,
    ),
    "call of a host": (
        STEP % "service: tape, method: read, node: wall",
        *(11, 47, "steps[0].call.node", "'wall' is a host, which runs no program"),
        False,
    ),
    "call by a router": (
        STEP % "service: disk, method: read, from: edge",
        *(11, 47, "steps[0].call.from", "'edge' is a router"),
        False,
    ),
    "arguments that are one": (
        STEP % "service: disk, method: read, args: 7",
        *(11, 47, "steps[0].call.args", "expected a list of arguments, or a mapping of their names; found 7"),
        True,
    ),
    "result that is no comparison": (
        STEP % "service: disk, method: free" + "    expect: {result: {free: 7}}\n",
        *(12, 23, "steps[0].expect.result.free", "unknown key 'free'; expected one of equals, contains, matches"),
        True,
    ),
    "error that is a number": (
        STEP % "service: disk, method: free" + "    expect: {error: 7}\n",
        *(12, 21, "steps[0].expect.error", "expected text, or a mapping with equals, contains or matches; found 7"),
        True,
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
