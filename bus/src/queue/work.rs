//! The end of those who work: one worker for all queues of a guest.

use std::sync::Arc;

use vnet_base::doorbell::ASLEEP;
use vnet_base::sync::{Ordering, futex_wake, spin_loop};

use super::Damaged;
use super::desk::Desk;
#[cfg(not(loom))]
use super::desk::POLLED;
use super::layout::{HEADER_BYTES, PRIORITIES};
use super::state::{Ended, Queue};

/// How long a worker polls before it sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spin {
    /// Never polls.
    Never,
    /// Polls about as long as it has lately paid off. The default: a wake-up costs hundreds of polls.
    Adaptive,
    /// Never sleeps within one wait's worth of turns.
    Always,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// There is an item.
    Ready,
    /// There was none, and the worker has said that it sleeps: the caller goes to [`Desk::sleep`], and looks again.
    Asleep,
    /// There is none yet, and the worker does not want to sleep.
    NotYet,
}

const LEAST: u32 = 32;
const MOST: u32 = 4096;

/// How far ahead of the reading slots are asked for, in bytes.
const AHEAD: u64 = 1024;

/// One queue that the worker serves.
struct Served {
    number: u32,
    queue: Arc<Queue>,
    /// Items taken, by priority: the truth, of which the memory has a copy for posters.
    heads: [u64; PRIORITIES],
    /// Items taken since posters were woken that wait for room.
    freed: u64,
    /// Whether it was found damaged; it is not looked at any more.
    damaged: bool,
}

/// Takes the items of all queues of a guest. One at a time works at a desk.
pub struct Worker {
    desk: Arc<Desk>,
    served: Vec<Served>,
    /// Where among queues with items of the same priority the next look begins.
    turn: usize,
    /// Most priorities that any of the queues has.
    priorities: usize,
    spin: Spin,
    turns: u32,
    /// Whether its descriptor is to be readable while work waits.
    polled: bool,
    last: u32,
    /// The queue and priority of the item that is held in place.
    held: Option<(u32, usize)>,
}

/// Where items wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The queue's number, as [`Worker::serve`] gave it.
    pub number: u32,
    /// The most urgent priority that has items.
    pub priority: usize,
    /// How many there are.
    pub items: u64,
    index: usize,
}

impl Worker {
    /// A worker at `desk`, without queues.
    #[must_use]
    pub fn new(desk: Arc<Desk>) -> Self {
        Self {
            desk,
            served: Vec::new(),
            turn: 0,
            priorities: 0,
            spin: Spin::Adaptive,
            turns: MOST / 4,
            polled: false,
            last: 0,
            held: None,
        }
    }

    /// Serves `queue`, which has no other worker. Returns a number for it.
    pub fn serve(&mut self, queue: Arc<Queue>) -> u32 {
        self.last += 1;
        let mut heads = [0; PRIORITIES];
        for (mine, head) in heads.iter_mut().zip(&queue.head().worker.heads) {
            *mine = head.load(Ordering::Acquire);
        }
        self.priorities = self.priorities.max(queue.shape().priorities());
        self.served.push(Served { number: self.last, queue, heads, freed: 0, damaged: false });
        // Whoever posted to it before this, while the worker said that it waits, rang for nothing.
        self.desk.force();
        self.last
    }

    /// Serves the queue of this number no more.
    pub fn leave(&mut self, number: u32) {
        if let Some((held, priority)) = self.held
            && held == number
        {
            // Whoever serves the queue next must not get it a second time.
            self.done(number, priority);
        }
        self.served.retain(|served| served.number != number);
        // `find()` goes round from there.
        self.turn = self.turn.min(self.served.len());
        self.priorities = self.served.iter().map(|served| served.queue.shape().priorities()).max().unwrap_or(0);
    }

    /// Chooses how long to poll before sleeping.
    pub fn set_spin(&mut self, spin: Spin) {
        self.spin = spin;
    }

    /// Where the most urgent items wait: of the highest priority, and among queues with such, of each in turn.
    ///
    /// # Errors
    ///
    /// The number of a queue that is damaged, once: it has ended, and is not looked at any more.
    #[inline]
    pub fn find(&mut self) -> Result<Option<Found>, u32> {
        let queues = self.served.len();
        for priority in (0..self.priorities).rev() {
            for step in 0..queues {
                let index = if self.turn + step >= queues { self.turn + step - queues } else { self.turn + step };
                let served = &mut self.served[index];
                match served.waiting(priority) {
                    Ok(0) => {}
                    Ok(items) => return Ok(Some(Found { number: served.number, priority, items, index })),
                    Err(Damaged) => return Err(served.broken()),
                }
            }
        }
        Ok(None)
    }

    /// Takes up to `most` of the items that were just found, in their order, and gives their room back. `visit` copies an
    /// item; when it returns false, that item and those behind it stay.
    ///
    /// Returns how many were taken.
    ///
    /// # Errors
    ///
    /// The queue's number, once, if it is damaged; items before the damage are taken.
    #[inline]
    pub fn take(&mut self, found: &Found, most: u64, mut visit: impl FnMut(&[u8]) -> bool) -> Result<u64, u32> {
        self.desk.set_busy();
        let served = &mut self.served[found.index];
        debug_assert_eq!(served.number, found.number, "no queue came or went since it was found");
        let (memory, first) = (&served.queue.memory, served.heads[found.priority]);
        let (ring, limit) = (memory.ring(found.priority), memory.shape().item_bytes() as u64);
        let mut taken = 0;
        let mut damaged = false;
        while taken < found.items.min(most) {
            let at = memory.slot(first.wrapping_add(taken));
            #[cfg(not(loom))]
            if most > 1 {
                ring.expect(at + AHEAD);
            }
            let length = ring.word(at).load(Ordering::Relaxed);
            if length > limit {
                damaged = true;
                break;
            }
            #[cfg(not(loom))]
            let item = ring.bytes(at + HEADER_BYTES, length as usize);
            #[cfg(loom)]
            let item = &ring.read(at + HEADER_BYTES)[..length as usize];
            if !visit(item) {
                break;
            }
            taken += 1;
        }
        served.free(found.priority, taken);
        self.turn = found.index + 1;
        if damaged { Err(served.broken()) } else { Ok(taken) }
    }

    /// Where in its memory file the first item that was found lies, and its bytes. It stays until [`Worker::done`].
    ///
    /// # Errors
    ///
    /// As of [`Worker::take`].
    pub fn hold(&mut self, found: &Found) -> Result<(u64, usize), u32> {
        self.desk.set_busy();
        let served = &mut self.served[found.index];
        let memory = &served.queue.memory;
        let at = memory.slot(served.heads[found.priority]);
        let length = memory.ring(found.priority).word(at).load(Ordering::Relaxed);
        if length > memory.shape().item_bytes() as u64 {
            return Err(served.broken());
        }
        self.held = Some((found.number, found.priority));
        Ok((memory.shape().ring_at(found.priority) + at + HEADER_BYTES, length as usize))
    }

    /// Gives the room of an item that was held back. Does nothing where that was done.
    pub fn done(&mut self, number: u32, priority: usize) {
        if self.held != Some((number, priority)) {
            return;
        }
        self.held = None;
        if let Some(index) = self.served.iter().position(|served| served.number == number) {
            self.served[index].free(priority, 1);
            self.turn = index + 1;
        }
    }

    /// Items that wait now, in all queues.
    pub fn backlog(&self) -> u64 {
        let of = |served: &Served| (0..self.priorities).map(|each| served.waiting(each).unwrap_or(0)).sum::<u64>();
        self.served.iter().map(of).sum()
    }

    /// Polls for a while; then says that it sleeps, unless `sleep` is false.
    ///
    /// # Errors
    ///
    /// As of [`Worker::find`].
    pub fn wait(&mut self, sleep: bool) -> Result<Waited, u32> {
        if self.poll()? {
            return Ok(Waited::Ready);
        }
        if !sleep || self.spin == Spin::Always {
            return Ok(Waited::NotYet);
        }
        self.prepare_sleep()
    }

    fn poll(&mut self) -> Result<bool, u32> {
        let turns = match self.spin {
            Spin::Never => 1,
            // As long with many queues as with one.
            Spin::Adaptive => self.turns / (self.served.len() as u32 * self.priorities as u32).max(1) + 1,
            Spin::Always => MOST,
        };
        for _ in 0..turns {
            if self.find()?.is_some() {
                self.turns = (self.turns * 2).min(MOST);
                return Ok(true);
            }
            spin_loop();
        }
        self.turns = (self.turns / 2).max(LEAST);
        Ok(false)
    }

    /// Says that the worker sleeps, and looks once more. The caller sleeps at the desk, without the worker in its hand.
    ///
    /// # Errors
    ///
    /// As of [`Worker::find`].
    pub fn prepare_sleep(&mut self) -> Result<Waited, u32> {
        let ready = self.go_idle(ASLEEP)?;
        Ok(if ready { Waited::Ready } else { Waited::Asleep })
    }

    /// Says `how` the worker waits and looks once more. True if there is an item after all; it is then busy again.
    fn go_idle(&mut self, how: u32) -> Result<bool, u32> {
        self.desk.set_idle(how);
        for served in &self.served {
            // Partners with the unlock of whoever publishes in this queue.
            served.queue.head().posters.lock.pass_through();
        }
        let found = self.find();
        if !matches!(found, Ok(None)) {
            self.desk.set_busy();
        }
        Ok(found?.is_some())
    }
}

#[cfg(not(loom))]
impl Worker {
    /// From now on the desk's descriptor is readable while work waits, whenever the worker was left with [`Worker::rest`].
    pub fn poll_descriptor(&mut self) {
        self.polled = true;
    }

    /// Says that the worker is busy after all.
    pub fn set_busy(&mut self) {
        self.desk.set_busy();
    }

    /// Leaves the desk until there is work again: busy as seen by posters, or waiting for its descriptor where that is
    /// polled.
    pub fn rest(&mut self) {
        if !self.polled {
            self.desk.set_busy();
            return;
        }
        self.desk.hide();
        // A damaged queue is work as well: to be told of.
        if self.go_idle(POLLED) != Ok(false) {
            self.desk.show();
        }
    }
}

impl Served {
    /// Ends the queue, which is damaged, for all. Returns its number.
    #[cold]
    fn broken(&mut self) -> u32 {
        self.damaged = true;
        self.queue.end(Ended::Damaged);
        self.number
    }

    /// Items that wait with this priority.
    #[inline]
    fn waiting(&self, priority: usize) -> Result<u64, Damaged> {
        if self.damaged || priority >= self.queue.shape().priorities() {
            return Ok(0);
        }
        // Acquire: partners with the release in `Poster::publish()`; the items are there.
        let tail = self.queue.head().posters.tails[priority].load(Ordering::Acquire);
        let items = tail.wrapping_sub(self.heads[priority]);
        if items > self.queue.shape().capacity() { Err(Damaged) } else { Ok(items) }
    }

    /// Gives the room of taken items back, and wakes posters that wait for some.
    #[inline]
    fn free(&mut self, priority: usize, items: u64) {
        if items == 0 {
            return;
        }
        self.heads[priority] = self.heads[priority].wrapping_add(items);
        let worker = &self.queue.head().worker;
        // Release: partners with the acquire in `Poster::room()`. A swap, because it must stand in one order with the look
        // in `Poster::wait_for_room()`: one of the two sees the other.
        worker.heads[priority].swap(self.heads[priority], Ordering::AcqRel);
        let wanted = worker.room_wanted.load(Ordering::Relaxed);
        if wanted != 0 {
            self.freed += items;
            // More than anybody asks for may stand there where a peer wrote it.
            let enough = self.freed >= u64::from(self.queue.room_share(wanted as usize));
            if enough || self.waiting(priority) == Ok(0) {
                self.wake_posters();
            }
        }
    }

    #[cold]
    fn wake_posters(&mut self) {
        self.freed = 0;
        let wanted = &self.queue.head().worker.room_wanted;
        wanted.swap(0, Ordering::AcqRel);
        futex_wake(wanted, i32::MAX);
    }
}
