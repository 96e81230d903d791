//! The descriptors of an end: how one side wakes the other, how it learns of its death, and what a program polls.
//!
//! # Theory of operation
//!
//! Two pairs of Unix stream sockets, each with its outer end at one side and its inner end at the other:
//!
//! ```text
//!   first end                     second end
//!   outer ═══════════════════════ inner        what the first end polls
//!   inner ═══════════════════════ outer        what the second end polls
//!
//!   outer readable  ⇔  a token waits in it     the peer sends a token into its inner end: there is data
//!   outer writable  ⇔  no ballast of ours waits at the peer: it takes the ballast out when there is room
//!   outer hung up   ⇔  the peer has closed, or died: the kernel says so at once, however it died
//! ```
//!
//! So the peer's system call makes our descriptor ready; no thread of ours has to turn one into the other, and a
//! program may sleep on it in `poll`, `select` or `epoll` while another thread sleeps in [`Signals::sleep`].
//!
//! **Tokens.** A token is in `outer`, or on its way, whenever the data bell is not set: one from the beginning, then one
//! from whoever took the bell back. A side that found its ring empty sets the bell, looks once more, and only then takes
//! out the tokens it knew of *before* it set the bell. One that comes meanwhile stays, since tokens are taken first in,
//! first out. If that last look finds data nothing is taken: the descriptor stays readable.
//!
//! **Ballast.** The kernel calls a Unix socket writable while what it sent and nobody read takes no more than a quarter
//! of its send buffer (`unix_writable`), and our send buffers are the smallest there are. A side that found its ring full
//! sends the ballast, sets the room bell, and then looks once more. If that finds room, the send buffer is made large,
//! which makes the descriptor writable again without the peer.
//!
//! Nothing here blocks: a peer that does not read, reads what is not its business or sends what nobody asked for has
//! spoilt its own pipe. Descriptors are not shared between the two (each has its own ends), so neither can make the
//! other's block either.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_send_buffer_size, socket_type};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType};
use rustix::net::{recv, send, shutdown, socketpair};

/// Bytes of ballast: more than a quarter of the smallest send buffer.
const BALLAST: [u8; 2048] = [0; 2048];
/// Send buffers in bytes: the kernel makes the small one as large as it has to be.
const SMALL: usize = 1;
const LARGE: usize = 64 * 1024;
/// Reads of ballast before it is the next one's business. One is enough for a peer that keeps to the rules.
const READS: usize = 4;

const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// What a side sleeps for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// Data, or the end of it.
    Data,
    /// Room, or nobody who reads.
    Room,
    /// Whichever comes first.
    Either,
}

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Something has changed: look.
    Look,
    /// The peer has closed its end or has died.
    Gone,
    /// A signal came.
    Interrupted,
    /// The time is over.
    Late,
}

/// The two sockets of one end.
#[derive(Debug)]
pub struct Signals {
    outer: OwnedFd,
    inner: OwnedFd,
}

impl Signals {
    /// Those of both ends of a new pipe.
    pub fn pair() -> io::Result<(Self, Self)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let make = || -> io::Result<_> {
            let (outer, inner) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            set_socket_send_buffer_size(&outer, SMALL)?;
            // The first token: no bell is set yet.
            send(&inner, &[0], SendFlags::NOSIGNAL)?;
            Ok((outer, inner))
        };
        let ((outer, at_second), (second_outer, at_first)) = (make()?, make()?);
        Ok((Self { outer, inner: at_first }, Self { outer: second_outer, inner: at_second }))
    }

    /// One end's, from descriptors that came from somebody else.
    pub fn adopt(outer: OwnedFd, inner: OwnedFd) -> io::Result<Self> {
        for file in [&outer, &inner] {
            if !socket_type(file).is_ok_and(|kind| kind == SocketType::STREAM) {
                let text = "a pipe's second and third descriptors are stream sockets";
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
        Ok(Self { outer, inner })
    }

    /// Takes them apart: outer, inner.
    #[must_use]
    pub fn into_parts(self) -> (OwnedFd, OwnedFd) {
        (self.outer, self.inner)
    }

    /// The descriptor for programs that poll.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.outer.as_fd()
    }

    /// Both.
    pub(crate) fn both(&self) -> [BorrowedFd<'_>; 2] {
        [self.outer.as_fd(), self.inner.as_fd()]
    }

    /// Tells the peer of data. Whoever took its bell does, once.
    pub fn signal_data(&self) {
        // A peer with so many tokens that no more fits is readable anyway; one that has gone needs none.
        let _ = send(&self.inner, &[0], SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    }

    /// Tells the peer of room. Whoever took its bell does, once.
    pub fn signal_room(&self) {
        let mut ballast = [0u8; 2 * BALLAST.len()];
        for _ in 0..READS {
            match recv(&self.inner, &mut ballast[..], RecvFlags::DONTWAIT) {
                Ok((taken, _)) if taken == ballast.len() => {}
                _ => break,
            }
        }
    }

    /// Takes up to `count` tokens. Returns how many there were, or `None` when the peer has gone.
    pub fn take_tokens(&self, count: u32) -> Option<u32> {
        let mut tokens = [0u8; 16];
        let count = (count as usize).min(tokens.len());
        match recv(&self.outer, &mut tokens[..count], RecvFlags::DONTWAIT) {
            Ok((0, _)) if count > 0 => None,
            Ok((taken, _)) => Some(taken as u32),
            Err(Errno::AGAIN | Errno::INTR) => Some(0),
            Err(_) => None,
        }
    }

    /// Makes the descriptor unwritable until the peer signals room. `large`: whether it was let be writable without.
    pub fn hold_writable(&self, large: bool) {
        if large {
            let _ = set_socket_send_buffer_size(&self.outer, SMALL);
        }
        // Ballast that still waits at the peer does; a late signal may have taken it.
        if self.writable() {
            let _ = send(&self.outer, &BALLAST, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        }
    }

    /// Makes the descriptor writable without the peer.
    pub fn let_writable(&self) {
        let _ = set_socket_send_buffer_size(&self.outer, LARGE);
    }

    /// Whether the descriptor shows one of `events` now.
    fn polls(&self, events: PollFlags) -> bool {
        let mut files = [PollFd::new(&self.outer, events)];
        matches!(poll(&mut files, Some(&NOW)), Ok(1..)) && files[0].revents().intersects(events)
    }

    /// Whether the descriptor polls readable now.
    #[must_use]
    pub fn readable(&self) -> bool {
        self.polls(PollFlags::IN)
    }

    /// Whether the descriptor polls writable now.
    #[must_use]
    pub fn writable(&self) -> bool {
        self.polls(PollFlags::OUT)
    }

    /// Whether the peer has closed its end or died.
    #[must_use]
    pub fn gone(&self) -> bool {
        // Of these the kernel tells unasked.
        self.polls(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL)
    }

    /// Sleeps until the peer signals or goes, a signal comes, or `deadline`.
    pub fn sleep(&self, what: For, deadline: Option<Instant>) -> Woken {
        let events = match what {
            For::Data => PollFlags::IN,
            For::Room => PollFlags::OUT,
            For::Either => PollFlags::IN | PollFlags::OUT,
        };
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec {
            tv_sec: left.as_secs().min(i64::MAX as u64) as i64,
            tv_nsec: left.subsec_nanos().into(),
        });
        let mut files = [PollFd::new(&self.outer, events)];
        match poll(&mut files, left.as_ref()) {
            Ok(0) => Woken::Late,
            Ok(_) if files[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) => Woken::Gone,
            Ok(_) => Woken::Look,
            Err(_) => Woken::Interrupted,
        }
    }

    /// Makes the descriptor readable for good, for a side that reads no more.
    pub fn hang_up_reading(&self) {
        let _ = shutdown(&self.outer, Shutdown::Read);
    }

    /// Hangs up: the peer, and every thread of ours that sleeps here, wakes. The descriptors stay until they are dropped.
    pub fn hang_up(&self) {
        for file in self.both() {
            let _ = shutdown(file, Shutdown::Both);
        }
    }
}
