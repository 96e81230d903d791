"""The command line as a user meets it: what it prints, where, and its exit code."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

LABS = [path.stem for path in sorted((Path(__file__).parents[2] / "topologies").glob("*.yaml"))]
HEAD = "networks: {lan: 10.0.0.0/24}\nnodes: {alice: , bob: }\nsteps:\n"
PASSES = HEAD + "  - ping: {from: alice, to: bob}\n"
FAILS = HEAD + "  - ping: {from: alice, to: 10.0.0.77, timeout: 100ms}\n  - wait: 1ms\n"

VNET = [sys.executable, "-m", "vnet"]


@pytest.fixture(autouse=True)
def _built() -> None:
    try:
        import vnet

        assert vnet.Lan
    except (ImportError, AttributeError):
        if os.environ.get("CI"):
            pytest.fail("vnet is not built: run make")
        pytest.skip("vnet is not built: run make")


def vnet_command(*arguments: str, stdin: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*VNET, *arguments], input=stdin, capture_output=True, text=True, cwd=cwd, timeout=60, check=False
    )


def no_traceback(done: subprocess.CompletedProcess[str]) -> bool:
    return "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("name", LABS)
def test_a_shipped_lab_runs_as_it_stands_from_anywhere(tmp_path: Path, name: str) -> None:
    done = vnet_command("run", name, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    # Beside the report there are the lines of the lab's own log steps, and nothing else.
    logged = re.findall(r"^ok +\S+ +log +(.*)  \(", done.stdout, re.MULTILINE)
    assert done.stderr.splitlines() == logged
    assert "passed" in done.stdout.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_labs_lists_what_is_shipped() -> None:
    done = vnet_command("labs")
    assert [line.split()[0] for line in done.stdout.splitlines()] == LABS
    listed = json.loads(vnet_command("labs", "--json").stdout)["labs"]
    assert [lab["name"] for lab in listed] == LABS
    assert all(Path(lab["file"]).is_file() for lab in listed)


def test_a_lab_comes_from_standard_input_too() -> None:
    done = vnet_command("run", "-", stdin=PASSES)
    assert done.returncode == 0
    assert "1 passed" in done.stdout


def test_a_failed_expectation_is_exit_code_1_and_says_where(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text(FAILS)
    done = vnet_command("run", "lab.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert "expected loss 0%, found 100%" in done.stdout
    assert "lab.yaml:4" in done.stdout
    assert "1 failed, 1 skipped" in done.stdout.replace("0 passed, ", "")
    assert "1 passed, 1 failed" in vnet_command("run", "--keep-going", "lab.yaml", cwd=tmp_path).stdout


def test_a_wrong_lab_is_exit_code_2_and_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text(PASSES.replace("alice, to", "alcie, to"))
    for verb in ("run", "validate"):
        done = vnet_command(verb, "lab.yaml", cwd=tmp_path)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr == (
            "lab.yaml:4:18: steps[0].ping.from: no node is called 'alcie' (did you mean 'alice'?); "
            "the nodes are alice, bob\n"
        )


def test_errors_are_json_where_json_is_wanted(tmp_path: Path) -> None:
    done = vnet_command("run", "--json", "-", stdin="nodes: {a: }\nnetworks: {x: 10.0.0.1/24}")
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert (error["file"], error["line"], error["column"], error["key"]) == ("<stdin>", 2, 15, "networks.x")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["rum"], "No such command 'rum'. Did you mean 'run'?"),
        (["run"], "Missing argument"),
        (["run", "--sed", "1", "x"], "No such option: --sed"),
        (["run", "--seed", "x", "quickstart"], "--seed"),
        (["run", "quikstart"], "did you mean 'quickstart'?"),
        (["run", "/"], "is a directory; expected a lab file"),
        (["run", "missing.yaml"], "there is no such file"),
        (["run", "/bin/sh"], "is binary; expected a lab, which is YAML text"),
        (["run", "quickstart", "--out", "/dev/null/x"], "expected a directory"),
        (["bench", "no-such-benchmark"], "no-such-benchmark"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_one_sentence(arguments: list[str], says: str) -> None:
    done = vnet_command(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


def test_a_lab_without_steps_runs_nothing() -> None:
    done = vnet_command("run", "-", stdin=HEAD)
    assert (done.returncode, "the lab has no steps" in done.stderr) == (2, True)
    assert vnet_command("validate", "-", stdin=HEAD).returncode == 0


def test_what_the_machine_lacks_is_exit_code_3() -> None:
    lab = HEAD.replace("bob: ", "bob: {kind: process, exec: no-such-program}") + "  - wait: 1ms\n"
    done = vnet_command("run", "-", stdin=lab)
    assert done.returncode == 3
    assert "<stdin>:2: nodes.bob" in done.stderr
    assert "no-such-program" in done.stderr


def test_out_leaves_report_junit_capture_and_logs(tmp_path: Path) -> None:
    done = vnet_command("run", "quickstart", "--out", str(tmp_path / "deep" / "out"), "--json")
    assert done.returncode == 0
    out = tmp_path / "deep" / "out"
    left = ["capture.pcapng", "graph.svg", "logs", "report.json", "report.xml"]
    assert sorted(path.name for path in out.iterdir()) == left
    assert "carol" in (out / "graph.svg").read_text()
    assert json.loads(done.stdout) == json.loads((out / "report.json").read_text())
    suite = ElementTree.parse(out / "report.xml").getroot().find("testsuite")
    assert suite is not None
    assert len(suite.findall("testcase")) == len(json.loads(done.stdout)["steps"])
    assert "up as carol 10.0.0.2" in (out / "logs" / "carol.log").read_text()


def test_seed_stands_in_for_the_lab_s() -> None:
    lab = "seed: 1\n" + HEAD.replace("bob: ", "bob: {count: 60}") + "  - ping_all: {sample: 3}\n"
    reports = [
        json.loads(vnet_command("run", "-", "--json", *more, stdin=lab).stdout) for more in ([], ["--seed", "2"])
    ]
    assert [report["seed"] for report in reports] == [1, 2]


def test_validate_starts_nothing_and_counts() -> None:
    done = vnet_command("validate", "thousand-hosts")
    assert done.returncode == 0
    assert done.stdout.endswith("thousand-hosts.yaml: a valid lab (1 network, 1,000 nodes, 2 steps)\n")
    nodes = json.loads(vnet_command("validate", "--json", "thousand-hosts").stdout)["nodes"]
    assert nodes[999]["addresses"] == ["10.0.3.232"]


def test_every_verb_s_help_has_an_example() -> None:
    for verb in ([], ["run"], ["validate"], ["labs"], ["bench"]):
        done = vnet_command(*verb, "--help")
        assert done.returncode == 0
        assert f"Example: vnet {' '.join(verb)}".rstrip() in done.stdout


def test_version_is_printed() -> None:
    done = vnet_command("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("vnet 0.")


def test_a_reader_that_has_seen_enough_ends_it_silently() -> None:
    for arguments in (["labs"], ["--help"], ["run", "dual-stack"], ["run", "dual-stack", "--json"]):
        read_end, write_end = os.pipe()
        os.close(read_end)
        done = subprocess.run(
            [*VNET, *arguments], stdout=write_end, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
        os.close(write_end)
        assert (done.returncode, done.stderr) == (0, "")


def test_output_that_has_no_arrows_gets_question_marks() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*VNET, "run", "-"], input=PASSES.encode(), capture_output=True, env=environment, check=False)
    assert done.returncode == 0
    assert b"ping alice ? bob" in done.stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_run_in_good_order(tmp_path: Path, number: signal.Signals, code: int) -> None:
    mark = tmp_path / "mark"
    lab = HEAD + f"  - exec: {{command: 'echo $$ > {mark}; exec sleep 60'}}\n"
    run = subprocess.Popen([*VNET, "run", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert run.stdin is not None
    run.stdin.write(lab.encode())
    run.stdin.close()
    run.stdin = None
    deadline = time.monotonic() + 20
    while not (mark.exists() and mark.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    run.send_signal(number)
    out, error = run.communicate(timeout=20)
    assert (run.returncode, out, error) == (code, b"", b"")
    assert not Path(f"/proc/{mark.read_text().strip()}").exists()


@pytest.mark.parametrize("width", [80, 160])
def test_a_terminal_gets_a_table_that_fits(tmp_path: Path, width: int) -> None:
    (tmp_path / "lab.yaml").write_text(PASSES)
    controller, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(width), "NO_COLOR": ""}
    environment.pop("NO_COLOR")
    done = subprocess.run(
        [*VNET, "run", str(tmp_path / "lab.yaml")],
        stdout=terminal,
        stderr=subprocess.DEVNULL,
        env=environment,
        check=False,
    )
    os.close(terminal)
    shown = os.read(controller, 65536).decode()
    os.close(controller)
    assert done.returncode == 0
    for word in ("Step", "Result", "Time", "ping alice → bob", "1/1 replies", "✓", "1 passed"):
        assert word in shown
    # On a narrow one, what was expected stands below the table, with the steps that failed.
    for word in ("Expected", "loss 0%"):
        assert (word in shown) == (width == 160)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert all(len(line) <= width for line in plain.splitlines())


def test_a_defect_is_one_sentence_and_a_traceback_for_who_asks() -> None:
    code = (
        "import vnet.cli.labs, sys; vnet.cli.labs.__dict__; import vnet.lab.source as s\n"
        "def broken(): raise ZeroDivisionError('division by zero')\n"
        "s.shipped_labs = broken; sys.argv = ['vnet', 'labs']; import vnet.cli; vnet.cli.main()"
    )
    environment = {name: value for name, value in os.environ.items() if name != "VNET_TRACEBACK"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 70
    assert done.stderr == (
        "vnet: this is a defect in vnet: ZeroDivisionError: division by zero; set VNET_TRACEBACK=1 for the traceback\n"
    )
    environment["VNET_TRACEBACK"] = "1"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert "Traceback" in done.stderr


def test_import_vnet_brings_in_no_library_of_the_command_line() -> None:
    code = "import sys, vnet; print(*sorted({'typer', 'rich', 'pydantic', 'scapy', 'ruamel'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_a_lab_without_packets_does_not_load_scapy() -> None:
    code = (
        "import sys; from vnet.lab.source import load; import vnet.lab.runner; load('-'); print('scapy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=PASSES, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
