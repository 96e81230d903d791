"""What takes more than a look is tried here, in a child process with namespaces of its own, and undone by its end.

No kernel module is loaded for it: a device whose module is not there yet is not opened.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

__all__ = ["probe"]

# Seconds that all attempts together may take.
_PATIENCE = 10.0

# Runs in an interpreter of its own.  Each attempt is a child of that; it prints what came of it as JSON.
_PROGRAM = r"""
import ctypes, fcntl, json, mmap, os, signal, struct

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
libc = ctypes.CDLL(None, use_errno=True)

def unshare(flags):
    if libc.unshare(flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))

def become_root_of_a_user_namespace():
    uid, gid = os.getuid(), os.getgid()
    unshare(CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)

def tap():
    # TUNSETIFF with IFF_TAP and IFF_NO_PI; the device is in this child's network namespace and ends with it.
    fd = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", b"vnet-doctor", 0x0002 | 0x1000))

def user_namespace():
    become_root_of_a_user_namespace()

def network_namespace():
    unshare(CLONE_NEWNET)

def network_namespace_in_user_namespace():
    become_root_of_a_user_namespace()
    unshare(CLONE_NEWNET)

def tap_device():
    try:
        unshare(CLONE_NEWNET)
    except PermissionError:
        network_namespace_in_user_namespace()
    tap()

def kvm():
    fd = os.open("/dev/kvm", os.O_RDWR)
    version = fcntl.ioctl(fd, 0xAE00, 0)             # KVM_GET_API_VERSION
    if version != 12:
        raise OSError(0, f"API version {version} instead of 12")
    machine = fcntl.ioctl(fd, 0xAE01, 0)             # KVM_CREATE_VM
    processor = fcntl.ioctl(machine, 0xAE41, 0)      # KVM_CREATE_VCPU
    if os.uname().machine != "x86_64":
        return
    # One page at address 0 with the instruction hlt, which the processor runs in real mode: kvm.h.
    memory = mmap.mmap(-1, 4096)
    memory[0] = 0xF4
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    fcntl.ioctl(machine, 0x4020AE46, struct.pack("IIQQQ", 0, 0, 0, 4096, address))  # KVM_SET_USER_MEMORY_REGION
    special = bytearray(fcntl.ioctl(processor, 0x8138AE83, bytes(312)))             # KVM_GET_SREGS
    struct.pack_into("QIH", special, 0, 0, 0xFFFF, 0)                               # cs: base, limit, selector
    fcntl.ioctl(processor, 0x4138AE84, bytes(special))                              # KVM_SET_SREGS
    fcntl.ioctl(processor, 0x4090AE82, struct.pack("18Q", *[0] * 17, 2))            # KVM_SET_REGS: rip 0, rflags 2
    state = mmap.mmap(processor, fcntl.ioctl(fd, 0xAE04, 0))                        # KVM_GET_VCPU_MMAP_SIZE
    fcntl.ioctl(processor, 0xAE80, 0)                                               # KVM_RUN
    reason = struct.unpack_from("I", state, 8)[0]
    if reason != 5:                                                                 # KVM_EXIT_HLT
        raise OSError(0, f"a virtual machine stopped for reason {reason} instead of at its first instruction")

def attempt(what):
    read, write = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(3)
        try:
            what()
            said = ""
        except OSError as error:
            said = error.strerror or str(error)
        os.write(write, (said or "ok").encode())
        os._exit(0)
    os.close(write)
    said = os.read(read, 1000).decode() or "the attempt crashed or hung"
    os.close(read)
    os.waitpid(child, 0)
    return "" if said == "ok" else said

attempts = [user_namespace, network_namespace, network_namespace_in_user_namespace]
if os.path.exists("/sys/class/misc/tun") and os.path.exists("/dev/net/tun"):
    attempts.append(tap_device)
if os.path.exists("/dev/kvm"):
    attempts.append(kvm)
print(json.dumps({what.__name__: attempt(what) for what in attempts}))
"""


def probe() -> dict[str, str]:
    """What came of each attempt, by its name: an empty string, or what was wrong.

    An attempt that this machine gives no occasion for is not in it.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _PROGRAM],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_PATIENCE,
            check=False,
            text=True,
        )
        said: Any = json.loads(done.stdout)
        return {str(name): str(what) for name, what in said.items()}
    except (OSError, subprocess.TimeoutExpired, ValueError, AttributeError):
        return {}
