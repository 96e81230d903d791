//! The posting end of a queue.

use std::sync::Arc;
use std::time::Duration;

use vnet_base::lock::Token;
use vnet_base::sync::{AtomicU32, AtomicU64, Ordering, futex_wait, spin_loop, take_place};

use super::desk::Desk;
use super::layout::{HEADER_BYTES, PRIORITIES};
use super::state::{Ended, Queue};

/// Most items and bytes that one hold of the lock publishes: others wait no longer than for these, and the dispatcher
/// begins with them while more are copied.
const BATCH: usize = 128;
const BATCH_BYTES: usize = 64 * 1024;

/// How far ahead of the copying slots are asked for, in bytes.
const AHEAD: u64 = 2048;

/// Posts items for another guest. Threads of a process may share it.
pub struct Poster {
    queue: Arc<Queue>,
    desk: Arc<Desk>,
    me: Token,
    /// The dispatcher's heads when this end last looked. A head only grows, so an old one is on the safe side.
    heads: [AtomicU64; PRIORITIES],
    /// How often it looks for room before it sleeps: about as often as that has lately paid off.
    looks: AtomicU32,
}

/// Most looks for room before a poster sleeps, and turns of a spin loop between two. A dispatcher that is quick makes some
/// meanwhile, and has nobody to wake; but each look takes the line of its heads away from it.
const MOST_LOOKS: u32 = 128;
const PAUSE: u32 = if cfg!(loom) { 0 } else { 32 };

/// Why not all items were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The queue has no room.
    Full,
    /// Another poster holds the lock and does not give it back: it is stopped, or dead and not yet buried.
    Locked,
    /// The queue takes no more items.
    Ended(Ended),
}

impl Poster {
    /// An end that posts to `queue`, rings at `desk` and holds locks as `me`.
    #[must_use]
    pub fn new(queue: Arc<Queue>, desk: Arc<Desk>, me: Token) -> Self {
        Self { queue, desk, me, heads: Default::default(), looks: AtomicU32::new(MOST_LOOKS / 4) }
    }

    /// The queue.
    #[must_use]
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Posts `items`, each at most as large as the queue's items, with one priority and in their order. Waits for the
    /// lock, never for room.
    ///
    /// Returns how many were taken, and if that is not all, why.
    pub fn post(&self, priority: usize, items: &[&[u8]]) -> (usize, Option<Refused>) {
        let mut taken = 0;
        while taken < items.len() {
            if !self.queue.head().posters.lock.lock(self.me) {
                let ended = self.queue.ended().map(Refused::Ended);
                return (taken, Some(ended.unwrap_or(Refused::Locked)));
            }
            match self.locked(priority, &items[taken..]) {
                Ok(count) => taken += count,
                Err(refused) => return (taken, Some(refused)),
            }
        }
        (taken, None)
    }

    /// As [`Poster::post`] of one item, but gives up at once when the lock is not free.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    #[inline]
    pub fn try_post(&self, priority: usize, item: &[u8]) -> Result<(), Refused> {
        if !self.queue.head().posters.lock.try_lock(self.me) {
            return Err(Refused::Locked);
        }
        self.locked(priority, &[item]).map(|_| ())
    }

    /// Steps 2 to 6: publishes a batch of `items`, which are not none, and unlocks. Returns how many.
    #[inline]
    fn locked(&self, priority: usize, items: &[&[u8]]) -> Result<usize, Refused> {
        let posters = &self.queue.head().posters;
        let published = self.publish(priority, items);
        posters.lock.unlock();
        let count = published?;
        if self.desk.ring() {
            posters.interrupts.fetch_add(1, Ordering::Relaxed);
        }
        Ok(count)
    }

    #[inline]
    fn publish(&self, priority: usize, items: &[&[u8]]) -> Result<usize, Refused> {
        let (memory, posters) = (&self.queue.memory, &self.queue.head().posters);
        if let Some(why) = self.queue.ended() {
            return Err(Refused::Ended(why));
        }
        // Relaxed: the lock orders posters, and nobody else writes a tail.
        let tail = posters.tails[priority].load(Ordering::Relaxed);
        let wanted = items.len().min(BATCH);
        let room = self.room(priority, tail, wanted as u64).map_err(Refused::Ended)?;
        let (ring, shape) = (memory.ring(priority), memory.shape());
        let (mut count, mut bytes) = (0, 0);
        for item in items.iter().take(wanted.min(room as usize)) {
            if bytes > BATCH_BYTES {
                break;
            }
            debug_assert!(item.len() <= shape.item_bytes(), "whoever calls checks lengths");
            let item = &item[..item.len().min(shape.item_bytes())];
            let at = memory.slot(tail.wrapping_add(count));
            if wanted > 1 {
                ring.prepare(at + AHEAD);
            }
            ring.write(at + HEADER_BYTES, item);
            // Relaxed: the release of the tail covers it.
            ring.word(at).store(item.len() as u64, Ordering::Relaxed);
            count += 1;
            bytes += item.len();
        }
        if count == 0 {
            return Err(Refused::Full);
        }
        let publications = &posters.publications;
        publications.store(publications.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        // Release: partners with the acquire in `Worker::waiting()`. Here the items appear.
        posters.tails[priority].store(tail.wrapping_add(count), Ordering::Release);
        Ok(count as usize)
    }

    /// Room behind `tail`, in items. Looks at the dispatcher's head only where what it knows of it is not enough.
    #[inline]
    fn room(&self, priority: usize, tail: u64, wanted: u64) -> Result<u64, Ended> {
        let capacity = self.queue.shape().capacity();
        let used = tail.wrapping_sub(self.heads[priority].load(Ordering::Relaxed));
        if used.saturating_add(wanted) <= capacity {
            return Ok(capacity - used);
        }
        // Acquire: partners with the swap in `Worker::free()`; the dispatcher has read what is to be written over.
        let head = self.queue.head().worker.heads[priority].load(Ordering::Acquire);
        self.heads[priority].store(head, Ordering::Relaxed);
        match capacity.checked_sub(tail.wrapping_sub(head)) {
            Some(room) => Ok(room),
            None => {
                self.queue.end(Ended::Damaged);
                Err(Ended::Damaged)
            }
        }
    }

    /// Counts items that found no room and are not waited for.
    pub fn refuse(&self, items: u64) {
        self.queue.head().posters.refused.fetch_add(items, Ordering::Relaxed);
    }

    /// Waits until the priority has room or the queue has ended, polling first, then asleep for at most `timeout`. The
    /// caller, who has `wanted` items, looks again: there may be room for some, or for none.
    ///
    /// Returns false when a signal cut the sleep short.
    #[must_use]
    pub fn wait_for_room(&self, priority: usize, wanted: usize, timeout: Duration) -> bool {
        let head = self.queue.head();
        let share = self.queue.room_share(wanted);
        if self.poll_for_room(priority, share) {
            return true;
        }
        // Partners with the swap in `Queue::end()`: it finds the wish, or the look below finds the queue ended.
        let wish = self.wish(share);
        // Partners with the swap in `Worker::free()`.
        let taken = take_place(&head.worker.heads[priority]);
        let posted = head.posters.tails[priority].load(Ordering::Relaxed);
        if posted.wrapping_sub(taken) < self.queue.shape().capacity() || self.queue.ended().is_some() {
            return true;
        }
        futex_wait(&head.worker.room_wanted, wish, Some(timeout))
    }

    /// Asks to be woken once `share` items were taken, or sooner where another poster asks for that. Returns what it says
    /// now.
    fn wish(&self, share: u32) -> u32 {
        let wanted = &self.queue.head().worker.room_wanted;
        let mut present = wanted.load(Ordering::Relaxed);
        loop {
            let wish = if present == 0 { share } else { present.min(share) };
            match wanted.compare_exchange(present, wish, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return wish,
                Err(changed) => present = changed,
            }
        }
    }

    /// Polls for room for `share` items. Returns whether there is any.
    fn poll_for_room(&self, priority: usize, share: u32) -> bool {
        if cfg!(loom) {
            return false;
        }
        let (head, capacity) = (self.queue.head(), self.queue.shape().capacity());
        let looks = self.looks.load(Ordering::Relaxed);
        let mut room = 0;
        for _ in 0..looks {
            let used = head.posters.tails[priority].load(Ordering::Relaxed);
            let used = used.wrapping_sub(head.worker.heads[priority].load(Ordering::Relaxed));
            // More than fit is damage, which the next post finds.
            room = capacity.checked_sub(used).unwrap_or(capacity);
            if room >= u64::from(share) || self.queue.ended().is_some() {
                self.looks.store((looks * 2).min(MOST_LOOKS), Ordering::Relaxed);
                return true;
            }
            for _ in 0..PAUSE {
                spin_loop();
            }
        }
        self.looks.store((looks / 2).max(1), Ordering::Relaxed);
        room > 0
    }
}
