//! A datagram in pieces: RFC 791 section 3.2, RFC 8200 section 4.5.

use super::options;
use super::wire::{HEADER4, HEADER6, half, is_six, protocol, put, seal};

/// Bytes of a Fragment header.
const FRAGMENT_HEADER: usize = 8;

/// Why a datagram was not cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uncut {
    /// No datagram whose header can be read.
    Malformed,
    /// The MTU leaves no room for eight bytes behind the headers.
    NoRoom,
}

/// Cuts an IPv4 datagram, which may be a fragment itself, into pieces of at most `mtu` bytes of IP, as Linux's
/// `ip_fragment` does for what a router sends on: TTL and checksum are those of the datagram's new hop already.
///
/// DF is not looked at: what bears it is not to come here.
///
/// # Errors
///
/// [`Uncut`]; nothing was given to `each` then.
pub fn fragment(datagram: &[u8], mtu: usize, mut each: impl FnMut(&[u8])) -> Result<(), Uncut> {
    let header = datagram.first().map_or(0, |byte| usize::from(byte & 15) * 4);
    let total = half(datagram, 2).map_or(0, usize::from);
    if is_six(datagram) || header < HEADER4 || total < header || total > datagram.len() {
        return Err(Uncut::Malformed);
    }
    let most = mtu.saturating_sub(header) & !7;
    if most == 0 {
        return Err(Uncut::NoRoom);
    }
    let (head, data) = datagram[..total].split_at(header);
    let place = half(head, 6).ok_or(Uncut::Malformed)?;
    let (first, more) = (place & 0x1fff, place & 0x2000 != 0);
    let mut piece = Vec::with_capacity(mtu.min(total));
    let mut head = head.to_vec();
    let mut rest = data;
    let mut offset = 0;
    loop {
        // The last piece need not end at a unit of eight.
        let length = if header + rest.len() <= mtu { rest.len() } else { most };
        let (part, behind) = rest.split_at(length);
        // Linux adds without a look at the 13 bits: who sends beyond them hears nothing of it here either.
        let place = first.wrapping_add((offset / 8) as u16);
        let place = if more || !behind.is_empty() { place | 0x2000 } else { place };
        put(&mut head, 2, &((header + length) as u16).to_be_bytes());
        put(&mut head, 6, &place.to_be_bytes());
        seal(&mut head);
        piece.clear();
        piece.extend_from_slice(&head);
        piece.extend_from_slice(part);
        each(&piece);
        if behind.is_empty() {
            return Ok(());
        }
        if first == 0 && offset == 0 {
            options::leave_copied(&mut head[HEADER4..]);
        }
        (rest, offset) = (behind, offset + length);
    }
}

/// Cuts a datagram of one's own, of either family, into pieces of at most `mtu` bytes of IP, which bear the number `id`
/// (its lower half in IPv4). Its IPv6 header has no extension headers, or none that belong into each piece.
///
/// # Errors
///
/// [`Uncut`]; nothing was given to `each` then.
pub fn cut(datagram: &[u8], mtu: usize, id: u32, mut each: impl FnMut(&[u8])) -> Result<(), Uncut> {
    if !is_six(datagram) {
        let mut own = datagram.to_vec();
        // A router's own answers have no DF but resets, which are small; what a host cuts itself may not be cut again by
        // others only if it says so, and it does not.
        put(&mut own, 4, &(id as u16).to_be_bytes());
        put(&mut own, 6, &[0, 0]);
        return fragment(&own, mtu, each);
    }
    let (head, data) = datagram.split_at_checked(HEADER6).ok_or(Uncut::Malformed)?;
    if data.len() > usize::from(u16::MAX) {
        return Err(Uncut::Malformed);
    }
    let most = mtu.saturating_sub(HEADER6 + FRAGMENT_HEADER) & !7;
    if most == 0 {
        return Err(Uncut::NoRoom);
    }
    let mut piece = Vec::with_capacity(mtu.min(datagram.len() + FRAGMENT_HEADER));
    for (number, part) in data.chunks(most).enumerate() {
        let offset = number * most;
        let more = offset + part.len() < data.len();
        piece.clear();
        piece.extend_from_slice(head);
        put(&mut piece, 4, &((FRAGMENT_HEADER + part.len()) as u16).to_be_bytes());
        put(&mut piece, 6, &[protocol::FRAGMENT]);
        piece.extend_from_slice(&[head[6], 0]);
        piece.extend_from_slice(&(offset as u16 | u16::from(more)).to_be_bytes());
        piece.extend_from_slice(&id.to_be_bytes());
        piece.extend_from_slice(part);
        each(&piece);
    }
    Ok(())
}
