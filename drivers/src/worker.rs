//! The base worker: one thread that serves any number of NICs and only visits those with work.
//!
//! Work is a datagram (the NIC's doorbell sets its bit in the worker's block), a call from outside (which sets the same
//! bit), a descriptor that became readable, or a time that the driver asked for. The worker passes the time in; no driver
//! reads a clock.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use vnet_base::Lan;
use vnet_base::control::WorkerBlock;
use vnet_base::outlet::Outlets;
use vnet_base::sync::{AtomicBool, Ordering, spin_loop};
use vnet_base::tables::SlotId;

use crate::driver::{Driver, Next};
use crate::polled::Polled;
use crate::port::Port;

/// Turns that an idle worker polls before it sleeps: some tens of microseconds, as long as a wake-up takes.
const SPINS: u32 = 1000;

/// Rounds of a busy worker between two looks at the descriptors of those that have no work.
const ROUNDS: u32 = 8;

enum Command {
    Add(Box<Served>),
    Remove(SlotId, mpsc::Sender<()>),
}

struct Served {
    slot: SlotId,
    generation: u32,
    port: Port,
    driver: Box<dyn Driver>,
    wake_at: Option<u64>,
    /// The earliest of its entries among the timers.
    timer: Option<u64>,
    queued: bool,
}

struct Shared {
    lan: Arc<Lan>,
    block: &'static WorkerBlock,
    index: u32,
    outlets: Arc<Outlets>,
    inbox: Mutex<Vec<Command>>,
    mail: AtomicBool,
    stop: AtomicBool,
    clock: fn() -> u64,
}

impl Shared {
    fn inbox(&self) -> MutexGuard<'_, Vec<Command>> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn post(&self, command: Command) {
        self.inbox().push(command);
        // Release: partners with the swap in `take_mail()`. The worker looks at it last before it sleeps.
        self.mail.store(true, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        self.block.wake(self.lan.segment().alarm(self.index));
    }
}

/// A base worker. Dropping it ends its thread and its drivers.
pub struct Worker {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Worker {
    /// A worker of `lan` with this number. `clock` gives nanoseconds. The thread starts with the first driver.
    #[must_use]
    pub fn new(lan: Arc<Lan>, index: u32, clock: fn() -> u64) -> Self {
        let block = lan.segment().worker(index);
        let shared = Shared {
            lan,
            block,
            index,
            outlets: Arc::default(),
            inbox: Mutex::default(),
            mail: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            clock,
        };
        Self { shared: Arc::new(shared), thread: Mutex::new(None) }
    }

    /// Serves a NIC from now on. Its row must name this worker.
    ///
    /// # Errors
    ///
    /// Those of starting a thread.
    pub fn serve(&self, slot: SlotId, generation: u32, mut port: Port, driver: Box<dyn Driver>) -> std::io::Result<()> {
        port.sender.set_outlets(Arc::clone(&self.shared.outlets));
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let shared = Arc::clone(&self.shared);
            let polled = Polled::new(shared.lan.segment().alarm(shared.index))?;
            let run = move || run(&shared, polled);
            *thread = Some(std::thread::Builder::new().name("vnet-worker".into()).spawn(run)?);
        }
        drop(thread);
        let served = Served { slot, generation, port, driver, wake_at: None, timer: None, queued: false };
        self.shared.post(Command::Add(Box::new(served)));
        Ok(())
    }

    /// Ends the service of a NIC; its driver is gone when this returns.
    pub fn dismiss(&self, slot: SlotId) {
        if self.thread.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            return;
        }
        let (done, ended) = mpsc::channel();
        self.shared.post(Command::Remove(slot, done));
        // The sender is dropped unheard when the worker ends meanwhile.
        let _ = ended.recv();
    }

    /// Has the worker visit a NIC, because something was asked of its driver.
    pub fn call(&self, slot: SlotId) {
        self.shared.block.announce(slot.0, self.shared.lan.segment().alarm(self.shared.index));
    }

    /// Forgets the thread in a forked child, where it is not.
    pub fn abandon(&self) {
        // Whoever held the lock at the fork is not there to give it back.
        if let Ok(mut thread) = self.thread.try_lock() {
            std::mem::forget(thread.take());
        }
    }

    /// Ends the thread and all drivers.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            self.shared.wake();
            // A worker that is about to sleep looks at `stop` once more after it has said so.
            let _ = thread.join();
        }
        self.shared.inbox().clear();
        // The rounds are over, and with them the drivers: nothing here keeps a guest's device any longer.
        self.shared.outlets.clear();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Rounds<'w> {
    shared: &'w Shared,
    served: Vec<Option<Box<Served>>>,
    timers: BinaryHeap<Reverse<(u64, u16)>>,
    queue: VecDeque<u16>,
    polled: Polled,
}

fn run(shared: &Shared, polled: Polled) {
    let mut rounds = Rounds { shared, served: Vec::new(), timers: BinaryHeap::new(), queue: VecDeque::new(), polled };
    let mut idle_turns = 0;
    let mut busy_rounds = 0u32;
    while !shared.stop.load(Ordering::Acquire) {
        rounds.take_mail();
        let now = (shared.clock)();
        rounds.gather(now);
        if !rounds.polled.is_empty() && !rounds.queue.is_empty() && busy_rounds.is_multiple_of(ROUNDS) {
            rounds.look_at_descriptors(Some(Duration::ZERO));
        }
        busy_rounds = busy_rounds.wrapping_add(1);
        if rounds.queue.is_empty() {
            idle_turns += 1;
            // A worker with guests behind descriptors leaves the processor to them at once: a turn that polls descriptors is
            // a system call, and takes from the guests, who share the processors, more than it saves.
            if rounds.polled.is_empty() && idle_turns < SPINS {
                spin_loop();
            } else {
                rounds.sleep(now);
                // Which looked at them.
                busy_rounds = 1;
            }
            continue;
        }
        idle_turns = 0;
        // Only those queued now, so that mail and timers get their turn too.
        for place in 0..rounds.queue.len() {
            if let Some(slot) = rounds.queue.pop_front() {
                // The first has its turn at once; for the others time has passed.
                let now = if place == 0 { now } else { (shared.clock)() };
                rounds.visit(slot, now);
            }
        }
    }
}

fn enqueue(all: &mut [Option<Box<Served>>], queue: &mut VecDeque<u16>, slot: u16) {
    if let Some(Some(served)) = all.get_mut(usize::from(slot))
        && !served.queued
    {
        served.queued = true;
        queue.push_back(slot);
    }
}

impl Rounds<'_> {
    fn take_mail(&mut self) {
        // Acquire: partners with the release in `post()`.
        if !self.shared.mail.load(Ordering::Relaxed) || !self.shared.mail.swap(false, Ordering::AcqRel) {
            return;
        }
        let mail = std::mem::take(&mut *self.shared.inbox());
        for command in mail {
            match command {
                Command::Add(served) => {
                    let slot = served.slot.0;
                    if let Some(descriptor) = served.driver.descriptor()
                        && self.polled.add(descriptor, slot).is_err()
                    {
                        self.shared.lan.take_down(served.slot, served.generation);
                        continue;
                    }
                    if let Some(outlet) = served.driver.outlet() {
                        self.shared.outlets.set(served.slot, Some((served.generation, outlet)));
                    }
                    let index = usize::from(slot);
                    if self.served.len() <= index {
                        self.served.resize_with(index + 1, || None);
                    }
                    self.served[index] = Some(served);
                    self.enqueue(slot);
                }
                Command::Remove(slot, done) => {
                    self.drop_driver(slot);
                    let _ = done.send(());
                }
            }
        }
    }

    fn enqueue(&mut self, slot: u16) {
        enqueue(&mut self.served, &mut self.queue, slot);
    }

    fn gather(&mut self, now: u64) {
        let block = self.shared.block;
        block.take(|slot| self.enqueue(slot));
        while let Some(Reverse((time, slot))) = self.timers.peek().copied().filter(|Reverse((time, _))| *time <= now) {
            self.timers.pop();
            let Some(Some(served)) = self.served.get_mut(usize::from(slot)) else { continue };
            if served.timer == Some(time) {
                served.timer = None;
            }
            match served.wake_at {
                Some(at) if at <= now => self.enqueue(slot),
                Some(at) => self.set_timer(slot, at),
                None => {}
            }
        }
    }

    /// Sees to it that a slot is looked at by `time`. Those that put their time off at every visit, as most do, have one
    /// entry for all of them.
    fn set_timer(&mut self, slot: u16, time: u64) {
        let Some(Some(served)) = self.served.get_mut(usize::from(slot)) else { return };
        if served.timer.is_none_or(|earliest| time < earliest) {
            served.timer = Some(time);
            self.timers.push(Reverse((time, slot)));
        }
    }

    fn visit(&mut self, slot: u16, now: u64) {
        let Some(Some(served)) = self.served.get_mut(usize::from(slot)) else { return };
        served.queued = false;
        served.wake_at = None;
        // A panic of one guest's driver is that guest's end and nobody else's.
        let next = catch_unwind(AssertUnwindSafe(|| {
            let next = served.driver.visit(&mut served.port, now)?;
            if matches!(next, Next::At(_)) && !served.port.receiver.leave_to_worker()? {
                Ok(Next::Again)
            } else {
                Ok(next)
            }
        }));
        match next {
            Ok(Ok(Next::Again)) => self.enqueue(slot),
            Ok(Ok(Next::At(None))) => {}
            Ok(Ok(Next::At(Some(time)))) => {
                served.wake_at = Some(time);
                self.set_timer(slot, time);
            }
            Ok(Ok(Next::Ended) | Err(vnet_base::buffer::Damaged)) | Err(_) => {
                self.shared.lan.take_down(SlotId(slot), served.generation);
                self.drop_driver(SlotId(slot));
            }
        }
    }

    fn drop_driver(&mut self, slot: SlotId) {
        let Some(served) = self.served.get_mut(usize::from(slot.0)).and_then(Option::take) else { return };
        if let Some(descriptor) = served.driver.descriptor() {
            self.polled.remove(descriptor);
        }
        if self.shared.outlets.set(slot, None) {
            // Or its device would stay until each of them has sent something else.
            for other in self.served.iter_mut().flatten() {
                other.port.sender.forget_outlet(slot);
            }
        }
    }

    /// Takes up those whose descriptors are ready, and waits for such at most for `timeout`.
    fn look_at_descriptors(&mut self, timeout: Option<Duration>) {
        let (served, queue) = (&mut self.served, &mut self.queue);
        self.polled.wait(timeout, |slot| enqueue(served, queue, slot));
    }

    fn until_timer(&self, now: u64) -> Option<Duration> {
        self.timers.peek().map(|Reverse((time, _))| Duration::from_nanos(time.saturating_sub(now)))
    }

    fn sleep(&mut self, now: u64) {
        let shared = self.shared;
        let timeout = self.until_timer(now);
        let slots = shared.lan.segment().tables().geometry().nics;
        let last_look = || !shared.mail.load(Ordering::Acquire) && !shared.stop.load(Ordering::Acquire);
        if self.polled.is_empty() {
            shared.block.sleep(slots, timeout, last_look);
        } else {
            shared.block.sleep_on_descriptors(slots, last_look, || self.look_at_descriptors(timeout));
        }
    }
}
