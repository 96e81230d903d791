"""What a TAP borrows goes back: when the base dies at any moment, and when several share it with the last of them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable

import pytest
import support

from .machines import Machine

# Has the base die at its nth step, before or after it: each request to the kernel or the guardian is one.
_MORTAL = """
import signal
from vnet.hostside import forwarding, lending, masquerade, tap
deadly, steps = int(os.environ["DEADLY"]), 0

def mortal(real):
    def step(*arguments, **options):
        die()
        done = real(*arguments, **options)
        die()
        return done
    return step

def die():
    global steps
    steps += 1
    if steps == deadly:
        os.kill(os.getpid(), signal.SIGKILL)

class Kernel:
    def __init__(self, kernel):
        self.kernel = kernel
    def __getattr__(self, name):
        return mortal(getattr(self.kernel, name))

netlink = tap.netlink
tap.netlink = lambda work: netlink(lambda kernel: work(Kernel(kernel)))
tap.open_tap = mortal(tap.open_tap)
lending.Lending._ask = mortal(lending.Lending._ask)
masquerade.Masquerade._add = mortal(masquerade.Masquerade._add)
forwarding._write = mortal(forwarding._write)
"""

_BORROW = "tap = lan.tap('uplink', ['10.0.0.254', 'fd00::fe'], bridge={!r}, ports=['eth1', 'eth2'], nat=True)"


def _furnish(machine: Machine) -> None:
    """A machine with interfaces in use and a bridge, and settings that are not all as the kernel makes them."""
    machine.sh(
        "ip link add name eth1 up type veth peer name far1; ip link add name eth2 type veth peer name far2;"
        "ip link add br9 up type bridge; ip link set eth2 master br9;"
        "echo 1 > /proc/sys/net/ipv4/conf/far1/forwarding; echo 1 > /proc/sys/net/ipv6/conf/far1/forwarding;"
        "echo 0 > /proc/sys/net/ipv4/conf/all/accept_redirects"
    )


# A stride that meets all kinds of steps; the whole takes a minute.
@pytest.mark.parametrize(("bridge", "stride"), [("br0", 7), ("br9", 12)])
def test_a_base_that_is_killed_at_any_step_leaves_the_machine_as_it_was(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, bridge: str, stride: int
) -> None:
    _furnish(machine)
    before = machine.state()
    killed = 0
    for deadly in range(1, 1000, stride):
        monkeypatch.setenv("DEADLY", str(deadly))
        base = machine.base(before=_MORTAL)
        base.say(json.dumps(_BORROW.format(bridge)))
        if base.process.stdout.read(1):
            # It has done all.
            break
        killed += 1
        assert base.process.wait() == -signal.SIGKILL
        machine.becomes(before)
    assert killed > 4
    base.kill()
    machine.becomes(before)


def test_a_base_that_is_killed_in_use_leaves_the_machine_as_it_was(machine: Machine) -> None:
    _furnish(machine)
    before = machine.state()
    base = machine.base()
    base.do(_BORROW.format("br0"))
    changed = machine.state()
    assert changed["settings"]["net.ipv4.ip_forward"] == "1"
    assert changed["links"]["eth1"][2] == changed["links"]["eth2"][2] == "br0"
    assert "masquerade" in changed["tables"]
    base.kill()
    machine.becomes(before)


def test_a_forked_child_that_lives_on_holds_nothing_back(machine: Machine) -> None:
    _furnish(machine)
    before = machine.state()
    base = machine.base()
    base.do(_BORROW.format("br0"))
    child = base.do("os.fork() or (tap.close(), __import__('time').sleep(60))")
    try:
        assert "demo-uplink" in machine.links()
        base.kill()
        machine.becomes(before)
        os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("first", ["close", "kill"])
@pytest.mark.parametrize("last", ["close", "kill"])
def test_what_two_labs_share_goes_with_the_last(
    machine: Machine, another: Callable[[], Machine], first: str, last: str
) -> None:
    _furnish(machine)
    before = machine.state()
    # The second asks for what the first has made: bridge, port and settings.
    ones = machine.base("one", ["10.0.0.0/24", "fd00::/64"])
    ones.do("tap = lan.tap('uplink', '10.0.0.254', bridge='br0', ports=['eth1'], nat=True)")
    twos = machine.base("two", ["10.0.2.0/24", "fd02::/64"])
    twos.do("tap = lan.tap('uplink', '10.0.2.254', bridge='br0', ports=['eth1'], nat=True)")

    end = {"close": lambda base: base.do("tap.close()"), "kill": lambda base: base.kill()}
    end[first](ones)
    assert support.eventually(lambda: "one-uplink" not in machine.links())
    assert support.eventually(lambda: sum("@vnet|bridge" in line for line in machine.state()["sockets"]) == 1)
    state = machine.state()
    assert state["links"]["eth1"][2] == state["links"]["two-uplink"][2] == "br0"
    assert [address for address in state["links"]["br0"][4] if address.startswith("10.")] == ["10.0.2.254/24"]
    assert state["settings"]["net.ipv4.ip_forward"] == "1"
    assert "vnet_one_uplink" not in state["tables"]
    assert "vnet_two_uplink" in state["tables"]
    end[last](twos)
    machine.becomes(before)


def test_two_labs_that_are_killed_at_once_leave_nothing(machine: Machine) -> None:
    _furnish(machine)
    before = machine.state()
    for _ in range(3):
        bases = [machine.base(name, f"10.0.{at}.0/24") for at, name in enumerate(("one", "two", "three"))]
        for at, base in enumerate(bases):
            base.do(f"tap = lan.tap('uplink', '10.0.{at}.254', bridge='br0', ports=['eth1'], nat=True)")
        for base in bases:
            os.kill(base.pid, signal.SIGKILL)
        for base in bases:
            base.process.wait()
        machine.becomes(before)


def test_labs_that_come_and_go_at_once_do_not_pull_the_bridge_from_under_each_other(machine: Machine) -> None:
    _furnish(machine)
    before = machine.state()
    names = ("one", "two", "three")
    bases = [machine.base(name, f"10.0.{at}.0/24") for at, name in enumerate(names)]
    for _ in range(6):
        for base in bases:
            base.say("\"tap = lan.tap('uplink', bridge='br0', ports=['eth1'])\"")
        for base in bases:
            assert base.hear().startswith('["is"')
        links = machine.state()["links"]
        assert [links[f"{name}-uplink"][2] for name in names] == ["br0"] * 3
        assert links["eth1"][2] == "br0"
        # All but one go and come again while the last stays.
        for base in bases:
            base.say('"tap.close()"')
        for base in bases:
            assert base.hear().startswith('["is"')
        machine.becomes(before)


def test_a_bridge_into_which_somebody_put_an_interface_is_theirs_now(machine: Machine) -> None:
    base = machine.base()
    base.do("tap = lan.tap('uplink', bridge='br0')")
    machine.sh("ip link add name own up type veth peer name far; ip link set own master br0")
    base.do("tap.close()")
    assert machine.link("demo-uplink") is None
    own = machine.link("own")
    assert own is not None
    assert own["master"] == "br0"


def test_a_cable_whose_other_end_goes_with_the_lab_does_not_keep_the_bridge(
    machine: Machine, another: Callable[[], Machine]
) -> None:
    """What a lab's command puts into the bridge goes a moment after it: the kernel ends namespaces in its own time."""
    before = machine.state()
    for name, end in (("one", "tap.close()"), ("two", "os.kill(os.getpid(), 9)")):
        other = another()
        base = machine.base(name, "10.0.0.0/24")
        base.do("tap = lan.tap('uplink', bridge='br0')")
        machine.join(other, "eth1", "eth0")
        machine.sh("ip link set eth1 master br0 up")
        base.say(json.dumps(end))
        other.end()
        machine.becomes(before)


def test_what_somebody_changed_meanwhile_stays_as_they_left_it(machine: Machine) -> None:
    _furnish(machine)
    base = machine.base()
    base.do("tap = lan.tap('uplink', '10.0.0.254', bridge='br0', ports=['eth1', 'eth2'], nat=True)")
    machine.sh(
        "ip link set eth1 master br9; ip link set eth2 nomaster; ip address delete 10.0.0.254/24 dev br0;"
        "echo 0 > /proc/sys/net/ipv6/conf/far1/accept_ra"
    )
    base.do("tap.close()")
    links = machine.state()["links"]
    assert (links["eth1"][2], links["eth2"][2]) == ("br9", None)
    assert "br0" not in links
    assert machine.setting("ipv6/conf/far1/accept_ra") == "0"


def test_somebody_else_s_words_about_what_was_there_before_do_not_count(machine: Machine) -> None:
    """Abstract sockets are anybody's; only those of this user and root say what goes back how."""
    before = machine.state()
    liar = machine.sh_as_nobody("ipv4/ip_forward", "1,1")
    try:
        base = machine.base("demo", "10.0.0.0/24")
        base.do("tap = lan.tap('uplink', nat=True)")
        base.do("tap.close()")
        assert machine.setting("ipv4/ip_forward") == "0"
    finally:
        liar.kill()
        liar.wait()
    machine.becomes(before)


def test_a_lab_that_cannot_be_made_gives_back_what_it_had_of_it(machine: Machine) -> None:
    _furnish(machine)
    before = machine.state()
    base = machine.base()
    base.do("host = lan.host('h', '10.0.0.1')")
    for code in (
        "lan.tap('uplink', '10.0.0.1', bridge='br0', ports=['eth1'])",
        "lan.tap('uplink', '10.0.0.254', bridge='br0', ports=['eth1', 'eth7'], nat=True)",
        "lan.tap('uplink', '10.0.0.254', bridge='br0', ports=['eth1', 'lo'], nat=True)",
        "lan.tap('uplink', '10.0.0.254', interface='eth2', nat=True)",
    ):
        base.refused(code)
        machine.becomes(before)
        assert base.do("list(lan.nics)") == ["h"]
