"""``vnet schema``: the lab language as JSON Schema, for editors."""

from __future__ import annotations

import json

import typer

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("schema", short_help="Print the JSON Schema of lab files, for editors.")(schema)


def schema() -> None:
    """Print the JSON Schema of lab files (draft 2020-12), with what each key means.

    An editor with the YAML language server completes and checks a lab whose first line is
    # yaml-language-server: $schema=FILE

    Example: vnet schema > lab.schema.json
    """
    from vnet.lab.schema.published import lab_schema

    print(json.dumps(lab_schema(), indent=2, ensure_ascii=False))
