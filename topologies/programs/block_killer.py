"""Kills the server of the service `disk` with SIGKILL while all of its clients are at work."""

import os
import signal
import time

from block_store import BlockStore

import vnet

with vnet.member(operator=True) as operator, operator.caller("host", "disk", BlockStore) as disk:
    before = disk.statistics()
    while any(disk.statistics().get(name, 0) < before.get(name, 0) + 64 for name in ("alice", "bob", "carol")):
        time.sleep(0.01)
    os.kill(disk.process(), signal.SIGKILL)
