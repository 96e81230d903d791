"""A TAP as its network's gateway: the LAN reaches what the machine reaches, under the machine's address."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import support

from .machines import Base, Machine, reaches

# Says at whose behest it was asked.
_WHO = "socat {0}-LISTEN:80,fork,reuseaddr SYSTEM:'echo $SOCAT_PEERADDR'"
_PEERS = {4: ("198.51.100.1", "198.51.100.2"), 6: ("2001:db8::1", "2001:db8::2")}


@pytest.fixture
def outside(machine: Machine, another: Callable[[], Machine]) -> Machine:
    """A machine beyond the base's: 198.51.100.2 and 2001:db8::2; it knows no way to the LAN."""
    other = another()
    machine.join(other, "eth0", "eth0")
    for each, at in ((machine, 1), (other, 2)):
        each.sh(
            f"ip address add 198.51.100.{at}/24 dev eth0; ip address add 2001:db8::{at}/64 dev eth0 nodad;"
            "ip link set eth0 up"
        )
    return other


def _gateway(machine: Machine, *, bridge: str | None = None) -> Base:
    base = machine.base()
    base.do(f"tap = lan.tap('gate', ['10.0.0.254', 'fd00::fe'], nat=True, bridge={bridge!r})")
    base.do("host = lan.host('h', ['10.0.0.1', 'fd00::1'])")
    base.do("guest = lan.netns('g', ['10.0.0.2', 'fd00::2'], gateway=['10.0.0.254', 'fd00::fe'])")
    base.do("import vnet.stack; stack = vnet.stack.Stack(lan.attach('p', ['10.0.0.3', 'fd00::3']))")
    return base


@pytest.mark.parametrize("bridge", [None, "br0"])
@pytest.mark.parametrize("version", [4, 6])
def test_every_kind_of_guest_reaches_the_outside_which_sees_the_machine(
    machine: Machine, outside: Machine, bridge: str | None, version: int
) -> None:
    base = _gateway(machine, bridge=bridge)
    seen_as, address = _PEERS[version]
    who = outside.start(_WHO.format(f"TCP{version}"))
    assert support.eventually(lambda: ":80 " in outside.sh("ss -Hltn"))
    assert base.do(f"host.ping({address!r}, count=3, timeout=2).received") == 3
    asked = f"'-', 'TCP{version}:' + {f'[{address}]' if version == 6 else address!r} + ':80'"
    said = base.do(f"guest.run(['socat', {asked}], capture_output=True, text=True, stdin=-3).stdout")
    assert said.strip("[]\n") in (seen_as, "2001:0db8:0000:0000:0000:0000:0000:0001")
    base.do(f"stream = stack.create_connection(({address!r}, 80), timeout=5)")
    assert base.do("stream.recv(100).decode()").strip("[]\n") == said.strip("[]\n")
    who.kill()


def test_the_table_names_the_prefixes_and_belongs_to_the_base(machine: Machine, outside: Machine) -> None:
    base = _gateway(machine)
    table, _, *rules = json.loads(machine.sh("nft -j list table inet vnet_demo_gate"))["nftables"][1:]
    assert (table["table"]["family"], table["table"]["name"]) == ("inet", "vnet_demo_gate")
    text = machine.sh("nft list ruleset")
    assert "flags owner" in text
    assert 'ip saddr 10.0.0.0/24 oifname != "demo-gate" masquerade' in text
    assert 'ip6 saddr fd00::/64 oifname != "demo-gate" masquerade' in text
    assert len(rules) == 2
    # Nobody else takes it away by mistake.
    assert machine.try_sh("nft delete table inet vnet_demo_gate")[0] != 0
    machine.sh("nft flush ruleset")
    assert base.do("host.ping('198.51.100.2', count=1, timeout=2).received") == 1
    base.do("tap.close()")
    assert machine.sh("nft list ruleset") == ""


def test_what_stays_on_the_lan_keeps_its_source(machine: Machine, outside: Machine) -> None:
    base = _gateway(machine, bridge="br0")
    who = base.do("guest.popen(['sh', '-c', \"" + _WHO.format("TCP4").replace("'", "\\'") + '"]).pid')
    assert who
    assert support.eventually(lambda: machine.try_sh("socat - TCP4:10.0.0.2:80 </dev/null")[1] == "10.0.0.254\n")
    base.do(f"os.kill({who}, 9)")


def test_without_ipv6_on_the_network_only_ipv4_is_forwarded(machine: Machine, outside: Machine) -> None:
    base = machine.base("demo", "10.0.0.0/24")
    base.do("tap = lan.tap('gate', nat=True)")
    assert machine.setting("ipv4/ip_forward") == "1"
    assert machine.setting("ipv6/conf/all/forwarding") == "0"
    assert "ip6" not in machine.sh("nft list ruleset")


def test_the_machine_still_listens_to_its_routers_and_to_none_on_the_lan(machine: Machine, outside: Machine) -> None:
    """An interface that forwards ignores router advertisements, unless it is told otherwise."""
    outside.sh("echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")
    machine.sh("ip -6 route add default via 2001:db8::2 dev eth0 proto ra expires 600")
    base = machine.base()
    base.do("tap = lan.tap('gate', ['10.0.0.254', 'fd00::fe'], nat=True)")
    assert machine.setting("ipv6/conf/eth0/accept_ra") == "2"
    assert machine.setting("ipv6/conf/demo-gate/accept_ra") == "0"
    assert "default via 2001:db8::2" in machine.sh("ip -6 route show default")
    base.do("tap.close()")
    assert machine.setting("ipv6/conf/eth0/accept_ra") == "1"


def test_forwarding_that_was_on_stays_on(machine: Machine, outside: Machine) -> None:
    machine.sh("echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")
    before = machine.state()
    base = machine.base()
    base.do("tap = lan.tap('gate', nat=True)")
    base.do("tap.close()")
    machine.becomes(before)
    assert machine.setting("ipv4/ip_forward") == "1"


def test_without_nat_nothing_leads_out(machine: Machine, outside: Machine) -> None:
    base = machine.base()
    base.do("tap = lan.tap('gate', ['10.0.0.254', 'fd00::fe'])")
    base.do("host = lan.host('h', ['10.0.0.1', 'fd00::1'])")
    assert reaches(machine, "10.0.0.1")
    assert base.do("host.ping('198.51.100.2', timeout=0.5).errors") == ["no_route"]
    assert machine.setting("ipv4/ip_forward") == "0"
    assert machine.sh("nft list ruleset") == ""


def test_a_gateway_that_left_leads_nowhere_and_another_may_come(machine: Machine, outside: Machine) -> None:
    base = machine.base("demo", "10.0.0.0/24")
    base.do("host = lan.host('h', '10.0.0.1')")
    base.do("tap = lan.tap('gate', '10.0.0.254', nat=True)")
    assert base.do("host.ping('198.51.100.2', timeout=2).received") == 1
    assert base.refused("lan.tap('second', nat=True)") == (
        "ValueError",
        "network 'lan' has a gateway already: NIC 'gate'",
    )
    base.do("tap.close()")
    assert base.do("host.ping('198.51.100.2', timeout=0.5).errors") == ["no_route"]
    base.do("tap = lan.tap('second', '10.0.0.253', nat=True)")
    assert base.do("host.ping('198.51.100.2', timeout=2).received") == 1


def test_a_gateway_whose_device_somebody_deleted_does_not_take_its_successor_with_it(
    machine: Machine, outside: Machine
) -> None:
    base = machine.base("demo", "10.0.0.0/24")
    base.do("host = lan.host('h', '10.0.0.1')")
    base.do("old = lan.tap('gate', '10.0.0.254', nat=True)")
    machine.sh("ip link delete demo-gate")
    assert support.eventually(lambda: base.do("lan.attached('gate')") is False)
    base.do("new = lan.tap('second', '10.0.0.253', nat=True)")
    base.do("old.close()")
    assert base.do("host.ping('198.51.100.2', timeout=2).received") == 1
