"""Machines that lack something: one sentence, the right code, nothing left."""

from __future__ import annotations

import subprocess
import sys

# Bytes of address space that a Python with vnet needs, and a LAN of the default size does not fit in.
ADDRESS_SPACE = 4 << 30


def limited(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Python code with little address space."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({ADDRESS_SPACE}, {ADDRESS_SPACE}))\n"
    return subprocess.run(
        [sys.executable, "-c", limit + code, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_lan_that_does_not_fit_the_address_space_says_what_to_do() -> None:
    done = limited("""
import vnet
try:
    vnet.Lan(None, "10.0.0.0/24")
except vnet.MachineLacks as error:
    print(error)
with vnet.Lan(None, "10.0.0.0/24", max_nics=64) as lan:
    print(lan.attach("a").address)
""")
    sentence, address = done.stdout.splitlines()
    assert "16.0 GiB of address space" in sentence
    assert "ulimit -v" in sentence
    assert address == "10.0.0.1"
    assert done.stderr == ""


def test_a_lab_that_does_not_fit_ends_with_code_3() -> None:
    done = limited('import sys; sys.argv = ["vnet", "run", "thousand-hosts"]; from vnet.cli import main; main()')
    assert done.returncode == 3
    assert "ulimit -v" in done.stderr
    assert "defect" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
