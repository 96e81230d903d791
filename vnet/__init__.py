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
    CaptureError,
    ForkedNic,
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
    ReceiveTimeout,
    VnetError,
)
from .hosts import Host, PingResult, PingRun, Service
from .hostside import Tap
from .lan import Lan
from .netns import Netns, Plug
from .network import Network
from .nic import DatagramView, Nic
from .register import NicInfo
from .statistics import LanStatistics, NicStatistics
from .verdict import Verdict

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
    "ForkedNic",
    "CaptureError",
    "LabError",
    "MachineLacks",
    "__version__",
]
