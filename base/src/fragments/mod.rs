//! Fragments that come become datagrams again, at hosts and at routers that datagrams are for.
//!
//! ```text
//!   mod          Piece: what a fragment says of itself, IPv4 and IPv6
//!   reassembly   Reassembler: pieces in, datagrams out
//! ```
//!
//! What is cut into pieces is cut by `icmp::fragment`. smoltcp's own does IPv4 alone and holds its buffers whether they
//! are needed or not; a thousand hosts that nobody sends fragments to should take no memory for them. What is done with pieces that contradict one another is what Linux does
//! (`net/ipv4/ip_fragment.c`, `net/ipv6/reassembly.c`), and `tests/stack/test_fragments.py` holds it against Linux.

mod reassembly;

pub use reassembly::{LIFE4, LIFE6, MOST, Problem, Reassembler, Taken, Tally};

use crate::checksum::{fold, sum};
use crate::icmp::wire::{half, skip, word};

/// Extension headers of IPv6 that may stand before a Fragment header, and that one: RFC 8200 section 4.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;
/// Nothing follows: RFC 8200 section 4.7.
const NOTHING: u8 = 59;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP6: u8 = 58;

/// Which datagram a piece is of. IPv6 does not look at the protocol: RFC 8200 section 4.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    source: u128,
    destination: u128,
    id: u32,
    version: u8,
    protocol: u8,
}

/// A fragment.
#[derive(Debug, PartialEq, Eq)]
struct Piece<'d> {
    key: Key,
    /// All that stands before the data, a Fragment header included.
    head: &'d [u8],
    data: &'d [u8],
    /// Where the data starts in the datagram's, in bytes.
    offset: usize,
    more: bool,
    /// What the two bits for congestion say, as one bit of four: RFC 3168 section 5.
    congestion: u8,
    /// IPv4: whether it must not be cut again.
    whole: bool,
}

/// What a datagram is to a reassembler.
#[derive(Debug, PartialEq, Eq)]
enum Kind<'d> {
    /// No fragment.
    Whole,
    /// A fragment that is all of its datagram (RFC 6946): where its Fragment header stands, and where the number of that
    /// header does.
    Atomic {
        at: usize,
        named_at: usize,
    },
    Piece(Piece<'d>),
    /// Not readable.
    Damaged,
    /// One that its sender is to hear of.
    Wrong(Problem),
}

impl Kind<'_> {
    fn of(datagram: &[u8]) -> Kind<'_> {
        match datagram.first().map(|byte| byte >> 4) {
            Some(4) if may_be_one(datagram) => piece4(datagram),
            Some(6) if may_be_one(datagram) => piece6(datagram),
            _ => Kind::Whole,
        }
    }
}

/// Whether a datagram is a fragment of IPv4, or has headers in which one of IPv6 would say so. Nearly none has.
#[inline]
pub fn may_be_one(datagram: &[u8]) -> bool {
    match datagram.first().map(|byte| byte >> 4) {
        // More fragments, or an offset: RFC 791 section 3.1.
        Some(4) => datagram.len() >= 20 && (datagram[6] & 0x3f, datagram[7]) != (0, 0),
        Some(6) => datagram.len() >= 40 && [HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION].contains(&datagram[6]),
        _ => false,
    }
}

fn octets16(bytes: &[u8], at: usize) -> Option<u128> {
    Some(u128::from_be_bytes(bytes.get(at..at + 16)?.try_into().ok()?))
}

fn piece4(datagram: &[u8]) -> Kind<'_> {
    read4(datagram).map_or(Kind::Damaged, Kind::Piece)
}

fn read4(datagram: &[u8]) -> Option<Piece<'_>> {
    let header = usize::from(datagram[0] & 15) * 4;
    let total = usize::from(half(datagram, 2)?);
    let (head, data) = datagram.get(..total)?.split_at_checked(header).filter(|_| header >= 20)?;
    if fold(sum(head)) != 0xffff {
        return None;
    }
    let key = Key {
        source: word(head, 12)?.into(),
        destination: word(head, 16)?.into(),
        id: half(head, 4)?.into(),
        version: 4,
        protocol: head[9],
    };
    let place = half(head, 6)?;
    let more = place & 0x2000 != 0;
    // What does not fill a unit of eight cannot be followed: Linux takes no notice of it.
    let data = if more { &data[..data.len() & !7] } else { data };
    Some(Piece {
        key,
        head,
        data,
        offset: usize::from(place & 0x1fff) * 8,
        more,
        congestion: 1 << (head[1] & 3),
        whole: place & 0x4000 != 0,
    })
}

fn piece6(datagram: &[u8]) -> Kind<'_> {
    let Some(payload) = half(datagram, 4) else { return Kind::Damaged };
    let end = 40 + usize::from(payload);
    let Some(datagram) = datagram.get(..end) else { return Kind::Damaged };
    let Some((at, named_at)) = fragment_header(datagram) else { return Kind::Whole };
    let Some(header) = datagram.get(at..at + 8) else { return Kind::Wrong(Problem::field(40)) };
    let flags = u16::from_be_bytes([header[2], header[3]]);
    let (offset, more) = (usize::from(flags & !7), flags & 1 != 0);
    if offset == 0 && !more {
        return Kind::Atomic { at, named_at };
    }
    let (head, data) = datagram.split_at(at + 8);
    if offset == 0 && is_cut_short(datagram) {
        return Kind::Wrong(Problem::HEADERS_CUT);
    }
    // RFC 8200 section 4.5, both.
    if offset + data.len() > 65_535 {
        return Kind::Wrong(Problem::field(at + 2));
    }
    if more && !data.len().is_multiple_of(8) {
        return Kind::Wrong(Problem::field(4));
    }
    let (Some(source), Some(destination)) = (octets16(datagram, 8), octets16(datagram, 24)) else {
        return Kind::Damaged;
    };
    let id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    let key = Key { source, destination, id, version: 6, protocol: 0 };
    // The two lower bits of the traffic class.
    let congestion = 1 << (datagram[1] >> 4 & 3);
    Kind::Piece(Piece { key, head, data, offset, more, congestion, whole: false })
}

/// Where the Fragment header of an IPv6 datagram stands, and where the byte that names it; `None` where there is none.
fn fragment_header(datagram: &[u8]) -> Option<(usize, usize)> {
    let (mut named_at, mut at) = (6, 40);
    loop {
        match *datagram.get(named_at)? {
            FRAGMENT => return Some((at, named_at)),
            // RFC 8200 section 4.3: the hop-by-hop options come first or not at all.
            HOP_BY_HOP if at == 40 => {}
            ROUTING | DESTINATION => {}
            _ => return None,
        }
        named_at = at;
        at += (usize::from(*datagram.get(at + 1)?) + 1) * 8;
    }
}

/// What is wrong with a datagram that was made of fragments and says that it is one itself.
#[must_use]
pub fn nested(datagram: &[u8]) -> Option<Problem> {
    let six = datagram.first().is_some_and(|byte| byte >> 4 == 6);
    let (at, _) = fragment_header(datagram).filter(|_| six)?;
    Some(Problem::field(at))
}

/// Whether a first fragment ends before the header of the upper layer does, RFC 8200 section 4.5: as Linux looks at it,
/// which lets go by what ends within an extension header.
fn is_cut_short(datagram: &[u8]) -> bool {
    let Some(skipped) = skip(datagram).filter(|skipped| skipped.next != FRAGMENT) else { return false };
    let header = match skipped.next {
        TCP => 20,
        UDP | ICMP6 => 8,
        NOTHING => 0,
        _ => 1,
    };
    datagram.len() < skipped.at + header
}
