//! Room that a receiver did not have, to wait for.

use std::sync::Arc;
use std::time::Duration;

use vnet_tables::{NicState, SlotId};

use crate::segment::Segment;

/// Room that a receiver did not have. Apart from the sender, so that nobody needs to keep that while waiting.
pub struct Room {
    pub(crate) segment: Arc<Segment>,
    pub(crate) slot: SlotId,
    pub(crate) bytes: usize,
}

impl Room {
    /// Sleeps until the receiver may have room, for at most `timeout`.
    ///
    /// Returns false when a signal cut the sleep short.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> bool {
        let row = self.segment.tables().nic(self.slot);
        match self.segment.buffer(self.slot, row) {
            Some(buffer) if row.state() == NicState::Up => buffer.wait_for_room(self.bytes, timeout),
            _ => true,
        }
    }
}
