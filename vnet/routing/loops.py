"""Static routes that lead in a circle, found before a datagram does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..network import Network
from .model import Behind, Class, Model, Origin, Port, RouterNode, Via, Wire
from .shortest import attached, distances, parts

__all__ = ["RouteLoop", "find_loops"]


@dataclass(frozen=True)
class RouteLoop:
    """Routers that send what is for a prefix round in a circle.

    Attributes:
        prefix: where the datagrams were to go.
        routers: the routers' names, in the order in which they pass them on.
    """

    prefix: str
    routers: tuple[str, ...]

    def __str__(self) -> str:
        way = " → ".join((*self.routers, self.routers[0]))
        return f"what is for {self.prefix} goes round in a circle: {way}"


def find_loops(model: Model) -> list[RouteLoop]:
    """Returns the circles that static routes make, one of each prefix and set of routers, in the order of the prefixes.

    Shortest paths alone make none.  What each router does is what the compiled plan has it do: connected, then static,
    then the shortest path; and where it knows no way to a prefix, what it does with the next shorter one.  Links that
    are cut lead nowhere.  Of paths of equal cost all are followed: a circle that only some flows take is one.

    Arguments:
        model: the routers, as ``lan.routing.model``.
    """
    found: list[RouteLoop] = []
    if not any(router.statics for router in model.routers):
        return found
    steps = _Steps(model)
    for known in list(model.by_prefix.values()):
        chain = steps.chain(known)
        # Any circle has a static route on it.
        starts = list(steps.static_at(chain))
        found += [
            RouteLoop(str(known.prefix), tuple(router.name for router in circle))
            for circle in _circles(steps, starts, chain)
        ]
    return found


class _Steps:
    """What comes after a router, for a prefix and those around it."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._parts = parts(model)
        self._distances: dict[int, dict[RouterNode, int]] = {}

    def static_at(self, chain: Sequence[Class]) -> Iterator[RouterNode]:
        """The routers that pass on by a static route what is for the first prefix of a chain."""
        within: set[int] = set()
        for known in chain:
            for router in known.statics:
                if self._parts[router] not in within:
                    yield router
            # Those that have a way to this prefix do not look at shorter ones.
            within |= {self._parts[router] for router in attached(self._model, known.origin)}

    def chain(self, known: Class) -> list[Class]:
        """A prefix, and those that cover it, the longest first."""
        assert known.prefix is not None
        found, prefix = [known], known.prefix
        while prefix.prefixlen:
            prefix = prefix.supernet()
            if (outer := self._model.by_prefix.get(prefix)) is not None:
                found.append(outer)
        return found

    def next(self, router: RouterNode, chain: Sequence[Class]) -> list[RouterNode]:
        """The routers that it may pass a datagram to; none where it arrives or is dropped."""
        for known in chain:
            if _is_at(router, known.origin):
                return []
            # A route over a link that is cut is none.
            steps = [step for step in known.statics.get(router, ()) if not isinstance(step, Via) or step.port.up]
            if steps:
                return [owner for step in steps if isinstance(step, Via) for owner in self._owner(step)]
            found = self._shortest(router, known)
            if found is not None:
                return found
        return []

    def _owner(self, step: Via) -> Iterator[RouterNode]:
        peer = step.port.peer
        if peer is not None:
            # Whatever the address: a link has one other end.
            yield peer.router
            return
        owner = self._model.owners.get(step.address)
        if isinstance(owner, Port):
            yield owner.router

    def _shortest(self, router: RouterNode, known: Class) -> list[RouterNode] | None:
        """The next routers on shortest paths; ``None`` where there is no way."""
        if known.origin is None:
            return None
        if known.number not in self._distances:
            self._distances[known.number] = distances(self._model, attached(self._model, known.origin))
        costs = self._distances[known.number]
        if router not in costs:
            return None
        return [other for other, cost in neighbours(self._model, router) if costs.get(other) == costs[router] - cost]


def neighbours(model: Model, router: RouterNode) -> Iterator[tuple[RouterNode, int]]:
    """The routers that a router can hand a datagram to, and what that costs."""
    for port in router.ports:
        if not port.up:
            continue
        if port.peer is not None:
            yield port.peer.router, port.weight
        elif port.network is not None:
            for other in model.on_network[port.network]:
                if other.router is not router:
                    yield other.router, port.weight


def _is_at(router: RouterNode, origin: Origin) -> bool:
    if isinstance(origin, Behind):
        origin = origin.network
    if isinstance(origin, Network):
        return any(port.network is origin for port in router.ports)
    if isinstance(origin, Wire):
        return any(port.wire is origin and port.up for port in router.ports)
    return origin is router


def _circles(steps: _Steps, starts: Sequence[RouterNode], chain: Sequence[Class]) -> Iterator[list[RouterNode]]:
    """The circles that are come to from ``starts``: depth first, each router once."""
    done: set[RouterNode] = set()
    for start in starts:
        if start in done:
            continue
        way = [start]
        # Without recursion: a line of a thousand routers is as deep.
        pending = [iter(steps.next(start, chain))]
        while way:
            after = next(pending[-1], None)
            if after is None:
                pending.pop()
                done.add(way.pop())
            elif after in way:
                yield way[way.index(after) :]
            elif after not in done:
                way.append(after)
                pending.append(iter(steps.next(after, chain)))
