//! The TAP device itself: what its guest may leave undone, and frames in and out.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::ioctl::{IntegerSetter, Opcode, Setter, ioctl, opcode};
use vnet_base::offload::takes;

use crate::virtio_net::HEADER;

/// Requests of `linux/if_tun.h`.
const TUNSETOFFLOAD: Opcode = opcode::write::<c_int>(b'T', 208);
const TUNSETVNETHDRSZ: Opcode = opcode::write::<c_int>(b'T', 216);

/// Offloads that `TUNSETOFFLOAD` knows; USO came with Linux 6.2.
const TUN_F_CSUM: usize = 0x01;
const TUN_F_TSO4: usize = 0x02;
const TUN_F_TSO6: usize = 0x04;
const TUN_F_TSO_ECN: usize = 0x08;
const TUN_F_USO4: usize = 0x20;
const TUN_F_USO6: usize = 0x40;

/// What every kernel that can run this takes of a datagram that crosses whole.
const BASIC: (usize, u32) =
    (TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN, takes::CHECKSUM | takes::TSO4 | takes::TSO6 | takes::ECN);
const WITH_USO: (usize, u32) = (BASIC.0 | TUN_F_USO4 | TUN_F_USO6, BASIC.1 | takes::USO);

/// What reading or writing a frame met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nothing to read now, or no room now.
    Later,
    /// The interface is down: nothing comes or goes until it is up again.
    Down,
    /// The device is gone.
    Gone,
    /// The kernel does not take this frame.
    Refused,
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::AGAIN | Errno::INTR | Errno::NOBUFS | Errno::NOMEM => Self::Later,
            Errno::IO => Self::Down,
            // The interface was deleted, by hand or with its namespace; FAULT is what a read meets at that moment.
            Errno::BADFD | Errno::BADF | Errno::NODEV | Errno::NXIO | Errno::FAULT => Self::Gone,
            _ => Self::Refused,
        }
    }
}

/// A TAP device, attached to an interface that somebody else has made.
pub struct Device {
    file: OwnedFd,
    takes: u32,
}

impl Device {
    /// Takes a descriptor of `/dev/net/tun` that is attached to a TAP interface with `IFF_NO_PI` and `IFF_VNET_HDR`.
    ///
    /// # Errors
    ///
    /// Where it is none such.
    pub fn new(file: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&file, true)?;
        // SAFETY: the request reads one int.
        unsafe { ioctl(&file, Setter::<TUNSETVNETHDRSZ, c_int>::new(HEADER as c_int)) }?;
        let mut device = Self { file, takes: 0 };
        for (flags, takes) in [WITH_USO, BASIC] {
            // SAFETY: the request's argument is a number.
            if unsafe { ioctl(&device.file, IntegerSetter::<TUNSETOFFLOAD>::new_usize(flags)) }.is_ok() {
                device.takes = takes;
                break;
            }
        }
        Ok(device)
    }

    /// What the guest takes unfinished, and leaves unfinished itself: bits of `vnet_base::offload::takes`.
    #[must_use]
    pub fn takes(&self) -> u32 {
        self.takes
    }

    /// Lets go of the device in a forked child, where it would keep the interface when the parent has ended.
    ///
    /// The descriptor's number stays this one's.
    pub fn abandon(&self) {
        let Ok(null) = rustix::fs::open("/dev/null", rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty()) else {
            return;
        };
        // SAFETY: the descriptor is open, and is neither closed here nor moved: only what it refers to changes.
        let mut own = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(self.file.as_raw_fd()) });
        let _ = rustix::io::dup3(&null, &mut own, rustix::io::DupFlags::CLOEXEC);
    }

    /// Reads a frame behind its header. Returns the bytes of both.
    pub(crate) fn read(&self, room: &mut [u8]) -> Result<usize, Trouble> {
        Ok(rustix::io::read(&self.file, room)?)
    }

    /// Writes a frame in parts, its header first.
    pub(crate) fn write(&self, parts: [&[u8]; 2]) -> Result<(), Trouble> {
        let parts = parts.map(io::IoSlice::new);
        rustix::io::writev(&self.file, &parts)?;
        Ok(())
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
