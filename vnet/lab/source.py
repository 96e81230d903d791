"""Where a lab comes from: a file, the name of a lab that is shipped with vnet, or standard input."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vnet.errors import LabError
from vnet.lab.plan import Lab
from vnet.lab.planner import default_lab_name, plan_lab
from vnet.lab.tree import did_you_mean, read_yaml

__all__ = ["Source", "load", "open_source", "plan", "shipped_labs"]

SUFFIXES = (".yaml", ".yml")
# A lab of 4,000 nodes, one line each, has a tenth of this.
LARGEST_FILE = 4 << 20


@dataclass(frozen=True)
class Source:
    """The text of a lab file.

    Attributes:
        file: its name for messages, ``<stdin>`` for standard input.
        text: what it holds.
        directory: where relative file names and commands of the lab begin.
        name: the LAN's name where the lab says none.
    """

    file: str
    text: str
    directory: Path
    name: str


def shipped_labs() -> Mapping[str, Path]:
    """The labs that come with vnet, by name, in alphabetical order."""
    folder = Path(__file__).resolve().parent.parent / "topologies"
    if not folder.is_dir():
        return {}
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix in SUFFIXES}


def describe(path: Path) -> str:
    """The first line of a lab file, which says what it shows."""
    with path.open(encoding="utf-8") as file:
        return file.readline().lstrip("# ").strip()


def load(given: str, *, seed: int | None = None) -> Lab:
    """Read a lab and work out what it means.

    Args:
        given: a path, the name of a shipped lab, or ``-`` for standard input.
        seed: stands in for the lab's own.

    Raises:
        LabError: there is no such lab, or it is wrong.
    """
    return plan(open_source(given), seed=seed)


def plan(source: Source, *, seed: int | None = None) -> Lab:
    """Work out what the text of a lab means; ``seed`` stands in for its own.

    Raises:
        LabError: it is wrong.
    """
    tree = read_yaml(source.text, source.file)
    return plan_lab(tree, directory=source.directory, default_name=source.name, seed=seed)


def open_source(given: str) -> Source:
    """Find a lab and read its text.

    Raises:
        LabError: there is no such lab, or it cannot be read as text.
    """
    if given == "-":
        try:
            Path.cwd()
        except FileNotFoundError:
            gone = "the current directory, where its commands would begin, is gone"
            raise LabError(gone, file="<stdin>") from None
        return Source("<stdin>", _text(sys.stdin.buffer.read(LARGEST_FILE + 1), "<stdin>"), Path.cwd(), "lab")
    path, labs = Path(given), shipped_labs()
    # A folder that happens to bear a shipped lab's name does not hide the lab.
    if given in labs and not path.is_file():
        path = labs[given]
        given = str(path)  # so that a message about it leads to the file
    return Source(given, _text(_bytes(path, given), given), path.resolve().parent, default_lab_name(path.stem))


def _bytes(path: Path, given: str) -> bytes:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise LabError("is a directory; expected a lab file", file=given)
        with path.open("rb") as file:
            return file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise _missing(path, given) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise LabError(f"cannot be read: {reason.lower()}", file=given) from None


def _missing(path: Path, given: str) -> LabError:
    labs = shipped_labs()
    if os.sep not in given and path.suffix not in SUFFIXES:
        known = ", ".join(labs)
        close = did_you_mean(given, labs)
        return LabError(f"there is no such file, and no lab of that name{close}; the labs are {known}", file=given)
    close = ""
    if path.parent.is_dir():
        siblings = [entry.name for entry in path.parent.iterdir() if entry.suffix in SUFFIXES]
        close = did_you_mean(path.name, sorted(siblings))
    return LabError(f"there is no such file{close}", file=given)


def _text(data: bytes, given: str) -> str:
    if len(data) > LARGEST_FILE:
        raise LabError(f"is over {LARGEST_FILE >> 20} MiB; expected a lab file", file=given)
    if b"\0" in data:
        raise LabError("is binary; expected a lab, which is YAML text", file=given)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise LabError(f"is not UTF-8 text (line {line}); expected a lab, which is YAML text", file=given) from None
