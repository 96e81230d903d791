"""Tries each kind of node that is a stack of Linux, as labs have them; run as a program by :mod:`vnet.doctor.kinds`.

Nothing is made in this machine's own network namespace: what stands in it in a lab stands in one of this process's own
here, and goes with it.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence

__all__ = ["ATTEMPTS", "main"]

# Seconds in which a ping must be answered.
_PATIENCE = 5.0
# Seconds that an attempt may take.
_LONGEST = 15


def _netns() -> str:
    import vnet

    with vnet.Lan(None, "10.0.0.0/24") as lan:
        host, namespace = lan.host("host"), lan.netns("linux")
        return _pinged(host, namespace.address)


def _tap() -> str:
    return _in_own_namespace()


def _bridge() -> str:
    return _in_own_namespace(bridge="vnet-doctor")


def _nat() -> str:
    return _in_own_namespace(nat=True)


def _in_own_namespace(**settings: object) -> str:
    import vnet
    from vnet.netns.devices import become_root, new_network_namespace, privileged

    if not privileged():
        os.close(become_root())
    os.close(new_network_namespace())
    with vnet.Lan(None, "10.0.0.0/24") as lan:
        host = lan.host("host")
        tap = lan.tap("tap", "10.0.0.254", **settings)  # type: ignore[arg-type]
        return _pinged(host, tap.addresses[0])


def _pinged(host: object, address: str) -> str:
    answered = host.ping(address, timeout=_PATIENCE)  # type: ignore[attr-defined]
    return "" if answered.received else "it was made, and its ping was not answered"


ATTEMPTS: Mapping[str, Callable[[], str]] = {"netns": _netns, "tap": _tap, "bridge": _bridge, "NAT": _nat}
"""Each answers with what was wrong; with nothing where all is well."""


def main(kinds: Sequence[str]) -> None:
    """Make the attempts ``kinds``, at one time, and print what was wrong with each as JSON."""
    # Once for all of them, before they part.
    import vnet  # noqa: F401

    ends = {kind: _start(ATTEMPTS[kind]) for kind in kinds}
    print(json.dumps({kind: _read(end) for kind, end in ends.items()}), flush=True)


def _start(attempt: Callable[[], str]) -> int:
    """Make an attempt in a child, and return the descriptor at which it says what was wrong."""
    read, write = os.pipe()
    if os.fork() == 0:
        signal.alarm(_LONGEST)
        try:
            wrong = attempt()
        except Exception as error:
            wrong = " ".join(str(error).split()) or type(error).__name__
        os.write(write, (wrong or "ok").encode())
        os._exit(0)
    os.close(write)
    return read


def _read(end: int) -> str:
    with open(end, encoding="utf-8", errors="replace") as file:
        said = file.read()
    return "" if said == "ok" else said or f"the attempt crashed, or did not end within {_LONGEST} s"
