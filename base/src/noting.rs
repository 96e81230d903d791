//! What a sender notes for the captures.

use vnet_tables::SlotId;
use vnet_tables::layout::FLAG_CAPTURE;

use crate::buffer::{InputBuffer, Refused};
use crate::datagram::LARGEST;
use crate::doorbell::Listener;
use crate::forward::Sender;
use crate::note::Notes;
use crate::sync::Ordering;
use crate::verdict::Verdict;
use crate::writing::{Change, whole};

impl Sender {
    /// Notes a datagram, with a change, for the captures, which want what `noted` says.
    #[cold]
    pub(crate) fn note(
        &mut self,
        noted: u32,
        datagram: &[u8],
        change: Change,
        (source, receiver): (SlotId, SlotId),
        verdict: Verdict,
        copy: bool,
    ) {
        if verdict == Verdict::Delivered && noted & FLAG_CAPTURE == 0 {
            return;
        }
        let receiver = if verdict == Verdict::Delivered || copy { receiver } else { SlotId(0) };
        let length = datagram.len();
        let kept = length.min(LARGEST).min(self.tables.noted_bytes());
        // A record has one source.
        if self.notes.is_full(kept) || self.notes.source != source {
            self.publish_notes();
        }
        if self.notes.is_empty() {
            let row = self.tables.nic(SlotId(0));
            self.notes.generation = row.generation();
            self.notes.source = source;
            // Not the moment when a little is free: then each batch would be copied to see whether it fits.
            let crowded = |buffer: InputBuffer| buffer.used() > buffer.outlook(0).size / 4 * 3;
            self.notes.crowded = self.notes.crowded && self.segment.buffer(SlotId(0), row).is_some_and(crowded);
        }
        if self.notes.crowded {
            self.notes.miss();
            return;
        }
        let generation = self.tables.nic(receiver).generation();
        self.notes.push(
            &whole(datagram, change)[..kept],
            length,
            receiver,
            generation,
            [verdict as u8, u8::from(copy)],
        );
    }

    /// Hands what was noted to the captures. They make a sender wait for nobody who reads, is stopped or dead: where there
    /// is no room, or the lock's owner does not come back soon, they miss it, and it is counted.
    #[cold]
    pub(crate) fn publish_notes(&mut self) {
        let row = self.tables.nic(SlotId(0));
        if let Some(buffer) = self.segment.buffer(SlotId(0), row) {
            let mut batch = buffer.batch();
            let opened = if self.notes.crowded {
                Err(Refused::Locked)
            } else {
                batch.open_soon(self.notes.generation, self.token)
            };
            let taken = match opened {
                Ok(()) => {
                    // Under the lock, so that times grow in the order of the ring, whoever sends.
                    let source = self.notes.source;
                    let head = Notes::head((self.clock)(), source, self.tables.nic(source).generation());
                    self.notes.crowded = !batch.push(&head, self.notes.bytes(), source.0, None);
                    !self.notes.crowded
                }
                // The capture that these were for has ended.
                Err(Refused::Gone) => true,
                Err(Refused::Locked) => false,
            };
            batch.publish();
            if taken {
                buffer.control.bell.ring(Listener::Guest);
            } else {
                buffer.control.senders.missed.fetch_add(self.notes.count, Ordering::Relaxed);
            }
        }
        self.notes.clear();
    }
}
