"""A scheme built from network namespaces, veth and Linux's own routers.

::

    wires (a namespace without IP)        r1 (a namespace that forwards)      r2
      host a: e0 ────────────── veth ────── left   (10.1.0.1)
                                            r2     (10.255.0.0) ──── veth ─── r1
      a network with more than two ends is a bridge in here

All of it hangs on descriptors of this process, so it goes with them, however the process ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import support

from .schemes import Port, Scheme, version

_CLONE_NEWNET = 0x40000000
_IFA_F_NODAD = 0x02
# linux/if_packet.h, linux/if_ether.h.
_SOL_PACKET, _PACKET_IGNORE_OUTGOING, _ETH_P_ALL = 263, 23, 3
_ETHERTYPES = {4: b"\x08\x00", 6: b"\x86\xdd"}
# linux/ethtool.h: a router leaves checksums of TCP resets to the interface, unless it has been told not to.
_SIOCETHTOOL, _ETHTOOL_STXCSUM = 0x8946, 0x17
# Routes that lead nowhere, as iproute2 calls them, and so does vnet.
_NOWHERE = ("blackhole", "unreachable", "prohibit")
# Router and neighbour discovery, and the groups that a kernel joins: its own talk on a network, to nobody's probe.
_OWN_TALK = {130, 131, 132, 133, 134, 135, 136, 137, 143}

_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


def missing() -> str | None:
    """What this machine lacks for it; None: nothing."""

    def attempt() -> str | None:
        try:
            _unshare()
        except OSError as error:
            return f"no network namespace for kernel routers: {error.strerror}"
        return None

    return _in_thread(attempt)


def _unshare() -> None:
    if _libc.unshare(_CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _in_thread(work: Callable[[], T]) -> T:
    """Runs something in a thread that ends then: whatever namespace it entered, this one has not moved."""
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]


class _Space:
    """A network namespace: its descriptor, and a netlink socket in it.

    Made, used and closed by one thread, which is in one such namespace or another from the first on: pyroute2 opens
    another socket, wherever it may be, for every other thread.
    """

    def __init__(self, settings: dict[str, str]) -> None:
        from pyroute2 import IPRoute

        _unshare()
        self.descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            # Under /proc/sys/net one sees the settings of one's own namespace.
            for name, value in settings.items():
                with open(f"/proc/sys/net/{name}", "w") as file:
                    file.write(value)
            self.route = IPRoute()
            self.route.link("set", index=1, state="up")
        except BaseException:
            os.close(self.descriptor)
            raise
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def enter(self) -> None:
        """Moves this thread there."""
        if _libc.setns(self.descriptor, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")

    def up(self, interface: str, mtu: int) -> int:
        """Brings an interface up, which computes checksums itself from now on, and returns its index."""
        index: int = self.route.link_lookup(ifname=interface)[0]
        self.route.link("set", index=index, mtu=mtu, state="up")
        value = ctypes.create_string_buffer(struct.pack("II", _ETHTOOL_STXCSUM, 0))
        request = struct.pack("16sQ16x", interface.encode(), ctypes.addressof(value))
        fcntl.ioctl(self.socket, _SIOCETHTOOL, request)
        return index

    def settle(self) -> None:
        """Has it forward IPv6, and give up neighbours that do not answer after 3 x 20 ms rather than 3 s."""
        self.enter()
        # When its interfaces are there: only then it is in all groups of routers, RFC 4291 section 2.7.1.
        Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
        for setting in Path("/proc/sys/net").glob("ipv[46]/neigh/*/retrans_time_ms"):
            setting.write_text("20")

    def close(self) -> None:
        self.route.close()
        self.socket.close()


# A network without a stack, in which hosts' ends and bridges are.
_NO_STACK = {"ipv6/conf/default/disable_ipv6": "1", "ipv6/conf/all/disable_ipv6": "1"}
_ROUTER = {
    "ipv4/ip_forward": "1",
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    "ipv4/conf/all/send_redirects": "0",
    "ipv4/conf/default/send_redirects": "0",
    # An address is good at once: nobody else has it.
    "ipv6/conf/all/accept_dad": "0",
    "ipv6/conf/default/accept_dad": "0",
    "ipv6/conf/default/accept_ra": "0",
    # Nobody hears of fragments that were not completed while another probe waits for its answer.
    "ipv4/ipfrag_time": "600",
    "ipv6/ip6frag_time": "600",
    # Of limits, those by address alone: hosts have one for each probe.
    "ipv4/icmp_msgs_per_sec": "1000000",
    "ipv4/icmp_msgs_burst": "1000000",
}


class _End:
    """A host's interface: a packet socket in the namespace without a stack."""

    def __init__(self, name: str, mac: bytes, gateways: dict[str, bytes]) -> None:
        self.mac, self.gateways = mac, gateways
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self.socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind((name, _ETH_P_ALL))

    def send(self, datagram: bytes, to: bytes, family: int) -> None:
        """Sends a datagram in a frame."""
        self.socket.send(to + self.mac + _ETHERTYPES[family] + datagram)

    def receive(self) -> bytes | None:
        """The next IP datagram that is there; None: there is no more."""
        while True:
            try:
                frame = self.socket.recv(70_000)
            except BlockingIOError:
                return None
            datagram = frame[14:]
            if frame[12:14] == b"\x08\x00" and not (len(datagram) > 9 and datagram[9] == 2):  # IGMP
                return datagram
            if frame[12:14] == b"\x86\xdd" and not _is_own_talk(datagram):
                return datagram


def _is_own_talk(datagram: bytes) -> bool:
    """Whether a kernel says this of itself: discovery of neighbours, groups that it joins."""
    following, rest = datagram[6], datagram[40:]
    if following == 0 and len(rest) >= 8:
        following, rest = rest[0], rest[8 * (rest[1] + 1) :]
    return following == 58 and bool(rest) and rest[0] in _OWN_TALK


class KernelSide:
    """A lab of Linux routers.  A context manager.

    Arguments:
        scheme: the lab.
    """

    def __init__(self, scheme: Scheme) -> None:
        self.scheme = scheme
        self._open = contextlib.ExitStack()
        self._spaces: dict[str, _Space] = {}
        self._ends: dict[str, _End] = {}
        self._macs = 0
        self._markers = 0
        self._pairs: list[tuple[str, str, int]] = []
        self._came: dict[str, list[bytes]] = {}

    def __enter__(self) -> KernelSide:
        try:
            _in_thread(self._build)
            self._pairs = self._reachable()
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    # Building

    def _build(self) -> None:
        with contextlib.ExitStack() as spaces:
            self._build_in(spaces)

    def _build_in(self, spaces: contextlib.ExitStack) -> None:
        scheme = self.scheme

        def space(settings: dict[str, str]) -> _Space:
            made = _Space(settings)
            spaces.callback(made.close)
            # The namespace lives by its descriptor.
            self._open.callback(os.close, made.descriptor)
            return made

        wires = space(_NO_STACK)
        for name in scheme.routers:
            self._spaces[name] = space(_ROUTER)
        for network in scheme.networks:
            self._build_network(network, wires)
        for wire in scheme.wires:
            spaces_of_both = self._spaces[wire.one], self._spaces[wire.other]
            self._veth(spaces_of_both[0], wire.other, self._next_mac(), spaces_of_both[1], wire.one, self._next_mac())
            for port in (scheme.port(wire.one, wire.other), scheme.port(wire.other, wire.one)):
                self._configure(port, port.attached)
        for name in scheme.routers:
            self._give_routes(name)
            self._spaces[name].settle()

    def _build_network(self, network: str, wires: _Space) -> None:
        """Joins the routers on a network to the ends of its hosts: by a veth for two, by a bridge for more."""
        scheme = self.scheme
        mtu = scheme.networks[network].mtu
        hosts = [name for name, host in scheme.hosts.items() if host.network == network]
        ports = [port for port in scheme.ports if port.attached == network and port.wire is None]
        ends, gateways = {}, {}
        master = {}
        if len(hosts) + len(ports) > 2:
            wires.route.link("add", ifname=f"net-{network}", kind="bridge", br_mcast_snooping=0)
            master = {"master": wires.up(f"net-{network}", mtu)}
        for port in ports:
            mac = gateways[port.router] = self._next_mac()
            near = f"n{self._macs}"
            self._veth(wires, near, None, self._spaces[port.router], network, mac)
            if master:
                wires.route.link("set", ifname=near, **master)
            wires.up(near, mtu)
            self._configure(port, network)
            ends = dict.fromkeys(hosts, near)
        for host in hosts if master else ():
            mac = self._next_mac()
            near, far = f"n{self._macs}", f"p{self._macs}"
            self._veth(wires, near, None, wires, far, None)
            wires.route.link("set", ifname=far, **master)
            for name in (far, near):
                wires.up(name, mtu)
            ends[host] = near
        wires.enter()
        for host, interface in ends.items():
            end = self._ends[host] = _End(interface, self._next_mac(), gateways)
            self._open.callback(end.socket.close)
            for port in ports:
                self._introduce(host, end.mac, port)

    def _next_mac(self) -> bytes:
        self._macs += 1
        return b"\x02\x00\x00\x00" + self._macs.to_bytes(2, "big")

    def _veth(self, here: _Space, name: str, mac: bytes | None, there: _Space, peer: str, peers: bytes | None) -> None:
        own = {"address": _text(mac)} if mac else {}
        other: dict[str, Any] = {"ifname": peer, "net_ns_fd": there.descriptor}
        if peers:
            other["address"] = _text(peers)
        here.route.link("add", ifname=name, kind="veth", peer=other, **own)

    def _configure(self, port: Port, interface: str) -> None:
        space = self._spaces[port.router]
        index = space.up(interface, port.mtu)
        for each in map(ip_interface, port.addresses):
            flags = {"flags": _IFA_F_NODAD} if each.version == 6 else {}
            space.route.addr("add", index=index, address=str(each.ip), prefixlen=each.network.prefixlen, **flags)

    def _introduce(self, host: str, mac: bytes, port: Port) -> None:
        """Tells a router the addresses of a host on its network, which answers nobody who asks."""
        route = self._spaces[port.router].route
        index = route.link_lookup(ifname=port.attached)[0]
        for family in (4, 6):
            for address in self.scheme.host_addresses(host, family):
                route.neigh("replace", dst=address, lladdr=_text(mac), ifindex=index, state="permanent")

    def _give_routes(self, router: str) -> None:
        scheme, route = self.scheme, self._spaces[router].route
        for address in scheme.routers[router].get("lo", ()):
            route.addr("add", index=1, address=address, prefixlen=32 if version(address) == 4 else 128)
        for family, number in ((4, socket.AF_INET), (6, socket.AF_INET6)):
            for prefix, hops in scheme.routes(router, family):
                ways = [self._way(router, hop.address(family)) for hop in hops]
                if len(ways) > 1:
                    route.route("add", family=number, dst=prefix, multipath=ways)
                else:
                    route.route("add", family=number, dst=prefix, **ways[0])
        for fixed in scheme.fixed:
            if fixed.router == router:
                family = socket.AF_INET if ip_network(fixed.prefix).version == 4 else socket.AF_INET6
                step = {"type": fixed.via} if fixed.via in _NOWHERE else self._way(router, fixed.via)
                # A static route goes before a shortest path to the same prefix.
                route.route("replace", family=family, dst=fixed.prefix, **step)

    def _way(self, router: str, gateway: str) -> dict[str, Any]:
        """The way to a neighbour: its address, and the interface on which it is."""
        for port in self.scheme.ports:
            on = (ip_interface(each).network for each in port.addresses)
            if port.router == router and any(ip_address(gateway) in each for each in on):
                return {"gateway": gateway, "oif": self._spaces[router].route.link_lookup(ifname=port.attached)[0]}
        raise AssertionError(f"{gateway} is no neighbour of {router}")

    # Probing

    def _reachable(self) -> list[tuple[str, str, int]]:
        """Pairs of hosts between which datagrams pass; meanwhile routers learn who their neighbours are."""
        pairs = [
            (one, other, family)
            for one in self._ends
            for other in self._ends
            for family in (4, 6)
            if one != other and self.scheme.host_addresses(one, family) and self.scheme.host_addresses(other, family)
        ]
        self._came = {each: [] for each in self._ends}
        found = self._mark(pairs, 0.3)
        return [pair for pair in pairs if pair in found]

    def _mark(self, pairs: Sequence[tuple[str, str, int]], patience: float) -> set[tuple[str, str, int]]:
        """Sends a datagram from host to host and waits until each has come; keeps what else comes."""
        self._markers += 1
        awaited = {}
        for number, (one, other, family) in enumerate(pairs):
            mark = _MARK.pack(b"mark", self._markers, number)
            awaited[other, mark] = (one, other, family)
            source, destination = (self.scheme.host_addresses(each, family)[-1] for each in (one, other))
            self._send(one, support.datagram(source, destination, mark, protocol=253), family)
        came = set()
        deadline = time.monotonic() + patience
        while len(came) < len(awaited) and self._wait(deadline - time.monotonic()):
            for host, end in self._ends.items():
                while (datagram := end.receive()) is not None:
                    if (pair := awaited.get((host, datagram[-_MARK.size :]))) is not None:
                        came.add(pair)
                    elif b"mark" not in datagram[-_MARK.size :]:
                        self._came[host].append(datagram)
        return came

    def _send(self, host: str, datagram: bytes, family: int, gateway: str | None = None) -> None:
        end, at = self._ends[host], self.scheme.hosts[host]
        to = _group(datagram, family, self.scheme.networks[at.network].prefixes)
        end.send(datagram, to or end.gateways[gateway or at.gateway], family)

    def _wait(self, seconds: float) -> bool:
        """Waits until something comes; False: nothing did in that time."""
        return bool(select.select([end.socket for end in self._ends.values()], [], [], max(seconds, 0))[0])

    def exchange(
        self, host: str, datagrams: Sequence[bytes], *, family: int, gateway: str | None = None, wait: float = 0.0
    ) -> dict[str, list[bytes]]:
        """Sends datagrams and returns what all hosts receive then.

        Arguments:
            host: who sends.
            datagrams: as they are, in frames for the gateway.
            family: what the frames say that they bear.
            gateway: another router than the host's own.
            wait: seconds to wait for the first datagram, where an answer takes its time.
        """
        self._came = {each: [] for each in self._ends}
        with _one_processor():
            for datagram in datagrams:
                self._send(host, datagram, family, gateway)
            # What one thread sends on one processor goes through one queue, that of the processor, hop after hop: when
            # a later datagram has gone from end to end and another back, whatever was before it has come, too.
            for _ in range(2):
                lost = set(self._pairs) - self._mark(self._pairs, 5.0)
                assert not lost, f"kernel routers lose datagrams between {lost}"
            deadline = time.monotonic() + wait
            while not any(self._came.values()) and self._wait(deadline - time.monotonic()):
                # Perhaps only a router that asks for a host.
                self._mark(self._pairs, 5.0)
        return self._came


_MARK = struct.Struct("!4sIH")


@contextlib.contextmanager
def _one_processor() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _group(datagram: bytes, family: int, prefixes: Sequence[str]) -> bytes | None:
    """The hardware address of a group, or of all: RFC 1112, section 6.4; RFC 2464, section 7; None: it is for one."""
    if family == 6:
        to = datagram[24:40]
        return b"\x33\x33" + to[12:] if to[:1] == b"\xff" else None
    to = datagram[16:20]
    if to[:1] and to[0] >> 4 == 14:
        return b"\x01\x00\x5e" + bytes([to[1] & 0x7F]) + to[2:]
    networks = (each for each in map(ip_network, prefixes) if each.version == 4)
    broadcast = to == b"\xff" * 4 or any(to == each.broadcast_address.packed for each in networks)
    return b"\xff" * 6 if broadcast else None


def _text(mac: bytes) -> str:
    return ":".join(f"{each:02x}" for each in mac)
