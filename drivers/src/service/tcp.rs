//! TCP services: a listening port, and what becomes of each connection.

use super::http::Conversation;
use super::{Action, Post, Standing};
use crate::stack::{App, Listening, Local, Outlet, Stack, Tcp, TcpOptions, TcpState};

/// Connections that one service has at a time, and that wait until it takes them up.
const CONNECTIONS: usize = 1024;
const BACKLOG: usize = 128;

/// Bytes that an echo holds of one connection beside the stack's buffers.
const PENDING: usize = 64 * 1024;

/// How long an HTTP connection may say nothing, and how long one that was answered for good may go on sending, in
/// nanoseconds.
const IDLE: u64 = 60_000_000_000;
const DRAIN: u64 = 2_000_000_000;

pub(super) struct TcpService {
    port: u16,
    action: Action,
    post: Post,
    listening: Option<Listening>,
    connections: Vec<Served>,
}

/// One connection.
struct Served {
    tcp: Option<Tcp>,
    work: Work,
    heard: u64,
}

enum Work {
    Discard,
    Echo {
        pending: Vec<u8>,
        sent: usize,
    },
    Http(Box<Conversation>),
    /// The answer is out and no more will come: reads on, so that the peer is not reset before it has read it.
    Drain,
}

impl TcpService {
    pub fn new(port: u16, action: Action, post: Post) -> Self {
        Self { port, action, post, listening: None, connections: Vec::new() }
    }

    fn open(&mut self, stack: &mut Stack) {
        match stack.listen(Local::port(self.port), BACKLOG, &TcpOptions::default()) {
            Ok(listening) => {
                self.listening = Some(listening);
                self.post.set(Standing::Open);
            }
            Err(failure) => self.post.set(Standing::Failed(failure)),
        }
    }

    fn begin(&self) -> Work {
        match &self.action {
            Action::Discard => Work::Discard,
            Action::Echo => Work::Echo { pending: Vec::new(), sent: 0 },
            Action::Http(text) => Work::Http(Box::new(Conversation::new(text.clone()))),
        }
    }
}

impl App for TcpService {
    fn visit(&mut self, stack: &mut Stack, _: &mut dyn Outlet, now: u64) -> Option<u64> {
        if self.listening.is_none() && !self.post.is_over() {
            self.open(stack);
        }
        while self.connections.len() < CONNECTIONS
            && let Some(tcp) = self.listening.as_ref().and_then(|listening| stack.accept(listening))
        {
            let work = self.begin();
            self.connections.push(Served { tcp: Some(tcp), work, heard: now });
        }
        let mut wake: Option<u64> = None;
        self.connections.retain_mut(|connection| {
            let deadline = connection.serve(stack, now);
            wake = [wake, deadline].into_iter().flatten().min();
            connection.tcp.is_some()
        });
        wake
    }

    fn is_done(&self) -> bool {
        self.post.is_over()
    }

    fn leave(&mut self, stack: &mut Stack) {
        if let Some(listening) = self.listening.take() {
            stack.close_listening(listening);
        }
        for connection in &mut self.connections {
            if let Some(tcp) = connection.tcp.take() {
                stack.close(tcp);
            }
        }
    }
}

impl Served {
    /// Goes on with the connection, and returns when its patience is over.
    fn serve(&mut self, stack: &mut Stack, now: u64) -> Option<u64> {
        let tcp = self.tcp.as_ref()?;
        let (mut over, mut heard) = (matches!(stack.state(tcp), TcpState::Ended(_)), false);
        let mut drain = false;
        match &mut self.work {
            Work::Discard | Work::Drain => loop {
                match stack.take(tcp, <[u8]>::len) {
                    Ok(Some(taken)) if taken > 0 => {}
                    Ok(None) => break,
                    Ok(Some(_)) | Err(_) => {
                        over = true;
                        break;
                    }
                }
            },
            Work::Echo { pending, sent } => over |= !echo(stack, tcp, pending, sent),
            Work::Http(conversation) => match conversation.go_on(stack, tcp) {
                Ok(progress) => {
                    heard = progress.heard;
                    drain = progress.last;
                }
                Err(_) => over = true,
            },
        }
        if heard {
            self.heard = now;
        }
        if drain {
            stack.finish(tcp);
            self.work = Work::Drain;
            self.heard = now;
        }
        let deadline = match self.work {
            Work::Http(_) => Some(self.heard + IDLE),
            Work::Drain => Some(self.heard + DRAIN),
            Work::Discard | Work::Echo { .. } => None,
        };
        if (over || deadline.is_some_and(|deadline| now >= deadline))
            && let Some(tcp) = self.tcp.take()
        {
            stack.close(tcp);
            return None;
        }
        deadline
    }
}

/// Sends back what came. False when the peer has sent all and got all, or the connection is over.
fn echo(stack: &mut Stack, tcp: &Tcp, pending: &mut Vec<u8>, sent: &mut usize) -> bool {
    loop {
        if *sent == pending.len() {
            pending.clear();
            *sent = 0;
            let taken = stack.take(tcp, |bytes| {
                let length = bytes.len().min(PENDING);
                pending.extend_from_slice(&bytes[..length]);
                length
            });
            match taken {
                Ok(Some(taken)) if taken > 0 => {}
                Ok(None) => return true,
                Ok(Some(_)) | Err(_) => return false,
            }
        }
        match stack.send(tcp, &pending[*sent..]) {
            Ok(0) => return true,
            Ok(more) => *sent += more,
            Err(_) => return false,
        }
    }
}
