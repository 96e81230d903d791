"""Calls of many threads over one pipe, calls that are given up, and services that close."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import pytest
from rpc_support import Ram, Store, served
from support import eventually, threads

import vnet
from vnet.rpc import Limits, current_call, start, with_timeout


def test_threads_share_a_pipe_and_each_gets_its_own_answers() -> None:
    with served(Ram()) as (_, call), ThreadPoolExecutor(8) as pool:
        store = call().proxy

        def ask(thread: int) -> bool:
            return all(store.echo([thread, count]) == [thread, count] for count in range(200))

        assert all(pool.map(ask, range(8)))


def test_a_slow_call_holds_up_no_other_of_its_pipe() -> None:
    with served(Ram()) as (_, call), ThreadPoolExecutor(16) as pool:
        store = call().proxy
        slow = [pool.submit(store.wait, 30.0) for _ in range(8)]
        assert store.read(3) == b"\3\3\3\3"
        assert all(pool.map(lambda number: store.echo(number) == number, range(50)))
        assert not any(each.done() for each in slow)
        # The end of the pipe is the end of those that wait.
        call_of(store).close()
        assert all(isinstance(each.exception(5.0), vnet.ServiceGone) for each in slow)


def call_of(store: Any) -> Any:
    return vars(store)["_caller"]


def test_a_reader_that_is_busy_is_relieved_and_slow_methods_are_remembered() -> None:
    with served(Ram()) as (service, call):
        store = call().proxy
        number = [method.name for method in service.interface.numbered].index("wait")
        assert not service.is_slow(number)
        store.wait(0.1)
        assert service.is_slow(number)
        # Quick again: after some calls readers work on it themselves again.
        for _ in range(40):
            store.wait(0.0)
        assert eventually(lambda: not service.is_slow(number))


def test_a_timeout_ends_the_call_at_both_ends_and_the_pipe_goes_on() -> None:
    ram = Ram()
    with served(ram) as (service, call):
        store = call(timeout=0.3).proxy
        with pytest.raises(vnet.CallTimeout, match=r"did not answer within 0\.3 s"):
            store.wait(30.0)
        assert ram.given_up.wait(5.0)
        assert store.read(3) == b"\3\3\3\3"
        assert with_timeout(store, None).wait(0.1) is False
        with pytest.raises(TimeoutError):
            with_timeout(store, 0).wait(1.0)
        assert eventually(lambda: service.under_way == 0)
        for wrong in (-1, "3", float("nan")):
            with pytest.raises((ValueError, TypeError), match="seconds"):
                with_timeout(store, wrong)  # type: ignore[arg-type]


def test_a_call_that_is_started_can_be_waited_for_and_cancelled() -> None:
    ram = Ram()
    with served(ram) as (_, call):
        store: Store = call().proxy
        first, second = start(store.wait, 0.05), start(store.read, 3)
        assert second.result() == b"\3\3\3\3"
        assert first.result(5.0) is False
        assert first.result() is False
        assert first.done()
        assert not first.cancel()

        waiting = start(store.wait, 30.0)
        with pytest.raises(vnet.CallTimeout):
            waiting.result(0.01)
        assert not waiting.done()
        assert eventually(lambda: ("wait", 30.0) in ram.asked)
        threading.Timer(0.05, waiting.cancel).start()
        with pytest.raises(vnet.CallCancelled):
            waiting.result()
        assert ram.given_up.wait(5.0)
        assert store.read(4) == b"\4\4\4\4"
        with pytest.raises(vnet.InterfaceError, match="is a stream"):
            start(store.count, 3)
        with pytest.raises(vnet.InterfaceError, match="takes a method"):
            start(len, [])


def test_a_call_whose_answer_nobody_takes_goes_on_and_leaves_nothing() -> None:
    ram = Ram()
    with served(ram) as (_, call):
        store = call().proxy
        for number in range(50):
            start(store.write, number, b"x")
        assert store.read(3) == b"\3\3\3\3"
        assert len(ram.asked) == 51
        assert call_of(store)._channel._waiting == {}


def test_more_calls_than_a_pipe_holds_can_be_started_before_any_is_waited_for() -> None:
    # Both directions fill up: whoever writes must read meanwhile.
    limits = Limits(calls=4096)
    with served(Ram(), limits=limits) as (_, call):
        store = call().proxy
        blob = bytes(300_000)
        pending = [start(store.echo, [number, blob]) for number in range(40)]
        assert [each.result(20.0)[0] for each in pending] == list(range(40))


def test_handlers_are_bounded_and_what_waits_has_its_turn() -> None:
    most = 0
    inside = 0
    lock = threading.Lock()

    class Counting(Protocol):
        def work(self) -> None: ...

    class Counted:
        def work(self) -> None:
            nonlocal most, inside
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.01)
            with lock:
                inside -= 1

    with served(Counted(), Counting, limits=Limits(handlers=3)) as (_, call):
        proxy = call().proxy
        pending = [start(proxy.work) for _ in range(30)]
        for each in pending:
            each.result(10.0)
    # One beside them may be the reader's own.
    assert 2 <= most <= 4


def test_an_object_served_one_at_a_time_is_never_called_by_two() -> None:
    inside = threading.Lock()

    class Working(Protocol):
        def work(self, seconds: float) -> None: ...

    class Alone:
        def work(self, seconds: float) -> None:
            assert inside.acquire(blocking=False)
            time.sleep(seconds)
            inside.release()

    with served(Alone(), Working, one_at_a_time=True) as (_, call), ThreadPoolExecutor(6) as pool:
        callers = [call().proxy for _ in range(3)]
        for done in [pool.submit(each.work, 0.01) for each in callers for _ in range(4)]:
            done.result(10.0)


def test_the_code_of_a_service_sees_who_calls() -> None:
    with served(Ram()) as (_, call):
        assert call(guest="bob").proxy.who() == "bob"
        assert call(guest=None).proxy.who() is None
    with pytest.raises(LookupError, match="no call is being served here"):
        current_call()


def test_closing_lets_calls_end_and_refuses_new_ones() -> None:
    with served(Ram()) as (service, call):
        store = call().proxy
        slow = start(store.wait, 0.2)
        assert eventually(lambda: service.under_way == 1)
        ending = threading.Thread(target=service.close, args=(5.0,))
        ending.start()
        assert eventually(lambda: service.closing)
        with pytest.raises(vnet.ServiceGone, match="clos"):
            store.read(1)
        assert slow.result(5.0) is False
        ending.join()
        with pytest.raises(vnet.ServiceGone, match=r"closed the service|closing"):
            store.read(1)


def test_closing_cancels_what_does_not_end_in_time() -> None:
    ram = Ram()
    with served(ram) as (service, call):
        store = call().proxy
        stuck, stream = start(store.wait, 60.0), store.count(1000)
        next(stream)
        assert eventually(lambda: service.under_way == 2 and ("wait", 60.0) in ram.asked)
        before = time.monotonic()
        assert service.close(0.1)
        assert time.monotonic() - before < 5.0
        assert ram.given_up.is_set()
        assert ram.closed.is_set()
        with pytest.raises(vnet.ServiceGone):
            stuck.result(5.0)


def test_a_method_can_close_its_own_service() -> None:
    class Closing(Protocol):
        def shut(self) -> int: ...

    class Self:
        service: Any = None

        def shut(self) -> int:
            self.service.close(5.0)
            return 1

    implementation = Self()
    with served(implementation, Closing) as (service, call):
        implementation.service = service
        before = time.monotonic()
        with pytest.raises(vnet.ServiceGone):
            call().proxy.shut()
        assert time.monotonic() - before < 3.0


def test_callers_that_leave_while_the_service_closes_disturb_nobody() -> None:
    for _ in range(20):
        with served(Ram()) as (service, call):
            callers = [call() for _ in range(4)]
            for each in callers:
                each.proxy.read(1)
            leaving = [threading.Thread(target=each.close) for each in callers]
            for thread in leaving:
                thread.start()
            assert service.close(1.0)
            for thread in leaving:
                thread.join()


def test_no_thread_of_a_service_is_left_when_it_is_closed() -> None:
    before = set(threading.enumerate())
    with served(Ram()) as (_, call):
        start(call().proxy.wait, 30.0)
        assert len(set(threading.enumerate()) - before) >= 2
    assert eventually(lambda: set(threading.enumerate()) <= before)
    assert not [name for name in threads().values() if "call" in name]


def test_more_callers_than_a_service_takes_are_turned_away(lan: vnet.Lan) -> None:
    host, a = lan.attach("host"), lan.attach("a")
    with host.serve_calls("store", Ram(), Store, limits=Limits(connections=2)) as service:
        with a.caller("host", "store", Store) as first, a.caller("host", "store", Store) as second:
            assert first.read(1) == second.read(1)
            assert service.callers == ["a", "a"]
            with pytest.raises(vnet.ServiceBusy, match="has 2 callers"):
                a.caller("host", "store", Store)
        # It waits for room where it is told to.
        with a.caller("host", "store", Store, connect_timeout=5.0) as third:
            assert third.read(2) == b"\2\2\2\2"
