//! The options in hop-by-hop and destination headers of IPv6: RFC 8200 section 4.2, as Linux's `ip6_parse_tlv` reads them.

use super::wire::{HEADER6, half, word};

const PAD1: u8 = 0;
const PADN: u8 = 1;
const ROUTER_ALERT: u8 = 5;
/// Of security labels that no router here has been told of.
const CALIPSO: u8 = 7;
const IOAM: u8 = 49;
const JUMBO: u8 = 0xc2;

/// Most bytes of padding in a row: what aligns anything to eight (RFC 4942 section 2.1.9.5).
const PADDING: usize = 7;
/// Most options of a header: Linux's `max_hbh_opts_number` and `max_dst_opts_number`.
const MOST: usize = 8;

/// What is wrong with a header of options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Silent,
    Parameter { code: u8, pointer: u32 },
}

/// Checks the header of options at `at`; where it ends.
pub(super) fn check(datagram: &[u8], at: usize, hop_by_hop: bool) -> Result<usize, Fault> {
    let length = (usize::from(*datagram.get(at + 1).ok_or(Fault::Silent)?) + 1) * 8;
    let end = at + length;
    let bytes = datagram.get(..end).ok_or(Fault::Silent)?;
    let (mut place, mut padding, mut options) = (at + 2, 0, 0);
    while place < end {
        let kind = bytes[place];
        if kind == PAD1 {
            padding += 1;
            if padding > PADDING {
                return Err(Fault::Silent);
            }
            place += 1;
            continue;
        }
        let size = usize::from(*bytes.get(place + 1).ok_or(Fault::Silent)?) + 2;
        let data = bytes.get(place + 2..place + size).ok_or(Fault::Silent)?;
        if kind == PADN {
            padding += size;
            if padding > PADDING || data.iter().any(|byte| *byte != 0) {
                return Err(Fault::Silent);
            }
        } else {
            options += 1;
            if options > MOST {
                return Err(Fault::Silent);
            }
            option(bytes, place, hop_by_hop)?;
            padding = 0;
        }
        place += size;
    }
    Ok(end)
}

fn option(bytes: &[u8], at: usize, hop_by_hop: bool) -> Result<(), Fault> {
    let (kind, length) = (bytes[at], bytes[at + 1]);
    match kind {
        ROUTER_ALERT if hop_by_hop => (length == 2).then_some(()).ok_or(Fault::Silent),
        CALIPSO if hop_by_hop => Err(Fault::Silent),
        // In-situ measurements, which are not asked for here: nothing but the place counts.
        IOAM if hop_by_hop => at.is_multiple_of(4).then_some(()).ok_or(Fault::Silent),
        JUMBO if hop_by_hop => Err(jumbo(bytes, at)),
        _ => unknown(bytes, at),
    }
}

/// What is wrong with a jumbo payload option, RFC 2675 section 3; no datagram here is that large, so something is.
fn jumbo(bytes: &[u8], at: usize) -> Fault {
    if bytes[at + 1] != 4 || at & 3 != 2 {
        return Fault::Silent;
    }
    if word(bytes, at + 2).is_none_or(|length| length <= 0xffff) {
        return Fault::Parameter { code: 0, pointer: at as u32 + 2 };
    }
    match half(bytes, 4) {
        Some(1..) => Fault::Parameter { code: 0, pointer: at as u32 },
        _ => Fault::Silent,
    }
}

/// An option that nobody knows says in its two upper bits what is to be done about it.
fn unknown(bytes: &[u8], at: usize) -> Result<(), Fault> {
    let to_many = bytes.get(24..HEADER6).is_some_and(|to| to[0] == 0xff);
    match bytes[at] >> 6 {
        0 => Ok(()),
        2 => Err(Fault::Parameter { code: 2, pointer: at as u32 }),
        3 if !to_many => Err(Fault::Parameter { code: 2, pointer: at as u32 }),
        _ => Err(Fault::Silent),
    }
}
