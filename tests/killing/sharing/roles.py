"""Who plays what."""

from __future__ import annotations

from collections.abc import Callable

# Whatever guests would import when they first need it, which then takes each of them longer than all the rest.
import vnet.pipes
import vnet.rpc
import vnet.sharing.region

from .calling import Work, caller, server
from .guest import Place
from .items import poster, target
from .memory import sharer
from .messages import asker, echo
from .streams import sink, source

ROLES: dict[str, Callable[[Place], None]] = {
    "sink": sink,
    "source": source,
    "echo": echo,
    "asker": asker,
    "target": target,
    "poster": poster,
    "server": server,
    "caller": caller,
    "sharer": sharer,
}

# Compiled once, likewise.
vnet.rpc.interface_of(Work)
