//! Listening ports.

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{Socket, State};

use super::head::Segment;
use super::tcp::{Connection, new_socket};
use super::{Local, OpenError, Stack, Tcp, TcpOptions, paced};

/// A listening port. Its owner gives it back by [`Stack::close_listening`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a port is listened on until it is closed"]
pub struct Listening {
    id: u64,
}

impl Listening {
    pub(super) fn again(&self) -> Self {
        Self { id: self.id }
    }
}

/// How long a handshake may take before it makes room for others, in nanoseconds, and before it is given up. On a LAN it
/// takes microseconds; who does not finish it does not mean to.
const STALE: u64 = 1_000_000_000;
const HANDSHAKE: u64 = 20_000_000_000;

pub(super) struct Listener {
    pub local: Local,
    /// `None`: the port is only held, and who comes is refused.
    backlog: Option<usize>,
    options: TcpOptions,
    /// Connections that were not accepted yet, oldest first, and when their SYN came.
    pending: Vec<(SocketHandle, u64)>,
}

impl Stack {
    /// Listens; at most one more than `backlog` connections wait to be accepted, as on Linux.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub fn listen(&mut self, local: Local, backlog: usize, options: &TcpOptions) -> Result<Listening, OpenError> {
        let listening = self.bind(local, options)?;
        self.set_backlog(&listening, backlog);
        Ok(listening)
    }

    /// Listens on a port that was only held, or lets another number of connections wait.
    pub fn set_backlog(&mut self, listening: &Listening, backlog: usize) {
        if let Some(listener) = self.listeners.get_mut(&listening.id) {
            listener.backlog = Some(backlog);
        }
    }

    /// Holds a port, so that nobody else gets it, without listening: who comes is refused.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub fn bind(&mut self, local: Local, options: &TcpOptions) -> Result<Listening, OpenError> {
        self.check_ours(&local)?;
        let port = match local.port {
            0 => self.ephemeral(|stack, port| stack.is_tcp_port_used(port))?,
            port => port,
        };
        let local = Local { port, ..local };
        if self.listeners.values().any(|other| other.local.collides(&local)) {
            return Err(OpenError::Taken(port));
        }
        let id = self.new_id();
        self.listeners.insert(id, Listener { local, backlog: None, options: *options, pending: Vec::new() });
        Ok(Listening { id })
    }

    /// Where it listens.
    #[must_use]
    pub fn listening_at(&self, listening: &Listening) -> Local {
        self.listeners.get(&listening.id).map_or(Local::port(0), |listener| listener.local)
    }

    /// Whether a connection waits to be accepted.
    #[must_use]
    pub fn can_accept(&self, listening: &Listening) -> bool {
        self.listeners.get(&listening.id).is_some_and(|listener| {
            listener.pending.iter().any(|(handle, _)| is_established(self.sockets.get::<Socket>(*handle).state()))
        })
    }

    /// The next connection, the oldest first.
    pub fn accept(&mut self, listening: &Listening) -> Option<Tcp> {
        let listener = self.listeners.get_mut(&listening.id)?;
        let sockets = &self.sockets;
        let ready = |(handle, _): &(SocketHandle, u64)| is_established(sockets.get::<Socket>(*handle).state());
        let index = listener.pending.iter().position(ready)?;
        let (handle, _) = listener.pending.remove(index);
        self.sockets.get_mut::<Socket>(handle).set_timeout(None);
        Some(Tcp { handle })
    }

    /// Listens no more; connections that nobody accepted are reset.
    pub fn close_listening(&mut self, listening: Listening) {
        self.stop_listening(listening.id);
    }

    pub(super) fn stop_listening(&mut self, id: u64) {
        let Some(listener) = self.listeners.remove(&id) else { return };
        for (handle, _) in listener.pending {
            self.abort(Tcp { handle });
        }
    }

    /// What is to be done with a SYN. `None`: drop it. `Some(Some(…))`: a socket was made for it.
    #[allow(clippy::option_option)]
    pub(super) fn admit(&mut self, segment: &Segment) -> Option<Option<(u64, SocketHandle)>> {
        let local = segment.destination;
        if self.listeners.is_empty() || !self.addresses.contains(&local.ip()) {
            return Some(None);
        }
        if let Some(handle) = self.between(local, segment.source)
            && !self.forget_waiting(handle)
        {
            return Some(None);
        }
        let matching =
            |listener: &&mut Listener| listener.backlog.is_some() && listener.local.takes(local.ip(), local.port());
        let id = self.listeners.iter_mut().find(|(_, listener)| matching(listener)).map(|(id, _)| *id);
        let Some(id) = id else { return Some(None) };
        self.make_room(id);
        let full = self.room_for_socket().is_err();
        let listener = self.listeners.get_mut(&id)?;
        if full || listener.backlog.is_some_and(|backlog| listener.pending.len() > backlog) {
            return None;
        }
        let mut socket = new_socket(&listener.options);
        socket.set_timeout(Some(paced(HANDSHAKE)));
        socket.listen(local).ok()?;
        let handle = self.sockets.add(socket);
        self.connections.insert(handle, Connection::new());
        listener.pending.push((handle, self.now));
        Some(Some((id, handle)))
    }

    /// A SYN that smoltcp did not take (a wrong checksum) leaves nobody behind.
    pub(super) fn check_opening(&mut self, listener: u64, handle: SocketHandle) {
        if self.sockets.get::<Socket>(handle).state() == State::Listen
            && let Some(listener) = self.listeners.get_mut(&listener)
        {
            listener.pending.retain(|(pending, _)| *pending != handle);
            self.remove_connection(handle);
        }
    }

    /// Lets go of connections that ended before anybody accepted them. A reset takes smoltcp's back to listening.
    pub(super) fn tend_listeners(&mut self) {
        let mut ended = Vec::new();
        for listener in self.listeners.values_mut() {
            listener.pending.retain(|(handle, _)| {
                let socket = self.sockets.get::<Socket>(*handle);
                let over = matches!(socket.state(), State::Listen | State::Closed);
                if over {
                    ended.push(*handle);
                }
                !over
            });
        }
        for handle in ended {
            self.remove_connection(handle);
        }
    }

    /// In a full backlog, the oldest handshake that nobody finishes makes room.
    fn make_room(&mut self, id: u64) {
        let now = self.now;
        let Some(listener) = self.listeners.get_mut(&id) else { return };
        if listener.backlog.is_none_or(|backlog| listener.pending.len() <= backlog) {
            return;
        }
        let sockets = &self.sockets;
        let stale = |(handle, since): &(SocketHandle, u64)| {
            now >= since + STALE && sockets.get::<Socket>(*handle).state() == State::SynReceived
        };
        if let Some(index) = listener.pending.iter().position(stale) {
            let (handle, _) = listener.pending.remove(index);
            self.abort(Tcp { handle });
        }
    }
}

fn is_established(state: State) -> bool {
    !matches!(state, State::Listen | State::SynSent | State::SynReceived | State::Closed)
}
