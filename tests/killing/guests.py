"""The guests: senders, receivers, and the nursery that they are forked from."""

from __future__ import annotations

import os
import random
import signal
import struct
import sys
import time
import traceback
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import vnet
from vnet import Verdict

from .ledger import RECEIVERS, Ledger

MAGIC = 0x6B696C6C
# magic, sender's incarnation, sequence number, batch, place in it, delivered before the batch, body, its checksum
_FIELDS = struct.Struct("<IIQQIQII")
_SUM = struct.Struct("<I")
_HEADERS = 20 + _FIELDS.size + _SUM.size


def sender_address(index: int) -> str:
    return f"10.0.1.{index + 1}"


def receiver_address(index: int) -> str:
    return f"10.0.2.{index + 1}"


def header(destination: str) -> bytes:
    return bytes([0x45, *[0] * 15, *map(int, destination.split("."))])


def bodies() -> list[bytes]:
    """Payloads of all sizes: many small ones, some that fill an Ethernet frame, a few near the limit of IP."""
    chance = random.Random(0)
    sizes = [chance.randrange(200) for _ in range(16)] + [1400] * 4 + [9000, 20_000, 30_000, 65_535 - _HEADERS]
    return [chance.randbytes(size) for size in sizes]


BODIES = bodies()
SUMS = [zlib.crc32(body) for body in BODIES]


def attach(lan: str, name: str, address: str) -> vnet.Nic:
    """Attaches in the place of a predecessor that has just been killed."""
    deadline = time.monotonic() + 5
    while True:
        try:
            return vnet.attach(lan, name, address)
        except (vnet.NameTaken, vnet.AddressTaken):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.001)


def send(lan: str, index: int, me: int, ledger: Ledger, seed: int) -> None:
    """Sends batches of all kinds to all receivers until told to stop."""
    chance = random.Random(seed * 100_003 + me)
    headers = [header(receiver_address(receiver)) for receiver in range(RECEIVERS)]
    sequence, delivered, batch = [0] * RECEIVERS, [0] * RECEIVERS, 0
    with attach(lan, f"sender{index}", sender_address(index)) as nic:
        pace = Pace(me, ledger, "sender", 100)
        while not ledger.stop:
            to = chance.randrange(RECEIVERS)
            batch += 1
            kind = chance.random()
            # Large batches of large datagrams take longest under the receiver's lock, which is where it hurts to die.
            count = 1 if kind < 0.2 else chance.randrange(4, 24) if kind < 0.7 else chance.randrange(2, 64)
            choices = range(len(BODIES) - 4, len(BODIES)) if 0.2 < kind < 0.7 else range(len(BODIES) - 4)
            datagrams = []
            for place in range(count):
                body = chance.choice(choices)
                sequence[to] += 1
                fields = _FIELDS.pack(MAGIC, me, sequence[to], batch, place, delivered[to], body, SUMS[body])
                datagrams.append(headers[to] + fields + _SUM.pack(zlib.crc32(fields)) + BODIES[body])
            before = ledger.live(to)
            if count > 1:
                verdicts = nic.send_many(datagrams)
            elif kind < 0.05:
                verdicts = [nic.send(datagrams[0], block=True, timeout=0.02)]
            else:
                verdicts = [nic.send(datagrams[0])]
            after = ledger.live(to)
            delivered[to] += verdicts.count(Verdict.DELIVERED)
            # NO_HOST while the address passes from the dead receiver to its successor.
            allowed = {Verdict.DELIVERED, Verdict.BUFFER_FULL, Verdict.NIC_DOWN, Verdict.NO_HOST}
            assert allowed.issuperset(verdicts), verdicts
            if before == after != 0:
                # It lived during the whole batch, so what was delivered was delivered to it.
                assert {Verdict.DELIVERED, Verdict.BUFFER_FULL}.issuperset(verdicts), verdicts
                ledger.set_certain(me, to, after, delivered[to])
            pace.step()
            time.sleep(chance.choice((0, 0, 0.0003)))


class Pace:
    """Notes when a guest gets something done, and writes down where it waited longer than `limit` milliseconds."""

    def __init__(self, me: int, ledger: Ledger, role: str, limit: int) -> None:
        self._me, self._ledger, self._role, self._limit = me, ledger, role, limit
        self._last = time.monotonic_ns()

    def step(self) -> None:
        now = time.monotonic_ns()
        self._ledger.operation(self._me, now - self._last)
        if now - self._last > self._limit * 1_000_000:
            with open(self._ledger.notes, "a") as notes:
                notes.write(f"{self._role} {self._me} {self._last} {now}\n")
        self._last = now


@dataclass
class _Peer:
    """What a receiver knows of one sender."""

    count: int = 0
    base: int | None = None
    sequence: int = 0
    batch: int = 0

    def take(self, sequence: int, batch: int, place: int, delivered: int) -> None:
        assert sequence > self.sequence, f"doubled or out of order: {sequence} after {self.sequence}"
        assert batch >= self.batch, f"batch {batch} after {self.batch}"
        if batch != self.batch:
            if self.base is not None:
                got = self.base + self.count
                assert got == delivered, f"batch {batch}: the sender saw {delivered} delivered, {got} came"
            elif self.count or place == 0:
                # Else the head of this batch may have gone to the predecessor, and only the next batch tells.
                self.base = delivered - self.count
        self.sequence, self.batch = sequence, batch
        self.count += 1


def receive(lan: str, index: int, me: int, ledger: Ledger, seed: int) -> None:
    """Receives in all ways and holds every datagram against what its sender says."""
    chance = random.Random(seed * 100_003 + me)
    mine = header(receiver_address(index))
    peers: dict[int, _Peer] = {}
    with attach(lan, f"receiver{index}", receiver_address(index)) as nic:
        ledger.set_up(me)
        pace = Pace(me, ledger, "receiver", 100)
        while ledger.stop < 2:
            try:
                way = chance.random()
                if way < 0.1:
                    datagrams = [nic.recv(timeout=0.2)]
                elif way < 0.2:
                    with nic.recv_view(timeout=0.2) as view:
                        datagrams = [bytes(view)]
                else:
                    datagrams = nic.recv_many(chance.choice((8, 256)), timeout=0.2)
            except vnet.ReceiveTimeout:
                continue
            pace.step()
            touched = set()
            for datagram in datagrams:
                assert datagram[:20] == mine, f"damaged header: {datagram[:20].hex()}"
                if len(datagram) == 20:
                    # The controller's probe.
                    continue
                fields = datagram[20 : 20 + _FIELDS.size]
                (total,) = _SUM.unpack_from(datagram, 20 + _FIELDS.size)
                assert zlib.crc32(fields) == total, "damaged fields"
                magic, sender, sequence, batch, place, delivered, body, body_sum = _FIELDS.unpack(fields)
                assert magic == MAGIC
                assert len(datagram) == _HEADERS + len(BODIES[body]), "cut"
                # Stricter than its checksum, which is there for whoever looks at a capture, and faster.
                assert datagram.endswith(BODIES[body]), "damaged payload"
                assert SUMS[body] == body_sum
                peers.setdefault(sender, _Peer()).take(sequence, batch, place, delivered)
                touched.add(sender)
            for sender in touched:
                ledger.set_received(me, sender, peers[sender].count, peers[sender].base)


def watch(lan: str, index: int, me: int, ledger: Ledger, seed: int) -> None:
    """Does nothing with vnet, and so shows for how long the machine itself keeps a process from running."""
    pace = Pace(me, ledger, "watch", 20)
    while ledger.stop < 2:
        time.sleep(0.002)
        pace.step()


ROLES: dict[str, Callable[[str, int, int, Ledger, int], None]] = {"sender": send, "receiver": receive, "watch": watch}


def nursery(lan: str, path: str, guests: int, seed: int) -> None:
    """Forks a guest for each line that it reads, and says its process id. Guests so start in a millisecond or two."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    ledger = Ledger(Path(path), guests)
    for line in sys.stdin:
        role, index, incarnation = line.split()
        pid = os.fork()
        if pid:
            print(pid, flush=True)
            continue
        status = 0
        try:
            ROLES[role](lan, int(index), int(incarnation), ledger, seed)
        except BaseException:
            status = 1
            with open(ledger.errors, "a") as errors:
                errors.write(f"{role}{index}, incarnation {incarnation}:\n{traceback.format_exc()}\n")
        finally:
            os._exit(status)


if __name__ == "__main__":
    nursery(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
