"""``vnet doctor``: what this machine can and cannot do for vnet."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vnet.doctor import Finding

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("doctor", short_help="Tell what this machine can and cannot do for vnet.")(doctor)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    install: Annotated[bool, typer.Option("--install-extcap", help="Let Wireshark and tshark list live LANs.")] = False,
    uninstall: Annotated[bool, typer.Option("--uninstall-extcap", help="Take that back.")] = False,
) -> None:
    """Tell what this machine can and cannot do for vnet, why it matters, and the command that provides what is missing.

    It only looks, and changes nothing, unless one of the options says so.

    Exit codes: 0 vnet runs here, 3 something that it always needs is missing.

    Example: vnet doctor
    """
    if install or uninstall:
        if install and uninstall:
            raise typer.BadParameter("--install-extcap and --uninstall-extcap exclude each other")
        _extcap(install, as_json)
        return
    from vnet.doctor import State, examine

    found = examine()
    runs = all(each.state is not State.MISSING for each in found if each.needed)
    if as_json:
        print(_json(found, runs))
    else:
        print("\n".join(_lines(found, _width(), sys.stdout.isatty() and "NO_COLOR" not in os.environ)), flush=True)
    raise typer.Exit(0 if runs else 3)


def _extcap(install: bool, as_json: bool) -> None:
    from vnet import extcap

    path = extcap.install() if install else extcap.uninstall()
    if as_json:
        print(json.dumps({"format": 1, "installed": install, "file": None if path is None else str(path)}, indent=2))
    elif install:
        print(f"installed {path}: Wireshark and tshark list live LANs as interfaces")
    else:
        print(f"removed {path}" if path else "nothing was installed")


def _json(found: Sequence[Finding], runs: bool) -> str:
    plain = {
        "format": 1,
        "runs": runs,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "findings": [
            {
                "topic": each.topic,
                "name": each.name,
                "state": each.state.value,
                "needed": each.needed,
                "found": each.found,
                "why": each.why,
                "remedy": each.remedy or None,
            }
            for each in found
        ],
    }
    return json.dumps(plain, indent=2, ensure_ascii=False)


def _width() -> int:
    return max(40, min(shutil.get_terminal_size((100, 24)).columns, 120))


def _lines(found: Sequence[Finding], width: int, colour: bool) -> Iterator[str]:
    """One line for what is well; for the rest also why it matters, and what to do."""
    from vnet.doctor import State

    signs = {State.OK: ("✓", "32"), State.LIMITED: ("!", "33"), State.MISSING: ("✗", "31")}
    names = max(len(each.name) for each in found)
    topic = ""
    for each in found:
        if each.topic != topic:
            yield from ([""] if topic else [])
            topic = each.topic
            yield f"\x1b[1m{topic}\x1b[0m" if colour else topic
        sign, code = signs[each.state]
        if each.state is State.MISSING and not each.needed:
            sign, code = "–", "33"
        shown = f"\x1b[{code}m{sign}\x1b[0m" if colour else sign
        head = f"  {sign} {each.name:<{names}}  "
        lines = textwrap.wrap(each.found, max(20, width - len(head))) or [""]
        yield head.replace(sign, shown, 1) + lines[0]
        indent = " " * len(head)
        for line in lines[1:]:
            yield indent + line
        if each.state is not State.OK:
            yield from textwrap.wrap(each.why, max(20, width), initial_indent=indent, subsequent_indent=indent)
            if each.remedy:
                # Not wrapped, so that it can be copied.
                yield f"{indent}→ {each.remedy}"
    lacking = [each.name for each in found if each.needed and each.state is State.MISSING]
    yield ""
    yield f"vnet does not run here: {', '.join(lacking)}" if lacking else "vnet runs here"
