"""What guests share on purpose, beside the LAN: memory regions, work queues, pipes and calls.

The base is the broker: it makes the memory files, keeps names, handles and access lists, and passes descriptors to
those who may have them.  What guests then say to one another goes through that memory, and never through the base.

::

    guest.py     what every guest can do: the methods of Nic, Host, Netns, Plug and Member
    doors.py     how a guest asks the broker: in the base's own process, or over its connection to the base
    broker.py    who asks, what is served, and who has gone
    serving.py   requests to it that come over the control socket; asked.py reads them, proving.py finds out whose
    members.py   guests without a NIC object: programs in a namespace or beside a NIC, and the operator's shell
    regional.py, queueing.py, piping.py, calling.py: the methods of guest.py by kind
    regions.py   the broker's records of regions
    region.py    a region, as the guest that attached it has it
    memory.py    its memory, and what this machine has of it
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .doors import Door
from .guest import Sharing

if TYPE_CHECKING:
    from .broker import Broker, Guest
    from .members import Member, member
    from .region import Attachment, Region

__all__ = ["Attachment", "Broker", "Door", "Guest", "Member", "Region", "Sharing", "member"]

_LATER = {
    "Attachment": "region",
    "Broker": "broker",
    "Guest": "broker",
    "Member": "members",
    "Region": "region",
    "member": "members",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
