"""Routes of guests that Linux's own stack leads: what a namespace's kernel is to know, and telling it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..network import Prefix
from .model import Model, Port, RouterNode
from .shortest import attached, first_hops

if TYPE_CHECKING:
    from ..netns.wiring import Route
    from ..register import Entry

__all__ = ["KernelRoutes", "ways"]


def ways(model: Model, source: RouterNode) -> dict[Prefix, tuple[Port, Port]]:
    """Returns by which port of its own and to which next one a router comes to each prefix that is not next to it.

    These are prefixes of networks, links and routers.  Of paths of equal cost it is one.
    """
    hops = first_hops(model, source)
    found: dict[Prefix, tuple[Port, Port]] = {}
    for prefix, known in model.by_prefix.items():
        routers = attached(model, known.origin)
        if source in routers:
            continue
        # The cost of the last step, out of the port there, counts: RFC 2328 section 16.1.
        reached = [(hops[router][0] + weight, hops[router]) for router, weight in routers.items() if router in hops]
        if reached:
            _, (_, out, into) = min(reached, key=lambda each: (each[0], each[1][1].number, each[1][2].number))
            found[prefix] = (out, into)
    return found


class KernelRoutes:
    """The routes that the kernel of a namespace has from vnet.

    A guest that does not forward has default routes, by the gateways of its NICs: in each family by the first that has
    one.  A guest that forwards has, beside those it was given, a route to each prefix that shortest paths lead to.

    Arguments:
        model: the routers of the LAN.
        nics: the guest's NICs, and the names of their interfaces.
        router: what the guest is to the model, if it forwards.
        change: takes routes away from the kernel, and gives it others.
    """

    def __init__(
        self,
        model: Model,
        nics: Sequence[tuple[Entry, str]],
        router: RouterNode | None,
        change: Callable[[list[Route], list[Route]], None],
    ) -> None:
        self._model = model
        self._nics = nics
        self._router = router
        self._change = change
        self._known: dict[str, Route] = {}

    def assume(self, gateways: Sequence[str]) -> None:
        """Notes that the kernel has default routes by the first NIC already."""
        from ..netns.wiring import Route

        interface = self._nics[0][1]
        routes = (Route(f"default{6 if ':' in each else 4}", each, interface) for each in gateways)
        self._known = {route.destination: route for route in routes}

    def renew(self) -> None:
        """Has the kernel's routes follow what has changed.

        Raises:
            VnetError: the kernel refuses one.
        """
        wanted = {route.destination: route for route in (*self._defaults(), *self._prefixes())}
        gone = [route for destination, route in self._known.items() if wanted.get(destination) != route]
        came = [route for destination, route in wanted.items() if self._known.get(destination) != route]
        if gone or came:
            self._known = wanted
            self._change(gone, came)

    def _defaults(self) -> list[Route]:
        from ..netns.wiring import Route

        found: dict[int, Route] = {}
        for entry, interface in self._nics:
            for address in entry.gateways:
                found.setdefault(address.version, Route(f"default{address.version}", str(address), interface))
        return list(found.values())

    def _prefixes(self) -> list[Route]:
        from ..netns.wiring import Route

        if self._router is None:
            return []
        interfaces = {entry.name: interface for entry, interface in self._nics}
        found = []
        for prefix, (out, into) in ways(self._model, self._router).items():
            address = into.address(prefix.version)
            # A next router without an address of the family is none that a kernel could be told of.
            if address is not None and out.nic in interfaces:
                found.append(Route(str(prefix), str(address), interfaces[out.nic]))
        return found
