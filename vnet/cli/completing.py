"""What a shell offers at the place where somebody presses TAB: verbs, options, and what their values can be.

The scripts of ``vnet completion`` ask ``vnet _complete -- WORD...``, with the word under the cursor last, and get a
candidate a line, a tab and what it is after it; or ``:files``, where any file will do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

from vnet.cli.complete import complete_lab

__all__ = ["FILES", "candidates", "complete_lab_file", "complete_lab_or_file"]

FILES = ":files"
# Values that are the names of files, as the help calls them.
_FILE_VALUES = frozenset({"FILE", "DIR", "PATH", "COMMAND", "CMD"})
_SUFFIXES = (".yaml", ".yml")


def complete_lab_file(context: typer.Context, args: list[str], incomplete: str) -> list[tuple[str, str]]:
    """Lab files, folders on the way to them, and the labs that come with vnet, that begin with ``incomplete``."""
    try:
        return [*_shipped(incomplete), *_files(incomplete)]
    except Exception:
        return []


def complete_lab_or_file(context: typer.Context, args: list[str], incomplete: str) -> list[tuple[str, str]]:
    """What :func:`complete_lab_file` offers, and the names of live LANs."""
    live = [(name, "is up") for name in complete_lab(context, args, incomplete)]
    names = {name for name, _ in live}
    return [*live, *(each for each in complete_lab_file(context, args, incomplete) if each[0] not in names)]


def _shipped(incomplete: str) -> Iterator[tuple[str, str]]:
    # As vnet.lab.source.shipped_labs(), which takes the whole lab language along.
    for path in sorted((Path(__file__).parents[1] / "topologies").glob("*")):
        if path.suffix in _SUFFIXES and path.stem.startswith(incomplete):
            with path.open(encoding="utf-8") as file:
                yield path.stem, file.readline().lstrip("# ").strip()


def _files(incomplete: str) -> Iterator[tuple[str, str]]:
    before, slash, start = incomplete.rpartition("/")
    head = before + slash
    where = Path(os.path.expanduser(head or "."))
    for entry in sorted(os.scandir(where), key=lambda each: each.name):
        if not entry.name.startswith(start) or (entry.name.startswith(".") and not start):
            continue
        if entry.is_dir():
            yield f"{head}{entry.name}/", "folder"
        elif entry.name.endswith(_SUFFIXES):
            yield f"{head}{entry.name}", "lab file"


def candidates(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What can stand in place of the last of ``words``: each with what it is; or :data:`FILES` alone.

    Args:
        words: those after ``vnet``; the last one is what has been typed so far, perhaps nothing.
    """
    from vnet.cli.app import app

    root: Any = typer.main.get_command(app)
    *before, incomplete = words
    command = root
    # A verb, and with some a verb of that.
    while command is not None and hasattr(command, "commands"):
        verb = next((word for word in before if not word.startswith("-")), None)
        if verb is None:
            if incomplete.startswith("-"):
                yield from _options(command, incomplete, [])
            else:
                for name, each in command.commands.items():
                    if name.startswith(incomplete) and not each.hidden:
                        yield name, each.get_short_help_str(60)
            return
        before = before[before.index(verb) + 1 :]
        command = command.commands.get(verb)
    if command is not None:
        yield from _of_verb(root, command, _joined(before), incomplete)


def _joined(words: Sequence[str]) -> list[str]:
    """Words with ``--option = value`` as bash splits it put together again; a value that is to come is left out."""
    found: list[str] = []
    for word in words:
        if word == "=" and found and found[-1].startswith("--"):
            continue
        found.append(word)
    return found


def _of_verb(root: Any, command: Any, words: list[str], incomplete: str) -> Iterator[tuple[str, str]]:
    parent = root.context_class(root, info_name="vnet", resilient_parsing=True)
    option, place, only_arguments = _position(command, words)
    # Parses what is there, so that a node can be looked up on the lab that stands before it.
    complete = words if option is None else words[:-1]
    context = command.make_context(command.name, list(complete), parent=parent, resilient_parsing=True)
    head = ""
    if option is None and not only_arguments and incomplete.startswith("-"):
        name, equals, value = incomplete.partition("=")
        option = _option(command, name) if equals else None
        if option is None:
            yield from _options(command, incomplete, words)
            return
        head, incomplete = name + equals, value
    parameter = option or _argument(command, place)
    if parameter is None:
        return
    found = list(parameter.shell_complete(context, incomplete.removeprefix("=")))
    for item in found:
        yield head + str(item.value), item.help or ""
    # Such as FILE|LAB or [COMMAND]...
    if not found and not _FILE_VALUES.isdisjoint(re.findall(r"[A-Z]+", parameter.metavar or "")):
        yield FILES, ""


def _position(command: Any, words: Sequence[str]) -> tuple[Any, int, bool]:
    """Where the next word stands: after an option that takes it, or as which argument; and whether -- came before."""
    pending, place, only_arguments = None, 0, False
    for word in words:
        if pending is not None:
            pending = None
        elif word == "--" and not only_arguments:
            only_arguments = True
        elif word.startswith("-") and len(word) > 1 and not only_arguments:
            option = _option(command, word)
            if option is not None and not option.is_flag:
                pending = option
        else:
            place += 1
    return pending, place, only_arguments


def _option(command: Any, word: str) -> Any:
    return next((each for each in command.params if word in (*each.opts, *each.secondary_opts)), None)


def _argument(command: Any, place: int) -> Any:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    for each in arguments:
        if place < each.nargs or each.nargs == -1:
            return each
        place -= each.nargs
    return None


def _options(command: Any, incomplete: str, words: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The options that have not been given, by their long names where they have any."""
    given = {word.partition("=")[0] for word in words}
    parent = command.context_class(command, info_name="vnet", resilient_parsing=True)
    for each in command.get_params(parent):
        names = [*each.opts, *each.secondary_opts]
        if each.param_type_name == "argument" or each.hidden or (given & set(names) and not each.multiple):
            continue
        long = [name for name in names if name.startswith("--")]
        for name in long or names:
            if name.startswith(incomplete):
                yield name, each.help or ""
