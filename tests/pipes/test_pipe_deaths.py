"""A peer that is killed in any state, one that is slow, one that forgets: what the other side sees, what is left."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import support

import vnet
import vnet.pipes
from vnet.pipes import Pipe, pair

Ends = Callable[..., tuple[Pipe, Pipe]]
Across = Callable[..., tuple[Pipe, support.Guest]]

# What the other process is at when it dies, and whether it has written 1 to 9 before.
_STATES = {
    "idle": "pipe.write(b'123456789'); say('now'); hear()",
    "reading": "pipe.write(b'123456789'); say('now'); pipe.read(1)",
    "writing": "pipe.write(b'123456789'); say('now'); pipe.write(bytes(1 << 24))",
    "polled": "pipe.write(b'123456789'); pipe.fileno(); say('now'); __import__('select').select([pipe], [], [])",
    "half closed": "pipe.write(b'123456789'); pipe.shut_write(); say('now'); pipe.read(1)",
}


@pytest.mark.parametrize("polled", [False, True])
@pytest.mark.parametrize("state", _STATES)
def test_whoever_waits_for_a_peer_that_is_killed_learns_of_it(across: Across, state: str, polled: bool) -> None:
    pipe, other = across(_STATES[state], size=4096)
    assert other.hear() == "now"
    if polled:
        pipe.fileno()
    got: list[Any] = []

    def read() -> None:
        try:
            while piece := pipe.read(1000):
                got.append(piece)
            got.append("end")
        except OSError as error:
            got.append(type(error))

    if state == "writing":
        # So that it dies in the middle, with the ring full.
        assert support.eventually(lambda: pipe.available() == 4096)
        other.kill()
        read()
    else:
        reader = threading.Thread(target=read)
        reader.start()
        time.sleep(0.05)
        other.kill()
        reader.join(20)
        assert not reader.is_alive()
    # What it wrote is all there; an end that it had said is an end, and anything else a death.
    assert b"".join(got[:-1]).startswith(b"123456789")
    assert got[-1] == ("end" if state == "half closed" else ConnectionResetError)
    with pytest.raises(BrokenPipeError):
        pipe.write(b"x")
    assert pipe.peer_gone
    assert pipe.poll()


@pytest.mark.parametrize("how", ["blocking", "selected"])
def test_a_writer_that_waits_for_room_learns_that_its_reader_was_killed(across: Across, how: str) -> None:
    import select

    pipe, other = across("say('now'); hear()", size=4096)
    assert other.hear() == "now"
    failed: list[type[BaseException]] = []

    def write() -> None:
        try:
            if how == "blocking":
                pipe.write(bytes(1 << 20))
                return
            pipe.setblocking(False)
            while True:
                if pipe.write(bytes(1000)) is None:
                    select.select([], [pipe], [])
        except BaseException as error:
            failed.append(type(error))

    writer = threading.Thread(target=write)
    writer.start()
    time.sleep(0.1)
    assert writer.is_alive()
    other.kill()
    writer.join(20)
    assert failed == [BrokenPipeError]


def test_what_a_killed_peer_had_sent_whole_is_received(across: Across) -> None:
    # In the midst of sending, without end: each message that comes is whole.
    for _ in range(3):
        pipe, other = across(
            """
number = 0
while True:
    pipe.send_bytes(b"%d:" % number + bytes([number % 256]) * (number * 37 % 5000))
    number += 1
""",
            messages=True,
            size=1 << 14,
        )
        number = 0
        with pytest.raises(ConnectionResetError):
            while True:
                message = pipe.recv_bytes()
                head, _, body = message.partition(b":")
                assert int(head) == number
                assert body == bytes([number % 256]) * (number * 37 % 5000)
                number += 1
                if number == 2000:
                    other.kill()
        assert number >= 2000
        pipe.close()
        with vnet.attach("office", "b"):
            # It has left the LAN, too.
            pass


def test_a_process_that_ends_without_closing_has_ended_and_not_died(across: Across) -> None:
    pipe, other = across("keep = pipe; pipe.write(b'all of it'); import warnings; warnings.simplefilter('ignore')")
    assert pipe.read() == b"all of it"
    assert other.end()[0] == 0


def test_a_process_that_breaks_off_has_died(across: Across) -> None:
    pipe, _ = across("pipe.write(b'some'); os._exit(0)")
    assert pipe.read(100) == b"some"
    with pytest.raises(ConnectionResetError):
        pipe.read(100)


def test_a_stopped_reader_holds_its_writer_back_and_nobody_else(
    named: vnet.Lan, guest: Callable[..., support.Guest]
) -> None:
    program = """
nic = vnet.attach("office", sys.argv[1])
with nic.connect("host", "sink", size=1 << 16) as pipe:
    say("reads")
    count = 0
    while data := pipe.read(1 << 16):
        count += len(data)
    say(count)
nic.close()
"""
    with named.attach("host") as host, host.listen("sink") as listener, contextlib.ExitStack() as stack:
        slow, quick = guest(program, "slow"), guest(program, "quick")
        pipes = {pipe.peer: pipe for pipe in (stack.enter_context(listener.accept(20)) for _ in range(2))}
        for each in (slow, quick):
            assert each.hear() == "reads"
        os.kill(slow.pid, signal.SIGSTOP)
        try:
            written = 0
            pipes["slow"].setblocking(False)
            deadline = time.monotonic() + 0.2
            while time.monotonic() < deadline:
                written += pipes["slow"].write(bytes(1 << 15)) or 0
                # The other takes what it is given, and is not waited for.
                pipes["quick"].write(bytes(1 << 15))
            # As much as the ring holds, and not a byte more, whatever the time.
            assert written == 1 << 16
            # The base serves everybody meanwhile.
            assert [each["service"] for each in vnet.pipes.services(named)] == ["sink"]
        finally:
            os.kill(slow.pid, signal.SIGCONT)
        for name, each in (("quick", quick), ("slow", slow)):
            pipes[name].close()
            said = int(each.hear())
            assert said == pipes[name].statistics().bytes_written
            assert each.end()[0] == 0


def _mappings() -> int:
    return Path("/proc/self/maps").read_text().count("/memfd:vnet:")


def test_pipes_leave_no_descriptor_no_memory_and_no_thread(ends: Ends) -> None:
    def life(number: int) -> None:
        a, b = pair(messages=number % 2 == 1)
        with a, b:
            if number % 3:
                a.fileno()
                b.fileno()
            if number % 2:
                a.send_bytes(bytes(3000))
                b.recv_bytes()
            else:
                with a.makefile("wb") as file:
                    file.write(bytes(3000))
                b.read(10)
                b.socket().close()

    life(0)
    before = support.descriptors(), _mappings(), threading.active_count()
    for number in range(12):
        life(number)
    assert (support.descriptors(), _mappings(), threading.active_count()) == before


def test_memory_of_a_pipe_goes_with_its_last_end(ends: Ends) -> None:
    before = _mappings()
    a, b = ends(size=1 << 20)
    assert _mappings() > before
    a.write(bytes(1 << 20))
    a.close()
    assert b.readall() == bytes(1 << 20)
    b.close()
    assert _mappings() == before


def test_an_idle_pipe_takes_little_memory(ends: Ends) -> None:
    def resident() -> int:
        # Of shared memory, which a ring is.
        found = re.search(r"RssShmem:\s+(\d+) kB", Path("/proc/self/status").read_text())
        assert found is not None
        return int(found[1])

    gc.collect()
    before = resident()
    kept = [ends(size=1 << 24) for _ in range(16)]
    # 512 MiB of rings, of which a page or two each was touched.
    assert resident() - before < 16 * 64
    a, b = kept[0]
    for _ in range(10):
        a.write(bytes(1 << 20))
        assert len(b.read(1 << 21)) == 1 << 20
    assert resident() - before >= 1 << 10


def test_a_kill_leaves_nothing_at_the_base(named: vnet.Lan, guest: Callable[..., support.Guest]) -> None:
    with named.attach("host") as host, host.listen("svc", backlog=32) as listener:

        def life(kill: bool) -> None:
            # It dies with pipes that were accepted, some that were not, and a service of its own with one who waits.
            other = guest(
                """
nic = vnet.attach("office", "b")
pipes = [nic.connect("host", "svc") for _ in range(6)]
mine = nic.listen("mine")
say("now")
hear()
for each in pipes:
    each.close()
mine.close()
nic.close()
"""
            )
            assert other.hear() == "now"
            accepted = [listener.accept(20) for _ in range(3)]
            waiting = host.connect("b", "mine")
            if kill:
                other.kill()
            else:
                assert other.end()[0] == 0
            for each in accepted:
                with contextlib.suppress(ConnectionResetError):
                    assert each.read() == b""
                each.close()
            waiting.close()
            for _ in range(3):
                listener.accept(20).close()
            assert support.eventually(lambda: len(vnet.pipes.services(named)) == 1)
            other.release()

        life(False)
        assert support.eventually(lambda: "b" not in named.nics or named.nics["b"].state == "down")
        before = support.descriptors()
        for kill in (True, False, True):
            life(kill)
        assert support.eventually(lambda: len(support.descriptors()) <= len(before)), (before, support.descriptors())


def test_a_peer_that_scribbles_breaks_its_own_pipe_only(ends: Ends) -> None:
    # Through /proc/self/mem one may write into the shared memory as a hostile peer would.
    import random

    chance = random.Random(7)
    good, fellow = ends()
    for _ in range(30):
        files, others = vnet._native.pipe_make(4096, False)
        size = os.fstat(files[0]).st_size
        memory = os.dup(files[0])
        about: dict[str, Any] = {"service": "x", "peer": "y", "guest": "z"}
        victim = Pipe(vnet._native.PipeEnd(files, True), **about)
        attacker = Pipe(vnet._native.PipeEnd(others, False), **about)
        with victim, attacker:
            attacker.write(b"hello")
            for _ in range(chance.randrange(1, 40)):
                os.pwrite(memory, chance.randbytes(8), chance.randrange(0, size - 8) & ~7)
            victim.settimeout(0.005)
            for _ in range(4):
                with contextlib.suppress(OSError):
                    victim.read(1 << 20)
                with contextlib.suppress(OSError):
                    victim.write(bytes(5000))
                victim.statistics()
        os.close(memory)
        good.write(b"good")
        assert fellow.read(10) == b"good"
