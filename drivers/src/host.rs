//! Kind `host`: a built-in TCP/IP stack on its base worker, with whatever programs it was given: services, traffic,
//! pings.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use vnet_base::Verdict;
use vnet_base::buffer::Damaged;

use crate::driver::{BUDGET, Driver, Next};
use crate::ping::{PingRequest, PingRun, Pinger};
use crate::port::Port;
use crate::stack::{App, Stack, is_icmp};

/// What is asked of a host from outside its worker.
#[derive(Default)]
pub struct HostInbox {
    mail: Mutex<Mail>,
}

#[derive(Default)]
struct Mail {
    apps: Vec<Box<dyn App>>,
    closed: bool,
}

impl HostInbox {
    fn lock(&self) -> std::sync::MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a program to the host; the caller wakes the host's worker. False, and the program is dropped, once the host
    /// has left the LAN.
    pub fn run(&self, app: Box<dyn App>) -> bool {
        let mut mail = self.lock();
        if !mail.closed {
            mail.apps.push(app);
        }
        !mail.closed
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
        let refused = Pinger::refused(&request, Verdict::NicDown);
        let (pinger, run) = Pinger::new(request, *source, ident);
        if self.run(Box::new(pinger)) { run } else { refused }
    }
}

/// A built-in host.
pub struct Host {
    stack: Stack,
    inbox: Arc<HostInbox>,
    apps: Vec<Box<dyn App>>,
    datagram: Vec<u8>,
}

impl Host {
    /// A host with these addresses, each with its prefix length in bits. `mtu` in bytes of IP; `seed` makes its choices.
    #[must_use]
    pub fn new(addresses: &[(IpAddr, u8)], mtu: usize, seed: u64, inbox: Arc<HostInbox>) -> Self {
        Self { stack: Stack::new(addresses, mtu, seed), inbox, apps: Vec::new(), datagram: Vec::new() }
    }

    /// Most addresses of one host.
    pub const ADDRESSES: usize = Stack::ADDRESSES;
}

impl Driver for Host {
    fn visit(&mut self, port: &mut Port, now: u64) -> Result<Next, Damaged> {
        self.apps.append(&mut self.inbox.lock().apps);
        // 1 take in what came.
        let mut taken = 0;
        while taken < BUDGET && port.receive(&mut self.datagram)? {
            taken += 1;
            if !self.stack.gather(&mut self.datagram, &mut port.sender, now) {
                continue;
            }
            if !self.apps.is_empty() && is_icmp(&self.datagram) {
                self.apps.iter_mut().any(|app| app.hear(&self.datagram, now));
            }
            self.stack.receive(&self.datagram, &mut port.sender, now);
        }
        // 2 let the programs work.
        let mut wake: Option<u64> = None;
        for app in &mut self.apps {
            let next = app.visit(&mut self.stack, &mut port.sender, now);
            wake = [wake, next].into_iter().flatten().min();
        }
        self.apps.retain_mut(|app| {
            let done = app.is_done();
            if done {
                app.leave(&mut self.stack);
            }
            !done
        });
        // 3 send what is due, and make it appear.
        let next = self.stack.poll(&mut port.sender, now);
        port.sender.ring();
        wake = [wake, next].into_iter().flatten().min();
        Ok(if taken == BUDGET || wake.is_some_and(|wake| wake <= now) { Next::Again } else { Next::At(wake) })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Programs that no visit has taken up are over too, or whoever waits for them would wait for ever.
        let mut mail = self.inbox.lock();
        mail.closed = true;
        let apps = std::mem::take(&mut mail.apps);
        drop(mail);
        drop(apps);
    }
}
