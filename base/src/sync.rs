//! Atomics and the futex: what the rest of this crate synchronises with.
//!
//! Under `--cfg loom` the atomics are loom's and the futex is modelled, so that loom explores its interleavings too.
#![allow(unsafe_code)]

pub use vnet_tables::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

/// Reads a word as a read-modify-write operation that changes nothing.
///
/// As such it has its place in the one order of all changes of the word, which a load has not: of it and another
/// read-modify-write, the later acquires what the earlier released. Compilers take `fetch_or(0)` for a load and drop the
/// order (and on x86 the locked instruction with it, after which wake-ups are lost); a zero that they cannot see through
/// keeps them from it. `tests/wakeups.rs` notices if one day they can.
#[inline]
pub fn take_place<T: Word>(word: &T) -> T::Value {
    word.or_with(core::hint::black_box(T::ZERO))
}

/// What [`take_place`] works on.
pub trait Word {
    /// The number in it.
    type Value;
    /// None of its bits.
    const ZERO: Self::Value;
    /// Sets bits, with acquire and release.
    fn or_with(&self, bits: Self::Value) -> Self::Value;
}

impl Word for AtomicU32 {
    type Value = u32;
    const ZERO: u32 = 0;
    #[inline]
    fn or_with(&self, bits: u32) -> u32 {
        self.fetch_or(bits, Ordering::AcqRel)
    }
}

impl Word for AtomicU64 {
    type Value = u64;
    const ZERO: u64 = 0;
    #[inline]
    fn or_with(&self, bits: u64) -> u64 {
        self.fetch_or(bits, Ordering::AcqRel)
    }
}

#[cfg(not(loom))]
pub use real::{Alarm, futex_wait, futex_wake, spin_loop};

#[cfg(loom)]
pub use model::{Alarm, futex_wait, futex_wake, spin_loop};

#[cfg(not(loom))]
mod real {
    use std::os::fd::BorrowedFd;
    use std::time::Duration;

    use super::AtomicU32;

    pub use core::hint::spin_loop;

    /// Sleeps while `word` is `expected`, at most for `timeout`; wakes early for signals, and now and then for nothing.
    ///
    /// The word may lie in memory that several processes share. Returns false when a signal interrupted the sleep.
    pub fn futex_wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> bool {
        let limit = timeout.map(|timeout| libc::timespec {
            tv_sec: timeout.as_secs().min(i64::MAX as u64) as libc::time_t,
            tv_nsec: libc::c_long::from(timeout.subsec_nanos()),
        });
        let limit = limit.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
        // SAFETY: `word` is a live, aligned 32-bit word, and the kernel only reads it and the time.
        let result = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, limit) };
        result == 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::EINTR)
    }

    /// Wakes up to `count` sleepers of `word`, in any process. Returns how many it woke.
    pub fn futex_wake(word: &AtomicU32, count: i32) -> usize {
        // SAFETY: the kernel uses the address of `word` as a name and touches no memory.
        let woken = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
        usize::try_from(woken).unwrap_or(0)
    }

    /// Wakes a base worker that sleeps on descriptors: an eventfd that is one of them.
    #[derive(Clone, Copy)]
    pub struct Alarm<'s>(pub BorrowedFd<'s>);

    impl Alarm<'_> {
        /// Makes the eventfd readable. One that is so already stays so.
        pub fn raise(self) {
            let _ = rustix::io::write(self.0, &1u64.to_ne_bytes());
        }
    }
}

#[cfg(loom)]
mod model {
    //! The futex as the kernel documents it: comparing and going to sleep is one step as seen by a wake-up.

    use std::time::Duration;

    use loom::sync::{Condvar, Mutex};

    use super::{AtomicU32, Ordering};

    loom::lazy_static! {
        static ref QUEUE: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
    }

    pub fn futex_wait(word: &AtomicU32, expected: u32, _timeout: Option<Duration>) -> bool {
        let guard = QUEUE.0.lock().expect("loom's mutex is not poisoned");
        if word.load(Ordering::Relaxed) == expected {
            drop(QUEUE.1.wait(guard).expect("loom's mutex is not poisoned"));
        }
        true
    }

    pub fn futex_wake(_word: &AtomicU32, _count: i32) -> usize {
        let _guard = QUEUE.0.lock().expect("loom's mutex is not poisoned");
        QUEUE.1.notify_all();
        1
    }

    /// Models sleep on the futex alone.
    #[derive(Clone, Copy, Default)]
    pub struct Alarm<'s>(core::marker::PhantomData<&'s ()>);

    impl Alarm<'_> {
        pub fn raise(self) {}
    }

    pub fn spin_loop() {
        loom::thread::yield_now();
    }
}
