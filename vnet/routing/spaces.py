"""Which prefixes of a LAN are whose, and where the addresses of links come from."""

from __future__ import annotations

import ipaddress
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..errors import AddressError, NetworkFull
from ..network import Prefix, parse_prefixes

__all__ = ["LINK_POOLS", "AddressPlan", "LinkPools"]

# Where links get their addresses from if they are given none: 32,768 links of IPv4 (RFC 1918), and more than enough of
# IPv6 (a unique local prefix, RFC 4193). What networks have of them is left out.
LINK_POOLS = ("172.31.0.0/16", "fd76:6e65:7400::/48")
# A link has two ends and needs no broadcast address: RFC 3021, RFC 6164.
_LENGTHS = {4: 31, 6: 127}


@dataclass(frozen=True, order=True)
class _Claim:
    """A prefix from its first address to its last, and whose it is."""

    first: int
    last: int
    name: str


class AddressPlan:
    """The prefixes that networks, links and routers have: no two overlap.

    A claim takes the time of a binary search, however many there are.
    """

    def __init__(self) -> None:
        self._claims: dict[int, list[_Claim]] = {4: [], 6: []}

    def overlapping(self, prefix: Prefix) -> tuple[Prefix, str] | None:
        """Returns a prefix that overlaps ``prefix``, and whose it is, such as ``network 'desk'``; or ``None``."""
        claims = self._claims[prefix.version]
        first, last = int(prefix.network_address), int(prefix.broadcast_address)
        # Claims do not overlap one another: who begins after the last address is out, and of the others only the last
        # one can reach as far as the first address.
        at = bisect_left(claims, last + 1, key=lambda claim: claim.first)
        if at and claims[at - 1].last >= first:
            found = claims[at - 1]
            return _prefix(prefix.version, found.first, found.last), found.name
        return None

    def claim(self, prefix: Prefix, name: str) -> None:
        """Notes whose ``prefix`` is.

        Raises:
            AddressError: it overlaps that of somebody else; both are named.
        """
        taken = self.overlapping(prefix)
        if taken is not None:
            raise AddressError(f"{name} overlaps {taken[0]} of {taken[1]}")
        insort(self._claims[prefix.version], _Claim(int(prefix.network_address), int(prefix.broadcast_address), name))

    def give_back(self, prefix: Prefix) -> None:
        """Notes that ``prefix`` is nobody's any more."""
        claims = self._claims[prefix.version]
        first, last = int(prefix.network_address), int(prefix.broadcast_address)
        at = bisect_left(claims, first, key=lambda claim: claim.first)
        if at < len(claims) and (claims[at].first, claims[at].last) == (first, last):
            del claims[at]


class LinkPools:
    """Addresses of links, given out in order: a /31 and a /127 at a time."""

    def __init__(self, plan: AddressPlan) -> None:
        self._plan = plan
        self._pools: dict[int, Prefix] = {}
        self._next: dict[int, int] = {}
        self.set(LINK_POOLS)

    @property
    def prefixes(self) -> tuple[Prefix, ...]:
        """Where addresses come from, IPv4 first."""
        return tuple(self._pools[version] for version in sorted(self._pools))

    def set(self, pools: str | Sequence[str]) -> None:
        """Takes addresses from other prefixes from now on; a family that is not among them keeps its own.

        Raises:
            AddressError: one is no prefix, has room for no link, or two are of one family.
        """
        found = parse_prefixes(pools)
        for prefix in found:
            if prefix.prefixlen > _LENGTHS[prefix.version]:
                raise AddressError(f"{prefix} has no room for a link, which takes a /{_LENGTHS[prefix.version]}")
        for prefix in found:
            self._pools[prefix.version] = prefix
            self._next[prefix.version] = int(prefix.network_address)

    def take(self, version: int, name: str) -> Prefix:
        """Claims the next free prefix of a family for ``name``.

        Raises:
            NetworkFull: the pool has none left.
        """
        pool = self._pools[version]
        for prefix in self._from(pool, self._next[version]):
            taken = self._plan.overlapping(prefix)
            if taken is None:
                self._plan.claim(prefix, name)
                self._next[version] = int(prefix.broadcast_address) + 1
                return prefix
        raise NetworkFull(f"the pool of links, {pool}, is used up: name another, as lan.routing.pools")

    def _from(self, pool: Prefix, start: int) -> Iterator[Prefix]:
        """The first free prefix of a link from ``start`` to the pool's end, and that from its beginning."""
        length, size = _LENGTHS[pool.version], 2
        first, last = int(pool.network_address), int(pool.broadcast_address)
        # In rounds: what was given back lies before where the last one ended.
        for begin, end in ((start, last), (first, start - 1)):
            at = begin
            while at < end:
                prefix = _made(pool.version, at, length)
                taken = self._plan.overlapping(prefix)
                if taken is None:
                    yield prefix
                    return
                at = max(int(taken[0].broadcast_address) + 1, at + size)
                at += at % size


def _prefix(version: int, first: int, last: int) -> Prefix:
    bits = 32 if version == 4 else 128
    return _made(version, first, bits - (last - first).bit_length())


def _made(version: int, first: int, length: int) -> Prefix:
    if version == 4:
        return ipaddress.IPv4Network((first, length))
    return ipaddress.IPv6Network((first, length))
