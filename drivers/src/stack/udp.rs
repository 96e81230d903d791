//! UDP sockets.

use std::net::{IpAddr, SocketAddr};

use smoltcp::iface::SocketHandle;
use smoltcp::socket::udp::{PacketBuffer, PacketMetadata, Socket, UdpMetadata};
use smoltcp::wire::{IpEndpoint, IpListenEndpoint};

use super::{Local, OpenError, Stack};

/// A UDP port on a stack. Its owner gives it back by [`Stack::close_udp`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a port stays taken until it is closed"]
pub struct Udp {
    pub(super) handle: SocketHandle,
}

/// What a UDP socket is made with: bytes and datagrams that may wait in each direction.
#[derive(Clone, Copy, Debug)]
pub struct UdpOptions {
    /// Bytes that may wait to be received.
    pub receive_buffer: usize,
    /// Bytes that may wait to be sent: until the next poll.
    pub send_buffer: usize,
    /// Datagrams that may wait, in each direction.
    pub datagrams: usize,
}

impl Default for UdpOptions {
    fn default() -> Self {
        // Two of the largest datagrams at least: of a ring of one and a half, the second would never fit.
        Self { receive_buffer: 512 * 1024, send_buffer: 256 * 1024, datagrams: 1024 }
    }
}

/// Why a UDP datagram was not taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UdpError {
    /// No room until the next poll.
    #[error("no room until others are sent")]
    Full,
    /// No datagram is that large, not even one that leaves in fragments.
    #[error("the datagram is larger than any can be")]
    TooLong,
    /// Nobody can be sent to there from here.
    #[error("nobody can be sent to there from here")]
    Unaddressable,
}

/// Most bytes of a UDP payload. The length of an IPv4 datagram counts its header (RFC 791), that of an IPv6 one does not
/// (RFC 8200).
fn largest(remote: IpAddr) -> usize {
    if remote.is_ipv4() { 65_535 - 20 - 8 } else { 65_535 - 8 }
}

impl Stack {
    /// Opens a UDP port.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub fn open_udp(&mut self, local: Local, options: &UdpOptions) -> Result<Udp, OpenError> {
        self.room_for_socket()?;
        self.check_ours(&local)?;
        let taken = |stack: &Self, port| stack.udp.values().any(|other| other.collides(&Local { port, ..local }));
        let port = match local.port {
            0 => self.ephemeral(taken)?,
            port if taken(self, port) => return Err(OpenError::Taken(port)),
            port => port,
        };
        let local = Local { port, ..local };
        let buffer = |bytes: usize| {
            PacketBuffer::new(vec![PacketMetadata::EMPTY; options.datagrams.max(1)], vec![0; bytes.max(1)])
        };
        let mut socket = Socket::new(buffer(options.receive_buffer), buffer(options.send_buffer));
        let addr = local.address.filter(|address| !address.is_unspecified()).map(Into::into);
        socket.bind(IpListenEndpoint { addr, port }).map_err(|_| OpenError::Taken(port))?;
        let handle = self.ports.add(socket);
        self.udp.insert(handle, local);
        Ok(Udp { handle })
    }

    /// Where the socket is.
    #[must_use]
    pub fn udp_at(&self, udp: &Udp) -> Local {
        self.udp.get(&udp.handle).copied().unwrap_or(Local::port(0))
    }

    /// The port's socket, for all that smoltcp does and the stack adds nothing to.
    #[must_use]
    pub fn udp(&mut self, udp: &Udp) -> &mut Socket<'static> {
        self.ports.get_mut(udp.handle)
    }

    /// Takes over a datagram, which leaves at the next poll.
    ///
    /// # Errors
    ///
    /// [`UdpError`].
    pub fn send_to(&mut self, udp: &Udp, payload: &[u8], remote: SocketAddr) -> Result<(), UdpError> {
        self.send_from(udp, payload, None, remote)
    }

    /// As [`Stack::send_to`], from this address of the stack.
    ///
    /// # Errors
    ///
    /// [`UdpError`].
    pub fn send_from(
        &mut self,
        udp: &Udp,
        payload: &[u8],
        local: Option<IpAddr>,
        remote: SocketAddr,
    ) -> Result<(), UdpError> {
        if payload.len() > largest(remote.ip()) {
            return Err(UdpError::TooLong);
        }
        let bound = self.udp_at(udp).address.filter(|address| !address.is_unspecified());
        let family = |own: &IpAddr| own.is_ipv4() == remote.is_ipv4();
        let reachable = bound.as_ref().map_or_else(|| self.addresses.iter().any(family), family);
        if !reachable || remote.port() == 0 || remote.ip().is_unspecified() {
            return Err(UdpError::Unaddressable);
        }
        let mut metadata = UdpMetadata::from(IpEndpoint::from(remote));
        metadata.local_address = local.map(Into::into);
        self.udp(udp).send_slice(payload, metadata).map_err(|_| UdpError::Full)
    }

    /// Hands the next datagram that came, and who sent it, to `take`. `None` when there is none.
    pub fn take_from<T>(&mut self, udp: &Udp, take: impl FnOnce(&[u8], SocketAddr) -> T) -> Option<T> {
        self.take_addressed(udp, |payload, remote, _| take(payload, remote))
    }

    /// As [`Stack::take_from`], with the stack's address that it was sent to; `None` where it was sent to many.
    pub fn take_addressed<T>(
        &mut self,
        udp: &Udp,
        take: impl FnOnce(&[u8], SocketAddr, Option<IpAddr>) -> T,
    ) -> Option<T> {
        let only4 = matches!(self.udp_at(udp).address, Some(IpAddr::V4(address)) if address.is_unspecified());
        loop {
            let (payload, metadata) = self.ports.get_mut::<Socket>(udp.handle).recv().ok()?;
            let local = metadata.local_address.map(IpAddr::from).filter(|local| self.addresses.contains(local));
            let remote = SocketAddr::new(metadata.endpoint.addr.into(), metadata.endpoint.port);
            if !only4 || remote.is_ipv4() {
                return Some(take(payload, remote, local));
            }
        }
    }

    /// Whether a datagram can be taken, and whether one can be sent.
    #[must_use]
    pub fn udp_ready(&self, udp: &Udp) -> (bool, bool) {
        let socket = self.ports.get::<Socket>(udp.handle);
        (socket.can_recv(), socket.can_send())
    }

    /// Gives the port back.
    pub fn close_udp(&mut self, udp: Udp) {
        self.udp.remove(&udp.handle);
        self.ports.remove(udp.handle);
    }
}
