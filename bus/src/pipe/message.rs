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

use super::end::{End, Failure, Wait};
use super::reading::Incoming;
use super::writing::Outgoing;

const MORE: u64 = 1 << 63;
const START: u64 = 1 << 62;
const LENGTH: u64 = u32::MAX as u64;
/// Bytes of the word in front of a frame.
const WORD: u64 = 8;

/// What has come of a message of several frames.
#[derive(Default)]
pub(super) struct Partial {
    bytes: Vec<u8>,
    /// Whether one was begun and not taken.
    begun: bool,
    /// Whether all of it has come.
    whole: bool,
}

/// How far a message of several frames has gone.
#[derive(Debug, Default)]
pub struct Progress {
    done: usize,
    /// Which message it is; 0 for one of which nothing has gone.
    number: u64,
}

impl Progress {
    /// Whether some of it has gone.
    #[must_use]
    pub fn begun(&self) -> bool {
        self.number != 0
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
    /// Where it fails, the caller may call again with the same message and the same `progress`, to go on; any other
    /// message drops what was begun. `interrupted` is asked whether to go on, others being kept out, when a signal came
    /// in the midst of it. Without waiting a message longer than half of the ring goes as far as there is room.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub fn write_message(
        &self,
        message: &[u8],
        wait: Wait,
        progress: &mut Progress,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<(), Failure> {
        let mut turn = self.turn(&self.outgoing, wait)?;
        let result = self.write_frames(&mut turn, message, wait, progress, interrupted);
        if result.is_ok() {
            self.tally.sent.calls.add(1);
            self.tally.sent.bytes.add(message.len() as u64);
        }
        self.end_outgoing(turn);
        self.judge(result)
    }

    fn write_frames(
        &self,
        side: &mut Outgoing,
        message: &[u8],
        wait: Wait,
        progress: &mut Progress,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<(), Failure> {
        let (length, size) = (message.len() as u64, side.producer.size());
        if length > self.largest {
            return Err(Failure::TooLong(length, self.largest));
        }
        if progress.number == 0 || progress.number != side.begun || progress.done > message.len() {
            // None of it has gone, or another message went meanwhile.
            *progress = Progress::default();
        }
        let frame = if length + WORD <= size / 2 { length.max(1) } else { size / 8 - WORD };
        loop {
            let rest = &message[progress.done..];
            let count = rest.len().min(frame as usize);
            let need = count as u64 + WORD;
            while {
                self.may_write(side)?;
                side.producer.room(need)? < need
            } {
                match self.await_room(side, need, need, wait) {
                    Err(Failure::Interrupted) if progress.done > 0 && interrupted() => {}
                    result => result?,
                }
            }
            let start = if progress.done == 0 { START } else { 0 };
            let more = if count < rest.len() { MORE } else { 0 };
            side.producer.put(0, &(count as u64 | start | more).to_ne_bytes());
            side.producer.put(WORD, &rest[..count]);
            self.publish(side, need);
            if more == 0 {
                side.begun = 0;
                return Ok(());
            }
            if start != 0 {
                side.last += 1;
                side.begun = side.last;
                progress.number = side.last;
            }
            progress.done += count;
        }
    }

    /// Reads one message; `None` is the end of what the peer wrote.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub fn read_message(&self, wait: Wait) -> Result<Option<Vec<u8>>, Failure> {
        self.read_message_into(wait, |length, fill| {
            let mut bytes = vec![0; length];
            fill(&mut bytes);
            bytes
        })
    }

    /// Reads one message into what `make` makes of its length: `make` calls what it is given with as many bytes, once.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub fn read_message_into<R>(
        &self,
        wait: Wait,
        make: impl FnOnce(usize, &mut dyn FnMut(&mut [u8])) -> R,
    ) -> Result<Option<R>, Failure> {
        let mut turn = self.turn(&self.incoming, wait)?;
        let result = self.await_message(&mut turn, wait).and_then(|()| self.take_message(&mut turn, make));
        self.end_incoming(turn);
        self.judge(result)
    }

    /// Waits until a whole message is there, or the end of all.
    pub(super) fn await_message(&self, side: &mut Incoming, wait: Wait) -> Result<(), Failure> {
        // At most what a ring has is taken in one call, however much a peer goes on to write without an end.
        let mut left = side.consumer.size();
        while !side.partial.whole {
            let Some(frame) = self.frame(side)? else {
                if side.ended {
                    // A message that was begun and not ended was given up: its writer has ended in order.
                    side.partial = Partial::default();
                    return Ok(());
                }
                self.await_data(side, wait)?;
                continue;
            };
            if frame.start && !frame.more {
                break;
            }
            let bytes = WORD + frame.length;
            if left < bytes {
                return Err(if wait.waits() { Failure::Interrupted } else { Failure::NotNow });
            }
            left -= bytes;
            self.take_frame(side, &frame)?;
        }
        Ok(())
    }

    /// Takes the message that is there, `None` at the end.
    fn take_message<R>(
        &self,
        side: &mut Incoming,
        make: impl FnOnce(usize, &mut dyn FnMut(&mut [u8])) -> R,
    ) -> Result<Option<R>, Failure> {
        let (length, result) = if side.partial.whole {
            let bytes = core::mem::take(&mut side.partial).bytes;
            (bytes.len(), make(bytes.len(), &mut |target| target.copy_from_slice(&bytes)))
        } else {
            let Some(frame) = self.frame(side)? else { return Ok(None) };
            if frame.length > self.largest {
                return Err(Failure::TooLong(frame.length, self.largest));
            }
            side.partial = Partial::default();
            // The copy is bounded by the frame whatever `make` gives, and the frame by what is known to be there.
            let length = frame.length as usize;
            let consumer = &side.consumer;
            let mut fill = |target: &mut [u8]| {
                let count = target.len().min(length);
                consumer.get(WORD, &mut target[..count]);
            };
            let result = make(length, &mut fill);
            self.give_back(side, WORD + frame.length);
            (length, result)
        };
        self.tally.received.calls.add(1);
        self.tally.received.bytes.add(length as u64);
        Ok(Some(result))
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

    /// Takes a frame of a message that has several.
    fn take_frame(&self, side: &mut Incoming, frame: &Frame) -> Result<(), Failure> {
        if frame.start {
            side.partial = Partial { begun: true, ..Partial::default() };
        }
        let before = side.partial.bytes.len();
        let length = before as u64 + frame.length;
        if length > self.largest {
            return Err(Failure::TooLong(length, self.largest));
        }
        // The frame is there: no more is made room for than the peer has really written.
        side.partial.bytes.resize(length as usize, 0);
        side.consumer.get(WORD, &mut side.partial.bytes[before..]);
        side.partial.whole = !frame.more;
        self.give_back(side, WORD + frame.length);
        Ok(())
    }
}
