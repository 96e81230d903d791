//! What leaves a stack, and smoltcp's device.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use vnet_base::{Sender, Verdict};

use super::head::{Segment, addresses};
use super::mend::{is_echo_reply6, quote};

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
    scratch: Vec<u8>,
    waiting: BTreeMap<IpAddr, Queue>,
    /// SYNs that nobody got, with the verdict on each.
    pub refusals: Vec<(Segment, Verdict)>,
}

impl Wire {
    pub fn new(mtu: usize) -> Self {
        Self { mtu, scratch: Vec::new(), waiting: BTreeMap::new(), refusals: Vec::new() }
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
        Pass { wire: self, outlet, incoming, to_many }
    }

    fn send_segment(&mut self, length: usize, outlet: &mut dyn Outlet) {
        let datagram = &self.scratch[..length];
        if !self.waiting.is_empty() || !matches!(outlet.try_forward(datagram), Some(Verdict::Delivered)) {
            self.send_slowly(length, outlet);
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
            if verdict != Verdict::Delivered
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
        capabilities.max_transmission_unit = self.wire.mtu;
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
        let is_tcp = match datagram[0] >> 4 {
            4 => datagram[9] == 6,
            _ => datagram[6] == 6,
        };
        if is_tcp {
            if !self.to_many {
                self.wire.send_segment(length, self.outlet);
            }
            return result;
        }
        match self.about {
            // RFC 1122 sections 3.2.2 and 4.2.3.10, RFC 4443 section 2.4 (e): no error and no reset comes of these.
            Some(_) if self.to_many && !is_echo_reply6(datagram) => {}
            Some(about) => {
                let mended = quote(datagram, about);
                self.outlet.forward(mended.as_deref().unwrap_or(datagram));
            }
            None => {
                self.outlet.forward(datagram);
            }
        }
        result
    }
}

/// Bytes at the head of a datagram that hold all its headers.
const HEADERS: usize = 128;
