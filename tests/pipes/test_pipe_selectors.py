"""The descriptor of a pipe polls as the pipe is: for selectors of every kind, with hundreds of pipes at one time."""

from __future__ import annotations

import os
import select
import selectors
import socket
from collections.abc import Callable

import pytest
import support

from vnet.pipes import Pipe

Ends = Callable[..., tuple[Pipe, Pipe]]

_KINDS = [selectors.SelectSelector, selectors.PollSelector, selectors.EpollSelector]


def _polled(pipe: Pipe | socket.socket) -> tuple[bool, bool]:
    poll = select.poll()
    poll.register(pipe.fileno(), select.POLLIN | select.POLLOUT)
    events = dict(poll.poll(0)).get(pipe.fileno(), 0)
    return bool(events & select.POLLIN), bool(events & select.POLLOUT)


def _drained(pipe: Pipe) -> bytes:
    got = b""
    while piece := pipe.read(1 << 20):
        got += piece
    return got


def test_it_polls_as_a_socket_of_the_kernel_would(ends: Ends) -> None:
    # The same is done to both, and what poll() says of them is held against each other at every step.
    a, b = ends(size=4096)
    left, right = socket.socketpair()
    left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with left, right:
        for each in (a, b, left, right):
            each.setblocking(False)
        sides = [(a, left), (b, right)]

        def agree(step: str) -> None:
            for pipe, sock in sides:
                assert support.eventually(lambda: _polled(pipe) == _polled(sock)), (step, _polled(pipe), _polled(sock))  # noqa: B023

        agree("new")
        for _ in range(3):
            a.write(b"x")
            left.send(b"x")
            agree("one byte waits")
            assert (b.read(10), right.recv(10)) == (b"x", b"x")
            agree("it was read")
            while a.write(b"x" * 100):
                pass
            with pytest.raises(BlockingIOError):
                while True:
                    left.send(b"x" * 100)
            agree("full")
            _drained(b)
            with pytest.raises(BlockingIOError):
                while True:
                    right.recv(1 << 20)
            agree("drained")
        a.write(b"last")
        left.send(b"last")
        a.shut_write()
        left.shutdown(socket.SHUT_WR)
        agree("half closed, something waits")
        assert (b.read(10), right.recv(10)) == (b"last", b"last")
        agree("half closed, at its end")
        b.write(b"still")
        right.send(b"still")
        agree("the other direction")
        b.close()
        right.close()
        sides.pop()
        agree("closed, something waits")
        assert (a.read(10), left.recv(10)) == (b"still", b"still")
        agree("closed")


@pytest.mark.parametrize("kind", _KINDS)
def test_hundreds_of_pipes_in_one_selector(ends: Ends, kind: type[selectors.BaseSelector]) -> None:
    # select() takes descriptors below 1,024.
    count = 80 if kind is selectors.SelectSelector else 300
    pairs = [ends(size=4096) for _ in range(count)]
    data = {number: os.urandom(10_000 + 37 * number) for number in range(count)}
    got: dict[int, bytes] = dict.fromkeys(data, b"")
    sent = dict.fromkeys(data, 0)
    with kind() as selector:
        for number, (a, b) in enumerate(pairs):
            a.setblocking(False)
            b.setblocking(False)
            selector.register(a, selectors.EVENT_WRITE, number)
            selector.register(b, selectors.EVENT_READ, number)
        idle = 0
        while selector.get_map():
            ready = selector.select(10)
            assert ready, "nobody is ready, and not all is done"
            for key, events in ready:
                number, pipe = key.data, key.fileobj
                assert isinstance(pipe, Pipe)
                if events & selectors.EVENT_WRITE:
                    count = pipe.write(data[number][sent[number] :][:3000]) or 0
                    idle += not count
                    sent[number] += count
                    if sent[number] == len(data[number]):
                        selector.unregister(pipe)
                        pipe.close()
                else:
                    piece = pipe.read(1700)
                    if piece is None:
                        idle += 1
                        continue
                    got[number] += piece
                    if not piece:
                        selector.unregister(pipe)
                        pipe.close()
    assert got == data
    # Who is said to be ready is.
    assert idle == 0


def test_an_idle_selector_sleeps(ends: Ends) -> None:
    pairs = [ends() for _ in range(10)]
    with selectors.DefaultSelector() as selector:
        for _, b in pairs:
            selector.register(b, selectors.EVENT_READ)
        for _ in range(3):
            assert selector.select(0.01) == []
            pairs[4][0].write(b"x")
            assert [key.fileobj for key, _ in selector.select(10)] == [pairs[4][1]]
            assert pairs[4][1].read(10) == b"x"


def test_the_end_is_readable_again_and_again(ends: Ends) -> None:
    a, b = ends()
    poll = select.poll()
    poll.register(b, select.POLLIN)
    assert poll.poll(0) == []
    a.close()
    for _ in range(3):
        assert poll.poll(10_000)
        assert b.read(10) == b""


def test_the_descriptor_may_be_asked_for_at_any_time(ends: Ends) -> None:
    # While something waits, after it was read, and with the ring full.
    a, b = ends(size=4096)
    a.write(b"there before")
    assert _polled(b) == (True, True)
    b.read(100)
    assert _polled(b) == (False, True)
    a.setblocking(False)
    while a.write(b"x" * 100):
        pass
    assert _polled(a) == (False, False)
    b.read(1 << 20)
    assert support.eventually(lambda: _polled(a) == (False, True))


def test_many_processes_are_waited_for(across: Callable[..., tuple[Pipe, support.Guest]]) -> None:
    pipe, other = across(
        """
for line in pipe.makefile("rb"):
    pipe.write(b"echo " + line)
pipe.close()
nic.close()
"""
    )
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        for number in range(500):
            pipe.write(b"%d\n" % number)
            assert selector.select(20)
            assert pipe.readline() == b"echo %d\n" % number
            assert selector.select(0) == []
        pipe.shut_write()
        assert selector.select(20)
        assert pipe.read() == b""
    assert other.end()[0] == 0
