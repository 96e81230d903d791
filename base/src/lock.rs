//! The lock of an input buffer: fair enough, cheap when free, and takeable from an owner that died.
//!
//! The word holds the owner's [`Token`], so that after a process died the base can find what it held
//! ([`OwnerLock::owner`]), put the buffer right and unlock in its name ([`OwnerLock::release_for`]). A token is given
//! to one attachment and never again, so a word that names a dead attachment can change no more by itself.
//!
//! A waiter never waits longer than the caller's patience: an owner that is stopped (a debugger, SIGSTOP) rather than
//! dead keeps the lock, and whoever wants it drops its datagrams instead of hanging.

use std::time::Duration;

use crate::sync::{AtomicU32, Ordering, futex_wait, futex_wake, spin_loop, take_place};

/// The name of one attachment as an owner of locks: 1 to 2³⁰ − 1, never given out twice on a LAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u32);

/// Set while somebody sleeps on the word.
const WAITED_FOR: u32 = 1 << 31;

/// Set when somebody has waited in vain for this owner, so that whoever can do without the lock does not wait as well.
/// It goes with the owner: to unlock is to clear the word.
const IN_VAIN: u32 = 1 << 30;

/// The owner's token, in a word that holds the lock.
const OWNER: u32 = IN_VAIN - 1;

/// Turns that a taker spins before it sleeps. A batch under the lock takes about this long.
const SPINS: u32 = if cfg!(loom) { 1 } else { 200 };

/// One sleep; after it the waiter looks again, so a wake-up lost to a dying owner costs no more than this.
const NAP: Duration = Duration::from_millis(5);

/// Naps until a taker gives up: with [`NAP`] 80 ms, under the 100 ms that no guest ever stalls.
const NAPS: u32 = 16;

/// One sleep of who can do without the lock, and how many of them one owner is worth: 20 ms. An owner that the scheduler has
/// put off is back by then, as its waiter has left it a processor.
const SHORT_NAP: Duration = Duration::from_micros(2_500);
const SHORT_NAPS: u32 = 8;

/// A lock word in shared memory. All zero is unlocked.
#[repr(transparent)]
#[derive(Default)]
pub struct OwnerLock(AtomicU32);

impl OwnerLock {
    /// Takes the lock if it is free.
    #[inline]
    pub fn try_lock(&self, me: Token) -> bool {
        // Acquire: partners with the release in `unlock()`; what the last owner wrote is seen.
        self.0.compare_exchange(0, me.0, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Takes the lock, waiting up to 80 ms. False when it could not be had.
    #[inline]
    pub fn lock(&self, me: Token) -> bool {
        self.try_lock(me) || self.lock_contended(me)
    }

    /// Takes the lock if its owner gives it back soon: as [`OwnerLock::lock`], but for those who can do without. An owner
    /// that is stopped or dead costs all of them together 20 ms; until it is back, none waits for it again.
    #[inline]
    pub fn lock_soon(&self, me: Token) -> bool {
        self.try_lock(me) || self.lock_soon_contended(me)
    }

    #[cold]
    fn spin(&self, me: Token) -> bool {
        for _ in 0..SPINS {
            if self.0.load(Ordering::Relaxed) == 0 && self.try_lock(me) {
                return true;
            }
            spin_loop();
        }
        false
    }

    #[cold]
    fn lock_contended(&self, me: Token) -> bool {
        if self.spin(me) {
            return true;
        }
        (0..NAPS).any(|_| match self.take_waited_for(me) {
            Ok(()) => true,
            Err(held) => {
                self.nap(held, NAP);
                false
            }
        })
    }

    #[cold]
    fn lock_soon_contended(&self, me: Token) -> bool {
        if self.0.load(Ordering::Relaxed) & IN_VAIN != 0 {
            return false;
        }
        if self.spin(me) {
            return true;
        }
        let (mut waits_for, mut naps) = (0, 0);
        // Owners that come and go are waited for, but no longer than by those who need the lock.
        for _ in 0..4 * SHORT_NAPS {
            let held = match self.take_waited_for(me) {
                Ok(()) => return true,
                Err(held) => held,
            };
            let owner = held & OWNER;
            naps = if owner == waits_for { naps + 1 } else { 0 };
            waits_for = owner;
            if held & IN_VAIN != 0 {
                return false;
            }
            if naps == SHORT_NAPS {
                // Relaxed: the mark orders nothing. If it fails, the owner is not the same any more, or another waits too.
                let _ = self.0.compare_exchange(held, held | IN_VAIN, Ordering::Relaxed, Ordering::Relaxed);
                return false;
            }
            self.nap(held, SHORT_NAP);
        }
        false
    }

    /// Takes the lock, or says what its word holds. Whoever slept takes it marked as waited for, because others may sleep
    /// still.
    fn take_waited_for(&self, me: Token) -> Result<(), u32> {
        self.0.compare_exchange(0, me.0 | WAITED_FOR, Ordering::Acquire, Ordering::Relaxed).map(|_| ())
    }

    /// Sleeps until the owner for which the word holds `held` gives the lock back, at most for `time`.
    fn nap(&self, held: u32, time: Duration) {
        let marked = held | WAITED_FOR;
        if held == marked || self.0.compare_exchange(held, marked, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            futex_wait(&self.0, marked, Some(time));
        }
    }

    /// Gives the lock back.
    ///
    /// The swap is acquire too: a sender that unlocks and then looks at the receiver's doorbell relies on it, see
    /// [`OwnerLock::pass_through`].
    #[inline]
    pub fn unlock(&self) {
        // Release: partners with the acquire in `try_lock()`.
        let held = self.0.swap(0, Ordering::AcqRel);
        if held & WAITED_FOR != 0 {
            futex_wake(&self.0, 1);
        }
    }

    /// Orders this thread against every critical section without taking the lock.
    ///
    /// All changes of the word are read-modify-write operations and so stand in one order. Of this one and an
    /// `unlock()`, the later acquires what the earlier released: either the caller sees all that was done under the
    /// lock before the unlock, or the unlocker sees, after its unlock, all that the caller did before this call.
    #[inline]
    pub fn pass_through(&self) {
        take_place(&self.0);
    }

    /// Who holds the lock.
    #[must_use]
    pub fn owner(&self) -> Option<Token> {
        // Acquire: partners with the acquire-release of the dead owner's compare-exchange; the kernel has drained the
        // dead processor's stores before the base could learn of the death.
        let token = self.0.load(Ordering::Acquire) & OWNER;
        (token != 0).then_some(Token(token))
    }

    /// Unlocks in the name of `owner`, which must be dead. False when it does not hold the lock.
    pub fn release_for(&self, owner: Token) -> bool {
        if self.owner() != Some(owner) {
            return false;
        }
        self.unlock();
        true
    }
}
