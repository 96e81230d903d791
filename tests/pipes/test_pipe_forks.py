"""Forked children: they keep no end alive, wherever their parent dies, and have no end themselves."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest
import support

from vnet import ForkedNic, _native

# The parent has an end, forks a child that does nothing, and waits to be killed.
_PARENT = """
import os, sys, time
from vnet import _native
end = _native.PipeEnd([int(word) for word in sys.argv[1:4]], False)
child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
time.sleep(60)
"""


def test_a_child_that_lives_on_does_not_hide_that_its_parent_was_killed() -> None:
    import subprocess

    ours, theirs = _native.pipe_make(4096)
    end = _native.PipeEnd(ours, True)
    arguments = [sys.executable, "-c", _PARENT, *map(str, theirs)]
    with subprocess.Popen(arguments, pass_fds=theirs, stdout=subprocess.PIPE, text=True) as parent:
        for file in theirs:
            os.close(file)
        assert parent.stdout
        child = int(parent.stdout.readline())
        try:
            read: list[type[BaseException]] = []

            def wait() -> None:
                try:
                    end.read(1)
                except OSError as error:
                    read.append(type(error))

            reader = threading.Thread(target=wait)
            reader.start()
            time.sleep(0.05)
            assert reader.is_alive()
            parent.kill()
            reader.join(20)
            assert read == [ConnectionResetError]
            # The child is still there: it is not its end that was seen.
            os.kill(child, 0)
        finally:
            os.kill(child, signal.SIGKILL)
    end.close()


def test_a_child_has_neither_the_memory_nor_the_descriptors() -> None:
    ours, theirs = _native.pipe_make(1 << 20, name="vnet:seen")
    ends = [_native.PipeEnd(ours, True), _native.PipeEnd(theirs, False)]
    number = ends[0].fileno()
    with open("/proc/self/maps") as maps:
        assert "vnet:seen" in maps.read()
    heard, say = os.pipe()
    child = os.fork()
    if child == 0:
        said = []
        try:
            with open("/proc/self/maps") as maps:
                said.append(str("vnet:seen" in maps.read()))
            try:
                os.fstat(number)
            except OSError:
                said.append("closed")
            for act in (lambda: ends[0].write(b"x"), lambda: ends[1].read(1, False), ends[0].fileno, ends[1].shut_read):
                try:
                    act()
                except ForkedNic:
                    said.append("refused")
            # What a child drops or closes is not its own; what it makes is.
            ends[0].close()
            del ends[1]
            mine = [_native.PipeEnd(files, at == 0) for at, files in enumerate(_native.pipe_make(4096))]
            mine[0].write(b"own")
            said.append((mine[1].read(3) or b"").decode())
        finally:
            os.write(say, " ".join(said).encode())
            os._exit(0)
    os.close(say)
    with open(heard) as told:
        assert told.read() == "False closed refused refused refused refused own"
    os.waitpid(child, 0)
    ends[0].write(b"as before")
    assert ends[1].read(100) == b"as before"
    for end in ends:
        end.close()


def test_threads_that_close_and_write_never_wait_for_each_other() -> None:
    # One of them has the interpreter and wants the end, the other the end and wants the interpreter.
    for _ in range(300):
        ours, theirs = _native.pipe_make(4096)
        end, other = _native.PipeEnd(ours, True), _native.PipeEnd(theirs, False)

        def write(end: _native.PipeEnd = end) -> None:
            with pytest.raises((ValueError, BrokenPipeError)):
                while True:
                    end.write(b"x", False)

        writer = threading.Thread(target=write)
        writer.start()
        end.close()
        writer.join(20)
        assert not writer.is_alive()
        other.close()


def test_descriptors_that_are_no_pipes_are_refused_and_closed() -> None:
    before = support.descriptors()
    ours, theirs = _native.pipe_make(4096)
    with pytest.raises(ValueError, match="3 descriptors, not 2"):
        _native.PipeEnd(ours[:2], True)
    with pytest.raises(ValueError, match="differ"):
        _native.PipeEnd([ours[0], ours[1], ours[1]], True)
    with pytest.raises(OSError, match="no open descriptor"):
        _native.PipeEnd([ours[0], ours[1], 1 << 20], True)
    # Up to here nothing was taken over; from here on all is.
    with pytest.raises(ValueError, match="not sealed"):
        _native.PipeEnd([ours[1], ours[0], ours[2]], True)
    with pytest.raises(ValueError, match="sockets"):
        _native.PipeEnd([theirs[0], theirs[1], os.open("/dev/null", os.O_RDONLY)], False)
    os.close(theirs[2])
    assert support.descriptors() == before
    for size in (0, (1 << 30) + 1):
        with pytest.raises(ValueError, match="1 to 1073741824 bytes each"):
            _native.pipe_make(size)
