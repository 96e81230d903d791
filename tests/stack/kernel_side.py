"""Linux's own TCP on a LAN: a namespace of its own, a TUN device in it, and a relay between that and a NIC.

Run as a program this is the relay; it ends with its standard input.  :class:`Kernel` starts it and runs other programs
beside it.  Nothing outside the namespace is touched, and all of it ends with the relay.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000

_NAMESPACE = ["unshare", "--user", "--map-root-user", "--net"]


@functools.cache
def missing() -> str | None:
    """What this machine lacks for a namespace with a TUN device; None: nothing."""
    opens = [sys.executable, "-c", f"import {__name__} as side; side.tun('probe0')"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    try:
        done = subprocess.run([*_NAMESPACE, *opens], capture_output=True, text=True, env=environment, check=False)
    except FileNotFoundError as error:
        return str(error)
    return None if done.returncode == 0 else f"no TUN device in a user namespace: {done.stderr.strip()[-200:]}"


def tun(name: str) -> int:
    """Makes a TUN device and returns its descriptor."""
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH14x", name.encode(), IFF_TUN | IFF_NO_PI))
    return device


class Kernel:
    """The kernel as a guest `kernel` of a LAN."""

    def __init__(self, lan: Any, addresses: list[str], mtu: int) -> None:
        self.addresses = addresses
        arguments = [lan.name, str(mtu), *addresses]
        self._relay = subprocess.Popen(
            [*_NAMESPACE, sys.executable, __file__, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._relay.stdout
        assert self._relay.stdout.readline() == "ready\n"

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Starts a program in the namespace."""
        enter = ["nsenter", "--target", str(self._relay.pid), "--user", "--preserve-credentials", "--net"]
        return subprocess.Popen([*enter, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *command: str) -> str:
        """Runs a program in the namespace and returns what it prints."""
        output, errors = self.start(*command).communicate(timeout=60)
        return output or errors

    def python(self, program: str, *arguments: str) -> subprocess.Popen[str]:
        """Starts a Python program in the namespace; it finds this module as ``kernel_side``."""
        path = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        return self.start(sys.executable, "-u", "-c", path + program, *arguments)

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        self._relay.communicate(timeout=20)


def stream(seed: int, size: int) -> bytes:
    """Bytes that follow from a seed."""
    return hashlib.shake_128(str(seed).encode()).digest(size)


def exchange(sock: Any, mine: bytes) -> str:
    """Sends `mine` and its end while receiving to the other side's end; returns the SHA-256 of what came."""
    heard = hashlib.sha256()

    def send() -> None:
        sock.sendall(mine)
        sock.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    while piece := sock.recv(65536):
        heard.update(piece)
    sender.join()
    sock.close()
    return heard.hexdigest()


def relay(lan: str, mtu: int, addresses: list[str]) -> None:
    """Carries datagrams between a NIC and a TUN device until the standard input ends."""
    import vnet

    device = tun("vnet0")
    nic = vnet.attach(lan, "kernel", addresses)
    run = functools.partial(subprocess.run, check=True)
    run(["ip", "link", "set", "lo", "up"])
    run(["ip", "link", "set", "vnet0", "mtu", str(mtu), "up"])
    for address in addresses:
        nodad = ["nodad"] if ":" in address else []
        run(["ip", "address", "add", address + ("/64" if nodad else "/24"), "dev", "vnet0", *nodad])

    def outwards() -> None:
        while True:
            nic.send(os.read(device, 65536), block=True, timeout=1)

    def inwards() -> None:
        while True:
            for datagram in nic.recv_many():
                os.write(device, datagram)

    for carry in (outwards, inwards):
        threading.Thread(target=carry, daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()
    # The threads are in system calls that nothing else ends.
    os._exit(0)


if __name__ == "__main__":
    relay(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
