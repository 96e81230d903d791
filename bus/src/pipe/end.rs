//! One end of a pipe: what threads of a process share, and how it ends.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use vnet_base::sync::{AtomicBool, Ordering};

use super::counting::{Counters, Tally};
use super::layout::{Memory, Way};
use super::reading::Incoming;
use super::ring::{Consumer, Nonsense, Producer, end_reading, end_writing};
use super::seats::{Kept, Seat};
use super::signal::{For, Signals, Woken};
use super::turn::{Taken, Turn, Waited};
use super::writing::Outgoing;
use crate::forks::Origin;

/// Turns that a side looks before it sleeps: at least, at most, and in the beginning.
pub(super) const LEAST: u32 = 32;
pub(super) const MOST: u32 = 4096;
pub(super) const FIRST: u32 = MOST / 4;

/// Wake-ups for nothing after which the caller is asked whether it wants to go on.
pub(super) const FRUITLESS: u32 = 64;

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
        "the other end of the pipe wrote nonsense into the memory that both share: this pipe is of no use any more"
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

/// One end of a pipe. Threads share it: one at a time writes, one at a time reads.
pub struct End {
    pub(super) outgoing: Turn<Outgoing>,
    pub(super) incoming: Turn<Incoming>,
    pub(super) tally: Arc<Tally>,
    /// The most bytes of a message.
    pub(super) largest: u64,
    pub(super) way_out: &'static Way,
    pub(super) way_in: &'static Way,
    closed: AtomicBool,
    /// Whether nothing more is to be read here.
    deaf: AtomicBool,
    /// Whether the kernel has said that the peer is no more.
    pub(super) gone: AtomicBool,
    /// Whether nonsense was found.
    spoilt: AtomicBool,
    /// Whether a program polls the descriptor.
    pub(super) polled: AtomicBool,
    origin: Origin,
    // Dropped in this order: by the time that a child closes what a seat names, the numbers may be others'.
    _seat: Option<Seat>,
    pub(super) signals: Kept<Signals>,
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
        Ok(Self {
            outgoing: Turn::new(Outgoing::new(Producer::new(way_out, ring_out))),
            incoming: Turn::new(Incoming::new(Consumer::new(way_in, ring_in))),
            tally: Arc::default(),
            largest,
            way_out,
            way_in,
            closed: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            spoilt: AtomicBool::new(false),
            polled: AtomicBool::new(false),
            origin: Origin::here(),
            _seat: Seat::take(signals.both()),
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

    /// The most bytes of a message.
    #[must_use]
    pub fn largest(&self) -> u64 {
        self.largest
    }

    /// Whether this end was closed.
    #[must_use]
    pub fn closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Whether nothing more is read here: it was closed or shut for reading.
    #[inline]
    pub(super) fn deaf(&self) -> bool {
        self.deaf.load(Ordering::Relaxed)
    }

    /// Whether the peer has closed its end or died.
    #[must_use]
    pub fn peer_gone(&self) -> bool {
        self.origin.is_here() && self.look_for_peer()
    }

    /// Whether the peer has said that it writes no more. What it wrote before may still be there to be read.
    #[must_use]
    pub fn peer_closed_write(&self) -> bool {
        self.origin.is_here() && self.way_in.room.ended()
    }

    /// What this end has counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.tally.counters()
    }

    /// Its counters, which can be looked at after it was closed.
    #[must_use]
    pub fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.tally)
    }

    /// Whether the peer has gone; asks the kernel.
    pub(super) fn look_for_peer(&self) -> bool {
        if self.gone.load(Ordering::Acquire) {
            return true;
        }
        // An end of ours that was closed or spoilt has hung up itself.
        let gone = self.usable().is_ok() && self.signals.gone() && self.usable().is_ok();
        if gone {
            // Release: whoever sees this looks for what the peer wrote before it went.
            self.gone.store(true, Ordering::Release);
        }
        gone
    }

    /// The descriptor that shows whether there is something to be read and room to write, from now on.
    ///
    /// It is readable when a read would not wait (data, or the end of it), and writable when a write would not (room, or
    /// nobody who reads). Once the ring was full it shows room again when a quarter of it is free, or as much as the
    /// message needs that was refused.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub fn descriptor(&self) -> Result<BorrowedFd<'_>, Failure> {
        self.usable()?;
        if !self.polled.swap(true, Ordering::AcqRel) {
            // Who has the turn now shows it when it lets go, or has shown it already where it sleeps.
            if let Some(mut side) = self.incoming.take_or_tell() {
                self.show_data(&mut side);
            }
            if let Some(mut side) = self.outgoing.take_or_tell() {
                self.show_room(&mut side);
            }
        }
        Ok(self.signals.descriptor())
    }

    /// Waits until a read or a write would not have to: whichever is asked for, or of both the first.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub fn await_either(&self, read: bool, write: bool, deadline: Option<Instant>) -> Result<(), Failure> {
        match (read, write) {
            (true, false) => self.await_readable(Wait::Until(deadline)),
            (false, true) => self.await_writable(Wait::Until(deadline)),
            // The descriptor shows both at once, whoever has the turns.
            _ => {
                self.descriptor()?;
                let woken = self.signals.sleep(For::Either, deadline);
                self.usable()?;
                match woken {
                    Woken::Look | Woken::Gone => Ok(()),
                    Woken::Interrupted => Err(Failure::Interrupted),
                    Woken::Late => Err(Failure::Late),
                }
            }
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
                self.signals.signal_data();
            }
        }
        Ok(())
    }

    /// Says that this end reads no more: who waits here for data finds its end, and the peer's writes fail.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub fn shut_read(&self) -> Result<(), Failure> {
        self.usable()?;
        if !self.deaf.swap(true, Ordering::AcqRel) {
            if end_reading(self.way_in) {
                self.signals.signal_room();
            }
            self.signals.hang_up_reading();
            self.incoming.stir();
        }
        Ok(())
    }

    /// Closes this end: the peer finds the end of what was written, or nobody who reads, and waiting threads wake.
    pub fn close(&self) {
        if !self.origin.is_here() || self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.deaf.store(true, Ordering::Release);
        // The flags come before the kernel's word: a peer that hears of it finds that this was no death.
        if end_writing(self.way_out) {
            self.signals.signal_data();
        }
        if end_reading(self.way_in) {
            self.signals.signal_room();
        }
        self.hang_up();
    }

    fn hang_up(&self) {
        self.signals.hang_up();
        self.incoming.stir();
        self.outgoing.stir();
    }

    /// Remembers that nonsense was found: nothing that is read after it would mean anything. The peer, if it is not to
    /// blame, finds that this end has gone without an end of what it wrote.
    pub(super) fn judge<T>(&self, result: Result<T, Failure>) -> Result<T, Failure> {
        if matches!(result, Err(Failure::Nonsense)) && !self.spoilt.swap(true, Ordering::AcqRel) {
            self.hang_up();
        }
        result
    }

    #[inline]
    pub(super) fn usable(&self) -> Result<(), Failure> {
        if !self.origin.is_here() {
            return Err(Failure::Forked);
        }
        if self.closed() {
            return Err(Failure::Closed);
        }
        if self.spoilt.load(Ordering::Relaxed) { Err(Failure::Nonsense) } else { Ok(()) }
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
