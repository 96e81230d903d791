//! Kind `process`: a NIC in a process that maps the LAN. `forward()` runs in the caller's own thread.
//!
//! # Theory of operation
//!
//! Sending and receiving are behind a mutex each, so that threads of the process can share the NIC. A receiver that
//! waits sleeps on the NIC's doorbell in slices, without the mutex's being in anybody's way for long.
//!
//! A program that polls file descriptors asks for [`Ring::pollable`]. From then on a dispatcher thread sleeps on the
//! doorbell in the program's place and keeps an eventfd readable exactly while datagrams wait:
//!
//! ```text
//!   dispatcher: Armed ── datagram ──▶ eventfd readable ──▶ Signalled: sleeps until armed again
//!   receiver:   takes the last datagram ──▶ eventfd empty ──▶ Armed: the dispatcher looks once more
//! ```
//!
//! A forked child shares the memory but not the threads, and two processes must not be one receiver: every call in a
//! child fails with [`Gone::Forked`], and dropping the NIC there touches nothing.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use vnet_base::buffer::{Damaged, Record};
use vnet_base::lock::Token;
use vnet_base::receiver::Spin;
use vnet_base::sync::{AtomicBool, AtomicU32, Ordering};
use vnet_base::tables::{NicState, SlotId};
use vnet_base::{Receiver, Segment, Sender, Verdict, Waited};

use crate::lease::{Hold, Lease, wake_all};
use crate::port::Port;

/// Why a NIC cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// The base has ended.
    Lan,
    /// The NIC was closed, or the base took it off the LAN.
    Nic,
    /// This is a forked child.
    Forked,
    /// The NIC's input buffer is damaged.
    Damaged,
    /// The NIC's datagrams are its stack's.
    Stacked,
}

impl From<Damaged> for Gone {
    fn from(_: Damaged) -> Self {
        Self::Damaged
    }
}

/// How a slice of waiting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slice {
    /// A datagram is there.
    Ready,
    /// Not yet.
    NotYet,
    /// A signal came: the caller runs its handlers.
    Interrupted,
}

/// The longest sleep in one go; after it the caller looks whether the NIC still stands.
const SLICE: Duration = Duration::from_millis(100);

fn forks() -> &'static AtomicU32 {
    static FORKS: OnceLock<&'static AtomicU32> = OnceLock::new();
    extern "C" fn in_child() {
        forks().fetch_add(1, Ordering::Relaxed);
    }
    FORKS.get_or_init(|| {
        // SAFETY: the handler adds to an atomic, which is allowed in a child of any process.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        Box::leak(Box::new(AtomicU32::new(0)))
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Armed,
    Signalled,
    Stopped,
}

struct Dispatch {
    event: OwnedFd,
    phase: Mutex<Phase>,
    changed: Condvar,
}

/// What the dispatcher thread and the NIC share.
struct Inner {
    segment: Arc<Segment>,
    slot: SlotId,
    generation: u32,
    hold: Arc<Hold>,
    receiver: Mutex<Receiver>,
    dispatch: OnceLock<Dispatch>,
    polling: AtomicBool,
    /// Whether a stack receives in the program's place.
    stacked: AtomicBool,
}

/// A process's NIC.
pub struct Ring {
    inner: Arc<Inner>,
    sender: Mutex<Sender>,
    thread: Mutex<Option<JoinHandle<()>>>,
    lease: Mutex<Option<Lease>>,
    forks: u32,
}

impl Ring {
    /// The NIC in `slot` of `generation`, which holds locks as `token`; `connection` is its lease from a base in another
    /// process.
    ///
    /// # Errors
    ///
    /// Those of starting the watch over the connection; not found where the slot has no ring.
    pub fn new(
        segment: Arc<Segment>,
        slot: SlotId,
        generation: u32,
        token: Token,
        connection: Option<OwnedFd>,
    ) -> io::Result<Self> {
        let port = Port::new(&segment, slot, token).ok_or(io::ErrorKind::NotFound)?;
        let hold = Arc::new(Hold { base_gone: AtomicBool::new(false), closed: AtomicBool::new(false) });
        let lease =
            connection.map(|socket| Lease::new(socket, Arc::clone(&hold), Arc::clone(&segment), slot)).transpose()?;
        let inner = Inner {
            segment,
            slot,
            generation,
            hold,
            receiver: Mutex::new(port.receiver),
            dispatch: OnceLock::new(),
            polling: AtomicBool::new(false),
            stacked: AtomicBool::new(false),
        };
        Ok(Self {
            inner: Arc::new(inner),
            sender: Mutex::new(port.sender),
            thread: Mutex::new(None),
            lease: Mutex::new(lease),
            forks: forks().load(Ordering::Relaxed),
        })
    }

    /// Whether the NIC can be used.
    ///
    /// # Errors
    ///
    /// Why it cannot.
    #[inline]
    pub fn check(&self) -> Result<(), Gone> {
        if forks().load(Ordering::Relaxed) != self.forks {
            return Err(Gone::Forked);
        }
        self.inner.check()
    }

    /// The slot.
    #[must_use]
    pub fn slot(&self) -> SlotId {
        self.inner.slot
    }

    /// The segment.
    #[must_use]
    pub fn segment(&self) -> &Arc<Segment> {
        &self.inner.segment
    }

    /// The sender, if no other thread has it.
    #[must_use]
    #[inline]
    pub fn try_sender(&self) -> Option<MutexGuard<'_, Sender>> {
        available(self.sender.try_lock())
    }

    /// The sender, once other threads are done with it, if the NIC can still be used.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub fn usable_sender(&self) -> Result<MutexGuard<'_, Sender>, Gone> {
        let sender = self.sender();
        self.check()?;
        Ok(sender)
    }

    /// The sender, once other threads are done with it.
    pub fn sender(&self) -> MutexGuard<'_, Sender> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a datagram, waiting up to a slice for room. The inner error says how the slice ended without room.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub fn send_or_wait(&self, datagram: &[u8], timeout: Option<Duration>) -> Result<Result<Verdict, Slice>, Gone> {
        let mut sender = self.sender();
        self.check()?;
        if let Some(verdict) = sender.try_forward(datagram, false) {
            return Ok(Ok(verdict));
        }
        let room = sender.missing_room();
        // Other threads may send elsewhere meanwhile.
        drop(sender);
        let slice = timeout.map_or(SLICE, |timeout| timeout.min(SLICE));
        let undisturbed = room.is_none_or(|room| room.wait(slice));
        let mut sender = self.sender();
        self.check()?;
        if let Some(verdict) = sender.try_forward(datagram, false) {
            return Ok(Ok(verdict));
        }
        Ok(Err(if undisturbed { Slice::NotYet } else { Slice::Interrupted }))
    }

    /// Both ends of the NIC, for measurements that bring their own loops.
    pub fn with_ends<T>(&self, work: impl FnOnce(&mut Sender, &mut Receiver) -> T) -> T {
        work(&mut self.sender(), &mut self.inner.lock_receiver())
    }

    /// Takes up to `most` datagrams that are there, each handed to `take`, which returns false to leave the rest.
    ///
    /// Returns how many were taken; 0 also when another thread is receiving.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    #[inline]
    pub fn receive(&self, most: usize, take: impl FnMut(&[u8]) -> bool) -> Result<usize, Gone> {
        self.check_unstacked()?;
        self.receive_all(most, take)
    }

    #[inline]
    fn receive_all(&self, most: usize, mut take: impl FnMut(&[u8]) -> bool) -> Result<usize, Gone> {
        let Some(mut receiver) = self.receiver_at_hand() else { return Ok(0) };
        // A view that was left open ends here: two readers of one position would read one datagram twice.
        receiver.release(None);
        let mut taken = 0;
        while taken < most
            && let Some(record) = receiver.peek()?
        {
            let go_on = take(receiver.bytes(&record));
            receiver.done(&record);
            taken += 1;
            if !go_on {
                break;
            }
        }
        self.inner.rearm(&mut receiver)?;
        Ok(taken)
    }

    /// Whether the program itself may receive.
    #[inline]
    fn check_unstacked(&self) -> Result<(), Gone> {
        if self.inner.stacked.load(Ordering::Relaxed) { Err(Gone::Stacked) } else { Ok(()) }
    }

    /// Gives what comes to a stack from now on: the program cannot receive it any more. False when a stack has it.
    pub(crate) fn take_over(&self) -> bool {
        let taken = !self.inner.stacked.swap(true, Ordering::AcqRel);
        // Threads that wait for a datagram hear that none will come to them.
        wake_all(&self.inner.segment, self.inner.slot);
        taken
    }

    /// Gives what comes back to the program.
    pub(crate) fn give_back(&self) {
        self.inner.stacked.store(false, Ordering::Release);
    }

    /// As [`Ring::receive`], for the stack.
    #[inline]
    pub(crate) fn receive_for_stack(&self, most: usize, mut take: impl FnMut(&[u8])) -> Result<usize, Gone> {
        self.receive_all(most, |datagram| {
            take(datagram);
            true
        })
    }

    /// The receiver, unless another thread waits with it in its hand for the next datagram. Where there is a dispatcher
    /// no thread does, and the dispatcher gives it back at once: a look must not miss a datagram because of that.
    fn receiver_at_hand(&self) -> Option<MutexGuard<'_, Receiver>> {
        if self.inner.polling.load(Ordering::Acquire) {
            return Some(self.inner.lock_receiver());
        }
        available(self.inner.receiver.try_lock())
    }

    /// The next record and where its bytes lie in the buffers file. It stays until [`Ring::release`].
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub fn hold_record(&self) -> Result<Option<(Record, u64)>, Gone> {
        self.check_unstacked()?;
        let Some(mut receiver) = self.receiver_at_hand() else { return Ok(None) };
        let record = receiver.hold()?;
        if record.is_none() {
            // A view that was left open ended here and may have been the last datagram.
            self.inner.rearm(&mut receiver)?;
        }
        Ok(record.map(|record| (record, receiver.file_offset(&record))))
    }

    /// Lets go of a record that [`Ring::hold_record`] gave, and of all before it.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub fn release(&self, record: &Record) -> Result<(), Gone> {
        let mut receiver = self.inner.lock_receiver();
        receiver.release(Some(record));
        self.inner.rearm(&mut receiver)
    }

    /// Waits a slice for a datagram, at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub fn wait(&self, timeout: Option<Duration>) -> Result<Slice, Gone> {
        self.check_unstacked()?;
        let waited = self.wait_for(timeout)?;
        self.check_unstacked()?;
        Ok(waited)
    }

    /// As [`Ring::wait`], for the stack.
    pub(crate) fn wait_for_stack(&self, timeout: Duration) -> Result<Slice, Gone> {
        self.wait_for(Some(timeout))
    }

    fn wait_for(&self, timeout: Option<Duration>) -> Result<Slice, Gone> {
        self.check()?;
        let slice = timeout.map_or(SLICE, |timeout| timeout.min(SLICE));
        let waited = if self.inner.polling.load(Ordering::Acquire) {
            self.wait_polling(slice)
        } else {
            match available(self.inner.receiver.try_lock()) {
                Some(mut receiver) => match receiver.wait(Some(slice))? {
                    Waited::Ready => Slice::Ready,
                    Waited::NotYet => Slice::NotYet,
                    Waited::Interrupted => Slice::Interrupted,
                },
                None => {
                    // Another thread waits for the next datagram already; let it be first.
                    std::thread::sleep(slice.min(Duration::from_millis(1)));
                    Slice::NotYet
                }
            }
        };
        self.check()?;
        Ok(waited)
    }

    /// The dispatcher sleeps on the doorbell; this waits for the dispatcher's event.
    fn wait_polling(&self, timeout: Duration) -> Slice {
        let Some(dispatch) = self.inner.dispatch.get() else { return Slice::NotYet };
        let mut fds = [PollFd::new(&dispatch.event, PollFlags::IN)];
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(timeout.subsec_nanos()) };
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => Slice::NotYet,
            Ok(_) => Slice::Ready,
            Err(_) => Slice::Interrupted,
        }
    }

    /// Chooses how long a receiver polls before it sleeps.
    pub fn set_spin(&self, spin: Spin) {
        self.inner.lock_receiver().set_spin(spin);
    }

    /// A descriptor that is readable while datagrams wait, or when the NIC is gone.
    ///
    /// # Errors
    ///
    /// Those of an eventfd and of starting the dispatcher thread.
    pub fn pollable(&self) -> io::Result<BorrowedFd<'_>> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if self.inner.dispatch.get().is_none() {
            let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            let dispatch = Dispatch { event, phase: Mutex::new(Phase::Armed), changed: Condvar::new() };
            let _ = self.inner.dispatch.set(dispatch);
            self.inner.polling.store(true, Ordering::Release);
            // A thread that sleeps on the doorbell now goes over to the event.
            wake_all(&self.inner.segment, self.inner.slot);
            let inner = Arc::clone(&self.inner);
            *thread = Some(std::thread::Builder::new().name("vnet-dispatch".into()).spawn(move || inner.dispatch())?);
        }
        self.inner.dispatch.get().map(|dispatch| dispatch.event.as_fd()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Lets go of the NIC. Returns false when that was done before. Waiting threads end with [`Gone::Nic`].
    pub fn close(&self) -> bool {
        if forks().load(Ordering::Relaxed) != self.forks || self.inner.hold.closed.swap(true, Ordering::AcqRel) {
            return false;
        }
        wake_all(&self.inner.segment, self.inner.slot);
        // Whoever sends at this moment finishes; nobody starts after it. From here on the NIC holds no lock of a buffer.
        drop(self.sender());
        if let Some(dispatch) = self.inner.dispatch.get() {
            dispatch.set(Phase::Stopped);
            wake_all(&self.inner.segment, self.inner.slot);
            dispatch.signal();
        }
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            while !thread.is_finished() {
                // The dispatcher may have been between its last look and its sleep.
                wake_all(&self.inner.segment, self.inner.slot);
                std::thread::sleep(Duration::from_micros(50));
            }
            let _ = thread.join();
        }
        // Last: with the connection the lease ends.
        self.lease.lock().unwrap_or_else(PoisonError::into_inner).take();
        true
    }

    /// When a wait that starts now is over.
    #[must_use]
    pub fn deadline(timeout: Option<Duration>) -> Option<Instant> {
        timeout.and_then(|timeout| Instant::now().checked_add(timeout))
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if forks().load(Ordering::Relaxed) == self.forks {
            self.close();
        } else {
            // In a forked child the threads are not there, and the connection is the parent's.
            std::mem::forget(self.thread.lock().unwrap_or_else(PoisonError::into_inner).take());
            std::mem::forget(self.lease.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}

type Tried<'m, T> = Result<MutexGuard<'m, T>, TryLockError<MutexGuard<'m, T>>>;

fn available<T>(result: Tried<'_, T>) -> Option<MutexGuard<'_, T>> {
    match result {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

impl Dispatch {
    fn set(&self, phase: Phase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
        self.changed.notify_all();
    }

    fn signal(&self) {
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }
}

impl Inner {
    #[inline]
    fn check(&self) -> Result<(), Gone> {
        // Acquire: partners with the releases in `close()` and in the lease's watch.
        if self.hold.closed.load(Ordering::Acquire) {
            return Err(Gone::Nic);
        }
        let tables = self.segment.tables();
        if self.hold.base_gone.load(Ordering::Acquire) || tables.closed() {
            return Err(Gone::Lan);
        }
        let row = tables.nic(self.slot);
        if row.state() != NicState::Up || row.generation() != self.generation { Err(Gone::Nic) } else { Ok(()) }
    }

    fn lock_receiver(&self) -> MutexGuard<'_, Receiver> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After datagrams were taken: empties the event if none is left, and has the dispatcher look again.
    #[inline]
    fn rearm(&self, receiver: &mut Receiver) -> Result<(), Gone> {
        match self.dispatch.get() {
            Some(dispatch) => self.rearm_dispatch(dispatch, receiver),
            None => Ok(()),
        }
    }

    #[cold]
    fn rearm_dispatch(&self, dispatch: &Dispatch, receiver: &mut Receiver) -> Result<(), Gone> {
        if receiver.peek()?.is_some() {
            return Ok(());
        }
        let mut phase = dispatch.phase.lock().unwrap_or_else(PoisonError::into_inner);
        if *phase == Phase::Signalled {
            let mut count = [0; 8];
            let _ = rustix::io::read(&dispatch.event, &mut count);
            *phase = Phase::Armed;
            dispatch.changed.notify_all();
        }
        Ok(())
    }

    /// The dispatcher thread.
    fn dispatch(&self) {
        let Some(dispatch) = self.dispatch.get() else { return };
        loop {
            let mut phase = dispatch.phase.lock().unwrap_or_else(PoisonError::into_inner);
            while *phase == Phase::Signalled {
                phase = dispatch.changed.wait(phase).unwrap_or_else(PoisonError::into_inner);
            }
            drop(phase);
            if self.check().is_err() {
                // Readable for good: the next receive says why.
                dispatch.signal();
                return;
            }
            // The look at the buffer and the phase change are one step for receivers, who hold the same mutex.
            let mut receiver = self.lock_receiver();
            if !matches!(receiver.prepare_sleep(), Ok(true)) {
                let mut phase = dispatch.phase.lock().unwrap_or_else(PoisonError::into_inner);
                if *phase == Phase::Armed {
                    *phase = Phase::Signalled;
                    dispatch.signal();
                }
                continue;
            }
            let control = receiver.control();
            drop(receiver);
            control.bell.sleep(Some(SLICE));
        }
    }
}
