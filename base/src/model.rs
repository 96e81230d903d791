//! What loom's models of this crate stand on: an input buffer without a segment, and a reader without a NIC.

use crate::buffer::InputBuffer;
use crate::control::{Control, WorkerBlock};
use crate::doorbell::ASLEEP;
use crate::lock::Token;

/// An input buffer of `size` bytes.
pub fn ring_of(control: &'static Control, size: u64) -> InputBuffer {
    InputBuffer::model(control, size)
}

/// A worker's block.
pub fn worker_block() -> &'static WorkerBlock {
    Box::leak(Box::new(WorkerBlock::model()))
}

/// Reads datagrams of 8 bytes, as `Receiver` does.
pub struct Reader {
    buffer: InputBuffer,
    position: u64,
}

impl Reader {
    /// A reader from the beginning.
    pub fn new(buffer: InputBuffer) -> Self {
        Self { buffer, position: 0 }
    }

    /// The next datagram.
    pub fn take(&mut self) -> Option<u64> {
        let record = self.buffer.record(self.position).expect("nobody scribbles in a model")?;
        let datagram = u64::from_ne_bytes(self.buffer.area.read(record.at));
        self.position = record.next();
        Some(datagram)
    }

    /// Gives back what was read.
    pub fn publish(&self) {
        self.buffer.publish_head(self.position);
    }

    /// Moves an empty ring back to its beginning.
    pub fn rewind(&mut self, me: Token) {
        self.publish();
        self.position = self.buffer.rewind(self.position, me);
    }

    /// Says that it sleeps, looks once more, and sleeps.
    pub fn sleep_unless_there_is_one(&mut self) {
        if self.buffer.go_idle(self.position, ASLEEP) == Ok(true) {
            self.buffer.control.bell.sleep(None);
        }
    }
}
