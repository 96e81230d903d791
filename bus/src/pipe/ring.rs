//! The two ends of one way's ring: who writes it and who reads it.
//!
//! Positions count bytes for ever; `position % size` is where a byte lies. Each side keeps its own position to itself
//! and only publishes it, so that whoever scribbles over shared memory cannot move it. The other's is bounded before it
//! is used: it never goes back, and there are never more bytes between the two than the ring has.
//!
//! Memory order: a position is published with release after the bytes up to it were written (or read), and read with
//! acquire before the bytes are read (or written over). The last publication of an operation is a read-modify-write,
//! for the sake of the [`Bell`](super::bell::Bell)s.

use vnet_base::area::Area;
use vnet_base::sync::{Ordering, take_place};

use super::layout::Way;

/// Bytes between two publications of a long copy, so that both sides copy at once.
pub(crate) const PIECE: u64 = 32 * 1024;

/// The peer's position, or a length that it wrote, cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonsense;

/// Copies out of or into the ring around its end.
fn around(area: &Area, position: u64, length: usize, mut part: impl FnMut(u64, core::ops::Range<usize>)) {
    let first = (area.before_end(position)).min(length as u64) as usize;
    part(position, 0..first);
    if first < length {
        part(position.wrapping_add(first as u64), first..length);
    }
}

/// Writes one way. There is one for each.
pub struct Producer {
    way: &'static Way,
    area: Area,
    tail: u64,
    head: u64,
}

impl Producer {
    /// The writer of a new pipe. Whoever makes it keeps the memory of both mapped.
    pub fn new(way: &'static Way, area: Area) -> Self {
        Self { way, area, tail: 0, head: 0 }
    }

    /// Bytes of the ring.
    pub fn size(&self) -> u64 {
        self.area.size()
    }

    /// Bytes that fit, as far as known.
    #[inline]
    fn known(&self) -> u64 {
        self.area.size() - self.tail.wrapping_sub(self.head)
    }

    #[inline]
    fn learn(&mut self, head: u64) -> Result<u64, Nonsense> {
        // Neither backwards nor past what was written.
        if head.wrapping_sub(self.head) > self.tail.wrapping_sub(self.head) {
            return Err(Nonsense);
        }
        self.head = head;
        Ok(self.known())
    }

    /// Bytes that fit; looks only when fewer than `enough` are known of.
    #[inline]
    pub fn room(&mut self, enough: u64) -> Result<u64, Nonsense> {
        let known = self.known();
        if known >= enough {
            return Ok(known);
        }
        // Acquire: partners with the reader's publications; it is done with the bytes before.
        self.learn(self.way.head.0.load(Ordering::Acquire))
    }

    /// The last look of a side that is about to sleep, behind its announcement.
    pub fn last_look(&mut self) -> Result<u64, Nonsense> {
        self.learn(take_place(&self.way.head.0))
    }

    /// The head from which on `need` bytes fit.
    pub fn head_for(&self, need: u64) -> u64 {
        self.tail.wrapping_add(need).wrapping_sub(self.area.size())
    }

    /// Copies into the ring, `skip` bytes behind the tail, what nobody sees before it is published. There is room.
    #[inline]
    pub fn put(&mut self, skip: u64, bytes: &[u8]) {
        debug_assert!(skip + bytes.len() as u64 <= self.known(), "written over what was not read");
        around(&self.area, self.tail.wrapping_add(skip), bytes.len(), |at, part| self.area.write(at, &bytes[part]));
    }

    /// Publishes `count` bytes more, in the midst of an operation.
    #[inline]
    pub fn advance(&mut self, count: u64) {
        self.tail = self.tail.wrapping_add(count);
        // Release: the reader that sees the position sees the bytes.
        self.way.tail.0.store(self.tail, Ordering::Release);
    }

    /// Publishes `count` bytes more at the end of an operation: the bell may be looked at after that.
    #[inline]
    pub fn finish(&mut self, count: u64) {
        self.tail = self.tail.wrapping_add(count);
        // Release: as above. A read-modify-write: partners with the reader's `last_look()`.
        self.way.tail.0.swap(self.tail, Ordering::AcqRel);
    }

    /// Takes the reader's bell if it rings for what was published: the caller then signals.
    #[inline]
    #[must_use]
    pub fn rings(&self) -> bool {
        self.way.data.take(self.tail)
    }

    /// Whether the reader has said that it reads no more.
    #[inline]
    pub fn reader_ended(&self) -> bool {
        self.way.data.ended()
    }
}

/// Reads one way. There is one for each.
pub struct Consumer {
    way: &'static Way,
    area: Area,
    head: u64,
    tail: u64,
}

impl Consumer {
    /// The reader of a new pipe. Whoever makes it keeps the memory of both mapped.
    pub fn new(way: &'static Way, area: Area) -> Self {
        Self { way, area, head: 0, tail: 0 }
    }

    /// Bytes of the ring.
    pub fn size(&self) -> u64 {
        self.area.size()
    }

    #[inline]
    fn known(&self) -> u64 {
        self.tail.wrapping_sub(self.head)
    }

    #[inline]
    fn learn(&mut self, tail: u64) -> Result<u64, Nonsense> {
        let (ahead, known) = (tail.wrapping_sub(self.head), self.known());
        // Neither backwards nor more than the ring has.
        if ahead > self.area.size() || ahead < known {
            return Err(Nonsense);
        }
        self.tail = tail;
        Ok(ahead)
    }

    /// Bytes that can be read; looks only when fewer than `enough` are known of.
    #[inline]
    pub fn available(&mut self, enough: u64) -> Result<u64, Nonsense> {
        let known = self.known();
        if known >= enough {
            return Ok(known);
        }
        // Acquire: partners with the writer's publications; the bytes are there.
        self.learn(self.way.tail.0.load(Ordering::Acquire))
    }

    /// The last look of a side that is about to sleep, behind its announcement.
    pub fn last_look(&mut self) -> Result<u64, Nonsense> {
        self.learn(take_place(&self.way.tail.0))
    }

    /// The tail from which on `need` bytes are there.
    pub fn tail_for(&self, need: u64) -> u64 {
        self.head.wrapping_add(need)
    }

    /// Copies out of the ring, from `skip` bytes behind the head on. As many are known to be there.
    #[inline]
    pub fn get(&self, skip: u64, bytes: &mut [u8]) {
        debug_assert!(skip + bytes.len() as u64 <= self.known(), "read what was not written");
        let area = &self.area;
        around(area, self.head.wrapping_add(skip), bytes.len(), |at, part| area.copy_out(at, &mut bytes[part]));
    }

    /// Gives `count` bytes back, in the midst of an operation.
    #[inline]
    pub fn advance(&mut self, count: u64) {
        self.head = self.head.wrapping_add(count);
        // Release: the writer that sees the position may write over what was read.
        self.way.head.0.store(self.head, Ordering::Release);
    }

    /// Gives `count` bytes back at the end of an operation: the bell may be looked at after that.
    #[inline]
    pub fn finish(&mut self, count: u64) {
        self.head = self.head.wrapping_add(count);
        // Release: as above. A read-modify-write: partners with the writer's `last_look()`.
        self.way.head.0.swap(self.head, Ordering::AcqRel);
    }

    /// Takes the writer's bell if it rings for what was given back: the caller then signals.
    #[inline]
    #[must_use]
    pub fn rings(&self) -> bool {
        self.way.room.take(self.head)
    }

    /// Whether the writer has said that it writes no more. Whoever finds it so looks for bytes once more.
    #[inline]
    pub fn writer_ended(&self) -> bool {
        self.way.room.ended()
    }
}

/// Says that no more will be written. Returns whether the reader is to be signalled.
///
/// Any thread may, whoever has the producer. Here the bell itself is where the two meet: it is taken back whatever it
/// waits for, as a read-modify-write, which comes before the one that announces it, or after. `loom_pipe` shows it.
#[must_use]
pub fn end_writing(way: &Way) -> bool {
    way.room.end();
    way.data.take_any()
}

/// Says that no more will be read. Returns whether the writer is to be signalled. As [`end_writing`].
#[must_use]
pub fn end_reading(way: &Way) -> bool {
    way.data.end();
    way.room.take_any()
}
