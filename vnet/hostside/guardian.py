"""The process that gives back what a TAP borrowed from its machine: interfaces, addresses, settings of the kernel.

A TAP device and an nftables table go when the process that made them dies; a bridge, an interface's place in it and a
setting do not.  Whoever borrows one of those tells this process first and borrows then.  When the base lets go of the
pipe, in good order or by dying, everything is given back, the last first.  That is the only way in which things are
given back, so every orderly end exercises what a killed base relies on.

What several labs share goes back with the last of them.  Who holds what is told in abstract Unix sockets, whose names
the kernel keeps for each network namespace and forgets with the process: ``vnet|KIND|WHAT|HOW IT WAS|WHO``.  Whoever
borrows what another lab holds already takes over from there how it was; whoever lets go of it while others hold it
leaves it to them.  One more such name is the lock under which things are borrowed and given back.

The program stands alone, imports next to nothing and starts in 20 ms: ``python -I -S guardian.py``.  Requests are
lines, each answered by a line::

    lock                                 nobody else borrows or gives back until `settled`
    tap INDEX                            the device that goes with the base; a bridge is not removed before it has
    making NAME MAC                      a bridge that comes to be; where it is if the base dies before it says
    hold bridge INDEX made               remove the bridge, unless ports that no lab put there are in it
    hold port INDEX.BRIDGE MASTER,UP     take the interface out of the bridge, give it back to its former master
    hold address INDEX,ADDRESS/BITS new  remove the address
    hold down INDEX yes                  take the interface down
    hold sysctl PATH WAS,SET             set it to what it was, if it still is what it was set to, or WAS is SET
    settled

``hold`` answers with how the thing was, or with ``-`` where this lab need not give it back: what is asked for with
``-`` is given back only if another lab borrowed it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator

# rtnetlink(7), linux/if_link.h, linux/if_addr.h
_ERROR, _DONE = 2, 3
_NEWLINK, _DELLINK, _GETLINK, _DELADDR = 16, 17, 18, 21
_REQUEST, _ACK, _DUMP = 1, 4, 0x300
_ADDRESS, _IFNAME, _MASTER, _LINKINFO, _KIND = 1, 3, 10, 18, 1
_LOCAL_ADDRESS = 2
_UP = 1

# Seconds. Borrowing takes some milliseconds; nobody waits for ever for one that was stopped meanwhile.
_LOCK_TAKES = 10.0
_DEVICE_TAKES = 5.0
_NAMESPACE_TAKES = 3.0

_SETTINGS = "/proc/sys/net/"

# Not its number: that of a process in another container may be the same.
_SELF = os.urandom(8).hex()


class Link:
    """An interface, as the kernel describes it."""

    def __init__(self, index: int, flags: int, attributes: dict[int, bytes]) -> None:
        self.index = index
        self.up = bool(flags & _UP)
        self.name = attributes.get(_IFNAME, b"").rstrip(b"\0").decode(errors="replace")
        self.mac = attributes.get(_ADDRESS, b"").hex(":")
        self.master = struct.unpack("I", attributes[_MASTER])[0] if _MASTER in attributes else 0
        self.kind = dict(_attributes(attributes.get(_LINKINFO, b""))).get(_KIND, b"").rstrip(b"\0").decode()


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        length, kind = struct.unpack_from("HH", data)
        if length < 4:
            return
        # The two upper bits say how it is encoded.
        yield kind & 0x3FFF, data[4:length]
        data = data[(length + 3) & ~3 :]


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


class Kernel:
    """The interfaces of this network namespace."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._socket.settimeout(5.0)
        self._sequence = 0

    def _ask(self, kind: int, flags: int, body: bytes) -> list[bytes]:
        self._sequence += 1
        length = 16 + len(body)
        self._socket.send(struct.pack("IHHII", length, kind, _REQUEST | flags, self._sequence, 0) + body)
        answers: list[bytes] = []
        while True:
            data = self._socket.recv(1 << 20)
            while data:
                length, answer, _, sequence, _ = struct.unpack_from("IHHII", data)
                if sequence == self._sequence:
                    if answer == _ERROR:
                        code = -struct.unpack_from("i", data, 16)[0]
                        if code:
                            raise OSError(code, os.strerror(code))
                        return answers
                    if answer == _DONE:
                        return answers
                    answers.append(data[16:length])
                    if not flags & _DUMP and not flags & _ACK:
                        return answers
                data = data[(length + 3) & ~3 :]

    def links(self) -> list[Link]:
        return [self._parse(body) for body in self._ask(_GETLINK, _DUMP, struct.pack("BxHiII", 0, 0, 0, 0, 0))]

    def link(self, index: int) -> Link | None:
        try:
            return self._parse(self._ask(_GETLINK, 0, struct.pack("BxHiII", 0, 0, index, 0, 0))[0])
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise

    @staticmethod
    def _parse(body: bytes) -> Link:
        _, _, index, flags, _ = struct.unpack_from("BxHiII", body)
        return Link(index, flags, dict(_attributes(body[16:])))

    def remove(self, index: int) -> None:
        self._ask(_DELLINK, _ACK, struct.pack("BxHiII", 0, 0, index, 0, 0))

    def set_master(self, index: int, master: int) -> None:
        body = struct.pack("BxHiII", 0, 0, index, 0, 0) + _attribute(_MASTER, struct.pack("I", master))
        self._ask(_NEWLINK, _ACK, body)

    def take_down(self, index: int) -> None:
        self._ask(_NEWLINK, _ACK, struct.pack("BxHiII", 0, 0, index, 0, _UP))

    def remove_address(self, index: int, address: str, bits: int) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        packed = socket.inet_pton(family, address)
        body = struct.pack("BBBBI", family, bits, 0, 0, index)
        self._ask(_DELADDR, _ACK, body + _attribute(_LOCAL_ADDRESS, packed) + _attribute(_ADDRESS, packed))


def _signs() -> list[tuple[str, list[str]]]:
    """The names under which other labs tell what they hold, whole and in parts."""
    try:
        with open("/proc/self/net/unix") as table:
            names = [line.rstrip("\n").split(" ")[-1] for line in table if " @vnet|" in line]
    except OSError:
        return []
    parted = [(name, name.split("|")) for name in names]
    return [(name, parts) for name, parts in parted if len(parts) == 5 and parts[4] != _SELF]


def _holders(signs: list[tuple[str, list[str]]], kind: str, what: str) -> Iterator[str]:
    """How the thing was, according to each process of this user or of root that holds it."""
    for name, parts in signs:
        if parts[1:3] != [kind, what]:
            continue
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            try:
                probe.connect("\0" + name[1:])
                _, uid, _ = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            except OSError:
                # It went away just now.
                continue
        # Anybody can have such a name: what others say does not count.
        if uid in (0, os.geteuid()):
            yield parts[3]


class Held:
    """A thing that this lab holds: how it was, and the socket that tells others."""

    def __init__(self, kind: str, what: str, was: str) -> None:
        self.kind, self.what, self.was = kind, what, was
        self.sign: socket.socket | None = None
        if kind != "making":
            self.sign = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sign.bind(f"\0vnet|{kind}|{what}|{was}|{_SELF}")
            self.sign.listen(128)
            self.sign.setblocking(False)


class Guardian:
    """What one lab's TAP has borrowed."""

    def __init__(self, requests: int) -> None:
        self._kernel = Kernel()
        self._requests = requests
        self._lock: socket.socket | None = None
        # Of others, as of when the lock was taken: they change only under the lock, or by dying.
        self._signs: list[tuple[str, list[str]]] = []
        self._tap = 0
        self._held: list[Held] = []
        self._selector = selectors.DefaultSelector()
        self._selector.register(requests, selectors.EVENT_READ)

    def serve(self) -> None:
        """Answers until the base lets go, then gives everything back."""
        pending = b""
        while True:
            for key, _ in self._selector.select():
                if key.fd != self._requests:
                    self._greet(key.data)
                    continue
                data = os.read(self._requests, 65_536)
                if not data:
                    self._give_all_back()
                    return
                *lines, pending = (pending + data).split(b"\n")
                for line in lines:
                    self._say(self._answer(line.decode().split(" ")))

    @staticmethod
    def _say(answer: str) -> None:
        # The base may die while it waits; the end of its requests says so, too.
        with contextlib.suppress(OSError):
            os.write(1, f"{answer}\n".encode())

    @staticmethod
    def _greet(sign: socket.socket) -> None:
        # Somebody looked whose socket it is. Nothing is said; it must only not fill the queue.
        with contextlib.suppress(OSError):
            sign.accept()[0].close()

    def _answer(self, words: list[str]) -> str:
        verb = words[0]
        if verb == "lock":
            self._take_lock()
        elif verb == "settled":
            self._drop_lock()
        elif verb == "tap":
            self._tap = int(words[1])
        elif verb == "making":
            self._held.append(Held("making", words[1], words[2]))
        elif verb == "hold":
            return self._hold(*words[1:])
        return "ok"

    def _hold(self, kind: str, what: str, was: str) -> str:
        was = next(_holders(self._signs, kind, what), was)
        if was == "-":
            return was
        held = Held(kind, what, was)
        # The bridge that was coming to be is there and has a number.
        self._held = [*(each for each in self._held if kind != "bridge" or each.kind != "making"), held]
        self._selector.register(held.sign, selectors.EVENT_READ, held.sign)  # type: ignore[arg-type]
        return was

    def _take_lock(self) -> None:
        if self._lock is not None:
            return
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        deadline = time.monotonic() + _LOCK_TAKES
        while time.monotonic() < deadline:
            try:
                lock.bind("\0vnet|lock")
                break
            except OSError:
                time.sleep(0.002)
        self._lock = lock
        self._signs = _signs()

    def _drop_lock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    # Giving back

    def _give_all_back(self) -> None:
        deadline = time.monotonic() + _DEVICE_TAKES
        while self._tap and self._kernel.link(self._tap) is not None and time.monotonic() < deadline:
            time.sleep(0.002)
        self._await_strangers()
        self._take_lock()
        for held in reversed(self._held):
            if held.sign is not None:
                held.sign.close()
                if next(_holders(self._signs, held.kind, held.what), None) is not None:
                    # Theirs to give back, as it was.
                    continue
            try:
                self._give_back(held)
            except OSError:
                # Gone, or somebody else's by now.
                continue
        self._drop_lock()

    def _await_strangers(self) -> None:
        """Gives interfaces that others put into our bridge the time to go with what ended with the lab.

        The kernel takes a namespace apart, and cables that lead into it, some time after its last process has ended.
        """
        bridges = {int(held.what) for held in self._held if held.kind == "bridge"}
        ours = {self._tap} | {int(held.what.split(".")[0]) for held in self._held if held.kind == "port"}
        deadline = time.monotonic() + _NAMESPACE_TAKES
        while bridges and time.monotonic() < deadline:
            signs = _signs()
            bridges -= {bridge for bridge in bridges if next(_holders(signs, "bridge", str(bridge)), None) is not None}
            if not any(link.master in bridges and link.index not in ours for link in self._kernel.links()):
                return
            time.sleep(0.01)

    def _give_back(self, held: Held) -> None:
        if held.kind == "making":
            for link in self._kernel.links():
                if (link.name, link.kind, link.mac) == (held.what, "bridge", held.was):
                    self._kernel.remove(link.index)
        elif held.kind == "bridge":
            self._remove_bridge(int(held.what))
        elif held.kind == "port":
            self._free_port(*map(int, held.what.split(".")), *map(int, held.was.split(",")))
        elif held.kind == "address":
            index, address = held.what.split(",")
            address, bits = address.split("/")
            self._kernel.remove_address(int(index), address, int(bits))
        elif held.kind == "down":
            self._kernel.take_down(int(held.what))
        elif held.kind == "sysctl":
            was, given = held.was.split(",")
            path = _SETTINGS + held.what
            with open(path) as setting:
                now = setting.read().strip()
            # What somebody set meanwhile stays, save where a wider setting took this one with it.
            if now == given or was == given:
                with open(path, "w") as setting:
                    setting.write(was)

    def _remove_bridge(self, index: int) -> None:
        # A number is given once: another bridge of this name has another.
        link = self._kernel.link(index)
        if link is None or link.kind != "bridge":
            return
        if any(port.master == index and port.index != self._tap for port in self._kernel.links()):
            # Somebody put interfaces of their own into it: it is theirs now.
            return
        self._kernel.remove(index)

    def _free_port(self, index: int, bridge: int, former: int, up: int) -> None:
        link = self._kernel.link(index)
        if link is None or (link.master != bridge and (link.master or self._kernel.link(bridge) is not None)):
            # Gone, or moved by somebody: it is in their hands.
            return
        there = former and self._kernel.link(former) is not None
        self._kernel.set_master(index, former if there else 0)
        if not up:
            self._kernel.take_down(index)


def main() -> None:
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    # A socket for each thing that is held; machines that run containers have hundreds of interfaces.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    Guardian(sys.stdin.fileno()).serve()


if __name__ == "__main__":
    main()
