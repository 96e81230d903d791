"""Interfaces, addresses and routes, through pyroute2.  Only the nursery imports this."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Sequence
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from ..errors import AddressTaken, NameTaken, VnetError
from . import reasons
from .settled import await_ipv6
from .wiring import Route, Wiring

__all__ = ["change_routes", "configure", "move"]

# IN6_ADDR_GEN_MODE_NONE of linux/if_link.h: the kernel makes no link-local address of its own, which it would only use
# after a second of duplicate address detection; the base gives the same address.
_NO_ADDRESS_OF_ITS_OWN = {"attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", 1)]})]}
# What the kernel says of routes that are there already, or whose interface was changed by whoever uses the namespace.
_BEARABLE = (errno.EEXIST, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENODEV, errno.EINVAL)
# IFA_F_NODAD of linux/if_addr.h: the register has seen to it that nobody else has the address. Detection stays on for
# what users add.
_NODAD = 0x02


def _prepare(route: Any) -> None:
    """Has 127.0.0.1 and ::1 answer in a new namespace, and lets every group use sockets for echo requests."""
    route.link("set", index=1, state="up")
    # In a user namespace, groups that are not mapped cannot be named; /proc may be read-only, too.
    for groups in ("0 2147483647", "0 0"):
        try:
            _write("net/ipv4/ping_group_range", groups)
            return
        except OSError:
            continue


def _forward(wiring: Wiring) -> None:
    """Has a new namespace pass on what is not for itself, and say nothing of shorter ways, as simulated routers do.

    Raises:
        MachineLacks: the kernel's settings cannot be changed.
    """
    # What comes later has the settings of 'default'. Where ways there and back differ, rp_filter would drop what comes.
    places = ("all", "default", wiring.interface)
    off = ("send_redirects", "accept_redirects", "rp_filter")
    settings = [(f"net/ipv4/conf/{place}/{name}", "0") for place in places for name in off]
    try:
        for name, value in (("net/ipv4/ip_forward", "1"), *settings):
            _write(name, value)
        # Absent where the kernel does no IPv6.
        with contextlib.suppress(FileNotFoundError):
            _write("net/ipv6/conf/all/forwarding", "1")
    except OSError as error:
        raise reasons.no_forwarding(error) from None


def change_routes(gone: Sequence[Route], came: Sequence[Route]) -> None:
    """Takes routes of this process's namespace away and adds others.

    A route that is there already stays as it is, whoever made it, and one that has gone is not missed.  Where somebody
    changed the interface so that a gateway is not next to it any more, there is no route by it.

    Raises:
        VnetError: the kernel refuses a route.
    """
    with IPRoute() as route:
        for each in gone:
            with contextlib.suppress(NetlinkError, OSError):
                route.route("del", **_route(each))
        for each in came:
            try:
                route.route("add", **_route(each))
            except NetlinkError as error:
                if error.code not in _BEARABLE:
                    raise VnetError(
                        f"the route to {each.destination} via {each.gateway} cannot be added: {_words(error)}"
                    ) from None
            except OSError:
                # The user took the interface away, or called it otherwise.
                continue


def _route(route: Route) -> dict[str, Any]:
    family = socket.AF_INET6 if ":" in route.gateway else socket.AF_INET
    destination = "default" if route.destination in ("default4", "default6") else route.destination
    oif = socket.if_nametoindex(route.interface)
    return {"family": family, "dst": destination, "gateway": route.gateway, "oif": oif}


def move(interface: str, namespace: int) -> None:
    """Gives an interface of this process's namespace to another.

    Raises:
        NameTaken: that one has an interface of the name.
        NotPermitted: it is another user's.
    """
    with IPRoute() as route:
        try:
            # The name along with it: the kernel would otherwise find another where it is taken.
            route.link("set", index=socket.if_nametoindex(interface), ifname=interface, net_ns_fd=namespace)
        except NetlinkError as error:
            if error.code == errno.EEXIST:
                raise NameTaken(f"the namespace has an interface named {interface!r} already") from None
            if error.code == errno.EPERM:
                raise reasons.not_ours() from None
            raise VnetError(f"the interface cannot be moved into the namespace: {_words(error)}") from None


def configure(wiring: Wiring, *, new: bool) -> None:
    """Sets an interface of this process's namespace up.

    Arguments:
        wiring: what it is to be like.
        new: the namespace was made for it; what else there is in one is set up, too.

    Raises:
        AddressTaken: another interface of the namespace has one of the addresses.
        MachineLacks: the kernel does no IPv6.
    """
    index = socket.if_nametoindex(wiring.interface)
    if wiring.has_ipv6:
        # Containers have it off by default; where it cannot be set, the address is what fails.
        with contextlib.suppress(OSError):
            _write(f"net/ipv6/conf/{wiring.interface}/disable_ipv6", "0")
    with IPRoute() as route:
        if new:
            _prepare(route)
        if new and wiring.forward:
            _forward(wiring)
        try:
            with _off_without_ipv6():
                route.link("set", index=index, IFLA_AF_SPEC=_NO_ADDRESS_OF_ITS_OWN)
            route.link("set", index=index, address=wiring.mac, mtu=wiring.mtu, state="up")
        except NetlinkError as error:
            raise VnetError(f"the interface {wiring.interface!r} cannot be set up: {_words(error)}") from None
        for address, length in wiring.addresses:
            _add_address(route, index, address, length)
        for gateway in wiring.gateways:
            _add_default(route, index, gateway)
    await_ipv6(address for address, _ in wiring.addresses)


def _add_address(route: Any, index: int, address: str, length: int) -> None:
    six = ":" in address
    try:
        if six:
            route.addr("add", index=index, address=address, prefixlen=length, flags=_NODAD)
        else:
            route.addr("add", index=index, address=address, prefixlen=length)
    except NetlinkError as error:
        if error.code == errno.EEXIST:
            raise AddressTaken(f"the interface has the address {address} already") from None
        if six and error.code in (errno.EACCES, errno.EOPNOTSUPP, errno.EAFNOSUPPORT):
            raise reasons.no_ipv6() from None
        raise VnetError(f"the address {address}/{length} cannot be added: {_words(error)}") from None


def _add_default(route: Any, index: int, gateway: str) -> None:
    family = socket.AF_INET6 if ":" in gateway else socket.AF_INET
    try:
        route.route("add", family=family, dst="default", gateway=gateway, oif=index)
    except NetlinkError as error:
        raise VnetError(f"the default route via {gateway} cannot be added: {_words(error)}") from None


@contextlib.contextmanager
def _off_without_ipv6() -> Any:
    """Bears with a kernel that knows nothing of IPv6."""
    try:
        yield
    except NetlinkError as error:
        if error.code not in (errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EINVAL):
            raise


def _words(error: NetlinkError) -> str:
    return str(error.args[1] if len(error.args) > 1 else error)


def _write(sysctl: str, text: str) -> None:
    # Under /proc/sys/net one sees the settings of one's own network namespace.
    with open(f"/proc/sys/{sysctl}", "w") as file:
        file.write(text)
