"""What the scapy tests share: a LAN with a host on it, and proof that nothing goes to the machine's own interfaces."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from families import Family
from scapy.all import ICMP, IP, ICMPv6EchoReply, ICMPv6EchoRequest, IPv6, conf

import vnet

_opened: list[tuple[Any, ...]] = []


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.__new__":
        _, family, kind, *_ = arguments
        if family == socket.AF_PACKET or (
            family in (socket.AF_INET, socket.AF_INET6) and kind & 0xF == socket.SOCK_RAW
        ):
            _opened.append((family, kind))


# The interpreter's own word on sockets; an audit hook stays for good.
sys.addaudithook(_note)


@pytest.fixture(autouse=True)
def machine_untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test opens a socket on an interface of the machine or leaves a NIC in scapy's list."""
    monkeypatch.setattr(conf, "verb", 0)
    interface = conf.iface
    _opened.clear()
    yield
    assert not _opened
    conf.iface = interface
    conf.ifaces.reload()
    assert not [name for name, each in conf.ifaces.data.items() if each.provider.name == "vnet"]


@pytest.fixture(
    params=[Family(4, IP, ICMP, ICMP), Family(6, IPv6, ICMPv6EchoRequest, ICMPv6EchoReply)], ids=["ipv4", "ipv6"]
)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param


@pytest.fixture
def a(lan: vnet.Lan) -> Iterator[vnet.Nic]:
    with lan.attach("a") as nic:
        yield nic


@pytest.fixture
def b(lan: vnet.Lan, a: vnet.Nic) -> Iterator[vnet.Nic]:
    with lan.attach("b") as nic:
        yield nic


@pytest.fixture
def web(lan: vnet.Lan, b: vnet.Nic) -> vnet.Host:
    """A built-in host, which answers pings."""
    return lan.host("web")


@pytest.fixture(params=["by_name", "by_nic"])
def iface(request: pytest.FixtureRequest, a: vnet.Nic) -> Any:
    """What a user gives as iface=."""
    return a.name if request.param == "by_name" else a
