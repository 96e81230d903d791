//! A NIC as its driver sees it.

use std::sync::Arc;

use vnet_base::buffer::{Damaged, Record};
use vnet_base::forward::Side;
use vnet_base::lock::Token;
use vnet_base::tables::SlotId;
use vnet_base::{Receiver, Segment, Sender, Verdict};

use crate::clock;

/// Both ends of a NIC: its input buffer, and the sender in its name.
pub struct Port {
    /// Reads the NIC's input buffer.
    pub receiver: Receiver,
    /// Sends in the NIC's name.
    pub sender: Sender,
}

impl Port {
    /// The port of `slot`, which holds locks as `token`. `None` where the slot has no ring.
    #[must_use]
    pub fn new(segment: &Arc<Segment>, slot: SlotId, token: Token) -> Option<Self> {
        let receiver = Receiver::new(Arc::clone(segment), slot, token)?;
        let sender = Sender::new(Arc::clone(segment), slot, token, Side::Guest, clock::wall);
        Some(Self { receiver, sender })
    }

    /// Copies the next datagram into `datagram` and lets go of it. False when there is none.
    ///
    /// # Errors
    ///
    /// [`Damaged`] when some process scribbled over the ring.
    #[inline]
    pub fn receive(&mut self, datagram: &mut Vec<u8>) -> Result<bool, Damaged> {
        let Some(record) = self.receiver.peek()? else { return Ok(false) };
        datagram.clear();
        datagram.extend_from_slice(self.receiver.bytes(&record));
        self.receiver.done(&record);
        Ok(true)
    }

    /// The next datagram in place, until [`Port::done`].
    ///
    /// # Errors
    ///
    /// [`Damaged`].
    #[inline]
    pub fn peek(&mut self) -> Result<Option<Record>, Damaged> {
        self.receiver.peek()
    }

    /// Lets go of a record.
    #[inline]
    pub fn done(&mut self, record: &Record) {
        self.receiver.done(record);
    }

    /// Forwards a datagram; see [`Sender::forward`].
    #[inline]
    pub fn send(&mut self, datagram: &[u8], more: bool) -> Verdict {
        self.sender.forward(datagram, more)
    }
}
