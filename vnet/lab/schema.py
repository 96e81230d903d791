"""What a lab file says: pydantic models of its keys, before anything is known about what they mean.

Every shape that the language allows for one thing (a prefix, a list of prefixes, a mapping) is brought into one form
here; names, addresses and packets are looked at by :mod:`vnet.lab.planner`.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    ValidationError,
    model_validator,
)

from vnet.lab.mistakes import first_mistake, mistake
from vnet.lab.tree import Tree, did_you_mean
from vnet.lab.units import Comparison, Dimension, parse, parse_comparison, shown

__all__ = ["STEP_KINDS", "LabFile", "NodeFile", "read_lab"]

KINDS = ("host", "process")
KINDS_TO_COME = ("netns", "qemu", "router", "tap")
STEP_KINDS = ("ping", "ping_all", "inject", "replay", "exec", "wait")


class Said(BaseModel):
    """A mapping of the lab file: it has the keys of the model and no others, and converts nothing silently."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _has_only_known_keys(cls, said: Any) -> Any:
        known = [field.alias or name for name, field in cls.model_fields.items()]
        if not isinstance(said, dict):
            raise mistake(f"expected a mapping with keys such as {', '.join(known[:4])}; found {shown(said)}")
        for key in said:
            if key not in known:
                raise mistake(
                    f"unknown key {shown(key)}{did_you_mean(key, known)}; expected one of {', '.join(known)}",
                    key,
                    at_key=True,
                )
        return said


def _quantity(dimension: Dimension) -> BeforeValidator:
    return BeforeValidator(partial(parse, dimension=dimension))


def _one_or_many(what: str, said: Any) -> Any:
    items = said if isinstance(said, list) else [said]
    for index, item in enumerate(items):
        if not isinstance(item, str):
            raise mistake(f"expected {what}, found {shown(item)}", *([index] if items is said else []))
    return items


def _comparisons(dimension: Dimension, said: Any) -> tuple[Comparison, ...]:
    items = said if isinstance(said, list) else [said]
    return tuple(parse_comparison(item, dimension) for item in items)


def _comparison(dimension: Dimension) -> PlainValidator:
    return PlainValidator(partial(_comparisons, dimension))


def _command(said: Any) -> str | list[str]:
    words = said if isinstance(said, list) else [said]
    if not words or not all(isinstance(word, str) and word and "\0" not in word for word in words):
        raise ValueError(f"expected a command line as text, or a list of its words; found {shown(said)}")
    return said  # type: ignore[no-any-return]


def _not_yet(what: str, said: Any) -> Any:
    raise ValueError(f"this version of vnet does not support {what} yet")


def _positive_duration(said: Any) -> float:
    seconds = parse(said, Dimension.DURATION)
    if seconds <= 0:
        raise ValueError(f"expected a duration above 0, found {shown(said)}")
    return seconds


Duration = Annotated[float, _quantity(Dimension.DURATION)]
PositiveDuration = Annotated[float, BeforeValidator(_positive_duration)]
Count = Annotated[int, Field(ge=1)]
PingCount = Annotated[int, Field(ge=1, le=65535)]
Family = Annotated[int, PlainValidator(lambda said: _family(said))]
CommandLine = Annotated[str | list[str], PlainValidator(_command)]
Prefixes = Annotated[list[str], BeforeValidator(partial(_one_or_many, "a prefix such as 10.0.0.0/24"))]
Texts = Annotated[list[str], BeforeValidator(partial(_one_or_many, "text"))]
CountExpectation = Annotated[tuple[Comparison, ...], _comparison(Dimension.COUNT)]
DurationExpectation = Annotated[tuple[Comparison, ...], _comparison(Dimension.DURATION)]
FractionExpectation = Annotated[tuple[Comparison, ...], _comparison(Dimension.FRACTION)]
RateExpectation = Annotated[tuple[Comparison, ...], _comparison(Dimension.RATE)]


def _family(said: Any) -> int:
    if isinstance(said, bool) or said not in (4, 6):
        raise ValueError(f"expected 4 or 6, found {shown(said)}")
    return int(said)


# --- networks and nodes -----------------------------------------------------------------------------------------------


class NetworkFile(Said):
    prefix: Prefixes = Field(min_length=1)
    mtu: int = Field(default=65535, ge=68, le=65535)

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, said: Any) -> Any:
        if isinstance(said, (str, list)):
            return {"prefix": said}
        if not isinstance(said, dict):
            raise mistake(f"expected a prefix such as 10.0.0.0/24, or a mapping with 'prefix'; found {shown(said)}")
        return said


def _kind(said: Any) -> str:
    if said in KINDS:
        return str(said)
    if said in KINDS_TO_COME:
        raise ValueError(
            f"this version of vnet does not support nodes of the kind {said!r} yet; it runs host and process"
        )
    close = did_you_mean(said, (*KINDS, *KINDS_TO_COME)) if isinstance(said, str) else ""
    raise ValueError(f"unknown kind {shown(said)}{close}; expected host or process")


def _joined(said: Any) -> Any:
    """``[a]`` and ``a`` as ``{a: []}``; addresses always as lists."""
    if isinstance(said, dict):
        return {
            name: [] if value is None else value if isinstance(value, list) else [value] for name, value in said.items()
        }
    names = _one_or_many("the name of a network", said)
    return {name: [] for name in names}


class NodeDefaults(Said):
    kind: Annotated[str, PlainValidator(_kind)] = "host"
    networks: Annotated[dict[str, Texts], BeforeValidator(_joined)] | None = None
    exec: CommandLine | None = None
    env: dict[str, str] = Field(default_factory=dict)
    buffer: Annotated[float, _quantity(Dimension.SIZE), Field(ge=4096, le=2**30)] | None = None


class NodeFile(NodeDefaults):
    count: Annotated[int, Field(ge=1, le=65000)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _may_be_empty(cls, said: Any) -> Any:
        return {} if said is None else said


class DefaultsFile(Said):
    nodes: NodeDefaults = NodeDefaults()
    links: Annotated[Any, BeforeValidator(partial(_not_yet, "links"))] = None


# --- steps ------------------------------------------------------------------------------------------------------------


class PingFile(Said):
    from_: str = Field(alias="from")
    to: str
    count: PingCount = 1
    interval: Duration = 0.0
    timeout: PositiveDuration = 1.0
    size: int = Field(default=56, ge=0, le=65487)
    family: Family | None = None


class PingAllFile(Said):
    count: PingCount = 1
    timeout: PositiveDuration = 1.0
    sample: Count | None = None
    family: Family | None = None


class InjectFile(Said):
    from_: str = Field(alias="from")
    packet: str
    count: Count = 1
    interval: Duration = 0.0
    block: bool = False


def _speed(said: Any) -> float:
    if said == "max":
        return float("inf")
    if isinstance(said, bool) or not isinstance(said, (int, float)) or not 0 < said < float("inf"):
        raise ValueError(f"expected max, or a number such as 1 (as recorded) or 2 (twice as fast); found {shown(said)}")
    return float(said)


class ReplayFile(Said):
    file: str
    map: dict[str, str] = Field(default_factory=dict)
    from_: str | None = Field(default=None, alias="from")
    speed: Annotated[float, PlainValidator(_speed)] = 1.0
    count: Count = 1
    block: bool = False


class ExecFile(Said):
    on: str | None = None
    command: CommandLine
    timeout: PositiveDuration = 60.0


class AnyExpect(Said):
    time: DurationExpectation | None = None


class PingExpect(AnyExpect):
    sent: CountExpectation | None = None
    received: CountExpectation | None = None
    loss: FractionExpectation | None = None
    min: DurationExpectation | None = None
    avg: DurationExpectation | None = None
    max: DurationExpectation | None = None


class PingAllExpect(PingExpect):
    pairs: CountExpectation | None = None
    failed: CountExpectation | None = None


class InjectExpect(AnyExpect):
    """What became of the datagrams; one key for each verdict (a test holds the two lists together)."""

    sent: CountExpectation | None = None
    delivered: CountExpectation | None = None
    no_route: CountExpectation | None = None
    no_host: CountExpectation | None = None
    buffer_full: CountExpectation | None = None
    nic_down: CountExpectation | None = None
    too_big: CountExpectation | None = None
    malformed: CountExpectation | None = None
    rate: RateExpectation | None = None


class ReplayExpect(InjectExpect):
    skipped: CountExpectation | None = None


def _pattern(said: Any) -> str:
    if not isinstance(said, str):
        raise ValueError(f"expected a regular expression, found {shown(said)}")
    try:
        re.compile(said)
    except (re.error, OverflowError) as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return said


class TextExpect(Said):
    equals: str | None = None
    contains: Texts | None = None
    matches: Annotated[str, PlainValidator(_pattern)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, said: Any) -> Any:
        if not isinstance(said, (str, dict)):
            raise mistake(f"expected text, or a mapping with equals, contains or matches; found {shown(said)}")
        return {"equals": said} if isinstance(said, str) else said


class ExecExpect(AnyExpect):
    code: CountExpectation | None = None
    stdout: TextExpect | None = None
    stderr: TextExpect | None = None


class StepFile(Said):
    name: str | None = None


class PingStepFile(StepFile):
    ping: PingFile
    expect: PingExpect | None = None


class PingAllStepFile(StepFile):
    ping_all: PingAllFile
    expect: PingAllExpect | None = None

    @model_validator(mode="before")
    @classmethod
    def _may_be_empty(cls, said: Any) -> Any:
        return {**said, "ping_all": {}} if said.get("ping_all") is None else said


class InjectStepFile(StepFile):
    inject: InjectFile
    expect: InjectExpect | None = None


class ReplayStepFile(StepFile):
    replay: ReplayFile
    expect: ReplayExpect | None = None


class ExecStepFile(StepFile):
    exec: ExecFile
    expect: ExecExpect | None = None


class WaitStepFile(StepFile):
    wait: Duration


def _one_kind(said: Any) -> Any:
    expected = f"expected one of {', '.join(STEP_KINDS)}"
    if not isinstance(said, dict):
        raise mistake(f"expected a step, a mapping with its kind as key ({expected}); found {shown(said)}")
    kinds = [key for key in said if key in STEP_KINDS]
    if len(kinds) > 1:
        raise mistake(
            f"a step does one thing, but this one has both {kinds[0]!r} and {kinds[1]!r}", kinds[1], at_key=True
        )
    if not kinds:
        stranger = next((key for key in said if key not in ("name", "expect")), None)
        if stranger is None:
            raise mistake(f"a step without a kind; {expected}")
        raise mistake(
            f"unknown kind of step {shown(stranger)}{did_you_mean(stranger, STEP_KINDS)}; {expected}",
            stranger,
            at_key=True,
        )
    if kinds[0] == "wait" and "expect" in said:
        raise mistake("a wait step has nothing to expect", "expect", at_key=True)
    return said


def _tag(said: Any) -> str:
    return next(f"a {kind} step" for kind in STEP_KINDS if kind in said)


AnyStepFile = Annotated[
    Annotated[PingStepFile, Tag("a ping step")]
    | Annotated[PingAllStepFile, Tag("a ping_all step")]
    | Annotated[InjectStepFile, Tag("a inject step")]
    | Annotated[ReplayStepFile, Tag("a replay step")]
    | Annotated[ExecStepFile, Tag("a exec step")]
    | Annotated[WaitStepFile, Tag("a wait step")],
    Discriminator(_tag),
]


def _not_empty(what: str, said: Any) -> Any:
    if said is None or said == {}:
        raise ValueError(f"expected at least one {what}")
    return said


class LabFile(Said):
    name: str | None = None
    seed: int = Field(default=0, ge=0, lt=2**64)
    networks: Annotated[
        dict[str, NetworkFile], BeforeValidator(partial(_not_empty, "network, such as lan: 10.0.0.0/24"))
    ]
    defaults: DefaultsFile = DefaultsFile()
    nodes: Annotated[dict[str, NodeFile], BeforeValidator(partial(_not_empty, "node, such as alice: {kind: host}"))]
    links: Annotated[Any, BeforeValidator(partial(_not_yet, "links"))] = None
    graph: Annotated[Any, BeforeValidator(partial(_not_yet, "graph files"))] = None
    steps: Annotated[
        list[Annotated[AnyStepFile, BeforeValidator(_one_kind)]],
        BeforeValidator(lambda said: [] if said is None else said),
    ] = Field(default_factory=list)


def read_lab(tree: Tree) -> LabFile:
    """Read the models out of a YAML document.

    Raises:
        LabError: the first mistake, in file order, of all that pydantic found.
    """
    try:
        return LabFile.model_validate(tree.data)
    except ValidationError as found:
        raise first_mistake(tree, found) from None
