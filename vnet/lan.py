"""A LAN, and its base in this process."""

from __future__ import annotations

import functools
import os
import secrets
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from . import _native
from .calls import Handler
from .capture import Capture, CaptureOptions, nodes_by_name, options_of
from .control import ControlServer
from .ending import Keeper, close_captures, living, shut_down
from .errors import ForkedNic, LanClosed, MachineLacks
from .hosts import Host
from .lan_filters import FilteredLan
from .lan_linux import LinuxLan
from .network import Network, parse_prefixes
from .nic import Nic
from .register import LARGEST, NicInfo, Register, derive
from .routing.api import RoutedLan
from .runtime import Guardian, check_name, claim_socket, socket_path
from .serving import serve_all
from .sharing.doors import local_door
from .statistics import LanStatistics, read_statistics
from .verdict import Verdict

if TYPE_CHECKING:
    from .explain import Explanation
    from .filtering.keeping import Keeping
    from .images.lan import Images, ImageUse
    from .metrics import MetricsServer
    from .routing.gateways import Gateway

__all__ = ["Lan"]


class Lan(RoutedLan, LinuxLan, FilteredLan):
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
        images: keep what takes long to compile in files of the user's cache directory, and map it from there where it
            was compiled before; :attr:`images` tells what became of it.  Where that directory cannot be used, a warning
            says so, once; or a function that is given here instead of ``True`` is called with the sentence.

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
        mtu: int = LARGEST,
        seed: int = 0,
        max_nics: int = 4096,
        buffer: int = 4 << 20,
        images: Images = False,
    ) -> None:
        if name is not None:
            check_name("LAN", name)
        if not 1 <= max_nics <= 65_533:
            raise ValueError(f"max_nics is 1 to 65,533, not {max_nics}")
        if not 256 << 10 <= buffer <= 1 << 30:
            raise ValueError(f"buffer is 256 KiB to 1 GiB, not {buffer} bytes")
        self.name = name
        self.seed = seed
        self._pid = os.getpid()
        # Reached by the finalizer, too: they end with the LAN.
        self._captures: set[Capture] = set()
        self._closing = False
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
        self._register = Register(base, name, buffer, images)
        self._filters: Keeping | None = None
        self._server: ControlServer | None = None
        self._guardian: Guardian | None = None
        self._keeper = Keeper(self._register, self._captures)
        self._finalizer = weakref.finalize(self, shut_down, base, self._keeper, os.getpid())
        try:
            if prefixes is not None:
                self._register.add_network("lan", prefixes, mtu)
            if name is not None:
                self._open(name)
        except BaseException:
            self._finalizer()
            raise
        living().add(self)

    def _open(self, name: str) -> None:
        """Lets other processes find the LAN: last of all, because from then on they ask."""
        path = socket_path(name)
        # Before anything that it would have to remove.
        guardian = Guardian(path)
        listener = None
        try:
            listener = claim_socket(guardian)
            serve_all(self)
            self._guardian = self._keeper.guardian = guardian
            self._server = self._keeper.server = ControlServer(self, listener, path)
        except BaseException:
            if listener is not None:
                listener.close()
            self._keeper.guardian = None
            guardian.dismiss(clear=True)
            raise

    def __repr__(self) -> str:
        state = "" if self._finalizer.alive else ", closed"
        return f"<Lan {self.name or '(private)'}: {len(self._register.nics)} NICs{state}>"

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

    @property
    def images(self) -> tuple[ImageUse, ...]:
        """What the LAN has out of images, and what it had to compile for them; nothing where it compiled quickly."""
        return self._register.images.uses

    # Networks

    @property
    def networks(self) -> Mapping[str, Network]:
        """The networks by name."""
        return MappingProxyType(self._register.networks)

    def add_network(self, name: str, prefix: str | Sequence[str], *, mtu: int = LARGEST) -> Network:
        """Adds a network: a broadcast domain with an IPv4 prefix, an IPv6 prefix or both.

        Raises:
            NameTaken: a network has the name.
            AddressError: a prefix is wrong or overlaps that of another network.
            ValueError: the MTU is too small for the family (68 bytes for IPv4, 1,280 for IPv6) or over 65,535.
        """
        self._check()
        return self._register.add_network(check_name("network", name), parse_prefixes(prefix), mtu)

    def remove_network(self, name: str) -> None:
        """Removes a network that no NIC is on.

        Raises:
            ValueError: there is no such network, or NICs are on it.
        """
        self._check()
        self._register.remove_network(name)

    # NICs

    @property
    def nics(self) -> Mapping[str, NicInfo]:
        """What the base knows of each NIC, by name, in the order in which they came."""
        register = self._register
        with register.lock:
            register.bury_dropped()
            return MappingProxyType({name: register.info(entry) for name, entry in register.nics.items()})

    def attach(
        self,
        name: str,
        address: str | Sequence[str] | None = None,
        *,
        network: str | None = None,
        buffer: int | None = None,
        gateway: Gateway = None,
        forward: bool | str = False,
    ) -> Nic:
        """Plugs a NIC into the LAN and returns it, for use in this process.

        Arguments:
            name: unique on the LAN; or that of a place that :meth:`reserve` made.
            address: an IP address or several; ``None`` takes the next free one of each prefix.
            network: the name of its network; not needed where there is one.
            buffer: bytes of its input buffer, rounded up to a power of two; ``None`` for the LAN's largest.
            gateway: where what leads out of its network goes: the address of a router or a guest there, or one of each
                family; ``None`` for the first router, whichever that is; ``False`` for nowhere.
            forward: it is a router: it is given what leads through it, and sends it on itself.  A name in place of
                ``True``: that of the router, which has several NICs.

        Raises:
            NameTaken, AddressTaken, AddressOutside, NetworkFull, LanFull, LanClosed.
            AddressError: nobody has the gateway's address.
        """
        self._check()
        entry = self._register.join(name, "process", address, network, buffer, gateway=gateway, forward=forward)
        leave = functools.partial(self._register.leave, entry)
        try:
            info = self._register.info(entry)
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
                drop=functools.partial(self._register.drop, entry),
                door=local_door(self._register, entry),
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
        gateway: Gateway = None,
    ) -> Host:
        """Plugs a built-in host into the LAN; arguments and errors as of :meth:`attach`."""
        self._check()
        entry = self._register.join(name, "host", address, network, buffer, gateway=gateway)
        with_bits = []
        for own in entry.addresses:
            prefix = entry.network.prefix_of(own)
            with_bits.append((str(own), prefix.prefixlen if prefix else own.max_prefixlen))
        mtu = entry.network.mtu
        leave = functools.partial(self._register.leave, entry)
        try:
            seed = derive(f"{self.seed}/{name}", 8)
            calls = self._base.serve_host(entry.slot, entry.generation, with_bits, mtu, seed)
        except BaseException:
            leave()
            raise
        addresses = tuple(map(str, entry.addresses))
        return Host(
            self,
            calls,
            name=name,
            network=entry.network.name,
            addresses=addresses,
            mac=entry.mac,
            mtu=mtu,
            leave=leave,
            door=local_door(self._register, entry),
        )

    def reserve(
        self,
        name: str,
        address: str | Sequence[str] | None = None,
        *,
        network: str | None = None,
        buffer: int | None = None,
        gateway: Gateway = None,
        forward: bool | str = False,
    ) -> NicInfo:
        """Keeps a place for a guest that attaches later by this name; arguments and errors as of :meth:`attach`.

        Until then, and whenever the guest has gone, its addresses answer ``nic_down``.
        """
        self._check()
        register = self._register
        with register.lock:
            how: dict[str, Any] = {"reserve": True, "gateway": gateway, "forward": forward}
            return register.info(register.join(name, "process", address, network, buffer, **how))

    def remove(self, name: str) -> None:
        """Takes the NIC ``name`` off the LAN, whoever holds it, with its place if one was kept for it.

        Of a router, or a guest with several NICs, all go.

        Raises:
            KeyError: there is no such NIC.
        """
        self._check()
        router = self.routers.get(name)
        if router is not None:
            router.close()
            return
        if not self._register.withdraw(name):
            raise KeyError(name)
        borrowed = self._keeper.borrowed.pop(name, None)
        if borrowed is not None:
            borrowed.close()

    def attached(self, name: str) -> bool:
        """Whether somebody holds the NIC ``name``."""
        with self._register.lock:
            entry = self._register.nics.get(name)
            return entry is not None and self._register.is_up(entry)

    def attachments(self, name: str) -> int:
        """How often somebody has attached as ``name``, those included who have let go since; 0 without such a NIC."""
        with self._register.lock:
            entry = self._register.nics.get(name)
            return 0 if entry is None else entry.holders

    def wait_attached(self, name: str, timeout: float | None = None) -> bool:
        """Waits up to ``timeout`` seconds until somebody holds the NIC ``name``.  Returns whether somebody does."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._register.changed:
            while not self.attached(name):
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._register.changed.wait(left if left is not None and left < 0.1 else 0.1)
                self._check()
        return True

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
        with self._register.lock:
            slot = self._register.nics[nic].slot
        return self._base.inject(slot, datagrams, block, timeout)

    def _offer(self, calls: _native.HostCalls, *arguments: Any) -> _native.Service:
        self._check()
        return _native.offer(self._base, calls, *arguments)

    def _withdraw(self, service: _native.Service) -> None:
        if not self.closed:
            _native.withdraw(self._base, service)

    def _ping(self, calls: _native.HostCalls, *arguments: Any) -> _native.PingRun:
        self._check()
        return self._base.ping(calls, *arguments)

    def capture(
        self,
        path: str | os.PathLike[str] | int,
        *,
        nics: Iterable[str] | None = None,
        direction: str = "both",
        filter: str | None = None,
        drops: bool = False,
        limit: int | None = None,
        snaplen: int | None = None,
        file_size: int | None = None,
        files: int = 0,
    ) -> Capture:
        """Starts to write what is forwarded as pcapng, each NIC an interface.  There may be several at one time.

        A capture never makes a sender wait: what comes faster than it can be taken is missed and counted.

        Arguments:
            path: the file; or an open descriptor, of a pipe perhaps, which stays the caller's.
            nics: names of NICs, also of such as come later; of routers and guests for all of theirs; ``None`` for all.
            direction: ``in`` for what they get, ``out`` for what they send, ``both``.
            filter: in tcpdump's language, ``udp port 53``; names of NICs stand for their addresses, ``host alice``.
            drops: only datagrams, and copies of broadcasts, that did not arrive.
            limit: how many packets are written at most.
            snaplen: bytes kept of each packet, 1 to 65,535.
            file_size: bytes after which another file begins, named as dumpcap names them.
            files: how many of those are kept, the newest; 0 for all.

        Returns:
            A context manager; leaving it ends the capture.

        Raises:
            CaptureError: the file cannot be made.
            ValueError: an argument is out of its range, or the filter does not compile.
            MachineLacks: a filter needs libpcap, which is not there.
            LanClosed: the LAN is closed.
        """
        self._check()
        options = options_of(nics, direction, filter, drops, limit, snaplen, file_size, files)
        return self._start_capture(path, options)

    def _start_capture(self, where: str | os.PathLike[str] | int, options: CaptureOptions) -> Capture:
        with self._register.lock:
            names, whole = nodes_by_name(self._register)
        capture = Capture(self._base, where, options.compiled(names).spelled_out(whole), self._captures.discard)
        self._captures.add(capture)
        return capture

    def statistics(self) -> LanStatistics:
        """Returns what each NIC has sent and received."""
        self._check()
        with self._register.lock:
            nics = self._register.nics.items()
            counts = {name: read_statistics(self._segment, entry.slot, self._base) for name, entry in nics}
        return LanStatistics(MappingProxyType(counts))

    def explain(self, nic: str, datagram: Any) -> Explanation:
        """Says what would become of a datagram of the NIC ``nic`` as the LAN stands, step by step, without sending it.

        Nothing is counted and nobody is woken; the functions that decide are those that decide when it is sent.

        Arguments:
            nic: the NIC's name, whoever holds it.
            datagram: a bytes-like object or a scapy packet.

        Raises:
            KeyError: there is no such NIC.
            LanClosed: the LAN is closed.
        """
        from .explain import explain

        self._check()
        return explain(self, nic, datagram)

    def serve_metrics(self, address: str) -> MetricsServer:
        """Serves the LAN's counters over HTTP for Prometheus, until the LAN or what is returned is closed.

        Arguments:
            address: ``HOST:PORT``, such as ``"127.0.0.1:9100"``; port 0 takes one that is free.

        Raises:
            MachineLacks: prometheus-client is not installed.
            ValueError: the address has another form.
            VnetError: nobody can listen there; the port is taken, for one.
        """
        from .metrics import MetricsServer

        self._check()
        server = MetricsServer(self, address)
        self._keeper.metrics.append(server)
        return server

    def serve(self, do: str, handler: Handler) -> None:
        """Serves calls of other processes (:mod:`vnet.calls`), from now on; a name that is served already is replaced.

        Arguments:
            do: what clients ask for.
            handler: gets the LAN and the call, in a thread of its own, and returns the last answer.  It must not hold
                the LAN: it would never be collected.
        """
        self._handlers[do] = handler

    def unserve(self, do: str) -> None:
        """Serves the calls ``do`` no longer; those that are under way go on."""
        self._handlers.pop(do, None)

    def describe_as(self, **what: Any) -> None:
        """Says what this LAN is, for those who ask its base: ``kind``, ``file`` and the like, as JSON values."""
        self._about.update(what)

    def guard(self, group: int) -> None:
        """Has the process group ``group`` ended if this process dies without doing so itself."""
        self._check()
        with self._register.lock:
            if self._guardian is None:
                self._guardian = self._keeper.guardian = Guardian(None)
            self._guardian.guard(group)

    def unguard(self, group: int) -> None:
        """Takes :meth:`guard` back; to be called once the group has ended."""
        with self._register.lock:
            if self._guardian is not None:
                self._guardian.free(group)

    def _abandon(self) -> None:
        """Lets go, in a forked child, of what is the parent's."""
        if self._server is not None:
            self._server.abandon()
        if self._guardian is not None:
            self._guardian.abandon()
        for metrics in self._keeper.metrics:
            metrics._abandon()
        for capture in tuple(self._captures):
            capture._abandon()
        if self._keeper.nursery is not None:
            self._keeper.nursery.abandon()
        for borrowed in tuple(self._keeper.borrowed.values()):
            borrowed.abandon()
        if self._register._broker is not None:
            self._register._broker.abandon()
        self._base.abandon()

    def close(self) -> None:
        """Ends the LAN.  Every NIC raises :class:`vnet.LanClosed` from now on.  May be called twice."""
        if os.getpid() != self._pid or not self._finalizer.alive:
            return
        self._closing = True
        try:
            close_captures(self._captures)
        finally:
            self._finalizer()
            with self._register.changed:
                self._register.changed.notify_all()


def _tell_scapy(nic: Nic) -> None:
    from . import scapy_hook

    scapy_hook.announce(nic)
