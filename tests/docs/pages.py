"""The documentation as its tests see it: pages, and the blocks of code in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"^```(\w*)[ \t]*([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the number of its first line of text, and the file that it is.

    A block such as ```` ```yaml office.yaml ```` is that file for the commands of the page, which must use it.
    """

    language: str
    text: str
    line: int
    file: str = ""

    @property
    def commands(self) -> list[str]:
        """What a reader types: the lines after a prompt."""
        return [line[2:] for line in self.text.splitlines() if line.startswith("$ ")]


def blocks(page: Path, *languages: str) -> list[Block]:
    """The page's blocks in these languages, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(found[1], found[3], text.count("\n", 0, found.start(3)) + 1, found[2].strip())
        for found in _FENCE.finditer(text)
        if found[1] in languages
    ]


def files(page: Path) -> list[Block]:
    """The page's blocks that are files, in order."""
    return [block for block in blocks(page, "python", "yaml", "toml", "ini") if block.file]


def named(page: Path) -> str:
    """How a page is called in the names of tests."""
    return str(page.relative_to(ROOT))
