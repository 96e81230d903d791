//! Fragments of hostile guests: what becomes whole holds only bytes that came for it, memory is bounded, and what a stack
//! answers fits its MTU.
//!
//! An input is steps: a byte that says what, and what that takes. Pieces are IPv4's (0) or IPv6's (1) with addresses and
//! lengths that are right, so that the fuzzer need not find those; bytes as they are (2) are neither. Time passes (3).
#![no_main]

use std::net::IpAddr;

use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice};
use libfuzzer_sys::fuzz_target;
use vnet_base::Verdict;
use vnet_base::fragments::{Reassembler, Taken, may_be_one};
use vnet_drivers::stack::{Outlet, Stack};

const MTU: usize = 1280;

/// What came in pieces that this made itself: family and number, where, what.
type Came = Vec<((u8, u8), usize, Vec<u8>)>;

struct Wire;

impl Outlet for Wire {
    fn try_forward(&mut self, datagram: &[u8]) -> Option<Verdict> {
        Some(self.forward(datagram))
    }

    fn forward(&mut self, datagram: &[u8]) -> Verdict {
        assert!(datagram.len() <= MTU);
        check_header(datagram);
        Verdict::Delivered
    }
}

/// A header whose lengths and checksum hold.
fn check_header(datagram: &[u8]) {
    if datagram[0] >> 4 == 4 {
        let header = Ipv4HeaderSlice::from_slice(datagram).expect("an IPv4 header");
        assert_eq!(usize::from(header.total_len()), datagram.len());
        assert_eq!(header.to_header().calc_header_checksum(), header.header_checksum());
    } else {
        let header = Ipv6HeaderSlice::from_slice(datagram).expect("an IPv6 header");
        assert_eq!(usize::from(header.payload_length()) + 40, datagram.len());
    }
}

/// A fragment of one of eight datagrams.
fn piece(family: u8, how: u8, place: [u8; 2], data: &[u8]) -> Vec<u8> {
    let (number, more) = (how & 7, how >> 3 & 1);
    if family == 0 {
        let place = (u16::from_be_bytes(place) & 0x1fff | u16::from(more) << 13).to_be_bytes();
        let total = (20 + data.len() as u16).to_be_bytes();
        let mut header =
            [0x45, how >> 6, total[0], total[1], 0, number, place[0], place[1], 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        let sum = Ipv4HeaderSlice::from_slice(&header).expect("a header").to_header().calc_header_checksum();
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        return [&header, data].concat();
    }
    let place = (u16::from_be_bytes(place) << 3 | u16::from(more)).to_be_bytes();
    let length = (8 + data.len() as u16).to_be_bytes();
    let next = [17, 58, 253, 44][usize::from(how >> 4 & 3)];
    let mut datagram = vec![0x60, how >> 6 << 4, 0, 0, length[0], length[1], 44, 64];
    datagram.extend_from_slice(&[0xfd; 16]);
    datagram.extend_from_slice(&[0xfe; 16]);
    datagram.extend_from_slice(&[next, 0, place[0], place[1], 0, 0, 0, number]);
    datagram.extend_from_slice(data);
    datagram
}

/// Each byte of the data lies where one came.
fn check_data(datagram: &[u8], came: &Came) {
    let (family, header) = if datagram[0] >> 4 == 4 { (0, 20) } else { (1, 40) };
    let data = &datagram[header..];
    let holds = |number: u8| {
        let mut known = vec![false; data.len()];
        for (_, start, bytes) in came.iter().filter(|(of, ..)| *of == (family, number)) {
            for (at, byte) in bytes.iter().enumerate() {
                if data.get(start + at) == Some(byte) {
                    known[start + at] = true;
                }
            }
        }
        known.into_iter().all(|known| known)
    };
    assert!((0..8).any(holds), "bytes that never came");
}

fuzz_target!(|input: &[u8]| {
    let mut reassembler = Reassembler::default();
    let mut stack = Stack::new(&[(IpAddr::from([10, 0, 0, 2]), 24), (IpAddr::from([0xfe; 16]), 64)], MTU, 1);
    let (mut came, mut pure, mut now) = (Came::new(), true, 0);
    let mut rest = input;
    while let [what, how, high, low, after @ ..] = rest {
        rest = after;
        let datagram = match what & 3 {
            3 => {
                now += u64::from(*how) * 1_000_000_000;
                reassembler.expire(now, |first| assert!(may_be_one(first)));
                assert!(reassembler.deadline().is_none_or(|deadline| deadline > now));
                stack.poll(&mut Wire, now);
                continue;
            }
            2 => {
                let (bytes, after) = rest.split_at(rest.len().min(usize::from(*low)));
                rest = after;
                pure = false;
                bytes.to_vec()
            }
            family => {
                // Of so many units of eight bytes, which the next byte fills, and some more.
                let length = usize::from(*what >> 2) * if how & 32 == 0 { 8 } else { 1 };
                let fill = rest.first().copied().unwrap_or_default();
                let data: Vec<u8> = (0..length).map(|at| fill.wrapping_add(at as u8)).collect();
                let start = usize::from(u16::from_be_bytes([*high, *low]) & 0x1fff) * 8;
                came.push(((family, how & 7), start, data.clone()));
                piece(family, *how, [*high, *low], &data)
            }
        };
        stack.receive(&datagram, &mut Wire, now);
        if let Taken::Completed(whole) = reassembler.take(&datagram, now)
            && pure
        {
            check_header(&whole);
            check_data(&whole, &came);
        }
        assert!(reassembler.memory() < 6 << 20);
    }
    assert_eq!(stack.faults(), 0);
    reassembler.expire(u64::MAX, |_| {});
    assert_eq!(reassembler.memory(), 0);
});
