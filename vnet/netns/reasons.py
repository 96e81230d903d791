"""What a machine lacks that will not make a namespace or a TAP device, in a sentence that says what provides it."""

from __future__ import annotations

import errno

from ..errors import MachineLacks, NotPermitted

__all__ = [
    "no_device",
    "no_descriptors",
    "no_forwarding",
    "no_ipv6",
    "no_network_namespace",
    "no_user_namespace",
    "not_ours",
]

_TUN = "/dev/net/tun"


def no_user_namespace(error: OSError) -> MachineLacks:
    """Why no user namespace was made."""
    if _sysctl("kernel.unprivileged_userns_clone") == "0":
        remedy = "`sysctl -w kernel.unprivileged_userns_clone=1` allows them"
    elif error.errno in (errno.ENOSPC, errno.EUSERS):
        remedy = f"{_at_most('user.max_user_namespaces')}, which `sysctl -w user.max_user_namespaces=N` raises"
    elif _sysctl("kernel.apparmor_restrict_unprivileged_userns") == "1":
        remedy = "`sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` allows them"
    elif error.errno in (errno.ENOSYS, errno.EINVAL):
        remedy = "this kernel was built without CONFIG_USER_NS"
    else:
        remedy = "a container's runtime or a policy forbids them"
    said = f"without root, a network namespace needs a user namespace, and none can be made ({error.strerror})"
    return MachineLacks(f"{said}: {remedy}; or run as root")


def no_network_namespace(error: OSError) -> MachineLacks:
    """Why no network namespace was made."""
    if error.errno == errno.ENOSPC:
        remedy = f"{_at_most('user.max_net_namespaces')}, which `sysctl -w user.max_net_namespaces=N` raises"
    elif error.errno == errno.EPERM and _sysctl("kernel.apparmor_restrict_unprivileged_userns") == "1":
        remedy = "`sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` allows them without root"
    elif error.errno == errno.EINVAL:
        remedy = "this kernel was built without CONFIG_NET_NS"
    else:
        remedy = "a container's runtime or a policy forbids them"
    return MachineLacks(f"no network namespace can be made ({error.strerror}): {remedy}")


def no_device(error: OSError) -> MachineLacks:
    """Why /dev/net/tun was not opened."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return MachineLacks(
            f"this user may not open {_TUN} ({error.strerror}): `chmod 0666 {_TUN}`, as root, allows it; or run as root"
        )
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return MachineLacks(
            f"there is no {_TUN}: `modprobe tun`, as root, provides it; in a container, `--device {_TUN}` does"
        )
    if error.errno == errno.ENOTTY:
        return MachineLacks(
            f"{_TUN} is not the device of that name: `rm {_TUN}; mknod -m 0666 {_TUN} c 10 200` makes it"
        )
    return MachineLacks(f"{_TUN} cannot be opened: {error.strerror}")


def no_ipv6() -> MachineLacks:
    """Why an interface did not take an IPv6 address."""
    return MachineLacks("the kernel does not do IPv6: it was started with ipv6.disable=1 or built without CONFIG_IPV6")


def no_forwarding(error: OSError) -> MachineLacks:
    """Why a namespace does not forward."""
    return MachineLacks(
        f"a guest that forwards needs /proc/sys/net, which cannot be written ({error.strerror}): in a container, "
        "`--security-opt systempaths=unconfined` allows it"
    )


def no_descriptors() -> MachineLacks:
    """Why the base could not take what the nursery made."""
    return MachineLacks("this process may not open more files, and each namespace needs two: raise `ulimit -n`")


def not_ours() -> NotPermitted:
    """Why a namespace was not entered."""
    return NotPermitted("the namespace belongs to another user: run as root, or as that user")


def _at_most(name: str) -> str:
    return f"this user may have {_sysctl(name) or 'no more'}"


def _sysctl(name: str) -> str | None:
    try:
        with open(f"/proc/sys/{name.replace('.', '/')}") as file:
            return file.read().strip()
    except OSError:
        return None
