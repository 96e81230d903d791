"""vnet graph as people type it."""

from __future__ import annotations

import json
import os
import pty
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
import support

import vnet

VNET = [sys.executable, "-m", "vnet"]


def graph(*arguments: str, **run: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*VNET, "graph", *arguments], capture_output=True, timeout=60, check=False, **run)  # type: ignore[call-overload,no-any-return]


def test_without_o_a_tree_is_printed() -> None:
    done = graph("quickstart")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().splitlines()[:3] == [
        "quickstart",
        "└─ lan  10.0.0.0/24 fd00::/64",
        "   ├─ alice  host     10.0.0.1  fd00::1",
    ]


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("x.svg", b"<?xml"),
        ("x.PNG", b"\x89PNG\r\n"),
        ("x.dot", b'graph "quickstart"'),
        ("x.gv", b'graph "quickstart"'),
        ("x.mermaid", b"flowchart"),
        ("x.mmd", b"flowchart"),
        ("x.txt", b"quickstart\n"),
        ("x.json", b'{\n  "format": 1'),
    ],
)
def test_the_suffix_says_the_format(tmp_path: Path, name: str, begins: bytes) -> None:
    done = graph("quickstart", "-o", name, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert (tmp_path / name).read_bytes().startswith(begins)
    assert os.listdir(tmp_path) == [name]
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_format_goes_before_the_suffix_and_to_standard_output() -> None:
    assert graph("quickstart", "--format", "svg").stdout.startswith(b"<?xml")
    assert graph("quickstart", "--format", "png").stdout.startswith(b"\x89PNG")
    assert graph("quickstart", "-o", "/dev/stdout", "-f", "mermaid").stdout.startswith(b"flowchart")
    assert json.loads(graph("quickstart", "--json").stdout)["name"] == "quickstart"


def test_a_lab_comes_from_standard_input_too() -> None:
    done = graph("-", input=b"networks: {lan: 10.0.0.0/24}\nnodes: {alice: }\n")
    assert "alice" in done.stdout.decode()


def test_a_thousand_hosts_are_one_line_and_a_thousand_with_all() -> None:
    assert len(graph("thousand-hosts").stdout.splitlines()) == 3
    assert len(graph("thousand-hosts", "--all").stdout.splitlines()) == 1002


def test_a_live_lan_shows_what_is_up(named: vnet.Lan) -> None:
    named.host("alice")
    named.reserve("carol")
    nodes = {each["name"]: each["state"] for each in json.loads(graph("office", "--json").stdout)["nodes"]}
    assert nodes == {"alice": "up", "carol": "down"}
    with vnet.attach("office", "carol"):
        assert graph("office").stdout.decode().count(" up ") == 2


def test_a_live_lan_comes_before_a_shipped_lab_of_its_name(tmp_path: Path) -> None:
    with vnet.Lan("quickstart", "10.9.0.0/24") as lan:
        lan.host("lively")
        assert b"lively" in graph("quickstart").stdout
        assert b"lively" in graph("quickstart", "--live").stdout
        assert b"alice" in graph("quickstart", "--file").stdout
        # Another lab's file is not meant by that name.
        assert b"ada" in graph("dual-stack").stdout


def test_a_name_that_is_a_file_and_a_live_lan_is_for_the_user_to_settle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "office").write_text("networks: {desk: 10.0.0.0/24}\nnodes: {ada: {}}\n")
    monkeypatch.chdir(tmp_path)
    with vnet.Lan("office", "10.9.0.0/24") as lan:
        lan.host("lively")
        done = graph("office")
        assert (done.returncode, done.stdout) == (2, b"")
        assert b"vnet graph --live office draws the LAN" in done.stderr
        assert b"lively" in graph("office", "--live").stdout
        assert b"ada" in graph("office", "--file").stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["quickstart", "-o", "x.pdf"], "the suffix '.pdf' says no format; known are .svg, .png, .dot"),
        (["quickstart", "-o", "picture"], "no suffix says the format"),
        (["quickstart", "-f", "sgv"], "did you mean 'svg'?"),
        (["quickstart", "--json", "-f", "svg"], "exclude each other"),
        (["quickstart", "--live", "--file"], "exclude each other"),
        (["quickstart", "-o", "no/such/folder.svg"], "no such file or directory"),
        (["quickstart", "-o", "/dev/full", "-f", "svg"], "no space left on device"),
        (["quikstart"], "did you mean 'quickstart'?"),
        (["missing.yaml"], "there is no such file"),
        (["../nonsense"], "there is no such file"),
        (["quickstart", "--live"], "quickstart"),
        ([""], "is no file, no lab that comes with vnet and no live LAN"),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_code_2(arguments: list[str], says: str, tmp_path: Path) -> None:
    done = graph(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")
    assert says in done.stderr.decode()
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_cannot_be_written_leaves_the_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "x.svg").write_text("earlier")
    done = graph("missing.yaml", "-o", "x.svg", cwd=tmp_path)
    assert done.returncode == 2
    assert (tmp_path / "x.svg").read_text() == "earlier"


def test_a_full_disk_behind_standard_output_is_said() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*VNET, "graph", "thousand-hosts", "-f", "svg"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (2, b"vnet: standard output: no space left on device\n")


def test_a_png_is_not_poured_over_a_terminal() -> None:
    controller, terminal = pty.openpty()
    done = subprocess.run(
        [*VNET, "graph", "quickstart", "-f", "png"], stdout=terminal, stderr=subprocess.PIPE, check=False
    )
    os.close(terminal)
    os.close(controller)
    assert done.returncode == 2
    assert b"-o picture.png" in done.stderr


def test_a_base_that_is_stopped_is_said(guest: Callable[..., support.Guest]) -> None:
    base = guest("lan = vnet.Lan('office', '10.0.0.0/24'); say('up'); os.kill(os.getpid(), signal.SIGSTOP)")
    assert base.hear() == "up"
    done = graph("office")
    base.kill()
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_run_leaves_a_picture_beside_its_report(tmp_path: Path) -> None:
    done = subprocess.run([*VNET, "run", "quickstart", "--out", str(tmp_path)], capture_output=True, check=False)
    assert done.returncode == 0
    assert ElementTree.parse(tmp_path / "graph.svg").getroot().tag.endswith("svg")
