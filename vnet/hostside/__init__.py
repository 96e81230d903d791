"""TAPs in the machine's own network namespace, alone or in a bridge, with or without NAT: :meth:`vnet.Lan.tap`.

- ``tap``: the guest, and the order in which it comes and goes.
- ``device``: the TAP device and its name.
- ``interfaces``: addresses, bridges and their ports, through pyroute2.
- ``forwarding``: the settings under which the kernel forwards.
- ``masquerade``: the nftables table that goes with the process.
- ``lending``: what is borrowed from the machine, told to the ``guardian``, which gives it back however the base ends.
"""

from __future__ import annotations

from .tap import Tap, plug_tap

__all__ = ["Tap", "plug_tap"]
