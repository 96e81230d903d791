"""The exception tree.

::

    VnetError
     ├─ LanNotFound               no live LAN of that name for this user
     ├─ LanClosed                 the base has ended
     ├─ NicClosed                 close() was called on this NIC, or the base took it off the LAN
     ├─ NameTaken                 a LAN, network or NIC of that name is there already
     ├─ AddressError              also a ValueError
     │   ├─ AddressTaken          another NIC has it
     │   ├─ AddressOutside        in none of the network's prefixes, or not usable by a NIC
     │   ├─ NetworkFull           no free address is left
     │   └─ PortTaken             another service of the host has it
     ├─ LanFull                   no NIC slot, table row or buffer space is left
     ├─ NotPermitted              the LAN belongs to another user
     ├─ AbiMismatch               base and guest lay out the segment differently
     ├─ ProtocolError             base and guest do not understand one another
     ├─ ReceiveTimeout            also a TimeoutError
     ├─ ForkedNic                 a NIC was used in a forked child
     ├─ CaptureError              a capture cannot be opened or written
     ├─ ImageError                an image file is not fit for use
     ├─ GraphError                a graph file cannot be made routers of: file, what is wrong
     ├─ RegionNotFound            no region has that handle or name, or it was freed
     ├─ QueueFull                 a work queue has no room for the item
     ├─ QueueClosed               the guest that works on the queue has let go of it, or died
     ├─ ServiceNotFound           no guest of that name listens for that service
     ├─ ServiceBusy               so many wait to be accepted that no more are let in
     ├─ ServiceGone               also a ConnectionError: whoever served has gone
     ├─ InterfaceError            also a TypeError: the interface does not declare what was asked, or not so
     ├─ CallTimeout               also a TimeoutError: a call was not answered in time
     ├─ CallCancelled             a call was cancelled before it was answered
     ├─ RemoteError               the service failed with an exception that is not known here
     ├─ LabError                  a lab file is wrong: file, line, column, key
     └─ MachineLacks              this machine lacks what the lab needs

Every error that vnet raises on purpose is one of these; catch :class:`VnetError` to catch them all.  ``TypeError`` and
``ValueError`` keep their usual meaning for arguments of the wrong kind.
"""

from __future__ import annotations

__all__ = [
    "AbiMismatch",
    "AddressError",
    "AddressOutside",
    "AddressTaken",
    "CallCancelled",
    "CallTimeout",
    "CaptureError",
    "ForkedNic",
    "GraphError",
    "ImageError",
    "InterfaceError",
    "LabError",
    "LanClosed",
    "LanFull",
    "LanNotFound",
    "MachineLacks",
    "NameTaken",
    "NetworkFull",
    "NicClosed",
    "NotPermitted",
    "PortTaken",
    "ProtocolError",
    "QueueClosed",
    "QueueFull",
    "ReceiveTimeout",
    "RegionNotFound",
    "RemoteError",
    "ServiceBusy",
    "ServiceGone",
    "ServiceNotFound",
    "VnetError",
]


class VnetError(Exception):
    """The root of all errors that vnet raises on purpose."""


class LanNotFound(VnetError):
    """No live LAN of that name belongs to this user in this runtime directory."""


class LanClosed(VnetError):
    """The base has ended; every NIC of its LAN is gone with it."""


class NicClosed(VnetError):
    """This NIC is off the LAN: it was closed, or the base took it off."""


class NameTaken(VnetError):
    """A LAN, a network or a NIC of that name is there already."""


class AddressError(VnetError, ValueError):
    """An address or a prefix cannot be used."""


class AddressTaken(AddressError):
    """Another NIC of the network has this address."""


class AddressOutside(AddressError):
    """The address is in none of the network's prefixes, or no NIC may have it (network or broadcast address)."""


class NetworkFull(AddressError):
    """Every usable address of the prefix is given out."""


class PortTaken(AddressError):
    """Another service of the host has this port."""


class LanFull(VnetError):
    """No NIC slot, host table row or buffer space is left on this LAN."""


class NotPermitted(VnetError):
    """The LAN belongs to another user."""


class AbiMismatch(VnetError):
    """Base and guest lay out the segment differently; the message names both versions."""


class ProtocolError(VnetError):
    """Base and guest do not understand one another on the control socket."""


class ReceiveTimeout(VnetError, TimeoutError):
    """No datagram came within the time that the caller gave."""


class ForkedNic(VnetError):
    """A NIC or a LAN was used in a forked child; attach anew there."""


class CaptureError(VnetError):
    """A capture file cannot be opened or written."""


class ImageError(VnetError):
    """An image file is not fit for use: damaged, of another version or machine; the message is a sentence about it."""


class MachineLacks(VnetError):
    """This machine lacks something that is needed; the message names the command that provides it."""


class GraphError(VnetError):
    """A graph file cannot be made routers and links of.

    Attributes:
        file: the path as the user gave it.
        message: what is wrong with it.
    """

    def __init__(self, file: str, message: str | None = None) -> None:
        self.file = file if message is not None else ""
        self.message = message if message is not None else file
        super().__init__(f"{file}: {message}" if message is not None else file)


class RegionNotFound(VnetError):
    """No region has that handle or name, or the last guest that had it has let go of it."""


class QueueFull(VnetError):
    """A work queue has no room for the item."""


class QueueClosed(VnetError):
    """The guest that works on the queue has let go of it, or died."""


class ServiceNotFound(VnetError):
    """No guest of that name listens for that service."""


class ServiceBusy(VnetError):
    """So many guests wait to be accepted by the service that no more are let in."""


class ServiceGone(VnetError, ConnectionError):
    """Whoever served has gone: its process ended, or it closed the service."""


class InterfaceError(VnetError, TypeError):
    """The interface of a service does not declare what was asked, or not with these arguments."""


class CallTimeout(VnetError, TimeoutError):
    """A call was not answered in time."""


class CallCancelled(VnetError):
    """A call was cancelled before it was answered."""


class RemoteError(VnetError):
    """The service failed with an exception that is not known here; the message names it."""


class LabError(VnetError):
    """A lab file is wrong.

    Attributes:
        file: the path as the user gave it, or ``<stdin>``.
        line: line number from 1, or 0 where no line applies.
        column: column number from 1, or 0.
        key: the key's path, such as ``nodes.alice.kind``, or an empty string.
        message: what was wrong and what was expected.
    """

    def __init__(self, message: str, *, file: str = "", line: int = 0, column: int = 0, key: str = "") -> None:
        self.file = file
        self.line = line
        self.column = column
        self.key = key
        self.message = message
        place = file + (f":{line}:{column}" if line else "")
        super().__init__(": ".join(part for part in (place, key, message) if part))
