"""Writes blocks to the service `disk` and reads them back.  Usage: block_client.py work | die | outlive

It has a region of its own, with a place for each of its blocks, and a queue, in which it learns what is on the disk.
"""

import hashlib
import os
import signal
import sys

from block_store import BLOCK, COMPLETION, BlockStore

import vnet

OWN = {"alice": range(16), "bob": range(16, 32), "carol": range(32, 48)}


class BlockClient:
    def __init__(self, guest, region, queue):
        self.name, self.blocks, self.region, self.queue = guest.name, OWN[guest.name], region, queue
        self.sent, self.kept = {}, {}  # which version of a block was sent last, and which is on the disk for sure
        self.dispatcher = guest.dispatcher()
        self.dispatcher.on(queue)(self.note)

    def note(self, item):
        """A completion: the ticket says which version of which block it is about."""
        version, block = divmod(COMPLETION.unpack(item)[0], 1000)
        self.kept[block] = version

    def write(self, disk, version):
        """Sends a version of all blocks, without waiting for any of them."""
        for block in self.blocks:
            offset = (block - self.blocks[0]) * BLOCK
            self.region[offset : offset + BLOCK] = self.content(block, version)
            self.sent[block] = version
            disk.write(block, self.region, offset, version * 1000 + block, self.queue.handle)

    def wait(self, disk):
        """Waits until all that was sent is on the disk."""
        while self.kept != self.sent:
            if not self.dispatcher.run(timeout=0.5, limit=1):
                disk.process()  # raises if nobody serves any more

    def check(self, disk):
        """Reads all blocks: each has the version that is on the disk for sure, or a later one that was sent."""
        self.dispatcher.run(timeout=0)  # completions that came before the server went
        for block in self.blocks:
            disk.read(block, self.region)
            versions = range(self.kept[block], self.sent[block] + 1)
            if self.region[:BLOCK] not in [self.content(block, version) for version in versions]:
                sys.exit(f"{self.name}: block {block} is not as it was written")

    def content(self, block, version):
        return hashlib.sha256(f"{self.name} {block} {version}".encode()).digest() * (BLOCK // 32)


def work(client, disk):
    client.write(disk, 1)
    client.wait(disk)
    client.check(disk)
    print(f"{client.name}: {len(client.blocks)} blocks written and read back")


def die(client, disk):
    client.write(disk, 1)
    client.wait(disk)
    client.write(disk, 2)
    os.kill(os.getpid(), signal.SIGKILL)  # with calls, completions and a region under way


def outlive(client, disk):
    version = 0
    try:
        while True:
            version += 1
            client.write(disk, version)
            client.wait(disk)
    except vnet.ServiceGone as error:
        print(f"{client.name}: {error}")


if __name__ == "__main__":
    with (
        vnet.attach() as guest,
        guest.attach_region(guest.find_region(f"blocks-{guest.name}")) as region,
        guest.create_queue(item_size=COMPLETION.size, guests=["host"]) as queue,
    ):
        client = BlockClient(guest, region, queue)
        with guest.caller("host", "disk", BlockStore) as disk:
            {"work": work, "die": die, "outlive": outlive}[sys.argv[1]](client, disk)
        if sys.argv[1] == "outlive":
            with guest.caller("host", "disk", BlockStore, connect_timeout=20.0) as disk:
                client.check(disk)
                print(f"{client.name}: what was on the disk is there")
                work(client, disk)
