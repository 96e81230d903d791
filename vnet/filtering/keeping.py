"""The filters of one LAN: which stands before which NIC or network, and under what number senders find it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vnet import _native
from vnet.filtering.compiling import Names, compile_filter
from vnet.filtering.model import AttachedFilter, Filter
from vnet.filtering.reading import RuleError, read_filter

if TYPE_CHECKING:
    from vnet.network import Network
    from vnet.register import Entry, Register

__all__ = ["Keeping"]

# A row has 16 bits for the number plus one.
_MOST = 65_535
# How many numbers rest before one is used again.  A sender that read a number from a row just before it was taken out
# still finds what it stood for.
_RESTING = 64


@dataclass
class _Held:
    """A filter of a NIC or a network, and its number."""

    owner: Entry | Network
    attached: AttachedFilter
    number: int


class Keeping:
    """The filters of one LAN.

    Filters that compile to the same words share a number.  Words are published before a row leads to them, and stay for
    a while after none does any more.

    Arguments:
        base: the native base.
        register: its NICs and networks; its lock is held by every change.
    """

    def __init__(self, base: _native.Base, register: Register) -> None:
        self._base = base
        self._register = register
        self._held: dict[tuple[str, int, str], _Held] = {}
        self._published: list[_native.Rules | None] = []
        self._numbers: dict[bytes, int] = {}
        self._users: list[int] = []
        self._resting: deque[int] = deque()
        # With so many filters, it is time to see who has left.
        self._look_at = 64
        self._serial = 0

    def set(
        self, where: Any, rules: Any, direction: str, default: str | None, names: Mapping[str, Sequence[str]]
    ) -> None:
        """Sets a filter; arguments and errors as of :meth:`vnet.Lan.set_filter`."""
        made = read_filter(rules, default)
        with self._register.lock:
            kind, owner = self._owner(where, direction)
            self._tidy(kind, owner)
            key = (kind, _identity(owner), direction)
            compiled = compile_filter(made, *self._names(names))
            number = self._take(compiled)
            before = self._held.get(key)
            self._held[key] = _Held(owner, AttachedFilter(kind, owner.name, direction, made), number)
            self._lead(kind, owner)
            if before is not None:
                self._give_back(before.number)

    def remove(self, where: Any, direction: str | None) -> None:
        """Removes filters; arguments and errors as of :meth:`vnet.Lan.remove_filter`."""
        with self._register.lock:
            kind, owner = self._owner(where, direction)
            self._tidy(kind, owner)
            gone = [key for key in self._held if key[:2] == (kind, _identity(owner)) and direction in (None, key[2])]
            taken = [self._held.pop(key) for key in gone]
            if taken:
                self._lead(kind, owner)
            for held in taken:
                self._give_back(held.number)

    def all(self) -> tuple[AttachedFilter, ...]:
        """The filters that are set, in the order in which they came."""
        with self._register.lock:
            self._tidy()
            return tuple(held.attached for held in self._held.values())

    def find(self, kind: str, identity: int, direction: str) -> Filter | None:
        """The filter of the NIC in a slot, or of the network with a number; ``None`` where it has none."""
        held = self._held.get((kind, identity, direction))
        return None if held is None or self._has_left(held) else held.attached.filter

    # Who has them

    def _owner(self, where: Any, direction: str | None) -> tuple[str, Entry | Network]:
        if direction not in ("in", "out", None):
            raise ValueError(f"direction is 'in' or 'out', not {direction!r}")
        name = where if isinstance(where, str) else getattr(where, "name", None)
        if not isinstance(name, str):
            raise TypeError(f"a filter stands before a NIC or a network, or the name of one, not {where!r}")
        nic, network = self._register.nics.get(name), self._register.networks.get(name)
        if not isinstance(where, str):
            # An object says by itself which of the two it is.
            nic, network = (None, network) if where is network else (nic, None)
        if nic is not None and network is not None:
            raise ValueError(
                f"both a NIC and a network are called {name!r}; pass lan.networks[{name!r}] or the NIC itself"
            )
        if nic is not None:
            return "nic", nic
        if network is None:
            from vnet.lab.tree import did_you_mean

            close = did_you_mean(name, (*self._register.nics, *self._register.networks))
            raise ValueError(f"no NIC and no network is called {name!r}{close}")
        if direction == "out":
            raise ValueError(f"{name!r} is a network, whose filter is of what enters it: direction is 'in'")
        return "network", network

    def _names(self, more: Mapping[str, Sequence[str]]) -> tuple[Names, Names]:
        """The addresses of NICs, and the prefixes of networks, by name; ``more`` before those of the LAN."""
        networks = {name: texts for name, texts in more.items() if any("/" in text for text in texts)}
        hosts = {name: texts for name, texts in more.items() if name not in networks}
        register = self._register
        return (
            _Looked(hosts, register.nics, lambda entry: entry.addresses),
            _Looked(networks, register.networks, lambda network: network.prefixes),
        )

    def _has_left(self, held: _Held) -> bool:
        known = self._register.nics if held.attached.kind == "nic" else self._register.networks
        return known.get(held.owner.name) is not held.owner

    def _tidy(self, kind: str | None = None, owner: Any = None) -> None:
        """Forgets the filters of who has left; their rows are others' by now.

        With ``owner`` of those only whose row that has, unless many may have left since the last look at all.
        """
        if kind is not None and len(self._held) < self._look_at:
            keys = [(kind, _identity(owner), way) for way in ("in", "out")]
        else:
            keys = list(self._held)
        for key in keys:
            held = self._held.get(key)
            if held is not None and self._has_left(held):
                self._give_back(self._held.pop(key).number)
        if kind is None or len(keys) > 2:
            self._look_at = 2 * len(self._held) + 64

    def _lead(self, kind: str, owner: Any) -> None:
        """Writes the numbers of an owner's filters into its row."""
        inward, outward = (
            0 if (held := self._held.get((kind, _identity(owner), way))) is None else held.number + 1
            for way in ("in", "out")
        )
        if kind == "network":
            _native.set_network_filter(self._base, owner._number, inward)
        else:
            # One that has left meanwhile has no row any more.
            _native.set_nic_filters(self._base, owner.slot, owner.generation, inward, outward)

    # Their numbers

    def _take(self, compiled: _native.Rules) -> int:
        words = compiled.words()
        number = self._numbers.get(words)
        if number is None:
            number = self._new(compiled, words)
        elif self._users[number] == 0:
            self._resting.remove(number)
        self._users[number] += 1
        return number

    def _new(self, compiled: _native.Rules, words: bytes) -> int:
        again = len(self._resting) > _RESTING or len(self._published) == _MOST
        if again and not self._resting:
            raise RuleError(f"a LAN has at most {_MOST:,} filters that differ")
        number = self._resting.popleft() if again else len(self._published)
        before = self._published[number] if again else None
        published = [*self._published]
        published[number:] = [compiled, *published[number + 1 :]]
        self._serial = (self._serial + 1) % 2**32
        if not _native.publish_filters(self._base, self._serial, published):
            if again:
                self._resting.appendleft(number)
            raise RuleError("the filters of this LAN are too large together: compiled they have 16 MiB at most")
        if before is not None:
            self._numbers.pop(before.words(), None)
        if not again:
            self._users.append(0)
        self._published = published
        self._numbers[words] = number
        return number

    def _give_back(self, number: int) -> None:
        self._users[number] -= 1
        if self._users[number] == 0:
            self._resting.append(number)


class _Looked(Mapping[str, Sequence[str]]):
    """Names that are looked up as they are asked for: of thousands of NICs, a filter names a few."""

    def __init__(
        self,
        more: Mapping[str, Sequence[str]],
        known: Mapping[str, Any],
        texts: Callable[[Any], Iterable[object]],
    ) -> None:
        self._more = more
        self._known = known
        self._texts = texts

    def __getitem__(self, name: str) -> Sequence[str]:
        if name in self._more:
            return self._more[name]
        # Behind a bridge is whoever is there: its NIC has perhaps no address.
        if found := [str(text) for text in self._texts(self._known[name])]:
            return found
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter({**self._more, **self._known})

    def __len__(self) -> int:
        return len({**self._more, **self._known})


def _identity(owner: Any) -> int:
    """A NIC's slot, a network's number: one of its kind has it at a time."""
    number = getattr(owner, "slot", None)
    return int(owner._number if number is None else number)
