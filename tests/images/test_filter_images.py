"""Filters that lie in an image judge as those that were just compiled."""

from __future__ import annotations

import support

import vnet
from vnet import _native
from vnet.images import Cache, Recipe

RULES = ["deny udp port 7", "allow src net 10.0.0.0/8", "deny any"]


def office() -> vnet.Lan:
    lan = vnet.Lan(None, "10.0.0.0/24")
    lan.host("alice", "10.0.0.1")
    lan.host("bob", "10.0.0.2")
    return lan


def judged(lan: vnet.Lan) -> list[str]:
    datagrams = [support.datagram("10.0.0.1", "10.0.0.2", bytes([0, 9, 0, port, 0, 9, 0, 0, 1])) for port in (7, 8)] + [
        support.datagram("192.0.2.1", "10.0.0.2", bytes(9))
    ]
    return [verdict.name for verdict in lan.inject("alice", datagrams)]


def test_filters_out_of_an_image_are_run_for_each_datagram() -> None:
    recipe = Recipe("filters").add("rules", RULES)
    with office() as first:
        first.set_filter("bob", RULES)
        expected = judged(first)
        words = _native.section_words(first._base, "filters")
    assert expected == ["FILTERED", "DELIVERED", "FILTERED"]
    with (
        Cache().obtain(
            recipe, lambda: lambda fd: _native.image_write(fd, recipe.key, recipe.label, [("filters", words)])
        ) as came,
        office() as second,
    ):
        ((section, at, count),) = came.sections
        _native.adopt_image(second._base, section, came.fd, at, count)
        assert judged(second) == ["DELIVERED"] * 3
        bob = second._register.nics["bob"]
        assert _native.set_nic_filters(second._base, bob.slot, bob.generation, 1, 0)
        assert judged(second) == expected
        # One that is set now goes into the LAN's own memory, and counts.
        second.set_filter("bob", ["deny any"])
        assert judged(second) == ["FILTERED"] * 3
