"""Linux network namespaces on a LAN: those that it makes, and those that it finds."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..errors import AddressOutside, MachineLacks, NameTaken, NicClosed
from ..network import parse_address
from ..routing.gateways import Gateway
from ..routing.kernels import KernelRoutes
from ..routing.routers import Addresses, Networks, nic_names, wanted_networks
from ..sharing.doors import Door, local_door
from ..sharing.guest import Sharing
from ..statistics import NicStatistics
from . import reasons
from .places import open_namespace, owner
from .wiring import Wiring, check_interface

if TYPE_CHECKING:
    from ..lan import Lan
    from ..register import Entry
    from ..routing.model import RouterNode
    from .client import Made, Nursery

__all__ = ["Netns", "Plug", "make_netns", "make_plug"]

_Words = Sequence[str | os.PathLike[str]]


@dataclass(frozen=True)
class _Wire:
    """A NIC, the interface behind it, what the nursery made for it, and the default routes that that came with."""

    entry: Entry
    interface: str
    made: Made
    generation: int
    gateways: tuple[str, ...]


class _Wired(Sharing):
    """What all interfaces of the kernel on a LAN have in common."""

    _kind = ""

    def __init__(self, lan: Lan, name: str, wires: Sequence[_Wire]) -> None:
        self._lan = lan
        self._wires = tuple(wires)
        self.name = name
        first = wires[0]
        self.network = first.entry.network.name
        self.addresses = tuple(str(address) for wire in wires for address in wire.entry.addresses)
        self.mac = first.entry.mac
        self.mtu = first.entry.mtu
        self.interface = first.interface
        self._way = local_door(lan._register, first.entry)

    def _door(self) -> Door:
        self._check()
        return self._way

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {' '.join(self.addresses)}>"

    @property
    def address(self) -> str:
        """The first of its addresses."""
        return self.addresses[0]

    @property
    def closed(self) -> bool:
        """Whether it is off the LAN: it or the LAN was closed, or it was taken off."""
        register = self._lan._register
        return register.closed or all(register.nics.get(wire.entry.name) is not wire.entry for wire in self._wires)

    def statistics(self) -> NicStatistics:
        """Returns what its NIC, the first of several, has sent and received; of others ``lan.statistics()`` knows."""
        return self._lan.statistics().nics[self._wires[0].entry.name]

    def close(self) -> None:
        """Takes it off the LAN; its interface is gone when this returns.  May be called twice."""
        with self._lan._register.lock, self._lan.routing.batch():
            for wire in self._wires:
                self._lan._register.leave(wire.entry, wire.generation)
        self._wires[0].made.nursery.settle()

    def _check(self) -> None:
        if self.closed:
            raise NicClosed(f"the {self._kind} {self.name!r} is off the LAN")


class Netns(_Wired):
    """A Linux network namespace with an interface on the LAN: the kernel's own stack as a guest.

    Made by :meth:`vnet.Lan.netns`.  Programs run in it with :meth:`run` and :meth:`popen`; they see the machine's files
    and processes and this namespace's interfaces, addresses, routes and ports.  It ends with :meth:`close` or the LAN;
    programs that still run in it then are left without the interface.

    What is under ``/sys`` remains the machine's: programs that read ``/sys/class/net`` do not find the interface there.

    Attributes:
        name: unique on the LAN.
        network: the name of its network.
        addresses: its IP addresses, IPv4 first, then the link-local one that follows from the MAC address.
        mac: its MAC address.
        mtu: largest datagram in bytes of IP: the network's, but no more than 65,521, the kernel's largest.
        interface: the name of its interface.

    Of a namespace on several networks these are those of the first, but for ``addresses``, which has all of them;
    :attr:`networks` and :attr:`interfaces` tell the others.
    """

    _kind = "netns"

    @property
    def networks(self) -> Mapping[str, tuple[str, ...]]:
        """Its addresses on each of its networks."""
        wires = self._wires
        return MappingProxyType({wire.entry.network.name: tuple(map(str, wire.entry.addresses)) for wire in wires})

    @property
    def interfaces(self) -> Mapping[str, str]:
        """The name of its interface on each of its networks."""
        return MappingProxyType({wire.entry.network.name: wire.interface for wire in self._wires})

    def enter_words(self, words: _Words) -> tuple[list[str], tuple[int, ...]]:
        """Returns the words that run a program in the namespace, and the descriptors that it must inherit for that.

        Both are good until :meth:`close`.

        Arguments:
            words: the program and its arguments.

        Raises:
            NicClosed: the namespace is off the LAN.
            MachineLacks: nsenter is not installed.
            ValueError: there are no words.
        """
        if isinstance(words, str | bytes) or not words:
            raise ValueError(f"a command is a list of words such as ['ip', 'address'], not {words!r}")
        self._check()
        namespace, user = self._wires[0].made.namespace, self._wires[0].made.user
        if namespace is None:
            raise NicClosed(f"the netns {self.name!r} is off the LAN")
        # As root of the user namespace: the user's own id is mapped to that.
        join = [] if user is None else [f"--user=/proc/self/fd/{user}", "--preserve-credentials"]
        enter = [_nsenter(), *join, f"--net=/proc/self/fd/{namespace}", "--"]
        return [*enter, *(os.fspath(word) for word in words)], (namespace,) if user is None else (namespace, user)

    def popen(self, words: _Words, **popen: Any) -> subprocess.Popen[Any]:
        """Starts a program in the namespace.  It is the caller's: it goes on, without the LAN, when that ends.

        Arguments:
            words: the program and its arguments.
            popen: as of :class:`subprocess.Popen`, ``shell`` left out.

        Raises:
            NicClosed, MachineLacks, ValueError: as of :meth:`enter_words`.
        """
        return subprocess.Popen(*self._entering(words, popen), **popen)

    def run(self, words: _Words, **run: Any) -> subprocess.CompletedProcess[Any]:
        """Runs a program in the namespace and waits for its end; the exit status is its own.

        Arguments:
            words: the program and its arguments.
            run: as of :func:`subprocess.run`, ``shell`` left out.

        Raises:
            NicClosed, MachineLacks, ValueError: as of :meth:`enter_words`.
        """
        return subprocess.run(*self._entering(words, run), **run)

    def _entering(self, words: _Words, options: dict[str, Any]) -> tuple[list[str]]:
        if options.get("shell"):
            raise ValueError("shell=True would run the shell outside of the namespace: run ['sh', '-c', COMMAND]")
        enter, files = self.enter_words(words)
        options["pass_fds"] = (*options.get("pass_fds", ()), *files)
        return (enter,)


class Plug(_Wired):
    """An interface on the LAN in a namespace or container that others made.

    Made by :meth:`vnet.Lan.plug`.  It goes with :meth:`close`, the LAN or the namespace, whichever ends first.

    Attributes:
        name: unique on the LAN.
        network: the name of its network.
        addresses: its IP addresses, IPv4 first, then the link-local one that follows from the MAC address.
        mac: its MAC address.
        mtu: largest datagram in bytes of IP: the network's, but no more than 65,521, the kernel's largest.
        interface: the name of its interface in there.
    """

    _kind = "plug"


def make_netns(
    lan: Lan,
    name: str,
    address: str | Sequence[str] | None,
    network: str | None,
    networks: Networks | None,
    gateway: Gateway,
    forward: bool,
    buffer: int | None,
    interface: str,
) -> Netns:
    """See :meth:`vnet.Lan.netns`."""
    if networks is not None and (address is not None or network is not None):
        raise ValueError(
            "a namespace is on the networks of networks=, with the addresses there, or on network=; not both"
        )
    wanted: dict[str | None, Addresses] = {network: address}
    if networks is not None:
        wanted = dict(wanted_networks("netns", name, networks).items())
    if not wanted:
        raise ValueError(f"the netns {name!r} is on no network: name one")
    interfaces = _interfaces(check_interface(interface), len(wanted))
    register, nursery = lan._register, lan._nursery()
    if name in register.nodes:
        raise NameTaken(f"a router or a guest named {name!r} is on the LAN already")
    nics = [name] if len(wanted) == 1 else nic_names(name, [str(each) for each in wanted])
    gateways = _share(lan, list(wanted), gateway)
    wires: list[_Wire] = []
    try:
        for nic, where, named, via in zip(nics, wanted, interfaces, gateways, strict=True):
            settings = {"gateway": via, "node": "" if nic == name else name, "forward": name if forward else False}
            if not wires:
                wires.append(
                    _join(lan, nic, "netns", wanted[where], where, buffer, named, nursery.netns, settings, leads=True)
                )
            else:
                first = wires[0].made
                assert first.namespace is not None

                def make(wiring: Wiring, first: Made = first) -> Made:
                    assert first.namespace is not None
                    return nursery.plug(wiring, first.namespace, first.user)

                wires.append(_join(lan, nic, "netns", wanted[where], where, buffer, named, make, settings))
        for wire in wires:
            wire.entry.space = _identity(wires[0].made.namespace)
        guest = Netns(lan, name, wires)
        _lead(lan, nursery, wires, register.routing.forwarding(name) if forward else None)
    except BaseException:
        for wire in wires:
            register.leave(wire.entry, wire.generation)
        raise
    return guest


def _interfaces(first: str, count: int) -> list[str]:
    """Names of so many interfaces: eth0, eth1 and so on."""
    stem = first.rstrip("0123456789")
    number = int(first[len(stem) :] or 0)
    return [first, *(check_interface(f"{stem}{number + more}") for more in range(1, count))]


def _share(lan: Lan, networks: Sequence[str | None], gateway: Gateway) -> list[Gateway]:
    """What of ``gateway`` each NIC of a guest is told: those addresses that are on its network.

    Raises:
        AddressOutside: an address is on none of them.
    """
    if gateway is None or gateway is False or len(networks) == 1:
        return [gateway] * len(networks)
    texts = [gateway] if isinstance(gateway, str) else list(gateway)
    shares: list[list[str]] = [[] for _ in networks]
    for text in texts:
        address = parse_address(text)
        found = [at for at, name in enumerate(networks) if lan._register.network(name).prefix_of(address) is not None]
        if not found:
            names = ", ".join(map(str, networks))
            raise AddressOutside(f"the gateway {address} is on none of the networks {names}")
        shares[found[0]].append(text)
    return [share or False for share in shares]


def _lead(lan: Lan, nursery: Nursery, wires: Sequence[_Wire], router: RouterNode | None) -> None:
    """Has the kernel of a namespace follow the LAN's gateways and, where it forwards, paths."""
    register, routing = lan._register, lan.routing
    made = wires[0].made
    routes = KernelRoutes(
        routing.model,
        [(wire.entry, wire.interface) for wire in wires],
        router,
        lambda gone, came: nursery.change_routes(made, gone, came),
    )
    with register.lock:
        routes.assume(wires[0].gateways)
        for wire in wires:
            routing.gateways.follow(wire.entry, routes.renew)
        if router is not None:
            routing.follow(router, routes.renew)
        routes.renew()


def make_plug(
    lan: Lan,
    name: str,
    where: int | str | os.PathLike[str],
    address: str | Sequence[str] | None,
    network: str | None,
    buffer: int | None,
    interface: str,
) -> Plug:
    """See :meth:`vnet.Lan.plug`."""
    check_interface(interface)
    nursery = lan._nursery()
    namespace = open_namespace(where)
    user = None
    try:
        user = owner(namespace)

        def make(wiring: Wiring) -> Made:
            return nursery.plug(wiring, namespace, user)

        wire = _join(lan, name, "plug", address, network, buffer, interface, make, {})
        wire.entry.space = _identity(namespace)
    finally:
        # From now on nothing of this process's keeps the namespace alive.
        os.close(namespace)
        if user is not None:
            os.close(user)
    return Plug(lan, name, [wire])


def _join(
    lan: Lan,
    name: str,
    kind: str,
    address: str | Sequence[str] | None,
    network: str | None,
    buffer: int | None,
    interface: str,
    make: Callable[[Wiring], Made],
    settings: dict[str, Any],
    *,
    leads: bool = False,
) -> _Wire:
    """Puts a NIC on the LAN and the interface that ``make`` makes behind it, with default routes if it ``leads``."""
    register = lan._register
    entry = register.join(name, kind, address, network, buffer, **settings)
    try:
        gateways = tuple(map(str, entry.gateways)) if leads else ()
        made = make(Wiring.of(entry, interface, gateways, bool(settings.get("forward"))))
        register.belongs(entry, made)
        lan._base.serve_tap(entry.slot, entry.generation, made.tap)
        made.close_tap()
    except OSError as error:
        register.leave(entry)
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise reasons.no_descriptors() from None
        raise
    except BaseException:
        register.leave(entry)
        raise
    return _Wire(entry, interface, made, entry.generation, gateways)


def _identity(namespace: int | None) -> tuple[int, int] | None:
    """By what a process in the namespace is known to be in it."""
    if namespace is None:
        return None
    found = os.fstat(namespace)
    return found.st_dev, found.st_ino


def _nsenter() -> str:
    path = shutil.which("nsenter") or shutil.which("nsenter", path="/usr/bin:/bin:/usr/sbin:/sbin")
    if path is None:
        raise MachineLacks("commands in namespaces need nsenter: `apt-get install util-linux` provides it")
    return path
