"""What pydantic finds wrong, as one sentence with its place in the lab file."""

from __future__ import annotations

from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from vnet.errors import LabError
from vnet.lab.tree import Key, Tree
from vnet.lab.units import shown

__all__ = ["first_mistake", "mistake"]

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
}


def mistake(message: str, *path: Key, at_key: bool = False) -> PydanticCustomError:
    """An error for a validator to raise, at ``path`` below the value in hand; at its key, or (usually) its value."""
    return PydanticCustomError("lab", "see the context", {"path": path, "at_key": at_key, "message": message})


def first_mistake(tree: Tree, found: ValidationError) -> LabError:
    """The first, in file order, of all that pydantic found."""
    errors = [_placed(tree, error) for error in found.errors(include_url=False)]
    return min(errors, key=lambda error: (error.line, error.column))


def _placed(tree: Tree, error: ErrorDetails) -> LabError:
    context = error.get("ctx", {})
    path = (*error["loc"], *context.get("path", ()))
    return tree.error(_message(error), path, at_key=bool(context.get("at_key", False)))


def _message(error: ErrorDetails) -> str:
    kind, context, found = error["type"], error.get("ctx", {}), shown(error["input"])
    if kind == "lab":
        return str(context["message"])
    if kind == "value_error":
        return str(context["error"])
    if kind == "missing":
        return f"{error['loc'][-1]!r} is missing"
    if kind in _EXPECTED:
        quotes = "; put it in quotes" if kind == "string_type" and isinstance(error["input"], (int, float)) else ""
        return f"expected {_EXPECTED[kind]}, found {found}{quotes}"
    if kind == "greater_than_equal":
        return f"expected at least {context['ge']:g}, found {found}"
    if kind in ("less_than_equal", "less_than"):
        return f"expected at most {context.get('le', context.get('lt')):g}, found {found}"
    if kind == "too_short":
        return "the list is empty; expected at least one entry"
    return f"{error['msg'][0].lower()}{error['msg'][1:]}, found {found}"
