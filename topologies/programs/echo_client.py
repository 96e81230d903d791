"""Sends ROUNDS datagrams to an echo server and counts those that come back.  Usage: echo_client.py ADDRESS PORT"""

import os
import sys

import udp

import vnet

server, port, rounds = sys.argv[1], int(sys.argv[2]), int(os.environ["ROUNDS"])
back = 0
with vnet.attach() as nic:
    for number in range(rounds):
        payload = f"datagram {number}".encode()
        nic.send(udp.build(str(nic.addresses[0]), 40000, server, port, payload))
        try:
            answer = udp.parse(nic.recv(timeout=2.0))
        except vnet.ReceiveTimeout:
            continue
        back += answer is not None and answer[3] == payload
print(f"{back} of {rounds} came back")
sys.exit(back != rounds)
