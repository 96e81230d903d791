//! `forward()`: what becomes of a datagram.

use std::cell::Cell;
use std::sync::Arc;

use vnet_tables::layout::{FLAG_CAPTURE, FLAG_DROPS};
use vnet_tables::{Address, Destination, Found, NetworkId, NicRow, NicState, SlotId, Tables};

use crate::control::{TxCounters, add};
use crate::datagram;
use crate::filter::Filters;
use crate::lock::Token;
use crate::note::Notes;
use crate::offload::{Fields, Finisher, Offload};
use crate::outlet::{Near, Outlets};
use crate::room::Room;
use crate::routed::Routed;
use crate::segment::Segment;
use crate::verdict::Verdict;
use crate::ways::Ways;
use crate::writing::{Change, Receiving};

/// Whose counters a sender writes; each has one writer at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The NIC's own guest.
    Guest,
    /// The base, in the NIC's name.
    Base,
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
    /// A NIC that a filter stands before.
    Guarded {
        slot: u32,
        generation: u32,
    },
    Everyone,
    /// Whoever leads to addresses that the tables do not know.
    Bridges,
    /// The router that has the NIC in this slot.
    Routed {
        slot: u32,
    },
    Nowhere(Verdict),
}

/// A target in one word, which is returned in a register. An enum would be returned in memory, and so would, where such a
/// function is called only now and then, that of all datagrams which never come there.
#[derive(Clone, Copy)]
pub(crate) struct Word(u64);

impl Target {
    #[inline(always)]
    fn of(Word(word): Word) -> Self {
        let (slot, generation) = ((word >> 8) as u32 & 0xffff, (word >> 32) as u32);
        match word & 0xff {
            0 => Self::Nic { slot, generation },
            1 => Self::Guarded { slot, generation },
            2 => Self::Everyone,
            3 => Self::Bridges,
            4 => Self::Routed { slot },
            _ => Self::Nowhere(Verdict::ALL[slot as usize % Verdict::ALL.len()]),
        }
    }

    fn word(self) -> Word {
        let (kind, slot, generation) = match self {
            Self::Nic { slot, generation } => (0, slot, generation),
            Self::Guarded { slot, generation } => (1, slot, generation),
            Self::Everyone => (2, 0, 0),
            Self::Bridges => (3, 0, 0),
            Self::Routed { slot } => (4, slot, 0),
            Self::Nowhere(verdict) => (5, verdict as u32, 0),
        };
        Word(kind | u64::from(slot) << 8 | u64::from(generation) << 32)
    }
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
    pub(crate) token: Token,
    pub(crate) counters: &'static TxCounters,
    pub(crate) clock: fn() -> u64,
    pub(crate) receiving: Option<Receiving>,
    delivered: u64,
    bytes: u64,
    /// While set, a full buffer is the caller's to wait for and not a loss yet.
    pub(crate) patient: bool,
    pub(crate) full: Option<(SlotId, usize)>,
    pub(crate) notes: Notes,
    /// Who was given the last datagram, for the notes.
    pub(crate) receiver: u16,
    /// What of the tables decides about datagrams of this NIC, as of one version of routing.
    pub(crate) ways: Ways,
    /// The tables' moment that it is of.
    pub(crate) moment: u64,
    /// What datagrams that leave the network need, once one has.
    pub(crate) routed: Option<Box<Routed>>,
    pub(crate) filters: Filters,
    /// The MAC address that the datagram was sent to, for what leads out of the network; 0 for none.
    next_hop: u64,
    /// Who had that address last.
    last_hop: Cell<SlotId>,
    /// Guests that the worker of this sender can hand datagrams to.
    pub(crate) outlets: Option<Arc<Outlets>>,
    pub(crate) near: Option<Near>,
    pub(crate) finisher: Option<Box<Finisher>>,
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
            ways: Ways::default(),
            moment: 0,
            routed: None,
            filters: Filters::default(),
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
        let moment = self.tables.moment();
        if moment != self.moment {
            self.look_around(moment);
        }
        let mut routed = false;
        let verdict = 'carried: {
            // 1 read: version, destination and length, bounds checked.
            let destination = match datagram::destination(datagram) {
                Ok(destination) => destination,
                Err(verdict) => break 'carried verdict,
            };
            // 2 look up: (network, address) → NIC → input buffer, or the first router of a path.
            let target = match self.look_up(destination) {
                Target::Nowhere(verdict) => break 'carried verdict,
                target => target,
            };
            // 3 apply: the rules of the network, MTU and filters; those of a path, TTL and ICMP, in `along()`.
            if let Err(verdict) = self.apply(datagram, size(datagram, unfinished), &target) {
                break 'carried verdict;
            }
            // 4 write: reserve in the receiver's input buffer, copy, publish.
            let own = (self.network, self.slot);
            match target {
                Target::Nic { slot, generation } | Target::Guarded { slot, generation } => {
                    self.write(slot, generation, self.slot, datagram, Change::NONE, unfinished)
                }
                Target::Routed { slot } => {
                    routed = true;
                    self.along(slot, datagram, unfinished)
                }
                Target::Everyone => {
                    if self.ways.routers {
                        self.hail(datagram);
                    }
                    self.flood(datagram, Change::NONE, unfinished, own, false)
                }
                Target::Bridges => self.flood(datagram, Change::NONE, unfinished, own, true),
                Target::Nowhere(verdict) => verdict,
            }
        };
        self.count(verdict, datagram.len());
        if !routed {
            self.note_own(verdict, datagram);
        }
        // 5 ring: the doorbell, only if the receiver is idle.
        if !more {
            self.ring();
        }
        verdict
    }

    /// The rules of the path up to the first router, for a datagram of `bytes` bytes: the network's MTU, filters.
    #[inline(always)]
    pub(crate) fn apply(&mut self, datagram: &[u8], bytes: usize, target: &Target) -> Result<(), Verdict> {
        self.fits(bytes)?;
        if self.ways.outward != 0 {
            self.may_leave(datagram)?;
        }
        match target {
            Target::Guarded { slot, .. } => self.passes(self.network, SlotId(*slot as u16), datagram, Change::NONE),
            _ => Ok(()),
        }
    }

    /// Whether a datagram of `bytes` bytes keeps the network's MTU.
    #[inline(always)]
    pub(crate) fn fits(&self, bytes: usize) -> Result<(), Verdict> {
        if bytes > self.mtu { Err(Verdict::TooBig) } else { Ok(()) }
    }

    #[inline(always)]
    fn look_up(&self, destination: Address) -> Target {
        match destination {
            // No NIC of the network has an address beyond its prefix; most of those are behind the guest's router, if it has one.
            Address::V4(address) if self.ways.is_beyond(address, self.next_hop) => {
                Target::Routed { slot: self.ways.first4 }
            }
            Address::V4(address) => match self.tables.hosts().find4(self.network, address) {
                Some(found) => self.target(&found, destination),
                None => Target::of(self.nobody(destination)),
            },
            Address::V6(high, low) => Target::of(self.look_up6(high, low)),
        }
    }

    #[inline(never)]
    fn look_up6(&self, high: u64, low: u64) -> Word {
        let destination = Address::V6(high, low);
        let target = match self.tables.hosts().find6(self.network, high, low) {
            Some(found) => self.target(&found, destination),
            None => self.no_host(destination),
        };
        target.word()
    }

    #[inline(always)]
    pub(crate) fn target(&self, found: &Found<'_>, destination: Address) -> Target {
        let row = self.tables.nic(found.slot);
        let generation = row.generation();
        if !found.holds() {
            // The NIC left between the two reads, and its slot may be another's by now.
            return Target::of(self.look_up_again(destination));
        }
        self.at(found.slot, row, generation)
    }

    /// The NIC that has an address on another network, where a path ends.
    #[inline(always)]
    pub(crate) fn look_up_on(&self, network: NetworkId, address: Address) -> Target {
        match address {
            Address::V4(number) => self.look_up4_on(network, number),
            Address::V6(high, low) => match self.tables.hosts().find6(network, high, low) {
                Some(found) => self.target_on(&found, network, address),
                None => Target::of(self.nobody_on(network)),
            },
        }
    }

    /// The same for an IPv4 address.
    #[inline(always)]
    pub(crate) fn look_up4_on(&self, network: NetworkId, address: u32) -> Target {
        match self.tables.hosts().find4(network, address) {
            Some(found) => self.target_on(&found, network, Address::V4(address)),
            None => Target::of(self.nobody_on(network)),
        }
    }

    #[inline(always)]
    fn target_on(&self, found: &Found<'_>, network: NetworkId, address: Address) -> Target {
        let row = self.tables.nic(found.slot);
        let generation = row.generation();
        if !found.holds() {
            return Target::of(self.look_up_on_again(network, address));
        }
        self.at(found.slot, row, generation)
    }

    #[cold]
    fn look_up_on_again(&self, network: NetworkId, address: Address) -> Word {
        self.look_up_on(network, address).word()
    }

    #[cold]
    fn nobody_on(&self, network: NetworkId) -> Word {
        let target = match self.tables.network(network) {
            Some(row) if row.is_bridged() => Target::Bridges,
            _ => Target::Nowhere(Verdict::NoHost),
        };
        target.word()
    }

    #[cold]
    fn look_up_again(&self, destination: Address) -> Word {
        self.look_up(destination).word()
    }

    #[cold]
    fn nobody(&self, destination: Address) -> Word {
        self.no_host(destination).word()
    }

    pub(crate) fn no_host(&self, destination: Address) -> Target {
        let Some(network) = self.tables.network(self.network) else { return Target::Nowhere(Verdict::NoRoute) };
        match network.classify(destination) {
            Destination::OnLink if network.is_bridged() => Target::Bridges,
            Destination::OnLink => Target::Nowhere(Verdict::NoHost),
            Destination::Everyone => Target::Everyone,
            Destination::Elsewhere => {
                match self.way_out().or_else(|| self.gateway(destination)).or_else(|| network.gateway()) {
                    Some((slot, generation)) => self.leading_out(slot, generation),
                    None => Target::Nowhere(Verdict::NoRoute),
                }
            }
        }
    }

    /// The NIC that the guest was given to lead out of the network.
    fn gateway(&self, destination: Address) -> Option<(SlotId, u32)> {
        let (v4, v6) = self.tables.nic(self.slot).gateways();
        let slot = if matches!(destination, Address::V4(_)) { v4 } else { v6 };
        (slot != SlotId(0)).then(|| (slot, self.tables.nic(slot).generation()))
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
        self.at(slot, row, generation)
    }

    /// The NIC in a slot as a target.
    #[inline(always)]
    fn at(&self, slot: SlotId, row: &NicRow, generation: u32) -> Target {
        if row.is_plain() {
            Target::Nic { slot: u32::from(slot.0), generation }
        } else {
            Target::of(self.look_closer(slot, generation))
        }
    }

    #[cold]
    fn look_closer(&self, slot: SlotId, generation: u32) -> Word {
        let row = self.tables.nic(slot);
        let slot = u32::from(slot.0);
        let target = match row.state() {
            NicState::Up if row.port() != 0 => Target::Routed { slot },
            NicState::Up => Target::Guarded { slot, generation },
            _ => Target::Nowhere(Verdict::NicDown),
        };
        target.word()
    }

    #[inline]
    fn count(&mut self, verdict: Verdict, bytes: usize) {
        if verdict == Verdict::Delivered {
            self.delivered += 1;
            self.bytes += bytes as u64;
        } else if verdict != Verdict::BufferFull || !self.patient {
            self.counters.count(verdict, 1);
        }
    }

    /// What senders note for the captures, as of the moment when this datagram came.
    #[inline(always)]
    pub(crate) fn noted(&self) -> u32 {
        self.moment as u32 & (FLAG_CAPTURE | FLAG_DROPS)
    }

    #[inline]
    fn note_own(&mut self, verdict: Verdict, datagram: &[u8]) {
        let noted = self.noted();
        if noted != 0 && (verdict != Verdict::BufferFull || !self.patient) {
            self.note(noted, datagram, Change::NONE, (self.slot, SlotId(self.receiver)), verdict, false);
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

    /// The slot in whose name this sends.
    #[must_use]
    pub fn slot(&self) -> SlotId {
        self.slot
    }
}

/// What a datagram is held against an MTU with: the largest that it becomes, in bytes of IP.
#[inline(always)]
pub(crate) fn size(datagram: &[u8], unfinished: Option<&Unfinished>) -> usize {
    unfinished.map_or(datagram.len(), |unfinished| unfinished.offload.largest(datagram))
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.ring();
    }
}
