//! UDP: a source that sends at a rate, and a sink.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use vnet_base::Verdict;

use super::datagram::{self, Mark, headers};
use super::pace::{Pace, Rate};
use super::share::{LEFT, Share};
use super::tally::Tally;
use crate::stack::{App, Local, Outlet, Stack, Udp, UdpOptions};

/// Datagrams of one visit, so that others get their turn.
const BURST: usize = 64;

/// How far a source may be behind its rate at the end of its time and still make up for it; beyond that the rate cannot
/// be kept, and the source ends with what it has sent. In nanoseconds.
const BEHIND: u64 = 50_000_000;

/// How much a source sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// For so many nanoseconds.
    Time(u64),
    /// So many datagrams, or bytes of a stream.
    Number(u64),
}

/// What a source sends.
#[derive(Clone, Debug)]
pub struct UdpFlow {
    /// Which flow it is.
    pub flow: u32,
    /// The source's address.
    pub from: IpAddr,
    /// The sink.
    pub to: SocketAddr,
    /// Bytes of IP of the datagrams, which take turns.
    pub sizes: Vec<usize>,
    /// How fast.
    pub rate: Rate,
    /// How much.
    pub amount: Amount,
}

/// What a source did; times in nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// Datagrams; of TCP, 0.
    pub datagrams: u64,
    /// Bytes: of IP for UDP, of the stream for TCP.
    pub bytes: u64,
    /// What became of the datagrams, by verdict.
    pub verdicts: [u64; Verdict::ALL.len()],
    /// When it began: the first datagram, or the open connection.
    pub first: u64,
    /// When it ended: the next datagram would have been due, or all was acknowledged.
    pub last: u64,
    /// Why it could not do it.
    pub failure: Option<String>,
}

/// Sends a flow.
pub struct UdpSource {
    flow: UdpFlow,
    share: Arc<Share<Sent>>,
    socket: Option<Udp>,
    port: u16,
    begun: Option<u64>,
    pace: Pace,
    number: u32,
    datagram: Vec<u8>,
    done: bool,
}

impl UdpSource {
    /// A source, and what it does.
    #[must_use]
    pub fn new(flow: UdpFlow) -> (Self, Arc<Share<Sent>>) {
        let share = Share::new(Sent::default());
        let pace = Pace::new(flow.rate);
        let source = Self {
            flow,
            share: Arc::clone(&share),
            socket: None,
            port: 0,
            begun: None,
            pace,
            number: 0,
            datagram: Vec::new(),
            done: false,
        };
        (source, share)
    }

    fn fail(&mut self, why: String) -> Option<u64> {
        self.share.with(|sent| sent.failure = Some(why));
        self.done = true;
        None
    }

    /// Whether all is sent, when the next datagram is due `due` nanoseconds after the beginning.
    fn is_complete(&self, due: u64, passed: u64) -> bool {
        match self.flow.amount {
            Amount::Number(number) => u64::from(self.number) >= number,
            Amount::Time(time) => due >= time || passed >= time.saturating_add(BEHIND),
        }
    }
}

impl App for UdpSource {
    fn visit(&mut self, stack: &mut Stack, outlet: &mut dyn Outlet, now: u64) -> Option<u64> {
        if self.socket.is_none() {
            // The socket holds the port, and takes what comes back to it.
            match stack.open_udp(Local { address: Some(self.flow.from), port: 0 }, &small()) {
                Ok(socket) => {
                    self.port = stack.udp_at(&socket).port;
                    self.socket = Some(socket);
                }
                Err(why) => return self.fail(why.to_string()),
            }
        }
        let begun = *self.begun.get_or_insert(now);
        let from = SocketAddr::new(self.flow.from, self.port);
        let (mut sent, mut verdicts, mut bytes) = (0, [0u64; Verdict::ALL.len()], 0u64);
        let next = loop {
            let due = self.pace.due();
            if self.share.is_stopped() || self.is_complete(due, now - begun) {
                self.done = true;
                break None;
            }
            let at = begun.saturating_add(due);
            if at > now || sent == BURST {
                break Some(at.max(now));
            }
            let size = self.flow.sizes[self.number as usize % self.flow.sizes.len()];
            let mark = Mark { flow: self.flow.flow, number: self.number, departure: now };
            datagram::write(&mut self.datagram, from, self.flow.to, size, &mark);
            verdicts[stack.send_datagram(&self.datagram, outlet) as usize] += 1;
            bytes += self.datagram.len() as u64;
            self.pace.count(size);
            self.number = self.number.wrapping_add(1);
            sent += 1;
        };
        let last = begun.saturating_add(self.pace.due()).max(now);
        self.share.with(|report| {
            report.datagrams += sent as u64;
            report.bytes += bytes;
            report.first = begun;
            if sent > 0 {
                report.last = last;
            }
            for (total, more) in report.verdicts.iter_mut().zip(verdicts) {
                *total += more;
            }
        });
        next
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn leave(&mut self, stack: &mut Stack) {
        if let Some(socket) = self.socket.take() {
            stack.close_udp(socket);
        }
    }
}

impl Drop for UdpSource {
    fn drop(&mut self) {
        if !self.done {
            self.share.with(|sent| sent.failure = Some(LEFT.into()));
        }
        self.share.finish();
    }
}

fn small() -> UdpOptions {
    UdpOptions { receive_buffer: 4096, send_buffer: 1, datagrams: 4 }
}

/// Takes flows in.
pub struct UdpSink {
    port: u16,
    flows: BTreeMap<u32, usize>,
    share: Arc<Share<Tally>>,
    socket: Option<Udp>,
    done: bool,
}

impl UdpSink {
    /// A sink for these flows on a port, and what arrives.
    #[must_use]
    pub fn new(port: u16, flows: &[u32]) -> (Self, Arc<Share<Tally>>) {
        let share = Share::new(Tally::new(flows.len()));
        let flows = flows.iter().enumerate().map(|(index, flow)| (*flow, index)).collect();
        (Self { port, flows, share: Arc::clone(&share), socket: None, done: false }, share)
    }
}

impl App for UdpSink {
    fn visit(&mut self, stack: &mut Stack, _: &mut dyn Outlet, now: u64) -> Option<u64> {
        if self.socket.is_none() {
            match stack.open_udp(Local::port(self.port), &UdpOptions::default()) {
                Ok(socket) => {
                    self.socket = Some(socket);
                    self.share.with(|tally| tally.ready = true);
                }
                Err(why) => {
                    self.share.with(|tally| tally.failure = Some(why.to_string()));
                    self.done = true;
                    return None;
                }
            }
        }
        if let Some(socket) = &self.socket {
            let flows = &self.flows;
            self.share.with(|tally| {
                let mut take = |payload: &[u8], from: SocketAddr| {
                    let Some(mark) = Mark::read(payload) else { return };
                    let Some(index) = flows.get(&mark.flow) else { return };
                    let size = payload.len() + headers(from.ip());
                    if let Some(latency) = tally.flows[*index].take(&mark, size, now) {
                        tally.note(latency);
                    }
                };
                while stack.take_from(socket, &mut take).is_some() {}
            });
        }
        self.done = self.share.is_stopped();
        None
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn leave(&mut self, stack: &mut Stack) {
        if let Some(socket) = self.socket.take() {
            stack.close_udp(socket);
        }
    }
}

impl Drop for UdpSink {
    fn drop(&mut self) {
        if !self.done {
            self.share.with(|tally| tally.failure = Some(LEFT.into()));
        }
        self.share.finish();
    }
}
