"""TCP sockets of the LAN behave as those of the kernel: each fact is held against both."""

from __future__ import annotations

import errno
import socket
import threading
import time
from typing import Any

import pytest


def refused(world: Any) -> tuple[Any, ...]:
    """An address where nobody listens."""
    listener = world.listener()
    address: tuple[Any, ...] = listener.getsockname()
    listener.close()
    return address


def in_background(act: Any) -> tuple[threading.Thread, list[Any]]:
    """Runs `act` in a thread; what it returned or raised is in the list then."""
    came: list[Any] = []

    def run() -> None:
        try:
            came.append(act())
        except BaseException as error:
            came.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, came


def test_what_is_sent_arrives_and_the_end_of_the_stream_is_empty(world: Any) -> None:
    client, server = world.pair()
    assert client.send(b"hello") == 5
    assert server.recv(100) == b"hello"
    server.sendall(memoryview(b"and back"))
    assert client.recv(3) == b"and"
    assert client.recv(100) == b" back"
    client.close()
    assert server.recv(100) == b""
    assert server.recv(100) == b""


def test_addresses_of_both_ends_agree(world: Any) -> None:
    client, server = world.pair()
    assert client.getsockname() == server.getpeername()
    assert client.getpeername() == server.getsockname()
    assert len(client.getsockname()) == (4 if world.family == socket.AF_INET6 else 2)
    assert client.family == server.family == world.family
    assert client.type == socket.SOCK_STREAM


def test_accept_tells_who_came(world: Any) -> None:
    listener, client = world.listener(), world.socket()
    client.connect(listener.getsockname())
    connection, address = listener.accept()
    world.keep(connection)
    assert address == client.getsockname()
    assert connection.getblocking()


def test_half_a_connection_can_be_closed(world: Any) -> None:
    client, server = world.pair()
    client.sendall(b"question")
    client.shutdown(socket.SHUT_WR)
    assert server.recv(100) == b"question"
    assert server.recv(100) == b""
    server.sendall(b"answer")
    assert client.recv(100) == b"answer"
    with pytest.raises(BrokenPipeError):
        client.send(b"more")


def test_what_was_sent_before_close_is_delivered(world: Any) -> None:
    client, server = world.pair()
    client.sendall(b"x" * 100_000)
    client.close()
    got = 0
    while piece := server.recv(65_536):
        got += len(piece)
    assert got == 100_000


def test_nobody_listens_and_the_connection_is_refused(world: Any) -> None:
    address = refused(world)
    with pytest.raises(ConnectionRefusedError) as caught:
        world.socket().connect(address)
    assert caught.value.errno == errno.ECONNREFUSED
    assert world.socket().connect_ex(address) == errno.ECONNREFUSED


def test_after_a_refusal_the_same_socket_can_connect(world: Any) -> None:
    sock = world.socket(timeout=None)
    assert sock.connect_ex(refused(world)) == errno.ECONNREFUSED
    listener = world.listener()
    sock.connect(listener.getsockname())
    assert sock.getpeername() == listener.getsockname()


def test_a_bound_socket_that_does_not_listen_refuses_and_then_lets_in(world: Any) -> None:
    server = world.keep(world.server.socket(world.family, socket.SOCK_STREAM))
    server.bind((world.host, 0))
    address = server.getsockname()
    assert address[1] != 0
    assert world.socket().connect_ex(address) == errno.ECONNREFUSED
    server.listen()
    assert server.getsockname() == address
    world.socket().connect(address)


def test_a_port_is_taken_once(world: Any) -> None:
    listener = world.listener()
    other = world.keep(world.server.socket(world.family, socket.SOCK_STREAM))
    with pytest.raises(OSError, match=r"in use|taken") as caught:
        other.bind(listener.getsockname())
    assert caught.value.errno == errno.EADDRINUSE


def test_an_address_of_another_host_cannot_be_bound(world: Any) -> None:
    other = "192.0.2.1" if world.family == socket.AF_INET else "2001:db8::1"
    with pytest.raises(OSError, match=r"assign requested address|no address of this host") as caught:
        world.socket().bind((other, 0))
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_a_connection_can_begin_at_a_port_of_its_own(world: Any) -> None:
    listener, probe = world.listener(), world.socket()
    probe.bind(("", 0))
    port = probe.getsockname()[1]
    probe.connect(listener.getsockname())
    connection, address = listener.accept()
    world.keep(connection)
    assert address[1] == port == probe.getsockname()[1]


@pytest.mark.parametrize(
    ("act", "number"),
    [
        (lambda sock: sock.recv(1), errno.ENOTCONN),
        (lambda sock: sock.send(b"x"), errno.EPIPE),
        (lambda sock: sock.getpeername(), errno.ENOTCONN),
        (lambda sock: sock.shutdown(socket.SHUT_RDWR), errno.ENOTCONN),
        (lambda sock: sock.accept(), errno.EINVAL),
        (lambda sock: sock.setsockopt(socket.SOL_SOCKET, 12345, 1), errno.ENOPROTOOPT),
        (lambda sock: sock.getsockopt(socket.IPPROTO_TCP, 12345), errno.ENOPROTOOPT),
    ],
    ids=["recv", "send", "getpeername", "shutdown", "accept", "setsockopt", "getsockopt"],
)
def test_what_an_unconnected_socket_cannot_do(world: Any, act: Any, number: int) -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the number says it
        act(world.socket())
    assert caught.value.errno == number


@pytest.mark.parametrize(
    "act",
    [
        lambda sock: sock.recv(1),
        lambda sock: sock.send(b"x"),
        lambda sock: sock.sendall(b"x"),
        lambda sock: sock.accept(),
        lambda sock: sock.listen(),
        lambda sock: sock.connect(("127.0.0.1", 9)),
        lambda sock: sock.bind(("", 0)),
        lambda sock: sock.getsockname(),
        lambda sock: sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR),
        lambda sock: sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        lambda sock: sock.shutdown(socket.SHUT_RD),
    ],
)
def test_a_closed_socket_is_a_bad_descriptor(world: Any, act: Any) -> None:
    client, server = world.pair()
    for sock in (client, server, world.socket(), world.listener()):
        sock.close()
        sock.close()
        with pytest.raises(OSError) as caught:  # noqa: PT011
            act(sock)
        assert caught.value.errno == errno.EBADF
        assert sock.fileno() == -1
        assert "closed" in repr(sock)


def test_wrong_arguments_are_refused_alike(world: Any) -> None:
    sock = world.socket()
    with pytest.raises(TypeError):
        sock.connect("127.0.0.1:80")
    with pytest.raises(TypeError):
        sock.connect((1, 80))
    with pytest.raises(TypeError):
        sock.connect((world.host, "80"))
    with pytest.raises(OverflowError):
        sock.connect((world.host, 65_536))
    with pytest.raises(ValueError, match="out of range"):
        sock.settimeout(-1)
    with pytest.raises(TypeError):
        sock.settimeout("soon")
    client, _ = world.pair()
    with pytest.raises(ValueError, match="negative"):
        client.recv(-1)
    with pytest.raises(ValueError, match="negative"):
        client.recv_into(bytearray(1), -1)
    with pytest.raises(ValueError, match="too small"):
        client.recv_into(bytearray(1), 2)
    with pytest.raises(TypeError):
        client.send("text")
    with pytest.raises(OSError, match=r"."):
        client.shutdown(17)


def test_receiving_in_place(world: Any) -> None:
    client, server = world.pair()
    client.sendall(b"0123456789")
    buffer = bytearray(b"." * 8)
    assert server.recv_into(buffer, 4) == 4
    assert server.recv_into(memoryview(buffer)[4:6]) == 2
    assert buffer == b"012345.."
    assert server.recvfrom(1)[0] == b"6"
    assert server.recvfrom_into(buffer, 1)[0] == 1
    assert server.recvmsg(1)[0] == b"8"
    assert server.recvmsg_into([buffer])[0] == 1
    assert buffer == b"912345.."
    assert server.recv(0) == b""


def test_several_buffers_are_sent_as_one_stream(world: Any) -> None:
    client, server = world.pair()
    assert client.sendmsg([b"ab", bytearray(b"cd"), memoryview(b"ef")]) == 6
    assert server.recv(6, socket.MSG_WAITALL) == b"abcdef"


def test_waiting_for_all_of_it(world: Any) -> None:
    client, server = world.pair()
    server.settimeout(None)
    thread, came = in_background(lambda: server.recv(6, socket.MSG_WAITALL))
    for piece in (b"ab", b"cd", b"ef"):
        client.sendall(piece)
        time.sleep(0.01)
    thread.join(10)
    assert came == [b"abcdef"]


def test_a_file_is_sent(world: Any, tmp_path: Any) -> None:
    client, server = world.pair()
    file = tmp_path / "file"
    file.write_bytes(bytes(range(256)) * 300)
    with file.open("rb") as opened:
        assert client.sendfile(opened, offset=100, count=70_000) == 70_000
        assert opened.tell() == 70_100
    client.close()
    with server.makefile("rb") as stream:
        assert stream.read() == file.read_bytes()[100:70_100]


# Timeouts


def test_a_timeout_ends_each_kind_of_waiting(world: Any) -> None:
    client, server = world.pair()
    client.settimeout(0.05)
    for act in (lambda: client.recv(1), lambda: client.recv_into(bytearray(1)), lambda: fill(client)):
        began = time.monotonic()
        with pytest.raises(TimeoutError, match="timed out"):
            act()
        assert 0.04 < time.monotonic() - began < 5
    listener = world.listener()
    listener.settimeout(0.05)
    with pytest.raises(TimeoutError, match="timed out"):
        listener.accept()
    assert server.gettimeout() == 10.0


def fill(sock: Any) -> None:
    while True:
        sock.send(b"x" * 65_536)


def test_a_timeout_is_for_all_of_sendall(world: Any) -> None:
    client, _ = world.pair()
    client.settimeout(0.1)
    with pytest.raises(TimeoutError):
        client.sendall(b"x" * (64 << 20))


def test_no_timeout_looks_only(world: Any) -> None:
    client, server = world.pair()
    client.setblocking(False)
    assert client.gettimeout() == 0
    assert not client.getblocking()
    with pytest.raises(BlockingIOError) as caught:
        client.recv(1)
    assert caught.value.errno == errno.EAGAIN
    with pytest.raises(BlockingIOError) as caught:
        fill(client)
    assert caught.value.errno == errno.EAGAIN
    server.settimeout(None)
    with pytest.raises(BlockingIOError):
        while server.recv(1 << 20, socket.MSG_DONTWAIT):
            pass
    listener = world.listener()
    listener.settimeout(0)
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_the_default_timeout_is_that_of_the_socket_module(world: Any) -> None:
    socket.setdefaulttimeout(3.5)
    try:
        assert world.keep(world.client.socket()).gettimeout() == 3.5
    finally:
        socket.setdefaulttimeout(None)
    assert world.keep(world.client.socket()).gettimeout() is None


# Options


def test_options_that_programs_set_read_back(world: Any) -> None:
    client, _ = world.pair()
    for sock in (world.socket(), client):
        for level, option, value in [
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
            (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 2500),
        ]:
            sock.setsockopt(level, option, value)
            assert sock.getsockopt(level, option) == value
            assert sock.getsockopt(level, option, 4) == value.to_bytes(4, "little")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) > 0
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN) == world.family
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 100_000)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == b"\1\0\0\0\0\0\0\0"
    assert world.listener().getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 0


def test_options_of_the_listener_are_those_of_the_accepted(world: Any) -> None:
    listener, client = world.listener(), world.socket()
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.connect(listener.getsockname())
    connection, _ = listener.accept()
    world.keep(connection)
    assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_without_lingering_close_resets_the_connection(world: Any) -> None:
    client, server = world.pair()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    with pytest.raises(ConnectionResetError):
        server.recv(1)


# Threads


def test_shutdown_in_one_thread_wakes_recv_in_another(world: Any) -> None:
    client, _ = world.pair()
    client.settimeout(None)
    thread, came = in_background(lambda: client.recv(1))
    time.sleep(0.05)
    client.shutdown(socket.SHUT_RDWR)
    thread.join(10)
    assert came == [b""]


def test_two_threads_use_both_directions_at_once(world: Any) -> None:
    client, server = world.pair()
    size = 3_000_000
    thread, came = in_background(lambda: client.sendall(b"c" * size))
    answering, _ = in_background(lambda: server.sendall(b"s" * size))

    def read(sock: Any) -> int:
        got = 0
        while got < size:
            got += len(sock.recv(65_536))
        return got

    reading, read_by_server = in_background(lambda: read(server))
    assert read(client) == size
    for each in (thread, answering, reading):
        each.join(20)
    assert came == [None]
    assert read_by_server == [size]


# Files


@pytest.mark.parametrize("buffering", [-1, 0, 10])
def test_files_of_bytes(world: Any, buffering: int) -> None:
    client, server = world.pair()
    with client.makefile("wb", buffering) as out, server.makefile("rb", buffering) as into:
        out.write(b"first\nsecond\n")
        out.flush()
        assert into.readline() == b"first\n"
        assert into.read(7) == b"second\n"


def test_files_of_text_in_both_directions(world: Any) -> None:
    client, server = world.pair()
    with (
        client.makefile("rw", encoding="utf-8", newline="\n") as there,
        server.makefile("rw", encoding="utf-8") as here,
    ):
        there.write("größe\n")
        there.flush()
        assert here.readline() == "größe\n"
        here.write("ü\n")
        here.flush()
        assert there.readline() == "ü\n"
    with pytest.raises(ValueError, match="invalid mode"):
        client.makefile("x")


def test_a_file_keeps_the_connection_open_after_the_socket_is_closed(world: Any) -> None:
    client, server = world.pair()
    with client.makefile("rb") as file:
        client.close()
        server.sendall(b"still there")
        server.close()
        assert file.read() == b"still there"


def test_a_timeout_spoils_a_file(world: Any) -> None:
    client, _ = world.pair()
    client.settimeout(0.02)
    with client.makefile("rb") as file:
        with pytest.raises(TimeoutError):
            file.read(1)
        with pytest.raises(OSError, match="cannot read from timed out object"):
            file.read(1)
