"""What holds for every verb: help with an example, wrong use, narrow terminals, closed pipes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import typer

import vnet
from vnet.cli.app import app

VNET = [sys.executable, "-m", "vnet"]
ROOT: Any = typer.main.get_command(app)
COMMANDS: dict[str, Any] = {
    # With some, a verb has verbs of its own: vnet image ls.
    f"{name} {verb}" if verb else name: each
    for name, command in ROOT.commands.items()
    for verb, each in {"": command, **getattr(command, "commands", {})}.items()
    if not command.hidden
}
GROUPS = {name for name, command in COMMANDS.items() if hasattr(command, "commands")}
VERBS: list[str] = [name for name in COMMANDS if name not in GROUPS]

# Verbs that print nothing that a program would read as JSON: a script for a shell, a terminal of one's own, packets,
# what somebody else's command prints; and a schema, which is JSON.
WITHOUT_JSON = {"completion", "top", "scapy", "exec", "schema"}

# Answers many command lines out of one process, which has imported everything: each in a child of its own.
_SERVER = """
import json, os, sys
import vnet.cli, vnet.cli.app
for number, arguments in enumerate(json.load(sys.stdin)):
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for stream in (1, 2):
            os.dup2(os.open(f"{number}.{stream}", os.O_WRONLY | os.O_CREAT), stream)
        sys.argv = ["vnet", *arguments]
        try:
            vnet.cli.main()
        except SystemExit as end:
            code = end.code
        sys.stdout.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def run(*arguments: str, **popen: Any) -> subprocess.CompletedProcess[str]:
    popen.setdefault("stdout", subprocess.PIPE)
    command = [*VNET, *arguments]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=60, check=False, **popen
    )


def run_all(commands: dict[str, list[str]], **environment: str) -> dict[str, subprocess.CompletedProcess[str]]:
    """What comes of each of the command lines, by verb."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", _SERVER],
            input=json.dumps(list(commands.values())),
            capture_output=True,
            text=True,
            timeout=100,
            cwd=folder,
            env={**os.environ, **environment},
            check=True,
        )
        assert done.stderr == ""
        return {
            verb: subprocess.CompletedProcess(
                commands[verb], int(code), Path(folder, f"{n}.1").read_text(), Path(folder, f"{n}.2").read_text()
            )
            for n, (verb, code) in enumerate(zip(commands, done.stdout.split(), strict=True))
        }


def of_every_verb(*arguments: str, **environment: str) -> dict[str, subprocess.CompletedProcess[str]]:
    return run_all({verb: [*verb.split(), *arguments] for verb in VERBS}, **environment)


def arguments_of(verb: str) -> list[Any]:
    return [each for each in COMMANDS[verb].params if each.param_type_name == "argument"]


def test_help_has_an_example_that_uses_the_verb() -> None:
    for verb, done in of_every_verb("--help").items():
        assert (done.returncode, done.stderr) == (0, ""), verb
        assert re.search(rf"^ *Example: vnet {verb}\b", done.stdout, re.MULTILINE), verb
        # Each option is explained.
        assert not re.search(r"^  -[^ ]+( [A-Z]+)?$\n  -", done.stdout, re.MULTILINE), verb


def test_every_verb_is_in_the_list_with_what_it_does() -> None:
    listed = run("--help").stdout
    for verb in ROOT.commands:
        assert re.search(rf"^  {verb} +\w", listed, re.MULTILINE) or ROOT.commands[verb].hidden, verb
    for group in GROUPS:
        listed = run(group, "--help").stdout
        assert re.search(rf"^ *Example: vnet {group}\b", listed, re.MULTILINE), group
        for verb in COMMANDS[group].commands:
            assert re.search(rf"^  {verb} +\w", listed, re.MULTILINE), (group, verb)


def check_wrong_use(results: dict[str, subprocess.CompletedProcess[str]], says: str = "") -> None:
    assert len(results) > 5
    for verb, done in results.items():
        assert (done.returncode, done.stdout) == (2, ""), verb
        assert len(done.stderr.splitlines()) == 1, verb
        assert says in done.stderr, verb
        assert "defect" not in done.stderr, verb


def test_an_unknown_option_is_one_sentence_and_exit_code_2() -> None:
    results = of_every_verb("--no-such-option")
    # Options of exec may be its command's.
    check_wrong_use({"exec": results.pop("exec"), **dict.fromkeys("abcde", results["run"])})
    check_wrong_use(results, "--no-such-option")


def test_a_missing_argument_is_one_sentence_and_exit_code_2() -> None:
    needing = {verb: verb.split() for verb in VERBS if any(each.required for each in arguments_of(verb))}
    check_wrong_use(run_all(needing), "Missing argument")


def test_one_argument_too_many_is_one_sentence_and_exit_code_2() -> None:
    known = {verb: arguments_of(verb) for verb in VERBS}
    counted = {verb: found for verb, found in known.items() if all(each.nargs != -1 for each in found)}
    check_wrong_use(run_all({verb: [*verb.split(), *["x"] * (len(found) + 1)] for verb, found in counted.items()}))


@pytest.mark.parametrize("arguments", [[], ["no-such-verb"]], ids=str)
def test_a_verb_that_has_verbs_needs_one(arguments: list[str]) -> None:
    for group in GROUPS:
        done = run(group, *arguments)
        assert (done.returncode, done.stdout) == (2, ""), group
        assert len(done.stderr.splitlines()) == 1, group


def test_a_lab_that_is_not_there_is_one_sentence_and_exit_code_2() -> None:
    needing = {verb: [each for each in arguments_of(verb) if each.required] for verb in VERBS}
    check_wrong_use(
        run_all({verb: [*verb.split(), *["no-such-thing"] * len(found)] for verb, found in needing.items() if found})
    )


def test_every_verb_that_prints_has_json() -> None:
    for verb in VERBS:
        options = {name for each in COMMANDS[verb].params for name in each.opts}
        assert ("--json" in options) or verb in WITHOUT_JSON, verb


@pytest.mark.parametrize(
    "arguments",
    [["labs"], ["ls"], ["image", "ls"], ["doctor"], ["validate", "quickstart"], ["graph", "quickstart"],
     ["stats", "office"], ["graph", "office"]],
    ids=" ".join,
)  # fmt: skip
def test_json_has_a_version_and_nothing_around_it(arguments: list[str], named: vnet.Lan) -> None:
    done = run(*arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["format"] == 1


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"COLUMNS": "20"}, {"NO_COLOR": "1"}, {"TERM": ""}], ids=str)
def test_help_needs_neither_colour_nor_width(environment: dict[str, str]) -> None:
    for verb, done in of_every_verb("--help", **environment).items():
        assert (done.returncode, done.stderr) == (0, ""), verb
        assert "\x1b" not in done.stdout, verb
        assert "Example:" in " ".join(done.stdout.split()), verb


@pytest.mark.parametrize(
    "arguments",
    [["labs"], ["ls"], ["doctor"], ["graph", "dual-stack"], ["graph", "dual-stack", "-f", "svg"], ["completion", "zsh"],
     ["validate", "dual-stack"], ["stats", "office"], ["run", "dual-stack"]],
    ids=" ".join,
)  # fmt: skip
def test_a_reader_that_has_gone_is_no_error(arguments: list[str], named: vnet.Lan) -> None:
    read, write = os.pipe()
    os.close(read)
    done = run(*arguments, stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "arguments", [["labs"], ["ls"], ["doctor"], ["graph", "dual-stack"], ["stats", "office"]], ids=" ".join
)
@pytest.mark.parametrize("closed", [1, 2])
def test_a_closed_descriptor_is_no_defect(arguments: list[str], closed: int, named: vnet.Lan, tmp_path: Path) -> None:
    # As `vnet labs >&-` in a shell; the other stream goes to a file.
    command = " ".join([*VNET, *arguments])
    log = tmp_path / "log"
    other = 3 - closed
    done = subprocess.run(["sh", "-c", f"{command} {other}>{log} {closed}>&-"], timeout=60, check=False)
    assert done.returncode == 0
    assert "Traceback" not in log.read_text()
    assert "defect" not in log.read_text()
