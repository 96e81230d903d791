"""Linux network namespaces as guests: what Linux says of them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import support
from namespaces import addresses, open_devices, own_links

import vnet


def test_loopback_and_interface_are_up_with_mac_mtu_and_addresses(lan: vnet.Lan) -> None:
    guest = lan.netns("bob", ["10.0.0.20", "fd00::20"])
    seen = own_links(guest)
    assert set(seen) == {"lo", "eth0"}
    assert addresses(seen["lo"]) == {"127.0.0.1/8", "::1/128"}
    interface = seen["eth0"]
    assert {"UP", "LOWER_UP"} <= set(interface["flags"])
    assert interface["address"] == guest.mac == lan.nics["bob"].mac
    assert interface["mtu"] == guest.mtu == lan.nics["bob"].mtu == 65_521
    assert guest.addresses == lan.nics["bob"].addresses
    # Exactly these: none that the base does not know.
    local = [f"{each}/{length}" for each, length in zip(guest.addresses, (24, 64, 64), strict=True)]
    assert addresses(interface) == set(local)
    assert guest.addresses[:2] == ("10.0.0.20", "fd00::20")


def test_the_link_local_address_is_the_one_that_linux_derives(lan: vnet.Lan) -> None:
    guest = lan.netns("bob")
    # The kernel makes one itself once it is told to.
    words = "ip link set eth0 addrgenmode eui64 down; ip address flush dev eth0; ip link set eth0 up; ip -j -6 address"
    done = guest.run(["sh", "-c", words], capture_output=True, check=True)
    (interface,) = (each for each in json.loads(done.stdout) if each.get("ifname") == "eth0")
    assert [each["local"] for each in interface["addr_info"] if each["scope"] == "link"] == [guest.addresses[-1]]


def test_no_address_waits_for_duplicate_detection(lan: vnet.Lan) -> None:
    guest = lan.netns("bob")
    done = guest.run(["ip", "-j", "address", "show", "tentative"], capture_output=True, check=True)
    assert not [each for each in json.loads(done.stdout) if each]


def test_a_network_of_ipv4_gives_no_ipv6() -> None:
    with vnet.Lan(None, "10.0.0.0/29", mtu=1500) as lan:
        guest = lan.netns("bob")
        assert addresses(own_links(guest)["eth0"]) == {"10.0.0.1/29"}
        assert own_links(guest)["eth0"]["mtu"] == 1500


def test_default_routes_lead_to_the_gateways(lan: vnet.Lan) -> None:
    guest = lan.netns("bob", gateway=["10.0.0.254", "fd00::fe"])
    for family, gateway in (("-4", "10.0.0.254"), ("-6", "fd00::fe")):
        done = guest.run(["ip", "-j", family, "route", "show", "default"], capture_output=True, check=True)
        (route,) = json.loads(done.stdout)
        assert (route["gateway"], route["dev"]) == (gateway, "eth0")
    other = lan.netns("alice")
    assert other.run(["ip", "route", "show", "default"], capture_output=True, check=True).stdout == b""


def test_namespaces_and_hosts_reach_one_another_over_all_their_addresses(lan: vnet.Lan) -> None:
    one, two, host = lan.netns("one"), lan.netns("two", interface="wan"), lan.host("host")
    for destination in (*two.addresses[:2], f"{two.addresses[2]}%eth0", *host.addresses):
        done = one.run(["ping", "-c", "2", "-i", "0.01", "-W", "2", destination], capture_output=True, text=True)
        assert " 0% packet loss" in done.stdout, (destination, done.stdout)
    for destination in one.addresses[:2]:
        assert host.ping(destination, count=2).loss == 0


def test_what_a_namespace_sends_is_counted() -> None:
    # Over IPv6 it would look for routers meanwhile.
    with vnet.Lan(None, "10.0.0.0/24") as lan:
        one, host = lan.netns("one"), lan.host("host")
        one.run(["ping", "-c", "3", "-i", "0.01", host.address], capture_output=True, check=True)

        def counts() -> tuple[int, int, int]:
            mine, its = one.statistics(), host.statistics()
            return mine.delivered, mine.rx_datagrams, its.rx_datagrams

        # The worker counts a batch once it has handed it over.
        assert support.eventually(lambda: counts() == (3, 3, 3)), counts()


def test_a_command_has_its_own_exit_status_input_and_output(lan: vnet.Lan) -> None:
    guest = lan.netns("bob")
    assert guest.run(["sh", "-c", "exit 41"]).returncode == 41
    assert guest.run(["sh", "-c", "kill -TERM $$"]).returncode == -15
    assert guest.run(["cat"], input=b"so be it", capture_output=True).stdout == b"so be it"
    with guest.popen(["sh", "-c", "pwd; echo $WORD"], stdout=subprocess.PIPE, cwd="/usr", env={"WORD": "x"}) as process:
        assert process.communicate()[0] == b"/usr\nx\n"
    assert guest.run(["no-such-program"], stderr=subprocess.DEVNULL).returncode == 127


def test_descriptors_of_the_callers_reach_the_command(lan: vnet.Lan, tmp_path: Any) -> None:
    with (tmp_path / "said").open("w+") as file:
        words = ["tee", f"/proc/self/fd/{file.fileno()}"]
        lan.netns("bob").run(words, pass_fds=[file.fileno()], check=True, input=b"heard", stdout=subprocess.DEVNULL)
        assert file.read() == "heard"


def test_everybody_in_a_namespace_may_ping() -> None:
    with vnet.Lan(None, "10.0.0.0/24") as lan:
        opens = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)"
        # Some interpreter that a stranger may run; raw sockets need CAP_NET_RAW, these a group of ping_group_range.
        words = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-c", opens]
        assert lan.netns("bob").run(words).returncode == 0


@pytest.mark.parametrize(
    "name", ["sixteen-letters-", "a/b", "a:b", "a b", "", ".", "..", "eth%d", "all", "default", "é"]
)
def test_a_name_that_no_interface_can_have_is_refused(lan: vnet.Lan, name: str) -> None:
    with pytest.raises(ValueError, match="interface"):
        lan.netns("bob", interface=name)
    assert not lan.nics


def test_an_interface_cannot_be_called_as_one_that_is_there(lan: vnet.Lan) -> None:
    with pytest.raises(vnet.NameTaken, match="'lo'"):
        lan.netns("bob", interface="lo")
    assert not lan.nics
    # The name and the addresses are free again.
    assert lan.netns("bob").address == "10.0.0.2"


@pytest.mark.parametrize(
    ("gateway", "error"),
    [
        ("10.1.0.1", vnet.AddressOutside),
        ("fe80::1", None),
        (["10.0.0.1", "10.0.0.2"], vnet.AddressError),
        ("next door", vnet.AddressError),
        # Its own, as the first of the network.
        ("10.0.0.1", vnet.AddressError),
    ],
)
def test_a_gateway_is_one_that_the_namespace_can_reach(
    lan: vnet.Lan, gateway: Any, error: type[Exception] | None
) -> None:
    if error is None:
        lan.netns("bob", gateway=gateway)
        return
    with pytest.raises(error):
        lan.netns("bob", gateway=gateway)
    assert not lan.nics


def test_a_namespace_that_is_closed_is_off_the_lan(lan: vnet.Lan) -> None:
    guest = lan.netns("bob")
    with guest.popen(["sleep", "30"]) as process:
        guest.close()
        guest.close()
        assert guest.closed
        assert "bob" not in lan.nics
        with pytest.raises(vnet.NicClosed):
            guest.run(["true"])
        # Who is still in there has lost the interface.
        seen = subprocess.run(
            ["nsenter", "--target", str(process.pid), "--net", "ip", "-j", "link"], capture_output=True, check=True
        )
        assert [each["ifname"] for each in json.loads(seen.stdout)] == ["lo"]
        process.kill()
    assert open_devices() == []
    assert lan.netns("bob").run(["true"]).returncode == 0


def test_an_interface_that_is_deleted_inside_takes_its_nic_down_and_no_other(lan: vnet.Lan) -> None:
    one, two, three = lan.netns("one"), lan.netns("two"), lan.netns("three")
    one.run(["ip", "link", "delete", "eth0"], check=True)
    assert support.eventually(lambda: lan.nics["one"].state == "down")
    assert two.run(["ping", "-c", "1", three.address], capture_output=True).returncode == 0
    # As with any dead guest: name and addresses are there for whoever asks.
    assert lan.netns("one", one.address).address == one.address


def test_a_removed_nic_takes_namespace_and_interface_along(lan: vnet.Lan) -> None:
    guest = lan.netns("bob")
    assert open_devices()
    lan.remove("bob")
    assert guest.closed
    assert open_devices() == []


def test_a_mac_address_is_not_given_twice() -> None:
    with vnet.Lan("one", "10.0.0.0/24") as lan:
        taken = lan.netns("bob").mac
        with pytest.raises(vnet.AddressTaken, match=f"{taken} belongs to NIC 'bob'"):
            lan._register.join("alice", "netns", None, None, None, mac=taken)


def test_a_hundred_namespaces_come_and_go_and_leave_nothing() -> None:
    before = set(open_devices())
    with vnet.Lan(None, ["10.0.0.0/16", "fd00::/64"]) as lan:
        guests = [lan.netns(f"n{number}", gateway=["10.0.255.254", "fd00::ff"]) for number in range(100)]
        for one, other in ((0, 99), (50, 3)):
            words = ["ping", "-c", "1", "-W", "2", guests[other].addresses[1]]
            done = guests[one].run(words, capture_output=True, text=True)
            assert done.returncode == 0, (done.stdout, guests[one].statistics(), guests[other].statistics())
        nursery = lan._keeper.nursery
        assert nursery is not None
        assert nursery.pid is not None
        pid = nursery.pid
        # Each was made by a child that is gone.
        assert [each for each in support.children() if each != pid] == []
    assert set(open_devices()) == before
    assert pid not in support.children()


def test_importing_vnet_imports_no_pyroute2_and_a_lan_without_namespaces_starts_no_nursery(lan: vnet.Lan) -> None:
    program = "import sys, vnet; print(*sorted(each for each in sys.modules if 'pyroute2' in each))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
    lan.host("h")
    assert support.children() == {}
    assert lan._keeper.nursery is None
