"""``vnet exec``: run a command as a node of a lab that is up."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from vnet.cli.labverbs import LabArgument, NodeArgument, errors_as_json
from vnet.cli.output import complain

__all__ = ["add_to"]

# What shells say where there is no such command, and where it cannot be run.
NOT_THERE, NOT_RUNNABLE = 127, 126


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    # What stands behind the node is the command's, options too.
    settings = {"allow_interspersed_args": False, "ignore_unknown_options": True}
    app.command("exec", short_help="Run a command as a node of a lab.", context_settings=settings)(execute)


def execute(
    lab: LabArgument,
    node: NodeArgument,
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="The command and its arguments.")],
) -> None:
    """Run a command as a node of a lab that is up, in this terminal.

    It begins in the lab file's directory, with the environment of the node. On a netns node it runs in the node's
    namespace; on a process node vnet.attach() without arguments finds the node's NIC. The exit code is the command's
    own, or 128 and the number of the signal that ended it.

    Example: vnet exec office carol -- bash
    """
    # Not interspersed, the parser leaves the mark between our arguments and the command's where it is.
    words = command[1:] if command[0] == "--" else command
    if not words:
        raise typer.BadParameter("name the command to run: vnet exec LAB NODE -- COMMAND")
    with errors_as_json(False):
        where, inside = _where(lab, node)
    raise typer.Exit(_run(words, where, inside))


@dataclass(frozen=True)
class _Namespace:
    """Where the command of a node with a namespace runs: what brings it there, with the descriptors for that."""

    enter: tuple[str, ...] = ()
    files: tuple[int, ...] = ()


def _where(given: str, node: str) -> tuple[dict[str, Any], _Namespace]:
    from vnet.calls import stream
    from vnet.lab.finding import find_lab

    lan = find_lab(given, kinds=("lab", "run"), what="it has no nodes to run commands as")
    inside = _Namespace()
    with stream(lan.name, "lab.exec", node=node) as answers:
        for answer in answers:
            files = tuple(answers.take_files())
            if answer.get("network") != os.stat("/proc/self/ns/net").st_ino:
                inside = _Namespace(tuple(word.format(*files) for word in answer["enter"]), files)
        assert answers.result is not None
        return answers.result, inside


def _run(words: list[str], where: dict[str, Any], inside: _Namespace) -> int:
    """Run the command as a child, in our own process group, so that the terminal is the child's as it is ours."""
    from vnet.lab.commands import check_program, command_environment

    environment = {**command_environment(), **where["environment"], "PWD": where["directory"]}
    # What is the terminal's business goes to both; it ends or stops the child, and we tell of it.
    before = {number: _hear(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGQUIT)}
    # What comes before the child can be told must not end us alone: the child would stay.
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def pass_on(sent: int, _: Any) -> None:
        if child is None:
            early.append(sent)
        else:
            child.send_signal(sent)

    before |= {number: _hear(number, pass_on) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        if inside.enter:
            # What brings it into the namespace would say in words of its own that it is not there.
            check_program(words[0], environment["PATH"], Path(where["directory"]))
        child = subprocess.Popen(
            [*inside.enter, *words], env=environment, cwd=where["directory"], pass_fds=inside.files
        )
    except OSError as error:
        return _cannot_run(words[0], where["directory"], error)
    for sent in early:
        child.send_signal(sent)
    code = child.wait()
    for number, handler in before.items():
        signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def _hear(number: int, handler: Any) -> Any:
    """Handle a signal from now on, unless it is ignored: the child shall ignore it too."""
    if signal.getsignal(number) is signal.SIG_IGN:
        return signal.SIG_IGN
    return signal.signal(number, handler)


def _cannot_run(program: str, directory: str, error: OSError) -> int:
    if error.filename == directory or not Path(directory).is_dir():
        complain(f"vnet: the lab's directory {directory} is gone")
        return NOT_RUNNABLE
    missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
    complain(f"vnet: cannot run {program}: {(error.strerror or str(error)).lower()}")
    return NOT_THERE if missing else NOT_RUNNABLE
