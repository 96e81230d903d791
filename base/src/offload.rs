//! Offloads: what a datagram still lacks, and doing it for receivers that did not ask for it.
//!
//! # Theory of operation
//!
//! A guest with an Ethernet device of modern make hands over datagrams that are not finished: a checksum that holds the
//! pseudo header's sum only, and up to 64 KB of TCP or UDP payload behind one set of headers, which the wire would see
//! as many datagrams. Such a datagram crosses the LAN whole, with one word beside it that says what it lacks. A receiver
//! that takes datagrams so (a TAP, a virtio guest) gets it as it is, so most are never finished. For any other, the
//! [`Finisher`] makes of it what Linux would have made (`tcp_gso_segment`, `__udp_gso_segment`, `skb_checksum_help`),
//! byte for byte.
//!
//! ```text
//!   bits   0-15      16-31      32-47      48-49            50          51    52-63
//!        ┌──────────┬──────────┬──────────┬────────────────┬───────────┬─────┬──────┐
//!        │ start    │ offset   │ size     │ 0 1 2 3:       │ 1: start, │ ecn │ zero │
//!        │ of the   │ of its   │ of each  │ none TCP4 TCP6 │ offset    │     │      │
//!        │ checksum │ field    │ payload  │ UDP            │ hold      │     │      │
//!        └──────────┴──────────┴──────────┴────────────────┴───────────┴─────┴──────┘
//! ```
//!
//! The word may come from a hostile process and the datagram from a hostile guest, and either may change in shared
//! memory between two looks. So whoever reads a record calls [`Offload::check`], and the finisher again takes every index from
//! one look that is bounds checked, not from what the datagram said before.
use crate::checksum::{fold, sum};
use crate::datagram::{HEADER4, HEADER6};

/// What a datagram still lacks: the meta word of a record in an input buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offload(u64);

/// What a datagram is to be cut into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Segments {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP over either: datagrams of their own, not fragments.
    Udp,
}

/// An [`Offload`] in words. The default lacks nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fields {
    /// A checksum from here to the end is to be done: where it starts, in bytes from the IP header's first, and where
    /// its 16 bits lie, in bytes from there. They hold the sum of what else counts, the pseudo header as a rule.
    pub checksum: Option<(u16, u16)>,
    /// What it is to be cut into, with the bytes of payload of each but the last.
    pub segments: Option<(Segments, u16)>,
    /// TCP's CWR flag belongs to the first segment only (virtio 1.3 section 5.1.6.2).
    pub ecn: bool,
}

/// How an offload contradicts itself or its datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Contradiction {
    /// Bits are set, or a kind is named, that mean nothing here. UFO, which Linux gave up, is among them.
    #[error("asks for what nobody knows")]
    Unknown,
    /// No IP header, or one that ends after the datagram does or before its own first 20 bytes.
    #[error("has no whole IP header")]
    Header,
    /// The checksum starts in or before the IP header.
    #[error("starts the checksum before the end of the IP header")]
    Start,
    /// The checksum, or a length that a header states, lies beyond the end.
    #[error("lies beyond the end of the datagram")]
    Beyond,
    /// Segments need their checksums done (virtio 1.3 section 5.1.6.2), and TCP and UDP say where.
    #[error("has segments whose checksum is not where their protocol has it")]
    Checksum,
    /// The segments' kind is not that of the IP header.
    #[error("has segments of another IP version or protocol than the datagram")]
    Kind,
    /// The datagram is a fragment: neither its checksum nor its payload is whole.
    #[error("would finish a fragment")]
    Fragment,
    /// The IP header states another length than the datagram to be cut has.
    #[error("would cut a datagram whose length is not what its header states")]
    Length,
    /// The TCP header is shorter than TCP's.
    #[error("has a TCP header of fewer than 20 bytes")]
    Tcp,
    /// Segments without payload, or so many that their headers would be over [`MOST_HEADERS`].
    #[error("would cut a datagram into segments that are too small")]
    Size,
    /// ECN is said of what is no TCP to be cut.
    #[error("speaks of ECN without segments of TCP")]
    Ecn,
}

/// Most bytes of headers that one datagram may become, so that a hostile guest cannot have a base make a thousand times
/// what it sent. TCP's smallest segments, of 8 bytes behind 120 bytes of headers, stay below.
pub const MOST_HEADERS: usize = 1 << 20;

/// Most extension headers between IPv6 and what is to be cut: each kind may stand there once, destination options twice
/// (RFC 8200 section 4.1).
const MOST_EXTENSIONS: usize = 8;

const KIND: u32 = 48;
const HAS_CHECKSUM: u64 = 1 << 50;
const ECN_BIT: u64 = 1 << 51;

const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
/// Bytes of the smallest TCP header, RFC 9293 section 3.1, and where its checksum lies.
const TCP: usize = 20;
const TCP_CHECKSUM: usize = 16;
/// Bytes of a UDP header, RFC 768, and where its checksum lies.
const UDP: usize = 8;
const UDP_CHECKSUM: usize = 6;

/// Flags of TCP, RFC 9293 section 3.1, in the byte at [`TCP_FLAGS`].
const TCP_FLAGS: usize = 13;
const CWR: u8 = 0x80;
const PSH: u8 = 0x08;
const FIN: u8 = 0x01;

/// What a NIC's guest takes as it is.
pub mod takes {
    /// Checksums that are not done.
    pub const CHECKSUM: u32 = 1;
    /// TCP over IPv4, to be cut.
    pub const TSO4: u32 = 2;
    /// TCP over IPv6, to be cut.
    pub const TSO6: u32 = 4;
    /// TCP with CWR, to be cut.
    pub const ECN: u32 = 8;
    /// UDP, to be cut.
    pub const USO: u32 = 16;
}

impl Offload {
    /// The word for these fields.
    #[must_use]
    pub fn new(fields: &Fields) -> Self {
        let checksum =
            fields.checksum.map_or(0, |(start, offset)| HAS_CHECKSUM | u64::from(start) | u64::from(offset) << 16);
        let segments = fields.segments.map_or(0, |(kind, size)| {
            let kind = match kind {
                Segments::Tcp4 => 1,
                Segments::Tcp6 => 2,
                Segments::Udp => 3,
            };
            kind << KIND | u64::from(size) << 32
        });
        Self(checksum | segments | if fields.ecn { ECN_BIT } else { 0 })
    }

    /// The word as it stands in a record.
    #[must_use]
    pub fn word(self) -> u64 {
        self.0
    }

    /// A word as found, not checked.
    #[must_use]
    pub fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// What the word says, not held against any datagram.
    #[must_use]
    pub fn fields(self) -> Fields {
        let part = |shift: u32| (self.0 >> shift) as u16;
        let kind = match self.0 >> KIND & 3 {
            1 => Some(Segments::Tcp4),
            2 => Some(Segments::Tcp6),
            3 => Some(Segments::Udp),
            _ => None,
        };
        Fields {
            checksum: (self.0 & HAS_CHECKSUM != 0).then(|| (part(0), part(16))),
            segments: kind.map(|kind| (kind, part(32))),
            ecn: self.0 & ECN_BIT != 0,
        }
    }

    /// What the datagram lacks, if the two fit together. [`Finisher::finish`] wants them so.
    ///
    /// A checksum alone may be anywhere behind the IP header: a tunnel's is that of the datagram within.
    ///
    /// # Errors
    ///
    /// What contradicts what.
    #[inline]
    pub fn check(self, datagram: &[u8]) -> Result<Fields, Contradiction> {
        let fields = self.fields();
        if Self::new(&fields) != self {
            return Err(Contradiction::Unknown);
        }
        if fields.ecn && !matches!(fields.segments, Some((Segments::Tcp4 | Segments::Tcp6, _))) {
            return Err(Contradiction::Ecn);
        }
        let (start, offset) = match (fields.checksum, fields.segments) {
            (None, None) => return Ok(fields),
            (None, Some(_)) => return Err(Contradiction::Checksum),
            (Some((start, offset)), _) => (usize::from(start), usize::from(offset)),
        };
        if start < ip_header(datagram)? {
            return Err(Contradiction::Start);
        }
        if start + offset + 2 > datagram.len() {
            return Err(Contradiction::Beyond);
        }
        if let Some((kind, size)) = fields.segments {
            let layout = Layout::of(datagram, kind, size)?;
            if layout.transport != start || layout.checksum() != offset {
                return Err(Contradiction::Checksum);
            }
        }
        Ok(fields)
    }

    /// Bytes of the headers that each segment will bear, from the IP header's first; `None` where nothing is to be cut
    /// or the offload contradicts the datagram.
    #[must_use]
    pub fn headers(self, datagram: &[u8]) -> Option<usize> {
        let (kind, size) = self.fields().segments?;
        Layout::of(datagram, kind, size).ok().map(|layout| layout.headers)
    }

    /// Bytes of IP of the largest datagram that it becomes on a wire: what is held against an MTU. Where the offload
    /// contradicts the datagram, that of the datagram as it is.
    #[must_use]
    #[inline]
    pub fn largest(self, datagram: &[u8]) -> usize {
        match self.fields().segments {
            None => datagram.len(),
            Some((kind, size)) => Layout::of(datagram, kind, size)
                .map_or(datagram.len(), |layout| datagram.len().min(layout.headers + usize::from(size))),
        }
    }
}

/// Whether a guest that takes what `takes` says (bits of [`takes`]) takes a datagram that lacks `fields` as it is.
#[must_use]
#[inline]
pub fn suits(fields: &Fields, takes: u32) -> bool {
    let segments = match fields.segments {
        None => 0,
        Some((Segments::Tcp4, _)) => takes::TSO4,
        Some((Segments::Tcp6, _)) => takes::TSO6,
        Some((Segments::Udp, _)) => takes::USO,
    };
    let checksum = if fields.checksum.is_some() { takes::CHECKSUM } else { 0 };
    let ecn = if fields.ecn { takes::ECN } else { 0 };
    let needed = segments | checksum | ecn;
    takes & needed == needed
}

/// Bytes of the IP header, without extensions, of a datagram that is no IPv4 fragment.
fn ip_header(datagram: &[u8]) -> Result<usize, Contradiction> {
    match datagram.first().map(|byte| byte >> 4) {
        Some(4) if datagram.len() >= HEADER4 => {
            let header = usize::from(datagram[0] & 15) * 4;
            if header < HEADER4 || header > datagram.len() {
                Err(Contradiction::Header)
            } else if read16(datagram, 6) & 0x3fff != 0 {
                // More fragments, or an offset, RFC 791 section 3.1.
                Err(Contradiction::Fragment)
            } else {
                Ok(header)
            }
        }
        Some(6) if datagram.len() >= HEADER6 => Ok(HEADER6),
        _ => Err(Contradiction::Header),
    }
}

fn read16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn write16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Where the parts of a datagram that is to be cut lie: `transport <= headers <= ` its length, bounds checked.
struct Layout {
    v6: bool,
    udp: bool,
    /// Where the TCP or UDP header begins.
    transport: usize,
    /// Where the payload begins.
    headers: usize,
}

impl Layout {
    #[inline]
    fn of(datagram: &[u8], kind: Segments, size: u16) -> Result<Self, Contradiction> {
        let header = ip_header(datagram)?;
        let v6 = datagram[0] >> 4 == 6;
        let (stated, protocol, transport) = if v6 {
            let (protocol, transport) = behind_extensions(datagram)?;
            (HEADER6 + usize::from(read16(datagram, 4)), protocol, transport)
        } else {
            (usize::from(read16(datagram, 2)), datagram[9], header)
        };
        if stated != datagram.len() {
            return Err(Contradiction::Length);
        }
        let udp = match (kind, v6, protocol) {
            (Segments::Tcp4, false, PROTOCOL_TCP) | (Segments::Tcp6, true, PROTOCOL_TCP) => false,
            (Segments::Udp, _, PROTOCOL_UDP) => true,
            _ => return Err(Contradiction::Kind),
        };
        let behind = &datagram[transport..];
        let own = match behind.get(12) {
            _ if udp => UDP,
            Some(offset) => usize::from(offset >> 4) * 4,
            None => return Err(Contradiction::Beyond),
        };
        if !udp && own < TCP {
            return Err(Contradiction::Tcp);
        }
        if own > behind.len() {
            return Err(Contradiction::Beyond);
        }
        let (headers, payload) = (transport + own, behind.len() - own);
        if size == 0 || payload.div_ceil(usize::from(size)) * headers > MOST_HEADERS {
            return Err(Contradiction::Size);
        }
        Ok(Self { v6, udp, transport, headers })
    }

    /// Where the checksum lies, in bytes from the transport header's first.
    fn checksum(&self) -> usize {
        if self.udp { UDP_CHECKSUM } else { TCP_CHECKSUM }
    }
}

/// The protocol behind IPv6 and its extension headers, and where it begins: no further than the datagram's end.
///
/// Passes what Linux segments behind: hop-by-hop options, routing and destination options.
fn behind_extensions(datagram: &[u8]) -> Result<(u8, usize), Contradiction> {
    let (mut next, mut at) = (datagram[6], HEADER6);
    for _ in 0..MOST_EXTENSIONS {
        match next {
            0 | 43 | 60 => {
                let &[following, eights, ..] = &datagram[at..] else { return Err(Contradiction::Beyond) };
                (next, at) = (following, at + 8 + usize::from(eights) * 8);
                if at > datagram.len() {
                    return Err(Contradiction::Beyond);
                }
            }
            44 => return Err(Contradiction::Fragment),
            _ => break,
        }
    }
    Ok((next, at))
}

/// Turns a datagram into finished ones: cut, every checksum done. Keeps a buffer, which appears with the first need.
#[derive(Default)]
pub struct Finisher {
    scratch: Vec<u8>,
}

impl Finisher {
    /// A finisher without a buffer yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives `emit` what a receiver that takes what `takes` says (bits of [`takes`]) is to get, in order: the datagram
    /// itself if that [`suits`] it, and otherwise what it becomes, with checksums left to those that take that. What
    /// they lack comes beside them.
    ///
    /// `fields` are what [`Offload::check`] made of this datagram. Where they contradict it all the same, because it
    /// changed since, nothing is emitted.
    ///
    /// Stops when `emit` returns false, and then returns false.
    pub fn finish(
        &mut self,
        datagram: &[u8],
        fields: &Fields,
        takes: u32,
        mut emit: impl FnMut(&[u8], Option<Offload>) -> bool,
    ) -> bool {
        let lacking = |fields: &Fields| (*fields != Fields::default()).then(|| Offload::new(fields));
        if suits(fields, takes) {
            return emit(datagram, lacking(fields));
        }
        let Some(checksum) = fields.checksum else { return true };
        let left = Fields { checksum: Some(checksum), segments: None, ecn: false };
        let left = if suits(&left, takes) { lacking(&left) } else { None };
        if let Some((kind, size)) = fields.segments {
            let Ok(layout) = Layout::of(datagram, kind, size) else { return true };
            if datagram.len() - layout.headers > usize::from(size) {
                return self.segment(datagram, &layout, size, left, emit);
            }
        }
        if left.is_some() { emit(datagram, left) } else { self.complete(datagram, checksum, emit) }
    }

    /// Does the checksum of a datagram, as `skb_checksum_help` does.
    fn complete(
        &mut self,
        datagram: &[u8],
        (start, offset): (u16, u16),
        mut emit: impl FnMut(&[u8], Option<Offload>) -> bool,
    ) -> bool {
        let (start, field) = (usize::from(start), usize::from(start) + usize::from(offset));
        let scratch = self.scratch(datagram.len());
        scratch.copy_from_slice(datagram);
        if field + 2 > scratch.len() {
            return true;
        }
        let checksum = unless_zero(!fold(sum(&scratch[start..])));
        scratch[field..field + 2].copy_from_slice(&checksum.to_ne_bytes());
        emit(scratch, None)
    }

    /// Cuts a datagram whose payload is longer than `size`. `left` is what the pieces are to lack.
    fn segment(
        &mut self,
        datagram: &[u8],
        layout: &Layout,
        size: u16,
        left: Option<Offload>,
        mut emit: impl FnMut(&[u8], Option<Offload>) -> bool,
    ) -> bool {
        let &Layout { v6, udp, transport, headers } = layout;
        let field = transport + layout.checksum();
        let (head, payload) = datagram.split_at(headers);
        let scratch = self.scratch(headers + usize::from(size).min(payload.len()));
        scratch[..headers].copy_from_slice(head);
        let id = read16(scratch, 4);
        let sequence = u32::from_be_bytes([4, 5, 6, 7].map(|at| scratch[transport + at]));
        let flags = if udp { 0 } else { scratch[transport + TCP_FLAGS] };
        // The pseudo header's sum without the length in it, RFC 9293 section 3.1. Taken from the field and not made of
        // the addresses: behind a routing header, the one that counts is not in the IP header.
        let pseudo = u64::from(read16(scratch, field)) + u64::from(!((datagram.len() - transport) as u16));
        let pieces = payload.len().div_ceil(usize::from(size));

        for (index, part) in payload.chunks(usize::from(size)).enumerate() {
            let piece = &mut scratch[..headers + part.len()];
            piece[headers..].copy_from_slice(part);
            let behind = (piece.len() - transport) as u16;
            if v6 {
                let length = (piece.len() - HEADER6) as u16;
                write16(piece, 4, length);
            } else {
                let length = piece.len() as u16;
                write16(piece, 2, length);
                write16(piece, 4, id.wrapping_add(index as u16));
                write16(piece, 10, 0);
                let checksum = !fold(sum(&piece[..transport]));
                piece[10..12].copy_from_slice(&checksum.to_ne_bytes());
            }
            if udp {
                write16(piece, transport + 4, behind);
            } else {
                let sequence = sequence.wrapping_add((index * usize::from(size)) as u32);
                piece[transport + 4..transport + 8].copy_from_slice(&sequence.to_be_bytes());
                let first = if index == 0 { CWR } else { 0 };
                let last = if index + 1 == pieces { PSH | FIN } else { 0 };
                piece[transport + TCP_FLAGS] = flags & (!(CWR | PSH | FIN) | first | last);
            }
            // Numbers as they stand on the wire here, so folded as numbers and stored as such.
            write16(piece, field, fold(pseudo + u64::from(behind)));
            if left.is_none() {
                let checksum = !fold(sum(&piece[transport..]));
                let checksum = if udp { unless_zero(checksum) } else { checksum };
                piece[field..field + 2].copy_from_slice(&checksum.to_ne_bytes());
            }
            if !emit(piece, left) {
                return false;
            }
        }
        true
    }

    fn scratch(&mut self, bytes: usize) -> &mut [u8] {
        if self.scratch.len() < bytes {
            // As zeroed pages of the kernel, not as bytes to write.
            self.scratch = vec![0; bytes.next_power_of_two()];
        }
        &mut self.scratch[..bytes]
    }
}

/// UDP says with a zero that there is no checksum (RFC 768); for all others the two forms of zero are the same.
fn unless_zero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}
