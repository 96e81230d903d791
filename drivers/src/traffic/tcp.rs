//! TCP: a source that sends as fast as it goes, and a sink.
//!
//! A stream begins with its flow, big-endian, in four bytes; zeros follow.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::share::{LEFT, LOOK, Share};
use super::tally::Tally;
use super::udp::{Amount, Sent};
use crate::stack::{App, Cause, Listening, Local, Outlet, Stack, Tcp, TcpOptions, TcpState};

/// How long a connection may take to be opened, and what was sent to be acknowledged at the end. In nanoseconds.
const PATIENCE: u64 = 5_000_000_000;

static ZEROS: [u8; 65536] = [0; 65536];

/// Why a connection did not come about, in words.
#[must_use]
pub fn told(cause: Cause) -> &'static str {
    match cause {
        Cause::Refused => "refused",
        Cause::Reset => "reset",
        Cause::TimedOut => "timed out",
        Cause::Unreachable | Cause::NoRoute => "unreachable",
        Cause::Finished => "closed",
    }
}

/// What a source sends.
#[derive(Clone, Debug)]
pub struct TcpFlow {
    /// Which flow it is.
    pub flow: u32,
    /// The source's address.
    pub from: IpAddr,
    /// The sink.
    pub to: SocketAddr,
    /// How much.
    pub amount: Amount,
}

/// Sends a stream.
pub struct TcpSource {
    flow: TcpFlow,
    share: Arc<Share<Sent>>,
    connection: Option<Tcp>,
    asked: u64,
    opened: Option<u64>,
    written: u64,
    finished: Option<u64>,
    done: bool,
}

impl TcpSource {
    /// A source, and what it does.
    #[must_use]
    pub fn new(flow: TcpFlow) -> (Self, Arc<Share<Sent>>) {
        let share = Share::new(Sent::default());
        let source = Self {
            flow,
            share: Arc::clone(&share),
            connection: None,
            asked: 0,
            opened: None,
            written: 0,
            finished: None,
            done: false,
        };
        (source, share)
    }

    fn end(&mut self, why: Option<String>, now: u64) -> Option<u64> {
        let written = self.written;
        self.share.with(|sent| {
            sent.failure = why;
            sent.bytes = written;
            sent.last = now;
        });
        self.done = true;
        None
    }

    /// Writes what there is room for, and closes when all is written.
    fn write(&mut self, stack: &mut Stack, connection: &Tcp, opened: u64, now: u64) -> Result<(), Cause> {
        let end = match self.flow.amount {
            Amount::Number(bytes) => bytes.max(4),
            Amount::Time(time) if now >= opened.saturating_add(time) => self.written,
            Amount::Time(_) => u64::MAX,
        };
        while self.written < end && !self.share.is_stopped() {
            let head = self.flow.flow.to_be_bytes();
            let piece = match head.get(self.written as usize..) {
                Some(rest) if !rest.is_empty() => rest,
                _ => &ZEROS[..],
            };
            let most = usize::try_from(end - self.written).unwrap_or(usize::MAX).min(piece.len());
            let taken = stack.send(connection, &piece[..most])?;
            if taken == 0 {
                break;
            }
            self.written += taken as u64;
        }
        if self.written >= end || self.share.is_stopped() {
            stack.finish(connection);
            self.finished = Some(now);
        }
        Ok(())
    }
}

impl App for TcpSource {
    fn visit(&mut self, stack: &mut Stack, _: &mut dyn Outlet, now: u64) -> Option<u64> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let local = Local { address: Some(self.flow.from), port: 0 };
                self.asked = now;
                match stack.connect(self.flow.to, local, &TcpOptions::default()) {
                    Ok(connection) => connection,
                    Err(why) => return self.end(Some(why.to_string()), now),
                }
            }
        };
        let state = stack.state(&connection);
        let over = match (state, self.finished) {
            (TcpState::Ended(Cause::Finished), Some(_)) => Some(None),
            (TcpState::Ended(cause), _) => {
                Some(Some(format!("the connection to {} was {}", self.flow.to, told(cause))))
            }
            (TcpState::Open, Some(_)) if stack.tcp(&connection).send_queue() == 0 => Some(None),
            (TcpState::Open, Some(since)) if now >= since + PATIENCE => {
                Some(Some(format!("{} did not take what was sent", self.flow.to)))
            }
            (TcpState::Connecting, _) if now >= self.asked + PATIENCE => {
                Some(Some(format!("{} did not answer", self.flow.to)))
            }
            _ => None,
        };
        if let Some(why) = over {
            self.connection = Some(connection);
            return self.end(why, now);
        }
        let mut wake = match state {
            TcpState::Connecting => now + LOOK,
            _ => self.finished.unwrap_or(now) + PATIENCE,
        };
        if state == TcpState::Open && self.finished.is_none() {
            let opened = *self.opened.get_or_insert(now);
            self.share.with(|sent| sent.first = opened);
            if let Err(cause) = self.write(stack, &connection, opened, now) {
                self.connection = Some(connection);
                return self.end(Some(format!("the connection to {} was {}", self.flow.to, told(cause))), now);
            }
            wake = match self.flow.amount {
                Amount::Time(time) if self.finished.is_none() => opened.saturating_add(time),
                _ => now + PATIENCE,
            };
        }
        self.connection = Some(connection);
        Some(wake)
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn leave(&mut self, stack: &mut Stack) {
        if let Some(connection) = self.connection.take() {
            stack.close(connection);
        }
    }
}

impl Drop for TcpSource {
    fn drop(&mut self) {
        if !self.done {
            self.share.with(|sent| sent.failure = Some(LEFT.into()));
        }
        self.share.finish();
    }
}

struct Incoming {
    connection: Tcp,
    head: Vec<u8>,
    /// Bytes that came before the flow was known.
    early: usize,
    flow: Option<usize>,
}

/// Takes streams in.
pub struct TcpSink {
    port: u16,
    flows: BTreeMap<u32, usize>,
    share: Arc<Share<Tally>>,
    listening: Option<Listening>,
    incoming: Vec<Incoming>,
    done: bool,
}

impl TcpSink {
    /// A sink for these flows on a port, and what arrives.
    #[must_use]
    pub fn new(port: u16, flows: &[u32]) -> (Self, Arc<Share<Tally>>) {
        let share = Share::new(Tally::new(flows.len()));
        let flows = flows.iter().enumerate().map(|(index, flow)| (*flow, index)).collect();
        let sink = Self { port, flows, share: Arc::clone(&share), listening: None, incoming: Vec::new(), done: false };
        (sink, share)
    }
}

impl App for TcpSink {
    fn visit(&mut self, stack: &mut Stack, _: &mut dyn Outlet, now: u64) -> Option<u64> {
        if self.listening.is_none() {
            match stack.listen(Local::port(self.port), self.flows.len(), &TcpOptions::default()) {
                Ok(listening) => {
                    self.listening = Some(listening);
                    self.share.with(|tally| tally.ready = true);
                }
                Err(why) => {
                    self.share.with(|tally| tally.failure = Some(why.to_string()));
                    self.done = true;
                    return None;
                }
            }
        }
        if let Some(listening) = &self.listening {
            while let Some(connection) = stack.accept(listening) {
                self.incoming.push(Incoming { connection, head: Vec::new(), early: 0, flow: None });
            }
        }
        let mut ended = Vec::new();
        for (index, incoming) in self.incoming.iter_mut().enumerate() {
            if is_ended(stack, incoming, &self.flows, &self.share, now) {
                ended.push(index);
            }
        }
        for index in ended.into_iter().rev() {
            stack.close(self.incoming.swap_remove(index).connection);
        }
        self.done = self.share.is_stopped();
        None
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn leave(&mut self, stack: &mut Stack) {
        for incoming in self.incoming.drain(..) {
            stack.abort(incoming.connection);
        }
        if let Some(listening) = self.listening.take() {
            stack.close_listening(listening);
        }
    }
}

/// Takes what came on a connection; true when its peer sends no more, or it is not of a flow that was announced.
fn is_ended(
    stack: &mut Stack,
    incoming: &mut Incoming,
    flows: &BTreeMap<u32, usize>,
    share: &Share<Tally>,
    now: u64,
) -> bool {
    loop {
        let head = &mut incoming.head;
        let taken = stack.take(&incoming.connection, |bytes| {
            let missing = 4 - head.len();
            head.extend_from_slice(&bytes[..missing.min(bytes.len())]);
            bytes.len()
        });
        let taken = match taken {
            Ok(Some(0)) | Err(_) => return true,
            Ok(None) => return false,
            Ok(Some(taken)) => taken,
        };
        if incoming.flow.is_none()
            && let Ok(head) = <[u8; 4]>::try_from(&incoming.head[..])
        {
            incoming.flow = flows.get(&u32::from_be_bytes(head)).copied();
            if incoming.flow.is_none() {
                return true;
            }
        }
        match incoming.flow {
            Some(flow) => {
                share.with(|tally| tally.flows[flow].arrive(taken + std::mem::take(&mut incoming.early), now))
            }
            None => incoming.early += taken,
        }
    }
}

impl Drop for TcpSink {
    fn drop(&mut self) {
        if !self.done {
            self.share.with(|tally| tally.failure = Some(LEFT.into()));
        }
        self.share.finish();
    }
}
