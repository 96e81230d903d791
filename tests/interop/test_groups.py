"""Multicast and broadcast reach all who asked for them, and each once."""

from __future__ import annotations

import re
from contextlib import ExitStack

import pytest
from programs import PORTS
from scene import Place, Scene

pytestmark = pytest.mark.usefixtures("no_errors")

GROUPS = {4: "239.7.7.7", 6: "ff12::777"}


def listener(place: Place, family: int, port: int) -> list[str]:
    """A program that joins the group and prints what comes."""
    group = GROUPS[family]
    joined = (
        f"ip-add-membership={group}:{place.interface}"
        if family == 4
        else f"ipv6-join-group=[{group}]:{place.interface}"
    )
    return ["socat", "-d", "-d", "-d", "-u", f"UDP{family}-RECV:{port},reuseaddr,{joined}", "STDOUT"]


def send(place: Place, family: int, port: int, line: str) -> None:
    group = GROUPS[family]
    if family == 4:
        target = f"UDP4-DATAGRAM:{group}:{port},ip-multicast-if={place.addresses[4]},ip-multicast-loop=0"
    else:
        target = f"UDP6-DATAGRAM:[{group}%{place.interface}]:{port}"
    place.output("socat", "-u", "STDIN", target, input=line + "\n")


@pytest.mark.parametrize("family", [4, 6])
def test_a_datagram_to_a_group_reaches_each_member_once(scene: Scene, family: int) -> None:
    port = next(PORTS)
    members = [each for each in scene.kernels if each.name != "gate"]
    with ExitStack() as stack:
        listening = {
            place.name: stack.enter_context(
                place.start(*listener(place, family, port), until="starting data transfer loop")
            )
            for place in members
        }
        for place in members:
            send(place, family, port, f"from {place}")
        for place in members:
            place.output("ping", "-c", "1", "-w", "3", scene["host"].addresses[family])
        for name, process in listening.items():
            heard = ""
            expected = {each.name for each in members} - {name}
            while not expected <= set(re.findall(r"from (\w+)$", heard, re.MULTILINE)):
                assert process.stdout
                line = process.stdout.readline()
                assert line, f"{name}: {heard}"
                heard += line
            found = [each for each in re.findall(r"^from (\w+)$", heard, re.MULTILINE) if each != name]
            assert sorted(found) == sorted(expected), name


@pytest.mark.parametrize("address", ["10.0.0.255", "255.255.255.255"])
def test_a_broadcast_ping_is_answered_by_every_kernel(scene: Scene, address: str) -> None:
    for place in scene.kernels:
        place.shell("echo 0 > /proc/sys/net/ipv4/icmp_echo_ignore_broadcasts")
    for place in scene.kernels:
        shown = place.run("ping", "-n", "-b", "-c", "99", "-i", "5", "-w", "1", "-I", place.interface, address).stdout
        answers = re.findall(r"bytes from (\S+):", shown)
        own = place.addresses[4]
        # Built-in hosts keep quiet, as Linux does unless it is told otherwise (RFC 1122 section 3.2.2.6 allows both).
        expected = sorted(each.addresses[4] for each in scene.kernels if each is not place)
        assert sorted(set(answers) - {own}) == expected, place
        assert len(answers) == len(set(answers)), shown


def test_all_nodes_answer_a_ping_to_all_nodes(scene: Scene) -> None:
    for place in scene.kernels:
        shown = place.run(
            "ping", "-n", "-c", "99", "-i", "5", "-w", "1", "-I", place.addresses[6], f"ff02::1%{place.interface}"
        ).stdout
        answers = re.findall(r"bytes from ([^%\s]+?)(?:%\S+)?: ", shown)
        expected = {each.addresses[6] for each in scene.kernels if each is not place}
        # Answers to a group come from an address of the answerer's choice, one of its prefix or of the link.
        assert len(set(answers)) >= len(expected), shown
        assert len(answers) == len(set(answers)), shown


@pytest.mark.parametrize("family", [4, 6])
def test_groups_reach_process_guests_and_come_from_them(scene: Scene, family: int) -> None:
    from scapy.all import IP, UDP, IPv6, Raw, raw

    port, nic, group = next(PORTS), scene.scapy, GROUPS[family]
    while True:
        try:
            nic.recv(timeout=0)
        except TimeoutError:
            break
    send(scene["alice"], family, port, "from alice")
    while b"from alice" not in nic.recv(timeout=5):
        pass
    header = (
        IP(src=scene["scapy"].addresses[4], dst=group)
        if family == 4
        else IPv6(src=scene["scapy"].addresses[6], dst=group)
    )
    with ExitStack() as stack:
        members = [scene[each] for each in ("bob", "far")]
        listening = [
            stack.enter_context(place.start(*listener(place, family, port), until="starting data transfer loop"))
            for place in members
        ]
        nic.send(raw(header / UDP(sport=port, dport=port) / Raw(b"from scapy\n")))
        for process in listening:
            assert process.stdout
            assert any("from scapy" in line for line in process.stdout)
