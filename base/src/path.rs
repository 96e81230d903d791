//! Paths: what a sender composes once of the plan and then goes by, datagram after datagram.
//!
//! # Theory of operation
//!
//! The plan says what *one* router does with a class of destinations. [`compose`] asks router after router, from the one
//! that a datagram comes to first, and keeps the answers: the routers on the way with the ports that they send out of,
//! the smallest MTU, and where it ends. That is a [`Path`]; it holds for one pair of source and destination, because paths
//! of equal cost are chosen by a hash of the two.
//!
//! [`Paths`] keeps them for one sender, each with the version of the routing tables that it was made of. As long as the
//! version stands, a datagram costs one look here, however many routers it crosses. When anything changes - a link is cut,
//! a route is added - the version moves and the next datagram of each flow composes anew.

use vnet_tables::lpm::RouteTable;
use vnet_tables::plan::{Attached, ClassId, Next, Plan, Port, PortId, RouterId};
use vnet_tables::{Address, NetworkId, SlotId, Tables};

use crate::checksum;
use crate::icmp;
use crate::routing::{Section, still};
use crate::segment::Segment;

/// Routers that a path goes through at most: a datagram's TTL leads it no further (RFC 791 section 3.1).
const LONGEST: usize = 255;

/// Paths that a sender keeps, of each family. A flow that falls on another's place composes anew.
const KEPT: usize = 512;

/// How often a path is composed again because the tables changed meanwhile. Then it is taken as it is, for now.
const ATTEMPTS: usize = 4;

/// A router on a path, by which the datagram leaves for the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The router.
    pub router: RouterId,
    /// The port that the datagram comes in by; none where it is the router's own.
    pub into: Option<PortId>,
    /// The port that it leaves by.
    pub out: PortId,
    /// Largest IP datagram that leaves by it, in bytes.
    pub mtu: u32,
}

/// Why a router does not send a datagram on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It has no route.
    NoRoute,
    /// Its route says: unreachable.
    Unreachable,
    /// Its route says: prohibited.
    Prohibited,
    /// Its route says: drop it without a word. So are broadcasts to networks that are not its own.
    Blackhole,
}

/// Where a path ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At the NIC that has the address on the network, if one has.
    Nic {
        /// The network of the last port.
        network: NetworkId,
        /// The destination, or the next hop behind which it is.
        address: Address,
    },
    /// At the NIC of a guest that forwards.
    Guest(SlotId),
    /// At a router that has the address itself, and the port that the datagram comes in by.
    Router(RouterId, Option<PortId>),
    /// At a router that does not send it on, and the port that it comes in by.
    Refused(RouterId, Option<PortId>, Refusal),
    /// Nowhere: on the last port's link nobody has the address.
    Nobody,
    /// Nowhere: more routers than any TTL, because routes lead in a circle.
    Circle,
    /// Nowhere: the NIC that it was sent to is no router's.
    Elsewhere,
}

/// The way of a pair of source and destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The routers that send it on, in their order.
    pub hops: Vec<Hop>,
    /// Where it ends.
    pub end: End,
}

/// What the quick way needs of a path, in a few words.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    /// Routers that take one off TTL; [`NEVER_QUICK`] where each datagram must be looked at closely.
    pub hops: u32,
    /// The smallest MTU of the way, in bytes.
    pub mtu: u32,
    /// The network of the last port.
    pub network: NetworkId,
    /// Whom the datagram goes to there.
    pub address: Address,
    /// The slot that stands for the last port.
    pub last: SlotId,
}

/// [`Summary::hops`]: no TTL is enough.
pub const NEVER_QUICK: u32 = u32::MAX;

/// Who sends to whom, by way of which NIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Where it says that it comes from.
    pub source: Address,
    /// Where it is to go.
    pub destination: Address,
    /// What else of it chooses among paths of equal cost, if the plan says that ports do.
    pub ports: u32,
}

impl Flow {
    /// The flow of a datagram whose fixed header is whole. `ports` is 0: see [`Flow::ports_of`].
    #[must_use]
    #[inline(always)]
    pub fn of(datagram: &[u8], destination: Address) -> Self {
        let source = match destination {
            Address::V4(_) => Address::V4(u32::from_be_bytes([datagram[12], datagram[13], datagram[14], datagram[15]])),
            Address::V6(..) => {
                let half = |at: usize| datagram[at..at + 8].iter().fold(0, |half, byte| half << 8 | u64::from(*byte));
                Address::V6(half(8), half(16))
            }
        };
        Self { source, destination, ports: 0 }
    }

    /// What tells connections between the same two apart: protocol and ports; a fragment has the protocol alone, so that all
    /// fragments of a datagram take one path, as Linux's `fib_multipath_hash_policy` 1 has it.
    #[must_use]
    pub fn ports_of(datagram: &[u8]) -> u32 {
        let byte = |at: usize| datagram.get(at).copied().unwrap_or(0);
        let (protocol, at, whole) = if byte(0) >> 4 == 4 {
            let offset = u16::from_be_bytes([byte(6), byte(7)]) & 0x3fff;
            (byte(9), usize::from(byte(0) & 15) * 4, offset == 0)
        } else {
            (byte(6), 40, true)
        };
        let ports = match datagram.get(at..at + 4) {
            Some(ports) if whole && matches!(protocol, 6 | 17 | 33 | 132 | 136) => {
                u32::from_be_bytes([ports[0], ports[1], ports[2], ports[3]])
            }
            _ => 0,
        };
        ports.wrapping_mul(0x9e37_79b1) ^ u32::from(protocol)
    }

    /// The number that chooses among paths of equal cost.
    #[must_use]
    pub fn hash(&self) -> u32 {
        let word = |address: Address| match address {
            Address::V4(number) => u64::from(number),
            Address::V6(high, low) => high.rotate_left(29) ^ low.wrapping_mul(0xff51_afd7_ed55_8ccd),
        };
        let mixed = word(self.source).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ word(self.destination);
        let mixed = (mixed ^ u64::from(self.ports) << 32).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        (mixed >> 32) as u32
    }

    #[inline(always)]
    fn place(&self, first: SlotId) -> usize {
        let word = |address: Address| match address {
            Address::V4(number) => u64::from(number),
            Address::V6(high, low) => high ^ low.rotate_left(32),
        };
        let key = word(self.source) << 32 ^ word(self.destination) ^ u64::from(self.ports) << 16 ^ u64::from(first.0);
        (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - KEPT.ilog2())) as usize
    }
}

struct Kept {
    version: u32,
    first: SlotId,
    flow: Flow,
    summary: Summary,
    path: Path,
}

/// What the quick way keeps of an IPv4 flow: numbers that stay in registers, in one cache line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
pub(crate) struct Lane {
    /// Source and destination, as they stand in the header.
    key: u64,
    ports: u32,
    version: u32,
    first: u32,
    /// As in [`Summary`], here and below.
    pub(crate) hops: u32,
    pub(crate) mtu: u32,
    pub(crate) address: u32,
    pub(crate) network: NetworkId,
    pub(crate) last: SlotId,
    /// The NIC that had the address when the lane was opened, if there is nothing to look closer at; slot 0 for none. While
    /// its generation stands, it still has it: an address that moves from a NIC which stays moves the version of routing.
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// The paths that a sender knows.
#[derive(Default)]
pub struct Paths {
    lanes: Vec<Lane>,
    v4: Vec<Option<Box<Kept>>>,
    v6: Vec<Option<Box<Kept>>>,
}

impl Paths {
    /// The lane of an IPv4 flow that begins at the NIC `first`; `key` is source and destination, one behind the other.
    #[inline(always)]
    pub(crate) fn lane(&mut self, segment: &Segment, version: u32, first: u32, key: u64, ports: u32) -> &Lane {
        let mixed = (key ^ u64::from(ports) << 24 ^ u64::from(first) << 48).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let place = (mixed >> (64 - KEPT.ilog2())) as usize;
        let known = self.lanes.get(place).is_some_and(|lane| {
            lane.key == key && lane.version == version && lane.first == first && lane.ports == ports
        });
        if !known {
            self.open_lane(segment, version, first, key, ports, place);
        }
        &self.lanes[place]
    }

    #[cold]
    #[inline(never)]
    fn open_lane(&mut self, segment: &Segment, version: u32, first: u32, key: u64, ports: u32, place: usize) {
        let flow = Flow { source: Address::V4((key >> 32) as u32), destination: Address::V4(key as u32), ports };
        let (Summary { hops, mtu, network, address, last }, _) =
            self.find(segment, version, SlotId(first as u16), &flow);
        let address = if let Address::V4(address) = address { address } else { 0 };
        if self.lanes.is_empty() {
            self.lanes.resize(KEPT, Lane::default());
        }
        let tables = segment.tables();
        let found = tables.hosts().find4(network, address);
        let found = found.map(|found| (found, tables.nic(found.slot).generation())).filter(|(found, _)| found.holds());
        let (slot, generation) = found.map_or((0, 0), |(found, generation)| (u32::from(found.slot.0), generation));
        let lane = Lane { key, ports, version, first, hops, mtu, address, network, last, slot, generation };
        self.lanes[place] = lane;
    }

    /// The path of a flow that begins at the NIC `first`, composed if it is not known.
    #[inline]
    pub fn find(&mut self, segment: &Segment, version: u32, first: SlotId, flow: &Flow) -> (Summary, &Path) {
        let kept = if matches!(flow.destination, Address::V4(_)) { &mut self.v4 } else { &mut self.v6 };
        if kept.is_empty() {
            kept.resize_with(KEPT, || None);
        }
        let entry = &mut kept[flow.place(first)];
        let known = |kept: &Kept| kept.version == version && kept.flow == *flow && kept.first == first;
        if !entry.as_deref().is_some_and(known) {
            *entry = None;
        }
        let kept = entry.get_or_insert_with(|| compose_whole(segment, version, first, flow));
        (kept.summary, &kept.path)
    }
}

#[cold]
#[inline(never)]
fn compose_whole(segment: &Segment, version: u32, first: SlotId, flow: &Flow) -> Box<Kept> {
    let tables = *segment.tables();
    let (mut version, mut path) = (version, compose(segment, first, flow));
    for _ in 0..ATTEMPTS {
        if still(|| tables.routing(), version) {
            break;
        }
        version = tables.routing();
        path = compose(segment, first, flow);
    }
    let summary = summarise(segment, &path, flow);
    Box::new(Kept { version, first, flow: *flow, summary, path })
}

/// Asks router after router, from the one that has the NIC `first`.
#[must_use]
pub fn compose(segment: &Segment, first: SlotId, flow: &Flow) -> Path {
    let row = segment.tables().nic(first);
    let Some(into) = row.port().checked_sub(1).map(PortId) else {
        return Path { hops: Vec::new(), end: End::Elsewhere };
    };
    let plan = Plan::new(segment.section(Section::Plan));
    match plan.port(into) {
        Some(port) => from_router(segment, &plan, port.router, Some(into), flow),
        None => Path { hops: Vec::new(), end: End::Elsewhere },
    }
}

/// Asks router after router, from `router` on, where the datagram comes in by `into` or is the router's own.
#[must_use]
pub fn from_router(
    segment: &Segment,
    plan: &Plan<'_>,
    mut router: RouterId,
    mut into: Option<PortId>,
    flow: &Flow,
) -> Path {
    let tables = segment.tables();
    let class = class_of(segment, flow.destination);
    let hash = flow.hash();
    let owner = owner_of(tables, plan, class, flow.destination);
    let mut hops = Vec::new();
    let end = loop {
        if owner == Some(router) {
            break End::Router(router, into);
        }
        if hops.len() == LONGEST {
            break End::Circle;
        }
        if let Some(port) = into.and_then(|into| plan.port(into))
            && !hops.is_empty()
            && plan.router(router).is_some_and(|router| router.guest)
        {
            break End::Guest(port.slot);
        }
        let refused = |refusal| End::Refused(router, into, refusal);
        let (out, next_hop) = match plan.next(router, class, hash) {
            Next::OnLink { port } => (port, flow.destination),
            Next::Via { port, address } => (port, address),
            Next::Router { out, into: next } => {
                let mtu = plan.port(out).map_or(0, |port| port.mtu);
                hops.push(Hop { router, into, out, mtu });
                match plan.port(next) {
                    Some(port) => (router, into) = (port.router, Some(next)),
                    None => break End::Nobody,
                }
                continue;
            }
            Next::NoRoute => break refused(Refusal::NoRoute),
            Next::Unreachable => break refused(Refusal::Unreachable),
            Next::Prohibited => break refused(Refusal::Prohibited),
            Next::Blackhole => break refused(Refusal::Blackhole),
        };
        let Some(port) = plan.port(out) else { break refused(Refusal::NoRoute) };
        let hop = Hop { router, into, out, mtu: port.mtu };
        let next = match port.attached {
            // Over a link goes whatever the address; at its other end only the router there has one.
            Attached::Link { peer } => {
                let there = plan.port(peer).map(|port| (port.router, has(&port, next_hop)));
                match there {
                    Some((router, true)) => Some((router, peer)),
                    // A static route over the link, by whichever address: the other end takes it.
                    Some((router, false)) if next_hop != flow.destination => Some((router, peer)),
                    _ => {
                        hops.push(hop);
                        break End::Nobody;
                    }
                }
            }
            Attached::Network(network) => {
                if next_hop == flow.destination && is_for_everyone(tables, network, next_hop) {
                    // Linux leaves `bc_forwarding` off: a router takes a broadcast to its network for its own, and drops it.
                    break refused(Refusal::Blackhole);
                }
                if is_anycast(tables, network, flow.destination) {
                    break End::Router(router, into);
                }
                let found = tables.hosts().find(network, next_hop);
                let next = found.and_then(|found| tables.nic(found.slot).port().checked_sub(1)).map(PortId);
                match next.and_then(|next| Some((plan.port(next)?.router, next))) {
                    Some(next) => Some(next),
                    None => {
                        hops.push(hop);
                        break End::Nic { network, address: next_hop };
                    }
                }
            }
        };
        hops.push(hop);
        if let Some((next, port)) = next {
            (router, into) = (next, Some(port));
        }
    };
    Path { hops, end }
}

/// The class of destinations that an address is in; class 0 where no route leads to it.
#[must_use]
pub fn class_of(segment: &Segment, address: Address) -> ClassId {
    let routes = RouteTable::new(segment.section(Section::Routes));
    ClassId(match address {
        Address::V4(number) => routes.look_up4(number),
        Address::V6(high, low) => routes.look_up6(high, low),
    })
}

/// The router that has an address itself.
pub(crate) fn owner_of(tables: &Tables, plan: &Plan<'_>, class: ClassId, address: Address) -> Option<RouterId> {
    if let Some(router) = plan.local(class, address) {
        return Some(router);
    }
    let network = plan.network(class)?;
    let found = tables.hosts().find(network, address)?;
    let port = PortId(tables.nic(found.slot).port().checked_sub(1)?);
    Some(plan.port(port)?.router)
}

fn has(port: &vnet_tables::plan::Port, address: Address) -> bool {
    match address {
        Address::V4(number) => port.v4 == number,
        Address::V6(high, low) => port.v6 == u128::from(high) << 64 | u128::from(low),
    }
}

/// Whether an address is that of every router on a network: its IPv6 prefix with nothing behind it (RFC 4291 section 2.6.1).
fn is_anycast(tables: &Tables, network: NetworkId, address: Address) -> bool {
    let Address::V6(high, low) = address else { return false };
    let bits = tables.network(network).and_then(|row| row.v6_prefix()).unwrap_or(128);
    let hosts = u128::MAX.checked_shr(bits.into()).unwrap_or(0);
    // A /127 joins two routers, and has none (RFC 6164 section 5).
    bits < 127 && (u128::from(high) << 64 | u128::from(low)) & hosts == 0
}

fn is_for_everyone(tables: &Tables, network: NetworkId, address: Address) -> bool {
    let row = tables.network(network);
    row.is_some_and(|row| row.classify(address) == vnet_tables::Destination::Everyone)
}

/// What the quick way needs of a path; where it is not for the quick way, hops that no TTL is enough for.
fn summarise(segment: &Segment, path: &Path, flow: &Flow) -> Summary {
    let mtu = path.hops.iter().map(|hop| hop.mtu).min().unwrap_or(0);
    let mut summary =
        Summary { hops: NEVER_QUICK, mtu, network: NetworkId(0), address: flow.destination, last: SlotId(0) };
    let Some(last) = path.hops.last() else { return summary };
    let plan = Plan::new(segment.section(Section::Plan));
    if let Some(port) = plan.port(last.out) {
        summary.last = port.slot;
    }
    // A router that owns the source would have to say something, or rather nothing.
    let owner = owner_of(segment.tables(), &plan, class_of(segment, flow.source), flow.source);
    if let End::Nic { network, address } = path.end
        && may_cross(flow)
        && !path.hops.iter().any(|hop| Some(hop.router) == owner || is_guarded(segment.tables(), &plan, hop))
    {
        (summary.network, summary.address, summary.hops) = (network, address, path.hops.len() as u32);
    }
    summary
}

/// Whether a NIC by which a datagram comes to a router, or leaves it, has a filter.
fn is_guarded(tables: &Tables, plan: &Plan<'_>, hop: &Hop) -> bool {
    let ports = [hop.into, Some(hop.out)].map(|port| plan.port(port?).filter(Port::is_on_network));
    ports.iter().flatten().any(|port| port.slot.0 != 0 && tables.nic(port.slot).filters() != (0, 0))
}

/// Whether a router would pass on a datagram of the simplest kind between these two: a source or destination that no
/// datagram on a wire may have is looked at closely each time.
fn may_cross(flow: &Flow) -> bool {
    const TTL: u8 = 64;
    match (flow.source, flow.destination) {
        (Address::V4(source), Address::V4(destination)) => {
            // RFC 3692: a protocol number for experiments, about which no router knows anything.
            let mut header = [0x45, 0, 0, 20, 0, 0, 0, 0, TTL, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            header[12..16].copy_from_slice(&source.to_be_bytes());
            header[16..20].copy_from_slice(&destination.to_be_bytes());
            let sum = !checksum::fold(checksum::sum(&header));
            header[10..12].copy_from_slice(&sum.to_ne_bytes());
            icmp::receive(&header).is_ok()
        }
        (Address::V6(high, low), Address::V6(to_high, to_low)) => {
            let mut header = [0; 40];
            // Next header 59: nothing follows (RFC 8200 section 4.7).
            (header[0], header[6], header[7]) = (0x60, 59, TTL);
            for (at, half) in [(8, high), (16, low), (24, to_high), (32, to_low)] {
                header[at..at + 8].copy_from_slice(&half.to_be_bytes());
            }
            // A link-local source has no meaning beyond its link (RFC 4007 section 9).
            high >> 54 != 0xfe80 >> 6 && icmp::receive(&header).is_ok()
        }
        _ => false,
    }
}

impl Path {
    /// The router that a datagram comes to first, and the port that it comes in by.
    #[must_use]
    pub fn begins(&self) -> (Option<RouterId>, Option<PortId>) {
        match (self.hops.first(), self.end) {
            (Some(first), _) => (Some(first.router), first.into),
            (None, End::Router(router, into) | End::Refused(router, into, _)) => (Some(router), into),
            (None, _) => (None, None),
        }
    }
}
