#!/usr/bin/env python3
"""Puts the tables of keys into docs/labs.md, as the models of the lab language say them.

A table stands between ``<!-- keys MODEL -->`` and ``<!-- end of keys -->``; the prose around it is written by hand.

    tools/lab_reference.py           writes the page
    tools/lab_reference.py --check   only says whether it is stale, by its exit code
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from vnet.lab import schema
from vnet.lab.schema.words import LEFT_OUT

PAGE = Path(__file__).resolve().parent.parent / "docs" / "labs.md"
_TABLE = re.compile(r"(<!-- keys (\w+) -->\n)(.*?)(<!-- end of keys -->\n)", re.DOTALL)
# What is said of words of the language that this version refuses.
_TO_COME = "not in this version"


def page(text: str) -> str:
    """The page with its tables as they should be."""
    return _TABLE.sub(lambda found: found[1] + table(getattr(schema, found[2])) + found[4], text)


def table(model: type[schema.Said]) -> str:
    """The table of one mapping's keys: with what holds without them, or for expectations with an example."""
    expects = model.__name__.endswith("Expect")
    lines = [f"| key | value | {'such as' if expects else 'when left out'} |", "| --- | --- | --- |"]
    for name, field in model.model_fields.items():
        name = field.alias or name
        if field.description == _TO_COME or name == "condition":
            continue
        if expects:
            last = ", ".join(f"`{written(example)}`" for example in field.examples or ())
        else:
            extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
            last = "needed" if field.is_required() else without(extra.get(LEFT_OUT))
        says = (field.description or "").replace("|", "\\|")
        lines.append(f"| `{name}` | {says} | {last} |")
    return "\n".join(lines) + "\n"


def without(left_out: object) -> str:
    """What holds without a key: words as they are, a value as a lab file writes it."""
    if left_out is None:
        return ""
    if isinstance(left_out, str) and left_out.startswith("="):
        return left_out[1:]
    return f"`{written(left_out)}`"


def written(value: object) -> str:
    """A value as a lab file writes it in one line."""
    if isinstance(value, str):
        plain = re.fullmatch(r"[\w/^\[\]+()][\w ./%^\[\]+()-]*", value) and not value.replace(".", "").isdigit()
        return value if plain else json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {written(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    return json.dumps(value)


if __name__ == "__main__":
    old = PAGE.read_text(encoding="utf-8")
    new = page(old)
    if "--check" in sys.argv[1:]:
        sys.exit(0 if new == old else f"{PAGE} is stale; run tools/lab_reference.py")
    PAGE.write_text(new, encoding="utf-8")
