//! TAP devices for the bare loop: made in a namespace, with the offloads that are asked for.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Result;
use rustix::ioctl::{IntegerSetter, Opcode, Setter, ioctl, opcode};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

// linux/if_tun.h
const TUNSETIFF: Opcode = opcode::write::<c_int>(b'T', 202);
const TUNSETOFFLOAD: Opcode = opcode::write::<c_int>(b'T', 208);
const IFF_TAP: u16 = 0x0002;
const IFF_MULTI_QUEUE: u16 = 0x0100;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;

/// Checksums and large TCP segments of both families: what a kernel hands over unfinished.
pub const SEGMENTS: usize = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
/// Large UDP segments of both families.
pub const UDP_SEGMENTS: usize = TUN_F_USO4 | TUN_F_USO6;
const TUN_F_CSUM: usize = 0x01;
const TUN_F_TSO4: usize = 0x02;
const TUN_F_TSO6: usize = 0x04;
const TUN_F_TSO_ECN: usize = 0x08;
const TUN_F_USO4: usize = 0x20;
const TUN_F_USO6: usize = 0x40;

/// struct ifreq of linux/if.h, as far as the tun driver reads it.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

/// Makes the TAP device `name` with `queues` queues in the network namespace at `namespace`, into which this thread moves.
///
/// Without `offloads` there is no virtio-net header before the frames either. Returns a descriptor for each queue, which do
/// not block.
///
/// # Errors
///
/// What the kernel said.
pub fn make(namespace: &Path, name: &str, queues: usize, offloads: Option<usize>) -> Result<Vec<OwnedFd>> {
    let namespace = open(namespace, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    let mut flags = IFF_TAP | IFF_NO_PI;
    if queues > 1 {
        flags |= IFF_MULTI_QUEUE;
    }
    if offloads.is_some() {
        flags |= IFF_VNET_HDR;
    }
    (0..queues).map(|_| queue(name, flags, offloads)).collect()
}

fn queue(name: &str, flags: u16, offloads: Option<usize>) -> Result<OwnedFd> {
    let device = open("/dev/net/tun", OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    let mut request = Request { name: [0; 16], flags, rest: [0; 22] };
    // The last byte stays zero.
    let length = name.len().min(15);
    request.name[..length].copy_from_slice(&name.as_bytes()[..length]);
    // SAFETY: TUNSETIFF reads and writes one struct ifreq, whose 40 bytes these are.
    unsafe { ioctl(&device, Setter::<TUNSETIFF, Request>::new(request))? };
    if let Some(offloads) = offloads {
        // SAFETY: TUNSETOFFLOAD takes an integer.
        unsafe { ioctl(&device, IntegerSetter::<TUNSETOFFLOAD>::new_usize(offloads))? };
    }
    Ok(device)
}

const _: () = assert!(size_of::<Request>() == 40);
