//! The blocks of a pcapng file that captures write, in this machine's byte order.
//!
//! draft-ietf-opsawg-pcapng: section header (4.1), interface description (4.2), enhanced packet (4.3), interface
//! statistics (4.6). Written by hand into the buffer that goes to the file: a packet costs two copies of some words and
//! one of its bytes.

/// A section header, an interface description, interface statistics, an enhanced packet.
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
pub(crate) const PACKET: u32 = 6;

/// LINKTYPE_RAW: the packet begins with an IPv4 or IPv6 header.
const RAW_IP: u16 = 101;

/// epb_flags of an inbound and an outbound packet (section 4.3.1).
pub(crate) const INBOUND: u32 = 1;
pub(crate) const OUTBOUND: u32 = 2;

/// Most bytes of a block around a packet's bytes and its comment.
pub(crate) const AROUND: usize = 96;

/// One packet of an interface.
pub(crate) struct Packet<'p> {
    pub interface: u32,
    /// Nanoseconds since 1970.
    pub time: u64,
    pub bytes: &'p [u8],
    /// Bytes that it had before it was cut.
    pub length: u32,
    /// [`INBOUND`] or [`OUTBOUND`].
    pub direction: u32,
    /// Why it was dropped, if it was.
    pub dropped: Option<&'static str>,
    /// Packets missed since the last one.
    pub gap: u64,
}

fn word(to: &mut Vec<u8>, value: u32) {
    to.extend_from_slice(&value.to_ne_bytes());
}

fn option(to: &mut Vec<u8>, code: u16, value: &[u8]) {
    // What is longer than an option can be is cut.
    let value = &value[..value.len().min(0xfff0)];
    to.extend_from_slice(&code.to_ne_bytes());
    to.extend_from_slice(&(value.len() as u16).to_ne_bytes());
    to.extend_from_slice(value);
    pad(to);
}

fn pad(to: &mut Vec<u8>) {
    // Blocks begin at a multiple of 4 in the file, and so in each buffer.
    to.resize(to.len().next_multiple_of(4), 0);
}

fn block(to: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = to.len();
    word(to, kind);
    word(to, 0);
    body(to);
    let total = (to.len() + 4 - start) as u32;
    word(to, total);
    to[start + 4..start + 8].copy_from_slice(&total.to_ne_bytes());
}

/// The head of a file.
pub(crate) fn section(to: &mut Vec<u8>) {
    block(to, SECTION, |to| {
        word(to, 0x1a2b_3c4d);
        to.extend_from_slice(&1u16.to_ne_bytes());
        to.extend_from_slice(&0u16.to_ne_bytes());
        // A section of unknown length.
        to.extend_from_slice(&u64::MAX.to_ne_bytes());
        // shb_userappl
        option(to, 4, concat!("vnet ", env!("CARGO_PKG_VERSION")).as_bytes());
        option(to, 0, &[]);
    });
}

/// An interface; the n-th one of a section has the number n.
pub(crate) fn interface(to: &mut Vec<u8>, name: &str, description: &str, snap_length: u32, filter: &str) {
    block(to, INTERFACE, |to| {
        to.extend_from_slice(&RAW_IP.to_ne_bytes());
        to.extend_from_slice(&0u16.to_ne_bytes());
        word(to, snap_length);
        // if_name, if_description
        option(to, 2, name.as_bytes());
        if !description.is_empty() {
            option(to, 3, description.as_bytes());
        }
        // if_tsresol: times are in units of 10⁻⁹ seconds.
        option(to, 9, &[9]);
        if !filter.is_empty() {
            // if_filter, in tcpdump's language: 0.
            option(to, 11, &[&[0], filter.as_bytes()].concat());
        }
        option(to, 0, &[]);
    });
}

/// A packet. The hot path: one reservation, then copies.
#[inline]
pub(crate) fn packet(to: &mut Vec<u8>, packet: &Packet<'_>) {
    let start = to.len();
    let bytes = packet.bytes;
    to.reserve(bytes.len() + AROUND);
    let mut head = [0; 28];
    head[0..4].copy_from_slice(&PACKET.to_ne_bytes());
    head[8..12].copy_from_slice(&packet.interface.to_ne_bytes());
    head[12..16].copy_from_slice(&((packet.time >> 32) as u32).to_ne_bytes());
    head[16..20].copy_from_slice(&(packet.time as u32).to_ne_bytes());
    head[20..24].copy_from_slice(&(bytes.len() as u32).to_ne_bytes());
    head[24..28].copy_from_slice(&packet.length.to_ne_bytes());
    to.extend_from_slice(&head);
    to.extend_from_slice(bytes);
    pad(to);
    // epb_flags: two bits of direction.
    let mut tail = [0; 12];
    tail[0..2].copy_from_slice(&2u16.to_ne_bytes());
    tail[2..4].copy_from_slice(&4u16.to_ne_bytes());
    tail[4..8].copy_from_slice(&packet.direction.to_ne_bytes());
    if packet.dropped.is_some() || packet.gap > 0 {
        to.extend_from_slice(&tail[..8]);
        remarks(to, packet);
        word(to, 0);
    } else {
        to.extend_from_slice(&tail);
    }
    let total = ((to.len() + 4 - start) as u32).to_ne_bytes();
    to.extend_from_slice(&total);
    to[start + 4..start + 8].copy_from_slice(&total);
}

#[cold]
fn remarks(to: &mut Vec<u8>, packet: &Packet<'_>) {
    if packet.gap > 0 {
        // epb_dropcount
        option(to, 4, &packet.gap.to_ne_bytes());
    }
    if let Some(reason) = packet.dropped {
        let mut comment = [0; 48];
        let parts = [b"dropped: ", reason.as_bytes()].concat();
        let length = parts.len().min(comment.len());
        comment[..length].copy_from_slice(&parts[..length]);
        // opt_comment
        option(to, 1, &comment[..length]);
    }
}

/// What a capture missed, of all interfaces, as the statistics of the first.
pub(crate) fn missed(to: &mut Vec<u8>, time: u64, missed: u64) {
    block(to, STATISTICS, |to| {
        word(to, 0);
        word(to, (time >> 32) as u32);
        word(to, time as u32);
        option(to, 1, format!("the capture missed {missed} datagrams, of all NICs together").as_bytes());
        // isb_ifdrop
        option(to, 5, &missed.to_ne_bytes());
        option(to, 0, &[]);
    });
}

/// How many whole blocks there are at the beginning of `bytes`: their bytes, and how many of them are packets.
pub(crate) fn whole_blocks(bytes: &[u8]) -> (usize, u64) {
    let (mut at, mut packets) = (0, 0);
    let word = |at: usize| bytes.get(at..at + 4).map(|four| u32::from_ne_bytes([four[0], four[1], four[2], four[3]]));
    while let (Some(kind), Some(length)) = (word(at), word(at + 4)) {
        let length = length as usize;
        if length < 12 || bytes.len() - at < length {
            break;
        }
        at += length;
        packets += u64::from(kind == PACKET);
    }
    (at, packets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_end_where_they_say_whatever_their_contents() {
        let mut file = Vec::new();
        section(&mut file);
        interface(&mut file, "é", "", 0, "");
        interface(&mut file, "name", "10.0.0.1 fd00::1", 96, "udp");
        for size in 0..9 {
            let bytes = vec![7; size];
            let dropped = (size % 2 == 1).then_some("no_host");
            let (length, direction, gap) = (100, INBOUND, size as u64 % 3);
            let before = file.len();
            packet(&mut file, &Packet { interface: 1, time: 5, bytes: &bytes, length, direction, dropped, gap });
            assert!(file.len() - before <= size + AROUND);
        }
        missed(&mut file, 1, 3);
        assert_eq!(whole_blocks(&file), (file.len(), 9));
        for cut in 1..12 {
            let (whole, packets) = whole_blocks(&file[..file.len() - cut]);
            assert!(whole < file.len() - cut && packets == 9);
        }
    }
}
