"""Values and errors as parts of sentences."""

from __future__ import annotations

__all__ = ["described", "plain", "short"]


def plain(error: object) -> str:
    """What msgspec says, as part of a sentence."""
    text = str(error).replace("`", "'").replace(" - at '$", " at '$")
    return text[:1].lower() + text[1:]


def short(value: object, most: int = 60) -> str:
    """A value as Python writes it, cut off where it is long."""
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= most else text[: most - 3] + "..."


def described(value: object) -> str:
    """A value and its type, for a sentence."""
    return "None" if value is None else f"{short(value)} ({type(value).__name__})"
