//! TCP segments that nobody waits for are reset: RFC 9293 section 3.5.2.

use vnet_tables::Address;

use super::answer::{self, label};
use super::local::Local;
use super::wire::{HEADER4, addresses, checksum, half, holds, is_six, octets6, protocol, pseudo, put, word};

/// Bytes of a TCP header without options.
const HEADER: usize = 20;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// The bits of type of service and traffic class that say how congested the way is: a reset has none, RFC 3168
/// section 6.1.1.
const CONGESTION: u8 = 3;

/// Whether a segment with these options is not to be reset: it bears a signature (RFC 2385), for which nobody here has the
/// key, or what might be one cannot be read. As Linux's `tcp_do_parse_auth_options`, which looks as long as one has room.
fn is_signed(mut options: &[u8]) -> bool {
    const SIGNATURE: u8 = 19;
    const BYTES: usize = 18;
    const AUTHENTICATION: u8 = 29;

    while options.len() >= BYTES {
        match options[0] {
            0 => return false,
            1 => options = &options[1..],
            kind => {
                let length = usize::from(options[1]);
                if length < 2 || length > options.len() || kind == SIGNATURE || kind == AUTHENTICATION && length <= 4 {
                    return true;
                }
                options = &options[length..];
            }
        }
    }
    false
}

/// Answers the TCP segment at `at` by a reset with these IPv4 options, if it is one and no reset itself.
pub(super) fn reset(out: &mut Vec<u8>, datagram: &[u8], at: usize, options: &[u8]) -> Option<Local> {
    let segment = datagram.get(at..)?;
    let (ports, sequence, acknowledged) = (word(segment, 0)?, word(segment, 4)?, word(segment, 8)?);
    let (offset, flags) = (usize::from(*segment.get(12)? >> 4) * 4, *segment.get(13)?);
    let data = segment.len().checked_sub(offset).filter(|_| offset >= HEADER)?;
    let right = holds(datagram, protocol::TCP, segment.len(), segment);
    if !right || flags & RST != 0 || is_signed(segment.get(HEADER..offset)?) {
        return None;
    }
    let (sequence, acknowledged, flags) = if flags & ACK != 0 {
        (acknowledged, 0, RST)
    } else {
        let taken = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0) + data as u32;
        (0, sequence.wrapping_add(taken), RST | ACK)
    };
    let head = match addresses(datagram)? {
        (Address::V4(source), Address::V4(asked)) => {
            // No identification: it is never cut.
            answer::header4(out, datagram[1] & !CONGESTION, 0, (asked, source), options, protocol::TCP, HEADER);
            put(out, 6, &[0x40]);
            let head = HEADER4 + options.len();
            super::wire::seal(out.get_mut(..head)?);
            head
        }
        (Address::V6(source, source_low), Address::V6(asked, asked_low)) => {
            let ends = (octets6(asked, asked_low), octets6(source, source_low));
            let class = (half(datagram, 0)? >> 4) as u8 & !CONGESTION;
            answer::header6(out, class, label(&ends, ports), &ends, protocol::TCP, HEADER);
            super::wire::HEADER6
        }
        _ => return None,
    };
    debug_assert_eq!(is_six(out), is_six(datagram));
    out.extend_from_slice(&ports.rotate_left(16).to_be_bytes());
    out.extend_from_slice(&sequence.to_be_bytes());
    out.extend_from_slice(&acknowledged.to_be_bytes());
    out.extend_from_slice(&[(HEADER as u8 / 4) << 4, flags, 0, 0, 0, 0, 0, 0]);
    let (pseudo, count) = pseudo(out, protocol::TCP, HEADER);
    let sum = checksum(&[&pseudo[..count], &out[head..]]);
    put(out, head + 16, &sum);
    Some(Local::Reply)
}
