"""HTTP of the standard library and of requests over the LAN: clients and servers that we did not write."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import http.server
import io
import socketserver
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from vnet.stack import LanAdapter


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the path, the client's address, and a digest of what was posted."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(f"{self.path} for {self.client_address[0]}".encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(hashlib.sha256(body).hexdigest().encode())

    def answer(self, text: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def running(server: socketserver.BaseServer) -> Iterator[None]:
    """A server in a thread, until the end of the block."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def site(stacks: Any) -> Iterator[Any]:
    """An HTTP server on `web`, port 80; gives the client's stack."""
    web, client = stacks
    with running(web.server(http.server.ThreadingHTTPServer, 80, Handler)):
        yield client


def test_http_client_asks_http_server(site: Any) -> None:
    connection = site.http_connection("web", 80, timeout=10)
    for number in range(3):
        connection.request("GET", f"/{number}")
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, f"/{number} for 10.0.0.2".encode())
    body = bytes(range(256)) * 8192
    connection.request("POST", "/upload", body)
    assert connection.getresponse().read().decode() == hashlib.sha256(body).hexdigest()
    connection.close()


def test_http_over_ipv6(site: Any) -> None:
    connection = site.http_connection("fd00::1", 80, timeout=10)
    with pytest.raises(ConnectionRefusedError):
        # An address of one family was listened on: the server's class has one.
        connection.request("GET", "/")
    with running(site.server(http.server.HTTPServer, ("fd00::2", 8080), Handler)):
        connection = site.http_connection("[fd00::2]:8080", timeout=10)
        connection.request("GET", "/six")
        assert connection.getresponse().read() == b"/six for fd00::2"
        connection.close()


def test_a_server_says_where_it_is(stacks: Any) -> None:
    web, _ = stacks
    with web.server(http.server.HTTPServer, 0, Handler) as server:
        assert server.server_name == "web"
        assert server.server_port == server.server_address[1] != 0
    with web.server(http.server.HTTPServer, ("web", 80), Handler) as server:
        assert server.server_address == ("10.0.0.1", 80)
        with pytest.raises(OSError, match="taken"):
            web.server(http.server.HTTPServer, ("web", 80), Handler)


def test_files_of_a_directory_are_served(stacks: Any, tmp_path: Path) -> None:
    web, client = stacks
    (tmp_path / "big.bin").write_bytes(bytes(range(256)) * 20_000)

    class Files(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(tmp_path))

        def log_message(self, *_: object) -> None:
            pass

    with running(web.server(http.server.ThreadingHTTPServer, 80, Files)):
        connection = client.http_connection("web", timeout=10)
        connection.request("GET", "/big.bin")
        with connection.getresponse() as response:
            assert response.read() == (tmp_path / "big.bin").read_bytes()
        connection.close()


def test_urllib_opens_urls_of_the_lan(site: Any) -> None:
    opener = site.url_opener()
    with opener.open("http://web/page", timeout=10) as response:
        assert response.read() == b"/page for 10.0.0.2"
    with pytest.raises(urllib.error.URLError, match="refused"):
        opener.open("http://web:81/", timeout=10)


def test_requests_go_over_the_lan(site: Any) -> None:
    with requests.Session() as session:
        session.mount("http://", LanAdapter(site))
        for number in range(3):
            assert session.get(f"http://web/{number}", timeout=10).text == f"/{number} for 10.0.0.2"
        body = io.BytesIO(b"x" * 3_000_000)
        assert (
            session.post("http://10.0.0.1/", data=body, timeout=10).text == hashlib.sha256(body.getvalue()).hexdigest()
        )


def test_requests_raise_their_own_errors(site: Any) -> None:
    with requests.Session() as session:
        session.mount("http://", LanAdapter(site))
        with pytest.raises(requests.ConnectionError, match="Connection refused"):
            session.get("http://web:81/")
        with pytest.raises(requests.ConnectionError, match="did you mean 'web'"):
            session.get("http://wep/")
        with pytest.raises(requests.ConnectionError, match="No route to host"):
            session.get("http://10.0.0.99/")
        with pytest.raises(ValueError, match=r"proxy .*:3128 is not on the LAN"):
            session.get("http://web/", proxies={"http": "http://10.0.0.3:3128"})


def test_a_server_that_says_nothing_is_a_timeout_of_requests(stacks: Any) -> None:
    web, client = stacks
    with web.listen(80), requests.Session() as session:
        session.mount("http://", LanAdapter(client))
        with pytest.raises(requests.ReadTimeout):
            session.get("http://web/", timeout=0.05)


class Shout(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.upper())


class ShoutOnce(socketserver.DatagramRequestHandler):
    def handle(self) -> None:
        self.wfile.write(self.rfile.read().upper())


@pytest.mark.parametrize("kind", [socketserver.TCPServer, socketserver.ThreadingTCPServer])
def test_socketserver_serves_tcp(stacks: Any, kind: Any) -> None:
    web, client = stacks
    with running(web.server(kind, 7, Shout)):
        for _ in range(3):
            with client.connect(("web", 7), timeout=10) as sock, sock.makefile("rw") as file:
                print("hello", file=file, flush=True)
                assert file.readline() == "HELLO\n"


def test_socketserver_serves_udp(stacks: Any) -> None:
    web, client = stacks
    with running(web.server(socketserver.UDPServer, ("web", 7), ShoutOnce)), client.socket(type=2) as sock:
        sock.settimeout(10)
        sock.sendto(b"hello", ("web", 7))
        assert sock.recvfrom(100) == (b"HELLO", ("10.0.0.1", 7))


def test_what_is_no_network_server_is_refused(stacks: Any) -> None:
    with pytest.raises(TypeError, match="no TCP or UDP server"):
        stacks[0].server(socketserver.BaseServer, 7, Shout)


def test_a_request_that_is_cut_short_is_told(site: Any) -> None:
    with site.connect(("web", 80), timeout=10) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        response = http.client.HTTPResponse(sock)
        response.begin()
        assert response.status == 200
        response.close()
