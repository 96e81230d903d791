//! What one capture wants, and its packets put into pcapng blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use vnet_base::filter::machine::Program;
use vnet_base::note::Note;
use vnet_base::sync::Ordering;
use vnet_base::tables::SlotId;
use vnet_base::{Lan, Verdict};

use super::pcapng::{self, INBOUND, OUTBOUND, Packet};
use super::sink::{End, Piece, Sink};

/// Bytes of a piece at which it goes to the writer.
const PIECE: usize = 256 << 10;

/// Nanoseconds after which what is there goes to the writer, however little.
pub(crate) const PROMPTLY: u64 = 20_000_000;

/// Bytes of a datagram that a capture may want; nothing is longer.
pub(crate) const EVERYTHING: u32 = 65_535;

/// Whose packets, as a NIC sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// What it sends and what it gets.
    #[default]
    Both,
    /// What it gets.
    In,
    /// What it sends.
    Out,
}

/// What a capture wants.
#[derive(Debug, Default)]
pub struct Wanted {
    /// The NICs, by name; `None` for all.
    pub nics: Option<BTreeSet<String>>,
    /// Whose packets.
    pub direction: Direction,
    /// Which datagrams, and the words that said so.
    pub filter: Option<(Program, String)>,
    /// Only those that were dropped.
    pub drops: bool,
    /// How many packets at most.
    pub limit: Option<u64>,
    /// Bytes kept of each packet; `None` for all.
    pub snap_length: Option<u32>,
    /// Bytes after which the next of the ring files begins.
    pub file_bytes: Option<u64>,
}

impl Wanted {
    /// Bytes of each datagram that senders have to note.
    pub(crate) fn noted_bytes(&self) -> u32 {
        // A filter may look at any of them.
        if self.filter.is_some() { EVERYTHING } else { self.snap_length.unwrap_or(EVERYTHING) }
    }
}

/// No interface: the NIC is not wanted.
const UNWANTED: u32 = u32::MAX;

/// A capture as the hub sees it.
pub(crate) struct Selection {
    pub sink: Arc<Sink>,
    pub wanted: Wanted,
    lan: Arc<Lan>,
    piece: Piece,
    /// When the first of the piece came.
    since: u64,
    /// By slot: a generation, and the interface that the NIC of it has.
    interfaces: Vec<(u32, u32)>,
    /// By name and addresses: a place that is claimed again is the same interface.
    described: BTreeMap<(String, Vec<IpAddr>), u32>,
    /// The same in the order of their numbers, to begin each of the ring files with.
    in_order: Vec<(String, String)>,
    in_file: u64,
    packets: u64,
    gap: u64,
    /// What the capture's ring had missed when this began.
    missed_before: u64,
}

impl Selection {
    pub(crate) fn new(lan: &Arc<Lan>, sink: Arc<Sink>, wanted: Wanted) -> Self {
        Self {
            sink,
            wanted,
            lan: Arc::clone(lan),
            piece: Piece::default(),
            since: 0,
            interfaces: Vec::new(),
            described: BTreeMap::new(),
            in_order: Vec::new(),
            in_file: 0,
            packets: 0,
            gap: 0,
            missed_before: 0,
        }
    }

    /// Begins the capture: the head of the file is written, the interfaces of the NICs that there are follow.
    ///
    /// # Errors
    ///
    /// Those of writing it.
    pub(crate) fn begin(&mut self, missed_before: u64) -> std::io::Result<()> {
        self.missed_before = missed_before;
        let mut head = Vec::new();
        pcapng::section(&mut head);
        self.in_file = head.len() as u64;
        if !self.sink.has_reader() {
            self.sink.begin(&head)?;
            self.add_interfaces();
            return Ok(());
        }
        // A reader is to see at once what there is to see.
        self.piece.bytes = head;
        self.add_interfaces();
        let bytes = std::mem::take(&mut self.piece.bytes);
        self.sink.begin(&bytes)
    }

    /// An interface for each NIC that has none yet, in the order of their slots.
    pub(crate) fn add_interfaces(&mut self) {
        let tables = *self.lan.segment().tables();
        for ((slot, generation), described) in self.lan.holders() {
            // Those that have left since some capture began, and were not met, are no part of this one.
            if tables.nic(SlotId(slot)).generation() == generation {
                self.describe(slot, generation, described);
            }
        }
    }

    /// The interface of the NIC that had the slot in this generation.
    #[inline]
    fn interface(&mut self, slot: SlotId, generation: u32) -> u32 {
        match self.interfaces.get(usize::from(slot.0)) {
            Some((known, id)) if *known == generation && generation != 0 => *id,
            _ => self.look_up(slot, generation),
        }
    }

    #[cold]
    fn look_up(&mut self, slot: SlotId, generation: u32) -> u32 {
        let described = self.lan.holder(slot, generation);
        let described = described.unwrap_or_else(|| (format!("nic{}", slot.0), Vec::new()));
        self.describe(slot.0, generation, described)
    }

    /// Gives a NIC its interface, unless it has one or is not wanted.
    fn describe(&mut self, slot: u16, generation: u32, described: (String, Vec<IpAddr>)) -> u32 {
        let index = usize::from(slot);
        if self.interfaces.len() <= index {
            self.interfaces.resize(index + 1, (0, UNWANTED));
        }
        let unwanted = self.wanted.nics.as_ref().is_some_and(|nics| !nics.contains(&described.0));
        let next = self.described.len() as u32;
        let id = if unwanted { UNWANTED } else { *self.described.entry(described.clone()).or_insert(next) };
        self.interfaces[index] = (generation, id);
        if id == next {
            let (name, addresses) = described;
            let addresses = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            self.in_order.push((name, addresses));
            self.write_interface(id as usize);
        }
        id
    }

    fn write_interface(&mut self, id: usize) {
        let (name, addresses) = &self.in_order[id];
        let filter = self.wanted.filter.as_ref().map_or("", |(_, words)| words);
        let snap_length = self.wanted.snap_length.unwrap_or(0);
        let before = self.piece.bytes.len();
        pcapng::interface(&mut self.piece.bytes, name, addresses, snap_length, filter);
        self.in_file += (self.piece.bytes.len() - before) as u64;
    }

    /// Whether it has as many packets as were asked for.
    pub(crate) fn has_enough(&self) -> bool {
        self.wanted.limit.is_some_and(|limit| self.packets >= limit)
    }

    /// Takes what it wants of a note.
    #[inline]
    pub(crate) fn take(&mut self, note: &Note<'_>) {
        let delivered = note.delivered();
        if self.wanted.drops && delivered {
            return;
        }
        let outbound = !note.copy && self.wanted.direction != Direction::In;
        let inbound = note.receiver.0 != 0 && self.wanted.direction != Direction::Out;
        let source = if outbound { self.interface(note.source, note.generations.0) } else { UNWANTED };
        let receiver = if inbound { self.interface(note.receiver, note.generations.1) } else { UNWANTED };
        if source == UNWANTED && receiver == UNWANTED {
            return;
        }
        if let Some((program, _)) = &self.wanted.filter
            && program.run(note.bytes, note.length) == 0
        {
            return;
        }
        let reason = if delivered { None } else { Some(reason(note.verdict)) };
        let before = self.packets;
        for (interface, direction) in [(source, OUTBOUND), (receiver, INBOUND)] {
            if interface != UNWANTED && !self.has_enough() {
                self.write(note, interface, direction, reason);
            }
        }
        self.piece.datagrams += u64::from(self.packets > before && !note.copy);
    }

    #[inline]
    fn write(&mut self, note: &Note<'_>, interface: u32, direction: u32, dropped: Option<&'static str>) {
        let kept = note.bytes.len().min(self.wanted.snap_length.unwrap_or(EVERYTHING) as usize);
        let most = kept + pcapng::AROUND;
        if self.piece.bytes.len() + most > PIECE && !self.hand_over() {
            // Once a datagram, not once a packet of it.
            let counts = direction == OUTBOUND || note.copy || self.wanted.direction == Direction::In;
            self.sink.missed.fetch_add(u64::from(counts), Ordering::Relaxed);
            self.gap += 1;
            return;
        }
        if self.wanted.file_bytes.is_some_and(|most| self.in_file >= most) {
            self.turn_over();
        }
        if self.piece.packets == 0 {
            self.since = note.time;
        }
        let before = self.piece.bytes.len();
        let packet = Packet {
            interface,
            time: note.time,
            bytes: &note.bytes[..kept],
            length: note.length,
            direction,
            dropped,
            gap: self.gap,
        };
        pcapng::packet(&mut self.piece.bytes, &packet);
        self.in_file += (self.piece.bytes.len() - before) as u64;
        self.piece.packets += 1;
        self.packets += 1;
        self.gap = 0;
    }

    /// Begins the next of the ring files, with all interfaces that there are.
    #[cold]
    fn turn_over(&mut self) {
        self.flush();
        self.piece.next_file = true;
        self.piece.bytes.clear();
        pcapng::section(&mut self.piece.bytes);
        self.in_file = self.piece.bytes.len() as u64;
        for id in 0..self.in_order.len() {
            self.write_interface(id);
        }
    }

    /// Hands the piece to the writer. False when that has enough already.
    fn hand_over(&mut self) -> bool {
        if self.piece.bytes.is_empty() {
            return true;
        }
        if self.sink.is_full(self.piece.bytes.len()) {
            return false;
        }
        let piece = std::mem::take(&mut self.piece);
        let room = piece.bytes.len();
        self.piece.bytes = self.sink.push(piece);
        self.piece.bytes.reserve(room);
        true
    }

    /// Hands over what there is.
    pub(crate) fn flush(&mut self) {
        // The queue's bound is for packets that come too fast, not for the last of them.
        let piece = std::mem::take(&mut self.piece);
        if !piece.bytes.is_empty() {
            self.piece.bytes = self.sink.push(piece);
        }
    }

    /// Hands over what has waited long enough. Returns nanoseconds until the rest has, if there is any.
    pub(crate) fn flush_if_due(&mut self, now: u64) -> Option<u64> {
        if self.piece.packets == 0 {
            return None;
        }
        // A clock that was set back is no reason to wait.
        let waited = now.checked_sub(self.since).unwrap_or(PROMPTLY);
        if waited < PROMPTLY {
            return Some(PROMPTLY - waited);
        }
        if self.hand_over() { None } else { Some(PROMPTLY) }
    }

    /// Ends the capture, because of `why`; the writer then writes what is left.
    pub(crate) fn end(&mut self, why: End, missed: u64, now: u64) {
        self.count_missed(missed);
        self.add_interfaces();
        let missed = self.sink.missed.load(Ordering::Relaxed);
        if missed > 0 && !self.in_order.is_empty() {
            pcapng::missed(&mut self.piece.bytes, now, missed);
        }
        if why == End::Limit {
            // Nobody may be there to write the rest.
            self.flush();
        }
        let piece = std::mem::take(&mut self.piece);
        self.sink.stop((!piece.bytes.is_empty()).then_some(piece), why, false);
    }

    /// Counts what the capture's ring has missed since this capture last looked.
    pub(crate) fn count_missed(&mut self, missed: u64) {
        let since = missed.wrapping_sub(self.missed_before);
        if since > 0 {
            self.missed_before = missed;
            self.gap += since;
            self.sink.missed.fetch_add(since, Ordering::Relaxed);
        }
    }
}

fn reason(verdict: u8) -> &'static str {
    Verdict::ALL.get(usize::from(verdict)).map_or("unknown", |verdict| verdict.name())
}
