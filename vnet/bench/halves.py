"""The two halves of each measurement, by name: what the measuring process does, and what its peer does."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from .. import _native
from ..nic import Nic
from . import sharing
from .shared import Shared
from .streams import receive_tcp, send_tcp

__all__ = ["Side", "receive_half", "send_half"]

# How many datagrams one send_many passes.
_MANY = 256


@dataclass
class Side:
    """What one process needs for its halves."""

    arena: _native.Arena
    nic: Nic
    peer_address: str
    sockets: dict[str, socket.socket]
    # NICs for stacks, by their networks' MTU, and the TCP port of their streams.
    streams: dict[int, Nic]
    stream_port: int
    # On a network eight routers away from the peer's.
    routed: Nic
    routed_peer: str
    # For what guests share beside the LAN.
    shared: Shared

    def datagram(self, size: int) -> bytes:
        """An IPv4 datagram of ``size`` bytes to the peer."""
        return _datagram(self.nic.address, self.peer_address, size)

    def routed_datagram(self, size: int) -> bytes:
        """The same to the peer's NIC beyond the routers."""
        return _datagram(self.routed.address, self.routed_peer, size)


def _datagram(source: str, destination: str, size: int) -> bytes:
    header = bytearray(20)
    header[0], header[8], header[9] = 0x45, 64, 17
    header[2:4] = size.to_bytes(2, "big")
    header[12:16] = socket.inet_aton(source)
    header[16:20] = socket.inet_aton(destination)
    # Routers look at the header checksum; the receivers of the other halves are no stacks and look at nothing.
    total = sum(int.from_bytes(header[at : at + 2], "big") for at in range(0, 20, 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    header[10:12] = (total ^ 0xFFFF).to_bytes(2, "big")
    return bytes(header) + bytes(index & 255 for index in range(size - 20))


def send_half(side: Side, name: str, size: int, count: int) -> None:
    """The peer's half: it sends, or answers."""
    if name in sharing.SEND:
        sharing.SEND[name](side.shared, size, count)
        return
    arena, datagram = side.arena, side.datagram(size)
    halves: dict[str, Callable[[], Any]] = {
        "ring": lambda: arena.ring_send(datagram, count),
        "lan": lambda: arena.lan_send(side.nic, datagram, count),
        "lan_routed": lambda: arena.lan_send(side.routed, side.routed_datagram(size), count),
        "line": lambda: arena.line_ping_pong(False, count),
        "futex": lambda: arena.futex_ping_pong(False, count),
        "lan_spin": lambda: arena.lan_round_trips(side.nic, datagram, False, False, count),
        "lan_sleep": lambda: arena.lan_round_trips(side.nic, datagram, False, True, count),
        "unix": lambda: arena.socket_send(side.sockets["unix"].fileno(), datagram, count),
        "udp": lambda: arena.socket_send(side.sockets["udp"].fileno(), datagram, count),
        "unix_trip": lambda: arena.socket_round_trips(side.sockets["unix"].fileno(), datagram, False, count),
        "udp_trip": lambda: arena.socket_round_trips(side.sockets["udp"].fileno(), datagram, False, count),
        "python_lan": lambda: _python_send(side, datagram, count),
        "python_lan_many": lambda: _python_send_many(side, datagram, count),
        "python_unix": lambda: _python_socket_send(side, "unix", datagram, count),
        "python_udp": lambda: _python_socket_send(side, "udp", datagram, count),
        "tcp": lambda: send_tcp(side, size, count),
        "tcp_loopback": lambda: send_tcp(side, None, count),
    }
    halves[name]()


def receive_half(side: Side, name: str, size: int, count: int) -> float:
    """The measuring half.  Returns datagrams a second for streams, bits a second for TCP, seconds a round trip."""
    if name in sharing.RECEIVE:
        return sharing.RECEIVE[name](side.shared, size, count)
    arena, datagram = side.arena, side.datagram(size)
    halves: dict[str, Callable[[], float]] = {
        "ring": lambda: count / arena.ring_receive(size, count),
        "lan": lambda: count / arena.lan_receive(side.nic, size, count),
        "lan_routed": lambda: count / arena.lan_receive(side.routed, size, count),
        "line": lambda: arena.line_ping_pong(True, count),
        "futex": lambda: arena.futex_ping_pong(True, count),
        "lan_spin": lambda: arena.lan_round_trips(side.nic, datagram, True, False, count),
        "lan_sleep": lambda: arena.lan_round_trips(side.nic, datagram, True, True, count),
        "unix": lambda: arena.socket_receive(side.sockets["unix"].fileno(), size, count),
        "udp": lambda: arena.socket_receive(side.sockets["udp"].fileno(), size, count),
        "unix_trip": lambda: arena.socket_round_trips(side.sockets["unix"].fileno(), datagram, True, count),
        "udp_trip": lambda: arena.socket_round_trips(side.sockets["udp"].fileno(), datagram, True, count),
        "python_lan": lambda: _python_receive(side, count),
        "python_lan_many": lambda: _python_receive_many(side, count),
        "python_unix": lambda: _python_socket_receive(side, "unix", size, count),
        "python_udp": lambda: _python_socket_receive(side, "udp", size, count),
        "tcp": lambda: receive_tcp(side, size, count),
        "tcp_loopback": lambda: receive_tcp(side, None, count),
    }
    return halves[name]()


def _python_send(side: Side, datagram: bytes, count: int) -> None:
    send = side.nic.send
    side.arena.gate()
    for _ in repeat(None, count):
        send(datagram, block=True)


def _python_receive(side: Side, count: int) -> float:
    recv = side.nic.recv
    side.arena.gate()
    start = time.perf_counter()
    for _ in repeat(None, count):
        recv()
    return count / (time.perf_counter() - start)


def _python_send_many(side: Side, datagram: bytes, count: int) -> None:
    send_many, datagrams = side.nic.send_many, [datagram] * _MANY
    side.arena.gate()
    for _ in repeat(None, count // _MANY):
        send_many(datagrams, block=True)


def _python_receive_many(side: Side, count: int) -> float:
    recv_many, left = side.nic.recv_many, count // _MANY * _MANY
    count = left
    side.arena.gate()
    start = time.perf_counter()
    while left > 0:
        left -= len(recv_many(_MANY))
    return count / (time.perf_counter() - start)


def _python_socket_send(side: Side, kind: str, datagram: bytes, count: int) -> None:
    send = side.sockets[kind].send
    side.arena.gate()
    for _ in repeat(None, count):
        send(datagram)


def _python_socket_receive(side: Side, kind: str, size: int, count: int) -> float:
    recv, taken = side.sockets[kind].recv, 0
    side.arena.gate()
    start = last = time.perf_counter()
    try:
        for _ in repeat(None, count):
            recv(size)
            taken += 1
        last = time.perf_counter()
    except (BlockingIOError, TimeoutError):
        # UDP dropped the rest: the rate is that of what arrived, without the wait at the end.
        last = time.perf_counter() - _TIMEOUT
    return taken / (last - start)


# Seconds after which a socket's receiver takes the rest for lost.
_TIMEOUT = 0.5


def prepare_socket(sock: socket.socket) -> socket.socket:
    """Gives a socket of the benchmark room and a receive timeout that both Python and Rust loops obey."""
    import struct

    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    # struct timeval, kept in the kernel: a Python-side timeout would make the socket non-blocking.
    seconds = int(_TIMEOUT)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", seconds, int((_TIMEOUT - seconds) * 1e6)))
    return sock
