#!/bin/sh
# A namespace of its own behind a Linux bridge of the host: it asks a neighbour on the LAN, and then serves HTTP.
# Usage, as root: unshare --net sh behind_bridge.sh BRIDGE ADDRESS/LENGTH NEIGHBOUR
set -eu
bridge=$1 address=$2 neighbour=$3

# One end of the cable is born in the bridge, by the hand of the process that started this one; the other end is born here.
# When this process ends, however it does, the namespace ends with it, and with that both ends of the cable.
nsenter --target "$PPID" --net ip link add behind0 master "$bridge" up type veth peer name eth0 netns $$
ip link set lo up
ip link set eth0 up
ip address add "$address" dev eth0

ping -c 3 -i 0.2 "$neighbour"
exec python3 -m http.server 80 --directory "$(dirname "$0")"
