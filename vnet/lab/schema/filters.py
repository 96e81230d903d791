"""Filters, as a lab file says them: rules of what may enter a network, be given to a node, or be sent by it.

:mod:`vnet.filtering.reading` reads the rules themselves, as for :meth:`vnet.Lan.set_filter`; here its mistakes get
their places in the file, and the rules their JSON Schema.  That names are known and expressions compile is for
:mod:`vnet.lab.filters` to say, when every node has its addresses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

from vnet.filtering.model import Filter
from vnet.filtering.reading import ACTIONS, COLUMNS, RuleError, read_filter
from vnet.lab.mistakes import mistake
from vnet.lab.units import shown

__all__ = ["DirectedFilter", "NetworkFilter", "NodeFilter"]

_DIRECTIONS = ("in", "out")
# Keys that make a mapping a filter or a rule, and not one of directions or networks.
_OF_FILTERS = ("rules", "default", *ACTIONS)


@dataclass(frozen=True)
class DirectedFilter:
    """A filter of a node.

    Attributes:
        network: the network that its NIC is on; ``None`` for each of the node's NICs.
        direction: ``in``, what the NIC is given; ``out``, what it sends.
        filter: the rules.
    """

    network: str | None
    direction: str
    filter: Filter


def _read(said: Any, path: tuple[str, ...] = ()) -> Filter:
    try:
        return read_filter(said)
    except RuleError as error:
        raise mistake(error.message, *path, *error.path, at_key=error.at_key) from None


def _network_filter(said: Any) -> Filter:
    if isinstance(said, Mapping) and any(name in said for name in _DIRECTIONS):
        raise mistake(
            "a network's filter is of what enters it; expected rules without 'in' and 'out', which nodes have",
            next(name for name in said if name in _DIRECTIONS),
            at_key=True,
        )
    return _read(said)


def _node_filters(said: Any) -> tuple[DirectedFilter, ...]:
    """``[rules]``, ``{in: rules, out: rules}``, and either of them as the value of a network's name."""
    if not isinstance(said, Mapping) or not said or any(name in said for name in _OF_FILTERS):
        return (DirectedFilter(None, "in", _read(said)),)
    if any(name in said for name in _DIRECTIONS):
        return _directed(said, None, ())
    found: tuple[DirectedFilter, ...] = ()
    for network, own in said.items():
        if isinstance(own, Mapping) and any(name in own for name in _DIRECTIONS):
            found += _directed(own, network, (network,))
        else:
            found += (DirectedFilter(network, "in", _read(own, (network,))),)
    return found


def _directed(said: Mapping[str, Any], network: str | None, path: tuple[str, ...]) -> tuple[DirectedFilter, ...]:
    for name in said:
        if name not in _DIRECTIONS:
            raise mistake(f"unknown key {shown(name)}; expected in and out", *path, name, at_key=True)
    return tuple(DirectedFilter(network, name, _read(own, (*path, name))) for name, own in said.items())


# JSON Schema

_TEXTS = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
_PORT = {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 65535}, {"type": "string", "pattern": "^[0-9 -]+$"}]}
_PORTS = {"anyOf": [*_PORT["anyOf"], {"type": "array", "items": _PORT, "minItems": 1}]}
_PROTOCOL = {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 0, "maximum": 255}]}
_SHAPES: Mapping[str, dict[str, Any]] = {
    "from": {
        **_TEXTS,
        "description": "prefixes, addresses, names of nodes and networks that it comes from",
        "examples": ["10.9.0.0/16"],
    },
    "to": {**_TEXTS, "description": "the same that it goes to", "examples": ["web", ["10.1.0.0/24", "fd00:1::/64"]]},
    "protocol": {
        "anyOf": [*_PROTOCOL["anyOf"], {"type": "array", "items": _PROTOCOL, "minItems": 1}],
        "description": "tcp, udp, icmp, icmp6, another name or a number",
        "examples": ["tcp", ["tcp", "udp"]],
    },
    "ports": {
        **_PORTS,
        "description": "the ports that it goes to: numbers, and ranges such as 1000-2000",
        "examples": [80, "1000-2000"],
    },
    "from_ports": {**_PORTS, "description": "the ports that it comes from", "examples": [53]},
}
_TABLE = {
    "type": "object",
    "properties": {name: _SHAPES[name] for name in COLUMNS},
    "additionalProperties": False,
    "minProperties": 1,
}
_RULE = {
    "anyOf": [
        {"type": "string", "pattern": rf"^\s*({'|'.join(ACTIONS)})(\s|$)"},
        {
            "type": "object",
            "properties": {
                name: {
                    "anyOf": [{"type": ["string", "null"]}, _TABLE],
                    "description": "an expression in tcpdump's language, or a table, of what this is done to",
                    "examples": ["tcp port 22", {"protocol": "tcp", "ports": [80, 443]}],
                }
                for name in ACTIONS
            },
            "additionalProperties": False,
            "minProperties": 1,
            "maxProperties": 1,
        },
    ]
}
_RULES = {"anyOf": [*_RULE["anyOf"], {"type": "array", "items": _RULE}]}
_FILTER = {
    "anyOf": [
        *_RULES["anyOf"],
        {
            "type": "object",
            "properties": {
                "rules": {
                    **_RULES,
                    "description": "the rules; the first that matches decides",
                    "examples": [["deny udp"]],
                },
                "default": {
                    "enum": [*ACTIONS],
                    "description": "what happens to what no rule matches",
                    "examples": ["deny"],
                },
            },
            "additionalProperties": False,
            "minProperties": 1,
        },
    ]
}
_DIRECTED = {
    "type": "object",
    "properties": {
        "in": {
            **_FILTER,
            "description": "rules of what the NIC is given",
            "examples": [["allow tcp port 80", "deny any"]],
        },
        "out": {**_FILTER, "description": "rules of what the NIC sends", "examples": ["deny udp port 53"]},
    },
    "additionalProperties": False,
    "minProperties": 1,
}
_BY_NETWORK = {
    "type": "object",
    "propertyNames": {"not": {"enum": [*_DIRECTIONS, *_OF_FILTERS]}},
    "additionalProperties": {"anyOf": [*_FILTER["anyOf"], _DIRECTED]},
    "minProperties": 1,
}

NetworkFilter = Annotated[Filter, PlainValidator(_network_filter), WithJsonSchema(_FILTER)]
NodeFilter = Annotated[
    tuple[DirectedFilter, ...],
    PlainValidator(_node_filters),
    WithJsonSchema({"anyOf": [*_FILTER["anyOf"], _DIRECTED, _BY_NETWORK]}),
]
