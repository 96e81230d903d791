"""Labs with taps, from the command line: their mistakes, and their end."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

import pytest
import support

from .machines import Machine

_VNET = f"{sys.executable} -m vnet"
_LAB = """
name: lab
networks:
  lan: {{prefix: [10.0.0.0/24, "fd00::/64"], mtu: 1500}}
nodes:
  alice: {{kind: host}}
  gate: {{kind: tap, networks: {{lan: [10.0.0.254, "fd00::fe"]}}, {0}}}
steps:
  - ping: {{from: alice, to: gate, count: 3}}
  - ping: {{from: alice, to: gate, count: 3, family: 6}}
  - exec: {{on: gate, command: ping -n -c 1 10.0.0.1}}
"""


def _furnish(machine: Machine) -> dict[str, Any]:
    machine.sh("ip link add name eth1 type veth peer name far1")
    return machine.state()


def _run(machine: Machine, verb: str, said: str, through: str = "") -> tuple[int, str]:
    return machine.try_sh(f"cat <<'END' | {through} {_VNET} {verb}\n{_LAB.format(said)}\nEND")


@pytest.mark.parametrize(
    "said", ["exec: sleep 60", "gateway: true", "bridge: {name: br0, ports: [eth1]}, gateway: true"]
)
def test_a_lab_with_a_tap_passes_and_leaves_nothing(machine: Machine, said: str) -> None:
    before = _furnish(machine)
    status, text = _run(machine, "run -", said)
    assert status == 0, text
    assert "3 passed" in text
    machine.becomes(before)


def test_a_lab_whose_process_is_killed_leaves_nothing(machine: Machine) -> None:
    said = "bridge: {name: br0, ports: [eth1]}, gateway: true"
    before = _furnish(machine)
    status, text = _run(machine, "up -", said)
    assert status == 0, text
    assert "br0" in machine.links()
    (found,) = json.loads(machine.sh(f"{_VNET} ls --json"))["lans"]
    os.kill(found["pid"], signal.SIGKILL)
    machine.becomes(before)
    assert support.eventually(lambda: "lab" not in machine.sh(f"{_VNET} ls"))


@pytest.mark.parametrize(
    ("verb", "said", "through", "status", "sentence"),
    [
        ("run -", "gateway: true", "setpriv --bounding-set=-net_admin --inh-caps=-net_admin", 3, "CAP_NET_ADMIN"),
        ("up -", "bridge: {name: br0, ports: [eth7]}", "", 3, "no interface named 'eth7' is here"),
        ("run -", "bridge: eth1", "", 2, "'eth1' is no bridge"),
        ("up -", "interface: far1", "", 2, "an interface named 'far1' is there already"),
        ("run -", "interface: sixteen-letters-", "", 2, "up to 15 letters"),
    ],
)
def test_a_lab_that_cannot_be_says_why_and_leaves_nothing(
    machine: Machine, verb: str, said: str, through: str, status: int, sentence: str
) -> None:
    before = _furnish(machine)
    found, text = _run(machine, verb, said, through)
    assert (found, sentence in text, "Traceback" in text) == (status, True, False), text
    machine.becomes(before)
