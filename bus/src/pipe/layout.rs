//! What two ends share, drawn.
//!
//! ```text
//!   0        Way 0          first end → second end
//!   512      Way 1          second end → first end
//!   4096     ring of way 0  S bytes, a power of two of at least 4096
//!   4096+S   ring of way 1  S bytes
//!   4096+2S  (4096 bytes that nobody uses, where the pipe keeps the boundaries of messages)
//! ```
//!
//! The size of the rings and what kind of pipe it is follow from the size of the file, which is sealed: there is no word
//! that tells them, so no peer can change them, not even before the other end was opened.
//!
//! A way, every part of it on lines of its own (128 bytes: processors fetch lines in pairs):
//!
//! ```text
//!   0    tail     u64  bytes written since the pipe was new; of the writer
//!   128  head     u64  bytes read since the pipe was new; of the reader
//!   256  data     u64  the tail that the reader waits for, 0: it does not; of both
//!   264  no more  u32  1: nothing more will be read; of the reader
//!   384  room     u64  the head that the writer waits for, 0: it does not; of both
//!   392  no more  u32  1: nothing more will be written; of the writer
//! ```
//!
//! The last two lines seldom change, so each side can look at the other's after every operation for nothing.
#![allow(unsafe_code)]

#[cfg(not(loom))]
use core::mem::{offset_of, size_of};

use vnet_base::sync::AtomicU64;

use super::bell::Bell;

/// Bytes in front of the rings.
pub const HEADER: u64 = 4096;
/// Bytes behind the rings of a pipe of messages.
const MARK: u64 = 4096;
/// The least and the most bytes of a ring.
pub const LEAST: u64 = 4096;
/// See [`LEAST`].
pub const MOST: u64 = 1 << 30;

/// A position on a line of its own: bytes since the pipe was new.
#[repr(C, align(128))]
#[derive(Default)]
pub struct Position(pub AtomicU64);

/// One direction.
#[repr(C)]
#[derive(Default)]
pub struct Way {
    /// What the writer publishes.
    pub tail: Position,
    /// What the reader publishes.
    pub head: Position,
    /// The reader's, for data.
    pub data: Bell,
    /// The writer's, for room.
    pub room: Bell,
}

#[cfg(not(loom))]
const _: () = {
    assert!(offset_of!(Bell, wanted) == 0 && offset_of!(Bell, no_more) == 8);
    assert!(offset_of!(Way, tail) == 0 && offset_of!(Way, head) == 128);
    assert!(offset_of!(Way, data) == 256 && offset_of!(Way, room) == 384 && size_of::<Way>() == 512);
    assert!(2 * size_of::<Way>() <= HEADER as usize);
    // The mark tells itself from any size of the rings.
    assert!(2 * LEAST > MARK && (2 * LEAST).is_multiple_of(2 * MARK));
};

#[cfg(not(loom))]
pub use mapped::Memory;

#[cfg(not(loom))]
mod mapped {
    use core::mem::size_of;
    use core::ptr::NonNull;
    use std::io;
    use std::os::fd::{AsFd, OwnedFd};

    use rustix::fs::SealFlags;
    use rustix::mm::Advice;
    use vnet_base::area::Area;
    use vnet_base::map::{Mapping, memory_file, seal};

    use super::super::seats::Kept;
    use super::{HEADER, LEAST, MARK, MOST, Way};

    /// A pipe's memory, mapped. A forked child does not inherit it, so nothing of it may be used there.
    pub struct Memory {
        mapping: Kept<Mapping>,
        size: u64,
        /// Whether the pipe keeps the boundaries of messages.
        pub messages: bool,
    }

    impl Memory {
        /// Makes the memory file of a pipe whose rings have at least `size` bytes each.
        pub fn create(name: &str, size: u64, messages: bool) -> io::Result<OwnedFd> {
            if size == 0 || size > MOST {
                let text = format!("a pipe's rings have 1 to {MOST} bytes each, not {size}");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            let size = size.max(LEAST).next_power_of_two();
            // All zeros, as it comes, is a new pipe.
            let file = memory_file(name, HEADER + 2 * size + if messages { MARK } else { 0 })?;
            seal(&file, false)?;
            Ok(file)
        }

        /// Maps such a file, which came from somebody else.
        pub fn open(file: impl AsFd) -> io::Result<Self> {
            let wrong = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text.to_owned());
            let fixed = SealFlags::SHRINK | SealFlags::GROW;
            // One that could shrink under us would end this process with SIGBUS.
            if !rustix::fs::fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(fixed)) {
                return Err(wrong("the first descriptor is no memory file of a pipe: its size is not sealed"));
            }
            let bytes = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0);
            let rings = bytes.saturating_sub(HEADER);
            let messages = rings % (2 * MARK) == MARK;
            let size = (rings - if messages { MARK } else { 0 }) / 2;
            if !size.is_power_of_two() || !(LEAST..=MOST).contains(&size) || rings % MARK != 0 {
                return Err(wrong("the memory file has not the size of a pipe's"));
            }
            let mapping = Mapping::new(&file, true)?;
            // SAFETY: the range is this mapping, which nothing else uses yet; the advice changes what children inherit.
            unsafe { rustix::mm::madvise(mapping.start().as_ptr().cast(), bytes as usize, Advice::LinuxDontFork)? };
            Ok(Self { mapping: Kept::new(mapping), size, messages })
        }

        /// Bytes of each ring.
        pub fn size(&self) -> u64 {
            self.size
        }

        /// A way's words and ring. Whoever uses them holds this memory.
        pub(crate) fn way(&self, second: bool) -> (&'static Way, Area) {
            let at = usize::from(second) * size_of::<Way>();
            let ring = HEADER + u64::from(second) * self.size;
            // SAFETY: both are inside the mapping (asserted above and in `open`), aligned as the page is, and made of
            // atomics; the users hold this memory, so that it stays mapped.
            unsafe {
                let start = self.mapping.start();
                (start.add(at).cast().as_ref(), Area::new(start.add(ring as usize), self.size))
            }
        }

        /// Overwrites anything that both ends share. What a hostile peer can do.
        #[doc(hidden)]
        pub fn scribble(&self, at: u64, bytes: &[u8]) {
            let start: NonNull<u8> = self.mapping.start();
            for (index, byte) in bytes.iter().enumerate() {
                let at = (at + index as u64) % (HEADER + 2 * self.size);
                // SAFETY: the offset is inside the mapping, and a byte there is one that any process may write.
                unsafe { start.add(at as usize).as_ptr().write_volatile(*byte) };
            }
        }
    }
}
