//! The TCP/IP stack: smoltcp, put right where a Linux host behaves otherwise, with listening, closing and waiting around.
//!
//! ```text
//!   mod       Stack: one datagram in, whatever is due out; never reads a clock
//!   wire      what leaves: to whom it may wait for room, what became of a SYN
//!   mend      ICMP errors made byte-exact
//!   cut       what is larger than the MTU, on its way out
//!   head      the few header fields that the stack looks at itself
//!   tcp       connections: opening, sending, receiving, how they ended
//!   close     what lives on after its owner let go of it
//!   listen    listening ports with a backlog
//!   udp       UDP sockets
//!   app       App: a program on a stack
//!   process   the stack of a process: which of its threads drives it
//!   mirror    a descriptor that polls as a socket
//! ```
//!
//! # Theory of operation
//!
//! A stack has no thread and no clock. Whoever drives it (a built-in host on its base worker, or the threads of a
//! process) hands it what came with [`Stack::receive`], lets programs use their sockets, then calls [`Stack::poll`],
//! which sends what is due and says when to be called next.
//!
//! **Nothing is lost on the way out for want of room.** A TCP segment whose receiver's input buffer is full waits in the
//! stack, behind others for the same receiver, and is tried again at the next poll; only beyond a bound is it dropped,
//! and counted as `buffer_full`. smoltcp would find out by its retransmission timer, a second later. UDP does not wait:
//! a datagram that finds no room is lost and counted, as everywhere.
//!
//! **Fragments.** Datagrams larger than the MTU leave in fragments, and fragments that come become datagrams before anybody
//! else sees them. smoltcp has one MTU for all that it sends. TCP has to know the NIC's, for its segments; everything else
//! must not, or smoltcp would not send what is larger. So there are two interfaces: one for TCP, one for the rest, which
//! believes in an MTU that nothing exceeds. Nobody listens to news of a smaller MTU on the way: TCP segments are never
//! larger than the MTU of the NIC, and do not become smaller.
//!
//! **Listening.** A smoltcp socket that listens becomes the first connection. So none does: for each SYN to a listening
//! port that has room in its backlog a socket is made, before smoltcp sees the SYN. A full backlog drops it unanswered,
//! as Linux does; a port where nobody listens answers with a reset, which smoltcp does by itself.
//!
//! **Hostile input.** Lengths, offsets and states are smoltcp's to check, numbers of sockets and bytes ours to bound. A
//! panic over a datagram ends one connection. One while sending cannot be told apart by connection: a built-in host is
//! then taken off the LAN by its worker, a process's stack refuses all further calls.

pub mod app;
mod close;
mod cut;
mod head;
mod listen;
mod mend;
mod mirror;
pub mod process;
mod tcp;
mod udp;
mod wire;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};

use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};
use vnet_base::Verdict;
use vnet_base::fragments::{self, Reassembler, Taken};

pub use app::App;
pub use close::LINGER;
pub use cut::cut;
pub(crate) use head::is_icmp;
pub use listen::Listening;
pub use smoltcp::socket::{tcp::Socket as TcpSocket, udp::Socket as UdpSocket};
pub use tcp::{Cause, Tcp, TcpOptions, TcpState};
pub use udp::{Udp, UdpError, UdpOptions};
pub use wire::Outlet;

use close::Orphan;
use head::Head;
use listen::Listener;
use tcp::Connection;
use wire::Wire;

/// Most sockets of one stack: connections, those that wait to be accepted or to end, and UDP ports.
pub const SOCKETS: usize = 4096;

/// Datagrams that each socket may send in one poll; what is left is due at once. Some windows of 1,500 bytes fit: whoever
/// has to be woken for them is woken seldom.
const ROUNDS: usize = 256;

/// How soon a segment that found no room is tried again, and a stack that smoltcp calls due without having anything to
/// send is looked at again. In nanoseconds.
const SOON: u64 = 50_000;

/// The ports that sockets get that ask for none: RFC 6335 section 6.
const EPHEMERAL: std::ops::RangeInclusive<u16> = 49_152..=65_535;

/// Where a socket is to be: an address of the stack, or any of them, and a port or 0 for an ephemeral one.
///
/// The unspecified IPv4 address means any IPv4 address; the unspecified IPv6 address, as `None`, any of both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// The address.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: u16,
}

impl Local {
    /// Any address with this port.
    #[must_use]
    pub fn port(port: u16) -> Self {
        Self { address: None, port }
    }

    fn takes(&self, address: IpAddr, port: u16) -> bool {
        self.port == port
            && match self.address {
                None => true,
                Some(IpAddr::V4(own)) if own.is_unspecified() => address.is_ipv4(),
                Some(IpAddr::V6(own)) if own.is_unspecified() => true,
                Some(own) => own == address,
            }
    }

    fn is_any(&self) -> bool {
        self.address.is_none_or(|address| address.is_unspecified())
    }

    fn collides(&self, other: &Self) -> bool {
        self.port == other.port && (self.is_any() || other.is_any() || self.address == other.address)
    }
}

/// Why a socket could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Another socket has the port.
    #[error("port {0} is taken")]
    Taken(u16),
    /// Every ephemeral port is taken.
    #[error("no ephemeral port is free")]
    NoPort,
    /// The local address is not the stack's.
    #[error("{0} is no address of this host")]
    NotOurs(IpAddr),
    /// The stack has no address of the remote's family.
    #[error("no address of this host can reach {0}")]
    NoFamily(IpAddr),
    /// The remote address or port cannot be sent to.
    #[error("{0} is nobody's address")]
    Nobody(std::net::SocketAddr),
    /// There are as many sockets as there can be.
    #[error("a stack has at most {SOCKETS} sockets")]
    TooMany,
}

/// The largest datagram that fragments make: RFC 8200 section 4.5.
const LARGEST: usize = 40 + 65_535;

/// A TCP/IP stack.
pub struct Stack {
    /// TCP's, which knows the MTU of the NIC.
    interface: Interface,
    sockets: SocketSet<'static>,
    /// Everything else's; see the theory of operation.
    other: Interface,
    ports: SocketSet<'static>,
    reassembler: Reassembler,
    wire: Wire,
    addresses: Vec<IpAddr>,
    broadcasts: Vec<Ipv4Addr>,
    connections: BTreeMap<SocketHandle, Connection>,
    udp: BTreeMap<SocketHandle, Local>,
    listeners: BTreeMap<u64, Listener>,
    orphans: Vec<Orphan>,
    ids: u64,
    next_port: u16,
    now: u64,
    faults: u64,
    incoming: Vec<u8>,
}

impl Stack {
    /// A stack with these addresses, each with its prefix length in bits. `mtu` in bytes of IP; `seed` makes its choices.
    #[must_use]
    pub fn new(addresses: &[(IpAddr, u8)], mtu: usize, seed: u64) -> Self {
        let mut wire = Wire::new(mtu, seed);
        let mut interface = |mtu| {
            let mut config = Config::new(HardwareAddress::Ip);
            config.random_seed = seed;
            let mut nowhere = wire::Nowhere;
            let mut device = wire.pass(&mut nowhere, None, false);
            device.mtu = mtu;
            let mut interface = Interface::new(config, &mut device, Instant::ZERO);
            interface.update_ip_addrs(|list| {
                for (address, bits) in addresses {
                    // More addresses than smoltcp was built for are not its own; the binding refuses them before.
                    let _ = list.push(IpCidr::new(IpAddress::from(*address), *bits));
                }
            });
            interface
        };
        let (tcp, other) = (interface(mtu), interface(LARGEST));
        let broadcasts = addresses.iter().filter_map(|(address, bits)| match address {
            IpAddr::V4(address) if *bits <= 30 => {
                Some(Ipv4Addr::from_bits(address.to_bits() | u32::MAX.checked_shr(u32::from(*bits)).unwrap_or(0)))
            }
            _ => None,
        });
        Self {
            interface: tcp,
            sockets: SocketSet::new(Vec::new()),
            other,
            ports: SocketSet::new(Vec::new()),
            reassembler: Reassembler::default(),
            wire,
            addresses: addresses.iter().map(|(address, _)| *address).collect(),
            broadcasts: broadcasts.collect(),
            connections: BTreeMap::new(),
            udp: BTreeMap::new(),
            listeners: BTreeMap::new(),
            orphans: Vec::new(),
            ids: 0,
            next_port: EPHEMERAL.start() + (seed % EPHEMERAL.len() as u64) as u16,
            now: 0,
            faults: 0,
            incoming: Vec::new(),
        }
    }

    /// Most addresses of one stack.
    pub const ADDRESSES: usize = 8;

    /// Its addresses.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// The largest datagram that it sends in one piece, in bytes of IP.
    #[must_use]
    pub fn mtu(&self) -> usize {
        self.wire.mtu
    }

    /// Makes a whole datagram of a fragment, in its place; true where it is whole, or was. `now` in nanoseconds.
    ///
    /// [`Stack::receive`] does so itself. This is for those who look at datagrams before the stack does.
    #[inline]
    pub fn gather(&mut self, datagram: &mut Vec<u8>, outlet: &mut dyn Outlet, now: u64) -> bool {
        !fragments::may_be_one(datagram) || self.gather_fragment(datagram, outlet, now)
    }

    #[cold]
    fn gather_fragment(&mut self, datagram: &mut Vec<u8>, outlet: &mut dyn Outlet, now: u64) -> bool {
        let to_many = self.is_to_many(datagram);
        if !to_many && head::addresses(datagram).is_none_or(|(_, to)| !self.addresses.contains(&to)) {
            return false;
        }
        let problem = match self.reassembler.take(datagram, now) {
            Taken::Whole => return true,
            Taken::Nothing => return false,
            Taken::Wrong(problem) => problem,
            Taken::Completed(whole) => {
                *datagram = whole;
                match fragments::nested(datagram) {
                    Some(problem) => problem,
                    None => return true,
                }
            }
        };
        if let Some(error) = mend::parameter_problem(datagram, problem).filter(|_| !to_many) {
            self.wire.send(&error, outlet);
        }
        false
    }

    /// Gives up datagrams whose fragments did not all come in time.
    fn tend_fragments(&mut self, outlet: &mut dyn Outlet) -> Option<u64> {
        let mut late = Vec::new();
        self.reassembler.expire(self.now, |first| late.push(first.to_vec()));
        for first in late {
            if let Some(error) = mend::reassembly_late(&first).filter(|_| !self.is_to_many(&first)) {
                self.wire.send(&error, outlet);
            }
        }
        self.reassembler.deadline()
    }

    /// Sends a datagram that a program made, in fragments where it is larger than the MTU, and says what became of it: of
    /// the first fragment that did not arrive, or of all. It does not wait for room.
    pub fn send_datagram(&mut self, datagram: &[u8], outlet: &mut dyn Outlet) -> Verdict {
        self.wire.send(datagram, outlet)
    }

    /// Takes in a datagram. What it calls for at once (an echo reply, a reset, an ICMP error) leaves at once; the rest at
    /// the next [`Stack::poll`]. `now` in nanoseconds.
    ///
    /// A datagram that smoltcp panics over is the end of the connection that it was for, and of nothing else.
    ///
    /// It is copied first: what lies in a ring another process may write over while it is being read.
    pub fn receive(&mut self, datagram: &[u8], outlet: &mut dyn Outlet, now: u64) {
        self.now = now;
        let mut copy = std::mem::take(&mut self.incoming);
        copy.clear();
        copy.extend_from_slice(datagram);
        if !self.gather(&mut copy, outlet, now) {
            self.incoming = copy;
            return;
        }
        wire::hold_back(&mut copy);
        if catch_unwind(AssertUnwindSafe(|| self.take_in(&copy, outlet))).is_err() {
            self.faults += 1;
            self.forget_ends(&copy);
        }
        self.incoming = copy;
    }

    fn take_in(&mut self, datagram: &[u8], outlet: &mut dyn Outlet) {
        let now = self.now;
        let head = Head::of(datagram);
        let opening = match &head {
            Some(Head::Tcp(segment)) if segment.is_first() => match self.admit(segment) {
                Some(opening) => opening,
                None => return,
            },
            Some(Head::Unreachable(about, cause)) => {
                self.hear_unreachable(about, *cause);
                None
            }
            _ => None,
        };
        let to_many = self.is_to_many(datagram);
        let mut pass = self.wire.pass(outlet, Some(datagram), to_many);
        if head::is_tcp(datagram) {
            self.interface.poll_ingress_single(instant(now), &mut pass, &mut self.sockets);
        } else {
            self.other.poll_ingress_single(instant(now), &mut pass, &mut self.ports);
        }
        if let Some(Head::Tcp(segment)) = &head
            && segment.is_reset()
        {
            self.note_ends(Cause::Reset);
        }
        if let Some((listener, handle)) = opening {
            self.check_opening(listener, handle);
        }
    }

    /// How many datagrams smoltcp panicked over.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.faults
    }

    /// Sends what is due, tends timers, and returns when to be called next, in nanoseconds of the caller's clock; `None`:
    /// when a datagram came or a program used a socket. The caller makes what was forwarded appear (`Sender::ring`).
    pub fn poll(&mut self, outlet: &mut dyn Outlet, now: u64) -> Option<u64> {
        self.now = now;
        let late = self.tend_fragments(outlet);
        let idle = self.connections.is_empty() && self.udp.is_empty() && self.wire.is_clear();
        if idle {
            return late;
        }
        // What ended before anything is sent ended by what came in; what ends while sending ends by a timer.
        self.note_ends(Cause::Finished);
        self.tend_listeners();
        self.set_timeouts();
        self.wire.retry(outlet);
        let (mut tcp, mut udp) = (true, !self.udp.is_empty());
        for _ in 0..ROUNDS {
            let mut pass = self.wire.pass(outlet, None, false);
            let changed = PollResult::SocketStateChanged;
            tcp = tcp && self.interface.poll_egress(instant(now), &mut pass, &mut self.sockets) == changed;
            udp = udp && self.other.poll_egress(instant(now), &mut pass, &mut self.ports) == changed;
            if !tcp && !udp {
                break;
            }
        }
        let due = tcp || udp;
        self.note_refusals();
        self.note_ends(Cause::TimedOut);
        let orphans = self.tend_orphans();
        let timers =
            [self.interface.poll_at(instant(now), &self.sockets), self.other.poll_at(instant(now), &self.ports)];
        let timers = timers.into_iter().flatten().min().map(|at| {
            let at = (u64::try_from(at.total_micros()).unwrap_or(0) * 1000).div_ceil(PACE);
            if due { at.max(now) } else { at.max(now + SOON) }
        });
        let retry = (!self.wire.is_clear()).then_some(now + SOON);
        [orphans, timers, retry, late].into_iter().flatten().min()
    }

    /// Whether every segment has left that a socket gave to the wire.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.wire.is_clear()
    }

    /// Whether the datagram is for a group or for everybody.
    fn is_to_many(&self, datagram: &[u8]) -> bool {
        match datagram.first().map(|byte| byte >> 4) {
            Some(4) => datagram.get(16..20).is_some_and(|octets| {
                octets[0] >= 224 || self.broadcasts.iter().any(|broadcast| broadcast.octets() == octets)
            }),
            Some(6) => datagram.get(24) == Some(&0xff),
            _ => false,
        }
    }

    fn room_for_socket(&self) -> Result<(), OpenError> {
        let sockets = self.connections.len() + self.udp.len();
        if sockets < SOCKETS { Ok(()) } else { Err(OpenError::TooMany) }
    }

    /// Refuses a local address that is not the stack's.
    fn check_ours(&self, local: &Local) -> Result<(), OpenError> {
        match local.address {
            Some(address) if !address.is_unspecified() && !self.addresses.contains(&address) => {
                Err(OpenError::NotOurs(address))
            }
            _ => Ok(()),
        }
    }

    /// The stack's address to send to `remote` from.
    fn source(&self, remote: IpAddr) -> Result<IpAddr, OpenError> {
        if !self.addresses.iter().any(|own| own.is_ipv4() == remote.is_ipv4()) {
            return Err(OpenError::NoFamily(remote));
        }
        self.interface.get_source_address(&remote.into()).map(IpAddr::from).ok_or(OpenError::NoFamily(remote))
    }

    /// An ephemeral port that is not `taken`.
    fn ephemeral(&mut self, taken: impl Fn(&Self, u16) -> bool) -> Result<u16, OpenError> {
        for _ in EPHEMERAL {
            let port = self.next_port;
            self.next_port = if port == *EPHEMERAL.end() { *EPHEMERAL.start() } else { port + 1 };
            if !taken(self, port) {
                return Ok(port);
            }
        }
        Err(OpenError::NoPort)
    }

    fn new_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }
}

/// How many times as fast as ours smoltcp's clock runs. It never sends again before a second is over (RFC 6298 section
/// 2.4), and nobody can tell it otherwise; in its hurry the second takes 200 ms, the least that Linux waits
/// (`TCP_RTO_MIN`) on networks that are slower than any of these. Where a datagram in a hundred is lost, a stream carries
/// several times as much for it (`tests/rust/stack`).
const PACE: u64 = 5;

/// A time of ours, in nanoseconds, by smoltcp's clock.
fn instant(now: u64) -> Instant {
    Instant::from_micros(i64::try_from(now / 1000 * PACE).unwrap_or(i64::MAX))
}

/// A length of time of ours, in nanoseconds, by smoltcp's clock.
fn paced(nanoseconds: u64) -> Duration {
    Duration::from_micros((nanoseconds / 1000).saturating_mul(PACE))
}
