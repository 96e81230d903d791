//! A memory file that both processes of a measurement map.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags};
use vnet_base::sync::{AtomicU32, AtomicU64, Ordering};

use crate::{Deadline, PeerLost};

/// Bytes before the bare ring.
const WORDS: usize = 4096;

/// The memory: a page of words, each in a cache line pair of its own, then the ring.
pub struct Arena {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: what lies in the arena is atomics and a ring that its two users share by protocol.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

impl Arena {
    /// Maps a memory file of at least a page and a ring.
    ///
    /// # Errors
    ///
    /// Those of mapping.
    pub fn map(file: &File) -> io::Result<Self> {
        let bytes = usize::try_from(file.metadata()?.len()).unwrap_or(0);
        if bytes <= WORDS || !(bytes - WORDS).is_power_of_two() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "an arena is a page and a power of two"));
        }
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe {
            let protection = ProtFlags::READ | ProtFlags::WRITE;
            rustix::mm::mmap(std::ptr::null_mut(), bytes, protection, MapFlags::SHARED, file.as_fd(), 0)?
        };
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address zero"))?;
        Ok(Self { start, bytes })
    }

    /// The word of this number, 0 to 15.
    #[must_use]
    pub fn word(&self, number: usize) -> &AtomicU64 {
        // SAFETY: 16 words, 256 bytes apart, lie in the first page.
        unsafe { self.start.add(number % 16 * 256).cast().as_ref() }
    }

    /// The futex of this number, 0 to 15, beside the word.
    #[must_use]
    pub fn futex(&self, number: usize) -> &AtomicU32 {
        // SAFETY: as for `word()`, 128 bytes further.
        unsafe { self.start.add(number % 16 * 256 + 128).cast().as_ref() }
    }

    /// Bytes of the ring, a power of two.
    #[must_use]
    pub fn ring_bytes(&self) -> usize {
        self.bytes - WORDS
    }

    /// Copies into the ring; the bytes must not pass its end.
    #[inline]
    pub fn copy_in(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.ring_bytes());
        // SAFETY: inside the ring, as just checked; the reader does not read there yet.
        unsafe {
            let target = self.start.add(WORDS + at).as_ptr();
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len());
        }
    }

    /// Copies out of the ring; the bytes must not pass its end.
    #[inline]
    pub fn copy_out(&self, at: usize, bytes: &mut [u8]) {
        assert!(at + bytes.len() <= self.ring_bytes());
        // SAFETY: inside the ring, as just checked; the writer does not write there yet.
        unsafe {
            let source = self.start.add(WORDS + at).as_ptr();
            std::ptr::copy_nonoverlapping(source, bytes.as_mut_ptr(), bytes.len());
        }
    }

    /// A limit for the loops of one half. Word 14 says that the peer has died.
    #[must_use]
    pub fn deadline(&self) -> Deadline<'_> {
        Deadline::new(self.word(14))
    }

    /// Ends the loops of this half, now and from now on: its peer has died.
    pub fn lose(&self) {
        self.word(14).store(1, Ordering::Relaxed);
    }

    /// Waits until both processes are here. Word 15 counts arrivals.
    ///
    /// # Errors
    ///
    /// [`PeerLost`].
    pub fn gate(&self) -> Result<(), PeerLost> {
        let gate = self.word(15);
        let arrived = gate.fetch_add(1, Ordering::AcqRel);
        let mut deadline = self.deadline();
        while gate.load(Ordering::Acquire) < (arrived / 2 + 1) * 2 {
            deadline.turn()?;
        }
        Ok(())
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: the range is ours, and nothing that borrowed from it is left.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// Cells that are all zero, in huge pages where the machine has them.
#[must_use]
pub(crate) fn huge<T: Copy + Default>(count: usize) -> Vec<T> {
    let mut cells: Vec<T> = Vec::with_capacity(count);
    let (start, bytes) = (cells.as_mut_ptr(), count * size_of::<T>());
    // SAFETY: advice on pages of the vector's own allocation, which changes nothing of what lies there; it is rounded
    // to whole pages inside of it.
    let _ = unsafe {
        let first = start.cast::<u8>().add(page_up(start as usize) - start as usize);
        let bytes = (bytes - 4096) / 4096 * 4096;
        rustix::mm::madvise(first.cast(), bytes, rustix::mm::Advice::LinuxHugepage)
    };
    cells.resize(count, T::default());
    cells
}

fn page_up(address: usize) -> usize {
    address.div_ceil(4096) * 4096
}
