"""The kill test of what guests share, in a short form; ``VNET_KILLS`` says how many kills. And the base is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import support

from .controller import users_of_memory
from .sharing.controller import STRIKES


@pytest.mark.timeout(600)
def test_killed_guests_that_share_disturb_nobody_and_leave_nothing() -> None:
    kills = int(os.environ.get("VNET_KILLS", "100"))
    command = [sys.executable, "-m", "tests.killing.sharing", "--kills", str(kills), "--seed", "1", "--json"]
    root = Path(__file__).parent.parent.parent
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert report["kills"] >= kills
    # Kills that strike where it does not matter prove nothing.
    assert len([place for place in map(str, STRIKES) if report["struck"].get(place)]) > len(STRIKES) * 0.8
    assert report["locks_held_at_death"] > 0
    assert report["checks"] > kills / 8
    assert report["regions"] > kills / 4
    # That a peer has died is known at once, and not by patience.
    assert len(report["ends_ms"]) > kills / 16
    assert len(report["losses_ms"]) > kills / 16
    for times in (report["ends_ms"], report["losses_ms"]):
        assert sorted(times)[len(times) // 2] < 50


_INTERFACE = """
import typing

class Disk(typing.Protocol):
    def read(self, size: int) -> bytes: ...

def fails(call):
    try:
        call()
    except Exception as error:
        return type(error)
    return None

"""
_HOST = (
    _INTERFACE
    + """
class Ram:
    def read(self, size):
        return b"x" * size

nic = vnet.attach("demo", "host")
listener, served = nic.listen("stream"), nic.serve_calls("disk", Ram(), Disk)
region, queue = nic.create_region(4096), nic.create_queue()
region[:4] = b"here"
say(region.handle)
say(queue.handle)
pipe = listener.accept(timeout=20)
pipe.settimeout(20)
outcome = []
asleep = threading.Thread(target=lambda: outcome.append(fails(listener.accept)))
asleep.start()
say("ready")
hear()
asleep.join(20)
assert outcome == [vnet.LanClosed], outcome
for call in (
    lambda: nic.listen("another"),
    lambda: nic.create_region(4096),
    lambda: nic.create_queue(),
    lambda: region.attachments(),
    lambda: nic.recv(timeout=1),
):
    assert fails(call) is vnet.LanClosed, fails(call)
pipe.write(b"from host")
assert pipe.read(100) == b"from alice"
assert region[4:8] == b"read"
assert pipe.read(1) == b""
for each in (pipe, listener, served, queue, region, nic):
    each.close()
assert threading.active_count() == 1, threading.enumerate()
"""
)
_ALICE = (
    _INTERFACE
    + """
nic = vnet.attach("demo", "alice")
pipe = nic.connect("host", "stream", timeout=20)
caller = nic.caller("host", "disk", Disk, connect_timeout=20)
pipe.settimeout(20)
region, queue = nic.attach_region(hear()), nic.open_queue(hear())
assert caller.proxy.read(1) == b"x"
queue.post(b"item")
say("ready")
hear()
for call in (
    lambda: nic.connect("host", "stream"),
    lambda: nic.caller("host", "disk", Disk),
    lambda: nic.attach_region(region.handle),
    lambda: nic.open_queue(queue.handle),
    lambda: nic.recv(timeout=1),
):
    assert fails(call) is vnet.LanClosed, fails(call)
# A queue has lost who buries dead posters; what two guests have between them has lost nothing.
assert fails(lambda: queue.post(b"item")) is vnet.LanClosed
assert caller.proxy.read(2) == b"xx"
assert region[:4] == b"here"
region[4:8] = b"read"
pipe.write(b"from alice")
assert pipe.read(100) == b"from host"
for each in (pipe, caller, queue, region, nic):
    each.close()
assert threading.active_count() == 1, threading.enumerate()
"""
)


def test_when_the_base_is_killed_what_guests_have_between_them_goes_on_and_nothing_new_can_be_had(
    guest: Callable[..., support.Guest], runtime_directory: Path
) -> None:
    base = guest('lan = vnet.Lan("demo", "10.0.0.0/24")\nsay("up")\nhear()\n')
    assert base.hear() == "up"
    host, alice = guest(_HOST), guest(_ALICE)
    alice.say(host.hear())
    alice.say(host.hear())
    assert (host.hear(), alice.hear()) == ("ready", "ready")
    base.kill()
    host.say()
    alice.say()
    assert alice.end() == (0, "", "")
    assert host.end() == (0, "", "")
    assert users_of_memory("demo") == []
    # What a killed base leaves is its socket, which the next base of that name takes over.
    for path in sorted(runtime_directory.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
