"""Whatever the sizes in which it is sent and received, what arrives is what was sent."""

from __future__ import annotations

import contextlib
import hashlib
import random
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import support
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vnet
from vnet.stack import Stack


def transfer(sender: Any, receiver: Any, data: bytes, seed: int) -> bytes:
    """Sends and receives in pieces of random sizes by random calls; returns what arrived."""
    there, here = random.Random(seed), random.Random(seed + 1)

    def send() -> None:
        at = 0
        while at < len(data):
            piece = memoryview(data)[at : at + there.choice([1, 17, 1400, 9000, 65_536, 500_000])]
            if there.random() < 0.5:
                at += sender.send(piece)
            else:
                sender.sendall(piece)
                at += len(piece)
        sender.shutdown(1)

    thread = threading.Thread(target=send)
    thread.start()
    arrived = bytearray()
    buffer = bytearray(300_000)
    while True:
        size = here.choice([1, 100, 1460, 30_000, 300_000])
        piece = receiver.recv(size) if here.random() < 0.5 else buffer[: receiver.recv_into(buffer, size)]
        if not piece:
            break
        arrived += piece
    thread.join(60)
    return bytes(arrived)


@contextlib.contextmanager
def connection(server: Stack, client: Stack, address: str) -> Iterator[tuple[Any, Any]]:
    """Both ends of a connection between two stacks: the client's and the server's."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(server.listen(0))
        there = stack.enter_context(client.connect((address, listener.getsockname()[1]), timeout=30))
        here = stack.enter_context(listener.accept()[0])
        here.settimeout(30)
        yield there, here


@pytest.mark.parametrize("mtu", [1280, 1500, 9000, 65_535])
def test_megabytes_arrive_as_they_were_sent(mtu: int) -> None:
    data = random.Random(mtu).randbytes(8_000_000)
    with contextlib.ExitStack() as stack:
        lan = stack.enter_context(vnet.Lan(None, ["10.0.0.0/24", "fd00::/64"], mtu=mtu))
        a, b = (stack.enter_context(lan.attach(name).stack()) for name in "ab")
        for address in a.addresses:
            with connection(a, b, address) as (client, server):
                arrived = transfer(client, server, data, mtu)
                assert hashlib.sha256(arrived).digest() == hashlib.sha256(data).digest()


@settings(max_examples=support.examples(20), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200_000), seed=st.integers(0, 2**32))
def test_any_bytes_arrive_as_they_were_sent(stacks: Any, data: bytes, seed: int) -> None:
    with connection(*stacks, "web") as (client, server):
        assert transfer(client, server, data, seed) == data


def test_a_receiver_with_a_small_input_buffer_loses_nothing(lan: vnet.Lan) -> None:
    data = random.Random(1).randbytes(3_000_000)
    small = lan.attach("small", buffer=1 << 17)
    with small.stack() as a, lan.attach("b").stack() as b, connection(a, b, "small") as (client, server):
        assert transfer(client, server, data, 1) == data


def test_hundreds_of_connections_at_once_do_not_mix(stacks: Any) -> None:
    web, client = stacks
    with web.listen(7, backlog=1024) as listener:
        clients = [client.connect(("10.0.0.1", 7), timeout=30) for _ in range(400)]
        servers = [listener.accept()[0] for _ in clients]
        ends = {sock.getpeername(): sock for sock in servers}
        for number, sock in enumerate(clients):
            sock.sendall(f"I am {number}".encode())
        for number, sock in enumerate(clients):
            server = ends[sock.getsockname()]
            server.settimeout(30)
            assert server.recv(100) == f"I am {number}".encode()
            server.sendall(f"hello {number}".encode())
        for number, sock in enumerate(clients):
            assert sock.recv(100) == f"hello {number}".encode()
        for sock in (*clients, *servers):
            sock.close()
