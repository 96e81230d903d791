//! Datagrams leave in pieces where they are larger than the MTU: RFC 791 section 3.2, RFC 8200 section 4.5.

use smoltcp::wire::Ipv4Packet;
use vnet_base::Verdict;

use super::FRAGMENT;

/// Bytes of the headers that stacks write: they have no options and no extension headers.
const HEADER4: usize = 20;
const HEADER6: usize = 40;

/// Bytes of a Fragment header.
const FRAGMENT_HEADER: usize = 8;

/// Sends a datagram of a stack in pieces of at most `mtu` bytes of IP, which bear the number `id` (its lower half in IPv4).
///
/// Pieces are sent in order until one does not arrive: nobody has use for the rest. Returns the verdict on that one, or
/// on the last. What says "do not fragment" is cut too: that is for routers, and set where whole datagrams leave, as Linux
/// does (`IP_PMTUDISC_WANT`).
pub fn cut(datagram: &[u8], mtu: usize, id: u32, mut send: impl FnMut(&[u8]) -> Verdict) -> Verdict {
    let four = datagram.first().is_some_and(|byte| byte >> 4 == 4);
    let (header, behind) = if four { (HEADER4, 0) } else { (HEADER6, FRAGMENT_HEADER) };
    // Offsets count units of eight bytes.
    let most = mtu.saturating_sub(header + behind) & !7;
    let Some((head, data)) = datagram.split_at_checked(header) else { return Verdict::Malformed };
    if most == 0 || data.len() > 65_535 || (four && head[0] != 0x45) {
        return Verdict::TooBig;
    }
    let mut piece = Vec::with_capacity(mtu.min(datagram.len() + behind));
    let mut verdict = Verdict::Delivered;
    for (number, part) in data.chunks(most).enumerate() {
        let offset = number * most;
        let more = offset + part.len() < data.len();
        piece.clear();
        piece.extend_from_slice(head);
        if four {
            let mut packet = Ipv4Packet::new_unchecked(&mut piece[..]);
            packet.set_total_len((header + part.len()) as u16);
            packet.set_ident(id as u16);
            packet.clear_flags();
            packet.set_more_frags(more);
            packet.set_frag_offset(offset as u16);
            packet.fill_checksum();
        } else {
            let length = (FRAGMENT_HEADER + part.len()) as u16;
            let place = offset as u16 | u16::from(more);
            piece[4..6].copy_from_slice(&length.to_be_bytes());
            piece[6] = FRAGMENT;
            piece.extend_from_slice(&[head[6], 0]);
            piece.extend_from_slice(&place.to_be_bytes());
            piece.extend_from_slice(&id.to_be_bytes());
        }
        piece.extend_from_slice(part);
        verdict = send(&piece);
        if verdict != Verdict::Delivered {
            break;
        }
    }
    verdict
}
