"""Namespaces, and who dies: the base, its nursery, both, at any moment; and children that a base forks."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import support
from namespaces import Target, alive, enter_words, links, open_devices

import vnet

Start = Callable[..., support.Guest]

_BASE = """
lan = vnet.Lan(None, ["10.0.0.0/24", "fd00::/64"])
one, two = lan.netns("one"), lan.netns("two")
inside = one.popen(["sh", "-c", "echo inside; exec sleep 60"], stdout=-1)
inside.stdout.readline()
say(lan._keeper.nursery.pid, inside.pid)
"""


@pytest.fixture
def base(guest: Start) -> Iterator[tuple[support.Guest, int, int]]:
    """A base in another process with two namespaces, its nursery, and a program in the first."""
    running = guest(_BASE + "signal.pause()")
    nursery, inside = map(int, running.hear().split())
    yield running, nursery, inside
    os.kill(inside, signal.SIGKILL)


def _interfaces(inside: int) -> set[str]:
    return set(links(enter_words(inside)))


def test_a_base_that_is_killed_takes_interfaces_and_nursery_along(base: tuple[support.Guest, int, int]) -> None:
    running, nursery, inside = base
    assert _interfaces(inside) == {"lo", "eth0"}
    running.kill()
    assert support.eventually(lambda: not alive(nursery))
    # The program that was in there holds the namespace, and nobody the interface.
    assert _interfaces(inside) == {"lo"}


def test_base_and_nursery_killed_together_leave_no_interface(base: tuple[support.Guest, int, int]) -> None:
    running, nursery, inside = base
    os.kill(nursery, signal.SIGKILL)
    running.kill()
    assert support.eventually(lambda: _interfaces(inside) == {"lo"})
    assert support.eventually(lambda: not alive(nursery))


def test_ctrl_c_at_the_terminal_is_the_bases_alone(base: tuple[support.Guest, int, int]) -> None:
    running, nursery, _ = base
    os.kill(nursery, signal.SIGINT)
    time.sleep(0.1)
    assert alive(nursery)
    assert os.getsid(nursery) != os.getsid(running.pid)


def test_a_lan_goes_on_without_its_nursery_and_the_next_namespace_gets_another(lan: vnet.Lan) -> None:
    one, two = lan.netns("one"), lan.netns("two")
    nursery = lan._keeper.nursery
    assert nursery is not None
    first = nursery.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    ping = ["ping", "-c", "1", "-W", "2"]
    assert one.run([*ping, two.address], capture_output=True).returncode == 0
    three = lan.netns("three")
    assert nursery.pid != first
    assert three.run([*ping, one.address], capture_output=True).returncode == 0
    # The first two's TAPs are the base's alone now.
    one.close()
    two.close()
    assert len([each for each in open_devices() if "tun" in each]) == 1
    assert three.run(["true"]).returncode == 0


def test_a_nursery_that_is_killed_while_namespaces_are_made_costs_no_namespace(lan: vnet.Lan) -> None:
    nursery = lan._nursery()
    made = []
    for number in range(12):
        if nursery.pid is not None and number % 3 == 0:
            # Somewhere in the next, which takes some milliseconds; that one is made by its successor.
            subprocess.Popen(["sh", "-c", f"sleep 0.00{number}; kill -9 {nursery.pid}"]).wait()
        made.append(lan.netns(f"n{number}"))
    words = ["ping", "-c", "1", "-W", "2", made[11].address]
    assert made[0].run(words, capture_output=True).returncode == 0


def test_a_base_that_is_killed_while_namespaces_are_made_leaves_nothing(guest: Start) -> None:
    program = """
lan = vnet.Lan(None, "10.0.0.0/16")
lan.netns("first")
say(lan._keeper.nursery.pid)
for number in range(1000):
    lan.netns(f"n{number}")
"""
    choice = random.Random(7)
    for _ in range(5):
        running = guest(program)
        nursery = int(running.hear())
        time.sleep(choice.uniform(0, 0.1))
        running.kill()
        assert support.eventually(lambda nursery=nursery: not alive(nursery))
        # Nor a child of the nursery's.
        assert support.eventually(lambda nursery=nursery: not _of_session(nursery))


def _of_session(leader: int) -> list[int]:
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                state, _, _, session = Path(entry.path, "stat").read_text().rpartition(")")[2].split()[:4]
            except OSError:
                continue
            if int(session) == leader and state not in "ZX":
                found.append(int(entry.name))
    return found


def test_ctrl_c_while_a_namespace_is_made_costs_that_one_and_no_other(guest: Start) -> None:
    program = """
from namespaces import addresses, own_links
def interrupt(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
with vnet.Lan(None, "10.0.0.0/24") as lan:
    for number in range(8):
        lan.netns(f"warm{number}")
        signal.setitimer(signal.ITIMER_REAL, 0.001 * number + 0.0005)
        try:
            lan.netns(f"n{number}")
            signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            pass
        # An answer to the question before would be another's namespace.
        last = lan.netns(f"last{number}")
        assert f"{last.address}/24" in addresses(own_links(last)["eth0"])
say("done")
"""
    running = guest(f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n" + program)
    assert running.hear() == "done"


def test_a_forked_child_of_the_base_keeps_no_interface(guest: Start) -> None:
    program = (
        _BASE
        + """
child = os.fork()
if not child:
    from namespaces import open_devices
    say(os.getpid(), *open_devices())
    signal.pause()
signal.pause()
"""
    )
    head = f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    running = guest(head + program)
    nursery, inside = map(int, running.hear().split())
    child, *devices = running.hear().split()
    try:
        assert devices == []
        running.kill()
        assert alive(int(child))
        assert support.eventually(lambda: not alive(nursery))
        assert _interfaces(inside) == {"lo"}
    finally:
        os.kill(int(child), signal.SIGKILL)
        os.kill(inside, signal.SIGKILL)


def test_a_lan_that_nobody_holds_any_more_takes_its_namespaces_along() -> None:
    def make() -> int:
        lan = vnet.Lan(None, "10.0.0.0/24")
        lan.netns("one")
        nursery = lan._keeper.nursery
        assert nursery is not None
        assert nursery.pid is not None
        return nursery.pid

    nursery = make()
    assert support.eventually(lambda: not alive(nursery))
    assert open_devices() == []


def test_a_namespace_outlives_neither_target_nor_plug_when_the_nursery_is_killed(lan: vnet.Lan) -> None:
    with Target() as target:
        plug = lan.plug("c1", target.pid)
        nursery = lan._keeper.nursery
        assert nursery is not None
        assert nursery.pid is not None
        os.kill(nursery.pid, signal.SIGKILL)
        plug.close()
        assert support.eventually(lambda: set(target.links) == {"lo"})
