"""Streams: values as they are made, no more than the caller has room for, and an end at both sides."""

from __future__ import annotations

import gc
import itertools
import threading
from collections.abc import Iterator
from typing import Protocol

import pytest
from rpc_support import Ram, served
from support import eventually

import vnet
from vnet.rpc import Limits, with_timeout


def test_a_stream_yields_all_values_in_order() -> None:
    with served(Ram()) as (service, call):
        store = call().proxy
        assert [int.from_bytes(value, "big") for value in store.count(1000)] == list(range(1000))
        assert list(store.count(0)) == []
        one, two = store.count(100), store.count(100)
        assert [(a, b) for a, b in zip(one, two, strict=True)] == [(n.to_bytes(8, "big"),) * 2 for n in range(100)]
        assert eventually(lambda: service.under_way == 0)


def test_a_slow_reader_holds_back_the_producer_and_no_other_call() -> None:
    ram = Ram()
    limits = Limits(window=8)
    with served(ram, limits=limits) as (_service, call):
        store = call().proxy
        stream = store.count(1000, 1000)
        next(stream)
        assert eventually(lambda: ram.made >= 8)
        for _ in range(50):
            assert store.read(3) == b"\3\3\3\3"
        # Eight under way, and no more than that was asked of the generator.
        assert ram.made <= 1 + 8
        assert len(list(itertools.islice(stream, 20))) == 20
        assert eventually(lambda: ram.made > 20)
        assert ram.made <= 21 + 8
        stream.close()
        assert ram.closed.wait(5.0)


def test_more_streams_than_handlers_stand_still_at_no_cost() -> None:
    with served(Ram(), limits=Limits(handlers=2, window=4)) as (_, call):
        store = call().proxy
        streams = [store.count(100) for _ in range(20)]
        assert [next(each) for each in streams] == [bytes(8)] * 20
        assert store.read(3) == b"\3\3\3\3"
        assert sum(len(list(each)) for each in streams) == 20 * 99


def test_closing_a_stream_closes_the_generator_at_the_service() -> None:
    ram = Ram()
    with served(ram) as (service, call):
        store = call().proxy
        with store.count(1 << 40) as stream:
            assert next(stream) == bytes(8)
        assert ram.closed.wait(5.0)
        assert list(stream) == []
        assert eventually(lambda: service.under_way == 0)
        assert store.read(3) == b"\3\3\3\3"


def test_a_stream_that_is_dropped_is_closed_with_the_next_call() -> None:
    ram = Ram()
    with served(ram) as (_, call):
        store = call().proxy
        next(store.count(1 << 40))
        gc.collect()
        store.read(3)
        assert ram.closed.wait(5.0)


def test_the_end_of_the_caller_closes_its_generators() -> None:
    ram = Ram()
    with served(ram) as (_, call):
        caller = call()
        next(caller.proxy.count(1 << 40))
        caller.close()
        assert ram.closed.wait(5.0)


def test_an_exception_in_a_stream_comes_after_the_values_before_it() -> None:
    class Failing(Protocol):
        def count(self) -> Iterator[int]: ...

        def wrong(self) -> Iterator[int]: ...

        def none(self) -> Iterator[int]: ...

    class Fails:
        def count(self) -> Iterator[int]:
            yield 1
            yield 2
            raise LookupError("no third")

        def wrong(self) -> Iterator[int]:
            yield 1
            yield "two"  # type: ignore[misc]

        def none(self) -> Iterator[int]:
            return None  # type: ignore[return-value]

    with served(Fails(), Failing) as (_, call):
        proxy = call().proxy
        got = []
        with pytest.raises(LookupError, match="no third"):
            for value in proxy.count():
                got.append(value)
        assert got == [1, 2]
        with pytest.raises(vnet.RemoteError, match=r"Failing\.wrong yielded 'two' \(str\), and declares int"):
            list(proxy.wrong())
        with pytest.raises(vnet.RemoteError, match="declares a stream"):
            list(proxy.none())


def test_the_timeout_holds_for_each_value() -> None:
    gate = threading.Event()

    class Gated(Protocol):
        def values(self) -> Iterator[int]: ...

    class Waits:
        def values(self) -> Iterator[int]:
            yield 1
            gate.wait(10.0)
            yield 2

    with served(Waits(), Gated) as (_, call):
        stream = with_timeout(call().proxy, 0.05).values()
        assert next(stream) == 1
        with pytest.raises(vnet.CallTimeout):
            next(stream)
        gate.set()
        assert list(stream) == []


def test_a_caller_that_reads_nothing_holds_up_no_other_caller() -> None:
    ram = Ram()
    with served(ram, limits=Limits(handlers=2)) as (_, call):
        # More than the pipe holds, and nobody reads it.
        streams = [call().proxy.count(1000, 500_000) for _ in range(4)]
        other = call().proxy
        for _ in range(20):
            assert other.read(3) == b"\3\3\3\3"
        assert sum(len(value) for value in itertools.islice(streams[0], 40)) == 40 * 500_008
        for each in streams:
            each.close()
