"""What an interface may declare, what it is told where it may not, and when two are alike."""

from __future__ import annotations

import asyncio
import dataclasses
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Annotated, Any, Generic, Protocol, TypeVar

import msgspec
import pytest
from rpc_support import Everything, Point, Store, Tree

import vnet
from vnet.rpc import interface_of, raises
from vnet.rpc.description import Description, describe

T = TypeVar("T")


class Opaque:
    pass


@dataclasses.dataclass
class Holder:
    inside: Opaque


class Page(msgspec.Struct, Generic[T]):
    items: list[T]


def _declared(**methods: Any) -> type:
    return type("Disk", (), methods)


def _refused(declared: Any) -> str:
    with pytest.raises(vnet.InterfaceError) as caught:
        interface_of(declared)
    return str(caught.value)


def test_each_public_method_of_the_class_and_its_bases_can_be_called() -> None:
    class Base(Protocol):
        def first(self, number: int) -> int: ...

    class Derived(Base, Protocol):
        limit: typing.ClassVar[int] = 3

        async def second(self, text: str = "x", *, loud: bool = False) -> None: ...

        def _private(self) -> None: ...

    declared = interface_of(Derived)
    assert list(declared.methods) == ["first", "second"]
    assert declared.methods["second"].text() == "second(text: str = 'x', *, loud: bool = False) -> None"
    assert [method.number for method in declared.numbered] == [0, 1]


def test_what_cannot_be_sent_is_told_with_method_parameter_and_type() -> None:
    def star(self: Any, *blocks: int) -> None: ...

    def stars(self: Any, **named: int) -> None: ...

    def bare(self: Any, block) -> None: ...  # type: ignore[no-untyped-def]

    def silent(self: Any, block: int): ...  # type: ignore[no-untyped-def]

    def opaque(self: Any, thing: Opaque) -> None: ...

    def nested(self: Any, holders: list[Holder]) -> None: ...

    def function(self: Any, call: Callable[[int], int]) -> None: ...

    def result(self: Any) -> Opaque: ...

    def regions(self: Any, all_of_them: list[vnet.Region]) -> None: ...

    def forgotten(self: Any, value: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821, UP037

    def unlike(self: Any, value: list[int] | set[int]) -> None: ...

    def endless(self: Any) -> Iterator: ...  # type: ignore[type-arg]

    def default(self: Any, block: int = "three") -> None: ...  # type: ignore[assignment]

    def selfless() -> None: ...

    for method, words in (
        (star, ["Disk.m", "*blocks"]),
        (stars, ["Disk.m", "**named"]),
        (bare, ["Disk.m", "'block'", "no type"]),
        (silent, ["Disk.m", "-> None"]),
        (opaque, ["Disk.m", "'thing'", "Opaque"]),
        (nested, ["Disk.m", "'holders'", "Opaque"]),
        (function, ["Disk.m", "'call'"]),
        (result, ["Disk.m", "the result", "Opaque"]),
        (regions, ["Disk.m", "'all_of_them'"]),
        (forgotten, ["Disk.m", "Nowhere"]),
        (unlike, ["Disk.m", "'value'"]),
        (endless, ["Disk.m", "Iterator[int]"]),
        (default, ["Disk.m", "'block'", "'three'", "int"]),
        (selfless, ["Disk.m", "self"]),
    ):
        told = _refused(_declared(m=method))
        assert all(word in told for word in words), told
        assert "\n" not in told


def test_members_that_are_no_methods_are_refused() -> None:
    class Attributed(Protocol):
        size: int

        def read(self) -> int: ...

    assert "Attributed.size" in _refused(Attributed)
    assert "Disk.size is a property" in _refused(_declared(size=property(lambda self: 3)))
    assert "staticmethod" in _refused(_declared(size=staticmethod(lambda: 3)))
    assert "declares no method" in _refused(_declared())
    assert "none" in _refused(3)


def test_streams_are_iterators_of_either_kind() -> None:
    class Streams(Protocol):
        def one(self) -> Iterator[int]: ...

        def two(self) -> AsyncIterator[Point]: ...

        async def three(self) -> AsyncIterator[str]: ...

        def four(self) -> Awaitable[int]: ...

    declared = interface_of(Streams)
    assert [method.stream for method in declared.numbered] == [True, True, True, False]


def test_interfaces_are_alike_where_the_same_values_go_over_the_pipe() -> None:
    def digest(annotation: Any, result: Any = int) -> str:
        def m(self: Any, value: Any) -> Any: ...

        m.__annotations__ = {"value": annotation, "return": result}
        return interface_of(_declared(m=m)).methods["m"].digest

    class Vector(msgspec.Struct):
        x: int
        y: float = 0.0

    class Longer(msgspec.Struct):
        x: int
        y: float = 0.0
        z: float = 0.0

    assert digest(Point) == digest(Vector)
    assert digest(Point) != digest(Longer)
    assert digest(int | str) == digest(str | int)
    assert digest(Page[int]) != digest(Page[str])
    assert digest(list[int]) != digest(list[str])
    assert digest(Annotated[int, msgspec.Meta(ge=0)]) != digest(int)
    assert digest(int, Iterator[int]) != digest(int, int)
    assert digest(vnet.Region) != digest(Annotated[vnet.Region, "readonly"]) != digest(str)
    assert digest(Tree) == digest(Tree)


def test_a_description_tells_all_and_is_read_back_as_it_was() -> None:
    for declared in (Store, Everything):
        described = describe(interface_of(declared))
        packed = msgspec.msgpack.encode(described)
        assert msgspec.msgpack.decode(packed, type=Description) == described
        assert msgspec.json.decode(msgspec.json.encode(described.to_json())) == described.to_json()
        assert [method.name for method in described.methods] == list(interface_of(declared).methods)
    read = describe(interface_of(Store)).methods[0]
    assert (read.text, read.doc) == ("read(block: int, *, fresh: bool = False) -> bytes", "Reads a block.")


def test_only_exceptions_are_declared_as_raised() -> None:
    with pytest.raises(vnet.InterfaceError, match="'ValueError' is none"):
        raises("ValueError")  # type: ignore[arg-type]
    with pytest.raises(vnet.InterfaceError, match="is none"):
        raises(KeyboardInterrupt)  # type: ignore[arg-type]


def test_an_implementation_that_does_not_fit_is_refused_before_anything_is_served() -> None:
    from vnet.rpc.service import Service

    class Lacking:
        pass

    class Narrow:
        def read(self) -> bytes:
            return b""

    class Later:
        async def read(self, block: int, *, fresh: bool = False) -> bytes:
            return b""

    class Reading(Protocol):
        def read(self, block: int, *, fresh: bool = False) -> bytes: ...

    for implementation, words in (
        (Lacking(), "Lacking has no method 'read'"),
        (Narrow(), "Narrow.read does not take"),
        (Later(), "serve_calls_async"),
    ):
        with pytest.raises(vnet.InterfaceError, match=words):
            Service("disk", implementation, Reading)
    assert asyncio.iscoroutinefunction(Later.read)
