"""vnet: a LAN in shared memory.

>>> import vnet
>>> with vnet.Lan("demo", "10.0.0.0/24") as lan:
...     a, b = lan.attach("a"), lan.attach("b")
...     verdict = a.send(bytes.fromhex("45000014000000004000000000000000" "0a000002"))
...     received = b.recv(timeout=1.0)
>>> verdict
<Verdict.DELIVERED: 0>
>>> len(received)
20
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    from . import _native as _native
except ImportError as _error:  # pragma: no cover - a checkout that was not built
    raise ImportError(
        f"vnet's native part is missing or broken ({_error}); in a checkout, run `make build` and use .venv/bin/python"
    ) from None

from .capture import Capture
from .control import attach
from .errors import (
    AbiMismatch,
    AddressError,
    AddressOutside,
    AddressTaken,
    CallCancelled,
    CallTimeout,
    CaptureError,
    ForkedNic,
    GraphError,
    ImageError,
    InterfaceError,
    LabError,
    LanClosed,
    LanFull,
    LanNotFound,
    MachineLacks,
    NameTaken,
    NetworkFull,
    NicClosed,
    NotPermitted,
    PortTaken,
    ProtocolError,
    QueueClosed,
    QueueFull,
    ReceiveTimeout,
    RegionNotFound,
    RemoteError,
    ServiceBusy,
    ServiceGone,
    ServiceNotFound,
    VnetError,
)
from .hosts import Host, PingResult, PingRun, Service
from .lan import Lan
from .network import Network
from .nic import DatagramView, Nic
from .register import NicInfo
from .statistics import LanStatistics, NicStatistics
from .verdict import Verdict

if TYPE_CHECKING:
    from .hostside import Tap
    from .netns import Netns, Plug
    from .pipes import Listener, Pipe
    from .queues import Dispatcher, QueueStatistics, WorkQueue
    from .sharing import Attachment, Member, Region, member

__version__ = "0.1.0"

__all__ = [
    "Lan",
    "attach",
    "Nic",
    "DatagramView",
    "Verdict",
    "Host",
    "Netns",
    "Plug",
    "Tap",
    "PingResult",
    "PingRun",
    "Service",
    "Region",
    "Pipe",
    "Listener",
    "Attachment",
    "WorkQueue",
    "Dispatcher",
    "QueueStatistics",
    "Member",
    "member",
    "Network",
    "NicInfo",
    "NicStatistics",
    "LanStatistics",
    "Capture",
    "VnetError",
    "LanNotFound",
    "LanClosed",
    "NicClosed",
    "NameTaken",
    "AddressError",
    "AddressTaken",
    "AddressOutside",
    "NetworkFull",
    "LanFull",
    "NotPermitted",
    "PortTaken",
    "AbiMismatch",
    "ProtocolError",
    "ReceiveTimeout",
    "RegionNotFound",
    "QueueFull",
    "QueueClosed",
    "ServiceNotFound",
    "ServiceBusy",
    "ServiceGone",
    "InterfaceError",
    "CallTimeout",
    "CallCancelled",
    "RemoteError",
    "ForkedNic",
    "CaptureError",
    "ImageError",
    "GraphError",
    "LabError",
    "MachineLacks",
    "__version__",
]

# Classes that only those pay for who have such guests.
_LATER = {
    "Attachment": "sharing",
    "Dispatcher": "queues",
    "Listener": "pipes",
    "Member": "sharing",
    "Netns": "netns",
    "Pipe": "pipes",
    "Plug": "netns",
    "QueueStatistics": "queues",
    "Region": "sharing",
    "Tap": "hostside",
    "WorkQueue": "queues",
    "member": "sharing",
}
# Packages that work as `vnet.rpc.start` without an import of their own.
_PACKAGES = frozenset({"pipes", "queues", "rpc"})


def __getattr__(name: str) -> Any:
    if name not in _LATER and name not in _PACKAGES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    if name in _PACKAGES:
        return import_module(f"{__name__}.{name}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER, *_PACKAGES})
