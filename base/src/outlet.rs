//! Outlets: guests whose own kernel has a queue, so that a datagram need not stop in the input buffer on its way there.
//!
//! A TAP device is such a guest. Where sender and receiver are served by the same base worker, the sender's turn would copy
//! the datagram into the receiver's buffer, and the receiver's turn, in the same thread, out of it. Handing it over at once
//! saves that copy and a visit; what it may not do is overtake what lies in the buffer, so [`Sender`](crate::Sender) asks
//! for it only while that is empty.

use std::sync::{Arc, PoisonError, RwLock};

use vnet_tables::SlotId;

use crate::offload::Offload;

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
}

/// A guest that takes datagrams at any time, from the thread of its base worker.
pub trait Outlet: Send + Sync {
    /// Hands a datagram to the guest. `source` is the MAC address of the sending NIC.
    fn put(&self, datagram: &[u8], offload: Option<Offload>, source: u64) -> Put;
}

type Entry = Option<(u32, Arc<dyn Outlet>)>;

/// The outlets of one base worker, by slot.
#[derive(Default)]
pub struct Outlets {
    entries: RwLock<Vec<Entry>>,
}

impl Outlets {
    /// Enters the outlet of a NIC, or takes it out.
    pub fn set(&self, slot: SlotId, outlet: Option<(u32, Arc<dyn Outlet>)>) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let index = usize::from(slot.0);
        if entries.len() <= index {
            entries.resize_with(index + 1, || None);
        }
        entries[index] = outlet;
    }

    /// Takes all out.
    pub fn clear(&self) {
        let entries = std::mem::take(&mut *self.entries.write().unwrap_or_else(PoisonError::into_inner));
        drop(entries);
    }

    /// The outlet of the NIC of this generation.
    #[must_use]
    pub fn find(&self, slot: SlotId, generation: u32) -> Option<Arc<dyn Outlet>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let (own, outlet) = entries.get(usize::from(slot.0))?.as_ref()?;
        (*own == generation).then(|| Arc::clone(outlet))
    }
}
