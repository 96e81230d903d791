//! NIC slots: the rows that host table entries point to.

use crate::network::NetworkId;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// A NIC's number on its LAN. Slot 0 is the capture's; slots are used again, told apart by their generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId(pub u16);

/// Whether a NIC takes datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NicState {
    /// No NIC: the slot is free.
    Free,
    /// The NIC has its addresses but nobody holds it: its guest died, or has not come yet.
    Down,
    /// The NIC takes datagrams.
    Up,
}

/// A NIC in the tables segment.
///
/// ```text
///  0 generation u32 │ 4 state u32 │ 8 network u32 │ 12 mtu u32 │ 16 ring_at u64 │ 24 ring_bytes u64
/// 32 mac u64 │ 40 worker u32 │ 44 offloads u32 │ 48 flags u32 │ 52 port u32 │ 56 gateways u32 │ 60 filters u32
/// ```
///
/// `generation` is stored last, with release, when a NIC takes the slot: a reader that loads it with acquire sees the
/// row of that NIC or of a later one, and the input buffer's own generation, checked under the buffer's lock, tells
/// which of the two it was.
#[repr(C, align(64))]
pub struct NicRow {
    generation: AtomicU32,
    state: AtomicU32,
    network: AtomicU32,
    mtu: AtomicU32,
    ring_at: AtomicU64,
    ring_bytes: AtomicU64,
    mac: AtomicU64,
    worker: AtomicU32,
    offloads: AtomicU32,
    flags: AtomicU32,
    port: AtomicU32,
    gateways: AtomicU32,
    filters: AtomicU32,
}

/// `NicRow::worker` of a NIC whose own guest sleeps on its doorbell.
pub const NO_WORKER: u32 = u32::MAX;

/// `NicRow::flags`: behind the NIC lie addresses that the tables do not know, as behind a switch's port; it is given the
/// datagrams for addresses of its network that nobody has.
pub const BRIDGES: u32 = 1;

/// `NicRow::flags`: what enters the NIC's network passes a filter.
pub const GUARDED: u32 = 2;

/// `NicRow::state` of a NIC that is up and about which there is nothing else to know.
const PLAIN: u32 = NicState::Up as u32;
/// `NicRow::state` of a NIC that is up, and a router's or behind a filter: whoever sends to it looks closer.
const SPECIAL: u32 = 3;

/// What a NIC row holds while it does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NicConfig {
    /// The network that the NIC is on.
    pub network: NetworkId,
    /// Largest IP datagram, in bytes.
    pub mtu: u32,
    /// Where its ring starts in the buffers segment, in bytes.
    pub ring_at: u64,
    /// Bytes of its ring, a power of two.
    pub ring_bytes: u64,
    /// Its MAC address, the first octet in the highest of the low 48 bits.
    pub mac: u64,
    /// The base worker that serves it, if one does.
    pub worker: Option<u32>,
    /// What its guest takes unfinished; bits of the base's `offload` module.
    pub offloads: u32,
    /// [`BRIDGES`], [`GUARDED`].
    pub flags: u32,
    /// The router's port that it is: its number in the plan plus one, 0 for none.
    pub port: u32,
    /// The NICs that lead its guest out of the network, for IPv4 and for IPv6; slot 0 for none.
    pub gateways: (SlotId, SlotId),
    /// The filters of what it is given and of what it sends: their numbers plus one, 0 for none.
    pub filters: (u16, u16),
}

impl NicRow {
    pub(crate) fn write(&self, config: &NicConfig, state: NicState, generation: u32) {
        self.network.store(u32::from(config.network.0), Ordering::Relaxed);
        self.mtu.store(config.mtu, Ordering::Relaxed);
        self.ring_at.store(config.ring_at, Ordering::Relaxed);
        self.ring_bytes.store(config.ring_bytes, Ordering::Relaxed);
        self.mac.store(config.mac, Ordering::Relaxed);
        self.worker.store(config.worker.unwrap_or(NO_WORKER), Ordering::Relaxed);
        self.offloads.store(config.offloads, Ordering::Relaxed);
        self.flags.store(config.flags, Ordering::Relaxed);
        self.port.store(config.port, Ordering::Relaxed);
        self.gateways.store(pair(config.gateways.0.0, config.gateways.1.0), Ordering::Relaxed);
        self.filters.store(pair(config.filters.0, config.filters.1), Ordering::Relaxed);
        self.state.store(self.word(state), Ordering::Relaxed);
        // Release: partners with the acquire in `generation()`; who sees the number sees the row above.
        self.generation.store(generation, Ordering::Release);
    }

    pub(crate) fn set_state(&self, state: NicState) {
        // Release: partners with the acquire in `state()`.
        self.state.store(self.word(state), Ordering::Release);
    }

    /// The state as it is stored: so that one look tells a sender whether there is anything to look closer at.
    fn word(&self, state: NicState) -> u32 {
        let (inward, _) = self.filters();
        let guarded = inward != 0 || self.flags.load(Ordering::Relaxed) & GUARDED != 0;
        if state == NicState::Up && (guarded || self.port() != 0) { SPECIAL } else { state as u32 }
    }

    pub(crate) fn set_guarded(&self, guarded: bool) {
        let flags = self.flags.load(Ordering::Relaxed) & !GUARDED;
        self.flags.store(if guarded { flags | GUARDED } else { flags }, Ordering::Relaxed);
        self.set_state(self.state());
    }

    pub(crate) fn set_worker(&self, worker: Option<u32>) {
        self.worker.store(worker.unwrap_or(NO_WORKER), Ordering::Release);
    }

    pub(crate) fn set_mac(&self, mac: u64) {
        self.mac.store(mac, Ordering::Relaxed);
    }

    pub(crate) fn set_offloads(&self, offloads: u32) {
        self.offloads.store(offloads, Ordering::Release);
    }

    pub(crate) fn set_port(&self, port: u32) {
        self.port.store(port, Ordering::Release);
        self.set_state(self.state());
    }

    pub(crate) fn set_gateways(&self, v4: SlotId, v6: SlotId) {
        self.gateways.store(pair(v4.0, v6.0), Ordering::Release);
    }

    pub(crate) fn set_filters(&self, inward: u16, outward: u16) {
        self.filters.store(pair(inward, outward), Ordering::Release);
        self.set_state(self.state());
    }

    /// The router's port that the NIC is: its number in the plan plus one, 0 where it is none.
    #[must_use]
    #[inline]
    pub fn port(&self) -> u32 {
        self.port.load(Ordering::Acquire)
    }

    /// The NICs that lead its guest out of the network, for IPv4 and for IPv6; slot 0 for none.
    #[must_use]
    #[inline]
    pub fn gateways(&self) -> (SlotId, SlotId) {
        let word = self.gateways.load(Ordering::Acquire);
        (SlotId(word as u16), SlotId((word >> 16) as u16))
    }

    /// The filters of what the NIC is given and of what it sends: their numbers plus one, 0 for none.
    #[must_use]
    #[inline]
    pub fn filters(&self) -> (u16, u16) {
        let word = self.filters.load(Ordering::Acquire);
        (word as u16, (word >> 16) as u16)
    }

    /// How many times the slot has changed hands.
    #[must_use]
    #[inline]
    pub fn generation(&self) -> u32 {
        // Acquire: partners with the release at the end of `write()`.
        self.generation.load(Ordering::Acquire)
    }

    /// Whether the NIC takes datagrams.
    #[must_use]
    #[inline]
    pub fn state(&self) -> NicState {
        // Acquire: partners with the release in `set_state()`.
        match self.state.load(Ordering::Acquire) {
            1 => NicState::Down,
            PLAIN | SPECIAL => NicState::Up,
            _ => NicState::Free,
        }
    }

    /// Whether the NIC takes datagrams, is a guest's, and no filter looks at them.
    #[must_use]
    #[inline(always)]
    pub fn is_plain(&self) -> bool {
        // Acquire: as in `state()`.
        self.state.load(Ordering::Acquire) == PLAIN
    }

    /// The network that the NIC is on.
    #[must_use]
    #[inline]
    pub fn network(&self) -> NetworkId {
        NetworkId(self.network.load(Ordering::Relaxed) as u16)
    }

    /// Largest IP datagram that the NIC takes, in bytes.
    #[must_use]
    #[inline]
    pub fn mtu(&self) -> u32 {
        self.mtu.load(Ordering::Relaxed)
    }

    /// Where the ring lies in the buffers segment and how large it is, in bytes.
    #[must_use]
    #[inline]
    pub fn ring(&self) -> (u64, u64) {
        (self.ring_at.load(Ordering::Relaxed), self.ring_bytes.load(Ordering::Relaxed))
    }

    /// The MAC address, the first octet highest of 48 bits.
    #[must_use]
    pub fn mac(&self) -> u64 {
        self.mac.load(Ordering::Relaxed)
    }

    /// What its guest takes unfinished: checksums that were not computed, segments that were not cut.
    #[must_use]
    #[inline]
    pub fn offloads(&self) -> u32 {
        self.offloads.load(Ordering::Acquire)
    }

    /// Whether addresses that the tables do not know may lie behind it.
    #[must_use]
    #[inline]
    pub fn bridges(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & BRIDGES != 0
    }

    /// The base worker that serves the NIC, if one does.
    #[must_use]
    #[inline]
    pub fn worker(&self) -> Option<u32> {
        let worker = self.worker.load(Ordering::Acquire);
        (worker != NO_WORKER).then_some(worker)
    }
}

fn pair(low: u16, high: u16) -> u32 {
    u32::from(high) << 16 | u32::from(low)
}

#[cfg(not(loom))]
const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<NicRow>() == 64);
    assert!(offset_of!(NicRow, state) == 4);
    assert!(offset_of!(NicRow, ring_at) == 16);
    assert!(offset_of!(NicRow, mac) == 32);
    assert!(offset_of!(NicRow, worker) == 40);
    assert!(offset_of!(NicRow, offloads) == 44);
    assert!(offset_of!(NicRow, flags) == 48);
    assert!(offset_of!(NicRow, port) == 52);
    assert!(offset_of!(NicRow, gateways) == 56);
    assert!(offset_of!(NicRow, filters) == 60);
};
