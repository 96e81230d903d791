//! `forward()`: what becomes of a datagram.

use std::cell::Cell;
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
use crate::offload::{Fields, Finisher, Offload, suits};
use crate::outlet::{Near, Outlets, Put};
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

/// What a datagram from a guest with offloads still lacks.
#[derive(Clone, Copy)]
pub struct Unfinished {
    /// As it travels with the datagram.
    pub offload: Offload,
    /// As [`Offload::check`] found it to fit this datagram.
    pub fields: Fields,
}

/// Where a datagram goes. The fields are words: narrower ones are packed, and unpacking stalls the processor.
pub(crate) enum Target {
    Nic {
        slot: u32,
        generation: u32,
    },
    Everyone,
    /// Whoever leads to addresses that the tables do not know.
    Bridges,
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
    /// Who was given the last datagram, for the notes.
    receiver: u16,
    /// The MAC address that the datagram was sent to, for what leads out of the network; 0 for none.
    next_hop: u64,
    /// Who had that address last.
    last_hop: Cell<SlotId>,
    /// Guests that the worker of this sender can hand datagrams to.
    outlets: Option<Arc<Outlets>>,
    near: Option<Near>,
    finisher: Option<Box<Finisher>>,
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
            receiver: 0,
            next_hop: 0,
            last_hop: Cell::new(SlotId(0)),
            outlets: None,
            near: None,
            finisher: None,
            segment,
        }
    }

    /// Has this sender hand datagrams to guests of its own worker without a stop in their input buffers.
    pub fn set_outlets(&mut self, outlets: Arc<Outlets>) {
        self.outlets = Some(outlets);
    }

    /// Lets go of the outlet of the NIC in `slot`, if that is the one that was used last: it keeps the guest's device open.
    pub fn forget_outlet(&mut self, slot: SlotId) {
        self.near.take_if(|near| near.is_of(slot));
    }

    /// Says which MAC address the next datagrams are sent to, the first octet highest of 48 bits: a destination outside
    /// the network goes to whoever has it. 0 for none, as before the first call.
    #[inline]
    pub fn set_next_hop(&mut self, mac: u64) {
        self.next_hop = mac;
    }

    /// Forwards one datagram and says what became of it.
    ///
    /// With `more` the next call follows at once: consecutive datagrams to one receiver then appear together, with one
    /// lock and at most one doorbell. The last call of a row, or [`Sender::ring`], makes them appear.
    #[inline]
    pub fn forward(&mut self, datagram: &[u8], more: bool) -> Verdict {
        self.carry(datagram, None, more)
    }

    /// As [`Sender::forward`], for a datagram of which checksum or segmentation is left to do: it travels whole to guests
    /// that take such, and finished to all others.
    pub fn forward_unfinished(&mut self, datagram: &[u8], unfinished: &Unfinished, more: bool) -> Verdict {
        self.carry(datagram, Some(unfinished), more)
    }

    #[inline(always)]
    fn carry(&mut self, datagram: &[u8], unfinished: Option<&Unfinished>, more: bool) -> Verdict {
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
            if let Err(verdict) = self.apply(size(datagram, unfinished)) {
                break 'carried verdict;
            }
            // 4 write: reserve in the receiver's input buffer, copy, publish.
            match target {
                Target::Nic { slot, generation } => self.write(slot, generation, datagram, unfinished),
                Target::Everyone => self.flood(datagram, unfinished, false),
                Target::Bridges => self.flood(datagram, unfinished, true),
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

    /// The rules of the path, for a datagram of `bytes` bytes. TTL, filters and impairments of longer paths join here,
    /// and in what explains them.
    #[inline(always)]
    pub(crate) fn apply(&self, bytes: usize) -> Result<(), Verdict> {
        if bytes > self.mtu { Err(Verdict::TooBig) } else { Ok(()) }
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
        let Some(network) = self.tables.network(self.network) else { return Target::Nowhere(Verdict::NoRoute) };
        match network.classify(destination) {
            Destination::OnLink if network.is_bridged() => Target::Bridges,
            Destination::OnLink => Target::Nowhere(Verdict::NoHost),
            Destination::Everyone => Target::Everyone,
            Destination::Elsewhere => match self.way_out().or_else(|| network.gateway()) {
                Some((slot, generation)) => self.leading_out(slot, generation),
                None => Target::Nowhere(Verdict::NoRoute),
            },
        }
    }

    /// The NIC of the network that has the MAC address which the datagram was sent to.
    fn way_out(&self) -> Option<(SlotId, u32)> {
        if self.next_hop == 0 {
            return None;
        }
        // The last one first: whoever leads out of a network does so for most of what goes there.
        let holds = |slot: SlotId| {
            let row = self.tables.nic(slot);
            row.mac() == self.next_hop && row.network() == self.network && row.state() == NicState::Up
        };
        let slot = Some(self.last_hop.get()).filter(|slot| holds(*slot));
        let slot = slot.or_else(|| self.tables.slot_of_mac(self.network, self.next_hop))?;
        self.last_hop.set(slot);
        Some((slot, self.tables.nic(slot).generation()))
    }

    fn leading_out(&self, slot: SlotId, generation: u32) -> Target {
        let row = self.tables.nic(slot);
        if slot == self.slot || row.generation() != generation || row.network() != self.network {
            return Target::Nowhere(Verdict::NoRoute);
        }
        if row.state() != NicState::Up {
            return Target::Nowhere(Verdict::NicDown);
        }
        Target::Nic { slot: u32::from(slot.0), generation }
    }

    /// Writes into a NIC's input buffer, behind what the open batch holds for it already.
    #[inline(always)]
    fn write(&mut self, slot: u32, generation: u32, datagram: &[u8], unfinished: Option<&Unfinished>) -> Verdict {
        let ready = self.receiving.as_ref().is_some_and(|receiving| {
            receiving.slot == slot
                && receiving.generation == generation
                && receiving.batch.is_open()
                && receiving.batch.datagrams() < BATCH_DATAGRAMS
                && receiving.batch.bytes() < BATCH_BYTES
        });
        if !ready {
            if self.outlets.is_some()
                && let Some(verdict) = self.hand_over(slot, generation, datagram, unfinished)
            {
                return verdict;
            }
            if let Err(verdict) = self.open(slot, generation) {
                return verdict;
            }
        }
        if let Some(unfinished) = unfinished {
            return self.write_unfinished(slot, datagram, unfinished);
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

    /// Writes a datagram that lacks something: as it is, if the receiver's guest takes it so, or else what it becomes.
    #[cold]
    fn write_unfinished(&mut self, slot: u32, datagram: &[u8], unfinished: &Unfinished) -> Verdict {
        let takes = self.tables.nic(SlotId(slot as u16)).offloads();
        let Some(receiving) = &mut self.receiving else { return Verdict::NicDown };
        let (batch, source) = (&mut receiving.batch, self.slot.0);
        let written = if suits(&unfinished.fields, takes) {
            batch.push(&[], datagram, source, Some(unfinished.offload.word()))
        } else {
            let finisher = self.finisher.get_or_insert_default();
            finisher.finish(datagram, &unfinished.fields, takes, |finished, offload| {
                batch.push(&[], finished, source, offload.map(Offload::word))
            })
        };
        if written {
            return Verdict::Delivered;
        }
        self.full = Some((SlotId(slot as u16), datagram.len()));
        batch.refuse();
        Verdict::BufferFull
    }

    /// Hands a datagram to the receiver's guest itself, where that is one of the same worker and nothing waits in its
    /// input buffer: whatever this sender put there before has been taken out by this very thread, so order is kept.
    /// `None` where the datagram has to go through the buffer.
    fn hand_over(
        &mut self,
        slot: u32,
        generation: u32,
        datagram: &[u8],
        unfinished: Option<&Unfinished>,
    ) -> Option<Verdict> {
        if self.tables.noted() != 0 {
            // Whoever has received a datagram finds it in the capture: notes go out before the buffer's batch does.
            return None;
        }
        self.outlets.as_ref()?.find(SlotId(slot as u16), generation, &mut self.near)?;
        let row = self.tables.nic(SlotId(slot as u16));
        if unfinished.is_some_and(|unfinished| !suits(&unfinished.fields, row.offloads())) {
            return None;
        }
        // What this sender has for anybody appears first.
        self.ring();
        if self.segment.buffer(SlotId(slot as u16), row)?.used() != 0 {
            return None;
        }
        let handed = &self.segment.control(SlotId(slot as u16)).handed;
        let source = self.tables.nic(self.slot).mac();
        let outlet = self.outlets.as_ref()?.find(SlotId(slot as u16), generation, &mut self.near)?;
        let put = outlet.put(datagram, unfinished.map(|unfinished| unfinished.offload), source);
        let verdict = match put {
            Put::Taken => {
                add(&handed.datagrams, 1);
                add(&handed.bytes, datagram.len() as u64);
                Verdict::Delivered
            }
            Put::Full => Verdict::BufferFull,
            Put::Down => Verdict::NicDown,
            Put::Refused => Verdict::Malformed,
            Put::Elsewhere => return None,
        };
        if verdict != Verdict::Delivered {
            add(&handed.dropped, 1);
        }
        self.receiver = slot as u16;
        Some(verdict)
    }

    /// Publishes the batch that is open, if one is, and opens one in the buffer of `slot`.
    #[inline]
    fn open(&mut self, slot: u32, generation: u32) -> Result<(), Verdict> {
        self.ring();
        if !self.receiving.as_ref().is_some_and(|last| last.slot == slot && last.generation == generation) {
            self.turn_to(slot, generation)?;
        }
        let Some(receiving) = &mut self.receiving else { return Err(Verdict::NicDown) };
        self.receiver = slot as u16;
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
        self.segment.listener(slot, row)
    }

    /// Writes a copy to every other NIC of the network, or to those of them that bridge.
    ///
    /// Delivered if anybody took it or nobody else is there; copies that found no room count at their receivers.
    #[cold]
    fn flood(&mut self, datagram: &[u8], unfinished: Option<&Unfinished>, bridges: bool) -> Verdict {
        let mut taken = false;
        let mut refused = false;
        let patient = std::mem::replace(&mut self.patient, false);
        // An outlet is for what is addressed to its guest alone.
        let outlets = self.outlets.take();
        for (slot, generation) in self.everyone(bridges) {
            let verdict = self.write(u32::from(slot.0), generation, datagram, unfinished);
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
        (self.patient, self.outlets) = (patient, outlets);
        // The datagram itself was sent to everybody, not to the last one.
        self.ring();
        self.receiving = None;
        self.receiver = 0;
        if bridges && !taken && !refused { Verdict::NoHost } else { Self::of_copies(taken, refused) }
    }

    /// Every other NIC of the network that takes datagrams; with `bridges` only those that bridge.
    pub(crate) fn everyone(&self, bridges: bool) -> impl Iterator<Item = (SlotId, u32)> + use<> {
        let (tables, own, network) = (self.tables, self.slot, self.network);
        tables.slots().filter_map(move |slot| {
            let row = tables.nic(slot);
            let generation = row.generation();
            let other = slot != own && row.state() == NicState::Up && row.network() == network;
            (other && (!bridges || row.bridges())).then_some((slot, generation))
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
            self.note(noted, datagram, SlotId(self.receiver), verdict, false);
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

    /// Hands what was noted to the captures. They make a sender wait for nobody who reads, is stopped or dead: where there
    /// is no room, or the lock's owner does not come back soon, they miss it, and it is counted.
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

/// What a datagram is held against an MTU with: the largest that it becomes, in bytes of IP.
#[inline(always)]
fn size(datagram: &[u8], unfinished: Option<&Unfinished>) -> usize {
    unfinished.map_or(datagram.len(), |unfinished| unfinished.offload.largest(datagram))
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
