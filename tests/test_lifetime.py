"""Sudden ends: of bases, of guests, and of those who come after them."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import Guest, children, datagram, descriptors, eventually

import vnet
from vnet import Verdict

Start = Callable[..., Guest]

_BASE = """
lan = vnet.Lan("office", ["10.0.0.0/24", "fd00::/64"])
nic = lan.attach("base")
say("up")
for line in sys.stdin:
    if line == "close\\n":
        lan.close()
        say("closed")
    elif line == "exit\\n":
        sys.exit(0)
"""


@pytest.fixture
def base(guest: Start) -> Guest:
    """A base in another process, with the NIC `base`."""
    process = guest(_BASE)
    assert process.hear() == "up"
    return process


def test_a_nic_in_another_process_is_like_one_in_this(base: Guest) -> None:
    with vnet.attach("office", "here") as here, vnet.attach("office", "there", ["10.0.0.77", "fd00::77"]) as there:
        assert (here.lan, here.network, here.addresses, here.mtu) == ("office", "lan", ("10.0.0.2", "fd00::2"), 65_535)
        assert there.addresses == ("10.0.0.77", "fd00::77")
        assert there.address == "10.0.0.77"
        assert here.mac.startswith("02:")
        assert here.mac != there.mac
        for data in (datagram("10.0.0.2", "10.0.0.77", b"four"), datagram("fd00::2", "fd00::77", b"six")):
            assert here.send(data) is Verdict.DELIVERED
            assert there.recv(timeout=1) == data
        assert here.send(datagram("10.0.0.2", "10.0.0.1")) is Verdict.DELIVERED
        assert here.statistics().tx_datagrams == 3
        assert "10.0.0.77" in repr(there)


def test_attach_without_arguments_finds_lan_and_nic_in_the_environment(
    base: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="VNET_LAN"):
        vnet.attach()
    monkeypatch.setenv("VNET_LAN", "office")
    with vnet.attach() as unnamed:
        assert unnamed.name.startswith("pid-")
    monkeypatch.setenv("VNET_NIC", "named")
    with vnet.attach() as nic:
        assert (nic.lan, nic.name) == ("office", "named")


# The base ends


@pytest.fixture(params=["closes", "exits", "is killed"])
def end(request: pytest.FixtureRequest, base: Guest) -> Callable[[], None]:
    def act() -> None:
        if request.param == "closes":
            base.say("close")
        elif request.param == "exits":
            base.say("exit")
        else:
            base.process.kill()

    return act


def test_every_call_says_that_the_base_has_ended(base: Guest, end: Callable[[], None]) -> None:
    nic = vnet.attach("office", "guest")
    data = datagram(nic.address, nic.address)
    assert nic.send(data) is Verdict.DELIVERED
    end()
    assert eventually(lambda: _raises(vnet.LanClosed, nic.fileno))
    calls: list[Callable[[], object]] = [
        lambda: nic.send(data),
        lambda: nic.send(data, block=True),
        lambda: nic.send_many([data]),
        lambda: nic.recv(timeout=0),
        lambda: nic.recv_many(timeout=0),
        lambda: nic.recv_view(timeout=0),
        nic.fileno,
    ]
    for call in calls:
        with pytest.raises(vnet.LanClosed):
            call()
    # What it counted can still be read.
    assert nic.statistics().tx_datagrams >= 1
    nic.close()
    nic.close()


def _raises(kind: type[BaseException], call: Callable[[], object]) -> bool:
    try:
        call()
    except kind:
        return True
    return False


@pytest.mark.parametrize("polled", [False, True])
def test_the_end_of_the_base_wakes_who_waits(base: Guest, end: Callable[[], None], polled: bool) -> None:
    nic = vnet.attach("office", "guest")
    if polled:
        nic.fileno()
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(nic.recv, None), pool.submit(nic.recv_many, timeout=None)]
        time.sleep(0.05)
        end()
        killed = time.monotonic()
        for each in waiting:
            with pytest.raises(vnet.LanClosed):
                each.result(3)
        assert time.monotonic() - killed < 0.5
    nic.close()


def test_a_killed_base_is_known_to_its_guests_within_100_ms_and_leaves_nothing(
    base: Guest, runtime_directory: Path
) -> None:
    nic = vnet.attach("office", "guest")
    guardians = [pid for pid in _processes("vnet-guardian") if str(runtime_directory) in _command(pid)]
    assert len(guardians) == 1
    base.process.kill()
    killed = time.monotonic()
    while True:
        try:
            nic.send(b"")
        except vnet.LanClosed:
            break
        assert time.monotonic() - killed < 0.1
    # And within a second its socket, the directory and the guardian are gone.
    assert eventually(lambda: not list(runtime_directory.iterdir()) and not _alive(guardians), timeout=1)
    with pytest.raises(vnet.LanNotFound):
        vnet.attach("office", "guest")
    with vnet.Lan("office", "10.0.0.0/24"):
        nic.close()


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _processes(word: str) -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if word in _command(int(path.name))]


def _alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if _command(pid)]


def _tasks(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/task").glob("*/stat"))


def test_a_stopped_base_gives_a_clear_error_and_existing_nics_go_on(base: Guest) -> None:
    with vnet.attach("office", "a") as a, vnet.attach("office", "b") as b:
        base.process.send_signal(signal.SIGSTOP)
        try:
            assert eventually(lambda: all(" T " in task.read_text() for task in _tasks(base.pid)))
            started = time.monotonic()
            with pytest.raises(vnet.ProtocolError, match="stopped"):
                vnet.attach("office", "late")
            assert time.monotonic() - started < 10
            data = datagram(a.address, b.address)
            assert a.send(data) is Verdict.DELIVERED
            assert b.recv(timeout=1) == data
            with pytest.raises(vnet.NameTaken):
                vnet.Lan("office", "10.0.0.0/24")
        finally:
            base.process.send_signal(signal.SIGCONT)
        # The request that came too late leaves no NIC that nobody holds.
        assert eventually(lambda: not _raises(vnet.NameTaken, lambda: vnet.attach("office", "late").close()))


def test_a_base_that_ends_by_sigterm_leaves_nothing(base: Guest, runtime_directory: Path) -> None:
    base.process.terminate()
    assert base.process.wait(5) == -signal.SIGTERM
    assert eventually(lambda: not list(runtime_directory.iterdir()), timeout=1)


@pytest.mark.parametrize("how", ["collected", "left open", "raised out of"])
def test_a_lan_that_nobody_closed_leaves_nothing_and_says_nothing(
    guest: Start, runtime_directory: Path, how: str
) -> None:
    process = guest(
        """
def work():
    lan = vnet.Lan("office", "10.0.0.0/24")
    host, nic, other = lan.host("h"), lan.attach("a"), vnet.attach("office", "b")
    nic.fileno()
    lan.guard(2 ** 22 + 1)
    lan.capture(os.environ["XDG_RUNTIME_DIR"] + "/../capture-" + str(os.getpid()))
    os.unlink(os.environ["XDG_RUNTIME_DIR"] + "/../capture-" + str(os.getpid()))
    assert host.ping(nic.address, timeout=0.001).sent == 1
    private = vnet.Lan(None, "10.0.0.0/24")
    private.guard(2 ** 22 + 1)
    return lan, host, nic, other, private
how = sys.argv[1]
kept = work()
if how == "collected":
    lan = kept[0]
    del kept, lan
    gc.collect()
    # The thread that hears of the dropped NIC may hold the LAN for a moment more.
    import time
    limit = time.monotonic() + 5.0
    while (os.listdir(os.environ["XDG_RUNTIME_DIR"]) or threading.active_count() > 1) and time.monotonic() < limit:
        time.sleep(0.001)
    assert os.listdir(os.environ["XDG_RUNTIME_DIR"]) == [], os.listdir(os.environ["XDG_RUNTIME_DIR"])
    from support import descriptors
    left = list(descriptors().values())
    assert not [each for each in left if "vnet" in each or "socket" in each], left
    assert threading.active_count() == 1
if how == "raised out of":
    sys.stderr.close()
    raise SystemExit(0)
""",
        how,
    )
    assert process.end() == (0, "", "")
    assert not list(runtime_directory.iterdir())
    assert not [pid for pid in _processes("vnet-guardian") if str(runtime_directory) in _command(pid)]


# Guests end


def test_a_killed_guest_is_down_within_100_ms_and_its_name_and_address_can_be_taken(
    named: vnet.Lan, guest: Start
) -> None:
    a = named.attach("a")
    data = datagram(a.address, "10.0.0.99")
    taken = []
    for _ in range(10):
        victim = guest('nic = vnet.attach("office", "victim", "10.0.0.99"); say("up"); nic.recv()')
        victim.hear()
        assert a.send(b"") is Verdict.MALFORMED
        victim.process.kill()
        killed = time.monotonic()
        while a.send(data) is not Verdict.NIC_DOWN:
            assert time.monotonic() - killed < 0.1
        taken.append(time.monotonic() - killed)
        assert named.nics["victim"].state == "down"
        assert not named.attached("victim")
        # Another may take the address, and the name, and it works.
        with vnet.attach("office", "heir", "10.0.0.99") as heir:
            assert a.send(data) is Verdict.DELIVERED
            assert heir.recv(timeout=1) == data
        with vnet.attach("office", "victim"):
            pass
        assert sorted(named.nics) == ["a"]
    assert max(taken) < 0.1


def test_a_guest_that_exits_without_close_is_gone(named: vnet.Lan, guest: Start) -> None:
    process = guest('nic = vnet.attach("office", "guest"); say(nic.address)')
    address = process.hear()
    assert process.end() == (0, "", "")
    assert eventually(lambda: not named.attached("guest"))
    assert named.attach("guest", address).address == address


def test_the_dead_make_room_on_a_lan_that_is_full(guest: Start) -> None:
    with vnet.Lan("office", "10.0.0.0/29", max_nics=4) as lan:
        a = lan.attach("a")
        victims = [guest(f'nic = vnet.attach("office", "v{number}"); say("up"); hear()') for number in range(3)]
        for victim in victims:
            victim.hear()
        with pytest.raises(vnet.LanFull):
            lan.attach("too-many")
        for victim in victims:
            victim.kill()
        assert eventually(lambda: not any(lan.attached(f"v{number}") for number in range(3)))
        others = [lan.attach(f"b{number}") for number in range(3)]
        assert a.send(datagram(a.address, others[0].address)) is Verdict.DELIVERED


def test_the_dead_make_room_in_a_network_that_is_full(guest: Start) -> None:
    with vnet.Lan("office", "10.0.0.0/30") as lan:
        first = lan.attach("a")
        victim = guest('nic = vnet.attach("office", "victim"); say("up"); hear()')
        victim.hear()
        with pytest.raises(vnet.NetworkFull):
            lan.attach("b")
        victim.kill()
        assert eventually(lambda: not lan.attached("victim"))
        assert lan.attach("b").address == "10.0.0.2"
        first.close()


def test_many_short_lives_leave_no_trace(named: vnet.Lan, guest: Start) -> None:
    """As many attaches as there are NIC slots, and then some: slots, addresses and descriptors come back."""
    with vnet.Lan("small", "10.0.0.0/28", max_nics=8) as lan:
        process = guest("""
for number in range(300):
    nic = vnet.attach("small", f"g{number}")
    if number % 3 == 0:
        nic.fileno()
    if number % 2:
        nic.close()
    nic = None
say(len(os.listdir("/proc/self/fd")))
""")
        before = len(descriptors())
        assert process.hear() == "4"
        assert process.end() == (0, "", "")
        assert eventually(lambda: len(descriptors()) <= before)
        for number in range(8):
            lan.attach(f"a{number}").close()


def test_many_guests_leave_at_once_and_the_rest_talk_on(named: vnet.Lan, guest: Start) -> None:
    a, b = named.attach("a"), named.attach("b")
    crowd = [
        guest(f'n = [vnet.attach("office", f"c{c}-{{k}}") for k in range(8)]; say("up"); hear()') for c in range(4)
    ]
    for each in crowd:
        each.hear()
    assert len(named.nics) == 34
    for each in crowd:
        each.process.kill()
    data = datagram(a.address, b.address)
    for _ in range(100):
        started = time.monotonic()
        assert a.send(data) is Verdict.DELIVERED
        assert b.recv(timeout=1) == data
        assert time.monotonic() - started < 0.1
    assert eventually(lambda: all(info.state == "down" for name, info in named.nics.items() if name[0] == "c"))


# Bases, one after the other


def test_two_bases_of_one_name_at_once_are_one(guest: Start) -> None:
    program = """
hear()
try:
    lan = vnet.Lan("contested", "10.0.0.0/24")
except vnet.NameTaken:
    say("taken")
else:
    say("mine")
    hear()
    lan.close()
"""
    for _ in range(2):
        rivals = [guest(program) for _ in range(5)]
        for rival in rivals:
            rival.say()
        answers = [rival.hear() for rival in rivals]
        assert sorted(answers) == ["mine", "taken", "taken", "taken", "taken"]
        vnet.attach("contested", "a").close()
        for rival in rivals:
            assert rival.end()[0] == 0


def test_bases_that_come_and_go_do_not_trip_over_each_other(guest: Start) -> None:
    """The last to leave removes the directory while the next one enters it."""
    program = """
for number in range(40):
    with vnet.Lan(sys.argv[1], "10.0.0.0/24") as lan:
        vnet.attach(sys.argv[1], "a").close()
say("done")
"""
    for each in [guest(program, f"lan{number}") for number in range(4)]:
        assert each.hear(60) == "done"
        assert each.end() == (0, "", "")


def test_a_base_killed_and_started_again_is_found(guest: Start, runtime_directory: Path) -> None:
    """The dead base's guardian must not take the next one's socket away."""
    program = 'lan = vnet.Lan("phoenix", "10.0.0.0/24"); say("up"); hear()'
    current = guest(program)
    for _ in range(6):
        assert current.hear() == "up"
        current.process.kill()
        current = guest(program)
    assert current.hear() == "up"
    time.sleep(0.4)
    vnet.attach("phoenix", "a").close()
    assert current.end() == (0, "", "")


def test_a_socket_without_a_base_is_no_obstacle(runtime_directory: Path) -> None:
    (runtime_directory / "vnet").mkdir(mode=0o700)
    path = runtime_directory / "vnet" / "stale.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with pytest.raises(vnet.LanNotFound, match="stale"):
        vnet.attach("stale", "a")
    with vnet.Lan("stale", "10.0.0.0/24"):
        vnet.attach("stale", "a").close()


def test_the_commands_under_guard_end_with_a_killed_base(guest: Start) -> None:
    base = guest("""
import subprocess
lan = vnet.Lan(None)
children = [subprocess.Popen(["sleep", "60"], start_new_session=True) for _ in range(3)]
for child in children:
    lan.guard(child.pid)
lan.unguard(children[1].pid)
say(*(child.pid for child in children))
hear()
""")
    pids = list(map(int, base.hear().split()))
    base.kill()
    assert eventually(lambda: _alive(pids) == [pids[1]])
    os.kill(pids[1], signal.SIGKILL)


def test_the_guardian_has_a_session_of_its_own_which_ctrl_c_does_not_reach(named: vnet.Lan) -> None:
    guardians = [pid for pid in children() if "vnet-guardian" in _command(pid)]
    assert guardians
    assert all(os.getsid(pid) == pid for pid in guardians)
