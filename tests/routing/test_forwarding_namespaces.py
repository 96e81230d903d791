"""Namespaces as routed guests and as routers: what their kernels know, asked with iproute2, and pings through them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vnet

sys.path.append(str(Path(__file__).parent.parent / "netns"))
import namespaces


@pytest.fixture(autouse=True)
def namespaces_are_there() -> None:
    if (lack := namespaces.missing()) is not None:
        pytest.skip(lack)


@pytest.fixture
def campus() -> Iterator[vnet.Lan]:
    """Three networks of both families, and nobody there."""
    with vnet.Lan(None) as lan:
        for number, name in enumerate("abc", 1):
            lan.add_network(name, [f"10.{number}.0.0/24", f"fd00:{number}::/64"], mtu=1500)
        yield lan


def ip(guest: vnet.Netns, *words: str) -> list[dict[str, object]]:
    done = guest.run(["ip", "-j", *words], stdout=subprocess.PIPE, check=True)
    found: list[dict[str, object]] = json.loads(done.stdout or b"[]")
    return found


def routes(guest: vnet.Netns) -> dict[str, tuple[str, str]]:
    """By destination: gateway and interface, of both families."""
    four = [(each["dst"], each) for each in ip(guest, "-4", "route")]
    six = [("::/0" if each["dst"] == "default" else each["dst"], each) for each in ip(guest, "-6", "route")]
    return {str(dst): (str(each["gateway"]), str(each["dev"])) for dst, each in four + six if "gateway" in each}


def pings(guest: vnet.Netns, address: str, *options: str) -> bool:
    words = ["ping", "-n", "-c", "1", "-W", "3", *options, address]
    return guest.run(words, stdout=subprocess.DEVNULL).returncode == 0


def test_a_namespace_gets_its_default_routes_when_a_router_comes(campus: vnet.Lan) -> None:
    early = campus.netns("early", network="a")
    mine = campus.netns("mine", network="a")
    mine.run(["ip", "route", "add", "default", "via", "10.1.0.77"], check=True)
    none = campus.netns("none", network="a", gateway=False)
    assert routes(early) == {}
    router = campus.router("edge", {"a": ["10.1.0.100", "fd00:1::100"], "b": None})
    late = campus.netns("late", network="a")
    expected = {"default": ("10.1.0.100", "eth0"), "::/0": ("fd00:1::100", "eth0")}
    assert routes(early) == expected
    assert routes(late) == expected
    # What the user has set stays.
    assert routes(mine) == expected | {"default": ("10.1.0.77", "eth0")}
    assert routes(none) == {}
    campus.set_gateway("none", "10.1.0.100")
    campus.set_gateway("late", ["10.1.0.9", "fd00:1::100"])
    assert routes(none) == {"default": ("10.1.0.100", "eth0")}
    assert routes(late) == expected | {"default": ("10.1.0.9", "eth0")}
    router.close()
    assert routes(early) == {}


def test_a_namespace_on_several_networks_has_an_interface_on_each(campus: vnet.Lan) -> None:
    guest = campus.netns("multi", networks={"a": None, "c": "10.3.0.7"}, interface="lan0")
    assert [(name, nic.kind) for name, nic in campus.nics.items()] == [("multi.a", "netns"), ("multi.c", "netns")]
    links = namespaces.own_links(guest)
    assert list(links)[1:] == ["lan0", "lan1"]
    assert [links["lan1"]["address"], links["lan1"]["mtu"]] == [campus.nics["multi.c"].mac, 1500]
    assert guest.interfaces == {"a": "lan0", "c": "lan1"}
    assert guest.networks == {"a": campus.nics["multi.a"].addresses, "c": campus.nics["multi.c"].addresses}
    for network, address in (("a", "10.1.0.1"), ("c", "10.3.0.7")):
        assert campus.host(f"host-{network}", network=network).ping(address).received == 1
    # It is no router, and its default routes lead by the first network that has one.
    campus.router("edge", {"c": None})
    assert routes(guest)["default"] == ("10.3.0.2", "lan1")
    campus.router("other", {"a": None})
    assert routes(guest)["default"] == ("10.1.0.3", "lan0")
    assert not guest.closed
    for name in ("multi", "multi.a"):
        with pytest.raises(vnet.NameTaken):
            campus.host(name, network="b")
    guest.close()
    assert guest.closed
    assert not [name for name in campus.nics if name.startswith("multi")]
    campus.host("multi", network="b")


def test_hosts_reach_each_other_through_a_namespace_that_forwards(campus: vnet.Lan) -> None:
    gate = campus.netns("gate", networks=["a", "b"], forward=True)
    one, two = campus.host("one", network="a"), campus.host("two", network="b")
    assert campus.nics["one"].gateways == ("10.1.0.1", "fd00:1::1")
    for address in two.addresses:
        result = one.ping(address, count=3, timeout=3)
        assert (result.received, result.errors) == (3, ())
    third = campus.netns("third", network="b")
    assert pings(third, "10.1.0.2")
    assert pings(third, "fd00:1::2")
    settings = {"net.ipv4.conf.all.send_redirects": "0", "net.ipv4.conf.eth1.send_redirects": "0",
                "net.ipv4.conf.eth1.accept_redirects": "0", "net.ipv6.conf.eth1.forwarding": "1"}  # fmt: skip
    for name, value in settings.items():
        done = gate.run(["cat", f"/proc/sys/{name.replace('.', '/')}"], stdout=subprocess.PIPE, text=True)
        assert (name, done.stdout.strip()) == (name, value)
    # Without forward it does not.
    gate.close()
    campus.netns("gate", networks={"a": "10.1.0.1", "b": "10.2.0.1"})
    campus.set_gateway("one", "10.1.0.1")
    assert one.ping("10.2.0.2", timeout=0.3).received == 0


def test_the_kernel_of_a_namespace_that_forwards_follows_the_shortest_paths(campus: vnet.Lan) -> None:
    # one - a - gate - b - r1 - r2 - c - two, and a longer way from gate over d and r3 to r2.
    campus.add_network("d", ["10.4.0.0/24", "fd00:4::/64"], mtu=1500)
    gate = campus.netns("gate", networks={"a": None, "b": None, "d": None}, forward=True)
    for name, network in (("r1", "b"), ("r2", "c"), ("r3", "d")):
        campus.router(name, [network])
    short, long = campus.link("r1", "r2"), campus.link("r3", "r2", weight=5)
    expected = {
        "10.3.0.0/24": ("10.2.0.2", "eth1"),
        "fd00:3::/64": ("fd00:2::2", "eth1"),
        short.prefixes[0]: ("10.2.0.2", "eth1"),
        short.prefixes[1]: ("fd00:2::2", "eth1"),
        long.prefixes[0]: ("10.4.0.2", "eth2"),
        long.prefixes[1]: ("fd00:4::2", "eth2"),
    }
    assert routes(gate) == expected
    one, two = campus.host("one", network="a"), campus.host("two", network="c")
    assert one.ping(two.address, timeout=3).received == 1
    assert two.ping(one.addresses[1], timeout=3).received == 1
    short.cut()
    assert routes(gate)["10.3.0.0/24"] == ("10.4.0.2", "eth2")
    # A link that is cut is nowhere: both ends are down, as on a Linux router.
    assert short.prefixes[0] not in routes(gate)
    assert one.ping(two.address, timeout=3).received == 1
    short.mend()
    assert routes(gate) == expected
    long.weight = 1
    campus.links["r1-r2"].weight = 9
    assert routes(gate)["fd00:3::/64"] == ("fd00:4::2", "eth2")


@pytest.mark.parametrize(
    ("said", "error", "match"),
    [
        ({"networks": {"a": None}, "network": "b"}, ValueError, "not both"),
        ({"networks": {}}, ValueError, "on no network"),
        ({"networks": ["a", "a"]}, ValueError, "named twice"),
        ({"networks": ["a", "nowhere"]}, ValueError, "no network named 'nowhere'"),
        ({"networks": ["a", "b"], "gateway": "10.3.0.1"}, vnet.AddressOutside, "on none of the networks a, b"),
        ({"networks": {"a": None, "b": "10.3.0.1"}}, vnet.AddressOutside, "outside network 'b'"),
        ({"networks": ["a", "b"], "interface": "fifteen-letters"}, ValueError, "at most 15"),
    ],
)
def test_networks_of_a_namespace_that_cannot_be_are_refused(
    campus: vnet.Lan, said: dict[str, object], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        campus.netns("guest", **said)  # type: ignore[arg-type]
    assert dict(campus.nics) == {}
    assert campus.routing.forwarding("guest") is None
    # The name is free.
    assert campus.netns("guest", networks=["a", "b"], forward=True).interfaces == {"a": "eth0", "b": "eth1"}
