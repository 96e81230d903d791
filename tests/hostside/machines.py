"""Machines to bridge: network namespaces with a base in them, and what their kernels say of themselves.

Whatever is in such a namespace ends with the last process in it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import support

# What a base does: it evaluates or executes lines and answers with what came of them, as JSON.
_BASE = """
import ast, json
lan = vnet.Lan(*json.loads(sys.argv[1]), **json.loads(sys.argv[2]))
names = {"lan": lan, "vnet": vnet, "os": os}
exec(sys.argv[3], names)
say("ready")
for line in sys.stdin:
    try:
        try:
            code = compile(json.loads(line), "<test>", "eval")
        except SyntaxError:
            code = compile(json.loads(line), "<test>", "exec")
        say(json.dumps(["is", eval(code, names)], default=str))
    except Exception as error:
        say(json.dumps([type(error).__name__, str(error)]))
lan.close()
"""


def missing() -> str | None:
    """What this machine lacks for these tests; None: nothing."""
    if os.geteuid() != 0:
        return "root is missing: these tests make namespaces and bridges"
    if not os.path.exists("/dev/net/tun"):
        return "/dev/net/tun is missing: modprobe tun"
    programs = ("ip", "bridge", "nft", "ping", "arping", "socat", "setpriv", "nsenter", "unshare")
    lacking = [each for each in programs if shutil.which(each, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    return f"programs are missing: {' '.join(lacking)}; tools/system-packages installs them" if lacking else None


class Refused(Exception):
    """A base answered with an error: its kind and its sentence."""

    def __init__(self, kind: str, sentence: str) -> None:
        super().__init__(f"{kind}: {sentence}")
        self.kind, self.sentence = kind, sentence


class Base(support.Guest):
    """A process in a machine that makes a LAN and does what it is told."""

    def __init__(
        self, machine: Machine, lan: Sequence[Any], options: dict[str, Any], before: str, through: Sequence[str]
    ) -> None:
        python = (sys.executable, "-W", "error", "-c", support._PRELUDE + _BASE)
        self.process = subprocess.Popen(
            machine.words(*through, *python, *map(json.dumps, (lan, options)), before),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        # nsenter has become it.
        self.pid = self.process.pid
        self._heard = b""
        assert self.hear() == "ready"

    def do(self, code: str) -> Any:
        """What an expression or statement of the base's comes to; :class:`Refused` is what it raised."""
        self.say(json.dumps(code))
        kind, what = json.loads(self.hear())
        if kind != "is":
            raise Refused(kind, what)
        return what

    def refused(self, code: str) -> tuple[str, str]:
        """The kind and sentence of the error that the code raises."""
        try:
            done = self.do(code)
        except Refused as refused:
            return refused.kind, refused.sentence
        raise AssertionError(f"{code} is {done}")


class Machine:
    """A network namespace, called a machine because a base and its kernel are in it."""

    def __init__(self) -> None:
        self._keeper = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "ip link set lo up; echo ready; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._keeper.stdout
        assert self._keeper.stdout.readline() == b"ready\n"
        self.pid = self._keeper.pid
        self._bases: list[Base] = []
        self._started: list[subprocess.Popen[bytes]] = []

    def words(self, *words: str) -> list[str]:
        """The words that run a program in the machine."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", *words]

    def sh(self, script: str) -> str:
        """What a shell in the machine prints."""
        done = subprocess.run(self.words("sh", "-euc", script), capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{script}: {done.stdout}{done.stderr}"
        return done.stdout

    def try_sh(self, script: str) -> tuple[int, str]:
        """Exit status and output of a shell in the machine."""
        done = subprocess.run(self.words("sh", "-c", script), capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout + done.stderr

    def start(self, script: str) -> subprocess.Popen[bytes]:
        """Starts a shell's command that ends with the machine."""
        self._started.append(subprocess.Popen(self.words("sh", "-c", f"exec {script}")))
        return self._started[-1]

    def sh_as_nobody(self, setting: str, was: str) -> subprocess.Popen[bytes]:
        """Another user's process that says what a setting was."""
        program = (
            "import socket, sys, time; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1].replace('@', chr(0)));"
            "s.listen(9); print(flush=True); time.sleep(60)"
        )
        name = f"@vnet|sysctl|{setting}|{was}|liar"
        words = self.words("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c")
        liar = subprocess.Popen([*words, program, name], stdout=subprocess.PIPE)
        assert liar.stdout
        liar.stdout.readline()
        liar.stdout.close()
        return liar

    def base(self, *lan: Any, before: str = "", through: Sequence[str] = (), **options: Any) -> Base:
        """Starts a base with a LAN; `before` is executed in it first, and `through` are the words that lead to it."""
        if not lan:
            lan = ("demo", ["10.0.0.0/24", "fd00::/64"])
        self._bases.append(Base(self, lan, {"mtu": 1500, **options}, before, through))
        return self._bases[-1]

    def join(self, other: Machine, here: str, there: str) -> None:
        """Lays a cable between two machines."""
        self.sh(f"ip link add name {here} type veth peer name {there} netns {other.pid}")

    def end(self) -> None:
        for base in self._bases:
            base.release()
        for program in self._started:
            program.kill()
            program.wait()
        if self._keeper.returncode is None:
            # What a test that failed has left in here, a lab that is up for one.
            if not support.eventually(lambda: not self._others(), timeout=5.0):
                for pid in self._others():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            self._keeper.communicate()

    def _others(self) -> list[int]:
        """The processes in here, the one that keeps it left out."""
        own, found = os.readlink(f"/proc/{self.pid}/ns/net"), []
        for entry in os.scandir("/proc"):
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and os.readlink(f"{entry.path}/ns/net") == own:
                    found.append(int(entry.name))
        return [pid for pid in found if pid != self.pid]

    # What its kernel says

    def link(self, name: str) -> dict[str, Any] | None:
        """An interface, in detail, with its addresses; None where there is none."""
        status, text = self.try_sh(f"ip -j -d address show dev {name}")
        return next((each for each in json.loads(text) if each), None) if status == 0 else None

    def addresses(self, name: str) -> dict[str, int]:
        """The addresses of an interface and the lengths of their prefixes."""
        link = self.link(name)
        assert link is not None, f"there is no interface {name}"
        return {each["local"]: each["prefixlen"] for each in link["addr_info"]}

    def links(self) -> list[str]:
        return sorted(each["ifname"] for each in json.loads(self.sh("ip -j link")))

    def setting(self, name: str) -> str:
        """What a setting of the kernel's is."""
        return self.sh(f"cat /proc/sys/net/{name}").strip()

    def state(self) -> dict[str, Any]:
        """All that a lab may have changed: interfaces and their masters, addresses, tables, settings, names of sockets.

        Link-local addresses are left out: interfaces that were up for a moment may have one or not.
        """
        links = {
            each["ifname"]: (
                each["address"],
                each["mtu"],
                each.get("master"),
                "UP" in each["flags"],
                sorted(f"{own['local']}/{own['prefixlen']}" for own in each["addr_info"] if own["scope"] != "link"),
            )
            for each in json.loads(self.sh("ip -j address"))
        }
        settings = dict(
            line.split(" = ", 1)
            for line in self.sh("sysctl -a -r '^net.ipv[46].(conf|ip_forward)' 2>/dev/null").splitlines()
            if " = " in line and not line.startswith("net.ipv6.conf.all.stable_secret")
        )
        sockets = [line.split()[-1] for line in self.sh("cat /proc/self/net/unix").splitlines() if "@vnet" in line]
        return {"links": links, "tables": self.sh("nft list ruleset"), "settings": settings, "sockets": sockets}

    def becomes(self, state: dict[str, Any]) -> None:
        """Waits until the machine is as it was, and says where it is not."""
        now: dict[str, Any] = {}

        def same() -> bool:
            now.update(self.state())
            return now == state

        if not support.eventually(same, timeout=10.0):
            changed = {
                key: {
                    name: (was.get(name), now[key].get(name))
                    for name in {*was, *now[key]}
                    if was.get(name) != now[key].get(name)
                }
                if isinstance(was, dict)
                else (was, now[key])
                for key, was in state.items()
                if was != now[key]
            }
            raise AssertionError(f"not as it was: {changed}")


def reaches(machine: Machine, address: str, *, count: int = 1, size: int = 56) -> bool:
    """Whether the kernel's ping gets all its answers."""
    return machine.try_sh(f"ping -n -c {count} -i 0.01 -W 2 -s {size} {address}")[0] == 0
