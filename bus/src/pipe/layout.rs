//! What two ends share, drawn.
//!
//! ```text
//!   0        Header         magic, version, messages; written by the maker, read once by each end
//!   4096     Way 0          first end → second end
//!   4608     Way 1          second end → first end
//!   8192     ring of way 0  S bytes, a power of two
//!   8192+S   ring of way 1  S bytes
//! ```
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
//!
//! The size of the rings follows from that of the file, which is sealed: nothing that a peer writes changes it.
#![allow(unsafe_code)]

#[cfg(not(loom))]
use core::mem::{offset_of, size_of};

use vnet_base::sync::{AtomicU32, AtomicU64};

use super::bell::Bell;

/// `"vnetpipe"`.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"vnetpipe");
/// The version of this layout.
pub(crate) const VERSION: u32 = 1;

/// Bytes in front of the rings.
pub const HEADER: u64 = 8192;
/// The least and the most bytes of a ring.
pub const LEAST: u64 = 4096;
/// See [`LEAST`].
pub const MOST: u64 = 1 << 30;

/// What the maker wrote.
#[repr(C)]
pub(crate) struct Header {
    pub magic: AtomicU64,
    pub version: AtomicU32,
    pub messages: AtomicU32,
}

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
    assert!(size_of::<Header>() == 16 && offset_of!(Header, version) == 8 && offset_of!(Header, messages) == 12);
    assert!(offset_of!(Bell, wanted) == 0 && offset_of!(Bell, no_more) == 8);
    assert!(offset_of!(Way, tail) == 0 && offset_of!(Way, head) == 128);
    assert!(offset_of!(Way, data) == 256 && offset_of!(Way, room) == 384 && size_of::<Way>() == 512);
    assert!(WAYS as usize + 2 * size_of::<Way>() <= HEADER as usize);
};

/// Where the ways lie.
#[cfg(not(loom))]
const WAYS: u64 = 4096;

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
    use vnet_base::sync::Ordering;

    use super::super::seats::Kept;
    use super::{HEADER, Header, LEAST, MAGIC, MOST, VERSION, WAYS, Way};

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
            let file = memory_file(name, HEADER + 2 * size)?;
            seal(&file, false)?;
            let mapping = Mapping::new(&file, true)?;
            let header = header(&mapping);
            header.magic.store(MAGIC, Ordering::Relaxed);
            header.version.store(VERSION, Ordering::Relaxed);
            header.messages.store(u32::from(messages), Ordering::Relaxed);
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
            let size = bytes.saturating_sub(HEADER) / 2;
            if !size.is_power_of_two() || !(LEAST..=MOST).contains(&size) || bytes != HEADER + 2 * size {
                return Err(wrong("the memory file has not the size of a pipe's"));
            }
            let mapping = Mapping::new(&file, true)?;
            // SAFETY: the range is this mapping, which nothing else uses yet; the advice changes what children inherit.
            unsafe { rustix::mm::madvise(mapping.start().as_ptr().cast(), bytes as usize, Advice::LinuxDontFork)? };
            let header = header(&mapping);
            if header.magic.load(Ordering::Relaxed) != MAGIC {
                return Err(wrong("the memory file is not a pipe's"));
            }
            if header.version.load(Ordering::Relaxed) != VERSION {
                return Err(wrong("the pipe was made by another version of vnet"));
            }
            // Read once: what a peer writes here later changes nothing.
            let messages = header.messages.load(Ordering::Relaxed) != 0;
            Ok(Self { mapping: Kept::new(mapping), size, messages })
        }

        /// Bytes of each ring.
        pub fn size(&self) -> u64 {
            self.size
        }

        /// A way's words and ring. Whoever uses them holds this memory.
        pub(crate) fn way(&self, second: bool) -> (&'static Way, Area) {
            let at = WAYS as usize + usize::from(second) * size_of::<Way>();
            let ring = HEADER + u64::from(second) * self.size;
            // SAFETY: both are inside the mapping (asserted above and in `open`), aligned as the page is, and made of
            // atomics; the users hold this memory, so that it stays mapped.
            unsafe {
                let start = self.mapping.start();
                (start.add(at).cast().as_ref(), Area::new(start.add(ring as usize), self.size))
            }
        }

        /// Overwrites what both ends share: the header page's ways and the rings' first bytes. What a hostile peer can do.
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

    fn header(mapping: &Mapping) -> &Header {
        // SAFETY: every file that is mapped here has more than a header; its words are atomics.
        unsafe { mapping.start().cast().as_ref() }
    }
}
