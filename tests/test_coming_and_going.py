"""Coming and going in good order: names, addresses, places that are kept, and LANs as such."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import Guest, datagram, eventually

import vnet
from vnet import Verdict

Start = Callable[..., Guest]


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


# Taken off again


def test_a_nic_that_the_base_takes_off_is_closed_for_its_holder(named: vnet.Lan, guest: Start) -> None:
    other = guest("""
nic = vnet.attach("office", "b", "10.0.0.9")
say("up")
try:
    nic.recv(timeout=10)
except vnet.NicClosed:
    say("closed")
""")
    assert other.hear() == "up"
    named.remove("b")
    assert other.hear() == "closed"
    # Its name and address are free, and what its holder does at its end does not touch the next one.
    with vnet.attach("office", "b", "10.0.0.9") as nic:
        assert other.end()[0] == 0
        assert named.attach("a").send(datagram("10.0.0.1", "10.0.0.9")) is Verdict.DELIVERED
        assert len(nic.recv(timeout=1.0)) == 20


def test_a_place_that_was_kept_can_be_given_up(named: vnet.Lan) -> None:
    named.reserve("web", "10.0.0.80")
    named.remove("web")
    assert "web" not in named.nics
    with named.attach("other", "10.0.0.80"):
        pass
    with pytest.raises(KeyError, match="web"):
        named.remove("web")


def test_a_network_can_be_removed_once_nobody_is_on_it(named: vnet.Lan) -> None:
    named.add_network("lab", "10.1.0.0/24")
    with named.attach("a", network="lab"), pytest.raises(ValueError, match="NIC 'a' is on it"):
        named.remove_network("lab")
    named.remove_network("lab")
    assert list(named.networks) == ["lan"]
    with pytest.raises(ValueError, match="no network named 'lab'"):
        named.remove_network("lab")
    # Its prefix is free for another, which is another domain.
    named.add_network("new", "10.1.0.0/24", mtu=1500)
    a, b = named.attach("a", network="new"), named.attach("b", network="new")
    assert a.send(datagram(a.address, b.address)) is Verdict.DELIVERED
    assert a.send(datagram(a.address, b.address, bytes(1500))) is Verdict.TOO_BIG
