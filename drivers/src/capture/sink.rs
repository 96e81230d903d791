//! The way out of a capture: a bounded queue, and a thread that writes what is in it.
//!
//! The hub hands over pieces of whole blocks. The thread starts with the first piece, so that a capture that is thrown
//! away before it had anything to write costs none. Who ends a capture waits for the thread, or, where none was needed
//! yet, writes the little that there is itself.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use vnet_base::sync::{AtomicU64, Ordering};

use super::output::{Descriptors, Failure, Output, Written, stand_back};

/// Most bytes that wait to be written; what comes beyond is missed.
const MOST: usize = 32 << 20;

/// Buffers kept for use again: new ones cost a page fault for each page.
const SPARE: usize = 64;

/// How long the end of a capture waits for a reader that takes nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often an idle writer looks whether its reader is still there.
const LOOK: Duration = Duration::from_millis(100);

/// Why a capture is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Somebody ended it.
    Stopped,
    /// It has as many packets as were asked for.
    Limit,
    /// Whoever read it has gone.
    ReaderGone,
    /// It could not be written: the number of the system's error, if it is one, and its words.
    Failed(Option<i32>, String),
}

/// A piece of the capture, whole blocks.
#[derive(Default)]
pub(crate) struct Piece {
    pub bytes: Vec<u8>,
    pub packets: u64,
    pub datagrams: u64,
    /// It begins the next of the ring files.
    pub next_file: bool,
}

#[derive(Default)]
struct Queue {
    pieces: VecDeque<Piece>,
    bytes: usize,
    /// Buffers to use again.
    spare: Vec<Vec<u8>>,
    /// Nothing more comes, because.
    stopped: Option<End>,
    /// The writer cannot go on, because.
    failed: Option<End>,
    /// What is there is not wanted any more.
    discarded: bool,
    thread: Option<JoinHandle<()>>,
}

/// Counters and queue of one capture, between the hub, its writer and whoever holds it.
pub(crate) struct Sink {
    queue: Mutex<Queue>,
    changed: Condvar,
    joining: Mutex<()>,
    /// Until all is written: a reader waits for the end.
    output: Mutex<Option<Output>>,
    descriptors: Arc<Descriptors>,
    reader: bool,
    /// In the file.
    pub packets: AtomicU64,
    pub datagrams: AtomicU64,
    /// Came faster than they could be written.
    pub missed: AtomicU64,
}

impl Sink {
    pub(crate) fn new(output: Output, descriptors: Arc<Descriptors>) -> Self {
        descriptors.enter(output.descriptor());
        Self {
            queue: Mutex::default(),
            changed: Condvar::new(),
            joining: Mutex::new(()),
            descriptors,
            reader: output.has_reader(),
            output: Mutex::new(Some(output)),
            packets: AtomicU64::new(0),
            datagrams: AtomicU64::new(0),
            missed: AtomicU64::new(0),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn output(&self) -> MutexGuard<'_, Option<Output>> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the head of the capture. To a file at once, so that a full disk is known before anything is captured.
    pub(crate) fn begin(self: &Arc<Self>, head: &[u8]) -> io::Result<()> {
        if self.reader {
            self.push(Piece { bytes: head.to_vec(), ..Piece::default() });
            return Ok(());
        }
        let Some(written) = self.output().as_mut().map(|output| output.write(head, |_| true)) else { return Ok(()) };
        match written {
            Written::All => Ok(()),
            Written::Some(_, Failure::System(error)) => Err(error),
            Written::Some(..) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Whether writing may have to wait for a reader.
    pub(crate) fn has_reader(&self) -> bool {
        self.reader
    }

    /// Whether `bytes` more would be too much.
    pub(crate) fn is_full(&self, bytes: usize) -> bool {
        self.queue().bytes + bytes > MOST
    }

    /// Why the capture is over, if it is. What is in the queue may still have to be written.
    pub(crate) fn end(&self) -> Option<End> {
        let queue = self.queue();
        queue.failed.as_ref().or(queue.stopped.as_ref()).cloned()
    }

    /// Waits until the capture is over. Returns whether it is.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let over = |queue: &mut Queue| queue.failed.is_none() && queue.stopped.is_none();
        // Of the two that may wait for a change, the writer and this, both look again.
        let limit = timeout.min(Duration::from_secs(3600));
        let waited = self.changed.wait_timeout_while(self.queue(), limit, over);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Whether the writer cannot go on.
    pub(crate) fn has_failed(&self) -> bool {
        self.queue().failed.is_some()
    }

    /// Hands a piece to the writer. Returns a buffer for the next one.
    pub(crate) fn push(self: &Arc<Self>, piece: Piece) -> Vec<u8> {
        let mut queue = self.queue();
        if queue.failed.is_some() || queue.discarded {
            return Vec::new();
        }
        queue.bytes += piece.bytes.len();
        queue.pieces.push_back(piece);
        if queue.thread.is_none() {
            let sink = Arc::clone(self);
            let work = move || {
                stand_back();
                sink.run();
            };
            match std::thread::Builder::new().name("vnet-capture-w".into()).spawn(work) {
                Ok(thread) => queue.thread = Some(thread),
                Err(error) => Self::fail(&mut queue, &error),
            }
        }
        self.changed.notify_all();
        queue.spare.pop().unwrap_or_default()
    }

    fn fail(queue: &mut Queue, error: &io::Error) {
        // Without "(os error 28)".
        let words = error.raw_os_error().map_or_else(
            || error.to_string(),
            |_| error.to_string().split(" (os error").next().unwrap_or_default().to_owned(),
        );
        queue.failed = Some(End::Failed(error.raw_os_error(), words));
    }

    /// The writer: until nothing more comes or it cannot go on. Then the output is closed; its reader waits for that.
    fn run(&self) {
        while let Some(piece) = self.next() {
            self.write(piece);
        }
        self.close();
    }

    fn close(&self) {
        if let Some(output) = self.output().take() {
            self.descriptors.leave(output.descriptor());
        }
    }

    fn next(&self) -> Option<Piece> {
        let mut queue = self.queue();
        loop {
            if queue.failed.is_some() || queue.discarded {
                return None;
            }
            if let Some(piece) = queue.pieces.pop_front() {
                return Some(piece);
            }
            if queue.stopped.is_some() {
                return None;
            }
            let (woken, waited) = self.changed.wait_timeout(queue, LOOK).unwrap_or_else(PoisonError::into_inner);
            queue = woken;
            if self.reader && waited.timed_out() && self.output().as_ref().is_some_and(Output::reader_gone) {
                queue.failed.get_or_insert(End::ReaderGone);
                self.changed.notify_all();
            }
        }
    }

    fn write(&self, mut piece: Piece) {
        let mut guard = self.output();
        let Some(output) = guard.as_mut() else { return };
        let started = if piece.next_file {
            self.descriptors.leave(output.descriptor());
            let started = output.next_file();
            self.descriptors.enter(output.descriptor());
            started
        } else {
            Ok(())
        };
        let give_up = |stuck: Duration| {
            let queue = self.queue();
            queue.discarded || queue.stopped.is_some() && stuck > PATIENCE
        };
        let written = match started {
            Ok(()) => output.write(&piece.bytes, give_up),
            Err(failure) => Written::Some(0, failure),
        };
        drop(guard);
        let mut queue = self.queue();
        queue.bytes -= piece.bytes.len();
        match written {
            Written::All => {
                self.packets.fetch_add(piece.packets, Ordering::Relaxed);
                self.datagrams.fetch_add(piece.datagrams, Ordering::Relaxed);
                if queue.spare.len() < SPARE {
                    piece.bytes.clear();
                    queue.spare.push(piece.bytes);
                }
            }
            Written::Some(packets, why) => {
                self.packets.fetch_add(packets, Ordering::Relaxed);
                self.datagrams.fetch_add(packets.min(piece.datagrams), Ordering::Relaxed);
                match why {
                    Failure::ReaderGone => queue.failed = Some(End::ReaderGone),
                    Failure::System(error) => Self::fail(&mut queue, &error),
                    Failure::Stuck => {
                        let lost: u64 = queue.pieces.iter().map(|piece| piece.datagrams).sum();
                        self.missed.fetch_add(lost + piece.datagrams.saturating_sub(packets), Ordering::Relaxed);
                        queue.failed = Some(End::Failed(None, "whoever reads it takes nothing more".into()));
                    }
                }
                queue.pieces.clear();
                queue.bytes = 0;
                self.changed.notify_all();
            }
        }
    }

    /// Nothing more comes but `last`, because of `why`; with `discard` not even what is in the queue is wanted.
    pub(crate) fn stop(self: &Arc<Self>, last: Option<Piece>, why: End, discard: bool) {
        let mut queue = self.queue();
        if queue.stopped.is_some() {
            queue.discarded |= discard;
            return;
        }
        queue.stopped = Some(why);
        queue.discarded |= discard;
        if let Some(piece) = last
            && queue.failed.is_none()
            && !queue.discarded
        {
            queue.bytes += piece.bytes.len();
            queue.pieces.push_back(piece);
        }
        drop(queue);
        self.changed.notify_all();
    }

    /// After [`Sink::stop`]: returns how it ended, once all is written.
    pub(crate) fn join(&self) -> End {
        // Whoever comes second waits for the first.
        let _one = self.joining.lock().unwrap_or_else(PoisonError::into_inner);
        let thread = self.queue().thread.take();
        match thread {
            Some(thread) => drop(thread.join()),
            // No thread was needed so far. A pipe or a socket got one for its head, so this is a file.
            None => self.run(),
        }
        let queue = self.queue();
        queue.failed.clone().or(queue.stopped.clone()).unwrap_or(End::Stopped)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.close();
    }
}
