"""Kills guests, replaces them, and holds what the dead saw against what the living got."""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import support

import vnet
from vnet import _native

from .guests import header, receiver_address
from .ledger import BOUNDS, RECEIVERS, SENDERS, Ledger

# No guest may stall longer, in milliseconds.
LONGEST_STALL = 100.0
# Seconds in which what was delivered must have been received; a receiver that is behind has 4 MiB to read.
PATIENCE = 5.0


# Where the buffers segment has its control blocks in ABI version 4, and how large they are.
_CONTROLS_AT, _CONTROL_BYTES = 65_536, 1024


class Violated(AssertionError):
    """A promise was not kept."""


@dataclass
class Report:
    """What a run found."""

    kills: int = 0
    senders_killed: int = 0
    receivers_killed: int = 0
    operations: int = 0
    checks: int = 0
    delivered_checked: int = 0
    locks_held_at_death: int = 0
    nic_down_ms: list[float] = field(default_factory=list)
    longest_gap_ms: dict[str, float] = field(default_factory=dict)
    gaps: dict[str, list[int]] = field(default_factory=dict)
    stalls: list[str] = field(default_factory=list)
    excused: int = 0
    memory_kib: int = 0
    seconds: float = 0.0
    left: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        down = sorted(self.nic_down_ms) or [0.0]
        lines = [
            f"{self.kills} kills in {self.seconds:.0f} s: {self.senders_killed} of senders, "
            f"{self.receivers_killed} of receivers",
            f"{self.operations} operations by guests; {self.checks} checks that what was delivered arrived, "
            f"{self.delivered_checked} datagrams behind them: none damaged, doubled, out of order or missing",
            f"{self.locks_held_at_death} killed with an input buffer's lock in the hand",
            f"nic_down after a receiver's death: median {down[len(down) // 2]:.2f} ms, longest {down[-1]:.2f} ms",
            f"gaps between a guest's operations, counts under {', '.join(map(str, BOUNDS))} ms, and over:",
        ]
        for role, counts in self.gaps.items():
            lines.append(
                f"  {role:<9}{' '.join(f'{count:>9}' for count in counts)}   longest {self.longest_gap_ms[role]:.1f} ms"
            )
        lines.append(
            f"stalls over {LONGEST_STALL:.0f} ms: {len(self.stalls)}; because the machine stood still: {self.excused}"
        )
        lines.extend(f"  {stall}" for stall in self.stalls)
        lines.append(
            f"memory of the LAN once all guests had left: {self.memory_kib} KiB; left behind: {self.left or 'nothing'}"
        )
        return lines


@dataclass
class Guest:
    role: str
    index: int
    incarnation: int
    pid: int
    pidfd: int
    born: float
    operations: int = 0
    moved: float = 0.0

    def ended(self, timeout: float) -> bool:
        return bool(select.select([self.pidfd], [], [], timeout)[0])


class Controller:
    def __init__(self, kills: int, seed: int, lan: vnet.Lan, directory: Path) -> None:
        self.kills = kills
        self.chance = random.Random(seed)
        self.lan = lan
        self.locks = memoryview(mmap.mmap(lan._segment.files()[1], 1 << 20, access=mmap.ACCESS_READ)).cast("I")
        self.probe = lan.attach("probe", "10.0.9.9")
        self.report = Report()
        self.path = directory / "ledger"
        self.ledger = Ledger(self.path, kills + 64)
        self.incarnations = 0
        self.guests: list[Guest] = []
        self.roles: dict[int, str] = {}
        assert lan.name
        self.nursery = subprocess.Popen(
            [sys.executable, "-m", "tests.killing.guests", lan.name, str(self.path), str(kills + 64), str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=Path(__file__).parent.parent.parent,
        )

    def spawn(self, role: str, index: int) -> Guest:
        self.incarnations += 1
        self.roles[self.incarnations] = role
        assert self.nursery.stdin
        assert self.nursery.stdout
        self.nursery.stdin.write(f"{role} {index} {self.incarnations}\n")
        pid = int(self.nursery.stdout.readline())
        now = time.monotonic()
        guest = Guest(role, index, self.incarnations, pid, os.pidfd_open(pid), now, moved=now)
        self.guests.append(guest)
        return guest

    def run(self) -> None:
        self.spawn("watch", 0)
        for index in range(SENDERS):
            self.spawn("sender", index)
        for index in range(RECEIVERS):
            self.spawn("receiver", index)
        self.await_attached()
        started = time.monotonic()
        while self.report.kills < self.kills:
            time.sleep(self.chance.uniform(0.001, 0.025))
            self.look_around()
            victim = self.chance.choice([guest for guest in self.guests if guest.role != "watch"])
            self.kill(victim)
        self.await_attached()
        self.look_around()
        time.sleep(0.2)
        self.ledger.stop = 1
        self.await_end("sender")
        for index in range(RECEIVERS):
            self.check_receiver(index)
        self.ledger.stop = 2
        self.await_end("receiver")
        self.await_end("watch")
        self.look_around()
        self.report.seconds = time.monotonic() - started
        self.summarize()

    def await_attached(self) -> None:
        for guest in self.guests:
            if guest.role != "watch" and not self.lan.wait_attached(f"{guest.role}{guest.index}", 10):
                self.look_around()
                raise Violated(f"{guest.role}{guest.index} does not get onto the LAN")

    def await_end(self, role: str) -> None:
        for guest in [guest for guest in self.guests if guest.role == role]:
            if not guest.ended(10):
                raise Violated(f"{role}{guest.index} does not end")

    def kill(self, victim: Guest) -> None:
        if victim.role == "receiver":
            self.check_receiver(victim.index)
            time.sleep(self.chance.uniform(0, 0.003))
            self.ledger.set_live(victim.index, 0)
        if self.chance.random() < 0.3:
            self.report.locks_held_at_death += self.lie_in_wait(victim)
        os.kill(victim.pid, signal.SIGKILL)
        at = time.monotonic()
        if victim.role == "receiver":
            self.await_down(victim.index, at)
            self.report.receivers_killed += 1
        else:
            self.report.senders_killed += 1
        if not victim.ended(5):
            raise Violated("a killed process does not end")
        if victim.role == "sender":
            for receiver in range(RECEIVERS):
                self.check_pair(victim.incarnation, receiver)
        self.report.kills += 1
        os.close(victim.pidfd)
        self.guests.remove(victim)
        self.spawn(victim.role, victim.index)

    def lie_in_wait(self, victim: Guest) -> bool:
        """Stops the victim now and then, and leaves it stopped where that was inside a buffer's critical section.

        Moments that are merely random seldom fall there. Returns whether the victim holds a lock.
        """
        entry = self.lan._register.nics.get(f"{victim.role}{victim.index}")
        if entry is None or _native.ABI != 4:
            return False
        for _ in range(40):
            os.kill(victim.pid, signal.SIGSTOP)
            state = Path(f"/proc/{victim.pid}/stat")
            while state.read_text().rpartition(")")[2].split()[0] not in "TZX":
                pass
            # The lock is the first word of a NIC's control block; its owner's token in the low 30 bits.
            locks = (self.locks[(_CONTROLS_AT + slot * _CONTROL_BYTES) // 4] for slot in range(64))
            if any(lock & 0x3FFFFFFF == entry.token for lock in locks):
                return True
            os.kill(victim.pid, signal.SIGCONT)
            time.sleep(self.chance.uniform(0, 0.001))
        return False

    def await_down(self, index: int, since: float) -> None:
        """Until a sender is told that the receiver is gone."""
        datagram = header(receiver_address(index))
        while self.probe.send(datagram) not in (vnet.Verdict.NIC_DOWN, vnet.Verdict.NO_HOST):
            if time.monotonic() > since + 5:
                raise Violated("a dead receiver's NIC does not go down")
            time.sleep(0.0002)
        self.report.nic_down_ms.append((time.monotonic() - since) * 1000)

    def check_receiver(self, index: int) -> None:
        for sender in range(1, self.incarnations + 1):
            self.check_pair(sender, index)

    def check_pair(self, sender: int, index: int) -> None:
        """What the sender saw delivered to the receiver that lives now has arrived, or does so soon."""
        receiver, count = self.ledger.certain(sender, index)
        if not receiver or receiver != self.ledger.live(index):
            return
        deadline = time.monotonic() + PATIENCE
        while True:
            got, base = self.ledger.received(receiver, sender)
            if got and (base is None or base + got >= count):
                break
            if time.monotonic() > deadline:
                self.look_around()
                raise Violated(f"sender {sender} saw {count} delivered to receiver {receiver}, which got {base}+{got}")
            time.sleep(0.0005)
        self.report.checks += 1
        self.report.delivered_checked += got

    def look_around(self) -> None:
        if self.ledger.errors.exists():
            raise Violated(self.ledger.errors.read_text())
        now = time.monotonic()
        for guest in self.guests:
            if guest.role == "receiver" and self.ledger.is_up(guest.incarnation):
                self.ledger.set_live(guest.index, guest.incarnation)
            operations = self.ledger.operations(guest.incarnation)
            if operations != guest.operations or guest.ended(0):
                guest.operations, guest.moved = operations, now
            elif now - guest.moved > 10:
                raise Violated(f"{guest.role}{guest.index} has not moved for 10 s")

    def summarize(self) -> None:
        report, ledger = self.report, self.ledger
        for incarnation, role in self.roles.items():
            histogram = ledger.histogram(incarnation)
            sums = report.gaps.setdefault(role, [0] * len(histogram))
            report.gaps[role] = [a + b for a, b in zip(sums, histogram, strict=True)]
            longest = ledger.longest(incarnation) / 1e6
            report.longest_gap_ms[role] = max(report.longest_gap_ms.get(role, 0), longest)
            if role != "watch":
                report.operations += ledger.operations(incarnation)
        notes = [line.split() for line in ledger.notes.read_text().splitlines()] if ledger.notes.exists() else []
        spans = [(role, int(who), int(start), int(end)) for role, who, start, end in notes]
        stood_still = [(start, end) for role, _, start, end in spans if role == "watch"]
        for role, who, start, end in spans:
            if role == "watch":
                continue
            # The time in which a process with nothing to do was not run either is the machine's.
            machine = sum(max(0, min(end, b) - max(start, a)) for a, b in stood_still)
            if (end - start - machine) / 1e6 > LONGEST_STALL:
                report.stalls.append(f"{role} incarnation {who}: {(end - start) / 1e6:.0f} ms")
            else:
                report.excused += 1

    def close(self) -> None:
        for guest in self.guests:
            with contextlib.suppress(ProcessLookupError):
                os.kill(guest.pid, signal.SIGKILL)
            guest.ended(5)
            os.close(guest.pidfd)
        assert self.nursery.stdin
        assert self.nursery.stdout
        self.nursery.stdin.close()
        self.nursery.wait(10)
        self.nursery.stdout.close()
        self.locks.release()
        self.probe.close()
        self.ledger.close()


def users_of_memory(lan: str) -> list[str]:
    """The processes that still have memory of the LAN open or mapped."""
    mark = f"/memfd:vnet:{lan}:"
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            links = [os.readlink(link) for link in (process / "fd").iterdir()]
            if any(mark in link for link in links) or mark in (process / "maps").read_text():
                found.append(f"memory of the LAN in process {process.name}")
    return found


def run(kills: int, seed: int) -> Report:
    """Runs the kill test.

    Raises:
        Violated: a promise was not kept.
    """
    directory = Path(tempfile.mkdtemp(prefix="kill"))
    before = os.environ.get("XDG_RUNTIME_DIR")
    os.environ["XDG_RUNTIME_DIR"] = str(directory)
    name = f"kill-{os.getpid()}"
    try:
        with vnet.Lan(name, "10.0.0.0/16", seed=seed) as lan:
            controller = Controller(kills, seed, lan, directory)
            try:
                controller.run()
            finally:
                controller.close()
            report = controller.report
            report.memory_kib = os.fstat(lan._segment.files()[1]).st_blocks // 2
            if lan.nics:
                raise Violated(f"still on the LAN: {', '.join(lan.nics)}")
        del lan, controller
        gc.collect()
        report.left = [str(path) for path in (directory / "vnet").glob("**")] + users_of_memory(name)
        report.left += [f"child {pid}: {command}" for pid, command in support.children().items()]
        report.left += [f"thread {thread}" for thread in support.threads().values()]
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        if before is None:
            del os.environ["XDG_RUNTIME_DIR"]
        else:
            os.environ["XDG_RUNTIME_DIR"] = before
    if report.left:
        raise Violated(f"left behind: {report.left}")
    if report.stalls:
        raise Violated("\n".join(report.lines()))
    return report
