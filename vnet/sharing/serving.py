"""Requests to the broker that come over the control socket: who asks, and what goes back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..connection import Connection, Files
from ..errors import ProtocolError, VnetError
from ..wire import close_all
from .proving import prove

if TYPE_CHECKING:
    from ..register import Register

__all__ = ["admit", "answer", "refused"]


def answer(
    register: Register, connection: Connection, request: dict[str, Any], tag: dict[str, Any]
) -> tuple[bytes, Files] | None:
    """Has the broker answer a request; returns the line and the descriptors, or ``None`` where none is wanted.

    Arguments:
        register: the LAN's.
        connection: a NIC's lease, or a member's.
        request: what is asked.
        tag: what of the request the answer repeats.
    """
    files: list[int] = []
    answered: list[int] = []
    try:
        # Those that came may be of the request after this one.
        count = request.get("descriptors", 0)
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= len(connection.files):
            raise ProtocolError(f"{len(connection.files)} descriptors came with the request, not {count!r:.60}")
        files, connection.files = connection.files[:count], connection.files[count:]
        with register.lock:
            if connection.member is not None:
                guest = connection.member[0]
            else:
                assert connection.nic is not None
                guest = register.broker.holder(*connection.nic, connection.pid)
            reply, answered = register.broker.ask(guest, request, files)
        line = json.dumps({"ok": True, **reply, "descriptors": len(answered), **tag})
    except Exception as error:
        close_all(answered)
        answered = []
        line = json.dumps({**refused(error), **tag})
    finally:
        close_all(files)
    if request.get("quiet") is True:
        close_all(answered)
        return None
    return line.encode() + b"\n", Files(tuple(answered), ours=False)


def admit(register: Register, connection: Connection, request: dict[str, Any]) -> dict[str, Any]:
    """Makes a connection a member's.

    Raises:
        NotPermitted: the client is not the guest that it says.
        VnetError: there is no such guest.
        ProtocolError: the connection is a guest's already, or the request is none.
    """
    if connection.nic is not None or connection.member is not None:
        raise ProtocolError("this connection is a guest's already")
    name, operator = request.get("guest"), request.get("operator", False)
    if not (name is None or isinstance(name, str)) or not isinstance(operator, bool):
        raise ProtocolError("'guest' is a guest's name, or null, and 'operator' is true or false")
    with register.lock:
        guest = None
        if not operator:
            proved = prove(register, connection.process, connection.pid, name)
            guest = None if proved is None else register.broker.welcome(proved, connection.pid)
        connection.member = (guest,)
    return {"guest": None if guest is None else str(guest)}


def refused(error: Exception) -> dict[str, Any]:
    """The answer that refuses a request."""
    if isinstance(error, VnetError):
        known, message = type(error).__name__, str(error)
    elif isinstance(error, ValueError | TypeError):
        known, message = "ValueError", str(error)
    else:
        # Whatever else goes wrong is this client's misfortune, not the base's end.
        known, message = "VnetError", f"the base failed at this request: {error!r}"
    return {"ok": False, "error": known, "message": message}
