//! Step 4 of `forward()`: into the receiver's input buffer, or past it into the receiver's kernel.

use std::borrow::Cow;

use vnet_tables::{NetworkId, NicRow, NicState, SlotId};

use crate::buffer::{Batch, Refused};
use crate::control::add;
use crate::datagram::{HEADER4, HEADER6};
use crate::doorbell::Listener;
use crate::forward::{Sender, Unfinished};
use crate::offload::{Offload, suits};
use crate::outlet::Put;
use crate::verdict::Verdict;

/// Most datagrams and bytes of one batch: how long other senders to the same NIC may wait for the lock.
const BATCH_DATAGRAMS: u64 = 64;
const BATCH_BYTES: u64 = 256 * 1024;

/// The receiver that a sender wrote to last. While its batch is open, nothing in it is visible yet.
pub(crate) struct Receiving {
    slot: u32,
    generation: u32,
    pub(crate) listener: Listener<'static>,
    pub(crate) batch: Batch,
}

impl Sender {
    /// Writes a datagram, with a change, into a NIC's input buffer, behind what the open batch holds for it already. `from` is
    /// the NIC that it comes from on the receiver's network.
    #[inline(always)]
    pub(crate) fn write(
        &mut self,
        slot: u32,
        generation: u32,
        from: SlotId,
        datagram: &[u8],
        change: Change,
        unfinished: Option<&Unfinished>,
    ) -> Verdict {
        let ready = self.receiving.as_ref().is_some_and(|receiving| {
            receiving.slot == slot
                && receiving.generation == generation
                && receiving.batch.is_open()
                && receiving.batch.datagrams() < BATCH_DATAGRAMS
                && receiving.batch.bytes() < BATCH_BYTES
        });
        if !ready {
            if self.outlets.is_some()
                && let Some(verdict) = self.hand_over(slot, generation, from, datagram, change, unfinished)
            {
                return verdict;
            }
            if let Err(verdict) = self.open(slot, generation) {
                return verdict;
            }
        }
        if let Some(unfinished) = unfinished {
            return self.write_unfinished(slot, from, datagram, change, unfinished);
        }
        let Some(receiving) = &mut self.receiving else { return Verdict::NicDown };
        if receiving.batch.push(&[], datagram, from.0, None) {
            if !change.is_none() {
                receiving.batch.amend(change.at as usize, change.word.to_be_bytes());
            }
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
    fn write_unfinished(
        &mut self,
        slot: u32,
        from: SlotId,
        datagram: &[u8],
        change: Change,
        unfinished: &Unfinished,
    ) -> Verdict {
        let takes = self.tables.nic(SlotId(slot as u16)).offloads();
        let Some(receiving) = &mut self.receiving else { return Verdict::NicDown };
        let (batch, source) = (&mut receiving.batch, from.0);
        let written = if suits(&unfinished.fields, takes) {
            let written = batch.push(&[], datagram, source, Some(unfinished.offload.word()));
            if written && !change.is_none() {
                batch.amend(change.at as usize, change.word.to_be_bytes());
            }
            written
        } else {
            let finisher = self.finisher.get_or_insert_default();
            finisher.finish(&whole(datagram, change), &unfinished.fields, takes, |finished, offload| {
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
        from: SlotId,
        datagram: &[u8],
        change: Change,
        unfinished: Option<&Unfinished>,
    ) -> Option<Verdict> {
        if self.noted() != 0 {
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
        let source = self.tables.nic(from).mac();
        let outlet = self.outlets.as_ref()?.find(SlotId(slot as u16), generation, &mut self.near)?;
        let mut changed = [0; HEADER6];
        let put = outlet.put(
            head(datagram, change, &mut changed),
            datagram,
            unfinished.map(|unfinished| unfinished.offload),
            source,
        );
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
    #[inline(always)]
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
    /// Delivered if anybody took it or nobody else is there; copies that found no room count at their receivers, and those
    /// that filters held back nowhere, unless it was all of them.
    #[cold]
    pub(crate) fn flood(
        &mut self,
        datagram: &[u8],
        change: Change,
        unfinished: Option<&Unfinished>,
        (network, from): (NetworkId, SlotId),
        bridges: bool,
    ) -> Verdict {
        let mut taken = false;
        let mut refused = false;
        let mut filtered = false;
        let patient = std::mem::replace(&mut self.patient, false);
        // An outlet is for what is addressed to its guest alone.
        let outlets = self.outlets.take();
        for (slot, generation) in self.everyone(network, from, bridges) {
            if self.passes(network, slot, datagram, change).is_err() {
                filtered = true;
                continue;
            }
            let verdict = self.write(u32::from(slot.0), generation, from, datagram, change, unfinished);
            match verdict {
                Verdict::Delivered => taken = true,
                Verdict::BufferFull => refused = true,
                _ => continue,
            }
            let noted = self.noted();
            if noted != 0 {
                self.note(noted, datagram, change, (from, slot), verdict, true);
            }
        }
        (self.patient, self.outlets) = (patient, outlets);
        // The datagram itself was sent to everybody, not to the last one.
        self.ring();
        self.receiving = None;
        self.receiver = 0;
        if bridges && !taken && !refused && !filtered {
            Verdict::NoHost
        } else {
            Self::of_copies(taken, refused, filtered)
        }
    }

    /// Every NIC of a network but one that takes datagrams; with `bridges` only those that bridge. Routers have none to take:
    /// broadcasts end at them, and they answer none.
    pub(crate) fn everyone(
        &self,
        network: NetworkId,
        own: SlotId,
        bridges: bool,
    ) -> impl Iterator<Item = (SlotId, u32)> + use<> {
        let tables = self.tables;
        tables.slots().filter_map(move |slot| {
            let row = tables.nic(slot);
            let generation = row.generation();
            let other = slot != own && row.state() == NicState::Up && row.network() == network && row.port() == 0;
            (other && (!bridges || row.bridges())).then_some((slot, generation))
        })
    }

    /// What became of a datagram for everyone of which copies were taken, refused or held back.
    pub(crate) fn of_copies(taken: bool, refused: bool, filtered: bool) -> Verdict {
        match (taken, refused, filtered) {
            (true, ..) | (_, false, false) => Verdict::Delivered,
            (_, true, _) => Verdict::BufferFull,
            _ => Verdict::Filtered,
        }
    }
}

/// What routers change of a datagram: four bytes of its header.
///
/// Two words, because a pair of them is passed in registers: with an `Option` about it, it would be stored and loaded at
/// once, which stalls the processor for longer than all the rest of the way takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    /// Where they begin; 0 for no change.
    at: u32,
    /// What they become, the first of them highest.
    word: u32,
}

impl Change {
    /// No change.
    pub(crate) const NONE: Self = Self { at: 0, word: 0 };

    /// The four bytes from `at` on, which is not 0, become those of `word`, the first of them highest.
    #[inline(always)]
    pub(crate) fn new(at: u32, word: u32) -> Self {
        Self { at, word }
    }

    #[inline(always)]
    pub(crate) fn is_none(self) -> bool {
        self.at == 0
    }

    /// Changes the bytes of a datagram.
    pub(crate) fn apply(self, datagram: &mut [u8]) {
        let at = self.at as usize;
        if let Some(bytes) = datagram.get_mut(at..at + 4).filter(|_| !self.is_none()) {
            bytes.copy_from_slice(&self.word.to_be_bytes());
        }
    }
}

/// A datagram as it is after a change.
pub(crate) fn whole(datagram: &[u8], change: Change) -> Cow<'_, [u8]> {
    if change.is_none() {
        return Cow::Borrowed(datagram);
    }
    let mut changed = datagram.to_vec();
    change.apply(&mut changed);
    Cow::Owned(changed)
}

/// The first bytes of a datagram that has changed, up to the end of its fixed header; none where it has not.
fn head<'c>(datagram: &[u8], change: Change, changed: &'c mut [u8; HEADER6]) -> &'c [u8] {
    if change.is_none() {
        return &[];
    }
    let bytes = datagram.len().min(if datagram[0] >> 4 == 6 { HEADER6 } else { HEADER4 });
    changed[..bytes].copy_from_slice(&datagram[..bytes]);
    change.apply(&mut changed[..bytes]);
    &changed[..bytes]
}
