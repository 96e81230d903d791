"""The links of a lab: between whom, with which addresses and names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vnet.errors import NetworkFull
from vnet.lab.addresses import parse_address, parse_prefix, usable
from vnet.lab.members import check_name
from vnet.lab.plan import Address, Link, Prefix
from vnet.lab.schema import LabFile, LinkFile
from vnet.lab.tree import Key, Tree, did_you_mean
from vnet.routing.spaces import AddressPlan, LinkPools

__all__ = ["Edge", "LinkPlanner", "Role"]

_LARGEST = 65_535


@dataclass(frozen=True)
class Edge:
    """A link that follows from a graph or a shape; ``path`` is where the file speaks of that."""

    ends: tuple[str, str]
    path: tuple[Key, ...]
    name: str = ""
    weight: int = 1
    mtu: int = _LARGEST
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Role:
    """What a node is to links: its kind, and whether it forwards."""

    kind: str
    forward: bool = False


class LinkPlanner:
    """Plans the links of a lab file; :meth:`claim_given` first, then :meth:`plan`.

    Args:
        tree: the lab file.
        said: what it says.
        roles: every node by name.
        networks: the names of the networks.
        space: which prefixes are whose.
    """

    def __init__(
        self,
        tree: Tree,
        said: LabFile,
        roles: Mapping[str, Role],
        networks: Collection[str],
        space: AddressPlan,
    ) -> None:
        self._tree = tree
        self._said = said
        self._roles = roles
        self._networks = networks
        self._space = space
        self._names: dict[str, tuple[Key, ...]] = {}
        self._given: list[dict[Prefix, tuple[Address, Address]]] = []
        self._called: list[str] = []

    def claim_given(self) -> None:
        """Look at the links that the file names, and take the prefixes that it gives them.

        Raises:
            LabError: the first mistake.
        """
        for index, link in enumerate(self._said.links):
            self._check_ends(link, ("links", index, "endpoints"))
            if link.name is not None:
                path: tuple[Key, ...] = ("links", index, "name")
                check_name(self._tree, link.name, *path)
                if link.name in self._names:
                    raise self._tree.error(f"a link called {link.name!r} is there already; expected another name", path)
                self._names[link.name] = path
        for index, link in enumerate(self._said.links):
            name = link.name or self._free_name(*link.endpoints)
            self._names.setdefault(name, ("links", index))
            self._called.append(name)
            self._given.append(self._prefixes(link, name, ("links", index)))

    def plan(self, edges: Iterable[Edge], families: Sequence[int]) -> dict[str, Link]:
        """All links by name: those of a graph or a shape, then those that the file names.

        Args:
            edges: those of a graph or a shape.
            families: those in which a link gets addresses that the file does not give, 4 and 6.

        Raises:
            LabError: the first mistake.
        """
        pools = LinkPools(self._space)
        links: dict[str, Link] = {}
        for edge in edges:
            name = edge.name if edge.name and edge.name not in self._names else self._free_name(*edge.ends)
            self._names[name] = edge.path
            made = self._addresses({}, families if edge.mtu >= 1280 else [4], pools, name, edge.path)
            links[name] = self._link(
                name, edge.ends, made, edge.weight, edge.mtu, edge.path, tuple(edge.attributes.items())
            )
        defaults = self._said.defaults.links
        for index, link in enumerate(self._said.links):
            path = ("links", index)
            mtu = link.mtu if "mtu" in link.model_fields_set else defaults.mtu
            weight = link.weight if "weight" in link.model_fields_set else defaults.weight
            if mtu < 1280 and any(prefix.version == 6 for prefix in self._given[index]):
                message = f"IPv6 needs an MTU of at least 1280 bytes (RFC 8200), found {mtu}"
                raise self._tree.error(message, (*path, "mtu"))
            wanted = families if mtu >= 1280 else [4]
            made = self._addresses(self._given[index], wanted, pools, self._called[index], path)
            links[self._called[index]] = self._link(
                self._called[index], (link.endpoints[0], link.endpoints[1]), made, weight, mtu, path, ()
            )
        return links

    # How

    def _link(
        self,
        name: str,
        ends: tuple[str, str],
        made: Mapping[Prefix, tuple[Address, Address]],
        weight: int,
        mtu: int,
        path: tuple[Key, ...],
        attributes: tuple[tuple[str, Any], ...],
    ) -> Link:
        order = sorted(made, key=lambda prefix: prefix.version)
        addresses = (tuple(made[prefix][0] for prefix in order), tuple(made[prefix][1] for prefix in order))
        line = self._tree.keys[self._tree.resolve(path)][0]
        return Link(name, ends, addresses, tuple(order), weight, mtu, attributes, line)

    def _check_ends(self, link: LinkFile, path: tuple[Key, ...]) -> None:
        error = self._tree.error
        for index, name in enumerate(link.endpoints):
            role = self._roles.get(name)
            if role is None and name in self._networks:
                message = f"{name!r} is a network: this version of vnet does not support links between a node and a "
                raise error(f"{message}network yet; expected two routers", (*path, index))
            if role is None:
                known = [each for each, its in self._roles.items() if its.kind == "router"]
                message = f"no router is called {name!r}{did_you_mean(name, known)}"
                raise error(f"{message}; expected two of {', '.join(known[:8]) or 'kind: router'}", (*path, index))
            if role.forward:
                message = f"{name!r} is a {role.kind} node, which joins routers by a network"
                raise error(f"{message}; expected a node of the kind router", (*path, index))
            if role.kind != "router":
                other = link.endpoints[1 - index]
                if other in self._networks:
                    message = "this version of vnet does not support links between a node and a network yet"
                    raise error(f"{message}; expected two routers", (*path, index))
                message = f"{name!r} is a {role.kind} node; expected two routers: a guest is on a network"
                raise error(message, (*path, index))
        if link.endpoints[0] == link.endpoints[1]:
            message = f"a link from {link.endpoints[0]!r} to itself leads nowhere; expected two routers"
            raise error(message, (*path, 1))

    def _free_name(self, one: str, other: str) -> str:
        """What :meth:`vnet.Lan.link` calls a link: ``A-B``; a second one between the two is ``A-B.2``."""
        plain, number = f"{one}-{other}", 1
        name = plain
        while name in self._names:
            number += 1
            name = f"{plain}.{number}"
        return name

    def _prefixes(self, link: LinkFile, name: str, path: tuple[Key, ...]) -> dict[Prefix, tuple[Address, Address]]:
        """The prefixes that the file gives a link, with the addresses of its two ends."""
        error = self._tree.error
        prefixes: dict[int, tuple[Prefix, tuple[Key, ...]]] = {}
        for index, text in enumerate(link.prefix or ()):
            place = (*path, "prefix", index)
            try:
                prefix = parse_prefix(text)
            except ValueError as wrong:
                raise error(str(wrong), place) from None
            if prefix.prefixlen == prefix.max_prefixlen:
                raise error(f"{prefix} is one address, and a link has two ends; expected a /31 or /127", place)
            if prefix.version in prefixes:
                raise error(f"a link has one IPv{prefix.version} prefix; expected one of each family", place)
            prefixes[prefix.version] = (prefix, place)
        own = self._own_addresses(link, path)
        for version, ends in own.items():
            if version not in prefixes:
                if len(ends) < 2:
                    missing = next(end for end in link.endpoints if end not in ends)
                    message = f"{missing!r} has no IPv{version} address here; expected both, or 'prefix' beside it"
                    raise error(message, (*path, "addresses"))
                prefixes[version] = (_around([ends[end] for end in link.endpoints]), (*path, "addresses"))
        found = {}
        for version in sorted(prefixes):
            prefix, place = prefixes[version]
            taken = self._space.overlapping(prefix)
            if taken is not None:
                raise error(f"{prefix} overlaps {taken[0]} of {taken[1]}; expected a prefix of its own", place)
            self._space.claim(prefix, f"link {name!r}")
            found[prefix] = self._ends(link, prefix, own.get(version, {}), path)
        return found

    def _own_addresses(self, link: LinkFile, path: tuple[Key, ...]) -> dict[int, dict[str, Address]]:
        """The addresses that the file gives, by family and router."""
        own: dict[int, dict[str, Address]] = {}
        for end, texts in (link.addresses or {}).items():
            place: tuple[Key, ...] = (*path, "addresses", end)
            if end not in link.endpoints:
                both = " and ".join(map(repr, link.endpoints))
                raise self._tree.error(f"{end!r} is no end of this link; expected {both}", place, at_key=True)
            for index, text in enumerate(texts):
                try:
                    address = parse_address(text)
                except ValueError:
                    message = f"{text!r} is not an IP address; expected one such as 192.0.2.1"
                    raise self._tree.error(message, (*place, index)) from None
                if end in own.setdefault(address.version, {}):
                    message = f"an end has one IPv{address.version} address; expected one of each family"
                    raise self._tree.error(message, (*place, index))
                if address in own[address.version].values():
                    raise self._tree.error(f"both ends have {address}; expected two addresses", (*place, index))
                own[address.version][end] = address
        return own

    def _ends(
        self, link: LinkFile, prefix: Prefix, given: Mapping[str, Address], path: tuple[Key, ...]
    ) -> tuple[Address, Address]:
        first, last = usable(prefix)
        for end, address in given.items():
            if not (address in prefix and first <= int(address) <= last):
                message = f"{address} is no address of an end of {prefix}; expected one inside"
                raise self._tree.error(message, (*path, "addresses", end))
        taken = set(map(int, given.values()))
        free = (type(prefix.network_address)(number) for number in range(first, last + 1) if number not in taken)
        one, other = (given[end] if end in given else next(free) for end in link.endpoints)
        return one, other

    def _addresses(
        self,
        given: Mapping[Prefix, tuple[Address, Address]],
        families: Iterable[int],
        pools: LinkPools,
        name: str,
        path: tuple[Key, ...],
    ) -> dict[Prefix, tuple[Address, Address]]:
        """What is given, and addresses of the other families out of the pools."""
        made = dict(given)
        for version in families:
            if not any(prefix.version == version for prefix in given):
                try:
                    prefix = pools.take(version, f"link {name!r}")
                except NetworkFull:
                    pool = next(each for each in pools.prefixes if each.version == version)
                    message = f"the addresses of links, {pool}, are used up; expected 'prefix' with one"
                    raise self._tree.error(message, path) from None
                made[prefix] = (prefix[0], prefix[1])
        return made


def _around(addresses: Sequence[Address]) -> Prefix:
    """The smallest prefix in which two addresses are those of ends."""
    import ipaddress

    bits = addresses[0].max_prefixlen
    for length in range(bits - 1, 0, -1):
        prefix = ipaddress.ip_network(f"{addresses[0]}/{length}", strict=False)
        first, last = usable(prefix)
        if all(address in prefix and first <= int(address) <= last for address in addresses):
            return prefix
    return ipaddress.ip_network(f"{addresses[0]}/0", strict=False)
