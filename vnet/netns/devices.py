"""System calls of the nursery: namespaces, and TAP devices in them.

All change the calling thread's own namespaces, so only processes call them that do nothing else.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct

from ..errors import NameTaken, NotPermitted, VnetError
from . import reasons

__all__ = ["become_root", "enter", "new_network_namespace", "open_tap", "privileged"]

# sched.h.
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWNET = 0x4000_0000
# linux/if_tun.h. IFF_VNET_HDR: each frame bears struct virtio_net_hdr, which tells of offloads.
_TUNSETIFF = 0x4004_54CA
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
# linux/capability.h.
_CAP_NET_ADMIN, _CAP_SYS_ADMIN = 12, 21

_libc = ctypes.CDLL(None, use_errno=True)


def _call(failed: int) -> None:
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def privileged() -> bool:
    """Whether this process may make network namespaces and interfaces as it is."""
    with open("/proc/self/status") as status:
        effective = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
    return bool(effective >> _CAP_NET_ADMIN & 1 and effective >> _CAP_SYS_ADMIN & 1)


def become_root() -> int:
    """Enters a new user namespace, in which this process is root, and returns a descriptor of it.

    Raises:
        MachineLacks: this user may not have one.
    """
    uid, gid = os.geteuid(), os.getegid()
    try:
        _call(_libc.unshare(CLONE_NEWUSER))
        # Without privilege, the group map is taken only once setgroups() is off: user_namespaces(7).
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    except OSError as error:
        raise reasons.no_user_namespace(error) from None
    return os.open("/proc/self/ns/user", os.O_RDONLY | os.O_CLOEXEC)


def enter(namespace: int, kind: int) -> None:
    """Joins the namespace behind a descriptor.

    Raises:
        NotPermitted: it belongs to another user.
    """
    try:
        _call(_libc.setns(namespace, kind))
    except OSError as error:
        if error.errno == errno.EPERM:
            raise reasons.not_ours() from None
        raise VnetError(f"the namespace cannot be entered: {error.strerror}") from None


def new_network_namespace() -> int:
    """Enters a new network namespace and returns a descriptor of it.

    Raises:
        MachineLacks: there may be no more, or none at all.
    """
    try:
        _call(_libc.unshare(CLONE_NEWNET))
    except OSError as error:
        raise reasons.no_network_namespace(error) from None
    return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def open_tap(interface: str) -> int:
    """Makes a TAP device in this process's network namespace and returns its descriptor.

    Raises:
        NameTaken: the namespace has an interface of that name.
        MachineLacks: there is no /dev/net/tun, or this user may not open it.
        NotPermitted: this process may not make interfaces here.
    """
    try:
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise reasons.no_device(error) from None
    try:
        # struct ifreq has 40 bytes.
        flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", interface.encode(), flags))
    except OSError as error:
        os.close(device)
        if error.errno in (errno.EBUSY, errno.EEXIST, errno.EINVAL):
            raise NameTaken(f"an interface named {interface!r} is there already") from None
        if error.errno == errno.EPERM:
            raise NotPermitted("this user may not make a TAP device here: run as root") from None
        if error.errno == errno.ENOTTY:
            raise reasons.no_device(error) from None
        raise VnetError(f"the TAP device {interface!r} cannot be made: {error.strerror}") from None
    return device
