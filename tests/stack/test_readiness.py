"""fileno(): who waits with select, poll, epoll or selectors sees what happens; held against the kernel's sockets."""

from __future__ import annotations

import errno
import os
import select
import selectors
import socket
import time
from pathlib import Path
from typing import Any

import pytest

BOTH = select.POLLIN | select.POLLOUT


def polled(sock: Any, wait: float = 0.0) -> tuple[bool, bool]:
    """Whether the kernel's poll calls it readable and writable."""
    poll = select.poll()
    poll.register(sock, BOTH)
    ready = dict(poll.poll(wait * 1000)).get(sock.fileno(), 0)
    return bool(ready & select.POLLIN), bool(ready & select.POLLOUT)


def until(sock: Any, wanted: tuple[bool, bool]) -> bool:
    """Whether poll shows `wanted` within a while: what was sent is on its way for some time."""
    deadline = time.monotonic() + 10
    while polled(sock) != wanted:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def test_a_connection_is_readable_while_bytes_wait(world: Any) -> None:
    client, server = world.pair()
    assert until(server, (False, True))
    client.sendall(b"ab")
    assert until(server, (True, True))
    server.recv(1)
    assert polled(server) == (True, True)
    server.recv(1)
    assert until(server, (False, True))


def test_a_connection_is_not_writable_while_its_buffers_are_full(world: Any) -> None:
    client, server = world.pair()
    client.setblocking(False)
    server.setblocking(False)
    assert until(client, (False, True))
    # Both ends' buffers, and what is on its way between them.
    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline:
        try:
            client.send(b"x" * 65_536)
        except BlockingIOError:
            time.sleep(0.005)
    assert polled(client) == (False, False)
    assert polled(server)[0]
    while not polled(client)[1]:
        try:
            server.recv(1 << 20)
        except BlockingIOError:
            time.sleep(0.001)
    assert client.send(b"x") == 1


def test_the_end_of_a_stream_makes_it_readable(world: Any) -> None:
    client, server = world.pair()
    assert until(server, (False, True))
    client.shutdown(socket.SHUT_WR)
    assert until(server, (True, True))
    assert server.recv(1) == b""


def test_a_listener_is_readable_while_somebody_waits_to_be_accepted(world: Any) -> None:
    listener, client = world.listener(), world.socket()
    assert polled(listener) == (False, False)
    client.connect(listener.getsockname())
    assert until(listener, (True, False))
    world.keep(listener.accept()[0])
    assert until(listener, (False, False))


def test_udp_is_readable_while_datagrams_wait(world: Any) -> None:
    client, server = world.datagrams()
    assert polled(server) == (False, True)
    client.sendto(b"x", server.getsockname())
    assert until(server, (True, True))
    server.recv(1)
    assert until(server, (False, True))


def test_connecting_without_waiting(world: Any) -> None:
    listener, client = world.listener(), world.socket(timeout=0)
    number = client.connect_ex(listener.getsockname())
    assert number in (0, errno.EINPROGRESS)
    assert select.select([], [client], [], 10)[1]
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    client.getpeername()
    assert client.connect_ex(listener.getsockname()) in (0, errno.EISCONN)


def test_a_refusal_without_waiting_is_told_by_so_error_once(world: Any) -> None:
    listener, client = world.listener(), world.socket(timeout=0)
    address = listener.getsockname()
    listener.close()
    if (number := client.connect_ex(address)) == errno.EINPROGRESS:
        assert select.select([client], [client], [], 10)[1]
        number = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    assert number == errno.ECONNREFUSED
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def test_a_descriptor_asked_for_before_connecting_is_good_afterwards(world: Any) -> None:
    listener, client = world.listener(), world.socket(timeout=0)
    number = client.fileno()
    assert number >= 0
    client.connect_ex(listener.getsockname())
    assert select.select([], [number], [], 10)[1]
    assert client.fileno() == number
    server, _ = listener.accept()
    world.keep(server).sendall(b"x")
    assert select.select([number], [], [], 10)[0]
    assert client.recv(10) == b"x"


def test_a_descriptor_asked_for_before_listening_is_good_afterwards(world: Any) -> None:
    server = world.keep(world.server.socket(world.family))
    number = server.fileno()
    server.bind((world.host, 0))
    server.listen()
    world.socket().connect(server.getsockname())
    assert select.select([number], [], [], 10)[0]
    world.keep(server.accept()[0])


def test_edge_triggered_epoll_tells_of_each_change(world: Any) -> None:
    client, server = world.pair()
    with select.epoll() as epoll:
        epoll.register(server, select.EPOLLIN | select.EPOLLET)
        assert not epoll.poll(0)
        for _ in range(20):
            client.sendall(b"x")
            assert epoll.poll(10) == [(server.fileno(), select.EPOLLIN)]
            assert not epoll.poll(0)
            assert server.recv(10) == b"x"


def test_selectors_serve_many_connections_from_one_thread(world: Any) -> None:
    listener = world.listener(backlog=64)
    listener.setblocking(False)
    clients = [world.socket() for _ in range(40)]
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        for number, client in enumerate(clients):
            client.connect(listener.getsockname())
            client.sendall(f"client {number}".encode())
        answered = 0
        while answered < len(clients):
            ready = selector.select(10)
            assert ready, "nobody is ready"
            for key, _ in ready:
                if key.fileobj is listener:
                    connection = world.keep(listener.accept()[0])
                    connection.setblocking(False)
                    selector.register(connection, selectors.EVENT_READ)
                else:
                    key.fileobj.sendall(key.fileobj.recv(100).upper())
                    answered += 1
    assert [client.recv(100) for client in clients] == [f"CLIENT {number}".encode() for number in range(40)]


def test_who_writes_into_the_descriptor_is_refused(stacks: Any) -> None:
    web, client = stacks
    with web.listen(80) as listener, client.connect(("web", 80)) as sock:
        connection, _ = listener.accept()
        with connection:
            with pytest.raises(BrokenPipeError):
                os.write(sock.fileno(), b"past the stack")
            with open(__file__, "rb") as file, pytest.raises(BrokenPipeError):
                os.sendfile(sock.fileno(), file.fileno(), 0, 100)
            sock.sendall(b"through it")
            assert connection.recv(100) == b"through it"


def test_closing_gives_every_descriptor_back(stacks: Any) -> None:
    web, client = stacks
    with web.listen(80) as listener:
        listener.fileno()
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(20):
            sock = client.socket()
            sock.fileno()
            sock.connect(("web", 80))
            sock.fileno()
            connection, _ = listener.accept()
            connection.fileno()
            sock.close()
            connection.close()
        assert len(list(Path("/proc/self/fd").iterdir())) == before
