"""Addresses, bridges and their ports, through pyroute2."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import MachineLacks, VnetError
from ..netns.settled import await_ipv6

if TYPE_CHECKING:
    from .lending import Lending

__all__ = ["Bridge", "await_carriers", "find_bridge", "join_bridge", "netlink", "set_up_tap"]

Placed = IPv4Interface | IPv6Interface
_T = TypeVar("_T")

# linux/if.h, linux/if_addr.h
_UP = 1
_NODAD = 2

# Seconds: twice what the kernel takes.
_CARRIER_TAKES = 2.0


@dataclass(frozen=True)
class Bridge:
    """A bridge that is to be joined.

    Attributes:
        name: its name.
        mac: its MAC address; ``None`` where it is to be made and the NIC's is not known yet.
        index: its number, or 0 where it is to be made.
    """

    name: str
    mac: str | None
    index: int


def netlink(work: Callable[[Any], _T]) -> _T:
    """Returns what ``work`` makes of the kernel's interfaces.

    In a thread of its own: pyroute2 runs an event loop, and the caller may be in one.

    Raises:
        MachineLacks: pyroute2 is not installed, or the privilege is missing.
        VnetError: the kernel refused something.
    """
    try:
        from pyroute2 import IPRoute
        from pyroute2.netlink.exceptions import NetlinkError
    except ImportError:
        raise MachineLacks("TAP devices need pyroute2: `pip install pyroute2`") from None
    made: list[_T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            with IPRoute() as kernel:
                made.append(work(kernel))
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="vnet-netlink")
    thread.start()
    try:
        thread.join()
    except BaseException:
        # Ctrl-C. What is under way ends before anything is undone.
        thread.join()
        raise
    if not failed:
        return made[0]
    error = failed[0]
    if isinstance(error, NetlinkError):
        if error.code in (errno.EPERM, errno.EACCES):
            raise MachineLacks("interfaces cannot be changed without CAP_NET_ADMIN in this network namespace") from None
        raise VnetError(f"the kernel refused to set up an interface: {os.strerror(error.code)}") from None
    raise error


def _code(error: Exception) -> int:
    return int(getattr(error, "code", 0) or 0)


def _find(kernel: Any, name: str) -> Any | None:
    try:
        return kernel.link("get", ifname=name)[0]
    except Exception as error:
        if _code(error) == errno.ENODEV:
            return None
        raise


def _setting(interface: str, name: str, value: str) -> None:
    # Without IPv6 in the kernel there is none.
    with contextlib.suppress(OSError), open(f"/proc/sys/net/ipv6/conf/{interface}/{name}", "w") as setting:
        setting.write(value)


def _is_without_ip6(interface: str) -> bool:
    try:
        with open(f"/proc/sys/net/ipv6/conf/{interface}/disable_ipv6") as setting:
            return setting.read().strip() == "1"
    except OSError:
        return True


def _deafen(interface: str) -> None:
    """Has the machine take no routes and addresses from routers on the LAN, which may be anybody's."""
    _setting(interface, "accept_ra", "0")


def _add_address(kernel: Any, index: int, address: Placed) -> None:
    """Gives an interface an address, usable at once: the register has seen to it that no other NIC has it."""
    flags = {"flags": _NODAD} if address.version == 6 else {}
    broadcast = {}
    if address.version == 4 and address.network.prefixlen < 31:
        broadcast = {"broadcast": str(address.network.broadcast_address)}
    own = {"address": str(address.ip), "prefixlen": address.network.prefixlen}
    try:
        kernel.addr("add", index=index, **own, **flags, **broadcast)
    except Exception as error:
        name = kernel.link("get", index=index)[0].get("ifname")
        if address.version == 6 and _code(error) and _is_without_ip6(name):
            raise MachineLacks(
                f"{name!r} cannot have the address {address}, for IPv6 is off there: "
                f"`sysctl -w net.ipv6.conf.{name}.disable_ipv6=0` switches it on, where the kernel has IPv6"
            ) from None
        raise


def set_up_tap(kernel: Any, interface: str, mac: str, mtu: int, addresses: Iterable[Placed]) -> None:
    """Gives a TAP that stands alone its MAC address, MTU and addresses, and takes it up."""
    index = _find(kernel, interface)["index"]  # type: ignore[index]
    addresses = tuple(addresses)
    with_ip6 = any(address.version == 6 for address in addresses)
    # The link-local address is among those that the register gave: the kernel shall make none, by whatever rule.
    _setting(interface, "addr_gen_mode", "1")
    _deafen(interface)
    _setting(interface, "disable_ipv6", "0" if with_ip6 else "1")
    kernel.link("set", index=index, address=mac, mtu=mtu)
    for address in addresses:
        _add_address(kernel, index, address)
    kernel.link("set", index=index, state="up")
    await_ipv6(str(address.ip) for address in addresses)


# Bridges


def find_bridge(kernel: Any, name: str) -> Bridge:
    """Returns the bridge of that name, or the one to be made.

    Raises:
        VnetError: an interface has the name that is no bridge.
    """
    link = _find(kernel, name)
    if link is None:
        return Bridge(name, None, 0)
    kind = link.get(("linkinfo", "kind"))
    if kind != "bridge":
        raise VnetError(f"{name!r} is no bridge but an interface of another kind ({kind or 'device'})")
    return Bridge(name, link.get("address"), link["index"])


def join_bridge(
    kernel: Any,
    lending: Lending,
    bridge: Bridge,
    tap: str,
    mac: str,
    mtu: int,
    ports: Iterable[str],
    addresses: Iterable[Placed],
) -> None:
    """Puts a TAP and other interfaces into a bridge, makes that if need be, and gives it the NIC's addresses.

    Arguments:
        mac: the TAP's MAC address.
        mtu: the TAP's MTU, in bytes of IP.

    Raises:
        MachineLacks: an interface is not there.
        VnetError: an interface cannot be a port, or carries less than the network does.
    """
    tap_index = _find(kernel, tap)["index"]  # type: ignore[index]
    lending.tap(tap_index)
    index = bridge.index or _make_bridge(kernel, lending, bridge)
    if bridge.index:
        # Perhaps another lab made it, and it goes with the last.
        lending.hold("bridge", str(index), "-")
    # A port speaks for itself to nobody.
    _setting(tap, "disable_ipv6", "1")
    kernel.link("set", index=tap_index, address=mac, mtu=mtu)
    kernel.link("set", index=tap_index, master=index)
    kernel.link("set", index=tap_index, state="up")
    for port in ports:
        _add_port(kernel, lending, port, bridge.name, index)
    _check_mtu(kernel, bridge.name, index, mtu)
    link = kernel.link("get", index=index)[0]
    if link.get("address") != bridge.mac:
        # A bridge whose address nobody set takes the lowest of its ports; those who know it by its own go on so.
        kernel.link("set", index=index, address=bridge.mac)
    if not link["flags"] & _UP:
        if bridge.index:
            lending.hold("down", str(index), "yes")
        kernel.link("set", index=index, state="up")
    addresses = tuple(addresses)
    if not bridge.index and any(address.version == 6 for address in addresses):
        # It may be off for interfaces that are new.
        _setting(bridge.name, "disable_ipv6", "0")
    there = {each.get("local") or each.get("address") for each in kernel.get_addr(index=index)}
    for address in addresses:
        # A bridge that has the address lets the LAN know it by that, and keeps it.
        new = str(address.ip) not in there
        lending.hold("address", f"{index},{address.with_prefixlen}", "new" if new else "-")
        if new:
            _add_address(kernel, index, address)
    await_ipv6(str(address.ip) for address in addresses)


def _make_bridge(kernel: Any, lending: Lending, bridge: Bridge) -> int:
    assert bridge.mac is not None
    lending.making(bridge.name, bridge.mac)
    try:
        # Not vlan_filtering=0: it is off, and kernels without VLANs refuse to hear of it.
        kernel.link("add", ifname=bridge.name, kind="bridge", address=bridge.mac, br_stp_state=0, br_forward_delay=0)
    except Exception as error:
        if _code(error) == errno.EOPNOTSUPP:
            raise MachineLacks("the kernel has no bridges: `modprobe bridge` provides them") from None
        raise
    link = _find(kernel, bridge.name)
    if link is None or link.get("address") != bridge.mac:
        raise VnetError(f"bridge {bridge.name!r} was taken away while it was made")
    lending.hold("bridge", str(link["index"]), "made")
    _deafen(bridge.name)
    return int(link["index"])


def _add_port(kernel: Any, lending: Lending, port: str, bridge: str, index: int) -> None:
    link = _find(kernel, port)
    if link is None:
        raise MachineLacks(
            f"no interface named {port!r} is here to be put into bridge {bridge!r}: `ip link` shows which there are"
        )
    former = link.get("master") or 0
    up = int(bool(link["flags"] & _UP))
    what = f"{link['index']}.{index}"
    if former == index:
        # Perhaps another lab put it there.
        lending.hold("port", what, "-")
        if not up:
            lending.hold("down", str(link["index"]), "yes")
    else:
        lending.hold("port", what, f"{former},{up}")
        try:
            kernel.link("set", index=link["index"], master=index)
        except Exception as error:
            if _code(error) in (errno.EPERM, errno.EACCES) or not _code(error):
                raise
            raise VnetError(f"{port!r} cannot be put into bridge {bridge!r}: {os.strerror(_code(error))}") from None
    if not up:
        kernel.link("set", index=link["index"], state="up")


def await_carriers(kernel: Any, names: Iterable[str]) -> None:
    """Waits until the kernel has noted that interfaces have carrier, and lets datagrams pass.

    It looks after at most a second (link_watch.c), and until then a port is disabled and a bridge drops what it sends.
    Those without carrier, an unplugged cable's, are not waited for.
    """
    deadline = time.monotonic() + _CARRIER_TAKES
    for name in names:
        while time.monotonic() < deadline:
            link = _find(kernel, name)
            if link is None or link.get("carrier") == 0 or link.get("operstate") in ("UP", "UNKNOWN"):
                break
            time.sleep(0.005)


def _check_mtu(kernel: Any, bridge: str, index: int, mtu: int) -> None:
    """A bridge drops without a word what is larger than the interface that it would leave by can take."""
    links = [link for link in kernel.get_links() if link.get("master") == index or link["index"] == index]
    least = min(links, key=lambda link: int(link.get("mtu")))
    if least.get("mtu") < mtu:
        raise VnetError(
            f"{least.get('ifname')!r} in bridge {bridge!r} carries {least.get('mtu')} bytes, the network {mtu:,}: give "
            f"the network `mtu: {least.get('mtu')}`"
        )
