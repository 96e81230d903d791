"""What the models of a lab file are made of: mappings with known keys, quantities, commands, expectations.

Each kind of value says itself what it looks like in JSON Schema, beside the code that reads it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from vnet.lab.mistakes import mistake
from vnet.lab.tree import did_you_mean
from vnet.lab.units import DURATIONS, RATES, SIZES, Comparison, Dimension, parse, parse_comparison, shown

__all__ = ["LEFT_OUT", "Said", "key"]

LEFT_OUT = "x-left-out"
"""Where a field keeps what holds when its key is left out, for the reference; it is not in the published schema."""


def key(says: str, *examples: Any, alias: str | None = None, left_out: Any = None, **field: Any) -> Any:
    """A key of a mapping.

    Args:
        says: what its value is, for the reference and for editors.
        examples: values as a lab file writes them.
        alias: the key, where Python has another use for the word.
        left_out: what holds without the key: a value as a lab file writes it, or words that begin with ``=``.
        field: what :func:`pydantic.Field` takes; without ``default`` the key is needed.
    """
    extra = {} if left_out is None else {LEFT_OUT: left_out}
    return Field(description=says, examples=list(examples) or None, alias=alias, json_schema_extra=extra, **field)


class Said(BaseModel):
    """A mapping of the lab file: it has the keys of the model and no others, and converts nothing silently."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    short_forms: ClassVar[tuple[Mapping[str, Any], ...]] = ()
    """What may stand in place of the mapping, in JSON Schema."""

    @model_validator(mode="before")
    @classmethod
    def _has_only_known_keys(cls, said: Any) -> Any:
        known = [field.alias or name for name, field in cls.model_fields.items()]
        if not isinstance(said, dict):
            raise mistake(f"expected a mapping with keys such as {', '.join(known[:4])}; found {shown(said)}")
        for name in said:
            if name not in known:
                raise mistake(
                    f"unknown key {shown(name)}{did_you_mean(name, known)}; expected one of {', '.join(known)}",
                    name,
                    at_key=True,
                )
        return said

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core)
        body = handler.resolve_ref_schema(schema)
        if cls.short_forms and "anyOf" not in body:
            whole = dict(body)
            body.clear()
            if "description" in whole:
                body["description"] = whole.pop("description")
            body["anyOf"] = [*map(dict, cls.short_forms), whole]
        return schema


# --- quantities -------------------------------------------------------------------------------------------------------

NUMBER = r"\s*\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?\s*"
_UNITS = {
    Dimension.COUNT: "",
    Dimension.DURATION: "(" + "|".join(DURATIONS) + ")",
    Dimension.FRACTION: "%",
    Dimension.RATE: "(" + "|".join(RATES) + ")",
    Dimension.SIZE: "(" + "|".join(SIZES) + ")?",
}
# Editors take JavaScript's regular expressions; nothing here means another thing to them than to Python.
_ZERO = r"\s*\+?(0+(\.0*)?|\.0+)\s*"


def _quantity_pattern(dimension: Dimension) -> str:
    return rf"({NUMBER}{_UNITS[dimension]}|{_ZERO})"


def quantity_schema(dimension: Dimension) -> dict[str, Any]:
    """A quantity in JSON Schema: text with a unit; a plain number where the dimension has no need of a unit, or 0."""
    number: dict[str, Any] = {"const": 0}
    if dimension in (Dimension.COUNT, Dimension.SIZE):
        number = {"type": "number", "minimum": 0}
    return {"anyOf": [{"type": "string", "pattern": rf"^{_quantity_pattern(dimension)}\s*$"}, number]}


def comparison_schema(dimension: Dimension) -> dict[str, Any]:
    """An expectation in JSON Schema: a quantity, with a sign before it, a range, or a list of them."""
    one = _quantity_pattern(dimension)
    lower = rf"({NUMBER}{_UNITS[dimension]}|{NUMBER})"
    text = {"type": "string", "pattern": rf"^\s*((<=|>=|==|!=|<|>|=)?\s*{one}|{lower}\s*\.\.{one})\s*$"}
    single = [text, *quantity_schema(dimension)["anyOf"][1:]]
    return {"anyOf": [*single, {"type": "array", "items": {"anyOf": single}}]}


def quantity(dimension: Dimension) -> Any:
    """A validator for quantities of ``dimension``, and their JSON Schema."""
    return BeforeValidator(partial(parse, dimension=dimension))


def _comparisons(dimension: Dimension, said: Any) -> tuple[Comparison, ...]:
    items = said if isinstance(said, list) else [said]
    return tuple(parse_comparison(item, dimension) for item in items)


def _positive(dimension: Dimension, said: Any) -> float:
    value = parse(said, dimension)
    if value <= 0:
        raise ValueError(f"expected {dimension.value.partition(' such')[0]} above 0, found {shown(said)}")
    return value


Duration = Annotated[float, quantity(Dimension.DURATION), WithJsonSchema(quantity_schema(Dimension.DURATION))]
PositiveDuration = Annotated[
    float,
    BeforeValidator(partial(_positive, Dimension.DURATION)),
    WithJsonSchema({"type": "string", "pattern": rf"^{NUMBER}{_UNITS[Dimension.DURATION]}\s*$"}),
]
Count = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=1, le=65535)]


CountExpectation = Annotated[
    tuple[Comparison, ...],
    PlainValidator(partial(_comparisons, Dimension.COUNT)),
    WithJsonSchema(comparison_schema(Dimension.COUNT)),
]
DurationExpectation = Annotated[
    tuple[Comparison, ...],
    PlainValidator(partial(_comparisons, Dimension.DURATION)),
    WithJsonSchema(comparison_schema(Dimension.DURATION)),
]
FractionExpectation = Annotated[
    tuple[Comparison, ...],
    PlainValidator(partial(_comparisons, Dimension.FRACTION)),
    WithJsonSchema(comparison_schema(Dimension.FRACTION)),
]
RateExpectation = Annotated[
    tuple[Comparison, ...],
    PlainValidator(partial(_comparisons, Dimension.RATE)),
    WithJsonSchema(comparison_schema(Dimension.RATE)),
]
SizeExpectation = Annotated[
    tuple[Comparison, ...],
    PlainValidator(partial(_comparisons, Dimension.SIZE)),
    WithJsonSchema(comparison_schema(Dimension.SIZE)),
]

# --- words ------------------------------------------------------------------------------------------------------------


def one_or_many(what: str, said: Any) -> Any:
    """A list of texts, or one text as a list of one."""
    items = said if isinstance(said, list) else [said]
    for index, item in enumerate(items):
        if not isinstance(item, str):
            raise mistake(f"expected {what}, found {shown(item)}", *([index] if items is said else []))
    return items


TEXT_OR_LIST: dict[str, Any] = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
}


def check_command(said: Any) -> str | list[str]:
    """A command line as text, or a list of its words."""
    words = said if isinstance(said, list) else [said]
    if not words or not all(isinstance(word, str) and word and "\0" not in word for word in words):
        raise ValueError(f"expected a command line as text, or a list of its words; found {shown(said)}")
    return said  # type: ignore[no-any-return]


CommandLine = Annotated[
    str | list[str],
    PlainValidator(check_command),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
            ]
        }
    ),
]
Texts = Annotated[list[str], BeforeValidator(partial(one_or_many, "text")), WithJsonSchema(TEXT_OR_LIST)]


Prefixes = Annotated[
    list[str], BeforeValidator(partial(one_or_many, "a prefix such as 10.0.0.0/24")), WithJsonSchema(TEXT_OR_LIST)
]
"""IPv4 and IPv6 prefixes: one as text, or a list."""


def _pattern(said: Any) -> str:
    if not isinstance(said, str):
        raise ValueError(f"expected a regular expression, found {shown(said)}")
    try:
        re.compile(said)
    except (re.error, OverflowError) as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return said


Pattern = Annotated[str, PlainValidator(_pattern), WithJsonSchema({"type": "string"})]


def not_yet(what: str, said: Any) -> Any:
    """Refuse a word of the language that comes later."""
    raise ValueError(f"this version of vnet does not support {what} yet")


def not_empty(what: str, said: Any) -> Any:
    """Refuse what holds nothing."""
    if said is None or said in ({}, []):
        raise ValueError(f"expected at least one {what}")
    return said


def _family(said: Any) -> int:
    if isinstance(said, bool) or said not in (4, 6):
        raise ValueError(f"expected 4 or 6, found {shown(said)}")
    return int(said)


Family = Annotated[int, PlainValidator(_family), WithJsonSchema({"enum": [4, 6]})]
