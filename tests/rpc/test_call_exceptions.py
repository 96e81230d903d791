"""What a service raises reaches its caller with its type, where the caller knows that type, and by name where not."""

from __future__ import annotations

import logging
from typing import Protocol

import pytest
from rpc_support import NoSuchBlock, Ram, served

import vnet


def test_exceptions_arrive_with_their_type_and_what_they_bear() -> None:
    with served(Ram()) as (_, call):
        store = call().proxy
        with pytest.raises(NoSuchBlock, match="no block 7 at all") as declared:
            store.fail("declared")
        assert declared.value.block == 7
        with pytest.raises(FileNotFoundError) as missing:
            store.fail("file")
        assert (missing.value.errno, missing.value.filename) == (2, "/nonexistent/file")
        with pytest.raises(vnet.RegionNotFound, match="no region 12"):
            store.fail("vnet")
        with pytest.raises(KeyError) as key:
            store.fail("key")
        assert key.value.args == ("block", 3)
        with pytest.raises(ValueError, match="object object"):
            store.fail("odd")
        assert store.fail("nothing") is None


def test_others_arrive_as_remote_errors_that_name_them() -> None:
    with served(Ram()) as (_, call):
        store = call().proxy
        with pytest.raises(vnet.RemoteError, match=r"rpc_support\.Unknown: \('hm', 3\)") as unknown:
            store.fail("unknown")
        assert unknown.value.remote_type == "rpc_support.Unknown"
        # Of those that mean something to the code around a call, none gets out of it.
        for how in ("stop", "exit"):
            with pytest.raises(vnet.RemoteError, match=r"StopIteration|SystemExit"):
                store.fail(how)
        assert store.read(1) == b"\1\1\1\1"


def test_the_remote_traceback_is_a_note_and_an_attribute() -> None:
    with served(Ram()) as (_, call), pytest.raises(ValueError, match="object") as caught:
        call().proxy.fail("odd")
    assert "rpc_support.py" in caught.value.remote_traceback
    (note,) = caught.value.__notes__
    assert note.startswith("raised by 'store' of 'host', fail:\nTraceback")
    with served(Ram(), tracebacks=False) as (_, call), pytest.raises(ValueError, match="object") as quiet:
        call().proxy.fail("odd")
    assert quiet.value.remote_traceback == ""
    assert not hasattr(quiet.value, "__notes__")


def test_a_class_that_only_the_service_knows_is_not_made() -> None:
    class Failing(Protocol):
        def fail(self, how: str) -> None: ...

    with served(Ram()) as (_, call), pytest.raises(vnet.RemoteError, match="NoSuchBlock: no block 7 at all"):
        call(Failing).proxy.fail("declared")


def test_a_result_of_another_type_is_told_to_both_sides(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "vnet.rpc")
    told = r"Store\.fail returned 5 \(int\), and declares None"
    with served(Ram()) as (_, call), pytest.raises(vnet.RemoteError, match=told):
        call().proxy.fail("wrong")
    assert "service 'store': Store.fail returned 5 (int), and declares None" in caplog.text


def test_a_result_that_is_too_large_is_told_and_the_next_call_goes_on() -> None:
    with served(Ram()) as (_, call):
        store = call().proxy
        with pytest.raises(
            vnet.InterfaceError, match=r"the answer takes .* more than the 1048576 that the caller takes"
        ):
            list(store.count(1, 2 << 20))
        assert store.read(1) == b"\1\1\1\1"


def test_a_caller_says_that_its_stand_in_is_what_is_called() -> None:
    with served(Ram()) as (_, call):
        caller = call()
        with pytest.raises(AttributeError, match=r"a Caller has no 'read'.*\.proxy, or what `with"):
            caller.read(3)
        assert caller.proxy.read(3)
