"""ARP and neighbour discovery as Linux's own tools see them: who has an address, who defends it, and who has moved."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from scene import Place, Scene, until

pytestmark = pytest.mark.usefixtures("no_errors")

FREE = {4: "10.0.0.77", 6: "fd00::77"}
REACHED = {"REACHABLE", "STALE", "DELAY", "PROBE"}


def every_pair(scene: Scene) -> list[tuple[Place, Place]]:
    return [(one, other) for one in scene.kernels for other in scene.places.values() if one is not other]


def side_by_side(question: Callable[[Place, Place], str], pairs: list[tuple[Place, Place]]) -> list[str]:
    """Asks for each pair, several at once; returns what was wrong."""
    with ThreadPoolExecutor(40) as pool:
        return [
            f"{one} for {other}: {wrong}"
            for (one, other), wrong in zip(pairs, pool.map(question, *zip(*pairs, strict=True)), strict=True)
            if wrong
        ]


def test_arping_hears_each_address_once_and_from_the_mac_of_its_nic(scene: Scene) -> None:
    def ask(one: Place, other: Place) -> str:
        # Both probes are broadcasts, as if the asker had never heard of it.
        done = one.run("arping", "-b", "-c", "2", "-w", "2", "-I", one.interface, other.addresses[4])
        macs = re.findall(r"reply from \S+ \[(\S+)\]", done.stdout)
        return "" if [each.lower() for each in macs] == [other.mac_for(one)] * 2 else done.stdout + done.stderr

    assert side_by_side(ask, every_pair(scene)) == []


def test_ndisc6_hears_each_address_from_the_mac_of_its_nic(scene: Scene) -> None:
    def ask(one: Place, other: Place) -> str:
        done = one.run("ndisc6", "-m", "-r", "1", "-w", "300", other.addresses[6], one.interface)
        macs = re.findall(r"Target link-layer address: (\S+)", done.stdout)
        return "" if [each.lower() for each in macs] == [other.mac_for(one)] else done.stdout + done.stderr

    assert side_by_side(ask, every_pair(scene)) == []


def test_advertisements_bear_the_flags_of_a_host_that_was_asked(scene: Scene) -> None:
    alice = scene["alice"]
    targets = [place for place in scene.places.values() if place is not alice]
    advertisement = "icmp6 and ip6[40] == 136"
    words = ["tcpdump", "-l", "-n", "-vv", "-i", "eth0", "-c", str(len(targets)), advertisement]
    with alice.start(*words, until="listening on") as dump:
        for place in targets:
            alice.run("ndisc6", "-1", "-r", "1", "-q", place.addresses[6], "eth0")
        heard, _ = dump.communicate(timeout=10)
    # RFC 4861 section 4.4: solicited, and not a router's.
    flags = re.findall(r"tgt is (\S+), Flags \[([^\]]*)\]", heard)
    assert {target for target, _ in flags} == {place.addresses[6] for place in targets}, heard
    for target, each in flags:
        assert "solicited" in each, target
        assert "router" not in each, target


@pytest.mark.parametrize("family", [4, 6])
def test_an_address_that_nobody_has_stays_unanswered(scene: Scene, family: int) -> None:
    for name in ("alice", "far"):
        place = scene[name]
        if family == 4:
            done = place.run("arping", "-c", "1", "-w", "1", "-I", place.interface, FREE[4])
            assert "Received 0 response" in done.stdout
        else:
            done = place.run("ndisc6", "-r", "2", "-w", "200", FREE[6], place.interface)
        assert done.returncode != 0
        done = place.run("ping", "-c", "1", "-W", "4", FREE[family])
        assert "unreachable" in done.stdout.lower()
        assert place.neighbours()[FREE[family]]["state"] == ["FAILED"]


def test_kernels_know_all_whom_they_spoke_to_by_their_macs(scene: Scene) -> None:
    for one in scene.kernels:
        one.output("ip", "neigh", "flush", "dev", one.interface)
    pairs = [(one, other) for one, other in every_pair(scene) if other.name != "scapy"]
    for one, other in pairs:
        for address in other.addresses.values():
            one.output("ping", "-c", "1", "-w", "3", address)
    for one, other in pairs:
        known = one.neighbours()
        for address in other.addresses.values():
            assert known[address]["lladdr"] == other.mac_for(one), f"{one} knows {address} as {known[address]}"
            assert set(known[address]["state"]) <= REACHED


def test_neighbours_that_were_reached_are_confirmed_again(scene: Scene) -> None:
    """The kernel asks by unicast before it believes that a neighbour is still there (RFC 4861 section 7.3)."""
    alice = scene["alice"]
    everybody = [
        address for place in scene.places.values() if place is not alice for address in place.addresses.values()
    ]
    for address in everybody:
        alice.run("ping", "-c", "1", "-W", "1", address)
    alice.shell("".join(f"ip neigh change {each} dev eth0 nud probe\n" for each in everybody))
    until(lambda: all(alice.neighbours()[each]["state"] == ["REACHABLE"] for each in everybody))


def test_conflict_probes_find_who_has_an_address_on_either_side_of_the_bridge(scene: Scene) -> None:
    def probe(one: Place, other: Place) -> str:
        done = one.run("arping", "-D", "-c", "2", "-w", "2", "-I", one.interface, other.addresses[4])
        # 1: somebody has it, RFC 5227 section 2.1.1.
        return (
            ""
            if done.returncode == 1 and other.mac_for(one) in done.stdout.lower()
            else f"{done.returncode} {done.stdout}"
        )

    assert side_by_side(probe, every_pair(scene)) == []
    for one in scene.kernels:
        done = one.run("arping", "-D", "-c", "1", "-w", "1", "-I", one.interface, FREE[4])
        assert done.returncode == 0, f"{one}: {done.stdout}"


def test_duplicate_address_detection_fails_for_a_taken_address_and_passes_for_a_free_one(scene: Scene) -> None:
    kernels = [each for each in scene.kernels if each.name != "gate"]
    for number, one in enumerate(kernels):
        taken = [place.addresses[6] for place in scene.places.values() if place is not one]
        one.shell("echo 1 > /proc/sys/net/ipv6/conf/$0/accept_dad".replace("$0", one.interface))
        one.shell("".join(f"ip address add {each}/64 dev {one.interface}\n" for each in [*taken, f"fd00::77{number}"]))
    try:
        for number, one in enumerate(kernels):
            tentative = ["ip", "-6", "address", "show", "dev", one.interface, "tentative"]
            until(lambda one=one, words=tentative: not _addresses(one.output(*words, "-dadfailed")), timeout=10)
            failed = _addresses(one.output("ip", "-6", "address", "show", "dev", one.interface, "dadfailed"))
            taken = [place.addresses[6] for place in scene.places.values() if place is not one]
            assert failed == set(taken), one
            # It is in use from now on, and the others reach it.
            others = [each for each in kernels if each is not one]
            assert all(each.run("ping", "-c", "1", "-w", "3", f"fd00::77{number}").returncode == 0 for each in others)
    finally:
        for number, one in enumerate(kernels):
            taken = [place.addresses[6] for place in scene.places.values() if place is not one]
            for each in [*taken, f"fd00::77{number}"]:
                one.run("ip", "address", "del", f"{each}/64", "dev", one.interface)
    # The owners have kept theirs.
    for one, other in every_pair(scene):
        if other.name != "scapy":
            one.output("ping", "-c", "1", "-w", "3", other.addresses[6])


def _addresses(shown: str) -> set[str]:
    return {each for each in re.findall(r"inet6 (\S+)/\d+", shown) if each.startswith("fd00:")}


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("owner", ["alice", "box", "far"])
def test_an_address_added_by_hand_is_reached_from_everywhere(scene: Scene, owner: str, family: int) -> None:
    place, number = scene[owner], {"alice": 81, "box": 82, "far": 83}[owner]
    address = f"10.0.0.{number}" if family == 4 else f"fd00::{number}"
    bits = 24 if family == 4 else 64
    place.output("ip", "address", "add", f"{address}/{bits}", "dev", place.interface, *["nodad"] * (family == 6))
    try:
        for other in scene.kernels:
            if other is not place:
                other.output("ping", "-c", "1", "-w", "5", address)
                assert other.neighbours()[address]["lladdr"] == place.mac_for(other), other
        # Guests without ARP know it as soon as it has been heard of.
        assert scene.host.ping(address, timeout=2.0).received == 1
        with scene.stack.socket() as sock, pytest.raises(ConnectionRefusedError):
            sock.connect((address, 9)) if family == 4 else scene.stack.connect((address, 9), timeout=2)
    finally:
        place.output("ip", "address", "del", f"{address}/{bits}", "dev", place.interface)


@pytest.mark.parametrize("owner", ["alice", "box", "far"])
def test_a_guest_that_changes_its_mac_is_reached_again(scene: Scene, owner: str) -> None:
    place, before, now = (
        scene[owner],
        scene[owner].mac,
        "02:00:5e:aa:bb:" + {"alice": "01", "box": "02", "far": "03"}[owner],
    )
    others = [each for each in scene.kernels if each is not place]
    for other in others:
        for address in place.addresses.values():
            other.output("ping", "-c", "1", "-w", "3", address)
    try:
        for mac in (now, before):
            place.output("ip", "link", "set", place.interface, "address", mac)
            # It speaks, as any guest does that lives; then the LAN knows, and behind a bridge those who heard.
            for other in (scene["bob"], *(each for each in others if each.behind and place.behind)):
                for address in other.addresses.values():
                    place.output("ping", "-c", "1", "-w", "3", address)
            for other in others:
                for address in place.addresses.values():
                    other.output("ping", "-c", "1", "-w", "8", address)
                    assert other.neighbours()[address]["lladdr"] == (
                        place.seen_as if place.behind and not other.behind else mac
                    ), f"{other} about {address}"
            assert all(scene.host.ping(address).received == 1 for address in place.addresses.values())
    finally:
        place.output("ip", "link", "set", place.interface, "address", before)


def test_an_address_that_moves_to_another_guest_is_reached_there(scene: Scene) -> None:
    """As keepalived and its like do it: the new owner says so by a gratuitous ARP."""
    alice, box, bob, far = (scene[each] for each in ("alice", "box", "bob", "far"))
    address = "10.0.0.90"
    for owner in (alice, box):
        owner.output("ip", "address", "add", f"{address}/24", "dev", owner.interface)
        try:
            owner.output("arping", "-U", "-c", "1", "-I", owner.interface, address, timeout=5)
            time.sleep(0.05)  # nothing answers an announcement
            for other in (bob, far):
                other.output("ping", "-c", "1", "-w", "5", address)
                assert other.neighbours()[address]["lladdr"] == owner.mac_for(other), f"{other} looks for {owner}"
        finally:
            owner.output("ip", "address", "del", f"{address}/24", "dev", owner.interface)
