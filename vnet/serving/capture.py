"""``capture``: a capture for another process, written into its descriptor."""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import stat
import threading
from typing import TYPE_CHECKING, Any

from vnet.capture import CaptureOptions
from vnet.errors import CaptureError, ProtocolError, VnetError
from vnet.serving.explain import known_names, no_such_nic

if TYPE_CHECKING:
    from vnet.calls import Call
    from vnet.lan import Lan

__all__ = ["capture"]

# How long the end of a capture goes unnoticed, in seconds.
_LOOK = 0.05


def capture(lan: Lan, call: Call) -> dict[str, Any]:
    """Captures into the descriptor that came along: a file, a pipe, a socket; or the directory of ring files.

    Answers once when it has begun, once more with what it did when it is over: because the client has said that it
    wants no more, has gone, or has all its packets, because the file cannot be written, or because the LAN ends.
    """
    if len(call.files) != 1:
        raise ProtocolError("a capture is written into a descriptor that comes with the request")
    options = _options(call)
    known = known_names(lan)
    for nic in options.nics or ():
        if nic not in known:
            raise VnetError(no_such_nic(nic, lan))
    running = lan._start_capture(_where(call), options)
    running.told = threading.Event()
    try:
        call.send({"capturing": True})
        while not call.gone(_LOOK) and running.ended is None:
            pass
        why = running.ended or "stopped"
        error = None
        try:
            running.close()
        except CaptureError as failure:
            error = str(failure)
        if lan._closing:
            why = "lan"
        told = {
            "packets": running.packets,
            "datagrams": running.datagrams,
            "missed": running.missed,
            "why": "failed" if error else why,
            "error": error,
        }
        # Before the last answer, which a LAN that closes does not wait for.
        call.send({"ended": told})
        return told
    finally:
        with contextlib.suppress(CaptureError):
            running.close()
        running.told.set()


def _where(call: Call) -> int | str:
    name = call.argument("name", str, "")
    if not name:
        return call.files[0]
    if "/" in name or not stat.S_ISDIR(os.fstat(call.files[0]).st_mode):
        raise ProtocolError("ring files have a name, and a directory whose descriptor comes with the request")
    return f"/proc/self/fd/{call.files[0]}/{name}"


def _options(call: Call) -> CaptureOptions:
    nics = call.argument("nics", list, None)
    program = call.argument("program", str, None)
    try:
        code = None if program is None else base64.b64decode(program, validate=True)
    except binascii.Error:
        raise ProtocolError("'program' is a filter's instructions in base64") from None
    if nics is not None and not all(isinstance(nic, str) for nic in nics):
        raise ProtocolError("'nics' is a list of names")
    return CaptureOptions(
        nics=None if nics is None else tuple(nics),
        direction=call.argument("direction", str, "both"),
        filter=call.argument("filter", str, None) if code is not None else None,
        drops=call.argument("drops", bool, False),
        limit=call.argument("limit", int, None),
        snaplen=call.argument("snaplen", int, None),
        file_size=call.argument("file_size", int, None),
        files=call.argument("keep_files", int, 0),
        program=code,
    )
