"""What guests share beside the LAN, as a lab file says it: regions of memory, and services that one calls another's."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainValidator, WithJsonSchema, model_validator

from vnet.lab.mistakes import mistake
from vnet.lab.schema.words import NUMBER, Said, key, not_empty, one_or_many
from vnet.lab.units import SIZES, Dimension, parse, shown

__all__ = ["GuestServiceFile", "RegionFile"]


def _size(said: Any) -> int:
    size = int(parse(said, Dimension.SIZE))
    if size < 1:
        raise ValueError(f"expected a size of at least one byte, such as 64MiB; found {shown(said)}")
    return size


_SIZE: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "pattern": rf"^{NUMBER}({'|'.join(SIZES)})?\s*$"},
        {"type": "number", "minimum": 1},
    ]
}


def _nodes(said: Any) -> Any:
    names = one_or_many("the name of a node", said)
    for index, name in enumerate(names):
        if name in names[:index]:
            raise mistake(f"{name!r} is here twice", *([index] if names is said else []))
    return names


def _names_schema(fewest: int) -> dict[str, Any]:
    several = {"type": "array", "items": {"type": "string"}, "minItems": fewest, "uniqueItems": True}
    return {"anyOf": [{"type": "string"}, several]}


Nodes = Annotated[list[str], BeforeValidator(_nodes), WithJsonSchema(_names_schema(0))]
SomeNodes = Annotated[
    list[str],
    BeforeValidator(_nodes),
    BeforeValidator(partial(not_empty, "node")),
    WithJsonSchema(_names_schema(1)),
]


class RegionFile(Said):
    """Memory that nodes share: made before they start, held until the lab ends.  A size may stand for the mapping."""

    short_forms = tuple(
        {**shape, "examples": [example]} for shape, example in zip(_SIZE["anyOf"], ("64MiB", 65536), strict=True)
    )

    size: Annotated[int, PlainValidator(_size), WithJsonSchema(_SIZE)] = key("how much", "64MiB")
    nodes: SomeNodes | None = key(
        "the nodes that may attach it; process and netns nodes can",
        ["alice", "bob"],
        left_out="=every process and netns node",
        default=None,
    )
    readonly: Nodes | None = key("those of the nodes that may only read", ["bob"], left_out="=nobody", default=None)
    huge: bool = key("`true`: of the kernel's huge pages", True, left_out=False, default=False)

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, said: Any) -> Any:
        if isinstance(said, (str, int, float)) and not isinstance(said, bool):
            return {"size": said}
        if not isinstance(said, dict):
            raise mistake(f"expected a size such as 64MiB, or a mapping with 'size'; found {shown(said)}")
        return said


class GuestServiceFile(Said):
    """A service that one node has for others' pipes and calls.  The node's name may stand for the mapping."""

    short_forms = ({"type": "string", "examples": ["host"]},)

    node: str = key("the node that serves: a process or netns node; no other may listen by this name", "host")
    clients: Nodes | None = key(
        "the nodes that may connect, `[]` for none; `vnet call` may always",
        ["alice", "bob"],
        left_out="=everybody",
        default=None,
    )
    ready: bool | None = key(
        "`true`: the node is ready, and the first step begins, once it listens",
        False,
        left_out="=`true` if the node has an `exec`",
        default=None,
    )

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, said: Any) -> Any:
        if isinstance(said, str):
            return {"node": said}
        if not isinstance(said, dict):
            raise mistake(f"expected the name of the node that serves, or a mapping with 'node'; found {shown(said)}")
        return said


def _mapping(example: str, said: Any) -> Any:
    if said is None:
        return {}
    if not isinstance(said, dict):
        raise mistake(f"expected a mapping such as {example}, found {shown(said)}")
    return said


Regions = Annotated[dict[str, RegionFile], BeforeValidator(partial(_mapping, "{cache: 64MiB}"))]
GuestServices = Annotated[dict[str, GuestServiceFile], BeforeValidator(partial(_mapping, "{disk: host}"))]
