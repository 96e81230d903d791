//! `forward()`: what becomes of a datagram.

use std::sync::Arc;
use std::time::Duration;

use vnet_tables::layout::FLAG_CAPTURE;
use vnet_tables::{Address, Destination, Found, NetworkId, NicRow, NicState, SlotId, Tables};

use crate::buffer::{Batch, InputBuffer, Refused};
use crate::control::{TxCounters, add};
use crate::datagram;
use crate::doorbell::Listener;
use crate::lock::Token;
use crate::note::Notes;
use crate::segment::Segment;
use crate::sync::Ordering;
use crate::verdict::Verdict;

/// Whose counters a sender writes; each has one writer at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The NIC's own guest.
    Guest,
    /// The base, in the NIC's name.
    Base,
}

/// Most datagrams and bytes of one batch: how long other senders to the same NIC may wait for the lock.
const BATCH_DATAGRAMS: u64 = 64;
const BATCH_BYTES: u64 = 256 * 1024;

/// The receiver that a sender wrote to last. While its batch is open, nothing in it is visible yet.
struct Receiving {
    slot: u32,
    generation: u32,
    listener: Listener<'static>,
    batch: Batch,
}

/// Where a datagram goes. The fields are words: narrower ones are packed, and unpacking stalls the processor.
pub(crate) enum Target {
    Nic { slot: u32, generation: u32 },
    Everyone,
    Nowhere(Verdict),
}

/// Sends in the name of one NIC.
///
/// A sender belongs to one thread at a time; several may send in the name of the same NIC if each counts on its own
/// [`Side`].
///
/// What `pub(crate)` marks below is shared with [`crate::explain`], which takes the same steps without their effects.
pub struct Sender {
    pub(crate) tables: Tables,
    pub(crate) slot: SlotId,
    pub(crate) network: NetworkId,
    pub(crate) mtu: usize,
    token: Token,
    counters: &'static TxCounters,
    clock: fn() -> u64,
    receiving: Option<Receiving>,
    delivered: u64,
    bytes: u64,
    /// While set, a full buffer is the caller's to wait for and not a loss yet.
    patient: bool,
    full: Option<(SlotId, usize)>,
    notes: Notes,
    // Last, so that whatever points into it goes first.
    pub(crate) segment: Arc<Segment>,
}

impl Sender {
    /// A sender for the NIC in `slot`, which holds locks as `token` and stamps captured datagrams with `clock`,
    /// nanoseconds.
    #[must_use]
    pub fn new(segment: Arc<Segment>, slot: SlotId, token: Token, side: Side, clock: fn() -> u64) -> Self {
        let tables = *segment.tables();
        let row = tables.nic(slot);
        let control = segment.control(slot);
        Self {
            tables,
            slot,
            network: row.network(),
            mtu: row.mtu() as usize,
            token,
            counters: if side == Side::Guest { &control.owner } else { &control.base },
            clock,
            receiving: None,
            delivered: 0,
            bytes: 0,
            patient: false,
            full: None,
            notes: Notes::default(),
            segment,
        }
    }

    /// Forwards one datagram and says what became of it.
    ///
    /// With `more` the next call follows at once: consecutive datagrams to one receiver then appear together, with one
    /// lock and at most one doorbell. The last call of a row, or [`Sender::ring`], makes them appear.
    #[inline]
    pub fn forward(&mut self, datagram: &[u8], more: bool) -> Verdict {
        let verdict = 'carried: {
            // 1 read: version, destination and length, bounds checked.
            let destination = match datagram::destination(datagram) {
                Ok(destination) => destination,
                Err(verdict) => break 'carried verdict,
            };
            // 2 look up: (network, address) → NIC → input buffer.
            let target = match self.look_up(destination) {
                Target::Nowhere(verdict) => break 'carried verdict,
                target => target,
            };
            // 3 apply: the rules of the path.
            if let Err(verdict) = self.apply(datagram) {
                break 'carried verdict;
            }
            // 4 write: reserve in the receiver's input buffer, copy, publish.
            match target {
                Target::Nic { slot, generation } => self.write(slot, generation, datagram),
                Target::Everyone => self.flood(datagram),
                Target::Nowhere(verdict) => verdict,
            }
        };
        self.count(verdict, datagram);
        // 5 ring: the doorbell, only if the receiver is idle.
        if !more {
            self.ring();
        }
        verdict
    }

    /// The rules of the path. TTL, filters and impairments of longer paths join here, and in what explains them.
    #[inline(always)]
    pub(crate) fn apply(&self, datagram: &[u8]) -> Result<(), Verdict> {
        if datagram.len() > self.mtu { Err(Verdict::TooBig) } else { Ok(()) }
    }

    #[inline(always)]
    fn look_up(&self, destination: Address) -> Target {
        match destination {
            Address::V4(address) => match self.tables.hosts().find4(self.network, address) {
                Some(found) => self.target(&found, destination),
                None => self.no_host(destination),
            },
            Address::V6(high, low) => self.look_up6(high, low),
        }
    }

    #[inline(never)]
    fn look_up6(&self, high: u64, low: u64) -> Target {
        let destination = Address::V6(high, low);
        match self.tables.hosts().find6(self.network, high, low) {
            Some(found) => self.target(&found, destination),
            None => self.no_host(destination),
        }
    }

    #[inline(always)]
    pub(crate) fn target(&self, found: &Found<'_>, destination: Address) -> Target {
        let row = self.tables.nic(found.slot);
        let generation = row.generation();
        if !found.holds() {
            // The NIC left between the two reads, and its slot may be another's by now.
            return self.look_up_again(destination);
        }
        if row.state() != NicState::Up {
            return Target::Nowhere(Verdict::NicDown);
        }
        Target::Nic { slot: u32::from(found.slot.0), generation }
    }

    #[cold]
    fn look_up_again(&self, destination: Address) -> Target {
        self.look_up(destination)
    }

    #[cold]
    pub(crate) fn no_host(&self, destination: Address) -> Target {
        match self.tables.network(self.network).map(|network| network.classify(destination)) {
            Some(Destination::OnLink) => Target::Nowhere(Verdict::NoHost),
            Some(Destination::Everyone) => Target::Everyone,
            Some(Destination::Elsewhere) | None => Target::Nowhere(Verdict::NoRoute),
        }
    }

    /// Writes into a NIC's input buffer, behind what the open batch holds for it already.
    #[inline(always)]
    fn write(&mut self, slot: u32, generation: u32, datagram: &[u8]) -> Verdict {
        let ready = self.receiving.as_ref().is_some_and(|receiving| {
            receiving.slot == slot
                && receiving.generation == generation
                && receiving.batch.is_open()
                && receiving.batch.datagrams() < BATCH_DATAGRAMS
                && receiving.batch.bytes() < BATCH_BYTES
        });
        if !ready && let Err(verdict) = self.open(slot, generation) {
            return verdict;
        }
        let Some(receiving) = &mut self.receiving else { return Verdict::NicDown };
        if receiving.batch.push(&[], datagram, self.slot.0, None) {
            return Verdict::Delivered;
        }
        self.full = Some((SlotId(slot as u16), datagram.len()));
        if !self.patient {
            receiving.batch.refuse();
        }
        Verdict::BufferFull
    }

    /// Publishes the batch that is open, if one is, and opens one in the buffer of `slot`.
    #[inline]
    fn open(&mut self, slot: u32, generation: u32) -> Result<(), Verdict> {
        self.ring();
        if !self.receiving.as_ref().is_some_and(|last| last.slot == slot && last.generation == generation) {
            self.turn_to(slot, generation)?;
        }
        let Some(receiving) = &mut self.receiving else { return Err(Verdict::NicDown) };
        receiving.batch.open(generation, self.token).map_err(|refused| match refused {
            Refused::Gone => Verdict::NicDown,
            Refused::Locked => Verdict::BufferFull,
        })
    }

    /// Finds the input buffer of a slot.
    #[cold]
    fn turn_to(&mut self, slot: u32, generation: u32) -> Result<(), Verdict> {
        let id = SlotId(slot as u16);
        let row = self.tables.nic(id);
        let buffer = self.segment.buffer(id, row).ok_or(Verdict::NicDown)?;
        let listener = self.listener(id, row);
        self.receiving = Some(Receiving { slot, generation, listener, batch: buffer.batch() });
        Ok(())
    }

    pub(crate) fn listener(&self, slot: SlotId, row: &NicRow) -> Listener<'static> {
        row.worker().map_or(Listener::Guest, |worker| Listener::Worker(self.segment.worker(worker), slot.0))
    }

    /// Writes a copy to every other NIC of the network.
    ///
    /// Delivered if anybody took it or nobody else is there; copies that found no room count at their receivers.
    #[cold]
    fn flood(&mut self, datagram: &[u8]) -> Verdict {
        let mut taken = false;
        let mut refused = false;
        let patient = std::mem::replace(&mut self.patient, false);
        for (slot, generation) in self.everyone() {
            let verdict = self.write(u32::from(slot.0), generation, datagram);
            match verdict {
                Verdict::Delivered => taken = true,
                Verdict::BufferFull => refused = true,
                _ => continue,
            }
            let noted = self.tables.noted();
            if noted != 0 {
                self.note(noted, datagram, slot, verdict, true);
            }
        }
        self.patient = patient;
        // The datagram itself was sent to everybody, not to the last one.
        self.ring();
        self.receiving = None;
        Self::of_copies(taken, refused)
    }

    /// Every other NIC of the network that takes datagrams.
    pub(crate) fn everyone(&self) -> impl Iterator<Item = (SlotId, u32)> + use<> {
        let (tables, own, network) = (self.tables, self.slot, self.network);
        tables.slots().filter_map(move |slot| {
            let row = tables.nic(slot);
            let generation = row.generation();
            let other = slot != own && row.state() == NicState::Up && row.network() == network;
            other.then_some((slot, generation))
        })
    }

    /// What became of a datagram for everyone of which copies were taken or refused.
    pub(crate) fn of_copies(taken: bool, refused: bool) -> Verdict {
        if taken || !refused { Verdict::Delivered } else { Verdict::BufferFull }
    }

    #[inline]
    fn count(&mut self, verdict: Verdict, datagram: &[u8]) {
        if verdict == Verdict::Delivered {
            self.delivered += 1;
            self.bytes += datagram.len() as u64;
        } else if verdict == Verdict::BufferFull && self.patient {
            return;
        } else {
            self.counters.count(verdict, 1);
        }
        let noted = self.tables.noted();
        if noted != 0 {
            let receiver = self.receiving.as_ref().map_or(0, |receiving| receiving.slot as u16);
            self.note(noted, datagram, SlotId(receiver), verdict, false);
            // A drop is news to the caller as soon as this returns, whatever comes with `more`.
            if verdict != Verdict::Delivered {
                self.publish_notes();
            }
        }
    }

    /// Makes the open batch appear, and wakes its receiver if that sleeps. Does nothing where none is open.
    #[inline]
    pub fn ring(&mut self) {
        // Before what they speak of: whoever has received a datagram finds it in the capture.
        if !self.notes.is_empty() {
            self.publish_notes();
        }
        if let Some(receiving) = &mut self.receiving
            && receiving.batch.publish() > 0
        {
            let rung = receiving.batch.bell().ring(receiving.listener);
            add(if rung { &self.counters.rung } else { &self.counters.saved }, 1);
        }
        if self.delivered != 0 {
            self.counters.count(Verdict::Delivered, self.delivered);
            add(&self.counters.bytes, self.bytes);
            (self.delivered, self.bytes) = (0, 0);
        }
    }

    /// As [`Sender::forward`], but where the receiver has no room, `None`: nothing is lost or counted yet. The caller
    /// rings, waits for [`Sender::missing_room`] and tries again, or gives up with [`Sender::forward`].
    #[inline]
    pub fn try_forward(&mut self, datagram: &[u8], more: bool) -> Option<Verdict> {
        self.patient = true;
        let verdict = self.forward(datagram, more);
        self.patient = false;
        (verdict != Verdict::BufferFull).then_some(verdict)
    }

    /// The room that was missing when [`Sender::try_forward`] last failed.
    #[must_use]
    pub fn missing_room(&mut self) -> Option<Room> {
        self.ring();
        let (slot, bytes) = self.full.take()?;
        Some(Room { segment: Arc::clone(&self.segment), slot, bytes })
    }

    /// Notes a datagram for the captures, which want what `noted` says.
    #[cold]
    fn note(&mut self, noted: u32, datagram: &[u8], receiver: SlotId, verdict: Verdict, copy: bool) {
        if verdict == Verdict::Delivered && noted & FLAG_CAPTURE == 0 {
            return;
        }
        let receiver = if verdict == Verdict::Delivered || copy { receiver } else { SlotId(0) };
        let kept = datagram.len().min(datagram::LARGEST).min(self.tables.noted_bytes());
        if self.notes.is_full(kept) {
            self.publish_notes();
        }
        if self.notes.is_empty() {
            let row = self.tables.nic(SlotId(0));
            self.notes.generation = row.generation();
            // Not the moment when a little is free: then each batch would be copied to see whether it fits.
            let crowded = |buffer: InputBuffer| buffer.used() > buffer.outlook(0).size / 4 * 3;
            self.notes.crowded = self.notes.crowded && self.segment.buffer(SlotId(0), row).is_some_and(crowded);
        }
        if self.notes.crowded {
            self.notes.miss();
            return;
        }
        let generation = self.tables.nic(receiver).generation();
        self.notes.push(&datagram[..kept], datagram.len(), receiver, generation, [verdict as u8, u8::from(copy)]);
    }

    /// Hands what was noted to the captures. They never make a sender wait: where there is no room, or the lock is not
    /// to be had at once, they miss it, and it is counted.
    #[cold]
    fn publish_notes(&mut self) {
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
                    let head = Notes::head((self.clock)(), self.slot, self.tables.nic(self.slot).generation());
                    self.notes.crowded = !batch.push(&head, self.notes.bytes(), self.slot.0, None);
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

    /// The slot in whose name this sends.
    #[must_use]
    pub fn slot(&self) -> SlotId {
        self.slot
    }
}

/// Room that a receiver did not have. Apart from the sender, so that nobody needs to keep that while waiting.
pub struct Room {
    segment: Arc<Segment>,
    slot: SlotId,
    bytes: usize,
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

impl Drop for Sender {
    fn drop(&mut self) {
        self.ring();
    }
}
