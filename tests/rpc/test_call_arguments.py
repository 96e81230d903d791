"""Whatever a declared type holds arrives equal; whatever it does not hold leaves nothing in the pipe."""

from __future__ import annotations

import datetime
import decimal
import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rpc_support import (
    Circle,
    Color,
    Everything,
    Level,
    Options,
    Pair,
    Person,
    Point,
    Ram,
    Square,
    Store,
    Tree,
    served,
)
from support import examples

import vnet
from vnet.rpc import Limits, interface_of
from vnet.rpc.depth import too_deep
from vnet.rpc.inbound import Asked, Judge
from vnet.rpc.wire import CALL, HEAD, head_into

whole = st.integers(-(1 << 63), (1 << 64) - 1)
real = st.floats(allow_nan=False)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
plain = st.none() | st.booleans() | whole | real | text | st.binary(max_size=20)
anything = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4), max_leaves=12
)
points = st.builds(Point, whole, real)
trees = st.recursive(
    st.builds(Tree, text), lambda inner: st.builds(Tree, text, st.lists(inner, max_size=3)), max_leaves=6
)

# Of each parameter of Everything.take, all that its type holds.
values = {
    "whole": whole,
    "real": real,
    "flag": st.booleans(),
    "text": text,
    "data": st.binary(max_size=100),
    "maybe": st.none() | text,
    "several": whole | text | st.lists(whole, max_size=3) | st.none(),
    "moment": st.datetimes(timezones=st.none() | st.just(datetime.timezone.utc)),
    "day": st.dates(),
    "hour": st.times(),
    "span": st.timedeltas(datetime.timedelta(-9999), datetime.timedelta(9999)),
    "exact": st.decimals(allow_nan=False, allow_infinity=False),
    "unique": st.uuids(),
    "color": st.sampled_from(Color),
    "level": st.sampled_from(Level),
    "choice": st.sampled_from(["on", "off", 3]),
    "small": st.integers(0, 9),
    "numbers": st.lists(whole, max_size=5),
    "pairs": st.lists(st.tuples(whole, text), max_size=3).map(tuple),
    "names": st.frozensets(text, max_size=4),
    "table": st.dictionaries(text, st.lists(real, max_size=3), max_size=3),
    "by_number": st.dictionaries(whole, points, max_size=3),
    "point": points,
    "tree": trees,
    "shape": st.builds(Circle, real) | st.builds(Square, real),
    "person": st.builds(Person, text, st.none() | st.dates()),
    "options": st.sampled_from([Options(), Options(depth=3), Options(quiet=True, depth=0)]),
    "named": st.builds(Pair, whole, text),
    "anything": anything,
}


def _over(name: str, interface: Any, **given_values: Any) -> Any:
    """What a service gets of arguments, by way of the bytes on the wire."""
    method = interface_of(interface).methods[name]
    message = method.encode((), given_values, HEAD, 64)
    head_into(message, 0, CALL, 0, method.number, 1)
    asked = Judge(interface_of(interface), Limits()).judge(bytes(message))
    assert isinstance(asked, Asked)
    return asked.request


@settings(max_examples=examples(80), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.fixed_dictionaries(values))
def test_arguments_of_every_declared_type_arrive_equal(given_values: dict[str, Any]) -> None:
    got = _over("take", Everything, **given_values)
    for name, value in given_values.items():
        assert getattr(got, name) == value
        assert type(getattr(got, name)) is type(value) or name in ("real", "anything")


@settings(max_examples=examples(60), deadline=None)
@given(value=anything)
def test_results_arrive_equal(value: Any) -> None:
    method = interface_of(Store).methods["echo"]
    assert method.decode_result(bytes(method.encode_result(value, 0)), 64) == value


_WRONG: list[tuple[str, Any]] = [
    ("whole", "3"),
    ("whole", 3.5),
    ("whole", True),
    ("whole", None),
    ("whole", 1 << 64),
    ("real", "1.0"),
    ("flag", 1),
    ("text", b"x"),
    ("text", 3),
    ("text", "\ud800"),
    ("data", 3),
    ("data", ["x"]),
    ("maybe", 3),
    ("several", 3.5),
    ("several", ["x"]),
    ("day", "tomorrow"),
    ("moment", 3.5),
    ("exact", "three"),
    ("unique", "x" * 32),
    ("color", "green"),
    ("level", 3),
    ("choice", "maybe"),
    ("small", 10),
    ("small", -1),
    ("numbers", [1, "x"]),
    ("numbers", 3),
    ("pairs", ((1, 2),)),
    ("table", {"x": [b"y"]}),
    ("by_number", {"x": Point(1)}),
    ("point", Point("x")),  # type: ignore[arg-type]
    ("point", 3),
    ("tree", Tree("x", [Tree(3)])),  # type: ignore[arg-type]
    ("shape", Point(1)),
    ("person", Person(3)),  # type: ignore[arg-type]
    ("options", {"depth": "x"}),
    ("named", Pair("x", "y")),  # type: ignore[arg-type]
    ("anything", object()),
]

_RIGHT: dict[str, Any] = {
    "whole": 1,
    "real": 1.0,
    "flag": True,
    "text": "",
    "data": b"",
    "maybe": None,
    "several": None,
    "moment": datetime.datetime(2024, 1, 1),
    "day": datetime.date(2024, 1, 1),
    "hour": datetime.time(1),
    "span": datetime.timedelta(1),
    "exact": decimal.Decimal(1),
    "unique": uuid.UUID(int=1),
    "color": Color.RED,
    "level": Level.LOW,
    "choice": "on",
    "small": 1,
    "numbers": [],
    "pairs": (),
    "names": frozenset(),
    "table": {},
    "by_number": {},
    "point": Point(1),
    "tree": Tree("x"),
    "shape": Circle(1.0),
    "person": Person("x"),
    "options": {},
    "named": Pair(1, "x"),
    "anything": None,
}


@pytest.mark.parametrize(("name", "wrong"), _WRONG, ids=lambda value: repr(value)[:30])
def test_a_wrong_argument_is_told_by_name_and_is_not_encoded(name: str, wrong: Any) -> None:
    method = interface_of(Everything).methods["take"]
    assert method.encode((), _RIGHT, HEAD, 64)
    with pytest.raises(vnet.InterfaceError) as caught:
        method.encode((), {**_RIGHT, name: wrong}, HEAD, 64)
    told = str(caught.value)
    assert told.startswith(f"Everything.take: argument {name!r}")
    assert "\n" not in told
    assert len(told) < 250


def test_nothing_reaches_the_pipe_of_a_call_that_is_refused() -> None:
    ram = Ram()
    deep: Any = 3
    for _ in range(100):
        deep = [deep]
    with served(ram) as (service, call):
        store = call().proxy
        end = vars(store)["_caller"]._channel._link._pipe
        before = end.statistics()
        for refused, words in (
            (lambda: store.read("three"), "argument 'block' is 'three' (str): expected int"),
            (lambda: store.read(), "missing a required argument: 'block'"),
            (lambda: store.read(1, True), "too many positional arguments"),
            (lambda: store.read(1, frsh=True), "has no parameter 'frsh'; did you mean 'fresh'?"),
            (lambda: store.raed(1), "declares no method 'raed'; did you mean 'read'?"),
            (lambda: store.zzz(1), "it declares read, write"),
            (lambda: store.points([Point(1), Point("x")]), "argument 'points', at [1].x: expected 'int', got 'str'"),
            (lambda: store.echo(deep), "nested more than 64 deep"),
            (lambda: store.echo(object()), "argument 'value'"),
            (lambda: store.write(1, bytes(1 << 20)), "pass large ones as regions"),
            (lambda: setattr(store, "read", 3), "'read' cannot be set"),
        ):
            with pytest.raises(vnet.InterfaceError) as caught:
                refused()
            assert words in str(caught.value)
        assert end.statistics() == before
        assert ram.asked == []
        assert store.read(3) == b"\3\3\3\3"
        assert end.statistics() != before
        assert service.under_way == 0


def test_defaults_are_those_of_the_callers_interface() -> None:
    ram = Ram()
    with served(ram) as (_, call):
        store = call().proxy
        store.points([])
        store.points([Point(2)], (3, "x"))
        store.points(at=(4, "y"), points=[])
        store.read(1, fresh=True)
    assert ram.asked == [
        ("points", [], (0, "")),
        ("points", [Point(2)], (3, "x")),
        ("points", [], (4, "y")),
        ("read", 1, True),
    ]


def test_the_callers_interface_may_be_a_part_of_the_services() -> None:
    from typing import Protocol

    class Writing(Protocol):
        def write(self, block: int, data: bytes) -> None: ...

        def read(self, block: int, *, fresh: bool = False) -> bytes: ...

    class Other(Protocol):
        def read(self, block: str) -> bytes: ...

        def erase(self) -> None: ...

        def who(self) -> str | None: ...

    ram = Ram()
    with served(ram) as (_service, call):
        part = call(Writing).proxy
        part.write(3, b"x")
        assert part.read(4) == b"\4\4\4\4"
        with pytest.raises(vnet.InterfaceError) as caught:
            call(Other)
        told = str(caught.value)
        assert "read (the service has read(block: int, *, fresh: bool = False) -> bytes)" in told
        assert "erase (the service has none)" in told
        assert "who" not in told.replace("whole", "")
        # The pipe of the one that was refused is closed; the other goes on.
        assert part.read(5) == b"\5\5\5\5"
        assert ram.asked == [("write", 3, b"x"), ("read", 4, False), ("read", 5, False)]


@settings(max_examples=examples(120), deadline=None)
@given(anything, st.integers(1, 6))
def test_depth_is_what_walking_the_value_finds(value: Any, limit: int) -> None:
    def depth(value: Any) -> int:
        if isinstance(value, dict):
            return 1 + max((max(depth(k), depth(v)) for k, v in value.items()), default=0)
        return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0

    assert too_deep(msgspec.msgpack.encode(value), limit) == (depth(value) > limit)


@settings(max_examples=examples(120), deadline=None)
@given(st.binary(max_size=60), st.integers(1, 4))
def test_depth_of_anything_is_found_without_an_error(data: bytes, limit: int) -> None:
    assert too_deep(data, limit) in (True, False)
