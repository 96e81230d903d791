//! TCP connections: opening, sending, receiving, and how they ended.

use std::net::SocketAddr;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{CongestionControl, RecvError, Socket, SocketBuffer, State};
use smoltcp::wire::IpEndpoint;
use vnet_base::Verdict;

use super::head::Segment;
use super::{Local, OpenError, Stack, paced};

/// A connection on a stack. Its owner gives it back by [`Stack::close`] or [`Stack::abort`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a connection stays until it is closed"]
pub struct Tcp {
    pub(super) handle: SocketHandle,
}

/// What a connection is made with.
#[derive(Clone, Copy, Debug)]
pub struct TcpOptions {
    /// Bytes that may wait to be received: the window.
    pub receive_buffer: usize,
    /// Bytes that may be sent and not acknowledged yet.
    pub send_buffer: usize,
    /// Sends small segments at once instead of gathering them (RFC 896).
    pub nodelay: bool,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self { receive_buffer: BUFFER, send_buffer: BUFFER, nodelay: false }
    }
}

/// Bytes of each buffer of a connection, and so of its window. Measured between two pinned processes on a busy machine: a
/// quarter of it carries a third as much, four times as much carries half more at the largest MTU and less at 1,500. It is a
/// quarter of a NIC's input buffer too, so that one window finds room there, and memory only as it fills.
const BUFFER: usize = 1 << 20;

/// How long a segment may go unacknowledged in the hope of data to go with the acknowledgement. RFC 9293 section 3.8.6.3
/// allows 500 ms; on a LAN whose round trip takes microseconds, whoever waits for it should not wait long.
pub(super) const ACK_DELAY: std::time::Duration = std::time::Duration::from_millis(2);

/// How long a connection may take to be opened: what Linux's six SYNs take.
const CONNECT: u64 = 127_000_000_000;

/// How long data may go unacknowledged before a connection is given up: about what Linux takes (`tcp_retries2`).
const UNACKNOWLEDGED: u64 = 900_000_000_000;

/// Unanswered keep-alive probes after which a connection is given up, the idle time before the first included.
const PROBES: u64 = 10;

/// What connections that are closed still have to deliver.
pub(super) enum Delivering {
    /// Bytes.
    Data,
    /// That they end.
    Ends,
    /// Nothing; perhaps there are connections yet.
    Nothing { connections: bool },
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The peer answered that nobody listens.
    Refused,
    /// The peer reset it.
    Reset,
    /// The peer did not answer in time.
    TimedOut,
    /// Nobody has the peer's address.
    Unreachable,
    /// No network has the peer's address.
    NoRoute,
    /// Both sides are done, or this one gave it up.
    Finished,
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpState {
    /// Not open yet.
    Connecting,
    /// Open, in one direction at least.
    Open,
    /// Over.
    Ended(Cause),
}

/// What the stack knows of a connection beside its socket.
pub(super) struct Connection {
    cause: Option<Cause>,
    was: State,
    /// Nanoseconds between probes, and since when.
    keepalive: Option<(u64, u64)>,
    timeout: u64,
    /// Whether the program sends no more, and smoltcp has not been told yet.
    finishing: bool,
    /// Whether what comes is thrown away.
    deaf: bool,
    /// What came and was not taken, and how much of it was: smoltcp throws it away when it is done with waiting for late
    /// segments.
    rest: Vec<u8>,
    taken: usize,
}

impl Connection {
    pub fn new() -> Self {
        Self {
            cause: None,
            was: State::SynSent,
            keepalive: None,
            timeout: UNACKNOWLEDGED,
            finishing: false,
            deaf: false,
            rest: Vec::new(),
            taken: 0,
        }
    }
}

impl Stack {
    /// Starts to open a connection; [`Stack::state`] says what comes of it.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub fn connect(&mut self, remote: SocketAddr, local: Local, options: &TcpOptions) -> Result<Tcp, OpenError> {
        self.room_for_socket()?;
        if remote.ip().is_unspecified() || remote.ip().is_multicast() || remote.port() == 0 {
            return Err(OpenError::Nobody(remote));
        }
        self.check_ours(&local)?;
        let address = match local.address {
            Some(address) if !address.is_unspecified() => address,
            _ => self.source(remote.ip())?,
        };
        if address.is_ipv4() != remote.is_ipv4() {
            return Err(OpenError::NoFamily(remote.ip()));
        }
        let port = match local.port {
            0 => self.ephemeral(|stack, port| stack.is_tcp_port_used(port))?,
            port => port,
        };
        let local = SocketAddr::new(address, port);
        if self.between(local, remote).is_some() {
            return Err(OpenError::Taken(port));
        }
        let mut socket = new_socket(options);
        socket.set_timeout(Some(paced(CONNECT)));
        socket.connect(self.interface.context(), remote, local).map_err(|_| OpenError::Nobody(remote))?;
        let handle = self.sockets.add(socket);
        self.connections.insert(handle, Connection::new());
        Ok(Tcp { handle })
    }

    /// The connection's socket, for all that smoltcp does and the stack adds nothing to.
    #[must_use]
    pub fn tcp(&mut self, tcp: &Tcp) -> &mut Socket<'static> {
        self.sockets.get_mut(tcp.handle)
    }

    /// Where the connection stands.
    #[must_use]
    pub fn state(&self, tcp: &Tcp) -> TcpState {
        match self.sockets.get::<Socket>(tcp.handle).state() {
            State::Listen | State::SynSent | State::SynReceived => TcpState::Connecting,
            State::Closed => {
                let cause = self.connections.get(&tcp.handle).and_then(|connection| connection.cause);
                TcpState::Ended(cause.unwrap_or(Cause::Finished))
            }
            _ => TcpState::Open,
        }
    }

    /// Takes over as many bytes as there is room for, and returns how many; 0 also while the connection is being opened.
    ///
    /// # Errors
    ///
    /// How the connection, or this direction of it, ended.
    pub fn send(&mut self, tcp: &Tcp, data: &[u8]) -> Result<usize, Cause> {
        match self.state(tcp) {
            TcpState::Connecting => Ok(0),
            TcpState::Ended(cause) => Err(cause),
            TcpState::Open if self.is_finishing(tcp.handle) => Err(Cause::Finished),
            TcpState::Open => self.tcp(tcp).send_slice(data).map_err(|_| Cause::Finished),
        }
    }

    /// Hands the next bytes that came to `take`, which returns how many of them it took. `Ok(None)`: none yet;
    /// `Ok(Some(0))`: the peer sends no more.
    ///
    /// # Errors
    ///
    /// How the connection ended.
    pub fn take(&mut self, tcp: &Tcp, take: impl FnOnce(&[u8]) -> usize) -> Result<Option<usize>, Cause> {
        if let Some(connection) = self.connections.get_mut(&tcp.handle) {
            if connection.deaf {
                return Ok(Some(0));
            }
            if connection.taken < connection.rest.len() {
                let taken = take(&connection.rest[connection.taken..]);
                connection.taken += taken;
                return Ok((taken > 0).then_some(taken));
            }
        }
        let state = self.state(tcp);
        let taken = self.tcp(tcp).recv(|bytes| {
            let taken = if bytes.is_empty() { 0 } else { take(bytes) };
            (taken, taken)
        });
        match (taken, state) {
            (Ok(0), _) | (Err(RecvError::InvalidState), TcpState::Connecting | TcpState::Open) => Ok(None),
            (Ok(taken), _) => Ok(Some(taken)),
            // smoltcp forgets that the peer was done when it is done with waiting for late segments.
            (Err(RecvError::Finished), _) | (_, TcpState::Ended(Cause::Finished)) => Ok(Some(0)),
            (Err(RecvError::InvalidState), TcpState::Ended(cause)) => Err(cause),
        }
    }

    /// How many bytes can be received; results and errors as of [`Stack::take`].
    ///
    /// # Errors
    ///
    /// As of [`Stack::take`].
    pub fn receivable(&mut self, tcp: &Tcp) -> Result<Option<usize>, Cause> {
        let rest = self.connections.get(&tcp.handle).map_or(0, |connection| connection.rest.len() - connection.taken);
        match self.tcp(tcp).recv_queue().max(rest) {
            0 => self.take(tcp, |_| 0),
            queued => Ok(Some(queued)),
        }
    }

    /// Its ends: here, there. `None` when it is over, or was never begun.
    #[must_use]
    pub fn ends(&mut self, tcp: &Tcp) -> Option<(SocketAddr, SocketAddr)> {
        let socket = self.tcp(tcp);
        let (local, remote) = (socket.local_endpoint()?, socket.remote_endpoint()?);
        let end = |end: IpEndpoint| SocketAddr::new(end.addr.into(), end.port);
        Some((end(local), end(remote)))
    }

    /// Receives into `buffer`; results and errors as of [`Stack::take`].
    ///
    /// # Errors
    ///
    /// As of [`Stack::take`].
    pub fn receive_into(&mut self, tcp: &Tcp, buffer: &mut [u8]) -> Result<Option<usize>, Cause> {
        let mut total = 0;
        // Twice: what came may lie at the end and at the beginning of the socket's ring.
        for _ in 0..2 {
            let rest = &mut buffer[total..];
            let taken = self.take(tcp, |bytes| {
                let length = bytes.len().min(rest.len());
                rest[..length].copy_from_slice(&bytes[..length]);
                length
            });
            match taken {
                Ok(Some(taken)) if taken > 0 => total += taken,
                Ok(_) | Err(_) if total > 0 => break,
                other => return other,
            }
            if total == buffer.len() {
                break;
            }
        }
        Ok(Some(total))
    }

    /// Sends no more: what was sent leaves, then the end of the stream.
    pub fn finish(&mut self, tcp: &Tcp) {
        self.finish_handle(tcp.handle);
    }

    /// After the peer's FIN, ours leaves when all is acknowledged: in LAST-ACK smoltcp ignores that the peer's window has
    /// opened again, and would wait for ever.
    pub(super) fn finish_handle(&mut self, handle: SocketHandle) {
        let socket = self.sockets.get_mut::<Socket>(handle);
        if socket.state() != State::CloseWait || socket.send_queue() == 0 {
            socket.close();
        } else if let Some(connection) = self.connections.get_mut(&handle) {
            connection.finishing = true;
        }
    }

    fn is_finishing(&self, handle: SocketHandle) -> bool {
        self.connections.get(&handle).is_some_and(|connection| connection.finishing)
    }

    /// Receives no more: what comes is thrown away.
    pub fn stop_receiving(&mut self, tcp: &Tcp) {
        if let Some(connection) = self.connections.get_mut(&tcp.handle) {
            connection.deaf = true;
        }
    }

    /// Whether receiving, and whether sending, would come to something at once: bytes, the end, or an error.
    #[must_use]
    pub fn tcp_ready(&self, tcp: &Tcp) -> (bool, bool) {
        let connection = self.connections.get(&tcp.handle);
        let deaf = connection.is_some_and(|connection| connection.deaf);
        let finishing = connection.is_some_and(|connection| connection.finishing);
        let socket = self.sockets.get::<Socket>(tcp.handle);
        match socket.state() {
            State::Listen | State::SynSent | State::SynReceived => (deaf, false),
            State::Closed => (true, true),
            State::Established => (deaf || socket.can_recv(), finishing || socket.can_send()),
            State::FinWait1 | State::FinWait2 => (deaf || socket.can_recv(), true),
            State::CloseWait => (true, finishing || socket.can_send()),
            State::Closing | State::LastAck | State::TimeWait => (true, true),
        }
    }

    /// Ends all connections as their owners would, and listens no more.
    pub fn finish_all(&mut self) {
        let listeners: Vec<u64> = self.listeners.keys().copied().collect();
        for id in listeners {
            self.stop_listening(id);
        }
        let handles: Vec<SocketHandle> = self.connections.keys().copied().collect();
        for handle in handles {
            self.finish_handle(handle);
        }
    }

    /// Resets what has not been acknowledged.
    pub fn abort_undelivered(&mut self) {
        for handle in self.connections.keys() {
            let socket = self.sockets.get_mut::<Socket>(*handle);
            if is_undelivered(socket) {
                socket.abort();
            }
        }
    }

    /// What connections that are closed still have to deliver.
    #[must_use]
    pub(super) fn is_delivering(&self) -> Delivering {
        let sockets = || self.connections.keys().map(|handle| self.sockets.get::<Socket>(*handle));
        if !self.wire.is_clear() || sockets().any(|socket| is_undelivered(socket) && socket.send_queue() > 0) {
            Delivering::Data
        } else if sockets().any(is_undelivered) {
            Delivering::Ends
        } else {
            Delivering::Nothing { connections: sockets().any(|socket| socket.state() != State::Closed) }
        }
    }

    /// Resets the connection that a datagram was for.
    pub(super) fn forget_ends(&mut self, datagram: &[u8]) {
        let Some(segment) = Segment::of(datagram) else { return };
        let Some(handle) = self.between(segment.destination, segment.source) else { return };
        *self.sockets.get_mut::<Socket>(handle) = nobody();
        if let Some(connection) = self.connections.get_mut(&handle) {
            connection.cause = Some(Cause::Reset);
        }
    }

    /// Sends probes while the connection is idle, every `interval` nanoseconds, and gives it up when none is answered.
    pub fn set_keepalive(&mut self, tcp: &Tcp, interval: Option<u64>) {
        let now = self.now;
        if let Some(connection) = self.connections.get_mut(&tcp.handle) {
            connection.keepalive = interval.map(|interval| (interval, now));
        }
        self.tcp(tcp).set_keep_alive(interval.map(paced));
    }

    /// Gives the connection up when data goes unacknowledged for so many nanoseconds; `None`: the usual time.
    pub fn set_unacknowledged(&mut self, tcp: &Tcp, timeout: Option<u64>) {
        if let Some(connection) = self.connections.get_mut(&tcp.handle) {
            connection.timeout = timeout.unwrap_or(UNACKNOWLEDGED);
        }
    }

    /// How many connections there are, those included that wait to be accepted or to end.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// The connection between two ends, if there is one.
    pub(super) fn between(&self, local: SocketAddr, remote: SocketAddr) -> Option<SocketHandle> {
        self.connections.keys().copied().find(|handle| {
            let socket = self.sockets.get::<Socket>(*handle);
            socket.local_endpoint() == Some(local.into()) && socket.remote_endpoint() == Some(remote.into())
        })
    }

    pub(super) fn is_tcp_port_used(&self, port: u16) -> bool {
        self.listeners.values().any(|listener| listener.local.port == port)
            || self.connections.keys().any(|handle| {
                let local = self.sockets.get::<Socket>(*handle).local_endpoint();
                local.is_some_and(|local| local.port == port)
            })
    }

    /// Writes down how those ended that are closed since the last look.
    pub(super) fn note_ends(&mut self, cause: Cause) {
        for (handle, connection) in &mut self.connections {
            let state = self.sockets.get::<Socket>(*handle).state();
            if state == State::Closed && connection.cause.is_none() {
                connection.cause = Some(match (cause, connection.was) {
                    (Cause::Reset, State::SynSent) => Cause::Refused,
                    (Cause::TimedOut, State::TimeWait) => Cause::Finished,
                    _ => cause,
                });
            }
            connection.was = state;
        }
    }

    /// Gives up what could not be opened because nobody got its SYN.
    pub(super) fn note_refusals(&mut self) {
        for (segment, verdict) in std::mem::take(&mut self.wire.refusals) {
            let cause = if verdict == Verdict::NoRoute { Cause::NoRoute } else { Cause::Unreachable };
            self.give_up(&segment, cause);
        }
    }

    /// An ICMP error about a segment that left here: the end of a connection that is being opened, no news to one that is
    /// open (RFC 1122 section 4.2.3.9).
    pub(super) fn hear_unreachable(&mut self, about: &Segment, cause: Cause) {
        self.give_up(about, cause);
    }

    fn give_up(&mut self, segment: &Segment, cause: Cause) {
        let Some(handle) = self.between(segment.source, segment.destination) else { return };
        let socket = self.sockets.get_mut::<Socket>(handle);
        if socket.state() == State::SynSent {
            // Its peer never heard of it: no reset is sent there, as its dispatch finds no ends.
            *socket = nobody();
            if let Some(connection) = self.connections.get_mut(&handle) {
                connection.cause = Some(cause);
            }
        }
    }

    /// Sets each socket's timeout. smoltcp's also ends a connection that is idle: it stands only where an answer is due.
    pub(super) fn set_timeouts(&mut self) {
        let now = self.now;
        for (handle, connection) in &mut self.connections {
            let socket = self.sockets.get_mut::<Socket>(*handle);
            if connection.deaf {
                discard(socket);
            }
            if connection.finishing && socket.send_queue() == 0 {
                connection.finishing = false;
                socket.close();
            }
            if socket.state() == State::TimeWait {
                let rest = &mut connection.rest;
                let mut keep = |bytes: &mut [u8]| {
                    rest.extend_from_slice(bytes);
                    (bytes.len(), bytes.len())
                };
                while socket.recv(&mut keep).is_ok_and(|taken| taken > 0) {}
            }
            let timeout = match (socket.state(), connection.keepalive) {
                (State::Listen | State::SynSent | State::SynReceived | State::Closed, _) => continue,
                _ if socket.send_queue() > 0 => Some(paced(connection.timeout)),
                // Before the first probes could be answered, silence says nothing.
                (_, Some((interval, since))) if now >= since + interval.saturating_mul(PROBES) => {
                    Some(paced(interval.saturating_mul(PROBES)))
                }
                _ => None,
            };
            socket.set_timeout(timeout);
        }
    }
}

/// A socket that is closed and says nothing.
fn nobody() -> Socket<'static> {
    Socket::new(SocketBuffer::new(Vec::new()), SocketBuffer::new(Vec::new()))
}

/// Whether the peer has not acknowledged all of it.
fn is_undelivered(socket: &Socket<'_>) -> bool {
    match socket.state() {
        State::Closed => socket.remote_endpoint().is_some(),
        State::FinWait1 | State::Closing | State::LastAck | State::SynReceived => true,
        _ => socket.send_queue() > 0,
    }
}

/// Throws away what came.
pub(super) fn discard(socket: &mut Socket<'_>) {
    while socket.recv(|bytes| (bytes.len(), bytes.len())).is_ok_and(|taken| taken > 0) {}
}

/// A socket that is not open yet.
pub(super) fn new_socket(options: &TcpOptions) -> Socket<'static> {
    // Zeroed memory is the kernel's until it is written: a connection costs what it carries.
    let buffer = |bytes: usize| SocketBuffer::new(vec![0; bytes.clamp(1, 1 << 30)]);
    let mut socket = Socket::new(buffer(options.receive_buffer), buffer(options.send_buffer));
    socket.set_ack_delay(Some(paced(ACK_DELAY.as_nanos() as u64)));
    socket.set_nagle_enabled(!options.nodelay);
    socket.set_congestion_control(CongestionControl::Cubic);
    socket
}
