"""The networks that are measured: each joins two namespaces in its own way.

A peer is a function of an MTU and a scratch directory that yields the two :class:`Ends`, and takes everything away
afterwards.  All of them are there at the same time, idle but for the one that is measured.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from .measure import Ends
from .spaces import Program, Space, Trouble, run

__all__ = ["LARGEST_MTU", "LOOP", "Peer", "missing", "peers_with"]

# The largest that the kernel gives a TAP device, and vnet a namespace on a network of the default MTU, in bytes of IP.
LARGEST_MTU = 65_521

_ADDRESSES = ("10.9.0.1", "10.9.0.2")
_ROOT = Path(__file__).resolve().parents[2]
LOOP = _ROOT / "target" / "release" / "tap_loop"
"""The bare loop, as the checkout builds it."""
_OVS_DPDK = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"
# Its segmentation offload takes DPDK's library, which does without huge pages and devices then.
_TSO = ("userspace-tso-enable=true", "dpdk-init=true", "dpdk-extra=--no-huge --legacy-mem --no-pci -m 256")
_OVS_PLAIN = "/usr/lib/openvswitch-switch/ovs-vswitchd"


@dataclass(frozen=True)
class Peer:
    """One way of joining two namespaces.

    Attributes:
        name: for options and JSON.
        what: for the table.
        needs: programs, by name or path, and the command that provides each.
        open: makes it.
    """

    name: str
    what: str
    needs: dict[str, str]
    open: Callable[[int, Path], AbstractContextManager[Ends]]


def missing(peer: Peer) -> str | None:
    """One sentence about the first program that this peer lacks on this machine."""
    for program, command in peer.needs.items():
        if shutil.which(program) is None:
            return f"{peer.name} is left out: {Path(program).name} is not there; {command} provides it"
    return None


def _dress(space: Space, device: str, address: str, mtu: int) -> None:
    """Gives a device in a namespace its MTU and its address, and nothing that talks by itself."""
    space.ip(
        f"link set {device} addrgenmode none",
        f"link set {device} mtu {mtu}",
        f"address add {address}/24 dev {device}",
        f"link set {device} up",
    )


@contextmanager
def _spaces() -> Iterator[tuple[Space, Space]]:
    with Space() as one, Space() as other:
        yield one, other


@contextmanager
def _vnet(mtu: int, scratch: Path) -> Iterator[Ends]:
    import vnet

    with vnet.Lan(f"bench-{os.getpid()}-{mtu}", "10.9.0.0/24", mtu=mtu) as lan:
        client, server = (lan.netns(name, address) for name, address in zip("ab", _ADDRESSES, strict=True))
        yield Ends(client, server, _ADDRESSES[1], os.getpid())


def _loop(program: Path, *options: str) -> Callable[[int, Path], AbstractContextManager[Ends]]:
    @contextmanager
    def opened(mtu: int, scratch: Path) -> Iterator[Ends]:
        with _spaces() as spaces:
            fds = [space.fd for space in spaces]
            words = [str(program), *options, *(space.path for space in spaces)]
            with Program(words, ready="ready", fds=fds) as switch:
                for space, address in zip(spaces, _ADDRESSES, strict=True):
                    _dress(space, "eth0", address, mtu)
                yield Ends(*spaces, _ADDRESSES[1], switch.pid)

    return opened


@contextmanager
def _bridge(mtu: int, scratch: Path) -> Iterator[Ends]:
    with Space() as yard, _spaces() as spaces:
        yard.ip(f"link add br0 mtu {mtu} type bridge", "link set br0 addrgenmode none", "link set br0 up")
        for number, (space, address) in enumerate(zip(spaces, _ADDRESSES, strict=True)):
            yard.ip(
                f"link add v{number} mtu {mtu} type veth peer name eth0 netns {space.path}",
                f"link set v{number} addrgenmode none",
                f"link set v{number} master br0",
                f"link set v{number} up",
                others=spaces,
            )
            _dress(space, "eth0", address, mtu)
        yield Ends(*spaces, _ADDRESSES[1])


def _hand_over(yard: Space, devices: tuple[str, str], spaces: tuple[Space, Space], mtu: int, carrier: int = 0) -> Ends:
    """Moves TAP devices that a switch in ``yard`` has opened into the two namespaces."""
    for device, space, address in zip(devices, spaces, _ADDRESSES, strict=True):
        yard.ip(f"link set {device} netns {space.path} name eth0", others=spaces)
        _dress(space, "eth0", address, mtu)
    return Ends(*spaces, _ADDRESSES[1], carrier)


@contextmanager
def _vde(mtu: int, scratch: Path) -> Iterator[Ends]:
    devices = ("t0", "t1")
    with Space() as yard, _spaces() as spaces:
        words = ["vde_switch", "-sock", str(scratch / "vde"), *(word for name in devices for word in ("-tap", name))]
        with Program(words, yard) as switch:
            for device in devices:
                _wait_for_device(yard, device)
            yield _hand_over(yard, devices, spaces, mtu, switch.pid)


def _wait_for_device(yard: Space, device: str) -> None:
    end = time.monotonic() + 10
    while True:
        try:
            run(["ip", "link", "show", device], yard)
            return
        except Trouble:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def _open_vswitch(daemon: str, *settings: str) -> Callable[[int, Path], AbstractContextManager[Ends]]:
    """The user-space datapath, between two TAPs that it makes; every file of its own in the scratch directory."""

    @contextmanager
    def opened(mtu: int, scratch: Path) -> Iterator[Ends]:
        home = scratch / f"ovs-{Path(daemon).name}-{mtu}"
        home.mkdir()
        database, socket = home / "conf.db", f"unix:{home / 'db.sock'}"
        env = {**os.environ, "OVS_RUNDIR": str(home), "OVS_LOGDIR": str(home), "OVS_DBDIR": str(home)}
        run(["ovsdb-tool", "create", str(database), "/usr/share/openvswitch/vswitch.ovsschema"])
        with ExitStack() as stack:
            yard = stack.enter_context(Space())
            spaces = stack.enter_context(_spaces())
            serve = ["ovsdb-server", str(database), f"--remote=p{socket}", f"--unixctl={home / 'db.ctl'}"]
            stack.enter_context(Program(serve, env=env))
            vsctl = ["ovs-vsctl", f"--db={socket}", "--timeout=20"]
            run([*vsctl, "--no-wait", "--retry", "init"])
            for setting in settings:
                run([*vsctl, "--no-wait", "set", "Open_vSwitch", ".", f"other_config:{setting}"])
            stack.enter_context(Program([daemon, socket, f"--unixctl={home / 'switch.ctl'}"], yard, env=env))
            run([*vsctl, "add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev"])
            devices = ("t0", "t1")
            for device in devices:
                # mtu_request: otherwise it holds the MTU to that of the bridge's other ports.
                details = ["set", "interface", device, "type=tap", f"mtu_request={mtu}"]
                run([*vsctl, "add-port", "br0", device, "--", *details])
            # Its threads do better apart, so they are left to the scheduler throughout.
            yield _hand_over(yard, devices, spaces, mtu)

    return opened


_IP = {"ip": "apt-get install iproute2", "nsenter": "apt-get install util-linux"}


def peers_with(loop: Path = LOOP) -> tuple[Peer, ...]:
    """Every peer; ``loop`` is the program of the bare loop."""
    built = {**_IP, str(loop): "cargo build --release --locked -p vnet-bench --bin tap_loop"}
    return (
        Peer("vnet", "vnet, two netns guests", _IP, _vnet),
        Peer("loop", "bare loop between two TAPs, with offloads", built, _loop(loop)),
        Peer("loop-2q", "the same, two queues and two threads", built, _loop(loop, "--queues", "2")),
        Peer("loop-bare", "the same, without offloads", built, _loop(loop, "--bare")),
        Peer("bridge", "two veth and a Linux bridge", _IP, _bridge),
        Peer("vde", "VDE switch on two TAPs", {**_IP, "vde_switch": "apt-get install vde2"}, _vde),
        Peer(
            "ovs", "Open vSwitch, user-space datapath",
            {**_IP, _OVS_PLAIN: "apt-get install openvswitch-switch"}, _open_vswitch(_OVS_PLAIN),
        ),
        Peer(
            "ovs-tso", "Open vSwitch, user-space datapath, TSO",
            {**_IP, _OVS_DPDK: "apt-get install openvswitch-switch-dpdk"},
            _open_vswitch(_OVS_DPDK, *_TSO),
        ),
    )  # fmt: skip
