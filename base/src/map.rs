//! Memory files and their mappings.
#![allow(unsafe_code)]

use core::ptr::NonNull;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

/// Makes a sparse memory file of a fixed size.
pub fn memory_file(name: &str, bytes: u64) -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&file, bytes)?;
    Ok(file)
}

/// Forbids resizing, and from now on every writable mapping but those that exist, if `read_only`.
pub fn seal(file: impl AsFd, read_only: bool) -> io::Result<()> {
    let mut seals = SealFlags::SHRINK | SealFlags::GROW;
    if read_only {
        seals |= SealFlags::FUTURE_WRITE;
    }
    rustix::fs::fcntl_add_seals(&file, seals)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SEAL)?;
    Ok(())
}

/// Gives the memory of a range of the file back to the kernel; it reads as zeros afterwards.
pub fn release(file: BorrowedFd<'_>, at: u64, bytes: u64) -> io::Result<()> {
    rustix::fs::fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, at, bytes)?;
    Ok(())
}

/// A whole file, mapped and shared.
pub struct Mapping {
    start: NonNull<u8>,
    bytes: u64,
}

// SAFETY: a mapping is an address range; what lies in it is atomics and rings with protocols of their own.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub fn new(file: impl AsFd, writable: bool) -> io::Result<Self> {
        let bytes = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0);
        if bytes == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the memory file is empty"));
        }
        let protection = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: a new mapping at an address that the kernel chooses overlaps nothing.
        let start = unsafe {
            let flags = MapFlags::SHARED | MapFlags::NORESERVE;
            rustix::mm::mmap(core::ptr::null_mut(), bytes as usize, protection, flags, &file, 0)?
        };
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address zero"))?;
        Ok(Self { start, bytes })
    }

    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is ours, and whoever used it held this mapping alive.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.bytes as usize) };
    }
}
