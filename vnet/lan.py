"""A LAN, and its base in this process."""

from __future__ import annotations

import functools
import hashlib
import os
import secrets
import threading
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Any, NoReturn

from . import _native
from .calls import Handler
from .capture import Capture
from .control import ControlServer
from .ending import Keeper, living, shut_down
from .errors import AddressError, CaptureError, ForkedNic, LanClosed, LanFull, MachineLacks, NameTaken, NetworkFull
from .hosts import Host
from .network import Address, Network, parse_address, parse_prefixes
from .nic import Nic
from .runtime import Guardian, check_name, claim_socket, release_socket
from .serving import serve_all
from .statistics import LanStatistics, read_statistics
from .verdict import Verdict

__all__ = ["Lan", "NicInfo"]

# Largest IP datagram: the total length field of IPv4 (RFC 791 section 3.1).
_LARGEST = 65_535
# Smallest MTU: 68 bytes for IPv4 (RFC 791), 1,280 for IPv6 (RFC 8200 section 5).
_SMALLEST = {4: 68, 6: 1280}


@dataclass(frozen=True)
class NicInfo:
    """What the base knows of a NIC.

    Attributes:
        name: unique on the LAN.
        kind: ``process`` or ``host``.
        network: the name of its network.
        addresses: its IP addresses, IPv4 first.
        mac: its MAC address.
        mtu: largest datagram in bytes of IP.
        state: ``up``, or ``down`` where nobody holds it: its guest died or has not attached yet.
    """

    name: str
    kind: str
    network: str
    addresses: tuple[str, ...]
    mac: str
    mtu: int
    state: str


@dataclass
class _Entry:
    """A NIC in the base's books."""

    name: str
    kind: str
    network: Network
    addresses: tuple[Address, ...]
    mac: str
    slot: int
    generation: int
    reserved: bool
    buffer: int
    token: int = 0
    watch: int | None = None


class Lan:
    """One LAN: a base in this process, its networks and its NICs.

    With a name, other processes of the user find it and attach; without one it is private to this process.  A context
    manager; :meth:`close` may be called twice.  No root is needed and nothing is left behind, however the process ends.

    Arguments:
        name: letters, digits, ``.``, ``_`` and ``-``; or ``None``.
        prefix: the first network's prefix, such as ``"10.0.0.0/24"``, or one of each family.  Without it the LAN has no
            network until :meth:`add_network`.
        mtu: the first network's largest datagram in bytes of IP.
        seed: what the built-in hosts' choices follow from.
        max_nics: how many NICs the LAN can have at one time, 1 to 65,533.
        buffer: largest input buffer of a NIC, in bytes; address space, which becomes memory as it fills.

    Raises:
        NameTaken: a live LAN has the name.
        AddressError: the prefix is wrong.
        NotPermitted: the runtime directory is another user's.
        MachineLacks: the machine has no address space for the input buffers.
    """

    def __init__(
        self,
        name: str | None = None,
        prefix: str | Sequence[str] | None = None,
        *,
        mtu: int = _LARGEST,
        seed: int = 0,
        max_nics: int = 4096,
        buffer: int = 4 << 20,
    ) -> None:
        if name is not None:
            check_name("LAN", name)
        if not 1 <= max_nics <= 65_533:
            raise ValueError(f"max_nics is 1 to 65,533, not {max_nics}")
        if not 256 << 10 <= buffer <= 1 << 30:
            raise ValueError(f"buffer is 256 KiB to 1 GiB, not {buffer} bytes")
        self.name = name
        self.seed = seed
        self._buffer = buffer
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._networks: dict[str, Network] = {}
        self._nics: dict[str, _Entry] = {}
        # NICs whose guests died: their addresses answer nic_down until somebody needs them, the oldest first.
        self._dead: OrderedDict[str, None] = OrderedDict()
        # NICs of this process that were dropped without close(), with their generations.
        self._dropped: deque[tuple[str, int]] = deque()
        self._changed = threading.Condition(self._lock)
        self._capture: Capture | None = None
        self._handlers: dict[str, Handler] = {}
        self._about: dict[str, Any] = {"kind": "program", "since": time.time()}
        # Before anything that would have to be undone.
        prefixes = None if prefix is None else parse_prefixes(prefix)
        try:
            base = _native.Base(name or "private", max_nics, buffer, secrets.randbits(64))
        except OSError as error:
            size = (max_nics + 1) * buffer / 2**30
            raise MachineLacks(
                f"{error}; {max_nics} NICs with input buffers of {buffer >> 10} KiB take {size:.1f} GiB of address "
                "space: raise `ulimit -v`, or make max_nics or buffer smaller"
            ) from None
        self._base = base
        self._segment = base.segment()
        self._server: ControlServer | None = None
        self._guardian: Guardian | None = None
        if prefixes is not None:
            self._add_network("lan", prefixes, mtu)
        if name is not None:
            listener, path = claim_socket(name)
            serve_all(self)
            try:
                self._guardian = Guardian(path)
                self._server = ControlServer(self, listener, path)
            except BaseException:
                listener.close()
                release_socket(path)
                if self._guardian is not None:
                    self._guardian.dismiss()
                raise
        self._keeper = Keeper(self._guardian)
        self._finalizer = weakref.finalize(self, shut_down, base, self._server, self._keeper, os.getpid())
        living().add(self)

    def __repr__(self) -> str:
        state = "" if self._finalizer.alive else ", closed"
        return f"<Lan {self.name or '(private)'}: {len(self._nics)} NICs{state}>"

    def __enter__(self) -> Lan:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a LAN cannot be pickled: pass its name and call vnet.attach() in the other process")

    @property
    def closed(self) -> bool:
        """Whether the LAN has ended."""
        return not self._finalizer.alive

    def _check(self) -> None:
        if os.getpid() != self._pid:
            raise ForkedNic("this LAN belongs to the parent process; attach to it by name after fork()")
        if self.closed:
            raise LanClosed(f"the LAN {self.name!r} is closed" if self.name else "this LAN is closed")

    # Networks

    @property
    def networks(self) -> Mapping[str, Network]:
        """The networks by name."""
        return MappingProxyType(self._networks)

    def add_network(self, name: str, prefix: str | Sequence[str], *, mtu: int = _LARGEST) -> Network:
        """Adds a network: a broadcast domain with an IPv4 prefix, an IPv6 prefix or both.

        Raises:
            NameTaken: a network has the name.
            AddressError: a prefix is wrong or overlaps that of another network.
            ValueError: the MTU is too small for the family (68 bytes for IPv4, 1,280 for IPv6) or over 65,535.
        """
        self._check()
        return self._add_network(check_name("network", name), parse_prefixes(prefix), mtu)

    def _add_network(self, name: str, prefixes: tuple[Any, ...], mtu: int) -> Network:
        least = max(_SMALLEST[prefix.version] for prefix in prefixes)
        if not least <= mtu <= _LARGEST:
            raise ValueError(f"the MTU of network {name!r} is {least} to {_LARGEST} bytes, not {mtu}")
        with self._lock:
            if name in self._networks:
                raise NameTaken(f"a network named {name!r} is there already")
            for network in self._networks.values():
                for own in network.prefixes:
                    if any(own.version == prefix.version and own.overlaps(prefix) for prefix in prefixes):
                        raise AddressError(f"network {name!r} overlaps {own} of network {network.name!r}")
            by_version = {prefix.version: (str(prefix.network_address), prefix.prefixlen) for prefix in prefixes}
            number = self._base.add_network(by_version.get(4), by_version.get(6), mtu)
            network = self._networks[name] = Network(name, prefixes, mtu, number)
            return network

    def _network(self, name: str | None) -> Network:
        if name is None:
            if len(self._networks) == 1:
                return next(iter(self._networks.values()))
            known = ", ".join(self._networks) or "none"
            raise ValueError(f"name the network: this LAN has {len(self._networks)} ({known})")
        try:
            return self._networks[name]
        except KeyError:
            raise ValueError(f"no network named {name!r}; there are {', '.join(self._networks) or 'none'}") from None

    # NICs

    @property
    def nics(self) -> Mapping[str, NicInfo]:
        """What the base knows of each NIC, by name, in the order in which they came."""
        with self._lock:
            self._bury_dropped()
            return MappingProxyType({name: self._info(entry) for name, entry in self._nics.items()})

    def _info(self, entry: _Entry) -> NicInfo:
        return NicInfo(
            name=entry.name,
            kind=entry.kind,
            network=entry.network.name,
            addresses=tuple(map(str, entry.addresses)),
            mac=entry.mac,
            mtu=entry.network.mtu,
            state="up" if self._base.is_up(entry.slot, entry.generation) else "down",
        )

    def attach(
        self,
        name: str,
        address: str | Sequence[str] | None = None,
        *,
        network: str | None = None,
        buffer: int | None = None,
    ) -> Nic:
        """Plugs a NIC into the LAN and returns it, for use in this process.

        Arguments:
            name: unique on the LAN; or that of a place that :meth:`reserve` made.
            address: an IP address or several; ``None`` takes the next free one of each prefix.
            network: the name of its network; not needed where there is one.
            buffer: bytes of its input buffer, rounded up to a power of two; ``None`` for the LAN's largest.

        Raises:
            NameTaken, AddressTaken, AddressOutside, NetworkFull, LanFull, LanClosed.
        """
        entry = self._join(name, "process", address, network, buffer)
        leave = functools.partial(self._leave, weakref.ref(self), entry)
        try:
            info = self._info(entry)
            nic = Nic._make(
                self._segment,
                entry.slot,
                entry.generation,
                entry.token,
                name=entry.name,
                lan=self.name,
                network=info.network,
                addresses=info.addresses,
                mac=info.mac,
                mtu=info.mtu,
                leave=leave,
                drop=functools.partial(self._drop, weakref.ref(self), entry),
            )
        except BaseException:
            leave()
            raise
        _tell_scapy(nic)
        return nic

    def host(
        self,
        name: str,
        address: str | Sequence[str] | None = None,
        *,
        network: str | None = None,
        buffer: int | None = None,
    ) -> Host:
        """Plugs a built-in host into the LAN; arguments and errors as of :meth:`attach`."""
        entry = self._join(name, "host", address, network, buffer)
        with_bits = []
        for own in entry.addresses:
            prefix = entry.network.prefix_of(own)
            with_bits.append((str(own), prefix.prefixlen if prefix else own.max_prefixlen))
        mtu = entry.network.mtu
        leave = functools.partial(self._leave, weakref.ref(self), entry)
        try:
            seed = _derive(f"{self.seed}/{name}", 8)
            calls = self._base.serve_host(entry.slot, entry.generation, with_bits, mtu, seed)
        except BaseException:
            leave()
            raise
        addresses = tuple(map(str, entry.addresses))
        return Host(
            self, calls, name=name, network=entry.network.name, addresses=addresses, mac=entry.mac, mtu=mtu, leave=leave
        )

    def reserve(
        self,
        name: str,
        address: str | Sequence[str] | None = None,
        *,
        network: str | None = None,
        buffer: int | None = None,
    ) -> NicInfo:
        """Keeps a place for a guest that attaches later by this name; arguments and errors as of :meth:`attach`.

        Until then, and whenever the guest has gone, its addresses answer ``nic_down``.
        """
        with self._lock:
            return self._info(self._join(name, "process", address, network, buffer, reserve=True))

    def attached(self, name: str) -> bool:
        """Whether somebody holds the NIC ``name``."""
        with self._lock:
            entry = self._nics.get(name)
            return entry is not None and self._base.is_up(entry.slot, entry.generation)

    def wait_attached(self, name: str, timeout: float | None = None) -> bool:
        """Waits up to ``timeout`` seconds until somebody holds the NIC ``name``.  Returns whether somebody does."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self.attached(name):
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._changed.wait(left if left is not None and left < 0.1 else 0.1)
                self._check()
        return True

    def _join(
        self,
        name: str,
        kind: str,
        address: str | Sequence[str] | None,
        network: str | None,
        buffer: int | None,
        *,
        reserve: bool = False,
    ) -> _Entry:
        check_name("NIC", name)
        self._check()
        with self._changed:
            self._bury_dropped()
            held = self._nics.get(name)
            if held is not None:
                if self._base.is_up(held.slot, held.generation):
                    raise NameTaken(f"a NIC named {name!r} is on the LAN already")
                if held.reserved and not reserve and kind == "process":
                    return self._claim(held, address)
                if held.reserved:
                    raise NameTaken(f"the name {name!r} is kept for a guest that attaches later")
                self._forget(held)
            where = self._network(network)
            if buffer is not None and not 1 <= buffer <= self._buffer:
                raise ValueError(f"buffer is 1 to {self._buffer} bytes, the LAN's largest, not {buffer}")
            addresses = self._addresses(where, address)
            entry = self._add(name, kind, where, addresses, buffer or self._buffer, reserve)
            self._changed.notify_all()
            return entry

    def _claim(self, entry: _Entry, address: str | Sequence[str] | None) -> _Entry:
        asked = [] if address is None else [address] if isinstance(address, str) else list(address)
        if any(parse_address(each) not in entry.addresses for each in asked):
            own = ", ".join(map(str, entry.addresses))
            raise AddressError(f"NIC {entry.name!r} has the addresses {own}, not {', '.join(asked)}")
        entry.generation = self._base.hold(entry.slot)
        entry.token = self._base.new_token()
        self._changed.notify_all()
        return entry

    def _addresses(self, network: Network, address: str | Sequence[str] | None) -> tuple[Address, ...]:
        if address is None:
            while True:
                try:
                    return tuple(network.free_addresses())
                except NetworkFull:
                    if not self._reap(network):
                        raise
        asked = [address] if isinstance(address, str) else list(address)
        if not asked:
            raise AddressError("a NIC has at least one address")
        for text in asked:
            # A dead guest's addresses are free for the asking.
            owner = self._nics.get(network.owner(parse_address(text)) or "")
            if owner is not None and self._is_dead(owner):
                self._forget(owner)
        found = tuple(sorted((network.check(text) for text in asked), key=lambda each: each.version))
        if len(set(found)) < len(found):
            raise AddressError(f"an address is given twice: {', '.join(asked)}")
        return found

    def _add(
        self, name: str, kind: str, network: Network, addresses: tuple[Address, ...], buffer: int, reserve: bool
    ) -> _Entry:
        texts = list(map(str, addresses))
        mac = 0x02 << 40 | _derive(f"{self.name}/{name}", 5)
        served = kind == "host"
        while True:
            try:
                slot, generation = self._base.add_nic(
                    name, network._number, texts, mac, network.mtu, buffer, served, not reserve
                )
                break
            except LanFull:
                if not self._reap(None):
                    raise
        entry = _Entry(
            name=name,
            kind=kind,
            network=network,
            addresses=addresses,
            mac=":".join(f"{octet:02x}" for octet in mac.to_bytes(6, "big")),
            slot=slot,
            generation=generation,
            reserved=reserve,
            buffer=buffer,
            token=self._base.new_token(),
        )
        network.take(addresses, name)
        self._nics[name] = entry
        return entry

    def _bury(self, name: str, generation: int) -> None:
        """Notes that the holder of a NIC has gone without leaving; its addresses stay its own for now."""
        with self._changed:
            entry = self._nics.get(name)
            if entry is None or entry.generation != generation:
                return
            self._base.take_down(entry.slot, entry.generation)
            entry.watch = None
            if not entry.reserved:
                self._dead[name] = None
                while len(self._dead) > 64:
                    self._reap(None)
            self._changed.notify_all()

    @staticmethod
    def _drop(reference: weakref.ref[Lan], entry: _Entry, generation: int) -> None:
        """A NIC of this process was dropped without close().  Runs wherever the collector runs, so it takes no lock."""
        lan = reference()
        if lan is not None and not lan.closed:
            lan._base.take_down(entry.slot, generation)
            lan._dropped.append((entry.name, generation))

    def _bury_dropped(self) -> None:
        while self._dropped:
            self._bury(*self._dropped.popleft())

    def _is_dead(self, entry: _Entry) -> bool:
        return not entry.reserved and not self._base.is_up(entry.slot, entry.generation)

    def _reap(self, network: Network | None) -> bool:
        """Forgets the oldest dead NIC, of ``network`` if given.  Returns whether there was one."""
        # The undertaker may know of a death that the control socket has not told of yet.
        for name, entry in self._nics.items():
            if name not in self._dead and self._is_dead(entry):
                self._dead[name] = None
        for name in self._dead:
            entry = self._nics[name]
            if network is None or entry.network is network:
                self._forget(entry)
                return True
        return False

    def _forget(self, entry: _Entry) -> None:
        """Takes a NIC off the LAN, addresses and all."""
        self._base.remove(entry.slot, entry.generation)
        entry.network.give_back(entry.addresses)
        self._nics.pop(entry.name, None)
        self._dead.pop(entry.name, None)

    @staticmethod
    def _leave(reference: weakref.ref[Lan], entry: _Entry, generation: int | None = None) -> None:
        """The holder of a NIC lets go of it in good order.  Static, so that a NIC keeps no LAN alive."""
        lan = reference()
        if lan is None or lan.closed:
            return
        with lan._changed:
            if lan._nics.get(entry.name) is not entry or entry.generation != (generation or entry.generation):
                return
            if entry.watch is not None:
                lan._base.forget(entry.watch)
                entry.watch = None
            if entry.reserved:
                lan._base.take_down(entry.slot, entry.generation)
            else:
                lan._forget(entry)
            lan._changed.notify_all()

    # What the base does in the name of its NICs

    def inject(
        self, nic: str, datagrams: Iterable[Any], *, block: bool = False, timeout: float | None = None
    ) -> list[Verdict]:
        """Sends datagrams in the name of the NIC ``nic``, whoever holds it.

        Arguments:
            nic: the NIC's name.
            datagrams: bytes-like objects or scapy packets.
            block: wait where an input buffer is full, up to ``timeout`` seconds.

        Returns:
            A verdict for each, in order.

        Raises:
            KeyError: there is no such NIC.
            LanClosed: the LAN is closed.
        """
        self._check()
        with self._lock:
            slot = self._nics[nic].slot
        return self._base.inject(slot, datagrams, block, timeout)

    def _ping(self, calls: _native.HostCalls, *arguments: Any) -> _native.PingRun:
        self._check()
        return self._base.ping(calls, *arguments)

    def capture(self, path: str | os.PathLike[str]) -> Capture:
        """Starts to write all that is forwarded to ``path`` as pcapng, each NIC an interface.

        Returns:
            A context manager; leaving it ends the capture.

        Raises:
            CaptureError: the file cannot be made, or another capture runs.
            LanClosed: the LAN is closed.
        """
        self._check()
        with self._lock:
            if self._capture is not None and not self._capture.closed:
                raise CaptureError(f"a capture into {self._capture.path} runs already")
            self._capture = self._keeper.capture = Capture(self._base, path)
            return self._capture

    def statistics(self) -> LanStatistics:
        """Returns what each NIC has sent and received."""
        self._check()
        with self._lock:
            counts = {name: read_statistics(self._segment, entry.slot) for name, entry in self._nics.items()}
        return LanStatistics(MappingProxyType(counts))

    def serve(self, do: str, handler: Handler) -> None:
        """Serves calls of other processes (:mod:`vnet.calls`), from now on; a name that is served already is replaced.

        Arguments:
            do: what clients ask for.
            handler: gets the LAN and the call, in a thread of its own, and returns the last answer.  It must not hold
                the LAN: it would never be collected.
        """
        self._handlers[do] = handler

    def describe_as(self, **what: Any) -> None:
        """Says what this LAN is, for those who ask its base: ``kind``, ``file`` and the like, as JSON values."""
        self._about.update(what)

    def guard(self, group: int) -> None:
        """Has the process group ``group`` ended if this process dies without doing so itself."""
        self._check()
        with self._lock:
            if self._guardian is None:
                self._guardian = self._keeper.guardian = Guardian(None)
            self._guardian.guard(group)

    def unguard(self, group: int) -> None:
        """Takes :meth:`guard` back; to be called once the group has ended."""
        with self._lock:
            if self._guardian is not None:
                self._guardian.free(group)

    def _abandon(self) -> None:
        """Lets go, in a forked child, of what is the parent's."""
        if self._server is not None:
            self._server.abandon()
        if self._guardian is not None:
            self._guardian.abandon()
        if self._capture is not None:
            self._capture._abandon()
        self._base.abandon()

    def close(self) -> None:
        """Ends the LAN.  Every NIC raises :class:`vnet.LanClosed` from now on.  May be called twice."""
        if os.getpid() != self._pid or not self._finalizer.alive:
            return
        capture, self._capture = self._capture, None
        try:
            if capture is not None:
                capture.close()
        finally:
            self._finalizer()
            with self._changed:
                self._changed.notify_all()


def _derive(text: str, size: int) -> int:
    """A number of ``size`` bytes that follows from ``text``: stable from run to run."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=size).digest(), "big")


def _tell_scapy(nic: Nic) -> None:
    from . import scapy_hook

    scapy_hook.announce(nic)
