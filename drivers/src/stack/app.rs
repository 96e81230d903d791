//! Programs on a stack.

use super::{Outlet, Stack};

/// A program on a stack: a service, a traffic generator, a run of pings.
///
/// It never blocks and never reads a clock. Whoever drives the stack visits all its programs after anything came in, and
/// at the times that they asked for. A program opens its sockets at its first visit (only then is there a stack), keeps
/// what [`Stack::connect`], [`Stack::listen`] and [`Stack::open_udp`] returned, and gives it back by
/// [`Stack::close`] and its like, at the latest in [`App::leave`]. What it sends leaves when the visits are over.
///
/// Whoever started a program learns what came of it through a value that both share (an `Arc` with a mutex and a
/// condition variable: see `ping::PingRun`), also that it could not open a socket.
///
/// ```
/// use std::net::SocketAddr;
/// use vnet_drivers::stack::{App, Local, Outlet, Stack, Udp, UdpOptions};
///
/// /// Sends one datagram each second.
/// struct Beacon { to: SocketAddr, socket: Option<Udp>, next: u64, left: u32 }
///
/// impl App for Beacon {
///     fn visit(&mut self, stack: &mut Stack, _: &mut dyn Outlet, now: u64) -> Option<u64> {
///         if self.socket.is_none() {
///             match stack.open_udp(Local::port(0), &UdpOptions::default()) {
///                 Ok(socket) => self.socket = Some(socket),
///                 Err(_) => self.left = 0,    // told to whoever asked for the beacon
///             }
///         }
///         if let Some(socket) = &self.socket && now >= self.next && self.left > 0 {
///             let _ = stack.send_to(socket, b"here", self.to);
///             (self.next, self.left) = (now + 1_000_000_000, self.left - 1);
///         }
///         Some(self.next)
///     }
///
///     fn is_done(&self) -> bool {
///         self.left == 0
///     }
///
///     fn leave(&mut self, stack: &mut Stack) {
///         if let Some(socket) = self.socket.take() {
///             stack.close_udp(socket);
///         }
///     }
/// }
/// ```
pub trait App: Send {
    /// Does what can be done now and returns when to be visited next, in nanoseconds: `now` for at once, `None` for when
    /// something came in. Visits may come earlier.
    ///
    /// `outlet` is for those who make whole datagrams themselves.
    fn visit(&mut self, stack: &mut Stack, outlet: &mut dyn Outlet, now: u64) -> Option<u64>;

    /// Looks at an ICMP or ICMPv6 datagram that came, before the stack does. True: it was for this program alone.
    fn hear(&mut self, _datagram: &[u8], _now: u64) -> bool {
        false
    }

    /// Whether it is over: it is then asked to leave, and dropped.
    fn is_done(&self) -> bool;

    /// Gives its sockets back.
    fn leave(&mut self, _stack: &mut Stack) {}
}
