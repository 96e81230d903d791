//! A descriptor that polls as a socket of a stack: for `select`, `selectors`, asyncio and whoever else waits on numbers.
//!
//! # Theory of operation
//!
//! The two ends of a pair of Unix sockets. The program polls the outer end and never reads or writes it:
//!
//! ```text
//!   outer readable  ⇔  a byte of the inner end waits in it
//!   outer writable  ⇔  its send buffer is large beside the ballast that waits at the inner end for good
//! ```
//!
//! The kernel calls a Unix socket writable while what it sent and nobody read takes no more than a quarter of its send
//! buffer (`unix_writable`), and wakes whoever polls when the buffer is made larger. So the size alone makes it writable
//! or not. The outer end is shut for writing: whoever takes the descriptor for the socket and writes into it, as
//! asyncio's `sendfile` tries to, gets `EPIPE`, and nothing is lost without a word.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, recv, send, shutdown, socketpair,
};

/// Bytes that wait at the inner end: more than a quarter of the smallest send buffer, and far less of a large one.
const BALLAST: usize = 2048;
/// Send buffers in bytes: the kernel makes the small one as large as it has to be.
const SMALL: usize = 1;
const LARGE: usize = 64 * 1024;

/// A descriptor, and what shows on it.
#[derive(Debug)]
pub struct Mirror {
    outer: OwnedFd,
    inner: OwnedFd,
    readable: bool,
    writable: bool,
}

impl Mirror {
    /// A mirror that shows neither.
    ///
    /// # Errors
    ///
    /// Those of making a socket pair.
    pub fn new() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (outer, inner) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        send(&outer, &[0; BALLAST], SendFlags::NOSIGNAL)?;
        shutdown(&outer, Shutdown::Write)?;
        set_socket_send_buffer_size(&outer, SMALL)?;
        Ok(Self { outer, inner, readable: false, writable: false })
    }

    /// The descriptor to be polled.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.outer.as_fd()
    }

    /// Makes the descriptor readable and writable, or not.
    pub fn show(&mut self, readable: bool, writable: bool) {
        if readable != self.readable {
            self.readable = readable;
            if readable {
                let _ = send(&self.inner, &[0], SendFlags::NOSIGNAL);
            } else {
                let mut byte = [0; 1];
                let _ = recv(&self.outer, &mut byte, RecvFlags::DONTWAIT);
            }
        }
        if writable != self.writable {
            self.writable = writable;
            let _ = set_socket_send_buffer_size(&self.outer, if writable { LARGE } else { SMALL });
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::Mirror;

    fn polled(mirror: &Mirror) -> (bool, bool) {
        let descriptor = mirror.descriptor();
        let mut fds = [PollFd::new(&descriptor, PollFlags::IN | PollFlags::OUT)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).expect("poll");
        let seen = fds[0].revents();
        (seen.contains(PollFlags::IN), seen.contains(PollFlags::OUT))
    }

    /// The oracle is the kernel's poll.
    #[test]
    fn a_descriptor_polls_as_it_is_shown() {
        let mut mirror = Mirror::new().expect("a socket pair");
        assert_eq!(polled(&mirror), (false, false));
        for _ in 0..3 {
            for (readable, writable) in [(true, false), (true, true), (false, true), (true, false), (false, false)] {
                mirror.show(readable, writable);
                assert_eq!(polled(&mirror), (readable, writable));
            }
        }
    }
    #[test]
    fn what_is_written_into_it_is_refused_rather_than_lost() {
        let mut mirror = Mirror::new().expect("a socket pair");
        mirror.show(false, true);
        assert_eq!(rustix::io::write(mirror.descriptor(), b"lost"), Err(rustix::io::Errno::PIPE));
    }
}
