"""Regions as arguments and results: by handle, attached once, let go of with the pipe, access lists in force."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Protocol

import pytest
from rpc_support import served
from support import descriptors, eventually

import vnet
from vnet import Region
from vnet.rpc.borrowed import Borrowed


class Copying(Protocol):
    def total(self, memory: Annotated[Region, "readonly"]) -> int: ...

    def fill(self, memory: Region, value: int) -> None: ...

    def maybe(self, memory: Region | None = None) -> bool: ...

    def make(self, size: int) -> Region: ...

    def keep(self, memory: Region) -> None: ...


class Copier:
    def __init__(self, guest: Any) -> None:
        self.guest = guest
        self.made: list[Region] = []
        self.seen: list[Region] = []
        self.views: list[memoryview] = []

    def total(self, memory: Region) -> int:
        assert memory.readonly
        self.seen.append(memory)
        with memoryview(memory) as view:
            return sum(view)

    def fill(self, memory: Region, value: int) -> None:
        self.seen.append(memory)
        memory[:] = bytes([value]) * memory.size

    def maybe(self, memory: Region | None = None) -> bool:
        return memory is not None

    def make(self, size: int) -> Region:
        self.made.append(self.guest.create_region(size))
        self.made[-1][:3] = b"abc"
        return self.made[-1]

    def keep(self, memory: Region) -> None:
        self.views.append(memoryview(memory))


def test_a_region_goes_by_its_handle_and_both_see_the_same_memory(lan: vnet.Lan) -> None:
    host, a = lan.attach("host"), lan.attach("a")
    copier = Copier(host)
    with (
        host.serve_calls("copy", copier, Copying),
        a.caller("host", "copy", Copying) as copy,
        a.create_region(1000) as region,
    ):
        region[:] = bytes([3]) * 1000
        assert copy.total(region) == 3000
        copy.fill(region, 7)
        assert region[:] == bytes([7]) * 1000
        assert copy.total(region) == 7000
        assert copy.maybe(region)
        assert not copy.maybe()
        assert not copy.maybe(None)
        with copy.make(100) as made:
            assert made[:3] == b"abc"
        copier.made[0].close()
        with pytest.raises(vnet.InterfaceError, match=r"argument 'memory' is 'x' .*: expected Region"):
            copy.fill("x", 1)  # type: ignore[arg-type]
        # Once for reading and once for writing, however often it is passed.
        assert len({id(each) for each in copier.seen}) == 2
        copier.seen.clear()


def test_a_service_lets_go_of_regions_when_their_caller_goes(lan: vnet.Lan) -> None:
    host, a = lan.attach("host"), lan.attach("a")
    with host.serve_calls("copy", Copier(host), Copying):
        region = a.create_region(1000)
        with a.caller("host", "copy", Copying) as copy:
            assert copy.maybe(region)
            assert [each.guest for each in region.attachments(frames=False)] == ["a", "host"]
        assert eventually(lambda: len(region.attachments(frames=False)) == 1)
        region.close()
    assert not [what for what in descriptors().values() if ":region:" in what]


def test_access_lists_hold_for_what_is_passed(lan: vnet.Lan) -> None:
    host, a, b = lan.attach("host"), lan.attach("a"), lan.attach("b")
    copier = Copier(host)
    with (
        host.serve_calls("copy", copier, Copying),
        a.caller("host", "copy", Copying) as copy,
        a.create_region(100, guests=["b"]) as others,
        a.create_region(100, guests=["host"], readonly=["host"]) as reading,
    ):
        with pytest.raises(vnet.NotPermitted):
            copy.total(others)
        assert copy.total(reading) == 0
        # What it may only read it gets so, whatever the interface says.
        with pytest.raises(TypeError, match=r"read-only|readonly|can't modify"):
            copy.fill(reading, 1)
        gone = b.create_region(100)
        gone.close()
        with pytest.raises(vnet.RegionNotFound):
            copy.total(gone)
        copier.seen.clear()


def test_views_that_the_service_keeps_outlive_the_pipe(lan: vnet.Lan) -> None:
    host, a = lan.attach("host"), lan.attach("a")
    copier = Copier(host)
    with host.serve_calls("copy", copier, Copying), a.create_region(100) as region:
        region[:3] = b"xyz"
        with a.caller("host", "copy", Copying) as copy:
            copy.keep(region)
        assert bytes(copier.views[0][:3]) == b"xyz"
        copier.views.pop().release()


def test_tasks_pass_regions_too(lan: vnet.Lan) -> None:
    host, a = lan.attach("host"), lan.attach("a")
    copier = Copier(host)

    async def main() -> None:
        async with (
            host.serve_calls_async("copy", copier, Copying),
            a.async_caller("host", "copy", Copying) as copy,
        ):
            with a.create_region(1000) as region:
                await copy.fill(region, 2)
                assert await copy.total(region) == 2000
                with await copy.make(10) as made:
                    assert made[:3] == b"abc"

    asyncio.run(main(), debug=True)
    copier.made[0].close()
    copier.seen.clear()


def test_only_so_many_are_kept_beyond_their_calls() -> None:
    closed: list[str] = []

    class Fake:
        def __init__(self, handle: str) -> None:
            self.handle = handle

        def close(self) -> None:
            closed.append(self.handle)

    class Guest:
        def attach_region(self, handle: str, *, readonly: bool) -> Fake:
            return Fake(handle)

    borrowed = Borrowed(Guest(), most=2)
    held = borrowed.take("held", False)
    for name in ("one", "two", "three"):
        borrowed.take(name, False)
        borrowed.give_back(name, False)
    # The one that a call has is not closed, however long ago it was taken.
    assert closed == ["one", "two"]
    assert borrowed.take("held", False) is held
    borrowed.close()
    assert closed == ["one", "two", "three"]
    borrowed.give_back("held", False)
    borrowed.give_back("held", False)
    assert closed == ["one", "two", "three", "held"]


def test_a_call_without_a_region_needs_no_guest() -> None:
    with served(Copier(None), Copying) as (_, call):
        assert not call().proxy.maybe()
