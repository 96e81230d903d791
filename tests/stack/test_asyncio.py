"""asyncio on the LAN: the event loop's own transports over a stack's sockets."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
import threading
from typing import Any

import pytest
import trustme

import vnet


def run(main: Any) -> Any:
    """asyncio.run, with the loop's debugging on: it looks for sockets that would block."""

    async def whole() -> Any:
        result = await asyncio.wait_for(main, 60)
        # Servers' connections end a moment after their clients'; cancelled ones would be told of in the log.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=10)
        return result

    return asyncio.run(whole(), debug=True)


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends each line back in capitals."""
    async for line in reader:
        writer.write(line.upper())
        await writer.drain()
    writer.close()
    await writer.wait_closed()


def test_streams_talk_line_by_line(stacks: Any) -> None:
    web, client = stacks

    async def main() -> None:
        async with await web.start_server(shout, port=7) as server:
            assert server.is_serving()
            assert server.sockets[0].getsockname()[1] == 7
            for host in ("web", "10.0.0.1", "fd00::1"):
                reader, writer = await client.open_connection(host, 7)
                for number in range(10):
                    writer.write(f"line {number}\n".encode())
                    assert await reader.readline() == f"LINE {number}\n".encode()
                assert writer.get_extra_info("peername")[:2] == (client.resolve(host)[0], 7)
                writer.close()
                await writer.wait_closed()
        assert not server.is_serving()

    run(main())


def test_many_megabytes_go_both_ways_at_once(stacks: Any) -> None:
    web, client = stacks
    data = bytes(range(256)) * 40_000

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()
        writer.close()

    async def main() -> bytes:
        async with await web.start_server(echo, port=7):
            reader, writer = await client.open_connection("web", 7)

            async def send() -> None:
                writer.write(data)
                await writer.drain()
                writer.write_eof()

            _, answer = await asyncio.gather(send(), reader.read())
            writer.close()
            await writer.wait_closed()
            return answer

    assert hashlib.sha256(run(main())).digest() == hashlib.sha256(data).digest()


def test_three_hundred_connections_are_served_at_once(stacks: Any) -> None:
    web, client = stacks

    async def one(number: int) -> str:
        reader, writer = await client.open_connection("10.0.0.1", 7)
        writer.write(f"from {number}\n".encode())
        line = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return line.decode().strip()

    async def main() -> list[str]:
        async with await web.start_server(shout, port=7, backlog=512):
            return await asyncio.gather(*map(one, range(300)))

    assert run(main()) == [f"FROM {number}" for number in range(300)]


def test_protocols_of_the_loop_take_sockets_of_the_stack(stacks: Any) -> None:
    web, client = stacks

    class Upper(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.writelines([data.upper(), b"!"])
            self.transport.close()

    class Collect(asyncio.Protocol):
        def __init__(self, done: asyncio.Future[bytes]) -> None:
            self.done, self.data = done, b""

        def data_received(self, data: bytes) -> None:
            self.data += data

        def connection_lost(self, error: Exception | None) -> None:
            self.done.set_result(self.data)

    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Upper, sock=web.listen(7))
        done: asyncio.Future[bytes] = loop.create_future()
        transport, _ = await loop.create_connection(lambda: Collect(done), sock=await client.sock_connect("web", 7))
        transport.write(b"hello")
        try:
            return await done
        finally:
            server.close()
            await server.wait_closed()

    assert run(main()) == b"HELLO!"


def test_the_loops_own_socket_calls_work(stacks: Any) -> None:
    web, client = stacks

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with web.listen(7) as listener, client.socket() as sock:
            for each in (listener, sock):
                each.setblocking(False)
            accepting = asyncio.ensure_future(loop.sock_accept(listener))
            await loop.sock_connect(sock, ("10.0.0.1", 7))
            connection, address = await accepting
            assert address == sock.getsockname()
            with connection:
                receiving = asyncio.ensure_future(loop.sock_recv(connection, 100))
                await asyncio.sleep(0)
                await loop.sock_sendall(sock, b"hello")
                assert await receiving == b"hello"
                buffer = bytearray(10)
                await loop.sock_sendall(connection, b"back")
                assert await loop.sock_recv_into(sock, buffer) == 4

    run(main())


def test_sending_a_file_falls_back_and_loses_nothing(stacks: Any, tmp_path: Any) -> None:
    web, client = stacks
    file = tmp_path / "file"
    file.write_bytes(bytes(range(256)) * 4096)

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with file.open("rb") as opened:
            # asyncio would have the kernel copy the file into the descriptor; that is refused, and it sends by itself.
            await asyncio.get_running_loop().sendfile(writer.transport, opened)
        writer.close()

    async def main() -> bytes:
        async with await web.start_server(serve, port=7):
            reader, writer = await client.open_connection("web", 7)
            data = await reader.read()
            writer.close()
            return data

    assert run(main()) == file.read_bytes()


def test_datagrams_through_the_loop(stacks: Any) -> None:
    web, client = stacks

    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, address: Any) -> None:
            self.transport.sendto(data.upper(), address)

    class Hear(asyncio.DatagramProtocol):
        def __init__(self, heard: asyncio.Future[bytes]) -> None:
            self.heard = heard

        def datagram_received(self, data: bytes, address: Any) -> None:
            self.heard.set_result(data)

    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        server = web.socket(type=socket.SOCK_DGRAM)
        server.bind(("", 7))
        serving, _ = await loop.create_datagram_endpoint(Echo, sock=server)
        heard: asyncio.Future[bytes] = loop.create_future()
        asking, _ = await loop.create_datagram_endpoint(lambda: Hear(heard), sock=client.socket(type=socket.SOCK_DGRAM))
        asking.sendto(b"hello", ("10.0.0.1", 7))
        try:
            return await heard
        finally:
            serving.close()
            asking.close()
            await asyncio.sleep(0)

    assert run(main()) == b"HELLO"


def test_what_cannot_be_connected_to_raises(stacks: Any) -> None:
    _, client = stacks

    async def main() -> None:
        with pytest.raises(ConnectionRefusedError):
            await client.open_connection("web", 9)
        with pytest.raises(socket.gaierror, match="did you mean 'web'"):
            await client.open_connection("webb", 9)
        with pytest.raises(OSError, match="No route to host"):
            await client.open_connection("10.0.0.99", 9)

    run(main())


def test_a_connection_that_is_waited_for_can_be_cancelled(stacks: Any, lan: vnet.Lan) -> None:
    _, client = stacks
    # A NIC that nobody reads: it answers no SYN.
    deaf = lan.attach("deaf", "10.0.0.9")

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.open_connection(deaf.name, 9), 0.05)

    run(main())


def test_a_server_ends_with_its_lan(lan: vnet.Lan, stacks: Any) -> None:
    web, client = stacks
    said: list[str] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context["message"]))
        server = await web.start_server(shout, port=7)
        reader, writer = await client.open_connection("web", 7)
        writer.write(b"hello\n")
        assert await reader.readline() == b"HELLO\n"
        threading.Timer(0.05, lan.close).start()
        with pytest.raises(vnet.LanClosed):
            await server.serve_forever()
        with pytest.raises(vnet.LanClosed):
            await reader.readline()
        writer.close()

    run(main())
    assert not any("_accept_connection" in message for message in said)


def test_a_listener_of_the_loop_hears_of_the_end_of_its_lan_once(lan: vnet.Lan, stacks: Any) -> None:
    web, _ = stacks
    heard: list[Any] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: heard.append(type(context.get("exception"))))
        server = await loop.create_server(asyncio.Protocol, sock=web.listen(7))
        lan.close()
        # An event loop that was told again and again would be told thousands of times meanwhile.
        await asyncio.sleep(0.3)
        server.close()
        await server.wait_closed()

    run(main())
    assert heard == [vnet.LanClosed]


def test_closing_the_stack_ends_what_the_loop_serves(stacks: Any) -> None:
    web, client = stacks
    heard: list[Any] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: heard.append(type(context.get("exception"))))
        server = await web.start_server(shout, port=7)
        reader, writer = await client.open_connection("web", 7)
        sock = client.socket(type=socket.SOCK_DGRAM)
        sock.bind(("", 7))
        transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=sock)
        client.close()
        with pytest.raises(vnet.NicClosed):
            await reader.readline()
        writer.close()
        web.close()
        with pytest.raises(vnet.NicClosed):
            await server.serve_forever()
        # An event loop that is told again and again would be told thousands of times meanwhile.
        await asyncio.sleep(0.2)
        assert transport.is_closing()

    run(main())
    assert len(heard) <= 4


def test_tls_over_streams(stacks: Any) -> None:
    web, client = stacks
    authority = trustme.CA()
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("web", "10.0.0.1").configure_cert(serving)
    asking = ssl.create_default_context()
    authority.configure_trust(asking)

    async def main() -> None:
        # That the last client breaks the handshake off would be told of in the log, which holds on to the transport.
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        async with await web.start_server(shout, port=443, ssl=serving):
            for host in ("web", "10.0.0.1"):
                reader, writer = await client.open_connection(host, 443, ssl=asking)
                writer.write(b"x" * 50_000 + b"\n")
                assert await reader.readline() == b"X" * 50_000 + b"\n"
                assert writer.get_extra_info("peercert")["subjectAltName"]
                writer.close()
                await writer.wait_closed()
            with pytest.raises(ssl.SSLCertVerificationError):
                await client.open_connection("web", 443, ssl=ssl.create_default_context())

    run(main())
