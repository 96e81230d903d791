"""One LAN with a guest of each kind on it, and what runs programs in the places that belong to the kernel.

::

    alice ─┐                                                       gate: the bridge, in the base's namespace
      bob ─┤  netns                      tap ── br0 (a bridge) ──┬─ far: a namespace behind the bridge
      box ─┤  plugged, was there before   │                      │
     host ─┤  built in                    │
    stack ─┤  a process's sockets         │
    scapy ─┴── the LAN ───────────────────┘
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_interface
from pathlib import Path
from types import TracebackType
from typing import Any

import support

import vnet

CLONE_NEWNET = 0x40000000
PREFIXES = ["10.0.0.0/24", "fd00::/64"]
PROGRAMS = "ip ping arping ndisc6 traceroute tcpdump iperf3 socat curl ssh sshd ethtool nstat openssl nsenter"
# The kernel's largest for a TAP.
LARGEST_TAP = 65_521

_libc = ctypes.CDLL(None, use_errno=True)


def missing() -> str | None:
    """What this machine lacks for namespaces with TAP devices; None: nothing."""
    if os.geteuid() != 0:
        return "root is missing: these tests make namespaces and bridges"
    if not os.path.exists("/dev/net/tun"):
        return "/dev/net/tun is missing: modprobe tun"
    programs = (
        "ip bridge ping arping ndisc6 traceroute tcpdump iperf3 socat curl ssh sshd ethtool nstat openssl nsenter"
    )
    lacking = [each for each in programs.split() if shutil.which(each, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    return f"programs are missing: {' '.join(lacking)}; tools/system-packages installs them" if lacking else None


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """This thread, and whatever it starts, in a network namespace of its own: the `host's namespace` of these tests."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET)")
        try:
            shell("ip link set lo up")
            yield
        finally:
            if _libc.setns(before, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(before)


def shell(script: str) -> str:
    """Runs a script in the base's namespace and returns what it prints."""
    done = subprocess.run(["sh", "-euc", script], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, f"{script}: {done.stdout}{done.stderr}"
    return done.stdout


Enter = Callable[[Sequence[str]], tuple[Sequence[str], Sequence[int]]]


def _here(words: Sequence[str]) -> tuple[Sequence[str], Sequence[int]]:
    return words, ()


def into(pid: int) -> Enter:
    """Runs programs in the network namespace of a process."""
    return lambda words: (["nsenter", "--target", str(pid), "--net", "--", *words], ())


@dataclass(frozen=True)
class Place:
    """A guest, or who sits behind one: its addresses, its MAC, and how programs of the kernel are run there."""

    name: str
    addresses: dict[int, str]
    mac: str
    """Of its own interface."""
    seen_as: str
    """The MAC that guests on the LAN know it by: what is behind a bridge has that of the bridge's NIC."""
    interface: str = ""
    enter: Enter | None = field(default=None, repr=False)
    behind: bool = False
    """Whether it is on the other side of the bridge."""

    def __str__(self) -> str:
        return self.name

    def mac_for(self, other: Place) -> str:
        """The MAC at which `other` reaches it."""
        return self.mac if other.behind and self.behind else self.seen_as

    @property
    def kernel(self) -> bool:
        """Whether a kernel's stack is there, and so a place for programs."""
        return self.enter is not None

    def _words(self, words: Sequence[str]) -> tuple[list[str], tuple[int, ...]]:
        assert self.enter, f"{self.name} runs no programs"
        entered, descriptors = self.enter(words)
        return list(entered), tuple(descriptors)

    def run(self, *words: str, timeout: float = 60, **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs a program there to its end, whatever that is."""
        command, descriptors = self._words(words)
        options = {"capture_output": True, "text": True, "check": False, **options}
        return subprocess.run(command, pass_fds=descriptors, timeout=timeout, **options)

    def output(self, *words: str, **options: Any) -> str:
        """Runs a program there, which must succeed, and returns what it prints."""
        done = self.run(*words, **options)
        assert done.returncode == 0, f"{self.name}$ {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def shell(self, script: str, **options: Any) -> str:
        """Runs a script of the shell there, which must succeed."""
        return self.output("bash", "-euo", "pipefail", "-c", script, **options)

    @contextlib.contextmanager
    def start(self, *words: str, until: str = "", **options: Any) -> Iterator[subprocess.Popen[str]]:
        """Runs a program there beside the test; with `until`, when a line that it printed has that in it."""
        command, descriptors = self._words(words)
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, **options}
        with subprocess.Popen(command, pass_fds=descriptors, **options) as process:
            try:
                heard = []
                while until and until not in "".join(heard[-1:]):
                    assert process.stdout
                    line = process.stdout.readline()
                    assert line, f"{self.name}$ {' '.join(words)}: {''.join(heard)}"
                    heard.append(line)
                yield process
            finally:
                process.kill()
                process.wait()

    def neighbours(self) -> dict[str, dict[str, Any]]:
        """What its kernel knows of its neighbours, by address."""
        return {
            each["dst"]: each for each in json.loads(self.output("ip", "-j", "neigh", "show", "dev", self.interface))
        }

    def counters(self) -> dict[str, int]:
        """All that its kernel counts."""
        return json.loads(self.output("nstat", "-asz", "--json"))["kernel"]

    def errors(self) -> dict[str, int]:
        """Those of its counters that say that something came wrong: checksums, headers, lengths, fragments."""
        counted = self.counters()
        wrong = {name: count for name, count in counted.items() if _WRONG.search(name) and "OutErr" not in name}
        for udp in ("Udp", "Udp6"):
            # A program that reads too slowly is an error for UDP, and nothing of ours.
            wrong[f"{udp}InErrors"] -= counted[f"{udp}RcvbufErrors"]
        return wrong


_WRONG = re.compile(r"Csum|Hdr|Trunc|ReasmFails|ReasmTimeout|InErr|InTooBig|InUnknownProtos")


class Scene:
    """The LAN of the picture above.  A context manager; to be entered in a network namespace of the test's own."""

    def __init__(self, mtu: int = 1500) -> None:
        self.mtu = mtu
        self.lan: vnet.Lan
        self.places: dict[str, Place] = {}
        self._open = contextlib.ExitStack()

    @property
    def kernels(self) -> list[Place]:
        """Where programs can run."""
        return [place for place in self.places.values() if place.kernel]

    def __getitem__(self, name: str) -> Place:
        return self.places[name]

    def __enter__(self) -> Scene:
        try:
            self._build()
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def _add(
        self,
        name: str,
        addresses: Sequence[str],
        mac: str,
        interface: str = "",
        enter: Enter | None = None,
        seen_as: str = "",
    ) -> None:
        by_family: dict[int, str] = {}
        for each in map(ip_interface, addresses):
            by_family.setdefault(each.version, str(each.ip))  # the last one is link-local
        self.places[name] = Place(name, by_family, mac, seen_as or mac, interface, enter, bool(seen_as))

    def _build(self) -> None:
        keep = self._open.enter_context
        self.lan = lan = keep(vnet.Lan(None, PREFIXES, mtu=self.mtu))
        # Others' answers do not wait until the kernel has made sure of its own link-local address.
        shell("for at in all default; do echo 0 > /proc/sys/net/ipv6/conf/$at/accept_dad; done")
        for name in ("alice", "bob"):
            netns = keep(contextlib.closing(lan.netns(name)))
            self._add(name, netns.addresses, netns.mac, netns.interface, netns.enter_words)
        box = keep(namespace())
        plug = keep(contextlib.closing(lan.plug("box", box, interface="eth0")))
        self._add("box", plug.addresses, plug.mac, "eth0", into(box))
        shell("echo 0 > /proc/sys/net/ipv4/icmp_echo_ignore_broadcasts")
        self._bridge()
        host = lan.host("host")
        host.serve(tcp=80, http="hello from the host\n")
        self._add("host", host.addresses, host.mac)
        for name in ("stack", "scapy"):
            nic = keep(lan.attach(name))
            self._add(name, nic.addresses, nic.mac)
            if name == "stack":
                self.stack = keep(nic.stack())
            else:
                self.scapy = nic
                nic.fileno()  # the same
        self.host = host
        # Threads that tend to NICs start when there is something to do; no test shall seem to leave one behind.
        host.ping(self.places["stack"].addresses[4])
        until(lambda: {"vnet-stack", "vnet-dispatch"} <= set(support.threads().values()))

    def _bridge(self) -> None:
        """A bridge that is there before the LAN, a namespace behind it, and the TAP that joins the two."""
        shell(f"ip link add br0 type bridge && ip link set br0 mtu {min(self.mtu, LARGEST_TAP)} up")
        self._open.callback(shell, "ip link del br0")
        far = self._open.enter_context(namespace())
        mtu = min(self.mtu, LARGEST_TAP)
        shell(
            f"ip link add far0 mtu {mtu} master br0 type veth peer name eth0 mtu {mtu} netns {far}; ip link set far0 up"
        )
        addresses = ["10.0.0.200/24", "fd00::c8/64"]
        inside = "; ".join(f"ip address add {each} dev eth0 {'nodad' * (':' in each)}" for each in addresses)
        enter = into(far)
        command, _ = enter(["sh", "-euc", f"ip link set lo up; ip link set eth0 up; {inside}"])
        subprocess.run(command, check=True)
        tap = self._open.enter_context(
            contextlib.closing(self.lan.tap("gate", ["10.0.0.254", "fd00::fe"], bridge="br0", interface="gate0"))
        )
        mac = json.loads(subprocess.check_output([*enter(["ip", "-j", "link", "show", "eth0"])[0]]))[0]["address"]
        self._add("far", addresses, mac, "eth0", enter, tap.mac)
        # A bridge takes its MAC from its ports.
        mac = json.loads(shell("ip -j link show br0"))[0]["address"]
        self._add("gate", tap.addresses, mac, "br0", _here, tap.mac)


@contextlib.contextmanager
def namespace() -> Iterator[int]:
    """A network namespace that somebody else made, as a container's: the id of a process in it, which keeps it."""
    ours = os.readlink("/proc/thread-self/ns/net")
    # The shell says when it is in there, and goes with its standard input.
    holder = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "ip link set lo up; echo in; read word"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        try:
            assert holder.stdout
            assert holder.stdout.readline() == b"in\n"
            assert os.readlink(f"/proc/{holder.pid}/ns/net") != ours
            yield holder.pid
        finally:
            holder.kill()


def python(program: str) -> list[str]:
    """The words that run a Python program without vnet in it, as any user's."""
    return [sys.executable, "-I", "-u", "-c", program]


def until(condition: Callable[[], Any], timeout: float = 5.0) -> float:
    """Waits until the condition holds, and returns the seconds that it took; fails when it does not in time."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + timeout, "it does not come true"
        time.sleep(0.002)
    return time.monotonic() - began


HERE = Path(__file__).parent
