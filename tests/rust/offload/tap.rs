//! Two TAP devices in a bridge; what goes into the first comes out of the second, finished by the kernel.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Of `linux/if_tun.h`.
const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
const IFF_TAP: i16 = 0x0002;
const IFF_NO_PI: i16 = 0x1000;
const IFF_VNET_HDR: i16 = 0x4000;

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
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").expect("a namespace of our own");
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

fn tap(name: &str, flags: i16) -> File {
    let file = File::options().read(true).write(true).open("/dev/net/tun").expect("/dev/net/tun");
    // `struct ifreq`: 16 bytes of name, a union that begins with the flags.
    let mut request = [0u8; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[16..18].copy_from_slice(&(IFF_TAP | IFF_NO_PI | flags).to_ne_bytes());
    // SAFETY: the request is as long as the kernel's `struct ifreq`, which is all that it reads and writes.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) };
    assert_eq!(done, 0, "a TAP in a namespace of our own: {}", std::io::Error::last_os_error());
    file
}

fn ip(words: &str) {
    let done = Command::new("ip").args(words.split(' ')).output().expect("ip of iproute2");
    assert!(done.status.success(), "ip {words}: {}", String::from_utf8_lossy(&done.stderr));
}
