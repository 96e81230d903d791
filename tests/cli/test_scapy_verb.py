"""vnet scapy: scapy's console on a LAN, in a terminal as people have it, and its scripts."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import support

import vnet

VNET = [sys.executable, "-m", "vnet"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """scapy keeps its settings and its history in the user's home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def office(named: vnet.Lan) -> vnet.Lan:
    named.host("alice")
    named.host("bob")
    named.reserve("carol")
    return named


def console(*arguments: str, script: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*VNET, "scapy", *arguments], input=script or "", capture_output=True, text=True, timeout=60, check=False
    )


def processes(lan: vnet.Lan) -> list[str]:
    """The NICs of other processes that are on the LAN."""
    return [name for name, nic in lan.nics.items() if nic.kind == "process" and nic.state == "up"]


def test_an_expression_is_answered_by_the_lan(office: vnet.Lan) -> None:
    done = console("office", "-c", 'sr1(IP(dst="10.0.0.2")/ICMP(), timeout=5)[ICMP].type')
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
    assert processes(office) == []


def test_the_last_expression_is_shown_and_statements_are_run(office: vnet.Lan) -> None:
    assert console("office", "-c", "a = 20; b = 22\na + b").stdout == "42\n"
    assert console("office", "-c", "x = 1").stdout == ""


def test_a_script_comes_from_standard_input(office: vnet.Lan) -> None:
    script = (
        "print(nic.name, lan_name, nic.addresses[0], conf.iface)\nprint(sr1(IP(dst='10.0.0.1')/ICMP(), timeout=5).src)"
    )
    done = console("office", script=script)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "scapy office 10.0.0.4 scapy\n10.0.0.1\n"


def test_a_name_is_made_up_that_nobody_has(office: vnet.Lan) -> None:
    with office.attach("scapy"):
        assert console("office", "-c", "nic.name").stdout == "'scapy-2'\n"


def test_a_place_that_is_kept_can_be_taken_and_one_that_is_held_cannot(office: vnet.Lan) -> None:
    assert console("office", "carol", "-c", "nic.addresses").stdout == "('10.0.0.3', 'fd00::3')\n"
    # It is a place again, as it was before.
    assert office.nics["carol"].state == "down"
    done = console("office", "alice", "-c", "nic")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "vnet: a NIC named 'alice' is on the LAN already; without a name, vnet scapy office makes one up\n"
    )


def test_an_address_can_be_chosen(office: vnet.Lan) -> None:
    assert console("office", "-a", "10.0.0.77", "-a", "fd00::77", "-c", "nic.addresses[1]").stdout == "'fd00::77'\n"
    for address in ("10.0.0.1", "10.9.9.9", "nonsense"):
        done = console("office", "--address", address, "-c", "1")
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


def test_of_several_networks_one_is_named(office: vnet.Lan) -> None:
    office.add_network("lab", "10.7.0.0/24")
    done = console("office", "-c", "nic.addresses")
    assert done.returncode == 2
    assert "--network NAME says which" in done.stderr
    assert console("office", "--network", "lab", "-c", "nic.addresses").stdout == "('10.7.0.1',)\n"


def test_what_goes_wrong_in_a_script_is_shown_as_python_shows_it(office: vnet.Lan) -> None:
    done = console("office", script="def f():\n    1 / 0\nf()\n")
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "Traceback (most recent call last):"
    assert 'File "<stdin>", line 2, in f' in done.stderr
    # Nothing of vnet's own stands in it.
    assert "scapy_console" not in done.stderr
    assert console("office", "-c", "1 +").returncode == 1
    assert console("office", "-c", "raise SystemExit(7)").returncode == 7
    assert processes(office) == []


def test_a_lan_that_is_not_up_is_one_sentence(office: vnet.Lan) -> None:
    done = console("ofice")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "office" in done.stderr


class Terminal:
    """The console in a terminal."""

    def __init__(self) -> None:
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execvp(sys.executable, [*VNET, "scapy", "office"])
        self.shown = ""
        self.ended = False

    def type(self, keys: str) -> None:
        os.write(self.terminal, keys.encode())

    def until(self, pattern: str) -> None:
        """Reads until the terminal shows something new that matches."""
        deadline = time.monotonic() + 40
        while not re.search(pattern, self.shown):
            assert time.monotonic() < deadline, f"the console shows no {pattern}: {self.shown!r}"
            if select.select([self.terminal], [], [], 0.1)[0]:
                self.shown += os.read(self.terminal, 65536).decode(errors="replace")
        self.shown = re.split(pattern, self.shown, maxsplit=1)[-1]

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if select.select([self.terminal], [], [], 0.05)[0]:
                with contextlib.suppress(OSError):  # its end of the terminal is closed
                    os.read(self.terminal, 65536)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.ended = True
                return os.waitstatus_to_exitcode(status)
        raise AssertionError("the console does not end")

    def close(self) -> None:
        if not self.ended:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.terminal)


@pytest.fixture
def terminal(office: vnet.Lan) -> Iterator[Callable[[], Terminal]]:
    started: list[Terminal] = []

    def start() -> Terminal:
        started.append(Terminal())
        return started[-1]

    yield start
    for each in started:
        each.close()


def test_the_console_asks_the_lan_and_leaves_on_ctrl_d(office: vnet.Lan, terminal: Callable[[], Terminal]) -> None:
    shown = terminal()
    shown.until(r"NIC scapy \(10\.0\.0\.4, fd00::4\) on the LAN office is conf\.iface")
    shown.until(">>> ")
    assert processes(office) == ["scapy"]
    # Something that does not stand in what is typed, which the terminal shows, too.
    shown.type("sr1(IP(dst='10.0.0.2')/ICMP(), timeout=5, verbose=0)[IP].src.replace('.', '-')\n")
    shown.until("'10-0-0-2'")
    shown.until(">>> ")
    # Ctrl-C is for the line that one types.
    shown.type("broken(")
    shown.until(r"broken\(")
    shown.type("\x03")
    shown.until("KeyboardInterrupt")
    shown.until(">>> ")
    shown.type("lan_name.upper()\n")
    shown.until("'OFFICE'")
    shown.until(">>> ")
    shown.type("\x04")
    assert shown.wait() == 0
    assert processes(office) == []
    assert "scapy" not in office.nics


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_console_that_is_told_to_end_takes_its_nic_along(
    office: vnet.Lan, terminal: Callable[[], Terminal], number: signal.Signals
) -> None:
    shown = terminal()
    shown.until(">>> ")
    os.kill(shown.pid, number)
    assert shown.wait() == 128 + number
    # Gone, name and addresses, rather than down like that of a process that died.
    assert support.eventually(lambda: "scapy" not in office.nics)
