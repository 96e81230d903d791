//! Services of built-in hosts: programs on a stack that answer whoever comes.
//!
//! ```text
//!   tcp   accepts connections and has each served: discard, echo, HTTP
//!   http  requests taken apart (httparse), answers put together
//!   udp   discard, echo
//! ```

mod http;
mod tcp;
mod udp;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::stack::{App, OpenError};

/// What a service does with what comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Takes it and says nothing: RFC 863.
    Discard,
    /// Sends it back: RFC 862.
    Echo,
    /// Answers each HTTP request with this text. TCP only.
    Http(Arc<[u8]>),
}

/// Where a service is offered, and what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// TCP, or else UDP.
    pub tcp: bool,
    /// The port.
    pub port: u16,
    /// What it does.
    pub action: Action,
}

/// How a service stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its host has not got to it yet.
    Starting,
    /// It answers.
    Open,
    /// It could not be opened.
    Failed(OpenError),
    /// It is over: it was closed, or its host left the LAN.
    Over,
}

/// A service, shared between its host and whoever asked for it.
#[derive(Debug)]
pub struct Service {
    state: Mutex<(Standing, bool)>,
    changed: Condvar,
}

impl Service {
    /// The program for a host, and the handle of whoever asked for it.
    #[must_use]
    pub fn start(offer: Offer) -> (Box<dyn App>, Arc<Self>) {
        let service = Arc::new(Self { state: Mutex::new((Standing::Starting, false)), changed: Condvar::new() });
        let post = Post(Arc::clone(&service));
        let app: Box<dyn App> = if offer.tcp {
            Box::new(tcp::TcpService::new(offer.port, offer.action, post))
        } else {
            Box::new(udp::UdpService::new(offer.port, offer.action == Action::Echo, post))
        };
        (app, service)
    }

    fn lock(&self) -> MutexGuard<'_, (Standing, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is no longer starting, and says how it stands.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> Standing {
        let starting = |(standing, _): &mut (Standing, bool)| *standing == Standing::Starting;
        let waited = self.changed.wait_timeout_while(self.lock(), timeout, starting);
        waited.unwrap_or_else(PoisonError::into_inner).0.0
    }

    /// Asks it to end; the caller wakes the host's worker.
    pub fn end(&self) {
        self.lock().1 = true;
    }

    /// Waits until it is over. False when the time was before.
    #[must_use]
    pub fn wait_over(&self, timeout: Duration) -> bool {
        let going = |(standing, _): &mut (Standing, bool)| matches!(standing, Standing::Starting | Standing::Open);
        let waited = self.changed.wait_timeout_while(self.lock(), timeout, going);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

/// The program's side of a [`Service`]. Dropping it is the end of the service.
struct Post(Arc<Service>);

impl Post {
    fn set(&self, standing: Standing) {
        let mut state = self.0.lock();
        if !matches!(state.0, Standing::Failed(_) | Standing::Over) {
            state.0 = standing;
        }
        drop(state);
        self.0.changed.notify_all();
    }

    /// Whether it failed, or somebody wants it to end.
    fn is_over(&self) -> bool {
        let state = self.0.lock();
        state.1 || matches!(state.0, Standing::Failed(_) | Standing::Over)
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        self.set(Standing::Over);
    }
}
