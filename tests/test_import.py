"""What importing vnet costs."""

from __future__ import annotations

import re
import subprocess
import sys

HEAVY = ("scapy", "pydantic", "rich", "typer", "networkx", "ruamel", "numpy", "hypothesis", "click")


def test_importing_vnet_imports_none_of_the_heavy_packages() -> None:
    program = "import sys, vnet; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not set(HEAVY) & set(loaded)


def test_making_a_lan_imports_none_of_them_either() -> None:
    program = """
import sys, vnet
with vnet.Lan(None, "10.0.0.0/24") as lan:
    a, h = lan.attach("a"), lan.host("h")
    a.send(b"")
    h.ping(h.address)
print(*sorted({name.partition('.')[0] for name in sys.modules}))
"""
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not set(HEAVY) & set(loaded)


def test_importing_vnet_takes_under_100_ms() -> None:
    """Its own share, as Python itself accounts for it: the least of five, because the machine has other work."""
    took = []
    for _ in range(5):
        command = [sys.executable, "-X", "importtime", "-c", "import vnet"]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        found = re.search(r"\|\s*(\d+) \| vnet$", report, re.MULTILINE)
        assert found
        took.append(int(found[1]) / 1000)
    assert min(took) < 100, took
