"""Whatever bytes a peer writes: the object is not touched by what is no call, and nobody else suffers."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rpc_support import Point, Ram, Store, served
from support import eventually, examples

import vnet
from vnet import pipes
from vnet.rpc import Limits, interface_of, wire
from vnet.rpc.channel import Channel
from vnet.rpc.failures import DECODER, Failure, exception_of
from vnet.rpc.inbound import Asked, Garbage, Judge, greet_bytes, judge_bytes
from vnet.rpc.links import PipeLink
from vnet.rpc.wire import HEAD, bare, head_into

_STORE = interface_of(Store)


def _message(kind: int, call: int, method: int = 0, body: bytes = b"", credit: int = 0) -> bytes:
    message = bytearray(HEAD) + body
    head_into(message, 0, kind, credit, method, call)
    return bytes(message)


def _call(call: int, method: str, *arguments: Any) -> bytes:
    return _message(wire.CALL, call, _STORE.methods[method].number, msgspec.msgpack.encode(arguments))


@settings(max_examples=examples(200), deadline=None)
@given(st.binary(max_size=80), st.integers(0, 255), st.integers(0, 9), st.integers(0, 3))
def test_no_bytes_have_the_judge_fail(body: bytes, kind: int, method: int, call: int) -> None:
    words = ("asked", "cancelled", "credited", "refused", "garbage")
    assert judge_bytes(_STORE, body) in words
    assert judge_bytes(_STORE, _message(kind, call, method, body)) in words
    assert greet_bytes(_STORE, _message(kind, call, method, body)) in ("describe", "welcome", "refused", "garbage")


@settings(max_examples=examples(150), deadline=None)
@given(st.data())
def test_mutated_calls_are_refused_or_are_calls_of_the_declared_types(data: st.DataObject) -> None:
    whole = bytearray(_call(1, "points", [Point(1), Point(2, 3.0)], (1, "x")))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del whole[data.draw(st.integers(0, len(whole))) :]
    if data.draw(st.booleans()):
        whole += data.draw(st.binary(min_size=1, max_size=3))
    try:
        asked = Judge(_STORE, Limits()).judge(bytes(whole))
    except Garbage:
        return
    if isinstance(asked, Asked):
        # The oracle: the same value again, through types that msgspec checks by another way than from bytes.
        method = asked.method
        again = msgspec.convert(msgspec.to_builtins(asked.request, builtin_types=(bytes,)), type(asked.request))
        assert msgspec.structs.astuple(again) == msgspec.structs.astuple(asked.request) or method.name != "points"


class _Raw:
    """A caller that writes what it likes."""

    def __init__(self, service: Any, *, greet: bool = True) -> None:
        mine, theirs = pipes.pair(messages=True)
        assert service.adopt(PipeLink(theirs), "mallory")
        self.pipe = mine
        self.end = mine._end
        if greet:
            self.end.write(bare(wire.HELLO) + wire.encode(wire.hello(_STORE, 1 << 20)))
            assert self.read()[0] == wire.WELCOME

    def read(self) -> bytes:
        data = self.end.read_message(True, 5.0)
        assert data is not None
        return data

    def ask(self, message: bytes) -> Failure | bytes:
        self.end.write(message)
        data = self.read()
        return DECODER.decode(data[HEAD:]) if data[0] == wire.FAILED else data[HEAD:]

    def closed(self) -> bool:
        try:
            while True:
                self.read()
        except (EOFError, ConnectionError):
            self.pipe.close()
            return True


def test_what_is_no_declared_call_is_answered_and_never_reaches_the_object() -> None:
    ram = Ram()
    deep = b"\x91" * 400 + b"\xc0"
    with served(ram, limits=Limits(message=4096)) as (service, _):
        raw = _Raw(service)
        for number, (message, words) in enumerate(
            [
                (_message(wire.CALL, 0, 99, b"\x90"), "no method of number 99"),
                (_message(wire.CALL, 0, 0, b"\x90"), "at least length 1"),
                (_message(wire.CALL, 0, 0, msgspec.msgpack.encode(["x", True])), "argument 'block'"),
                (_message(wire.CALL, 0, 0, msgspec.msgpack.encode([1, True, 3])), "at most length 2"),
                (_message(wire.CALL, 0, 0, msgspec.msgpack.encode([1, True]) + b"x"), "trailing"),
                (_message(wire.CALL, 0, 0, msgspec.msgpack.encode({"block": 1})), "expected 'array'"),
                (_message(wire.CALL, 0, 0, b""), "truncated"),
                (_message(wire.CALL, 0, 0, b"\xc1"), "malformed"),
                (_message(wire.CALL, 0, _STORE.methods["echo"].number, b"\x91" + deep), "nested more than 64 deep"),
                (_message(wire.CALL, 0, _STORE.methods["echo"].number, b"\x91" + b"\x91" * 3000), "nested more"),
                (_message(wire.CALL, 0, 0, bytes(5000)), "more than the 4096 that the service takes"),
            ],
            start=1,
        ):
            whole = bytearray(message)
            head_into(whole, 0, wire.CALL, 0, int.from_bytes(message[2:4], "little"), number)
            failure = raw.ask(bytes(whole))
            assert isinstance(failure, Failure), (words, failure)
            assert (failure.origin, failure.name) == ("vnet", "InterfaceError")
            assert words in failure.message
        assert ram.asked == []
        # And still it serves on that very pipe.
        assert raw.ask(_call(100, "read", 3, False)) == msgspec.msgpack.encode(b"\3\3\3\3")
        raw.pipe.close()


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"x",
        bytes(HEAD - 1),
        bytes(HEAD),
        bare(wire.RESULT, 1),
        bare(wire.HELLO),
        _message(wire.CANCEL, 1, 0, b"x"),
        _call(0, "read", 3, False),
        bytes(random.Random(7).randbytes(300)),
    ],
    ids=lambda data: data[:6].hex() or "empty",
)
def test_garbage_closes_the_pipe_that_it_came_on_and_no_other(garbage: bytes) -> None:
    ram = Ram()
    with served(ram) as (service, call):
        other = call().proxy
        raw = _Raw(service)
        raw.end.write(garbage)
        assert raw.closed()
        assert other.read(3) == b"\3\3\3\3"
        assert ram.asked == [("read", 3, False)]
        assert eventually(lambda: len(service.connections) == 1)


def test_a_call_that_bears_a_number_twice_is_garbage() -> None:
    with served(Ram()) as (service, _):
        raw = _Raw(service)
        assert isinstance(raw.ask(_call(5, "read", 3, False)), bytes)
        raw.end.write(_call(5, "read", 3, False))
        assert raw.closed()


def test_a_greeting_of_another_version_is_refused_with_both_versions() -> None:
    with served(Ram()) as (service, _):
        for version, extra in ((2, []), (7, [{"more": 1}])):
            raw = _Raw(service, greet=False)
            said = [*msgspec.to_builtins(wire.hello(_STORE, 1 << 20)), *extra]
            said[1] = version
            raw.end.write(bare(wire.HELLO) + msgspec.msgpack.encode(said))
            data = raw.read()
            assert data[0] == wire.REFUSED
            told = DECODER.decode(data[HEAD:]).message
            assert f"version {version}" in told
            assert "version 1" in told
            raw.pipe.close()
        for said in (
            b"GET / HTTP/1.1\r\n\r\n",
            bare(wire.HELLO) + msgspec.msgpack.encode(["ssh", 1]),
            bare(wire.CALL, 1),
        ):
            raw = _Raw(service, greet=False)
            raw.end.write(said)
            assert raw.closed()


def test_one_that_never_says_hello_does_not_stay() -> None:
    with served(Ram(), limits=Limits(greeting=0.05, connections=2)) as (service, call):
        silent = _Raw(service, greet=False)
        assert silent.closed()
        assert eventually(lambda: service.connections == ())
        assert call().proxy.read(1) == b"\1\1\1\1"


def test_more_calls_than_may_be_under_way_are_refused_and_the_others_go_on() -> None:
    ram = Ram()
    with served(ram, limits=Limits(calls=3)) as (service, _):
        raw = _Raw(service)
        for number in range(1, 4):
            raw.end.write(_call(number, "wait", 10.0))
        assert eventually(lambda: len(ram.asked) == 3)
        failure = raw.ask(_call(4, "read", 3, False))
        assert isinstance(failure, Failure)
        assert failure.name == "ServiceBusy"
        raw.pipe.close()
        assert ram.given_up.wait(5.0)


def test_credit_and_cancel_of_calls_that_are_not_there_are_no_mistake() -> None:
    with served(Ram()) as (service, _):
        raw = _Raw(service)
        raw.end.write(bare(wire.CREDIT, 77, 5))
        raw.end.write(bare(wire.CANCEL, 78))
        assert isinstance(raw.ask(_call(80, "read", 3, False)), bytes)
        raw.pipe.close()


@contextlib.contextmanager
def _hostile(*answers: bytes) -> Iterator[Channel]:
    """A channel to a service that says hello well, and then whatever it likes."""
    mine, theirs = pipes.pair(messages=True)
    welcome = wire.Welcome(1, list(range(len(_STORE.methods))), 1 << 20, 64, 64)
    for message in (bare(wire.WELCOME) + wire.encode(welcome), *answers):
        theirs._end.write(message)
    theirs.shut_write()
    channel = Channel(PipeLink(mine), _STORE, "'store' of 'mallory'", Limits(), 5.0)
    try:
        yield channel
    finally:
        channel.close()
        theirs.close()


@pytest.mark.parametrize(
    ("answer", "expected", "words"),
    [
        (_message(wire.RESULT, 1, 0, msgspec.msgpack.encode(5)), vnet.InterfaceError, "other than bytes"),
        (_message(wire.RESULT, 1, 0, b"\xc1"), vnet.InterfaceError, "other than bytes"),
        (_message(wire.RESULT, 1, 0, msgspec.msgpack.encode(b"x") + b"y"), vnet.InterfaceError, "trailing"),
        (_message(wire.FAILED, 1, 0, b"\x90"), vnet.InterfaceError, "cannot be read"),
        (_message(wire.ITEM, 1, 0, msgspec.msgpack.encode(b"x")), vnet.InterfaceError, "values of a stream"),
        (b"x", vnet.ServiceGone, "what no service says"),
        (bare(99, 1), vnet.ServiceGone, "what no service says"),
        (bare(wire.CALL, 1), vnet.ServiceGone, "what no service says"),
        (_message(wire.RESULT, 99, 0, b"\xc0"), vnet.ServiceGone, "gone"),
    ],
    ids=str,
)
def test_a_hostile_service_breaks_that_call_and_nothing_else(answer: bytes, expected: Any, words: str) -> None:
    method = _STORE.methods["read"]
    with _hostile(answer) as channel, pytest.raises(expected, match=words):
        channel.call(method, method.encode((3,), {}, HEAD, 64), 5.0)


def test_what_greets_like_no_service_is_told_so() -> None:
    for answer in (b"", b"HTTP/1.1 400", bare(wire.WELCOME), bare(wire.WELCOME) + wire.encode([1, [], 1, 1, 1])):
        mine, theirs = pipes.pair(messages=True)
        theirs._end.write(answer)
        with pytest.raises(vnet.ServiceGone, match="does not serve calls"):
            Channel(PipeLink(mine), _STORE, "'store' of 'mallory'", Limits(), 5.0)
        mine.close()
        theirs.close()


@settings(max_examples=examples(120), deadline=None)
@given(
    st.builds(
        Failure,
        st.sampled_from(["python", "vnet", "interface", "", "os"]),
        st.sampled_from(["ValueError", "OSError", "UnicodeDecodeError", "SystemExit", "NoSuch", "LabError", "system"]),
        st.text(max_size=20),
        st.none() | st.lists(st.none() | st.integers(0, 99) | st.text(max_size=5) | st.binary(max_size=5), max_size=6),
        st.dictionaries(st.text(max_size=8) | st.just("__class__") | st.just("args"), st.text(max_size=5), max_size=3),
        st.text(max_size=20),
    )
)
def test_any_failure_becomes_an_exception_of_a_class_that_was_there_before(failure: Failure) -> None:
    class NoSuch(Exception):
        def __init__(self) -> None:
            raise AssertionError("no code of the class runs")

    error = exception_of(failure, {"NoSuch": NoSuch}, "'store' of 'mallory'")
    assert isinstance(error, (ValueError, OSError, NoSuch, vnet.VnetError))
    assert str(error) is not None
