"""What cannot be: one sentence that says what, and nothing left of it."""

from __future__ import annotations

import pytest

from .machines import Machine

_WITHOUT_PRIVILEGE = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")


def _after(script: str) -> tuple[str, ...]:
    """Words that change what a process sees of the machine's files."""
    return ("unshare", "--mount", "sh", "-euc", f'{script}; exec "$@"', "sh")


MISTAKES = [
    (
        "lan.tap('uplink', interface='sixteen-letters-')",
        "ValueError",
        "'sixteen-letters-' cannot name an interface: it is longer than 15 characters",
    ),
    ("lan.tap('uplink', interface='a/b')", "ValueError", "'a/b' cannot name an interface"),
    ("lan.tap('uplink', interface='')", "ValueError", "'' cannot name an interface"),
    ("lan.tap('uplink', interface='up%d')", "ValueError", "'up%d' cannot name an interface"),
    ("lan.tap('uplink', bridge='all')", "ValueError", "'all' cannot name an interface"),
    ("lan.tap('uplink', interface=7)", "TypeError", "an interface's name is a string, not int"),
    ("lan.tap('uplink', bridge='br0', ports='eth1')", "TypeError", "ports are a list of interfaces' names"),
    (
        "lan.tap('uplink', ports=['eth1'])",
        "ValueError",
        "name the bridge that the ports eth1 are put into",
    ),
    (
        "lan.tap('uplink', bridge='br0', ports=['eth1', 'eth1'])",
        "ValueError",
        "'eth1' is named twice among interface, bridge and ports",
    ),
    (
        "lan.tap('uplink', interface='br0', bridge='br0')",
        "ValueError",
        "'br0' is named twice among interface, bridge and ports",
    ),
    (
        "lan.tap('uplink', bridge='br0', nat=True)",
        "ValueError",
        "nat needs an address of 'uplink' on its network: the others' way out",
    ),
    (
        "lan.tap('uplink', interface='eth1')",
        "NameTaken",
        "an interface named 'eth1' is there already: name another with `interface`",
    ),
    (
        "lan.tap('uplink', bridge='eth1')",
        "VnetError",
        "'eth1' is no bridge but an interface of another kind (veth)",
    ),
    (
        "lan.tap('uplink', bridge='lo')",
        "VnetError",
        "'lo' is no bridge but an interface of another kind (device)",
    ),
    (
        "lan.tap('uplink', bridge='br0', ports=['eth7'])",
        "MachineLacks",
        "no interface named 'eth7' is here to be put into bridge 'br0': `ip link` shows which there are",
    ),
    (
        "lan.tap('uplink', bridge='br0', ports=['lo'])",
        "VnetError",
        "'lo' cannot be put into bridge 'br0': Invalid argument",
    ),
    (
        "lan.tap('uplink', bridge='br0', ports=['br9'])",
        "VnetError",
        "'br9' cannot be put into bridge 'br0': Too many levels of symbolic links",
    ),
    ("lan.tap('uplink', '10.9.9.9')", "AddressOutside", "10.9.9.9 is outside network 'lan' (192.0.2.0/24)"),
    ("lan.tap('uplink', [])", "AddressError", "a NIC has at least one address"),
    ("lan.tap('up link')", "ValueError", None),
    ("lan.tap('host')", "NameTaken", "a NIC named 'host' is on the LAN already"),
]


def test_a_mistake_is_one_sentence_and_changes_nothing(machine: Machine) -> None:
    machine.sh("ip link add name eth1 type veth peer name far1; ip link add br9 type bridge")
    before = machine.state()
    base = machine.base("demo", "192.0.2.0/24")
    base.do("host = lan.host('host', '192.0.2.2')")
    for call, kind, sentence in MISTAKES:
        said = base.refused(call)
        assert said == (kind, sentence or said[1]), call
        machine.becomes(before)
        assert base.do("list(lan.nics)") == ["host"], call


def test_an_interface_that_carries_less_than_the_network_is_refused(machine: Machine) -> None:
    """A bridge drops what is too large for where it goes, and tells nobody."""
    machine.sh("ip link add name eth1 type veth peer name far1")
    before = machine.state()
    base = machine.base(mtu=9000)
    assert base.refused("lan.tap('uplink', bridge='br0', ports=['eth1'])") == (
        "VnetError",
        "'eth1' in bridge 'br0' carries 1500 bytes, the network 9,000: give the network `mtu: 1500`",
    )
    machine.becomes(before)


def test_a_network_is_not_bridged_into_itself(machine: Machine) -> None:
    base = machine.base()
    base.do("tap = lan.tap('one', bridge='br0')")
    assert base.refused("lan.tap('two', bridge='br0')") == (
        "ValueError",
        "network 'lan' is in bridge 'br0' by NIC 'one' already: twice makes a loop",
    )
    base.do("lan.add_network('other', '10.0.1.0/24', mtu=1500)")
    assert base.do("lan.tap('two', network='other', bridge='br0').bridge") == "br0"


def test_where_ipv6_is_off_for_new_interfaces_it_is_on_for_ours(machine: Machine) -> None:
    machine.sh("ip link add br9 type bridge; echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6")
    machine.sh("echo 1 > /proc/sys/net/ipv6/conf/br9/disable_ipv6")
    base = machine.base()
    base.do("one, two = lan.tap('one'), lan.tap('two', ['10.0.0.9', 'fd00::9'], bridge='br0')")
    assert "fd00::1" in machine.addresses("demo-one")
    assert "fd00::9" in machine.addresses("br0")
    assert base.refused("lan.tap('three', ['10.0.0.8', 'fd00::8'], bridge='br9')") == (
        "MachineLacks",
        "'br9' cannot have the address fd00::8/64, for IPv6 is off there: "
        "`sysctl -w net.ipv6.conf.br9.disable_ipv6=0` switches it on, where the kernel has IPv6",
    )


def test_without_the_privilege_the_sentence_says_what_is_missing(machine: Machine) -> None:
    base = machine.base(through=_WITHOUT_PRIVILEGE)
    for options in ("", ", nat=True", ", bridge='br0'"):
        kind, sentence = base.refused(f"lan.tap('uplink', '10.0.0.9'{options})")
        assert kind == "MachineLacks"
        assert "without CAP_NET_ADMIN in this network namespace: run it as root" in sentence
    assert machine.links() == ["lo"]


def test_without_tap_devices_the_sentence_says_what_provides_them(machine: Machine) -> None:
    base = machine.base(through=_after("mount -t tmpfs none /dev/net"))
    kind, sentence = base.refused("lan.tap('uplink')")
    assert kind == "MachineLacks"
    assert sentence.startswith("a TAP device needs /dev/net/tun")
    assert "`modprobe tun` provides it" in sentence


def test_where_settings_cannot_be_changed_nat_is_refused(machine: Machine) -> None:
    before = machine.state()
    base = machine.base(through=_after("mount --bind /proc/sys /proc/sys; mount -o remount,ro,bind /proc/sys"))
    kind, sentence = base.refused("lan.tap('uplink', nat=True)")
    assert kind == "MachineLacks"
    assert sentence.startswith("NAT needs net.ipv4.ip_forward=1, which cannot be set here (Read-only file system)")
    machine.becomes(before)
    # Where it is on already, nothing has to be changed.
    machine.sh("echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")
    assert base.do("lan.tap('uplink', nat=True).nat") is True


@pytest.mark.parametrize("number", ["EOPNOTSUPP", "ENOENT", "EINVAL", "EPROTONOSUPPORT"])
def test_a_kernel_without_nftables_is_told_apart_from_a_mistake(machine: Machine, number: str) -> None:
    base = machine.base(
        before="import errno\nfrom vnet.hostside.masquerade import Masquerade\n"
        f"def refuse(*_): raise OSError(errno.{number}, os.strerror(errno.{number}))\nMasquerade._add = refuse"
    )
    kind, sentence = base.refused("lan.tap('uplink', nat=True)")
    assert kind == "MachineLacks"
    assert "`modprobe -a nf_tables nft_chain_nat nft_masq` provides it" in sentence
    assert machine.setting("ipv4/ip_forward") == "0"


def test_two_bases_cannot_have_the_same_table(machine: Machine) -> None:
    machine.sh("nft add table inet vnet_demo_uplink")
    base = machine.base()
    assert base.refused("lan.tap('uplink', nat=True)") == (
        "NameTaken",
        "an nftables table named 'vnet_demo_uplink' is there already",
    )
    assert "vnet_demo_uplink" in machine.sh("nft list tables")


def test_a_base_whose_guardian_was_killed_goes_on(machine: Machine) -> None:
    base = machine.base("demo", "10.0.0.0/24")
    base.do("host = lan.host('h', '10.0.0.1')")
    base.do("tap = lan.tap('uplink', '10.0.0.254', bridge='br0')")
    base.do("import signal; os.kill(lan._keeper.borrowed['uplink'].lending._process.pid, signal.SIGKILL)")
    assert base.do("host.ping('10.0.0.254', timeout=2).received") == 1
    base.do("tap.close()")
    assert base.end()[0] == 0
