"""Simulated routers, as users hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import AddressError, AddressOutside, NicClosed
from ..network import Address, Prefix, parse_address
from ..runtime import check_name
from ..statistics import NicStatistics, read_statistics
from .model import MAX_WEIGHT, REFUSALS, Port, Refusal, RouterNode, Step, Via, host_prefix

if TYPE_CHECKING:
    from ..register import Register
    from .links import Link
    from .spaces import AddressPlan

__all__ = [
    "Addresses",
    "Networks",
    "Router",
    "StaticRoute",
    "check_weight",
    "make_router",
    "nic_names",
    "wanted_networks",
]

Addresses = str | Sequence[str] | None
Networks = Mapping[str, Addresses] | Sequence[str] | str


@dataclass(frozen=True)
class StaticRoute:
    """A static route of a router.

    Attributes:
        prefix: where it leads, such as ``10.9.0.0/16``.
        via: the next hop's address; or ``unreachable``, ``prohibit`` or ``blackhole``.
    """

    prefix: str
    via: str


class Router:
    """A simulated IP router of a LAN.

    Made by :meth:`vnet.Lan.router`.  No process stands behind it: whoever sends a datagram settles what its routers
    would do to it.  It answers as a Linux router does: time exceeded, unreachable, packet too big, echo.  A context
    manager; :meth:`close` may be called twice.

    Attributes:
        name: unique on the LAN.
        attributes: whatever is to be known of it, such as its latitude and longitude.
    """

    def __init__(self, register: Register, node: RouterNode) -> None:
        # The LAN itself it must not keep: one that nobody holds ends, and the register keeps its routers.
        self._register = register
        self._node = node
        self._closed = False
        self.name = node.name
        self.attributes = node.attributes

    def __repr__(self) -> str:
        return f"<Router {self.name}: {len(self._node.ports)} interfaces{', closed' if self.closed else ''}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"router {self.name!r} cannot be pickled: it is of a LAN of this process")

    @property
    def closed(self) -> bool:
        """Whether it is off the LAN."""
        return self._closed or self._register.closed

    @property
    def networks(self) -> Mapping[str, tuple[str, ...]]:
        """Its addresses on each of its networks, IPv4 first, then the link-local one if the network has IPv6."""
        ports = self._node.ports
        return MappingProxyType({port.network.name: tuple(map(str, port.addresses)) for port in ports if port.network})

    @property
    def addresses(self) -> tuple[str, ...]:
        """All addresses at which it answers: of its networks, its links and its own."""
        own = [address for port in self._node.ports for address in port.addresses if not address.is_link_local]
        return tuple(map(str, (*own, *self._node.loopbacks)))

    @property
    def loopbacks(self) -> tuple[str, ...]:
        """The addresses that it has on no network and no link."""
        return tuple(map(str, self._node.loopbacks))

    @property
    def links(self) -> tuple[Link, ...]:
        """Its links to other routers, in the order in which they were made."""
        links = self._register.routing.links
        return tuple(links[port.wire.name] for port in self._node.ports if port.wire and port.wire.name in links)

    # Static routes

    @property
    def routes(self) -> tuple[StaticRoute, ...]:
        """Its static routes, in the order in which the prefixes came."""
        statics = self._node.statics.items()
        return tuple(StaticRoute(str(prefix), _told(step)) for prefix, steps in statics for step in steps)

    def add_route(self, prefix: str, via: str) -> None:
        """Adds a static route.  Several to one prefix share its flows.

        It counts for this router alone.  The longest prefix wins; at one prefix, the router's own networks and links
        come before its static routes, and those before shortest paths.

        Arguments:
            prefix: where it leads, such as ``"10.9.0.0/16"`` or ``"0.0.0.0/0"``.
            via: the address of the next hop, on one of the router's networks or links; or ``"unreachable"``,
                ``"prohibit"`` or ``"blackhole"`` as of ``ip route``.

        Raises:
            AddressError: the prefix or the next hop is none, they are of two families, or it is the router itself.
            AddressOutside: the next hop is on none of the router's networks and links.
            ValueError: the router has that route, or one that cannot be beside it.
        """
        self._check()
        wanted = parse_prefix(prefix)
        routing = self._register.routing
        with self._register.lock:
            step = self._step(wanted, via)
            steps = self._node.statics.get(wanted, [])
            if step in steps:
                raise ValueError(f"router {self.name!r} has the route to {wanted} via {via} already")
            if steps and isinstance(step, Refusal) | isinstance(steps[0], Refusal):
                raise ValueError(f"router {self.name!r} has a route to {wanted} already, {_told(steps[0])}")
            routing.model.set_static(self._node, wanted, [*steps, step])
            routing.changed()

    def remove_route(self, prefix: str, via: str | None = None) -> None:
        """Removes a static route; without ``via`` all to that prefix.

        Raises:
            ValueError: the router has no such route.
        """
        self._check()
        wanted = parse_prefix(prefix)
        routing = self._register.routing
        with self._register.lock:
            steps = self._node.statics.get(wanted, [])
            gone = steps if via is None else [step for step in steps if _told(step) == _plain(via)]
            if not gone:
                how = "" if via is None else f" via {via}"
                raise ValueError(f"router {self.name!r} has no static route to {wanted}{how}")
            routing.model.set_static(self._node, wanted, [step for step in steps if step not in gone])
            routing.changed()

    def _step(self, prefix: Prefix, via: str) -> Step:
        if via in REFUSALS:
            return Refusal(via)
        try:
            address = parse_address(via)
        except AddressError:
            words = ", ".join(repr(word) for word in REFUSALS)
            raise AddressError(f"{via!r} is no next hop: expected an address, {words}") from None
        if address.version != prefix.version:
            raise AddressError(f"{address} cannot be the next hop to {prefix}: they are of two families")
        if self._register.routing.model.owners.get(address) in (*self._node.ports, self._node):
            raise AddressError(f"the next hop {address} is router {self.name!r} itself")
        for port in self._node.ports:
            if _reaches(port, address):
                return Via(port, address)
        raise AddressOutside(f"the next hop {address} is on none of the networks and links of router {self.name!r}")

    # The rest

    def statistics(self) -> Mapping[str, NicStatistics]:
        """Returns what its NIC on each of its networks has sent and received."""
        self._check()
        base = self._register.routing.base
        read = {
            port.network.name: read_statistics(base.segment(), port.slot) for port in self._node.ports if port.network
        }
        return MappingProxyType(read)

    def close(self) -> None:
        """Takes the router off the LAN, with its links and its NICs.  May be called twice."""
        register, routing = self._register, self._register.routing
        if self.closed or routing.forked:
            return
        with register.lock, routing.batch():
            self._closed = True
            for link in self.links:
                link.close()
            for port in [port for port in self._node.ports if port.network]:
                register.withdraw(port.nic)
            routing.remove_router(self._node)

    def __enter__(self) -> Router:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self) -> None:
        self._register.routing.check()
        if self._closed:
            raise NicClosed(f"the router {self.name!r} is off the LAN")


def make_router(
    register: Register,
    name: str,
    networks: Networks,
    loopback: Addresses,
    weights: Mapping[str, int],
    attributes: Mapping[str, Any],
) -> Router:
    """See :meth:`vnet.Lan.router`."""
    check_name("router", name)
    wanted = wanted_networks("router", name, networks)
    for network, weight in weights.items():
        if network not in wanted:
            raise ValueError(f"router {name!r} has a weight for network {network!r}, which it is not on")
        check_weight(weight)
    own = [] if loopback is None else [loopback] if isinstance(loopback, str) else list(loopback)
    routing = register.routing
    with register.lock, routing.batch():
        routing.check_free("router", name)
        loopbacks = _loopbacks(routing.spaces, name, own)
        node = routing.model.add_router(name, loopbacks=loopbacks)
        node.attributes.update(attributes)
        router = routing.routers[name] = Router(register, node)
        try:
            for nic, (network, address) in zip(nic_names(name, list(wanted)), wanted.items(), strict=True):
                number = routing.model.ports.next()
                entry = register.join(nic, "router", address, network, None, port=number + 1)
                routing.add_port(node, entry, weight=weights.get(network, 1), number=number)
        except BaseException:
            router.close()
            raise
        routing.changed()
        return router


def nic_names(name: str, networks: Sequence[str]) -> list[str]:
    """What the NICs of a guest on several networks are called: its name; if they are several, with the network's."""
    return [name] if len(networks) == 1 else [f"{name}.{network}" for network in networks]


def wanted_networks(kind: str, name: str, networks: Networks) -> dict[str, Addresses]:
    """Returns the networks that a router or a guest is to be on, with the addresses there.

    Raises:
        ValueError: one is named twice.
    """
    if isinstance(networks, Mapping):
        return dict(networks)
    names = [networks] if isinstance(networks, str) else list(networks)
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"network {twice[0]!r} is named twice: {kind} {name!r} has one interface on it")
    return dict.fromkeys(names)


def _loopbacks(spaces: AddressPlan, name: str, texts: Sequence[str]) -> tuple[Address, ...]:
    claimed: list[Address] = []
    try:
        for text in texts:
            address = parse_address(text)
            spaces.claim(host_prefix(address), f"router {name!r}")
            claimed.append(address)
    except BaseException:
        for address in claimed:
            spaces.give_back(host_prefix(address))
        raise
    return tuple(claimed)


def check_weight(weight: int) -> int:
    """Returns a weight, if paths can be reckoned with it.

    Raises:
        TypeError, ValueError: it is no number from 1 to 1,048,575.
    """
    if not isinstance(weight, int) or isinstance(weight, bool):
        raise TypeError(f"a weight is a whole number, not {weight!r}")
    if not 1 <= weight <= MAX_WEIGHT:
        raise ValueError(f"a weight is 1 to {MAX_WEIGHT:,}, not {weight}")
    return weight


def parse_prefix(text: str) -> Prefix:
    """Returns the prefix that ``text`` is.

    Raises:
        AddressError: it is none, or has bits set behind its length.
    """
    try:
        return ip_network(text)
    except ValueError as error:
        raise AddressError(f"{text!r} is not a prefix such as 10.9.0.0/16 or fd00:9::/48: {error}") from None


def _reaches(port: Port, address: Address) -> bool:
    if port.network is not None:
        return port.network.prefix_of(address) is not None
    return port.wire is not None and any(
        prefix.version == address.version and address in prefix for prefix in port.wire.prefixes
    )


def _told(step: Step) -> str:
    return str(step.address) if isinstance(step, Via) else step.word


def _plain(via: str) -> str:
    return via if via in REFUSALS else str(parse_address(via))
