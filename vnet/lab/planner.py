"""From what a lab file says to what it means: names resolved, addresses given out, packets built."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vnet.lab.addresses import parse_prefix
from vnet.lab.members import LONGEST_NAME, check_name, plan_nodes
from vnet.lab.plan import Lab, Network, Prefix
from vnet.lab.schema import LabFile, read_lab
from vnet.lab.steps import connecting, inject, log, parallel, ping, ping_all, repeat, replay, traffic, wait, wait_until
from vnet.lab.steps import exec as exec_step
from vnet.lab.steps.base import Step, StepContext
from vnet.lab.tree import Key, Tree

__all__ = ["default_lab_name", "plan_lab"]

_PLANNERS: dict[str, Callable[[Any, StepContext], Step]] = {
    "ping": ping.plan,
    "ping_all": ping_all.plan,
    "tcp": connecting.plan_tcp,
    "http": connecting.plan_http,
    "inject": inject.plan,
    "replay": replay.plan,
    "traffic": traffic.plan,
    "exec": exec_step.plan,
    "wait": wait.plan,
    "wait_until": wait_until.plan,
    "parallel": parallel.plan,
    "repeat": repeat.plan,
    "log": log.plan,
}


def plan_lab(tree: Tree, *, directory: Path, default_name: str, seed: int | None = None) -> Lab:
    """Work out what a lab file means.

    Args:
        tree: the YAML document.
        directory: where relative file names and commands begin.
        default_name: the LAN's name where the file has none.
        seed: stands in for the file's own.

    Raises:
        LabError: the first mistake, with its place.
    """
    said = read_lab(tree)
    if said.name is not None:
        check_name(tree, said.name, "name")
    networks = _networks(tree, said)
    nodes, owners = plan_nodes(tree, said, networks)
    chosen = said.seed if seed is None else seed
    context = StepContext(tree, ("steps",), networks, nodes, directory, chosen, owners, _PLANNERS)
    steps = [context.plan(step, index) for index, step in enumerate(said.steps)]
    return Lab(
        name=said.name or default_name,
        seed=chosen,
        file=tree.file,
        directory=directory,
        networks=networks,
        nodes=nodes,
        steps=tuple(steps),
        programs=frozenset(context.programs),
    )


def _networks(tree: Tree, said: LabFile) -> dict[str, Network]:
    networks: dict[str, Network] = {}
    places: dict[str, dict[Prefix, tuple[Key, ...]]] = {}
    for name, network in said.networks.items():
        path = ("networks", name)
        check_name(tree, name, *path, at_key=True)
        prefixes: dict[Prefix, tuple[Key, ...]] = {}
        for index, text in enumerate(network.prefix):
            place = (*path, "prefix", index)
            try:
                prefix = parse_prefix(text)
            except ValueError as error:
                raise tree.error(str(error), place) from None
            if any(other.version == prefix.version for other in prefixes):
                message = f"a network has one IPv{prefix.version} prefix, but {name!r} also has {prefix}"
                raise tree.error(message, place)
            prefixes[prefix] = place
        places[name] = prefixes
        # IPv4 first, as everywhere in vnet.
        networks[name] = Network(name, tuple(sorted(prefixes, key=lambda prefix: prefix.version)), network.mtu)
        if network.mtu < 1280 and any(prefix.version == 6 for prefix in prefixes):
            raise tree.error(
                f"IPv6 needs an MTU of at least 1280 bytes (RFC 8200), found {network.mtu}", (*path, "mtu")
            )
    _check_overlap(tree, networks, places)
    return networks


def _check_overlap(tree: Tree, networks: dict[str, Network], places: dict[str, dict[Prefix, tuple[Key, ...]]]) -> None:
    for version in (4, 6):
        order = [(p, index, n) for index, n in enumerate(networks.values()) for p in n.prefixes if p.version == version]
        order.sort(key=lambda entry: int(entry[0].network_address))
        widest = None
        for entry in order:
            if widest is not None and int(entry[0].network_address) <= int(widest[0].broadcast_address):
                earlier, later = sorted((widest, entry), key=lambda one: one[1])
                raise tree.error(
                    f"{later[0]} overlaps {earlier[0]} of network {earlier[2].name!r}; expected separate networks",
                    places[later[2].name][later[0]],
                )
            widest = entry


def default_lab_name(stem: str) -> str:
    """A LAN name made of a file's: what a name may not hold becomes ``-``."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem)[:LONGEST_NAME].strip("-._")
    return name or "lab"
