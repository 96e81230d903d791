//! ICMP errors as a Linux host sends them: smoltcp writes the quoted header anew and loses fields, and has none about
//! fragments.

use std::net::IpAddr;

use vnet_base::fragments::Problem;

use super::head::addresses;

/// Bytes of an ICMP error and its IP header that quote nothing.
const ERROR_HEADERS4: usize = 20 + 8;
const ERROR_HEADERS6: usize = 40 + 8;
/// Largest ICMP error: RFC 1812 section 4.3.2.3 for IPv4, RFC 4443 section 3.1 for IPv6. In bytes of IP.
const LARGEST_ERROR4: usize = 576;
const LARGEST_ERROR6: usize = 1280;

/// Whether a datagram is an ICMPv6 echo reply.
pub(super) fn is_echo_reply6(reply: &[u8]) -> bool {
    reply.len() > 40 && reply[0] >> 4 == 6 && reply[6] == 58 && reply[40] == 129
}

/// Whether a datagram is an ICMP error, and then the bytes of its headers and the most that it may have.
fn error(reply: &[u8]) -> Option<(usize, usize)> {
    match reply.first()? >> 4 {
        4 => (reply.len() >= ERROR_HEADERS4 && reply[0] == 0x45 && reply[9] == 1 && [3, 11, 12].contains(&reply[20]))
            .then_some((ERROR_HEADERS4, LARGEST_ERROR4)),
        6 => (reply.len() >= ERROR_HEADERS6 && reply[6] == 58 && reply[40] < 128)
            .then_some((ERROR_HEADERS6, LARGEST_ERROR6)),
        _ => None,
    }
}

/// An ICMP error that quotes the datagram that it is about byte for byte (RFC 1122 section 3.2.2). `None` where `reply`
/// is no error and stays as it is.
pub(super) fn quote(reply: &[u8], about: &[u8]) -> Option<Vec<u8>> {
    let (headers, largest) = error(reply)?;
    let mut mended = reply[..headers].to_vec();
    let about = without_rest(about);
    mended.extend_from_slice(&about[..about.len().min(largest - headers)]);
    let end = mended.len();
    if headers == ERROR_HEADERS4 {
        mended[2..4].copy_from_slice(&(end as u16).to_be_bytes());
        set_checksum(&mut mended, 0, 20, 10, 0);
        set_checksum(&mut mended, 20, end, 22, 0);
    } else {
        let length = (end - 40) as u16;
        if mended[40..42] == [4, 1] && mended[44..48] == [0, 0, 0, 40] && mended[54] != 0 {
            // A next header that nobody knows is named in the IP header, if nothing stands between.
            mended[47] = 6;
        }
        mended[4..6].copy_from_slice(&length.to_be_bytes());
        // The pseudo header, RFC 8200 section 8.1: both addresses, the length, the next header.
        let pseudo = sum(&mended[8..40]) + u32::from(length) + 58;
        set_checksum(&mut mended, 40, end, 42, pseudo);
    }
    Some(mended)
}

/// A datagram without what may lie behind its end.
fn without_rest(datagram: &[u8]) -> &[u8] {
    let length =
        |at: usize| datagram.get(at..at + 2).map_or(0, |length| usize::from(length[0]) << 8 | usize::from(length[1]));
    let end = if datagram.first().is_some_and(|byte| byte >> 4 == 4) { length(2) } else { 40 + length(4) };
    datagram.get(..end).unwrap_or(datagram)
}

/// Reassembly took too long: RFC 792, RFC 4443 section 3.3. About the first fragment. `None` where nobody may be told.
pub(super) fn reassembly_late(about: &[u8]) -> Option<Vec<u8>> {
    let kind = if about.first()? >> 4 == 4 { 11 } else { 3 };
    error_about(about, kind, 1, 0)
}

/// A fragment of IPv6 is not what it has to be: RFC 4443 section 3.4. `None` where nobody may be told.
pub(super) fn parameter_problem(about: &[u8], problem: Problem) -> Option<Vec<u8>> {
    error_about(about, 4, problem.code, problem.pointer)
}

/// An ICMP error of this type and code about a datagram that came to one address of ours from one of somebody's.
fn error_about(about: &[u8], kind: u8, code: u8, word: u32) -> Option<Vec<u8>> {
    let (source, destination) = addresses(about)?;
    // RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e): none about errors, none to what is no one's address.
    let nobody = match source {
        IpAddr::V4(source) => source.is_unspecified() || source.is_broadcast() || source.is_multicast(),
        IpAddr::V6(source) => source.is_unspecified() || source.is_multicast(),
    };
    if nobody || is_error(about) {
        return None;
    }
    let mut message = Vec::with_capacity(ERROR_HEADERS6);
    match (destination, source) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            // No more to come, not to be cut, 64 hops, ICMP; lengths and checksums are put in with the quote.
            message.extend_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 1, 0, 0]);
            message.extend_from_slice(&from.octets());
            message.extend_from_slice(&to.octets());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            message.extend_from_slice(&[0x60, 0, 0, 0, 0, 0, 58, 64]);
            message.extend_from_slice(&from.octets());
            message.extend_from_slice(&to.octets());
        }
        _ => return None,
    }
    message.extend_from_slice(&[kind, code, 0, 0]);
    message.extend_from_slice(&word.to_be_bytes());
    quote(&message, about)
}

/// Whether a datagram of IPv6 says that nothing comes behind its header (RFC 8200 section 4.7). smoltcp does not know that one.
pub(super) fn is_nothing(datagram: &[u8]) -> bool {
    datagram[0] >> 4 == 6 && datagram.get(6) == Some(&59)
}

/// Whether a datagram, or the first fragment of one, is an ICMP error.
fn is_error(about: &[u8]) -> bool {
    let at = |place: usize| about.get(place).copied();
    match about.first().map(|byte| byte >> 4) {
        Some(4) => {
            let header = usize::from(about[0] & 15) * 4;
            at(9) == Some(1) && at(header).is_some_and(|kind| [3, 4, 5, 11, 12].contains(&kind))
        }
        _ => match at(6) {
            Some(58) => at(40).is_some_and(|kind| kind < 128),
            // The first fragment of one, which alone has its type.
            Some(44) => {
                at(40) == Some(58) && about.get(42..44) == Some(&[0, 1]) && at(48).is_some_and(|kind| kind < 128)
            }
            _ => false,
        },
    }
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum()
}

/// The Internet checksum (RFC 1071) over `start..end`, stored at `at`.
fn set_checksum(datagram: &mut [u8], start: usize, end: usize, at: usize, pseudo: u32) {
    datagram[at..at + 2].fill(0);
    let mut total = sum(&datagram[start..end]) + pseudo;
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    datagram[at..at + 2].copy_from_slice(&(!(total as u16)).to_be_bytes());
}
