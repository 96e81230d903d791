"""Classes made of a description: what a caller without the interface's own classes checks and encodes with.

Structures become msgspec structures, whose fields bear names of their own here and the service's on the wire; so
whatever a service calls its fields, no code of it is run or named.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import inspect
import keyword
import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ForwardRef, Literal, Union

import msgspec

from ..errors import InterfaceError
from .description import DescribedMethod, Description
from .interface import HANDLE, Interface, structure
from .method import Method, Parameter, has_region
from .sentences import described, plain
from .terms import Term, nesting_of, text_of

__all__ = ["interface_from"]

_PLAIN: Mapping[str, Any] = {
    "any": Any,
    "none": None,
    "bool": bool,
    "int": int,
    "float": float,
    "str": str,
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "datetime": datetime.datetime,
    "time": datetime.time,
    "date": datetime.date,
    "timedelta": datetime.timedelta,
    "uuid": uuid.UUID,
    "decimal": decimal.Decimal,
}
_MANY: Mapping[str, Any] = {"list": list, "set": set, "frozenset": frozenset, "tuple": tuple}
_BOUNDS = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern", "tz")


def interface_from(description: Description) -> Interface:
    """Makes an interface of what a service told.

    Raises:
        InterfaceError: it told something that no interface is.
    """
    try:
        for each in description.methods:
            if not each.name.isidentifier() or each.name.startswith("_"):
                raise ValueError(f"{each.name!r} is no name of a method")
            if bad := [one.name for one in each.parameters if not one.name.isidentifier() or one.name.startswith("__")]:
                raise ValueError(f"{bad[0]!r} is no name of a parameter")
        shapes = _Shapes(description.definitions)
        methods = {
            each.name: _method(description, each, number, shapes) for number, each in enumerate(description.methods)
        }
    except InterfaceError:
        raise
    except Exception as error:
        raise InterfaceError(f"the service's description of {description.name!r} makes no sense: {error}") from None
    return Interface(description.name, methods, description.definitions, description.doc)


class PlainMethod(Method):
    """A method that takes and gives plain values, as JSON has them: structures are dictionaries, dates are text.

    ``bytes`` are ``bytes``, or base64 where they are given as text.
    """

    def encode(self, args: Sequence[Any], kwargs: Mapping[str, Any], head: int, depth_limit: int) -> bytearray:
        """Makes the arguments' types of plain values, and then does as a method of the service's own classes."""
        try:
            bound = self.signature.bind(*args, **kwargs).arguments
        except TypeError:
            raise self._misfit(args, kwargs) from None
        kinds = {each.name: each.type for each in msgspec.structs.fields(self.arguments)}
        for parameter in self.parameters:
            if parameter.name in bound:
                bound[parameter.name] = self._typed(parameter, bound[parameter.name], kinds[parameter.name])
        by_place = [bound.pop(each.name) for each in self.parameters if each.kind != "keyword" and each.name in bound]
        return super().encode(by_place, bound, head, depth_limit)

    def _typed(self, parameter: Parameter, value: Any, kind: Any) -> Any:
        try:
            return msgspec.convert(value, kind, str_keys=True)
        except (msgspec.ValidationError, ValueError, TypeError, RecursionError) as error:
            what = plain(error)
            at = ""
            if " at '$" in what:
                what, _, place = what.rpartition(" at '$")
                at = f", at {place.rstrip(chr(39))},"
            raise InterfaceError(
                f"{self.full_name}: argument {parameter.name!r} is {described(value)}{at or ':'} "
                f"{what if at else f'expected {_expected(parameter, what)}'}"
            ) from None

    def decode_result(self, data: bytes | memoryview, depth_limit: int) -> Any:
        """What the service answered, as plain values."""
        return msgspec.to_builtins(super().decode_result(data, depth_limit), builtin_types=(bytes, bytearray))


def _expected(parameter: Parameter, what: str) -> str:
    if has_region(parameter.term):
        return "the handle of a region, 32 hexadecimal digits"
    return text_of(parameter.term) + ("" if what.startswith("expected") else f" ({what})")


class _Shapes:
    """The types of terms, each definition made once."""

    def __init__(self, definitions: Mapping[str, Term]) -> None:
        self._definitions = definitions
        self._made: dict[str, Any] = {}
        self._names = {name: f"Shape{place}" for place, name in enumerate(definitions)}
        for name in definitions:
            self._define(name)
        # Those that hold themselves, or one another, find each other's names in their own class.
        for made in self._made.values():
            if issubclass(made, msgspec.Struct):
                for name, each in self._names.items():
                    setattr(made, each, self._made[name])

    def type(self, term: Term) -> Any:
        """The type that a term tells of."""
        if "ref" in term:
            return self._made.get(term["ref"]) or ForwardRef(self._names[term["ref"]])
        kind = term["type"]
        bounds = {key: term[key] for key in _BOUNDS if key in term}
        if kind == "region":
            return HANDLE
        if kind == "union":
            return Union[tuple(self.type(each) for each in term["any"])]  # noqa: UP007 - of as many as there are
        if kind == "literal":
            return Literal[tuple(term["values"])]
        made: Any
        if "each" in term:
            made = tuple[tuple(self.type(each) for each in term["each"])]  # type: ignore[misc]
        elif kind == "dict":
            made = dict[self.type(term["keys"]), self.type(term["values"])]  # type: ignore[misc]
        elif kind in _MANY:
            items: Any = self.type(term["items"])
            made = _MANY[kind][(items, ...) if kind == "tuple" else items]
        else:
            made = _PLAIN[kind]
        return Annotated[made, msgspec.Meta(**bounds)] if bounds else made

    def _define(self, name: str) -> None:
        term = self._definitions[name]
        if term["type"] == "enum":
            members = {f"member{place}": value for place, value in enumerate(term["members"].values())}
            self._made[name] = enum.Enum(name, members)
            return
        array = term["type"] == "tuple" or bool(term.get("array_like"))
        fields: list[Any] = []
        names: dict[str, str] = {}
        for place, field in enumerate(term["fields"]):
            own = f"field{place}"
            names[own] = field["name"]
            kind = self.type({key: value for key, value in field.items() if key not in ("name", "required")})
            if field["required"] or array:
                fields.append((own, kind))
            else:
                # What is left out stays left out: the service knows its own default.
                fields.append((own, Union[kind, msgspec.UnsetType], msgspec.UNSET))  # noqa: UP007 - of a reference
        self._made[name] = msgspec.defstruct(
            name if name.isidentifier() and not keyword.iskeyword(name) else "Structure",
            fields,
            rename=names.get,
            kw_only=not array,
            array_like=array,
            tag=term.get("tag"),
            tag_field=term.get("tag_field"),
            forbid_unknown_fields=True,
        )


def _method(description: Description, told: DescribedMethod, number: int, shapes: _Shapes) -> Method:
    full = f"{description.name}.{told.name}"
    kinds = {
        "any": inspect.Parameter.POSITIONAL_OR_KEYWORD,
        "positional": inspect.Parameter.POSITIONAL_OR_KEYWORD,
        "keyword": inspect.Parameter.KEYWORD_ONLY,
    }
    parameters, fields, signed = [], [], []
    for each in told.parameters:
        wire = shapes.type(each.type)
        default = None if each.required else _default(each.default, wire)
        kind = "keyword" if each.kind == "keyword" else "any"
        parameter = Parameter(each.name, each.type, each.required, kind, default, False, False)
        parameters.append(parameter)
        fields.append((parameter, wire))
        empty = inspect.Parameter.empty
        signed.append(inspect.Parameter(each.name, kinds[each.kind], default=empty if each.required else default))
    arguments = structure(full, fields)
    nestings = [nesting_of(each.term, description.definitions) for each in parameters]
    deepest = None if None in nestings else 1 + max((each for each in nestings if each is not None), default=0)
    return PlainMethod(
        description.name,
        told.name,
        number,
        tuple(parameters),
        told.result,
        told.stream,
        told.doc,
        told.digest,
        arguments,
        msgspec.msgpack.Decoder(arguments),
        msgspec.msgpack.Decoder(shapes.type(told.result)),
        (deepest, nesting_of(told.result, description.definitions)),
        (),
        inspect.Signature(signed),
    )


def _default(told: Any, kind: Any) -> Any:
    return msgspec.convert(told, kind, strict=True, builtin_types=(bytes, bytearray))
