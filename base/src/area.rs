//! The bytes of a ring, addressed by positions that only grow.
//!
//! A position is a count of bytes since the ring was new; `position % size` is where it lies. Positions, lengths and
//! everything else read from shared memory may be nonsense, because any process of the user can write there; here they
//! are cut to the ring, so that nonsense can break that ring's contents and nothing else.
#![allow(unsafe_code)]

use crate::sync::AtomicU64;

#[cfg(not(loom))]
pub use real::Area;

#[cfg(loom)]
pub use model::Area;

#[cfg(not(loom))]
mod real {
    use core::ptr::NonNull;

    use super::AtomicU64;

    /// Up to so many bytes are copied here rather than by a call: the call costs as much as the copy.
    const SMALL: usize = 128;

    /// Copies `count` bytes, 16 at least, the last 16 over what the step before them copied already.
    ///
    /// # Safety
    ///
    /// As for [`core::ptr::copy_nonoverlapping`]; `count` is 16 or more.
    #[inline(always)]
    unsafe fn copy_small(source: *const u8, target: *mut u8, count: usize) {
        let mut done = 0;
        // SAFETY: every step stays inside the first `count` bytes of both, as the caller vouches for.
        unsafe {
            while done + 16 <= count {
                core::ptr::copy_nonoverlapping(source.add(done), target.add(done), 16);
                done += 16;
            }
            core::ptr::copy_nonoverlapping(source.add(count - 16), target.add(count - 16), 16);
        }
    }

    /// A ring's bytes in a mapped segment. `Copy`; whoever makes it keeps the memory mapped.
    #[derive(Clone, Copy)]
    pub struct Area {
        start: NonNull<u8>,
        size: u64,
    }

    // SAFETY: an area is a place in shared memory, not its owner; what is written where is the buffer's protocol.
    unsafe impl Send for Area {}
    // SAFETY: as above.
    unsafe impl Sync for Area {}

    impl Area {
        /// # Safety
        ///
        /// `start` is aligned to 8 and points to `size` mapped bytes that stay mapped while the area or a copy of it is
        /// used; `size` is a power of two of at least 16.
        pub unsafe fn new(start: NonNull<u8>, size: u64) -> Self {
            assert!(size.is_power_of_two() && size >= 16, "a ring's size is a power of two");
            Self { start, size }
        }

        pub fn size(&self) -> u64 {
            self.size
        }

        #[inline]
        fn offset(&self, position: u64) -> u64 {
            position & (self.size - 1)
        }

        /// Bytes from `position` to the end of the ring.
        #[inline]
        pub fn before_end(&self, position: u64) -> u64 {
            self.size - self.offset(position)
        }

        /// The word at `position`, which is rounded down to a multiple of 8.
        #[inline]
        pub fn word(&self, position: u64) -> &AtomicU64 {
            // SAFETY: the offset is under `size` and a multiple of 8, as is `size`; the memory is mapped (see `new`).
            unsafe { self.start.add((self.offset(position) & !7) as usize).cast().as_ref() }
        }

        /// Asks for the cache lines at `position` to be this processor's by the time that they are written.
        ///
        /// What another processor read last takes a journey between the two to become ours; asked for a batch ahead,
        /// the journey is over when the batch gets there. A hint: it changes nothing and cannot fail.
        #[inline(always)]
        pub fn prepare(&self, position: u64) {
            #[cfg(target_arch = "x86_64")]
            {
                let at = self.start.as_ptr().wrapping_add(self.offset(position) as usize);
                // The intrinsic becomes a prefetch for reading where the target lacks `prfchw`; the instruction itself
                // is there, or does nothing, on every 64-bit processor.
                // SAFETY: a prefetch of any address is allowed, and changes neither memory nor flags.
                unsafe { core::arch::asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags, readonly)) };
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = position;
        }

        /// Asks for the cache line at `position` to be here by the time that it is read. A hint, as [`Area::prepare`].
        #[inline(always)]
        pub fn expect(&self, position: u64) {
            #[cfg(target_arch = "x86_64")]
            {
                use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
                let at = self.start.as_ptr().wrapping_add(self.offset(position) as usize);
                // SAFETY: a prefetch of any address is allowed; this one is inside the ring.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = position;
        }

        /// Copies `bytes` to `position` on. What would pass the end of the ring is cut off.
        #[inline]
        pub fn write(&self, position: u64, bytes: &[u8]) {
            let room = self.before_end(position) as usize;
            let count = bytes.len().min(room);
            // SAFETY: `count` bytes from the offset on are inside the ring; `bytes` is private to this process.
            unsafe {
                let target = self.start.add(self.offset(position) as usize).as_ptr();
                if (16..=SMALL).contains(&count) {
                    copy_small(bytes.as_ptr(), target, count);
                } else {
                    core::ptr::copy_nonoverlapping(bytes.as_ptr(), target, count);
                }
            }
        }

        /// Copies the bytes at `position` into `bytes`. What would pass the end of the ring is left as it was.
        ///
        /// A copy is what a reader decides by whose peer may break the protocol: see [`Area::bytes`].
        #[inline]
        pub fn copy_out(&self, position: u64, bytes: &mut [u8]) {
            let count = bytes.len().min(self.before_end(position) as usize);
            // SAFETY: `count` bytes from the offset on are inside the ring; `bytes` is private to this process.
            unsafe {
                let source = self.start.add(self.offset(position) as usize).as_ptr();
                if (16..=SMALL).contains(&count) {
                    copy_small(source, bytes.as_mut_ptr(), count);
                } else {
                    core::ptr::copy_nonoverlapping(source, bytes.as_mut_ptr(), count);
                }
            }
        }

        /// `length` bytes at `position`, or as many as there are before the end of the ring.
        ///
        /// The protocol keeps senders from writing there while the receiver holds the record; a process that breaks the
        /// protocol can change the bytes meanwhile, so whoever decides by them copies them first.
        #[inline]
        pub fn bytes(&self, position: u64, length: usize) -> &[u8] {
            let count = length.min(self.before_end(position) as usize);
            // SAFETY: `count` bytes from the offset on are inside the ring, which stays mapped (see `new`).
            unsafe { core::slice::from_raw_parts(self.start.add(self.offset(position) as usize).as_ptr(), count) }
        }
    }
}

#[cfg(loom)]
mod model {
    use std::sync::Arc;

    use loom::cell::UnsafeCell;

    use super::AtomicU64;

    /// A ring whose payload loom watches for data races. Datagrams in models are 8 bytes.
    #[derive(Clone)]
    pub struct Area {
        words: Arc<Vec<AtomicU64>>,
        payload: Arc<Vec<UnsafeCell<[u8; 8]>>>,
    }

    // SAFETY: what is written where is the buffer's protocol; loom reports it if two threads race.
    unsafe impl Send for Area {}
    // SAFETY: as above.
    unsafe impl Sync for Area {}

    impl Area {
        pub fn model(size: u64) -> Self {
            let count = size as usize / 8;
            Self {
                words: Arc::new((0..count).map(|_| AtomicU64::new(0)).collect()),
                payload: Arc::new((0..count).map(|_| UnsafeCell::new([0; 8])).collect()),
            }
        }

        pub fn size(&self) -> u64 {
            self.words.len() as u64 * 8
        }

        pub fn before_end(&self, position: u64) -> u64 {
            self.size() - (position & (self.size() - 1))
        }

        fn index(&self, position: u64) -> usize {
            (position & (self.size() - 1)) as usize / 8
        }

        pub fn word(&self, position: u64) -> &AtomicU64 {
            &self.words[self.index(position)]
        }

        pub fn prepare(&self, _position: u64) {}

        pub fn write(&self, position: u64, bytes: &[u8]) {
            let bytes: [u8; 8] = bytes.try_into().expect("models write 8 bytes");
            // SAFETY: loom checks that nobody else touches the cell meanwhile.
            self.payload[self.index(position)].with_mut(|cell| unsafe { *cell = bytes });
        }

        pub fn copy_out(&self, position: u64, bytes: &mut [u8]) {
            bytes.copy_from_slice(&self.read(position));
        }

        pub fn read(&self, position: u64) -> [u8; 8] {
            // SAFETY: loom checks that nobody writes the cell meanwhile.
            self.payload[self.index(position)].with(|cell| unsafe { *cell })
        }
    }
}
