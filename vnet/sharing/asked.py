"""Reads requests to the broker: whatever a client may have put there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..errors import ProtocolError
from ..runtime import check_name

__all__ = ["flag", "names", "rights", "whole"]


def whole(request: dict[str, Any], key: str) -> int:
    """An integer that a request must have, such as a size.

    Raises:
        ProtocolError: it has none, or another thing.
        ValueError: it is negative.
    """
    value = request.get(key)
    # To Python true is a number.
    if not isinstance(value, int) or isinstance(value, bool):
        raise ProtocolError(f"{key!r} of {request['do']!r} is a whole number, not {_brief(value)}")
    if value < 0:
        raise ValueError(f"{key} is not negative, and {value} is")
    return value


def flag(request: dict[str, Any], key: str) -> bool:
    """Whether a request has ``key``; without a word, no."""
    value = request.get(key, False)
    if not isinstance(value, bool):
        raise ProtocolError(f"{key!r} of {request['do']!r} is true or false, not {_brief(value)}")
    return value


def names(request: dict[str, Any], key: str, default: list[str] | None = None) -> list[str]:
    """The names of guests that a request has.

    Raises:
        ProtocolError: there are none and no default, or it is no list of texts.
        ValueError: one of them cannot be a guest's name.
    """
    value = request.get(key, default)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ProtocolError(f"{key!r} of {request['do']!r} is a list of guests' names, not {_brief(value)}")
    return [check_name("guest", each) for each in value]


def rights(guests: Iterable[str], readonly: Iterable[str]) -> dict[str, bool]:
    """Whether each of the guests that have something may write to it; those of ``readonly`` need not be named twice."""
    return {**dict.fromkeys(guests, True), **dict.fromkeys(readonly, False)}


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
