//! Taking turns within a process: a mutex whose waiters can be interrupted, and give up in time.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Instant;

use vnet_base::sync::{AtomicU32, Ordering, futex_wait, futex_wake, take_place};

const WAITED_FOR: u32 = 1;

/// What one thread at a time has.
#[derive(Default)]
pub(crate) struct Turn<T> {
    value: Mutex<T>,
    word: AtomicU32,
}

/// Whose turn it is.
pub(crate) struct Taken<'t, T> {
    guard: Option<MutexGuard<'t, T>>,
    word: &'t AtomicU32,
}

/// How waiting for a turn ended without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    NotYet,
    Interrupted,
}

impl<T> Turn<T> {
    pub fn new(value: T) -> Self {
        Self { value: Mutex::new(value), word: AtomicU32::new(0) }
    }

    #[inline]
    pub fn try_take(&self) -> Option<Taken<'_, T>> {
        let guard = match self.value.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => PoisonError::into_inner(poisoned),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(Taken { guard: Some(guard), word: &self.word })
    }

    /// Waits for a turn. Ends without one also when [`Turn::stir`] was called: the caller looks why.
    pub fn take(&self, deadline: Option<Instant>) -> Result<Taken<'_, T>, Waited> {
        if let Some(taken) = self.try_take() {
            return Ok(taken);
        }
        // Partners with the swap in `Taken::drop`: whoever has the turn sees this, or we see that it has not.
        self.word.fetch_or(WAITED_FOR, Ordering::AcqRel);
        if let Some(taken) = self.try_take() {
            return Ok(taken);
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if futex_wait(&self.word, WAITED_FOR, left) { Err(Waited::NotYet) } else { Err(Waited::Interrupted) }
    }

    /// Takes the turn now, or tells whoever has it that somebody came: that one then says so when it lets go.
    pub fn take_or_tell(&self) -> Option<Taken<'_, T>> {
        self.word.fetch_or(WAITED_FOR, Ordering::AcqRel);
        self.try_take()
    }

    /// Wakes those who wait.
    pub fn stir(&self) {
        self.word.swap(0, Ordering::AcqRel);
        futex_wake(&self.word, i32::MAX);
    }
}

impl<T> Taken<'_, T> {
    /// Lets go. Returns whether somebody came meanwhile.
    pub fn end(mut self) -> bool {
        self.release()
    }

    #[inline]
    fn release(&mut self) -> bool {
        if self.guard.take().is_none() {
            return false;
        }
        // Behind the unlock, as a read-modify-write: see `Turn::take`.
        if take_place(self.word) == 0 {
            return false;
        }
        self.word.swap(0, Ordering::AcqRel);
        futex_wake(self.word, i32::MAX);
        true
    }
}

impl<T> Drop for Taken<'_, T> {
    fn drop(&mut self) {
        self.release();
    }
}

impl<T> core::ops::Deref for Taken<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.guard.as_ref().expect("held until it is dropped")
    }
}

impl<T> core::ops::DerefMut for Taken<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard.as_mut().expect("held until it is dropped")
    }
}
