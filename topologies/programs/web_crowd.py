"""Many clients in one thread: asyncio streams over a stack of its own.  Usage: web_crowd.py HOST PORT CLIENTS"""

import asyncio
import sys

import vnet


async def fetch(stack, host, port, number):
    """Fetches /NUMBER and returns whether the answer is about it."""
    reader, writer = await stack.open_connection(host, port)
    writer.write(f"GET /{number} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer.startswith(b"HTTP/1.1 200") and f"/{number} for ".encode() in answer


async def crowd(stack, host, port, clients):
    return sum(await asyncio.gather(*(fetch(stack, host, port, number) for number in range(clients))))


host, port, clients = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with vnet.attach() as nic, nic.stack() as stack:
    good = asyncio.run(crowd(stack, host, port, clients))
print(f"{good} of {clients} were served")
sys.exit(good != clients)
