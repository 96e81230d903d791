"""Who gets which address: given ones are kept, the others follow in file order, the same way every time."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import ReadLab

from vnet.errors import AddressTaken, NetworkFull
from vnet.lab.addresses import AddressBook, parse_prefix, usable
from vnet.lab.plan import Network


def guests(
    prefix: ipaddress.IPv4Network | ipaddress.IPv6Network,
) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """The addresses that a NIC may have, in the words of the standard library."""
    hosts = list(prefix.hosts())
    if prefix.version == 6 and prefix.prefixlen < 127 and hosts[-1] != prefix.broadcast_address:
        hosts.append(prefix.broadcast_address)  # IPv6 has no broadcast
    return hosts


@pytest.mark.parametrize("length", range(20, 33))
def test_usable_ipv4_addresses_are_those_of_the_standard_library(length: int) -> None:
    prefix = ipaddress.ip_network(f"10.0.0.0/{length}")
    first, last = usable(prefix)
    assert [int(address) for address in guests(prefix)] == list(range(first, last + 1))


@pytest.mark.parametrize("length", range(116, 129))
def test_usable_ipv6_addresses_are_those_of_the_standard_library(length: int) -> None:
    prefix = ipaddress.ip_network(f"fd00::/{length}")
    first, last = usable(prefix)
    assert [int(address) for address in guests(prefix)] == list(range(first, last + 1))


@given(
    length=st.integers(24, 32),
    nodes=st.lists(st.one_of(st.none(), st.integers(0, 255)), max_size=40),
)
def test_addresses_are_given_out_as_a_plain_list_would(length: int, nodes: list[int | None]) -> None:
    prefix = parse_prefix(f"10.0.0.0/{length}")
    network = Network("lan", (prefix,), 1500)
    book, free = AddressBook(network), guests(prefix)
    taken: dict[str, str] = {}
    for index, wanted in enumerate(nodes):
        if wanted is None:
            continue
        text = str(ipaddress.IPv4Address(int(prefix.network_address) + wanted))
        if text in taken:
            with pytest.raises(AddressTaken, match=taken[text]):
                book.reserve(text, f"n{index}")
        elif ipaddress.ip_address(text) in free:
            book.reserve(text, f"n{index}")
            taken[text] = f"n{index}"
        else:
            with pytest.raises(ValueError, match=r"outside|network address|broadcast address"):
                book.reserve(text, f"n{index}")
    left = [address for address in free if str(address) not in taken]
    for index, wanted in enumerate(nodes):
        if wanted is None and left:
            assert book.next(prefix, f"n{index}") == left.pop(0)
        elif wanted is None:
            with pytest.raises(NetworkFull):
                book.next(prefix, f"n{index}")


def test_given_addresses_are_reserved_before_any_is_assigned(read: ReadLab) -> None:
    lab = read("networks: {lan: 10.0.0.0/29}\nnodes:\n  a:\n  b:\n  c: {networks: {lan: 10.0.0.1}}\n")
    assert [str(node.addresses[0]) for node in lab.nodes.values()] == ["10.0.0.2", "10.0.0.3", "10.0.0.1"]


def test_a_dual_stack_node_has_one_address_of_each_prefix_ipv4_first(read: ReadLab) -> None:
    lab = read(
        'networks: {lan: ["fd00::/64", 10.0.0.0/24]}\nnodes:\n  a:\n  b: {networks: {lan: 10.0.0.1}}\n'
        '  c: {networks: {lan: [10.0.0.8, 10.0.0.7, "fd00::c"]}}\n'
    )
    assert [list(map(str, node.addresses)) for node in lab.nodes.values()] == [
        ["10.0.0.2", "fd00::1"],
        ["10.0.0.1", "fd00::2"],
        ["10.0.0.8", "10.0.0.7", "fd00::c"],
    ]


def test_count_makes_numbered_nodes(read: ReadLab) -> None:
    lab = read("networks: {lan: 10.0.0.0/24}\nnodes: {web: {count: 3}, db: }\n")
    assert list(lab.nodes) == ["web-1", "web-2", "web-3", "db"]
    assert str(lab.nodes["db"].addresses[0]) == "10.0.0.4"


def test_a_large_lab_is_planned_at_a_cost_that_grows_with_its_size(read: ReadLab) -> None:
    # Four thousand nodes end in seconds only if no step of the way compares every node with every other.
    lab = read("networks: {lan: 10.0.0.0/16}\nnodes: {web: {count: 4000}}\nsteps: [{ping_all: {sample: 4000}}]\n")
    assert str(lab.nodes["web-4000"].addresses[0]) == "10.0.15.160"
    assert len(lab.steps[0].pairs) == 4000  # type: ignore[attr-defined]
