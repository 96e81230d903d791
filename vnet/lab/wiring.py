"""The routers, links and routes of a lab that is up: put there, compared with a plan, and changed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

from vnet.errors import LanClosed, VnetError
from vnet.lab.difference import Difference
from vnet.lab.filters import set_network, set_node
from vnet.lab.joining import add_link, add_routes, join_router, load_outside
from vnet.lab.plan import Lab, Node, Outside

__all__ = ["Wiring"]


class Wiring:
    """What routes a lab; changes follow :class:`~vnet.lab.difference.Difference`.

    Args:
        lan: the LAN.
        place: says where the lab file speaks of something in that line.
    """

    def __init__(self, lan: Any, place: Callable[[int, str], str]) -> None:
        self._lan = lan
        self._place = place

    def batch(self, lab: Lab) -> contextlib.AbstractContextManager[Any]:
        """Has changes take effect together; a LAN without routers has nothing to put together."""
        routed = any(node.kind == "router" or node.forward for node in lab.nodes.values())
        return self._lan.routing.batch() if routed else contextlib.nullcontext()

    # Up

    def add_routers(self, nodes: Iterable[Node]) -> None:
        """Put routers on the LAN.

        Raises:
            VnetError: the LAN refuses one.
        """
        for node in nodes:
            with self._at(node.line, f"nodes.{node.name}"):
                join_router(self._lan, node)

    def add_links(self, lab: Lab, names: Iterable[str]) -> None:
        """Make links between routers.

        Raises:
            VnetError: the LAN refuses one.
        """
        for name in names:
            with self._at(lab.links[name].line, f"link {name}"):
                add_link(self._lan, lab.links[name])

    def route(self, lab: Lab) -> None:
        """Give each router the static routes of the plan and no others.

        Raises:
            VnetError: the LAN refuses one.
        """
        for node in lab.nodes.values():
            if node.kind != "router" or node.name not in self._lan.routers:
                continue
            router = self._lan.routers[node.name]
            wanted = {(str(each.prefix), str(via)) for each in node.routes for via in _hops(each.via)}
            there = {(each.prefix, each.via) for each in router.routes}
            if wanted == there:
                continue
            with self._at(node.line, f"nodes.{node.name}"):
                for prefix in dict.fromkeys(prefix for prefix, _ in there):
                    router.remove_route(prefix)
                add_routes(router, node.routes)

    def load(self, outside: Iterable[Outside]) -> None:
        """Tell the LAN what lies outside of the lab.

        Raises:
            VnetError: the LAN refuses; a file holds what is no prefix, for one.
        """
        for each in outside:
            with self._at(each.line, "routes"):
                load_outside(self._lan, each)

    def filter(self, lab: Lab, networks: Iterable[str], nodes: Iterable[str]) -> None:
        """Set the filters of networks and nodes that are on the LAN, and of no others."""
        for name in networks:
            made = lab.networks[name].filter
            if made is not None:
                set_network(self._lan, name, made, lab.meanings)
        for name in nodes:
            node = lab.nodes[name]
            if node.filter:
                nics = {each.network: nic for each, nic in zip(node.joined, node.nics, strict=True)}
                set_node(self._lan, node.filter, nics, lab.meanings)

    def filter_again(self, before: Lab, lab: Lab) -> None:
        """Give everything on the LAN the filters of the plan: names in rules may mean other addresses now."""
        if not before.meanings and not lab.meanings:
            return
        nics = self._lan.nics
        for name in lab.networks:
            if before.networks.get(name, lab.networks[name]).filter is not None:
                self._lan.remove_filter(self._lan.networks[name])
        for name, node in lab.nodes.items():
            if before.nodes.get(name, node).filter:
                for nic in node.nics:
                    if nic in nics:
                        self._lan.remove_filter(nics[nic])
        there = [name for name, node in lab.nodes.items() if all(nic in nics for nic in node.nics)]
        self.filter(lab, lab.networks, there)

    # Changes

    def take_away(self, before: Lab, difference: Difference) -> None:
        """Take away links, routers and routes that are no more, or come again."""
        if any(each.file for each in difference.outside_removed):
            # What a file brought is not told apart from the rest: all goes, and what stays comes again.
            self._lan.routes.remove_all()
        else:
            for each in difference.outside_removed:
                self._lan.routes.remove(str(each.prefix))
        for name in (*difference.links_removed, *difference.links_changed):
            if name in self._lan.links:
                self._lan.links[name].close()
        for name in (*difference.removed, *difference.changed):
            if before.nodes[name].kind == "router" and name in self._lan.routers:
                self._lan.routers[name].close()

    def bring_back(self, lab: Lab, difference: Difference) -> None:
        """Put links there that are new, or went with a router; give others their weight.

        Raises:
            VnetError: the LAN refuses one.
        """
        anew = any(each.file for each in difference.outside_removed)
        self.load(lab.outside if anew else difference.outside_added)
        there = set(self._lan.links)
        ready = set(self._lan.routers)
        coming = [name for name, link in lab.links.items() if name not in there and ready.issuperset(link.ends)]
        self.add_links(lab, coming)
        for name in difference.links_weighed:
            if name in there:
                self._lan.links[name].weight = lab.links[name].weight

    @contextlib.contextmanager
    def _at(self, line: int, what: str) -> Any:
        """Says where the lab file has what the LAN refuses."""
        try:
            yield
        except LanClosed:
            raise
        except VnetError as error:
            raise type(error)(f"{self._place(line, what)}: {error}") from None
        except ValueError as error:
            raise VnetError(f"{self._place(line, what)}: {error}") from None


def _hops(via: Any) -> tuple[Any, ...]:
    return (via,) if isinstance(via, str) else tuple(via)
