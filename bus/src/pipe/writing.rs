//! The writing side of an end.

use std::time::{Duration, Instant};

use vnet_base::sync::{Ordering, spin_loop};

use super::bell::arm_room;
use super::end::{End, FIRST, FRUITLESS, Failure, LEAST, MOST, Wait};
use super::ring::{PIECE, Producer};
use super::signal::{For, Woken};
use super::turn::Taken;

/// How often a writer that finds room asks the kernel whether its peer lives. A question costs 200 ns, the clock 20.
const ASK: Duration = Duration::from_micros(100);

/// The writing side, whose turn it is.
pub(super) struct Outgoing {
    pub producer: Producer,
    pub shut: bool,
    /// Number of the last message of several frames, and of the one that was begun and not ended; 0 for none.
    pub last: u64,
    pub begun: u64,
    turns: u32,
    /// When the kernel was last asked for the peer.
    asked: Instant,
    /// Whether the send buffer was made large, so that the descriptor shows room.
    large: bool,
    /// Whether the descriptor shows that there is no room, and nothing was written since.
    shown: bool,
}

impl Outgoing {
    pub fn new(producer: Producer) -> Self {
        Self {
            producer,
            shut: false,
            last: 0,
            begun: 0,
            turns: FIRST,
            asked: Instant::now(),
            large: false,
            shown: false,
        }
    }
}

impl End {
    /// Writes bytes; `done` counts those taken, also where it fails. Waiting, it takes all; otherwise as many as fit.
    ///
    /// # Errors
    ///
    /// See [`Failure`]; [`Failure::NotNow`] only where none fits.
    pub fn write(&self, bytes: &[u8], wait: Wait, done: &mut usize) -> Result<(), Failure> {
        let mut turn = self.turn(&self.outgoing, wait)?;
        let before = *done;
        let result = self.write_some(&mut turn, bytes, wait, done);
        if *done > before {
            self.tally.sent.calls.add(1);
            self.tally.sent.bytes.add((*done - before) as u64);
        }
        self.end_outgoing(turn);
        self.judge(result)
    }

    fn write_some(&self, side: &mut Outgoing, bytes: &[u8], wait: Wait, done: &mut usize) -> Result<(), Failure> {
        loop {
            self.may_write(side)?;
            let rest = &bytes[*done..];
            let length = rest.len() as u64;
            if length == 0 {
                return Ok(());
            }
            // Who does not wait gets all the room that there is.
            let enough = if wait.waits() { PIECE.min(length) } else { length };
            let room = side.producer.room(enough)?;
            if room == 0 {
                let late = (side.producer.size() / 4).min(length);
                let waited = self.await_room(side, PIECE.min(late), late, wait);
                // Less room than was waited for is better than none.
                if !(waited == Err(Failure::Late) && side.producer.room(1)? > 0) {
                    waited?;
                    continue;
                }
                let room = side.producer.room(1)?;
                *done += self.copy_in(side, rest, room);
                return if *done == bytes.len() { Ok(()) } else { waited };
            }
            *done += self.copy_in(side, rest, room);
            if !wait.waits() || room >= length {
                return Ok(());
            }
        }
    }

    /// Copies as much as there is `room` for, and tells the reader.
    fn copy_in(&self, side: &mut Outgoing, bytes: &[u8], room: u64) -> usize {
        let count = (bytes.len() as u64).min(room) as usize;
        let mut at = 0;
        while count - at > PIECE as usize {
            side.producer.put(0, &bytes[at..at + PIECE as usize]);
            side.producer.advance(PIECE);
            at += PIECE as usize;
            if side.producer.rings() {
                self.signal_data();
            }
        }
        side.producer.put(0, &bytes[at..count]);
        self.publish(side, (count - at) as u64);
        count
    }

    /// Publishes `count` bytes that were copied, and tells the reader.
    #[inline]
    pub(super) fn publish(&self, side: &mut Outgoing, count: u64) {
        side.producer.finish(count);
        side.shown = false;
        if side.producer.rings() {
            self.signal_data();
        } else {
            self.tally.sent.saved.add(1);
        }
    }

    #[cold]
    fn signal_data(&self) {
        self.tally.sent.rung.add(1);
        self.signals.signal_data();
    }

    /// Bytes that can be written now without waiting; none where another thread writes.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub fn room(&self) -> Result<u64, Failure> {
        self.usable()?;
        let Some(mut side) = self.outgoing.try_take() else { return Ok(0) };
        self.judge(side.producer.room(u64::MAX).map_err(Failure::from))
    }

    /// Waits until a write would not have to.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub fn await_writable(&self, wait: Wait) -> Result<(), Failure> {
        let mut turn = self.turn(&self.outgoing, wait)?;
        let quarter = self.size() / 4;
        let result = loop {
            let room = self.may_write(&mut turn).and_then(|()| Ok(turn.producer.room(1)?));
            match room {
                Ok(0) => {}
                // A write would fail, without waiting.
                Ok(_) | Err(Failure::Broken | Failure::Shut) => break Ok(()),
                Err(failure) => break Err(failure),
            }
            if let Err(failure) = self.await_room(&mut turn, 1, quarter, wait) {
                break Err(failure);
            }
        };
        self.end_outgoing(turn);
        self.judge(result)
    }

    #[inline]
    pub(super) fn may_write(&self, side: &mut Outgoing) -> Result<(), Failure> {
        self.usable()?;
        if side.shut {
            return Err(Failure::Shut);
        }
        let now = Instant::now();
        if now.duration_since(side.asked) > ASK {
            side.asked = now;
            self.look_for_peer();
        }
        if side.producer.reader_ended() || self.gone.load(Ordering::Relaxed) {
            return Err(Failure::Broken);
        }
        Ok(())
    }

    /// Waits until there may be room: looks for `soon` bytes for a while, then sleeps until there are `late`.
    pub(super) fn await_room(&self, side: &mut Outgoing, soon: u64, late: u64, wait: Wait) -> Result<(), Failure> {
        let Wait::Until(deadline) = wait else { return self.no_room(side, late, wait) };
        for _ in 0..side.turns {
            if side.producer.room(soon)? >= soon || side.producer.reader_ended() || self.closed() {
                side.turns = (side.turns * 2).min(MOST);
                return Ok(());
            }
            spin_loop();
        }
        side.turns = (side.turns / 2).max(LEAST);
        for _ in 0..FRUITLESS {
            if self.arm_room(side, late)? || self.closed() {
                return Ok(());
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(Failure::Late);
            }
            self.tally.sent.slept.add(1);
            match self.signals.sleep(For::Room, deadline) {
                Woken::Gone => {
                    self.look_for_peer();
                    return Ok(());
                }
                Woken::Interrupted => return Err(Failure::Interrupted),
                Woken::Look | Woken::Late => {}
            }
            if side.producer.room(late)? >= late {
                return Ok(());
            }
        }
        // Somebody wakes us for nothing: the caller may have signals to look after.
        Err(Failure::Interrupted)
    }

    fn no_room(&self, side: &mut Outgoing, need: u64, wait: Wait) -> Result<(), Failure> {
        if wait == Wait::Quick {
            return Err(Failure::NotNow);
        }
        let need = need.max(side.producer.size() / 4);
        // Where it found room, or the peer has gone, the caller looks again.
        let found = self.polled.load(Ordering::Relaxed) && self.arm_room(side, need)?;
        if found || self.look_for_peer() { Ok(()) } else { Err(Failure::NotNow) }
    }

    /// Sets the bell, so that the descriptor becomes writable when `need` bytes fit. True when they do already.
    fn arm_room(&self, side: &mut Outgoing, need: u64) -> Result<bool, Failure> {
        let was_large = core::mem::take(&mut side.large);
        let producer = &mut side.producer;
        let position = producer.head_for(need);
        let found = arm_room(
            &self.way_out.room,
            position,
            || self.signals.hold_writable(was_large),
            || Ok::<_, Failure>(producer.last_look()? >= need || producer.reader_ended()),
            || self.signals.let_writable(),
        )?;
        side.large = found;
        side.shown = !found;
        Ok(found || self.gone.load(Ordering::Acquire))
    }

    /// Has the descriptor show whether there is room. What is wrong is told by the next call.
    pub(super) fn show_room(&self, side: &mut Outgoing) {
        match side.producer.room(1) {
            Ok(0) if !side.shown => {
                let _ = self.arm_room(side, self.size() / 4);
            }
            // Ballast of a wait that ended otherwise.
            Ok(1..) if !self.signals.writable() => {
                side.large = true;
                self.signals.let_writable();
            }
            _ => {}
        }
    }

    #[inline]
    pub(super) fn end_outgoing(&self, mut turn: Taken<'_, Outgoing>) {
        if self.polled.load(Ordering::Relaxed) && !turn.shown && matches!(turn.producer.room(1), Ok(0)) {
            let _ = self.arm_room(&mut turn, self.size() / 4);
        }
        // Whoever asked for the descriptor meanwhile left it to us to show what there is.
        if turn.end()
            && self.polled.load(Ordering::Acquire)
            && let Some(mut side) = self.outgoing.try_take()
        {
            self.show_room(&mut side);
        }
    }
}
