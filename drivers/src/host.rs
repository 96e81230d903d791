//! Kind `host`: a built-in TCP/IP stack (smoltcp) that answers ping, refuses closed ports, and can ping.
//!
//! Where smoltcp differs from what a Linux host puts on the wire, this driver puts it right: an ICMP error quotes the
//! datagram that it is about byte for byte (RFC 1122 section 3.2.2), and what is for a group or for everybody is answered
//! neither with an error nor with a reset, nor with an echo reply in IPv4 (RFC 1122 section 3.2.2.6 allows it; Linux does
//! it).

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};

use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};
use vnet_base::buffer::Damaged;
use vnet_base::{Sender, Verdict};

use crate::driver::{BUDGET, Driver, Next};
use crate::ping::{PingRequest, PingRun, Pinger, hear};
use crate::port::Port;

/// What is asked of a host from outside its worker.
#[derive(Default)]
pub struct HostInbox {
    mail: Mutex<Mail>,
}

#[derive(Default)]
struct Mail {
    pingers: Vec<Pinger>,
    closed: bool,
}

impl HostInbox {
    fn lock(&self) -> std::sync::MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a run of echo requests to the host; the caller wakes the host's worker.
    ///
    /// `ident` tells runs of one host apart. Without a source address of the destination's family nothing is sent, nor
    /// once the host has left the LAN.
    pub fn ping(&self, request: PingRequest, sources: &[IpAddr], ident: u16) -> Arc<PingRun> {
        let family = |source: &&IpAddr| source.is_ipv4() == request.destination.is_ipv4();
        let Some(source) = sources.iter().find(family) else {
            return Pinger::refused(&request, Verdict::NoRoute);
        };
        let mut mail = self.lock();
        if mail.closed {
            return Pinger::refused(&request, Verdict::NicDown);
        }
        let (pinger, run) = Pinger::new(request, *source, ident);
        mail.pingers.push(pinger);
        run
    }
}

/// A built-in host.
pub struct Host {
    interface: Interface,
    sockets: SocketSet<'static>,
    broadcasts: Vec<Ipv4Addr>,
    mtu: usize,
    inbox: Arc<HostInbox>,
    pingers: Vec<Pinger>,
    datagram: Vec<u8>,
}

impl Host {
    /// A host with these addresses, each with its prefix length in bits. `mtu` in bytes of IP; `seed` makes its choices.
    #[must_use]
    pub fn new(addresses: &[(IpAddr, u8)], mtu: usize, seed: u64, inbox: Arc<HostInbox>) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut nothing = Vec::new();
        let mut wire = Wire { mtu, incoming: None, outgoing: &mut |_, _| {}, scratch: &mut nothing };
        let mut interface = Interface::new(config, &mut wire, Instant::ZERO);
        interface.update_ip_addrs(|list| {
            for (address, bits) in addresses {
                // More addresses than smoltcp was built for are not its own; the binding refuses them before.
                let _ = list.push(IpCidr::new(IpAddress::from(*address), *bits));
            }
        });
        let sockets = SocketSet::new(Vec::new());
        let broadcasts = addresses.iter().filter_map(|(address, bits)| match address {
            IpAddr::V4(address) if *bits <= 30 => {
                Some(Ipv4Addr::from_bits(address.to_bits() | u32::MAX.checked_shr(u32::from(*bits)).unwrap_or(0)))
            }
            _ => None,
        });
        let broadcasts = broadcasts.collect();
        Self { interface, sockets, broadcasts, mtu, inbox, pingers: Vec::new(), datagram: Vec::new() }
    }

    /// Most addresses of one host.
    pub const ADDRESSES: usize = 8;

    /// Whether the datagram is for a group or for everybody.
    fn is_to_many(&self) -> bool {
        match self.datagram.first().map(|byte| byte >> 4) {
            Some(4) => self.datagram.get(16..20).is_some_and(|octets| {
                octets[0] >= 224 || self.broadcasts.iter().any(|broadcast| broadcast.octets() == octets)
            }),
            Some(6) => self.datagram.get(24) == Some(&0xff),
            _ => false,
        }
    }

    fn answer(&mut self, sender: &mut Sender, now: u64) {
        if let Some(heard) = hear(&self.datagram) {
            self.pingers.iter_mut().any(|pinger| pinger.take(&heard, now));
        }
        let to_many = self.is_to_many();
        let mut scratch = Vec::new();
        let mut outgoing = |reply: &mut Vec<u8>, about: &[u8]| {
            // RFC 1122 sections 3.2.2 and 4.2.3.10, RFC 4443 section 2.4 (e): no error and no reset comes of these.
            if to_many && !is_echo_reply6(reply) {
                return;
            }
            quote(reply, about);
            sender.forward(reply, true);
        };
        let mut wire =
            Wire { mtu: self.mtu, incoming: Some(&self.datagram), outgoing: &mut outgoing, scratch: &mut scratch };
        let time = Instant::from_micros(i64::try_from(now / 1000).unwrap_or(i64::MAX));
        self.interface.poll_ingress_single(time, &mut wire, &mut self.sockets);
    }
}

impl Driver for Host {
    fn visit(&mut self, port: &mut Port, now: u64) -> Result<Next, Damaged> {
        self.pingers.append(&mut self.inbox.lock().pingers);
        let mut taken = 0;
        while taken < BUDGET && port.receive(&mut self.datagram)? {
            self.answer(&mut port.sender, now);
            taken += 1;
        }
        let mut wake = None;
        for pinger in &mut self.pingers {
            let next = pinger.poll(now, |request| port.sender.forward(request, true));
            wake = [wake, next].into_iter().flatten().min();
        }
        self.pingers.retain(|pinger| !pinger.is_done());
        port.sender.ring();
        Ok(if taken == BUDGET { Next::Again } else { Next::At(wake) })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Runs that no visit has taken up are over too, or whoever waits for them would wait for ever.
        let mut mail = self.inbox.lock();
        mail.closed = true;
        mail.pingers.clear();
    }
}

/// Bytes of an ICMP error and its IP header that quote nothing.
const ERROR_HEADERS4: usize = 20 + 8;
const ERROR_HEADERS6: usize = 40 + 8;
/// Largest ICMP error: RFC 1812 section 4.3.2.3 for IPv4, RFC 4443 section 3.1 for IPv6. In bytes of IP.
const LARGEST_ERROR4: usize = 576;
const LARGEST_ERROR6: usize = 1280;

fn is_echo_reply6(reply: &[u8]) -> bool {
    reply.len() > 40 && reply[0] >> 4 == 6 && reply[6] == 58 && reply[40] == 129
}

/// Replaces what an ICMP error quotes by the datagram itself: smoltcp writes the quoted header anew and loses fields.
fn quote(reply: &mut Vec<u8>, about: &[u8]) {
    let is_error4 =
        reply.len() >= ERROR_HEADERS4 && reply[0] == 0x45 && reply[9] == 1 && [3, 11, 12].contains(&reply[20]);
    let is_error6 = reply.len() >= ERROR_HEADERS6 && reply[0] >> 4 == 6 && reply[6] == 58 && reply[40] < 128;
    let (headers, largest) = match (is_error4, is_error6) {
        (true, _) => (ERROR_HEADERS4, LARGEST_ERROR4),
        (_, true) => (ERROR_HEADERS6, LARGEST_ERROR6),
        _ => return,
    };
    reply.truncate(headers);
    reply.extend_from_slice(&about[..about.len().min(largest - headers)]);
    if is_error4 {
        let total = reply.len() as u16;
        reply[2..4].copy_from_slice(&total.to_be_bytes());
        set_checksum(reply, 0, 20, 10, 0);
        let end = reply.len();
        set_checksum(reply, 20, end, 22, 0);
    } else {
        let length = (reply.len() - 40) as u16;
        reply[4..6].copy_from_slice(&length.to_be_bytes());
        // The pseudo header, RFC 8200 section 8.1: both addresses, the length, the next header.
        let pseudo = sum(&reply[8..40]) + u32::from(length) + 58;
        let end = reply.len();
        set_checksum(reply, 40, end, 42, pseudo);
    }
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum()
}

/// The Internet checksum (RFC 1071) over `start..end`, stored at `at`.
fn set_checksum(datagram: &mut [u8], start: usize, end: usize, at: usize, pseudo: u32) {
    datagram[at..at + 2].fill(0);
    let mut total = sum(&datagram[start..end]) + pseudo;
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    datagram[at..at + 2].copy_from_slice(&(!(total as u16)).to_be_bytes());
}

type Outgoing<'w> = &'w mut dyn FnMut(&mut Vec<u8>, &[u8]);

/// smoltcp's device for one visit: at most one datagram in, any number out.
struct Wire<'w> {
    mtu: usize,
    incoming: Option<&'w [u8]>,
    outgoing: Outgoing<'w>,
    scratch: &'w mut Vec<u8>,
}

struct Incoming<'t>(&'t [u8]);
struct Outlet<'t> {
    outgoing: &'t mut dyn FnMut(&mut Vec<u8>, &[u8]),
    scratch: &'t mut Vec<u8>,
    about: &'t [u8],
}

impl Device for Wire<'_> {
    type RxToken<'t>
        = Incoming<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Outlet<'t>
    where
        Self: 't;

    fn receive(&mut self, _: Instant) -> Option<(Incoming<'_>, Outlet<'_>)> {
        let about = self.incoming.take()?;
        Some((Incoming(about), Outlet { outgoing: self.outgoing, scratch: self.scratch, about }))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outlet<'_>> {
        Some(Outlet { outgoing: self.outgoing, scratch: self.scratch, about: &[] })
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

impl TxToken for Outlet<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        self.scratch.clear();
        self.scratch.resize(length, 0);
        let result = f(self.scratch);
        (self.outgoing)(self.scratch, self.about);
        result
    }
}
