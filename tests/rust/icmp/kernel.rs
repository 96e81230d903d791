//! The kernel of this machine as a router between two TAP devices, and what it makes of a datagram.
//!
//! ```text
//!   fd00:1::/64, 10.1.0.0/16 ── left │ router │ right ── 10.2.0.0/24, fd00:2::/64
//!                    MTU 1,500   .0.254, ::fe       MTU 1,280
//! ```

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};

use crate::build;
use crate::namespace::{ip, set, tap};

const ETHERNET: usize = 14;

/// The interfaces of the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}

/// What leaves a router, and where.
pub type Sent = Vec<(Side, Vec<u8>)>;

pub struct Kernel {
    left: File,
    right: File,
    fence: u16,
}

impl Kernel {
    /// A router in the namespace that this process has for itself. Limits are lifted, if so wished.
    pub fn new(limited: bool) -> Self {
        for (setting, value) in [("accept_dad", "0"), ("router_solicitations", "0"), ("addr_gen_mode", "1")] {
            set(&format!("ipv6/conf/default/{setting}"), value);
        }
        let (left, right) = (tap("left", 0), tap("right", 0));
        set("ipv4/ip_forward", "1");
        set("ipv6/conf/all/forwarding", "1");
        if !limited {
            // Not by a rate of 0, which empties the buckets that the limit on errors about routes shares.
            set("ipv4/icmp_ratemask", "0");
            set("ipv6/icmp/ratelimit", "0");
            set("ipv4/icmp_msgs_per_sec", "1000000");
            set("ipv4/icmp_msgs_burst", "1000000");
        }
        ip("link set lo up");
        for (side, mac, mtu) in [("left", "02:00:00:00:01:01", 1_500), ("right", "02:00:00:00:01:02", 1_280)] {
            set(&format!("ipv4/conf/{side}/send_redirects"), "0");
            // Nobody is asked for a MAC address: all neighbours are there.
            ip(&format!("link set dev {side} address {mac} mtu {mtu} arp off up"));
        }
        set("ipv4/conf/all/send_redirects", "0");
        ip("address add 10.1.0.254/16 dev left");
        ip("address add 10.2.0.254/24 dev right");
        // Those that the kernel gives itself are not there at once.
        ip("address add fe80::ff:fe00:101/64 dev left nodad");
        ip("address add fe80::ff:fe00:102/64 dev right nodad");
        ip("address add fd00:1::fe/64 dev left nodad");
        ip("address add fd00:2::fe/64 dev right nodad");
        for (number, kind) in [(1, "unreachable"), (2, "prohibit"), (3, "blackhole")] {
            ip(&format!("route add {kind} 10.9.{number}.0/24"));
            ip(&format!("-6 route add {kind} fd00:9:{number}::/48"));
        }
        for file in [&left, &right] {
            fcntl_setfl(file, OFlags::NONBLOCK).expect("a file descriptor of our own");
        }
        let mut kernel = Self { left, right, fence: 0 };
        kernel.wait();
        kernel
    }

    /// Waits until the router answers at each of its addresses: those of IPv6 take a moment.
    fn wait(&mut self) {
        for address in ["fd00:1::fe", "fd00:2::fe", "fe80::ff:fe00:101"] {
            let header = build::Six { destination: build::six(address), next: 58, ..Default::default() };
            let echo = build::v6(&header, &build::echo6(&header.source, &header.destination, 0));
            let begun = Instant::now();
            while !self
                .ask(std::slice::from_ref(&echo), Side::Left)
                .iter()
                .any(|(_, datagram)| datagram[40..42] == [129, 0])
            {
                assert!(begun.elapsed() < Duration::from_secs(10), "{address} does not answer");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// What the router sends when these datagrams come in, in the order in which it does for each side.
    ///
    /// An echo request follows, whose answer says that all is out: the kernel does one after the other.
    pub fn ask(&mut self, datagrams: &[Vec<u8>], side: Side) -> Sent {
        self.fence = self.fence.wrapping_add(1);
        let number = self.fence.to_be_bytes();
        let fence =
            build::Four { source: [10, 1, 255, 1], destination: [10, 1, 0, 254], protocol: 1, ..Default::default() };
        let fence = build::v4(&fence, &build::icmp(&[8, 0, 0, 0, 0xfe, 0xce, number[0], number[1]]));
        for datagram in datagrams {
            self.put(datagram, side);
        }
        self.put(&fence, Side::Left);
        let mut sent = Sent::new();
        loop {
            let datagram = self.take(Side::Left).expect("the answer to the echo request that follows");
            if datagram[12..20] == [10, 1, 0, 254, 10, 1, 255, 1]
                && datagram[24..28] == [0xfe, 0xce, number[0], number[1]]
            {
                break;
            }
            sent.push((Side::Left, datagram));
        }
        while let Some(datagram) = self.waiting(Side::Right) {
            sent.push((Side::Right, datagram));
        }
        sent.retain(|(_, datagram)| !is_chatter(datagram));
        sent
    }

    /// What the router sends to this side next of its own accord: patiently.
    pub fn next(&self, side: Side) -> Vec<u8> {
        loop {
            if let Some(datagram) = self.take(side).filter(|datagram| !is_chatter(datagram)) {
                return datagram;
            }
        }
    }

    fn file(&self, side: Side) -> &File {
        match side {
            Side::Left => &self.left,
            Side::Right => &self.right,
        }
    }

    fn put(&self, datagram: &[u8], side: Side) {
        let router = [2, 0, 0, 0, 1, 1 + side as u8];
        let kind: [u8; 2] = if datagram[0] >> 4 == 6 { [0x86, 0xdd] } else { [0x08, 0x00] };
        let frame = [&router, &[2, 0, 0, 0, 0, 1][..], &kind, datagram].concat();
        self.file(side).write_all(&frame).expect("a frame that the kernel takes");
    }

    fn take(&self, side: Side) -> Option<Vec<u8>> {
        let mut ready = [PollFd::from_borrowed_fd(self.file(side).as_fd(), PollFlags::IN)];
        let patience = Timespec { tv_sec: 5, tv_nsec: 0 };
        assert_eq!(poll(&mut ready, Some(&patience)), Ok(1), "the router says nothing more");
        self.waiting(side)
    }

    fn waiting(&self, side: Side) -> Option<Vec<u8>> {
        let mut room = vec![0; 65_600];
        match self.file(side).read(&mut room) {
            Ok(length) => Some(room[ETHERNET..length].to_vec()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }
}

/// What a kernel says of itself: reports of the groups that it is in, by MLD (RFC 3810) and IGMP.
fn is_chatter(datagram: &[u8]) -> bool {
    match datagram[0] >> 4 {
        6 => datagram[6] == 0 && datagram[8] == 0xfe && datagram[24..26] == [0xff, 2] && datagram.get(48) == Some(&143),
        4 => datagram[9] == 2,
        _ => true,
    }
}
