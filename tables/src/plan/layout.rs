//! What lies where among the words of a compiled plan; drawn in the [module's documentation](super).

/// First word of a plan: "plan", read as a little-endian number. A reader that finds another has no plan.
pub const MAGIC: u32 = u32::from_le_bytes(*b"plan");

/// The version of everything that is drawn in the module's documentation.
pub const FORMAT: u32 = 1;

/// Words of the header.
pub const HEADER: usize = 32;

/// Positions of the header's words.
pub mod head {
    /// [`MAGIC`](super::MAGIC).
    pub const MAGIC: usize = 0;
    /// [`FORMAT`](super::FORMAT).
    pub const FORMAT: usize = 1;
    /// Words of the whole plan.
    pub const WORDS: usize = 2;
    /// [`HASH_PORTS`](super::HASH_PORTS).
    pub const FLAGS: usize = 3;
    /// How many rows each section has.
    pub const ROUTERS: usize = 4;
    /// As above.
    pub const PORTS: usize = 5;
    /// As above; class 0 counts.
    pub const CLASSES: usize = 6;
    /// As above; network 0 counts.
    pub const NETWORKS: usize = 7;
    /// As above.
    pub const ATTACHED: usize = 8;
    /// As above.
    pub const STATICS: usize = 9;
    /// Where each section starts, in words from the plan's start; the sets end where the plan does.
    pub const ROUTERS_AT: usize = 10;
    /// As above.
    pub const PORTS_AT: usize = 11;
    /// As above.
    pub const CLASSES_AT: usize = 12;
    /// As above.
    pub const NETWORKS_AT: usize = 13;
    /// As above.
    pub const ATTACHED_AT: usize = 14;
    /// As above.
    pub const STATICS_AT: usize = 15;
    /// As above.
    pub const MATRIX_AT: usize = 16;
    /// As above.
    pub const SETS_AT: usize = 17;
}

/// Header flags: the flow hash is taken over ports too.
pub const HASH_PORTS: u32 = 1;

/// Words of a router: its flags.
pub const ROUTER: usize = 1;
/// Router flags: the number is in use.
pub const ROUTER_PRESENT: u32 = 1;
/// Router flags: a guest that forwards.
pub const ROUTER_GUEST: u32 = 2;

/// Words of a port: router │ flags │ network or peer │ slot │ mtu │ weight │ v4 │ v6 ×4, the highest first.
pub const PORT: usize = 11;
/// Port flags: the number is in use, and so is its router's.
pub const PORT_PRESENT: u32 = 1;
/// Port flags: datagrams can leave by it. The port, its router and, on a link, the other end are in use and up.
pub const PORT_CARRIES: u32 = 2;
/// Port flags: on a link; the third word is the peer's number.
pub const PORT_LINK: u32 = 4;

/// Words of a class: kind and parent << 16 │ network, port or router │ first static │ statics │ via ×4.
pub const CLASS: usize = 8;
/// Class kinds, the low byte of a class's first word; 0 is none.
pub const KIND_NETWORK: u32 = 1;
/// As above.
pub const KIND_LINK: u32 = 2;
/// As above.
pub const KIND_LOOPBACK: u32 = 3;
/// As above; `via` is an IPv4 address in the last of the four words.
pub const KIND_EXTERNAL4: u32 = 4;
/// As above; `via` is an IPv6 address.
pub const KIND_EXTERNAL6: u32 = 5;
/// As above.
pub const KIND_STATIC: u32 = 6;

/// Words of a network: first attached port │ how many that carry.
pub const NETWORK: usize = 2;

/// Words of a static route: router │ step │ port │ address ×4. Those of a class lie in the order of their routers.
pub const STATIC: usize = 7;
/// Steps of a static route; 0 is none.
pub const STEP_VIA4: u32 = 1;
/// As above.
pub const STEP_VIA6: u32 = 2;
/// As above.
pub const STEP_UNREACHABLE: u32 = 3;
/// As above.
pub const STEP_PROHIBITED: u32 = 4;
/// As above.
pub const STEP_BLACKHOLE: u32 = 5;

/// Words of a cell of the matrix: distance │ next.
pub const CELL: usize = 2;
/// Distance of what cannot be reached.
pub const FAR: u32 = u32::MAX;
/// `next` of a cell that leads nowhere: the router itself, and what cannot be reached.
pub const NO_NEXT: u32 = 0;
/// `next` of a cell with this bit is a position among the sets; without it, a port on a link, plus one.
pub const NEXT_IS_SET: u32 = 1 << 31;

/// Most members of a set of next hops of equal cost. What lies beyond, in the order of ports, is not used.
pub const MOST_EQUAL: usize = 16;

/// An IPv6 address as words, the highest first.
pub(super) fn wide(address: u128) -> [u32; 4] {
    [(address >> 96) as u32, (address >> 64) as u32, (address >> 32) as u32, address as u32]
}

/// The inverse of [`wide`].
pub(super) fn narrow(words: [u32; 4]) -> u128 {
    words.into_iter().fold(0, |sum, word| sum << 32 | u128::from(word))
}

const _: () = {
    assert!(HEADER > head::SETS_AT);
    // A port and its mark fit into a cell's word.
    assert!((super::description::MAX_PORTS as u32) < NEXT_IS_SET);
    // No path is as long as what cannot be reached.
    assert!((super::description::MAX_ROUTERS as u64 - 1) * (super::description::MAX_WEIGHT as u64) < FAR as u64);
};
