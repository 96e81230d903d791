"""What the guests know, in a file that outlives them."""

from __future__ import annotations

import mmap
from pathlib import Path

SENDERS, RECEIVERS = 3, 2

# Bounds of the gaps' histogram, in milliseconds.
BOUNDS = (1, 2, 5, 10, 20, 50, 100)
# Words of a guest's row: operations, longest gap in nanoseconds, the histogram; the last: whether it is on the LAN.
_GUEST_WORDS = 16


class Ledger:
    """Words of 64 bits, each with one writer. An aligned word is written whole or not at all, whoever is killed.

    Guests are known by their incarnation: a number from 1 that no two of them share.
    """

    def __init__(self, path: Path, guests: int) -> None:
        self.guests = guests
        # Beside the ledger: what made a guest give up, and where one had to wait for long.
        self.errors, self.notes = Path(f"{path}.errors"), Path(f"{path}.notes")
        self._certain_at = 1 + RECEIVERS
        self._received_at = self._certain_at + guests * RECEIVERS
        self._guest_at = self._received_at + guests * guests * 2
        size = 8 * (self._guest_at + guests * _GUEST_WORDS)
        with path.open("a+b") as file:
            file.truncate(size)
            self._map = mmap.mmap(file.fileno(), size)
        self._words = memoryview(self._map).cast("Q")

    def close(self) -> None:
        self._words.release()
        self._map.close()

    @property
    def stop(self) -> int:
        """1: senders leave, 2: receivers too."""
        return self._words[0]

    @stop.setter
    def stop(self, value: int) -> None:
        self._words[0] = value

    def live(self, receiver: int) -> int:
        """The incarnation that receives there now; 0 from just before it is killed until its successor is there.

        Only the controller writes it, so that it cannot name one that is being killed.
        """
        return self._words[1 + receiver]

    def set_live(self, receiver: int, incarnation: int) -> None:
        self._words[1 + receiver] = incarnation

    def is_up(self, guest: int) -> bool:
        return bool(self._words[self._guest_at + (guest + 1) * _GUEST_WORDS - 1])

    def set_up(self, guest: int) -> None:
        self._words[self._guest_at + (guest + 1) * _GUEST_WORDS - 1] = 1

    def certain(self, sender: int, receiver: int) -> tuple[int, int]:
        """To which incarnation of the receiver, and how many datagrams in all, the sender saw delivered."""
        word = self._words[self._certain_at + sender * RECEIVERS + receiver]
        return word >> 40, word & (1 << 40) - 1

    def set_certain(self, sender: int, receiver: int, incarnation: int, count: int) -> None:
        self._words[self._certain_at + sender * RECEIVERS + receiver] = incarnation << 40 | count

    def received(self, receiver: int, sender: int) -> tuple[int, int | None]:
        """How many datagrams the receiver got from the sender, and how many its predecessors had got, if it knows."""
        at = self._received_at + 2 * (receiver * self.guests + sender)
        base = self._words[at + 1]
        return self._words[at], base - 1 if base else None

    def set_received(self, receiver: int, sender: int, count: int, base: int | None) -> None:
        at = self._received_at + 2 * (receiver * self.guests + sender)
        # The base first: a reader that sees the count knows it.
        self._words[at + 1] = 0 if base is None else base + 1
        self._words[at] = count

    def operations(self, guest: int) -> int:
        return self._words[self._guest_at + guest * _GUEST_WORDS]

    def longest(self, guest: int) -> int:
        """The longest gap between two operations, in nanoseconds."""
        return self._words[self._guest_at + guest * _GUEST_WORDS + 1]

    def histogram(self, guest: int) -> list[int]:
        at = self._guest_at + guest * _GUEST_WORDS + 2
        return list(self._words[at : at + len(BOUNDS) + 1])

    def operation(self, guest: int, gap: int) -> None:
        """Notes an operation, `gap` nanoseconds after the one before."""
        at = self._guest_at + guest * _GUEST_WORDS
        words = self._words
        words[at] += 1
        words[at + 1] = max(words[at + 1], gap)
        milliseconds = gap / 1e6
        words[at + 2 + sum(milliseconds >= bound for bound in BOUNDS)] += 1
