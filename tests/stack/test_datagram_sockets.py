"""UDP sockets of the LAN behave as those of the kernel: each fact is held against both."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest


def test_a_datagram_arrives_whole_with_its_senders_address(world: Any) -> None:
    client, server = world.datagrams()
    assert client.sendto(b"question", server.getsockname()) == 8
    data, address = server.recvfrom(100)
    assert data == b"question"
    assert address[1] == client.getsockname()[1]
    server.sendto(b"answer", 0, address)
    assert client.recvfrom(100) == (b"answer", server.getsockname())


def test_a_datagram_is_cut_to_what_the_receiver_asks_for(world: Any) -> None:
    client, server = world.datagrams()
    for _ in range(2):
        client.sendto(b"0123456789", server.getsockname())
    assert server.recv(4) == b"0123"
    buffer = bytearray(b"." * 8)
    assert server.recvfrom_into(buffer, 3)[0] == 3
    assert buffer == b"012....."


def test_an_empty_datagram_is_one(world: Any) -> None:
    client, server = world.datagrams()
    client.sendto(b"", server.getsockname())
    assert server.recvfrom(10)[0] == b""


def test_a_connected_socket_sends_to_its_peer_and_hears_nobody_else(world: Any) -> None:
    client, server = world.datagrams()
    stranger = world.socket(kind=socket.SOCK_DGRAM)
    client.connect(server.getsockname())
    assert client.getpeername() == server.getsockname()
    client.send(b"hello")
    _, address = server.recvfrom(100)
    stranger.sendto(b"not for you", address)
    server.sendto(b"for you", address)
    assert client.recv(100) == b"for you"
    client.settimeout(0)
    with pytest.raises(BlockingIOError):
        client.recv(100)


def test_a_connected_socket_times_out_in_spite_of_strangers(world: Any) -> None:
    client, server = world.datagrams()
    stranger = world.socket(kind=socket.SOCK_DGRAM)
    client.connect(server.getsockname())
    stranger.sendto(b"not for you", client.getsockname())
    client.settimeout(0.05)
    with pytest.raises(TimeoutError, match="timed out"):
        client.recv(100)


def test_what_a_socket_without_a_peer_cannot_do(world: Any) -> None:
    sock = world.socket(kind=socket.SOCK_DGRAM)
    for act, number in (
        (lambda: sock.send(b"x"), errno.EDESTADDRREQ),
        (lambda: sock.getpeername(), errno.ENOTCONN),
        (lambda: sock.shutdown(socket.SHUT_RDWR), errno.ENOTCONN),
        (lambda: sock.listen(), errno.EOPNOTSUPP),
        (lambda: sock.accept(), errno.EOPNOTSUPP),
    ):
        with pytest.raises(OSError) as caught:  # noqa: PT011
            act()
        assert caught.value.errno == number
    with pytest.raises(TypeError):
        sock.sendto(b"x")


def test_a_port_is_taken_once(world: Any) -> None:
    _, server = world.datagrams()
    other = world.keep(world.server.socket(world.family, socket.SOCK_DGRAM))
    with pytest.raises(OSError, match=r"in use|taken") as caught:
        other.bind(server.getsockname())
    assert caught.value.errno == errno.EADDRINUSE


def test_a_datagram_larger_than_any_can_be_is_refused(world: Any) -> None:
    client, server = world.datagrams()
    with pytest.raises(OSError, match="too long") as caught:
        client.sendto(bytes(65_536), server.getsockname())
    assert caught.value.errno == errno.EMSGSIZE


def test_a_closed_socket_is_a_bad_descriptor(world: Any) -> None:
    client, server = world.datagrams()
    address = server.getsockname()
    client.close()
    for act in (lambda: client.sendto(b"x", address), lambda: client.recv(1), lambda: client.bind(("", 0))):
        with pytest.raises(OSError) as caught:  # noqa: PT011
            act()
        assert caught.value.errno == errno.EBADF
    assert client.fileno() == -1


def test_the_largest_datagram_of_the_lan_arrives(stacks: Any) -> None:
    web, client = stacks
    with web.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, client.socket(type=socket.SOCK_DGRAM) as sender:
        server.bind(("", 7))
        # An MTU of 65,535 less the headers of IPv4 (RFC 791) and UDP (RFC 768).
        sender.sendto(b"x" * 65_507, ("web", 7))
        server.settimeout(10)
        assert server.recv(1 << 17) == b"x" * 65_507
