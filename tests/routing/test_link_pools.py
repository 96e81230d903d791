"""Whose every prefix is, and where links get theirs."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vnet
from vnet.routing.spaces import LINK_POOLS, AddressPlan, LinkPools

# Few addresses, so that most prefixes meet others.
PREFIXES = st.builds(
    lambda number, length: IPv4Network((number >> (32 - length) << (32 - length), length)),
    st.integers(0x0A000000, 0x0A0000FF),
    st.integers(24, 32),
)


@given(st.lists(st.tuples(PREFIXES, st.booleans()), max_size=40))
def test_a_claim_is_refused_exactly_if_it_overlaps_another(changes: list[tuple[IPv4Network, bool]]) -> None:
    plan = AddressPlan()
    plain: dict[IPv4Network, str] = {}
    for count, (prefix, comes) in enumerate(changes):
        if not comes:
            plain.pop(prefix, None)
            plan.give_back(prefix)
            continue
        others = {f"{each} of {name}" for each, name in plain.items() if each.overlaps(prefix)}
        if not others:
            plain[prefix] = f"number {count}"
            plan.claim(prefix, f"number {count}")
            continue
        with pytest.raises(vnet.AddressError) as refused:
            plan.claim(prefix, "newcomer")
        assert str(refused.value).removeprefix("newcomer overlaps ") in others


def test_families_are_told_apart() -> None:
    plan = AddressPlan()
    plan.claim(IPv4Network("0.0.0.0/0"), "all of IPv4")
    plan.claim(IPv6Network("::/0"), "all of IPv6")


def test_links_get_what_nobody_has_in_order() -> None:
    plan = AddressPlan()
    plan.claim(ip_network("172.31.0.2/31"), "network 'a'")
    plan.claim(ip_network("172.31.0.4/30"), "network 'b'")
    pools = LinkPools(plan)
    assert [str(pools.take(4, "a link")) for _ in range(3)] == ["172.31.0.0/31", "172.31.0.8/31", "172.31.0.10/31"]
    assert str(pools.take(6, "a link")) == LINK_POOLS[1].replace("/48", "/127")


def test_what_links_gave_back_is_given_out_again_when_nothing_else_is_left() -> None:
    plan = AddressPlan()
    pools = LinkPools(plan)
    pools.set("192.0.2.0/29")
    taken = [pools.take(4, "a link") for _ in range(4)]
    with pytest.raises(vnet.NetworkFull, match=r"192\.0\.2\.0/29"):
        pools.take(4, "a link")
    plan.give_back(taken[1])
    assert pools.take(4, "a link") == taken[1]
    assert [str(prefix) for prefix in pools.prefixes] == ["192.0.2.0/29", LINK_POOLS[1]]


@pytest.mark.parametrize(
    "pool", ["192.0.2.1/32", "fd00::/128", "next door", ["10.0.0.0/8", "11.0.0.0/8"], "10.0.0.1/8"]
)
def test_a_pool_has_room_for_a_link(pool: str | list[str]) -> None:
    pools = LinkPools(AddressPlan())
    with pytest.raises(vnet.AddressError):
        pools.set(pool)
    assert [str(prefix) for prefix in pools.prefixes] == list(LINK_POOLS)
