//! UDP services.

use super::{Post, Standing};
use crate::stack::{App, Local, Outlet, Stack, Udp, UdpOptions};

pub(super) struct UdpService {
    port: u16,
    echo: bool,
    post: Post,
    socket: Option<Udp>,
    payload: Vec<u8>,
}

/// Datagrams that are answered in one visit.
const TURN: usize = 256;

impl UdpService {
    pub fn new(port: u16, echo: bool, post: Post) -> Self {
        Self { port, echo, post, socket: None, payload: Vec::new() }
    }
}

impl App for UdpService {
    fn visit(&mut self, stack: &mut Stack, _: &mut dyn Outlet, now: u64) -> Option<u64> {
        if self.socket.is_none() && !self.post.is_over() {
            match stack.open_udp(Local::port(self.port), &UdpOptions::default()) {
                Ok(socket) => {
                    self.socket = Some(socket);
                    self.post.set(Standing::Open);
                }
                Err(failure) => self.post.set(Standing::Failed(failure)),
            }
        }
        let socket = self.socket.as_ref()?;
        let payload = &mut self.payload;
        for _ in 0..TURN {
            if self.echo && !stack.udp_ready(socket).1 {
                // What waits to be sent leaves after this visit.
                return Some(now);
            }
            let (remote, local) = stack.take_addressed(socket, |bytes, remote, local| {
                payload.clear();
                payload.extend_from_slice(bytes);
                (remote, local)
            })?;
            // Two echo services would send one datagram to and fro for ever.
            if self.echo && remote.port() != self.port {
                let _ = stack.send_from(socket, payload, local, remote);
            }
        }
        Some(now)
    }

    fn is_done(&self) -> bool {
        self.post.is_over()
    }

    fn leave(&mut self, stack: &mut Stack) {
        if let Some(socket) = self.socket.take() {
            stack.close_udp(socket);
        }
    }
}
