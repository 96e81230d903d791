"""The verbs of the command line; each file adds its own."""

from __future__ import annotations

from typing import Annotated

import typer

from vnet.cli import (
    bench,
    call,
    capture,
    completion,
    doctor,
    down,
    extcap,
    graph,
    image,
    labs,
    link,
    logs,
    ls,
    ping,
    plug,
    restart,
    run,
    scapy_console,
    schema,
    show,
    stats,
    top,
    trace,
    unplug,
    up,
    validate,
)
from vnet.cli import exec as exec_verb

__all__ = ["app"]

app = typer.Typer(
    name="vnet",
    help="A LAN in shared memory: describe it in one file, run it with one command.\n\nExample: vnet run quickstart",
    no_args_is_help=False,
    add_completion=False,  # vnet completion does it
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"vnet {version('vnet')}")
        raise typer.Exit()


@app.callback(invoke_without_command=True)
def _vnet(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)


run.add_to(app)
for verb in (up, down, ls, show, exec_verb, ping, call, logs, restart, link, plug, unplug):
    verb.add_to(app)
validate.add_to(app)
schema.add_to(app)
labs.add_to(app)
graph.add_to(app)
image.add_to(app)
doctor.add_to(app)
completion.add_to(app)
scapy_console.add_to(app)
for verb in (capture, stats, trace, top):
    verb.add_to(app)
extcap.add_to(app)
bench.add_to(app)
