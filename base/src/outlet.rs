//! Outlets: guests whose own kernel has a queue, so that a datagram need not stop in the input buffer on its way there.
//!
//! A TAP device is such a guest. Where sender and receiver are served by the same base worker, the sender's turn would copy
//! the datagram into the receiver's buffer, and the receiver's turn, in the same thread, out of it. Handing it over at once
//! saves that copy and a visit; what it may not do is overtake what lies in the buffer, so [`Sender`](crate::Sender) asks
//! for it only while that is empty.

use std::sync::{Arc, PoisonError, RwLock};

use vnet_tables::SlotId;

use crate::offload::Offload;
use crate::sync::{AtomicU64, Ordering};

/// What became of a datagram at an outlet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The guest's kernel has it.
    Taken,
    /// The guest's queue is full.
    Full,
    /// The guest's interface is down or gone.
    Down,
    /// The guest's kernel does not take this datagram.
    Refused,
    /// The driver has to look at this datagram: it goes through the input buffer.
    Elsewhere,
}

/// A guest that takes datagrams at any time, from the thread of its base worker.
pub trait Outlet: Send + Sync {
    /// Hands a datagram to the guest. `head`, which may be empty, stands for its first bytes: routers have changed them.
    /// `source` is the MAC address of the sending NIC.
    fn put(&self, head: &[u8], datagram: &[u8], offload: Option<Offload>, source: u64) -> Put;
}

type Entry = Option<(u32, Arc<dyn Outlet>)>;

/// The outlets of one base worker, by slot.
#[derive(Default)]
pub struct Outlets {
    entries: RwLock<Vec<Entry>>,
    /// Counts the changes of `entries`.
    version: AtomicU64,
}

/// An outlet that was found, and the version of the outlets in which it was.
pub struct Near {
    slot: SlotId,
    generation: u32,
    version: u64,
    outlet: Option<Arc<dyn Outlet>>,
}

impl Near {
    /// Whether it is that of the NIC in `slot`.
    pub(crate) fn is_of(&self, slot: SlotId) -> bool {
        self.slot == slot
    }
}

impl Outlets {
    /// Enters the outlet of a NIC, or takes it out. Returns whether there was one.
    ///
    /// Senders that found it last have it still: see [`Sender::forget_outlet`](crate::Sender::forget_outlet).
    pub fn set(&self, slot: SlotId, outlet: Option<(u32, Arc<dyn Outlet>)>) -> bool {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let index = usize::from(slot.0);
        if entries.len() <= index {
            entries.resize_with(index + 1, || None);
        }
        let before = std::mem::replace(&mut entries[index], outlet);
        // Release: partners with the acquire in `find()`. Under the lock, so that whoever reads the new number and then the
        // entries reads the new ones.
        self.version.fetch_add(1, Ordering::Release);
        before.is_some()
    }

    /// Takes all out.
    pub fn clear(&self) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let all = std::mem::take(&mut *entries);
        self.version.fetch_add(1, Ordering::Release);
        drop(entries);
        drop(all);
    }

    /// The outlet of the NIC of this generation. `near` keeps what was found last: a sender writes to the same receiver
    /// again and again, and finds it there without a lock.
    pub fn find<'n>(&self, slot: SlotId, generation: u32, near: &'n mut Option<Near>) -> Option<&'n dyn Outlet> {
        let version = self.version.load(Ordering::Acquire);
        let known = |near: &Near| near.slot == slot && near.generation == generation && near.version == version;
        if !near.as_ref().is_some_and(known) {
            let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
            let entry = entries.get(usize::from(slot.0)).and_then(Option::as_ref);
            let outlet = entry.filter(|(own, _)| *own == generation).map(|(_, outlet)| Arc::clone(outlet));
            *near = Some(Near { slot, generation, version, outlet });
        }
        near.as_ref()?.outlet.as_deref()
    }
}
