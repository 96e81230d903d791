"""The lab language as JSON Schema (draft 2020-12), for editors; made of the models, so that it says what they do.

A schema sees shapes, not meanings: that a node's name is known, or that an address lies in its network, is for
``vnet validate`` to say.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from vnet.lab.schema.lab import CONDITIONS, STEP_MODELS, LabFile, WaitUntilFile
from vnet.lab.schema.words import LEFT_OUT, comparison_schema, quantity_schema
from vnet.lab.units import Dimension

__all__ = ["DIALECT", "lab_schema"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

# What a key says of its value beside its shape.
_SAID = ("description", "examples", "title", LEFT_OUT)
_WORD = {"type": "string", "minLength": 1}
_NAME = "^[A-Za-z0-9][A-Za-z0-9._-]{0,47}$"


def lab_schema() -> dict[str, Any]:
    """The schema of a lab file."""
    schema = LabFile.model_json_schema(mode="validation")
    definitions = schema["$defs"]
    _say_steps(schema, definitions)
    _say_nodes(schema, definitions)
    _say_routes(schema)
    # What a graph or a shape makes takes the place of networks and nodes.
    schema["anyOf"] = [{"required": ["networks", "nodes"]}, {"required": ["graph"]}, {"required": ["topology"]}]
    _one_of(definitions["ServiceFile"])
    _by_protocol(definitions["TrafficFile"])
    _something(definitions["ReadyFile"], "command", "port", "output")
    _something(definitions["RepeatFile"], "count", "for", "until")
    for name, definition in definitions.items():
        if definition.get("title") == name:
            del definition["title"]
    for part in list(_parts(schema)):
        _tidy(part)
        _share(part)
    used = json.dumps(schema)
    definitions |= {name: dict(shape) for name, shape in _SHARED.items() if f'#/$defs/{name}"' in used}
    del schema["title"]
    return {"$schema": DIALECT, "title": "A vnet lab", **schema}


def _say_steps(schema: dict[str, Any], definitions: dict[str, Any]) -> None:
    """Steps, by reference wherever steps may stand: pydantic writes each of them out."""
    for model in STEP_MODELS.values():
        # An editor that completes a step shows its kinds by what they do.
        definitions[model.__name__]["title"] = definitions[model.__name__]["description"]
    # A mapping that may be left empty: its key is there, and nothing behind it.
    ping_all = definitions["PingAllStepFile"]["properties"]
    ping_all["ping_all"] = _or_null(ping_all["ping_all"])
    definitions["WaitUntilFile"] = _wait_until(definitions)
    kinds = [{"$ref": f"#/$defs/{model.__name__}"} for model in STEP_MODELS.values()]
    definitions["Step"] = {"title": "A step", "description": "One thing that the lab does.", "anyOf": kinds}
    steps = {"type": "array", "items": {"$ref": "#/$defs/Step"}}
    branch = {"anyOf": [{"$ref": "#/$defs/Step"}, {**steps, "minItems": 1}]}
    branches = [
        {"type": "array", "items": branch, "minItems": 1},
        {"type": "object", "additionalProperties": branch, "minProperties": 1},
    ]
    _replace(definitions["ParallelStepFile"]["properties"]["parallel"], {"anyOf": branches})
    _replace(definitions["RepeatFile"]["properties"]["steps"], {**steps, "minItems": 1})
    _replace(schema["properties"]["steps"], {"anyOf": [steps, {"type": "null"}]})


def _say_routes(schema: dict[str, Any]) -> None:
    """Routes, which may be a mapping of prefixes, one mapping with a file, or a list."""
    route = {"$ref": "#/$defs/RoutesFile"}
    by_prefix = {
        "type": "object",
        "propertyNames": {"pattern": "^[0-9a-fA-F.:]+(/[0-9]+)?$"},
        "additionalProperties": {"type": "string"},
    }
    shapes = [by_prefix, route, {"type": "array", "items": route}, {"type": "null"}]
    _replace(schema["properties"]["routes"], {"anyOf": shapes})


def _say_nodes(schema: dict[str, Any], definitions: dict[str, Any]) -> None:
    """What the models check with code: names, and that something is there at all."""
    service = {"$ref": "#/$defs/ServiceFile"}
    command, words = {"$ref": "#/$defs/CommandFile"}, {"type": "array", "minItems": 1, "items": _WORD}
    several = {"type": "array", "minItems": 1, "items": {"anyOf": [command, words]}}
    for node in (definitions["NodeDefaults"], *(definitions[name]["anyOf"][-1] for name in ("NodeFile", "HostsFile"))):
        shape = [service, {"type": "array", "items": service}, {"type": "null"}]
        _replace(node["properties"]["serve"], {"anyOf": shape})
        _replace(node["properties"]["exec"], {"anyOf": [_WORD, words, command, several, {"type": "null"}]})
    for name in ("networks", "nodes"):
        schema["properties"][name] |= {"minProperties": 1, "propertyNames": {"pattern": _NAME}}
    for name in ("regions", "services"):
        shape = schema["properties"][name]
        shape["propertyNames"] = {"pattern": _NAME}
        _replace(shape, _or_null({key: value for key, value in shape.items() if key not in _SAID}))
    schema["properties"]["name"]["pattern"] = _NAME


def _one_of(service: dict[str, Any]) -> None:
    """A service has one port and does one thing."""
    service["allOf"] = [
        {"oneOf": [{"required": ["tcp"]}, {"required": ["udp"]}]},
        {"oneOf": [{"required": ["http"]}, {"required": ["echo"]}, {"required": ["discard"]}]},
        {"if": {"required": ["http"]}, "then": {"required": ["tcp"]}},
    ]


def _by_protocol(traffic: dict[str, Any]) -> None:
    """Keys of UDP and of TCP, and one that says how much is sent."""
    is_tcp = {"properties": {"protocol": {"const": "tcp"}}, "required": ["protocol"]}
    traffic["allOf"] = [
        {"if": is_tcp, "then": _without("rate", "size", "count"), "else": _without("bytes")},
        {"if": {"required": ["duration"]}, "then": _without("count", "bytes")},
    ]


def _without(*keys: str) -> dict[str, Any]:
    return {"properties": dict.fromkeys(keys, False)}


def _something(mapping: dict[str, Any], *keys: str) -> None:
    """At least one of the keys is there."""
    mapping["anyOf"] = [{"required": [key]} for key in keys]


def _wait_until(definitions: dict[str, Any]) -> dict[str, Any]:
    """The mapping of ``wait_until``: each condition's own keys, with the patience of the waiting."""
    whole = definitions["WaitUntilFile"]
    patience = {key: whole["properties"][key] for key in ("interval", "timeout")}
    choices = []
    for kind in CONDITIONS:
        step = definitions[STEP_MODELS[kind].__name__]
        own = {key: step["properties"][key] for key in (kind, "expect")}
        choices.append(
            {
                "type": "object",
                "title": step["description"],
                "properties": {**own, **patience},
                "required": [kind],
                "additionalProperties": False,
            }
        )
    return {"description": WaitUntilFile.__doc__, "anyOf": choices}


def _replace(field: dict[str, Any], shape: dict[str, Any]) -> None:
    """Another shape for a key that keeps what is said about it."""
    kept = {key: field[key] for key in _SAID if key in field}
    field.clear()
    field.update(kept | shape)


def _or_null(field: dict[str, Any]) -> dict[str, Any]:
    kept = {key: field.pop(key) for key in ("description", "examples", LEFT_OUT) if key in field}
    return {**kept, "anyOf": [field, {"type": "null"}]}


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for child in list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _parts(child)


def _tidy(part: dict[str, Any]) -> None:
    """Titles and defaults as a lab file writes them."""
    if "properties" in part and isinstance(part["properties"], dict):
        for name, field in part["properties"].items():
            if isinstance(field, dict):
                _tidy_field(name, field)
    if isinstance(part.get("description"), str):
        part["description"] = " ".join(part["description"].split()).replace("``", "`")


def _tidy_field(name: str, field: dict[str, Any]) -> None:
    field.pop("default", None)
    field["title"] = name
    left_out = field.pop(LEFT_OUT, None)
    if left_out is not None and not (isinstance(left_out, str) and left_out.startswith("=")):
        field["default"] = left_out
    elif isinstance(left_out, str) and "description" in field:
        field["description"] = f"{field['description']}; when left out: {left_out[1:]}"


# --- quantities -------------------------------------------------------------------------------------------------------

_SHARED: Mapping[str, Mapping[str, Any]] = {
    f"{dimension.name.lower()}{suffix}": {"description": says.format(dimension.value), **make(dimension)}
    for dimension in Dimension
    for suffix, make, says in (
        ("", quantity_schema, "{}"),
        (
            "-expectation",
            comparison_schema,
            "{}, with <, <=, >, >=, == or != before it; a range such as A..B; or a list",
        ),
    )
}


def _share(part: dict[str, Any]) -> None:
    """Name the shape of a quantity in place of writing it out."""
    choices = part.get("anyOf")
    if not isinstance(choices, list):
        return
    rest = [choice for choice in choices if choice != {"type": "null"}]
    for name, shape in _SHARED.items():
        if rest == shape["anyOf"]:
            reference: dict[str, Any] = {"$ref": f"#/$defs/{name}"}
            if len(rest) == len(choices):
                del part["anyOf"]
                part |= reference
            else:
                part["anyOf"] = [reference, {"type": "null"}]
