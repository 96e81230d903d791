//! What lives on after its owner let go of it: a connection whose last bytes are still on their way.

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{Socket, State};

use super::tcp::discard;
use super::{Stack, Tcp};

/// How long a closed connection may make no progress before it is reset, in nanoseconds: Linux's `tcp_fin_timeout`.
pub const LINGER: u64 = 60_000_000_000;

/// How long a connection that both sides closed answers a repeated FIN, in nanoseconds. RFC 9293 asks for two segment
/// lifetimes, which on a LAN in memory are nothing; a second covers a retransmission.
const TIME_WAIT: u64 = 1_000_000_000;

/// Most connections that live on; beyond it the oldest is reset.
const ORPHANS: usize = 512;

pub(super) struct Orphan {
    handle: SocketHandle,
    deadline: u64,
    unsent: usize,
    waiting: bool,
}

impl Stack {
    /// Closes a connection: what was sent is delivered, then its end, while the owner goes on. What comes for it now is
    /// thrown away; a peer that goes on sending when all of ours is delivered is reset, as by Linux.
    pub fn close(&mut self, tcp: Tcp) {
        self.finish(&tcp);
        self.let_go(tcp);
    }

    /// Resets a connection.
    pub fn abort(&mut self, tcp: Tcp) {
        self.tcp(&tcp).abort();
        self.let_go(tcp);
    }

    fn let_go(&mut self, tcp: Tcp) {
        if self.orphans.len() >= ORPHANS {
            let oldest = self.orphans.remove(0);
            self.remove_connection(oldest.handle);
        }
        self.orphans.push(Orphan {
            handle: tcp.handle,
            deadline: self.now.saturating_add(LINGER),
            unsent: usize::MAX,
            waiting: false,
        });
    }

    /// Tends what lives on, and returns when to look again.
    pub(super) fn tend_orphans(&mut self) -> Option<u64> {
        let now = self.now;
        let mut gone = Vec::new();
        let sockets = &mut self.sockets;
        let mut next: Option<u64> = None;
        self.orphans.retain_mut(|orphan| {
            let socket = sockets.get_mut::<Socket>(orphan.handle);
            let unsent = socket.send_queue();
            if unsent < orphan.unsent {
                (orphan.unsent, orphan.deadline) = (unsent, now.saturating_add(LINGER));
            }
            match socket.state() {
                // A reset that is to be sent leaves at the next poll.
                State::Closed if socket.remote_endpoint().is_some() && now < orphan.deadline => {}
                State::Closed | State::Listen => {
                    gone.push(orphan.handle);
                    return false;
                }
                State::TimeWait if !orphan.waiting => {
                    (orphan.waiting, orphan.deadline) = (true, now.saturating_add(TIME_WAIT));
                }
                State::TimeWait if now >= orphan.deadline => {
                    gone.push(orphan.handle);
                    return false;
                }
                State::FinWait2 if socket.can_recv() => socket.abort(),
                _ if now >= orphan.deadline => socket.abort(),
                _ => discard(socket),
            }
            next = Some(next.map_or(orphan.deadline, |next| next.min(orphan.deadline)));
            true
        });
        for handle in gone {
            self.remove_connection(handle);
        }
        next
    }

    /// Lets go of a connection that only waits for late segments, so that its ends can be used again (RFC 9293 section
    /// 3.6.1). False where it is not one.
    pub(super) fn forget_waiting(&mut self, handle: SocketHandle) -> bool {
        let waits = self.sockets.get::<Socket>(handle).state() == State::TimeWait;
        let index = self.orphans.iter().position(|orphan| orphan.handle == handle).filter(|_| waits);
        if let Some(index) = index {
            self.orphans.remove(index);
            self.remove_connection(handle);
        }
        index.is_some()
    }

    pub(super) fn remove_connection(&mut self, handle: SocketHandle) {
        self.connections.remove(&handle);
        self.sockets.remove(handle);
    }
}
