//! How many errors a router sends, against the kernel.

use std::time::{Duration, Instant};

use vnet_base::icmp::{Limits, Trouble};
use vnet_base::tables::Address;

use crate::build::{Four, Six, six, udp, v4, v6};
use crate::kernel::{Kernel, Side};
use crate::namespace::in_a_namespace;

/// A datagram that is answered by an error, from the host with this number.
type Cause = fn(u8) -> Vec<u8>;

fn udp4(host: u8, destination: [u8; 4], ttl: u8, protocol: u8) -> Vec<u8> {
    let header = Four { source: [10, 1, 9, host], destination, ttl, protocol, ..Four::default() };
    v4(&header, &udp(&header.source, &header.destination, 4))
}

fn udp6(host: u8, destination: &str, limit: u8, data: usize) -> Vec<u8> {
    let (source, destination) = (six(&format!("fd00:1::9:{host:x}")), six(destination));
    v6(&Six { source, destination, limit, ..Six::default() }, &udp(&source, &destination, data))
}

fn too_big(host: u8) -> Vec<u8> {
    let header = Four { source: [10, 1, 9, host], place: 0x4000, ..Four::default() };
    v4(&header, &udp(&header.source, &header.destination, 1_400))
}

fn wrong(host: u8) -> Vec<u8> {
    let header = Four { source: [10, 1, 9, host], options: vec![7, 3, 1], ..Four::default() };
    v4(&header, &udp(&header.source, &header.destination, 4))
}

const CAUSES: [(Cause, Trouble); 13] = [
    (|host| udp4(host, [10, 2, 0, 1], 1, 17), Trouble::TimeExceeded),
    (|host| udp4(host, [10, 2, 0, 254], 9, 17), Trouble::PortUnreachable),
    (|host| udp4(host, [10, 2, 0, 254], 9, 200), Trouble::ProtocolUnreachable(9)),
    (|host| udp4(host, [10, 8, 0, 1], 9, 17), Trouble::NetUnreachable),
    (|host| udp4(host, [10, 9, 1, 1], 9, 17), Trouble::UnreachableRoute),
    (|host| udp4(host, [10, 9, 2, 1], 9, 17), Trouble::Prohibited),
    (wrong, Trouble::Parameter { code: 0, pointer: 22 }),
    (too_big, Trouble::TooBig(1_280)),
    (|host| udp6(host, "fd00:2::1", 1, 4), Trouble::TimeExceeded),
    (|host| udp6(host, "fd00:2::fe", 9, 4), Trouble::PortUnreachable),
    (|host| udp6(host, "2001:db8::1", 9, 4), Trouble::NetUnreachable),
    (|host| udp6(host, "fd00:9:2::1", 9, 4), Trouble::Prohibited),
    (|host| udp6(host, "fd00:2::1", 9, 1_400), Trouble::TooBig(1_280)),
];

fn source(datagram: &[u8]) -> Address {
    let half = |at: usize| u64::from_be_bytes(datagram[at..at + 8].try_into().expect("8 bytes"));
    match datagram[0] >> 4 {
        6 => Address::V6(half(8), half(16)),
        _ => Address::V4(u32::from_be_bytes(datagram[12..16].try_into().expect("4 bytes"))),
    }
}

/// Less than half of the time in which anything may be said again.
const AT_ONCE: Duration = Duration::from_millis(40);

/// A router of the kernel's and one of ours, asked the same.
struct Both {
    kernel: Kernel,
    ours: Limits,
    begun: Instant,
    compared: usize,
}

impl Both {
    fn new() -> Self {
        Self { kernel: Kernel::new(true), ours: Limits::default(), begun: Instant::now(), compared: 0 }
    }

    /// Has both answer so many datagrams at once, and compares how many are. A machine that was busy with something else
    /// meanwhile shows nothing: then there was time for another answer.
    fn compare(&mut self, datagram: &[u8], trouble: Trouble, count: usize, what: &str) -> bool {
        let begun = Instant::now();
        let theirs = self.kernel.ask(&vec![datagram.to_vec(); count], Side::Left).len();
        let late = begun.elapsed() > AT_ONCE;
        let now = self.begun.elapsed().as_nanos() as u64;
        let to = source(datagram);
        let ours = (0..count).filter(|_| self.ours.allow(1, to, trouble, now)).count();
        assert!(theirs == ours || late, "{trouble:?}, {what}: {theirs} of {count} by the kernel, {ours} by us");
        self.compared += usize::from(!late);
        !late
    }
}

#[test]
fn routers_say_no_more_at_once_than_the_kernel_does() {
    if !in_a_namespace("limits::routers_say_no_more_at_once_than_the_kernel_does") {
        return;
    }
    let mut both = Both::new();
    let mut host = 0;
    let mut next = || {
        host += 1;
        host
    };
    // All that a router may say in a while must not be used up: that limit has a test of its own.
    let pause = || std::thread::sleep(Duration::from_millis(25));
    for (cause, trouble) in CAUSES {
        both.compare(&cause(next()), trouble, 20, "alone");
        pause();
    }
    // One after another to the same host: it has one bucket, whatever is said.
    for (first, one) in CAUSES {
        for (second, other) in CAUSES {
            let host = next();
            let (before, after) = (first(host), second(host));
            if before[0] >> 4 != after[0] >> 4 {
                continue;
            }
            let count = 1 + usize::from(host) % 4;
            if both.compare(&before, one, count, "first") {
                both.compare(&after, other, 20, &format!("behind {count} {one:?}"));
            }
            pause();
        }
    }
    assert!(both.compared > 100, "only {} were compared", both.compared);
}

#[test]
fn routers_say_as_much_again_after_a_while_as_the_kernel_does() {
    if !in_a_namespace("limits::routers_say_as_much_again_after_a_while_as_the_kernel_does") {
        return;
    }
    let mut both = Both::new();
    for (turn, wait) in [0, 1_500, 50, 550, 1_000].into_iter().enumerate() {
        // Far from where another one is allowed: a machine that is late by less than that is no matter.
        std::thread::sleep(Duration::from_millis(wait));
        for (host, (cause, trouble)) in CAUSES.into_iter().enumerate() {
            if matches!(trouble, Trouble::TooBig(_)) || cause(1)[0] >> 4 == 6 {
                continue;
            }
            both.compare(&cause(host as u8), trouble, 4 + turn, &format!("in turn {turn}"));
        }
    }
    let six = udp6(77, "fd00:2::1", 1, 4);
    for wait in [0, 150, 250, 50, 450] {
        let begun = Instant::now();
        std::thread::sleep(Duration::from_millis(wait));
        let in_time = begun.elapsed() < Duration::from_millis(wait) + AT_ONCE;
        if !in_time || !both.compare(&six, Trouble::TimeExceeded, 20, &format!("after {wait} ms")) {
            // From here on the two may differ by one.
            break;
        }
    }
    assert!(both.compared > 20, "only {} were compared", both.compared);
}

#[test]
fn routers_say_no_more_to_all_than_the_kernel_does() {
    if !in_a_namespace("limits::routers_say_no_more_to_all_than_the_kernel_does") {
        return;
    }
    let mut both = Both::new();
    let all: Vec<Vec<u8>> = (0..200).flat_map(|host| vec![udp4(host, [10, 2, 0, 1], 1, 17); 3]).collect();
    let theirs = both.kernel.ask(&all, Side::Left).len();
    let now = both.begun.elapsed().as_nanos() as u64;
    let ours = all.iter().filter(|asked| both.ours.allow(1, source(asked), Trouble::TimeExceeded, now)).count();
    // What the kernel takes off for each is random, and 1 in the middle: the spread is 6. A refill of 20 may come.
    assert!((ours - 25..ours + 50).contains(&theirs), "{theirs}, {ours}");
}
