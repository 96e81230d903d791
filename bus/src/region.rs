//! Regions: memory files that guests map, and what the kernel tells of the mappings.
//!
//! A region is a sparse memory file of a fixed size, which costs a page of memory where somebody has written and none
//! elsewhere, however many map it. What others may do to it is the kernel's to enforce:
//!
//! ```text
//!   size         sealed: nobody makes the file shorter under those who map it, or longer
//!   read-only    a descriptor opened for reading, of which no mapping can be made writable afterwards: mprotect(2)
//!   one writer   sealed: from then on nobody gets a writable mapping, and those that are there remain: fcntl(2),
//!                F_SEAL_FUTURE_WRITE
//! ```
//!
//! The file's mode lets its owner open it anew for reading only, so that who was given a read-only descriptor does not
//! make a writable one of it by way of /proc/self/fd. That holds against mistakes; a process of the same user that is set
//! on it changes the mode back, and root is not bound by modes. Only the seal holds against those, too.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fchmod, fcntl_add_seals, fstat, ftruncate, memfd_create, open};

/// What /proc/PID/pagemap has of a page: Documentation/admin-guide/mm/pagemap.rst. Its frame in the low bits, or zero
/// for those who may not know it.
const PRESENT: u64 = 1 << 63;
const FRAME: u64 = (1 << 55) - 1;
/// Bytes of an entry.
const ENTRY: u64 = 8;
/// Entries read at a time.
const CHUNK: u64 = 64 * 1024;

/// Makes the memory file of a region: sparse, its size sealed, closed in programs that are started.
///
/// # Errors
///
/// Those of memfd_create(2) (for huge pages also that the kernel has none), ftruncate(2) and fcntl(2).
pub fn make(name: &str, bytes: u64, huge: bool) -> io::Result<OwnedFd> {
    let mut flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    if huge {
        flags |= MemfdFlags::HUGETLB;
    }
    let file = memfd_create(name, flags)?;
    ftruncate(&file, bytes)?;
    fchmod(&file, Mode::RUSR)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)?;
    Ok(file)
}

/// Seals the seals; with `one_writer` no new mapping is writable from now on, and no write(2) succeeds.
///
/// # Errors
///
/// Those of fcntl(2).
pub fn settle(file: impl AsFd, one_writer: bool) -> io::Result<()> {
    if one_writer {
        fcntl_add_seals(&file, SealFlags::FUTURE_WRITE)?;
    }
    fcntl_add_seals(&file, SealFlags::SEAL)?;
    Ok(())
}

/// A descriptor of the same file that can only be read.
///
/// # Errors
///
/// Those of open(2): there is no /proc, or no descriptor is left.
pub fn reading(file: impl AsFd) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    Ok(open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Where a process has a file mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first address.
    pub start: u64,
    /// Bytes, in whole pages.
    pub bytes: u64,
    /// It can be written.
    pub writable: bool,
}

/// Where a process, or this one, has `file` mapped, in the order of addresses.
///
/// # Errors
///
/// Those of reading /proc/PID/maps: there is no such process, or it is another user's.
pub fn ranges(pid: Option<u32>, file: impl AsFd) -> io::Result<Vec<Range>> {
    let about = fstat(&file)?;
    let device = format!("{:02x}:{:02x}", rustix::fs::major(about.st_dev), rustix::fs::minor(about.st_dev));
    let maps = BufReader::new(File::open(of_process(pid, "maps"))?);
    let mut found: Vec<Range> = Vec::new();
    for line in maps.split(b'\n') {
        let line = line?;
        // Only a name, the last word, may be no text.
        let line = String::from_utf8_lossy(&line);
        found.extend(parse(&line, &device, about.st_ino));
    }
    Ok(found)
}

/// A line of /proc/PID/maps, if it is of that file: proc_pid_maps(5).
fn parse(line: &str, device: &str, inode: u64) -> Option<Range> {
    let mut words = line.split_ascii_whitespace();
    let (addresses, rights, _, of, number) =
        (words.next()?, words.next()?, words.next()?, words.next()?, words.next()?);
    if of != device || number.parse() != Ok(inode) {
        return None;
    }
    let (start, end) = addresses.split_once('-')?;
    let start = u64::from_str_radix(start, 16).ok()?;
    let bytes = u64::from_str_radix(end, 16).ok()?.checked_sub(start)?;
    Some(Range { start, bytes, writable: rights.as_bytes().get(1) == Some(&b'w') })
}

/// The page frames behind a range of a process's addresses, in the order of pages: 0 for a page that this process has
/// not touched. `None` if the kernel does not tell this process: it takes CAP_SYS_ADMIN.
///
/// # Errors
///
/// Those of reading /proc/PID/pagemap.
pub fn frames(pid: Option<u32>, start: u64, bytes: u64) -> io::Result<Option<Vec<u64>>> {
    let page = rustix::param::page_size() as u64;
    let pagemap = File::open(of_process(pid, "pagemap"))?;
    if !are_told(page)? {
        return Ok(None);
    }
    let (first, count) = (start / page, bytes.div_ceil(page));
    let mut frames = Vec::new();
    let mut raw = vec![0u8; (count.min(CHUNK) * ENTRY) as usize];
    while (frames.len() as u64) < count {
        let done = frames.len() as u64;
        let some = &mut raw[..((count - done).min(CHUNK) * ENTRY) as usize];
        pagemap.read_exact_at(some, (first + done) * ENTRY)?;
        for entry in some.chunks_exact(ENTRY as usize) {
            let entry = u64::from_ne_bytes(entry.try_into().unwrap_or_default());
            frames.push(if entry & PRESENT == 0 { 0 } else { entry & FRAME });
        }
    }
    Ok(Some(frames))
}

/// Whether the kernel tells this process of page frames: of one that is there for sure, that of a word of its own.
fn are_told(page: u64) -> io::Result<bool> {
    let word = [0u8; ENTRY as usize];
    let mut entry = word;
    let at = core::hint::black_box(&word).as_ptr().addr() as u64 / page * ENTRY;
    File::open(of_process(None, "pagemap"))?.read_exact_at(&mut entry, at)?;
    Ok(u64::from_ne_bytes(entry) & FRAME != 0)
}

fn of_process(pid: Option<u32>, what: &str) -> String {
    pid.map_or_else(|| format!("/proc/self/{what}"), |pid| format!("/proc/{pid}/{what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_maps_is_read_as_proc_pid_maps_has_it() {
        let line =
            "7f0000000000-7f0000200000 r--s 00000000 00:01 4711                       /memfd:vnet:a:region:b (deleted)";
        let range = Range { start: 0x7f00_0000_0000, bytes: 0x20_0000, writable: false };
        assert_eq!(parse(line, "00:01", 4711), Some(range));
        assert_eq!(parse(line, "00:01", 471), None);
        assert_eq!(parse(line, "08:01", 4711), None);
        assert_eq!(parse("", "00:01", 4711), None);
        assert_eq!(parse("7f-7e r--s 0 00:01 4711", "00:01", 4711), None);
    }
}
