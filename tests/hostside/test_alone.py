"""A TAP that stands alone: what the kernel says of the device, and who reaches whom."""

from __future__ import annotations

import json

import pytest
import support

from .machines import Machine, reaches

# IFNAMSIZ, the closing zero left out.
LONGEST_NAME = 15


def test_the_device_has_mac_mtu_and_addresses_of_its_nic(machine: Machine) -> None:
    base = machine.base()
    base.do("tap = lan.tap('uplink', ['10.0.0.254', 'fd00::fe'])")
    own = base.do("lan.nics['uplink'].addresses")
    link = machine.link("demo-uplink")
    assert link is not None
    assert link["address"] == base.do("tap.mac") == base.do("lan.nics['uplink'].mac")
    assert link["mtu"] == base.do("tap.mtu") == 1500
    assert "UP" in link["flags"]
    assert machine.addresses("demo-uplink") == {"10.0.0.254": 24, "fd00::fe": 64, own[-1]: 64}
    assert own[-1].startswith("fe80::")
    # Usable at once: no duplicate address detection stands in the way.
    assert all(not each.get("tentative") for each in link["addr_info"])
    assert base.do("repr(tap)") == f"<Tap uplink {' '.join(own)}: demo-uplink>"


def test_without_an_address_it_gets_the_next_free_one(machine: Machine) -> None:
    base = machine.base("demo", "10.0.0.0/24")
    base.do("host = lan.host('h')")
    base.do("tap = lan.tap('uplink')")
    # An IPv4 network gives the device no IPv6.
    assert machine.addresses("demo-uplink") == {"10.0.0.2": 24}


def test_its_mtu_is_the_largest_of_the_kernel_where_the_network_has_more(machine: Machine) -> None:
    base = machine.base(mtu=65_535)
    base.do("tap = lan.tap('uplink')")
    link = machine.link("demo-uplink")
    assert link is not None
    assert link["mtu"] == base.do("tap.mtu") == 65_521


@pytest.mark.parametrize(
    ("lan", "nic", "expected"),
    [
        ("demo", "uplink", "demo-uplink"),
        ("lan.a", "up.b", "lan-a-up-b"),
        ("fifteen", "letters", "fifteen-letters"),
        (None, "uplink", "uplink0"),
        (None, "a-rather-long-name", "a-rather-l0"),
    ],
)
def test_a_device_is_named_after_lan_and_nic(machine: Machine, lan: str | None, nic: str, expected: str) -> None:
    base = machine.base(lan, "10.0.0.0/24")
    base.do(f"tap = lan.tap({nic!r})")
    assert base.do("tap.interface") == expected
    assert expected in machine.links()


def test_names_that_are_cut_differ_and_stay_the_same_from_run_to_run(machine: Machine) -> None:
    seen = []
    for _ in range(2):
        base = machine.base("a-lan-with-a-name", "10.0.0.0/24")
        seen.append(base.do("[lan.tap(name).interface for name in ('uplink-one', 'uplink-two')]"))
        assert base.end()[0] == 0
    assert seen[0] == seen[1]
    assert len(set(seen[0])) == 2
    assert all(len(name) <= LONGEST_NAME for name in seen[0])


def test_several_lans_without_a_name_have_taps_of_the_same_name(machine: Machine) -> None:
    first, second = machine.base(None, "10.0.0.0/24"), machine.base(None, "10.0.1.0/24")
    assert [each.do("lan.tap('uplink').interface") for each in (first, second)] == ["uplink0", "uplink1"]


def test_a_tap_can_be_made_inside_an_event_loop(machine: Machine) -> None:
    base = machine.base(before="import asyncio\nasync def make(): return lan.tap('uplink', nat=True).interface")
    assert base.do("asyncio.run(make())") == "demo-uplink"


@pytest.mark.parametrize("end", ["tap.close()", "lan.remove('uplink')", "lan.close()"])
def test_nothing_is_left_when_it_ends(machine: Machine, end: str) -> None:
    before = machine.state()
    base = machine.base()
    base.do("tap = lan.tap('uplink')")
    base.do(end)
    # At once: whoever closes it may make the next of that name.
    assert machine.links() == ["lo"]
    machine.becomes(before)
    base.do("tap.close()")


def test_the_same_tap_comes_again_and_again(machine: Machine) -> None:
    base = machine.base()
    for _ in range(5):
        base.do("tap = lan.tap('uplink', bridge='br0')")
        base.do("tap.close()")
    assert machine.links() == ["lo"]


def test_the_kernel_reaches_hosts_and_hosts_reach_the_kernel(machine: Machine) -> None:
    base = machine.base()
    base.do("host = lan.host('h', ['10.0.0.1', 'fd00::1'])")
    base.do("tap = lan.tap('uplink', ['10.0.0.254', 'fd00::fe'])")
    for address in ("10.0.0.1", "fd00::1"):
        assert reaches(machine, address, count=3)
    for address in ("10.0.0.254", "fd00::fe"):
        assert base.do(f"host.ping({address!r}, count=3, timeout=2).received") == 3
    neighbours = {
        each["dst"]: each.get("lladdr") for each in json.loads(machine.sh("ip -j neigh show dev demo-uplink"))
    }
    assert neighbours["10.0.0.1"] == neighbours["fd00::1"] == base.do("lan.nics['h'].mac")
    # As many as it was asked: nothing comes twice.
    assert base.do("tap.statistics().rx_datagrams") >= 12


def test_a_device_that_somebody_deletes_is_off_the_lan_and_the_others_go_on(machine: Machine) -> None:
    base = machine.base()
    base.do("a, b = lan.host('a', '10.0.0.1'), lan.host('b', '10.0.0.2')")
    base.do("tap = lan.tap('uplink', '10.0.0.254', nat=True)")
    machine.sh("ip link delete demo-uplink")
    assert support.eventually(lambda: base.do("lan.attached('uplink')") is False)
    assert base.do("a.ping('10.0.0.2', count=2, timeout=1).received") == 2
    # Its place is free: nobody has to clean up first.
    base.do("tap = lan.tap('uplink', '10.0.0.254', nat=True)")
    assert base.do("a.ping('10.0.0.254', count=2, timeout=1).received") == 2
