//! Captures: what is forwarded, written as pcapng, every NIC an interface.
//!
//! # Theory of operation
//!
//! While anybody captures, senders put notes of what they forward into the ring of slot 0
//! ([`vnet_base::note`]). One thread of the base reads it and lets each capture take what it wants:
//!
//! ```text
//!   senders ──▶ ring of slot 0 ──▶ hub ──┬──▶ selection: NICs, direction, filter, limit ──▶ queue ──▶ writer ──▶ file
//!                                        ├──▶ selection …                               ──▶ queue ──▶ writer ──▶ pipe
//!                                        └──▶ …
//!   selection  what one capture wants; its packets as blocks
//!   pcapng     the blocks
//!   sink       a bounded queue and the writer's thread
//!   output     file, ring files, pipe or socket
//! ```
//!
//! Nobody waits for anybody behind him: a sender that finds no room or the ring's lock held, and a selection that finds
//! its queue full, count what they miss and go on. So a reader that is slow or stopped holds up neither the LAN nor
//! another capture.
//!
//! A packet block stands on the sender's interface, outbound, with the reason as a comment if the datagram was dropped;
//! another on the receiver's, inbound. The ring is read under a lock that the thread gives back while it sleeps: who
//! ends a capture reads the rest of the ring itself, up to where senders were when it was asked to, so that all that
//! was sent before is in it, and nobody has to be woken for that.

mod output;
mod pcapng;
mod selection;
mod sink;

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use vnet_base::lan::BASE;
use vnet_base::sync::{AtomicBool, AtomicU32, Ordering, futex_wake};
use vnet_base::tables::SlotId;
use vnet_base::{Lan, Receiver, note};

use crate::clock;
use output::{Descriptors, Output};
use selection::{EVERYTHING, Selection};
use sink::Sink;

pub use output::RingFiles;
pub use selection::{Direction, Wanted};
pub use sink::End;

/// The thread's naps while datagrams come now and then: short enough that the ring does not fill, long enough that no
/// sender has to ring for each.
const NAP: Duration = Duration::from_micros(500);

/// Naps without anything new after which the thread sleeps until it is rung.
const NAPS: u32 = 20;

/// Records that are read before others may have the lock.
const AT_A_TIME: u32 = 64;

/// Where a capture goes.
#[derive(Debug)]
pub enum Target {
    /// Into this descriptor: a file, a pipe, a socket or a device.
    File(File),
    /// Into files of a directory, one after the other.
    Ring(RingFiles),
}

/// What a capture did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets in the file.
    pub packets: u64,
    /// Datagrams that were sent and are in the file, each as one packet or more.
    pub datagrams: u64,
    /// Datagrams and copies of broadcasts that came faster than they could be taken.
    pub missed: u64,
}

/// The captures of a LAN. Dropping it ends them.
pub struct Hub {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    lan: Arc<Lan>,
    pump: Mutex<Pump>,
    /// Who waits for the pump; the thread lets them go first.
    waiting: AtomicU32,
    /// What the captures write to.
    descriptors: Arc<Descriptors>,
    /// This is a forked child's copy: threads, locks and files are the parent's.
    abandoned: AtomicBool,
}

/// The reading end of the ring of slot 0, and who wants what comes there.
struct Pump {
    receiver: Option<Receiver>,
    selections: Vec<Selection>,
}

/// One capture. Dropping it ends it.
pub struct Capture {
    shared: Arc<Shared>,
    sink: Arc<Sink>,
    hub: Arc<Hub>,
}

impl Hub {
    /// The hub of a LAN. Its thread runs while there are captures.
    #[must_use]
    pub fn new(lan: Arc<Lan>) -> Self {
        let pump = Mutex::new(Pump { receiver: None, selections: Vec::new() });
        let waiting = AtomicU32::new(0);
        let shared = Shared { lan, pump, waiting, descriptors: Arc::default(), abandoned: AtomicBool::new(false) };
        Self { shared: Arc::new(shared), thread: Mutex::new(None) }
    }

    /// Starts a capture.
    ///
    /// # Errors
    ///
    /// Those of writing the head of the file and of starting a thread; [`vnet_base::LanError::Stuck`] where a stopped
    /// process holds the ring.
    pub fn start(self: &Arc<Self>, target: Target, wanted: Wanted) -> io::Result<Capture> {
        let output = match target {
            Target::File(file) => Output::new(file)?,
            Target::Ring(files) => Output::ring(files)?,
        };
        let sink = Arc::new(Sink::new(output, Arc::clone(&self.shared.descriptors)));
        let mut selection = Selection::new(&self.shared.lan, Arc::clone(&sink), wanted);
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pump = loop {
            let pump = self.shared.wait_for_pump();
            if pump.receiver.is_some() || thread.is_none() {
                break pump;
            }
            // The thread of earlier captures is at its end; it may want the pump for its last look.
            drop(pump);
            self.shared.join(thread.take());
        };
        if pump.receiver.is_none() {
            self.shared.lan.open_capture().map_err(io::Error::other)?;
            let segment = Arc::clone(self.shared.lan.segment());
            pump.receiver = Some(Receiver::new(segment, SlotId(0), BASE).ok_or(io::ErrorKind::NotFound)?);
        } else {
            // What is in the ring was sent before this began.
            pump.drain();
        }
        let begun = selection.begin(self.shared.missed()).and_then(|()| {
            if thread.is_none() {
                let shared = Arc::clone(&self.shared);
                let run = move || {
                    output::stand_back();
                    shared.run();
                };
                *thread = Some(std::thread::Builder::new().name("vnet-capture".into()).spawn(run)?);
            }
            Ok(())
        });
        if begun.is_ok() {
            pump.selections.push(selection);
        } else {
            sink.stop(None, End::Stopped, true);
        }
        self.shared.settle(&mut pump);
        drop(pump);
        begun?;
        Ok(Capture { shared: Arc::clone(&self.shared), sink, hub: Arc::clone(self) })
    }

    /// Forgets all captures in a forked child: they are the parent's.
    pub fn abandon(&self) {
        self.shared.abandoned.store(true, Ordering::Release);
        self.shared.descriptors.close_in_child();
        // Whoever held a lock at the fork is not there to give it back.
        if let Ok(mut pump) = self.shared.pump.try_lock() {
            std::mem::forget(std::mem::take(&mut pump.selections));
        }
        if let Ok(mut thread) = self.thread.try_lock() {
            std::mem::forget(thread.take());
        }
    }

    /// Waits for the thread's end if nobody captures any more.
    fn reap(&self) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shared.wait_for_pump().receiver.is_none() {
            self.shared.join(thread.take());
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if !self.shared.abandoned.load(Ordering::Acquire) {
            self.reap();
        }
    }
}

impl Shared {
    fn lock_pump(&self) -> MutexGuard<'_, Pump> {
        self.pump.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pump, for others than the thread: that would take it again and again.
    fn wait_for_pump(&self) -> MutexGuard<'_, Pump> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let pump = self.lock_pump();
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        pump
    }

    /// Waits for the thread's end; it ends because there is no receiver.
    fn join(&self, thread: Option<JoinHandle<()>>) {
        let Some(thread) = thread else { return };
        while !thread.is_finished() {
            // It naps or sleeps, or was between its last look and its sleep.
            thread.thread().unpark();
            futex_wake(&self.lan.segment().control(SlotId(0)).bell.idle, i32::MAX);
            std::thread::yield_now();
        }
        let _ = thread.join();
    }

    /// What senders have noted and found no room for, so far.
    fn missed(&self) -> u64 {
        self.lan.segment().control(SlotId(0)).senders.missed.load(Ordering::Relaxed)
    }

    /// Has senders note what the captures want; nothing where there are none.
    fn settle(&self, pump: &mut Pump) {
        if pump.selections.is_empty() {
            if pump.receiver.take().is_some() {
                self.lan.close_capture();
            }
            return;
        }
        let everything = pump.selections.iter().any(|selection| !selection.wanted.drops);
        let bytes = pump.selections.iter().map(|selection| selection.wanted.noted_bytes()).max();
        self.lan.set_noted(everything, bytes.unwrap_or(EVERYTHING));
    }

    /// The thread: reads the ring while anybody captures.
    fn run(&self) {
        let bell = &self.lan.segment().control(SlotId(0)).bell;
        let mut quiet = 0;
        loop {
            while self.waiting.load(Ordering::Relaxed) > 0 {
                std::thread::yield_now();
            }
            let mut pump = self.lock_pump();
            if pump.receiver.is_none() {
                return;
            }
            let more = pump.read(AT_A_TIME);
            let due = pump.tend(self);
            if more {
                quiet = 0;
                continue;
            }
            quiet += 1;
            if quiet < NAPS {
                drop(pump);
                std::thread::park_timeout(NAP);
                continue;
            }
            let asleep = pump.receiver.as_mut().is_some_and(|receiver| matches!(receiver.prepare_sleep(), Ok(true)));
            drop(pump);
            if asleep {
                // At times it looks for captures whose writers have failed meanwhile.
                bell.sleep(Some(due.map_or(Duration::from_millis(200), Duration::from_nanos)));
                quiet = NAPS - 1;
            }
        }
    }
}

impl Pump {
    /// Reads up to `most` records. Returns whether there are more.
    fn read(&mut self, most: u32) -> bool {
        let Some(receiver) = &mut self.receiver else { return false };
        for _ in 0..most {
            let Ok(Some(record)) = receiver.peek() else {
                receiver.settle();
                return false;
            };
            for note in note::read(receiver.bytes(&record)) {
                for selection in &mut self.selections {
                    // One that has enough is ended by `tend()`; until then it takes no more.
                    selection.take(&note);
                }
            }
            receiver.done(&record);
        }
        true
    }

    /// Reads all that senders have put there so far.
    fn drain(&mut self) {
        let Some(end) = self.receiver.as_ref().map(Receiver::end) else { return };
        while self.receiver.as_ref().is_some_and(|receiver| !receiver.reached(end)) && self.read(1) {}
    }

    /// Flushes what is due, and lets go of captures that are over. Returns nanoseconds until the next is due.
    fn tend(&mut self, shared: &Shared) -> Option<u64> {
        let (now, missed) = (clock::wall(), shared.missed());
        let before = self.selections.len();
        let mut due: Option<u64> = None;
        self.selections.retain_mut(|selection| {
            if selection.has_enough() {
                selection.end(End::Limit, missed, now);
                return false;
            }
            if selection.sink.has_failed() {
                return false;
            }
            selection.count_missed(missed);
            if let Some(left) = selection.flush_if_due(now) {
                due = Some(due.map_or(left, |due| due.min(left)));
            }
            true
        });
        if self.selections.len() != before {
            shared.settle(self);
        }
        due
    }
}

impl Capture {
    /// What it did so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let read = |counter: &vnet_base::sync::AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            packets: read(&self.sink.packets),
            datagrams: read(&self.sink.datagrams),
            missed: read(&self.sink.missed),
        }
    }

    /// Why it is over, if it is. [`Capture::stop`] then waits for what is still to be written.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        self.sink.end()
    }

    /// Waits until it is over, at most for `timeout`. Returns whether it is.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> bool {
        self.sink.wait(timeout)
    }

    /// Ends the capture, once all that was forwarded before is written. Returns how it ended.
    pub fn stop(&self) -> End {
        self.finish(false)
    }

    /// Ends the capture at once; what it has not written yet goes nowhere.
    pub fn discard(&self) {
        self.finish(true);
    }

    fn finish(&self, discard: bool) -> End {
        if self.shared.abandoned.load(Ordering::Acquire) {
            return End::Stopped;
        }
        let mut pump = self.shared.wait_for_pump();
        if let Some(at) = pump.selections.iter().position(|each| Arc::ptr_eq(&each.sink, &self.sink)) {
            if !discard {
                pump.drain();
            }
            let mut selection = pump.selections.remove(at);
            if discard {
                self.sink.stop(None, End::Stopped, true);
            } else {
                let why = if selection.has_enough() { End::Limit } else { End::Stopped };
                selection.end(why, self.shared.missed(), clock::wall());
            }
            self.shared.settle(&mut pump);
        } else {
            self.sink.stop(None, End::Stopped, discard);
        }
        let last = pump.receiver.is_none();
        drop(pump);
        if last {
            self.hub.reap();
        }
        self.sink.join()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if self.shared.abandoned.load(Ordering::Acquire) {
            // In a forked child the output is closed already, and its number may be another file's.
            std::mem::forget(Arc::clone(&self.sink));
        } else {
            self.finish(false);
        }
    }
}
