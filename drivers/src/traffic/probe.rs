//! One connection: does somebody listen, and what does it answer.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::share::{LEFT, LOOK, Share};
use super::tcp::told;
use crate::stack::{App, Local, Outlet, Stack, Tcp, TcpOptions, TcpState};

/// Bytes of an answer that are kept; a longer one is cut there.
pub const LONGEST: usize = 1 << 20;

/// What to ask.
#[derive(Clone, Debug)]
pub struct Question {
    /// Who asks.
    pub from: IpAddr,
    /// Who is asked.
    pub to: SocketAddr,
    /// What to send; empty to close as soon as the connection is open.
    pub request: Vec<u8>,
    /// Nanoseconds until all of it is given up.
    pub timeout: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// `open`, `refused`, `reset`, `timed out`, `unreachable`, or why it could not begin.
    pub state: String,
    /// Nanoseconds until the connection was open.
    pub connect: Option<u64>,
    /// What came, up to the end of the stream or [`LONGEST`] bytes.
    pub data: Vec<u8>,
}

/// Asks.
pub struct Probe {
    question: Question,
    share: Arc<Share<Answer>>,
    connection: Option<Tcp>,
    begun: u64,
    written: usize,
    done: bool,
}

impl Probe {
    /// A probe, and what comes of it.
    #[must_use]
    pub fn new(question: Question) -> (Self, Arc<Share<Answer>>) {
        let share = Share::new(Answer::default());
        let probe = Self { question, share: Arc::clone(&share), connection: None, begun: 0, written: 0, done: false };
        (probe, share)
    }

    fn end(&mut self, state: impl Into<String>) -> Option<u64> {
        let state = state.into();
        self.share.with(|answer| answer.state = state);
        self.done = true;
        None
    }

    /// Asks and listens on the open connection; true when it is over.
    fn talk(&mut self, stack: &mut Stack, connection: &Tcp, now: u64) -> bool {
        let passed = now - self.begun;
        self.share.with(|answer| _ = answer.connect.get_or_insert(passed));
        while self.written < self.question.request.len() {
            match stack.send(connection, &self.question.request[self.written..]) {
                Ok(0) | Err(_) => break,
                Ok(taken) => self.written += taken,
            }
        }
        if self.question.request.is_empty() {
            return true;
        }
        loop {
            let taken = self.share.with(|answer| {
                stack.take(connection, |bytes| {
                    answer.data.extend_from_slice(bytes);
                    bytes.len()
                })
            });
            match taken {
                Ok(None) => return false,
                Ok(Some(0)) | Err(_) => return true,
                Ok(Some(_)) if self.share.with(|answer| answer.data.len()) >= LONGEST => return true,
                Ok(Some(_)) => {}
            }
        }
    }
}

impl App for Probe {
    fn visit(&mut self, stack: &mut Stack, _: &mut dyn Outlet, now: u64) -> Option<u64> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                self.begun = now;
                let local = Local { address: Some(self.question.from), port: 0 };
                match stack.connect(self.question.to, local, &TcpOptions::default()) {
                    Ok(connection) => connection,
                    Err(why) => return self.end(why.to_string()),
                }
            }
        };
        let state = stack.state(&connection);
        // What came before the end is still there to be read.
        let over = match state {
            TcpState::Connecting => false,
            TcpState::Open => self.talk(stack, &connection, now),
            TcpState::Ended(_) => {
                self.share.with(|answer| answer.connect.is_none()) || self.talk(stack, &connection, now)
            }
        };
        self.connection = Some(connection);
        let deadline = self.begun.saturating_add(self.question.timeout);
        match state {
            TcpState::Ended(cause) if self.share.with(|answer| answer.connect.is_none() || answer.data.is_empty()) => {
                self.end(told(cause))
            }
            _ if over => self.end("open"),
            _ if now >= deadline || self.share.is_stopped() => self.end("timed out"),
            TcpState::Connecting => Some(deadline.min(now + LOOK)),
            _ => Some(deadline),
        }
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn leave(&mut self, stack: &mut Stack) {
        if let Some(connection) = self.connection.take() {
            match stack.state(&connection) {
                TcpState::Connecting => stack.abort(connection),
                _ => stack.close(connection),
            }
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if !self.done {
            self.share.with(|answer| answer.state = LEFT.into());
        }
        self.share.finish();
    }
}
