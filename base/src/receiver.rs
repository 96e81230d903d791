//! The receiving end of an input buffer.

use std::sync::Arc;
use std::time::Duration;

use vnet_tables::SlotId;

use crate::buffer::{Damaged, InputBuffer, POSITIONS, Record};
use crate::control::Control;
use crate::doorbell::{ASLEEP, SERVED};
use crate::lock::Token;
use crate::segment::Segment;
use crate::sync::{Ordering, spin_loop};

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// There is a datagram.
    Ready,
    /// There is none yet: the time is over, or the sleep ended for another reason. The caller decides by its clock.
    NotYet,
    /// A signal came.
    Interrupted,
}

/// How long a receiver polls before it sleeps, in turns of a spin loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spin {
    /// Never polls.
    Never,
    /// Polls about as long as it has lately paid off. The default: a wake-up costs hundreds of polls.
    Adaptive,
    /// Never sleeps within one wait's worth of turns.
    Always,
}

const LEAST: u32 = 32;
const MOST: u32 = 4096;

/// Bytes in a row after which the receiver takes it that as much waits still, and asks for lines ahead. Asked for too
/// early, a line would be taken away from the sender that is about to write it.
const BACKLOG: u64 = 8192;

/// Bytes in a row after which a receiver that has caught up with its sender looks away; and for how many turns.
const LONG_RUN: u64 = 2048;
const LEAST_PAUSE: u32 = 64;
const MOST_PAUSE: u32 = 4096;

/// How far ahead of the reading lines are asked for, in bytes.
const AHEAD: u64 = 4096;

/// Reads one NIC's input buffer. There is one for each NIC, held by its guest.
pub struct Receiver {
    segment: Arc<Segment>,
    buffer: InputBuffer,
    slot: SlotId,
    token: Token,
    position: u64,
    published: u64,
    spin: Spin,
    turns: u32,
    held: Option<Record>,
    /// Where the present run of datagrams started: the position when the buffer was last found empty.
    run_start: u64,
    pause: u32,
}

impl Receiver {
    /// The receiver of `slot`, which holds locks as `token`. `None` where the slot has no ring.
    #[must_use]
    pub fn new(segment: Arc<Segment>, slot: SlotId, token: Token) -> Option<Self> {
        let buffer = segment.buffer(slot, segment.tables().nic(slot))?;
        let position = buffer.control.receiver.head.load(Ordering::Acquire) & POSITIONS;
        let turns = MOST / 4;
        Some(Self {
            segment,
            buffer,
            slot,
            token,
            position,
            published: position,
            spin: Spin::Adaptive,
            turns,
            held: None,
            run_start: position,
            pause: LEAST_PAUSE,
        })
    }

    /// Chooses how long to poll before sleeping.
    pub fn set_spin(&mut self, spin: Spin) {
        self.spin = spin;
    }

    /// The slot.
    #[must_use]
    pub fn slot(&self) -> SlotId {
        self.slot
    }

    /// The control block of the NIC.
    #[must_use]
    pub fn control(&self) -> &'static Control {
        self.buffer.control
    }

    /// The next record, which stays where it is until [`Receiver::done`].
    ///
    /// # Errors
    ///
    /// [`Damaged`] when some process scribbled over the ring.
    #[inline]
    pub fn peek(&mut self) -> Result<Option<Record>, Damaged> {
        self.buffer.record(self.position)
    }

    /// Lets a sender that streams get ahead again. For a receiver that found nothing and is about to look once more.
    ///
    /// A receiver right behind its sender reads, and its prefetchers fetch, the lines that the sender is writing: each
    /// then travels twice, which slows the sender, which keeps the receiver right behind. After a long run of datagrams
    /// this looks away for a moment, for longer while that leads to runs that are long but leave most of the ring free;
    /// after a short run, as in a dialogue, or when nothing came meanwhile, it does not.
    #[inline]
    pub fn look_away(&mut self) {
        let run = self.position.wrapping_sub(self.run_start);
        self.run_start = self.position;
        if run < LONG_RUN {
            self.pause = LEAST_PAUSE;
            return;
        }
        for _ in 0..self.pause {
            spin_loop();
        }
        let size = self.buffer.area.size();
        if run < size / 32 {
            self.pause = (self.pause * 2).min(MOST_PAUSE);
        } else if run > size / 8 {
            self.pause = (self.pause / 2).max(LEAST_PAUSE);
        }
    }

    /// Position behind all that senders have published so far.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.buffer.control.senders.tail.load(Ordering::Acquire) & POSITIONS
    }

    /// Whether this receiver is done with all before `position`.
    #[must_use]
    pub fn reached(&self, position: u64) -> bool {
        self.position.wrapping_sub(position) < 1 << 62
    }

    /// The bytes of a record, in place.
    #[inline]
    #[must_use]
    pub fn bytes(&self, record: &Record) -> &[u8] {
        self.buffer.area.bytes(record.at, record.length)
    }

    /// Where a record's bytes lie in the buffers file, in bytes.
    #[must_use]
    pub fn file_offset(&self, record: &Record) -> u64 {
        self.segment.file_offset(self.segment.tables().nic(self.slot), record.at)
    }

    /// The next record, to be read in place until [`Receiver::release`] or the next call of this.
    ///
    /// # Errors
    ///
    /// [`Damaged`].
    pub fn hold(&mut self) -> Result<Option<Record>, Damaged> {
        self.release(None);
        self.held = self.peek()?;
        Ok(self.held)
    }

    /// Lets go of the record that is held: of `this` one if it still is, or of any. Does nothing where none is.
    pub fn release(&mut self, this: Option<&Record>) {
        if self.held.is_some()
            && (this.is_none() || this == self.held.as_ref())
            && let Some(record) = self.held.take()
        {
            self.done(&record);
        }
    }

    /// Lets go of a record and all before it.
    ///
    /// Senders learn of it in batches: a sixteenth of the ring, or before the receiver sleeps.
    #[inline]
    pub fn done(&mut self, record: &Record) {
        self.position = record.next();
        if self.position.wrapping_sub(self.run_start) > BACKLOG {
            self.buffer.area.expect(self.position + AHEAD);
            self.buffer.area.expect(self.position + AHEAD + 64);
        }
        if self.position.wrapping_sub(self.published) >= self.buffer.area.size() / 16 {
            self.publish();
        }
    }

    /// Tells the senders how far this receiver is.
    pub fn publish(&mut self) {
        if self.published != self.position {
            self.published = self.position;
            self.buffer.publish_head(self.position);
        }
    }

    /// Waits until there is a datagram, polling first, then sleeping for at most `timeout` (`None`: until rung).
    ///
    /// May return [`Waited::NotYet`] early.
    ///
    /// # Errors
    ///
    /// [`Damaged`].
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Waited, Damaged> {
        if timeout == Some(Duration::ZERO) {
            // Who has no time to wait has none to poll either.
            return Ok(if self.peek()?.is_some() { Waited::Ready } else { Waited::NotYet });
        }
        if self.poll()? {
            return Ok(Waited::Ready);
        }
        if self.spin == Spin::Always {
            return Ok(Waited::NotYet);
        }
        if !self.prepare_sleep()? {
            return Ok(Waited::Ready);
        }
        let undisturbed = self.buffer.control.bell.sleep(timeout);
        Ok(match (self.peek()?.is_some(), undisturbed) {
            (true, _) => Waited::Ready,
            (false, true) => Waited::NotYet,
            (false, false) => Waited::Interrupted,
        })
    }

    fn poll(&mut self) -> Result<bool, Damaged> {
        let turns = match self.spin {
            Spin::Never => 1,
            Spin::Adaptive => self.turns,
            Spin::Always => MOST,
        };
        for turn in 0..turns {
            if turn == 1 {
                self.look_away();
            }
            if self.peek()?.is_some() {
                self.turns = (self.turns * 2).min(MOST);
                return Ok(true);
            }
            spin_loop();
        }
        self.turns = (self.turns / 2).max(LEAST);
        Ok(false)
    }

    /// Says that the receiver sleeps, so that senders wake it. False when there is a datagram after all.
    ///
    /// The caller then sleeps on the bell, which may be without this receiver in its hand.
    ///
    /// # Errors
    ///
    /// [`Damaged`].
    pub fn prepare_sleep(&mut self) -> Result<bool, Damaged> {
        self.prepare(ASLEEP)
    }

    /// Leaves the NIC to its base worker. False when there is a datagram after all: the worker then goes on.
    ///
    /// # Errors
    ///
    /// [`Damaged`].
    pub fn leave_to_worker(&mut self) -> Result<bool, Damaged> {
        self.prepare(SERVED)
    }

    fn prepare(&mut self, idle: u32) -> Result<bool, Damaged> {
        self.settle();
        self.buffer.go_idle(self.position, idle)
    }

    /// Publishes all and, if the ring is empty and has run far from its beginning, goes back there: what is written next
    /// is in memory and in cache still.
    pub fn settle(&mut self) {
        self.publish();
        self.position = self.buffer.rewind(self.position, self.token);
        self.published = self.position;
        // The run ends here, and what a rewind skips is no part of the next.
        self.run_start = self.position;
    }
}
