"""Traffic between guests, measured: datagrams at a rate, or streams as fast as they go.

>>> import vnet
>>> with vnet.Lan(prefix="10.0.0.0/24") as lan:
...     result = lan.host("a").traffic(lan.host("b"), rate=10e6, duration=0.1)
>>> result.loss
0.0

``plan.py`` says what is sent and ``results.py`` what came of it; ``parties.py`` has those who take part, ``guest.py`` a
process that does, and ``measuring.py`` brings them together.
"""

from vnet.traffic.plan import IMIX, TrafficPlan
from vnet.traffic.results import FlowResult, TrafficResult

__all__ = ["IMIX", "FlowResult", "TrafficPlan", "TrafficResult"]
