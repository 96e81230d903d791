"""Linux's own view of namespaces: what iproute2 says of them, and namespaces that vnet has not made."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import support

import vnet

# A namespace of one's own; whoever is not root becomes it in a user namespace.
OWN = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]

# Root without any privilege but to give others its id, as in most containers: namespaces are made as by any user.
UNPRIVILEGED = ["setpriv", "--bounding-set=-all,+setfcap", "--inh-caps=-all"] if os.geteuid() == 0 else []


@functools.cache
def missing() -> str | None:
    """What this machine lacks for namespaces with TAP devices; None: nothing."""
    try:
        done = subprocess.run(
            [*OWN, "ip", "tuntap", "add", "probe0", "mode", "tap"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        return str(error)
    return None if done.returncode == 0 else f"no TAP device in a namespace: {done.stderr.strip()[-200:]}"


def links(enter: Sequence[str], **run: Any) -> dict[str, dict[str, Any]]:
    """The interfaces that a program sees which is started by these words, by their names, with their addresses."""
    done = subprocess.run([*enter, "ip", "-j", "address"], capture_output=True, check=True, **run)
    return {each["ifname"]: each for each in json.loads(done.stdout)}


def own_links(guest: vnet.Netns) -> dict[str, dict[str, Any]]:
    """The interfaces of a guest."""
    words, files = guest.enter_words(["env"])
    return links(words, pass_fds=files)


def addresses(link: dict[str, Any]) -> set[str]:
    """The addresses of an interface with their lengths."""
    return {f"{each['local']}/{each['prefixlen']}" for each in link["addr_info"]}


class Target:
    """A process in a network namespace of its own."""

    def __init__(self, own: Sequence[str] = OWN) -> None:
        self._words = list(own)
        self.process = subprocess.Popen([*own, "sh", "-c", "echo; exec sleep 60"], stdout=subprocess.PIPE)
        assert self.process.stdout
        self.process.stdout.readline()
        self.pid = self.process.pid

    @property
    def links(self) -> dict[str, dict[str, Any]]:
        """Its interfaces."""
        return links(enter_words(self.pid))

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Runs a program in there."""
        return subprocess.run([*enter_words(self.pid), *words], capture_output=True, text=True, check=False)

    def end(self) -> None:
        """Ends it, and the namespace with it."""
        self.process.kill()
        self.process.communicate()

    def __enter__(self) -> Target:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def enter_words(pid: int) -> list[str]:
    """What runs a program in the namespaces of a process."""
    user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
    return ["nsenter", "--target", str(pid), *user, "--net"]


def base(program: str, before: Sequence[str] = (), **run: Any) -> subprocess.CompletedProcess[str]:
    """Runs a Python program, which has a LAN, behind other words."""
    head = f"import sys; sys.path[:0] = [{str(Path(__file__).parent.parent)!r}, {str(Path(__file__).parent)!r}]\n"
    words = [*before, sys.executable, "-W", "error", "-c", head + program]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60, **run)


def open_devices(process: int | str = "self") -> list[str]:
    """What a process holds of namespaces and TAP devices."""
    found = support.descriptors(process).values()
    return [what for what in found if what.startswith(("net:", "user:")) or what == "/dev/net/tun"]


def alive(pid: int) -> bool:
    """Whether there is such a process that has not ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False
