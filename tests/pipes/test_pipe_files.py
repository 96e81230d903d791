"""A pipe is a raw file: what one reads, what one writes, how it ends, and what comes of wrong use."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import os
import pickle
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import support

import vnet
from vnet.pipes import Pipe, PipeStatistics, pair

Ends = Callable[..., tuple[Pipe, Pipe]]


def test_what_is_written_is_read_in_order_and_nothing_else(ends: Ends) -> None:
    a, b = ends()
    assert a.write(b"one ") == 4
    assert a.write(bytearray(b"two ")) == 4
    assert a.write(memoryview(b"three")) == 5
    buffer = bytearray(b"." * 20)
    assert b.readinto(buffer) == 13
    assert buffer == b"one two three......."


def test_both_directions_are_apart(ends: Ends) -> None:
    a, b = ends()
    a.write(b"to b")
    b.write(b"to a")
    assert (a.read(100), b.read(100)) == (b"to a", b"to b")


def test_read_returns_what_is_there_and_not_more_than_asked_for(ends: Ends) -> None:
    a, b = ends()
    a.write(b"abcdef")
    assert b.read(4) == b"abcd"
    # Not all that was asked for: it does not wait for more where something is there.
    assert b.read(4) == b"ef"
    assert b.read(0) == b""
    assert b.readinto(bytearray()) == 0


def test_a_huge_size_takes_no_memory_for_what_is_not_there(ends: Ends) -> None:
    a, b = ends()
    a.write(b"little")
    # More than the machine has: it would fail if it were taken first.
    assert b.read(1 << 46) == b"little"


def test_readinto_goes_to_any_writable_memory(ends: Ends) -> None:
    import array
    import mmap

    a, b = ends()
    a.write(b"12345678" * 2)
    numbers = array.array("I", [0, 0])
    assert b.readinto(numbers) == 8
    assert numbers.tobytes() == b"12345678"
    with mmap.mmap(-1, 4096) as memory:
        assert b.readinto(memoryview(memory)[8:12]) == 4
        assert memory[6:14] == b"\0\x001234\0\0"
        assert b.available() == 4


def test_readall_reads_to_the_end(ends: Ends) -> None:
    a, b = ends(size=4096)
    data = os.urandom(100_000)
    writer = threading.Thread(target=lambda: (a.write(data), a.shut_write()))
    writer.start()
    assert b.read() == data
    assert b.read() == b""
    assert b.readall() == b""
    writer.join()


def test_lines_are_read_one_by_one_and_what_follows_stays(ends: Ends) -> None:
    a, b = ends()
    a.write(b"first\nsecond\nrest")
    assert b.readline() == b"first\n"
    assert b.peek() == b"second\nrest"
    assert b.readline(3) == b"sec"
    assert b.readline() == b"ond\n"
    a.shut_write()
    assert list(b) == [b"rest"]


def test_a_blocking_write_takes_all(ends: Ends) -> None:
    # pickle, tarfile and gzip do not look at what write() returns.
    a, b = ends(size=4096)
    data = os.urandom(1 << 20)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(b.readall()))
    reader.start()
    assert a.write(data) == len(data)
    a.shut_write()
    reader.join()
    assert got == [data]


def test_what_must_not_wait_returns_none(ends: Ends) -> None:
    a, b = ends(size=4096)
    a.setblocking(False)
    b.setblocking(False)
    assert (a.gettimeout(), a.getblocking()) == (0.0, False)
    assert b.read(10) is None
    assert b.readinto(bytearray(10)) is None
    assert b.read() is None
    assert b.readall() is None
    put = 0
    while (count := a.write(b"x" * 1000)) is not None:
        assert 0 < count <= 1000
        put += count
    assert put >= 4096
    assert b.read() == b"x" * put
    assert a.write(b"room") == 4


def test_a_buffered_file_that_must_not_wait_keeps_what_does_not_go(ends: Ends) -> None:
    # What the io module says of raw files that return None.
    a, b = ends(size=4096)
    a.setblocking(False)
    with a.makefile("wb", 1 << 20) as file:
        data = os.urandom(200_000)
        file.write(data)
        got = b""
        while len(got) < len(data):
            with contextlib.suppress(BlockingIOError):
                file.flush()
            got += b.read(1 << 20)
        assert got == data


def test_the_end_comes_after_all_that_was_written(ends: Ends) -> None:
    a, b = ends()
    a.write(b"last words")
    a.close()
    assert b.peer_gone
    assert b.read(4) == b"last"
    assert b.read(100) == b" words"
    assert b.read(100) == b""
    assert b.readinto(bytearray(4)) == 0
    assert b.read() == b""


def test_who_writes_to_a_closed_end_gets_a_broken_pipe(ends: Ends) -> None:
    a, b = ends()
    b.close()
    with pytest.raises(BrokenPipeError):
        a.write(b"nobody reads this")
    # Nothing is left to be read either, and that is no error.
    assert a.read(10) == b""


def test_a_half_close_ends_one_direction_only(ends: Ends) -> None:
    a, b = ends()
    a.write(b"question")
    a.shut_write()
    a.shut_write()
    assert b.read() == b"question"
    b.write(b"answer")
    assert a.read(100) == b"answer"
    with pytest.raises(BrokenPipeError):
        a.write(b"more")
    b.close()
    assert a.read(1) == b""


def test_who_reads_no_more_breaks_the_pipe_for_the_writer(ends: Ends) -> None:
    a, b = ends()
    b.shut_read()
    assert b.read(1) == b""
    with pytest.raises(BrokenPipeError):
        a.write(b"x")
    b.write(b"the other direction")
    assert a.read(100) == b"the other direction"


@pytest.mark.parametrize("what", ["read", "write"])
def test_a_timeout_ends_waiting(ends: Ends, what: str) -> None:
    a, b = ends(size=4096)
    a.settimeout(0.05)
    began = time.monotonic()
    if what == "read":
        with pytest.raises(TimeoutError):
            a.read(1)
    else:
        with pytest.raises(TimeoutError) as caught:
            a.write(b"x" * 100_000)
        # Who wants to go on knows where.
        written = caught.value.characters_written  # type: ignore[attr-defined]
        assert 0 < written < 100_000
        assert b.available() == written
        with pytest.raises(TimeoutError):
            a.write(b"x")
    assert time.monotonic() - began >= 0.05
    # It is as good as before.
    b.write(b"after all")
    assert a.read(100) == b"after all"


def test_a_closed_pipe_says_so(ends: Ends) -> None:
    a, _ = ends()
    a.close()
    a.close()
    assert a.closed
    for act in (
        lambda: a.read(1),
        lambda: a.read(),
        lambda: a.readinto(bytearray(1)),
        lambda: a.write(b"x"),
        lambda: a.readline(),
        lambda: a.peek(),
        a.fileno,
        a.readable,
        a.writable,
        a.available,
        a.shut_write,
        a.shut_read,
        lambda: a.makefile("rb"),
        a.socket,
        a.poll,
        lambda: a.peer_gone,
        a.__enter__,
    ):
        with pytest.raises(ValueError, match="closed"):
            act()
    assert "closed" in repr(a)


def test_what_it_is_and_what_it_is_not(ends: Ends) -> None:
    a, b = ends()
    assert isinstance(a, io.RawIOBase)
    assert a.readable()
    assert a.writable()
    assert not a.seekable()
    assert not a.isatty()
    for act in (a.tell, lambda: a.seek(0), a.truncate):
        with pytest.raises(io.UnsupportedOperation):
            act()
    assert a.fileno() != b.fileno()
    assert a.fileno() == a.fileno()


@pytest.mark.parametrize("data", ["text", None, 5, object(), [1, 2]])
def test_what_is_no_bytes_is_not_written(ends: Ends, data: Any) -> None:
    a, b = ends()
    with pytest.raises(TypeError):
        a.write(data)
    assert b.available() == 0


@pytest.mark.parametrize("buffer", [b"read-only", "text", None, 5])
def test_what_is_no_writable_memory_is_not_read_into(ends: Ends, buffer: Any) -> None:
    a, b = ends()
    a.write(b"stays")
    with pytest.raises((TypeError, BufferError)):
        b.readinto(buffer)
    assert b.read(100) == b"stays"


@pytest.mark.parametrize("value", [-1, float("nan"), "1", True, b"", [1]])
def test_a_wrong_timeout_is_refused(ends: Ends, value: Any) -> None:
    a, _ = ends()
    with pytest.raises((TypeError, ValueError), match="timeout"):
        a.settimeout(value)
    assert a.gettimeout() is None


@pytest.mark.parametrize("size", [0, -1, 4095, (1 << 30) + 1, "1MiB", 4096.0, True, None])
def test_a_wrong_size_is_refused(size: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="size"):
        pair(size=size)


def test_a_stream_has_no_messages(ends: Ends) -> None:
    a, _ = ends()
    for act in (lambda: a.send_bytes(b"x"), a.recv_bytes, a.recv, lambda: a.send(1)):
        with pytest.raises(io.UnsupportedOperation, match="messages=True"):
            act()


def test_it_cannot_be_copied_or_pickled(ends: Ends) -> None:
    a, _ = ends()
    for act in (lambda: pickle.dumps(a), lambda: copy.copy(a), lambda: copy.deepcopy(a)):
        with pytest.raises(TypeError, match=r"cannot be (pickled|copied)"):
            act()


def test_repr_tells_how_it_stands(ends: Ends) -> None:
    a, b = ends()
    assert "pair" in repr(a)
    assert "nothing waits" in repr(a)
    b.write(b"12345")
    assert "5 bytes wait" in repr(a)
    b.close()
    assert "gone" in repr(a)


def test_statistics_count_what_went_through(ends: Ends) -> None:
    a, b = ends()
    for _ in range(10):
        a.write(b"x" * 100)
    while b.available():
        b.read(256)
    assert a.statistics().bytes_written == 1000
    assert a.statistics().bytes_read == 0
    assert b.statistics().bytes_read == 1000
    assert b.statistics().bytes_written == 0
    assert a.statistics().writes == 10
    assert b.statistics().reads >= 4
    with pytest.raises(dataclasses.FrozenInstanceError):
        a.statistics().writes = 5  # type: ignore[misc]
    a.close()
    # Of a pipe that is closed one may want to know, too.
    assert isinstance(a.statistics(), PipeStatistics)
    assert a.statistics().bytes_written == 1000


def test_a_pipe_closes_at_the_end_of_with(ends: Ends) -> None:
    a, b = ends()
    with a as entered:
        assert entered is a
    assert a.closed
    assert b.read() == b""


def test_a_pipe_that_is_forgotten_is_told_of_and_closed() -> None:
    a, b = pair()
    with pytest.warns(ResourceWarning, match="unclosed <vnet.Pipe pair"):
        del a
    assert b.read() == b""
    b.close()


@pytest.mark.parametrize("what", ["read", "write", "readall", "file"])
def test_who_waits_is_told_when_another_thread_closes(ends: Ends, what: str) -> None:
    a, _ = ends(size=4096)
    raised: list[BaseException] = []
    acts: dict[str, Callable[[], Any]] = {
        "read": lambda: a.read(1),
        "readall": a.readall,
        "write": lambda: a.write(b"x" * 1_000_000),
        "file": lambda: io.BufferedReader(a).read(5),
    }

    def wait() -> None:
        try:
            acts[what]()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    # Long enough that it sleeps.
    time.sleep(0.1)
    a.close()
    thread.join(10)
    assert not thread.is_alive()
    assert [type(each) for each in raised] == [ValueError]


def test_who_waits_to_read_is_told_when_another_thread_shuts(ends: Ends) -> None:
    a, _ = ends()
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(a.read(1)))
    thread.start()
    time.sleep(0.1)
    a.shut_read()
    thread.join(10)
    assert got == [b""]


def test_a_reader_and_a_writer_share_an_end(ends: Ends) -> None:
    # Two threads at each end, in both directions at one time.
    a, b = ends(size=4096)
    data = {a: os.urandom(300_000), b: os.urandom(300_000)}
    got: dict[Pipe, bytes] = {}

    def write(pipe: Pipe) -> None:
        pipe.write(data[pipe])
        pipe.shut_write()

    threads = [threading.Thread(target=write, args=(each,)) for each in (a, b)]
    threads += [threading.Thread(target=lambda each=each: got.update({each: each.readall()})) for each in (a, b)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert (got[a], got[b]) == (data[b], data[a])


def test_ctrl_c_ends_a_wait(across: Callable[..., tuple[Pipe, support.Guest]]) -> None:
    import signal

    pipe, other = across(
        """
try:
    say("ready")
    pipe.read(1)
except KeyboardInterrupt:
    say("interrupted")
pipe.write(b"still good")
pipe.close()
nic.close()
"""
    )
    assert other.hear() == "ready"
    time.sleep(0.1)
    other.process.send_signal(signal.SIGINT)
    assert other.hear() == "interrupted"
    assert pipe.readall() == b"still good"
    assert other.end()[0] == 0


def test_a_forked_child_cannot_use_it_and_does_the_parent_no_harm(ends: Ends) -> None:
    a, b = ends()
    a.write(b"before")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        said = []
        for act in (lambda: b.read(1), lambda: a.write(b"x"), b.fileno):
            try:
                act()
                said.append("worked")
            except vnet.ForkedNic:
                said.append("forked")
            except BaseException as error:
                said.append(repr(error))
        said.append(repr(b))
        a.close()
        b.close()
        os.write(write, "|".join(said).encode())
        os._exit(0)
    os.close(write)
    with open(read) as said:
        assert said.read().split("|")[:3] == ["forked"] * 3
    assert os.waitpid(child, 0)[1] == 0
    a.write(b" and after")
    a.shut_write()
    assert b.readall() == b"before and after"
    b.write(b"back")
    assert a.read(10) == b"back"


# Files of it


def test_a_buffered_file_reads_exactly_and_by_lines(ends: Ends) -> None:
    a, b = ends()
    file = b.makefile("rb")
    a.write(b"12345")
    a.write(b"678\nline\n")
    assert file.read(8) == b"12345678"
    assert file.readline() == b"\n"
    a.write(b"end")
    a.shut_write()
    assert file.readlines() == [b"line\n", b"end"]
    file.close()


def test_text_goes_both_ways(ends: Ends) -> None:
    a, b = ends()
    with a.makefile("rw", encoding="utf-8", newline="\n") as one, b.makefile("rw", encoding="utf-8") as other:
        assert one.mode == "rw"
        one.write("größer\n")
        one.flush()
        assert other.readline() == "größer\n"
        other.write("日本\n")
        other.flush()
        assert one.readline() == "日本\n"


def test_files_hold_the_end_and_the_last_lets_it_go(ends: Ends) -> None:
    a, b = ends()
    reader, writer = a.makefile("rb"), a.makefile("wb")
    a.close()
    assert a.closed
    writer.write(b"through the file")
    writer.flush()
    assert b.read(100) == b"through the file"
    writer.close()
    assert not b.peer_gone
    b.write(b"and back")
    assert reader.read(8) == b"and back"
    reader.close()
    assert b.read() == b""
    assert b.peer_gone


def test_an_unbuffered_file_is_raw(ends: Ends) -> None:
    a, b = ends()
    with b.makefile("rb", 0) as file:
        a.write(b"abc")
        assert file.read(100) == b"abc"
        assert isinstance(file, io.RawIOBase)
    with pytest.raises(ValueError, match="binary"):
        b.makefile("r", 0)
    with pytest.raises(ValueError, match="mode"):
        b.makefile("a")


def test_a_file_of_one_direction_is_of_one_direction(ends: Ends) -> None:
    a, _ = ends()
    with a.makefile("rb") as reader, a.makefile("wb") as writer:
        assert (reader.readable(), reader.writable()) == (True, False)
        assert (writer.readable(), writer.writable()) == (False, True)
        assert reader.fileno() == a.fileno()


def test_a_file_is_of_no_use_after_a_timeout_as_a_sockets(ends: Ends) -> None:
    a, b = ends()
    b.settimeout(0.05)
    file = b.makefile("rb")
    a.write(b"half")
    with pytest.raises(TimeoutError):
        file.read(8)
    with pytest.raises(OSError, match="timeout"):
        file.read(8)
    file.close()


def test_a_buffered_writer_goes_on_after_a_timeout(ends: Ends) -> None:
    a, b = ends(size=4096)
    a.settimeout(0.05)
    data = os.urandom(50_000)
    with a.makefile("wb", 100_000) as file:
        file.write(data)
        got = b""
        while True:
            try:
                file.flush()
                break
            except TimeoutError:
                got += b.read(1 << 20)
    assert got + b.read(1 << 20) == data


def test_a_pair_of_buffers_over_the_raw_pipe(ends: Ends) -> None:
    # Beside makefile(): what the io module itself makes of a raw file.
    a, b = ends()
    with io.BufferedRWPair(b, b) as both:
        a.write(b"question")
        assert both.read(8) == b"question"
        both.write(b"answer")
        both.flush()
        assert a.read(100) == b"answer"
    assert b.closed
    assert a.read() == b""
