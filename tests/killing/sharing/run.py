"""The whole of a run, and that nothing is left of it."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

import support

import vnet

from ..controller import Violated, users_of_memory
from .controller import Controller, Report


def run(kills: int, seed: int, roles: Collection[str] = ()) -> Report:
    """Runs the kill test of what guests share.

    Arguments:
        kills: how many guests die.
        seed: what the random choices follow from.
        roles: who takes part; all unless given.

    Raises:
        Violated: a promise was not kept.
    """
    # In memory: who writes a line to a disk that others keep busy may wait for a second.
    directory = Path(tempfile.mkdtemp(prefix="kill", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    before = os.environ.get("XDG_RUNTIME_DIR")
    os.environ["XDG_RUNTIME_DIR"] = str(directory)
    # The controller is in the base's process, whose other threads are not to wait 5 ms for each look at a victim.
    switching = sys.getswitchinterval()
    sys.setswitchinterval(0.0001)
    name = f"share-{os.getpid()}"
    try:
        report = _run(kills, seed, name, directory, roles)
        gc.collect()
        report.left += [str(path) for path in (directory / "vnet").glob("**")] + users_of_memory(name)
        report.left += [f"child {pid}: {command}" for pid, command in support.children().items()]
        report.left += [f"thread {thread}" for thread in support.threads().values()]
    finally:
        sys.setswitchinterval(switching)
        shutil.rmtree(directory, ignore_errors=True)
        if before is None:
            del os.environ["XDG_RUNTIME_DIR"]
        else:
            os.environ["XDG_RUNTIME_DIR"] = before
    if report.left:
        raise Violated(f"left behind: {report.left}")
    if report.stalls:
        raise Violated("\n".join(report.lines()))
    return report


def _run(kills: int, seed: int, name: str, directory: Path, roles: Collection[str]) -> Report:
    with vnet.Lan(name, "10.0.0.0/16", seed=seed) as lan:
        # Whatever the base has once for all guests.
        broker = lan._register.broker
        parts = {kind: broker.part(kind) for kind in ("queue", "service")}
        held = _held()
        controller = Controller(kills, seed, lan, directory, roles)
        try:
            controller.run()
        finally:
            controller.close()
        report = controller.report
        if not support.eventually(lambda: not lan.nics):
            report.left.append(f"still on the LAN: {', '.join(lan.nics)}")
        if not support.eventually(lambda: _held() == held):
            report.left.append(f"the base holds {sorted(_held().items())}, and held {sorted(held.items())}")
        known = [*broker.list_regions(), *parts["queue"].listed(), *parts["service"].all(), *parts["queue"]._ends]
        report.left += [f"record of the base: {record}" for record in known]
        report.left += [f"guest of the broker: {guest}" for guest in broker.guests.values()]
    return report


def _held() -> dict[str, int]:
    """What the base has open, by kind."""
    kinds: dict[str, int] = {}
    for target in support.descriptors().values():
        kind = target.partition(":[")[0] if ":[" in target else target
        kinds[kind] = kinds.get(kind, 0) + 1
    return kinds
