"""What the routers of a LAN are and know, as plain objects: nothing here knows of a base or of guests.

::

    RouterNode ──< Port >── network          a router's interface, on a network
                     ├───── Wire ───── Port  or at one end of a link to another router
    Class: a prefix, and what it is (a network's, a link's, a router's own, somewhere behind a guest), with the static
           routes to it.  The route table leads from an address to a class; the plan says for each router and class
           what comes next.

Routers, ports and classes have numbers, which stay: what is removed leaves a hole, and a hole is used again long after.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Any, Generic, TypeVar

from ..errors import LanFull
from ..network import Address, Network, Prefix

__all__ = [
    "MAX_CLASSES",
    "MAX_MTU",
    "MAX_PORTS",
    "MAX_ROUTERS",
    "MAX_WEIGHT",
    "REFUSALS",
    "Behind",
    "Class",
    "Model",
    "Origin",
    "Port",
    "Refusal",
    "RouterNode",
    "Step",
    "Via",
    "Wire",
    "host_prefix",
]

# Bounds of the compiled plan (tables/src/plan/description.rs).
MAX_ROUTERS = 4096
MAX_PORTS = 65_536
MAX_CLASSES = 65_536
MAX_WEIGHT = (1 << 20) - 1
# The total length field of IPv4: RFC 791 section 3.1.
MAX_MTU = 65_535

# What a static route says instead of a next hop, as `ip route` calls it.
REFUSALS = ("unreachable", "prohibit", "blackhole")

_T = TypeVar("_T")


class Numbered(Generic[_T]):
    """Things by number.  A number that was given back is used again only after many others were."""

    # So many holes there are before the oldest is filled: who still goes by an old plan does not meet another's number.
    _HOLES = 64

    def __init__(self, what: str, first: int, most: int) -> None:
        self._what = what
        self._first = first
        self._most = most
        self._all: list[_T | None] = [None] * first
        self._free: deque[int] = deque()

    def __len__(self) -> int:
        """One more than the largest number that was ever given out."""
        return len(self._all)

    def __iter__(self) -> Iterator[_T]:
        return (each for each in self._all if each is not None)

    def __getitem__(self, number: int) -> _T | None:
        return self._all[number]

    def numbers(self) -> Iterator[tuple[int, _T | None]]:
        """Every number with what has it."""
        return enumerate(self._all)

    def next(self) -> int:
        """Returns the number that what comes next is to have.

        Raises:
            LanFull: all are taken.
        """
        if len(self._free) > self._HOLES or (self._free and len(self._all) >= self._most):
            return self._free[0]
        if len(self._all) >= self._most:
            raise LanFull(f"a LAN has at most {self._most - self._first:,} {self._what}")
        return len(self._all)

    def put(self, number: int, what: _T) -> None:
        """Gives ``number``, that of :meth:`next`, to ``what``."""
        if number == len(self._all):
            self._all.append(what)
        else:
            self._free.popleft()
            self._all[number] = what

    def remove(self, number: int) -> None:
        """Leaves a hole at ``number``."""
        self._all[number] = None
        self._free.append(number)


@dataclass(eq=False)
class RouterNode:
    """A router.

    ``guest``: it is a guest that forwards; paths end at its NICs, and its own stack does the rest.  ``slot``: that of a
    NIC which stands for a router that is on no network.
    """

    number: int
    name: str
    guest: bool
    slot: int = 0
    ports: list[Port] = field(default_factory=list)
    loopbacks: tuple[Address, ...] = ()
    statics: dict[Prefix, list[Step]] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def shown_as(self) -> int:
        """The slot of the NIC that stands for it in captures, wherever it has no other; 0 where it has none yet."""
        return next((port.slot for port in self.ports if port.slot), self.slot)

    def __repr__(self) -> str:
        return f"<RouterNode {self.number} {self.name}>"


@dataclass(eq=False)
class Port:
    """A router's interface: on a network, as the NIC ``nic`` in ``slot``, or at one end of a link.

    ``addresses``: all of them; of each family the first is the one that it answers with.
    """

    number: int
    router: RouterNode
    mtu: int
    weight: int
    addresses: tuple[Address, ...]
    network: Network | None = None
    nic: str = ""
    slot: int = 0
    wire: Wire | None = None

    @property
    def up(self) -> bool:
        """Whether it carries."""
        return self.wire is None or self.wire.up

    @property
    def peer(self) -> Port | None:
        """The other end of its link."""
        if self.wire is None:
            return None
        a, b = self.wire.ports
        return b if self is a else a

    def address(self, version: int) -> Address | None:
        """Its address of a family; not the link-local one."""
        return next((each for each in self.addresses if each.version == version and not each.is_link_local), None)

    def __repr__(self) -> str:
        where = self.network.name if self.network else self.wire.name if self.wire else "nowhere"
        return f"<Port {self.number} of {self.router.name} on {where}>"


@dataclass(eq=False)
class Wire:
    """A link between two routers."""

    name: str
    ports: tuple[Port, Port]
    prefixes: tuple[Prefix, ...]
    weight: int
    mtu: int
    up: bool = True
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Via:
    """A static route's next hop: whoever has ``address`` at ``port``'s network or link."""

    port: Port
    address: Address


@dataclass(frozen=True)
class Refusal:
    """A static route that says no: ``unreachable``, ``prohibit`` or ``blackhole``."""

    word: str


Step = Via | Refusal


@dataclass(frozen=True)
class Behind:
    """Somewhere behind a guest: the next hop ``via`` on ``network``, for all routers."""

    network: Network
    via: Address


# What the prefix of a class is; a refusal: all routers refuse it; None: only static routes lead there.
Origin = Network | Wire | RouterNode | Behind | Refusal | None


@dataclass(eq=False)
class Class:
    """A prefix that the route table knows, what it is, and the static routes to it."""

    number: int
    prefix: Prefix | None
    origin: Origin = None
    statics: dict[RouterNode, list[Step]] = field(default_factory=dict)


class Model:
    """Routers, their ports, and the prefixes that they know."""

    def __init__(self) -> None:
        self.routers: Numbered[RouterNode] = Numbered("routers", 0, MAX_ROUTERS)
        self.ports: Numbered[Port] = Numbered("interfaces of routers", 0, MAX_PORTS)
        # Number 0 is no class.
        self.classes: Numbered[Class] = Numbered("prefixes and next hops", 1, MAX_CLASSES)
        self.wires: dict[str, Wire] = {}
        self.by_prefix: dict[Prefix, Class] = {}
        self.by_step: dict[Behind | Refusal, Class] = {}
        # In the order in which they came: the first is the default gateway there.
        self.on_network: dict[Network, list[Port]] = {}
        self.owners: dict[Address, Port | RouterNode] = {}

    # Routers and ports

    def add_router(self, name: str, *, guest: bool = False, loopbacks: Iterable[Address] = ()) -> RouterNode:
        """Adds a router without ports."""
        router = RouterNode(self.routers.next(), name, guest, loopbacks=tuple(loopbacks))
        for address in router.loopbacks:
            self._originate(host_prefix(address), router)
            self.owners[address] = router
        self.routers.put(router.number, router)
        return router

    def remove_router(self, router: RouterNode) -> None:
        """Removes a router that has no ports any more, with its static routes."""
        assert not router.ports
        for address in router.loopbacks:
            self._originate(host_prefix(address), None)
            del self.owners[address]
        for prefix in list(router.statics):
            self.set_static(router, prefix, [])
        self.routers.remove(router.number)

    def add_port(
        self,
        router: RouterNode,
        network: Network,
        *,
        nic: str,
        slot: int,
        mtu: int,
        weight: int,
        addresses: tuple[Address, ...],
        number: int | None = None,
    ) -> Port:
        """Plugs a router into a network, as the NIC in ``slot``; ``number`` is that of ``ports.next()``."""
        number = self.ports.next() if number is None else number
        port = Port(number, router, mtu, weight, addresses, network, nic, slot)
        self._put(port)
        there = self.on_network.setdefault(network, [])
        there.append(port)
        if len(there) == 1:
            for prefix in network.prefixes:
                self._originate(prefix, network)
        return port

    def add_wire(
        self,
        name: str,
        ends: tuple[RouterNode, RouterNode],
        *,
        prefixes: tuple[Prefix, ...],
        addresses: tuple[tuple[Address, ...], tuple[Address, ...]],
        weight: int,
        mtu: int,
        attributes: Mapping[str, Any],
    ) -> Wire:
        """Links two routers."""
        ports = []
        for router, own in zip(ends, addresses, strict=True):
            ports.append(Port(self.ports.next(), router, mtu, weight, own))
            self._put(ports[-1])
        wire = Wire(name, (ports[0], ports[1]), prefixes, weight, mtu, attributes=dict(attributes))
        for port in ports:
            port.wire = wire
        self.wires[name] = wire
        for prefix in prefixes:
            self._originate(prefix, wire)
        return wire

    def _put(self, port: Port) -> None:
        self.ports.put(port.number, port)
        port.router.ports.append(port)
        for address in port.addresses:
            if not address.is_link_local:
                self.owners[address] = port

    def remove_port(self, port: Port) -> None:
        """Unplugs a router from a network; its static routes by that way go with it."""
        assert port.network is not None
        there = self.on_network[port.network]
        there.remove(port)
        if not there:
            del self.on_network[port.network]
            for prefix in port.network.prefixes:
                self._originate(prefix, None)
        self._take(port)

    def remove_wire(self, wire: Wire) -> None:
        """Takes a link away; static routes over it go with it."""
        del self.wires[wire.name]
        for prefix in wire.prefixes:
            self._originate(prefix, None)
        for port in wire.ports:
            self._take(port)

    def _take(self, port: Port) -> None:
        self.ports.remove(port.number)
        port.router.ports.remove(port)
        for address in port.addresses:
            self.owners.pop(address, None)
        for prefix, steps in list(port.router.statics.items()):
            left = [step for step in steps if not (isinstance(step, Via) and step.port is port)]
            if len(left) < len(steps):
                self.set_static(port.router, prefix, left)

    # Prefixes

    def behind(self, step: Behind | Refusal) -> Class:
        """Returns the class of all prefixes behind a guest, or refused; it is made when it is first asked for."""
        known = self.by_step.get(step)
        if known is None:
            known = self.by_step[step] = Class(self.classes.next(), None, step)
            self.classes.put(known.number, known)
        return known

    def set_static(self, router: RouterNode, prefix: Prefix, steps: list[Step]) -> None:
        """Gives a router other static routes to a prefix: several share its flows, none takes them away."""
        if steps:
            router.statics[prefix] = self._known(prefix).statics[router] = steps
        elif router.statics.pop(prefix, None) is not None:
            known = self.by_prefix[prefix]
            del known.statics[router]
            self._tidy(known)

    def _originate(self, prefix: Prefix, origin: Origin) -> None:
        known = self._known(prefix)
        known.origin = origin
        self._tidy(known)

    def _known(self, prefix: Prefix) -> Class:
        known = self.by_prefix.get(prefix)
        if known is None:
            known = self.by_prefix[prefix] = Class(self.classes.next(), prefix)
            self.classes.put(known.number, known)
        return known

    def _tidy(self, known: Class) -> None:
        """Forgets a prefix that nobody knows any more."""
        if known.origin is None and not known.statics and known.prefix is not None:
            del self.by_prefix[known.prefix]
            self.classes.remove(known.number)


def host_prefix(address: Address) -> Prefix:
    """The prefix of one address alone."""
    if isinstance(address, IPv4Address):
        return IPv4Network((int(address), 32))
    return IPv6Network((int(address), 128))
