"""What a shell offers where the name of a lab or of a node is due: those of the LANs that are up.

Both are quick and never complain: a base that does not answer at once offers nothing.
"""

from __future__ import annotations

import typer

__all__ = ["complete_lab", "complete_node"]

# Seconds that a base has to answer.
_PATIENCE = 0.08


def complete_lab(context: typer.Context, args: list[str], incomplete: str) -> list[str]:
    """The names of live LANs that begin with ``incomplete``."""
    try:
        from vnet.runtime import live_names

        return [name for name in live_names() if name.startswith(incomplete)]
    except Exception:
        return []


def complete_node(context: typer.Context, args: list[str], incomplete: str) -> list[str]:
    """The nodes of the lab on the command line that begin with ``incomplete``."""
    try:
        from vnet.runtime import connect
        from vnet.wire import ask, close_all

        with connect(str(context.params["lab"]), timeout=_PATIENCE) as connection:
            reply, files = ask(connection, {"do": "describe"})
            close_all(files)
        return sorted(nic["name"] for nic in reply["nics"] if nic["name"].startswith(incomplete))
    except Exception:
        return []
