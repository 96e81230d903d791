"""A guest that sends every UDP payload back to where it came from.  Usage: echo_server.py PORT"""

import sys

import udp

import vnet

port = int(sys.argv[1])
with vnet.attach() as nic:
    print(f"{nic.name} serves UDP port {port} at {nic.addresses[0]}")
    while True:
        try:
            datagrams = nic.recv_many()
        except vnet.LanClosed:
            break
        for source, source_port, destination_port, payload in filter(None, map(udp.parse, datagrams)):
            if destination_port == port:
                nic.send(udp.build(str(nic.addresses[0]), port, source, source_port, payload), block=True)
