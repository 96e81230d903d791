"""Regions: one memory that guests share. The kernel says where it is, how often it is there, and who may write."""

from __future__ import annotations

import errno
import fcntl
import functools
import gc
import mmap
import os
import pickle
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
from support import Guest, descriptors, eventually

import vnet

Start = Callable[..., Guest]
# With patience: other tests may have the machine.
soon = functools.partial(eventually, timeout=20.0)

# fcntl.h; Python knows neither.
F_GET_SEALS = 1034
F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_FUTURE_WRITE = 1, 2, 4, 16

PAGE = mmap.PAGESIZE


def region_files(process: int | str = "self") -> list[int]:
    """The descriptors of regions that a process has open."""
    return [fd for fd, what in descriptors(process).items() if ":region:" in what]


def mapped(process: int | str = "self") -> list[dict[str, str]]:
    """What smaps tells of the regions that a process has mapped: addresses, rights, and sizes by name in KiB."""
    found: list[dict[str, str]] = []
    within = False
    for line in Path(f"/proc/{process}/smaps").read_text().splitlines():
        head = re.fullmatch(r"([0-9a-f]+)-([0-9a-f]+) (\S+) .*", line)
        if head:
            within = ":region:" in line
            if within:
                found.append({"start": head[1], "end": head[2], "rights": head[3]})
        elif within and line.endswith(" kB"):
            name, number, _ = line.split()
            found[-1][name.rstrip(":")] = number
    return found


def test_what_one_guest_writes_is_what_another_reads(lan: vnet.Lan) -> None:
    a, b = lan.attach("a"), lan.attach("b")
    with a.create_region(10_000) as ours, b.attach_region(ours.handle) as theirs:
        assert bytes(ours) == bytes(10_000)
        ours[:5] = b"hello"
        theirs[9_995:] = b"there"
        assert theirs[:5] == b"hello"
        assert ours[9_995:] == b"there"
        assert len(ours) == len(theirs) == ours.size == theirs.size == 10_000


@pytest.mark.parametrize("kind", ["attach", "host", "netns"])
def test_every_guest_of_the_base_can_share(lan: vnet.Lan, kind: str) -> None:
    one, other = getattr(lan, kind)("one"), lan.attach("other")
    with one.create_region(PAGE, guests=["other"]) as region, other.attach_region(region) as again:
        again[:3] = b"abc"
        assert region[:3] == b"abc"
        assert region.owner == again.owner == "one"
    one.close()
    with pytest.raises(vnet.NicClosed, match="one"):
        one.create_region(1)


def test_views_and_arrays_are_the_memory_itself(lan: vnet.Lan) -> None:
    guest = lan.attach("a")
    with guest.create_region(8 * PAGE) as region, guest.attach_region(region, readonly=True) as reader:
        view = memoryview(region)
        numbers = numpy.frombuffer(region, dtype=numpy.uint32)
        fixed = numpy.frombuffer(reader, dtype=numpy.uint32)
        numbers[-1] = 0x01020304
        assert view[-4:] == (0x01020304).to_bytes(4, sys.byteorder)
        view[:4] = b"\1\0\0\0"
        assert numbers[0] == fixed[0] == int.from_bytes(b"\1\0\0\0", sys.byteorder)
        assert not numbers.flags.owndata
        assert not fixed.flags.writeable
        assert numbers.ctypes.data != fixed.ctypes.data, "two mappings of one memory"
        view.release()
        del numbers, fixed


def test_a_gibibyte_in_three_processes_is_in_memory_once(named: vnet.Lan, guest: Start) -> None:
    size = 1 << 30
    region = named.attach("a").create_region(size, name="large", guests=["b", "c"], readonly=["c"])
    # Some of it: what nobody touches takes no memory, however many have it.
    touched = 32 << 20
    numpy.frombuffer(region, dtype=numpy.uint8, count=touched)[:] = 1
    program = """
region = vnet.attach("office", sys.argv[1]).attach_region(sys.argv[2])
assert sum(memoryview(region)[: 32 << 20 : 4096]) == 8192
say("there")
hear()
"""
    processes = [guest(program, name, region.handle) for name in ("b", "c")]
    for process in processes:
        assert process.hear() == "there"
    everywhere = [one for pid in ("self", *(each.pid for each in processes)) for one in mapped(pid)]
    assert [int(one["Size"]) for one in everywhere] == [size >> 10] * 3
    assert [int(one["Rss"]) for one in everywhere] == [touched >> 10] * 3
    # The proportional share counts each page once over all who have it.
    assert sum(int(one["Pss"]) for one in everywhere) == pytest.approx(touched >> 10, rel=0.001)
    assert [one["rights"] for one in everywhere] == ["rw-s", "rw-s", "r--s"]
    region.close()


def test_the_addresses_that_it_tells_are_those_of_the_kernel(named: vnet.Lan, guest: Start) -> None:
    region = named.attach("a").create_region(3 * PAGE, name="cache", guests=["b"], readonly=["b"])
    process = guest(
        """
nic = vnet.attach("office", "b")
two = [nic.attach_region(nic.find_region("cache")) for _ in range(2)]
say("there")
hear()
"""
    )
    assert process.hear() == "there"
    told = region.attachments(frames=False)
    assert [(each.guest, each.pid, each.readonly) for each in told] == [
        ("a", os.getpid(), False),
        ("b", process.pid, True),
        ("b", process.pid, True),
    ]
    for pid, address in {(each.pid, each.address) for each in told}:
        assert any(int(one["start"], 16) == address for one in mapped(pid))
    starts = sorted(int(one["start"], 16) for one in mapped(process.pid))
    assert sorted(each.address or 0 for each in told[1:]) == starts
    assert {(each.size, each.frames) for each in told} == {(3 * PAGE, None)}
    process.kill()
    assert soon(lambda: len(region.attachments()) == 1)
    region.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="page frames are told to root only: run the tests as root")
def test_all_guests_have_the_same_page_frames(named: vnet.Lan, guest: Start) -> None:
    # More pages than one answer of the base has.
    pages = 40_000
    region = named.attach("a").create_region(pages * PAGE, name="cache", guests=["b"], readonly=["b"])
    numpy.frombuffer(region, dtype=numpy.uint8)[:] = 7
    process = guest(
        """
region = (nic := vnet.attach("office", "b")).attach_region(nic.find_region("cache"))
assert set(memoryview(region)[::4096]) == {7}
say("there")
[mine] = [each for each in region.attachments() if each.guest == "b"]
say(*mine.frames[:3])
hear()
"""
    )
    assert process.hear() == "there"
    own, other = region.attachments()
    assert own.frames == other.frames
    assert own.frames is not None
    assert len(own.frames) == len({*own.frames} - {None}) == pages
    # As the kernel tells us, without the base: Documentation/admin-guide/mm/pagemap.rst.
    assert own.address is not None
    with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
        pagemap.seek(own.address // PAGE * 8)
        entries = numpy.frombuffer(pagemap.read(pages * 8), dtype=numpy.uint64)
    assert tuple((entries & numpy.uint64((1 << 55) - 1)).tolist()) == own.frames
    assert process.hear() == " ".join(map(str, own.frames[:3])), "a guest is told the same as the base"
    region.close()


def test_pages_that_nobody_touched_have_no_frames(lan: vnet.Lan) -> None:
    with lan.attach("a").create_region(64 * PAGE) as region:
        region[40 * PAGE] = 1
        [own] = region.attachments()
        assert own.frames is not None or os.geteuid() != 0
        assert [at for at, frame in enumerate(own.frames or ()) if frame is not None] == [40] * (os.geteuid() == 0)


def test_the_size_is_sealed(lan: vnet.Lan) -> None:
    with lan.attach("a").create_region(5 * PAGE) as region:
        files = region_files()
        # The base's and the mapping's.
        assert len(files) == 2
        for file in files:
            assert fcntl.fcntl(file, F_GET_SEALS) == F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW
            for size in (0, PAGE, 6 * PAGE):
                with pytest.raises(PermissionError):
                    os.ftruncate(file, size)
        with pytest.raises(TypeError, match=f"fixed, {5 * PAGE} bytes"):
            region.resize(PAGE)
        assert len(region) == 5 * PAGE


def test_who_may_only_read_writes_nothing_from_python(named: vnet.Lan) -> None:
    a, b = named.attach("a"), vnet.attach("office", "b")
    with a.create_region(PAGE, guests=["b"], readonly=["b"]) as region, b.attach_region(region.handle) as reader:
        assert (region.readonly, reader.readonly) == (False, True)
        with pytest.raises(TypeError):
            reader[0] = 1
        with pytest.raises(TypeError):
            reader.write(b"x")
        with memoryview(reader) as view:
            assert view.readonly
            with pytest.raises(TypeError):
                view[0] = 1
        assert region[0] == 0
    b.close()


_PROBES = {
    # As a program in C would do it: past Python, into the memory.
    "a write": """
import numpy
view = numpy.frombuffer(region, dtype="u1")
ctypes.memset(view.ctypes.data, 1, 1)
""",
    "mprotect": """
import numpy
address = numpy.frombuffer(region, dtype="u1").ctypes.data
libc = ctypes.CDLL(None, use_errno=True)
assert libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(4096), 3) == -1
sys.exit(ctypes.get_errno())
""",
    "a writable mapping of its descriptor": """
import mmap
[file] = [int(fd) for fd in os.listdir("/proc/self/fd") if ":region:" in os.path.realpath(f"/proc/self/fd/{fd}")]
try:
    mmap.mmap(file, 4096)
except PermissionError as error:
    sys.exit(error.errno)
""",
}


@pytest.mark.parametrize(
    ("how", "status"),
    [("a write", -signal.SIGSEGV), ("mprotect", errno.EACCES), ("a writable mapping of its descriptor", errno.EACCES)],
)
def test_who_may_only_read_writes_nothing_in_any_other_way(
    named: vnet.Lan, guest: Start, how: str, status: int
) -> None:
    region = named.attach("a").create_region(PAGE, guests=["b"], readonly=["b"])
    process = guest(
        f"""
import ctypes
region = vnet.attach("office", "b").attach_region(sys.argv[1])
{_PROBES[how]}
""",
        region.handle,
    )
    assert process.end()[0] == status
    assert region[0] == 0
    region[0] = 9
    assert region[0] == 9
    region.close()


def test_where_nobody_but_its_maker_writes_the_kernel_lets_nobody_else_ever(named: vnet.Lan) -> None:
    a, b = named.attach("a"), named.attach("b")
    with a.create_region(PAGE, guests=["b"], readonly=["b"]) as region, b.attach_region(region) as reader:
        # Root, too: whoever is allowed to open the file anew still gets no mapping to write to.
        for file in region_files():
            assert fcntl.fcntl(file, F_GET_SEALS) & F_SEAL_FUTURE_WRITE
            with pytest.raises(PermissionError):
                mmap.mmap(file, PAGE).close()
            with pytest.raises(OSError, match=r"not permitted|Bad file"):
                os.pwrite(file, b"x", 0)
        region[0] = 5
        assert reader[0] == 5
        with pytest.raises(vnet.NotPermitted, match="readonly=True"):
            a.attach_region(region)
        with pytest.raises(vnet.NotPermitted, match="one writer"):
            region.allow("c")


def test_the_file_cannot_be_opened_for_writing_by_way_of_proc(lan: vnet.Lan, tmp_path: Path) -> None:
    with lan.attach("a").create_region(PAGE, readonly=["b"]) as region, lan.attach("b").attach_region(region) as reader:
        assert reader.readonly
        modes = {os.stat(f"/proc/self/fd/{file}").st_mode & 0o777 for file in region_files()}
        assert modes == {0o400}
        rights = sorted(fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE for file in region_files())
        assert rights == [os.O_RDONLY, os.O_RDWR, os.O_RDWR]


def test_it_is_freed_when_the_last_guest_lets_go(named: vnet.Lan) -> None:
    a, b = named.attach("a"), vnet.attach("office", "b")
    region = a.create_region(PAGE, name="cache", guests=["b"])
    handle = region.handle
    theirs = b.attach_region(handle)
    theirs[0] = 7
    region.close()
    region.close()
    # It is there as long as somebody has it, its maker or another.
    again = b.attach_region(b.find_region("cache"))
    assert again[0] == 7
    again.close()
    theirs.close()
    for way in (lambda: b.attach_region(handle), lambda: b.find_region("cache"), theirs.attachments):
        with pytest.raises(vnet.RegionNotFound):
            way()
    assert not region_files()
    # The name is free.
    a.create_region(1, name="cache").close()
    b.close()


def test_dropped_without_close_it_is_let_go_of_all_the_same(named: vnet.Lan) -> None:
    a, b = named.attach("a"), vnet.attach("office", "b")
    for guest in (a, b):
        region = guest.create_region(PAGE, name="dropped")
        del region
        gc.collect()
        assert soon(lambda: not region_files())
        guest.create_region(PAGE, name="dropped").close()
    b.close()


def test_it_is_not_closed_under_those_who_look_at_it(lan: vnet.Lan) -> None:
    guest = lan.attach("a")
    region = guest.create_region(PAGE)
    view = memoryview(region)
    with pytest.raises(BufferError, match="release memoryviews"):
        region.close()
    # Nothing has changed.
    view[0] = 3
    assert (region[0], region.closed, len(region.attachments())) == (3, False, 1)
    view.release()
    region.close()
    assert region.closed
    assert not mapped()
    with pytest.raises(ValueError, match="closed"):
        region[0]


def test_a_killed_guest_lets_go_at_once(named: vnet.Lan, guest: Start) -> None:
    named.attach("a")
    process = guest(
        """
nic = vnet.attach("office", "b")
region = nic.create_region(16 << 20, name="cache", guests=["a"])
memoryview(region)[:] = bytes(16 << 20)
say(region.handle)
hear()
"""
    )
    handle = process.hear()
    assert len(region_files()) == 1
    process.kill()
    assert soon(lambda: not region_files())
    with pytest.raises(vnet.RegionNotFound):
        named.attach("c").attach_region(handle)


def test_a_killed_guest_lets_go_although_its_child_lives(named: vnet.Lan, guest: Start) -> None:
    a = named.attach("a")
    process = guest(
        """
region = vnet.attach("office", "b").create_region(4096)
child = os.fork()
if child == 0:
    time.sleep(60)
say(region.handle, child)
hear()
"""
    )
    handle, child = process.hear().split()
    # The connection to the base is open in the child, too: it is the process whose end counts.
    a.attach_region(handle).close()
    process.kill()
    assert soon(lambda: not region_files())
    with pytest.raises(vnet.RegionNotFound):
        a.attach_region(handle)
    os.kill(int(child), signal.SIGKILL)


def test_a_forked_child_has_the_memory_and_nothing_else(named: vnet.Lan, guest: Start) -> None:
    process = guest(
        """
nic = vnet.attach("office", "b")
region = nic.create_region(4096)
if os.fork() == 0:
    region[:5] = b"child"
    again = lambda: nic.attach_region(region)
    for way in (lambda: nic.create_region(1), again, lambda: region.allow("a"), region.attachments):
        try:
            way()
        except vnet.ForkedNic as error:
            assert "fork" in str(error)
        else:
            os._exit(1)
    # What the child lets go of is the child's.
    region.close()
    os._exit(7)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
assert region[:5] == b"child"
assert len(region.attachments()) == 1
nic.attach_region(region).close()
say("well")
"""
    )
    assert process.hear() == "well"
    assert process.end() == (0, "", "")


def test_a_forked_child_of_the_base_keeps_no_region(named: vnet.Lan, guest: Start) -> None:
    region = named.attach("a").create_region(PAGE)
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(told, b"base" if len(region_files()) > 1 else b"mine")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(ready, 4) == b"mine", "only the mapping's own descriptor"
    os.close(ready)
    os.close(told)
    region.close()


def test_the_end_of_the_lan_leaves_the_memory_to_those_who_have_it(guest: Start) -> None:
    lan = vnet.Lan("office", "10.0.0.0/24")
    a, b = lan.attach("a"), vnet.attach("office", "b")
    region = a.create_region(PAGE)
    theirs = b.attach_region(region.handle)
    lan.close()
    theirs[0] = 1
    assert region[0] == 1
    for each in (lambda: a.create_region(1), lambda: b.create_region(1), region.attachments, theirs.attachments):
        with pytest.raises(vnet.LanClosed):
            each()
    region.close()
    theirs.close()
    b.close()
    assert not region_files()


def test_a_guest_that_leaves_lets_go_of_its_regions(named: vnet.Lan) -> None:
    a, b = named.attach("a"), vnet.attach("office", "b")
    kept = b.create_region(PAGE)
    named.remove("b")
    with pytest.raises(vnet.RegionNotFound):
        a.attach_region(kept.handle)
    with pytest.raises((vnet.NicClosed, vnet.LanClosed)):
        b.create_region(1)
    kept[0] = 1
    kept.close()
    b.close()


def test_a_guest_attaches_a_region_more_than_once(named: vnet.Lan) -> None:
    nic = vnet.attach("office", "b")
    with nic.create_region(PAGE) as first, nic.attach_region(first) as second:
        first[0] = 4
        assert second[0] == 4
        assert len({each.address for each in first.attachments()}) == 2
        first.close()
        assert [each.guest for each in second.attachments()] == ["b"]
    nic.close()


def test_programs_that_are_started_do_not_inherit_it(lan: vnet.Lan) -> None:
    with lan.attach("a").create_region(PAGE):
        listed = subprocess.run(["ls", "-l", "/proc/self/fd"], capture_output=True, text=True, close_fds=False)
        assert ":region:" not in listed.stdout


def test_it_cannot_be_pickled_or_made_by_hand(lan: vnet.Lan) -> None:
    with lan.attach("a").create_region(1) as region:
        with pytest.raises(TypeError, match="pass its handle"):
            pickle.dumps(region)
        with pytest.raises(TypeError, match="create_region"):
            vnet.Region(-1, 4096)


def test_it_says_what_it_is(lan: vnet.Lan) -> None:
    guest = lan.attach("a")
    with guest.create_region("1MiB", name="cache") as region, guest.attach_region(region, readonly=True) as reader:
        assert repr(region) == "<Region cache, 1048576 bytes, writable>"
        assert repr(reader) == "<Region cache, 1048576 bytes, read-only>"
        assert re.fullmatch("[0-9a-f]{32}", region.handle)
        assert (region.name, region.size, region.owner, region.huge, region.readonly) == (
            "cache",
            1 << 20,
            "a",
            False,
            False,
        )
        names = {what.partition(" ")[0] for what in descriptors().values() if ":region:" in what}
        assert names == {"/memfd:vnet:private:region:cache"}
    assert repr(region) == "<Region cache, 1048576 bytes, closed>"
