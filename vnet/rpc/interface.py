"""Interfaces: what a service may be asked, compiled once from a class with annotated methods.

Each method's parameters become one msgspec structure.  It binds what the caller gives, it is what goes over the pipe
(an array, one value for each parameter), and its decoder is the check, the same one on both sides: a caller decodes
what it has just encoded before it lets it out, so that nothing leaves that the service would not take; the service
decodes it again, since it need not trust whoever wrote it.
"""

from __future__ import annotations

import collections.abc
import contextlib
import difflib
import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgspec

from ..errors import InterfaceError
from .method import Method, Parameter, has_region
from .sentences import described, plain
from .terms import Glossary, NotSendable, Term, digest_of, nesting_of, text_of

__all__ = ["Interface", "interface_of", "raises"]

C = TypeVar("C", bound=Callable[..., Any])

_STREAMS = (
    collections.abc.Iterator,
    collections.abc.Generator,
    collections.abc.AsyncIterator,
    collections.abc.AsyncGenerator,
)
_AWAITABLE = (collections.abc.Awaitable, collections.abc.Coroutine)
_KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: "positional",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "any",
    inspect.Parameter.KEYWORD_ONLY: "keyword",
}
# Handles of regions are all that goes over the pipe of them.
HANDLE = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]


def raises(*exceptions: type[Exception]) -> Callable[[C], C]:
    """Declares exceptions that a method, or every method of an interface, may raise at its caller with their own type.

    >>> class NoSuchBlock(Exception):
    ...     pass
    >>> class BlockStore(typing.Protocol):
    ...     @raises(NoSuchBlock)
    ...     def read(self, block: int) -> bytes: ...

    Python's own exceptions and those of vnet need no declaration.  Both sides declare them; they are known by the
    class's name, and a receiver makes only what its own interface names.
    """
    for each in exceptions:
        if not (isinstance(each, type) and issubclass(each, Exception)):
            raise InterfaceError(f"raises() takes classes of exceptions, and {each!r} is none")

    def declare(declared: C) -> C:
        # In the order of decoration; a class's own stand beside those of its methods.
        declared.__vnet_raises__ = (*vars(declared).get("__vnet_raises__", ()), *exceptions)  # type: ignore[attr-defined]
        return declared

    return declare


@dataclass(frozen=True, eq=False)
class Interface:
    """What a service may be asked.

    Attributes:
        name: the class's name.
        methods: by name, in the order of declaration.
        definitions: the structures and enumerations that the methods' types name.
        raises: the exceptions that any of the methods declares.
        fingerprint: equal where all methods are.
    """

    name: str
    methods: Mapping[str, Method]
    definitions: Mapping[str, Term]
    doc: str = ""

    @functools.cached_property
    def numbered(self) -> tuple[Method, ...]:
        """The methods by their numbers."""
        return tuple(self.methods.values())

    @functools.cached_property
    def raises(self) -> dict[str, type[Exception]]:
        """The declared exceptions by their names."""
        return {each.__name__: each for method in self.numbered for each in method.raises}

    @functools.cached_property
    def fingerprint(self) -> str:
        """A digest of all methods' digests."""
        return digest_of(sorted([each.name, each.digest] for each in self.numbered), {})

    def method(self, name: str) -> Method:
        """The method of that name.

        Raises:
            InterfaceError: the interface declares none; the message names one that is close.
        """
        found = self.methods.get(name)
        if found is None:
            near = difflib.get_close_matches(name, self.methods, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it declares {', '.join(self.methods)}"
            raise InterfaceError(f"{self.name} declares no method {name!r}; {hint}")
        return found


@functools.lru_cache(maxsize=256)
def _compiled(declared: type) -> Interface:
    name = declared.__name__
    glossary = Glossary()
    methods: dict[str, Method] = {}
    everywhere = tuple(each for base in reversed(declared.__mro__) for each in vars(base).get("__vnet_raises__", ()))
    for attribute, value in _declared_in(declared).items():
        methods[attribute] = _method(name, attribute, len(methods), value, glossary, everywhere)
    if not methods:
        raise InterfaceError(f"{name} declares no method; an interface is a class with annotated public methods")
    return Interface(name, methods, glossary.definitions, inspect.cleandoc(declared.__doc__ or ""))


def interface_of(declared: Any) -> Interface:
    """Compiles a class with annotated methods, most often a ``typing.Protocol``.

    Every public function of the class and its bases is a method; each parameter and the result bear a type that can be
    sent: what msgspec takes (numbers, text, ``bytes``, dates, enumerations, lists, dictionaries, tuples, unions,
    dataclasses, ``msgspec.Struct``, nested as one likes), or ``vnet.Region`` where it is a parameter or a result of its
    own.  ``Iterator[T]`` and ``AsyncIterator[T]`` as results make a stream.

    Raises:
        InterfaceError: the class declares something that cannot be asked of another process; the message names the
            method, the parameter and the type.
    """
    if isinstance(declared, Interface):
        return declared
    if not isinstance(declared, type):
        raise InterfaceError(f"an interface is a class with annotated methods, and {described(declared)} is none")
    return _compiled(declared)


def _declared_in(declared: type) -> dict[str, Any]:
    """The public functions of a class, the bases' first.

    Raises:
        InterfaceError: it has public members that nobody could serve.
    """
    found: dict[str, Any] = {}
    for base in reversed(declared.__mro__):
        if base is object or base.__module__ in ("typing", "typing_extensions"):
            continue
        for name, value in vars(base).items():
            if name.startswith("_"):
                continue
            if isinstance(value, (property, staticmethod, classmethod, functools.cached_property)):
                kind = type(value).__name__
                raise InterfaceError(f"{base.__name__}.{name} is a {kind}; only methods can be called over a pipe")
            if isinstance(value, types.FunctionType):
                found[name] = value
        if getattr(base, "_is_protocol", False):
            for name, annotation in vars(base).get("__annotations__", {}).items():
                if not name.startswith("_") and "ClassVar" not in str(annotation):
                    raise InterfaceError(
                        f"{base.__name__}.{name} is an attribute; only methods can be called over a pipe"
                    )
    return found


def _method(
    interface: str, name: str, number: int, function: Any, glossary: Glossary, everywhere: tuple[type[Exception], ...]
) -> Method:
    full = f"{interface}.{name}"
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise InterfaceError(
            f"{full}: {error}; types that an interface names are declared at the level of its module"
        ) from None
    except Exception as error:
        raise InterfaceError(f"{full}: the annotations cannot be read: {error}") from None
    signature = inspect.signature(function)
    own = list(signature.parameters.values())
    if not own or own[0].kind not in (own[0].POSITIONAL_ONLY, own[0].POSITIONAL_OR_KEYWORD):
        raise InterfaceError(f"{full} has no 'self'")
    parameters, fields = [], []
    for each in own[1:]:
        parameter, kind = _parameter(full, each, hints, glossary)
        parameters.append(parameter)
        fields.append((parameter, kind))
    if "return" not in hints:
        raise InterfaceError(f"{full} does not say what it returns; where that is nothing, write '-> None'")
    returned, stream = _result_of(full, hints["return"])
    result, wire = _sent(f"{full}: the result", returned, glossary)
    arguments = structure(full, fields)
    nestings = [nesting_of(each.term, glossary.definitions) for each in parameters]
    deepest = None if None in nestings else 1 + max((each for each in nestings if each is not None), default=0)
    parts = [name, [[each.name, each.term, each.required] for each in parameters], result, stream]
    return Method(
        interface,
        name,
        number,
        tuple(parameters),
        result,
        stream,
        inspect.cleandoc(function.__doc__ or ""),
        digest_of(parts, glossary.definitions),
        arguments,
        msgspec.msgpack.Decoder(arguments),
        msgspec.msgpack.Decoder(wire),
        (deepest, nesting_of(result, glossary.definitions)),
        (*everywhere, *getattr(function, "__vnet_raises__", ())),
        signature.replace(
            parameters=[each.replace(annotation=hints[each.name]) for each in own[1:]],
            return_annotation=hints["return"],
        ),
    )


def _parameter(
    full: str, each: inspect.Parameter, hints: Mapping[str, Any], glossary: Glossary
) -> tuple[Parameter, Any]:
    """A parameter and its type on the wire."""
    if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
        star = "*" if each.kind is each.VAR_POSITIONAL else "**"
        raise InterfaceError(
            f"{full} takes {star}{each.name}; a service can only check parameters that it names, so give a list or a "
            f"dictionary a name of its own"
        )
    if each.name not in hints:
        raise InterfaceError(f"{full}: parameter {each.name!r} has no type")
    what = f"{full}: parameter {each.name!r}"
    term, wire = _sent(what, hints[each.name], glossary)
    region = has_region(term)
    readonly = region and any(one.get("readonly") for one in (term, *term.get("any", ())))
    if each.default is each.empty:
        return Parameter(each.name, term, True, _KINDS[each.kind], None, region, readonly), wire
    with contextlib.suppress(Exception):
        # As the values that are given are: what is encoded must decode again.
        msgspec.msgpack.decode(msgspec.msgpack.encode(each.default), type=wire)
        return Parameter(each.name, term, False, _KINDS[each.kind], each.default, region, readonly), wire
    raise InterfaceError(f"{what} is of type {text_of(term)}, and its default is {described(each.default)}")


def _result_of(full: str, declared: Any) -> tuple[Any, bool]:
    """The type of a result, or of each value of a stream, and whether it is a stream."""
    origin = typing.get_origin(declared)
    if origin in _AWAITABLE:
        return _result_of(full, typing.get_args(declared)[-1])
    if origin in _STREAMS:
        return typing.get_args(declared)[0], True
    if declared in _STREAMS or declared in (typing.Iterator, typing.AsyncIterator):
        raise InterfaceError(f"{full} returns an iterator and does not say of what; write 'Iterator[int]', for one")
    return declared, False


def _sent(what: str, declared: Any, glossary: Glossary) -> tuple[Term, Any]:
    """A type's term, and what it is on the wire.

    Raises:
        InterfaceError: it cannot be sent.
    """
    region = _region_in(declared)
    if region is not None:
        optional, readonly = region
        term: Term = {"type": "region", "readonly": readonly} if readonly else {"type": "region"}
        if optional:
            return {"type": "union", "any": [term, {"type": "none"}]}, HANDLE | None
        return term, HANDLE
    try:
        return glossary.term(declared), declared
    except NotSendable as error:
        name = getattr(declared, "__name__", None) if isinstance(declared, type) else None
        raise InterfaceError(f"{what} is of type {name or declared}, which cannot be sent: {error}") from None


def _region_in(declared: Any) -> tuple[bool, bool] | None:
    """Whether a type is a region: whether ``None`` may stand for it, and whether it is read only."""
    from ..sharing.region import Region

    if declared is Region:
        return False, False
    origin = typing.get_origin(declared)
    if origin is Annotated:
        inner, *notes = typing.get_args(declared)
        found = _region_in(inner)
        return found and (found[0], found[1] or "readonly" in notes)
    if origin in (typing.Union, types.UnionType):
        members = typing.get_args(declared)
        inner = [each for each in members if each is not type(None)]
        if len(inner) == 1 and len(members) == 2:
            found = _region_in(inner[0])
            return found and (True, found[1])
    return None


def structure(full: str, fields: Iterable[tuple[Parameter, Any]]) -> type[msgspec.Struct]:
    """The structure that a method's arguments are."""

    def members(chosen: Iterable[tuple[Parameter, Any]]) -> list[Any]:
        told: list[Any] = []
        for each, wire in chosen:
            if each.required:
                told.append((each.name, wire))
            elif isinstance(each.default, (list, dict, set, bytearray)) or not _hashable(each.default):
                told.append((each.name, wire, msgspec.field(default_factory=_copies(each.default))))
            else:
                told.append((each.name, wire, each.default))
        return told

    fields = list(fields)
    ordinary = [each for each in fields if each[0].kind != "keyword"]
    keyword = [each for each in fields if each[0].kind == "keyword"]
    try:
        made = msgspec.defstruct(full, members(ordinary), array_like=True, forbid_unknown_fields=True)
        if keyword:
            made = msgspec.defstruct(
                full, members(keyword), bases=(made,), kw_only=True, array_like=True, forbid_unknown_fields=True
            )
        # Where parameters without a default stand behind others that have one, msgspec would move them.
        if tuple(made.__struct_fields__) != tuple(each.name for each, _ in fields):
            order = {each.name: wire for each, wire in fields}
            raise InterfaceError(f"{full}: keyword-only parameters without a default stand first: {', '.join(order)}")
    except (TypeError, ValueError) as error:
        raise InterfaceError(f"{full}: {plain(error)}") from None
    return made


def _copies(value: Any) -> Callable[[], Any]:
    import copy

    return lambda: copy.deepcopy(value)


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
