"""What joins networks, as a lab file says it: links, routes, and networks that follow from a graph or a shape."""

from __future__ import annotations

import ipaddress
import re
from functools import partial
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema, model_validator

from vnet.lab.mistakes import mistake
from vnet.lab.schema.nodes import NodeDefaults
from vnet.lab.schema.words import TEXT_OR_LIST, Prefixes, Said, Texts, key, not_empty, not_yet, one_or_many
from vnet.lab.tree import did_you_mean
from vnet.lab.units import shown

__all__ = [
    "IMPAIRMENTS",
    "MOST_WEIGHT",
    "SHAPES",
    "GraphFile",
    "LinkDefaults",
    "LinkFile",
    "LinkStepBody",
    "RandomFile",
    "RoutesFile",
    "TopologyFile",
    "TreeFile",
]

IMPAIRMENTS = ("delay", "jitter", "loss", "rate", "duplicate", "reorder", "corrupt", "limit")
"""Words of the language for what links do to datagrams, which come with a later version."""

# As of vnet.routing.model, which takes long to load for a schema.
MOST_WEIGHT = (1 << 20) - 1
Weight = Annotated[int, Field(ge=1, le=MOST_WEIGHT)]
LinkMtu = Annotated[int, Field(ge=68, le=65535)]
_SAYS_MTU = "the largest datagram, in bytes of IP"
_SAYS_WEIGHT = "what it costs to go this way, 1 to 1,048,575; of two ways the one with the smaller sum is taken"


def _later(word: str) -> Any:
    return Annotated[
        Any,
        BeforeValidator(partial(not_yet, f"links with an impairment such as {word!r}")),
        WithJsonSchema({"not": {}}),
    ]


class LinkDefaults(Said):
    """Keys that all links share."""

    weight: Weight = key(_SAYS_WEIGHT, 10, left_out=1, default=1)
    mtu: LinkMtu = key(_SAYS_MTU, 1500, left_out=65535, default=65535)
    delay: _later("delay") = key("not in this version", default=None)  # type: ignore[valid-type]
    jitter: _later("jitter") = key("not in this version", default=None)  # type: ignore[valid-type]
    loss: _later("loss") = key("not in this version", default=None)  # type: ignore[valid-type]
    rate: _later("rate") = key("not in this version", default=None)  # type: ignore[valid-type]
    duplicate: _later("duplicate") = key("not in this version", default=None)  # type: ignore[valid-type]
    reorder: _later("reorder") = key("not in this version", default=None)  # type: ignore[valid-type]
    corrupt: _later("corrupt") = key("not in this version", default=None)  # type: ignore[valid-type]
    limit: _later("limit") = key("not in this version", default=None)  # type: ignore[valid-type]


def _endpoints(said: Any) -> list[str]:
    if not isinstance(said, list) or len(said) != 2:
        raise ValueError(f"a link has two ends; expected two routers such as [r1, r2], found {shown(said)}")
    return [str(name) for name in one_or_many("the name of a router", said)]


PAIR_SCHEMA: dict[str, Any] = {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}
Endpoints = Annotated[list[str], PlainValidator(_endpoints), WithJsonSchema(PAIR_SCHEMA)]


class LinkFile(LinkDefaults):
    """A link: a wire between two routers, with addresses of its own at both ends."""

    endpoints: Endpoints = key("the two routers", ["r1", "r2"])
    name: str | None = key(
        "what steps and `vnet link` may call it",
        "backbone",
        left_out="=`A-B`, after its ends; of a second one `A-B.2`",
        default=None,
    )
    prefix: Prefixes | None = key(
        "its own prefix, or one of each family; the first end has the lower address",
        "192.0.2.0/31",
        ["192.0.2.0/31", "fd00:2::/127"],
        left_out="=the next free /31 and /127, of the families that the lab's networks have",
        default=None,
        min_length=1,
    )
    addresses: dict[str, Texts] | None = key(
        "its addresses by router, in place of `prefix` or inside it",
        {"r1": "192.0.2.1", "r2": "192.0.2.2"},
        default=None,
    )


# --- routes -----------------------------------------------------------------------------------------------------------


class RoutesFile(Said):
    """Routes of the whole lab that lead out of it: one prefix, or a file of them."""

    prefix: str | None = key("the prefix that lies behind `via`", "203.0.113.0/24", default=None)
    file: str | None = key(
        "a file with a prefix in each line, perhaps gzipped (`.gz`), relative to the lab file",
        "table.txt.gz",
        default=None,
    )
    via: str = key(
        "the node behind which they are, or its address; or `unreachable`, `prohibit` or `blackhole`, which say no",
        "isp",
        "10.0.0.254",
    )

    @model_validator(mode="after")
    def _says_one_thing(self) -> RoutesFile:
        if (self.prefix is None) is (self.file is None):
            raise mistake("a route is for a prefix, or for those of a file; expected one of 'prefix' and 'file'")
        return self


def is_prefix(text: str) -> bool:
    """Whether a key looks like a prefix, rightly written or not."""
    try:
        ipaddress.ip_interface(text)
    except ValueError:
        return bool(re.fullmatch(r"[0-9a-fA-F:.]*[.:][0-9a-fA-F:.]*(/\d+)?", text))
    return True


def _routes(said: Any) -> Any:
    """``{prefix: via}``, or a list of mappings; one mapping of a file stands for a list of it."""
    if said is None:
        return []
    if isinstance(said, list):
        return said
    if not isinstance(said, dict):
        raise mistake(
            f"expected a mapping such as {{203.0.113.0/24: isp}}, or a list with {{file: FILE, via: NODE}}; "
            f"found {shown(said)}"
        )
    if "file" in said or "via" in said:
        return [said]
    routes = []
    for prefix, via in said.items():
        if not is_prefix(prefix):
            message = f"{shown(prefix)} is not a prefix; expected one such as 203.0.113.0/24, or 'file' and 'via'"
            raise mistake(message, prefix, at_key=True)
        if not isinstance(via, str):
            raise mistake(f"expected a node or an address that {prefix} lies behind, found {shown(via)}", prefix)
        routes.append({"prefix": prefix, "via": via})
    return routes


Routes = Annotated[list[RoutesFile], BeforeValidator(_routes)]
ROUTES_SCHEMA = {"type": "object", "additionalProperties": {"type": "string"}}


# --- graphs and shapes ------------------------------------------------------------------------------------------------


class HostsFile(NodeDefaults):
    """What is at each router: so many guests of a kind.  A number of hosts may stand for the mapping."""

    short_forms = ({"type": "integer", "minimum": 0, "maximum": 65000},)

    count: Annotated[int, Field(ge=0, le=65000)] = key("how many; 0: the network alone", 2, left_out=1, default=1)

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, said: Any) -> Any:
        if isinstance(said, int) and not isinstance(said, bool):
            return {"count": said}
        if not isinstance(said, dict):
            raise mistake(f"expected how many hosts each router has, or a mapping with 'count'; found {shown(said)}")
        for word in ("networks", "routes", "loopback", "forward"):
            if word in said:
                raise mistake(f"what is at each router is on its network; expected no {word!r} here", word, at_key=True)
        if said.get("kind") in ("router", "tap"):
            message = f"expected host, process or netns at each router, found {shown(said['kind'])}"
            raise mistake(message, "kind")
        return said


class _Generated(Said):
    """What a graph and a shape have in common."""

    hosts: HostsFile = key(
        "what is at each router: how many hosts, or a mapping with `count` and the keys of a node",
        2,
        {"kind": "netns", "count": 1},
        left_out=1,
        default=HostsFile(),
    )
    networks: bool = key(
        "`false`: routers and links alone, without a network at each router", False, left_out=True, default=True
    )
    prefix: Prefixes = key(
        "what the prefixes of the networks at the routers are taken from, one pool or one of each family",
        "10.0.0.0/8",
        ["172.16.0.0/12", "fd00:1::/32"],
        left_out=["10.0.0.0/8", "fd00:10::/32"],
        default=["10.0.0.0/8", "fd00:10::/32"],
        min_length=1,
    )
    mtu: LinkMtu = key(f"{_SAYS_MTU}, of networks and links", 1500, left_out=65535, default=65535)


def _word(words: tuple[str, ...], said: Any) -> str:
    if said in words:
        return str(said)
    close = did_you_mean(said, words) if isinstance(said, str) else ""
    raise ValueError(f"expected one of {', '.join(words)}; found {shown(said)}{close}")


class GraphFile(_Generated):
    """Routers and links of a graph file.  Its name may stand for the mapping."""

    short_forms = ({"type": "string", "minLength": 1, "examples": ["backbone.gml"]},)

    file: str = key("a GML or GraphML file, relative to the lab file", "backbone.gml")
    weight: Weight | str = key(
        "the weight of every link, or the name of the edges' attribute that holds it",
        "weight",
        10,
        left_out="=the attribute `weight` where an edge has it, otherwise 1",
        default="weight",
    )

    parallel: Annotated[
        str,
        PlainValidator(partial(_word, ("error", "keep", "merge"))),
        WithJsonSchema({"enum": [*("error", "keep", "merge")]}),
    ] = key(
        "what becomes of several edges between two nodes: `error`; `keep` makes each a link, `merge` one of them",
        "keep",
        left_out="error",
        default="error",
    )
    self_loops: Annotated[
        str, PlainValidator(partial(_word, ("error", "drop"))), WithJsonSchema({"enum": [*("error", "drop")]})
    ] = key(
        "what becomes of an edge from a node to itself: `error`, or `drop`", "drop", left_out="error", default="error"
    )
    disconnected: Annotated[
        str,
        PlainValidator(partial(_word, ("error", "keep", "largest"))),
        WithJsonSchema({"enum": [*("error", "keep", "largest")]}),
    ] = key(
        "what becomes of a graph in several parts that no `links` join: `error`; `keep` takes all, `largest` one part",
        "largest",
        left_out="error",
        default="error",
    )

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, said: Any) -> Any:
        if isinstance(said, str):
            return {"file": said}
        if not isinstance(said, dict):
            raise mistake(f"expected a graph file such as backbone.gml, or a mapping with 'file'; found {shown(said)}")
        return said


# As of vnet.routing.model.
_MOST_ROUTERS = 4096
Size = Annotated[int, Field(ge=1, le=_MOST_ROUTERS)]


def _grid(said: Any) -> list[int]:
    if (
        isinstance(said, list)
        and len(said) == 2
        and all(type(each) is int and 1 <= each <= _MOST_ROUTERS for each in said)
    ):
        return [int(each) for each in said]
    raise ValueError(f"expected rows and columns such as [3, 4], found {shown(said)}")


class TreeFile(Said):
    """A tree of routers; its height, with two below each, may stand for the mapping."""

    short_forms = ({"type": "integer", "minimum": 1, "maximum": 12},)

    height: Annotated[int, Field(ge=1, le=12)] = key("rows below the root", 2)
    branches: Annotated[int, Field(ge=1, le=1024)] = key("routers below each", 3, left_out=2, default=2)

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, said: Any) -> Any:
        if isinstance(said, int) and not isinstance(said, bool):
            return {"height": said}
        if not isinstance(said, dict):
            message = f"expected the height of the tree, or a mapping with 'height' and 'branches'; found {shown(said)}"
            raise mistake(message)
        return said


class RandomFile(Said):
    """Routers linked by chance, all of them connected; how many may stand for the mapping."""

    short_forms = ({"type": "integer", "minimum": 2, "maximum": _MOST_ROUTERS},)

    routers: Annotated[int, Field(ge=2, le=_MOST_ROUTERS)] = key("how many", 20)
    degree: Annotated[int, Field(ge=1, le=_MOST_ROUTERS)] | None = key(
        "links at each of them", 3, left_out="=3, or 4 where the routers are an odd number", default=None
    )
    p: Annotated[float, Field(ge=0, le=1, strict=False)] | None = key(
        "in place of `degree`: the probability of a link between any two", 0.1, default=None
    )
    seed: Annotated[int, Field(ge=0, lt=2**64)] | None = key(
        "what the choice follows from", 3, left_out="=the lab's seed", default=None
    )

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, said: Any) -> Any:
        if isinstance(said, int) and not isinstance(said, bool):
            return {"routers": said}
        if not isinstance(said, dict):
            raise mistake(f"expected how many routers, or a mapping with 'routers'; found {shown(said)}")
        return said

    @model_validator(mode="after")
    def _has_one_measure(self) -> RandomFile:
        if self.degree is not None and self.p is not None:
            raise mistake("a random graph has either a 'degree' or a probability 'p', not both", "p", at_key=True)
        return self


SHAPES = ("line", "ring", "star", "tree", "grid", "fat_tree", "random")


def _arity(said: Any) -> int:
    if type(said) is not int or said < 2 or said % 2 or said > 48:
        raise ValueError(f"expected an even number of ports of each switch, 2 to 48, such as 4; found {shown(said)}")
    return said


class TopologyFile(_Generated):
    """Routers and links of a shape: one of line, ring, star, tree, grid, fat_tree and random."""

    line: Size | None = key("routers `r1` to `rN` in a row", 4, default=None)
    ring: Annotated[int, Field(ge=3, le=_MOST_ROUTERS)] | None = key(
        "routers `r1` to `rN` in a circle", 6, default=None
    )
    star: Annotated[int, Field(ge=2, le=_MOST_ROUTERS)] | None = key(
        "routers `r1` to `rN`, all others around the first", 5, default=None
    )
    tree: TreeFile | None = key(
        "`r1` is the root, `r2` and so on follow row by row",
        {"height": 2, "branches": 3},
        3,
        default=None,
    )
    grid: (
        Annotated[
            list[int],
            PlainValidator(_grid),
            WithJsonSchema(
                {
                    "type": "array",
                    "items": {"type": "integer", "minimum": 1, "maximum": _MOST_ROUTERS},
                    "minItems": 2,
                    "maxItems": 2,
                }
            ),
        ]
        | None
    ) = key("rows and columns; `r2.3` is the third router of the second row", [3, 4], default=None)
    fat_tree: (
        Annotated[
            int,
            PlainValidator(_arity),
            WithJsonSchema({"type": "integer", "minimum": 2, "maximum": 48, "multipleOf": 2}),
        ]
        | None
    ) = key(
        "a fat tree of switches with so many ports: `core-N`, and in pod P `agg-P-N` and `edge-P-N`; the networks are "
        "at the edge",
        4,
        default=None,
    )
    random: RandomFile | None = key(
        "routers `r1` to `rN` with links by chance", {"routers": 20, "degree": 4}, 20, default=None
    )
    weight: Weight = key("the weight of every link", 10, left_out=1, default=1)

    @model_validator(mode="before")
    @classmethod
    def _one_shape(cls, said: Any) -> Any:
        if not isinstance(said, dict):
            raise mistake(f"expected a mapping with a shape such as {{fat_tree: 4}}; found {shown(said)}")
        shapes = [name for name in said if name in SHAPES]
        if len(shapes) > 1:
            message = f"a topology has one shape, but this one has both {shapes[0]!r} and {shapes[1]!r}"
            raise mistake(message, shapes[1], at_key=True)
        if not shapes:
            known = (*SHAPES, *cls.model_fields)
            stranger = next((name for name in said if name not in known), None)
            close = did_you_mean(stranger, SHAPES) if isinstance(stranger, str) else ""
            message = f"a topology without a shape{close}; expected one of {', '.join(SHAPES)}"
            raise mistake(message, *([stranger] if stranger is not None else []), at_key=True)
        not_empty("size", said[shapes[0]])
        return said

    @property
    def shape(self) -> str:
        """The one that it has."""
        return next(name for name in SHAPES if getattr(self, name) is not None)


# --- the link step ----------------------------------------------------------------------------------------------------


def _of(said: Any) -> list[str] | str:
    if isinstance(said, str):
        return said
    if not isinstance(said, list) or len(said) != 2:
        raise ValueError(f"expected a link, its name or its two routers such as [r1, r2]; found {shown(said)}")
    return [str(name) for name in one_or_many("the name of a router", said)]


WhichLink = Annotated[
    list[str] | str, PlainValidator(_of), WithJsonSchema({"anyOf": [TEXT_OR_LIST["anyOf"][0], PAIR_SCHEMA]})
]


class LinkStepBody(Said):
    """A link is cut, mended, or gets another weight; paths follow at once."""

    cut: WhichLink | None = key("the link that carries nothing from now on", ["r1", "r2"], "backbone", default=None)
    mend: WhichLink | None = key("the link that carries datagrams again", ["r1", "r2"], default=None)
    of: WhichLink | None = key("the link that gets another weight", ["r1", "r2"], default=None)
    weight: Weight | None = key("with `of`: its weight from now on", 20, default=None)

    @model_validator(mode="after")
    def _does_one_thing(self) -> LinkStepBody:
        did = [name for name in ("cut", "mend", "of") if getattr(self, name) is not None]
        if len(did) != 1:
            expected = "expected one of {cut: [A, B]}, {mend: [A, B]} and {of: [A, B], weight: N}"
            raise mistake(f"a link step does one thing; {expected}", *(did[1:2]), at_key=True)
        if (self.of is None) is not (self.weight is None):
            missing, there = ("weight", "of") if self.weight is None else ("of", "weight")
            raise mistake(f"{there!r} goes with {missing!r}; expected {{of: [A, B], weight: N}}", there, at_key=True)
        return self
