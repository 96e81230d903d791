"""What tests share: datagrams made by hand, and processes to be guests."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def examples(count: int) -> int:
    """How many examples a property is tried on: `count`, or VNET_EXAMPLES times as many (`make soak`)."""
    return count * int(os.environ.get("VNET_EXAMPLES", "1"))


# At the head of every guest's program.
_PRELUDE = f"""
import gc, os, signal, sys, threading, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
import vnet
from support import datagram

def say(*words):
    print(*words, flush=True)

def hear():
    return sys.stdin.readline().strip()

"""


def datagram(source: str, destination: str, payload: bytes = b"", *, protocol: int = 17, ttl: int = 64) -> bytes:
    """An IP datagram with a fixed header; the IPv4 header checksum is right."""
    a, b = ip_address(source), ip_address(destination)
    assert a.version == b.version
    if a.version == 6:
        return bytes([0x60, 0, 0, 0, *len(payload).to_bytes(2, "big"), protocol, ttl]) + a.packed + b.packed + payload
    header = bytearray(20)
    header[0] = 0x45
    header[2:4] = (20 + len(payload)).to_bytes(2, "big")
    header[8], header[9] = ttl, protocol
    header[12:16], header[16:20] = a.packed, b.packed
    total = sum(int.from_bytes(header[at : at + 2], "big") for at in range(0, 20, 2))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    header[10:12] = (0xFFFF - total).to_bytes(2, "big")
    return bytes(header) + payload


def sized(source: str, destination: str, size: int) -> bytes:
    """A datagram of `size` bytes in all, its payload counting up."""
    header = len(datagram(source, destination))
    return datagram(source, destination, (bytes(range(256)) * (size // 256 + 1))[: size - header])


def eventually(condition: Callable[[], Any], timeout: float = 2.0) -> bool:
    """Whether the condition comes true in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


class Guest:
    """A Python process that runs `program`; it talks over its standard input and output, line by line."""

    def __init__(self, program: str, *arguments: str, **popen: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", _PRELUDE + program, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            **popen,
        )
        self.pid = self.process.pid
        self._heard = b""

    def hear(self, timeout: float = 20.0) -> str:
        """The next line that the guest says."""
        assert self.process.stdout
        deadline = time.monotonic() + timeout
        while b"\n" not in self._heard:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise AssertionError(f"the guest says nothing; so far: {self._heard!r}")
            more = os.read(self.process.stdout.fileno(), 65536)
            if not more:
                assert self.process.stderr
                errors = self.process.stderr.read().decode()
                raise AssertionError(f"the guest ended ({self.process.wait()}) without a word: {errors}")
            self._heard += more
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode()

    def say(self, line: str = "") -> None:
        """Says a line to the guest."""
        assert self.process.stdin
        self.process.stdin.write(line.encode() + b"\n")

    def kill(self) -> None:
        """SIGKILL, and waits for the end."""
        self.process.kill()
        self.process.wait()

    def end(self, timeout: float = 20.0) -> tuple[int, str, str]:
        """Closes its input and waits for it: exit status, the rest of its output, its errors."""
        output, errors = self.process.communicate(timeout=timeout)
        return self.process.returncode, (self._heard + output).decode(), errors.decode()

    def release(self) -> None:
        """Ends it however it is, and lets go of its pipes."""
        with contextlib.suppress(OSError):
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()


def children() -> dict[int, str]:
    """The living children of this process: their commands by their ids."""
    found = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                stat = Path(entry.path, "stat").read_text()
                state, parent = stat[stat.rindex(")") + 2 :].split()[:2]
                if int(parent) == os.getpid() and state != "Z":
                    command = Path(entry.path, "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(entry.name)] = command.decode(errors="replace")[:80]
    return found


def threads() -> dict[int, str]:
    """This process's threads whose name starts with vnet-."""
    found = {}
    for entry in os.scandir("/proc/self/task"):
        with contextlib.suppress(OSError):
            name = Path(entry.path, "comm").read_text().strip()
            if name.startswith("vnet-"):
                found[int(entry.name)] = name
    return found


def descriptors(process: int | str = "self") -> dict[int, str]:
    """The open descriptors of a process and what they are."""
    found = {}
    for entry in os.scandir(f"/proc/{process}/fd"):
        with contextlib.suppress(OSError):
            found[int(entry.name)] = os.readlink(entry.path)
    return found
