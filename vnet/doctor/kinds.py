"""Whether the kinds of nodes that are stacks of Linux work here: each is tried, in a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vnet.doctor.finding import Finding, State
from vnet.doctor.packages import as_root

__all__ = ["findings", "try_all"]

KINDS = "Nodes of labs that are Linux (netns, tap)"
# Seconds that all attempts together may take.
_PATIENCE = 20.0
_CAP_NET_ADMIN = 12  # capabilities(7)

_PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from vnet.doctor.trying import main
main(sys.argv[2:])
"""

# What each is called and is for, and the modules of the kernel that it takes, with a name that they have in it.
_KINDS: Mapping[str, tuple[str, str, Mapping[str, str]]] = {
    "netns": ("kind netns", "any program on the LAN, with the kernel's own stack", {"tun": "tun_get_user"}),
    "tap": ("kind tap", "this machine itself on the LAN", {"tun": "tun_get_user"}),
    "bridge": (
        "bridge of a tap",
        "what is behind a Linux bridge on the LAN",
        {"tun": "tun_get_user", "bridge": "br_forward"},
    ),
    "NAT": (
        "gateway of a tap",
        "a LAN that reaches what this machine reaches",
        {"tun": "tun_get_user", "nf_tables": "nf_tables_newtable", "nft_masq": "nft_masq"},
    ),
}


def findings() -> Iterator[Finding]:
    """One for each kind, after a look at what it would do to try it."""
    names = _kernel_names()
    lacking = {
        what: [module for module, name in modules.items() if names and name not in names]
        for what, (_, _, modules) in _KINDS.items()
    }
    tried = try_all([what for what in _KINDS if not lacking[what]])
    for what, (name, why, _) in _KINDS.items():
        if lacking[what]:
            modules = " ".join(lacking[what])
            found = f"not tried, for this would load what the kernel has not loaded yet: {modules}"
            yield Finding(KINDS, name, State.LIMITED, found, why, as_root(f"modprobe -a {modules}"))
        elif tried[what]:
            yield Finding(KINDS, name, State.MISSING, tried[what], why, "see what it names, and what is marked below")
        elif what != "netns" and not _may_change_interfaces():
            found = "works in a namespace of its own; this process may not change this machine's interfaces"
            yield Finding(
                KINDS, name, State.LIMITED, found, why, "sudo vnet ..., or unshare --net --map-root-user vnet ..."
            )
        else:
            where = " in a namespace of its own" if what != "netns" else ""
            yield Finding(KINDS, name, State.OK, f"made{where}, and answered a ping", why)


def try_all(kinds: Sequence[str]) -> dict[str, str]:
    """What was wrong with each, an empty string where it works."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, json.dumps(sys.path), *kinds],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_PATIENCE,
            check=False,
            text=True,
        )
        said = json.loads(done.stdout)
        return {kind: str(said[kind]) for kind in kinds}
    except subprocess.TimeoutExpired:
        return dict.fromkeys(kinds, f"the attempt did not end within {_PATIENCE:g} s")
    except (ValueError, KeyError, TypeError):
        return dict.fromkeys(kinds, "the attempt crashed")


def _may_change_interfaces() -> bool:
    """Whether this process may change the network namespace that it is in."""
    from vnet.netns.places import owner

    status = Path("/proc/self/status").read_text()
    capabilities = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    if not capabilities or not int(capabilities[1], 16) >> _CAP_NET_ADMIN & 1:
        return False
    # Root of a user namespace is root of the network namespaces that belong to that.
    namespace = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        user = owner(namespace)
    except Exception:
        return False
    finally:
        os.close(namespace)
    if user is not None:
        os.close(user)
    return user is None


def _kernel_names() -> frozenset[str]:
    """The names of functions in the kernel as it is loaded; empty where it does not tell."""
    try:
        text = Path("/proc/kallsyms").read_text()
    except OSError:
        return frozenset()
    wanted = {name for _, _, modules in _KINDS.values() for name in modules.values()}
    return frozenset(name for name in wanted if re.search(rf" {name}", text))
