"""Who gets which region, and what becomes of everything else that is asked for."""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy
import pytest
from support import Guest, descriptors, eventually

import vnet

Start = Callable[..., Guest]
# With patience: other tests may have the machine.
soon = functools.partial(eventually, timeout=20.0)

NOBODY = 65534
RESERVED = Path("/proc/sys/vm/nr_hugepages")


@pytest.fixture
def a(named: vnet.Lan) -> vnet.Nic:
    return named.attach("a")


@pytest.fixture(params=["in the base", "elsewhere"])
def b(named: vnet.Lan, request: pytest.FixtureRequest) -> Iterator[vnet.Nic]:
    """A guest that asks the broker directly, or over its lease."""
    with named.attach("b") if request.param == "in the base" else vnet.attach("office", "b") as nic:
        yield nic


def test_whoever_has_the_handle_attaches_where_there_is_no_list(a: vnet.Nic, b: vnet.Nic) -> None:
    with a.create_region(1, name="open") as region, b.attach_region(region.handle) as theirs:
        assert not theirs.readonly
        # Its name is no secret, so it opens nothing.
        with pytest.raises(vnet.NotPermitted, match="whoever has its handle"):
            b.find_region("open")
        assert a.find_region("open") == region.handle


def test_a_list_names_those_who_attach_and_nobody_else_does(named: vnet.Lan, a: vnet.Nic, b: vnet.Nic) -> None:
    c = named.attach("c")
    with a.create_region(1, name="cache", guests=["b"]) as region:
        assert b.find_region("cache") == region.handle
        b.attach_region(region.handle).close()
        with pytest.raises(vnet.NotPermitted, match="'cache' is not for c: it is for a, b"):
            c.attach_region(region.handle)
        with pytest.raises(vnet.NotPermitted, match="not for c to find"):
            c.find_region("cache")


def test_others_are_allowed_in_afterwards_by_who_made_it_alone(named: vnet.Lan, a: vnet.Nic, b: vnet.Nic) -> None:
    c = named.attach("c")
    with a.create_region(1, name="cache", guests=[]) as region:
        with pytest.raises(vnet.NotPermitted):
            b.attach_region(region.handle)
        region.allow("b", readonly=True)
        with b.attach_region(b.find_region("cache")) as theirs:
            assert theirs.readonly
            with pytest.raises(vnet.NotPermitted, match="is a's"):
                theirs.allow("c")
            # What is attached stays as it is; the next time it is another thing.
            region.allow("b")
            assert theirs.readonly
        b.attach_region(region).close()
        region.allow("c")
        c.attach_region(region).close()
        with pytest.raises(ValueError, match="cannot name a guest"):
            region.allow("no such name!")
        with pytest.raises(TypeError):
            region.allow(7)  # type: ignore[arg-type]


def test_who_is_listed_to_read_gets_it_to_read(a: vnet.Nic, b: vnet.Nic) -> None:
    with a.create_region(1, readonly=["b"]) as region, b.attach_region(region.handle) as theirs:
        assert theirs.readonly
    with a.create_region(1, guests=["b"]) as region, b.attach_region(region.handle, readonly=True) as theirs:
        assert theirs.readonly


@pytest.mark.parametrize("handle", ["0" * 32, "", "x", "é", "a" * 100_000, "a\nb", '"}'])
def test_a_handle_that_was_never_given_out_is_none(b: vnet.Nic, handle: str) -> None:
    with pytest.raises(vnet.RegionNotFound, match="never given out"):
        b.attach_region(handle)


def test_handles_are_random_bits(a: vnet.Nic) -> None:
    handles = []
    for _ in range(64):
        with a.create_region(1) as region:
            handles.append(int(region.handle, 16))
    assert len(set(handles)) == 64
    # Each of 128 bits is set about half of the time; the odds against this in 64 throws are 2**-57.
    assert all(any(one >> bit & 1 for one in handles) for bit in range(128))
    assert not all(any(one >> bit & 1 for bit in (0, 127)) and one & (one + 1) == 0 for one in handles)


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [
        (0, ValueError, "at least 1 byte, not 0"),
        (-5, ValueError, "at least 1 byte, not -5"),
        ("0", ValueError, "at least 1 byte"),
        ("-1MiB", ValueError, "negative"),
        ("64 MiBs", ValueError, "unknown unit"),
        ("much", ValueError, "a size such as"),
        (1 << 60, vnet.MachineLacks, "more than this machine's memory"),
        (1 << 200, vnet.MachineLacks, "more than this machine's memory"),
        ("1e9GiB", vnet.MachineLacks, "more than this machine's memory"),
        ("1e300GiB", ValueError, "too large"),
        (True, TypeError, "not bool"),
        (1.5, TypeError, "not float"),
        (None, TypeError, "not NoneType"),
        (b"1MiB", TypeError, "not bytes"),
    ],
)
def test_a_size_that_cannot_be_is_refused_in_a_sentence(
    b: vnet.Nic, size: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        b.create_region(size)  # type: ignore[arg-type]
    assert not [what for what in descriptors().values() if ":region:" in what]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": ""}, ValueError, "cannot name a region"),
        ({"name": "a/b"}, ValueError, "cannot name a region"),
        ({"name": "a" * 65}, ValueError, "cannot name a region"),
        ({"name": 5}, TypeError, "name is a string"),
        ({"guests": "b"}, TypeError, "list of guests"),
        ({"guests": [5]}, TypeError, "list of guests"),
        ({"guests": 5}, TypeError, "list of guests"),
        ({"guests": ["no way"]}, ValueError, "cannot name a guest"),
        ({"guests": ["x"], "readonly": ["b"]}, ValueError, "b makes the region"),
        ({"guests": [f"guest-{number}" for number in range(2000)]}, ValueError, "more than the 16384 of a request"),
        ({"huge": 1}, TypeError, "huge is True or False"),
    ],
)
def test_arguments_that_cannot_be_are_refused_in_a_sentence(
    named: vnet.Lan, arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    with vnet.attach("office", "b") as nic:
        with pytest.raises(error, match=message):
            nic.create_region(1, **arguments)  # type: ignore[arg-type]
        # And the guest goes on.
        nic.create_region(1).close()


def test_sizes_and_lists_of_other_kinds_will_do(a: vnet.Nic, b: vnet.Nic) -> None:
    size = numpy.int64(100)
    with a.create_region(size, guests=(each for each in "b"), readonly={"c"}) as region:  # type: ignore[arg-type]
        assert b.attach_region(region).size == 100
    with a.create_region("1.5 KiB") as region:
        assert region.size == 1536


def test_without_address_space_a_region_is_refused_and_nothing_is_left(named: vnet.Lan, guest: Start) -> None:
    process = guest(
        """
import resource
from pathlib import Path
nic = vnet.attach("office", "b")
with nic.create_region(1, name="small") as small:
    have = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (have + (64 << 20), -1))
    try:
        nic.create_region("1GiB", name="large")
    except vnet.MachineLacks as error:
        say(error)
    say(*(each["name"] for each in nic._door().ask("region.list")[0]["regions"]))
"""
    )
    assert process.hear() == "there is no address space for a region of 1 GiB: raise `ulimit -v`"
    assert process.hear() == "small"


def test_a_name_is_one_region_s(a: vnet.Nic, b: vnet.Nic) -> None:
    with a.create_region(1, name="cache"), pytest.raises(vnet.NameTaken, match="'cache'"):
        b.create_region(1, name="cache")
    b.create_region(1, name="cache").close()
    with pytest.raises(vnet.RegionNotFound, match="'cache'"):
        b.find_region("cache")


def test_more_huge_pages_than_are_reserved_are_named_with_the_command_that_reserves_them(b: vnet.Nic) -> None:
    # So large that no machine has it all in huge pages.
    size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with pytest.raises(vnet.MachineLacks, match=r"`sysctl vm.nr_hugepages=\d+`"):
        b.create_region(size, huge=True)
    assert not [what for what in descriptors().values() if ":region:" in what]


@pytest.fixture
def huge_pages() -> Iterator[bool]:
    """Two huge pages, reserved for this test; whether that is possible here."""
    before = RESERVED.read_text()
    with contextlib.suppress(OSError):
        RESERVED.write_text(str(int(before) + 2))
    yield int(RESERVED.read_text()) >= int(before) + 2
    with contextlib.suppress(OSError):
        RESERVED.write_text(before)


def test_a_region_of_huge_pages_is_a_whole_number_of_them(a: vnet.Nic, b: vnet.Nic, huge_pages: bool) -> None:
    if not huge_pages:
        with pytest.raises(vnet.MachineLacks, match="reserves them"):
            a.create_region(1, huge=True)
        return
    with a.create_region("3MiB", huge=True) as region, b.attach_region(region.handle, readonly=True) as theirs:
        assert (region.size, region.huge, theirs.size, theirs.huge) == (4 << 20, True, 4 << 20, True)
        region[-1] = 9
        assert theirs[-1] == 9
        smaps = Path("/proc/self/smaps").read_text()
        assert smaps.count("KernelPageSize:     2048 kB") == 2
        # Reserved means reserved: nobody else gets them, and who is here finds them there.
        with pytest.raises(vnet.MachineLacks, match="0 are"):
            a.create_region(os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE, huge=True)


def test_a_guest_has_only_so_many(b: vnet.Nic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vnet.sharing.regions._OF_A_GUEST", 5)
    held = [b.create_region(1) for _ in range(5)]
    with pytest.raises(vnet.LanFull, match="b has 5 regions already"):
        b.create_region(1)
    held.pop().close()
    held.append(b.create_region(1))
    for each in held:
        each.close()


def test_a_lan_has_only_so_many(a: vnet.Nic, b: vnet.Nic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vnet.sharing.regions._OF_A_LAN", 5)
    held = [(a, b)[at % 2].create_region(1) for at in range(5)]
    with pytest.raises(vnet.LanFull, match="5 regions are on this LAN"):
        b.create_region(1)
    for each in held:
        each.close()


def test_who_attaches_without_end_is_stopped(b: vnet.Nic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vnet.sharing.regions._ATTACHMENTS", 5)
    with b.create_region(1) as region:
        held = [b.attach_region(region) for _ in range(4)]
        with pytest.raises(vnet.LanFull, match="5 regions attached"):
            b.attach_region(region)
        for each in held:
            each.close()


def test_no_guest_takes_all_descriptors_of_the_base(guest: Start) -> None:
    base = guest(
        """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
with vnet.Lan("small", "10.0.0.0/24") as lan:
    a, greedy = lan.attach("a"), vnet.attach("small", "greedy")
    held = []
    try:
        while True:
            held.append(greedy.create_region(1))
    except vnet.LanFull as error:
        say(len(held), error)
    # Whoever else is there has room.
    a.create_region(1).close()
    vnet.attach("small", "other").close()
    say("well")
    [each.close() for each in held]
"""
    )
    assert base.hear().startswith("50 greedy has 50 regions")
    assert base.hear() == "well"
    assert base.end()[0] == 0


def test_without_descriptors_a_region_is_refused_and_nothing_is_left(named: vnet.Lan, b: vnet.Nic) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with b.create_region(1) as region:
        ways: list[Callable[[], vnet.Region]] = [
            lambda: b.create_region(1),
            lambda: b.create_region(1, guests=["x"], readonly=["x"]),
            lambda: b.attach_region(region, readonly=True),
        ]
        # The kernel gives the lowest that is free: from here on there is none below the highest.
        # The base closes what it has sent a moment after it was received.
        assert soon(lambda: sum(":region:" in what for what in descriptors().values()) == 2)
        highest = max(descriptors())
        fillers = [os.dup(0)]
        while fillers[-1] < highest:
            fillers.append(os.dup(0))
        before = len(descriptors())
        # Each descriptor that it takes is the one that is lacking, of the base and of the guest, which are one here.
        outcomes: list[list[str]] = [[], [], []]
        for more in range(10):
            for way, became in zip(ways, outcomes, strict=True):
                resource.setrlimit(resource.RLIMIT_NOFILE, (fillers[-1] + 1 + more, hard))
                try:
                    made = way()
                except vnet.MachineLacks as error:
                    became.append(str(error))
                else:
                    became.append("made")
                    made.close()
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                assert soon(lambda: len(descriptors()) == before), outcomes
                assert soon(lambda: len(region.attachments()) == 1), outcomes
                assert len(named._register.broker.list_regions()) == 1
        for became in outcomes:
            assert became[-1] == "made"
            assert set(became) == {"made", "no file descriptor is left for a region: raise `ulimit -n`"}
        for file in fillers:
            os.close(file)


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user takes root")
def test_a_guest_that_is_root_tells_a_base_that_is_not_where_it_has_it(guest: Start, runtime_directory: Path) -> None:
    os.chown(runtime_directory, NOBODY, NOBODY)
    base = guest(
        f"""
# The interpreter and its libraries may lie where only root can read them, so all that is needed is imported before.
import base64, encodings.idna, vnet.scapy_hook, vnet.sharing.broker, vnet.sharing.members, vnet.sharing.region
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
with vnet.Lan("office", "10.0.0.0/24") as lan:
    region = lan.attach("a").create_region(8192, name="cache", guests=["b"])
    say("up")
    hear()
    own, other = region.attachments()
    say(hex(other.address), other.frames, own.frames)
    hear()
    region.close()
"""
    )
    assert base.hear() == "up"
    with vnet.attach("office", "b") as nic:
        with nic.attach_region(nic.find_region("cache")) as region:
            base.say()
            address, *frames = base.hear().split()
            line = next(line for line in Path("/proc/self/maps").read_text().splitlines() if ":region:" in line)
            assert line.startswith(address.removeprefix("0x") + "-")
            # Neither tells a base that is not root of frames, of its own ones either.
            assert frames == ["None", "None"]
            region[0] = 1
        base.say()
    assert base.end()[0] == 0


def test_what_the_lab_keeps_is_there_until_it_is_dropped(named: vnet.Lan, b: vnet.Nic) -> None:
    broker = named._register.broker
    handle = broker.keep_region("cache", 4096, guests=["b"], readonly=["c"])
    c = named.attach("c")
    with b.attach_region(b.find_region("cache")) as region:
        assert (region.handle, region.owner) == (handle, None)
        region[0] = 4
        with pytest.raises(vnet.NotPermitted, match="the lab's"):
            region.allow("d")
    # Nobody has it, and it is there with what was written.
    with c.attach_region(c.find_region("cache")) as region:
        assert region.readonly
        assert region[0] == 4
    assert broker.list_regions() == [
        {
            "name": "cache",
            "size": 4096,
            "huge": False,
            "owner": None,
            "kept": True,
            "guests": ["b", "c"],
            "readonly": ["c"],
            "attached": [],
        }
    ]
    broker.set_access("cache", ["c"])
    with pytest.raises(vnet.NotPermitted):
        b.attach_region(handle)
    with c.attach_region(handle) as region:
        assert not region.readonly
        broker.drop_region("cache")
        with pytest.raises(vnet.NotPermitted, match="nobody any more"):
            c.attach_region(handle)
        assert region[0] == 4
    assert broker.list_regions() == []
    with pytest.raises(vnet.RegionNotFound):
        broker.drop_region("cache")
    assert not [what for what in descriptors().values() if ":region:" in what]


def test_what_the_lab_keeps_ends_with_the_lan() -> None:
    with vnet.Lan() as lan:
        lan._register.broker.keep_region("cache", 1 << 20, guests=["a"])
    assert not [what for what in descriptors().values() if ":region:" in what]
    with pytest.raises(vnet.LanClosed):
        lan._register.broker.keep_region("cache", 1, guests=[])


def test_a_guest_that_comes_again_is_another(named: vnet.Lan) -> None:
    a = named.attach("a")
    first = vnet.attach("office", "b")
    region = first.create_region(1, guests=["a"])
    with a.attach_region(region.handle) as held:
        first.close()
        second = vnet.attach("office", "b")
        # Of the same name, and not who made it.
        with pytest.raises(vnet.NotPermitted):
            second.attach_region(region.handle)
        assert [each.guest for each in held.attachments()] == ["a"]
        second.close()
    region.close()


def test_dead_guests_of_one_flood_leave_nothing(named: vnet.Lan, guest: Start) -> None:
    processes = [
        guest(
            """
nic = vnet.attach("office", sys.argv[1])
regions = [nic.create_region(4096) for _ in range(40)]
say("there")
hear()
""",
            f"b{number}",
        )
        for number in range(3)
    ]
    for process in processes:
        assert process.hear() == "there"
    # The base closes what it has sent a moment after it was received.
    assert soon(lambda: sum(":region:" in what for what in descriptors().values()) == 120)
    for process in processes:
        process.process.kill()
    assert soon(lambda: not any(":region:" in what for what in descriptors().values()))
