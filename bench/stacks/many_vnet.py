"""Namespaces on a LAN, up and down; prints the seconds as JSON.

Run as ``python -m bench.stacks.many_vnet PREFIX ADDRESS...``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

import vnet


def main(prefix: str, *addresses: str) -> None:
    """A node for each address; the first pings the last."""
    start = time.perf_counter()
    with vnet.Lan("many", prefix) as lan:
        nodes = [lan.netns(f"n{number}", address) for number, address in enumerate(addresses)]
        up = time.perf_counter() - start
        nodes[0].run(["ping", "-c", "1", "-W", "5", "-q", addresses[-1]], stdout=subprocess.DEVNULL, check=True)
        start = time.perf_counter()
    print(json.dumps({"up": up, "down": time.perf_counter() - start}))


if __name__ == "__main__":
    main(*sys.argv[1:])
