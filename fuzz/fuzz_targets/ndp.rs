//! Neighbour discovery of hostile guests, as `arp`.
//!
//! A frame is: destination and source MAC, of a few, what is put right, the IPv6 datagram behind its first eight bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
#[path = "../../tests/rust/tap/lan.rs"]
mod lan;
mod play;
#[allow(dead_code)]
#[path = "../../tests/rust/tap/wire.rs"]
mod wire;

/// Bits of what is put right. Sums that are right by chance are rare.
const SUM: u8 = 1;
const HOP_LIMIT: u8 = 2;
const LENGTH: u8 = 4;
const NEXT_HEADER: u8 = 8;

fuzz_target!(|input: &[u8]| play::play(input, frame));

fn frame(bytes: &[u8]) -> Vec<u8> {
    let [to, from, right, rest @ ..] = bytes else { return bytes.to_vec() };
    let when = |bit: u8, value: u8, otherwise: u8| if right & bit != 0 { value } else { otherwise };
    let length = rest.len().saturating_sub(32) as u8;
    let mut datagram = vec![0x60, 0, 0, 0, 0, when(LENGTH, length, *right), when(NEXT_HEADER, 58, 60)];
    datagram.push(when(HOP_LIMIT, 255, *right));
    datagram.extend(rest);
    // An ICMPv6 message that is no extension header away, or one.
    let at = if right & NEXT_HEADER != 0 { 40 } else { 48 };
    if right & SUM != 0 && datagram.len() >= at + 4 {
        datagram[at + 2..at + 4].fill(0);
        let mut sum = (datagram.len() - at) as u32 + 58;
        for pair in datagram[8..40].chunks(2).chain(datagram[at..].chunks(2)) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        }
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        datagram[at + 2..at + 4].copy_from_slice(&(!sum as u16).to_be_bytes());
    }
    [&play::station(*to)[..], &play::station(*from), &[0x86, 0xdd], &datagram].concat()
}
