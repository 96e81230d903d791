//! Input buffers: many senders write, one receiver reads, and any of them may die at any instruction.
//!
//! # Theory of operation
//!
//! A ring of records. A position counts bytes since the ring was new and only grows.
//!
//! ```text
//!           head (receiver)              tail (under the lock)
//!             │                            │
//!   ──────────┼──────┬──────┬──────────────┼───────────────────────
//!    done     │ rec  │ rec  │ rec          │ 0  free …
//!   ──────────┴──────┴──────┴──────────────┴───────────────────────
//!
//!   record:  header u64 │ [meta u64] │ datagram, padded to 8 bytes
//!   header:  length 32 │ flags 16 │ source slot 16      never 0 when committed
//! ```
//!
//! A record lies in one piece; what does not fit before the end of the ring starts at its beginning, behind a pad record.
//!
//! **One invariant carries everything: while nobody holds the lock, the word at `tail` is 0**, and the receiver, which
//! follows the headers from `head`, therefore stops there. It needs no look at `tail`: datagram and news of it come in
//! the same cache line.
//!
//! A sender, under the lock, writes the records of a batch behind `tail`, all headers but the first included, then a 0
//! behind the last one, and *then* stores the first header with release. At that store, and at no other, the whole batch
//! appears. Then it moves `tail`, and unlocks.
//!
//! # Memory ordering
//!
//! - The receiver loads headers with acquire. The first header of a batch synchronises with the sender's release, and all
//!   that the batch wrote, the later headers and the 0 behind it included, happens before it; a stale header from an
//!   earlier round of the ring cannot be read in their place, by coherence.
//! - The receiver moves `head` with a release (swap) after it has read the datagrams; a sender loads it with acquire
//!   before it writes over them. It never writes the word at its new `tail` unless that word is free too.
//! - The lock orders senders among each other, so a sender's records are in its order: per pair, order is kept.
//!
//! # Crash argument
//!
//! A sender that dies before the first header's store has written only behind the invariant's 0: nothing. One that dies
//! after it has published the whole batch; `tail` may lag, and [`InputBuffer::bury`], run by the base once the kernel has
//! reported the death, moves it over the published records and unlocks. Between death and burial other senders wait at
//! the lock, under 100 ms by the lock's own bound. A receiver that dies leaves `head` where it was; the base takes its
//! NIC off the LAN. Everybody bounds every length and position that comes from the ring.

use std::time::Duration;

use vnet_tables::layout::MIN_RING;

use crate::area::Area;
use crate::control::{Bell, Control, add};
use crate::doorbell::{BUSY, SERVED, nap};
use crate::lock::Token;
use crate::sync::{Ordering, take_place};

const COMMITTED: u64 = 1 << 32;
const PAD: u64 = 1 << 33;
const META: u64 = 1 << 34;
const HEADER_BYTES: u64 = 8;

/// What a position read from shared memory is cut to: a multiple of 8, and so far from where 64 bits end that adding to
/// it never gets there. Senders at 100 GB/s reach it after a year and a half.
pub(crate) const POSITIONS: u64 = ((1 << 62) - 1) & !7;

/// Most bytes that one record carries: a datagram and what the capture puts before it.
pub const LARGEST_RECORD: u64 = 65_535 + 64;

/// Where in its ring an idle receiver goes back to the beginning: what a NIC that carries little keeps in memory.
const COSY: u64 = if cfg!(loom) { 8 } else { 32 * 1024 };

/// One input buffer. `Copy`: two addresses; whoever makes it keeps the segment mapped.
#[cfg_attr(not(loom), derive(Clone, Copy))]
#[cfg_attr(loom, derive(Clone))]
pub struct InputBuffer {
    pub(crate) control: &'static Control,
    pub(crate) area: Area,
}

/// Why a sender did not get into a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The buffer belongs to another NIC by now, or to nobody.
    Gone,
    /// The lock's owner did not give it back in time.
    Locked,
}

/// One record as the receiver sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Position of the datagram's first byte.
    pub at: u64,
    /// Bytes of the datagram.
    pub length: usize,
    /// The sender's slot.
    pub source: u16,
    /// Offload metadata, if the sender attached any.
    pub meta: Option<u64>,
    next: u64,
}

/// What a sender of a datagram would meet at an input buffer; see [`InputBuffer::outlook`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// Bytes of the ring.
    pub size: u64,
    /// Bytes of it that the receiver has not given back.
    pub used: u64,
    /// Bytes that the datagram would take, its header and what is left over before the ring's end included.
    pub needed: u64,
    /// Whether it fits.
    pub fits: bool,
    /// Which NIC's buffer this is.
    pub generation: u32,
    /// Who holds the lock.
    pub owner: Option<Token>,
    /// What the doorbell says: [`BUSY`], [`ASLEEP`](crate::doorbell::ASLEEP) or [`SERVED`](crate::doorbell::SERVED).
    pub idle: u32,
}

/// The receiver read something that no sender writes: some process scribbled over the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

/// Records that appear together. While it is open the lock is held; dropping publishes.
pub struct Batch {
    buffer: InputBuffer,
    open: bool,
    start: u64,
    at: u64,
    head: u64,
    first: u64,
    datagrams: u64,
    bytes: u64,
    /// What the first record has in the cache line of its header, kept back with it; see [`Batch::keep_back`].
    kept: [u8; LINE],
    kept_length: usize,
    /// Where the bytes of the last datagram begin.
    last: u64,
}

/// How far ahead of the writing the lines are asked for, in bytes: a batch of 32 small datagrams.
const AHEAD: u64 = 4096;

/// Bytes of a cache line.
const LINE: usize = 64;

const fn round8(bytes: u64) -> u64 {
    (bytes + 7) & !7
}

/// Bytes of a record.
const fn record_bytes(length: u64, meta_bytes: u64) -> u64 {
    HEADER_BYTES + meta_bytes + round8(length)
}

impl InputBuffer {
    /// The buffer with these parts, for models.
    #[cfg(loom)]
    pub fn model(control: &'static Control, size: u64) -> Self {
        Self { control, area: Area::model(size) }
    }

    /// A batch for this buffer, not open yet.
    #[must_use]
    pub fn batch(&self) -> Batch {
        Batch {
            buffer: self.clone_ref(),
            open: false,
            start: 0,
            at: 0,
            head: 0,
            first: 0,
            datagrams: 0,
            bytes: 0,
            kept: [0; LINE],
            kept_length: 0,
            last: 0,
        }
    }

    fn clone_ref(&self) -> Self {
        #[cfg(not(loom))]
        return *self;
        #[cfg(loom)]
        self.clone()
    }

    /// The record at `position`, `None` when there is none yet.
    ///
    /// # Errors
    ///
    /// [`Damaged`].
    #[inline]
    pub(crate) fn record(&self, mut position: u64) -> Result<Option<Record>, Damaged> {
        // A pad, at most one, then the record.
        for _ in 0..2 {
            // Acquire: partners with the release in `Batch::publish()`.
            let header = self.area.word(position).load(Ordering::Acquire);
            if header == 0 {
                return Ok(None);
            }
            let length = header & 0xffff_ffff;
            let room = self.area.before_end(position);
            if header & PAD != 0 {
                if length != room {
                    return Err(Damaged);
                }
                position += room;
                continue;
            }
            let meta_bytes = if header & META != 0 { 8 } else { 0 };
            let at = position + HEADER_BYTES + meta_bytes;
            let next = at + round8(length);
            if header & COMMITTED == 0 || length > LARGEST_RECORD || next - position > room {
                return Err(Damaged);
            }
            let meta = (meta_bytes != 0).then(|| self.area.word(position + HEADER_BYTES).load(Ordering::Relaxed));
            return Ok(Some(Record { at, length: length as usize, source: (header >> 48) as u16, meta, next }));
        }
        Err(Damaged)
    }

    /// Gives the ring up to `position` back to the senders, and wakes those that wait for room.
    #[inline]
    pub(crate) fn publish_head(&self, position: u64) {
        let receiver = &self.control.receiver;
        // Release: partners with the acquire in `Batch::reserve()`. A swap, because it must stand in one order with the
        // look in `wait_for_room()`: one of the two sees the other.
        receiver.head.swap(position, Ordering::AcqRel);
        if receiver.space_wanted.load(Ordering::Relaxed) != 0 {
            self.wake_senders();
        }
    }

    /// Wakes all senders that wait for room.
    #[cold]
    pub(crate) fn wake_senders(&self) {
        let wanted = &self.control.receiver.space_wanted;
        wanted.swap(0, Ordering::AcqRel);
        crate::sync::futex_wake(wanted, i32::MAX);
    }

    /// Sleeps until the receiver has made room, for at most `timeout`. The caller looks again afterwards.
    ///
    /// Returns false when a signal cut the sleep short.
    #[must_use]
    pub fn wait_for_room(&self, bytes: usize, timeout: Duration) -> bool {
        let receiver = &self.control.receiver;
        receiver.space_wanted.store(1, Ordering::Relaxed);
        // Partners with the swap in `publish_head()`.
        let head = take_place(&receiver.head);
        let used = self.control.senders.tail.load(Ordering::Relaxed).wrapping_sub(head);
        // Twice the record: it may need a pad before it.
        if used.saturating_add(2 * (round8(bytes as u64) + 4 * HEADER_BYTES)) <= self.area.size() {
            return true;
        }
        nap(&receiver.space_wanted, 1, timeout)
    }

    /// Says on the doorbell that the receiver at `position` is `idle`, and looks once more. False when there is a record
    /// after all; the receiver is then busy again.
    pub(crate) fn go_idle(&self, position: u64, idle: u32) -> Result<bool, Damaged> {
        let bell = &self.control.bell;
        if idle == SERVED && bell.idle.load(Ordering::Relaxed) == SERVED {
            // It has stood there since the last time: whoever wrote since then has yet to look at it, and will ring.
            return Ok(true);
        }
        bell.idle.store(idle, Ordering::Relaxed);
        self.control.senders.lock.pass_through();
        if self.record(position)?.is_some() {
            bell.idle.store(BUSY, Ordering::Relaxed);
            return Ok(false);
        }
        Ok(true)
    }

    /// Moves an empty ring back to its beginning, so that a NIC that carries little stays small in memory and cache.
    ///
    /// The receiver calls it before it sleeps. Returns the position to read on from.
    pub(crate) fn rewind(&self, position: u64, me: Token) -> u64 {
        let size = self.area.size();
        if size - self.area.before_end(position) < COSY {
            return position;
        }
        let senders = &self.control.senders;
        if !senders.lock.try_lock(me) {
            return position;
        }
        let mut now = position;
        if senders.tail.load(Ordering::Relaxed) == position {
            now = position + self.area.before_end(position);
            // The invariant first: the word at the new tail is 0 before anybody can know of the new tail.
            self.area.word(now).store(0, Ordering::Relaxed);
            senders.tail.store(now, Ordering::Relaxed);
            senders.head_seen.store(now, Ordering::Relaxed);
            self.control.receiver.head.swap(now, Ordering::AcqRel);
        }
        senders.lock.unlock();
        now
    }

    /// Makes the buffer that of a NIC of `generation`, empty. For the base, with the lock in its hand.
    pub(crate) fn reset(&self, generation: u32) {
        let senders = &self.control.senders;
        self.area.word(0).store(0, Ordering::Relaxed);
        senders.tail.store(0, Ordering::Relaxed);
        senders.head_seen.store(0, Ordering::Relaxed);
        self.control.receiver.head.store(0, Ordering::Relaxed);
        self.control.receiver.space_wanted.store(0, Ordering::Relaxed);
        self.control.bell.idle.store(BUSY, Ordering::Relaxed);
        senders.generation.store(generation, Ordering::Relaxed);
    }

    /// Puts the buffer right after the death of `owner`, if it held the lock. For the base alone.
    pub fn bury(&self, owner: Token) -> bool {
        let senders = &self.control.senders;
        if senders.lock.owner() != Some(owner) {
            return false;
        }
        // What was published stands; the walk ends at the 0 behind the last published record.
        let mut tail = senders.tail.load(Ordering::Relaxed) & POSITIONS;
        let limit = tail.wrapping_add(self.area.size());
        let mut datagrams = 0;
        let mut bytes = 0;
        while let Ok(Some(record)) = self.record(tail) {
            if record.next > limit {
                break;
            }
            tail = record.next;
            datagrams += 1;
            bytes += record.length as u64;
        }
        senders.tail.store(tail, Ordering::Relaxed);
        add(&senders.rx_datagrams, datagrams);
        add(&senders.rx_bytes, bytes);
        senders.lock.release_for(owner)
    }

    /// Where a record of `size` bytes would lie if it came next at `at`: the bytes of the pad before it, and the position
    /// behind it and the 0.
    #[inline(always)]
    fn place(&self, at: u64, size: u64) -> (u64, u64) {
        let room = self.area.before_end(at);
        let pad = if size > room { room } else { 0 };
        (pad, at.wrapping_add(pad + size + HEADER_BYTES))
    }

    /// Whether a datagram of `length` bytes would find room as the buffer stands, and what else a sender would meet.
    /// Looks without the lock, at what may change meanwhile.
    #[must_use]
    pub fn outlook(&self, length: usize) -> Outlook {
        let senders = &self.control.senders;
        let tail = senders.tail.load(Ordering::Relaxed) & POSITIONS;
        let head = self.control.receiver.head.load(Ordering::Acquire);
        let needed = record_bytes(length as u64, 0);
        let (pad, end) = self.place(tail, needed);
        Outlook {
            size: self.area.size(),
            used: self.used(),
            needed: needed + pad,
            fits: length as u64 <= LARGEST_RECORD && end.wrapping_sub(head) <= self.area.size(),
            generation: senders.generation.load(Ordering::Relaxed),
            owner: senders.lock.owner(),
            idle: self.control.bell.idle.load(Ordering::Relaxed),
        }
    }

    /// Bytes in the ring that the receiver has not given back.
    #[must_use]
    pub fn used(&self) -> u64 {
        let tail = self.control.senders.tail.load(Ordering::Relaxed);
        tail.wrapping_sub(self.control.receiver.head.load(Ordering::Relaxed)).min(self.area.size())
    }
}

impl Batch {
    /// Locks the buffer of the NIC of `generation`, in the name of `me`.
    ///
    /// # Errors
    ///
    /// [`Refused::Gone`] when the buffer has changed hands, [`Refused::Locked`] when the lock cannot be had.
    #[inline]
    pub fn open(&mut self, generation: u32, me: Token) -> Result<(), Refused> {
        let locked = self.buffer.control.senders.lock.lock(me);
        self.start(locked, generation)
    }

    /// As [`Batch::open`], but does not wait for an owner that is stopped or dead.
    ///
    /// # Errors
    ///
    /// As of [`Batch::open`].
    #[inline]
    pub fn open_soon(&mut self, generation: u32, me: Token) -> Result<(), Refused> {
        let locked = self.buffer.control.senders.lock.lock_soon(me);
        self.start(locked, generation)
    }

    #[inline(always)]
    fn start(&mut self, locked: bool, generation: u32) -> Result<(), Refused> {
        debug_assert!(!self.open, "a batch is published before the next one");
        let senders = &self.buffer.control.senders;
        if !locked {
            return Err(Refused::Locked);
        }
        if senders.generation.load(Ordering::Relaxed) != generation {
            senders.lock.unlock();
            return Err(Refused::Gone);
        }
        // Only lock holders write these two.
        self.at = senders.tail.load(Ordering::Relaxed) & POSITIONS;
        self.head = senders.head_seen.load(Ordering::Relaxed);
        self.start = self.at;
        (self.open, self.first, self.kept_length, self.datagrams, self.bytes) = (true, 0, 0, 0, 0);
        Ok(())
    }

    /// Whether the lock is held.
    #[must_use]
    #[inline]
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Appends a record: `prefix`, which may be empty, and `datagram`. False when there is no room.
    #[inline(always)]
    #[must_use]
    pub fn push(&mut self, prefix: &[u8], datagram: &[u8], source: u16, meta: Option<u64>) -> bool {
        let length = (prefix.len() + datagram.len()) as u64;
        let meta_bytes = if meta.is_some() { 8 } else { 0 };
        let size = record_bytes(length, meta_bytes);
        if length > LARGEST_RECORD || !self.open || !self.reserve(size) {
            return false;
        }
        let area = &self.buffer.area;
        let mut at = self.at + HEADER_BYTES;
        let mut flags = COMMITTED;
        if let Some(meta) = meta {
            flags |= META;
            area.word(at).store(meta, Ordering::Relaxed);
            at += meta_bytes;
        }
        if !prefix.is_empty() {
            area.write(at, prefix);
            at += prefix.len() as u64;
        }
        self.last = at;
        if self.datagrams > 0 {
            // Not for a datagram that goes alone: its own line is what is waited for, and nothing may overtake that.
            self.buffer.area.prepare(at + AHEAD);
            self.buffer.area.prepare(at + AHEAD + LINE as u64);
        }
        let end = at + datagram.len() as u64;
        let rest = if self.first == 0 && at == self.at + HEADER_BYTES { self.keep_back(datagram) } else { datagram };
        self.buffer.area.write(end - rest.len() as u64, rest);
        self.header(flags | length | u64::from(source) << 48);
        self.at += size;
        self.datagrams += 1;
        self.bytes += length;
        true
    }

    /// Changes four bytes, from `at` on, of the datagram that was pushed last; it was pushed without a prefix, and has them.
    ///
    /// Nobody but the sender sees a batch that is open. So a router's change of a header costs a store, where writing
    /// the datagram in two parts costs a second copy.
    #[cfg(not(loom))]
    #[inline(always)]
    pub fn amend(&mut self, at: usize, word: [u8; 4]) {
        debug_assert!(self.open && self.datagrams > 0);
        let kept = if self.datagrams == 1 { self.kept_length } else { 0 };
        if at >= kept {
            self.buffer.area.write(self.last + at as u64, &word);
        } else {
            self.amend_kept(at, word);
        }
    }

    /// As [`Batch::amend`], for bytes of which some are kept back.
    #[cfg(not(loom))]
    #[inline(never)]
    fn amend_kept(&mut self, at: usize, word: [u8; 4]) {
        for (offset, byte) in (at..).zip(word) {
            match self.kept[..self.kept_length].get_mut(offset) {
                Some(kept) => *kept = byte,
                None => self.buffer.area.write(self.last + offset as u64, &[byte]),
            }
        }
    }

    /// Keeps back what of the batch's first datagram lies in its header's cache line, and returns the rest.
    ///
    /// A receiver that has nothing to do polls that line. Written at once, it would travel to the sender for the bytes
    /// and a second time for the header; written with the header, it travels once.
    #[inline]
    fn keep_back<'d>(&mut self, datagram: &'d [u8]) -> &'d [u8] {
        if cfg!(loom) {
            return datagram;
        }
        let in_line = LINE - (self.at as usize + HEADER_BYTES as usize) % LINE;
        let (kept, rest) = datagram.split_at(datagram.len().min(if in_line == LINE { 0 } else { in_line }));
        self.kept[..kept.len()].copy_from_slice(kept);
        self.kept_length = kept.len();
        rest
    }

    /// Makes room for `size` bytes in one piece and the 0 behind them.
    #[inline]
    fn reserve(&mut self, size: u64) -> bool {
        let area = &self.buffer.area;
        let (pad, end) = self.buffer.place(self.at, size);
        if end.wrapping_sub(self.head) > area.size() {
            // Acquire: partners with the swap in `publish_head()`; the receiver has read what we are to write over.
            self.head = self.buffer.control.receiver.head.load(Ordering::Acquire);
            self.buffer.control.senders.head_seen.store(self.head, Ordering::Relaxed);
            if end.wrapping_sub(self.head) > area.size() {
                return false;
            }
        }
        if pad != 0 {
            self.header(COMMITTED | PAD | pad);
            self.at += pad;
        }
        true
    }

    /// Writes the header at the current position; the batch's first is kept back until all is there.
    #[inline]
    fn header(&mut self, header: u64) {
        if self.first == 0 {
            self.first = header;
        } else {
            // Relaxed: the release of the first header in `publish()` covers it.
            self.buffer.area.word(self.at).store(header, Ordering::Relaxed);
        }
    }

    /// Counts a datagram that found no room.
    pub fn refuse(&mut self) {
        add(&self.buffer.control.senders.rx_dropped, 1);
    }

    /// Datagrams in the batch so far.
    #[must_use]
    pub fn datagrams(&self) -> u64 {
        self.datagrams
    }

    /// Bytes of the datagrams in the batch so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes the whole batch appear and unlocks. Returns the number of its datagrams.
    #[inline]
    pub fn publish(&mut self) -> u64 {
        if !self.open {
            return 0;
        }
        self.open = false;
        let senders = &self.buffer.control.senders;
        if self.first != 0 {
            // The invariant before the batch: relaxed, because the release below covers it.
            self.buffer.area.word(self.at).store(0, Ordering::Relaxed);
            if self.kept_length > 0 {
                self.buffer.area.write(self.start + HEADER_BYTES, &self.kept[..self.kept_length]);
            }
            // Release: partners with the acquire in `InputBuffer::record()`. Here the batch appears.
            self.buffer.area.word(self.start).store(self.first, Ordering::Release);
            senders.tail.store(self.at, Ordering::Relaxed);
            add(&senders.rx_datagrams, self.datagrams);
            add(&senders.rx_bytes, self.bytes);
        }
        senders.lock.unlock();
        self.datagrams
    }

    /// The receiver's doorbell.
    #[must_use]
    #[inline]
    pub fn bell(&self) -> &'static Bell {
        &self.buffer.control.bell
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.publish();
    }
}

impl Record {
    /// Position behind the record, where the next one starts.
    #[must_use]
    #[inline]
    pub fn next(&self) -> u64 {
        self.next
    }
}

// Two of the largest records and a pad fit the smallest ring, so that a reader that is a sixteenth late never leaves a
// sender without room in an empty ring.
const _: () = assert!(MIN_RING >= 2 * (LARGEST_RECORD + 64) + MIN_RING / 16);
