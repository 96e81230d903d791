"""Where to look when a step failed: what the NICs that had a part in it dropped, last output, the capture's filter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vnet.errors import VnetError
from vnet.lab.steps.base import Stage
from vnet.verdict import Verdict

__all__ = ["Watch"]

# More nodes than this had a part in the step: those that lost something are named, and no filter would fit a line.
FEW = 4


class Watch:
    """What the NICs of ``nodes`` counted when a step began."""

    def __init__(self, stage: Stage, nodes: Sequence[str]) -> None:
        self._stage = stage
        self._nodes = nodes
        self._before = self._counts()

    def hints(self) -> tuple[str, ...]:
        """Lines that say where to look, now that the step is over."""
        return (*self._drops(), *self._output(), *self._capture())

    def _counts(self) -> dict[str, Any]:
        if not self._nodes:
            return {}
        try:
            nics = self._stage.lan.statistics().nics
        except VnetError:
            # A LAN that has just ended counts no more; the step itself tells of it.
            return {}
        nodes = self._stage.lab.nodes
        own = [nic for name in self._nodes for nic in (nodes[name].nics if name in nodes else (name,))]
        return {name: nics[name] for name in own if name in nics}

    def _drops(self) -> list[str]:
        lines = []
        for name, now in self._counts().items():
            before = self._before.get(name)
            if before is None:
                continue
            lost = {v: now.verdicts[v] - before.verdicts[v] for v in Verdict if v is not Verdict.DELIVERED}
            reasons = ", ".join(f"{count:,} {verdict.name.lower()}" for verdict, count in lost.items() if count > 0)
            if reasons:
                sent = now.tx_datagrams - before.tx_datagrams
                lines.append(f"NIC {name} sent {_datagrams(sent)} meanwhile, of which did not arrive: {reasons}")
            full = now.rx_dropped - before.rx_dropped
            if full > 0:
                lines.append(
                    f"NIC {name} had no room for {_datagrams(full)}: its owner reads too slowly, or not at all, or its "
                    "'buffer' is too small"
                )
        more = [f"and {len(lines) - 6} more such lines"] if len(lines) > 6 else []
        return [*lines[:6], *more]

    def _output(self) -> list[str]:
        tails = [(name, self._stage.last_output(name)) for name in self._nodes[:FEW]]
        return [f"the last output of {name}: {tail}" for name, tail in tails if tail]

    def _capture(self) -> list[str]:
        nodes = [self._stage.lab.nodes[name] for name in self._nodes if name in self._stage.lab.nodes]
        if not 0 < len(nodes) <= FEW:
            return []
        versions = [v for v in (4, 6) if all(node.address(v) for node in nodes)]
        filters = [
            " && ".join(f"{'ip' if v == 4 else 'ipv6'}.addr=={node.address(v)}" for node in nodes) for v in versions
        ]
        if not filters:
            return []
        text = filters[0] if len(filters) == 1 else " || ".join(f"({part})" for part in filters)
        if self._stage.capture:
            return [f"its datagrams: tshark -r {self._stage.capture} -Y '{text}'"]
        return [f"its datagrams: run with --out DIR, then tshark -r DIR/capture.pcapng -Y '{text}'"]


def _datagrams(count: int) -> str:
    return "1 datagram" if count == 1 else f"{count:,} datagrams"
