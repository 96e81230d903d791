"""NICs in scapy's list of interfaces: what it says of them, and who has a name."""

from __future__ import annotations

import gc
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from families import Family
from scapy.all import (
    ICMP,
    IP,
    UDP,
    conf,
    get_if_addr,
    get_if_addr6,
    get_if_hwaddr,
    get_if_list,
    get_working_ifaces,
    send,
    show_interfaces,
    sr1,
)
from scapy.interfaces import resolve_iface

import vnet


def test_scapy_lists_the_nics(capsys: pytest.CaptureFixture[str], a: vnet.Nic, b: vnet.Nic) -> None:
    show_interfaces()

    shown = {line.split()[2]: line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("vnet")}
    assert shown["a"][3:] == [a.mac, *a.addresses]
    assert set(shown) == {"a", "b"}
    assert {"a", "b"} <= set(get_if_list())
    assert {"a", "b"} <= {str(each) for each in get_working_ifaces()}


@pytest.mark.parametrize("how", [str, conf.ifaces.dev_from_name, lambda name: name])
def test_scapy_knows_the_addresses(a: vnet.Nic, how: Any) -> None:
    assert get_if_addr(how("a")) == a.addresses[0]
    assert get_if_addr6(how("a")) == a.addresses[1]
    assert get_if_hwaddr(how("a")) == a.mac


def test_a_nic_is_as_good_as_its_name(a: vnet.Nic, b: vnet.Nic) -> None:
    assert resolve_iface(a) is resolve_iface("a") is conf.ifaces["a"]
    assert resolve_iface(b) is conf.ifaces["b"]
    assert (get_if_addr(a), get_if_addr6(a), get_if_hwaddr(a)) == (*a.addresses, a.mac)


def test_an_interface_says_whose_it_is(a: vnet.Nic) -> None:
    interface = conf.ifaces["a"]

    assert repr(interface) == "<NicInterface a 10.0.0.1 fd00::1 on a private LAN>"
    assert interface == "a"
    assert interface == a
    assert interface != "b"
    assert len({interface, "a"}) == 1


def test_a_nic_of_one_family_has_no_address_of_the_other() -> None:
    with (
        vnet.Lan(None, "10.0.0.0/24") as four,
        vnet.Lan(None, "fd00::/64") as six,
        four.attach("four"),
        six.attach("six"),
    ):
        assert (get_if_addr("four"), get_if_addr6("four")) == ("10.0.0.1", None)
        assert (get_if_addr("six"), get_if_addr6("six")) == ("0.0.0.0", "fd00::1")


def test_a_closed_nic_leaves_the_list(a: vnet.Nic) -> None:
    a.close()

    assert "a" not in get_if_list()
    with pytest.raises(ValueError, match="not found"):
        resolve_iface("a")
    with pytest.raises(vnet.NicClosed):
        sr1(IP(dst="10.0.0.2") / ICMP(), iface=a)


def test_a_forgotten_nic_leaves_the_list(lan: vnet.Lan) -> None:
    nic = lan.attach("fleeting")
    assert "fleeting" in get_if_list()

    del nic
    gc.collect()

    assert "fleeting" not in get_if_list()


def test_the_nics_of_a_closed_lan_are_not_shown(lan: vnet.Lan, a: vnet.Nic) -> None:
    lan.close()

    assert "a" not in {str(each) for each in get_working_ifaces()}
    conf.ifaces.reload()
    assert "a" not in get_if_list()


def test_nics_survive_what_scapy_reads_anew(a: vnet.Nic, web: vnet.Host) -> None:
    conf.iface = a

    conf.ifaces.reload()
    conf.route.resync()
    conf.route6.resync()

    assert conf.iface == a
    assert sr1(IP(dst=web.address) / ICMP(), timeout=5).src == web.address


def test_conf_iface_decides_where_ways_lead(family: Family, a: vnet.Nic, web: vnet.Host) -> None:
    table = conf.route if family.version == 4 else conf.route6
    loopback = {4: "127.0.0.1", 6: "::1"}[family.version]
    before = table.route(family.of(web))
    assert before[0] != "a"

    conf.iface = "a"

    assert table.route(family.of(web))[:2] == ("a", family.of(a))
    assert table.route(family.of(a))[:2] == ("a", family.of(a))
    assert table.route(loopback)[0] == conf.loopback_name
    assert family.ping(web).src == family.of(a)


def test_the_routes_of_the_machine_stay_as_they_are(family: Family, a: vnet.Nic, web: vnet.Host) -> None:
    before = list(conf.route.routes), list(conf.route6.routes), conf.route.route("192.0.2.1"), conf.iface

    sr1(family.ping(web), iface=a, timeout=5)

    assert (conf.route.routes, conf.route6.routes, conf.route.route("192.0.2.1"), conf.iface) == before


# Names


@pytest.fixture
def twins() -> Iterator[tuple[vnet.Nic, vnet.Nic]]:
    """Two NICs of one name on two LANs, the later second; each LAN has a host at 10.0.0.2."""
    with (
        vnet.Lan("office", "10.0.0.0/24") as office,
        vnet.Lan("depot", "10.0.0.0/24") as depot,
        office.attach("eth7", "10.0.0.7") as first,
        depot.attach("eth7", "10.0.0.8") as second,
    ):
        office.host("web", "10.0.0.2")
        depot.host("web", "10.0.0.2")
        yield first, second


def ask(iface: Any) -> str:
    """The address that an echo request over `iface` came from."""
    return str(sr1(IP(dst="10.0.0.2") / ICMP(), iface=iface, timeout=5).dst)


def test_of_two_nics_of_one_name_the_later_has_it(twins: tuple[vnet.Nic, vnet.Nic]) -> None:
    first, second = twins

    assert ask("eth7") == "10.0.0.8"
    assert ask("eth7@office") == "10.0.0.7"
    assert (ask(first), ask(second)) == ("10.0.0.7", "10.0.0.8")
    conf.ifaces.reload()
    assert (ask(first), ask(second), ask("eth7")) == ("10.0.0.7", "10.0.0.8", "10.0.0.8")


def test_the_earlier_has_its_name_back_when_the_later_goes(twins: tuple[vnet.Nic, vnet.Nic]) -> None:
    first, second = twins

    second.close()

    assert ask("eth7") == ask(first) == "10.0.0.7"
    assert "eth7@office" not in get_if_list()


def test_the_later_keeps_the_name_when_the_earlier_goes(twins: tuple[vnet.Nic, vnet.Nic]) -> None:
    first, second = twins

    first.close()

    assert ask("eth7") == ask(second) == "10.0.0.8"
    assert "eth7@office" not in get_if_list()


def test_a_question_asked_twice_means_the_interface_it_is_asked_on(twins: tuple[vnet.Nic, vnet.Nic]) -> None:
    first, second = twins
    question = IP(dst="10.0.0.2") / ICMP()

    assert [sr1(question, iface=each, timeout=5).dst for each in (first, second, first)] == [
        "10.0.0.7",
        "10.0.0.8",
        "10.0.0.7",
    ]


def test_a_nic_hides_an_interface_of_the_machine_while_it_lives(lan: vnet.Lan) -> None:
    loopback = conf.ifaces[conf.loopback_name]
    web = lan.host("web")
    with lan.attach(conf.loopback_name) as nic:
        assert get_if_addr(conf.loopback_name) == nic.address
        assert sr1(IP(dst=web.address) / ICMP(), iface=conf.loopback_name, timeout=5).dst == nic.address
        conf.ifaces.reload()
        assert get_if_addr(conf.loopback_name) == nic.address

    assert conf.ifaces[conf.loopback_name].provider is loopback.provider
    assert get_if_addr(conf.loopback_name) == "127.0.0.1"


@pytest.mark.parametrize("name", ["1", "007", "1_0", "eth0.100", "x-y"])
def test_a_name_is_a_name_also_where_it_reads_as_a_number(lan: vnet.Lan, name: str) -> None:
    web = lan.host("web")
    with lan.attach(name) as nic:
        for iface in (name, nic):
            assert sr1(IP(dst=web.address) / ICMP(), iface=iface, timeout=5).dst == nic.address
        assert IP(dst=f"{web.address}%{name}").src == nic.address


def test_a_scoped_packet_can_be_pickled_and_holds_no_nic(lan: vnet.Lan) -> None:
    nic = lan.attach("c")
    packet = IP(dst="10.0.0.9%c") / UDP()

    again = pickle.loads(pickle.dumps(packet))

    assert again.dst == "10.0.0.9"
    del nic
    gc.collect()
    assert lan.nics["c"].state == "down"


def test_many_nics_are_many_interfaces(lan: vnet.Lan) -> None:
    lan.add_network("wide", "10.1.0.0/16")
    nics = [lan.attach(f"n{each}", network="wide") for each in range(500)]

    assert {f"n{each}" for each in range(500)} <= set(get_if_list())
    send(IP(dst=nics[499].address) / UDP(), iface="n250")
    assert IP(nics[499].recv(timeout=1)).src == nics[250].address

    for nic in nics:
        nic.close()
    assert not any(each.startswith("n") and each[1:].isdigit() for each in get_if_list())
