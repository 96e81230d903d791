"""Calls: what other processes ask of a base, beside letting them attach."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import support

import vnet
from vnet.calls import Call, call, stream
from vnet.control import describe


def test_a_call_gets_the_arguments_and_gives_the_answer(named: vnet.Lan) -> None:
    named.serve("add", lambda lan, call: {"sum": call.argument("a", int) + call.argument("b", int, 5), "lan": lan.name})
    answer = call("office", "add", a=2)
    assert (answer["sum"], answer["lan"]) == (7, "office")


@pytest.mark.parametrize(
    ("error", "message"),
    [(vnet.NameTaken, "there is one"), (ValueError, "no number")],
)
def test_what_a_handler_refuses_is_raised_where_it_was_called(
    named: vnet.Lan, error: type[Exception], message: str
) -> None:
    def refuse(lan: vnet.Lan, call: Call) -> None:
        raise error(message)

    named.serve("refuse", refuse)
    with pytest.raises(error, match=message):
        call("office", "refuse")


def test_a_handler_that_fails_is_told_and_the_base_goes_on(named: vnet.Lan) -> None:
    named.serve("fail", lambda lan, call: {"share": 1 / 0})
    with pytest.raises(vnet.VnetError, match="the base failed at this request: ZeroDivisionError"):
        call("office", "fail")
    vnet.attach("office", "a").close()


def test_a_call_that_nobody_serves_names_those_that_are(named: vnet.Lan) -> None:
    named.serve("sing", lambda lan, call: None)
    with pytest.raises(vnet.ProtocolError, match=r"does not serve 'dance'; it serves attach, .*sing"):
        call("office", "dance")


@pytest.mark.parametrize(
    ("given", "why"), [({}, "needs 'count'"), ({"count": "two"}, "is not 'two'"), ({"count": True}, "is not True")]
)
def test_a_wrong_argument_is_refused(named: vnet.Lan, given: dict[str, Any], why: str) -> None:
    named.serve("count", lambda lan, call: {"count": call.argument("count", int)})
    with pytest.raises(vnet.ProtocolError, match=why):
        call("office", "count", **given)


def test_answers_come_one_by_one_and_the_last_is_the_result(named: vnet.Lan) -> None:
    heard = threading.Event()

    def count(lan: vnet.Lan, call: Call) -> dict[str, Any]:
        call.send({"number": 1})
        # The first is with the client before the second is sent.
        assert heard.wait(10)
        call.send({"number": 2})
        return {"numbers": 2}

    named.serve("count", count)
    with stream("office", "count") as answers:
        assert next(answers)["number"] == 1
        heard.set()
        assert [answer["number"] for answer in answers] == [2]
        assert answers.result is not None
        assert answers.result["numbers"] == 2


def test_descriptors_go_both_ways(named: vnet.Lan) -> None:
    def shout(lan: vnet.Lan, call: Call) -> dict[str, Any]:
        os.write(call.files[0], b"from the base")
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.sendall(b"by descriptor")
            call.send({}, [theirs.fileno()])
        return {}

    named.serve("shout", shout)
    before = len(support.descriptors())
    reading, writing = os.pipe()
    with stream("office", "shout", files=[writing]) as answers:
        assert len(list(answers)) == 1
        (received,) = answers.take_files()
    assert os.read(reading, 100) == b"from the base"
    with socket.socket(fileno=received) as other:
        assert other.recv(100) == b"by descriptor"
    os.close(reading)
    os.close(writing)
    assert support.eventually(lambda: len(support.descriptors()) == before)


def test_a_handler_learns_that_its_client_has_gone(named: vnet.Lan) -> None:
    gone: list[float] = []

    def follow(lan: vnet.Lan, call: Call) -> None:
        call.send({})
        assert call.gone(10)
        gone.append(time.monotonic())

    named.serve("follow", follow)
    answers = stream("office", "follow")
    next(answers)
    assert not gone
    answers.close()
    assert support.eventually(lambda: gone)


def test_the_end_of_a_lan_ends_its_calls(named: vnet.Lan) -> None:
    def follow(lan: vnet.Lan, call: Call) -> None:
        call.send({})
        while not call.gone(60):
            raise AssertionError("nobody told the handler")

    named.serve("follow", follow)
    with stream("office", "follow") as answers:
        next(answers)
        named.close()
        assert not [name for name in support.threads().values() if name == "vnet-call"]
        with pytest.raises(vnet.LanClosed):
            next(answers)


def test_the_call_that_ends_the_lan_is_answered(named: vnet.Lan) -> None:
    def end(lan: vnet.Lan, call: Call) -> dict[str, Any]:
        lan.close()
        return {"ended": True}

    named.serve("end", end)
    assert call("office", "end")["ended"]
    assert named.closed


def test_more_calls_than_the_base_has_threads_for_are_refused(named: vnet.Lan) -> None:
    def follow(lan: vnet.Lan, call: Call) -> None:
        call.send({})
        call.gone(60)

    named.serve("follow", follow)
    streams = [stream("office", "follow") for _ in range(64)]
    for each in streams:
        next(each)
    with stream("office", "follow") as refused, pytest.raises(vnet.LanFull, match="64 calls"):
        next(refused)
    for each in streams:
        each.close()


def test_a_base_that_is_stopped_is_named(named: vnet.Lan) -> None:
    named.serve("hang", lambda lan, call: {"gone": call.gone(60)})
    with pytest.raises(vnet.ProtocolError, match="did not answer within"):
        call("office", "hang", timeout=0.1)


def test_a_forked_child_keeps_no_call(named: vnet.Lan) -> None:
    def follow(lan: vnet.Lan, call: Call) -> None:
        call.send({})
        call.gone(60)

    named.serve("follow", follow)
    with stream("office", "follow") as answers:
        next(answers)
        ours = support.descriptors()
        mine = {fd for fd, what in ours.items() if what.startswith("socket:")} - {answers.fileno()}
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            left = {fd for fd, what in support.descriptors().items() if ours.get(fd) == what and fd in mine}
            os.write(writing, str(len(left)).encode())
            os._exit(0)
        os.close(writing)
        os.waitpid(child, 0)
        with os.fdopen(reading) as pipe:
            assert pipe.read() == "0"


def test_a_client_that_takes_no_answers_is_as_good_as_gone(named: vnet.Lan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vnet.calls._PATIENCE", 0.2)
    ended: list[Callable[[], None] | bool] = []

    def flood(lan: vnet.Lan, call: Call) -> None:
        try:
            while True:
                call.send({"words": "x" * 10_000})
        except vnet.LanClosed:
            ended.append(call.gone())
            raise

    named.serve("flood", flood)
    with stream("office", "flood"):
        assert support.eventually(lambda: ended == [True], timeout=10)


def test_a_lan_is_whole_when_others_find_it(runtime_directory: Path) -> None:
    wrong: list[Exception] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                describe("office")
            except (vnet.LanNotFound, vnet.LanClosed):
                continue
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        with vnet.Lan("office", "10.0.0.0/24"):
            pass
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong
