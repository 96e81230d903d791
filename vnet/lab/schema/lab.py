"""The whole of a lab file, and steps: what a step does, what it is held to, and the steps inside it."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Tag, ValidationError, WithJsonSchema, model_validator

from vnet.errors import LabError
from vnet.lab.mistakes import first_mistake, mistake
from vnet.lab.schema.expectations import (
    AnyExpect,
    CallExpect,
    ExecExpect,
    HttpExpect,
    InjectExpect,
    PingAllExpect,
    PingExpect,
    RepeatExpect,
    ReplayExpect,
    TcpExpect,
    TracerouteExpect,
    TrafficExpect,
    WaitUntilExpect,
)
from vnet.lab.schema.nodes import NetworkFile, NodeDefaults, NodeFile
from vnet.lab.schema.routed import GraphFile, LinkDefaults, LinkFile, LinkStepBody, Routes, TopologyFile
from vnet.lab.schema.shared import GuestServices, Regions
from vnet.lab.schema.steps import (
    CallFile,
    ExecFile,
    HttpFile,
    InjectFile,
    PingAllFile,
    PingFile,
    ReplayFile,
    TcpFile,
    TracerouteFile,
    TrafficFile,
)
from vnet.lab.schema.words import (
    Count,
    Duration,
    PositiveDuration,
    Said,
    key,
    not_empty,
)
from vnet.lab.tree import Tree, did_you_mean
from vnet.lab.units import shown

__all__ = ["CONDITIONS", "STEP_KINDS", "STEP_MODELS", "LabFile", "RepeatFile", "StepFile", "WaitUntilFile", "read_lab"]


class StepFile(Said):
    """What every step has."""

    name: str | None = key("what the report calls it", "alice pings bob", left_out="=what it does", default=None)
    timeout: PositiveDuration | None = key(
        "time after which it is ended and has failed",
        "30s",
        left_out="=10 minutes more than it was told to take",
        default=None,
    )


class PingStepFile(StepFile):
    """A host or a namespace pings a node or an address."""

    ping: PingFile = key("who pings whom", {"from": "alice", "to": "bob"})
    expect: PingExpect | None = key("what it is held to", {"loss": "0%"}, left_out="=`{loss: 0%}`", default=None)


class TracerouteStepFile(StepFile):
    """The routers on the way from a host or a namespace to a node or an address."""

    traceroute: TracerouteFile = key("from whom to whom", {"from": "alice", "to": "bob"})
    expect: TracerouteExpect | None = key(
        "what it is held to", {"path": ["edge", "core", "bob"]}, left_out="=`{reached: true}`", default=None
    )


class PingAllStepFile(StepFile):
    """Every host and namespace pings every other of its network, and of those that routers join it to."""

    ping_all: PingAllFile = key("how; may be empty", {"sample": 20})
    expect: PingAllExpect | None = key("what it is held to", {"loss": "0%"}, left_out="=`{loss: 0%}`", default=None)

    @model_validator(mode="before")
    @classmethod
    def _may_be_empty(cls, said: Any) -> Any:
        return {**said, "ping_all": {}} if said.get("ping_all") is None else said


class TcpStepFile(StepFile):
    """A host opens a TCP connection and closes it again."""

    tcp: TcpFile = key("who connects to whom", {"from": "alice", "to": "web", "port": 80})
    expect: TcpExpect | None = key(
        "what it is held to", {"state": "refused"}, left_out="=`{state: open}`", default=None
    )


class HttpStepFile(StepFile):
    """A host asks for a page over HTTP."""

    http: HttpFile = key("who asks whom", {"from": "alice", "to": "web"})
    expect: HttpExpect | None = key(
        "what it is held to", {"status": 200, "body": "hello"}, left_out="=`{status: 200}`", default=None
    )


class InjectStepFile(StepFile):
    """Packets of your own, sent as a node's NIC."""

    inject: InjectFile = key("what is sent, and as whom", {"from": "alice", "packet": 'IP(dst="bob")/ICMP()'})
    expect: InjectExpect | None = key("what it is held to", {"delivered": 1}, left_out="=nothing", default=None)


class ReplayStepFile(StepFile):
    """The IP datagrams of a capture, sent between nodes of the lab."""

    replay: ReplayFile = key("which capture, and how", {"file": "captures/dns.pcapng", "from": "alice"})
    expect: ReplayExpect | None = key("what it is held to", {"delivered": 6}, left_out="=nothing", default=None)


class TrafficStepFile(StepFile):
    """Streams of datagrams or of bytes between nodes, and what arrives of them."""

    traffic: TrafficFile = key("who sends what to whom", {"from": "alice", "to": "bob", "rate": "10 Mbit/s"})
    expect: TrafficExpect | None = key(
        "what it is held to",
        {"throughput": "> 9 Mbit/s", "loss": "0%", "p99": "< 10ms"},
        left_out="=`{failed: 0}`",
        default=None,
    )


class ExecStepFile(StepFile):
    """A command, beside the LAN, in a namespace, or as the owner of a process node's NIC."""

    exec: ExecFile = key("which command, and where", {"command": "echo done"})
    expect: ExecExpect | None = key("what it is held to", {"stdout": "done"}, left_out="=`{code: 0}`", default=None)


class CallStepFile(StepFile):
    """A call of what a node serves."""

    call: CallFile = key("what is called", {"service": "disk", "method": "checksum", "args": [7]})
    expect: CallExpect | None = key("what it is held to", {"result": 7}, left_out="=that it succeeds", default=None)


class WaitStepFile(StepFile):
    """Nothing happens for a while."""

    wait: Duration = key("how long", "500ms")


class LogStepFile(StepFile):
    """A line for the report, and for whoever watches."""

    log: str = key(
        "the line; `{alice}` becomes the node's first address, `{alice.rx_datagrams}` what its NIC has counted",
        "bob has {bob.rx_datagrams} datagrams",
    )


# --- steps that hold steps --------------------------------------------------------------------------------------------


def _nested(said: Any) -> Any:
    return not_empty("step", said) if isinstance(said, list) else [said]


def _one_kind(said: Any) -> Any:
    expected = f"expected one of {', '.join(STEP_KINDS)}"
    if not isinstance(said, dict):
        raise mistake(f"expected a step, a mapping with its kind as key ({expected}); found {shown(said)}")
    kinds = [name for name in said if name in STEP_KINDS]
    if len(kinds) > 1:
        raise mistake(
            f"a step does one thing, but this one has both {kinds[0]!r} and {kinds[1]!r}", kinds[1], at_key=True
        )
    if not kinds:
        stranger = next((name for name in said if name not in ("name", "expect", "timeout")), None)
        if stranger is None:
            raise mistake(f"a step without a kind; {expected}")
        raise mistake(
            f"unknown kind of step {shown(stranger)}{did_you_mean(stranger, STEP_KINDS)}; {expected}",
            stranger,
            at_key=True,
        )
    if kinds[0] in ("wait", "log", "link") and "expect" in said:
        raise mistake(f"a {kinds[0]} step has nothing to expect", "expect", at_key=True)
    return said


def _tag(said: Any) -> str:
    return next(f"a {kind} step" for kind in STEP_KINDS if kind in said)


def _steps(said: Any) -> Any:
    if not isinstance(said, list):
        raise mistake(f"expected a list of steps, found {shown(said)}")
    return not_empty("step", said)


AnyStep = Annotated["AnyStepFile", BeforeValidator(_one_kind)]
Steps = Annotated["list[AnyStep]", BeforeValidator(_steps)]
Branch = Annotated["list[AnyStep]", BeforeValidator(_nested)]

CONDITIONS = ("ping", "ping_all", "traceroute", "tcp", "http", "inject", "exec", "call")
"""The kinds of steps that one can wait for."""


class WaitUntilFile(Said):
    """A condition that is looked at until it holds: a step with its expectations."""

    condition: AnyStep
    interval: Duration = key("time between two looks", "50ms", left_out="100ms", default=0.1)
    timeout: PositiveDuration = key(
        "time after which the step has failed; it says what was found last", "10s", left_out="30s", default=30.0
    )

    @model_validator(mode="before")
    @classmethod
    def _condition_and_patience(cls, said: Any) -> Any:
        expected = f"expected one of {', '.join(CONDITIONS)}, with what it is held to as 'expect'"
        if not isinstance(said, dict):
            raise mistake(f"expected a mapping with a condition ({expected}); found {shown(said)}")
        own = {name: value for name, value in said.items() if name in ("interval", "timeout")}
        condition = {name: value for name, value in said.items() if name not in own}
        known = (*CONDITIONS, "expect", "interval", "timeout")
        for name in condition:
            if name in STEP_KINDS and name not in CONDITIONS:
                raise mistake(f"a {name} step is nothing that one can wait for; {expected}", name, at_key=True)
            if name not in known:
                raise mistake(f"unknown key {shown(name)}{did_you_mean(name, known)}; {expected}", name, at_key=True)
        if not any(name in CONDITIONS for name in condition):
            raise mistake(f"nothing to wait for; {expected}")
        return {"condition": condition, **own}


class WaitUntilStepFile(StepFile):
    """A condition that is looked at until it holds."""

    wait_until: WaitUntilFile = key("what to wait for", {"tcp": {"from": "alice", "to": "web", "port": 80}})
    expect: WaitUntilExpect | None = key(
        "what the waiting is held to", {"time": "< 5s"}, left_out="=nothing", default=None
    )


def _is_mapping(said: Any) -> str:
    return "named branches" if isinstance(said, dict) else "branches"


def _branches(said: Any) -> Any:
    if not isinstance(said, (list, dict)):
        raise mistake(f"expected a list of steps, or a mapping of names to steps; found {shown(said)}")
    return not_empty("branch", said)


Branches = Annotated[
    Annotated[list[Branch], Tag("branches")] | Annotated[dict[str, Branch], Tag("named branches")],
    Discriminator(_is_mapping),
    BeforeValidator(_branches),
]


class ParallelStepFile(StepFile):
    """Steps that are taken at once, each in a branch of its own."""

    parallel: Branches = key(
        "a list of branches, or a mapping of names to branches; a branch is a step, or a list of steps",
        [{"wait": "1s"}, {"ping": {"from": "alice", "to": "bob"}}],
    )
    expect: AnyExpect | None = key("what all of it is held to", {"time": "< 5s"}, left_out="=nothing", default=None)


def _until(said: Any) -> str:
    if said in ("failure", "success"):
        return str(said)
    close = did_you_mean(said, ("failure", "success")) if isinstance(said, str) else ""
    raise ValueError(f"expected failure or success, found {shown(said)}{close}")


Until = Annotated[str, BeforeValidator(_until), WithJsonSchema({"enum": ["failure", "success"]})]


class RepeatFile(Said):
    """Steps that are taken round after round; ``{round}`` in them becomes the number of the round, from 1."""

    steps: Steps = key("the steps of a round", [{"ping": {"from": "alice", "to": "bob"}}])
    count: Count | None = key("rounds at most", 10, default=None)
    for_: PositiveDuration | None = key("no round begins after this time", "30s", alias="for", default=None)
    until: Until = key(
        "`failure`: rounds go on until one fails, which fails the step; `success`: until one passes, which passes it",
        "success",
        left_out="failure",
        default="failure",
    )

    @model_validator(mode="after")
    def _ends(self) -> RepeatFile:
        if self.count is None and self.for_ is None and "until" not in self.model_fields_set:
            raise mistake("it is not said when to stop; expected at least one of count, for and until")
        return self


class RepeatStepFile(StepFile):
    """Steps that are taken round after round."""

    repeat: RepeatFile = key("how often, and what", {"count": 3, "steps": [{"wait": "1s"}]})
    expect: RepeatExpect | None = key(
        "what the rounds are held to", {"failed": "< 2"}, left_out="=nothing", default=None
    )


class LinkStepFile(StepFile):
    """A link is cut, mended, or gets another weight."""

    link: LinkStepBody = key("which link, and what becomes of it", {"cut": ["r1", "r2"]})


STEP_MODELS: dict[str, type[StepFile]] = {
    "ping": PingStepFile,
    "ping_all": PingAllStepFile,
    "traceroute": TracerouteStepFile,
    "tcp": TcpStepFile,
    "http": HttpStepFile,
    "inject": InjectStepFile,
    "replay": ReplayStepFile,
    "traffic": TrafficStepFile,
    "exec": ExecStepFile,
    "call": CallStepFile,
    "wait": WaitStepFile,
    "wait_until": WaitUntilStepFile,
    "parallel": ParallelStepFile,
    "repeat": RepeatStepFile,
    "log": LogStepFile,
    "link": LinkStepFile,
}
STEP_KINDS = tuple(STEP_MODELS)

AnyStepFile = Annotated[
    Annotated[PingStepFile, Tag("a ping step")]
    | Annotated[PingAllStepFile, Tag("a ping_all step")]
    | Annotated[TracerouteStepFile, Tag("a traceroute step")]
    | Annotated[TcpStepFile, Tag("a tcp step")]
    | Annotated[HttpStepFile, Tag("a http step")]
    | Annotated[InjectStepFile, Tag("a inject step")]
    | Annotated[ReplayStepFile, Tag("a replay step")]
    | Annotated[TrafficStepFile, Tag("a traffic step")]
    | Annotated[ExecStepFile, Tag("a exec step")]
    | Annotated[CallStepFile, Tag("a call step")]
    | Annotated[WaitStepFile, Tag("a wait step")]
    | Annotated[WaitUntilStepFile, Tag("a wait_until step")]
    | Annotated[ParallelStepFile, Tag("a parallel step")]
    | Annotated[RepeatStepFile, Tag("a repeat step")]
    | Annotated[LogStepFile, Tag("a log step")]
    | Annotated[LinkStepFile, Tag("a link step")],
    Discriminator(_tag),
]


class DefaultsFile(Said):
    """Keys that are the same for many."""

    nodes: NodeDefaults = key("keys that all nodes share", {"kind": "process"}, default=NodeDefaults())
    links: LinkDefaults = key("keys that all links share", {"weight": 10}, default=LinkDefaults())


def _links(said: Any) -> Any:
    if not isinstance(said, list):
        raise mistake(f"expected a list of links such as [{{endpoints: [r1, r2]}}], found {shown(said)}")
    return said


class LabFile(Said):
    """A lab: networks, nodes, and steps to take on them."""

    name: str | None = key(
        "the LAN's name; guests in other processes attach by it", "office", left_out="=the file's name", default=None
    )
    seed: int = key("a whole number from which every random choice follows", 7, left_out=0, default=0, ge=0, lt=2**64)
    networks: Annotated[
        dict[str, NetworkFile], BeforeValidator(partial(not_empty, "network, such as lan: 10.0.0.0/24"))
    ] = key(
        "name → prefix, list of prefixes, or `{prefix, mtu}`",
        {"lan": "10.0.0.0/24"},
        left_out="=those of `graph` or `topology`, one of which is there then",
        default_factory=dict,
    )
    defaults: DefaultsFile = key(
        "`{nodes: {...}, links: {...}}`: keys that all nodes, or all links, share",
        {"nodes": {"kind": "process"}},
        default=DefaultsFile(),
    )
    nodes: Annotated[dict[str, NodeFile], BeforeValidator(partial(not_empty, "node, such as alice: {kind: host}"))] = (
        key(
            "name → node",
            {"alice": None, "bob": {"networks": {"lan": "10.0.0.9"}}},
            left_out="=those of `graph` or `topology`, one of which is there then",
            default_factory=dict,
        )
    )
    links: Annotated[list[LinkFile], BeforeValidator(_links)] = key(
        "list of links between routers",
        [{"endpoints": ["r1", "r2"], "weight": 10}],
        left_out="=none",
        default_factory=list,
    )
    graph: GraphFile | None = key(
        "a graph file (GML or GraphML) that routers and links are made of, or a mapping with `file`",
        "backbone.gml",
        {"file": "backbone.gml", "hosts": 2},
        left_out="=none",
        default=None,
    )
    topology: TopologyFile | None = key(
        "routers and links of a shape, such as `{fat_tree: 4}`",
        {"fat_tree": 4},
        {"ring": 6, "hosts": 2},
        left_out="=none",
        default=None,
    )
    routes: Routes = key(
        "what lies outside of the lab, and behind whom: prefix → a node or an address; or a list with `{file, via}`",
        {"203.0.113.0/24": "isp"},
        [{"file": "table.txt.gz", "via": "isp"}],
        left_out="=nothing",
        default_factory=list,
    )
    regions: Regions = key(
        "name → size, or `{size, nodes, readonly, huge}`: memory that nodes share",
        {"cache": {"size": "64MiB", "nodes": ["alice", "bob"], "readonly": ["bob"]}},
        left_out="=none",
        default_factory=dict,
    )
    services: GuestServices = key(
        "name → node, or `{node, clients, ready}`: what one node has for others' pipes and calls",
        {"disk": {"node": "host", "clients": ["alice", "bob"]}},
        left_out="=none",
        default_factory=dict,
    )
    steps: Annotated[list[AnyStep], BeforeValidator(lambda said: [] if said is None else said)] = key(
        "list of steps",
        [{"ping": {"from": "alice", "to": "bob"}}],
        left_out="=`vnet run` has nothing to run",
        default_factory=list,
    )

    @model_validator(mode="after")
    def _has_networks_and_nodes(self) -> LabFile:
        if self.graph is not None and self.topology is not None:
            raise mistake("a lab has either a 'graph' or a 'topology', not both", "topology", at_key=True)
        if self.graph is None and self.topology is None:
            for word in ("networks", "nodes"):
                if not getattr(self, word):
                    raise mistake(f"{word!r} is missing")
        return self


for _model in (WaitUntilFile, WaitUntilStepFile, ParallelStepFile, RepeatFile, RepeatStepFile, LabFile):
    _model.model_rebuild()


def read_lab(tree: Tree) -> LabFile:
    """Read the models out of a YAML document.

    Raises:
        LabError: the first mistake, in file order, of all that pydantic found.
    """
    try:
        return LabFile.model_validate(tree.data)
    except ValidationError as found:
        raise first_mistake(tree, found) from None
    except RecursionError:
        raise LabError("steps are nested too deeply", file=tree.file) from None
