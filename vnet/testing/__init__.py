"""Help for those who test programs that use a LAN.

:class:`FakeLan` and its :class:`FakeNic` stand in for :class:`vnet.Lan` and :class:`vnet.Nic` where a unit test wants a
script: peers that answer as told, verdicts to order, and what was sent, written down.  Where it wants a LAN, the real
one is as quick; the fixtures of the pytest plugin (docs/pytest.md) make one for each test.

>>> from vnet.testing import FakeLan, echo
>>> lan = FakeLan(prefix="10.0.0.0/24")
>>> nic, peer = lan.attach("me"), lan.peer("host", echo)
>>> nic.order(vnet.Verdict.BUFFER_FULL)
>>> nic.send(b"anything")
<Verdict.BUFFER_FULL: 3>
"""

from __future__ import annotations

from .fakes import Answer, FakeLan, FakeNic, Sent, echo

__all__ = ["Answer", "FakeLan", "FakeNic", "Sent", "echo"]
