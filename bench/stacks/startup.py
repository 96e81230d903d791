"""Networks of many nodes, up and down: by vnet, by Mininet, and by ``ip`` alone."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .spaces import Space, Trouble, run

__all__ = ["WAYS", "UpAndDown", "missing", "up_and_down"]

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parents[1]
# Debian's: it is the one that has Mininet.
_MININET_PYTHON = "/usr/bin/python3"
_NETWORK = ipaddress.ip_network("10.9.0.0/16")
# Seconds that coming up or going may take before the benchmark gives up.
_LIMIT = 120.0


@dataclass(frozen=True)
class UpAndDown:
    """Seconds until every node is there and has its address, and until the command that takes them away is done."""

    up: float
    down: float


def _address(number: int) -> str:
    return str(_NETWORK[number + 1])


def _timed(words: list[str], place: Space | None = None) -> float:
    start = time.perf_counter()
    run(words, place, timeout=_LIMIT)
    return time.perf_counter() - start


def _vnet_lab(count: int, scratch: Path) -> UpAndDown:
    """``vnet up`` and ``vnet down``, the commands whole."""
    nodes = "".join(f"  n{number}: {{kind: netns, networks: {{lan: {_address(number)}}}}}\n" for number in range(count))
    lab = scratch / "many.yaml"
    lab.write_text(f"name: many-{os.getpid()}\nnetworks:\n  lan: {_NETWORK}\nnodes:\n{nodes}")
    vnet = [sys.executable, "-m", "vnet"]
    up = _timed([*vnet, "up", str(lab)])
    try:
        run([*vnet, "exec", f"many-{os.getpid()}", "n0", "--", *_ping(count)])
    finally:
        down = _timed([*vnet, "down", f"many-{os.getpid()}"])
    return UpAndDown(up, down)


def _vnet_api(count: int, scratch: Path) -> UpAndDown:
    """A program with ``lan.netns()``, without the time that Python takes to start."""
    addresses = [_address(number) for number in range(count)]
    return _told(run([sys.executable, "-m", "bench.stacks.many_vnet", str(_NETWORK), *addresses], timeout=_LIMIT))


def _mininet(count: int, scratch: Path) -> UpAndDown:
    """Mininet's single switch, a Linux bridge, in a namespace of its own."""
    with Space() as yard:
        return _told(run([_MININET_PYTHON, str(_HERE / "many_mininet.py"), str(count)], yard, timeout=_LIMIT))


def _ip(count: int, scratch: Path) -> UpAndDown:
    """``ip -batch``: namespaces, veth and a bridge; then one in each for its address, as that takes a process each."""
    up = ["link add br0 type bridge", "link set br0 up"]
    for number in range(count):
        up += [
            f"netns add n{number}",
            f"link add v{number} type veth peer name eth0 netns n{number}",
            f"link set v{number} master br0 up",
        ]
    (scratch / "up").write_text("\n".join(up) + "\n")
    for number in range(count):
        address = f"{_address(number)}/{_NETWORK.prefixlen}"
        lines = ["link set lo up", f"address add {address} dev eth0", "link set eth0 up"]
        (scratch / f"up-{number}").write_text("\n".join(lines) + "\n")
    (scratch / "down").write_text("".join(f"netns del n{number}\n" for number in range(count)) + "link del br0\n")
    # ip keeps names of namespaces in /run/netns: a file system of its own, in a mount namespace of its own.
    script = (
        "mount -t tmpfs tmpfs /run && cd {scratch} && now() {{ date +%s.%N; }} && a=$(now) && ip -batch up && "
        "for number in $(seq 0 {last}); do ip -n n$number -batch up-$number || exit; done && b=$(now) && "
        "ip netns exec n0 {ping} >&2 && c=$(now) && ip -batch down && echo $a $b $c $(now)"
    ).format(scratch=scratch, last=count - 1, ping=" ".join(_ping(count)))
    with Space() as yard:
        told = run(["unshare", "--mount", "sh", "-c", script], yard, timeout=_LIMIT).split()
    before, there, still, gone = map(float, told)
    return UpAndDown(there - before, gone - still)


def _ping(count: int) -> list[str]:
    """What shows that the first node reaches the last."""
    return ["ping", "-c", "1", "-W", "5", "-q", _address(count - 1)]


def _told(output: str) -> UpAndDown:
    told = json.loads(output.splitlines()[-1])
    return UpAndDown(told["up"], told["down"])


WAYS: dict[str, Callable[[int, Path], UpAndDown]] = {
    "vnet": _vnet_lab,
    "vnet-api": _vnet_api,
    "mininet": _mininet,
    "ip-batch": _ip,
}
"""Every way by name."""


def missing(way: str) -> str | None:
    """One sentence about what a way lacks on this machine."""
    if way == "mininet":
        words = [_MININET_PYTHON, "-c", "import mininet"]
        there = shutil.which("mnexec") and shutil.which("brctl") and Path(_MININET_PYTHON).exists()
        if not there or subprocess.run(words, capture_output=True).returncode:
            return "mininet is left out: it is not there; apt-get install mininet provides it"
    return None


def up_and_down(way: str, count: int) -> UpAndDown:
    """Brings ``count`` nodes up in one way, has the first ping the last, and takes them down.

    Raises:
        Trouble: something failed; what the program said.
    """
    with tempfile.TemporaryDirectory() as scratch:
        both = WAYS[way](count, Path(scratch))
    _settle()
    return both


def _settle() -> None:
    """Waits until the kernel has taken namespaces apart that were let go of.

    It does so later, and all that wait at once.  One with a veth in it is let go of after them; when the veth's other
    end has gone, so have they.
    """
    with Space() as yard:
        with Space() as marker:
            yard.ip(f"link add marker type veth peer name other netns {marker.path}", others=[marker])
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                run(["ip", "link", "show", "marker"], yard)
            except Trouble:
                return
            time.sleep(0.05)
