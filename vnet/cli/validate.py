"""``vnet validate``: read a lab and everything that it names, and start nothing."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from vnet.cli.completing import complete_lab_file
from vnet.cli.run import LAB_HELP, error_as_json
from vnet.errors import VnetError

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("validate", short_help="Check a lab without starting anything.")(validate)


def validate(
    lab: Annotated[str, typer.Argument(metavar="FILE|NAME|-", help=LAB_HELP, autocompletion=complete_lab_file)],
    as_json: Annotated[bool, typer.Option("--json", help="Print networks, nodes and steps as JSON.")] = False,
) -> None:
    """Check a lab, its packets and its captures, without starting anything.

    Exit codes: 0 the lab is right, 2 it is wrong; the message says where and what was expected.

    Example: vnet validate office.yaml
    """
    from vnet.lab.source import load

    try:
        plan = load(lab)
    except VnetError as error:
        if as_json:
            print(error_as_json(error))
        raise
    if as_json:
        plain = {
            "format": 1,
            "lab": plan.name,
            "file": plan.file,
            "seed": plan.seed,
            "networks": [
                {"name": n.name, "prefixes": list(map(str, n.prefixes)), "mtu": n.mtu} for n in plan.networks.values()
            ],
            "nodes": [
                {"name": n.name, "kind": n.kind, "network": n.network, "addresses": list(map(str, n.addresses))}
                for n in plan.nodes.values()
            ],
            "steps": [
                {"number": number, "kind": step.kind, "name": step.name, "title": step.title(), "line": step.line}
                for number, step in enumerate(plan.steps, 1)
            ],
        }
        print(json.dumps(plain, indent=2, ensure_ascii=False))
        return
    counts = ", ".join(
        f"{number:,} {word}{'' if number == 1 else 's'}"
        for number, word in ((len(plan.networks), "network"), (len(plan.nodes), "node"), (len(plan.steps), "step"))
    )
    print(f"{plan.file}: a valid lab ({counts})")
