"""Stream software written for files and sockets runs over pipes as it is, with much data, in both directions."""

from __future__ import annotations

import contextlib
import csv
import errno
import gzip
import hashlib
import io
import itertools
import json
import lzma
import os
import pickle
import shutil
import ssl
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import support

from vnet.pipes import Pipe

Ends = Callable[..., tuple[Pipe, Pipe]]
Across = Callable[..., tuple[Pipe, support.Guest]]

# More than fits a pipe many times over, and nothing that a compressor would make little of.
BIG = 5_000_000


@contextlib.contextmanager
def beside(act: Callable[[], Any]) -> Iterator[None]:
    """Does something in a thread meanwhile, and raises here what it raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join()
    if raised:
        raise raised[0]


# The other process answers with what it got, each in its own way; each reads from the raw pipe or a file of it and
# writes the same back.
_ECHOES = {
    "pickle": """
file = pipe.makefile("rb")
while True:
    try:
        thing = pickle.load(file)
    except EOFError:
        break
    pickle.dump(thing, pipe)
""",
    "gzip": """
import gzip
with gzip.GzipFile(fileobj=pipe.makefile("rb")) as file:
    data = file.read()
with gzip.GzipFile(fileobj=pipe, mode="wb", compresslevel=1) as file:
    file.write(data)
""",
    "lzma": """
import lzma
with lzma.open(pipe.makefile("rb")) as file:
    data = file.read()
with lzma.open(pipe, "wb", preset=0) as file:
    file.write(data)
""",
    "bytes": """
import shutil
shutil.copyfileobj(pipe, pipe)
""",
    "lines": """
with pipe.makefile("r", encoding="utf-8", newline="\\n") as reader:
    with pipe.makefile("w", encoding="utf-8", newline="\\n") as writer:
        for line in reader:
            json.dump(json.loads(line), writer)
            writer.write("\\n")
""",
    "csv": """
import csv
with pipe.makefile("r", newline="") as reader, pipe.makefile("w", newline="") as writer:
    csv.writer(writer).writerows(csv.reader(reader))
""",
}
_ENDING = """
pipe.close()
nic.close()
"""


def test_pickles_of_any_size_go_to_another_process_and_back(across: Across) -> None:
    pipe, other = across(_ECHOES["pickle"] + _ENDING, size=1 << 16)
    things: list[Any] = [0, "text", list(range(200_000)), os.urandom(BIG), {"nested": [{"x": (1, 2.5, None)}] * 100}]

    def send() -> None:
        for each in things:
            pickle.dump(each, pipe)
        pipe.shut_write()

    with beside(send), pipe.makefile("rb") as file:
        for each in things:
            assert pickle.load(file) == each
        with pytest.raises(EOFError):
            pickle.load(file)
    assert other.end()[0] == 0


def test_pickle_loads_small_things_from_the_raw_pipe(ends: Ends) -> None:
    a, b = ends()
    for each in (1, "text", {"a": [1, 2, 3]}):
        pickle.dump(each, a)
        assert pickle.load(b) == each


@pytest.mark.parametrize("kind", ["gzip", "lzma"])
def test_compressed_streams_go_to_another_process_and_back(across: Across, kind: str) -> None:
    pipe, other = across(_ECHOES[kind] + _ENDING, size=1 << 16)
    data = os.urandom(BIG // 5) + bytes(BIG)
    module: Any = gzip if kind == "gzip" else lzma
    with module.open(pipe, "wb", **{"gzip": {"compresslevel": 1}, "lzma": {"preset": 0}}[kind]) as file:
        file.write(data)
    pipe.shut_write()
    with module.open(pipe.makefile("rb")) as file:
        assert hashlib.sha256(file.read()).digest() == hashlib.sha256(data).digest()
    assert other.end()[0] == 0


def test_copyfileobj_copies_through_another_process(across: Across, tmp_path: Path) -> None:
    pipe, other = across(_ECHOES["bytes"] + _ENDING, size=1 << 14)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(BIG))

    def send() -> None:
        with source.open("rb") as file:
            shutil.copyfileobj(file, pipe)
        pipe.shut_write()

    with beside(send), target.open("wb") as file:
        shutil.copyfileobj(pipe, file)
    assert target.read_bytes() == source.read_bytes()
    assert other.end()[0] == 0


def test_json_lines_go_to_another_process_and_back(across: Across) -> None:
    pipe, other = across(_ECHOES["lines"] + _ENDING, size=1 << 14)
    records = [{"number": number, "text": "größe " * (number % 50), "list": [number] * 5} for number in range(5000)]

    def send() -> None:
        with pipe.makefile("w", encoding="utf-8", newline="\n") as file:
            for each in records:
                file.write(json.dumps(each) + "\n")
        pipe.shut_write()

    with beside(send), pipe.makefile("r", encoding="utf-8", newline="\n") as file:
        assert [json.loads(line) for line in file] == records
    assert other.end()[0] == 0


def test_csv_goes_to_another_process_and_back(across: Across) -> None:
    pipe, other = across(_ECHOES["csv"] + _ENDING, size=1 << 14)
    rows = [[str(number), 'a "quoted", text', "two\nlines", ""] for number in range(5000)]

    def send() -> None:
        with pipe.makefile("w", newline="") as file:
            csv.writer(file).writerows(rows)
        pipe.shut_write()

    with beside(send), pipe.makefile("r", newline="") as file:
        assert list(csv.reader(file)) == rows
    assert other.end()[0] == 0


def test_a_tar_streams_to_another_process(across: Across, tmp_path: Path) -> None:
    pipe, other = across(
        """
import hashlib, tarfile
with tarfile.open(fileobj=pipe.makefile("rb"), mode="r|") as tar:
    for member in tar:
        data = tar.extractfile(member).read()
        say(member.name, len(data), hashlib.sha256(data).hexdigest())
"""
        + _ENDING,
        size=1 << 16,
    )
    expected = []
    for name, size in [("small", 10), ("empty", 0), ("big", BIG), ("last", 513)]:
        (tmp_path / name).write_bytes(os.urandom(size))
        expected.append(f"{name} {size} {hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()}")
    with tarfile.open(fileobj=pipe, mode="w|") as tar:
        for name in ("small", "empty", "big", "last"):
            tar.add(tmp_path / name, arcname=name)
    pipe.close()
    assert [other.hear() for _ in expected] == expected
    assert other.end()[0] == 0


def test_a_tar_streams_compressed(ends: Ends, tmp_path: Path) -> None:
    a, b = ends(size=1 << 14)
    (tmp_path / "file").write_bytes(os.urandom(300_000))

    def send() -> None:
        with tarfile.open(fileobj=a, mode="w|gz") as tar:
            tar.add(tmp_path / "file", arcname="file")
        a.close()

    with beside(send), tarfile.open(fileobj=b, mode="r|gz") as tar:
        member = tar.next()
        assert member is not None
        file = tar.extractfile(member)
        assert file is not None
        assert file.read() == (tmp_path / "file").read_bytes()


def test_a_zip_is_written_to_a_pipe_though_it_cannot_seek(ends: Ends) -> None:
    a, b = ends(size=1 << 14)
    data = os.urandom(300_000)

    def send() -> None:
        with zipfile.ZipFile(a, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("file", data)
        a.close()

    with beside(send), zipfile.ZipFile(io.BytesIO(b.read())) as archive:
        assert archive.read("file") == data


def test_tls_in_memory_runs_over_it(ends: Ends) -> None:
    # A man in the middle of shared memory is not to be feared; software that insists on TLS runs all the same.
    import trustme

    authority = trustme.CA()
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("host").configure_cert(ours)
    theirs = ssl.create_default_context()
    authority.configure_trust(theirs)
    data = os.urandom(500_000)
    a, b = ends()

    def talk(pipe: Pipe, context: ssl.SSLContext, server: bool, says: bytes, hears: int) -> bytes:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server, None if server else "host")

        def until_done(act: Callable[[], Any]) -> Any:
            while True:
                try:
                    return act()
                except ssl.SSLWantReadError:
                    pipe.write(outgoing.read())
                    incoming.write(pipe.read(1 << 16))
                finally:
                    pipe.write(outgoing.read())

        until_done(tls.do_handshake)
        got = b""
        if says:
            until_done(lambda: tls.write(says))
        while len(got) < hears:
            got += until_done(lambda: tls.read(1 << 16))
        return got

    heard: list[bytes] = []
    with beside(lambda: heard.append(talk(a, ours, True, b"", len(data)))):
        talk(b, theirs, False, data, 0)
    assert heard == [data]
    with pytest.raises(OSError, match="ssl cannot wrap it"):
        theirs.wrap_socket(a.socket(), server_hostname="host")


# Sockets


def test_a_pipe_is_a_socket_to_those_who_want_one(ends: Ends) -> None:
    import socket

    a, b = ends()
    one, other = a.socket(), b.socket()
    assert isinstance(one, socket.socket)
    assert (one.family, one.type, one.proto) == (socket.AF_UNIX, socket.SOCK_STREAM, 0)
    one.sendall(b"hello")
    assert other.recv(2) == b"he"
    assert other.recv(100) == b"llo"
    one.send(b"123456")
    buffer = bytearray(10)
    assert other.recv_into(buffer, 4) == 4
    assert buffer[:5] == b"1234\0"
    assert other.recv(100, socket.MSG_DONTWAIT) == b"56"
    with pytest.raises(BlockingIOError):
        other.recv(100, socket.MSG_DONTWAIT)
    other.settimeout(0.05)
    with pytest.raises(TimeoutError):
        other.recv(1)
    assert other.gettimeout() == other.timeout == b.gettimeout() == 0.05
    other.setblocking(False)
    with pytest.raises(BlockingIOError):
        other.recv_into(buffer)
    other.setblocking(True)
    assert one.sendmsg([b"ab", b"cd"]) == 4
    assert other.recvmsg(10)[0] == b"abcd"
    assert other.recv(0) == b""
    one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    assert one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    with pytest.raises(OSError, match="no option"):
        one.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
    with beside(lambda: (one.sendall(bytes(BIG)), one.shutdown(socket.SHUT_WR))):
        assert other.recv(BIG, socket.MSG_WAITALL) == bytes(BIG)
    assert other.recv(10) == b""
    other.sendall(b"back")
    assert one.recv(10) == b"back"
    for wrong in (
        one.dup,
        one.detach,
        lambda: one.connect("x"),
        lambda: one.shutdown(9),
        lambda: one.send(b"x", 1 << 30),
    ):
        with pytest.raises(OSError, match=r"\["):
            wrong()
    with pytest.raises(TypeError):
        pickle.dumps(one)
    one.close()
    assert a.closed
    assert one.fileno() == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        one.send(b"x")
    with pytest.raises(BrokenPipeError):
        other.sendall(b"x")


@pytest.mark.parametrize("act", ["recv", "recv_into", "sendall"])
def test_a_socket_that_another_thread_closes_is_a_bad_descriptor(ends: Ends, act: str) -> None:
    a, _ = ends(size=4096)
    sock = a.socket()
    argument: Any = {"recv": 10, "recv_into": bytearray(10), "sendall": bytes(1 << 20)}[act]
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            getattr(sock, act)(argument)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)
    sock.close()
    thread.join(20)
    assert [(type(each), getattr(each, "errno", 0)) for each in raised] == [(OSError, errno.EBADF)]


def test_a_sockets_files_hold_it_open_as_ever(ends: Ends) -> None:
    a, b = ends()
    sock = a.socket()
    with sock.makefile("rwb") as file:
        sock.close()
        file.write(b"through the file")
        file.flush()
        assert b.read(100) == b"through the file"
        assert not b.peer_gone
    assert b.read() == b""


def test_a_socket_sends_a_file(ends: Ends, tmp_path: Path) -> None:
    a, b = ends(size=1 << 14)
    (tmp_path / "file").write_bytes(os.urandom(BIG))

    def send() -> None:
        with (tmp_path / "file").open("rb") as file:
            assert a.socket().sendfile(file, 100) == BIG - 100
        a.close()

    with beside(send):
        assert b.read() == (tmp_path / "file").read_bytes()[100:]


def test_a_multiplexer_carries_many_channels_with_windows_over_one_pipe(across: Across) -> None:
    # As ssh's connection protocol (RFC 4254 section 5): each channel may send as much as it was granted.
    program = """
import collections, struct
def talk(pipe, channels, send, window=4096):
    reader = pipe.makefile("rb")
    locked = threading.Lock()
    def say_frame(kind, channel, data=b""):
        with locked:
            pipe.write(struct.pack(">cHI", kind, channel, len(data)) + data)
    granted = {each: window for each in range(channels)}
    left = {each: send(each) for each in range(channels)}
    got = collections.defaultdict(bytes)
    ended = set()
    def push(channel):
        while left[channel] and granted[channel]:
            piece = left[channel][:min(1000, granted[channel])]
            left[channel] = left[channel][len(piece):]
            granted[channel] -= len(piece)
            say_frame(b"D", channel, piece)
            if not left[channel]:
                say_frame(b"E", channel)
    for each in range(channels):
        push(each)
    while len(ended) < channels or any(left.values()):
        kind, channel, length = struct.unpack(">cHI", reader.read(7))
        data = reader.read(length)
        if kind == b"D":
            got[channel] += data
            say_frame(b"G", channel, b"%d" % len(data))
        elif kind == b"G":
            granted[channel] += int(data)
            push(channel)
        else:
            ended.add(channel)
    pipe.shut_write()
    return got
"""
    pipe, other = across(
        program
        + """
import hashlib
got = talk(pipe, 50, lambda channel: bytes([channel]) * 30_000)
say(hashlib.sha256(b"".join(got[each] for each in range(50))).hexdigest())
pipe.read()
"""
        + _ENDING,
        size=1 << 20,
    )
    names: dict[str, Any] = {"threading": threading}
    exec(program, names)
    sent = {each: os.urandom(30_000) for each in range(50)}
    got = names["talk"](pipe, 50, sent.__getitem__)
    assert got == {each: bytes([each]) * 30_000 for each in range(50)}
    assert other.hear() == hashlib.sha256(b"".join(itertools.chain(sent.values()))).hexdigest()
    pipe.close()
    assert other.end()[0] == 0
