"""`python -m bench.stacks`, the comparison of Linux stacks, as people and programs run it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import support

_ROOT = Path(__file__).resolve().parents[2]
_CARGO = shutil.which("cargo", path=f"{os.environ.get('PATH', '')}:{Path.home()}/.cargo/bin")
_COMMAND = [sys.executable, "-m", "bench.stacks"]


@pytest.fixture
def joined(tmp_path: Path) -> list[str]:
    """The command with what both of its tests of figures say."""
    for program in ("iperf3", "ping", "unshare", "nsenter"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if os.geteuid() != 0:
        pytest.skip("without root the machine may not let namespaces be made")
    return [*_COMMAND, "--rounds", "1", "--seconds", "1", "--mtus", "1500", "--echoes", "200"]


def _run(words: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environment}
    return subprocess.run(words, capture_output=True, text=True, timeout=100, cwd=_ROOT, env=env)


def test_vnet_stands_beside_the_bare_loop_with_a_ratio_and_a_bar(joined: list[str]) -> None:
    if _CARGO is None:
        pytest.skip("cargo is not installed")
    # What `cargo test` has built of it is up to date, so this takes no time after that.
    build = [_CARGO, "build", "--locked", "--quiet", "--package", "vnet-bench", "--bin", "tap_loop"]
    subprocess.run(build, cwd=_ROOT, check=True, timeout=110, stdin=subprocess.DEVNULL)
    loop = str(_ROOT / "target" / "debug" / "tap_loop")
    done = _run([*joined, "tcp", "ping", "--peers", "vnet,loop", "--loop", loop, "--json"])
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["left_out"] == []
    assert [result["name"] for result in told["results"]] == ["tcp-1500", "ping"]
    for result, limit in zip(told["results"], ("at_least", "at_most"), strict=True):
        vnet, loop_ = result["peers"]["vnet"], result["peers"]["loop"]
        # One round, so the ratio is that of its two figures.
        assert loop_["ratio"] == pytest.approx(vnet["figures"][0] / loop_["figures"][0])
        (bar,) = (bar for bar in result["bars"] if bar["beside"] == "loop")
        assert bar["found"] == loop_["ratio"]
        assert bar["met"] == (bar["found"] >= bar[limit] if limit == "at_least" else bar["found"] <= bar[limit])


def test_a_peer_whose_program_is_missing_is_left_out_with_one_sentence(joined: list[str], tmp_path: Path) -> None:
    # A PATH with all programs of the peers that are measured, and none of the others'.
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("ip", "iperf3", "nsenter", "ping", "setpriv", "taskset", "unshare", "cat"):
        (programs / name).symlink_to(shutil.which(name) or f"/usr/bin/{name}")
    done = _run([*joined, "tcp", "--peers", "bridge,vde"], PATH=str(programs))
    assert done.returncode == 0, done.stderr
    (sentence,) = (line for line in done.stdout.splitlines() if "left out" in line)
    assert sentence == "vde is left out: vde_switch is not there; apt-get install vde2 provides it"
    (row,) = (line for line in done.stdout.splitlines() if "bridge" in line)
    assert "Gbit/s" in row


def test_many_nodes_come_up_and_go_in_every_way(joined: list[str]) -> None:
    done = _run([*joined, "start", "--peers", "vnet,vnet-api,ip-batch", "--nodes", "3", "--json"])
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["left_out"] == []
    assert {result["name"]: list(result["peers"]) for result in told["results"]} == {
        "up-3": ["vnet", "vnet-api", "ip-batch"],
        "down-3": ["vnet", "vnet-api", "ip-batch"],
    }


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_when_it_is_ended_in_the_middle(joined: list[str], tmp_path: Path, number: int) -> None:
    # The scratch directory holds VDE's sockets; TMPDIR makes it ours to look into.
    words = [*joined, "tcp", "--peers", "bridge", "--seconds", "60"]
    running = subprocess.Popen(words, cwd=_ROOT, env={**os.environ, "TMPDIR": str(tmp_path)}, stderr=subprocess.PIPE)

    def processes() -> list[str]:
        # Every process of the benchmark has the scratch directory in its environment.
        found = []
        for entry in Path("/proc").glob("[0-9]*/environ"):
            try:
                if f"VNET_BENCH_SCRATCH={tmp_path}".encode() in entry.read_bytes():
                    found.append((entry.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return found

    assert support.eventually(lambda: sum("iperf3" in words for words in processes()) >= 2, timeout=20.0)
    running.send_signal(number)
    _, complaints = running.communicate(timeout=20)
    assert running.returncode == {signal.SIGTERM: 143, signal.SIGKILL: -9, signal.SIGINT: 130}[signal.Signals(number)]
    assert support.eventually(lambda: not processes(), timeout=5.0), processes()
    assert b"Traceback" not in complaints
    # Whoever is killed outright leaves an empty directory in the temporary one.
    assert number == signal.SIGKILL or not list(tmp_path.glob("vnet-bench-*"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["tpc"], "there is no case 'tpc'"),
        (["--peers", "loop,brigde"], "there is no peer 'brigde'"),
        (["--rounds", "0"], "a whole number from 1 to 1000 is wanted, not '0'"),
        (["--seconds", "0.5"], "a whole number from 1 to 3600 is wanted, not '0.5'"),
        (["--sizes", "64,many"], "not 'many'"),
        (["--mtus", "99999"], "a whole number from 576 to 65521 is wanted"),
        (["--nodes", "-1"], "a whole number from 2 to 1000 is wanted"),
    ],
)
def test_wrong_options_are_one_sentence_and_2(words: list[str], sentence: str) -> None:
    done = _run([*_COMMAND, *words])
    assert done.returncode == 2
    assert sentence in done.stderr.splitlines()[-1]
    assert done.stdout == ""
