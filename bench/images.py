"""What images are worth: compiling against mapping, the check alone, and the memory of ten processes that share one.

    python -m bench.images [FILE]      a file of prefixes, one a line, perhaps gzipped; otherwise it makes a million

The cache is a directory of its own that goes at the end.  Times are medians, in milliseconds.
"""

from __future__ import annotations

import ipaddress
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import vnet
from vnet import _native
from vnet.images import cache_directory

ROUNDS = 7
ROUTERS = 3000
PROCESSES = 10

_USER = """
import sys
sys.path.insert(0, sys.argv[1])
import vnet
from bench.images import connected
with connected(sys.argv[2]) as lan:
    words = vnet._native.section_words(lan._base, "routes")  # looks at every word
    print(len(words), lan.images[0].mapped, flush=True)
    sys.stdin.readline()
"""


def connected(file: str, *, images: bool = True) -> vnet.Lan:
    """A LAN with a router, behind one of whose guests the prefixes lie."""
    lan = vnet.Lan(None, ["10.1.0.0/24", "fd01::/64"], images=images)
    lan.router("edge", ["lan"])
    lan.host("isp")
    lan.routes.load(file, via="isp")
    return lan


def backbone(*, images: bool) -> vnet.Lan:
    """A ring of routers with chords."""
    lan = vnet.Lan(None, max_nics=ROUTERS + 64, images=images)
    lan.add_network("west", "10.1.0.0/24")
    with lan.routing.batch():
        for number in range(ROUTERS):
            lan.router(f"r{number}", {0: ["west"]}.get(number, ()))
        for number in range(ROUTERS):
            lan.link(f"r{number}", f"r{(number + 1) % ROUTERS}")
            if number % 7 == 0 and abs(number * 3 % ROUTERS - number) > 1:
                lan.link(f"r{number}", f"r{number * 3 % ROUTERS}", weight=2)
    return lan


def timed(make: Callable[[], vnet.Lan]) -> tuple[float, vnet.Lan]:
    """Seconds, and the last LAN, which is still up."""
    seconds = []
    for number in range(ROUNDS):
        began = time.perf_counter()
        lan = make()
        seconds.append(time.perf_counter() - began)
        if number < ROUNDS - 1:
            lan.close()
    return statistics.median(seconds), lan


def empty() -> vnet.Lan:
    """The LAN of :func:`connected` without prefixes: what is left out of the figures."""
    lan = vnet.Lan(None, ["10.1.0.0/24", "fd01::/64"])
    lan.router("edge", ["lan"])
    lan.host("isp")
    return lan


def say(what: str, seconds: float, beside: str = "") -> None:
    print(f"{what:<44}{seconds * 1e3:10.2f} ms   {beside}".rstrip(), flush=True)


def routes(file: str) -> None:
    """The routes of a file: compiled, and out of an image."""
    base, lan = timed(empty)
    lan.close()
    seconds, lan = timed(lambda: connected(file, images=False))
    say("routes: read and compiled", seconds - base, f"{len(lan.routes):,} prefixes")
    lan.close()
    began = time.perf_counter()
    with connected(file) as lan:
        say("routes: the same, and kept in an image", time.perf_counter() - began - base)
    seconds, lan = timed(lambda: connected(file))
    with lan:
        (use,) = lan.images
        say("routes: found, checked and mapped", seconds - base, f"of which the image {use.seconds * 1e3:.2f} ms")
        path = next((cache_directory() or Path()).glob("*.img"))
        check(path, bytes.fromhex(use.key))
    shared(file, path)


def check(path: Path, key: bytes) -> None:
    """The check of the image alone."""
    fd = os.open(path, os.O_RDONLY)
    seconds = []
    for _ in range(5 * ROUNDS):
        began = time.perf_counter()
        _native.image_check(fd, key)
        seconds.append(time.perf_counter() - began)
    os.close(fd)
    size = path.stat().st_size
    say("the check of the image", statistics.median(seconds), f"{size / 2**20:.1f} MiB")


def shared(file: str, path: Path) -> None:
    """What ten LANs in ten processes take of memory for it."""
    command = [sys.executable, "-c", _USER, str(Path(__file__).parents[1]), file]
    users = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)
    ]
    try:
        for user in users:
            assert user.stdout is not None
            assert user.stdout.readline().split()[1] == "True"
        total = sum(proportional(user.pid, path) for user in users)
    finally:
        for user in users:
            user.communicate("\n")
    size = path.stat().st_size
    sizes = f"{size / 2**20:.1f} MiB; their proportional sizes add up to {total / 2**20:.1f} MiB"
    print(f"{PROCESSES} processes share {sizes}", flush=True)


def proportional(pid: int, path: Path) -> int:
    """Proportional bytes of the mapping of a file: proc_pid_smaps(5)."""
    text = Path(f"/proc/{pid}/smaps").read_text()
    blocks = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", text, flags=re.MULTILINE)
    found = [block for block in blocks if block.partition("\n")[0].endswith(str(path))]
    return sum(int(kib) << 10 for block in found for kib in re.findall(r"^Pss: +(\d+) kB$", block, re.MULTILINE))


def plans() -> None:
    """The plan of many routers: compiled, and out of an image."""
    for images, what in ((False, "compiled"), (True, "found, checked and mapped")):
        if images:
            backbone(images=True).close()
        seconds, lan = timed(lambda images=images: backbone(images=images))  # type: ignore[misc]
        with lan:
            beside = f"of which the image {lan.images[0].seconds * 1e3:.2f} ms" if images else f"{ROUTERS:,} routers"
        say(f"a backbone, its plan {what}", seconds, beside)


def made(directory: str) -> str:
    """A file of a million prefixes at random."""
    chance = random.Random(1)
    path = Path(directory) / "prefixes.txt"
    lengths = [16, 19, 20, 21, 22, 22, 23, 24, 24, 24, 24, 24, 24]
    with path.open("w") as file:
        for _ in range(1_000_000):
            length = chance.choice(lengths)
            address = chance.randrange(1 << 24, 224 << 24) >> (32 - length) << (32 - length)
            file.write(f"{ipaddress.IPv4Address(address)}/{length}\n")
    return str(path)


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        os.environ["VNET_CACHE"] = directory
        routes(sys.argv[1] if len(sys.argv) > 1 else made(directory))
        plans()


if __name__ == "__main__":
    main()
