//! A descriptor that polls as a socket of a stack: for `select`, `selectors`, asyncio and whoever else waits on numbers.
//!
//! # Theory of operation
//!
//! The two ends of a pair of Unix sockets. The program polls the outer end and never reads or writes it:
//!
//! ```text
//!   outer readable  ⇔  a byte of the inner end waits in it
//!   outer writable  ⇔  what the outer end sent itself was taken out at the inner one
//! ```
//!
//! The outer end's send buffer is the smallest that Linux has, so that a few sends fill it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};

pub(super) struct Mirror {
    outer: OwnedFd,
    inner: OwnedFd,
    readable: bool,
    writable: bool,
}

impl Mirror {
    /// A mirror that shows neither.
    pub fn new() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (outer, inner) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        // Rounded up to the smallest that the kernel gives.
        set_socket_send_buffer_size(&outer, 1)?;
        let mut mirror = Self { outer, inner, readable: false, writable: true };
        mirror.show(false, false);
        Ok(mirror)
    }

    /// The descriptor to be polled.
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
                drain(&self.outer);
            }
        }
        if writable != self.writable {
            self.writable = writable;
            if writable {
                drain(&self.inner);
            } else {
                // Until none fits: poll calls a socket writable while most of its buffer is free.
                while send(&self.outer, &[0; 2048], SendFlags::NOSIGNAL).is_ok() {}
            }
        }
    }
}

fn drain(end: &OwnedFd) {
    let mut bytes = [0; 4096];
    while recv(end, &mut bytes, RecvFlags::DONTWAIT).is_ok_and(|(taken, _)| taken > 0) {}
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
}
