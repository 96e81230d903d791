//! What lies where in the memory files of a LAN. The third, for routing, is drawn in the base's `routing` module.
//!
//! ```text
//!  tables segment (every process but the base can only map it for reading)
//!  0        ┌──────────────────────────────────────────────┐
//!           │ Header: magic, ABI, geometry, flags          │ one page
//!  4096     ├──────────────────────────────────────────────┤
//!           │ NetworkRow × networks                        │ 64 bytes each
//!           ├──────────────────────────────────────────────┤
//!           │ NicRow × nics                                │ 64 bytes each
//!           ├──────────────────────────────────────────────┤
//!           │ host table, IPv4: Bucket4 × buckets4         │ 64 bytes: 8 entries
//!           ├──────────────────────────────────────────────┤
//!           │ host table, IPv6: Bucket6 × buckets6         │ 64 bytes: 2 entries
//!           └──────────────────────────────────────────────┘ tables_bytes
//!
//!  buffers segment (processes of the same user map it writable)
//!  0        ┌──────────────────────────────────────────────┐
//!           │ WorkerBlock × WORKERS                        │ which served NICs have work
//!           ├──────────────────────────────────────────────┤ controls_at
//!           │ Control × nics                               │ 1 KiB each: lock, positions, doorbell, counters
//!           ├──────────────────────────────────────────────┤ rings_at
//!           │ ring of slot 0 (the capture's)               │ CAPTURE_RING bytes of address space,
//!           │ ring of slot 1 …                             │ `stride` bytes each; memory only where written
//!           └──────────────────────────────────────────────┘ buffers_bytes
//! ```
//!
//! Both files have a fixed size from birth and are sparse: an untouched page costs nothing.

use crate::sync::{AtomicU32, AtomicU64};

/// `"vnet-lan"`, read as a little-endian number; a machine of the other byte order reads another number and refuses.
pub const MAGIC: u64 = u64::from_le_bytes(*b"vnet-lan");

/// The version of everything that lies in either segment. Base and guest must agree on it exactly.
pub const ABI: u32 = 4;

/// Bytes of a page of the segments; rings and sections start on a page.
pub const PAGE: u64 = 4096;

/// Bytes that two writers keep apart: two cache lines, because the processor fetches them in pairs.
pub const APART: usize = 128;

/// Most NICs that a LAN can be made for; a host table entry has 16 bits for the slot.
pub const MAX_NICS: u32 = 65_536 - 1;

/// Networks that a LAN can have.
pub const NETWORKS: u32 = 8192;

/// Base workers that the buffers segment has blocks for.
pub const WORKERS: u32 = 4;

/// Bytes of a worker's block in the buffers segment.
pub const WORKER_BYTES: u64 = 16_384;

/// Bytes of a NIC's control block in the buffers segment.
pub const CONTROL_BYTES: u64 = 1024;

/// Smallest ring: two datagrams of the largest size fit, so a reader that publishes late never blocks a writer for good.
pub const MIN_RING: u64 = 256 * 1024;

/// Largest ring.
pub const MAX_RING: u64 = 1 << 30;

/// `Header::moment`: senders note all that they forward in the capture's ring.
pub const FLAG_CAPTURE: u32 = 1;
/// `Header::moment`: the base has closed the LAN.
pub const FLAG_CLOSED: u32 = 2;
/// `Header::moment`: senders note what they drop in the capture's ring.
pub const FLAG_DROPS: u32 = 4;

/// Bytes of the capture's ring: at the full rate of two processors, what comes while its reader waits for one of them.
pub const CAPTURE_RING: u64 = 32 << 20;

/// The first bytes of the tables segment.
///
/// ```text
///  0 magic u64 │ 8 abi u32 │ 12 nics u32 │ 16 networks u32 │ 20 buckets4 u32 │ 24 buckets6 u32 │ 28 (zero) u32
/// 32 stride u64 │ 40 lan u64 │ 48 (zero) ×2
/// 64 moment u64 │ 72 network_count u32 │ 76 nic_high u32 │ 80 noted_bytes u32 │ 84 (zero) u32 ×11
/// ```
///
/// The first line is written before the segment is handed out and never again; the second changes while the LAN runs.
#[repr(C, align(64))]
pub struct Header {
    /// [`MAGIC`].
    pub magic: AtomicU64,
    /// [`ABI`].
    pub abi: AtomicU32,
    /// NIC slots, the capture's slot 0 included.
    pub nics: AtomicU32,
    /// Network rows.
    pub networks: AtomicU32,
    /// IPv4 host table buckets, a power of two.
    pub buckets4: AtomicU32,
    /// IPv6 host table buckets, a power of two.
    pub buckets6: AtomicU32,
    zero: AtomicU32,
    /// Bytes of address space for each ring, a power of two.
    pub stride: AtomicU64,
    /// A random number that tells this LAN from every other.
    pub lan: AtomicU64,
    zeros: [AtomicU64; 2],
    /// What senders compare, datagram after datagram, with what they saw last. In the lower half the flags
    /// [`FLAG_CAPTURE`], [`FLAG_CLOSED`] and [`FLAG_DROPS`]; in the upper half the version of routing, which changes whenever
    /// anything in the routing segment, or a NIC's or network's part in routing, has changed, and is 0 while nothing is routed.
    pub moment: AtomicU64,
    /// Networks in use; the rows below it are complete.
    pub network_count: AtomicU32,
    /// One more than the highest slot ever used; a broadcast looks no further.
    pub nic_high: AtomicU32,
    /// How many bytes of each datagram the captures want.
    pub noted_bytes: AtomicU32,
}

/// How large a LAN is made; everything else in the layout follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// NIC slots, the capture's slot 0 included.
    pub nics: u32,
    /// IPv4 host table buckets.
    pub buckets4: u32,
    /// IPv6 host table buckets.
    pub buckets6: u32,
    /// Bytes of address space for each ring.
    pub stride: u64,
}

impl Geometry {
    /// A LAN for `nics` guests with rings of up to `stride` bytes, which is rounded up to a power of two.
    ///
    /// The host tables take four addresses a NIC in each family.
    #[must_use]
    pub fn new(nics: u32, stride: u64) -> Self {
        let nics = nics.clamp(1, MAX_NICS - 1) + 1;
        Self {
            nics,
            buckets4: nics.div_ceil(2).next_power_of_two(),
            buckets6: (nics * 4).next_power_of_two(),
            stride: stride.clamp(MIN_RING, MAX_RING).next_power_of_two(),
        }
    }

    /// Where the network rows start, in bytes.
    #[must_use]
    pub const fn networks_at(&self) -> u64 {
        PAGE
    }

    /// Where the NIC rows start, in bytes.
    #[must_use]
    pub const fn nics_at(&self) -> u64 {
        self.networks_at() + NETWORKS as u64 * 64
    }

    /// Where the IPv4 host table starts, in bytes.
    #[must_use]
    pub const fn hosts4_at(&self) -> u64 {
        self.nics_at() + self.nics as u64 * 64
    }

    /// Where the IPv6 host table starts, in bytes.
    #[must_use]
    pub const fn hosts6_at(&self) -> u64 {
        self.hosts4_at() + self.buckets4 as u64 * 64
    }

    /// Size of the tables segment, in bytes.
    #[must_use]
    pub const fn tables_bytes(&self) -> u64 {
        page_up(self.hosts6_at() + self.buckets6 as u64 * 64)
    }

    /// Where the control blocks start in the buffers segment, in bytes.
    #[must_use]
    pub const fn controls_at(&self) -> u64 {
        WORKERS as u64 * WORKER_BYTES
    }

    /// Where the rings start in the buffers segment, in bytes.
    #[must_use]
    pub const fn rings_at(&self) -> u64 {
        page_up(self.controls_at() + self.nics as u64 * CONTROL_BYTES)
    }

    /// Where the ring of a slot starts in the buffers segment, in bytes.
    #[must_use]
    pub const fn ring_at(&self, slot: u32) -> u64 {
        if slot == 0 { self.rings_at() } else { self.rings_at() + CAPTURE_RING + (slot - 1) as u64 * self.stride }
    }

    /// Size of the buffers segment, in bytes.
    #[must_use]
    pub const fn buffers_bytes(&self) -> u64 {
        self.ring_at(self.nics)
    }

    /// Whether numbers that came from outside can be a geometry: bounds, powers of two, no overflow.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        (2..=MAX_NICS).contains(&self.nics)
            && self.buckets4.is_power_of_two()
            && self.buckets6.is_power_of_two()
            && self.buckets4 <= 1 << 20
            && self.buckets6 <= 1 << 20
            && self.stride.is_power_of_two()
            && (MIN_RING..=MAX_RING).contains(&self.stride)
    }
}

const fn page_up(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE) * PAGE
}

#[cfg(not(loom))]
const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(offset_of!(Header, abi) == 8);
    assert!(offset_of!(Header, nics) == 12);
    assert!(offset_of!(Header, stride) == 32);
    assert!(offset_of!(Header, lan) == 40);
    assert!(offset_of!(Header, moment) == 64);
    assert!(offset_of!(Header, network_count) == 72);
    assert!(offset_of!(Header, nic_high) == 76);
    assert!(offset_of!(Header, noted_bytes) == 80);
    assert!(size_of::<Header>() == 128);
};
