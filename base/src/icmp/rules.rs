//! What no ICMP error may be about: RFC 1122 section 3.2.2, RFC 1812 section 4.3.2.7, RFC 4443 section 2.4 (e).

use vnet_tables::Address;

use super::error::Trouble;
use super::wire::{HEADER4, addresses, half, is_six, length6, protocol, skip};

/// ICMP types up to 18 that are no errors, by RFC 792, 950 and 1256 as Linux reads them: others may be, and are not
/// answered either.
const ASKING: [u8; 8] = [0, 8, 13, 14, 15, 16, 17, 18];

/// Whether an ICMP error about this trouble may be sent to the sender of this datagram.
///
/// What bytes cannot say is the caller's: whether the destination is the broadcast address of a network.
#[must_use]
pub fn may_answer(datagram: &[u8], trouble: Trouble) -> bool {
    let Some((source, destination)) = addresses(datagram) else { return false };
    if identifies_nobody(source) {
        return false;
    }
    // What is behind its end is no part of it.
    let length = if is_six(datagram) { length6(datagram) } else { half(datagram, 2).map(usize::from) };
    let datagram = length.and_then(|length| datagram.get(..length)).unwrap_or(datagram);
    if is_six(datagram) { may_answer6(datagram, destination, trouble) } else { may_answer4(datagram, destination) }
}

/// Whether an address is of no single station: nobody can be told anything there.
fn identifies_nobody(source: Address) -> bool {
    match source {
        Address::V4(source) => source == 0 || source >> 24 == 127 || is_group4(source),
        Address::V6(high, low) => high >> 56 == 0xff || (high == 0 && low <= 1),
    }
}

/// Multicast, or broadcast everywhere.
pub(super) fn is_group4(address: u32) -> bool {
    address >> 28 == 14 || address == u32::MAX
}

fn may_answer4(datagram: &[u8], destination: Address) -> bool {
    if matches!(destination, Address::V4(address) if is_group4(address)) {
        return false;
    }
    // Only the first fragment says what it is about.
    if half(datagram, 6).is_none_or(|place| place & 0x1fff != 0) {
        return false;
    }
    if datagram.get(9) != Some(&protocol::ICMP) {
        return datagram.len() >= HEADER4;
    }
    let header = usize::from(datagram[0] & 15) * 4;
    datagram.get(header).is_some_and(|kind| ASKING.contains(kind))
}

fn may_answer6(datagram: &[u8], destination: Address, trouble: Trouble) -> bool {
    if matches!(destination, Address::V6(high, _) if high >> 56 == 0xff) {
        let exempt = match trouble {
            Trouble::TooBig(_) => true,
            // An option of which the sender wants to hear also where it sent to many.
            Trouble::Parameter { code: 2, pointer } => {
                datagram.get(pointer as usize).is_none_or(|option| option >> 6 == 2)
            }
            _ => false,
        };
        if !exempt {
            return false;
        }
    }
    let Some(skipped) = skip(datagram).filter(|skipped| skipped.next == protocol::ICMP6) else { return true };
    match datagram.get(skipped.at) {
        Some(kind) => kind & 0x80 != 0,
        None => skipped.fragment,
    }
}
