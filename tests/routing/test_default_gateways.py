"""Default gateways: the network's first router, whenever it comes, unless a guest says otherwise."""

from __future__ import annotations

from typing import Any

import pytest
import support

import vnet


def gateways(lan: vnet.Lan, *names: str) -> list[tuple[str, ...]]:
    return [lan.nics[name].gateways for name in names]


def test_the_first_router_of_a_network_leads_out_of_it(lan: vnet.Lan) -> None:
    lan.add_network("other", "10.9.0.0/24")
    lan.host("before", network="lan")
    lan.router("one", ["lan"])
    lan.router("two", ["lan", "other"])
    lan.attach("after", network="lan")
    lan.reserve("later", network="lan")
    lan.host("elsewhere", network="other")
    one, two = lan.routers["one"], lan.routers["two"]
    assert gateways(lan, "before", "after", "later") == [one.addresses] * 3
    assert gateways(lan, "elsewhere") == [("10.9.0.1",)]
    # A router needs none, and has none.
    assert gateways(lan, "one", "two.lan") == [(), ()]
    one.close()
    assert gateways(lan, "before", "later") == [two.networks["lan"][:2]] * 2
    two.close()
    assert gateways(lan, "before", "elsewhere") == [(), ()]


def test_a_guest_of_one_family_has_a_gateway_of_that(lan: vnet.Lan) -> None:
    lan.router("v4", {"lan": "10.0.0.1"})
    lan.router("both", {"lan": ["10.0.0.2", "fd00::2"]})
    lan.host("a", ["10.0.0.10", "fd00::10"])
    lan.host("b", "fd00::11")
    # Each family by the first that has it.
    assert gateways(lan, "a", "b") == [("10.0.0.1", "fd00::2"), ("fd00::2",)]


def test_what_a_guest_asks_for_it_has(lan: vnet.Lan) -> None:
    lan.router("edge", ["lan"])
    gate = lan.attach("gate")
    lan.host("a", gateway=gate.addresses[0])
    lan.host("b", gateway=list(gate.addresses))
    lan.host("c", gateway=False)
    lan.host("d", gateway=())
    assert gateways(lan, "a", "b", "c", "d") == [gate.addresses[:1], gate.addresses, (), ()]
    slots = lan._register.nics["b"].gateway_slots
    assert slots == (lan._register.nics["gate"].slot,) * 2
    # Who left leads nowhere; whoever has the address next does.
    gate.close()
    assert lan._register.nics["b"].gateway_slots == (0, 0)
    lan.host("new", gate.addresses)
    assert lan._register.nics["b"].gateway_slots == (lan._register.nics["new"].slot,) * 2


@pytest.mark.parametrize(
    ("gateway", "error", "said"),
    [
        ("10.1.0.1", vnet.AddressOutside, "outside network 'lan'"),
        ("10.0.0.99", vnet.AddressError, "nobody's address on network 'lan'"),
        ("10.0.0.50", vnet.AddressError, "the NIC itself"),
        ("next door", vnet.AddressError, "not an IP address"),
        (["10.0.0.1", "10.0.0.2"], vnet.AddressError, "one default gateway for each family"),
        (True, TypeError, "not True"),
        (1, TypeError, "not 1"),
    ],
)
def test_a_gateway_that_cannot_be_is_refused(lan: vnet.Lan, gateway: Any, error: type[Exception], said: str) -> None:
    lan.router("edge", {"lan": "10.0.0.1"})
    lan.router("edge2", {"lan": "10.0.0.2"})
    lan.host("there")
    for make in (lan.host, lan.attach, lan.reserve):
        with pytest.raises(error, match=said):
            make("guest", "10.0.0.50", gateway=gateway)
    assert "guest" not in lan.nics
    lan.host("guest", "10.0.0.50")
    with pytest.raises(error, match=said):
        lan.set_gateway("guest", gateway)
    assert gateways(lan, "guest") == [("10.0.0.1",)]


def test_a_gateway_is_changed_at_once(lan: vnet.Lan) -> None:
    lan.router("one", {"lan": "10.0.0.1"})
    lan.router("two", {"lan": "10.0.0.2"})
    lan.host("guest", "10.0.0.50")
    lan.set_gateway("guest", "10.0.0.2")
    assert gateways(lan, "guest") == [("10.0.0.2",)]
    lan.set_gateway("guest", False)
    assert gateways(lan, "guest") == [()]
    lan.set_gateway("guest", None)
    assert gateways(lan, "guest") == [("10.0.0.1",)]
    with pytest.raises(KeyError):
        lan.set_gateway("nobody", None)


def test_guests_of_other_processes_have_gateways_too(named: vnet.Lan) -> None:
    named.router("edge", {"lan": "10.0.0.1"})
    named.router("exit", {"lan": "10.0.0.2"})
    named.reserve("kept", gateway="10.0.0.2")
    program = """
nics = [vnet.attach("office", "a"), vnet.attach("office", "b", gateway="10.0.0.2"),
        vnet.attach("office", "c", gateway=False), vnet.attach("office", "kept")]
try:
    vnet.attach("office", "d", gateway="10.0.0.99")
except vnet.AddressError as error:
    say(error)
hear()
"""
    guest = support.Guest(program)
    try:
        assert "nobody's address" in guest.hear()
        assert gateways(named, "a", "b", "c", "kept") == [("10.0.0.1",), ("10.0.0.2",), (), ("10.0.0.2",)]
    finally:
        guest.release()


def test_a_process_that_forwards_is_a_router_to_the_others(lan: vnet.Lan) -> None:
    lan.add_network("other", "10.9.0.0/24")
    one = lan.attach("gate", network="lan", forward=True)
    lan.host("a", network="lan")
    assert gateways(lan, "gate", "a") == [(), one.addresses]
    # Two NICs of one router.
    lan.attach("gw.lan", network="lan", forward="gw")
    lan.reserve("gw.other", network="other", forward="gw")
    lan.host("b", network="other")
    assert gateways(lan, "b") == [lan.nics["gw.other"].addresses]
    # What it sends on to elsewhere goes to the first router that it is not itself.
    assert gateways(lan, "gw.lan", "gw.other") == [one.addresses, ()]
    router = lan.routing.forwarding("gw")
    assert [port.nic for port in router.ports] == ["gw.lan", "gw.other"]
    for taken in ("gw", "gate"):
        with pytest.raises(vnet.NameTaken):
            lan.host(taken, network="lan")
        with pytest.raises(vnet.NameTaken):
            lan.router(taken, ["lan"])
    with pytest.raises(vnet.NameTaken):
        lan.attach("c", network="lan", forward="a")
    with pytest.raises(ValueError, match="is a guest"):
        lan.link("gw", "gate")
    assert lan.topology().nodes["gw"]["forward"]
    one.close()
    assert gateways(lan, "gw.lan") == [()]
    assert gateways(lan, "a") == [lan.nics["gw.lan"].addresses]
    lan.remove("gw.lan")
    lan.remove("gw.other")
    assert lan.routing.forwarding("gw") is None
    assert gateways(lan, "a", "b") == [(), ()]
    lan.host("gw", network="lan")


def test_what_a_process_sends_on_arrives(lan: vnet.Lan) -> None:
    for number in (8, 9):
        lan.add_network(f"n{number}", f"10.{number}.0.0/24")
    ends = [lan.attach(f"gw.{name}", network=name, forward="gw") for name in ("lan", "n8")]
    lan.router("far", ["n8", "n9"])
    host = lan.host("near", network="lan")
    target = lan.host("there", network="n9")
    run = host.start_ping(target.address, timeout=20)
    # Both ways, as the datagrams come; without this process none arrives.
    ends[1].send(ends[0].recv(timeout=5))
    ends[0].send(ends[1].recv(timeout=5))
    assert run.result().received == 1
