"""What the guests of all kinds have in common, and the nursery that they are forked from."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from ..guests import attach
from .ledger import Ledger, Phase

# A guest writes down where it waited longer, in nanoseconds.
_LONG = 50_000_000
# Seconds for which whoever looks for a successor of the dead is patient.
PATIENCE = 10.0
# Nobody waits longer for a peer that lives, in seconds: a wait that ends so is an error.
STUCK = 20.0

# Bytes of any stream: that at position n of a stream is TAPE[n % len(TAPE)]. Its length is prime, so that what is
# repeated, left out or mixed up by a power of two is noticed.
TAPE = random.Random(0).randbytes(1_048_583)


def on_tape(position: int, size: int) -> bytes:
    """What a stream has from a position on."""
    position %= len(TAPE)
    piece = TAPE[position : position + size]
    return piece if len(piece) == size else piece + TAPE[: size - len(piece)]


def _waited_for_processor() -> int:
    """How long this thread has been ready to run but was not run, in nanoseconds."""
    with open("/proc/thread-self/schedstat", "rb") as file:
        return int(file.read().split()[1])


class Waits:
    """Writes down when this thread was ready to run and was not run, for those who wait for it meanwhile.

    The scout sees the first thread of each guest; other threads look themselves.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._looked, self._waited = time.monotonic_ns(), _waited_for_processor()

    def look(self) -> None:
        now = time.monotonic_ns()
        if now - self._looked < 5_000_000:
            return
        waited = _waited_for_processor()
        late, self._looked, self._waited = waited - self._waited, now, waited
        if late > 2_000_000:
            write_late(self._ledger, os.getpid(), now, late)


def write_late(ledger: Ledger, pid: int, now: int, late: int) -> None:
    """Writes down that a process, 0 for the base, was ready to run and was not run for `late` nanoseconds until now."""
    with open(ledger.notes, "a") as notes:
        notes.write(f"late {pid} {now - late} {now} 0\n")


class Pace:
    """Notes when a guest gets something done, and writes down where it took long."""

    def __init__(self, me: int, ledger: Ledger, role: str) -> None:
        self._me, self._ledger, self._role = me, ledger, role
        self.restart()

    def restart(self) -> None:
        """Begins anew, after a time in which there was nobody to do anything with."""
        self._last = self._looked = time.monotonic_ns()
        self._waited = _waited_for_processor()

    def step(self) -> None:
        now = time.monotonic_ns()
        self._ledger.operation(self._me, now - self._last)
        if now - self._last > _LONG:
            # What the machine gave to others meanwhile is not anybody's stall.
            ready = _waited_for_processor() - self._waited
            with open(self._ledger.notes, "a") as notes:
                notes.write(f"{self._role} {self._me} {self._last} {now} {ready}\n")
        if now - self._looked > 5_000_000:
            self._looked, self._waited = now, _waited_for_processor()
        self._last = now


class Place:
    """Where a guest stands: its name, its number, its NIC, its luck, and what it tells the controller."""

    def __init__(self, lan: str, role: str, index: int, me: int, ledger: Ledger, seed: int) -> None:
        self.role, self.index, self.me, self.ledger = role, index, me, ledger
        self.chance = random.Random(seed * 100_003 + me)
        self.name = f"{role}{index}"
        self.directory = ledger.path.parent
        with self.at(Phase.ATTACH):
            self.nic = attach(lan, self.name, None)
        self.pace = Pace(me, ledger, role)
        self.ease = 0.001

    @contextlib.contextmanager
    def at(self, phase: Phase) -> Iterator[None]:
        """Says what the guest is doing while it does it."""
        before = self.ledger.phase(self.me)
        self.ledger.set_phase(self.me, phase)
        try:
            yield
        finally:
            self.ledger.set_phase(self.me, before)

    @property
    def leaving(self) -> bool:
        return self.ledger.stop > 0

    @property
    def over(self) -> bool:
        return self.ledger.stop > 1

    def rest(self) -> None:
        """A little time for the others, where this connection is not to be at full speed."""
        if self.ease:
            time.sleep(self.ease)

    def begin(self, number: int, receiver: int) -> None:
        """The connection of this number leads to that receiver, and is used from now on."""
        # Of two processors a dozen guests at full speed would leave none to the base.
        self.ease = self.chance.choice((0, 0.0003, 0.0003, 0.001))
        self.ledger.set_connected(self.me, number, receiver)
        self.ledger.set_up(self.me)
        self.pace.restart()

    def lost(self) -> None:
        """The receiver has gone, and this guest has just been told."""
        now = time.monotonic_ns()
        self.pace.step()
        self.ledger.set_lost(self.me, self.ledger.partner(self.me), now)

    def publish(self, name: str, text: str) -> None:
        """Leaves a line for the others, whole or not at all."""
        file = self.directory / f"{name}.{self.me}"
        file.write_text(text)
        file.rename(self.directory / name)

    def published(self, name: str) -> str | None:
        try:
            return (self.directory / name).read_text()
        except FileNotFoundError:
            return None

    def close(self) -> None:
        self.nic.close()


def belongings() -> dict[str, int]:
    """What of vnet a process has open or mapped: how many of each."""
    sockets = memory = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            target = os.readlink(link)
            sockets += target.startswith(("socket:", "anon_inode:[event"))
            memory += "/memfd:vnet:" in target
    mappings = Path("/proc/self/maps").read_text().count("/memfd:vnet:")
    return {"sockets and events": sockets, "memory files": memory, "mappings": mappings}


def live(lan: str, role: str, index: int, me: int, ledger: Ledger, seed: int, base: int) -> None:
    """Plays a part from beginning to end, and leaves nothing behind."""
    from .roles import ROLES

    if role == "watch":
        return watch(me, ledger)
    if role == "scout":
        return scout(me, ledger, base)
    before = belongings()
    place = Place(lan, role, index, me, ledger, seed)
    try:
        ROLES[role](place)
    finally:
        place.close()
    del place
    gc.collect()
    after = belongings()
    # However many peers died on it, and in whatever state.
    assert after == before, f"left behind: {after}, where there was {before}"
    return None


def watch(me: int, ledger: Ledger) -> None:
    """Does nothing, and so shows for how long the machine itself keeps a process from running."""
    pace = Pace(me, ledger, "watch")
    ledger.set_up(me)
    while ledger.stop < 2:
        time.sleep(0.002)
        pace.step()


def scout(me: int, ledger: Ledger, base: int) -> None:
    """Looks when those are ready to run and are not run whom others wait for.

    The base, whom all wait for now and then: its threads but the first, which is the controller's; and the guests.
    """
    pace, last = Pace(me, ledger, "scout"), 0
    # Open files that tell for how long a thread has waited for a processor: whose thread, and what it told last.
    watched = {
        os.open(task / "schedstat", os.O_RDONLY): [0, 0]
        for task in Path(f"/proc/{base}/task").iterdir()
        if task.name != str(base)
    }
    ledger.set_up(me)
    while ledger.stop < 2:
        time.sleep(0.015)
        pace.step()
        while last < ledger.guests and (pid := ledger.process(last + 1)):
            last += 1
            with contextlib.suppress(OSError):
                watched[os.open(f"/proc/{pid}/schedstat", os.O_RDONLY)] = [pid, 0]
        for file, (pid, before) in list(watched.items()):
            try:
                waited = int(os.pread(file, 100, 0).split()[1])
            except OSError:
                os.close(file)
                del watched[file]
                continue
            watched[file][1] = waited
            if before and waited - before > 2_000_000:
                write_late(ledger, pid, time.monotonic_ns(), waited - before)


def nursery(lan: str, path: str, guests: int, seed: int) -> None:
    """Forks a guest for each line that it reads, and says its process id. Guests so start in a millisecond or two."""
    from . import roles as _  # noqa: F401  # once, before there are children

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    base = os.getppid()
    ledger = Ledger(Path(path), guests)
    for line in sys.stdin:
        role, index, me = line.split()
        pid = os.fork()
        if pid:
            print(pid, flush=True)
            continue
        status = 0
        try:
            live(lan, role, int(index), int(me), ledger, seed, base)
        except BaseException:
            status = 1
            with open(ledger.errors, "a") as errors:
                errors.write(f"{role}{index}, incarnation {me}:\n{traceback.format_exc()}\n")
        finally:
            os._exit(status)
