"""Servers and clients of the standard library run over pipes as they are: HTTP, XML-RPC, socketserver."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import io
import os
import socketserver
import threading
import xmlrpc.client
import xmlrpc.server
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import support

import vnet
import vnet.pipes
from vnet.pipes import Pipe

Ends = Callable[..., tuple[Pipe, Pipe]]
Across = Callable[..., tuple[Pipe, support.Guest]]

# More than fits a pipe many times over.
BIG = 5_000_000


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        size = int(self.path[1:])
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.send_header("X-Client", str(self.client_address[0]))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        for at in range(0, size, 100_000):
            self.wfile.write(b"x" * min(100_000, size - at))

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for at in range(0, len(data), 70_000):
            piece = data[at : at + 70_000]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def web(lan: vnet.Lan) -> Iterator[tuple[vnet.Nic, http.server.HTTPServer]]:
    """A web server of the standard library on guest `host`, and guest `a`."""
    with lan.attach("host") as host, lan.attach("a") as a:
        server = vnet.pipes.make_server(host.listen("web"), http.server.ThreadingHTTPServer, _Handler)
        with server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            yield a, server
            server.shutdown()
            thread.join()


def test_http_client_and_server_of_the_standard_library(web: tuple[vnet.Nic, http.server.HTTPServer]) -> None:
    a, server = web
    with contextlib.closing(vnet.pipes.HTTPConnection(a, "host", "web", timeout=20)) as connection:
        # One connection for all of them.
        for size in (0, 1, BIG):
            connection.request("GET", f"/{size}")
            response = connection.getresponse()
            assert response.status == 200
            assert response.read() == b"x" * size
            assert response.headers["X-Client"] == "a"
        data = os.urandom(BIG)
        connection.request("POST", "/", body=data)
        assert connection.getresponse().read() == data
        connection.request("POST", "/", body=io.BytesIO(data), headers={"Content-Length": str(len(data))})
        assert connection.getresponse().read() == data
        assert connection.sock.getpeername() == ("host", "web")
    assert server.server_address == ("host", "web")


def test_many_http_clients_at_one_time(web: tuple[vnet.Nic, http.server.HTTPServer]) -> None:
    a, _ = web
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            with contextlib.closing(vnet.pipes.HTTPConnection(a, "host", "web", timeout=20)) as connection:
                for size in (10, 100_000, 3):
                    connection.request("GET", f"/{size}")
                    assert len(connection.getresponse().read()) == size
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert failures == []


def test_a_plain_connection_of_http_client_takes_a_socket(web: tuple[vnet.Nic, http.server.HTTPServer]) -> None:
    a, _ = web
    with contextlib.closing(http.client.HTTPConnection("anything")) as connection:
        connection.sock = a.connect("host", "web").socket()
        connection.request("GET", "/5", headers={"Connection": "close"})
        response = connection.getresponse()
        # The connection is closed behind it, and it still reads.
        assert connection.sock is None
        assert response.read() == b"xxxxx"


def test_a_service_that_is_not_there_is_told_to_the_client_of_http(lan: vnet.Lan) -> None:
    with lan.attach("a") as a:
        connection = vnet.pipes.HTTPConnection(a, "a", "web")
        with pytest.raises(vnet.ServiceNotFound):
            connection.request("GET", "/")


def test_xmlrpc_calls_over_it(lan: vnet.Lan) -> None:
    class Transport(xmlrpc.client.Transport):
        def make_connection(self, host: Any) -> Any:
            return vnet.pipes.HTTPConnection(a, host, "calls")

    with lan.attach("host") as host, lan.attach("a") as a:
        kind: Any = xmlrpc.server.SimpleXMLRPCServer
        listener = host.listen("calls")
        with vnet.pipes.make_server(
            listener, socketserver.TCPServer, xmlrpc.server.SimpleXMLRPCRequestHandler
        ) as server:
            # What SimpleXMLRPCServer adds to a TCPServer.
            dispatcher: Any = xmlrpc.server.SimpleXMLRPCDispatcher(allow_none=True)
            dispatcher.register_function(lambda *numbers: sum(numbers), "add")
            dispatcher.register_function(lambda text: text[::-1], "reverse")
            server._dispatch = dispatcher._dispatch  # type: ignore[attr-defined]
            server._marshaled_dispatch = dispatcher._marshaled_dispatch  # type: ignore[attr-defined]
            server.logRequests = False  # type: ignore[attr-defined]
            assert kind
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            try:
                with xmlrpc.client.ServerProxy("http://host", transport=Transport()) as proxy:
                    assert proxy.add(1, 2, 3) == 6
                    assert proxy.reverse("x" * 100_000 + "y") == "y" + "x" * 100_000
                    with pytest.raises(xmlrpc.client.Fault):
                        proxy.nothing()
            finally:
                server.shutdown()
                thread.join()


def test_a_server_of_socketserver_serves_streams(lan: vnet.Lan) -> None:
    class Upper(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                self.wfile.write(line.upper())

    with lan.attach("host") as host, lan.attach("a") as a:
        with vnet.pipes.make_server(host.listen("upper"), socketserver.ThreadingTCPServer, Upper) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            try:
                with a.connect("host", "upper") as pipe:
                    pipe.write(b"one\ntwo\n")
                    pipe.shut_write()
                    assert pipe.read() == b"ONE\nTWO\n"
            finally:
                server.shutdown()
                thread.join()
        with host.listen("x") as listener, pytest.raises(TypeError, match="no server of streams"):
            vnet.pipes.make_server(listener, socketserver.UDPServer, Upper)
        with host.listen("x", messages=True) as listener, pytest.raises(ValueError, match="messages"):
            vnet.pipes.make_server(listener, socketserver.TCPServer, Upper)
