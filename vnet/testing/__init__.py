"""Help for those who test programs that use a LAN.

:class:`FakeLan` and its :class:`FakeNic` stand in for :class:`vnet.Lan` and :class:`vnet.Nic` where a unit test wants a
script: peers that answer as told, verdicts to order, and what was sent, written down.  Where it wants a LAN, the real
one is as quick; the fixtures of the pytest plugin (docs/pytest.md) make one for each test.  :class:`StartGuest`,
:class:`Guest` and :class:`LiveLab` are what the fixtures ``guest`` and ``lab`` give.

>>> import vnet
>>> from vnet.testing import FakeLan, echo
>>> lan = FakeLan(prefix="10.0.0.0/24")
>>> nic, peer = lan.attach("me"), lan.peer("host", echo)
>>> nic.order(vnet.Verdict.BUFFER_FULL)
>>> nic.send(b"anything")
<Verdict.BUFFER_FULL: 3>
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .fakes import Answer, FakeLan, FakeNic, Sent, echo

if TYPE_CHECKING:
    from .guests import Guest, StartGuest
    from .labs import LiveLab

__all__ = ["Answer", "FakeLan", "FakeNic", "Guest", "LiveLab", "Sent", "StartGuest", "echo"]


def __getattr__(name: str) -> Any:
    """What the fixtures ``guest`` and ``lab`` give, for annotations; unit tests with fakes need not import it."""
    if name in ("Guest", "StartGuest"):
        from . import guests as module
    elif name == "LiveLab":
        from . import labs as module  # type: ignore[no-redef]
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(module, name)
