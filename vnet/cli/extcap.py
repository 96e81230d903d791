"""``vnet extcap``: what Wireshark asks of a program in its extcap folder; hidden, because nobody else asks."""

from __future__ import annotations

import typer

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    settings = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
    app.command("extcap", hidden=True, context_settings=settings)(extcap)


def extcap(context: typer.Context) -> None:
    """Answer Wireshark, to which every live LAN is an interface; `vnet doctor --install-extcap` tells it of vnet.

    Example: vnet extcap --extcap-interfaces
    """
    from vnet.extcap import main

    raise typer.Exit(main(context.args))
