//! Whether this is the process that opened something, or a forked child of it.
//!
//! A forked child shares the memory and the descriptors but not the threads, and two processes must not be one end. Asking
//! the kernel for the process's number would cost more than the work that it guards; a counter of forks costs a load.
#![allow(unsafe_code)]

use std::sync::OnceLock;

use vnet_base::sync::{AtomicU32, Ordering};

fn forks() -> &'static AtomicU32 {
    static FORKS: OnceLock<&'static AtomicU32> = OnceLock::new();
    extern "C" fn in_child() {
        // The counter is there: the handler was registered by what made it. Relaxed: a child has one thread.
        if let Some(forks) = FORKS.get() {
            forks.fetch_add(1, Ordering::Relaxed);
        }
    }
    FORKS.get_or_init(|| {
        // SAFETY: the handler adds to an atomic, which is allowed in a child of any process.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        Box::leak(Box::new(AtomicU32::new(0)))
    })
}

/// The process that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin(u32);

impl Origin {
    /// This process.
    #[must_use]
    pub fn here() -> Self {
        Self(forks().load(Ordering::Relaxed))
    }

    /// Whether this still is the process that made it.
    #[inline]
    #[must_use]
    pub fn is_here(self) -> bool {
        forks().load(Ordering::Relaxed) == self.0
    }
}
