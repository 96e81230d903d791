"""A TAP in a bridge: what is behind the bridge and what is on the LAN speak to each other."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from .machines import Base, Machine, reaches


def _behind(machine: Machine, another: Callable[[], Machine], name: str = "eth1") -> Machine:
    """Another machine at the end of a cable from the interface `name`; it is 10.0.0.50 and fd00::50."""
    other = another()
    machine.join(other, name, "eth0")
    other.sh("ip address add 10.0.0.50/24 dev eth0; ip address add fd00::50/64 dev eth0 nodad; ip link set eth0 up")
    return other


def _bridge_of(machine: Machine, name: str) -> str | None:
    link = machine.link(name)
    assert link is not None, f"there is no interface {name}"
    return link.get("master")


def test_a_bridge_that_is_not_there_is_made_plain_and_quick(machine: Machine) -> None:
    base = machine.base()
    base.do("tap = lan.tap('uplink', ['10.0.0.254', 'fd00::fe'], bridge='br0')")
    bridge = machine.link("br0")
    assert bridge is not None
    assert bridge["linkinfo"]["info_kind"] == "bridge"
    said = bridge["linkinfo"]["info_data"]
    assert (said["stp_state"], said["forward_delay"], said["vlan_filtering"]) == (0, 0, 0)
    assert "UP" in bridge["flags"]
    assert bridge["address"] == base.do("tap.mac")
    assert _bridge_of(machine, "demo-uplink") == "br0"
    # What the NIC has, the bridge has; a port has none.
    addresses = machine.addresses("br0")
    assert addresses.pop("10.0.0.254") == 24
    assert addresses.pop("fd00::fe") == 64
    assert machine.addresses("demo-uplink") == {}
    ports = json.loads(machine.sh("bridge -j link"))
    assert [(port["ifname"], port["state"]) for port in ports] == [("demo-uplink", "forwarding")]


def test_its_address_is_the_same_from_run_to_run(machine: Machine) -> None:
    seen = set()
    for _ in range(2):
        base = machine.base()
        base.do("tap = lan.tap('uplink', bridge='br0')")
        link = machine.link("br0")
        assert link is not None
        seen.add(link["address"])
        base.end()
    assert len(seen) == 1


def test_a_bridge_that_is_there_is_used_and_stays(machine: Machine, another: Callable[[], Machine]) -> None:
    _behind(machine, another)
    machine.sh("ip link add br0 type bridge; ip link set eth1 master br0 up; ip address add 192.0.2.1/24 dev br0")
    before = machine.state()
    base = machine.base()
    base.do("tap = lan.tap('uplink', '10.0.0.254', bridge='br0')")
    assert _bridge_of(machine, "demo-uplink") == "br0"
    assert machine.addresses("br0")["10.0.0.254"] == 24
    # It keeps the address that others know, though a new port has another.
    assert machine.state()["links"]["br0"][0] == before["links"]["br0"][0] == base.do("tap.mac")
    base.do("tap.close()")
    machine.becomes(before)


def test_a_bridge_that_has_the_address_is_known_by_it_and_keeps_it(machine: Machine) -> None:
    machine.sh(
        "ip link add br0 up type bridge; ip address add 10.0.0.254/24 dev br0; ip address add fd00::fe/64 dev br0 nodad"
    )
    before = machine.state()
    base = machine.base()
    base.do("tap = lan.tap('uplink', ['10.0.0.254', 'fd00::fe'], bridge='br0')")
    base.do("host = lan.host('h', ['10.0.0.1', 'fd00::1'])")
    for address in ("10.0.0.254", "fd00::fe"):
        assert base.do(f"host.ping({address!r}, count=2, timeout=2).received") == 2
    base.do("tap.close()")
    machine.becomes(before)


def test_other_interfaces_are_put_into_it_for_as_long_as_the_lab_lasts(
    machine: Machine, another: Callable[[], Machine]
) -> None:
    for name in ("eth1", "eth2", "eth3"):
        _behind(machine, another, name)
    # One in use, one of another bridge, one that is down.
    machine.sh("ip link set eth1 up; ip link add br9 up type bridge; ip link set eth2 master br9 up")
    before = machine.state()
    base = machine.base()
    base.do("tap = lan.tap('uplink', bridge='br0', ports=['eth1', 'eth2', 'eth3'])")
    ports = {each["ifname"]: (each["master"], each["state"]) for each in json.loads(machine.sh("bridge -j link"))}
    assert ports == dict.fromkeys(("eth1", "eth2", "eth3", "demo-uplink"), ("br0", "forwarding"))
    assert base.do("tap.ports") == ["eth1", "eth2", "eth3"]
    base.do("tap.close()")
    machine.becomes(before)


@pytest.fixture
def bridged(machine: Machine, another: Callable[[], Machine]) -> tuple[Base, Machine, Machine]:
    """A base whose LAN is bridged to another machine: 10.0.0.50 is behind the bridge, 10.0.0.254 the bridge's own."""
    other = _behind(machine, another)
    base = machine.base()
    base.do("tap = lan.tap('uplink', ['10.0.0.254', 'fd00::fe'], bridge='br0', ports=['eth1'])")
    base.do("host = lan.host('h', ['10.0.0.1', 'fd00::1'])")
    base.do("guest = lan.netns('g', ['10.0.0.2', 'fd00::2'])")
    return base, machine, other


HERE = {"host": ("10.0.0.1", "fd00::1"), "netns": ("10.0.0.2", "fd00::2")}


def test_what_is_behind_the_bridge_reaches_all_on_the_lan(bridged: tuple[Base, Machine, Machine]) -> None:
    _, machine, other = bridged
    for address in (*HERE["host"], *HERE["netns"], "10.0.0.254", "fd00::fe"):
        assert reaches(other, address, count=3), address
    for address in (*HERE["host"], *HERE["netns"], "10.0.0.50", "fd00::50"):
        assert reaches(machine, address, count=3), address


def test_all_on_the_lan_reach_what_is_behind_the_bridge_unasked(bridged: tuple[Base, Machine, Machine]) -> None:
    # Nothing behind it has spoken first: who has the address is asked there.
    base, _, other = bridged
    for address in ("10.0.0.50", "fd00::50", "10.0.0.254", "fd00::fe"):
        assert base.do(f"host.ping({address!r}, count=3, timeout=2).received") == 3, address
        ping = f"guest.run(['ping', '-n', '-c', '3', '-i', '0.01', '-W', '2', {address!r}], capture_output=True)"
        assert base.do(f"{ping}.returncode") == 0, address
    # Those whom the machine behind the bridge knows now are those of the LAN, by their own MACs.
    known = {each["dst"]: each.get("lladdr") for each in json.loads(other.sh("ip -j neigh show dev eth0"))}
    assert known["10.0.0.1"] == base.do("lan.nics['h'].mac")
    assert known["10.0.0.2"] == base.do("guest.mac")


def test_arping_finds_on_each_side_who_is_on_the_other(bridged: tuple[Base, Machine, Machine]) -> None:
    base, _, other = bridged
    for address, nic in (("10.0.0.1", "h"), ("10.0.0.2", "g")):
        text = other.sh(f"arping -c 1 -I eth0 {address}")
        assert f"[{base.do(f'lan.nics[{nic!r}].mac')}]".upper() in text.upper()
    # Nobody has it: nobody says so.
    assert other.try_sh("arping -c 1 -w 1 -I eth0 10.0.0.99")[0] == 1
    found = base.do(
        "guest.run(['arping', '-c', '1', '-I', 'eth0', '10.0.0.50'], capture_output=True, text=True).stdout"
    )
    assert "Received 1 response" in found


def test_a_stream_into_the_lan_arrives_whole(bridged: tuple[Base, Machine, Machine]) -> None:
    base, _, other = bridged
    base.do(
        "server = guest.popen(['socat', '-u', 'TCP-LISTEN:5000', 'SYSTEM:sha256sum'], stdout=-1, text=True); "
        "import time; time.sleep(0.3)"
    )
    sent = other.sh(
        "big=/dev/shm/hostside.$$; head -c 20000000 /dev/urandom > $big; sha256sum < $big;"
        "socat -u OPEN:$big TCP:10.0.0.2:5000; rm $big"
    )
    assert base.do("server.communicate(timeout=20)[0]") == sent


def test_a_bridge_that_somebody_deletes_takes_the_lan_s_way_out_and_nothing_else(
    bridged: tuple[Base, Machine, Machine],
) -> None:
    base, machine, other = bridged
    assert reaches(other, "10.0.0.2")
    machine.sh("ip link delete br0")
    assert base.do("host.ping('10.0.0.2', count=3, timeout=2).received") == 3
    # The next of that name is somebody else's.
    machine.sh("ip link add br0 type bridge")
    before = machine.link("br0")
    base.do("tap.close()")
    after = machine.link("br0")
    assert before is not None
    assert after is not None
    assert after["ifindex"] == before["ifindex"]
    assert base.do("host.ping('10.0.0.2', count=3, timeout=2).received") == 3
