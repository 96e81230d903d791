"""The TAP device and its name."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import struct

from ..errors import MachineLacks, NameTaken, VnetError

__all__ = ["LONGEST_NAME", "check_interface", "default_interface", "open_tap"]

# Characters of an interface's name: IFNAMSIZ, the closing zero left out.
LONGEST_NAME = 15

_DEVICE = "/dev/net/tun"
# linux/if_tun.h. EXCL: an error where the name is another interface's, instead of a share in it.
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR, _IFF_TUN_EXCL = 0x0002, 0x1000, 0x4000, 0x8000


def check_interface(name: str) -> str:
    """Returns ``name`` if it can be an interface's.

    Raises:
        TypeError: it is not a string.
        ValueError: it has another form; dev_valid_name() of the kernel, and no ``%``, which stands for a number there.
    """
    if not isinstance(name, str):
        raise TypeError(f"an interface's name is a string, not {type(name).__name__}")
    if len(os.fsencode(name)) > LONGEST_NAME:
        raise ValueError(f"{name!r} cannot name an interface: it is longer than {LONGEST_NAME} characters")
    # all and default name settings that all interfaces share.
    if not re.fullmatch(r"[^\s/:%|]+", name) or name in (".", "..", "all", "default"):
        raise ValueError(f"{name!r} cannot name an interface")
    return name


def default_interface(lan: str | None, nic: str) -> str:
    """The name of an interface that nobody named.

    It follows from LAN and NIC, in full where that fits; a LAN without a name leaves a number to the kernel, for
    there may be several.
    """
    # A dot would part the names of its settings.
    nic = nic.replace(".", "-")
    if lan is None:
        return f"{nic[:10].rstrip('-')}%d"
    name = f"{lan.replace('.', '-')}-{nic}"
    if len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.blake2b(f"{lan}/{nic}".encode(), digest_size=2).hexdigest()
    return f"{name[: LONGEST_NAME - 5].rstrip('-')}-{digest}"


def open_tap(name: str) -> tuple[int, str]:
    """Makes a TAP device, which goes when its last descriptor is closed.

    Arguments:
        name: the interface's name, in which ``%d`` stands for the first number that is free.

    Returns:
        The descriptor, and the name that the interface got.

    Raises:
        NameTaken: an interface of that name is there.
        MachineLacks: there are no TAP devices here, or no privilege to make one.
    """
    try:
        fd = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise MachineLacks(_no_privilege(f"{_DEVICE} cannot be opened")) from None
        raise MachineLacks(
            f"a TAP device needs {_DEVICE}, which cannot be opened ({error.strerror}): `modprobe tun` provides it, in "
            "a container the option `--device /dev/net/tun`"
        ) from None
    flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR | _IFF_TUN_EXCL
    try:
        request = fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    except OSError as error:
        os.close(fd)
        if error.errno in (errno.EPERM, errno.EACCES):
            raise MachineLacks(_no_privilege("a TAP device cannot be made")) from None
        if error.errno in (errno.EBUSY, errno.EEXIST):
            raise NameTaken(f"an interface named {name!r} is there already: name another with `interface`") from None
        raise VnetError(f"a TAP device named {name!r} cannot be made: {error.strerror}") from None
    return fd, request[:16].rstrip(b"\0").decode()


def _no_privilege(what: str) -> str:
    return (
        f"{what} without CAP_NET_ADMIN in this network namespace: run it as root, or use kind netns, which needs no "
        "privilege"
    )
