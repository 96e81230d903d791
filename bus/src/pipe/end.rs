//! One end of a pipe.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use vnet_base::sync::{AtomicBool, AtomicU64, Ordering, spin_loop};

use super::layout::{Memory, Way};
use super::message::Partial;
use super::ring::{Consumer, Nonsense, PIECE, Producer, end_reading, end_writing};
use super::seats::{Kept, Seat};
use super::signal::{For, Signals, Woken};
use super::turn::{Taken, Turn, Waited};
use crate::forks::Origin;

/// Turns that a side looks before it sleeps: at least, at most, and in the beginning.
const LEAST: u32 = 32;
const MOST: u32 = 4096;
const FIRST: u32 = MOST / 4;

/// Bytes in a row after which a reader that has caught up with its writer looks away; and for how many turns.
const LONG_RUN: u64 = 2048;
const LEAST_PAUSE: u32 = 64;
const MOST_PAUSE: u32 = 4096;

/// How often a writer that finds room asks the kernel whether its peer lives. A question costs 200 ns.
const ASK: Duration = Duration::from_micros(100);

/// Wake-ups for nothing after which the caller is asked whether it wants to go on.
const FRUITLESS: u32 = 64;

/// How long a call may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all: [`Failure::NotNow`].
    No,
    /// Not at all, and what only the kernel knows is not asked for: a dead peer seems to be alive.
    Quick,
    /// Until then, or for ever.
    Until(Option<Instant>),
}

impl Wait {
    /// Whether it waits at all.
    pub(super) fn waits(self) -> bool {
        matches!(self, Self::Until(_))
    }
}

/// Why a call did not do what it was called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It would have had to wait.
    #[error("it would have to wait")]
    NotNow,
    /// The time is over.
    #[error("timed out")]
    Late,
    /// A signal came: the caller runs its handlers, and calls again.
    #[error("interrupted by a signal")]
    Interrupted,
    /// This end was closed.
    #[error("this end of the pipe is closed")]
    Closed,
    /// This end was shut for writing.
    #[error("this end of the pipe was shut for writing")]
    Shut,
    /// The peer reads no more: it closed its end, or died.
    #[error("the other end of the pipe reads no more: it was closed, or its process has died")]
    Broken,
    /// The peer died before it had ended what it wrote.
    #[error("the process at the other end of the pipe died before it ended what it wrote")]
    Reset,
    /// The peer wrote what cannot be.
    #[error(
        "the other end of the pipe wrote nonsense into the memory that both share; nothing more can be had of this pipe"
    )]
    Nonsense,
    /// The message is longer than allowed.
    #[error("a message of {0} bytes is longer than the {1} that are allowed here")]
    TooLong(u64, u64),
    /// This is a forked child.
    #[error("this end of the pipe belongs to the parent process")]
    Forked,
}

impl From<Nonsense> for Failure {
    fn from(_: Nonsense) -> Self {
        Self::Nonsense
    }
}

/// The descriptors of one end: the memory file and two sockets.
#[derive(Debug)]
pub struct Files {
    /// The memory that both ends share.
    pub memory: OwnedFd,
    /// What this end polls.
    pub outer: OwnedFd,
    /// Through which it wakes the other.
    pub inner: OwnedFd,
}

/// Makes a pipe whose rings have at least `size` bytes each: the descriptors of its first end and of its second.
///
/// # Errors
///
/// A size of 0 or beyond 1 GiB, and those of making descriptors.
pub fn make(name: &str, size: u64, messages: bool) -> io::Result<(Files, Files)> {
    let memory = Memory::create(name, size, messages)?;
    let other = rustix::io::fcntl_dupfd_cloexec(&memory, 0)?;
    let (first, second) = Signals::pair()?;
    let files = |memory, signals: Signals| {
        let (outer, inner) = signals.into_parts();
        Files { memory, outer, inner }
    };
    Ok((files(memory, first), files(other, second)))
}

/// What an end has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes written, with those that hold messages apart.
    pub written: u64,
    /// Bytes read, likewise.
    pub read: u64,
    /// Calls that wrote something.
    pub writes: u64,
    /// Calls that read something.
    pub reads: u64,
    /// Times that the peer was interrupted because it slept.
    pub rung: u64,
    /// Times that it was not, because it was busy.
    pub saved: u64,
    /// Times that this end slept.
    pub slept: u64,
}

/// One counter: of several writers only under the turn, so that adding need not be one step.
#[derive(Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    #[inline]
    pub fn add(&self, count: u64) {
        // Relaxed: nothing follows from a counter.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one direction.
#[derive(Default)]
pub(super) struct Tally {
    pub bytes: Count,
    pub calls: Count,
    pub rung: Count,
    pub saved: Count,
    pub slept: Count,
}

/// The writing side, whose turn it is.
pub(super) struct Outgoing {
    pub producer: Producer,
    turns: u32,
    asked: Instant,
    /// Whether the send buffer was made large, so that the descriptor shows room.
    large: bool,
    shut: bool,
}

/// The reading side, whose turn it is.
pub(super) struct Incoming {
    pub consumer: Consumer,
    turns: u32,
    /// Tokens that are in the socket or on their way, as far as known.
    owed: u32,
    /// Whether the bell was set since, by us.
    armed: bool,
    /// Whether all was read that will ever come.
    pub ended: bool,
    pub partial: Partial,
    /// Bytes read since the ring was last found empty.
    run: u64,
    pause: u32,
}

impl Incoming {
    /// Lets a writer that streams get ahead again, where the ring was found empty: as `Receiver::look_away` of a NIC.
    ///
    /// A reader right behind its writer takes lines away from it that it is about to write. After a long run this looks
    /// away for a moment, for longer while that leads to runs that are long and yet leave most of the ring free.
    fn look_away(&mut self) {
        let run = core::mem::take(&mut self.run);
        if run < LONG_RUN {
            self.pause = LEAST_PAUSE;
            return;
        }
        for _ in 0..self.pause {
            spin_loop();
        }
        let size = self.consumer.size();
        if run < size / 32 {
            self.pause = (self.pause * 2).min(MOST_PAUSE);
        } else if run > size / 8 {
            self.pause = (self.pause / 2).max(LEAST_PAUSE);
        }
    }
}

/// One end of a pipe. Threads share it: one at a time writes, one at a time reads.
pub struct End {
    pub(super) outgoing: Turn<Outgoing>,
    pub(super) incoming: Turn<Incoming>,
    pub(super) sent: Tally,
    pub(super) received: Tally,
    /// The most bytes of a message.
    pub(super) largest: u64,
    way_out: &'static Way,
    way_in: &'static Way,
    closed: AtomicBool,
    /// Whether the kernel has said that the peer is no more.
    gone: AtomicBool,
    /// Whether a program polls the descriptor.
    polled: AtomicBool,
    origin: Origin,
    // Dropped in this order: by the time that a child closes what a seat names, the numbers may be others'.
    #[allow(dead_code)]
    seat: Option<Seat>,
    signals: Kept<Signals>,
    memory: Memory,
}

impl End {
    /// Opens one end from its descriptors. Messages longer than `largest` bytes are refused at both sides.
    ///
    /// # Errors
    ///
    /// Descriptors that are not a pipe's.
    pub fn open(files: Files, first: bool, largest: u64) -> io::Result<Self> {
        let memory = Memory::open(&files.memory)?;
        let signals = Signals::adopt(files.outer, files.inner)?;
        // The mapping keeps the memory; its descriptor is closed here.
        drop(files.memory);
        let (way_out, ring_out) = memory.way(!first);
        let (way_in, ring_in) = memory.way(first);
        let now = Instant::now();
        let producer = Producer::new(way_out, ring_out);
        let consumer = Consumer::new(way_in, ring_in);
        Ok(Self {
            outgoing: Turn::new(Outgoing { producer, turns: FIRST, asked: now, large: false, shut: false }),
            incoming: Turn::new(Incoming {
                consumer,
                turns: FIRST,
                owed: 1,
                armed: false,
                ended: false,
                partial: Partial::default(),
                run: 0,
                pause: LEAST_PAUSE,
            }),
            sent: Tally::default(),
            received: Tally::default(),
            largest,
            way_out,
            way_in,
            closed: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            polled: AtomicBool::new(false),
            origin: Origin::here(),
            seat: Seat::take(signals.both()),
            signals: Kept::new(signals),
            memory,
        })
    }

    /// Bytes of each ring.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.memory.size()
    }

    /// Whether this is a pipe of messages.
    #[must_use]
    pub fn messages(&self) -> bool {
        self.memory.messages
    }

    /// Whether this end was closed.
    #[must_use]
    pub fn closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Whether the peer has closed its end or died.
    #[must_use]
    pub fn peer_gone(&self) -> bool {
        self.usable().is_ok() && self.look_for_peer()
    }

    /// Whether the peer has said that it writes no more. What it wrote before may still be there to be read.
    #[must_use]
    pub fn peer_closed_write(&self) -> bool {
        self.usable().is_ok() && self.way_in.room.ended()
    }

    /// What this end has counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            written: self.sent.bytes.get(),
            read: self.received.bytes.get(),
            writes: self.sent.calls.get(),
            reads: self.received.calls.get(),
            rung: self.sent.rung.get() + self.received.rung.get(),
            saved: self.sent.saved.get() + self.received.saved.get(),
            slept: self.sent.slept.get() + self.received.slept.get(),
        }
    }

    /// Writes bytes; `done` counts those taken, also where it fails. Waiting, it takes all; otherwise as many as fit.
    ///
    /// # Errors
    ///
    /// See [`Failure`]; [`Failure::NotNow`] only where none fits.
    pub fn write(&self, bytes: &[u8], wait: Wait, done: &mut usize) -> Result<(), Failure> {
        let mut turn = self.turn(&self.outgoing, wait)?;
        let before = *done;
        let result = self.write_some(&mut turn, bytes, wait, done);
        if *done > before {
            self.sent.calls.add(1);
            self.sent.bytes.add((*done - before) as u64);
        }
        self.end_outgoing(turn);
        result
    }

    fn write_some(&self, side: &mut Outgoing, bytes: &[u8], wait: Wait, done: &mut usize) -> Result<(), Failure> {
        loop {
            self.may_write(side)?;
            let rest = &bytes[*done..];
            if rest.is_empty() {
                return Ok(());
            }
            // Who does not wait gets all the room that there is.
            let enough = if wait.waits() { PIECE.min(rest.len() as u64) } else { rest.len() as u64 };
            let room = side.producer.room(enough)?;
            if room > 0 {
                *done += self.copy_in(side, rest, room);
                if !wait.waits() {
                    return Ok(());
                }
                continue;
            }
            self.await_room(
                side,
                PIECE.min(rest.len() as u64),
                (side.producer.size() / 4).min(rest.len() as u64),
                wait,
            )?;
        }
    }

    /// Copies as much as there is `room` for, and tells the reader.
    fn copy_in(&self, side: &mut Outgoing, bytes: &[u8], room: u64) -> usize {
        let count = (bytes.len() as u64).min(room) as usize;
        let mut at = 0;
        while count - at > PIECE as usize {
            side.producer.put(0, &bytes[at..at + PIECE as usize]);
            side.producer.advance(PIECE);
            at += PIECE as usize;
            if side.producer.rings() {
                self.signal_data();
            }
        }
        side.producer.put(0, &bytes[at..count]);
        side.producer.finish((count - at) as u64);
        self.ring_reader(side);
        count
    }

    #[inline]
    pub(super) fn ring_reader(&self, side: &Outgoing) {
        if side.producer.rings() {
            self.signal_data();
        } else {
            self.sent.saved.add(1);
        }
    }

    #[cold]
    fn signal_data(&self) {
        self.sent.rung.add(1);
        self.signals.signal_data();
    }

    #[inline]
    fn ring_writer(&self, side: &Incoming) {
        if side.consumer.rings() {
            self.signal_room();
        } else {
            self.received.saved.add(1);
        }
    }

    #[cold]
    fn signal_room(&self) {
        self.received.rung.add(1);
        self.signals.signal_room();
    }

    /// Reads up to `buffer.len()` bytes: what is there, one at least. 0 is the end of what the peer wrote.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub fn read(&self, buffer: &mut [u8], wait: Wait) -> Result<usize, Failure> {
        let mut turn = self.turn(&self.incoming, wait)?;
        let result = self.read_some(&mut turn, buffer, wait);
        self.end_incoming(turn);
        result
    }

    fn read_some(&self, side: &mut Incoming, buffer: &mut [u8], wait: Wait) -> Result<usize, Failure> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let there = self.available(side, PIECE.min(buffer.len() as u64))?;
            if there > 0 {
                let count = there.min(buffer.len() as u64) as usize;
                self.copy_out(side, &mut buffer[..count]);
                self.received.calls.add(1);
                self.received.bytes.add(count as u64);
                return Ok(count);
            }
            if side.ended {
                return Ok(0);
            }
            self.await_data(side, wait)?;
        }
    }

    fn copy_out(&self, side: &mut Incoming, bytes: &mut [u8]) {
        let mut at = 0;
        while bytes.len() - at > PIECE as usize {
            side.consumer.get(0, &mut bytes[at..at + PIECE as usize]);
            side.consumer.advance(PIECE);
            at += PIECE as usize;
            if side.consumer.rings() {
                self.signal_room();
            }
        }
        side.consumer.get(0, &mut bytes[at..]);
        self.give_back(side, (bytes.len() - at) as u64);
    }

    /// Gives `count` bytes back that were copied, and tells the writer.
    #[inline]
    pub(super) fn give_back(&self, side: &mut Incoming, count: u64) {
        side.consumer.finish(count);
        side.run += count;
        self.ring_writer(side);
    }

    /// Bytes that can be read; 0 with `ended` set when no more will come.
    #[inline]
    pub(super) fn available(&self, side: &mut Incoming, enough: u64) -> Result<u64, Failure> {
        self.usable()?;
        if side.ended {
            return Ok(0);
        }
        let there = side.consumer.available(enough)?;
        if there > 0 { Ok(there) } else { self.available_at_last(side) }
    }

    fn available_at_last(&self, side: &mut Incoming) -> Result<u64, Failure> {
        // What ended the pipe is looked at before its bytes are looked at once more: they were written before.
        let ended = side.consumer.writer_ended();
        let gone = self.gone.load(Ordering::Acquire);
        if !ended && !gone {
            return Ok(0);
        }
        let there = side.consumer.available(1)?;
        if there == 0 {
            if !side.consumer.writer_ended() {
                return Err(Failure::Reset);
            }
            side.ended = true;
        }
        Ok(there)
    }

    /// Waits until there may be data: looks for a while, then sleeps.
    pub(super) fn await_data(&self, side: &mut Incoming, wait: Wait) -> Result<(), Failure> {
        let Wait::Until(deadline) = wait else { return self.no_data(side, wait) };
        for turn in 0..side.turns {
            if turn == 1 {
                side.look_away();
            }
            if side.consumer.available(1)? > 0 || side.consumer.writer_ended() || self.closed() {
                side.turns = (side.turns * 2).min(MOST);
                return Ok(());
            }
            spin_loop();
        }
        side.turns = (side.turns / 2).max(LEAST);
        for _ in 0..FRUITLESS {
            if self.arm_data(side)? || self.closed() {
                return Ok(());
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(Failure::Late);
            }
            self.received.slept.add(1);
            match self.signals.sleep(For::Data, deadline) {
                Woken::Gone => {
                    self.gone.store(true, Ordering::Release);
                    return Ok(());
                }
                Woken::Interrupted => return Err(Failure::Interrupted),
                Woken::Look | Woken::Late => {}
            }
            if side.consumer.available(1)? > 0 {
                return Ok(());
            }
        }
        Err(Failure::Interrupted)
    }

    /// There is no data and no time to wait for it.
    fn no_data(&self, side: &mut Incoming, wait: Wait) -> Result<(), Failure> {
        if wait == Wait::Quick {
            return Err(Failure::NotNow);
        }
        // It found data, or the peer has gone: the caller looks again.
        if self.polled.load(Ordering::Relaxed) && self.arm_data(side)? || self.look_for_peer() {
            return Ok(());
        }
        Err(Failure::NotNow)
    }

    /// Sets the bell, so that the descriptor is readable exactly when there is something to be read.
    ///
    /// True when there is something already.
    fn arm_data(&self, side: &mut Incoming) -> Result<bool, Failure> {
        let was_set = self.way_in.data.announce(side.consumer.tail_for(1));
        if side.armed && !was_set {
            side.owed = side.owed.saturating_add(1);
        }
        let waits_since = side.armed && was_set;
        side.armed = true;
        if side.consumer.last_look()? > 0 || side.consumer.writer_ended() || self.gone.load(Ordering::Acquire) {
            return Ok(true);
        }
        if side.owed > 0 {
            match self.signals.take_tokens(side.owed) {
                Some(taken) => side.owed -= taken,
                None => return Ok(self.look_for_peer()),
            }
        } else if waits_since && self.signals.readable() && self.way_in.data.is_set() && !self.look_for_peer() {
            // Whoever signals takes the bell first: this token nobody asked for.
            return Err(Failure::Nonsense);
        }
        Ok(false)
    }

    /// Whether the peer has gone; asks the kernel.
    fn look_for_peer(&self) -> bool {
        if self.gone.load(Ordering::Acquire) {
            return true;
        }
        let gone = !self.closed() && self.signals.gone();
        if gone {
            self.gone.store(true, Ordering::Release);
        }
        gone
    }

    #[inline]
    pub(super) fn may_write(&self, side: &mut Outgoing) -> Result<(), Failure> {
        self.usable()?;
        if side.shut {
            return Err(Failure::Shut);
        }
        let now = Instant::now();
        if now.duration_since(side.asked) > ASK {
            side.asked = now;
            self.look_for_peer();
        }
        if side.producer.reader_ended() || self.gone.load(Ordering::Relaxed) {
            return Err(Failure::Broken);
        }
        Ok(())
    }

    /// Waits until there may be room: looks for `soon` bytes for a while, then sleeps until there are `late`.
    pub(super) fn await_room(&self, side: &mut Outgoing, soon: u64, late: u64, wait: Wait) -> Result<(), Failure> {
        let Wait::Until(deadline) = wait else { return self.no_room(side, late, wait) };
        for _ in 0..side.turns {
            if side.producer.room(soon)? >= soon || side.producer.reader_ended() || self.closed() {
                side.turns = (side.turns * 2).min(MOST);
                return Ok(());
            }
            spin_loop();
        }
        side.turns = (side.turns / 2).max(LEAST);
        for _ in 0..FRUITLESS {
            if self.arm_room(side, late)? || self.closed() {
                return Ok(());
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(Failure::Late);
            }
            self.sent.slept.add(1);
            match self.signals.sleep(For::Room, deadline) {
                Woken::Gone => {
                    self.gone.store(true, Ordering::Release);
                    return Ok(());
                }
                Woken::Interrupted => return Err(Failure::Interrupted),
                Woken::Look | Woken::Late => {}
            }
            if side.producer.room(late)? >= late {
                return Ok(());
            }
        }
        Err(Failure::Interrupted)
    }

    fn no_room(&self, side: &mut Outgoing, need: u64, wait: Wait) -> Result<(), Failure> {
        if wait == Wait::Quick {
            return Err(Failure::NotNow);
        }
        let need = need.max(side.producer.size() / 4);
        if self.polled.load(Ordering::Relaxed) && self.arm_room(side, need)? || self.look_for_peer() {
            return Ok(());
        }
        Err(Failure::NotNow)
    }

    /// Sets the bell, so that the descriptor becomes writable when `need` bytes fit. True when they do already.
    fn arm_room(&self, side: &mut Outgoing, need: u64) -> Result<bool, Failure> {
        self.signals.hold_writable(core::mem::take(&mut side.large));
        self.way_out.room.announce(side.producer.head_for(need));
        let found = side.producer.last_look()? >= need;
        if found || side.producer.reader_ended() {
            side.large = true;
            self.signals.let_writable();
            return Ok(true);
        }
        Ok(self.gone.load(Ordering::Acquire))
    }

    /// Bytes that can be read now, and whether a read would not have to wait for anything.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub fn readable(&self) -> Result<(u64, bool), Failure> {
        let Some(mut side) = self.incoming.try_take() else {
            self.usable()?;
            return Ok((0, false));
        };
        match self.available(&mut side, u64::MAX) {
            Ok(there) => Ok((there, there > 0 || side.ended || self.look_for_peer())),
            Err(Failure::Reset) => Ok((0, true)),
            Err(failure) => Err(failure),
        }
    }

    /// Bytes that can be written now without waiting.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub fn room(&self) -> Result<u64, Failure> {
        self.usable()?;
        let Some(mut side) = self.outgoing.try_take() else { return Ok(0) };
        Ok(side.producer.room(u64::MAX)?)
    }

    /// Waits until a read would not have to.
    ///
    /// # Errors
    ///
    /// [`Failure::Late`] when it would still; see [`Failure`].
    pub fn await_readable(&self, wait: Wait) -> Result<(), Failure> {
        let mut turn = self.turn(&self.incoming, wait)?;
        let result = loop {
            match self.available(&mut turn, 1) {
                Ok(0) if !turn.ended => {}
                Ok(_) | Err(Failure::Reset) => break Ok(()),
                Err(failure) => break Err(failure),
            }
            if let Err(failure) = self.await_data(&mut turn, wait) {
                break Err(failure);
            }
        };
        self.end_incoming(turn);
        result
    }

    /// The descriptor that shows whether there is something to be read and room to write, from now on.
    ///
    /// It is readable when a read would not wait (data, or the end of it), and writable when a write would not (room, or
    /// nobody who reads). Once the ring was full it shows room again when a quarter of it is free.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub fn descriptor(&self) -> Result<BorrowedFd<'_>, Failure> {
        self.usable()?;
        if !self.polled.swap(true, Ordering::AcqRel) {
            // Who has the turn now shows it when it lets go, if it does not sleep and so has shown it already.
            if let Some(mut side) = self.incoming.take_or_tell() {
                self.show_data(&mut side);
            }
            if let Some(mut side) = self.outgoing.take_or_tell() {
                self.show_room(&mut side);
            }
        }
        Ok(self.signals.descriptor())
    }

    /// Has the descriptor show whether there is data. What is wrong is told by the next call.
    fn show_data(&self, side: &mut Incoming) {
        if !side.ended && matches!(side.consumer.available(1), Ok(0)) {
            let _ = self.arm_data(side);
        }
    }

    fn show_room(&self, side: &mut Outgoing) {
        if matches!(side.producer.room(1), Ok(0)) {
            let _ = self.arm_room(side, side.producer.size() / 4);
        } else if !self.signals.writable() {
            // Ballast of a wait that ended otherwise.
            side.large = true;
            self.signals.let_writable();
        }
    }

    #[inline]
    pub(super) fn end_incoming(&self, mut turn: Taken<'_, Incoming>) {
        if self.polled.load(Ordering::Relaxed) {
            self.show_data(&mut turn);
        }
        if turn.end()
            && self.polled.load(Ordering::Acquire)
            && let Some(mut side) = self.incoming.try_take()
        {
            self.show_data(&mut side);
        }
    }

    #[inline]
    pub(super) fn end_outgoing(&self, mut turn: Taken<'_, Outgoing>) {
        if self.polled.load(Ordering::Relaxed) && matches!(turn.producer.room(1), Ok(0)) {
            let _ = self.arm_room(&mut turn, self.size() / 4);
        }
        if turn.end()
            && self.polled.load(Ordering::Acquire)
            && let Some(mut side) = self.outgoing.try_take()
        {
            self.show_room(&mut side);
        }
    }

    /// Says that this end writes no more, once who writes now is done. What was written can still be read.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub fn shut_write(&self, wait: Wait) -> Result<(), Failure> {
        let mut turn = self.turn(&self.outgoing, wait)?;
        if !turn.shut {
            turn.shut = true;
            if end_writing(self.way_out) {
                self.signal_data();
            }
        }
        Ok(())
    }

    /// Closes this end: the peer finds the end of what was written, or nobody who reads, and waiting threads wake.
    pub fn close(&self) {
        if !self.origin.is_here() || self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        if end_writing(self.way_out) {
            self.signals.signal_data();
        }
        if end_reading(self.way_in) {
            self.signals.signal_room();
        }
        self.signals.hang_up();
        self.incoming.stir();
        self.outgoing.stir();
    }

    #[inline]
    pub(super) fn usable(&self) -> Result<(), Failure> {
        if !self.origin.is_here() {
            return Err(Failure::Forked);
        }
        if self.closed() { Err(Failure::Closed) } else { Ok(()) }
    }

    #[inline]
    pub(super) fn turn<'t, T>(&self, turn: &'t Turn<T>, wait: Wait) -> Result<Taken<'t, T>, Failure> {
        self.usable()?;
        match turn.try_take() {
            Some(taken) => Ok(taken),
            None => self.wait_for_turn(turn, wait),
        }
    }

    #[cold]
    fn wait_for_turn<'t, T>(&self, turn: &'t Turn<T>, wait: Wait) -> Result<Taken<'t, T>, Failure> {
        let Wait::Until(deadline) = wait else { return Err(Failure::NotNow) };
        loop {
            match turn.take(deadline) {
                Ok(taken) => return Ok(taken),
                Err(Waited::Interrupted) => return Err(Failure::Interrupted),
                Err(Waited::NotYet) => {}
            }
            self.usable()?;
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(Failure::Late);
            }
        }
    }

    /// What a hostile peer can do: writes anything anywhere into the shared memory. For tests and fuzzing.
    #[doc(hidden)]
    pub fn scribble(&self, at: u64, bytes: &[u8]) {
        self.memory.scribble(at, bytes);
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // In a forked child this does nothing, and what is dropped next neither.
        self.close();
    }
}
