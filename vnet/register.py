"""The base's register: which networks and NICs are on a LAN, who holds them, and whose every address is."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from . import _native
from .errors import AddressError, AddressTaken, LanFull, NameTaken, NetworkFull, NicClosed
from .images.lan import Images, LanImages
from .network import Address, Network, link_local, parse_address
from .routing.gateways import Gateway, check_wish, parse_wish
from .routing.manager import Routing
from .runtime import check_name

if TYPE_CHECKING:
    from .routes import Routes
    from .sharing.broker import Broker

__all__ = ["LARGEST", "LARGEST_ON_TAP", "Belongings", "Entry", "NicInfo", "Register", "derive"]

# Largest IP datagram: the total length field of IPv4 (RFC 791 section 3.1).
LARGEST = 65_535
# Largest MTU that the kernel lets a TAP device have: MAX_MTU of tun.c, 65,535 less the Ethernet header.
LARGEST_ON_TAP = 65_521
# Kinds of guests that the base serves in its worker, and those of them that are Linux behind a TAP device.
_SERVED = frozenset({"host", "netns", "tap", "plug"})
_TAPS = frozenset({"netns", "tap", "plug"})
# Kinds that are somebody's address without a guest behind it, as well as Linux: they have a link-local one, too.
_LINK_LOCAL = _TAPS | {"router"}
# Kinds that get a default gateway without asking for one.
_LED = frozenset({"process", "host", "netns"})
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII)
# Smallest MTU: 68 bytes for IPv4 (RFC 791), 1,280 for IPv6 (RFC 8200 section 5).
_SMALLEST = {4: 68, 6: 1280}


@dataclass(frozen=True)
class NicInfo:
    """What the base knows of a NIC.

    Attributes:
        name: unique on the LAN.
        kind: ``process``, ``host``, ``netns``, ``tap``, ``plug`` or ``router``.
        network: the name of its network.
        addresses: its IP addresses, IPv4 first; the link-local one that Linux has besides comes last.
        mac: its MAC address.
        mtu: largest datagram in bytes of IP.
        state: ``up``, or ``down`` where nobody holds it: its guest died or has not attached yet.
        gateways: where what leads out of its network goes, IPv4 first; empty where it has no default gateway.
    """

    name: str
    kind: str
    network: str
    addresses: tuple[str, ...]
    mac: str
    mtu: int
    state: str
    gateways: tuple[str, ...] = ()


class Belongings(Protocol):
    """What the base has made for a NIC, and holds by descriptors or otherwise."""

    def release(self) -> None:
        """Lets go of it, because the NIC is off the LAN or the LAN has ended.  May be called twice; does not wait."""


@dataclass(eq=False)
class Entry:
    """A NIC in the register.

    ``addresses``: those of the network's prefixes, then the link-local one of a Linux guest.  ``reserved``: its place
    is kept when its guest leaves.  ``watch``: the number of the lease's watch, for a guest in another process.
    ``holders``: how many have held it so far.  ``belongings``: what ends with it.  ``node``: the guest or router that
    it is a NIC of.  ``gateways``: where what leads out of the network goes, and the slots of those NICs, 0 for none.
    ``pid``: the process that holds it, if that is another than the base.  ``space``: device and inode of the network
    namespace that its interface is in.
    """

    name: str
    kind: str
    network: Network
    addresses: tuple[Address, ...]
    mac: str
    mtu: int
    slot: int
    generation: int
    reserved: bool
    buffer: int
    token: int = 0
    watch: int | None = None
    holders: int = 0
    belongings: Belongings | None = None
    node: str = ""
    gateways: tuple[Address, ...] = ()
    gateway_slots: tuple[int, int] = (0, 0)
    pid: int = 0
    space: tuple[int, int] | None = None


class Register:
    """The networks and NICs of one LAN.

    A NIC keeps its register, but no NIC keeps its LAN: one that nobody holds any more ends, and sets ``closed`` here.

    Arguments:
        base: the native base.
        lan: the LAN's name, from which MAC addresses follow.
        buffer: bytes of the largest input buffer.
        images: what :class:`vnet.images.LanImages` is told.
    """

    def __init__(self, base: _native.Base, lan: str | None, buffer: int, images: Images = False) -> None:
        self.lock = threading.RLock()
        # Somebody came or went.
        self.changed = threading.Condition(self.lock)
        self.networks: dict[str, Network] = {}
        # How many prefixes of each family they have.
        self.families: Counter[int] = Counter()
        self.nics: dict[str, Entry] = {}
        # Names of guests and routers whose NICs are called otherwise, and how many those are.
        self.nodes: Counter[str] = Counter()
        self.closed = False
        self.images = LanImages(base, images)
        # The names of NICs by network and MAC address.
        self._macs: dict[tuple[int, str], str] = {}
        self._base = base
        self._lan = lan
        self._buffer = buffer
        # NICs whose guests died: their addresses answer nic_down until somebody needs them, the oldest first.
        self._dead: OrderedDict[str, None] = OrderedDict()
        # NICs of this process that were dropped without close(), with their generations.
        self._dropped: deque[tuple[Entry, int]] = deque()
        self.routing = Routing(self, base)
        self._outside: Routes | None = None
        # What its guests share; once somebody asks for it.
        self._broker: Broker | None = None

    @property
    def outside(self) -> Routes:
        """What lies behind the guests."""
        from .routes import Routes

        with self.lock:
            if self._outside is None:
                self._outside = Routes(self, self._base.routes())
            return self._outside

    @property
    def lan(self) -> str | None:
        """The LAN's name."""
        return self._lan

    @property
    def broker(self) -> Broker:
        """What serves the things that its guests share."""
        with self.lock:
            if self._broker is None:
                from .sharing.broker import Broker

                self._broker = Broker(self)
                if self.closed:
                    self._broker.close()
            return self._broker

    # Networks

    def add_network(self, name: str, prefixes: tuple[Any, ...], mtu: int) -> Network:
        """Adds a network; errors as of :meth:`vnet.Lan.add_network`."""
        least = max(_SMALLEST[prefix.version] for prefix in prefixes)
        if not least <= mtu <= LARGEST:
            raise ValueError(f"the MTU of network {name!r} is {least} to {LARGEST} bytes, not {mtu}")
        with self.lock:
            if name in self.networks:
                raise NameTaken(f"a network named {name!r} is there already")
            for prefix in prefixes:
                taken = self.routing.spaces.overlapping(prefix)
                if taken is not None:
                    raise AddressError(f"network {name!r} overlaps {taken[0]} of {taken[1]}")
            by_version = {prefix.version: (str(prefix.network_address), prefix.prefixlen) for prefix in prefixes}
            number = self._base.add_network(by_version.get(4), by_version.get(6), mtu)
            network = self.networks[name] = Network(name, prefixes, mtu, number)
            for prefix in prefixes:
                self.routing.spaces.claim(prefix, f"network {name!r}")
                self.families[prefix.version] += 1
            return network

    def network(self, name: str | None) -> Network:
        """Returns the network of that name; ``None`` names the only one.

        Raises:
            ValueError: there is none, or there are several.
        """
        if name is None:
            if len(self.networks) == 1:
                return next(iter(self.networks.values()))
            known = ", ".join(self.networks) or "none"
            raise ValueError(f"name the network: this LAN has {len(self.networks)} ({known})")
        try:
            return self.networks[name]
        except KeyError:
            raise ValueError(f"no network named {name!r}; there are {', '.join(self.networks) or 'none'}") from None

    def remove_network(self, name: str) -> None:
        """Removes a network without NICs; its number is not given out again.

        Raises:
            ValueError: there is no such network, or NICs are on it.
        """
        with self.lock:
            network = self.network(name)
            while self._reap(network):
                pass
            held = next((entry.name for entry in self.nics.values() if entry.network is network), None)
            if held is not None:
                raise ValueError(f"network {name!r} cannot be removed: NIC {held!r} is on it")
            del self.networks[name]
            for prefix in network.prefixes:
                self.routing.spaces.give_back(prefix)
                self.families[prefix.version] -= 1
            self.families += Counter()

    # NICs

    def info(self, entry: Entry) -> NicInfo:
        """What others are told of a NIC."""
        return NicInfo(
            name=entry.name,
            kind=entry.kind,
            network=entry.network.name,
            addresses=tuple(map(str, entry.addresses)),
            mac=entry.mac,
            mtu=entry.mtu,
            state="up" if self.is_up(entry) else "down",
            gateways=tuple(map(str, entry.gateways)),
        )

    def is_up(self, entry: Entry) -> bool:
        """Whether somebody holds the NIC."""
        return self._base.is_up(entry.slot, entry.generation)

    def join(
        self,
        name: str,
        kind: str,
        address: str | Sequence[str] | None,
        network: str | None,
        buffer: int | None,
        *,
        reserve: bool = False,
        mac: str | None = None,
        bridges: bool = False,
        gateway: Gateway = None,
        forward: bool | str = False,
        node: str = "",
        port: int = 0,
    ) -> Entry:
        """Puts a NIC on the LAN, or takes the place that was kept for it; errors as of :meth:`vnet.Lan.attach`.

        Arguments:
            reserve: keep the place for a guest that comes later.
            mac: its MAC address; ``None`` for one that follows from LAN and name.
            bridges: others are behind it, so it may be without addresses, and has no link-local one that follows from
                its MAC address: the bridge has that.
            forward: it is a NIC of a router: that of its own name, or that of another, which several NICs make.
            node: the guest or router that it is a NIC of, where that has another name.
            port: that of a simulated router which it is: its number in the plan plus one.
        """
        check_name("NIC", name)
        with self.changed:
            self.bury_dropped()
            held = self.nics.get(name)
            if held is not None:
                if self.is_up(held):
                    raise NameTaken(f"a NIC named {name!r} is on the LAN already")
                if held.reserved and not reserve and kind == "process":
                    return self._claim(held, address, gateway)
                if held.reserved:
                    raise NameTaken(f"the name {name!r} is kept for a guest that attaches later")
                self._forget(held)
            self._check_node(name, kind, node or (forward if isinstance(forward, str) else ""))
            node = node or (forward if isinstance(forward, str) else name)
            where = self.network(network)
            wish = parse_wish(where, gateway if kind in _LED else gateway or False)
            if buffer is not None and not 1 <= buffer <= self._buffer:
                raise ValueError(f"buffer is 1 to {self._buffer} bytes, the LAN's largest, not {buffer}")
            number = self._mac(where, name, mac)
            addresses: tuple[Address, ...] = ()
            if address is None or address or not bridges:
                addresses = self._addresses(where, address, lowest=bool(port))
            # A namespace's gateway may be whoever has the address later: its kernel asks.
            check_wish(where, wish, addresses, somebody=kind != "netns")
            if kind in _LINK_LOCAL and not bridges:
                addresses += self._link_local(where, number)
            entry = self._add(name, kind, where, addresses, number, buffer or self._buffer, reserve, bridges, port)
            entry.node = node
            if node != name:
                self.nodes[node] += 1
            self.routing.joined(entry, wish, forward)
            self.changed.notify_all()
            return entry

    def _check_node(self, name: str, kind: str, node: str) -> None:
        """Refuses names of a NIC and of what it is a NIC of that others have."""
        if kind == "router":
            # Whoever makes routers has looked.
            return
        if name in self.routing.routers or (name in self.nodes and node != name):
            raise NameTaken(f"a router or a guest named {name!r} is on the LAN already")
        if node not in ("", name) and node not in self.nodes and self.routing.forwarding(node) is None:
            self.routing.check_free("guest", check_name("guest", node))

    def _claim(self, entry: Entry, address: str | Sequence[str] | None, gateway: Gateway) -> Entry:
        asked = [] if address is None else [address] if isinstance(address, str) else list(address)
        if any(parse_address(each) not in entry.addresses for each in asked):
            own = ", ".join(map(str, entry.addresses))
            raise AddressError(f"NIC {entry.name!r} has the addresses {own}, not {', '.join(asked)}")
        if gateway is not None:
            self.set_gateway(entry.name, gateway)
        entry.generation = self._base.hold(entry.slot)
        entry.token = self._base.new_token()
        entry.holders += 1
        self.changed.notify_all()
        return entry

    def set_gateway(self, name: str, gateway: Gateway) -> None:
        """Gives a guest another default gateway; errors as of :meth:`vnet.Lan.set_gateway`."""
        with self.lock:
            entry = self.nics[name]
            wish = parse_wish(entry.network, gateway)
            check_wish(entry.network, wish, entry.addresses, somebody=entry.kind != "netns")
            self.routing.set_gateway(entry, wish)

    def _addresses(
        self, network: Network, address: str | Sequence[str] | None, *, lowest: bool = False
    ) -> tuple[Address, ...]:
        if address is None:
            while True:
                try:
                    return tuple(network.free_addresses(lowest=lowest))
                except NetworkFull:
                    if not self._reap(network):
                        raise
        asked = [address] if isinstance(address, str) else list(address)
        if not asked:
            raise AddressError("a NIC has at least one address")
        for text in asked:
            # A dead guest's addresses are free for the asking.
            owner = self.nics.get(network.owner(parse_address(text)) or "")
            if owner is not None and self._is_dead(owner):
                self._forget(owner)
        found = tuple(sorted((network.check(text) for text in asked), key=lambda each: each.version))
        if len(set(found)) < len(found):
            raise AddressError(f"an address is given twice: {', '.join(asked)}")
        return found

    def _link_local(self, network: Network, mac: int) -> tuple[Address, ...]:
        """The address that Linux has on the network by itself, if the network has IPv6."""
        if all(prefix.version != 6 for prefix in network.prefixes):
            return ()
        address = link_local(mac)
        owner = self.nics.get(network.owner(address) or "")
        if owner is not None:
            if not self._is_dead(owner):
                raise AddressTaken(f"{address} belongs to NIC {owner.name!r}")
            self._forget(owner)
        return (address,)

    def own_mac(self, name: str) -> int:
        """The MAC address that follows from LAN and name, as a number: locally administered, of no group."""
        return 0x02 << 40 | derive(f"{self._lan}/{name}", 5)

    def _mac(self, network: Network, name: str, given: str | None) -> int:
        """The MAC address of a NIC that joins, as a number."""
        number = self.own_mac(name)
        if given is not None:
            text = given.lower() if isinstance(given, str) else ""
            if not _MAC.fullmatch(text):
                raise ValueError(f"{given!r} is not a MAC address such as 02:00:00:00:00:01")
            number = int(text.replace(":", ""), 16)
            # The group bit: IEEE 802-2014 section 8.2.2.
            if number == 0 or number >> 40 & 1:
                raise ValueError(f"{given} cannot be a NIC's MAC address: it is zero or that of a group")
        owner = self.nics.get(self._macs.get((network._number, _mac_text(number)), ""))
        if owner is not None:
            if not self._is_dead(owner):
                raise AddressTaken(f"the MAC address {owner.mac} belongs to NIC {owner.name!r}")
            self._forget(owner)
        return number

    def _add(
        self,
        name: str,
        kind: str,
        network: Network,
        addresses: tuple[Address, ...],
        mac: int,
        buffer: int,
        reserve: bool,
        bridges: bool,
        port: int,
    ) -> Entry:
        texts = list(map(str, addresses))
        served = kind in _SERVED
        mtu = min(network.mtu, LARGEST_ON_TAP) if kind in _TAPS else network.mtu
        more = {"port": port} if port else {}
        while True:
            try:
                slot, generation = self._base.add_nic(
                    name, network._number, texts, mac, mtu, buffer, served, not reserve, bridges=bridges, **more
                )
                break
            except LanFull:
                if not self._reap(None):
                    raise
        entry = Entry(
            name=name,
            kind=kind,
            network=network,
            addresses=addresses,
            mac=_mac_text(mac),
            mtu=mtu,
            slot=slot,
            generation=generation,
            reserved=reserve,
            buffer=buffer,
            token=self._base.new_token(),
            holders=0 if reserve else 1,
        )
        network.take(addresses, name)
        self._macs[network._number, entry.mac] = name
        self.nics[name] = entry
        return entry

    def belongs(self, entry: Entry, belongings: Belongings) -> None:
        """Has ``belongings`` let go of when the NIC leaves the LAN, however it does.

        Raises:
            NicClosed: it has left already, and so have they.
        """
        with self.lock:
            if not self.closed and self.nics.get(entry.name) is entry:
                entry.belongings = belongings
                return
        belongings.release()
        raise NicClosed(f"the NIC {entry.name!r} was taken off the LAN while it was made")

    def bury(self, entry: Entry, generation: int) -> None:
        """Notes that the holder of a NIC has gone without leaving; its addresses stay its own for now."""
        with self.changed:
            # By identity: a later NIC of the same name may have come to the same generation in another slot.
            if self.nics.get(entry.name) is not entry or entry.generation != generation:
                return
            self._base.take_down(entry.slot, entry.generation)
            entry.watch = None
            self._left(entry)
            if not entry.reserved:
                self._dead[entry.name] = None
                while len(self._dead) > 64:
                    self._reap(None)
            self.changed.notify_all()

    def drop(self, entry: Entry, generation: int) -> None:
        """A NIC of this process was dropped without close().  Runs wherever the collector runs, so it takes no lock."""
        if not self.closed:
            self._base.take_down(entry.slot, generation)
            self._dropped.append((entry, generation))

    def bury_dropped(self) -> None:
        while self._dropped:
            self.bury(*self._dropped.popleft())

    def _is_dead(self, entry: Entry) -> bool:
        return not entry.reserved and not self.is_up(entry)

    def _reap(self, network: Network | None) -> bool:
        """Forgets the oldest dead NIC, of ``network`` if given.  Returns whether there was one."""
        # The undertaker may know of a death that the control socket has not told of yet.
        for name, entry in self.nics.items():
            if name not in self._dead and self._is_dead(entry):
                self._dead[name] = None
        for name in self._dead:
            entry = self.nics[name]
            if network is None or entry.network is network:
                self._forget(entry)
                return True
        return False

    def _forget(self, entry: Entry) -> None:
        """Takes a NIC off the LAN, addresses and all."""
        self._base.remove(entry.slot, entry.generation)
        entry.network.give_back(entry.addresses)
        self._macs.pop((entry.network._number, entry.mac), None)
        self.nics.pop(entry.name, None)
        self._dead.pop(entry.name, None)
        if entry.node != entry.name:
            self.nodes[entry.node] -= 1
            self.nodes += Counter()
        self.routing.left(entry)
        self._left(entry)
        if entry.belongings is not None:
            entry.belongings.release()

    def _left(self, entry: Entry) -> None:
        """Whoever held the NIC has what guests share no longer."""
        entry.pid = 0
        if self._broker is not None:
            self._broker.left(entry)

    def leave(self, entry: Entry, generation: int | None = None) -> None:
        """The holder of a NIC lets go of it in good order."""
        if self.closed:
            return
        with self.changed:
            if self.nics.get(entry.name) is not entry or entry.generation != (generation or entry.generation):
                return
            if entry.watch is not None:
                self._base.forget(entry.watch)
                entry.watch = None
            if entry.reserved:
                self._base.take_down(entry.slot, entry.generation)
                self._left(entry)
            else:
                self._forget(entry)
            self.changed.notify_all()

    def release_all(self) -> None:
        """Lets go of what belongs to NICs, and of what their guests share, once the LAN has ended."""
        with self.lock:
            if self._broker is not None:
                self._broker.close()
            for entry in self.nics.values():
                if entry.belongings is not None:
                    entry.belongings.release()

    def withdraw(self, name: str) -> bool:
        """Takes a NIC, or all NICs of a guest, off the LAN, whoever holds them, with places that were kept.

        Returns whether there was one.
        """
        with self.changed:
            several = name in self.nodes and name not in self.nics
            one = [self.nics[name]] if name in self.nics else []
            found = [entry for entry in self.nics.values() if entry.node == name] if several else one
            with self.routing.batch():
                for entry in found:
                    if entry.watch is not None:
                        self._base.forget(entry.watch)
                        entry.watch = None
                    self._forget(entry)
            self.changed.notify_all()
            return bool(found)


def _mac_text(mac: int) -> str:
    return ":".join(f"{octet:02x}" for octet in mac.to_bytes(6, "big"))


def derive(text: str, size: int) -> int:
    """A number of ``size`` bytes that follows from ``text``: stable from run to run."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=size).digest(), "big")
