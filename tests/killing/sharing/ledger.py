"""What the guests know, in a file that outlives them: who is where, what was surely sent, what surely came."""

from __future__ import annotations

import enum
import mmap
from pathlib import Path

# Bounds of the gaps' histogram, in milliseconds.
BOUNDS = (1, 2, 5, 10, 20, 50, 100)


class Phase(enum.IntEnum):
    """What a guest is doing: where a kill strikes."""

    ELSEWHERE = 0
    ATTACH = 1  # getting onto the LAN
    LISTEN = 2
    ACCEPT = 3
    CONNECT = 4  # also: opening a queue, meeting a service's interface
    WRITE = 5
    READ = 6
    POST = 7
    CALL = 8
    HANDLE = 9  # in the handler of an item or of a call
    CREATE = 10  # of a region
    MAP = 11  # attaching a region
    HOLD = 12  # using one
    DROP = 13  # letting go, in good order


class End(enum.IntEnum):
    """How a receiver saw a connection end."""

    NONE = 0
    FINISHED = 1  # true end of file: the sender closed it
    BROKEN = 2  # the sender died


# Words of a guest's row.
_OPERATIONS, _LONGEST, _HISTOGRAM = 0, 1, 2
_PHASE = _HISTOGRAM + len(BOUNDS) + 1
_UP, _PARTNER, _CERTAIN, _LOST, _LOST_AT, _GOT, _END, _END_AT, _REGIONS, _PROCESS, _HANDLE = range(
    _PHASE + 1, _PHASE + 12
)
_WORDS = 32

_COUNT = (1 << 40) - 1


class Ledger:
    """Words of 64 bits, each with one writer at a time. An aligned word is written whole or not, whoever is killed.

    Guests are known by their incarnation: a number from 1 that no two of them share. What flows from a sender to a
    receiver is known by the sender and by its own number for it, from 1; a sender has one such connection at a time.
    """

    def __init__(self, path: Path, guests: int) -> None:
        self.path, self.guests = path, guests
        # Beside the ledger: what made a guest give up, and where one had to wait for long.
        self.errors, self.notes = Path(f"{path}.errors"), Path(f"{path}.notes")
        size = 8 * (guests + 1) * _WORDS
        with path.open("a+b") as file:
            file.truncate(size)
            self._map = mmap.mmap(file.fileno(), size)
        self._words = memoryview(self._map).cast("Q")

    def close(self) -> None:
        self._words.release()
        self._map.close()

    # Row 0 is nobody's: how far the run is.

    @property
    def stop(self) -> int:
        """1: senders leave, 2: receivers too."""
        return self._words[0]

    @stop.setter
    def stop(self, value: int) -> None:
        self._words[0] = value

    def sharer(self, index: int) -> int:
        """The incarnation of the sharer of that index that came last."""
        return self._words[1 + index]

    def set_sharer(self, index: int, guest: int) -> None:
        self._words[1 + index] = guest

    # Every guest

    def phase(self, guest: int) -> Phase:
        return Phase(self._words[guest * _WORDS + _PHASE])

    def set_phase(self, guest: int, phase: Phase) -> None:
        self._words[guest * _WORDS + _PHASE] = phase

    def is_up(self, guest: int) -> bool:
        return bool(self._words[guest * _WORDS + _UP])

    def set_up(self, guest: int) -> None:
        self._words[guest * _WORDS + _UP] = 1

    def process(self, guest: int) -> int:
        """The id of its process; 0 as long as there is none."""
        return self._words[guest * _WORDS + _PROCESS]

    def set_process(self, guest: int, pid: int) -> None:
        self._words[guest * _WORDS + _PROCESS] = pid

    def operations(self, guest: int) -> int:
        return self._words[guest * _WORDS + _OPERATIONS]

    def longest(self, guest: int) -> int:
        """The longest gap between two operations, in nanoseconds."""
        return self._words[guest * _WORDS + _LONGEST]

    def histogram(self, guest: int) -> list[int]:
        at = guest * _WORDS + _HISTOGRAM
        return list(self._words[at : at + len(BOUNDS) + 1])

    def operation(self, guest: int, gap: int) -> None:
        """Notes an operation, `gap` nanoseconds after the one before."""
        at, words = guest * _WORDS, self._words
        words[at] += 1
        words[at + _LONGEST] = max(words[at + _LONGEST], gap)
        milliseconds = gap / 1e6
        words[at + _HISTOGRAM + sum(milliseconds >= bound for bound in BOUNDS)] += 1

    def regions(self, guest: int) -> int:
        """How many regions the guest has attached in all."""
        return self._words[guest * _WORDS + _REGIONS]

    def add_region(self, guest: int) -> None:
        self._words[guest * _WORDS + _REGIONS] += 1

    def set_handle(self, guest: int, handle: str) -> None:
        """Gives the others the handle of a region."""
        self._words[guest * _WORDS + _HANDLE] = int(handle[:16], 16)
        self._words[guest * _WORDS + _HANDLE + 1] = int(handle[16:], 16)

    def handle(self, guest: int) -> str | None:
        """The handle that the guest gave last; of two words, so that it may be half of one and half of another."""
        first, second = self._words[guest * _WORDS + _HANDLE : guest * _WORDS + _HANDLE + 2]
        return f"{first:016x}{second:016x}" if first or second else None

    # Senders

    def set_connected(self, sender: int, number: int, receiver: int) -> None:
        """Says that the sender's connection of this number leads to that incarnation."""
        at = sender * _WORDS
        # Nobody's meanwhile: the controller must not take a count for the wrong receiver's.
        self._words[at + _PARTNER] = 0
        self._words[at + _CERTAIN] = number << 40
        self._words[at + _PARTNER] = receiver

    def set_certain(self, sender: int, number: int, count: int) -> None:
        self._words[sender * _WORDS + _CERTAIN] = number << 40 | count

    def set_lost(self, sender: int, receiver: int, now: int) -> None:
        """Says that the sender has just learned, at `now` nanoseconds, that its receiver has gone."""
        at = sender * _WORDS
        self._words[at + _LOST_AT] = now
        self._words[at + _LOST] = receiver
        self._words[at + _PARTNER] = 0

    def set_alone(self, sender: int) -> None:
        """Says that the sender lets go of its connection in good order."""
        self._words[sender * _WORDS + _PARTNER] = 0

    def partner(self, sender: int) -> int:
        """The incarnation that the sender's connection leads to, or 0."""
        return self._words[sender * _WORDS + _PARTNER]

    def certain(self, sender: int) -> tuple[int, int]:
        """The number of the sender's connection, and how many bytes or items it saw taken."""
        word = self._words[sender * _WORDS + _CERTAIN]
        return word >> 40, word & _COUNT

    def lost(self, sender: int) -> tuple[int, int]:
        """Whom the sender lost last, and when it learned of it, in nanoseconds."""
        at = sender * _WORDS
        return self._words[at + _LOST], self._words[at + _LOST_AT]

    # Receivers, about senders

    def set_got(self, sender: int, number: int, count: int) -> None:
        self._words[sender * _WORDS + _GOT] = number << 40 | count

    def set_end(self, sender: int, number: int, how: End, now: int) -> None:
        at = sender * _WORDS
        self._words[at + _END_AT] = now
        self._words[at + _END] = number << 8 | how

    def got(self, sender: int) -> tuple[int, int]:
        """The connection of the sender from which something came last, and how many bytes or items did."""
        word = self._words[sender * _WORDS + _GOT]
        return word >> 40, word & _COUNT

    def end(self, sender: int) -> tuple[int, End, int]:
        """The connection of the sender that ended last at a receiver: its number, how, when."""
        at = sender * _WORDS
        word = self._words[at + _END]
        return word >> 8, End(word & 0xFF), self._words[at + _END_AT]
