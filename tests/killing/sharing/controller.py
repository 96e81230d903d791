"""Kills guests in the middle of what they do, replaces them, and holds what they saw against what others got."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

import vnet

from ..controller import LONGEST_STALL, Violated
from .ledger import BOUNDS, End, Ledger, Phase

# Seconds, on a machine that has much else to do, in which what was taken from a sender must have been received, and
# whoever talked to the dead must know.
PATIENCE = 20.0

# Who is killed, by role: how many there are, and where a receiver's peers notice its death.
COUNTS = {
    "sink": 1,
    "source": 2,
    "echo": 1,
    "asker": 2,
    "target": 1,
    "poster": 2,
    "server": 1,
    "caller": 2,
    "sharer": 2,
}
# Who receives, and from whom.
RECEIVERS = {"sink": "source", "echo": "asker", "target": "poster", "server": "caller"}
# Who only looks how the machine does.
IDLE = ("watch", "scout")


@dataclass(frozen=True)
class Strike:
    """Where to kill: a role in a phase, running or asleep in it, or with the lock of a queue in its hand.

    ``newborn``: one that has just been started, because guests are there only as they begin.
    """

    role: str
    phase: Phase
    asleep: bool = False
    locking: bool = False
    newborn: bool = False

    def __str__(self) -> str:
        how = ", asleep" if self.asleep else ", with the queue's lock" if self.locking else ""
        return f"{self.role} in {self.phase.name.lower()}{how}"


STRIKES = [
    Strike("source", Phase.WRITE),
    Strike("source", Phase.CONNECT, newborn=True),
    Strike("source", Phase.DROP),
    Strike("sink", Phase.READ),
    Strike("sink", Phase.READ, asleep=True),
    Strike("sink", Phase.LISTEN, newborn=True),
    Strike("sink", Phase.ACCEPT),
    Strike("asker", Phase.WRITE),
    Strike("asker", Phase.READ, asleep=True),
    Strike("asker", Phase.CONNECT, newborn=True),
    Strike("echo", Phase.READ),
    Strike("echo", Phase.WRITE),
    Strike("poster", Phase.POST),
    Strike("poster", Phase.POST, asleep=True),
    Strike("poster", Phase.POST, locking=True),
    Strike("poster", Phase.CONNECT, newborn=True),
    Strike("target", Phase.HANDLE),
    Strike("target", Phase.CREATE, newborn=True),
    Strike("caller", Phase.CALL, asleep=True),
    Strike("caller", Phase.CALL),
    Strike("server", Phase.HANDLE),
    Strike("server", Phase.HANDLE, asleep=True),
    Strike("server", Phase.LISTEN, newborn=True),
    Strike("sharer", Phase.CREATE),
    Strike("sharer", Phase.MAP),
    Strike("sharer", Phase.HOLD),
    Strike("sharer", Phase.DROP),
    Strike("source", Phase.ATTACH, newborn=True),
    Strike("sharer", Phase.ATTACH, newborn=True),
]


@dataclass
class Report:
    """What a run found."""

    kills: int = 0
    struck: dict[str, int] = field(default_factory=dict)
    missed: dict[str, int] = field(default_factory=dict)
    operations: int = 0
    regions: int = 0
    checks: int = 0
    taken_checked: int = 0
    ends_ms: list[float] = field(default_factory=list)
    losses_ms: list[float] = field(default_factory=list)
    locks_held_at_death: int = 0
    longest_gap_ms: dict[str, float] = field(default_factory=dict)
    gaps: dict[str, list[int]] = field(default_factory=dict)
    stalls: list[str] = field(default_factory=list)
    excused: int = 0
    seconds: float = 0.0
    left: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        lines = [f"{self.kills} kills in {self.seconds:.0f} s:"]
        lines += [f"  {count:>5} of a {place}" for place, count in sorted(self.struck.items())]
        lines += [f"  {count:>5} at any moment, not of a {place} as was meant" for place, count in self.missed.items()]
        lines.append(
            f"{self.operations} operations by guests, {self.regions} regions attached; {self.checks} checks that what "
            f"was taken arrived, {self.taken_checked} bytes, items and messages behind them: none damaged or missing"
        )
        for what, times in (
            ("a receiver learned of its sender's death", self.ends_ms),
            ("a sender learned of its receiver's death", self.losses_ms),
        ):
            ordered = sorted(times) or [0.0]
            middle, longest = ordered[len(ordered) // 2], ordered[-1]
            lines.append(f"{what} {len(times)} times: median {middle:.2f} ms, longest {longest:.2f} ms")
        lines.append(f"gaps between a guest's operations, counts under {', '.join(map(str, BOUNDS))} ms, and over:")
        for role, counts in self.gaps.items():
            shown = " ".join(f"{count:>9}" for count in counts)
            lines.append(f"  {role:<9}{shown}   longest {self.longest_gap_ms[role]:.1f} ms")
        lines.append(
            f"stalls over {LONGEST_STALL:.0f} ms: {len(self.stalls)}; because the machine ran others: {self.excused}"
        )
        lines.extend(f"  {stall}" for stall in self.stalls)
        lines.append(f"left behind: {self.left or 'nothing'}")
        return lines


@dataclass
class Guest:
    role: str
    index: int
    me: int
    pid: int
    pidfd: int
    born: float
    operations: int = 0
    moved: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.role}{self.index}"

    def ended(self, timeout: float) -> bool:
        return bool(select.select([self.pidfd], [], [], timeout)[0])

    def state(self) -> str:
        """As ps tells it: R running, S asleep, T stopped, Z dead."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return "X"


class Controller:
    def __init__(self, kills: int, seed: int, lan: vnet.Lan, directory: Path, roles: Collection[str] = ()) -> None:
        self.kills = kills
        self.counts = {role: count for role, count in COUNTS.items() if not roles or role in roles}
        self.strikes = [strike for strike in STRIKES if strike.role in self.counts]
        self.chance = random.Random(seed)
        self.lan = lan
        self.report = Report()
        guests = 2 * kills + 64
        self.ledger = Ledger(directory / "ledger", guests)
        self.incarnations = 0
        self.guests: list[Guest] = []
        self.roles: dict[int, str] = {}
        self.pids: dict[int, str] = {}
        self.struck: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        assert lan.name
        self.nursery = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.nursery", lan.name, str(self.ledger.path), str(guests), str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=Path(__file__).parents[3],
        )

    def spawn(self, role: str, index: int) -> Guest:
        self.incarnations += 1
        self.roles[self.incarnations] = role
        assert self.nursery.stdin
        assert self.nursery.stdout
        self.nursery.stdin.write(f"{role} {index} {self.incarnations}\n")
        pid = int(self.nursery.stdout.readline())
        self.pids[pid] = role
        self.ledger.set_process(self.incarnations, pid)
        now = time.monotonic()
        guest = Guest(role, index, self.incarnations, pid, os.pidfd_open(pid), now, moved=now)
        self.guests.append(guest)
        return guest

    def run(self) -> None:
        self.spawn("watch", 0)
        self.spawn("scout", 0)
        for role, count in self.counts.items():
            for index in range(count):
                self.spawn(role, index)
        self.await_all_up()
        started = time.monotonic()
        while self.report.kills < self.kills:
            # Each place once, in an order of chance, and as many moments that follow from nothing; and so on.
            round_: list[Strike | None] = [*self.strikes, *[None] * (len(self.strikes) // 2)]
            self.chance.shuffle(round_)
            for strike in round_[: self.kills - self.report.kills]:
                time.sleep(self.chance.uniform(0.001, 0.04))
                self.look_around()
                self.strike(strike)
        self.await_all_up()
        self.look_around()
        time.sleep(0.2)
        for number, roles in ((1, [role for role in self.counts if role not in RECEIVERS]), (2, [*RECEIVERS, *IDLE])):
            self.ledger.stop = number
            for role in roles:
                self.await_end(role)
        self.look_around()
        self.report.seconds = time.monotonic() - started
        self.summarize()

    def await_all_up(self) -> None:
        for guest in self.guests:
            deadline = time.monotonic() + 20
            while not self.ledger.is_up(guest.me):
                self.look_around()
                if time.monotonic() > deadline:
                    raise Violated(f"{guest.name} does not get to its work")
                time.sleep(0.001)

    def await_end(self, role: str) -> None:
        for guest in [guest for guest in self.guests if guest.role == role]:
            if not guest.ended(20):
                self.look_around()
                raise Violated(f"{guest.name} (incarnation {guest.me}) does not end")

    def strike(self, strike: Strike | None) -> None:
        """Kills whom the plan says, in the place that it says if the victim gets there soon."""
        role = strike.role if strike else self.chance.choice(list(self.counts))
        victim = self.chance.choice([guest for guest in self.guests if guest.role == role])
        if strike and strike.newborn:
            self.kill(victim)
            victim = next(guest for guest in self.guests if guest.name == victim.name)
        if strike is None:
            self.struck[f"{role} at any moment"] += 1
        elif self.lie_in_wait(victim, strike):
            self.struck[str(strike)] += 1
        else:
            self.missed[str(strike)] += 1
        self.kill(victim)

    def lie_in_wait(self, victim: Guest, strike: Strike) -> bool:
        """Waits until the victim is in the place, and leaves it stopped there; whoever is asleep sleeps on."""
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline and not victim.ended(0):
            if self.ledger.phase(victim.me) == strike.phase:
                if strike.asleep:
                    if victim.state() == "S":
                        return True
                else:
                    os.kill(victim.pid, signal.SIGSTOP)
                    while victim.state() not in "TZX":
                        time.sleep(0.00005)
                    if self.ledger.phase(victim.me) == strike.phase and (not strike.locking or self.locks(victim)):
                        self.report.locks_held_at_death += strike.locking
                        return True
                    os.kill(victim.pid, signal.SIGCONT)
            time.sleep(self.chance.uniform(0, 0.0005))
        return False

    def locks(self, poster: Guest) -> bool:
        """Whether a poster holds the lock of a queue just now."""
        with self.lan._register.lock:
            queues = self.lan._register.broker.part("queue")
            owners = {queue.native.lock_owner() for queue in queues._queues.values()}
            return any(end.token in owners for end in queues._ends.values() if end.guest == poster.name)

    def kill(self, victim: Guest) -> None:
        talking = [guest for guest in self.guests if self.ledger.partner(guest.me) == victim.me]
        at = time.monotonic_ns()
        os.kill(victim.pid, signal.SIGKILL)
        self.report.kills += 1
        if not victim.ended(30):
            where = Path(f"/proc/{victim.pid}/stack").read_text() if os.geteuid() == 0 else ""
            raise Violated(f"{victim.name} was killed and does not end: {victim.state()}\n{where}")
        self.await_off_the_lan(victim, at)
        if victim.role in RECEIVERS:
            self.check_that_senders_know(victim, talking, at)
        else:
            self.check_what_arrived(victim, at)
        os.close(victim.pidfd)
        self.guests.remove(victim)
        self.spawn(victim.role, victim.index)

    def await_off_the_lan(self, victim: Guest, since: int) -> None:
        """Until the base knows that the victim has gone."""
        while (info := self.lan.nics.get(victim.name)) and info.state == "up":
            if time.monotonic_ns() > since + 20e9:
                raise Violated(f"the base does not notice that {victim.name} is dead")
            time.sleep(0.0005)

    def check_what_arrived(self, sender: Guest, at: int) -> None:
        """What a sender that was killed saw taken has arrived at its receiver, and the receiver knows of the end."""
        number, count = self.ledger.certain(sender.me)
        partner = self.ledger.partner(sender.me)
        if not any(guest.me == partner for guest in self.guests) or not count:
            return

        def arrived() -> bool:
            got, much = self.ledger.got(sender.me)
            return got == number and much >= count

        self.await_(arrived, lambda: f"{sender.name} saw {count} taken in {number}, {self.ledger.got(sender.me)} came")
        self.report.checks += 1
        self.report.taken_checked += count
        if sender.role == "poster":
            return  # a queue has no end when one of its posters has
        self.await_(lambda: self.ledger.end(sender.me)[0] == number, lambda: f"{sender.name}'s peer sees no end")
        _, how, learned = self.ledger.end(sender.me)
        if how is not End.BROKEN and self.ledger.phase(sender.me) is not Phase.DROP:
            raise Violated(f"{sender.name} was killed, and its peer took that for an end in good order")
        self.report.ends_ms.append((learned - at) / 1e6)

    def check_that_senders_know(self, receiver: Guest, senders: list[Guest], at: int) -> None:
        """Those who talked to a receiver that was killed have learned of it, by the right exception."""
        for sender in senders:
            self.await_(
                functools.partial(self.knows, sender, receiver),
                functools.partial("{} does not learn that {} is dead".format, sender.name, receiver.name),
            )
            whom, learned = self.ledger.lost(sender.me)
            if whom == receiver.me:
                self.report.losses_ms.append((learned - at) / 1e6)

    def knows(self, sender: Guest, receiver: Guest) -> bool:
        return self.ledger.partner(sender.me) != receiver.me

    def await_(self, condition: Callable[[], bool], otherwise: Callable[[], str]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            self.look_around()
            if time.monotonic() > deadline:
                raise Violated(otherwise())
            time.sleep(0.0005)

    def look_around(self) -> None:
        if self.ledger.errors.exists():
            raise Violated(self.ledger.errors.read_text())
        now = time.monotonic()
        for guest in self.guests:
            operations = self.ledger.operations(guest.me)
            if operations != guest.operations or guest.ended(0):
                guest.operations, guest.moved = operations, now
            elif now - guest.moved > 20:
                phase = self.ledger.phase(guest.me).name
                raise Violated(f"{guest.name} (incarnation {guest.me}, {phase}) has not moved for 20 s")

    def summarize(self) -> None:
        report, ledger = self.report, self.ledger
        report.struck, report.missed = dict(self.struck), dict(self.missed)
        for me, role in self.roles.items():
            histogram = ledger.histogram(me)
            sums = report.gaps.setdefault(role, [0] * len(histogram))
            report.gaps[role] = [a + b for a, b in zip(sums, histogram, strict=True)]
            report.longest_gap_ms[role] = max(report.longest_gap_ms.get(role, 0), ledger.longest(me) / 1e6)
            if role not in IDLE:
                report.operations += ledger.operations(me)
                report.regions += ledger.regions(me)
        notes = [line.split() for line in ledger.notes.read_text().splitlines()] if ledger.notes.exists() else []
        spans = [(role, *map(int, numbers)) for role, *numbers in notes]
        # When the machine did not run those who were ready to run: the base or nobody (0), or a guest, by its id.
        late = [
            (who if role == "late" else 0, start, end)
            for role, who, start, end, _ in spans
            if role in ("late", "watch")
        ]
        for role, who, start, end, ready in spans:
            if role in (*IDLE, "late", *RECEIVERS):
                continue  # receivers wait for senders, who would notice if they stood still
            machine = sum(
                max(0, min(end, b) - max(start, a))
                for who_was, a, b in late
                if who_was not in self.pids or RECEIVERS.get(self.pids[who_was]) == role
            )
            if (end - start - machine - ready) / 1e6 > LONGEST_STALL:
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
        self.ledger.close()
