"""The routers of a LAN: keeps the model, and has the base go by it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import AddressError, ForkedNic, LanClosed, NameTaken, VnetError
from ..network import Address, Network, Prefix
from .compiling import class_tuples, entries, nothing_behind, parents, port_tuples, router_tuples
from .gateways import NONE, Gateways, Wish
from .model import MAX_MTU, Model, Port, RouterNode, Wire, host_prefix
from .spaces import AddressPlan, LinkPools

if TYPE_CHECKING:
    from ..register import Entry, Register
    from .links import Link
    from .loops import RouteLoop
    from .routers import Router

__all__ = ["Routing"]


class Routing:
    """How a LAN is routed; :attr:`vnet.Lan.routing`.

    Every change holds when the call that made it returns: new paths, routes and gateways.  Many changes together are
    cheaper in a :meth:`batch`.
    """

    def __init__(self, register: Register, base: Any) -> None:
        self._register = register
        self._pid = os.getpid()
        self.base = base
        self.model = Model()
        self.spaces = AddressPlan()
        self.pool = LinkPools(self.spaces)
        self.gateways = Gateways(base, self.model, register.nics.get)
        self.routers: dict[str, Router] = {}
        self.links: dict[str, Link] = {}
        # The NICs that are ports.
        self._ports: dict[Entry, Port] = {}
        # Guests that forward, by the names under which they do.
        self._forwarding: dict[str, RouterNode] = {}
        # What the kernels of guests that forward are told once paths have changed.
        self._kernels: dict[RouterNode, Callable[[], None]] = {}
        # The network without prefixes on which routers are shown that are on no other; generations of those NICs.
        self._between: int | None = None
        self._shown: dict[RouterNode, int] = {}
        # What the route table says of the prefixes that are the routers' own.
        self._entered: dict[Prefix, int] = {}
        # The longest prefix behind a guest that covers one: the route table of the LAN knows.
        self.covering: Callable[[Prefix], tuple[int, int] | None] = nothing_behind
        self._hash_ports = False
        self._deep = 0
        self._stale = False
        self._moved: dict[Port, None] = {}

    @property
    def forked(self) -> bool:
        """Whether this is a child of the process whose LAN it is."""
        return os.getpid() != self._pid

    def check(self) -> None:
        """Refuses what only the LAN's own process may do, and only while the LAN is there.

        Raises:
            ForkedNic, LanClosed: it is another process; the LAN has ended.
        """
        if self.forked:
            raise ForkedNic("this LAN belongs to the parent process; attach to it by name after fork()")
        if self._register.closed:
            raise LanClosed("the LAN is closed")

    # Settings

    @property
    def pools(self) -> tuple[str, ...]:
        """Prefixes out of which links get addresses if none are given, one of each family; may be set."""
        return tuple(map(str, self.pool.prefixes))

    @pools.setter
    def pools(self, pools: str | Sequence[str]) -> None:
        with self._register.lock:
            self.pool.set(pools)

    @property
    def hash_ports(self) -> bool:
        """Whether flows are told apart by ports, too, where paths cost the same; may be set.

        Linux knows the two as ``fib_multipath_hash_policy`` 0 and 1.
        """
        return self._hash_ports

    @hash_ports.setter
    def hash_ports(self, ports: bool) -> None:
        with self._register.lock:
            self._hash_ports = bool(ports)
            self.changed()

    def loops(self) -> list[RouteLoop]:
        """Returns the circles that static routes make as the LAN stands, each with its prefix and routers."""
        from .loops import find_loops

        with self._register.lock:
            return find_loops(self.model)

    # Changes

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Has the changes of the block take effect together, at its end, however it ends."""
        with self._register.lock:
            self._deep += 1
        try:
            yield
        finally:
            with self._register.lock:
                self._deep -= 1
                self._flush()

    def changed(self) -> None:
        """Routers, ports or prefixes have changed."""
        self._stale = True
        self._flush()

    def moved(self, *ports: Port) -> None:
        """Whether ports carry, or what they cost, has changed, and nothing else."""
        self._moved.update(dict.fromkeys(ports))
        self._flush()

    def set_gateway(self, entry: Entry, wish: Wish) -> None:
        """Gives a guest other default gateways."""
        self.gateways.set(entry, wish)
        self._flush()

    def settle(self) -> None:
        """Has the changes of a batch so far take effect."""
        deep, self._deep = self._deep, 0
        try:
            self._flush()
        finally:
            self._deep = deep

    def _flush(self) -> None:
        if self._deep or self._register.closed:
            return
        if self._stale:
            self._publish()
        elif self._moved:
            self.base.set_ports([(port.number, port.up, port.weight) for port in self._moved])
        if self._stale or self._moved:
            self.gateways.untold.update(dict.fromkeys(self._kernels.values()))
        # Not before it was done: what failed is tried again with the next change.
        self._stale, self._moved = False, {}
        failed: VnetError | None = None
        while self.gateways.untold:
            tell, _ = self.gateways.untold.popitem()
            try:
                tell()
            except VnetError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def _publish(self) -> None:
        self._show_all()
        wanted = entries(self.model.by_prefix.values())
        # A prefix goes before its class means something else, and comes when its class means something.
        gone = [prefix for prefix in self._entered if prefix not in wanted]
        if gone:
            self.base.routes_remove([str(prefix) for prefix in gone])
        ports, classes = port_tuples(self.model), class_tuples(self.model, parents(self.model, self.covering))
        plan = router_tuples(self.model), ports, classes, self._hash_ports
        if not self._register.images.plan(*plan):
            self.base.set_plan(*plan)
        came = [(str(prefix), number) for prefix, number in wanted.items() if self._entered.get(prefix) != number]
        if came:
            self.base.routes_insert(came)
        self._entered = wanted

    def _show_all(self) -> None:
        """Gives each router that is on no network a NIC of its own without addresses, by which captures name it."""
        for router in self.model.routers:
            if router.shown_as or router.guest or not router.ports:
                continue
            if self._between is None:
                self._between = self.base.add_network(None, None, MAX_MTU)
            port, mac = router.ports[0].number + 1, self._register.own_mac(router.name)
            router.slot, self._shown[router] = self.base.add_nic(
                router.name, self._between, [], mac, MAX_MTU, 0, False, True, port=port
            )

    # NICs: called by the register, with its lock held

    def joined(self, entry: Entry, wish: Wish, forward: bool | str) -> None:
        """A guest's NIC came; with ``forward``, it is a port of a guest that forwards, perhaps one of several."""
        if forward:
            self._forward(entry, entry.name if forward is True else forward)
        # A kernel that forwards has routes of its own; a process has the NIC's gateway.
        self.gateways.set(entry, NONE if forward and entry.kind == "netns" and wish.automatic else wish)
        self.gateways.came(entry)

    def _forward(self, entry: Entry, name: str) -> None:
        with self.batch():
            router = self._forwarding.get(name)
            if router is None:
                router = self._forwarding[name] = self.model.add_router(name, guest=True)
            self.add_port(router, entry, weight=1)

    def add_port(self, router: RouterNode, entry: Entry, *, weight: int, number: int | None = None) -> Port:
        """Has a NIC be a router's port."""
        port = self.model.add_port(
            router,
            entry.network,
            nic=entry.name,
            slot=entry.slot,
            mtu=entry.mtu,
            weight=weight,
            addresses=entry.addresses,
            number=number,
        )
        self._ports[entry] = port
        self.gateways.routers_changed(entry.network)
        self.changed()
        return port

    def left(self, entry: Entry) -> None:
        """A NIC left, whoever's it was."""
        port = self._ports.pop(entry, None)
        if port is not None:
            with self.batch():
                self.model.remove_port(port)
                if port.router.guest and not port.router.ports:
                    self._forwarding.pop(port.router.name, None)
                    self._kernels.pop(port.router, None)
                    self.model.remove_router(port.router)
                self._stale = True
        self.gateways.left(entry)
        if port is not None:
            self.gateways.routers_changed(entry.network)
            self._flush()

    def remove_router(self, router: RouterNode) -> None:
        """Takes away a router that has no ports any more."""
        for address in router.loopbacks:
            self.spaces.give_back(host_prefix(address))
        self.model.remove_router(router)
        del self.routers[router.name]
        if router in self._shown:
            self.base.remove(router.slot, self._shown.pop(router))
        self.changed()

    def remove_link(self, wire: Wire) -> None:
        """Takes away a link between two routers."""
        for prefix in wire.prefixes:
            self.spaces.give_back(prefix)
        self.model.remove_wire(wire)
        del self.links[wire.name]
        self.changed()

    def port_of(self, entry: Entry) -> Port | None:
        """The port that a NIC is."""
        return self._ports.get(entry)

    def forwarding(self, name: str) -> RouterNode | None:
        """The router that a guest is which forwards under ``name``."""
        return self._forwarding.get(name)

    def follow(self, router: RouterNode, told: Callable[[], None]) -> None:
        """Has ``told`` called whenever paths may have changed."""
        self._kernels[router] = told

    # Names

    def check_free(self, kind: str, name: str) -> None:
        """Refuses a name that a router, a guest or a NIC has.

        Raises:
            NameTaken: one has it.
        """
        register = self._register
        if name in self.routers or name in self._forwarding or name in register.nodes:
            raise NameTaken(f"a {kind} cannot be called {name!r}: a router or a guest of that name is there already")
        held = register.nics.get(name)
        if held is not None and (held.reserved or register.is_up(held)):
            raise NameTaken(f"a {kind} cannot be called {name!r}: a NIC of that name is on the LAN already")

    # Prefixes behind guests

    def owns(self, prefix: Prefix) -> bool:
        """Whether a prefix is that of a network, a link or a router of the LAN."""
        known = self.model.by_prefix.get(prefix)
        return known is not None and isinstance(known.origin, Network | Wire | RouterNode)

    def network_of(self, address: Address) -> Network:
        """Returns the network that the next hop of what lies behind a guest is on.

        Raises:
            AddressError: it is on none, or on one without a router.
        """
        for network in self._register.networks.values():
            if network.prefix_of(address) is not None:
                if network not in self.model.on_network:
                    raise AddressError(f"the next hop {address} is on network {network.name!r}, which has no router")
                return network
        raise AddressError(f"the next hop {address} is on none of the LAN's networks")
