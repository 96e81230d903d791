//! The stack of a process: any of its threads drives it, and one of its own when none does.
//!
//! # Theory of operation
//!
//! The stack is behind a mutex. Beside it there is one *role*: whoever has it, and nobody else, takes datagrams out of
//! the NIC's input buffer and sleeps on its doorbell.
//!
//! A caller that has to wait takes the role, drives the stack until what it waits for is there, and lets go of the role:
//! a guest with one thread needs one. Callers that find the role taken wait until whoever has it tells them that
//! something changed. When no caller drives, the *keeper* does, a thread of the stack's own: acknowledgements,
//! retransmissions, new connections, descriptors that are polled.
//!
//! ```text
//!   role:  Free ── a caller waits ──▶ Caller ── it has what it wanted ──▶ Free
//!          Free ── nobody drove for a millisecond ──▶ Keeper ── a caller wants the role ──▶ Free
//! ```
//!
//! Handing over costs no system call in the common case. While callers come and go, the keeper looks every millisecond
//! whether they still do; while a caller sleeps for long, the keeper is parked and woken when that caller goes. Once a
//! descriptor was asked for, the program waits by polling it, and the keeper has the role for good.
//!
//! A waiter cannot miss a change: it counts itself, looks at the role once more, and waits with the mutex in its hand;
//! whoever lets go of the role does so first, then looks at the count, and passes through the mutex before it tells.
//! All four are sequentially consistent, so one of the two sees the other.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use vnet_base::sync::{AtomicBool, AtomicU32, Ordering};

pub use super::mirror::Mirror;
use super::tcp::{ACK_DELAY, Delivering};
use super::{Listening, Stack, Tcp, Udp};
use crate::clock;
use crate::driver::BUDGET;
use crate::lease::wake_all;
use crate::ring::{Gone, Ring, Slice};

const FREE: u32 = 0;
const CALLER: u32 = 1;
const KEEPER: u32 = 2;

/// The longest wait in one go; after it the caller runs its signal handlers.
const SLICE: Duration = Duration::from_millis(100);

/// How often the keeper looks whether callers still drive, and after how many looks at one sleeping caller it parks.
const LOOK: Duration = Duration::from_millis(1);
const LOOKS: u32 = 8;

/// How long [`ProcessStack::close`] waits for what was sent to be acknowledged, and how long a stack that nobody closed
/// does, or one that has but the ends of its connections to tell: of two that leave, the second hears nothing any more.
const FAREWELL: Duration = Duration::from_secs(2);
const HURRIED: Duration = Duration::from_millis(50);

/// Why a stack cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Its NIC cannot be.
    Gone(Gone),
    /// It was closed.
    Closed,
    /// It failed over something that it was sent; see [`ProcessStack`].
    Broken,
}

impl From<Gone> for Trouble {
    fn from(gone: Gone) -> Self {
        Self::Gone(gone)
    }
}

/// What came of a wait.
#[derive(Debug)]
pub enum Waited<T> {
    /// What was waited for.
    Done(T),
    /// Nothing yet.
    NotYet,
    /// A signal came: the caller runs its handlers.
    Interrupted,
}

/// A socket whose readiness a descriptor shows.
pub struct Watched(Socket);

enum Socket {
    Tcp(Tcp),
    Listening(Listening),
    Udp(Udp),
}

impl Watched {
    /// A connection.
    #[must_use]
    pub fn tcp(tcp: &Tcp) -> Self {
        Self(Socket::Tcp(Tcp { handle: tcp.handle }))
    }

    /// A listening port.
    #[must_use]
    pub fn listening(listening: &Listening) -> Self {
        Self(Socket::Listening(listening.again()))
    }

    /// A UDP port.
    #[must_use]
    pub fn udp(udp: &Udp) -> Self {
        Self(Socket::Udp(Udp { handle: udp.handle }))
    }
}

struct Core {
    stack: Stack,
    mirrors: BTreeMap<u64, (Watched, Arc<Mutex<Mirror>>)>,
    next_mirror: u64,
    wake: Option<u64>,
    broken: bool,
}

struct Shared {
    ring: Arc<Ring>,
    core: Mutex<Core>,
    changed: Condvar,
    role: AtomicU32,
    /// Callers that wait for a change.
    waiters: AtomicU32,
    /// Callers that wait while the keeper has the role.
    wanted: AtomicU32,
    /// How often callers drove.
    drives: AtomicU32,
    /// Whether the keeper has the role for good.
    polled: AtomicBool,
    parked: AtomicBool,
    closed: AtomicBool,
    stop: AtomicBool,
    keeper: OnceLock<Thread>,
}

/// A TCP/IP stack on a process's NIC.
///
/// A panic in the stack, which nothing that comes in should be able to cause, ends the connection that the datagram was
/// for. One while sending cannot be told apart by connection: the stack is then unusable, [`Trouble::Broken`], and the
/// process goes on.
pub struct ProcessStack {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl ProcessStack {
    /// Takes the NIC over. Addresses come with their prefixes' lengths in bits, `mtu` in bytes of IP.
    ///
    /// # Errors
    ///
    /// Resource busy when the NIC has a stack already; those of starting a thread.
    pub fn new(ring: Arc<Ring>, addresses: &[(IpAddr, u8)], mtu: usize, seed: u64) -> io::Result<Self> {
        if !ring.take_over() {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let core = Core {
            stack: Stack::new(addresses, mtu, seed),
            mirrors: BTreeMap::new(),
            next_mirror: 0,
            wake: None,
            broken: false,
        };
        let shared = Arc::new(Shared {
            ring,
            core: Mutex::new(core),
            changed: Condvar::new(),
            role: AtomicU32::new(FREE),
            waiters: AtomicU32::new(0),
            wanted: AtomicU32::new(0),
            drives: AtomicU32::new(0),
            polled: AtomicBool::new(false),
            parked: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            keeper: OnceLock::new(),
        });
        let keeper = Arc::clone(&shared);
        let spawned = std::thread::Builder::new().name("vnet-stack".into()).spawn(move || keeper.keep());
        match spawned {
            Ok(thread) => {
                let _ = shared.keeper.set(thread.thread().clone());
                Ok(Self { shared, thread: Mutex::new(Some(thread)) })
            }
            Err(failure) => {
                shared.ring.give_back();
                Err(failure)
            }
        }
    }

    /// Whether the stack can be used.
    ///
    /// # Errors
    ///
    /// [`Trouble`].
    pub fn check(&self) -> Result<(), Trouble> {
        self.shared.check()
    }

    /// Waits at most `timeout`, and no longer than a slice of time, until `ready` returns something. `Some(ZERO)`: looks
    /// only. What `ready` gave to the stack is sent before this returns.
    ///
    /// # Errors
    ///
    /// [`Trouble`].
    pub fn wait<T>(
        &self,
        timeout: Option<Duration>,
        mut ready: impl FnMut(&mut Stack) -> Option<T>,
    ) -> Result<Waited<T>, Trouble> {
        let shared = &*self.shared;
        shared.check()?;
        let mut core = shared.lock();
        // What is there already needs no driving.
        if let Some(value) = ready(&mut core.stack) {
            shared.settle(&mut core)?;
            return Ok(Waited::Done(value));
        }
        let slice = timeout.map_or(SLICE, |timeout| timeout.min(SLICE));
        let end = Instant::now() + slice;
        loop {
            if shared.take_role(CALLER) {
                drop(core);
                let waited = shared.drive(end, &mut ready);
                shared.release_role();
                return waited;
            }
            if slice.is_zero() || Instant::now() >= end {
                shared.settle(&mut core)?;
                return Ok(Waited::NotYet);
            }
            core = shared.wait_for_change(core, end);
            shared.check()?;
            if let Some(value) = ready(&mut core.stack) {
                shared.settle(&mut core)?;
                return Ok(Waited::Done(value));
            }
        }
    }

    /// Uses the stack at once, and sends what that calls for.
    ///
    /// # Errors
    ///
    /// [`Trouble`].
    pub fn with<T>(&self, work: impl FnOnce(&mut Stack) -> T) -> Result<T, Trouble> {
        let shared = &*self.shared;
        shared.check()?;
        let mut core = shared.lock();
        let value = work(&mut core.stack);
        shared.settle(&mut core)?;
        Ok(value)
    }

    /// Has other threads look again: what was done to a socket may be what they wait for.
    pub fn tell(&self) {
        let shared = &*self.shared;
        if shared.waiters.load(Ordering::SeqCst) > 0 {
            shared.changed.notify_all();
        }
        if shared.role.load(Ordering::SeqCst) == CALLER {
            wake_all(shared.ring.segment(), shared.ring.slot());
        }
    }

    /// Gives a connection back, gracefully or at once. Does nothing where the stack is gone.
    pub fn close_tcp(&self, tcp: Tcp, abort: bool) {
        let _ = self.with(|stack| if abort { stack.abort(tcp) } else { stack.close(tcp) });
        self.tell();
    }

    /// Has a descriptor poll as the socket that `watched` names, from now on, and returns a number for
    /// [`ProcessStack::unwatch`]. `None` where it names none; it runs with the stack's lock held. Of a stack that cannot be
    /// used the descriptor is ready: the next call says why.
    pub fn watch(&self, mirror: &Arc<Mutex<Mirror>>, watched: impl FnOnce() -> Option<Watched>) -> Option<u64> {
        let shared = &*self.shared;
        let mut core = shared.lock();
        let watched = watched()?;
        core.next_mirror += 1;
        let number = core.next_mirror;
        core.mirrors.insert(number, (watched, Arc::clone(mirror)));
        if shared.check().is_ok() {
            core.show();
        } else {
            core.show_end();
        }
        drop(core);
        // From now on the keeper drives: whoever polls a descriptor does not.
        if !shared.polled.swap(true, Ordering::SeqCst) {
            shared.unpark();
        }
        Some(number)
    }

    /// Leaves a descriptor of [`ProcessStack::watch`] as it is.
    pub fn unwatch(&self, number: u64) {
        if self.shared.ring.check() != Err(Gone::Forked) {
            self.shared.lock().mirrors.remove(&number);
        }
    }

    /// Ends all sockets and gives the NIC back. What was sent is delivered first, as far as that takes no longer than
    /// two seconds. False when that was done before.
    pub fn close(&self) -> bool {
        self.end(FAREWELL)
    }

    fn end(&self, patience: Duration) -> bool {
        let shared = &*self.shared;
        if shared.ring.check() == Err(Gone::Forked) || shared.closed.swap(true, Ordering::SeqCst) {
            return false;
        }
        // Waiting callers leave, then the keeper; nobody drives any more.
        shared.stop.store(true, Ordering::SeqCst);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        while thread.as_ref().is_some_and(|thread| !thread.is_finished()) || !shared.take_role(CALLER) {
            shared.unpark();
            shared.changed.notify_all();
            wake_all(shared.ring.segment(), shared.ring.slot());
            std::thread::sleep(Duration::from_micros(50));
        }
        if let Some(thread) = thread {
            let _ = thread.join();
        }
        shared.say_farewell(patience);
        // Descriptors live as long as the sockets that gave them out: their numbers may be in somebody's selector.
        shared.lock().show_end();
        shared.ring.give_back();
        true
    }
}

impl Drop for ProcessStack {
    fn drop(&mut self) {
        if self.shared.ring.check() == Err(Gone::Forked) {
            // The thread is the parent's.
            std::mem::forget(self.thread.lock().unwrap_or_else(PoisonError::into_inner).take());
            return;
        }
        self.end(HURRIED);
    }
}

impl Shared {
    fn check(&self) -> Result<(), Trouble> {
        self.ring.check()?;
        if self.closed.load(Ordering::Relaxed) { Err(Trouble::Closed) } else { Ok(()) }
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_role(&self, role: u32) -> bool {
        self.role.compare_exchange(FREE, role, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Lets go of the role, and has somebody else take it who waits for it.
    fn release_role(&self) {
        self.role.store(FREE, Ordering::SeqCst);
        if self.waiters.load(Ordering::SeqCst) > 0 {
            drop(self.lock());
            self.changed.notify_all();
        }
        if self.parked.load(Ordering::SeqCst) {
            self.unpark();
        }
    }

    fn unpark(&self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.unpark();
        }
    }

    /// Takes in what came, some tens of datagrams at most. For whoever has the role.
    fn take_in(&self, core: &mut Core) -> Result<usize, Trouble> {
        let now = clock::monotonic();
        let stack = &mut core.stack;
        let mut sender = self.ring.usable_sender()?;
        let taken = self.ring.receive_for_stack(BUDGET, |bytes| {
            stack.receive(bytes, &mut *sender, now);
        })?;
        Ok(taken)
    }

    /// Sends what is due and shows how things stand.
    fn settle(&self, core: &mut Core) -> Result<(), Trouble> {
        if core.broken {
            return Err(Trouble::Broken);
        }
        let now = clock::monotonic();
        let mut sender = self.ring.usable_sender()?;
        let Core { stack, wake, broken, .. } = core;
        match catch_unwind(AssertUnwindSafe(|| stack.poll(&mut *sender, now))) {
            Ok(next) => *wake = next,
            Err(_) => *broken = true,
        }
        sender.ring();
        drop(sender);
        core.show();
        if core.broken { Err(Trouble::Broken) } else { Ok(()) }
    }

    /// Drives until `ready` returns something or the time is over. For a caller that has the role.
    fn drive<T>(&self, end: Instant, ready: &mut impl FnMut(&mut Stack) -> Option<T>) -> Result<Waited<T>, Trouble> {
        loop {
            let mut core = self.lock();
            self.drives.fetch_add(1, Ordering::Relaxed);
            let taken = self.take_in(&mut core)?;
            let value = ready(&mut core.stack);
            self.settle(&mut core)?;
            let wake = core.wake;
            drop(core);
            if taken > 0 && self.waiters.load(Ordering::SeqCst) > 0 {
                self.changed.notify_all();
            }
            if let Some(value) = value {
                return Ok(Waited::Done(value));
            }
            if taken == BUDGET {
                continue;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Waited::NotYet);
            }
            if self.ring.wait_for_stack(until(wake, left))? == Slice::Interrupted {
                return Ok(Waited::Interrupted);
            }
            self.check()?;
        }
    }

    /// Waits until whoever drives tells of a change, or the role is free. Returns at the latest at `end`.
    fn wait_for_change<'s>(&'s self, core: MutexGuard<'s, Core>, end: Instant) -> MutexGuard<'s, Core> {
        self.waiters.fetch_add(1, Ordering::SeqCst);
        let role = self.role.load(Ordering::SeqCst);
        let asks = role == KEEPER && !self.polled.load(Ordering::SeqCst);
        if asks {
            self.wanted.fetch_add(1, Ordering::SeqCst);
            wake_all(self.ring.segment(), self.ring.slot());
        }
        let mut core = core;
        if role != FREE {
            let left = end.saturating_duration_since(Instant::now());
            // The keeper may have been between its last look and its sleep when it was asked.
            let nap = if asks { left.min(LOOK) } else { left };
            core = self.changed.wait_timeout(core, nap).unwrap_or_else(PoisonError::into_inner).0;
        }
        if asks {
            self.wanted.fetch_sub(1, Ordering::SeqCst);
        }
        self.waiters.fetch_sub(1, Ordering::SeqCst);
        core
    }

    /// The keeper's thread.
    fn keep(&self) {
        let mut drives = self.drives.load(Ordering::Relaxed);
        let mut looks = 0;
        while !self.stop.load(Ordering::SeqCst) && self.ring.check().is_ok() {
            let now = self.drives.load(Ordering::Relaxed);
            let polled = self.polled.load(Ordering::SeqCst);
            if now != drives && !polled {
                // Callers drive.
                (drives, looks) = (now, 0);
                std::thread::park_timeout(LOOK);
            } else if self.take_role(KEEPER) {
                looks = 0;
                let kept = self.keep_driving();
                self.release_role();
                if kept.is_err() {
                    break;
                }
                drives = self.drives.load(Ordering::Relaxed).wrapping_sub(1);
            } else {
                looks += 1;
                self.rest(looks);
            }
        }
        // Whoever waits looks for itself why this is over.
        self.lock().show_end();
        self.changed.notify_all();
    }

    /// Leaves the role to a caller that has it: for a millisecond, or until it lets go if it seems to sleep for long.
    fn rest(&self, looks: u32) {
        if looks < LOOKS {
            std::thread::park_timeout(LOOK);
            return;
        }
        self.parked.store(true, Ordering::SeqCst);
        if self.role.load(Ordering::SeqCst) != FREE && !self.polled.load(Ordering::SeqCst) {
            std::thread::park_timeout(SLICE);
        }
        self.parked.store(false, Ordering::SeqCst);
    }

    fn keep_driving(&self) -> Result<(), Trouble> {
        loop {
            let mut core = self.lock();
            let taken = self.take_in(&mut core)?;
            self.settle(&mut core)?;
            let wake = core.wake;
            drop(core);
            if self.waiters.load(Ordering::SeqCst) > 0 {
                self.changed.notify_all();
            }
            let wanted = self.wanted.load(Ordering::SeqCst) > 0 && !self.polled.load(Ordering::SeqCst);
            if wanted || self.stop.load(Ordering::SeqCst) {
                return Ok(());
            }
            if taken < BUDGET {
                self.ring.wait_for_stack(until(wake, SLICE))?;
                self.ring.check()?;
            }
        }
    }

    /// Ends all connections and drives until what was sent is acknowledged.
    fn say_farewell(&self, patience: Duration) {
        let begin = Instant::now();
        self.lock().stack.finish_all();
        loop {
            let mut core = self.lock();
            let Ok(taken) = self.take_in(&mut core) else { return };
            if self.settle(&mut core).is_err() {
                return;
            }
            let (wake, delivering) = (core.wake, core.stack.is_delivering());
            drop(core);
            let patience = match delivering {
                Delivering::Data => patience,
                Delivering::Ends => patience.min(HURRIED),
                // An acknowledgement may be held back yet, and the peer wait for it.
                Delivering::Nothing { connections: true } => ACK_DELAY,
                Delivering::Nothing { connections: false } => Duration::ZERO,
            };
            let left = patience.saturating_sub(begin.elapsed());
            if left.is_zero() {
                break;
            }
            if taken < BUDGET && self.ring.wait_for_stack(until(wake, left)).is_err() {
                return;
            }
        }
        // Whoever has not acknowledged by now hears that there is nobody any more.
        let mut core = self.lock();
        core.stack.abort_undelivered();
        let _ = self.settle(&mut core);
    }
}

impl Core {
    /// Has each descriptor show how its socket stands.
    fn show(&mut self) {
        let stack = &mut self.stack;
        for (watched, mirror) in self.mirrors.values() {
            let (readable, writable) = match &watched.0 {
                Socket::Tcp(tcp) => stack.tcp_ready(tcp),
                Socket::Listening(listening) => (stack.can_accept(listening), false),
                Socket::Udp(udp) => stack.udp_ready(udp),
            };
            lock(mirror).show(readable, writable);
        }
    }

    /// Every descriptor becomes ready: the next call says what is wrong.
    fn show_end(&mut self) {
        for (_, mirror) in self.mirrors.values() {
            lock(mirror).show(true, true);
        }
    }
}

fn lock(mirror: &Mutex<Mirror>) -> MutexGuard<'_, Mirror> {
    mirror.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long to sleep: until the stack wants to be called, and at most `left`.
fn until(wake: Option<u64>, left: Duration) -> Duration {
    wake.map_or(left, |wake| Duration::from_nanos(wake.saturating_sub(clock::monotonic())).min(left))
}

/// The address that a socket says it has, which listens on any.
#[must_use]
pub fn shown(local: &super::Local, addresses: &[IpAddr]) -> SocketAddr {
    let any = || if addresses.iter().any(IpAddr::is_ipv4) { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    SocketAddr::new(local.address.unwrap_or_else(any), local.port)
}
