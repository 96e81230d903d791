"""What the marks of the pytest plugin say, and in one sentence what is wrong with them."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import pytest

from vnet.errors import VnetError

__all__ = ["PREFIXES", "LanSettings", "lab_settings", "lan_settings", "marked"]

PREFIXES = ("10.0.0.0/24", "fd00::/64")
"""The network of a LAN that nobody described."""

_NUMBERS = ("mtu", "seed", "max_nics", "buffer")
_LAN_KEYWORDS = (*_NUMBERS, "name", "named", "capture")
_LAB_KEYWORDS = ("seed", "capture")


@dataclass
class LanSettings:
    """A LAN as a test asks for it.

    Attributes:
        prefixes: those of its network.
        name: the very name that it has, or ``None``.
        named: it gets a name of its own, which no other test has.
        capture: it is captured; ``None`` where the ini option decides.
        options: what :class:`vnet.Lan` gets beside.
    """

    prefixes: tuple[str, ...] = PREFIXES
    name: str | None = None
    named: bool = False
    capture: bool | None = None
    options: dict[str, Any] = field(default_factory=dict)


@contextlib.contextmanager
def marked(node: pytest.Item, name: str) -> Iterator[tuple[tuple[Any, ...], Mapping[str, Any]]]:
    """The arguments of the closest mark of that name; what is wrong with them fails the test with one sentence."""
    mark = node.get_closest_marker(name)
    try:
        yield ((), {}) if mark is None else (mark.args, mark.kwargs)
    except (VnetError, ValueError, TypeError) as error:
        where = f"{node.location[0]}:{(node.location[1] or 0) + 1}"
        what = "" if str(error).startswith("@pytest.mark.") else f"@pytest.mark.{name}: "
        if mark is None:
            what = f"the fixture {name!r}: "
        raise pytest.fail.Exception(f"{where}: {what}{error}", pytrace=False) from None


def lan_settings(what: str, positional: Sequence[Any], keywords: Mapping[str, Any]) -> LanSettings:
    """Returns what the arguments of ``what`` ask for.

    Raises:
        TypeError: there is no such argument, or it is of the wrong kind.
    """
    _check_keywords(what, keywords, _LAN_KEYWORDS)
    # One list of prefixes does as well as several arguments: vnet.Lan takes a list.
    listed = len(positional) == 1 and isinstance(positional[0], list | tuple)
    prefixes = tuple(positional[0] if listed else positional)
    for prefix in prefixes:
        if not isinstance(prefix, str):
            raise TypeError(f"{what}: a prefix is text such as '10.0.0.0/24', not {prefix!r}")
    options = {}
    for name in _NUMBERS:
        if name in keywords:
            value = keywords[name]
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{what}: {name} is a whole number, not {value!r}")
            options[name] = value
    own = keywords.get("name")
    if own is not None and not isinstance(own, str):
        raise TypeError(f"{what}: name is text, not {own!r}")
    named = _flag(what, keywords, "named") or False
    if named and own is not None:
        raise TypeError(f"{what}: named=True makes a name that no other test has; leave it out, or name={own!r}")
    return LanSettings(prefixes or PREFIXES, own, named, _flag(what, keywords, "capture"), options)


def lab_settings(what: str, positional: Sequence[Any], keywords: Mapping[str, Any]) -> tuple[str, int | None, bool]:
    """Returns the lab's file or name, its seed, and whether it is captured if captures are on.

    Raises:
        TypeError: there is no such argument, or it is of the wrong kind.
    """
    _check_keywords(what, keywords, _LAB_KEYWORDS)
    if len(positional) != 1 or not isinstance(positional[0], str):
        found = f"it got {', '.join(map(repr, positional))}" if positional else f"write {what}('office.yaml')"
        raise TypeError(f"{what} takes the file of a lab, or the name of one that comes with vnet; {found}")
    seed = keywords.get("seed")
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool) or seed < 0):
        raise TypeError(f"{what}: seed is a whole number from 0 on, not {seed!r}")
    return positional[0], seed, _flag(what, keywords, "capture") is not False


def _check_keywords(what: str, keywords: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in keywords:
        if name not in known:
            _unknown(what, name, known)


def _unknown(what: str, name: str, known: Sequence[str]) -> NoReturn:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else f"; it has {', '.join(known)}"
    raise TypeError(f"{what} has no argument {name!r}{hint}")


def _flag(what: str, keywords: Mapping[str, Any], name: str) -> bool | None:
    value = keywords.get(name)
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"{what}: {name} is True or False, not {value!r}")
    return value
