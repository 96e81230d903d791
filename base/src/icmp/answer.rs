//! The IP headers of a router's own datagrams.

use super::wire::{HEADER4, HEADER6, seal};

/// TTL and hop limit that a router's own datagrams start with: Linux's `ip_default_ttl`, RFC 1700.
const TTL: u8 = 64;

/// Appends an IPv4 header for `length` bytes behind it; `ends` are source and destination.
pub(super) fn header4(
    out: &mut Vec<u8>,
    service: u8,
    ident: u16,
    ends: (u32, u32),
    options: &[u8],
    protocol: u8,
    length: usize,
) {
    let start = out.len();
    let words = (HEADER4 + options.len()) / 4;
    let total = (HEADER4 + options.len() + length).min(usize::from(u16::MAX)) as u16;
    out.extend_from_slice(&[0x40 | words as u8, service]);
    out.extend_from_slice(&total.to_be_bytes());
    out.extend_from_slice(&ident.to_be_bytes());
    // No DF: an answer is to arrive, in pieces if it must.
    out.extend_from_slice(&[0, 0, TTL, protocol, 0, 0]);
    out.extend_from_slice(&ends.0.to_be_bytes());
    out.extend_from_slice(&ends.1.to_be_bytes());
    out.extend_from_slice(options);
    seal(&mut out[start..]);
}

/// Appends an IPv6 header for `length` bytes behind it.
pub(super) fn header6(
    out: &mut Vec<u8>,
    class: u8,
    flow: u32,
    ends: &([u8; 16], [u8; 16]),
    protocol: u8,
    length: usize,
) {
    let first = 6 << 28 | u32::from(class) << 20 | flow & 0xf_ffff;
    out.extend_from_slice(&first.to_be_bytes());
    out.extend_from_slice(&(length.min(usize::from(u16::MAX)) as u16).to_be_bytes());
    out.extend_from_slice(&[protocol, TTL]);
    out.extend_from_slice(&ends.0);
    out.extend_from_slice(&ends.1);
    debug_assert_eq!(out.len() % HEADER6, 0);
}

/// The flow label of a router's own datagrams: a hash of the flow, the same for all of its datagrams, as
/// `auto_flowlabels` has it (RFC 6438); Linux keys its hash anew at each start.
pub(super) fn label(ends: &([u8; 16], [u8; 16]), kind: u32) -> u32 {
    let mut hash = 0x811c_9dc5u32;
    for byte in ends.0.iter().chain(&ends.1).chain(&kind.to_be_bytes()) {
        // FNV-1a.
        hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    }
    (hash >> 12 ^ hash) & 0xf_ffff
}
