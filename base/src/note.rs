//! Notes: what a capture learns of each datagram, and how senders hand it over.
//!
//! While a capture runs, a sender notes what it forwards in a flat buffer of its own and hands the notes of a batch to
//! the capture's ring (that of slot 0) together: one record, one lock, one look at the clock.
//!
//! ```text
//!  record   0 time u64, ns │ 8 source's generation u32 │ 12 source slot u16 │ 14 (zero) u16
//!           then for each datagram, padded to 8 bytes:
//!           0 bytes kept u32 │ 4 bytes in all u32 │ 8 receiver's generation u32 │ 12 receiver slot u16 │ 14 verdict u8
//!          15 copy u8 │ 16 the bytes kept
//! ```
//!
//! Notes appear *before* what they speak of: whoever has received a datagram finds it in the capture. A sender that is
//! killed between the two is the one case in which a capture has a delivered datagram that nobody got.

use vnet_tables::SlotId;

use crate::buffer::LARGEST_RECORD;
use crate::verdict::Verdict;

/// Bytes at the head of a record, and before each datagram in it.
const HEAD: usize = 16;

/// Most bytes of notes that one record takes.
const MOST: usize = LARGEST_RECORD as usize - HEAD;

/// What the capture learns about one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note<'r> {
    /// When it appeared at its receiver, or did not, in nanoseconds of the sender's clock.
    pub time: u64,
    /// Who sent it.
    pub source: SlotId,
    /// Who got it, or would have got the copy; slot 0 if nobody did.
    pub receiver: SlotId,
    /// The generations of the two slots: by the time that the capture reads this, they may be others'.
    pub generations: (u32, u32),
    /// What became of it, the number of a [`Verdict`].
    pub verdict: u8,
    /// Whether the note speaks of a copy that a broadcast or multicast made, which was sent under another note.
    pub copy: bool,
    /// Bytes of the datagram.
    pub length: u32,
    /// Its first bytes: as many as the captures want.
    pub bytes: &'r [u8],
}

impl Note<'_> {
    /// Whether the datagram, or the copy, arrived.
    #[must_use]
    pub fn delivered(&self) -> bool {
        self.verdict == Verdict::Delivered as u8
    }
}

/// The notes that a sender has not handed over yet.
#[derive(Default)]
pub(crate) struct Notes {
    bytes: Vec<u8>,
    /// Datagrams noted.
    pub(crate) count: u64,
    /// The NIC that sent them.
    pub(crate) source: SlotId,
    /// The generation of slot 0 when the first of them was noted: that of the capture that they are for.
    pub(crate) generation: u32,
    /// The ring had no room lately. Until it has a good deal of it, datagrams are counted and not copied: what a capture
    /// misses should cost the LAN next to nothing.
    pub(crate) crowded: bool,
}

impl Notes {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Notes that a datagram is missed.
    pub(crate) fn miss(&mut self) {
        self.count += 1;
    }

    /// Whether a datagram of which `kept` bytes are kept needs a record of its own behind those noted.
    pub(crate) fn is_full(&self, kept: usize) -> bool {
        self.bytes.len() + HEAD + kept.next_multiple_of(8) > MOST
    }

    /// Notes a datagram of `length` bytes, of which `kept` are kept.
    pub(crate) fn push(&mut self, kept: &[u8], length: usize, receiver: SlotId, generation: u32, marks: [u8; 2]) {
        let mut head = [0; HEAD];
        head[0..4].copy_from_slice(&(kept.len() as u32).to_ne_bytes());
        head[4..8].copy_from_slice(&(length as u32).to_ne_bytes());
        head[8..12].copy_from_slice(&generation.to_ne_bytes());
        head[12..14].copy_from_slice(&receiver.0.to_ne_bytes());
        head[14..16].copy_from_slice(&marks);
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(kept);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.count += 1;
    }

    /// The record's head, with the time at which it is handed over.
    pub(crate) fn head(time: u64, source: SlotId, generation: u32) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        head[0..8].copy_from_slice(&time.to_ne_bytes());
        head[8..12].copy_from_slice(&generation.to_ne_bytes());
        head[12..14].copy_from_slice(&source.0.to_ne_bytes());
        head
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }
}

fn u16_at(bytes: &[u8; HEAD], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8; HEAD], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The notes of one record of the capture's ring. Whatever a process may have scribbled there: every length is cut to
/// what is there.
pub fn read(record: &[u8]) -> impl Iterator<Item = Note<'_>> {
    let (head, mut rest) = record.split_first_chunk::<HEAD>().unwrap_or((&[0; HEAD], &[]));
    let time = u64::from(u32_at(head, 0)) | u64::from(u32_at(head, 4)) << 32;
    let time = if cfg!(target_endian = "little") { time } else { time.rotate_left(32) };
    let (generation, source) = (u32_at(head, 8), SlotId(u16_at(head, 12)));
    core::iter::from_fn(move || {
        let (head, behind) = rest.split_first_chunk::<HEAD>()?;
        let bytes = behind.get(..u32_at(head, 0) as usize)?;
        rest = behind.get(bytes.len().next_multiple_of(8)..).unwrap_or(&[]);
        Some(Note {
            time,
            source,
            receiver: SlotId(u16_at(head, 12)),
            generations: (generation, u32_at(head, 8)),
            verdict: head[14],
            copy: head[15] != 0,
            length: u32_at(head, 4).max(bytes.len() as u32),
            bytes,
        })
    })
}

const _: () = assert!(MOST >= HEAD + 65_536);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_read_back_as_they_were_written_and_cut_off_anywhere_they_are_fewer() {
        let mut notes = Notes::default();
        notes.push(b"hello", 5, SlotId(3), 7, [0, 0]);
        notes.push(b"", 1500, SlotId(0), 1, [4, 0]);
        notes.push(b"12345678", 9000, SlotId(9), 2, [0, 1]);
        let mut record = Notes::head(0x0123_4567_89ab_cdef, SlotId(2), 5).to_vec();
        record.extend_from_slice(notes.bytes());
        let all: Vec<_> = read(&record).collect();
        assert_eq!(all.len(), 3);
        assert!(all.iter().all(|note| note.time == 0x0123_4567_89ab_cdef && note.source == SlotId(2)));
        assert_eq!((all[0].bytes, all[0].length, all[0].receiver), (&b"hello"[..], 5, SlotId(3)));
        assert_eq!((all[1].length, all[1].verdict, all[1].copy), (1500, 4, false));
        assert_eq!((all[2].generations, all[2].copy, all[2].length), ((5, 2), true, 9000));
        for end in 0..record.len() {
            assert!(read(&record[..end]).count() <= 3);
        }
        assert_eq!(read(&[0xff; 64]).count(), 0);
    }
}
