"""TLS over blocking sockets of the LAN; the other end is asyncio's TLS or the same, and certificates are trustme's."""

from __future__ import annotations

import contextlib
import http.server
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import trustme
from test_http import Handler, running

from vnet.stack import LanAdapter, TlsSocket, tls_context


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def serving(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("web", "10.0.0.1").configure_cert(context)
    return tls_context(context)


@pytest.fixture
def asking(authority: trustme.CA) -> ssl.SSLContext:
    context = tls_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def pair(stacks: Any, serving: ssl.SSLContext, asking: ssl.SSLContext) -> Iterator[tuple[Any, Any]]:
    """Two ends of a connection with TLS: the client's and the server's."""
    web, client = stacks
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(serving.wrap_socket(web.listen(443), server_side=True))
        accepted: list[Any] = []
        thread = threading.Thread(target=lambda: accepted.append(listener.accept()[0]))
        thread.start()
        there = asking.wrap_socket(client.connect(("web", 443), timeout=10), server_hostname="web")
        stack.enter_context(there)
        thread.join(10)
        yield there, stack.enter_context(accepted[0])


def test_both_ends_talk_and_know_each_other(pair: Any) -> None:
    client, server = pair
    assert isinstance(client, TlsSocket)
    client.sendall(b"question")
    assert server.recv(100) == b"question"
    server.sendall(b"answer")
    buffer = bytearray(10)
    assert client.recv_into(buffer) == 6
    assert ("DNS", "web") in client.getpeercert()["subjectAltName"]
    assert client.version() == server.version() == "TLSv1.3"
    assert client.cipher() == server.cipher()
    assert client.getpeername() == server.getsockname()


def test_megabytes_in_both_directions_at_once(pair: Any) -> None:
    client, server = pair
    size = 5_000_000
    threads = [threading.Thread(target=sock.sendall, args=(b"x" * size,)) for sock in pair]
    for thread in threads:
        thread.start()
    for sock in (client, server):
        with sock.makefile("rb") as file:
            assert file.read(size) == b"x" * size
    for thread in threads:
        thread.join(20)


def test_the_end_of_the_stream(pair: Any) -> None:
    client, server = pair
    client.sendall(b"last words")
    client.close()
    with server.makefile("rb") as file:
        assert file.read() == b"last words"
    with pytest.raises(OSError, match="Bad file descriptor"):
        client.recv(1)


def test_ending_tls_leaves_a_plain_connection(pair: Any) -> None:
    client, server = pair
    plain: list[Any] = []
    thread = threading.Thread(target=lambda: plain.append(server.unwrap()))
    thread.start()
    with client.unwrap() as there:
        thread.join(10)
        with plain[0] as here:
            there.sendall(b"in the clear")
            assert here.recv(100) == b"in the clear"


def test_timeouts_and_sockets_that_never_wait(pair: Any) -> None:
    client, server = pair
    client.settimeout(0.05)
    with pytest.raises(TimeoutError, match="read operation timed out"):
        client.recv(1)
    client.setblocking(False)
    with pytest.raises(ssl.SSLWantReadError):
        client.recv(1)
    with pytest.raises(ssl.SSLWantWriteError):
        while True:
            client.send(b"x" * 65_536)
    with pytest.raises(ValueError, match="flags"):
        server.recv(1, socket.MSG_PEEK)


def test_a_certificate_of_nobody_known_is_refused(stacks: Any, serving: ssl.SSLContext) -> None:
    web, client = stacks
    failures: list[BaseException] = []
    with serving.wrap_socket(web.listen(443), server_side=True) as listener:

        def accept() -> None:
            try:
                listener.accept()
            except OSError as failure:
                failures.append(failure)

        thread = threading.Thread(target=accept)
        thread.start()
        sock = client.connect(("web", 443), timeout=10)
        with pytest.raises(ssl.SSLCertVerificationError):
            tls_context().wrap_socket(sock, server_hostname="web")
        thread.join(10)
    # The client's alert says why.
    assert isinstance(failures[0], ssl.SSLError)
    assert "UNKNOWN_CA" in str(failures[0])


def test_ssl_by_itself_does_not_take_the_descriptor_for_the_socket(stacks: Any) -> None:
    web, client = stacks
    with web.listen(443), client.connect(("web", 443)) as sock:
        with pytest.raises(OSError, match="tls_context"):
            ssl.create_default_context().wrap_socket(sock, server_hostname="web")
        assert sock.send(b"still usable") == 12


def test_sockets_of_the_kernel_are_wrapped_as_ever(serving: ssl.SSLContext, asking: ssl.SSLContext) -> None:
    here, there = socket.socketpair()
    thread = threading.Thread(target=lambda: serving.wrap_socket(here, server_side=True).close())
    thread.start()
    with asking.wrap_socket(there, server_hostname="web") as wrapped:
        assert type(wrapped) is ssl.SSLSocket
        assert wrapped.recv(1) == b""
    thread.join(10)


def test_https_with_http_client_urllib_and_requests(
    stacks: Any, authority: trustme.CA, serving: ssl.SSLContext, asking: ssl.SSLContext, tmp_path: Any
) -> None:
    web, client = stacks
    server = web.server(http.server.ThreadingHTTPServer, 443, Handler)
    server.socket = serving.wrap_socket(server.socket, server_side=True)
    with running(server):
        connection = client.http_connection("web", timeout=10, tls=asking)
        connection.request("GET", "/client")
        assert connection.getresponse().read() == b"/client for 10.0.0.2"
        connection.close()
        with client.url_opener(tls=asking).open("https://web/urllib", timeout=10) as response:
            assert response.read() == b"/urllib for 10.0.0.2"
        trusted = tmp_path / "ca.pem"
        authority.cert_pem.write_to_path(trusted)
        with requests.Session() as session:
            session.mount("https://", LanAdapter(client))
            assert session.get("https://web/requests", verify=str(trusted), timeout=10).text == "/requests for 10.0.0.2"
            with pytest.raises(requests.exceptions.SSLError, match="certificate verify failed"):
                session.get("https://web/", timeout=10)
        with requests.Session() as session:
            session.mount("https://", LanAdapter(client, tls=asking))
            assert session.get("https://10.0.0.1/", verify=str(trusted), timeout=10).status_code == 200
