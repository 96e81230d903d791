"""Calls from tasks of an event loop, and services in one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import pytest
from rpc_support import NoSuchBlock, Ram, Store

import vnet
from vnet.rpc import Limits, current_call, raises, with_timeout


class Numbers(Protocol):
    async def double(self, number: int) -> int: ...

    async def sleep(self, seconds: float) -> None: ...

    def plain(self, number: int) -> int: ...

    def count(self, to: int) -> AsyncIterator[int]: ...

    def quick(self, to: int) -> AsyncIterator[int]: ...

    @raises(NoSuchBlock)
    async def fail(self) -> None: ...


class Tasks:
    def __init__(self) -> None:
        self.started = 0
        self.cancelled = 0
        self.closed = 0
        self.made = 0

    async def double(self, number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    async def sleep(self, seconds: float) -> None:
        self.started += 1
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled += current_call().cancelled
            raise

    def plain(self, number: int) -> int:
        return number + 1

    async def count(self, to: int) -> AsyncIterator[int]:
        try:
            for number in range(to):
                self.made += 1
                yield number
                await asyncio.sleep(0)
        finally:
            self.closed += 1

    def quick(self, to: int) -> Any:
        return iter(range(to))

    async def fail(self) -> None:
        raise NoSuchBlock(3)


async def _soon(condition: Callable[[], Any]) -> bool:
    for _ in range(2000):
        if condition():
            return True
        await asyncio.sleep(0.002)
    return False


def _run(lan: vnet.Lan, work: Callable[[Any, Tasks], Awaitable[None]], **settings: Any) -> Tasks:
    """Serves Tasks in a loop, and works with them from the same loop."""
    host, a = lan.attach("host"), lan.attach("a")
    tasks = Tasks()

    async def main() -> None:
        async with (
            host.serve_calls_async("numbers", tasks, Numbers, **settings),
            a.async_caller("host", "numbers", Numbers) as numbers,
        ):
            await asyncio.wait_for(work(numbers, tasks), 30.0)

    asyncio.run(main(), debug=True)
    return tasks


def test_tasks_call_what_is_served_in_a_loop(lan: vnet.Lan) -> None:
    async def work(numbers: Any, tasks: Tasks) -> None:
        assert await numbers.double(4) == 8
        assert await numbers.plain(4) == 5
        assert await asyncio.gather(*(numbers.double(each) for each in range(50))) == list(range(0, 100, 2))
        assert [value async for value in numbers.count(100)] == list(range(100))
        assert [value async for value in numbers.quick(100)] == list(range(100))
        with pytest.raises(NoSuchBlock, match="no block 3"):
            await numbers.fail()

    assert _run(lan, work).closed == 1


def test_what_is_wrong_is_refused_before_it_is_awaited(lan: vnet.Lan) -> None:
    async def work(numbers: Any, tasks: Tasks) -> None:
        with pytest.raises(vnet.InterfaceError, match="argument 'number' is 'x'"):
            numbers.double("x")
        with pytest.raises(vnet.InterfaceError, match="did you mean 'double'"):
            numbers.duoble(3)
        with pytest.raises(vnet.InterfaceError, match="cannot be set"):
            numbers.double = 3

    _run(lan, work)


def test_a_task_that_is_cancelled_cancels_its_call(lan: vnet.Lan) -> None:
    async def work(numbers: Any, tasks: Tasks) -> None:
        sleeping = asyncio.ensure_future(numbers.sleep(60.0))
        assert await _soon(lambda: tasks.started == 1)
        sleeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sleeping
        assert await _soon(lambda: tasks.cancelled == 1)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(numbers.sleep(60.0), 0.2)
        assert await _soon(lambda: tasks.cancelled == 2)
        with pytest.raises(vnet.CallTimeout):
            await with_timeout(numbers, 0.2).sleep(60.0)
        assert await _soon(lambda: tasks.cancelled == 3)
        assert await numbers.double(2) == 4

    _run(lan, work)


def test_streams_are_held_back_and_closed(lan: vnet.Lan) -> None:
    async def work(numbers: Any, tasks: Tasks) -> None:
        async with numbers.count(1 << 40) as stream:
            assert await stream.__anext__() == 0
            await asyncio.sleep(0.05)
            assert tasks.made <= 1 + Limits().window
            assert await numbers.double(2) == 4
        assert await _soon(lambda: tasks.closed == 1)
        assert [value async for value in stream] == []

    _run(lan, work)


def test_calls_that_are_under_way_have_an_end_when_the_service_closes(lan: vnet.Lan) -> None:
    host, a = lan.attach("host"), lan.attach("a")
    tasks = Tasks()

    async def main() -> None:
        served = await host.serve_calls_async("numbers", tasks, Numbers)
        caller = await a.async_caller("host", "numbers", Numbers)
        short, long = (asyncio.ensure_future(caller.proxy.sleep(each)) for each in (0.05, 60.0))
        assert await _soon(lambda: tasks.started == 2)
        assert served.under_way == 2
        await served.close(0.5)
        assert await short is None
        with pytest.raises(vnet.ServiceGone):
            await long
        with pytest.raises(vnet.ServiceGone):
            await caller.proxy.double(1)
        await caller.close()
        await served.close()
        assert tasks.cancelled == 1

    asyncio.run(main(), debug=True)


def test_threads_and_tasks_understand_one_another(lan: vnet.Lan) -> None:
    host, a = lan.attach("host"), lan.attach("a")
    ram, tasks = Ram(), Tasks()

    def in_threads() -> None:
        with a.caller("host", "numbers", Numbers) as numbers:
            assert numbers.double(21) == 42  # type: ignore[comparison-overlap]
            assert list(numbers.count(500)) == list(range(500))  # type: ignore[call-overload]

    async def main() -> None:
        async with host.serve_calls_async("numbers", tasks, Numbers):
            await asyncio.to_thread(in_threads)
        async with a.async_caller("host", "store", Store, timeout=20.0) as store:
            assert await store.read(3) == b"\3\3\3\3"
            assert len([value async for value in store.count(500, 3000)]) == 500
            blobs = await asyncio.gather(*(store.echo([each, bytes(100_000)]) for each in range(60)))
            assert [each[0] for each in blobs] == list(range(60))
            waiting = asyncio.ensure_future(store.wait(60.0))
            assert await _soon(lambda: ("wait", 60.0) in ram.asked)
            waiting.cancel()
            assert await _soon(ram.given_up.is_set)

    with host.serve_calls("store", ram, Store):
        asyncio.run(main(), debug=True)


def test_a_caller_that_goes_has_its_tasks_cancelled(lan: vnet.Lan) -> None:
    host, a = lan.attach("host"), lan.attach("a")
    tasks = Tasks()

    async def main() -> None:
        async with host.serve_calls_async("numbers", tasks, Numbers) as served:
            async with a.async_caller("host", "numbers", Numbers) as numbers:
                sleeping = asyncio.ensure_future(numbers.sleep(60.0))
                stream = numbers.count(1 << 40)
                await stream.__anext__()
                assert await _soon(lambda: tasks.started == 1)
            with pytest.raises(vnet.ServiceGone, match="is closed"):
                await sleeping
            assert await _soon(lambda: tasks.cancelled == 1 and tasks.closed == 1)
            assert await _soon(lambda: served.callers == [])

    asyncio.run(main(), debug=True)


def test_a_service_that_differs_or_has_no_room_says_so(lan: vnet.Lan) -> None:
    host, a = lan.attach("host"), lan.attach("a")

    async def main() -> None:
        async with host.serve_calls_async("numbers", Tasks(), Numbers, limits=Limits(connections=1)) as served:
            with pytest.raises(vnet.InterfaceError, match=r"differ in read \(the service has none\)"):
                await a.async_caller("host", "numbers", Store)
            assert await _soon(lambda: served.callers == [])
            async with a.async_caller("host", "numbers", Numbers):
                with pytest.raises(vnet.ServiceBusy, match="has 1 callers"):
                    await a.async_caller("host", "numbers", Numbers)
        with pytest.raises((vnet.ServiceGone, vnet.ServiceNotFound)):
            await a.async_caller("host", "numbers", Numbers)

    asyncio.run(main(), debug=True)
