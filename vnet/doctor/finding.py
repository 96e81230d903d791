"""One thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Finding", "State"]


class State(Enum):
    """What was found."""

    OK = "ok"
    LIMITED = "limited"
    """It is there and does not do for everything."""
    MISSING = "missing"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        topic: what it is for, the heading that it stands under.
        name: what was looked at.
        state: what was found.
        found: the same in words.
        why: what it matters for.
        remedy: the command that provides what is missing, or a sentence where no command does; empty where all is well.
        needed: whether vnet runs nothing at all without it.
    """

    topic: str
    name: str
    state: State
    found: str
    why: str
    remedy: str = ""
    needed: bool = False
