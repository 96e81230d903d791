//! What leaves a stack, and smoltcp's device.
//!
//! # Windows
//!
//! smoltcp announces its window in units of 2^scale bytes, rounded down, and takes it at its word: what comes behind the end
//! that it announced last is thrown away. As data comes in, the rounding makes that end move *back* by up to a unit
//! (RFC 9293 section 3.8.6.2.1 calls it shrinking the window, and says not to), and what a sender put there in good faith is
//! lost. Worse, a smoltcp sender can then forget to send it again: when the window closes its retransmission timer becomes a
//! probe, and when it opens that ends without another. And of a sender that is ahead of a window of nothing, smoltcp takes
//! not even acknowledgements: with both directions full, as under an echo, neither end ever moved again.
//!
//! So the last unit of every window stays unused, of those that we announce and of those that are announced to us: no end
//! that smoltcp remembers lies before it. It costs some bytes of a megabyte.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use vnet_base::{Sender, Verdict};

use super::SOCKETS;
use super::cut::cut;
use super::head::{Segment, addresses, is_tcp, tcp_header};
use super::mend::{is_echo_reply6, is_nothing, quote};

/// Where a stack's datagrams go: a NIC's [`Sender`], or a test's wire.
pub trait Outlet {
    /// Forwards a datagram; `None` when its receiver has no room, and nothing is lost yet.
    fn try_forward(&mut self, datagram: &[u8]) -> Option<Verdict>;

    /// Forwards a datagram, or loses it for want of room.
    fn forward(&mut self, datagram: &[u8]) -> Verdict;
}

/// Datagrams of one poll appear together: whoever drives the stack rings when it is done.
impl Outlet for Sender {
    #[inline]
    fn try_forward(&mut self, datagram: &[u8]) -> Option<Verdict> {
        Sender::try_forward(self, datagram, true)
    }

    #[inline]
    fn forward(&mut self, datagram: &[u8]) -> Verdict {
        Sender::forward(self, datagram, true)
    }
}

/// Loses all.
pub(super) struct Nowhere;

impl Outlet for Nowhere {
    fn try_forward(&mut self, _: &[u8]) -> Option<Verdict> {
        Some(Verdict::NoRoute)
    }

    fn forward(&mut self, _: &[u8]) -> Verdict {
        Verdict::NoRoute
    }
}

/// Bytes that may wait for room at one receiver: some windows. A receiver that is away for long must not hold all of a
/// sender's memory, and TCP sends again what is dropped.
const PATIENCE: usize = 4 << 20;

#[derive(Default)]
struct Queue {
    datagrams: VecDeque<Vec<u8>>,
    bytes: usize,
}

/// What stays of a stack's device from poll to poll.
pub(super) struct Wire {
    pub mtu: usize,
    /// What the next datagram that leaves in pieces is told apart by. It counts on from a number that the seed gave: no two
    /// of 65,536 datagrams that are on their way together have the same (RFC 6864 section 4.3), as random ones soon would.
    id: u32,
    scratch: Vec<u8>,
    waiting: BTreeMap<IpAddr, Queue>,
    /// SYNs that nobody got, with the verdict on each.
    pub refusals: Vec<(Segment, Verdict)>,
    /// How far each connection has ever sent: the sequence number behind it.
    sent: BTreeMap<Ends, u32>,
}

impl Wire {
    pub fn new(mtu: usize, seed: u64) -> Self {
        let id = scrambled(seed) as u32;
        Self { mtu, id, scratch: Vec::new(), waiting: BTreeMap::new(), refusals: Vec::new(), sent: BTreeMap::new() }
    }

    pub fn is_clear(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Tries again what found no room, in order, receiver by receiver.
    pub fn retry(&mut self, outlet: &mut dyn Outlet) {
        self.waiting.retain(|_, queue| {
            while let Some(first) = queue.datagrams.front() {
                if outlet.try_forward(first).is_none() {
                    return true;
                }
                queue.bytes -= first.len();
                queue.datagrams.pop_front();
            }
            false
        });
    }

    /// The device for one call of smoltcp: at most one datagram in, any number out.
    pub fn pass<'w>(&'w mut self, outlet: &'w mut dyn Outlet, incoming: Option<&'w [u8]>, to_many: bool) -> Pass<'w> {
        Pass { mtu: self.mtu, wire: self, outlet, incoming, to_many }
    }

    /// Sends a datagram that waits for nobody, in fragments where it is larger than the MTU.
    pub fn send(&mut self, datagram: &[u8], outlet: &mut dyn Outlet) -> Verdict {
        if datagram.len() <= self.mtu {
            return outlet.forward(datagram);
        }
        self.id = self.id.wrapping_add(1);
        cut(datagram, self.mtu, self.id, |piece| outlet.forward(piece))
    }

    fn send_segment(&mut self, length: usize, outlet: &mut dyn Outlet) {
        self.keep_ahead(length);
        hold_back(&mut self.scratch[..length]);
        let datagram = &self.scratch[..length];
        if !self.waiting.is_empty() || !matches!(outlet.try_forward(datagram), Some(Verdict::Delivered)) {
            self.send_slowly(length, outlet);
        }
    }

    /// Has a segment without data carry the highest sequence number that was sent, as RFC 9293 asks (SND.NXT). While smoltcp
    /// sends again, its acknowledgements carry the number that it is sending again, which the peer has behind it and does
    /// not accept. With both ends sending again, each would wait for an acknowledgement that the other throws away.
    fn keep_ahead(&mut self, length: usize) {
        let segment = &mut self.scratch[..length];
        let Some((ends, at, bare, next)) = place(segment) else { return };
        if self.sent.len() > 2 * SOCKETS {
            // Of connections that are over. Those that are not begin anew with their next segment.
            self.sent.clear();
        }
        let begins = segment[at + 13] & 2 != 0;
        if !bare || begins {
            let highest = self.sent.entry(ends).or_insert(next);
            if begins || next.wrapping_sub(*highest).cast_signed() > 0 {
                *highest = next;
            }
        } else if let Some(highest) = self.sent.get(&ends)
            && highest.wrapping_sub(next).cast_signed() > 0
        {
            let sum = u16::from_be_bytes([segment[at + 16], segment[at + 17]]);
            segment[at + 4..at + 8].copy_from_slice(&highest.to_be_bytes());
            segment[at + 16..at + 18].copy_from_slice(&updated(sum, next, *highest).to_be_bytes());
        }
    }

    /// A segment that found no room, might overtake another that did not, or found nobody.
    #[cold]
    fn send_slowly(&mut self, length: usize, outlet: &mut dyn Outlet) {
        let datagram = &self.scratch[..length];
        let Some((_, to)) = addresses(datagram) else { return };
        if !self.waiting.contains_key(&to)
            && let Some(verdict) = outlet.try_forward(datagram)
        {
            // What a filter or a router has taken is lost in silence, as on a real network, unless an ICMP error says so.
            if !matches!(verdict, Verdict::Delivered | Verdict::Filtered | Verdict::TtlExceeded)
                && let Some(segment) = Segment::of(datagram)
                && segment.is_first()
            {
                self.refusals.push((segment, verdict));
            }
            return;
        }
        let queue = self.waiting.entry(to).or_default();
        if queue.bytes + length > PATIENCE {
            outlet.forward(datagram);
        } else {
            queue.bytes += length;
            queue.datagrams.push_back(datagram.to_vec());
        }
    }
}

pub(super) struct Pass<'w> {
    /// What smoltcp is told of the MTU. It asks once, when an interface is made.
    pub mtu: usize,
    wire: &'w mut Wire,
    outlet: &'w mut dyn Outlet,
    incoming: Option<&'w [u8]>,
    to_many: bool,
}

pub(super) struct Incoming<'t>(&'t [u8]);

pub(super) struct Outgoing<'t> {
    wire: &'t mut Wire,
    outlet: &'t mut dyn Outlet,
    /// What this answers.
    about: Option<&'t [u8]>,
    to_many: bool,
}

impl Device for Pass<'_> {
    type RxToken<'t>
        = Incoming<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Outgoing<'t>
    where
        Self: 't;

    fn receive(&mut self, _: Instant) -> Option<(Incoming<'_>, Outgoing<'_>)> {
        let datagram = self.incoming.take()?;
        let outgoing = Outgoing { wire: self.wire, outlet: self.outlet, about: Some(datagram), to_many: self.to_many };
        Some((Incoming(datagram), outgoing))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_>> {
        Some(Outgoing { wire: self.wire, outlet: self.outlet, about: None, to_many: false })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

impl RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        if self.wire.scratch.len() < length {
            self.wire.scratch.resize(length, 0);
        }
        // smoltcp writes every byte, reserved ones of ICMP excepted: those must not be what was here before.
        let datagram = &mut self.wire.scratch[..length];
        datagram[..length.min(HEADERS)].fill(0);
        let result = f(datagram);
        if is_tcp(datagram) {
            if !self.to_many {
                self.wire.send_segment(length, self.outlet);
            }
            return result;
        }
        match self.about {
            // RFC 1122 sections 3.2.2 and 4.2.3.10, RFC 4443 section 2.4 (e): no error and no reset comes of these.
            Some(_) if self.to_many && !is_echo_reply6(datagram) => {}
            Some(about) if is_nothing(about) => {}
            about => {
                let mended = about.and_then(|about| quote(datagram, about));
                // Taken out, for the wire to cut it where it has to.
                let scratch = std::mem::take(&mut self.wire.scratch);
                self.wire.send(mended.as_deref().unwrap_or(&scratch[..length]), self.outlet);
                self.wire.scratch = scratch;
            }
        }
        result
    }
}

/// Has a segment announce a window that is smaller by one unit; see the head of this file.
pub(super) fn hold_back(datagram: &mut [u8]) {
    let Some(at) = tcp_header(datagram) else { return };
    let Some(header) = datagram.get_mut(at..at + 20) else { return };
    let window = u16::from_be_bytes([header[14], header[15]]);
    // That of a SYN is in bytes.
    if window > 0 && header[13] & 2 == 0 {
        let sum = u16::from_be_bytes([header[16], header[17]]);
        header[14..16].copy_from_slice(&(window - 1).to_be_bytes());
        header[16..18].copy_from_slice(&updated(sum, u32::from(window), u32::from(window - 1)).to_be_bytes());
    }
}

/// The ends of a connection: addresses, ports.
type Ends = (u128, u128, u32);

/// The ends of a TCP segment that smoltcp wrote, where its header starts, whether it takes no place in the sequence, and the
/// sequence number behind it.
fn place(segment: &[u8]) -> Option<(Ends, usize, bool, u32)> {
    let number = |at: usize| Some(u32::from_be_bytes(segment.get(at..at + 4)?.try_into().ok()?));
    let (from, to, at) = if segment[0] >> 4 == 4 {
        (u128::from(number(12)?), u128::from(number(16)?), usize::from(segment[0] & 15) * 4)
    } else {
        let address = |at: usize| Some(u128::from_be_bytes(segment.get(at..at + 16)?.try_into().ok()?));
        (address(8)?, address(24)?, 40)
    };
    let tcp = segment.get(at..at + 20)?;
    let flags = tcp[13];
    if flags & 4 != 0 {
        // A reset stands where it has to stand.
        return None;
    }
    let payload = segment.len().checked_sub(at + usize::from(tcp[12] >> 4) * 4)?;
    let takes = payload as u32 + u32::from(flags & 1 != 0) + u32::from(flags & 2 != 0);
    Some(((from, to, number(at)?), at, takes == 0, number(at + 4)?.wrapping_add(takes)))
}

/// The Internet checksum `sum` after a 32-bit word of what it covers has changed: RFC 1624.
fn updated(sum: u16, before: u32, after: u32) -> u16 {
    let half = |word: u32| (word >> 16) + (word & 0xffff);
    let mut total = u32::from(!sum) + half(!before) + half(after);
    while total > 0xffff {
        total = half(total);
    }
    !(total as u16)
}

/// A number that follows from another and looks like none: the finish of SplitMix64.
fn scrambled(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Bytes at the head of a datagram that hold all its headers.
const HEADERS: usize = 128;
