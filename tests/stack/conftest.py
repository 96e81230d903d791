"""Two worlds for the same facts: sockets of the kernel on the loopback, and sockets of two stacks on a LAN."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

import vnet
from vnet.stack import Stack


class World:
    """Where a test's sockets are: the server's side and the client's, and the server's address."""

    def __init__(self, server: Any, client: Any, host: str, family: int) -> None:
        self.server = server
        self.client = client
        self.host = host
        self.family = family
        self._open = contextlib.ExitStack()

    @property
    def on_the_lan(self) -> bool:
        return self.server is not socket

    def keep(self, sock: Any) -> Any:
        """Has a socket closed at the end of the test."""
        return self._open.enter_context(contextlib.closing(sock))

    def socket(self, *, kind: int = socket.SOCK_STREAM, timeout: float | None = 10.0) -> Any:
        """A new socket on the client's side."""
        sock = self.keep(self.client.socket(self.family, kind))
        sock.settimeout(timeout)
        return sock

    def listener(self, backlog: int = 16) -> Any:
        """A listening socket on the server's side."""
        sock = self.keep(self.server.socket(self.family, socket.SOCK_STREAM))
        sock.bind((self.host, 0))
        sock.listen(backlog)
        sock.settimeout(10.0)
        return sock

    def pair(self) -> tuple[Any, Any]:
        """A connection: the client's end and the server's."""
        listener = self.listener()
        client = self.socket()
        client.connect(listener.getsockname())
        server, _ = listener.accept()
        self.keep(server)
        server.settimeout(10.0)
        return client, server

    def datagrams(self) -> tuple[Any, Any]:
        """Two UDP sockets: the client's, and the server's, which is bound."""
        server = self.keep(self.server.socket(self.family, socket.SOCK_DGRAM))
        server.bind((self.host, 0))
        server.settimeout(10.0)
        return self.socket(kind=socket.SOCK_DGRAM), server

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()


@pytest.fixture
def stacks(lan: vnet.Lan) -> Iterator[tuple[Stack, Stack]]:
    """The stacks of two NICs, `web` and `client`."""
    with lan.attach("web").stack(seed=1) as web, lan.attach("client").stack(seed=2) as client:
        yield web, client


@pytest.fixture(params=["kernel", "lan", "lan6"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """The kernel's sockets are the oracle: what holds of them has to hold of the LAN's."""
    if request.param == "kernel":
        with World(socket, socket, "127.0.0.1", socket.AF_INET) as world:
            yield world
        return
    web, client = request.getfixturevalue("stacks")
    family = socket.AF_INET6 if request.param == "lan6" else socket.AF_INET
    with World(web, client, web.resolve("web", family)[0], family) as world:
        yield world
