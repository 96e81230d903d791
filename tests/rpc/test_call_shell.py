"""Calls by somebody who has no interface: words become arguments, checked against what the service tells."""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pytest
from rpc_support import Circle, Color, Everything, NoSuchBlock, Options, Pair, Person, Point, Ram, Square, Store, Tree

import vnet
from vnet.rpc import interface_of, shell_call, shell_describe
from vnet.rpc.description import Description, describe
from vnet.rpc.inbound import Asked, Judge
from vnet.rpc.interface import Interface
from vnet.rpc.shapes import interface_from
from vnet.rpc.shell import arguments_of, caller_of
from vnet.rpc.wire import CALL, HEAD, Limits, head_into


class Odds(Protocol):
    """What a shell may have to say."""

    def tree(self, tree: Tree, color: Color = Color.RED, *, loud: bool = False) -> Tree: ...

    def text(self, text: str, maybe: str | None = None) -> str: ...

    def data(self, data: bytes) -> bytes: ...

    def when(self, day: datetime.date) -> datetime.date: ...

    def many(self, numbers: list[int]) -> dict[str, float]: ...


def _read_back(name: str, words: list[str], declared: Any = Odds) -> Any:
    """What a service gets of words, by way of what it told of itself."""
    own = interface_of(declared)
    told = msgspec.msgpack.decode(msgspec.msgpack.encode(describe(own)), type=Description)
    shell: Interface = interface_from(told)
    method = shell.method(name)
    args, kwargs = arguments_of(shell, method, words)
    message = method.encode(args, kwargs, HEAD, 64)
    head_into(message, 0, CALL, 0, own.methods[name].number, 1)
    asked = Judge(own, Limits()).judge(bytes(message))
    assert isinstance(asked, Asked)
    return asked.request


def test_words_are_json_or_else_text(tmp_path: Path) -> None:
    tree = _read_back("tree", ['{"name": "a", "children": [{"name": "b"}]}', "blue", "loud=true"])
    assert (tree.tree, tree.color, tree.loud) == (Tree("a", [Tree("b")]), Color.BLUE, True)
    assert _read_back("tree", ['tree={"name": "a"}']).color is Color.RED
    for word, value in (("3", "3"), ("three", "three"), ('"3"', "3"), ("null", "null"), ("a=b", "a=b"), ("", "")):
        assert _read_back("text", [word]).text == value
    assert _read_back("text", ["text=x", "maybe=null"]).maybe is None
    assert _read_back("text", ["x", "3"]).maybe == "3"
    (tmp_path / "file").write_bytes(b"\0\1")
    for word, data in (
        ("aGk=", b"hi"),
        ('"aGk="', b"hi"),
        ("text:hi", b"hi"),
        ("hex:6869", b"hi"),
        (f"@{tmp_path / 'file'}", b"\0\1"),
    ):
        assert _read_back("data", [word]).data == data
    assert _read_back("when", ["2024-05-06"]).day == datetime.date(2024, 5, 6)
    assert _read_back("many", ["[1, 2]"]).numbers == [1, 2]


@pytest.mark.parametrize(
    ("name", "words", "told"),
    [
        ("text", [], "missing a required argument: 'text'"),
        ("text", ["a", "b", "c"], "'c' is one argument too many"),
        ("text", ["text=a", "text=b"], "argument 'text' is given twice"),
        ("data", ["hi"], "argument 'data' is bytes, and 'hi' is none of base64"),
        ("data", ["hex:zz"], "argument 'data' is bytes"),
        ("data", ["@/nonexistent"], "No such file"),
        ("when", ["tomorrow"], "argument 'day' is 'tomorrow' (str): expected date"),
        ("many", ["[1, true]"], "argument 'numbers' is [1, True] (list), at [1], expected 'int', got 'bool'"),
        ("many", ["3"], "argument 'numbers' is 3 (int): expected list[int]"),
        ("tree", ['{"nam": "a"}'], "'nam'"),
        ("tree", ['{"name": "a"}', "green"], "argument 'color' is 'green' (str): expected Color"),
    ],
)
def test_wrong_words_are_told_by_argument(name: str, words: list[str], told: str) -> None:
    with pytest.raises(vnet.InterfaceError) as caught:
        _read_back(name, words)
    assert told in str(caught.value)
    assert str(caught.value).startswith(f"Odds.{name}")
    assert "\n" not in str(caught.value)


def test_every_type_can_be_said_in_json() -> None:
    values: dict[str, Any] = {
        "whole": 1, "real": 1.5, "flag": True, "text": "x", "data": b"\0x", "maybe": None, "several": [1],
        "moment": datetime.datetime(2024, 1, 2, 3), "day": datetime.date(2024, 1, 2), "hour": datetime.time(1, 2),
        "span": datetime.timedelta(1), "exact": "1.50", "unique": "00000000-0000-0000-0000-000000000001",
        "color": Color.BLUE, "level": 2, "choice": 3, "small": 9, "numbers": [1, 2], "pairs": ((1, "x"),),
        "names": frozenset({"a"}), "table": {"a": [1.0]}, "by_number": {3: Point(1)}, "point": Point(1, 2.0),
        "tree": Tree("a", [Tree("b")]), "shape": Square(2.0), "person": Person("x", datetime.date(2024, 1, 2)),
        "options": Options(depth=3), "named": Pair(1, "x"), "anything": {"a": [1, None]},
    }  # fmt: skip
    words = [f"{name}={msgspec.json.encode(value).decode()}" for name, value in values.items()]
    got = msgspec.structs.asdict(_read_back("take", words, Everything))
    for name, value in values.items():
        assert str(got[name]) == value if name in ("exact", "unique") else got[name] == value
    assert _read_back(
        "take", [*words[:24], 'shape={"type": "circle", "radius": 3}', *words[25:]], Everything
    ).shape == Circle(3)


def test_a_shell_calls_over_the_lan_and_prints_json(named: vnet.Lan) -> None:
    ram = Ram()
    with named.attach("host").serve_calls("store", ram, Store):
        a = named.attach("a")
        for lan in ("office", named, a):
            (line,) = shell_call(lan, "host", "store", "read", ["3", "fresh=true"])
            assert base64.b64decode(json.loads(line)) == b"\3\3\3\3"
        assert ram.asked == [("read", 3, True)] * 3
        assert list(shell_call("office", "host", "store", "who", [])) == ["null"]
        assert list(shell_call(a, "host", "store", "who", [])) == ['"a"']
        assert list(shell_call("office", "host", "store", "write", ["3", "text:hi"])) == ["null"]
        assert ram.asked[-1] == ("write", 3, b"hi")
        assert list(shell_call("office", "host", "store", "echo", ['{"a": [1, "x", null]}'])) == ['{"a":[1,"x",null]}']
        lines = shell_call("office", "host", "store", "count", ["1000000000"])
        assert [json.loads(next(lines)) for _ in range(2)] == [
            base64.b64encode(number.to_bytes(8, "big")).decode() for number in range(2)
        ]
        lines.close()  # type: ignore[attr-defined]
        assert ram.closed.wait(5.0)


def test_what_a_shell_gets_wrong_is_told_before_the_object_is_asked(named: vnet.Lan) -> None:
    ram = Ram()
    with named.attach("host").serve_calls("store", ram, Store):
        for name, words, told in (
            ("raed", ["3"], "Store declares no method 'raed'; did you mean 'read'?"),
            ("read", ["x"], "Store.read: argument 'block' is 'x' (str): expected int"),
        ):
            with pytest.raises(vnet.InterfaceError) as caught:
                list(shell_call("office", "host", "store", name, words))
            assert told in str(caught.value)
            assert not hasattr(caught.value, "remote_type")
        assert ram.asked == []
        # Of what the service declares as raised a shell has no class.
        with pytest.raises(vnet.RemoteError, match="NoSuchBlock: no block 7"):
            list(shell_call("office", "host", "store", "fail", ["declared"]))
        with pytest.raises(KeyError) as remote:
            list(shell_call("office", "host", "store", "fail", ["key"]))
        assert remote.value.remote_type == "KeyError"  # type: ignore[attr-defined]
        with pytest.raises(vnet.ServiceNotFound):
            list(shell_call("office", "host", "stor", "read", ["3"]))
        assert NoSuchBlock


def test_a_service_tells_its_interface(named: vnet.Lan) -> None:
    with named.attach("host").serve_calls("store", Ram(), Store):
        told = shell_describe("office", "host", "store")
    assert told == msgspec.convert(told.to_json(), Description)
    assert (told.name, told.doc) == ("Store", "A block store.")
    assert next(method.text for method in told.methods) == "read(block: int, *, fresh: bool = False) -> bytes"
    assert told.methods[2].raises == ["NoSuchBlock"]


def test_plain_values_do_where_there_are_no_classes(named: vnet.Lan) -> None:
    with named.attach("host").serve_calls("store", Ram(), Store):
        pipe = named.attach("a").connect("host", "store", messages=True)
        description, caller = caller_of(pipe, "'store' of 'host'")
        with caller as store:
            assert store.points([{"x": 1}, {"x": 2, "y": 0.5}], at=[3, "x"]) == 2
            assert store.read(3) == b"\3\3\3\3"
        assert description.methods[0].name == "read"


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told.methods[0].parameters[0].type.update(type="nothing"),
        lambda told: told.methods[0].parameters[0].type.clear(),
        lambda told: setattr(told.methods[0], "name", "_caller"),
        lambda told: setattr(told.methods[0].parameters[0], "name", "__init__"),
        lambda told: setattr(told.methods[0].parameters[0], "name", "a b"),
        lambda told: told.definitions["Point"]["fields"].append({}),
        lambda told: told.definitions.clear(),
        lambda told: told.definitions["Point"].update(fields="abc"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(change: Any) -> None:
    told = describe(interface_of(Store))
    told = msgspec.msgpack.decode(msgspec.msgpack.encode(told), type=Description)
    change(told)
    with pytest.raises(vnet.InterfaceError, match="makes no sense"):
        interface_from(told)
    assert Iterator
