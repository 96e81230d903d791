"""Networks and nodes, as a lab file says them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from vnet.lab.mistakes import mistake
from vnet.lab.schema.filters import NetworkFilter, NodeFilter
from vnet.lab.schema.stacks import BridgeFile, Commands, Gateway, InterfaceName
from vnet.lab.schema.words import (
    TEXT_OR_LIST,
    CommandLine,
    Pattern,
    Port,
    PositiveDuration,
    Prefixes,
    Said,
    Texts,
    key,
    not_empty,
    one_or_many,
    quantity,
    quantity_schema,
)
from vnet.lab.tree import did_you_mean
from vnet.lab.units import Dimension, shown

__all__ = ["KINDS", "NetworkFile", "NodeDefaults", "NodeFile", "ReadyFile", "ServiceFile"]

KINDS = ("host", "process", "netns", "tap", "router")
KINDS_TO_COME = ("qemu",)


class NetworkFile(Said):
    """A network: one broadcast domain.  A prefix, or a list of them, may stand for the mapping."""

    short_forms = (
        {"type": "string", "examples": ["10.0.0.0/24"]},
        {"type": "array", "items": {"type": "string"}, "minItems": 1, "examples": [["10.0.0.0/24", "fd00::/64"]]},
    )

    prefix: Prefixes = key(
        "an IPv4 prefix, an IPv6 prefix, or a list of one of each",
        "10.0.0.0/24",
        ["10.0.0.0/24", "fd00::/64"],
        min_length=1,
    )
    mtu: int = key("the largest datagram, in bytes of IP", 1500, left_out=65535, default=65535, ge=68, le=65535)
    filter: NetworkFilter | None = key(
        "rules of what may enter it, to any of its NICs; see [Filters](filters.md)",
        ["deny tcp port 23"],
        left_out="=everything may",
        default=None,
    )

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, said: Any) -> Any:
        if isinstance(said, (str, list)):
            return {"prefix": said}
        if not isinstance(said, dict):
            raise mistake(f"expected a prefix such as 10.0.0.0/24, or a mapping with 'prefix'; found {shown(said)}")
        return said


_KNOWN_KINDS = f"{', '.join(KINDS[:-1])} and {KINDS[-1]}"


def _kind(said: Any) -> str:
    if said in KINDS:
        return str(said)
    if said in KINDS_TO_COME:
        raise ValueError(
            f"this version of vnet does not support nodes of the kind {said!r} yet; it runs {_KNOWN_KINDS}"
        )
    close = did_you_mean(said, (*KINDS, *KINDS_TO_COME)) if isinstance(said, str) else ""
    raise ValueError(f"unknown kind {shown(said)}{close}; expected one of {', '.join(KINDS)}")


Kind = Annotated[str, PlainValidator(_kind), WithJsonSchema({"enum": [*KINDS]})]


def _joined(said: Any) -> Any:
    """``[a]`` and ``a`` as ``{a: []}``; addresses always as lists."""
    if isinstance(said, dict):
        return {
            name: [] if value is None else value if isinstance(value, list) else [value] for name, value in said.items()
        }
    names = one_or_many("the name of a network", said)
    for index, name in enumerate(names):
        if name in names[:index]:
            raise mistake(f"{name!r} is here twice; a node is on a network once", index)
    return {name: [] for name in names}


_JOINED = {
    "anyOf": [
        *TEXT_OR_LIST["anyOf"],
        {"type": "object", "additionalProperties": {"anyOf": [*TEXT_OR_LIST["anyOf"], {"type": "null"}]}},
    ]
}


class ServiceFile(Said):
    """What a host does on a port: the port, and one of ``http``, ``echo`` and ``discard``."""

    tcp: Port | None = key("the TCP port", 80, default=None)
    udp: Port | None = key("the UDP port", 7, default=None)
    http: str | None = key("with `tcp`: the text that answers every HTTP request", "hello", default=None)
    echo: bool = key("`true`: sends back what it gets", True, default=False)
    discard: bool = key("`true`: takes what it gets and says nothing", True, default=False)

    @model_validator(mode="after")
    def _says_one_thing(self) -> ServiceFile:
        said = self.model_fields_set
        if (self.tcp is None) is (self.udp is None):
            raise mistake("a service has one port; expected either 'tcp' or 'udp', such as {tcp: 80, http: hello}")
        actions = [name for name in ("http", "echo", "discard") if getattr(self, name) not in (None, False)]
        if len(actions) != 1:
            found = f", found {' and '.join(actions)}" if actions else ""
            raise mistake(f"a service does one thing; expected one of http, echo and discard{found}")
        if self.udp is not None and "http" in said:
            raise mistake("http is spoken over TCP; expected 'tcp' in place of 'udp'", "udp", at_key=True)
        return self


def _services(said: Any) -> Any:
    return [] if said is None else said if isinstance(said, list) else [said]


def _ready_port(said: Any) -> Any:
    if isinstance(said, dict):
        if list(said) != ["tcp"]:
            raise mistake("expected a TCP port, such as 80 or {tcp: 80}")
        return said["tcp"]
    return said


_PORT_SCHEMA = {"type": "integer", "minimum": 1, "maximum": 65535}
_READY_PORT = {
    "anyOf": [
        _PORT_SCHEMA,
        {"type": "object", "properties": {"tcp": _PORT_SCHEMA}, "required": ["tcp"], "additionalProperties": False},
    ]
}


class ReadyFile(Said):
    """When a node is ready, beyond that its namespace is there or its command has attached; all of it must hold."""

    command: CommandLine | None = key(
        "a command that ends with code 0; it runs as the node's own do, in its namespace where it has one, again and "
        "again",
        "test -e started",
        default=None,
    )
    port: Annotated[Port, BeforeValidator(_ready_port), WithJsonSchema(_READY_PORT)] | None = key(
        "a TCP port of the node that accepts a connection: `80` or `{tcp: 80}`",
        80,
        {"tcp": 80},
        default=None,
    )
    output: Pattern | None = key(
        "a Python regular expression that is found in a line that the node's `exec` prints",
        "listening on port \\d+",
        default=None,
    )
    timeout: PositiveDuration = key(
        "time after which a node that is not ready ends the run", "10s", left_out="10s", default=10.0
    )

    @model_validator(mode="after")
    def _says_something(self) -> ReadyFile:
        if self.command is None and self.port is None and self.output is None:
            raise mistake("nothing to wait for; expected at least one of command, port and output")
        return self


_SERVICES = Annotated[list[ServiceFile], BeforeValidator(_services)]


class NodeDefaults(Said):
    """Keys that all nodes share."""

    kind: Annotated[str, PlainValidator(_kind), WithJsonSchema({"enum": [*KINDS]})] = key(
        "`host` (a built-in TCP/IP stack), `process` (a program of yours), `netns` (Linux's stack in a namespace), "
        "`tap` (an interface of this machine) or `router`",
        "netns",
        left_out="host",
        default="host",
    )
    networks: Annotated[dict[str, Texts], BeforeValidator(_joined), WithJsonSchema(_JOINED)] | None = key(
        'the network to join: `[desk]`, or `{desk: 10.1.0.20}`, or `{desk: [10.1.0.20, "fd00:1::20"]}`; routers, and '
        "netns and process nodes, join several",
        ["desk"],
        {"desk": "10.1.0.20"},
        ["desk", "lab"],
        left_out="=the only network; of a router with links: none",
        default=None,
    )
    exec: Commands | None = key(
        "what a process, netns or tap node runs: a line for the shell, or a list of words; netns and tap nodes "
        "also take a list of commands",
        "python3 server.py",
        ["python3", "server.py"],
        [{"command": "python3 -m http.server 80", "name": "web"}, {"command": "tcpdump -l"}],
        left_out="=nothing",
        default=None,
    )
    env: dict[str, str] = key("environment variables of its commands", {"PORT": "80"}, default_factory=dict)
    ready: ReadyFile | None = key(
        "what must hold before the first step",
        {"port": 80},
        left_out="=the command of a process node has attached",
        default=None,
    )
    interface: InterfaceName | None = key(
        "of a netns or tap node: what its interface is called, up to 15 letters",
        "eth0",
        left_out="=`eth0` in a namespace; a tap's is made of the names of lab and node",
        default=None,
    )
    gateway: Gateway | None = key(
        "where the default route of a host, process or netns node leads: a node or an address of its network, or one "
        "of each family, or `none`; of a tap node: `true`, which lets its network out through this machine (NAT)",
        "uplink",
        "10.0.0.254",
        "none",
        True,
        left_out="=the first router of its network",
        default=None,
    )
    filter: NodeFilter | None = key(
        "rules of what its NIC is given, or `{in: rules, out: rules}`; of a node on several networks also by network; "
        "see [Filters](filters.md)",
        {"in": ["allow tcp port 80", "deny any"]},
        left_out="=everything may",
        default=None,
    )
    bridge: BridgeFile | None = key(
        "of a tap node: the Linux bridge that it is in, a name or `{name, ports}`",
        "br0",
        {"name": "br0", "ports": ["eth1"]},
        left_out="=none",
        default=None,
    )
    serve: _SERVICES = key(
        "what a host offers: a service, or a list of them",
        {"tcp": 80, "http": "hello"},
        [{"udp": 7, "echo": True}, {"tcp": 9, "discard": True}],
        left_out="=nothing",
        default_factory=list,
    )
    buffer: (
        Annotated[
            float,
            quantity(Dimension.SIZE),
            Field(ge=4096, le=2**30),
            WithJsonSchema(quantity_schema(Dimension.SIZE)),
        ]
        | None
    ) = key(
        "size of the input buffer, 4 KiB to 1 GiB",
        "256KiB",
        left_out="=4 MiB, which becomes memory as it fills",
        default=None,
    )


def _static_routes(said: Any) -> Any:
    """``{prefix: via}`` as ``{prefix: [via]}``."""
    if not isinstance(said, dict):
        raise mistake(f"expected a mapping such as {{10.9.0.0/16: 10.1.0.254}}, found {shown(said)}")
    what = "a neighbour, unreachable, prohibit or blackhole"
    found = {}
    for prefix, via in said.items():
        try:
            found[prefix] = not_empty("next hop", one_or_many(what, via))
        except PydanticCustomError as error:
            inner = error.context or {}
            raise mistake(str(inner["message"]), prefix, *inner["path"]) from None
    return found


_STATIC_ROUTES = {"type": "object", "additionalProperties": {"anyOf": TEXT_OR_LIST["anyOf"]}}


class NodeFile(NodeDefaults):
    """A node: one guest and its NIC; empty for a host with the next free addresses."""

    short_forms = ({"type": "null"},)

    loopback: Texts | None = key(
        "of a router: an address of its own that is on no network or link, or one of each family",
        "10.255.0.1",
        ["10.255.0.1", "fd00:255::1"],
        left_out="=none",
        default=None,
    )
    routes: Annotated[dict[str, list[str]], BeforeValidator(_static_routes), WithJsonSchema(_STATIC_ROUTES)] = key(
        "of a router: static routes, prefix → a neighbour (a node or an address; a list shares the load), "
        "`unreachable`, `prohibit` or `blackhole`",
        {"0.0.0.0/0": "10.1.0.254", "10.9.0.0/16": "blackhole"},
        left_out="=what the shortest paths say",
        default_factory=dict,
    )
    forward: bool = key(
        "`true`: a netns or process node that forwards between its networks, as routers do",
        True,
        left_out=False,
        default=False,
    )
    count: Annotated[int, Field(ge=1, le=65000)] | None = key(
        "makes `NAME-1` to `NAME-count` out of one entry", 10, left_out="=one node, `NAME`", default=None
    )

    @model_validator(mode="before")
    @classmethod
    def _may_be_empty(cls, said: Any) -> Any:
        return {} if said is None else said
