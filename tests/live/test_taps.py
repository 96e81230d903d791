"""Labs with taps, on a machine that is a network namespace of the test's own: nothing of the real one is touched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from .kernels import OWN, missing
from .users import User, eventually

LAB = """\
name: taps
networks: {lan: {prefix: [10.0.0.0/24, "fd00::/64"], mtu: 1500}}
nodes:
  host: {serve: {tcp: 80, http: hello}}
  guest: {kind: netns, gateway: out}
  out:
    kind: tap
    networks: {lan: 10.0.0.254}
    gateway: true
    exec: 'ip -o link show taps-out; exec sleep 1000'
    ready: {output: mtu 1500, command: ip route get 10.0.0.1}
  real: {kind: tap, bridge: {name: br7, ports: [eth1]}}
"""
STEPS = """\
steps:
  - ping: {from: host, to: out}
  - exec: {on: out, command: 'curl --silent --show-error http://10.0.0.1/'}
    expect: {stdout: hello}
  - exec: {command: 'ip -o link show master br7'}
    expect: {stdout: {contains: [eth1, taps-real]}}
  - name: through the gateway
    exec: {on: guest, command: 'ping -c 1 -W 2 192.0.2.1'}
"""
# What the machine has: a way out, and a port that a lab may take.
MACHINE = """
ip link set lo up
ip link add eth0 type veth peer name far0
ip address add 192.0.2.1/24 dev eth0
ip link set eth0 up
ip link set far0 up
ip link add eth1 type veth peer name far1
ip link set far1 up
echo
exec sleep 1000
"""


@pytest.fixture
def machine(user: User) -> Iterator[User]:
    """Somebody at a machine of its own."""
    if (lack := missing()) is not None:
        pytest.skip(lack)
    with subprocess.Popen([*OWN, "sh", "-c", MACHINE], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        enter = ["nsenter", f"--net=/proc/{process.pid}/ns/net"]
        if os.geteuid():
            enter += [f"--user=/proc/{process.pid}/ns/user", "--preserve-credentials"]
        user.through = [*enter, "--"]
        user.write("taps.yaml", LAB)
        yield user
        if user.left():
            user.does("down", "--all")
        process.kill()


def looks(user: User) -> dict[str, str]:
    """The interfaces of the machine with the bridges that they are in, as its kernel lists them."""
    words = [*user.through, "ip", "-j", "link"]
    found = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
    return {each["ifname"]: each.get("master", "") for each in found}


def rules(user: User) -> str:
    """The machine's nftables."""
    return subprocess.run([*user.through, "nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout


def test_a_run_has_its_taps_and_gives_everything_back(machine: User) -> None:
    before = looks(machine)
    machine.write("taps.yaml", LAB + STEPS)
    report = json.loads(machine.does("run", "taps.yaml", "--json"))
    assert [step["outcome"] for step in report["steps"]] == ["passed"] * 4
    assert (looks(machine), rules(machine)) == (before, "")


def test_a_tap_lives_where_its_base_does_and_goes_with_it_when_it_is_killed(machine: User) -> None:
    before = looks(machine)
    machine.does("up", "taps.yaml")
    up = {"taps-out": "", "taps-real": "br7", "br7": "", "eth1": "br7"}
    assert looks(machine) == {**before, **up}
    assert "masquerade" in rules(machine)
    assert "mtu 1500" in machine.does("logs", "taps", "out")
    # Whoever is in another namespace than the base is taken along to it.
    inside, machine.through = machine.through, []
    if os.geteuid() == 0:
        assert "192.0.2.1" in machine.does("exec", "taps", "out", "--", "ip", "-o", "-4", "address")
    machine.through = inside
    assert "192.0.2.1" in machine.does("exec", "taps", "out", "--", "ip", "-o", "-4", "address")
    assert machine.types("ping", "taps", "guest", "out", "-c", "1").returncode == 0
    assert "pings start at a host or in a namespace" in machine.fails("ping", "taps", "out", "guest")
    (lan,) = json.loads(machine.does("ls", "--json"))["lans"]
    os.kill(lan["pid"], signal.SIGKILL)
    assert machine.nothing_is_left(2.0), machine.left()
    assert eventually(lambda: (looks(machine), rules(machine)) == (before, ""), 2.0)


def test_only_the_tap_that_differs_is_made_anew(machine: User) -> None:
    before = looks(machine)
    machine.does("up", "taps.yaml")
    machine.write("taps.yaml", LAB.replace("name: br7, ports: [eth1]", "name: br8"))
    changed = json.loads(machine.does("up", "taps.yaml", "--json"))["changed"]["nodes"]
    assert changed == {"added": [], "removed": [], "changed": ["real"], "restarted": []}
    assert looks(machine) == {**before, "taps-out": "", "taps-real": "br8", "br8": ""}
    machine.write("taps.yaml", LAB[: LAB.index("  real:")])
    machine.does("up", "taps.yaml")
    assert looks(machine) == {**before, "taps-out": ""}


def test_a_lab_whose_taps_cannot_all_be_made_is_one_sentence_and_gone(machine: User) -> None:
    before = looks(machine)
    machine.write("taps.yaml", LAB.replace("[eth1]", "[eth9]"))
    said = machine.fails("up", "taps.yaml", code=3)
    assert said.startswith("vnet: taps.yaml:12: nodes.real: no interface named 'eth9' is here")
    machine.write("taps.yaml", LAB.replace("  real:", "  more: {kind: tap, interface: eth0}\n  real:"))
    said = machine.fails("up", "taps.yaml", code=2)
    assert said.startswith("vnet: taps.yaml:12: nodes.more: an interface named 'eth0' is ")
    assert machine.nothing_is_left()
    assert (looks(machine), rules(machine)) == (before, "")


def test_without_privilege_a_tap_is_refused_with_what_provides_it(machine: User) -> None:
    if os.geteuid():
        pytest.skip("takes root, who gives privilege away")
    machine.through += ["setpriv", "--bounding-set=-all,+setfcap", "--inh-caps=-all"]
    said = machine.fails("up", "taps.yaml", code=3)
    assert "nodes.out: " in said
    assert "CAP_NET_ADMIN" in said
    machine.through = machine.through[: machine.through.index("setpriv")]
