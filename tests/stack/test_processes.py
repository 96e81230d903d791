"""Sockets between processes: what each sees when the other talks, is killed, forks, or the base dies."""

from __future__ import annotations

import errno
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import support

import vnet

ECHO = """
with vnet.attach("office", "echo") as nic, nic.stack() as stack, stack.listen(7) as listener:
    say("up")
    while True:
        connection, address = listener.accept()
        with connection:
            while piece := connection.recv(65536):
                connection.sendall(piece)
"""


def test_an_echo_goes_from_process_to_process(named: vnet.Lan, guest: Callable[..., support.Guest]) -> None:
    echo = guest(ECHO)
    assert echo.hear() == "up"
    asking = guest("""
with vnet.attach("office", "asking") as nic, nic.stack() as stack:
    for host in ("echo", *stack.resolve("echo")):
        with stack.connect((host, 7), timeout=10) as sock, sock.makefile("rwb") as file:
            for number in range(100):
                file.write(b"line %d\\n" % number)
                file.flush()
                assert file.readline() == b"line %d\\n" % number
        say(host)
""")
    assert [asking.hear() for _ in range(3)] == ["echo", "10.0.0.1", "fd00::1"]
    assert asking.end() == (0, "", "")


def test_a_peer_that_is_killed_is_a_timeout_or_unreachable(
    named: vnet.Lan, guest: Callable[..., support.Guest]
) -> None:
    echo = guest(ECHO)
    assert echo.hear() == "up"
    with named.attach("me").stack() as stack, stack.connect(("echo", 7), timeout=10) as sock:
        sock.sendall(b"alive")
        assert sock.recv(10) == b"alive"
        echo.kill()
        # Nobody is there to say so, as when a machine loses its power.
        sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        with pytest.raises(OSError, match=r"No route to host|unreachable"):
            stack.connect((sock.getpeername()[0], 7), timeout=10)


def test_a_process_that_ends_tells_its_peers(named: vnet.Lan, guest: Callable[..., support.Guest]) -> None:
    with named.attach("me").stack() as stack, stack.listen(7) as listener:
        other = guest("""
nic = vnet.attach("office", "other")
sock = nic.stack().connect(("me", 7))
sock.sendall(b"last words")
say("done")
""")
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(10)
            assert connection.recv(100) == b"last words"
            assert connection.recv(100) == b""
    code, _, errors = other.end()
    assert (code, errors) == (0, "")


def test_the_end_of_the_base_wakes_everybody(named: vnet.Lan, guest: Callable[..., support.Guest]) -> None:
    base = guest("""
lan = vnet.Lan("short", "10.0.0.0/24")
say("up")
hear()
""")
    assert base.hear() == "up"
    waiting = guest("""
with vnet.attach("short", "a") as a, vnet.attach("short", "b") as b, a.stack() as one, b.stack() as two:
    listener = one.listen(7)
    sock = two.connect(("a", 7))
    connection = listener.accept()[0]
    datagrams = one.socket(type=2)
    datagrams.bind(("", 7))
    heard = {}
    def wait(name, act):
        try:
            act()
        except BaseException as error:
            heard[name] = type(error).__name__
    threads = [threading.Thread(target=wait, args=each) for each in (
        ("accept", listener.accept),
        ("recv", lambda: connection.recv(1)),
        ("recvfrom", lambda: datagrams.recvfrom(1)),
        ("sendall", lambda: connection.sendall(bytes(1 << 24))),
    )]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    say("waiting")
    for thread in threads:
        thread.join()
    wait("connect", lambda: two.connect(("10.0.0.1", 7)))
    wait("resolve", lambda: two.resolve("other"))
    wait("listen", lambda: two.listen(8))
    for each in (listener, sock, connection, datagrams):
        each.close()
    for name in ("accept", "recv", "recvfrom", "sendall", "connect", "resolve", "listen"):
        say(name, heard[name])
""")
    assert waiting.hear() == "waiting"
    base.kill()
    for each in ("accept", "recv", "recvfrom", "sendall", "connect", "resolve", "listen"):
        assert waiting.hear() == f"{each} LanClosed"
    assert waiting.end() == (0, "", "")


@pytest.mark.parametrize(
    "act",
    ["sock.recv(1)", "listener.accept()", "sock.sendall(bytes(1 << 26))", "datagrams.recvfrom(1)", "deaf.connect(far)"],
)
def test_ctrl_c_ends_each_kind_of_waiting(named: vnet.Lan, guest: Callable[..., support.Guest], act: str) -> None:
    quiet = named.attach("quiet", "10.0.0.50")
    waiting = guest(
        """
with vnet.attach("office", "a") as a, a.stack() as stack:
    listener, datagrams, deaf, far = stack.listen(7), stack.socket(type=2), stack.socket(), ("10.0.0.50", 7)
    sock = stack.connect(("10.0.0.1", 7))
    connection = listener.accept()[0]
    say("waiting")
    try:
        """
        + act
        + """
    except KeyboardInterrupt:
        say("interrupted")
    for each in (listener, sock, connection, datagrams, deaf):
        each.close()
"""
    )
    assert waiting.hear() == "waiting"
    time.sleep(0.1)
    os.kill(waiting.pid, signal.SIGINT)
    assert waiting.hear() == "interrupted"
    assert waiting.end() == (0, "", "")
    quiet.close()


def test_a_forked_child_cannot_use_the_sockets_and_harms_nobody(stacks: Any) -> None:
    web, client = stacks
    with web.listen(7) as listener, client.connect(("web", 7), timeout=10) as sock:
        connection, _ = listener.accept()
        sock.fileno()
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            words = []
            for act in (lambda: sock.send(b"x"), lambda: listener.accept(), lambda: client.connect(("10.0.0.1", 7))):
                try:
                    act()
                except BaseException as error:
                    words.append(type(error).__name__)
            for each in (sock, connection, listener, web, client):
                each.close()
            os.write(writer, " ".join(words).encode())
            os._exit(0)
        os.close(writer)
        assert os.waitpid(child, 0)[1] == 0
        assert os.read(reader, 1000) == b"ForkedNic ForkedNic ForkedNic"
        os.close(reader)
        sock.sendall(b"still here")
        with connection:
            assert connection.recv(100) == b"still here"


def test_close_in_one_thread_wakes_others(stacks: Any) -> None:
    web, client = stacks
    listener = web.listen(7)
    sock = client.connect(("web", 7))
    connection = listener.accept()[0]
    datagrams = client.socket(type=2)
    datagrams.bind(("", 7))
    heard: dict[str, Any] = {}

    def wait(name: str, act: Callable[[], object]) -> None:
        try:
            heard[name] = act()
        except OSError as error:
            heard[name] = error.errno

    waits = {"accept": listener.accept, "recv": lambda: sock.recv(1), "recvfrom": lambda: datagrams.recvfrom(1)}
    threads = [threading.Thread(target=wait, args=each) for each in waits.items()]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    for each in (listener, sock, datagrams):
        each.close()
    for thread in threads:
        thread.join(10)
    connection.close()
    assert heard == dict.fromkeys(waits, errno.EBADF)


def test_closing_the_nic_closes_its_stack(lan: vnet.Lan) -> None:
    nic = lan.attach("a")
    stack = nic.stack()
    listener = stack.listen(7)
    nic.close()
    assert stack.closed
    with pytest.raises(vnet.NicClosed):
        listener.accept()
    listener.close()
    with pytest.raises(vnet.NicClosed):
        stack.socket()
    stack.close()


def test_a_nic_has_one_stack_at_a_time_and_can_have_another(lan: vnet.Lan) -> None:
    nic, other = lan.attach("a"), lan.attach("b")
    with nic.stack():
        with pytest.raises(ValueError, match="stack already"):
            nic.stack()
        with pytest.raises(ValueError, match="goes to its stack"):
            nic.recv(timeout=0)
    other.send(support.datagram("10.0.0.2", "10.0.0.1", b"raw again"))
    assert nic.recv(timeout=10).endswith(b"raw again")
    with nic.stack(seed=7) as again, again.listen(7) as listener:
        assert listener.getsockname()[1] == 7
    for seed in (-1, 2**64):
        with pytest.raises(ValueError, match="seed"):
            nic.stack(seed=seed)


def test_a_forgotten_socket_is_told(stacks: Any) -> None:
    web, _ = stacks
    with pytest.warns(ResourceWarning, match=r"unclosed <vnet.stack.StreamSocket tcp .*:7>"):
        web.listen(7)


def test_sockets_hold_their_stack_and_nic(named: vnet.Lan) -> None:
    def connect() -> Any:
        # Nobody but the socket holds the NIC and its stack.
        return vnet.attach("office", "b").stack().connect(("a", 7), timeout=10)

    with named.attach("a").stack() as server, server.listen(7) as listener, connect() as sock:
        connection, _ = listener.accept()
        with connection:
            sock.sendall(b"x")
            assert connection.recv(1) == b"x"


def test_a_stack_answers_ping_and_refuses_udp(lan: vnet.Lan) -> None:
    host = lan.host("host")
    with lan.attach("a").stack() as stack:
        run = host.ping(stack.addresses[0], count=3)
        assert run.received == 3
        assert re.match(r"<Stack of <Nic a ", repr(stack))
