//! Where a capture goes: a file, a set of ring files, or a pipe or socket whose reader may be slow.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags};
use vnet_base::sync::{AtomicU32, Ordering};

use super::pcapng;

/// What a pipe takes without waiting once it is writable: one page, pipe(7).
const PIPE_BYTES: usize = 4096;

/// Room that a pipe to a reader gets, in bytes.
const PIPE_ROOM: usize = 1 << 20;

/// One wait for a slow reader; after it the writer looks whether it is to give up.
const SLICE: Duration = Duration::from_millis(50);

/// Ring files: the oldest go when there are more than `keep`.
#[derive(Debug)]
pub struct RingFiles {
    /// The directory that they are in.
    pub directory: OwnedFd,
    /// Their names are this, a number, the time, and the suffix, as those of dumpcap.
    pub stem: String,
    /// With its dot.
    pub suffix: String,
    /// How many there are at most; 0 for any number.
    pub keep: usize,
}

/// How a write ended.
#[derive(Debug)]
pub(crate) enum Written {
    All,
    /// So many whole blocks' bytes, and packets in them, and why not the rest.
    Some(u64, Failure),
}

/// Why a capture cannot go on.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Whoever read it has gone.
    ReaderGone,
    /// Its reader takes nothing, and the writer was told to give up.
    Stuck,
    System(io::Error),
}

enum Kind {
    Regular,
    Pipe,
    Socket,
    /// A terminal or another device.
    Other,
}

pub(crate) struct Output {
    file: File,
    kind: Kind,
    ring: Option<Ring>,
}

struct Ring {
    files: RingFiles,
    number: u32,
    names: VecDeque<String>,
}

impl Output {
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let kind = match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
            FileType::RegularFile => Kind::Regular,
            FileType::Fifo => {
                // A reader that falls behind gets more room, where the user may have it.
                let _ = rustix::pipe::fcntl_setpipe_size(&file, PIPE_ROOM);
                Kind::Pipe
            }
            FileType::Socket => Kind::Socket,
            _ => Kind::Other,
        };
        Ok(Self { file, kind, ring: None })
    }

    /// Ring files; the first is made at once.
    pub(crate) fn ring(files: RingFiles) -> io::Result<Self> {
        let mut ring = Ring { files, number: 0, names: VecDeque::new() };
        Ok(Self { file: ring.next()?, kind: Kind::Regular, ring: Some(ring) })
    }

    /// Whether writing may have to wait for a reader.
    pub(crate) fn has_reader(&self) -> bool {
        matches!(self.kind, Kind::Pipe | Kind::Socket)
    }

    /// The descriptor, for [`Descriptors`].
    pub(crate) fn descriptor(&self) -> u32 {
        self.file.as_raw_fd().cast_unsigned()
    }

    /// Goes on to the next of the ring files; does nothing where there are none.
    pub(crate) fn next_file(&mut self) -> Result<(), Failure> {
        if let Some(ring) = &mut self.ring {
            self.file = ring.next().map_err(Failure::System)?;
        }
        Ok(())
    }

    /// Whether the reader has gone, for when there is nothing to write.
    pub(crate) fn reader_gone(&self) -> bool {
        let events = match self.kind {
            Kind::Pipe => PollFlags::empty(),
            Kind::Socket => PollFlags::RDHUP,
            Kind::Regular | Kind::Other => return false,
        };
        let mut fds = [PollFd::new(&self.file, events)];
        matches!(poll(&mut fds, Some(&Timespec::default())), Ok(1..))
    }

    /// Writes whole blocks. `give_up` is asked now and then while a reader takes nothing, with how long that has been.
    pub(crate) fn write(&mut self, bytes: &[u8], give_up: impl Fn(Duration) -> bool) -> Written {
        let (mut done, mut moved) = (0, Instant::now());
        while done < bytes.len() {
            match self.write_some(&bytes[done..]) {
                Ok(0) if moved.elapsed() > SLICE && give_up(moved.elapsed()) => {
                    return self.broken(bytes, done, Failure::Stuck);
                }
                Ok(0) => {}
                Ok(count) => {
                    done += count;
                    moved = Instant::now();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let gone = matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset);
                    let why = if gone && self.has_reader() { Failure::ReaderGone } else { Failure::System(error) };
                    return self.broken(bytes, done, why);
                }
            }
        }
        Written::All
    }

    /// Writes as much as goes without waiting longer than a slice; 0 where nothing does.
    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.has_reader() {
            return match self.file.write(bytes)? {
                0 => Err(io::ErrorKind::WriteZero.into()),
                count => Ok(count),
            };
        }
        // A descriptor that came from another process is not ours to make non-blocking: its flags are shared.
        let mut fds = [PollFd::new(&self.file, PollFlags::OUT)];
        if poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: SLICE.as_nanos() as i64 }))? == 0 {
            return Ok(0);
        }
        match self.kind {
            Kind::Socket => {
                use rustix::net::{SendFlags, send};
                match send(&self.file, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                    Err(rustix::io::Errno::AGAIN) => Ok(0),
                    result => Ok(result?),
                }
            }
            _ => self.file.write(&bytes[..bytes.len().min(PIPE_BYTES)]),
        }
    }

    /// After a write that failed behind `done` bytes: a file ends with its last whole block, so that it stays readable.
    fn broken(&mut self, bytes: &[u8], done: usize, why: Failure) -> Written {
        let (whole, packets) = pcapng::whole_blocks(&bytes[..done]);
        if matches!(self.kind, Kind::Regular)
            && let Ok(position) = self.file.stream_position()
        {
            let end = position.saturating_sub((done - whole) as u64);
            let _ = self.file.set_len(end).and_then(|()| self.file.seek(SeekFrom::Start(end)));
        }
        Written::Some(packets, why)
    }
}

impl Ring {
    fn next(&mut self) -> io::Result<File> {
        self.number += 1;
        let RingFiles { directory, stem, suffix, keep } = &self.files;
        let name = format!("{stem}_{:05}_{}{suffix}", self.number, local_time());
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(directory, &name, flags, Mode::RUSR | Mode::WUSR)?;
        self.names.push_back(name);
        if *keep > 0
            && self.names.len() > *keep
            && let Some(oldest) = self.names.pop_front()
        {
            let _ = rustix::fs::unlinkat(directory, oldest, rustix::fs::AtFlags::empty());
        }
        Ok(file.into())
    }
}

/// The local time as dumpcap puts it into the names of ring files.
fn local_time() -> String {
    // SAFETY: both functions write only to what they are given, and `tm` is plain numbers, for which zeros are valid.
    let tm = unsafe {
        let now = libc::time(core::ptr::null_mut());
        let mut tm = core::mem::zeroed::<libc::tm>();
        libc::localtime_r(&raw const now, &raw mut tm);
        tm
    };
    let (year, month) = (tm.tm_year + 1900, tm.tm_mon + 1);
    format!("{year:04}{month:02}{:02}{:02}{:02}{:02}", tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec)
}

/// How much a capture's threads stand back, as of nice(1). Where processors are short they get a ninth of what a sender
/// or receiver gets: the LAN keeps its pace, and what the capture misses is counted.
const NICENESS: libc::c_int = 10;

/// Makes the calling thread one that nobody waits for: it stands back where processors are short. And keeps signals from
/// it: a reader that has gone and a file that may grow no further are errors to it, whatever the program does about
/// SIGPIPE and SIGXFSZ.
pub(crate) fn stand_back() {
    // SAFETY: the set is filled before it is used; the calls change this thread's mask and priority alone.
    unsafe {
        let mut all = core::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, core::ptr::null_mut());
        // The process's id is that of its first thread; to Linux, 0 is the calling one, which may come from one that
        // stands back already.
        let own = libc::getpriority(libc::PRIO_PROCESS, libc::getpid().cast_unsigned());
        libc::setpriority(libc::PRIO_PROCESS, 0, own + NICENESS);
    }
}

/// The descriptors that captures of this process write to, for its forked children: a child that kept a pipe open would
/// keep its reader from seeing the end. No lock, because a lock that another thread held at the fork stays held there.
pub(crate) struct Descriptors([AtomicU32; 64]);

/// No descriptor.
const NONE: u32 = u32::MAX;

impl Default for Descriptors {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU32::new(NONE)))
    }
}

impl Descriptors {
    /// Notes an open descriptor. Where there are more than there are places for, a child keeps the rest.
    pub(crate) fn enter(&self, descriptor: u32) {
        let free =
            |place: &&AtomicU32| place.compare_exchange(NONE, descriptor, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        let _ = self.0.iter().find(free);
    }

    /// Forgets a descriptor, to be called before it is closed.
    pub(crate) fn leave(&self, descriptor: u32) {
        let held =
            |place: &&AtomicU32| place.compare_exchange(descriptor, NONE, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        let _ = self.0.iter().find(held);
    }

    /// Closes all of them, in a forked child. It must never drop the [`Output`]s: by then the numbers may be others'.
    pub(crate) fn close_in_child(&self) {
        for place in &self.0 {
            let descriptor = place.swap(NONE, Ordering::AcqRel);
            if descriptor != NONE {
                // SAFETY: nothing else in the child uses or closes the number, as said above.
                unsafe { libc::close(descriptor.cast_signed()) };
            }
        }
    }
}
