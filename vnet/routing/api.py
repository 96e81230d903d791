"""What a LAN offers to those who route it: the part of :class:`vnet.Lan` that is about routers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from .gateways import Gateway

if TYPE_CHECKING:
    from ..register import Register
    from ..routes import Routes
    from .links import Link
    from .manager import Routing
    from .routers import Addresses, Networks, Router

__all__ = ["RoutedLan"]


class RoutedLan:
    """Routers, links and gateways of a LAN; :class:`vnet.Lan` is one."""

    _register: Register

    def _check(self) -> None:
        raise NotImplementedError

    @property
    def routing(self) -> Routing:
        """How the LAN is routed: settings, and changes that take effect together."""
        return self._register.routing

    @property
    def routers(self) -> Mapping[str, Router]:
        """The simulated routers by name, in the order in which they came."""
        return MappingProxyType(self._register.routing.routers)

    @property
    def links(self) -> Mapping[str, Link]:
        """The links between routers by name, in the order in which they came."""
        return MappingProxyType(self._register.routing.links)

    @property
    def routes(self) -> Routes:
        """What lies outside, behind the LAN's guests: prefixes by hand, or a full Internet table."""
        self._check()
        return self._register.outside

    def router(
        self,
        name: str,
        networks: Networks = (),
        *,
        loopback: Addresses = None,
        weights: Mapping[str, int] | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> Router:
        """Adds a simulated router.

        On each network it is a NIC, called as the router is, or, where it has several, ``NAME.NETWORK``; so it answers
        ARP and NDP, and captures name it.  It becomes the default gateway of the network's guests, unless another
        router came first or they asked for something else.

        Arguments:
            name: unique among routers, guests and NICs.
            networks: its networks by name, each with an address, or one of each family, or ``None`` for the lowest that
                is free; or only their names.  A router that only links join has none.
            loopback: an address of its own on no network and no link, or one of each family.
            weights: by network, what it costs to leave by it, 1 to 1,048,575; 1 where it does not say.
            attributes: whatever is to be known of it.

        Raises:
            NameTaken: a router, a guest or a NIC has the name.
            AddressTaken, AddressOutside, NetworkFull: as of :meth:`vnet.Lan.attach`.
            AddressError: a loopback address is in somebody's prefix.
            ValueError: there is no such network, or a weight is out of range.
            LanFull: there are too many routers (4,096) or NICs.
        """
        from .routers import make_router

        self._check()
        return make_router(self._register, name, networks, loopback, weights or {}, attributes or {})

    def link(
        self,
        a: Router | str,
        b: Router | str,
        *,
        weight: int = 1,
        mtu: int | None = None,
        prefix: str | Sequence[str] | None = None,
        addresses: Sequence[str | Sequence[str]] | None = None,
        name: str | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> Link:
        """Links two routers, point to point.  There may be several links between two routers.

        Without addresses the link gets two out of the LAN's pools, in order: a /31 (RFC 3021) of 172.31.0.0/16 and a
        /127 (RFC 6164) of fd76:6e65:7400::/48, for the families that the LAN's networks have by then.
        :attr:`Routing.pools` names other pools.

        Arguments:
            a: a router, or its name.
            b: the other.
            weight: what crossing it costs, in either direction, 1 to 1,048,575.
            mtu: largest datagram in bytes of IP; ``None`` for 65,535.
            prefix: its prefix, or one of each family; ``a`` gets the first address of it, ``b`` the second.
            addresses: that of ``a`` and that of ``b``, or for each one of each family.  With a length (``10.0.0.1/30``)
                or ``prefix`` they are of that prefix, otherwise of the smallest in which both can be.
            name: unique among links; ``None`` for one made of those of the routers, ``r1-r2``, ``r1-r2.2``.
            attributes: whatever is to be known of it.

        Raises:
            ValueError: there is no such router, the two are one, or a weight or an MTU is out of range.
            NameTaken: a link has the name.
            AddressError: an address or a prefix is wrong, or overlaps that of a network, link or router.
            NetworkFull: the pool is used up.
        """
        from .links import make_link

        self._check()
        return make_link(
            self._register,
            a,
            b,
            weight=weight,
            mtu=mtu,
            prefix=prefix,
            addresses=addresses,
            name=name,
            attributes=attributes or {},
        )

    def topology(self) -> Any:
        """Returns the LAN as a :class:`networkx.MultiGraph`, a copy of how it stands.

        Nodes are routers and guests, by name, and networks, as ``network:NAME``.  Each has a ``kind``: that of the
        guest, ``router`` or ``network``; routers have ``addresses`` and their attributes, networks ``prefixes`` and
        ``mtu``.  Edges are links (``link``, its name and key; ``weight``, ``mtu``, ``up``, ``addresses`` by router,
        attributes) and the NICs that join routers and guests to networks (``nic``, its name and key; ``addresses``,
        ``mtu``, ``up``, and of routers ``weight``).
        """
        from .topology import topology

        self._check()
        return topology(self._register)

    def set_gateway(self, name: str, gateway: Gateway) -> None:
        """Gives the guest behind the NIC ``name`` another default gateway, at once.

        Arguments:
            name: the NIC's name.
            gateway: an address of a router or guest on its network, or one of each family; ``None`` for the network's
                first router, whichever that is; ``False`` for none.

        Raises:
            KeyError: there is no such NIC.
            AddressOutside: the gateway is outside the network.
            AddressError: it is nobody's address there, or the NIC's own.
        """
        self._check()
        self._register.set_gateway(name, gateway)
