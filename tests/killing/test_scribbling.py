"""A guest that writes random words over what it shares, at random times, breaks its own pipe or queue, and no other.

The other side works on meanwhile, as programs do. It may get an error that says so, or go on with whatever bytes there
are; it never hangs, never crashes, and lets go of everything in the end.
"""

from __future__ import annotations

import errno
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Protocol

import pytest
import support

import vnet

Start = Callable[..., support.Guest]

# Of the guest that scribbles. What it shares lies at the addresses of memory files whose names have this mark.
_SCRIBBLER = """
import ctypes, random

def mapped(mark):
    found = []
    with open("/proc/self/maps") as file:
        lines = file.readlines()
    for line in lines:
        if f"/memfd:vnet:demo:{mark}" in line or mark == "pipe" and "/memfd:vnet" in line and "pipe" in line:
            low, high = (int(each, 16) for each in line.split()[0].split("-"))
            if "w" in line.split()[1]:
                found.append((low, high - low))
    return found

def scribble(chance, marks, seconds):
    "Writes for so long, mostly over what decides, at the beginning, and near the values that are there."
    end, count = time.monotonic() + seconds, 0
    places = [place for mark in marks for place in mapped(mark)]
    assert places
    while time.monotonic() < end:
        start, size = chance.choice(places)
        span = min(size, 8192) if chance.random() < 0.9 else size
        word = ctypes.c_uint64.from_address(start + chance.randrange(span // 8) * 8)
        way = chance.random()
        if way < 0.3:
            word.value += chance.randrange(-70000, 70000)
        elif way < 0.6:
            word.value = chance.choice((0, 1, 2, 1 << 31, 1 << 32, (1 << 63) - 1, (1 << 64) - 1))
        else:
            word.value = chance.getrandbits(chance.choice((8, 16, 32, 64)))
        count += 1
        if chance.random() < 0.3:
            time.sleep(chance.choice((0, 0.00001, 0.001)))
    return count

chance = random.Random(int(sys.argv[1]))
nic = vnet.attach("demo", "mallory")
"""

_PIPES = (
    _SCRIBBLER
    + """
rounds = 0
while (line := hear()):
    pipe = nic.connect("host", line, messages=line == "messages", size=1 << 16, timeout=5)
    pipe.settimeout(0.05)
    worker = threading.Thread(target=scribble, args=(chance, ["pipe"], 0.15))
    worker.start()
    while worker.is_alive():
        for use in (
            (lambda: pipe.send_bytes(b"m" * chance.randrange(9000))) if line == "messages" else
            (lambda: pipe.write(b"s" * chance.randrange(9000))),
            pipe.recv_bytes if line == "messages" else (lambda: pipe.read(9000)),
        ):
            try:
                use()
            except (OSError, EOFError, MemoryError):
                pass
    worker.join()
    pipe.close()
    say("done")
nic.close()
"""
)


@pytest.mark.parametrize("service", ["stream", "messages"])
def test_who_scribbles_over_a_pipe_breaks_that_pipe(service: str, named_demo: vnet.Lan, guest: Start) -> None:
    host = named_demo.attach("host")
    mallory = guest(_PIPES, "1" if service == "stream" else "2")
    outcomes: Counter[str] = Counter()
    messages = service == "messages"
    before = support.descriptors()
    with host.listen(service, messages=messages) as listener:
        for _ in range(12):
            mallory.say(service)
            with listener.accept(timeout=20) as pipe:
                pipe.settimeout(0.1)
                ends = time.monotonic() + 0.2
                while time.monotonic() < ends:
                    for use in _uses(pipe, messages):
                        outcomes[_outcome(use)] += 1
            assert mallory.hear() == "done"
        mallory.say()
        assert mallory.end() == (0, "", "")
        # It was about this pipe and no other.
        with host.connect("host", service, messages=messages) as one, listener.accept(timeout=5) as other:
            if messages:
                one.send_bytes(b"whole")
                assert other.recv_bytes() == b"whole"
            else:
                one.write(b"whole")
                assert other.read(10) == b"whole"
    host.close()
    # The scribbles did bite, and the error says so.
    assert outcomes["EPROTO"] > 0, outcomes
    assert outcomes["went"] > 0, outcomes
    assert set(outcomes) <= {"went", "EPROTO", "EPIPE", "ECONNRESET", "late", "end", "EMSGSIZE"}, outcomes
    assert support.eventually(lambda: support.descriptors().keys() <= before.keys())


def _uses(pipe: vnet.Pipe, messages: bool) -> list[Callable[[], object]]:
    if messages:
        return [lambda: pipe.send_bytes(b"h" * 5000), pipe.recv_bytes, lambda: pipe.poll(0.01), pipe.available]
    return [lambda: pipe.write(b"h" * 5000), lambda: pipe.read(5000), lambda: pipe.poll(0.01), lambda: pipe.peek(10)]


def _outcome(use: Callable[[], object]) -> str:
    began = time.monotonic()
    try:
        use()
        what = "went"
    except TimeoutError:
        what = "late"
    except EOFError:
        what = "end"
    except OSError as error:
        what = errno.errorcode.get(error.errno or 0, repr(error))
    # The timeout, and a machine that has other work.
    assert time.monotonic() - began < 5, f"{what} took {time.monotonic() - began:.1f} s"
    return what


@pytest.fixture
def named_demo() -> Iterator[vnet.Lan]:
    with vnet.Lan("demo", "10.0.0.0/24") as lan:
        yield lan


_QUEUES = (
    _SCRIBBLER
    + """
while (line := hear()):
    queue = nic.open_queue(line)
    worker = threading.Thread(target=scribble, args=(chance, ["queue"], 0.15))
    worker.start()
    while worker.is_alive():
        try:
            queue.post(b"m" * chance.randrange(60), priority=chance.randrange(2), block=True, timeout=0.02)
        except vnet.VnetError:
            time.sleep(0.001)
    worker.join()
    queue.close()
    say("done")
nic.close()
"""
)


def test_who_scribbles_over_a_queue_breaks_that_queue(named_demo: vnet.Lan, guest: Start) -> None:
    host, alice = named_demo.attach("host"), named_demo.attach("alice")
    mallory = guest(_QUEUES, "3")
    told: list[Exception] = []
    outcomes: Counter[str] = Counter()
    with host.dispatcher() as dispatcher:
        dispatcher.on_error = lambda error, queue: told.append(error)
        sound = host.create_queue()
        heard: list[bytes] = []
        dispatcher.on(sound)(heard.append)
        dispatcher.start()
        with alice.open_queue(sound.handle) as steady:
            for _ in range(12):
                with host.create_queue(capacity=64, item_size=64, priorities=2) as queue:
                    sizes: list[int] = []
                    dispatcher.on(queue)(lambda item, sizes=sizes: sizes.append(len(item)))
                    with alice.open_queue(queue.handle) as honest:
                        mallory.say(queue.handle)
                        ends = time.monotonic() + 0.2
                        while time.monotonic() < ends:
                            began = time.monotonic()
                            try:
                                honest.post(b"h" * 40, block=True, timeout=0.05)
                                outcomes["went"] += 1
                            except (vnet.QueueFull, vnet.QueueClosed) as error:
                                outcomes[type(error).__name__] += 1
                                time.sleep(0.001)
                            assert time.monotonic() - began < 5
                        assert mallory.hear() == "done"
                    assert all(size <= 64 for size in sizes)
                # The same dispatcher, another queue: nothing of it is missing, and none of it came twice.
                steady.post(str(len(heard)).encode(), block=True, timeout=5)
                assert support.eventually(lambda: heard[-1:] == [str(len(heard) - 1).encode()], 5)
        mallory.say()
        assert mallory.end() == (0, "", "")
        dispatcher.stop()
        sound.close()
    assert outcomes["went"] > 0, outcomes
    assert outcomes["QueueClosed"] > 0, outcomes
    assert all(isinstance(error, vnet.QueueClosed) for error in told), told
    host.close()
    alice.close()


class Work(Protocol):
    """What the service of the next test is asked."""

    def turned(self, data: bytes) -> bytes: ...


class Turner:
    """Serves it."""

    def turned(self, data: bytes) -> bytes:
        return data[::-1]


_CALLS = (
    _SCRIBBLER
    + """
import typing

class Work(typing.Protocol):
    def turned(self, data: bytes) -> bytes: ...

while hear():
    try:
        with nic.caller("host", "work", Work, timeout=0.05) as work:
            worker = threading.Thread(target=scribble, args=(chance, ["pipe"], 0.1))
            worker.start()
            while worker.is_alive():
                try:
                    work.turned(b"m" * chance.randrange(9000))
                except (vnet.VnetError, OSError, MemoryError):
                    time.sleep(0.001)
            worker.join()
    except (vnet.VnetError, OSError):
        pass
    say("done")
nic.close()
"""
)


def test_who_scribbles_over_the_pipe_of_its_calls_disturbs_no_other_caller(named_demo: vnet.Lan, guest: Start) -> None:
    host, alice = named_demo.attach("host"), named_demo.attach("alice")
    mallory = guest(_CALLS, "4")
    with host.serve_calls("work", Turner(), Work), alice.caller("host", "work", Work, timeout=5) as work:
        for _ in range(12):
            mallory.say("again")
            ends = time.monotonic() + 0.15
            while time.monotonic() < ends:
                assert work.turned(b"abc") == b"cba"
            assert mallory.hear() == "done"
        mallory.say()
        assert mallory.end() == (0, "", "")
        assert work.turned(b"still") == b"llits"
    host.close()
    alice.close()
    assert support.eventually(lambda: not [each for each in threading.enumerate() if each.name.startswith("vnet-call")])
