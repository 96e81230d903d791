"""Live LANs as interfaces of Wireshark: tshark runs our extcap program."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support import datagram, eventually

import vnet
from capture.reading import needs_tshark
from vnet import extcap


def ask(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vnet.extcap", *words], capture_output=True, text=True, timeout=30, check=False
    )


def test_every_live_lan_is_an_interface(named: vnet.Lan) -> None:
    with vnet.Lan("lab.2", "10.0.0.0/24"):
        told = ask("--extcap-interfaces", "--extcap-version=4.0").stdout.splitlines()
    assert told[0].startswith("extcap {version=")
    assert told[1:] == [
        "interface {value=vnet-lab.2}{display=vnet: lab.2, all NICs}",
        "interface {value=vnet-office}{display=vnet: office, all NICs}",
    ]


def test_without_a_live_lan_there_is_no_interface_and_no_error() -> None:
    done = ask("--extcap-interfaces")
    assert (done.returncode, done.stderr) == (0, "")
    assert "interface" not in done.stdout


def test_its_options_offer_each_nic(named: vnet.Lan) -> None:
    named.attach("alice")
    named.host("web")
    told = ask("--extcap-config", "--extcap-interface", "vnet-office").stdout
    assert "value {arg=0}{value=alice}{display=alice  10.0.0.1 fd00::1}" in told
    assert "value {arg=0}{value=web}{display=web  10.0.0.2 fd00::2}" in told
    assert "{number=101}" in ask("--extcap-dlts", "--extcap-interface", "vnet-office").stdout
    anew = ask("--extcap-config", "--extcap-reload-option", "nics", "--extcap-interface", "vnet-office").stdout
    assert [line.split("}")[1] for line in anew.splitlines()] == ["{value=alice", "{value=web"]


def test_a_filter_that_is_right_is_answered_with_nothing(named: vnet.Lan) -> None:
    words = ("--extcap-interface", "vnet-office", "--extcap-capture-filter")
    assert ask(*words, "udp port 53").stdout == ""
    assert "syntax error" in ask(*words, "udp prot").stdout


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--extcap-config", "--extcap-interface", "eth0"], "is one of --extcap-interfaces, such as vnet-office"),
        (["--extcap-config", "--extcap-interface", "vnet-gone"], "gone"),
        (["--capture", "--extcap-interface", "vnet-office"], "--capture needs --fifo"),
        (["--capture", "--fifo", "/nowhere/f", "--extcap-interface", "vnet-office"], "cannot be written"),
    ],
)
def test_what_cannot_be_is_one_sentence(named: vnet.Lan, words: list[str], why: str) -> None:
    done = ask(*words)
    assert done.returncode == 2
    assert why in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.fixture
def their_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(extcap, "folder", lambda: tmp_path / "wireshark" / "extcap")
    return tmp_path / "wireshark" / "extcap"


def test_the_launcher_comes_and_goes(their_folder: Path) -> None:
    assert extcap.installed() is None
    assert extcap.uninstall() is None
    path = extcap.install()
    assert (path, extcap.installed()) == (their_folder / "vnet", their_folder / "vnet")
    before = path.read_text()
    assert extcap.install() == path
    assert path.read_text() == before
    assert os.listdir(their_folder) == ["vnet"]
    # It runs wherever it is started, and in whatever directory.
    done = subprocess.run([path, "--extcap-interfaces"], cwd=their_folder, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("extcap {")
    assert extcap.uninstall() == path
    assert os.listdir(their_folder) == []


def test_what_is_not_ours_stays(their_folder: Path) -> None:
    their_folder.mkdir(parents=True)
    (their_folder / "vnet").write_text("#!/bin/sh\n")
    with pytest.raises(vnet.VnetError, match="is there and not ours"):
        extcap.install()
    with pytest.raises(vnet.VnetError, match="is not ours; it stays"):
        extcap.uninstall()
    assert (their_folder / "vnet").read_text() == "#!/bin/sh\n"


@needs_tshark
def test_the_folder_is_the_one_that_tshark_tells() -> None:
    told = subprocess.run(["tshark", "-G", "folders"], capture_output=True, text=True, check=True).stdout
    assert str(extcap.folder()) in told


def test_without_wireshark_the_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(vnet.MachineLacks, match="apt-get install tshark"):
        extcap.install()
    assert extcap.installed() is None


def tshark(ours: Path, *words: str) -> str:
    """What tshark says, with `ours` as its extcap folder.

    From root it takes no folder but its own (WIRESHARK_EXTCAP_DIR is for others): ours then lies over that, in a mount
    namespace that ends with it.
    """
    command, environment = ["tshark", *words], {**os.environ, "WIRESHARK_EXTCAP_DIR": str(ours)}
    if os.geteuid() == 0:
        laid = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", laid, "sh", str(ours), str(extcap.folder()), *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_tshark
def test_tshark_lists_live_lans_and_captures_from_them(
    named: vnet.Lan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = extcap.folder()
    if os.geteuid() == 0:
        # Wireshark makes its personal folder when it needs it; somewhere to lay ours over must be there.
        folder.mkdir(parents=True, exist_ok=True)
    with monkeypatch.context() as patch:
        patch.setattr(extcap, "folder", lambda: tmp_path)
        extcap.install()
    alice, bob = named.attach("alice"), named.attach("bob")
    assert "vnet-office (vnet: office, all NICs)" in tshark(tmp_path, "-D")
    stop = threading.Event()

    def send() -> None:
        while not stop.wait(0.002):
            for last in (2, 99):
                alice.send(datagram("10.0.0.1", f"10.0.0.{last}", b"\x10\x00\x00\x35\x00\x0c\x00\x00ping"))
            bob.recv_many(100)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        fields = ["-T", "fields", "-e", "frame.interface_name", "-e", "ip.dst"]
        told = tshark(tmp_path, "-i", "vnet-office", "-c", "4", "-f", "dst host 10.0.0.2", *fields)
    finally:
        stop.set()
        thread.join()
    assert sorted(told.splitlines()) == ["alice\t10.0.0.2"] * 2 + ["bob\t10.0.0.2"] * 2
    # With tshark the capture has ended.
    assert eventually(lambda: not named._captures)
