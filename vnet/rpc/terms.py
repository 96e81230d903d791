"""Types as terms: what a method's types are, in plain values that go over a pipe, into a digest and before a reader's
eyes.

A term is a dictionary with ``type`` and what bounds it, or a reference to a definition (a structure or an enumeration),
which stands once in a :class:`Glossary` and may refer to itself.  Two sides that have never seen one another's Python
classes compare terms; a shell that has none makes classes of them (:mod:`vnet.rpc.shapes`).

What may be sent is what msgspec takes, less what has no meaning in another process: no class that msgspec would need a
hook for, no raw or extension values.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

__all__ = ["Glossary", "NotSendable", "Term", "digest_of", "nesting_of", "text_of"]

Term = dict[str, Any]

# What has no more to it than its name and its bounds.
_PLAIN = {
    "AnyType": "any",
    "NoneType": "none",
    "BoolType": "bool",
    "IntType": "int",
    "FloatType": "float",
    "StrType": "str",
    "BytesType": "bytes",
    "ByteArrayType": "bytearray",
    "MemoryViewType": "memoryview",
    "DateTimeType": "datetime",
    "TimeType": "time",
    "DateType": "date",
    "TimeDeltaType": "timedelta",
    "UUIDType": "uuid",
    "DecimalType": "decimal",
}
_MANY = {"ListType": "list", "SetType": "set", "FrozenSetType": "frozenset", "VarTupleType": "tuple"}
_BOUNDS = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern", "tz")
_FIELDS = {"StructType": "struct", "DataclassType": "dataclass", "TypedDictType": "dict", "NamedTupleType": "tuple"}


class NotSendable(Exception):
    """A type cannot go to another process; the message names the part of it that cannot, and says why."""


class Glossary:
    """The definitions that the terms of one interface refer to.

    Attributes:
        definitions: by name; a name that two classes bear gets a number behind it.
    """

    def __init__(self) -> None:
        self.definitions: dict[str, Term] = {}
        self._names: dict[type, str] = {}

    def term(self, declared: Any) -> Term:
        """The term of a declared type.

        Raises:
            NotSendable: it cannot be sent.
        """
        try:
            msgspec.msgpack.Decoder(declared)
            info = msgspec.inspect.type_info(declared)
        except (TypeError, NameError, AttributeError, RecursionError) as error:
            raise NotSendable(str(error).replace("`", "'")) from None
        return self._term(info)

    def _term(self, info: Any) -> Term:
        kind = type(info).__name__
        if kind == "Metadata":
            return self._term(info.type)
        bounds = {key: value for key in _BOUNDS if (value := getattr(info, key, None)) is not None}
        if kind in _PLAIN:
            return {"type": _PLAIN[kind], **bounds}
        if kind in _MANY:
            return {"type": _MANY[kind], "items": self._term(info.item_type), **bounds}
        if kind == "TupleType":
            return {"type": "tuple", "each": [self._term(item) for item in info.item_types]}
        if kind == "DictType":
            return {"type": "dict", "keys": self._term(info.key_type), "values": self._term(info.value_type), **bounds}
        if kind == "UnionType":
            return {"type": "union", "any": [self._term(each) for each in info.types]}
        if kind == "LiteralType":
            return {"type": "literal", "values": list(info.values)}
        if kind == "EnumType":
            return self._refer(info.cls, lambda: _enumeration(info.cls))
        if kind in _FIELDS:
            cls = info.cls
            # A generic's own class stands for one choice of its parameters only; typing's aliases say which.
            return self._refer(cls, lambda: self._fields(kind, info))
        if kind == "CustomType":
            raise NotSendable(f"{getattr(info.cls, '__name__', info.cls)} is no type that can be sent")
        raise NotSendable(f"{kind.removesuffix('Type')} is no type that can be sent")

    def _refer(self, cls: type, define: Any) -> Term:
        name = self._names.get(cls)
        if name is None:
            stem = getattr(cls, "__name__", None) or str(cls)
            name, count = stem, 1
            while name in self.definitions:
                count += 1
                name = f"{stem}{count}"
            self._names[cls] = name
            # Before its parts, which may refer to it.
            self.definitions[name] = {}
            self.definitions[name].update(define())
        return {"ref": name}

    def _fields(self, kind: str, info: Any) -> Term:
        fields = []
        for field in info.fields:
            fields.append(
                {
                    "name": getattr(field, "encode_name", field.name),
                    **self._term(field.type),
                    "required": bool(field.required),
                }
            )
        term: Term = {"type": _FIELDS[kind], "fields": fields}
        if kind == "StructType":
            for flag in ("tag_field", "tag", "array_like", "forbid_unknown_fields"):
                if getattr(info, flag) not in (None, False):
                    term[flag] = getattr(info, flag)
        return term


def _enumeration(cls: Any) -> Term:
    for member in cls:
        if not isinstance(member.value, (str, int)):
            raise NotSendable(f"{cls.__name__} has values that are neither text nor whole numbers")
    return {"type": "enum", "members": {member.name: member.value for member in cls}}


def digest_of(parts: Any, definitions: Mapping[str, Term]) -> str:
    """A digest of terms that is equal where, and only where, the same values go over the pipe: 16 hexadecimal digits.

    Names of classes do not count, and neither does the order in a union; names of fields do.
    """
    order: dict[str, int] = {}
    told: list[Any] = []

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            if "ref" in value:
                name = value["ref"]
                if name not in order:
                    order[name] = len(order)
                    told.append(None)
                    place = len(told) - 1
                    told[place] = plain(definitions[name])
                return {**{key: plain(each) for key, each in value.items() if key != "ref"}, "ref": order[name]}
            if value.get("type") == "enum":
                return {"type": "enum", "values": sorted(map(repr, value["members"].values()))}
            if value.get("type") == "union":
                first = sorted(value["any"], key=lambda each: json.dumps(each, sort_keys=True, default=str))
                return {**value, "any": [plain(each) for each in first]}
            return {key: plain(each) for key, each in value.items()}
        if isinstance(value, list):
            return [plain(each) for each in value]
        return value

    canonical = json.dumps([plain(parts), told], sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def nesting_of(term: Term, definitions: Mapping[str, Term], within: tuple[str, ...] = ()) -> int | None:
    """How many arrays and maps deep a value of this term can be; ``None`` where the type sets no bound."""
    name = term.get("ref")
    if name is not None:
        if name in within:
            return None
        return nesting_of(definitions[name], definitions, (*within, name))
    if term["type"] == "any":
        return None
    inner: list[Term] = [*term.get("any", ()), *term.get("each", ()), *term.get("fields", ())]
    inner += [term[key] for key in ("items", "keys", "values") if isinstance(term.get(key), dict)]
    deepest = 0
    for each in inner:
        depth = nesting_of(each, definitions, within)
        if depth is None:
            return None
        deepest = max(deepest, depth)
    return deepest + (term["type"] in ("list", "set", "frozenset", "tuple", "dict", "struct", "dataclass"))


_LIMITS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "multiple_of": "a multiple of", "pattern": "matching"}


def text_of(term: Term) -> str:
    """A term as one would write it: ``list[Block] | None``."""
    if "ref" in term:
        return str(term["ref"])
    kind = term["type"]
    if kind == "union":
        return " | ".join(text_of(each) for each in term["any"])
    if kind == "literal":
        return " | ".join(repr(value) for value in term["values"])
    if kind == "none":
        return "None"
    if kind == "any":
        return "Any"
    if kind == "region":
        return "Region (readonly)" if term.get("readonly") else "Region"
    name = {"uuid": "UUID", "decimal": "Decimal"}.get(kind) or str(kind)
    if "each" in term:
        name += f"[{_joined(term['each'])}]"
    elif isinstance(term.get("keys"), dict):
        name += f"[{_joined((term['keys'], term['values']))}]"
    elif "items" in term:
        name += f"[{text_of(term['items'])}{', ...' if kind == 'tuple' else ''}]"
    limits = [f"{sign} {term[key]}" for key, sign in _LIMITS.items() if key in term]
    if "min_length" in term or "max_length" in term:
        limits.append(f"length {term.get('min_length', 0)} to {term.get('max_length', 'any')}")
    if "tz" in term:
        limits.append("with a time zone" if term["tz"] else "without a time zone")
    return f"{name} ({', '.join(limits)})" if limits else name


def _joined(terms: Iterable[Term]) -> str:
    return ", ".join(text_of(each) for each in terms)
