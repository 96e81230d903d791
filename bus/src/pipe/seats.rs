//! The descriptors of this process's ends, for the sake of its forked children.
//!
//! A child inherits descriptors, and would keep an end alive whose process has died: its peer would wait for ever. So a
//! child closes what it inherited, before `fork()` returns there. Programs that a child runs inherit nothing anyway
//! (`CLOEXEC`). What holds only for `fork()` itself: a bare `clone` system call runs no handlers.
//!
//! The handler runs where another thread may have been in the midst of anything, so it takes no lock and allocates
//! nothing: it walks over blocks of atomics, which are never freed.
#![allow(unsafe_code)]

use core::mem::ManuallyDrop;
use core::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Once, OnceLock};

use vnet_base::sync::{AtomicU64, Ordering};

use crate::forks::Origin;

/// Seats of the first block; each next one has twice as many, so that these blocks have millions.
const FIRST: usize = 64;
const BLOCKS: usize = 20;

static SEATS: [OnceLock<Box<[AtomicU64]>>; BLOCKS] = [const { OnceLock::new() }; BLOCKS];

/// Two descriptors in a word, each plus one; 0 is a free seat.
fn word(files: [BorrowedFd<'_>; 2]) -> u64 {
    let [one, other] = files.map(|file| file.as_raw_fd() as u64 + 1);
    one << 32 | other
}

extern "C" fn in_child() {
    for block in SEATS.iter().map_while(OnceLock::get) {
        // Relaxed: a child has one thread, and sees what its parent's thread saw.
        for seat in block.iter() {
            let word = seat.swap(0, Ordering::Relaxed);
            for file in [word >> 32, word & u64::from(u32::MAX)] {
                if file != 0 {
                    // SAFETY: the number is that of a descriptor of an end of the parent's, which no code of the child
                    // uses: every call there is refused before, and dropping an end there closes nothing.
                    unsafe { libc::close((file - 1) as libc::c_int) };
                }
            }
        }
    }
}

/// Descriptors that forked children close. Given back before they are closed here.
pub(crate) struct Seat(&'static AtomicU64);

impl Seat {
    /// Takes a seat; `None` when millions are taken.
    pub fn take(files: [BorrowedFd<'_>; 2]) -> Option<Self> {
        static HANDLER: Once = Once::new();
        // SAFETY: the handler does what a child of a process with threads may do: atomics and close().
        HANDLER.call_once(|| _ = unsafe { libc::pthread_atfork(None, None, Some(in_child)) });
        let word = word(files);
        SEATS.iter().enumerate().find_map(|(index, block)| {
            let make = || (0..FIRST << index).map(|_| AtomicU64::new(0)).collect();
            let seats = block.get_or_init(make);
            let take = |seat: &&AtomicU64| {
                seat.load(Ordering::Relaxed) == 0
                    && seat.compare_exchange(0, word, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            };
            seats.iter().find(take).map(Self)
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// What is dropped in the process that made it and in no forked child, where it is not there any more.
pub(crate) struct Kept<T> {
    value: ManuallyDrop<T>,
    origin: Origin,
}

impl<T> Kept<T> {
    pub fn new(value: T) -> Self {
        Self { value: ManuallyDrop::new(value), origin: Origin::here() }
    }
}

impl<T> Deref for Kept<T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Drop for Kept<T> {
    fn drop(&mut self) {
        if self.origin.is_here() {
            // SAFETY: the value is dropped here and nowhere else, and not used after that.
            unsafe { ManuallyDrop::drop(&mut self.value) };
        }
    }
}
