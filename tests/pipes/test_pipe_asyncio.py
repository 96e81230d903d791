"""asyncio over pipes: its own readers, writers, transports and servers, with what they promise."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import support

import vnet
import vnet.pipes
from vnet.pipes import Pipe

Ends = Callable[..., tuple[Pipe, Pipe]]
Guests = tuple[vnet.Nic, vnet.Nic]


@pytest.fixture
def guests(lan: vnet.Lan) -> Iterator[Guests]:
    with lan.attach("host") as host, lan.attach("a") as a:
        yield host, a


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def test_they_are_asyncios_own(ends: Ends) -> None:
    a, b = ends()

    async def main() -> None:
        reader, writer = await a.streams()
        assert type(reader) is asyncio.StreamReader
        assert type(writer) is asyncio.StreamWriter
        assert isinstance(writer.transport, asyncio.Transport)
        writer.write(b"line\n")
        b.write(b"answer\nrest")
        assert await reader.readline() == b"answer\n"
        assert b.read(100) == b"line\n"
        assert writer.get_extra_info("peername") == ("", "pair")
        writer.write_eof()
        assert b.read() == b""
        b.close()
        assert await reader.read() == b"rest"
        await _closed(writer)
        assert a.closed

    asyncio.run(main())


def test_thousands_of_messages_of_many_clients(guests: Guests) -> None:
    host, a = guests

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
        await _closed(writer)

    async def client(number: int) -> int:
        reader, writer = await vnet.pipes.open_connection(a, "host", "echo")
        assert writer.get_extra_info("peername") == ("host", "echo")
        for count in range(300):
            writer.write(b"%d %d\n" % (number, count))
            assert await reader.readline() == b"%d %d\n" % (number, count)
        writer.write_eof()
        assert await reader.read() == b""
        await _closed(writer)
        return count + 1

    async def main() -> int:
        async with await vnet.pipes.start_server(host.listen("echo", backlog=64), echo):
            return sum(await asyncio.gather(*(client(number) for number in range(30))))

    assert asyncio.run(main()) == 9000


def test_much_goes_both_ways_at_one_time_to_another_process(
    across: Callable[..., tuple[Pipe, support.Guest]],
) -> None:
    pipe, other = across(
        """
import asyncio
async def main():
    reader, writer = await pipe.streams()
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()
asyncio.run(main())
nic.close()
""",
        size=1 << 15,
    )
    data = os.urandom(8_000_000)

    async def main() -> bytes:
        reader, writer = await pipe.streams()

        async def send() -> None:
            for at in range(0, len(data), 100_000):
                writer.write(data[at : at + 100_000])
                await writer.drain()
            writer.write_eof()

        sending = asyncio.create_task(send())
        got = await reader.read()
        await sending
        await _closed(writer)
        return got

    assert asyncio.run(main()) == data
    assert other.end()[0] == 0


def test_a_slow_reader_holds_the_writer_back(ends: Ends) -> None:
    a, b = ends(size=1 << 14)

    async def main() -> None:
        _, writer = await a.streams()
        written = 0

        async def send() -> None:
            nonlocal written
            for _ in range(1000):
                writer.write(bytes(10_000))
                written += 10_000
                await writer.drain()

        sending = asyncio.create_task(send())
        await asyncio.sleep(0.2)
        # The ring, the transport's buffer (64 KiB, and what takes it beyond), and no more.
        assert written <= (1 << 14) + (1 << 16) + 20_000
        assert not sending.done()
        reader, other = await b.streams()
        got = 0
        while got < 10_000_000:
            got += len(await reader.read(1 << 16))
        await sending
        await _closed(writer)
        await _closed(other)

    asyncio.run(main())


def test_a_reader_that_takes_nothing_stops_reading_the_pipe(ends: Ends) -> None:
    a, b = ends(size=1 << 16)

    async def main() -> None:
        reader, writer = await b.streams(limit=1 << 10)
        a.setblocking(False)
        put = 0
        for _ in range(50):
            put += a.write(bytes(10_000)) or 0
            await asyncio.sleep(0.002)
        # The ring, and what one reading of it brought into a reader that wanted no more.
        assert put <= (1 << 16) * 2 + (1 << 18)
        assert a.write(b"x") is None
        got = len(await reader.readexactly(put))
        assert got == put
        await _closed(writer)

    asyncio.run(main())


class _Noting(asyncio.Protocol):
    def __init__(self) -> None:
        self.said: list[Any] = []
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.said.append("made")

    def data_received(self, data: bytes) -> None:
        self.said.append(data)

    def eof_received(self) -> bool:
        self.said.append("end")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.said.append(type(exc))
        self.over.set_result(None)


def test_a_protocol_is_told_of_an_end_and_of_a_loss(ends: Ends) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        a, b = ends()
        _, noting = await loop.create_connection(_Noting, sock=a.socket())
        b.write(b"data")
        await asyncio.sleep(0.05)
        b.close()
        await noting.over
        assert noting.said == ["made", b"data", "end", type(None)]
        assert a.closed

        a, b = ends(size=4096)
        transport, noting = await loop.create_connection(_Noting, sock=a.socket())
        transport.write(bytes(1_000_000))
        b.shut_read()
        await noting.over
        assert noting.said == ["made", BrokenPipeError]
        b.close()

        a, b = ends()
        transport, noting = await loop.create_connection(_Noting, sock=a.socket())
        transport.abort()
        await noting.over
        assert noting.said == ["made", type(None)]
        assert b.read() == b""

    asyncio.run(main())


def test_a_peer_that_dies_is_a_reset(across: Callable[..., tuple[Pipe, support.Guest]]) -> None:
    pipe, other = across("pipe.write(b'last words')\nsay('said')\nhear()")
    assert other.hear() == "said"

    async def main() -> None:
        reader, writer = await pipe.streams()
        assert await reader.readexactly(10) == b"last words"
        reading = asyncio.create_task(reader.read(1))
        await asyncio.sleep(0.05)
        other.kill()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reading, 10)
        await _closed(writer)

    asyncio.run(main())


def test_cancellation_and_timeouts_leave_the_stream_whole(ends: Ends) -> None:
    a, b = ends()

    async def main() -> None:
        reader, writer = await a.streams()
        for _ in range(20):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(reader.readexactly(5), 0.005)
        b.write(b"123")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(reader.readexactly(5), 0.02)
        b.write(b"45")
        assert await asyncio.wait_for(reader.readexactly(5), 10) == b"12345"
        waiting = asyncio.create_task(reader.read(1))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        b.write(b"6")
        assert await reader.read(1) == b"6"
        await _closed(writer)

    asyncio.run(main())


def test_tls_of_asyncio_runs_over_it(guests: Guests) -> None:
    import trustme

    host, a = guests
    authority = trustme.CA()
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("host").configure_cert(ours)
    theirs = ssl.create_default_context()
    authority.configure_trust(theirs)

    async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper())
        await _closed(writer)

    async def main() -> None:
        async with await vnet.pipes.start_server(host.listen("tls"), upper, ssl=ours):
            reader, writer = await vnet.pipes.open_connection(a, "host", "tls", ssl=theirs)
            assert writer.get_extra_info("ssl_object").version().startswith("TLS")
            writer.write(b"hello\n")
            assert await reader.read() == b"HELLO\n"
            await _closed(writer)

    asyncio.run(main())


def _serving(act: Callable[[asyncio.AbstractServer], Awaitable[None]], listener: vnet.pipes.Listener) -> BaseException:
    async def main() -> BaseException:
        server = await listener.start_server(lambda reader, writer: writer.close())
        assert server.is_serving()
        serving = asyncio.create_task(server.serve_forever())  # type: ignore[attr-defined]
        await asyncio.sleep(0.02)
        await act(server)
        (result,) = await asyncio.wait_for(asyncio.gather(serving, return_exceptions=True), 10)
        assert not server.is_serving()
        server.close()
        await server.wait_closed()
        return result

    return asyncio.run(main())


def test_a_server_ends_with_its_listener_its_guest_and_its_lan() -> None:
    with vnet.Lan(None, "10.0.0.0/24") as lan:
        host, other = lan.attach("host"), lan.attach("other")

        async def close_listener(_: asyncio.AbstractServer) -> None:
            listener.close()

        async def close_guest(_: asyncio.AbstractServer) -> None:
            host.close()

        async def close_lan(_: asyncio.AbstractServer) -> None:
            lan.close()

        listener = host.listen("x")
        assert isinstance(_serving(close_listener, listener), vnet.ServiceGone)
        listener = host.listen("x")
        assert isinstance(_serving(close_guest, listener), vnet.NicClosed)
        listener = other.listen("x")
        assert isinstance(_serving(close_lan, listener), vnet.LanClosed)


def test_a_server_that_is_closed_frees_the_name(guests: Guests) -> None:
    host, _ = guests

    async def main() -> None:
        for _ in range(3):
            server = await vnet.pipes.start_server(host.listen("x"), lambda reader, writer: writer.close())
            assert server.get_loop() is asyncio.get_running_loop()
            server.close()
            await server.wait_closed()
        assert vnet.pipes.services(host) == []
        with host.listen("x", messages=True) as listener, pytest.raises(ValueError, match="messages"):
            await vnet.pipes.start_server(listener, lambda reader, writer: None)

    asyncio.run(main())


def test_opening_a_connection_that_cannot_be_leaves_nothing(guests: Guests) -> None:
    host, a = guests

    async def main() -> None:
        with pytest.raises(vnet.ServiceNotFound):
            await vnet.pipes.open_connection(a, "host", "x")
        with host.listen("x") as listener:
            with pytest.raises((TypeError, ValueError)):
                await vnet.pipes.open_connection(a, "host", "x", limit="much")
            # It was connected, and closed again.
            with listener.accept(10) as pipe:
                assert pipe.read() == b""

    asyncio.run(main())


def test_an_idle_pipe_costs_no_time(ends: Ends) -> None:
    # Neither reading nor writing spins where nothing is to be done.
    a, b = ends(size=4096)

    async def main() -> float:
        import time

        reader, writer = await a.streams()
        while b._end.room() and b.write(b"") is not None:
            # Full in the direction of `a`'s writes, and nothing to be read.
            writer.write(bytes(4096 * 20))
            break
        await asyncio.sleep(0.05)
        began = time.process_time()
        waiting = asyncio.create_task(reader.read(1))
        await asyncio.sleep(0.5)
        spent = time.process_time() - began
        waiting.cancel()
        writer.transport.abort()
        return spent

    assert asyncio.run(main()) < 0.25
