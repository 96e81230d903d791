"""Mininet's single switch, up and down; prints the seconds as JSON.

Debian's Python runs this, in a network namespace of its own: ``python3 many_mininet.py COUNT``.
"""

import json
import resource
import sys
import time

from mininet.net import Mininet  # type: ignore[import-not-found]
from mininet.nodelib import LinuxBridge  # type: ignore[import-not-found]
from mininet.topo import SingleSwitchTopo  # type: ignore[import-not-found]


def main(count: int) -> None:
    """As many hosts as are asked for; the first pings the last."""
    # Mininet's own preparation sets limits of the whole machine. Of those only this is needed, and it is ours alone.
    resource.setrlimit(resource.RLIMIT_NOFILE, (16384, 16384))
    Mininet.inited = True
    start = time.perf_counter()
    net = Mininet(topo=SingleSwitchTopo(count), switch=LinuxBridge, controller=None)
    net.start()
    up = time.perf_counter() - start
    hosts = net.hosts
    said = hosts[0].cmd(f"ping -c 1 -W 5 -q {hosts[-1].IP()}")
    start = time.perf_counter()
    net.stop()
    down = time.perf_counter() - start
    if " 0% packet loss" not in said:
        sys.exit(f"the first host does not reach the last: {said}")
    print(json.dumps({"up": up, "down": down}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
