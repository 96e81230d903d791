"""Completion as people meet it: in bash, zsh and fish themselves, with TAB pressed."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import vnet

# vnet as a command of a folder that is first in PATH, as an installation has it.
BIN = str(Path(sys.executable).parent)
LABS = [path.stem for path in sorted((Path(__file__).parents[2] / "topologies").glob("*.yaml"))]

Ask = Callable[[str], list[str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with lab files, and a LAN called office that is up."""
    (tmp_path / "labs").mkdir()
    (tmp_path / "my labs").mkdir()
    for name in ("alpha.yaml", "notes.txt", "labs/beta.yml", "my labs/gamma.yaml"):
        (tmp_path / name).write_text("nodes: {}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path / "labs"))
    monkeypatch.setenv("TERM", "dumb")
    with vnet.Lan("office", "10.0.0.0/24") as lan:
        lan.host("alice")
        lan.host("bob")
        lan.reserve("carol")
        yield tmp_path


def shell(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is missing: apt-get install {name}")
    return found


def in_bash(line: str) -> list[str]:
    """What COMPREPLY holds when bash's own machinery has completed the line."""
    # compgen -F runs the function as TAB does; the words of the line are split by bash.
    program = f"""
        eval "$(vnet completion bash)"
        COMP_LINE={line!r} COMP_POINT={len(line)}
        eval "COMP_WORDS=({line.rstrip()})"
        [[ $COMP_LINE == *' ' ]] && COMP_WORDS+=('')
        COMP_CWORD=$(({{#COMP_WORDS[@]}} - 1))
        compopt() {{ echo "compopt $2"; }}
        _vnet vnet
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """.replace("$(({#", "$((${#")
    return run(shell("bash"), "--norc", "-c", program)


def in_fish(line: str) -> list[str]:
    program = f'vnet completion fish | source; complete -C"{line}"'
    return [each.split("\t")[0] for each in run(shell("fish"), "--no-config", "-c", program)]


def run(*command: str) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return [each for each in done.stdout.splitlines() if each]


@pytest.fixture(params=["bash", "fish"])
def ask(request: pytest.FixtureRequest, folder: Path) -> Ask:
    return {"bash": in_bash, "fish": in_fish}[request.param]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("vnet gra", {"graph"}),
        ("vnet graph --f", {"--format", "--file"}),
        ("vnet run q", {"quickstart"}),
        ("vnet run al", {"alpha.yaml"}),
        ("vnet run labs/", {"labs/beta.yml"}),
        ("vnet ping off", {"office"}),
        ("vnet ping office ", {"alice", "bob", "carol"}),
        ("vnet ping office alice b", {"bob"}),
        ("vnet stats office c", {"carol"}),
        ("vnet trace office --from ", {"alice", "bob", "carol"}),
        ("vnet graph --format ", {"text", "svg", "png", "dot", "mermaid", "json"}),
        ("vnet graph off", {"office"}),
        ("vnet completion z", {"zsh"}),
    ],
)
def test_a_shell_offers_what_can_stand_there(ask: Ask, line: str, offered: set[str]) -> None:
    assert set(ask(line)) - {"compopt filenames"} == offered


def test_verbs_are_offered_and_the_hidden_one_is_not(ask: Ask) -> None:
    offered = ask("vnet ")
    assert {"run", "up", "graph", "doctor", "completion"} <= set(offered)
    assert "_complete" not in offered


def test_a_lab_s_place_is_filled_by_shipped_labs_files_and_folders(ask: Ask) -> None:
    offered = {each.rstrip("/") for each in ask("vnet validate ") if not each.startswith("compopt")}
    assert offered == {*LABS, "alpha.yaml", "labs", "my labs"}


def test_any_file_is_offered_where_one_is_written(ask: Ask) -> None:
    offered = ask("vnet graph quickstart -o ")
    assert offered == ["compopt default"] or "notes.txt" in offered


def test_an_option_that_was_given_is_not_offered_again(ask: Ask) -> None:
    assert "--json" in ask("vnet graph --")
    assert "--json" not in ask("vnet graph --json --")


def test_nothing_is_said_where_nothing_fits(ask: Ask) -> None:
    # No such lab, no such verb, a lab that is not up.
    for line in ("vnet ping nowhere ", "vnet nonsense ", "vnet show zz"):
        assert ask(line) == []


class Terminal:
    """An interactive shell in a terminal, with completion switched on; Control-T tells what stands in the line."""

    def __init__(self, directory: Path, name: str) -> None:
        self.told = directory / "told"
        program, arguments = shell(name), {"zsh": ["-f", "-i"], "bash": ["--norc", "-i"]}[name]
        self.process, self.terminal = pty.fork()
        if self.process == 0:
            os.execv(program, [name, *arguments])
        # Under another name first, so that whoever sees the file sees all of it.
        tell = f"> {self.told}.new; mv {self.told}.new {self.told}"
        if name == "zsh":
            self.type("PS1=; autoload -Uz compinit; compinit -D -u\n")
            self.type(f'tell() {{ print -r -- "$BUFFER" {tell}; BUFFER=; }}\n')
            self.type("zle -N tell; bindkey '^T' tell; bindkey '^I' complete-word\n")
        else:
            self.type(f"""tell() {{ printf '%s\\n' "$READLINE_LINE" {tell}; READLINE_LINE=; }}\n""")
            self.type("""PS1=; bind -x '"\\C-t": tell'; bind 'set bell-style none'\n""")
        self.type(f'eval "$(vnet completion {name})"; echo rea""dy\n')
        self.until("ready")

    def type(self, keys: str) -> None:
        os.write(self.terminal, keys.encode())

    def until(self, word: str = "", *, file: Path | None = None) -> str:
        """Reads what the terminal shows until the word is there, or the file."""
        seen, deadline = "", time.monotonic() + 30
        while time.monotonic() < deadline:
            if select.select([self.terminal], [], [], 0.05)[0]:
                seen += os.read(self.terminal, 65536).decode(errors="replace")
            if (word and word in seen) or (file is not None and file.exists()):
                return seen
        raise AssertionError(f"the shell shows no {word or file}: {seen!r}")

    def listed(self, line: str, word: str) -> str:
        """What is shown once TAB was pressed behind the line, up to a word of it."""
        self.type(f"{line}\t")
        return self.until(word)

    def completed(self, line: str) -> tuple[str, str]:
        """The line once TAB was pressed behind it, and what was shown meanwhile."""
        self.told.unlink(missing_ok=True)
        self.type(f"{line}\t\x14")
        shown = self.until(file=self.told)
        return self.told.read_text().removesuffix("\n"), shown

    def close(self) -> None:
        os.close(self.terminal)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)


@pytest.fixture
def terminal(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Terminal]]:
    started: list[Terminal] = []

    def start(name: str) -> Terminal:
        started.append(Terminal(tmp_path_factory.mktemp(name), name))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_tab_completes_the_line_in_a_terminal(terminal: Callable[[str], Terminal], name: str) -> None:
    shown = terminal(name)
    for line, completed in (
        ("vnet gra", "vnet graph "),
        ("vnet run alp", "vnet run alpha.yaml "),
        # A folder is not the end of the word, and a space in a name is not one either.
        ("vnet run lab", "vnet run labs/"),
        ("vnet run my", "vnet run my\\ labs/"),
        ("vnet run my\\ labs/", "vnet run my\\ labs/gamma.yaml "),
        ("vnet ping office al", "vnet ping office alice "),
        ("vnet graph x --format=p", "vnet graph x --format=png "),
        ("vnet graph quickstart -o not", "vnet graph quickstart -o notes.txt "),
        ("vnet nonsense x", "vnet nonsense x"),
    ):
        assert shown.completed(line)[0] == completed


def test_zsh_lists_verbs_with_what_they_do(terminal: Callable[[str], Terminal]) -> None:
    # The list appears as zsh draws it, verb by verb.
    assert "graph" in terminal("zsh").listed("vnet ", "Draw a lab file or a live LAN.")


def test_a_wrong_shell_is_exit_code_2_and_one_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vnet", "completion", "zhs"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean 'zsh'?" in done.stderr


def test_candidates_never_carry_control_characters(folder: Path) -> None:
    (folder / "bad\x1b[31m.yaml").write_text("")
    (folder / "bad\nname.yaml").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "vnet", "_complete", "--", "run", "bad"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
