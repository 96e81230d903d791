//! Echo requests, a program on a stack, and what comes of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4Message, Icmpv4Packet, Icmpv4Repr, Icmpv6Message, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv4Packet, Ipv4Repr,
    Ipv6Packet, Ipv6Repr,
};
use vnet_base::Verdict;

use crate::stack::{App, Outlet, Stack};

/// What to send.
#[derive(Clone, Debug)]
pub struct PingRequest {
    /// Whom to ask.
    pub destination: IpAddr,
    /// How many requests.
    pub count: u32,
    /// Nanoseconds between two requests; 0 sends the next when the last one is settled.
    pub interval: u64,
    /// Nanoseconds after which a request counts as lost.
    pub timeout: u64,
    /// Bytes of payload.
    pub size: usize,
    /// TTL or hop limit of the requests, 1 to 255.
    pub hop_limit: u8,
}

/// Nanoseconds for which an ICMP error is waited for that says more than the verdict on a request. Routers answer in
/// their sender's own thread, so it is there already, or does not come.
const GRACE: u64 = 1_000_000;

/// What became of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Not settled yet.
    Pending,
    /// Answered after so many nanoseconds.
    Reply(u64),
    /// Not even sent to anybody.
    Verdict(Verdict),
    /// An ICMP error came instead: its name in RFC 792 or RFC 4443, and who sent it.
    Error(&'static str, IpAddr),
    /// Nothing came in time.
    Lost,
}

/// A run of requests, shared between the host and whoever waits for it.
pub struct PingRun {
    answers: Mutex<(Vec<Answer>, bool)>,
    settled: Condvar,
}

impl PingRun {
    fn lock(&self) -> MutexGuard<'_, (Vec<Answer>, bool)> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answers, once all are settled; `None` when the time is over before.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> Option<Vec<Answer>> {
        let guard = self.lock();
        let (guard, _) =
            self.settled.wait_timeout_while(guard, timeout, |(_, done)| !*done).unwrap_or_else(PoisonError::into_inner);
        guard.1.then(|| guard.0.clone())
    }

    fn finish(&self) {
        self.lock().1 = true;
        self.settled.notify_all();
    }
}

/// One run at work in its host.
pub(crate) struct Pinger {
    request: PingRequest,
    source: IpAddr,
    ident: u16,
    run: Arc<PingRun>,
    /// When each request was sent, and the verdict on it unless it was delivered.
    sent: Vec<(u64, Option<Verdict>)>,
    next_at: u64,
    pending: usize,
}

impl Pinger {
    pub(crate) fn new(request: PingRequest, source: IpAddr, ident: u16) -> (Self, Arc<PingRun>) {
        let answers = vec![Answer::Pending; request.count as usize];
        let run = Arc::new(PingRun { answers: Mutex::new((answers, request.count == 0)), settled: Condvar::new() });
        (Self { request, source, ident, run: Arc::clone(&run), sent: Vec::new(), next_at: 0, pending: 0 }, run)
    }

    /// A run that no request can be sent for.
    pub(crate) fn refused(request: &PingRequest, verdict: Verdict) -> Arc<PingRun> {
        let answers = vec![Answer::Verdict(verdict); request.count as usize];
        Arc::new(PingRun { answers: Mutex::new((answers, true)), settled: Condvar::new() })
    }

    /// Sends what is due and settles what is overdue. Returns when to be called next.
    fn poll(&mut self, now: u64, mut send: impl FnMut(&[u8]) -> Verdict) -> Option<u64> {
        self.expire(now);
        while self.sent.len() < self.request.count as usize && self.due(now) {
            let index = self.sent.len();
            self.sent.push((now, None));
            self.next_at = now + self.request.interval;
            self.pending += 1;
            let verdict = send(&self.echo_request(index));
            self.sent[index].1 = (verdict != Verdict::Delivered).then_some(verdict);
        }
        if self.is_done() {
            self.run.finish();
            return None;
        }
        let expiry = self.next_expiry();
        let more = self.sent.len() < self.request.count as usize && self.request.interval > 0;
        [expiry, more.then_some(self.next_at)].into_iter().flatten().min()
    }

    fn due(&self, now: u64) -> bool {
        if self.request.interval == 0 { self.pending == 0 } else { now >= self.next_at }
    }

    /// When a request is given up.
    fn expiry(&self, (sent, verdict): (u64, Option<Verdict>)) -> u64 {
        sent.saturating_add(if verdict.is_some() { GRACE.min(self.request.timeout) } else { self.request.timeout })
    }

    fn next_expiry(&self) -> Option<u64> {
        let guard = self.run.lock();
        let pending = self.sent.iter().zip(&guard.0).filter(|(_, answer)| **answer == Answer::Pending);
        pending.map(|(sent, _)| self.expiry(*sent)).min()
    }

    fn expire(&mut self, now: u64) {
        let mut guard = self.run.lock();
        let mut settled = 0;
        for (sent, answer) in self.sent.iter().zip(&mut guard.0) {
            if *answer == Answer::Pending && now >= self.expiry(*sent) {
                *answer = sent.1.map_or(Answer::Lost, Answer::Verdict);
                settled += 1;
            }
        }
        drop(guard);
        self.pending -= settled;
    }

    fn settle(&mut self, index: usize, answer: Answer) {
        let mut guard = self.run.lock();
        if index < self.sent.len() && guard.0.get(index) == Some(&Answer::Pending) {
            guard.0[index] = answer;
            self.pending -= 1;
        }
    }

    fn payload(&self) -> Vec<u8> {
        (0..self.request.size).map(|index| index as u8).collect()
    }

    fn echo_request(&self, index: usize) -> Vec<u8> {
        let data = self.payload();
        let sums = ChecksumCapabilities::default();
        let seq_no = index as u16 + 1;
        match (self.source, self.request.destination) {
            (IpAddr::V4(src_addr), IpAddr::V4(dst_addr)) => {
                let icmp = Icmpv4Repr::EchoRequest { ident: self.ident, seq_no, data: &data };
                let ip = Ipv4Repr {
                    src_addr,
                    dst_addr,
                    next_header: IpProtocol::Icmp,
                    payload_len: icmp.buffer_len(),
                    hop_limit: self.request.hop_limit,
                };
                let mut datagram = vec![0; ip.buffer_len() + icmp.buffer_len()];
                ip.emit(&mut Ipv4Packet::new_unchecked(&mut datagram), &sums);
                icmp.emit(&mut Icmpv4Packet::new_unchecked(&mut datagram[ip.buffer_len()..]), &sums);
                datagram
            }
            (IpAddr::V6(src_addr), IpAddr::V6(dst_addr)) => {
                let icmp = Icmpv6Repr::EchoRequest { ident: self.ident, seq_no, data: &data };
                let ip = Ipv6Repr {
                    src_addr,
                    dst_addr,
                    next_header: IpProtocol::Icmpv6,
                    payload_len: icmp.buffer_len(),
                    hop_limit: self.request.hop_limit,
                };
                let mut datagram = vec![0; ip.buffer_len() + icmp.buffer_len()];
                ip.emit(&mut Ipv6Packet::new_unchecked(&mut datagram));
                let body = &mut Icmpv6Packet::new_unchecked(&mut datagram[ip.buffer_len()..]);
                icmp.emit(&src_addr, &dst_addr, body, &sums);
                datagram
            }
            _ => Vec::new(),
        }
    }

    /// Takes an answer to this run, if the datagram is one.
    fn take(&mut self, heard: &Heard, now: u64) -> bool {
        if heard.ident != self.ident || heard.peer.is_some_and(|peer| peer != self.request.destination) {
            return false;
        }
        let index = usize::from(heard.seq_no.wrapping_sub(1));
        let Some((sent, _)) = self.sent.get(index) else { return false };
        let answer = match heard.error {
            Some((name, from)) => Answer::Error(name, from),
            // A reply must bring back what was sent (RFC 792, RFC 4443 section 4.2); anything else is not an answer.
            None if heard.data != self.payload() => return false,
            None => Answer::Reply(now.saturating_sub(*sent)),
        };
        self.settle(index, answer);
        true
    }
}

impl App for Pinger {
    fn visit(&mut self, stack: &mut Stack, outlet: &mut dyn Outlet, now: u64) -> Option<u64> {
        self.poll(now, |request| stack.send_datagram(request, outlet))
    }

    fn hear(&mut self, datagram: &[u8], now: u64) -> bool {
        hear(datagram).is_some_and(|heard| self.take(&heard, now))
    }

    fn is_done(&self) -> bool {
        self.pending == 0 && self.sent.len() == self.request.count as usize
    }
}

impl Drop for Pinger {
    fn drop(&mut self) {
        self.expire(u64::MAX / 2);
        let mut guard = self.run.lock();
        for answer in guard.0.iter_mut().filter(|answer| **answer == Answer::Pending) {
            *answer = Answer::Lost;
        }
        drop(guard);
        self.run.finish();
    }
}

/// An echo reply, or an ICMP error about an echo request.
struct Heard {
    ident: u16,
    seq_no: u16,
    peer: Option<IpAddr>,
    data: Vec<u8>,
    error: Option<(&'static str, IpAddr)>,
}

/// Reads an answer out of a datagram; `None` for all that is not one, or is damaged.
fn hear(datagram: &[u8]) -> Option<Heard> {
    match datagram.first()? >> 4 {
        4 => hear4(datagram),
        6 => hear6(datagram),
        _ => None,
    }
}

fn hear4(datagram: &[u8]) -> Option<Heard> {
    let ip = Ipv4Packet::new_checked(datagram).ok()?;
    if ip.next_header() != IpProtocol::Icmp || ip.frag_offset() != 0 || !ip.verify_checksum() {
        return None;
    }
    let icmp = Icmpv4Packet::new_checked(ip.payload()).ok()?;
    if !matches!(
        icmp.msg_type(),
        Icmpv4Message::EchoReply
            | Icmpv4Message::DstUnreachable
            | Icmpv4Message::TimeExceeded
            | Icmpv4Message::ParamProblem
    ) || !icmp.verify_checksum()
    {
        return None;
    }
    if icmp.msg_type() == Icmpv4Message::EchoReply {
        return Some(Heard {
            ident: icmp.echo_ident(),
            seq_no: icmp.echo_seq_no(),
            peer: Some(ip.src_addr().into()),
            data: icmp.data().to_vec(),
            error: None,
        });
    }
    // Behind the ICMP header of 8 bytes: the datagram that it is about, cut at will (RFC 792).
    let quoted = ip.payload().get(8..)?;
    let header = usize::from(*quoted.first()? & 15) * 4;
    let echo = quoted.get(header..header + 8)?;
    if quoted.get(9) != Some(&1) || echo[0] != 8 {
        return None;
    }
    let peer: [u8; 4] = quoted.get(16..20)?.try_into().ok()?;
    let error = match (icmp.msg_type(), icmp.msg_code()) {
        (Icmpv4Message::DstUnreachable, 0) => "network unreachable",
        (Icmpv4Message::DstUnreachable, 1) => "host unreachable",
        (Icmpv4Message::DstUnreachable, 2) => "protocol unreachable",
        (Icmpv4Message::DstUnreachable, 3) => "port unreachable",
        (Icmpv4Message::DstUnreachable, 4) => "fragmentation needed",
        (Icmpv4Message::DstUnreachable, 13) => "administratively prohibited",
        (Icmpv4Message::DstUnreachable, _) => "destination unreachable",
        (Icmpv4Message::TimeExceeded, _) => "time exceeded",
        _ => "parameter problem",
    };
    Some(about(echo, Ipv4Addr::from(peer).into(), (error, ip.src_addr().into())))
}

fn hear6(datagram: &[u8]) -> Option<Heard> {
    let ip = Ipv6Packet::new_checked(datagram).ok()?;
    if ip.next_header() != IpProtocol::Icmpv6 {
        return None;
    }
    let icmp = Icmpv6Packet::new_checked(ip.payload()).ok()?;
    if !icmp.verify_checksum(&ip.src_addr(), &ip.dst_addr()) {
        return None;
    }
    let error = match (icmp.msg_type(), icmp.msg_code()) {
        (Icmpv6Message::EchoReply, _) => {
            return Some(Heard {
                ident: icmp.echo_ident(),
                seq_no: icmp.echo_seq_no(),
                peer: Some(ip.src_addr().into()),
                data: icmp.payload().to_vec(),
                error: None,
            });
        }
        (Icmpv6Message::DstUnreachable, 0) => "no route to destination",
        (Icmpv6Message::DstUnreachable, 1) => "administratively prohibited",
        (Icmpv6Message::DstUnreachable, 3) => "address unreachable",
        (Icmpv6Message::DstUnreachable, 4) => "port unreachable",
        (Icmpv6Message::DstUnreachable, _) => "destination unreachable",
        (Icmpv6Message::PktTooBig, _) => "packet too big",
        (Icmpv6Message::TimeExceeded, _) => "time exceeded",
        (Icmpv6Message::ParamProblem, _) => "parameter problem",
        _ => return None,
    };
    let quoted = ip.payload().get(8..)?;
    let echo = quoted.get(40..48)?;
    if quoted.get(6) != Some(&58) || echo[0] != 128 {
        return None;
    }
    let peer: [u8; 16] = quoted.get(24..40)?.try_into().ok()?;
    Some(about(echo, Ipv6Addr::from(peer).into(), (error, ip.src_addr().into())))
}

fn about(echo: &[u8], peer: IpAddr, error: (&'static str, IpAddr)) -> Heard {
    let word = |at: usize| u16::from_be_bytes([echo[at], echo[at + 1]]);
    Heard { ident: word(4), seq_no: word(6), peer: Some(peer), data: Vec::new(), error: Some(error) }
}
