//! Boundaries of messages.
//!
//! A message is one frame or several, each behind a word that says what it is:
//!
//! ```text
//!   63    MORE   the message goes on in the next frame
//!   62    START  the message begins here; what was begun before and not ended is to be dropped
//!   31-0  bytes of the frame, at most those of the ring less the word
//! ```
//!
//! A frame is published whole, so a reader that sees its word sees its bytes, and a message of one frame is there or is
//! not, however its writer died. A message that takes more than half of the ring goes in several, so that both sides
//! copy at once, and its length is bounded only by what both sides allow. A writer that gives up in the midst of one
//! leaves nothing of it: the next begins with `START`.

use super::end::{End, Failure, Incoming, Outgoing, Wait};

const MORE: u64 = 1 << 63;
const START: u64 = 1 << 62;
const LENGTH: u64 = u32::MAX as u64;
/// Bytes of the word in front of a frame.
const WORD: u64 = 8;

/// What has come of a message that goes on.
#[derive(Default)]
pub(super) struct Partial {
    bytes: Vec<u8>,
    begun: bool,
}

impl Partial {
    /// Whether a message was begun and not ended.
    #[allow(dead_code)]
    pub fn begun(&self) -> bool {
        self.begun
    }
}

struct Frame {
    length: u64,
    more: bool,
    start: bool,
}

impl End {
    /// Writes one message: whole or, as the reader sees it, not at all.
    ///
    /// `interrupted` is asked whether to go on when a signal came in the midst of a message of several frames.
    ///
    /// # Errors
    ///
    /// See [`Failure`]. [`Failure::TooLong`] for more than both sides allow, or without waiting than the ring has.
    pub fn write_message(
        &self,
        message: &[u8],
        wait: Wait,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<(), Failure> {
        let mut turn = self.turn(&self.outgoing, wait)?;
        let result = self.write_frames(&mut turn, message, wait, interrupted);
        if result.is_ok() {
            self.sent.calls.add(1);
            self.sent.bytes.add(message.len() as u64);
        }
        self.end_outgoing(turn);
        result
    }

    fn write_frames(
        &self,
        side: &mut Outgoing,
        message: &[u8],
        wait: Wait,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<(), Failure> {
        let (length, size) = (message.len() as u64, side.producer.size());
        let most = if wait.waits() { self.largest } else { self.largest.min(size - WORD) };
        if length > most {
            return Err(Failure::TooLong(length, most));
        }
        let frame = if !wait.waits() || length + WORD <= size / 2 { length.max(1) } else { size / 8 - WORD };
        let (mut at, mut start) = (0, START);
        loop {
            let rest = &message[at..];
            let count = rest.len().min(frame as usize);
            let need = count as u64 + WORD;
            while {
                self.may_write(side)?;
                side.producer.room(need)? < need
            } {
                match self.await_room(side, need, need, wait) {
                    Ok(()) => {}
                    Err(Failure::Interrupted) if at > 0 && interrupted() => {}
                    Err(failure) => return Err(failure),
                }
            }
            let more = if count < rest.len() { MORE } else { 0 };
            side.producer.put(0, &(count as u64 | start | more).to_ne_bytes());
            side.producer.put(WORD, &rest[..count]);
            side.producer.finish(need);
            self.ring_reader(side);
            at += count;
            start = 0;
            if more == 0 {
                return Ok(());
            }
        }
    }

    /// Reads one message; `None` is the end of what the peer wrote.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub fn read_message(&self, wait: Wait) -> Result<Option<Vec<u8>>, Failure> {
        let mut turn = self.turn(&self.incoming, wait)?;
        let result = self.read_frames(&mut turn, wait);
        self.end_incoming(turn);
        if let Ok(Some(message)) = &result {
            self.received.calls.add(1);
            self.received.bytes.add(message.len() as u64);
        }
        result
    }

    fn read_frames(&self, side: &mut Incoming, wait: Wait) -> Result<Option<Vec<u8>>, Failure> {
        // Who does not wait takes no more than a ring has, however much a peer goes on to write.
        let mut left = side.consumer.size();
        loop {
            let Some(frame) = self.frame(side)? else {
                if side.ended {
                    return if side.partial.begun { Err(Failure::Reset) } else { Ok(None) };
                }
                self.await_data(side, wait)?;
                continue;
            };
            if left < WORD + frame.length {
                return Err(if wait.waits() { Failure::Interrupted } else { Failure::NotNow });
            }
            left -= WORD + frame.length;
            if let Some(message) = self.take(side, &frame)? {
                return Ok(Some(message));
            }
        }
    }

    /// The frame that is there, still in its place.
    fn frame(&self, side: &mut Incoming) -> Result<Option<Frame>, Failure> {
        let there = self.available(side, WORD)?;
        if there == 0 {
            return Ok(None);
        }
        if there < WORD {
            return Err(Failure::Nonsense);
        }
        let mut word = [0; WORD as usize];
        side.consumer.get(0, &mut word);
        let word = u64::from_ne_bytes(word);
        let frame = Frame { length: word & LENGTH, more: word & MORE != 0, start: word & START != 0 };
        let known = word & !(MORE | START | LENGTH) == 0;
        // A frame that goes on has bytes, one that does not start goes on with something.
        let sense = known && (frame.length > 0 || !frame.more) && (frame.start || side.partial.begun);
        if !sense || frame.length > side.consumer.size() - WORD {
            return Err(Failure::Nonsense);
        }
        if self.available(side, WORD + frame.length)? < WORD + frame.length {
            return Err(Failure::Nonsense);
        }
        Ok(Some(frame))
    }

    /// Takes a frame, and the message where it ends there.
    fn take(&self, side: &mut Incoming, frame: &Frame) -> Result<Option<Vec<u8>>, Failure> {
        if frame.start {
            side.partial = Partial { bytes: Vec::new(), begun: true };
        }
        let before = side.partial.bytes.len();
        let length = before as u64 + frame.length;
        if length > self.largest {
            return Err(Failure::TooLong(length, self.largest));
        }
        // The frame is there: no more is made room for than the peer has really written.
        side.partial.bytes.resize(length as usize, 0);
        side.consumer.get(WORD, &mut side.partial.bytes[before..]);
        self.give_back(side, WORD + frame.length);
        Ok((!frame.more).then(|| core::mem::take(&mut side.partial).bytes))
    }
}
