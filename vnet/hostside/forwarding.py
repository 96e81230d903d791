"""The settings under which the kernel forwards between the LAN and its other interfaces."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import MachineLacks

if TYPE_CHECKING:
    from .lending import Lending

__all__ = ["forward"]

_SETTINGS = "/proc/sys/net"


def forward(lending: Lending, version: int) -> None:
    """Has the kernel forward datagrams of an IP version, and notes how to undo that.

    Raises:
        MachineLacks: the settings cannot be changed.
    """
    for path, was, given in _ip4_settings() if version == 4 else _ip6_settings():
        # Where nothing changes there may still be another lab that changed it and must not be the last to know.
        lending.hold("sysctl", path, "-" if was is None else f"{was},{given}")
        if was is not None and was != given:
            _write(path, given)


def _ip4_settings() -> Iterator[tuple[str, str | None, str]]:
    """Paths, what they hold if it must be put back, and what they shall hold; put back in the opposite order.

    To clear ip_forward clears the `forwarding` of every interface and sets accept_redirects of all: ip-sysctl.rst,
    inet_forward_change().
    """
    off = _read("ipv4/ip_forward") == "0"
    for name in _interfaces(4):
        path = f"ipv4/conf/{name}/forwarding"
        yield path, "1" if off and _read(path) == "1" else None, "1"
    path = "ipv4/conf/all/accept_redirects"
    yield path, "0" if off and _read(path) == "0" else None, "0"
    yield "ipv4/ip_forward", "0" if off else None, "1"


def _ip6_settings() -> Iterator[tuple[str, str | None, str]]:
    """As for IPv4.

    An interface that forwards no longer listens to routers, and its default route goes, unless its accept_ra is 2:
    ip-sysctl.rst, rt6_purge_dflt_routers().  What was learned from routers stays only if that is set first.
    """
    off = _read("ipv6/conf/all/forwarding") == "0"
    names = _interfaces(6)
    for name in names:
        path = f"ipv6/conf/{name}/forwarding"
        yield path, "1" if off and _read(path) == "1" else None, "1"
    for name in names:
        if name not in ("default", "lo"):
            path = f"ipv6/conf/{name}/accept_ra"
            listens = off and _read(path) == "1" and _read(f"ipv6/conf/{name}/forwarding") == "0"
            yield path, "1" if listens else None, "2"
    yield "ipv6/conf/all/forwarding", "0" if off else None, "1"


def _interfaces(version: int) -> list[str]:
    with contextlib.suppress(OSError):
        return sorted(name for name in os.listdir(f"{_SETTINGS}/ipv{version}/conf") if name != "all")
    return []


def _read(path: str) -> str | None:
    try:
        with open(f"{_SETTINGS}/{path}") as setting:
            return setting.read().strip()
    except OSError:
        # An interface that went away.
        return None


def _write(path: str, value: str) -> None:
    try:
        with open(f"{_SETTINGS}/{path}", "w") as setting:
            setting.write(value)
    except FileNotFoundError:
        return
    except OSError as error:
        name = "net." + path.replace("/", ".")
        raise MachineLacks(
            f"NAT needs {name}={value}, which cannot be set here ({error.strerror}): `sysctl -w {name}={value}` where "
            "/proc/sys can be written sets it, in a container the option `--sysctl` of its start"
        ) from None
