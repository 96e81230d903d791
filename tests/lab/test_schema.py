"""The published JSON Schema accepts what vnet accepts and rejects the mistakes that a schema can see."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import examples
from test_any_lab import BASE, changed, paths, values
from test_bad_labs import MISTAKES

from vnet.errors import LabError
from vnet.lab.planner import plan_lab
from vnet.lab.schema.published import DIALECT, lab_schema
from vnet.lab.source import shipped_labs
from vnet.lab.tree import read_yaml

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


VALIDATOR = jsonschema.Draft202012Validator(lab_schema())


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return lab_schema()


def test_it_is_a_schema_of_its_dialect(schema: dict[str, Any]) -> None:
    assert schema["$schema"] == DIALECT == jsonschema.Draft202012Validator.META_SCHEMA["$id"]
    jsonschema.Draft202012Validator.check_schema(schema)


def test_the_verb_prints_it(schema: dict[str, Any]) -> None:
    command = [sys.executable, "-m", "vnet", "schema"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == schema


def test_no_pattern_means_another_thing_to_javascript(schema: dict[str, Any]) -> None:
    # Editors take ECMA 262's regular expressions: those of Python have groups and anchors that these have not.
    for pattern in re.findall(r"'pattern': '(.*?)'", repr(schema)):
        assert not re.search(r"\(\?|\\[AZz]", pattern)


def places(part: Any, path: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Every key of every mapping of the language, with what the schema says of it."""
    found = []
    if isinstance(part, dict):
        if isinstance(part.get("properties"), dict) and part.get("type") == "object":
            found += [(f"{path}.{name}", field) for name, field in part["properties"].items()]
        found += [place for name, child in part.items() for place in places(child, f"{path}/{name}")]
    elif isinstance(part, list):
        found += [place for child in part for place in places(child, path)]
    return found


def test_every_key_has_a_title_a_description_and_examples_that_it_accepts(schema: dict[str, Any]) -> None:
    keys = places(schema)
    assert len(keys) > 150
    for path, field in keys:
        if field.get("not") == {} or path.endswith("/port/anyOf.tcp"):
            continue  # a word that comes later, and the one key of a mapping that stands for a number
        assert field["title"], path
        assert field["description"], path
        assert field["examples"], path
        # Anything else would check the whole schema again for each of them.
        own = VALIDATOR.evolve(schema={**field, "$defs": schema["$defs"]})
        for example in field["examples"]:
            own.validate(example)
        if "default" in field:
            own.validate(field["default"])


@pytest.mark.parametrize("name", sorted(shipped_labs()))
def test_every_shipped_lab_is_accepted(name: str) -> None:
    VALIDATOR.validate(read_yaml(shipped_labs()[name].read_text(encoding="utf-8"), name).data)


@pytest.mark.parametrize("page", [pytest.param(page, id=page.name) for page in PAGES])
def test_every_lab_of_the_documentation_is_accepted(page: Path) -> None:
    for block in re.findall(r"^```yaml\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        if re.search(r"^nodes:", block, re.MULTILINE):
            VALIDATOR.validate(read_yaml(block, page.name).data)


# What a schema cannot see: places of addresses, names, packets, files, and what belongs together.
UNSEEN = {
    *("not a prefix", "host bits", "address as a prefix", "multicast prefix", "two IPv4 prefixes", "overlap"),
    *("mtu too small", "unknown network", "unknown network with an address", "which network", "two networks"),
    *("address outside", "address of another network", "network address", "broadcast address", "duplicate address"),
    *("no address", "full network", "generated names collide", "address for many", "host with a command"),
    *("unknown node", "unknown target", "family that is not there", "bad pattern", "exec on a host", "nobody to ping"),
    *("packet is no expression", "unknown packet", "unknown field", "packet reaches for the system"),
    *("packet with a lambda", "packet for nobody", "packet is Ethernet", "packet without a source"),
    *("packet that scapy refuses", "kind of packet", "no capture", "capture is text", "empty range", "port twice"),
    *(
        "service of a program",
        "ready host",
        "ready output without a command",
        "ready pattern",
        "mistake in a condition",
    ),
    *("mistake in a branch", "rounds without a number", "mistake in a round", "steps too deep"),
    *("log of an unknown node", "log of an unknown counter", "log with an open brace", "traffic to itself"),
    *("traffic from nobody", "traffic of a program", "traffic without a rate", "traffic of small datagrams"),
    *("traffic of large datagrams",),
}


@pytest.mark.parametrize("name", [name for name in MISTAKES if name not in UNSEEN])
def test_a_mistake_that_a_schema_can_see_is_rejected(name: str) -> None:
    try:
        data = read_yaml(MISTAKES[name][0], "x.yaml").data
    except LabError:
        return  # what is no YAML no schema gets to see
    assert not VALIDATOR.is_valid(data)


@given(st.lists(st.tuples(st.sampled_from(paths(BASE)[1:]), values), min_size=1, max_size=3))
@settings(max_examples=examples(200), deadline=None)
def test_whatever_vnet_accepts_the_schema_accepts(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    tree = read_yaml(json.dumps(changed(changes), indent=1), "x.yaml")
    try:
        plan_lab(tree, directory=Path("/nonexistent"), default_name="x")
    except LabError:
        return
    VALIDATOR.validate(tree.data)
