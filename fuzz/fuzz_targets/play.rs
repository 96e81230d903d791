//! A LAN of TAPs that lives through an input, step by step: a byte that says what, a length, so many bytes.

use std::net::IpAddr;

use crate::lan::{Lan, SECOND, mac, v4, v6};
use crate::wire;

/// Plays an input; `frame` makes a frame of what it has for one.
pub fn play(mut input: &[u8], frame: impl Fn(&[u8]) -> Vec<u8>) {
    let mut lan = Lan::new();
    lan.tap(1, &[v4(1).into(), v6(1).into()], false);
    lan.tap(2, &[v4(2).into(), v6(2).into()], true);
    lan.tap(3, &[], false);
    lan.nic(4, &[v4(4).into(), v6(4).into()]);
    while let [what, length, rest @ ..] = input {
        let (bytes, after) = rest.split_at(rest.len().min(usize::from(*length)));
        input = after;
        let slot = 1 + what % 3;
        match what >> 4 {
            0..8 => {
                lan.frame(slot, &frame(bytes));
            }
            8..12 => {
                let host = bytes.first().copied().unwrap_or_default();
                let (from, to): (IpAddr, IpAddr) = if what & 8 == 0 {
                    (v4(4).into(), v4(host).into())
                } else {
                    (v6(4).into(), v6(host.into()).into())
                };
                lan.datagram(slot, &wire::udp(mac(4), mac(slot), from, to)[14..]);
                while lan.taps.get_mut(&slot).is_some_and(|tap| tap.neighbours.resolved().is_some()) {}
            }
            12 => {
                let datagram = frame(bytes);
                if datagram.len() >= 54 && matches!(datagram[14] >> 4, 4 | 6) {
                    lan.datagram(slot, &datagram[14..]);
                }
            }
            13 => {
                let host = bytes.first().copied().unwrap_or_default();
                let address = if what & 8 == 0 { v4(host).into() } else { v6(host.into()).into() };
                lan.tables.borrow_mut().hosts.insert(address, (1 + what % 4, false));
            }
            _ => lan.pass(u64::from(*length) * SECOND / 8),
        }
        lan.check();
    }
    lan.check_quiet();
}

/// The MAC of a NIC, of a station, or any.
pub fn station(choice: u8) -> wire::Mac {
    match choice {
        0..128 => mac(choice & 7),
        128..192 => [2, 0xbb, 0, 0, 0, choice & 7],
        192..224 => wire::BROADCAST,
        _ => [choice; 6],
    }
}
