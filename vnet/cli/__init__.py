"""The command line: one file for each verb, and :func:`main`, which turns whatever happens into an exit code.

======  =================================================================
code    meaning
======  =================================================================
0       all passed
1       an expectation failed
2       the input is wrong, or nothing ran
3       this machine lacks something that the lab needs
70      a defect in vnet itself
130     Ctrl-C; 143: SIGTERM; 129: the terminal went away
======  =================================================================
"""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback

from vnet.cli.output import abandon_output, complain
from vnet.errors import LabError, MachineLacks, VnetError
from vnet.lab.signals import Terminated

__all__ = ["main"]

# What a file says that takes no more.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main() -> None:
    """Run the ``vnet`` command with the arguments of this process.

    Raises:
        SystemExit: always; its code is the exit code.
    """
    _open_what_is_closed()
    for stream in (sys.stdout, sys.stderr):
        # In a locale without arrows and ticks, a question mark is better than no report.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    code = _guarded()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        abandon_output()
    except OSError as error:
        code = code or _unwritten(error)
    raise SystemExit(code)


def _open_what_is_closed() -> None:
    """Give ``vnet ... >&-`` somewhere to write: the next file that is opened would be its standard output."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: SIM115


def _guarded() -> int:
    try:
        from vnet.cli.app import app

        code = app(prog_name="vnet", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        abandon_output()
        return 0
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # as typer puts it
            abandon_output()
            return 0
        return end.code if isinstance(end.code, int) else 0
    except KeyboardInterrupt:
        return 130
    except LabError as error:
        # Nothing stands before FILE:LINE:COLUMN, so that editors and CI systems find the place.
        complain(str(error))
        return 2
    except VnetError as error:
        complain(f"vnet: {error}")
        return 3 if isinstance(error, MachineLacks) else 2
    except Terminated as end:
        return 128 + end.signal
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            return _unwritten(error)
        if (usage := _usage(error)) is not None:
            complain(f"vnet: {usage}{'' if usage.endswith('?') else ';'} vnet --help shows how it is used")
            return 2
        if os.environ.get("VNET_TRACEBACK"):
            traceback.print_exc()
        why = " ".join(str(error).split()) or "no message"
        complain(
            f"vnet: this is a defect in vnet: {type(error).__name__}: {why}; set VNET_TRACEBACK=1 for the traceback"
        )
        return 70


def _unwritten(error: OSError) -> int:
    """Standard output is lost, and so is what was to be said there."""
    abandon_output()
    complain(f"vnet: the output cannot be written: {(error.strerror or str(error)).lower()}")
    return 2


def _usage(error: Exception) -> str | None:
    """What was wrong with the arguments, in one line; None where the error is another."""
    from typer.exceptions import TyperException

    return " ".join(error.format_message().split()).rstrip(".") if isinstance(error, TyperException) else None
