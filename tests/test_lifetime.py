"""Coming and going: attach, reserve, close, and sudden ends."""

from __future__ import annotations

import gc
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
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


# In good order


@pytest.fixture(params=["here", "in another process's LAN"])
def attach(request: pytest.FixtureRequest, named: vnet.Lan) -> Iterator[Callable[..., vnet.Nic]]:
    if request.param == "here":
        yield named.attach
    else:
        yield lambda *args, **named_args: vnet.attach("office", *args, **named_args)


def test_close_frees_name_and_addresses_at_once(attach: Callable[..., vnet.Nic], named: vnet.Lan) -> None:
    other = named.attach("other", ["10.0.0.200", "fd00::200"])
    for _ in range(20):
        with attach("a", ["10.0.0.9", "fd00::9"]) as nic:
            assert other.send(datagram("10.0.0.200", "10.0.0.9")) is Verdict.DELIVERED
        assert other.send(datagram("10.0.0.200", "10.0.0.9")) is Verdict.NO_HOST
        assert other.send(datagram(other.addresses[-1], "fd00::9")) is Verdict.NO_HOST
        assert "a" not in named.nics
        nic.close()
        with pytest.raises(vnet.NicClosed):
            nic.send(b"")


def test_a_nic_that_is_dropped_without_close_frees_its_name(attach: Callable[..., vnet.Nic], named: vnet.Lan) -> None:
    other = named.attach("other", ["10.0.0.200", "fd00::200"])
    for _ in range(20):
        nic = attach("a", "10.0.0.9")
        nic.fileno()
        del nic
        assert eventually(lambda: other.send(datagram("10.0.0.200", "10.0.0.9")) is not Verdict.DELIVERED)
        assert not named.attached("a")
    with attach("b", "10.0.0.9"):
        pass
    attach("a", "10.0.0.10").close()


def test_what_the_last_holder_did_not_read_is_not_its_successors(
    attach: Callable[..., vnet.Nic], named: vnet.Lan
) -> None:
    other = named.attach("other", ["10.0.0.200", "fd00::200"])
    for _ in range(5):
        nic = attach("a", "10.0.0.9")
        with pytest.raises(vnet.ReceiveTimeout):
            nic.recv(timeout=0)
        assert nic.statistics().rx_datagrams == 0
        other.send_many([datagram("10.0.0.200", "10.0.0.9", bytes(1000))] * 100)
        nic.recv(timeout=1)
        nic.close()


def test_names_and_addresses_that_cannot_be_had(attach: Callable[..., vnet.Nic], named: vnet.Lan) -> None:
    taken = named.attach("taken", ["10.0.0.5", "fd00::5"])
    cases: list[tuple[type[Exception], str, tuple[object, ...]]] = [
        (vnet.NameTaken, "taken", ("taken",)),
        (vnet.AddressTaken, "10.0.0.5.*'taken'", ("a", "10.0.0.5")),
        (vnet.AddressTaken, "fd00::5", ("a", "fd00:0::0005")),
        (vnet.AddressTaken, "fd00::5", ("a", ["10.0.0.6", "fd00::5"])),
        (vnet.AddressOutside, "outside network 'lan'", ("a", "10.0.1.1")),
        (vnet.AddressOutside, "outside", ("a", "fd01::1")),
        (vnet.AddressOutside, "broadcast", ("a", "10.0.0.0")),
        (vnet.AddressOutside, "broadcast", ("a", "10.0.0.255")),
        (vnet.AddressOutside, "anycast", ("a", "fd00::")),
        (vnet.AddressError, "not an IP address", ("a", "10.0.0.256")),
        (vnet.AddressError, "not an IP address", ("a", "ten")),
        (vnet.AddressError, "not an IP address", ("a", "10.0.0.1/24")),
        (vnet.AddressError, "twice", ("a", ["10.0.0.6", "10.0.0.6"])),
        (vnet.AddressError, "at least one", ("a", [])),
        (ValueError, "cannot name", ("",)),
        (ValueError, "cannot name", ("a/b",)),
        (ValueError, "cannot name", ("..",)),
        (ValueError, "cannot name", ("é",)),
        (ValueError, "cannot name", ("a" * 65,)),
        (ValueError, "cannot name", ("a\n",)),
    ]
    for kind, words, arguments in cases:
        with pytest.raises(kind, match=words) as caught:
            attach(*arguments)
        assert type(caught.value) is kind
        assert sorted(named.nics) == ["taken"]
    with pytest.raises(ValueError, match="no network named 'there'"):
        attach("a", network="there")
    assert attach("a").addresses == ("10.0.0.1", "fd00::1")
    assert taken.send(datagram("10.0.0.5", "10.0.0.6")) is Verdict.NO_HOST


def test_a_network_must_be_named_where_there_are_several(named: vnet.Lan) -> None:
    named.add_network("second", "10.9.0.0/24")
    for attach in (named.attach, lambda name: vnet.attach("office", name)):
        with pytest.raises(ValueError, match=r"name the network.*lan, second"):
            attach("a")
    with vnet.attach("office", "a", network="second") as nic:
        assert nic.addresses == ("10.9.0.1",)


def test_addresses_are_given_out_in_order_and_not_again_at_once(lan: vnet.Lan) -> None:
    first, second, _third = (lan.attach(f"a{number}") for number in range(3))
    assert (first.address, second.address) == ("10.0.0.1", "10.0.0.2")
    second.close()
    assert lan.attach("a3").addresses == ("10.0.0.4", "fd00::4")


def test_a_full_network_says_so(lan: vnet.Lan) -> None:
    lan.add_network("tiny", "10.1.0.0/29")
    nics = [lan.attach(f"n{number}", network="tiny") for number in range(6)]
    assert [nic.address for nic in nics] == [f"10.1.0.{number}" for number in range(1, 7)]
    with pytest.raises(vnet.NetworkFull, match=r"tiny.*10\.1\.0\.0/29"):
        lan.attach("more", network="tiny")
    nics[3].close()
    assert lan.attach("more", network="tiny").address == "10.1.0.4"


@pytest.mark.parametrize("prefix", ["10.0.0.0/31", "10.0.0.7/32", "fd00::/127", "fd00::7/128"])
def test_prefixes_too_small_for_a_broadcast_address_are_used_whole(prefix: str) -> None:
    with vnet.Lan(None, prefix) as lan:
        count = 2 if prefix.endswith(("31", "127")) else 1
        nics = [lan.attach(f"n{number}") for number in range(count)]
        assert nics[-1].send(datagram(nics[-1].address, nics[0].address)) is Verdict.DELIVERED
        with pytest.raises(vnet.NetworkFull):
            lan.attach("more")


def test_one_nic_may_have_many_addresses_and_a_refused_one_leaves_none_behind(lan: vnet.Lan) -> None:
    many = [f"10.0.0.{number}" for number in range(10, 30)]
    a, b = lan.attach("a"), lan.attach("b", many)
    for address in many:
        assert a.send(datagram("10.0.0.1", address)) is Verdict.DELIVERED
    assert len(b.recv_many(timeout=1)) == len(many)
    with vnet.Lan(None, "10.0.0.0/16", max_nics=2) as small:
        c = small.attach("c")
        too_many = [f"10.0.{high}.{low}" for high in range(1, 4) for low in range(1, 200)]
        with pytest.raises(vnet.LanFull):
            small.attach("greedy", too_many)
        assert {c.send(datagram("10.0.0.1", address)) for address in too_many} == {Verdict.NO_HOST}
        small.attach("modest", "10.0.1.1")


# Places that are kept


def test_a_reserved_place_waits_for_its_guest_and_can_be_claimed_again_and_again(
    attach: Callable[..., vnet.Nic], named: vnet.Lan
) -> None:
    other = named.attach("other", ["10.0.0.200", "fd00::200"])
    info = named.reserve("kept", ["10.0.0.9", "fd00::9"])
    assert (info.state, info.addresses, info.kind) == ("down", ("10.0.0.9", "fd00::9"), "process")
    for number in range(5):
        assert not named.attached("kept")
        assert not named.wait_attached("kept", 0.01)
        assert other.send(datagram("10.0.0.200", "10.0.0.9")) is Verdict.NIC_DOWN
        with pytest.raises(vnet.AddressTaken):
            attach("thief", "10.0.0.9")
        with pytest.raises(vnet.NameTaken):
            named.reserve("kept")
        with pytest.raises(vnet.NameTaken):
            named.host("kept")
        with pytest.raises(vnet.AddressError, match=r"10\.0\.0\.9"):
            attach("kept", "10.0.0.10")
        nic = attach("kept", None if number % 2 else ["FD00:0::9"])
        assert nic.addresses == ("10.0.0.9", "fd00::9")
        assert named.attached("kept")
        assert named.wait_attached("kept", 0)
        assert other.send(datagram(other.addresses[-1], "fd00::9")) is Verdict.DELIVERED
        nic.recv(timeout=1)
        with pytest.raises(vnet.NameTaken):
            attach("kept")
        if number % 2:
            nic.close()
        else:
            del nic
            assert eventually(lambda: not named.attached("kept"))


def test_a_killed_guest_leaves_its_reserved_place_to_the_next(named: vnet.Lan, guest: Start) -> None:
    named.reserve("kept")
    for _ in range(3):
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(named.wait_attached, "kept", 10)
            process = guest('nic = vnet.attach("office", "kept"); say("up"); nic.recv()')
            assert waiting.result() is True
        process.hear()
        process.kill()
        assert eventually(lambda: not named.attached("kept"), timeout=0.1)


def test_waiting_for_a_guest_ends_with_the_lan(named: vnet.Lan) -> None:
    named.reserve("kept")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(named.wait_attached, "kept")
        time.sleep(0.02)
        named.close()
        with pytest.raises(vnet.LanClosed):
            waiting.result(1)


# LANs


def test_a_closed_lan_says_so_and_may_be_closed_again(lan: vnet.Lan) -> None:
    nic, host = lan.attach("a"), lan.host("h")
    lan.close()
    lan.close()
    assert lan.closed
    assert "closed" in repr(lan)
    calls: list[Callable[[], object]] = [
        lambda: lan.attach("b"),
        lambda: lan.host("b"),
        lambda: lan.reserve("b"),
        lambda: lan.add_network("n", "10.2.0.0/24"),
        lambda: lan.inject("a", [b""]),
        lambda: lan.capture("/dev/null"),
        lambda: lan.statistics(),
        lambda: host.ping("10.0.0.1"),
        lambda: nic.send(b""),
    ]
    for call in calls:
        with pytest.raises(vnet.LanClosed):
            call()
    nic.close()
    host.close()


def test_what_is_wrong_with_a_lan_is_said_before_anything_is_made(runtime_directory: Path) -> None:
    wrong: list[tuple[type[Exception], dict[str, object]]] = [
        (vnet.AddressError, {"prefix": "10.0.0.1/24"}),
        (vnet.AddressError, {"prefix": "ten"}),
        (vnet.AddressError, {"prefix": []}),
        (vnet.AddressError, {"prefix": ["10.0.0.0/24", "10.1.0.0/24"]}),
        (ValueError, {"prefix": "10.0.0.0/24", "mtu": 67}),
        (ValueError, {"prefix": "fd00::/64", "mtu": 1279}),
        (ValueError, {"prefix": "10.0.0.0/24", "mtu": 65_536}),
        (ValueError, {"max_nics": 0}),
        (ValueError, {"max_nics": 65_534}),
        (ValueError, {"buffer": 1000}),
        (ValueError, {"name": "../etc"}),
        (ValueError, {"name": ""}),
        (TypeError, {"name": 5}),
    ]
    for kind, arguments in wrong:
        with pytest.raises(kind):
            vnet.Lan(**{"name": "office", **arguments})  # type: ignore[arg-type]
    gc.collect()
    assert not list(runtime_directory.iterdir())
    with vnet.Lan(None) as lan:
        lan.add_network("a", "10.0.0.0/16")
        with pytest.raises(vnet.AddressError, match="overlaps"):
            lan.add_network("b", "10.0.1.0/24")
        with pytest.raises(vnet.NameTaken):
            lan.add_network("a", "10.1.0.0/24")
        with pytest.raises(ValueError, match="buffer"):
            lan.attach("x", buffer=1 << 30)


def test_a_lan_takes_as_many_nics_as_it_was_made_for() -> None:
    with vnet.Lan(None, "10.0.0.0/16", max_nics=300) as lan:
        nics = [lan.attach(f"n{number}") for number in range(300)]
        with pytest.raises(vnet.LanFull, match="300"):
            lan.attach("more")
        nics[7].close()
        lan.attach("more")


def test_lans_of_one_process_do_not_mix() -> None:
    with vnet.Lan("one", "10.0.0.0/24") as one, vnet.Lan("two", "10.0.0.0/24") as two:
        a, b, c = one.attach("a", "10.0.0.1"), one.attach("b", "10.0.0.2"), two.attach("b", "10.0.0.2")
        a.send(datagram("10.0.0.1", "10.0.0.2"))
        a.send(datagram("10.0.0.1", "255.255.255.255"))
        assert len(b.recv_many(timeout=1)) == 2
        with pytest.raises(vnet.ReceiveTimeout):
            c.recv(timeout=0.01)
        with vnet.attach("two", "a", "10.0.0.1") as other:
            assert other.send(datagram("10.0.0.1", "10.0.0.2")) is Verdict.DELIVERED
            assert c.recv(timeout=1)


def test_threads_may_attach_and_leave_at_the_same_time(named: vnet.Lan) -> None:
    def live(who: int) -> None:
        for number in range(25):
            with vnet.attach("office", f"t{who}-{number}") if number % 2 else named.attach(f"t{who}-{number}") as nic:
                assert nic.send(datagram(nic.address, nic.address)) is Verdict.DELIVERED
                assert nic.recv(timeout=1)

    with ThreadPoolExecutor(6) as pool:
        for each in [pool.submit(live, who) for who in range(6)]:
            each.result(30)
    assert not named.nics


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
