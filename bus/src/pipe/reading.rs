//! The reading side of an end.

use std::time::Instant;

use vnet_base::sync::{Ordering, spin_loop};

use super::bell::{Armed, Watch};
use super::end::{End, FIRST, FRUITLESS, Failure, LEAST, MOST, Wait};
use super::message::Partial;
use super::ring::{Consumer, PIECE};
use super::signal::{For, Woken};
use super::turn::Taken;

/// Bytes in a row after which a reader that has caught up with its writer looks away; and for how many turns.
const LONG_RUN: u64 = 2048;
const LEAST_PAUSE: u32 = 64;
const MOST_PAUSE: u32 = 4096;

/// The reading side, whose turn it is.
pub(super) struct Incoming {
    pub consumer: Consumer,
    /// Whether all was read that will ever come.
    pub ended: bool,
    pub partial: Partial,
    turns: u32,
    watch: Watch,
    /// Whether the descriptor shows that there is nothing, and nothing was read since.
    shown: bool,
    /// Bytes read since the ring was last found empty.
    run: u64,
    pause: u32,
}

impl Incoming {
    pub fn new(consumer: Consumer) -> Self {
        Self {
            consumer,
            ended: false,
            partial: Partial::default(),
            turns: FIRST,
            watch: Watch::new(),
            shown: false,
            run: 0,
            pause: LEAST_PAUSE,
        }
    }

    /// Lets a writer that streams get ahead again, where the ring was found empty: as `Receiver::look_away` of a NIC.
    ///
    /// A reader right behind its writer takes lines away from it that it is about to write. After a long run this looks
    /// away for a moment, for longer while that leads to runs that are long and yet leave most of the ring free.
    fn look_away(&mut self) {
        let run = core::mem::take(&mut self.run);
        if run < LONG_RUN {
            self.pause = LEAST_PAUSE;
            return;
        }
        for _ in 0..self.pause {
            spin_loop();
        }
        let size = self.consumer.size();
        if run < size / 32 {
            self.pause = (self.pause * 2).min(MOST_PAUSE);
        } else if run > size / 8 {
            self.pause = (self.pause / 2).max(LEAST_PAUSE);
        }
    }
}

impl End {
    /// Reads up to `buffer.len()` bytes: what is there, one at least. 0 is the end of what the peer wrote.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub fn read(&self, buffer: &mut [u8], wait: Wait) -> Result<usize, Failure> {
        let mut turn = self.turn(&self.incoming, wait)?;
        let result = self.read_some(&mut turn, buffer, wait);
        self.end_incoming(turn);
        self.judge(result)
    }

    fn read_some(&self, side: &mut Incoming, buffer: &mut [u8], wait: Wait) -> Result<usize, Failure> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let there = self.available(side, PIECE.min(buffer.len() as u64))?;
            if there > 0 {
                let count = there.min(buffer.len() as u64) as usize;
                self.copy_out(side, &mut buffer[..count]);
                self.tally.received.calls.add(1);
                self.tally.received.bytes.add(count as u64);
                return Ok(count);
            }
            if side.ended {
                return Ok(0);
            }
            self.await_data(side, wait)?;
        }
    }

    fn copy_out(&self, side: &mut Incoming, bytes: &mut [u8]) {
        let mut at = 0;
        while bytes.len() - at > PIECE as usize {
            side.consumer.get(0, &mut bytes[at..at + PIECE as usize]);
            side.consumer.advance(PIECE);
            side.run += PIECE;
            at += PIECE as usize;
            if side.consumer.rings() {
                self.signal_room();
            }
        }
        side.consumer.get(0, &mut bytes[at..]);
        self.give_back(side, (bytes.len() - at) as u64);
    }

    /// Gives `count` bytes back that were copied, and tells the writer.
    #[inline]
    pub(super) fn give_back(&self, side: &mut Incoming, count: u64) {
        side.consumer.finish(count);
        side.run += count;
        side.shown = false;
        if side.consumer.rings() {
            self.signal_room();
        } else {
            self.tally.received.saved.add(1);
        }
    }

    #[cold]
    fn signal_room(&self) {
        self.tally.received.rung.add(1);
        self.signals.signal_room();
    }

    /// Copies what is there, up to `buffer.len()` bytes, and leaves it there.
    ///
    /// # Errors
    ///
    /// See [`Failure`]; [`Failure::NotNow`] where another thread reads.
    pub fn peek(&self, buffer: &mut [u8]) -> Result<usize, Failure> {
        let mut turn = self.turn(&self.incoming, Wait::No)?;
        let count = match self.available(&mut turn, buffer.len() as u64) {
            Ok(there) => there.min(buffer.len() as u64) as usize,
            Err(failure) => return self.judge(Err(failure)),
        };
        turn.consumer.get(0, &mut buffer[..count]);
        Ok(count)
    }

    /// Bytes that can be read now; none where another thread reads.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub fn waiting(&self) -> Result<u64, Failure> {
        self.usable()?;
        let Some(mut side) = self.incoming.try_take() else { return Ok(0) };
        match self.available(&mut side, u64::MAX) {
            Err(Failure::Reset) => Ok(0),
            result => self.judge(result),
        }
    }

    /// Waits until a read would not have to.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub fn await_readable(&self, wait: Wait) -> Result<(), Failure> {
        let mut turn = self.turn(&self.incoming, wait)?;
        let result =
            if self.messages() { self.await_message(&mut turn, wait) } else { self.await_bytes(&mut turn, wait) };
        self.end_incoming(turn);
        match result {
            // A read would fail, without waiting.
            Err(Failure::Reset | Failure::TooLong(..)) => Ok(()),
            result => self.judge(result),
        }
    }

    fn await_bytes(&self, side: &mut Incoming, wait: Wait) -> Result<(), Failure> {
        while self.available(side, 1)? == 0 && !side.ended {
            self.await_data(side, wait)?;
        }
        Ok(())
    }

    /// Bytes that can be read; 0 with `ended` set when no more will come. Looks only when fewer than `enough` are known.
    #[inline]
    pub(super) fn available(&self, side: &mut Incoming, enough: u64) -> Result<u64, Failure> {
        self.usable()?;
        if side.ended || self.deaf() {
            side.ended = true;
            return Ok(0);
        }
        let there = side.consumer.available(enough)?;
        if there > 0 { Ok(there) } else { self.available_at_last(side) }
    }

    #[cold]
    fn available_at_last(&self, side: &mut Incoming) -> Result<u64, Failure> {
        let gone = self.gone.load(Ordering::Acquire);
        // Behind the kernel's word, so that a peer that ended and then went is not taken for one that died.
        let ended = side.consumer.writer_ended();
        if !ended && !gone {
            return Ok(0);
        }
        // Behind both: whatever it wrote, it wrote before.
        let there = side.consumer.available(1)?;
        if there == 0 && !ended {
            return Err(Failure::Reset);
        }
        side.ended = there == 0;
        Ok(there)
    }

    /// Waits until there may be data: looks for a while, then sleeps.
    pub(super) fn await_data(&self, side: &mut Incoming, wait: Wait) -> Result<(), Failure> {
        let Wait::Until(deadline) = wait else { return self.no_data(side, wait) };
        for turn in 0..side.turns {
            if turn == 1 {
                side.look_away();
            }
            if side.consumer.available(1)? > 0 || side.consumer.writer_ended() || self.deaf() {
                side.turns = (side.turns * 2).min(MOST);
                return Ok(());
            }
            spin_loop();
        }
        side.turns = (side.turns / 2).max(LEAST);
        for _ in 0..FRUITLESS {
            if self.arm_data(side)? || self.deaf() {
                return Ok(());
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(Failure::Late);
            }
            self.tally.received.slept.add(1);
            match self.signals.sleep(For::Data, deadline) {
                Woken::Gone => {
                    self.look_for_peer();
                    return Ok(());
                }
                Woken::Interrupted => return Err(Failure::Interrupted),
                Woken::Look | Woken::Late => {}
            }
            if side.consumer.available(1)? > 0 {
                return Ok(());
            }
        }
        // Somebody wakes us for nothing: the caller may have signals to look after.
        Err(Failure::Interrupted)
    }

    /// There is no data and no time to wait for it.
    fn no_data(&self, side: &mut Incoming, wait: Wait) -> Result<(), Failure> {
        if wait == Wait::Quick {
            return Err(Failure::NotNow);
        }
        // Where it found data, or the peer has gone, the caller looks again.
        let found = self.polled.load(Ordering::Relaxed) && self.arm_data(side)?;
        if found || self.look_for_peer() { Ok(()) } else { Err(Failure::NotNow) }
    }

    /// Sets the bell, so that the descriptor is readable exactly when there is something to be read.
    ///
    /// True when there is something already.
    fn arm_data(&self, side: &mut Incoming) -> Result<bool, Failure> {
        let Incoming { consumer, watch, .. } = side;
        let position = consumer.tail_for(1);
        let look = || Ok::<_, Failure>(consumer.last_look()? > 0 || consumer.writer_ended());
        match watch.arm(&self.way_in.data, position, look, |count| self.signals.take_tokens(count))? {
            Armed::Found => return Ok(true),
            Armed::Gone => return Ok(self.look_for_peer()),
            // Whoever signals takes the bell first: a token that is there all the same nobody asked for, or it is the
            // kernel's word that the peer has gone.
            Armed::StillNothing if self.signals.readable() && self.way_in.data.is_set() && !self.deaf() => {
                return if self.look_for_peer() { Ok(true) } else { Err(Failure::Nonsense) };
            }
            Armed::Nothing | Armed::StillNothing => {}
        }
        side.shown = true;
        Ok(self.gone.load(Ordering::Acquire))
    }

    /// Has the descriptor show whether there is data. What is wrong is told by the next call.
    pub(super) fn show_data(&self, side: &mut Incoming) {
        if !side.shown && !side.ended && matches!(side.consumer.available(1), Ok(0)) {
            let _ = self.arm_data(side);
        }
    }

    #[inline]
    pub(super) fn end_incoming(&self, mut turn: Taken<'_, Incoming>) {
        if self.polled.load(Ordering::Relaxed) {
            self.show_data(&mut turn);
        }
        // Whoever asked for the descriptor meanwhile left it to us to show what there is.
        if turn.end()
            && self.polled.load(Ordering::Acquire)
            && let Some(mut side) = self.incoming.try_take()
        {
            self.show_data(&mut side);
        }
    }
}
