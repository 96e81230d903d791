//! Two TAP devices in a bridge; what goes into the first comes out of the second, finished by the kernel.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::namespace::{IFF_VNET_HDR, ip, set, tap};

/// A frame from one station to another that the bridge has not heard of.
const ADDRESSES: [u8; 12] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];

pub struct Kernel {
    into: File,
    out: File,
}

impl Kernel {
    /// Both TAPs and the bridge between them, in the namespace that this process has for itself.
    pub fn new() -> Self {
        // Silence: no packets but ours.
        set("ipv6/conf/default/disable_ipv6", "1");
        let devices = Self { into: tap("into", IFF_VNET_HDR), out: tap("out", 0) };
        ip("link add between type bridge forward_delay 0 mcast_snooping 0");
        for name in ["into", "out"] {
            // A bridge drops what is longer than its ports' MTU, but for large segments.
            ip(&format!("link set {name} mtu 9000 master between up"));
        }
        ip("link set between up");
        devices
    }

    /// The datagrams that come out, `count` of them, where these go in behind their `virtio_net` headers.
    pub fn finish(&self, datagrams: &[(&[u8; 10], &[u8])], count: usize) -> Vec<Vec<u8>> {
        for (header, datagram) in datagrams {
            let kind: [u8; 2] = if datagram[0] >> 4 == 6 { [0x86, 0xdd] } else { [0x08, 0x00] };
            let frame = [&header[..], &ADDRESSES, &kind, datagram].concat();
            (&self.into).write_all(&frame).expect("a frame that the kernel takes");
        }
        let mut finished = Vec::new();
        let mut room = vec![0; 65_600];
        while finished.len() < count {
            let mut ready = [PollFd::from_borrowed_fd(self.out.as_fd(), PollFlags::IN)];
            let patience = Timespec { tv_sec: 5, tv_nsec: 0 };
            assert_eq!(poll(&mut ready, Some(&patience)), Ok(1), "{} of {count} came", finished.len());
            let length = (&self.out).read(&mut room).expect("a frame");
            assert_eq!(room[..12], ADDRESSES);
            finished.push(room[14..length].to_vec());
        }
        finished
    }
}
