"""What a LAN offers to Linux stacks: the part of :class:`vnet.Lan` that is about namespaces, containers and TAPs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from .ending import Keeper
    from .hostside import Tap
    from .lan import Lan
    from .netns import Netns, Plug
    from .netns.client import Nursery
    from .register import Register
    from .routing.gateways import Gateway
    from .routing.routers import Networks

__all__ = ["LinuxLan"]


class LinuxLan:
    """Interfaces of Linux kernels on a LAN; :class:`vnet.Lan` is one."""

    _register: Register
    _keeper: Keeper

    def _check(self) -> None:
        raise NotImplementedError

    def netns(
        self,
        name: str,
        address: str | Sequence[str] | None = None,
        *,
        network: str | None = None,
        networks: Networks | None = None,
        gateway: Gateway = None,
        forward: bool = False,
        buffer: int | None = None,
        interface: str = "eth0",
    ) -> Netns:
        """Makes a Linux network namespace and plugs it into the LAN: loopback and interface are up, addresses usable.

        Without root this takes a user namespace, in which its programs run as root.

        Arguments:
            name: unique on the LAN.
            address: an IP address or several; ``None`` takes the next free one of each prefix.
            network: the name of its network; not needed where there is one.
            networks: in place of both, as of :meth:`router`.  On several it has as many interfaces, ``eth0``, ``eth1``
                and so on, in that order, and NICs that are called ``NAME.NETWORK``.
            gateway: where its default route leads, an address or one of each family; ``None`` for the network's first
                router, now or whenever one comes; ``False`` for no such route.
            forward: it is a router: its kernel passes on what is not for itself, and has routes to all networks and
                links, which follow the shortest paths.  Without ``gateway`` it has no default route.
            buffer: bytes of each input buffer, rounded up to a power of two; ``None`` for the LAN's largest.
            interface: the name of its interface, at most 15 bytes.

        Raises:
            MachineLacks: there is no /dev/net/tun, or this user may not make namespaces; the message says what to do.
            ValueError: ``interface`` cannot be an interface's name.
            NameTaken, AddressTaken, AddressOutside, NetworkFull, LanFull, LanClosed.
        """
        from .netns.guests import make_netns

        self._check()
        return make_netns(cast("Lan", self), name, address, network, networks, gateway, forward, buffer, interface)

    def plug(
        self,
        name: str,
        where: int | str | os.PathLike[str],
        address: str | Sequence[str] | None = None,
        *,
        network: str | None = None,
        buffer: int | None = None,
        interface: str = "eth1",
    ) -> Plug:
        """Gives a network namespace or container that is there an interface on the LAN.

        It needs root, or that the namespace is in a user namespace of this user's, as those of rootless containers are.

        Arguments:
            name: the NIC's, unique on the LAN.
            where: the id of a process in there; a path with a slash in it, such as ``/proc/PID/ns/net``; or a name that
                ``ip netns`` knows.
            address: an IP address or several; ``None`` takes the next free one of each prefix.
            network: the name of its network; not needed where there is one.
            buffer: bytes of its input buffer, rounded up to a power of two; ``None`` for the LAN's largest.
            interface: the name of the interface in there, at most 15 bytes.

        Raises:
            ValueError: there is no such process, path or name, or it is no network namespace.
            NotPermitted: it belongs to another user.
            NameTaken: a NIC has the name, or an interface in there.
            MachineLacks, AddressTaken, AddressOutside, NetworkFull, LanFull, LanClosed: as of :meth:`netns`.
        """
        from .netns.guests import make_plug

        return make_plug(cast("Lan", self), name, where, address, network, buffer, interface)

    def _nursery(self) -> Nursery:
        """The process that makes namespaces; it starts with the first."""
        self._check()
        with self._register.lock:
            if self._keeper.nursery is None:
                from .netns.client import Nursery

                self._keeper.nursery = Nursery()
            return self._keeper.nursery

    def tap(
        self,
        name: str,
        address: str | Sequence[str] | None = None,
        *,
        network: str | None = None,
        buffer: int | None = None,
        interface: str | None = None,
        bridge: str | None = None,
        ports: Sequence[str] = (),
        nat: bool = False,
    ) -> Tap:
        """Plugs the Linux stack of this process's network namespace into the LAN, or what is behind a bridge there.

        Needs CAP_NET_ADMIN in that namespace.  The device goes with this process however it ends, and so does what is
        done beside it: a bridge that was made, ports that were put into it, settings, NAT.  What several labs share
        goes with the last of them.

        Arguments:
            name: unique on the LAN.
            address: an IP address or several, for the device, or for the bridge if there is one; ``None`` takes the
                next free one of each prefix, or none for a bridge.
            network: the name of its network; not needed where there is one.
            buffer: as of :meth:`attach`.
            interface: the device's name, at most 15 characters; ``None`` for one made of those of LAN and NIC.
            bridge: the bridge that the device is put into; it is made if it is not there.
            ports: other interfaces that are put into the bridge meanwhile, such as ``["eth1"]``.
            nat: make the NIC the network's gateway, and masquerade what leaves the network by other interfaces.

        Raises:
            MachineLacks: no TAP devices, no privilege, no such port, or no NAT in the kernel.
            NameTaken: a NIC or an interface has the name.
            AddressTaken, AddressOutside, NetworkFull, LanFull, LanClosed.
            ValueError: a name cannot be an interface's, or the network has a gateway or is in the bridge already.
            VnetError: the bridge is none, an interface cannot be its port, or carries less than the network's MTU.
        """
        from .hostside import plug_tap

        self._check()
        return plug_tap(
            cast("Lan", self),
            name,
            address,
            network=network,
            buffer=buffer,
            interface=interface,
            bridge=bridge,
            ports=ports,
            nat=nat,
        )
