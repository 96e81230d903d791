"""Both labs of one scheme, and a probe sent into both."""

from __future__ import annotations

import contextlib
import itertools
from types import TracebackType

from .answers import Received, differences, told
from .kernel_side import KernelSide
from .probes import Probe, Way
from .schemes import Scheme
from .vnet_side import VnetSide


class Pair:
    """A scheme built of Linux routers and of vnet's.  A context manager."""

    def __init__(self, scheme: Scheme) -> None:
        self.scheme = scheme
        self._open = contextlib.ExitStack()
        self._numbers = {4: itertools.count(), 6: itertools.count()}

    def __enter__(self) -> Pair:
        try:
            self.kernel = self._open.enter_context(KernelSide(self.scheme))
            self.vnet = self._open.enter_context(VnetSide(self.scheme))
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def way(self, family: int, sender: str = "a") -> Way:
        """Addresses that no probe had yet."""
        return Way(self.scheme, family, sender, next(self._numbers[family]))

    def exchange(self, probe: Probe, family: int) -> tuple[Received, Received]:
        """Sends a probe into both and returns what the hosts of each receive: the kernel's, vnet's."""
        datagrams = probe.datagrams(self.way(family, probe.sender))
        options = {"family": family, "wait": probe.wait}
        return (
            self.kernel.exchange(probe.sender, datagrams, **options),
            self.vnet.exchange(probe.sender, datagrams, **options),
        )

    def compare(self, probe: Probe, family: int) -> None:
        """Sends a probe into both, and fails with each field that differs."""
        kernel, vnet = self.exchange(probe, family)
        # What the kernel does is as it is said, so that a probe that does not reach anybody cannot pass.
        assert told(kernel) == probe.expected(family)
        if probe.differs is not None:
            assert told(vnet) == probe.differs
            return
        found = differences(kernel, vnet, self.scheme.speakers(family))
        assert not found, f"{probe.name}:\n{found}"
