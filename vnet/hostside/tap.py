"""A guest that is the machine's own Linux stack, or what is behind one of its bridges."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import ipaddress
import os
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from ..errors import NameTaken
from ..register import derive
from ..runtime import check_name
from .device import check_interface, default_interface, open_tap
from .forwarding import forward
from .interfaces import Bridge, Placed, await_carriers, find_bridge, join_bridge, netlink, set_up_tap
from .lending import Lending
from .masquerade import Masquerade

if TYPE_CHECKING:
    from ..lan import Lan
    from ..register import Entry
    from ..statistics import NicStatistics

__all__ = ["Borrowed", "Tap", "plug_tap"]


class Borrowed:
    """What one TAP has of its machine beside the device: a place in a bridge, NAT.  Ends with the NIC or the LAN.

    Attributes:
        network: the number of its network.
        bridge: the bridge it is in, or ``None``.
        gateway: whether it is its network's gateway.
    """

    def __init__(self, network: int, bridge: str | None, gateway: bool) -> None:
        self.network = network
        self.bridge = bridge
        self.gateway = gateway
        self.lending: Lending | None = None
        self.masquerade: Masquerade | None = None

    def release(self) -> None:
        """Has everything given back as soon as the device is gone, without waiting for it.  May be called twice."""
        if self.masquerade is not None:
            self.masquerade.close()
        if self.lending is not None:
            self.lending.release()

    def close(self) -> None:
        """Waits until everything is given back.  May be called twice."""
        self.release()
        if self.lending is not None:
            self.lending.close()

    def abandon(self) -> None:
        """Lets go of the parent's, in a forked child."""
        if self.masquerade is not None:
            self.masquerade.close()
        if self.lending is not None:
            self.lending.abandon()


class Tap:
    """A TAP device in the base's own network namespace, on a LAN.

    Made by :meth:`vnet.Lan.tap`.  A context manager; :meth:`close` may be called twice.

    Attributes:
        name: its name on the LAN.
        network: its network's name.
        addresses: the NIC's IP addresses, which the device has, or the bridge; the link-local one comes last.
        mac: the NIC's MAC address.
        mtu: largest datagram in bytes of IP.
        interface: the device's name.
        bridge: the name of the bridge that it is in, or ``None``.
        ports: the interfaces that were put into the bridge beside it.
        nat: whether it is its network's gateway, with NAT.
    """

    def __init__(
        self,
        lan: Lan,
        entry: Entry,
        *,
        interface: str,
        bridge: str | None,
        ports: tuple[str, ...],
        nat: bool,
        leave: Callable[[], None],
    ) -> None:
        self._lan = lan
        self._leave = leave
        self._closed = False
        self.name = entry.name
        self.network = entry.network.name
        self.addresses = tuple(map(str, entry.addresses))
        self.mac = entry.mac
        self.mtu = entry.mtu
        self.interface = interface
        self.bridge = bridge
        self.ports = ports
        self.nat = nat

    def __repr__(self) -> str:
        where = f" in bridge {self.bridge}" if self.bridge else ""
        own = " ".join(self.addresses) or "no addresses"
        return f"<Tap {self.name} {own}: {self.interface}{where}{', closed' if self._closed else ''}>"

    def __enter__(self) -> Tap:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def statistics(self) -> NicStatistics:
        """Returns what the NIC has sent and received."""
        return self._lan.statistics().nics[self.name]

    def close(self) -> None:
        """Takes the device off the LAN and gives back what it borrowed of the machine.  May be called twice."""
        self._closed = True
        leave, self._leave = self._leave, _nothing
        leave()


def _nothing() -> None:
    pass


def plug_tap(
    lan: Lan,
    name: str,
    address: str | Sequence[str] | None,
    *,
    network: str | None,
    buffer: int | None,
    interface: str | None,
    bridge: str | None,
    ports: Sequence[str],
    nat: bool,
) -> Tap:
    """Makes a :class:`Tap`; arguments and errors as of :meth:`vnet.Lan.tap`."""
    check_name("NIC", name)
    ports = _check(interface, bridge, ports)
    if nat and bridge is not None and not address:
        raise ValueError(f"nat needs an address of {name!r} on its network: the others' way out")
    with lan._keeper.borrowing:
        return _plug(lan, name, address, network, buffer, interface, bridge, ports, nat)


def _plug(
    lan: Lan,
    name: str,
    address: str | Sequence[str] | None,
    network: str | None,
    buffer: int | None,
    interface: str | None,
    bridge: str | None,
    ports: tuple[str, ...],
    nat: bool,
) -> Tap:
    """Makes the device and what is beside it, one at a time on a LAN."""
    register = lan._register
    device = default_interface(lan.name, name) if interface is None else interface
    # An earlier guest of this name, whose device somebody removed, has nothing to borrow any longer.
    _end_of_the_dead(lan)
    where = register.network(network)
    _check_network(lan, where._number, where.name, bridge, nat)
    if lan.attached(name):
        raise NameTaken(f"a NIC named {name!r} is on the LAN already")
    borrowed = Borrowed(where._number, bridge, nat)
    with contextlib.ExitStack() as undo:
        undo.callback(_end, lan, name, borrowed)
        # From the first on: a child that is forked meanwhile must not hold any of it.
        lan._keeper.borrowed[name] = borrowed
        if bridge is not None or nat:
            # pyroute2 first: others wait for what comes next.
            netlink(lambda kernel: None)
            borrowed.lending = Lending()
        found = None if bridge is None else netlink(functools.partial(find_bridge, name=bridge))
        given = () if address is None and bridge is not None else address
        entry = register.join(
            name, "tap", given, where.name, buffer, mac=found.mac if found else None, bridges=bridge is not None
        )
        undo.callback(register.leave, entry)
        fd, device = open_tap(device)
        undo.callback(os.close, fd)
        _set_up(lan, entry, borrowed, device, found, ports)
        if nat:
            _set_up_nat(lan, entry, borrowed, bridge or device, device)
        if borrowed.lending is not None:
            borrowed.lending.settle()
        register.belongs(entry, borrowed)
        lan._base.serve_tap(entry.slot, entry.generation, fd, bridges=bridge is not None)
        if nat:
            lan._base.set_gateway(where._number, entry.slot)
        if bridge is not None:
            # The bridge last, which has carrier when a port has.
            netlink(functools.partial(await_carriers, names=(*ports, bridge)))
        undo.pop_all()
        # The driver has its own: with that one, the device goes.
        os.close(fd)
    return Tap(
        lan,
        entry,
        interface=device,
        bridge=bridge,
        ports=ports,
        nat=nat,
        leave=functools.partial(_leave, lan, entry, borrowed),
    )


def _check(interface: str | None, bridge: str | None, ports: Sequence[str]) -> tuple[str, ...]:
    """Returns the ports, if names and bridge make sense."""
    if isinstance(ports, str):
        raise TypeError("ports are a list of interfaces' names")
    names = [each for each in (interface, bridge) if each is not None] + list(ports)
    for each in names:
        check_interface(each)
    for each in names:
        if names.count(each) > 1:
            raise ValueError(f"{each!r} is named twice among interface, bridge and ports")
    if ports and bridge is None:
        raise ValueError(f"name the bridge that the ports {', '.join(ports)} are put into")
    return tuple(ports)


def _check_network(lan: Lan, number: int, name: str, bridge: str | None, nat: bool) -> None:
    for other, borrowed in lan._keeper.borrowed.items():
        if borrowed.network != number:
            continue
        if bridge is not None and borrowed.bridge == bridge:
            raise ValueError(f"network {name!r} is in bridge {bridge!r} by NIC {other!r} already: twice makes a loop")
        if nat and borrowed.gateway:
            raise ValueError(f"network {name!r} has a gateway already: NIC {other!r}")


def _end_of_the_dead(lan: Lan) -> None:
    for other in tuple(lan._keeper.borrowed):
        if not lan.attached(other):
            lan._keeper.borrowed.pop(other).close()


def _port_mac(lan: Lan, name: str) -> str:
    """The MAC address of a TAP in a bridge that was there: high, for a bridge takes the lowest of its ports."""
    return (0xFE << 40 | derive(f"{lan.name}/{name}", 5)).to_bytes(6, "big").hex(":")


def _end(lan: Lan, name: str, borrowed: Borrowed) -> None:
    if lan._keeper.borrowed.get(name) is borrowed:
        del lan._keeper.borrowed[name]
    borrowed.close()


def _set_up(
    lan: Lan, entry: Entry, borrowed: Borrowed, device: str, bridge: Bridge | None, ports: tuple[str, ...]
) -> None:
    placed = _placed(entry)
    if bridge is None:
        netlink(lambda kernel: set_up_tap(kernel, device, entry.mac, entry.mtu, placed))
        return
    assert borrowed.lending is not None
    join = functools.partial(
        join_bridge,
        lending=borrowed.lending,
        bridge=bridge if bridge.index else dataclasses.replace(bridge, mac=entry.mac),
        tap=device,
        mac=_port_mac(lan, entry.name) if bridge.index else entry.mac,
        mtu=entry.mtu,
        ports=ports,
        addresses=placed,
    )
    netlink(join)


def _placed(entry: Entry) -> list[Placed]:
    placed: list[Placed] = []
    for address in entry.addresses:
        prefix = entry.network.prefix_of(address)
        # The link-local address is in none of them: RFC 4291 section 2.5.6.
        placed.append(ipaddress.ip_interface(f"{address}/{prefix.prefixlen if prefix else 64}"))
    return placed


def _set_up_nat(lan: Lan, entry: Entry, borrowed: Borrowed, outer: str, device: str) -> None:
    assert borrowed.lending is not None
    prefixes = entry.network.prefixes
    table = f"vnet_{device}" if lan.name is None else f"vnet_{lan.name}_{entry.name}"
    borrowed.masquerade = Masquerade(table, prefixes, outer)
    for prefix in prefixes:
        forward(borrowed.lending, prefix.version)


def _leave(lan: Lan, entry: Entry, borrowed: Borrowed) -> None:
    if os.getpid() != lan._pid:
        # The parent's.
        return
    if not lan.closed:
        # One whose device somebody deleted may have a successor.
        if borrowed.gateway and lan._keeper.borrowed.get(entry.name) is borrowed:
            lan._base.set_gateway(borrowed.network, 0)
        lan._register.leave(entry)
    _end(lan, entry.name, borrowed)
