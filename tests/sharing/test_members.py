"""Guests without a NIC object: the base finds out who a process is, and believes nobody."""

from __future__ import annotations

import functools
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Guest, descriptors, eventually

import vnet

Start = Callable[..., Guest]
# With patience: other tests may have the machine.
soon = functools.partial(eventually, timeout=20.0)


@pytest.fixture
def space(named: vnet.Lan) -> vnet.Netns:
    return named.netns("space")


def inside(space: vnet.Netns, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a program in a namespace."""
    words = [sys.executable, "-W", "error", "-c", f"import os, sys, time, vnet\n{program}", *arguments]
    return space.run(words, capture_output=True, text=True, timeout=60)


def test_a_program_in_a_namespace_is_that_guest(named: vnet.Lan, space: vnet.Netns) -> None:
    b = named.attach("b")
    region = b.create_region(4096, name="cache", guests=["space"])
    program = """
with vnet.member("office") as member, member.attach_region(member.find_region("cache")) as cache:
    cache[:5] = b"hello"
    [own] = [each for each in cache.attachments(frames=False) if each.guest == member.name]
    print(member.name, own.pid == os.getpid())
"""
    done = inside(space, program)
    assert (done.stdout, done.stderr) == ("space True\n", "")
    assert region[:5] == b"hello"
    # It ended, and has let go of what it had.
    assert [each.guest for each in region.attachments()] == ["b"]
    region.close()


@pytest.mark.parametrize("name", ["space", "b"])
def test_nobody_is_a_guest_by_saying_so(named: vnet.Lan, space: vnet.Netns, guest: Start, name: str) -> None:
    named.attach("b")
    holder = vnet.attach("office", "held")
    for who in (name, "held"):
        process = guest(
            """
try:
    vnet.member("office", sys.argv[1])
except vnet.NotPermitted as error:
    say(error)
""",
            who,
        )
        what = "runs in its namespace" if who == "space" else "holds its NIC"
        assert process.hear() == f"process {process.pid} is not guest {who!r}: it is no process that {what}"
    with pytest.raises(vnet.VnetError, match="no guest named 'nobody'"):
        vnet.member("office", "nobody")
    holder.close()


def test_a_program_in_one_namespace_is_no_guest_of_another(named: vnet.Lan, space: vnet.Netns) -> None:
    named.netns("other")
    done = inside(
        space,
        """
try:
    vnet.member("office", "other")
except vnet.NotPermitted as error:
    print(error)
print(vnet.member("office", "space").name, vnet.member("office").name)
""",
    )
    assert "is not guest 'other'" in done.stdout
    assert done.stdout.endswith("space space\n")


def test_who_holds_a_nic_is_its_guest(named: vnet.Lan, guest: Start) -> None:
    process = guest(
        """
with vnet.attach("office", "b") as nic:
    os.environ["VNET_NIC"] = "b"
    with vnet.member("office") as one, vnet.member("office", "b") as other:
        say(one.name, other.name)
        # Each has what it made itself: what one lets go of stays the other's.
        with other.create_region(1, guests=["b"]) as region:
            with one.create_region(1, guests=["b"]) as gone:
                handle = gone.handle
                one.close()
                try:
                    other.attach_region(handle)
                except vnet.RegionNotFound:
                    say("freed")
            other.attach_region(region).close()
# Without the NIC it is nobody.
try:
    vnet.member("office", "b")
except vnet.VnetError as error:
    say(error)
"""
    )
    assert process.hear() == "b b"
    assert process.hear() == "freed"
    assert process.hear() == "no guest named 'b' is on the LAN"


def test_a_child_of_who_holds_a_nic_is_not_its_guest(named: vnet.Lan, guest: Start) -> None:
    process = guest(
        """
nic = vnet.attach("office", "b")
if os.fork() == 0:
    try:
        vnet.member("office", "b")
    except vnet.NotPermitted:
        os._exit(3)
say(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    )
    assert process.hear() == "3"


@pytest.mark.parametrize("arguments", [{}, {"operator": True}])
def test_everybody_else_is_the_operator_who_has_no_memory(
    named: vnet.Lan, guest: Start, arguments: dict[str, bool]
) -> None:
    named._register.broker.keep_region("cache", 1, guests=["b"])
    process = guest(
        f"""
with vnet.member("office", **{arguments}) as member:
    say(repr(member.name), member.operator, member)
    for way in (member.create_region, member.attach_region, member.find_region):
        try:
            way("1B")
        except vnet.NotPermitted as error:
            say(error)
    say(member._door().ask("region.list")[0]["regions"][0]["name"])
"""
    )
    assert process.hear() == "'' True <Member (operator) of office>"
    for do in ("create", "attach", "find"):
        assert process.hear() == f"region.{do} is for guests of the LAN, and the operator is none: attach a NIC"
    assert process.hear() == "cache"


def test_the_operator_s_shell_may_be_in_a_namespace(named: vnet.Lan, space: vnet.Netns) -> None:
    done = inside(space, "print(vnet.member('office', operator=True).operator)")
    assert done.stdout == "True\n"


def test_what_a_killed_program_of_a_namespace_had_is_let_go_of_and_nothing_else(
    named: vnet.Lan, space: vnet.Netns
) -> None:
    program = """
import os, sys, vnet
member = vnet.member("office")
region = member.create_region(4096, name=sys.argv[1], guests=["b"])
print("there", flush=True)
sys.stdin.read()
"""
    words = [sys.executable, "-c", program]
    processes = [
        space.popen([*words, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for name in ("one", "two")
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
    b = named.attach("b")
    two = b.attach_region(b.find_region("two"))
    processes[0].kill()
    processes[0].wait()
    names = [each["name"] for each in named._register.broker.list_regions()]
    assert soon(lambda: [each["name"] for each in named._register.broker.list_regions()] == ["two"]), names
    assert [each.guest for each in two.attachments()] == ["space", "b"]
    two.close()
    for process in processes:
        process.communicate()


@pytest.mark.skipif(os.geteuid() != 0, reason="a namespace without a user namespace takes root")
def test_a_program_in_a_namespace_that_was_plugged_is_that_guest(named: vnet.Lan) -> None:
    with subprocess.Popen(["unshare", "--net", "sleep", "60"]) as sleeper:
        try:
            own = os.stat("/proc/self/ns/net").st_ino
            assert soon(lambda: os.stat(f"/proc/{sleeper.pid}/ns/net").st_ino != own)
            plug = named.plug("plugged", sleeper.pid)
            program = "import vnet; print(vnet.member('office').name, vnet.member('office', 'plugged').name)"
            words = ["nsenter", f"--net=/proc/{sleeper.pid}/ns/net", sys.executable, "-c", program]
            done = subprocess.run(words, capture_output=True, text=True, timeout=60)
            assert done.stdout == "plugged plugged\n", done.stderr
            plug.close()
        finally:
            sleeper.kill()


def test_a_guest_with_several_nics_has_one_name(guest: Start) -> None:
    with vnet.Lan("office") as lan:
        lan.add_network("desk", "10.1.0.0/24")
        lan.add_network("lab", "10.2.0.0/24")
        both = lan.netns("both", networks={"desk": None, "lab": None})
        done = inside(both, "print([vnet.member('office', *name).name for name in ((), ('both',), ('both.lab',))])")
        assert (done.stdout, done.stderr) == ("['both', 'both', 'both']\n", "")
        with both.create_region(1) as region:
            assert region.owner == "both"


def test_so_many_members_are_enough(named: vnet.Lan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vnet.control._MEMBERS", 3)
    held = [vnet.member("office", operator=True) for _ in range(3)]
    with pytest.raises(vnet.LanFull, match="3 members"):
        vnet.member("office", operator=True)
    held.pop().close()
    held.append(vnet.member("office", operator=True))
    for each in held:
        each.close()
        each.close()


def test_a_member_is_used_by_who_made_it_until_it_is_closed(named: vnet.Lan, guest: Start) -> None:
    before = len(descriptors())
    member = vnet.member("office", operator=True)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(member)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            member.find_region("x")
        except vnet.ForkedNic:
            status = 4
        member.close()
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4
    assert member._door().ask("region.list")[0]["regions"] == []
    member.close()
    with pytest.raises(vnet.NicClosed, match="closed"):
        member.find_region("x")
    assert soon(lambda: len(descriptors()) == before)


def test_the_end_of_the_lan_is_said_to_members(guest: Start) -> None:
    with vnet.Lan("office", "10.0.0.0/24"):
        member = vnet.member("office", operator=True)
    with pytest.raises(vnet.LanClosed, match="'office'"):
        member.find_region("x")
    member.close()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"lan": None}, ValueError),
        ({"lan": "nowhere"}, vnet.LanNotFound),
        ({"lan": "office", "name": "b", "operator": True}, ValueError),
        ({"lan": "office", "name": 5}, vnet.ProtocolError),
        ({"lan": "a/b"}, ValueError),
    ],
)
def test_members_of_nothing_are_refused(
    named: vnet.Lan, runtime_directory: Path, arguments: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        vnet.member(**arguments)  # type: ignore[arg-type]
