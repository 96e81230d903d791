"""The filters of a lab: held against its nodes and networks when it is planned, set when its LAN is there.

The planner calls :func:`check_network` and :func:`check_node` once every address is given out, and keeps the filters
in the plan.  The session calls :func:`set_network` as soon as a network is there, before any guest is, and
:func:`set_node` as soon as a node's NIC is, before its commands run: nothing passes that a rule forbids.  Names in
rules mean what the plan says, so they may be those of nodes that come later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vnet.filtering import Filter, RuleError, check_filter
from vnet.lab.schema.filters import DirectedFilter
from vnet.lab.tree import Tree, did_you_mean

if TYPE_CHECKING:
    from vnet.lan import Lan

__all__ = ["check_network", "check_node", "set_network", "set_node"]

Names = Mapping[str, Sequence[str]]


def check_network(tree: Tree, name: str, made: Filter, hosts: Names, networks: Names) -> None:
    """Checks a network's filter.

    Arguments:
        tree: the lab file.
        name: the network's name.
        made: its filter.
        hosts: the addresses of all nodes, by name.
        networks: the prefixes of all networks, by name.

    Raises:
        LabError: a rule names nobody, or does not compile; with its place.
        MachineLacks: an expression needs libpcap, which is not there.
    """
    _check(tree, ("networks", name, "filter"), made, hosts, networks)


def check_node(
    tree: Tree, name: str, made: Sequence[DirectedFilter], own: Sequence[str], hosts: Names, networks: Names
) -> None:
    """Checks a node's filters; ``own``: the networks that it is on; otherwise as :func:`check_network`."""
    path: tuple[Any, ...] = ("nodes", name, "filter")
    for each in made:
        if each.network is not None and each.network not in own:
            on = ", ".join(own) or "none"
            close = did_you_mean(each.network, (*own, "in", "out", "rules", "default"))
            words = (
                f"{name!r} is on no network {each.network!r}{close}; expected in, out, or one of its networks ({on})"
            )
            raise tree.error(words, (*path, each.network), at_key=True)
        # Steps that the document lacks, because it has a shorter form, are left out where the place is looked up.
        network = () if each.network is None else (each.network,)
        _check(tree, (*path, *network, each.direction), each.filter, hosts, networks)


def _check(tree: Tree, path: tuple[Any, ...], made: Filter, hosts: Names, networks: Names) -> None:
    try:
        check_filter(made, hosts, networks)
    except RuleError as error:
        raise tree.error(error.message, (*path, "rules", *error.path)) from None


def set_network(lan: Lan, name: str, made: Filter, names: Names) -> None:
    """Sets a network's filter.

    Arguments:
        lan: the LAN, on which the network is.
        name: the network's name.
        made: its filter.
        names: addresses of all nodes and prefixes of all networks, by name.
    """
    lan.set_filter(lan.networks[name], made, names=names)


def set_node(lan: Lan, made: Sequence[DirectedFilter], nics: Mapping[str, str], names: Names) -> None:
    """Sets a node's filters; ``nics``: the names of its NICs by network; otherwise as :func:`set_network`."""
    for network, nic in nics.items():
        for each in made:
            if each.network in (None, network):
                # A node and a network may have one name.
                where = lan.nics[nic] if nic in lan.networks else nic
                lan.set_filter(where, each.filter, direction=each.direction, names=names)
