//! A guest's desk: one doorbell for all the queues that it works on.
//!
//! Several posters that share no lock ring here at once. So that they and the dispatcher stand in one order, every change
//! of the word is a read-modify-write, those of the dispatcher included.

#[cfg(not(loom))]
use std::io;
#[cfg(not(loom))]
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

#[cfg(not(loom))]
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, poll};
use vnet_base::doorbell::{ASLEEP, BUSY, SERVED};
use vnet_base::sync::{Alarm, Ordering, futex_wait, futex_wake};

use super::memory::DeskMemory;

/// `Bell::idle` while the dispatcher waits for its descriptor.
pub(crate) const POLLED: u32 = SERVED;

/// A desk as posters, the dispatcher and the broker have it.
pub struct Desk {
    memory: DeskMemory,
    #[cfg(not(loom))]
    event: OwnedFd,
}

impl Desk {
    /// A desk; `event` is an eventfd, not blocking, that all who ring have.
    #[cfg(not(loom))]
    #[must_use]
    pub fn new(memory: DeskMemory, event: OwnedFd) -> Self {
        Self { memory, event }
    }

    /// A desk for models.
    #[cfg(loom)]
    #[must_use]
    pub fn model() -> Self {
        Self { memory: DeskMemory::model() }
    }

    /// Wakes the dispatcher if it is idle. Returns whether this call had to: an interrupt.
    ///
    /// Whoever calls has unlocked a queue just before, which orders the look behind the publication; see
    /// [`OwnerLock::pass_through`](vnet_base::lock::OwnerLock::pass_through).
    #[inline]
    pub fn ring(&self) -> bool {
        if self.memory.page().bell.idle.load(Ordering::Relaxed) == BUSY {
            return false;
        }
        self.ring_idle()
    }

    #[cold]
    fn ring_idle(&self) -> bool {
        let idle = &self.memory.page().bell.idle;
        // Of several posters only the one that turns idle into busy interrupts.
        match idle.swap(BUSY, Ordering::AcqRel) {
            BUSY => return false,
            POLLED => self.alarm().raise(),
            // Asleep; or what nobody writes, after which a wake-up too many is the safe side.
            _ => {
                futex_wake(idle, i32::MAX);
            }
        }
        true
    }

    /// Wakes the dispatcher whatever the desk says: a poster may have died between turning the bell and waking.
    pub fn force(&self) {
        let idle = &self.memory.page().bell.idle;
        idle.swap(BUSY, Ordering::AcqRel);
        futex_wake(idle, i32::MAX);
        self.alarm().raise();
    }

    /// Says that the dispatcher is busy. It looks at all queues before it says otherwise.
    #[inline]
    pub(crate) fn set_busy(&self) {
        let idle = &self.memory.page().bell.idle;
        if idle.load(Ordering::Relaxed) != BUSY {
            idle.swap(BUSY, Ordering::AcqRel);
        }
    }

    /// Says how the dispatcher is about to wait. It passes the locks of all queues and looks once more after this.
    #[inline]
    pub(crate) fn set_idle(&self, how: u32) {
        self.memory.page().bell.idle.swap(how, Ordering::AcqRel);
    }

    /// Sleeps until rung, at most for `timeout`. [`Worker::prepare_sleep`](super::Worker::prepare_sleep) came before.
    ///
    /// Returns false when a signal cut the sleep short.
    #[must_use]
    pub fn sleep(&self, timeout: Option<Duration>) -> bool {
        let idle = &self.memory.page().bell.idle;
        let undisturbed = futex_wait(idle, ASLEEP, timeout);
        idle.swap(BUSY, Ordering::AcqRel);
        undisturbed
    }

    /// Whether the dispatcher says that it waits, asleep or for its descriptor.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.memory.page().bell.idle.load(Ordering::Relaxed), ASLEEP | POLLED)
    }

    #[cfg(not(loom))]
    fn alarm(&self) -> Alarm<'_> {
        Alarm(self.event.as_fd())
    }

    #[cfg(loom)]
    fn alarm(&self) -> Alarm<'_> {
        Alarm::default()
    }
}

/// What tells a guest that the base has ended: the reading end of a pipe that the base alone can write to.
#[cfg(not(loom))]
pub struct Life(OwnedFd);

#[cfg(not(loom))]
impl Life {
    /// From the reading end.
    #[must_use]
    pub fn new(reading: OwnedFd) -> Self {
        Self(reading)
    }

    /// Whether the base has ended, which the kernel says even of one that was killed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
    }
}

/// The eventfd of a desk.
///
/// # Errors
///
/// Those of the kernel.
#[cfg(not(loom))]
pub fn eventfd() -> io::Result<OwnedFd> {
    Ok(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

#[cfg(not(loom))]
impl Desk {
    /// A descriptor that is readable while that of the desk is, and once `life` is over.
    ///
    /// # Errors
    ///
    /// Those of epoll.
    pub fn pollable(&self, life: Option<&Life>) -> io::Result<OwnedFd> {
        let queue = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&queue, &self.event, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        if let Some(life) = life {
            epoll::add(&queue, &life.0, epoll::EventData::new_u64(1), epoll::EventFlags::IN)?;
        }
        Ok(queue)
    }

    /// The descriptor that is readable while work waits for a dispatcher that polls.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Makes the descriptor readable.
    pub(crate) fn show(&self) {
        self.alarm().raise();
    }

    /// Makes the descriptor not readable.
    pub(crate) fn hide(&self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.event, &mut count);
    }
}
