"""Where the command line writes: results to standard output, everything about them to standard error."""

from __future__ import annotations

import contextlib
import os
import sys

__all__ = ["abandon_output", "complain"]


def complain(sentence: str) -> None:
    """Say on standard error what was wrong; a terminal that is gone does not make it worse."""
    with contextlib.suppress(OSError, ValueError):
        print(sentence, file=sys.stderr, flush=True)


def abandon_output() -> None:
    """Let what is still buffered for standard output go nowhere; Python would complain about it at exit."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
