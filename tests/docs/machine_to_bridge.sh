#!/bin/sh
# Runs a command in a network namespace of its own, as on a machine with two cables: eth1 leads to 10.0.0.50, eth0 to the
# rest of the world, which is 198.51.100.2.
set -eu
if [ "${1:-}" != inside ]; then
    exec unshare --net sh "$0" inside "$@"
fi
shift
ip link set lo up
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
for cable in eth1,10.0.0.50/24 eth0,198.51.100.2/24; do
    unshare --net sleep 300 >/dev/null 2>&1 &
    other=$!
    # Until it is in its namespace.
    while [ "$(readlink /proc/$other/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
    ip link add "${cable%,*}" type veth peer name eth0 netns $other
    nsenter --net=/proc/$other/ns/net sh -euc "ip address add ${cable#*,} dev eth0; ip link set eth0 up"
done
ip address add 198.51.100.1/24 dev eth0
ip link set eth0 up
"$@"
