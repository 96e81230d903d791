"""Serves the blocks of a file to other guests until it is killed: it has nothing to tidy.  Usage: block_host.py FILE"""

import hashlib
import os
import queue
import sys
import threading
from collections import Counter

from block_file import BlockFile
from block_store import BLOCK, BLOCKS, COMPLETION, BlockStore

import vnet


class BlockHost:
    """The service.  Calls come in threads of their own; one more writes what has come meanwhile, all at once."""

    def __init__(self, guest, file):
        self._guest, self._file = guest, file
        self._coming = queue.SimpleQueue()
        self._queues = {}
        self._written = Counter()
        threading.Thread(target=self._write_what_comes, daemon=True).start()

    def read(self, block, region, offset=0):
        region[offset : _end(region, offset)] = self._file.read(block)

    def write(self, block, region, offset, ticket, completions):
        # A copy: the client can change its region at any time, also while a checksum is made of it.
        content = region[offset : _end(region, offset)]
        self._coming.put((vnet.rpc.current_call().guest, block, content, ticket, completions))

    def checksum(self, block):
        return hashlib.sha256(self._file.read(block)).hexdigest()

    def statistics(self):
        return dict(self._written)

    def process(self):
        return os.getpid()

    def _write_what_comes(self):
        while True:
            work = [self._coming.get()]
            while not self._coming.empty():
                work.append(self._coming.get())
            try:
                self._file.write({block: content for _, block, content, _, _ in work})
            except OSError as error:
                # Nobody knows what the disk holds now; whoever serves next will look.
                print(f"the disk has failed: {error}", flush=True)
                os._exit(1)
            for client, _, _, ticket, completions in work:
                self._written[client] += 1
                self._complete(client, ticket, completions)

    def _complete(self, client, ticket, completions):
        try:
            if completions not in self._queues:
                self._queues[completions] = self._guest.open_queue(completions)
            self._queues[completions].post(COMPLETION.pack(ticket))
        except vnet.VnetError as error:
            # It has died, or lets its queue fill up.  The others have nothing to do with that.
            print(f"{client} does not take what is completed: {error}", flush=True)
            if completions in self._queues:
                self._queues.pop(completions).close()


def _end(region, offset):
    if offset + BLOCK > region.size:
        raise ValueError(f"a block at {offset} would end outside of the region, which has {region.size} bytes")
    return offset + BLOCK


if __name__ == "__main__":
    with vnet.attach() as guest:
        host = BlockHost(guest, BlockFile(sys.argv[1], BLOCKS))
        with guest.serve_calls("disk", host, BlockStore):
            print(f"process {os.getpid()} serves {sys.argv[1]}", flush=True)
            threading.Event().wait()
