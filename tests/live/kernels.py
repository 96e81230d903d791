"""What tests of labs with the kernel's stack need of this machine, and how they look at it."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from .users import User

# A network namespace of one's own, for what would stand in this machine's.
OWN = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]
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


def nodes(user: User, lab: str) -> dict[str, dict[str, Any]]:
    """The nodes of a lab as it tells of them, by name."""
    return {node["name"]: node for node in json.loads(user.does("show", lab, "--json"))["nodes"]}


def links(user: User, lab: str, node: str) -> dict[str, Any]:
    """The interfaces that a command of a node sees, with their addresses, by name, as iproute2 tells of them."""
    return {each["ifname"]: each for each in json.loads(user.does("exec", lab, node, "--", "ip", "-j", "address"))}


def namespace(user: User, lab: str, node: str) -> str:
    """The kernel's own name of the network namespace that a command of a node runs in."""
    return user.does("exec", lab, node, "--", "readlink", "/proc/self/ns/net").strip()


def users_of(space: str) -> list[int]:
    """The processes in a network namespace."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                if os.readlink(Path(entry.path, "ns/net")) == space:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found
