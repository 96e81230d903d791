"""Guests that end in the middle of a transfer: the others go on, the NIC is down at once, and nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest
import support
from programs import PORTS
from scene import PREFIXES, Place, into, namespace, shell, until

import vnet

pytestmark = pytest.mark.usefixtures("own_network")

# A tenth of what the machine may take when it is busy; the LAN itself needs a hundredth.
SOON = 1.0


@pytest.fixture
def lan(own_network: None) -> Iterator[vnet.Lan]:
    with vnet.Lan(None, PREFIXES, mtu=1500) as lan:
        yield lan


def place(netns: vnet.Netns) -> Place:
    return Place(
        netns.name, {4: netns.addresses[0], 6: netns.addresses[1]}, netns.mac, netns.mac, "eth0", netns.enter_words
    )


def transfer(stack: ExitStack, sender: Place, receiver: Place, seconds: int) -> subprocess.Popen[str]:
    """An iperf3 run that is under way; its report is what it prints."""
    port = str(next(PORTS))
    stack.enter_context(receiver.start("iperf3", "-s", "-p", port, "--forceflush", until="Server listening"))
    words = ["iperf3", "-c", receiver.addresses[4], "-p", port, "-t", str(seconds), "-i", "0.2", "-J"]
    return stack.enter_context(sender.start(*words))


def belongings() -> tuple[set[int], str, list[str]]:
    """Processes, interfaces of the base's namespace, and descriptors of devices and namespaces."""
    held = [what for what in support.descriptors().values() if "tun" in what or what.startswith("net:")]
    return set(support.children()), shell("ip -br link"), sorted(held)


def flowing(lan: vnet.Lan, name: str) -> Callable[[], bool]:
    """Whether a NIC has sent a megabyte since."""
    before = lan.statistics().nics[name].tx_bytes
    return lambda: lan.statistics().nics[name].tx_bytes > before + 1_000_000


@pytest.mark.parametrize("end", ["its programs are killed", "its interface is deleted", "its namespace is removed"])
def test_a_guest_ends_in_the_middle_of_a_transfer_and_the_others_go_on(lan: vnet.Lan, end: str) -> None:
    before = belongings()
    with ExitStack() as stack, ExitStack() as own:
        others = [place(stack.enter_context(closing(lan.netns(name)))) for name in ("carol", "dave")]
        peer = place(stack.enter_context(closing(lan.netns("bob"))))
        if end == "its namespace is removed":
            box = own.enter_context(namespace())
            plug = stack.enter_context(closing(lan.plug("victim", box, interface="eth0")))
            victim = Place(
                "victim", {4: plug.addresses[0], 6: plug.addresses[1]}, plug.mac, plug.mac, "eth0", into(box)
            )
        else:
            victim = place(stack.enter_context(closing(lan.netns("victim"))))
        going = transfer(stack, others[0], others[1], 2)
        cut = transfer(own, victim, peer, 60)
        back = transfer(own, peer, victim, 60)
        for name in ("carol", "victim", "bob"):
            until(flowing(lan, name))
        assert lan.attached("victim")
        if end == "its programs are killed":
            for process in (cut, back):
                process.send_signal(signal.SIGKILL)
            own.close()
        elif end == "its interface is deleted":
            victim.output("ip", "link", "delete", "eth0")
            assert until(lambda: not lan.attached("victim")) < SOON
        else:
            # Everything in there is killed, as an engine does that removes a container.
            inside = [each for each in _in_namespace(box) if each != box]
            for pid in [*inside, box]:
                os.kill(pid, signal.SIGKILL)
            assert until(lambda: not lan.attached("victim")) < SOON
        # The others' transfer is as if nothing had been.
        until(flowing(lan, "carol"))
        report, _ = going.communicate(timeout=20)
        intervals = json.loads(report)["intervals"]
        assert len(intervals) >= 9
        assert all(each["sum"]["bytes"] > 0 for each in intervals)
        own.close()
        if end == "its programs are killed":
            # The namespace is there as before.
            peer.output("ping", "-c", "1", "-w", "5", victim.addresses[4])
        else:
            assert peer.run("ping", "-c", "1", "-W", "1", victim.addresses[4]).returncode == 1
            # Its name and its address are free for somebody else.
            heir = place(stack.enter_context(closing(lan.netns("victim", victim.addresses[4]))))
            peer.output("ping", "-c", "1", "-w", "5", heir.addresses[4])
    lan.close()
    assert belongings() == before


def _in_namespace(pid: int) -> list[int]:
    """The processes in the network namespace of this one."""
    theirs = os.readlink(f"/proc/{pid}/ns/net")
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.readlink(f"/proc/{entry}/ns/net") == theirs:
                    found.append(int(entry))
            except OSError:
                continue
    return found


def test_a_guest_that_leaves_in_the_middle_of_a_transfer_takes_its_interface_along(lan: vnet.Lan) -> None:
    with ExitStack() as stack, namespace() as box:
        plug = lan.plug("victim", box, interface="lan0")
        victim = Place("victim", {4: plug.addresses[0]}, plug.mac, plug.mac, "lan0", into(box))
        peer = place(lan.netns("bob"))
        transfer(stack, victim, peer, 60)
        until(flowing(lan, "victim"))
        plug.close()
        assert "lan0" not in victim.output("ip", "-br", "link")


def test_a_base_that_is_killed_in_the_middle_of_a_transfer_leaves_nothing(
    own_network: None, guest: Callable[..., support.Guest]
) -> None:
    links = shell("ip -br link")
    with namespace() as box, ExitStack() as stack:
        base = guest(
            f"""
lan = vnet.Lan("office", {PREFIXES!r}, mtu=1500)
bob = lan.netns("bob")
plug = lan.plug("box", {box}, interface="lan0")
tap = lan.tap("gate", ["10.0.0.254"], bridge="br7", interface="gate0")
import subprocess
server = bob.popen(["iperf3", "-s", "-p", "7777"], stdout=subprocess.DEVNULL)
say(bob.addresses[0])
hear()
"""
        )
        address = base.hear()
        assert "gate0" in shell("ip -br link")
        victim = Place("box", {4: "10.0.0.2"}, "", "", "lan0", into(box))
        until(lambda: victim.run("ping", "-c", "1", "-W", "1", address).returncode == 0)
        server = [pid for pid in _descendants(base.pid) if _command(pid).startswith("iperf3 -s")]
        stack.enter_context(victim.start("iperf3", "-c", address, "-p", "7777", "-t", "60"))
        until(lambda: int(victim.output("cat", "/proc/net/dev").split("lan0:")[1].split()[8]) > 1_000_000)
        helpers = [pid for pid in _descendants(base.pid) if pid not in server]
        base.kill()
        until(lambda: "lan0" not in victim.output("ip", "-br", "link"), timeout=SOON)
        until(lambda: shell("ip -br link") == links, timeout=5)
        until(lambda: not any(os.path.exists(f"/proc/{pid}") and _command(pid) for pid in helpers))
        # A program that the base's user started is the user's.
        for pid in server:
            os.kill(pid, signal.SIGKILL)


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _descendants(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(line.split()[0]): int(line.split()[1]) for line in listed.splitlines()}
    found, grew = {pid}, True
    while grew:
        grew = False
        for each, parent in parents.items():
            if parent in found and each not in found:
                found.add(each)
                grew = True
    return sorted(found - {pid})
