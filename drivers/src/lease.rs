//! Leases: a guest's connection to the base is its hold on the NIC, and its process is its hold on locks.
//!
//! At the base an [`Undertaker`] watches both: when the connection breaks, the NIC goes down; when the process is dead,
//! what it left half done is put right. At a guest a [`Lease`] watches the connection the other way: when it breaks, the
//! base is gone. Both are threads without Python, because a guest must not wait for somebody else's interpreter.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use vnet_base::lock::Token;
use vnet_base::sync::{AtomicBool, Ordering, futex_wake};
use vnet_base::tables::SlotId;
use vnet_base::{Lan, Segment};

/// One guest under watch.
struct Watched {
    slot: SlotId,
    generation: u32,
    token: Token,
    socket: Option<OwnedFd>,
    process: Option<OwnedFd>,
}

struct Graveyard {
    lan: Arc<Lan>,
    queue: OwnedFd,
    bell: OwnedFd,
    watched: Mutex<(u64, BTreeMap<u64, Watched>)>,
    stop: AtomicBool,
}

const BELL: u64 = 0;
const SOCKET: u64 = 1;
const PROCESS: u64 = 2;

/// Watches the guests of a LAN. Dropping it ends its thread; the guests stay as they are.
pub struct Undertaker {
    shared: Arc<Graveyard>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Undertaker {
    /// An undertaker for `lan`. The thread starts with the first guest.
    ///
    /// # Errors
    ///
    /// Those of making an epoll queue and an eventfd.
    pub fn new(lan: Arc<Lan>) -> io::Result<Self> {
        let queue = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&queue, &bell, epoll::EventData::new_u64(BELL), epoll::EventFlags::IN)?;
        let watched = Mutex::new((0, BTreeMap::new()));
        let shared = Arc::new(Graveyard { lan, queue, bell, watched, stop: AtomicBool::new(false) });
        Ok(Self { shared, thread: Mutex::new(None) })
    }

    /// Watches a guest: `socket` is its connection, `pid` its process. Returns a number for [`Undertaker::forget`].
    ///
    /// # Errors
    ///
    /// Those of epoll, of pidfd and of starting a thread; the guest is then not watched.
    pub fn watch(
        &self,
        slot: SlotId,
        generation: u32,
        token: Token,
        socket: OwnedFd,
        pid: Option<i32>,
    ) -> io::Result<u64> {
        self.start()?;
        // A process that is dead already cannot be opened; its broken connection then tells all.
        let process = pid.and_then(Pid::from_raw).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let shared = &self.shared;
        let mut guard = shared.watched();
        guard.0 += 1;
        let id = guard.0;
        let event = |kind| epoll::EventData::new_u64(id << 2 | kind);
        epoll::add(&shared.queue, &socket, event(SOCKET), epoll::EventFlags::RDHUP | epoll::EventFlags::HUP)?;
        if let Some(process) = &process {
            epoll::add(&shared.queue, process, event(PROCESS), epoll::EventFlags::IN)?;
        }
        guard.1.insert(id, Watched { slot, generation, token, socket: Some(socket), process });
        Ok(id)
    }

    /// Stops watching a guest that left in good order.
    pub fn forget(&self, id: u64) {
        if let Some(watched) = self.shared.watched().1.remove(&id) {
            self.shared.unwatch(watched.socket.as_ref());
            self.shared.unwatch(watched.process.as_ref());
        }
    }

    fn start(&self) -> io::Result<()> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let shared = Arc::clone(&self.shared);
            *thread = Some(std::thread::Builder::new().name("vnet-leases".into()).spawn(move || shared.run())?);
        }
        Ok(())
    }

    /// Ends the thread.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = rustix::io::write(&self.shared.bell, &1u64.to_ne_bytes());
            let _ = thread.join();
        }
        self.shared.watched().1.clear();
    }

    /// Lets go of everything in a forked child: the thread is not there, and the guests are the parent's. A connection
    /// that the child kept open would hide the parent's end from its guests.
    pub fn abandon(&self) {
        // Whoever held a lock at the fork is not there to give it back.
        if let Ok(mut thread) = self.thread.try_lock() {
            std::mem::forget(thread.take());
        }
        if let Ok(mut watched) = self.shared.watched.try_lock() {
            watched.1.clear();
        }
    }
}

impl Drop for Undertaker {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Graveyard {
    fn watched(&self) -> MutexGuard<'_, (u64, BTreeMap<u64, Watched>)> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut events = Vec::with_capacity(64);
        while !self.stop.load(Ordering::Acquire) {
            events.clear();
            match epoll::wait(&self.queue, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
            for event in &events {
                let data = event.data.u64();
                match data & 3 {
                    SOCKET => self.disconnected(data >> 2),
                    PROCESS => self.died(data >> 2),
                    _ => {}
                }
            }
        }
    }

    /// Takes a descriptor out of the queue, before it is closed: the control server or a forked child may have the same
    /// open file, and while that lives the queue would go on reporting it.
    fn unwatch(&self, descriptor: Option<&OwnedFd>) {
        if let Some(descriptor) = descriptor {
            let _ = epoll::delete(&self.queue, descriptor);
        }
    }

    /// The connection broke: the NIC goes down. Locks are buried only with the process.
    fn disconnected(&self, id: u64) {
        let mut guard = self.watched();
        let Some(watched) = guard.1.get_mut(&id) else { return };
        self.unwatch(watched.socket.take().as_ref());
        // A process that dies closes its files a moment before it is reported dead. Then its locks come first, because
        // taking the NIC down may need one of them: its own, if it died while it went back to the ring's beginning.
        if watched.process.as_ref().is_some_and(is_dying) {
            drop(guard);
            self.died(id);
            return;
        }
        let (slot, generation, token, buried) =
            (watched.slot, watched.generation, watched.token, watched.process.is_none());
        if buried {
            guard.1.remove(&id);
        }
        drop(guard);
        self.lan.take_down(slot, generation);
        if buried {
            self.lan.bury(token);
        }
    }

    fn died(&self, id: u64) {
        let Some(watched) = self.watched().1.remove(&id) else { return };
        self.unwatch(watched.socket.as_ref());
        self.unwatch(watched.process.as_ref());
        // First the locks: taking the NIC down may need one of them.
        self.lan.bury(watched.token);
        self.lan.take_down(watched.slot, watched.generation);
    }
}

/// Whether a process that has closed its connection is dead, or will be within a few milliseconds.
fn is_dying(process: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    let grace = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
    poll(&mut fds, Some(&grace)).is_ok_and(|ready| ready > 0)
}

/// What a guest knows of its hold on the LAN.
pub struct Hold {
    /// The base has ended.
    pub base_gone: AtomicBool,
    /// The guest itself let go.
    pub closed: AtomicBool,
}

/// A guest's watch over its connection to the base.
pub struct Lease {
    socket: Arc<OwnedFd>,
    bell: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Lease {
    /// Watches `socket`; when it breaks, sets `hold.base_gone` and wakes whoever waits on the NIC in `slot`.
    ///
    /// # Errors
    ///
    /// Those of an eventfd and of starting a thread.
    pub fn new(socket: OwnedFd, hold: Arc<Hold>, segment: Arc<Segment>, slot: SlotId) -> io::Result<Self> {
        let socket = Arc::new(socket);
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (watched, stop) = (Arc::clone(&socket), Arc::clone(&bell));
        let watch = move || {
            if wait_for_hangup(&watched, &stop) {
                hold.base_gone.store(true, Ordering::Release);
                wake_all(&segment, slot);
            }
        };
        let thread = std::thread::Builder::new().name("vnet-lease".into()).stack_size(128 * 1024).spawn(watch)?;
        Ok(Self { socket, bell, thread: Some(thread) })
    }

    /// The connection.
    #[must_use]
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = rustix::io::write(&*self.bell, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Wakes whoever waits in the name of a NIC: for datagrams, or for room somewhere.
pub fn wake_all(segment: &Segment, slot: SlotId) {
    futex_wake(&segment.control(slot).bell.idle, i32::MAX);
}

/// True when the other side hung up, false when asked to stop.
fn wait_for_hangup(socket: &OwnedFd, stop: &OwnedFd) -> bool {
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::RDHUP),
            PollFd::from_borrowed_fd(stop.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) if !fds[1].revents().is_empty() => return false,
            Ok(_) if !fds[0].revents().is_empty() => return true,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}
