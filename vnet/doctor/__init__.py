"""What this machine can and cannot do for vnet, why it matters, and which command provides what is missing.

It only looks: nothing is installed, loaded, configured or left behind.  What takes more than a look is tried in a child
process, and network devices in a network namespace of that child's own (:mod:`vnet.doctor.probe`,
:mod:`vnet.doctor.trying`).

``base.py`` looks at what every LAN needs, ``kinds.py`` whether netns and tap nodes work, ``guests.py`` at what guests
with kernels of their own need for that, ``tools.py`` at programs and Python packages; ``packages.py`` knows what those
are called on this distribution.
"""

from __future__ import annotations

from vnet.doctor.finding import Finding, State
from vnet.doctor.packages import PackageManager

__all__ = ["Finding", "State", "examine"]


def examine() -> list[Finding]:
    """Look at everything; takes about two seconds."""
    from vnet.doctor import base, guests, kinds, tools
    from vnet.doctor.probe import probe

    manager = PackageManager.of_this_machine()
    probed = probe()
    return [*base.findings(probed), *kinds.findings(), *guests.findings(probed, manager), *tools.findings(manager)]
