"""NICs as interfaces of scapy.

Most of it is scapy's own plug: a provider of interfaces, each of which names its sockets.  The rest, in :func:`_graft`,
is what scapy 2.8 does for the machine's interfaces outside of that plug: it finds sources and ways by the machine's
routes, which know nothing of a LAN, and must not.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import scapy.arch
import scapy.route
import scapy.route6
from scapy import sendrecv
from scapy.ansmachine import AnsweringMachine
from scapy.config import conf
from scapy.data import ARPHRD_NONE, DLT_EN10MB
from scapy.interfaces import InterfaceProvider, NetworkInterface, NetworkInterfaceDict
from scapy.sendrecv import AsyncSniffer
from scapy.utils6 import in6_getscope

from .errors import MachineLacks, NicClosed, VnetError
from .nic import Nic
from .scapy_packet import Completed
from .scapy_socket import Hub, NicListenSocket, NicSocket

__all__ = ["NicInterface", "NicProvider", "register"]

# IFF_UP, IFF_BROADCAST, IFF_RUNNING, IFF_MULTICAST: netdevice(7).
_FLAGS = 0x1 | 0x2 | 0x40 | 0x1000

# Clear of the kernel's interface indexes, which count from 1.
_FIRST_INDEX = 1 << 30

_LOOPBACK = re.compile(r"127\.|::1$")


def register(nics: Iterable[Nic]) -> None:
    """Makes NICs interfaces of scapy; those that are closed already are passed over.

    Raises:
        MachineLacks: this scapy gives ``sr`` and ``send`` no ``iface=``.
    """
    provider = _provider()
    for nic in nics:
        with contextlib.suppress(VnetError):
            nic.check()
            provider.add(nic)


def _provider() -> NicProvider:
    provider: NicProvider | None = conf.ifaces.providers.get(NicProvider)
    if provider is None:
        if "iface" not in inspect.signature(sendrecv._interface_selection).parameters:
            raise MachineLacks(f"scapy {conf.version} cannot choose an interface for IP: pip install 'scapy>=2.8'")
        conf.ifaces.register_provider(NicProvider)
        provider = conf.ifaces.providers[NicProvider]
        _graft(provider)
    return provider


class _Name(str):
    """The name of an interface, which equals the NIC as well.

    scapy looks an interface up by comparing names with what it was given, so this is what lets ``iface=`` take a NIC.
    A name that scapy carries along still means its own NIC when another of that name has come.
    """

    interface: NicInterface

    def __new__(cls, text: str, interface: NicInterface) -> _Name:
        name = super().__new__(cls, text)
        name.interface = interface
        return name

    def __eq__(self, other: object) -> bool:
        if isinstance(other, _Name):
            return self.interface is other.interface
        if isinstance(other, Nic):
            return self.interface.is_of(other)
        return str.__eq__(self, other) if isinstance(other, str) else NotImplemented

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (str(self),)


class NicInterface(NetworkInterface):  # type: ignore[misc]
    """A NIC, as scapy sees it.

    Attributes:
        nic_name: the NIC's own name; ``name`` differs from it while a later NIC has the name.
        sources: its first address of each IP version, and the unspecified address where it has none.
        hub: what its sockets share.
    """

    def __init__(self, provider: NicProvider, nic: Nic, index: int) -> None:
        super().__init__(provider)
        self.nic_name = nic.name
        self.lan = nic.lan
        self.hub = Hub()
        self._nic = weakref.ref(nic)
        self.update({"index": index, "type": ARPHRD_NONE, "mac": nic.mac, "flags": _FLAGS, "ips": list(nic.addresses)})
        self.sources: Mapping[int, str] = MappingProxyType(
            {4: next(iter(self.ips[4]), "0.0.0.0"), 6: next(iter(self.ips[6]), "::")}
        )
        self.rename(nic.name)

    def rename(self, name: str) -> None:
        self.name = self.description = self.network_name = _Name(name, self)

    @property
    def nic(self) -> Nic:
        """The NIC.  Raises NicClosed when it is no more."""
        nic = self._nic()
        if nic is None:
            raise NicClosed(f"NIC {self.nic_name!r} is closed")
        return nic

    @property
    def up(self) -> bool:
        """Whether the NIC can be used."""
        try:
            self.nic.check()
        except VnetError:
            return False
        return True

    def is_of(self, nic: Nic) -> bool:
        return self._nic() is nic

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, (str, Nic)) and self.name == other)

    def __hash__(self) -> int:
        return hash(self.nic_name)

    def __repr__(self) -> str:
        return f"<NicInterface {self.name} {' '.join(self.ips[4] + self.ips[6])} on {self.lan or 'a private LAN'}>"


class NicProvider(InterfaceProvider):  # type: ignore[misc]
    """Keeps scapy's list of NICs.

    Names decide: of two NICs of one name the later has it, and the earlier is ``NAME@LAN`` meanwhile; an interface of
    the machine is out of scapy's sight while a NIC has its name.
    """

    name = "vnet"

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._interfaces: dict[str, NicInterface] = {}
        self._displaced: dict[str, Any] = {}
        self._index = _FIRST_INDEX

    # What scapy asks

    def load(self) -> dict[str, Any]:
        """Puts the NICs first into scapy's list, which it has just filled with the machine's interfaces."""
        with self._lock:
            for interface in list(self._interfaces.values()):
                if not interface.up:
                    self.remove(interface)
            machine = {name: each for name, each in conf.ifaces.data.items() if not isinstance(each, NicInterface)}
            self._displaced = {name: machine.pop(name) for name in list(machine) if name in self._interfaces}
            conf.ifaces.data.clear()
            conf.ifaces.data.update(self._interfaces)
            conf.ifaces.data.update(machine)
        # Nothing is left for scapy to add.
        return {}

    def _l2socket(self, dev: NicInterface) -> type[NicSocket]:
        return NicSocket

    def _l2listen(self, dev: NicInterface) -> type[NicSocket]:
        return NicListenSocket

    def _l3socket(self, dev: NicInterface, ipv6: bool) -> type[NicSocket]:
        return NicSocket

    def _is_valid(self, dev: NicInterface) -> bool:
        return dev.up

    # What NICs do

    def add(self, nic: Nic) -> None:
        with self._lock:
            index = self._index = self._index + 1
            with contextlib.suppress(ValueError):
                # scapy takes whatever reads as a number for an index first.
                index = int(nic.name)
            interface = NicInterface(self, nic, index)
            earlier = self._interfaces.pop(nic.name, None)
            if earlier is not None:
                self._forget(nic.name)
                if earlier.up:
                    self._insert(self._alias(earlier), earlier)
            self._insert(nic.name, interface)
            if index < _FIRST_INDEX:
                self.load()
        weakref.finalize(nic, self.remove, interface).atexit = False
        leave = nic._leave

        def leave_scapy_too() -> None:
            self.remove(interface)
            leave()

        nic._leave = leave_scapy_too

    def remove(self, interface: NicInterface) -> None:
        with self._lock:
            if self._interfaces.get(interface.name) is not interface:
                return
            self._forget(str(interface.name))
            heirs = [each for each in list(self._interfaces.values()) if each.nic_name == interface.nic_name]
            if heirs and interface.name == interface.nic_name:
                self._forget(str(heirs[-1].name))
                self._insert(interface.nic_name, heirs[-1])

    def find(self, wanted: Any) -> NicInterface | None:
        """The interface that scapy or its user means: by name, by NIC, or as it stands.

        Raises NicClosed for a NIC that is none any more: what is meant for it must not go elsewhere.
        """
        if isinstance(wanted, NicInterface):
            return wanted
        if isinstance(wanted, _Name):
            return wanted.interface
        if isinstance(wanted, Nic):
            with self._lock:
                for interface in list(self._interfaces.values()):
                    if interface.is_of(wanted):
                        return interface
            raise NicClosed(f"NIC {wanted.name!r} is closed")
        return self._interfaces.get(wanted) if isinstance(wanted, str) else None

    def _insert(self, name: str, interface: NicInterface) -> None:
        interface.rename(name)
        self._interfaces[name] = interface
        there = conf.ifaces.data.get(name)
        if there is not None and not isinstance(there, NicInterface):
            self._displaced[name] = there
        conf.ifaces.data[name] = interface

    def _forget(self, name: str) -> None:
        self._interfaces.pop(name, None)
        conf.ifaces.data.pop(name, None)
        if name in self._displaced:
            conf.ifaces.data[name] = self._displaced.pop(name)

    def _alias(self, interface: NicInterface) -> str:
        alias = f"{interface.nic_name}@{interface.lan or 'private'}"
        while alias in self._interfaces:
            alias += "'"
        return alias

    def in6_addresses(self) -> list[tuple[str, int, str]]:
        with self._lock:
            return [(ip, in6_getscope(ip), each.name) for each in list(self._interfaces.values()) for ip in each.ips[6]]


class _OrderlySniffer(AsyncSniffer):  # type: ignore[misc]
    """A sniffer that one thread may stop while it ends in another.

    In scapy 2.8 the sending thread of ``sr`` can write into the receiving thread's pipe after that was closed, where an
    answer is quick; and on a LAN in memory it is.
    """

    _ending: Any

    @property
    def running(self) -> bool:
        return bool(self.__dict__["running"])

    @running.setter
    def running(self, running: bool) -> None:
        # After this the pipe is closed.
        with self._ending:
            self.__dict__["running"] = running

    def stop(self, join: bool = True) -> Any:
        with self._ending:
            return super().stop(join=False) if self.running else None


def _graft(provider: NicProvider) -> None:
    """Teaches scapy what its plug for interfaces leaves out."""

    def default() -> NicInterface | None:
        return provider.find(conf.iface) if isinstance(conf.iface, (Nic, NicInterface)) else None

    # Layer 3. scapy writes iface= into the packet's destination, which fails for lists of packets and of destinations.
    select = sendrecv._interface_selection

    @functools.wraps(select)
    def select_nic(packet: Any, iface: Any = None) -> Any:
        if iface is None:
            # srflood takes iface= and, in 2.8, does not pass it on: the flood would leave the machine.
            caller = sys._getframe(1)
            iface = caller.f_locals.get("iface") if caller.f_code.co_name == "srflood" else None
        interface = provider.find(iface)
        return select(packet, iface) if interface is None else (interface, False)

    sendrecv._interface_selection = select_nic

    # Answers are known by the source that the question had, so a question is completed before scapy takes it down.
    class Handler(sendrecv.SndRcvHandler):  # type: ignore[misc]
        def __init__(self, pks: Any, pkt: Any, *args: Any, **kwargs: Any) -> None:
            super().__init__(pks, Completed(pkt, pks.sources) if isinstance(pks, NicSocket) else pkt, *args, **kwargs)

        @property
        def sniffer(self) -> Any:
            return self._sniffer

        @sniffer.setter
        def sniffer(self, sniffer: Any) -> None:
            self._sniffer = sniffer
            if isinstance(self.rcv_pks, NicSocket) and type(sniffer) is AsyncSniffer:
                sniffer._ending = threading.RLock()
                sniffer.__class__ = _OrderlySniffer

    sendrecv.SndRcvHandler = Handler

    # Routes: by conf.iface where it is a NIC, and for a destination such as "10.0.0.2%a". Never to lo, which is where
    # scapy sends what goes to an interface's own address.
    def routed(route: Callable[..., Any], version: int, gateway: str) -> Callable[..., Any]:
        @functools.wraps(route)
        def route_nic(self: Any, dst: Any = None, dev: Any = None, *args: Any, **kwargs: Any) -> Any:
            interface = provider.find(dev)
            if dev is None and not _LOOPBACK.match(str(dst)):
                interface = default()
            if interface is None:
                return route(self, dst, dev, *args, **kwargs)
            return interface.network_name, interface.sources[version], gateway

        return route_nic

    scapy.route.Route.route = routed(scapy.route.Route.route, 4, "0.0.0.0")
    scapy.route6.Route6.route = routed(scapy.route6.Route6.route, 6, "::")

    # scapy chooses conf.iface anew whenever it did not find an interface. A NIC was chosen by the user, and what is
    # meant for it must not go to the machine's network when it is closed.
    load_confiface = NetworkInterfaceDict.load_confiface

    @functools.wraps(load_confiface)
    def keep_confiface(self: Any) -> None:
        if not isinstance(conf.iface, (Nic, NicInterface)):
            load_confiface(self)

    NetworkInterfaceDict.load_confiface = keep_confiface

    # get_if_addr6() asks the kernel.
    in6_getifaddr = scapy.arch.in6_getifaddr

    @functools.wraps(in6_getifaddr)
    def in6_getifaddr_of_all() -> Any:
        return in6_getifaddr() + provider.in6_addresses()

    scapy.arch.in6_getifaddr = in6_getifaddr_of_all

    # Several of scapy's own answering machines take a frame's header for granted.
    reply = AnsweringMachine.reply

    @functools.wraps(reply)
    def reply_to_frame(self: Any, pkt: Any, *args: Any, **kwargs: Any) -> None:
        interface = provider.find(pkt.sniffed_on) if type(self).make_reply.__module__.startswith("scapy.") else None
        if interface is not None and type(pkt) in conf.l3types.layer2num:
            pkt = conf.l2types[DLT_EN10MB](src="00:00:00:00:00:00", dst=interface.mac) / pkt
        reply(self, pkt, *args, **kwargs)

    AnsweringMachine.reply = reply_to_frame
