//! Doorbells: a receiver that is busy is never interrupted.
//!
//! A receiver that finds its buffer empty says so in its [`Bell`], looks once more, and sleeps. A sender that has put
//! something into the buffer looks at the bell, and only wakes a receiver that said that it sleeps. Lost wake-ups are
//! impossible because of the lock that both pass: see [`OwnerLock::pass_through`](crate::lock::OwnerLock::pass_through).
//!
//! ```text
//!   sender                                receiver
//!   write, publish                        idle ← ASLEEP
//!   unlock          (RMW on lock)         pass_through     (RMW on lock)
//!   look at idle                          look at the buffer once more
//! ```
//!
//! Whichever of the two operations on the lock comes second sees what stands above the first: the receiver finds the
//! datagram, or the sender finds it asleep; `tests/loom.rs` runs every order.
//!
//! A NIC that a base worker serves has no sleeper of its own. Its bell says `SERVED`, and ringing it sets the NIC's bit
//! in the worker's [`WorkerBlock`] and wakes the worker if that sleeps: a worker visits only those with work. A worker that
//! waits for descriptors too cannot sleep on a futex; it says so, and is woken by its eventfd, the [`Alarm`].

use std::time::Duration;

use crate::control::{Bell, WorkerBlock};
use crate::sync::{Alarm, AtomicU32, Ordering, futex_wait, futex_wake, take_place};

/// The receiver looks at its buffer by itself.
pub const BUSY: u32 = 0;
/// The receiver sleeps on its bell.
pub const ASLEEP: u32 = 1;
/// The receiver waits for its base worker to visit it.
pub const SERVED: u32 = 2;

/// `WorkerBlock::sleeping`: the worker looks by itself.
const AWAKE: u32 = 0;
/// The worker sleeps on that word.
const ON_FUTEX: u32 = 1;
/// The worker sleeps on descriptors, its alarm among them.
const ON_DESCRIPTORS: u32 = 2;

/// Who is to be woken when a bell rings.
#[derive(Clone, Copy)]
pub enum Listener<'s> {
    /// The NIC's own guest.
    Guest,
    /// A base worker, to which the NIC is this slot.
    Worker(&'s WorkerBlock, u16, Alarm<'s>),
}

impl Bell {
    /// Wakes the receiver if it is idle. Returns whether it had to be woken by this call.
    #[inline]
    pub fn ring(&self, listener: Listener<'_>) -> bool {
        // Relaxed: the unlock just before ordered this look after the publication.
        if self.idle.load(Ordering::Relaxed) == BUSY {
            return false;
        }
        self.ring_idle(listener)
    }

    #[cold]
    fn ring_idle(&self, listener: Listener<'_>) -> bool {
        // Of several senders only the one that turns idle into busy makes the system call.
        if self.idle.swap(BUSY, Ordering::AcqRel) == BUSY {
            return false;
        }
        self.force(listener);
        true
    }

    /// Wakes the receiver whatever the bell says: a sender may have died between turning the bell and waking.
    pub fn force(&self, listener: Listener<'_>) {
        match listener {
            Listener::Guest => {
                futex_wake(&self.idle, i32::MAX);
            }
            Listener::Worker(block, slot, alarm) => block.announce(slot, alarm),
        }
    }

    /// Sleeps until rung. The caller has set `ASLEEP`, passed the lock and found the buffer still empty.
    ///
    /// Returns false when a signal cut the sleep short.
    pub fn sleep(&self, timeout: Option<Duration>) -> bool {
        let undisturbed = futex_wait(&self.idle, ASLEEP, timeout);
        self.idle.store(BUSY, Ordering::Relaxed);
        undisturbed
    }
}

impl WorkerBlock {
    /// Tells the worker that a slot has work, and wakes it if it sleeps.
    pub fn announce(&self, slot: u16, alarm: Alarm<'_>) {
        let word = usize::from(slot) / 64;
        // The slot's bit comes before the summary's: the worker that takes the summary finds the bit.
        self.ready[word].fetch_or(1 << (slot % 64), Ordering::AcqRel);
        // Partners with the read-modify-write in `sleep()`: one of the two sees the other, as with a lock passed.
        self.summary[word / 64].fetch_or(1 << (word % 64), Ordering::AcqRel);
        self.wake(alarm);
    }

    /// Wakes the worker if it sleeps.
    pub fn wake(&self, alarm: Alarm<'_>) {
        if self.sleeping.load(Ordering::Relaxed) == AWAKE {
            return;
        }
        match self.sleeping.swap(AWAKE, Ordering::AcqRel) {
            AWAKE => {}
            ON_FUTEX => {
                futex_wake(&self.sleeping, 1);
            }
            _ => alarm.raise(),
        }
    }

    /// Takes all announced slots, in the order of their numbers.
    pub fn take(&self, mut visit: impl FnMut(u16)) {
        for (index, summary) in self.summary.iter().enumerate() {
            if summary.load(Ordering::Relaxed) == 0 {
                continue;
            }
            // Acquire: partners with the releases in `announce()`.
            for word in bits(summary.swap(0, Ordering::AcqRel)) {
                let word = index * 64 + word;
                for bit in bits(self.ready[word].swap(0, Ordering::AcqRel)) {
                    visit((word * 64 + bit) as u16);
                }
            }
        }
    }

    /// Sleeps until a slot is announced, [`WorkerBlock::wake`] is called or the time is over.
    ///
    /// `slots` is how many slots there are; `last_look` runs after the worker has said that it sleeps, and returns false
    /// to stay awake.
    pub fn sleep(&self, slots: u32, timeout: Option<Duration>, last_look: impl FnOnce() -> bool) {
        self.sleep_how(ON_FUTEX, slots, last_look, || {
            futex_wait(&self.sleeping, ON_FUTEX, timeout);
        });
    }

    /// As [`WorkerBlock::sleep`], in `wait`, which ends when the worker's alarm is raised.
    pub fn sleep_on_descriptors(&self, slots: u32, last_look: impl FnOnce() -> bool, wait: impl FnOnce()) {
        self.sleep_how(ON_DESCRIPTORS, slots, last_look, wait);
    }

    fn sleep_how(&self, how: u32, slots: u32, last_look: impl FnOnce() -> bool, wait: impl FnOnce()) {
        let words = (slots as usize).div_ceil(64 * 64).clamp(1, self.summary.len());
        self.sleeping.store(how, Ordering::Relaxed);
        // Partners with the read-modify-write of the summary in `announce()`.
        let nothing = self.summary[..words].iter().all(|summary| take_place(summary) == 0);
        if nothing && last_look() {
            wait();
        }
        self.sleeping.store(AWAKE, Ordering::Relaxed);
    }
}

fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
        word &= word - 1;
        Some(bit)
    })
}

/// Sleeps on a word that another party changes and wakes, for the rare waits that no bell covers.
pub(crate) fn nap(word: &AtomicU32, expected: u32, timeout: Duration) -> bool {
    futex_wait(word, expected, Some(timeout))
}
