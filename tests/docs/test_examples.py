"""What the README and the pages in docs/ show is so: their programs, commands, labs and links."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pages import PAGES, ROOT, Block, blocks, files, named

SHELLS = ("console", "sh", "bash", "shell")

# `make` as the test may call it: what is built stays as it is, and files land in the test's directory.
MAKE = f"make --no-print-directory --directory={shlex.quote(str(ROOT))} --assume-old=.venv/.built"

# Commands that cannot run inside a test, and what runs instead.
STAND_INS = {
    "make run": f'{MAKE} OUT="$PWD/out/quickstart" run',
    "make test": f"{MAKE} --dry-run test",  # this is it
    "make check": f"{MAKE} --dry-run check",
    "make bench": f"{MAKE} --dry-run bench",
    "make soak": f"{MAKE} --dry-run soak",
    "make help": f"{MAKE} help",
    "pip install .": f"test -f {shlex.quote(str(ROOT / 'tests/packaging/test_installing.py'))}",
    "vnet bench": "vnet bench --quick stream_64B",
}

# Pages whose commands change the network of the machine, and the script that gives them one to change.
MACHINES = {"docs/bridging.md": ROOT / "tests/docs/machine_to_bridge.sh"}


def pages_with(*languages: str) -> list[object]:
    return [pytest.param(page, id=named(page)) for page in PAGES if parts(page, *languages)]


def parts(page: Path, *languages: str) -> list[Block]:
    """The page's blocks in these languages that are no files."""
    return [block for block in blocks(page, *languages) if not block.file]


def run(*command: str, directory: Path, text: str | None = None) -> None:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    done = subprocess.run(
        command,
        cwd=directory,
        input=text or "",
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, f"{done.returncode}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", pages_with("python"))
def test_the_programs_of_a_page_run_one_after_the_other(page: Path, tmp_path: Path) -> None:
    # Blank lines in between, so that a traceback bears the page's line numbers.
    program = ""
    for block in parts(page, "python"):
        program += "\n" * (block.line - 1 - program.count("\n")) + block.text
    file = tmp_path / "example.py"
    file.write_text(program, encoding="utf-8")
    run(sys.executable, "-W", "error", str(file), directory=tmp_path)


@pytest.mark.parametrize("page", pages_with(*SHELLS))
def test_the_commands_of_a_page_run_one_after_the_other(page: Path, tmp_path: Path) -> None:
    commands = [command for block in blocks(page, *SHELLS) for command in block.commands]
    assert commands, f"{named(page)}: commands begin with '$ '; what nobody types is ```text"
    shown = files(page)
    for block in shown:
        (tmp_path / block.file).write_text(block.text, encoding="utf-8")
        others = [each.text for each in shown if each is not block]
        name = Path(block.file).stem if block.language == "python" else block.file
        assert any(name in each for each in [*commands, *others]), f"{named(page)}: nothing uses {block.file}"
    if any(command.startswith("tshark ") for command in commands) and shutil.which("tshark") is None:
        pytest.skip("tshark is missing: apt-get install tshark")
    script = "\n".join(STAND_INS.get(command.split("   #")[0].strip(), command) for command in commands)
    machine = ("sh", str(MACHINES[named(page)])) if named(page) in MACHINES else ()
    if machine and os.geteuid() != 0:
        pytest.skip(f"{named(page)} takes root: its commands make interfaces")
    run(*machine, "bash", "-euo", "pipefail", "-c", script, directory=tmp_path)


@pytest.mark.parametrize("page", pages_with("yaml"))
def test_the_labs_of_a_page_run(page: Path) -> None:
    for block in parts(page, "yaml"):
        if not re.search(r"^nodes:", block.text, re.MULTILINE):
            continue  # a part of a lab
        verb = "run" if re.search(r"^steps:", block.text, re.MULTILINE) else "validate"
        # In a directory of the checkout, as a shipped lab: its programs are beside it.
        run(sys.executable, "-m", "vnet", verb, "-", directory=ROOT / "topologies", text=block.text)


@pytest.mark.parametrize("page", [pytest.param(page, id=named(page)) for page in [*PAGES, ROOT / "CHANGELOG.md"]])
def test_links_lead_to_files_and_headings_that_are_there(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, heading = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), f"{named(page)} leads to {target}"
        if heading:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", each).strip().lower().replace(" ", "-") for each in headings}
            assert heading in anchors, f"{named(page)} leads to {target}"


def test_the_readme_is_short_and_the_list_of_pages_leads_to_every_page() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 230
    assert "](docs/README.md)" in text
    pages = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in pages, page.name
