"""What a step does, as a lab file says it; one model for each kind of step that holds no other steps."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema, model_validator

from vnet.lab.mistakes import mistake
from vnet.lab.schema.words import (
    NUMBER,
    TEXT_OR_LIST,
    CommandLine,
    Count,
    Duration,
    Family,
    Port,
    PositiveDuration,
    Said,
    key,
    one_or_many,
    quantity,
    quantity_schema,
)
from vnet.lab.tree import did_you_mean
from vnet.lab.units import RATES, Dimension, parse, shown

__all__ = [
    "CallFile",
    "DatagramRate",
    "ExecFile",
    "HttpFile",
    "InjectFile",
    "PingAllFile",
    "PingFile",
    "ReplayFile",
    "TcpFile",
    "TracerouteFile",
    "TrafficFile",
]

PingCount = Annotated[int, Field(ge=1, le=65535)]
FROM_HOST = "a host (others run programs of their own: see exec)"
FROM_PINGER = "a host, or a netns node (iputils' `ping` runs in it)"
ANY_FAMILY = "=4 if both have it"


class PingFile(Said):
    """A host or a namespace pings a node or an address."""

    from_: str = key(FROM_PINGER, "alice", alias="from")
    to: str = key("a node or an IP address", "bob", "10.0.0.9")
    count: PingCount = key("echo requests, up to 65,535", 5, left_out=1, default=1)
    interval: Duration = key(
        "time between two requests; 0 sends the next when the last is settled", "10ms", left_out=0, default=0.0
    )
    timeout: PositiveDuration = key("time after which a request is lost", "1s", left_out="1s", default=1.0)
    size: int = key("bytes of payload", 56, left_out=56, default=56, ge=0, le=65507)
    ttl: Annotated[int, Field(ge=1, le=255)] = key("TTL, or hop limit, of the requests", 3, left_out=64, default=64)
    family: Family | None = key("4 or 6", 6, left_out=ANY_FAMILY, default=None)


class TracerouteFile(Said):
    """The routers on the way from a host or a namespace to a node or an address."""

    from_: str = key(FROM_PINGER, "alice", alias="from")
    to: str = key("a node or an IP address", "bob", "10.0.0.9")
    hops: Annotated[int, Field(ge=1, le=255)] = key("how far at most", 8, left_out=30, default=30)
    tries: Annotated[int, Field(ge=1, le=100)] = key(
        "requests at each distance, until one is answered", 3, left_out=1, default=1
    )
    timeout: PositiveDuration = key("time after which a request is lost", "1s", left_out="1s", default=1.0)
    family: Family | None = key("4 or 6", 6, left_out=ANY_FAMILY, default=None)


class PingAllFile(Said):
    """Every host and namespace pings every other of its network, and of those that routers join it to."""

    count: PingCount = key("echo requests of each pair", 2, left_out=1, default=1)
    timeout: PositiveDuration = key("time after which a request is lost", "1s", left_out="1s", default=1.0)
    sample: Count | None = key("so many ordered pairs, chosen by the seed", 100, left_out="=all pairs", default=None)
    family: Family | None = key("4 or 6", 6, left_out="=4 if they have it", default=None)


class TcpFile(Said):
    """A host opens a TCP connection and closes it again."""

    from_: str = key(FROM_HOST, "alice", alias="from")
    to: str = key("a node or an IP address", "web")
    port: Port = key("the TCP port", 80)
    timeout: PositiveDuration = key("time after which it is given up", "1s", left_out="1s", default=1.0)
    family: Family | None = key("4 or 6", 6, left_out=ANY_FAMILY, default=None)


def _path(said: Any) -> str:
    if not isinstance(said, str) or not re.fullmatch(r"/[!-~]*", said):
        raise ValueError(
            f"expected a path that begins with / and has no spaces, such as /index.html; found {shown(said)}"
        )
    return said


class HttpFile(TcpFile):
    """A host asks for a page over HTTP."""

    port: Port = key("the TCP port", 8080, left_out=80, default=80)
    path: Annotated[str, PlainValidator(_path), WithJsonSchema({"type": "string", "pattern": "^/[!-~]*$"})] = key(
        "what to ask for", "/index.html", left_out="/", default="/"
    )
    method: Annotated[str, Field(pattern=r"^[A-Z]+$")] = key(
        "the request's method", "HEAD", left_out="GET", default="GET"
    )
    timeout: PositiveDuration = key("time after which the answer must be there", "2s", left_out="5s", default=5.0)


class InjectFile(Said):
    """Packets of your own, sent as a node's NIC, whoever holds it."""

    from_: str = key("any node", "alice", alias="from")
    packet: str = key(
        "a scapy expression: a packet, bytes, or a list or generator of them",
        'IP(dst="bob")/UDP(dport=9)/Raw(b"x")',
    )
    count: Count = key("how often all of it is sent", 100, left_out=1, default=1)
    interval: Duration = key("time between two datagrams", "1ms", left_out="=as fast as possible", default=0.0)
    block: bool = key("`true`: wait while a receiver's buffer is full", True, left_out=False, default=False)


def _speed(said: Any) -> float:
    if said == "max":
        return float("inf")
    if isinstance(said, bool) or not isinstance(said, (int, float)) or not 0 < said < float("inf"):
        raise ValueError(f"expected max, or a number such as 1 (as recorded) or 2 (twice as fast); found {shown(said)}")
    return float(said)


class ReplayFile(Said):
    """The IP datagrams of a capture, sent between nodes of the lab."""

    file: str = key("a pcap or pcapng file, also gzipped, relative to the lab file", "captures/dns.pcapng")
    map: dict[str, str] = key(
        "recorded address → a node, or an address",
        {"192.168.1.7": "laptop"},
        left_out="=nothing changes",
        default_factory=dict,
    )
    from_: str | None = key(
        "the node to send everything as",
        "laptop",
        alias="from",
        left_out="=the owner of each source address",
        default=None,
    )
    speed: Annotated[
        float,
        PlainValidator(_speed),
        WithJsonSchema({"anyOf": [{"const": "max"}, {"type": "number", "exclusiveMinimum": 0}]}),
    ] = key("`max`, or a factor: 1 is as recorded, 2 twice as fast", "max", 2, left_out=1, default=1.0)
    count: Count = key("how often all of it is sent", 3, left_out=1, default=1)
    block: bool = key("`true`: wait while a receiver's buffer is full", True, left_out=False, default=False)


class ExecFile(Said):
    """A command, beside the LAN, in a namespace, or as the owner of a process node's NIC."""

    command: CommandLine = key("a line for the shell, or a list of words", "echo done", ["echo", "done"])
    on: str | None = key(
        "a process, netns or tap node, whose `VNET_NIC` and `env` the command gets; of a netns node also the namespace",
        "client",
        left_out="=only `VNET_LAN` is set",
        default=None,
    )
    timeout: PositiveDuration = key(
        "time after which it is ended and the step has failed", "10s", left_out="60s", default=60.0
    )


# --- traffic ----------------------------------------------------------------------------------------------------------

_PER_SECOND = re.compile(rf"(?P<number>{NUMBER})/s")


def _protocol(said: Any) -> str:
    if said in ("udp", "tcp"):
        return str(said)
    close = did_you_mean(said, ("udp", "tcp")) if isinstance(said, str) else ""
    raise ValueError(f"expected udp or tcp, found {shown(said)}{close}")


class DatagramRate(float):
    """Datagrams a second, beside a rate in bits a second, which is a plain float."""


def _rate(said: Any) -> float:
    match = _PER_SECOND.fullmatch(said) if isinstance(said, str) else None
    if match is not None:
        rate: float = DatagramRate(parse(match["number"].strip(), Dimension.COUNT))
    else:
        try:
            rate = parse(said, Dimension.RATE)
        except ValueError as error:
            raise ValueError(f"{error}, or 1000/s for datagrams a second") from None
    if rate <= 0:
        raise ValueError(f"expected a rate above 0, found {shown(said)}")
    return rate


_RATE_SCHEMA = {
    "type": "string",
    "pattern": rf"^{NUMBER}(({'|'.join(RATES)})|/s)\s*$",
}


def _sizes(said: Any) -> Any:
    return said if isinstance(said, list) or said == "imix" else [said]


_SIZE = {
    "anyOf": [{"type": "integer"}, {"const": "imix"}, {"type": "array", "minItems": 1, "items": {"type": "integer"}}]
}
Nodes = Annotated[list[str], BeforeValidator(partial(one_or_many, "the name of a node")), WithJsonSchema(TEXT_OR_LIST)]


Bytes = Annotated[float, quantity(Dimension.SIZE), Field(ge=1), WithJsonSchema(quantity_schema(Dimension.SIZE))]


class TrafficFile(Said):
    """Streams of datagrams or of bytes between nodes, and what arrives of them."""

    from_: Nodes = key(
        "a host or a process node without `exec`, or a list of them", "alice", ["alice", "bob"], alias="from"
    )
    to: Nodes = key(
        "the same; of two lists of one length the first sends to the first, and so on; otherwise each sends to each",
        "server",
        ["carol", "dave"],
    )
    protocol: Annotated[str, BeforeValidator(_protocol), WithJsonSchema({"enum": ["udp", "tcp"]})] = key(
        "`udp`, at a rate, or `tcp`, as fast as it goes", "tcp", left_out="udp", default="udp"
    )
    rate: Annotated[float, PlainValidator(_rate), WithJsonSchema(_RATE_SCHEMA)] | None = key(
        "of each flow (UDP): bits of IP a second, or datagrams a second such as `1000/s`",
        "10 Mbit/s",
        "1000/s",
        left_out="1 Mbit/s",
        default=None,
    )
    size: Annotated[list[int] | str, BeforeValidator(_sizes), WithJsonSchema(_SIZE)] | None = key(
        "bytes of IP of a datagram (UDP), or a list of sizes that take turns, or `imix`: of twelve, 7 of 64, 4 of 576 "
        "and 1 of 1,500",
        1400,
        [64, 1500],
        "imix",
        left_out=1400,
        default=None,
    )
    duration: PositiveDuration | None = key("how long to send", "2s", left_out="1s", default=None)
    count: Annotated[int, Field(ge=1, le=2**31)] | None = key(
        "in place of `duration`: datagrams of each flow (UDP)", 1000, default=None
    )
    bytes: (
        Annotated[float, quantity(Dimension.SIZE), Field(ge=1), WithJsonSchema(quantity_schema(Dimension.SIZE))] | None
    ) = key("in place of `duration`: bytes of each flow (TCP)", "10MB", default=None)
    flows: Annotated[int, Field(ge=1, le=1000)] = key("flows between each pair", 4, left_out=1, default=1)
    port: Port = key("the port at the receiver", 5201, left_out=5201, default=5201)
    family: Family | None = key("4 or 6", 6, left_out=ANY_FAMILY, default=None)

    @model_validator(mode="after")
    def _fits_its_protocol(self) -> TrafficFile:
        strangers = ("bytes",) if self.protocol == "udp" else ("rate", "size", "count")
        for name in strangers:
            if name in self.model_fields_set:
                other = "tcp" if self.protocol == "udp" else "udp"
                raise mistake(f"{name!r} is for {other} traffic, but this is {self.protocol}", name, at_key=True)
        for name in ("count", "bytes"):
            if name in self.model_fields_set and self.duration is not None:
                raise mistake(f"either 'duration' or {name!r} says how much is sent, not both", name, at_key=True)
        return self


def _arguments(said: Any) -> Any:
    if not isinstance(said, (list, dict)):
        raise ValueError(f"expected a list of arguments, or a mapping of their names; found {shown(said)}")
    return said


_ARGUMENTS = {"anyOf": [{"type": "array"}, {"type": "object"}]}


class CallFile(Said):
    """A call of what a node serves, checked against the interface that the service declares."""

    service: str = key("the service", "disk")
    method: str = key("a method that its interface declares", "checksum")
    args: Annotated[list[Any] | dict[str, Any], PlainValidator(_arguments), WithJsonSchema(_ARGUMENTS)] = key(
        "arguments: a list, or a mapping of their names; bytes as base64",
        [7, "hello"],
        {"block": 7},
        left_out="=none",
        default_factory=list,
    )
    node: str | None = key(
        "the node that serves", "host", left_out="=the one that `services` names for it", default=None
    )
    from_: str | None = key(
        "a process or netns node in whose name it is made, which must be one of the service's clients",
        "alice",
        left_out="=as `vnet call`, which may always",
        alias="from",
        default=None,
    )
    timeout: PositiveDuration = key("time after which it is given up", "1s", left_out="10s", default=10.0)
