//! Step 3 of `forward()` where routers stand between sender and receiver.
//!
//! # Theory of operation
//!
//! Nobody sits at a router. Whoever sends settles, in its own thread, what each router of the path would do: what is plain
//! goes the quick way of [`Sender::along`] - one look at the path, TTL and checksum written anew, one copy to its receiver.
//! Anything else is [walked](Sender::walk) from router to router, in the order of Linux's `ip_rcv`, `ip_forward` and
//! `ip_output`: header, route, TTL, MTU, options, fragments. What a router answers is sent on from there, in its name, along
//! its own path back; an answer to an answer there never is.

use vnet_tables::plan::{Plan, PortId, RouterId};
use vnet_tables::{Address, NetworkId, SlotId};

use crate::checksum;
use crate::datagram::{HEADER4, HEADER6};
use crate::forward::{Sender, Target, Unfinished, size};
use crate::fragments::Reassembler;
use crate::icmp::{self, Limits, Trouble};
use crate::path::{End, Flow, Hop, Lane, Path, Paths, Refusal, Summary};
use crate::routing::Section;
use crate::speaking::own4;
use crate::verdict::Verdict;
use crate::ways::Way;
use crate::writing::Change;

/// What a sender keeps for datagrams that leave its network.
#[derive(Default)]
pub(crate) struct Routed {
    pub(crate) paths: Paths,
    pub(crate) limits: Limits,
    /// What routers put together of fragments that are for themselves; looked at when the next comes.
    pub(crate) pieces: Vec<(RouterId, Reassembler)>,
    /// The number of the next IPv4 datagram of a router.
    pub(crate) ident: u16,
}

/// Who sends the datagram that is walked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// A guest: routers answer about it. A router whose own IPv4 address it bears as its source drops it without a word, as
    /// one that came back or was forged (RFC 1812 section 5.3.7, Linux's martian source).
    Guests { forger: Option<RouterId> },
    /// The first router itself: that takes no TTL off, and nobody answers.
    Routers,
}

impl Whose {
    fn is_answered(self) -> bool {
        self != Self::Routers
    }

    pub(crate) fn is_forged(self, router: RouterId) -> bool {
        matches!(self, Self::Guests { forger: Some(forger) } if forger == router)
    }
}

impl Sender {
    /// Forwards by way of the router whose NIC is in slot `first`.
    #[inline(always)]
    pub(crate) fn along(&mut self, first: u32, datagram: &[u8], unfinished: Option<&Unfinished>) -> Verdict {
        let noted = self.noted();
        if noted != 0 && !self.patient {
            // It reaches the first router, whatever becomes of it there.
            self.note(noted, datagram, Change::NONE, (self.slot, SlotId(first as u16)), Verdict::Delivered, false);
        }
        let Some(head) = datagram.first_chunk::<HEADER4>().filter(|head| head[0] >> 4 == 4) else {
            return self.along6(first, datagram, unfinished);
        };
        let [.., a, b, c, d, e, f, g, h] = *head;
        let key = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        let ports = if self.ways.ports { Flow::ports_of(datagram) } else { 0 };
        let routed = self.routed.get_or_insert_default();
        let lane = routed.paths.lane(&self.segment, self.ways.version, first, key, ports);
        let (slot, generation, last, to) = (lane.slot, lane.generation, lane.last, (lane.network, lane.address));
        let change = quick4(lane, head, datagram.len(), size(datagram, unfinished));
        if change.is_none() {
            return self.settle(SlotId(first as u16), datagram, unfinished);
        }
        let row = self.tables.nic(SlotId(slot as u16));
        let target = if row.generation() == generation && row.is_plain() {
            Target::Nic { slot, generation }
        } else {
            self.look_up4_on(to.0, to.1)
        };
        let verdict = self.arrive(target, (to.0, last), datagram, change, unfinished);
        if matches!(verdict, Verdict::NoHost | Verdict::NicDown) {
            // The last router has something to say about it.
            return self.settle(SlotId(first as u16), datagram, unfinished);
        }
        verdict
    }

    #[inline(never)]
    fn along6(&mut self, first: u32, datagram: &[u8], unfinished: Option<&Unfinished>) -> Verdict {
        let first = SlotId(first as u16);
        let Some(flow) = self.flow_of(datagram) else { return Verdict::Malformed };
        let routed = self.routed.get_or_insert_default();
        let (to, _) = routed.paths.find(&self.segment, self.ways.version, first, &flow);
        let change = quick6(&to, datagram, size(datagram, unfinished));
        if change.is_none() {
            return self.settle(first, datagram, unfinished);
        }
        let target = self.look_up_on(to.network, to.address);
        let verdict = self.arrive(target, (to.network, to.last), datagram, change, unfinished);
        if matches!(verdict, Verdict::NoHost | Verdict::NicDown) {
            return self.settle(first, datagram, unfinished);
        }
        verdict
    }

    fn flow_of(&self, datagram: &[u8]) -> Option<Flow> {
        let mut flow = Flow::of(datagram, crate::datagram::destination(datagram).ok()?);
        if self.ways.ports {
            flow.ports = Flow::ports_of(datagram);
        }
        Some(flow)
    }

    /// Writes a datagram, with a change, to whoever was found on the path's last network, to which `last` leads.
    #[inline(always)]
    fn arrive(
        &mut self,
        target: Target,
        (network, last): (NetworkId, SlotId),
        datagram: &[u8],
        change: Change,
        unfinished: Option<&Unfinished>,
    ) -> Verdict {
        let guarded = matches!(target, Target::Guarded { .. });
        match target {
            Target::Nic { slot, generation } | Target::Guarded { slot, generation } => {
                let receiver = SlotId(slot as u16);
                let passed = if guarded { self.passes(network, receiver, datagram, change) } else { Ok(()) };
                let verdict = match passed {
                    Ok(()) => self.write(slot, generation, last, datagram, change, unfinished),
                    Err(verdict) => verdict,
                };
                let noted = self.noted();
                if noted != 0 && !(verdict == Verdict::BufferFull && self.patient) {
                    self.note(noted, datagram, change, (last, receiver), verdict, false);
                }
                verdict
            }
            Target::Bridges => self.flood(datagram, change, unfinished, (network, last), true),
            Target::Nowhere(verdict) => verdict,
            // The path was composed when nobody had the address; now a router has.
            Target::Routed { .. } | Target::Everyone => Verdict::NoHost,
        }
    }

    #[cold]
    #[inline(never)]
    fn settle(&mut self, first: SlotId, datagram: &[u8], unfinished: Option<&Unfinished>) -> Verdict {
        let Some(flow) = self.flow_of(datagram) else { return Verdict::Malformed };
        let routed = self.routed.get_or_insert_default();
        let (_, path) = routed.paths.find(&self.segment, self.ways.version, first, &flow);
        let path = path.clone();
        if path.end == End::Elsewhere {
            return Verdict::NoRoute;
        }
        if let Some(unfinished) = unfinished.filter(|unfinished| self.is_stopped(&path, datagram, unfinished)) {
            return self.settle_finished(first, datagram, unfinished);
        }
        let mut work = datagram.to_vec();
        let (router, into) = path.begins();
        let forger = match flow.source {
            Address::V4(_) => self.owner_of(&self.plan(), flow.source),
            Address::V6(..) => None,
        };
        let refused = match icmp::receive(&work) {
            Ok(received) => {
                work.truncate(received.total);
                return self.walk(&path, 0, &mut work, unfinished, Whose::Guests { forger });
            }
            Err(refused) => refused,
        };
        self.dropped(into, &work, Verdict::Malformed);
        if let (Some(trouble), Some(router)) = (parameter(refused), router)
            && forger != Some(router)
        {
            self.answer(router, into, trouble, &work);
        }
        Verdict::Malformed
    }

    /// Whether a router has something to say about a datagram that lacks something.
    fn is_stopped(&self, path: &Path, datagram: &[u8], unfinished: &Unfinished) -> bool {
        let six = datagram[0] >> 4 == 6;
        let hops = usize::from(if six { datagram[7] } else { datagram[8] });
        let bytes = size(datagram, Some(unfinished));
        let fits = path.hops.iter().all(|hop| bytes <= hop.mtu as usize) || !six && datagram[6] & 0x40 == 0;
        let found = match path.end {
            End::Nic { network, address } => !matches!(self.look_up_on(network, address), Target::Nowhere(_)),
            End::Guest(_) | End::Router(..) => true,
            _ => false,
        };
        !found || !fits || hops <= path.hops.len()
    }

    /// As [`Sender::settle`], of what a wire would have carried: in segments, with their checksums, which are what errors
    /// are about and quote.
    fn settle_finished(&mut self, first: SlotId, datagram: &[u8], unfinished: &Unfinished) -> Verdict {
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        self.finisher.get_or_insert_default().finish(datagram, &unfinished.fields, 0, |finished, _| {
            pieces.push(finished.to_vec());
            true
        });
        let mut verdict = Verdict::Delivered;
        for piece in pieces {
            let became = self.settle(first, &piece, None);
            if verdict == Verdict::Delivered {
                verdict = became;
            }
        }
        verdict
    }

    /// A router looks at IPv4 options as they come: what routers before it wrote may have left no room for what it has to
    /// write (RFC 791 section 3.1).
    fn looks_at_options(
        &mut self,
        router: RouterId,
        into: Option<PortId>,
        work: &[u8],
        whose: Whose,
    ) -> Result<(), Verdict> {
        options(work, whose.is_forged(router)).map_err(|stopped| self.stop(router, into, stopped, work, whose))
    }

    /// Has a router drop a datagram, and say why; in this order, captures read best.
    fn stop(
        &mut self,
        router: RouterId,
        into: Option<PortId>,
        (trouble, verdict): Stopped,
        work: &[u8],
        whose: Whose,
    ) -> Verdict {
        self.dropped(into, work, verdict);
        if let Some(trouble) = trouble
            && whose.is_answered()
        {
            self.answer(router, into, trouble, work);
        }
        verdict
    }

    /// Takes a datagram from the router `at` of its path to where it ends.
    pub(crate) fn walk(
        &mut self,
        path: &Path,
        at: usize,
        work: &mut Vec<u8>,
        unfinished: Option<&Unfinished>,
        whose: Whose,
    ) -> Verdict {
        for (index, hop) in path.hops.iter().enumerate().skip(at) {
            let own = whose == Whose::Routers && index == 0;
            let fits = size(work, unfinished) <= hop.mtu as usize;
            if !own {
                let may = self
                    .looks_at_options(hop.router, hop.into, work, whose)
                    .and_then(|()| self.guard(hop.router, hop.into, Way::In, work, whose.is_answered()))
                    .and_then(|()| self.may_go_on(hop, fits, work, whose));
                if let Err(verdict) = may {
                    return verdict;
                }
                self.pass(hop, work);
                if let Err(verdict) = self.guard(hop.router, hop.into, Way::Out(hop.out), work, whose.is_answered()) {
                    return verdict;
                }
            }
            if !fits {
                return self.cut(path, index, work, unfinished, whose);
            }
        }
        self.end(path, work, unfinished, whose)
    }

    /// Whether a router sends a datagram on, once it has a route.
    fn may_go_on(&mut self, hop: &Hop, fits: bool, work: &[u8], whose: Whose) -> Result<(), Verdict> {
        let forged = whose.is_forged(hop.router);
        may_go_on(hop, fits, work, forged).map_err(|stopped| self.stop(hop.router, hop.into, stopped, work, whose))
    }

    /// What a router writes into a datagram that it sends on.
    pub(crate) fn pass(&self, hop: &Hop, work: &mut [u8]) {
        let header = usize::from(work[0] & 15) * 4;
        if work[0] >> 4 == 4 && header > 20 {
            let plan = self.plan();
            let here = self.way_back(&plan, hop.router, work).map_or(0, |(port, _)| own4(&plan, hop.router, &port));
            let out = plan.port(hop.out).map_or(0, |port| port.v4);
            let today = self.today();
            let mine = |address| self.owner_of(&plan, Address::V4(address)) == Some(hop.router);
            if let Some(header) = work.get_mut(..header) {
                icmp::pass_options(header, here, out, today, &mine);
            }
        }
        icmp::hop(work, 1);
    }

    /// A datagram that is larger than the MTU of the port by which `path.hops[index]` sends it.
    fn cut(
        &mut self,
        path: &Path,
        index: usize,
        work: &mut Vec<u8>,
        unfinished: Option<&Unfinished>,
        whose: Whose,
    ) -> Verdict {
        let hop = path.hops[index];
        let own = whose == Whose::Routers && index == 0;
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        if let Some(unfinished) = unfinished {
            // What it lacks must be there before it is cut.
            let finisher = self.finisher.get_or_insert_default();
            finisher.finish(work, &unfinished.fields, 0, |finished, _| {
                pieces.push(finished.to_vec());
                true
            });
        } else {
            pieces.push(std::mem::take(work));
        }
        let mut fragments: Vec<Vec<u8>> = Vec::new();
        for piece in pieces {
            if piece.len() <= hop.mtu as usize {
                fragments.push(piece);
                continue;
            }
            let each = |fragment: &[u8]| fragments.push(fragment.to_vec());
            let cut = if own {
                icmp::fragment::cut(&piece, hop.mtu as usize, self.next_ident().into(), each)
            } else {
                icmp::fragment(&piece, hop.mtu as usize, each)
            };
            if cut.is_err() {
                return self.dropped(hop.into, &piece, Verdict::TooBig);
            }
        }
        let mut verdict = Verdict::Delivered;
        for mut fragment in fragments {
            let became = self.walk(path, index + 1, &mut fragment, None, whose);
            if verdict == Verdict::Delivered {
                verdict = became;
            }
        }
        verdict
    }

    /// Where the path ends.
    fn end(&mut self, path: &Path, work: &mut [u8], unfinished: Option<&Unfinished>, whose: Whose) -> Verdict {
        let last = path.hops.last().copied();
        if let End::Router(router, into) | End::Refused(router, into, _) = path.end
            && whose.is_forged(router)
        {
            return self.dropped(into, work, Verdict::Malformed);
        }
        if let End::Router(router, into) | End::Refused(router, into, _) = path.end
            && let Err(verdict) = self.looks_at_options(router, into, work, whose)
        {
            return verdict;
        }
        match path.end {
            End::Nic { network, address } => {
                let Some(last) = last else { return Verdict::NoRoute };
                let target = self.look_up_on(network, address);
                let to = (network, self.slot_of(last.out));
                let verdict = self.arrive(target, to, work, Change::NONE, unfinished);
                if !matches!(verdict, Verdict::NoHost | Verdict::NicDown) {
                    return verdict;
                }
                self.dropped(Some(last.out), work, verdict);
                if whose.is_answered() {
                    self.answer(last.router, last.into, Trouble::HostUnreachable, work);
                }
                verdict
            }
            End::Guest(slot) => {
                let row = self.tables.nic(slot);
                let out = last.map_or(SlotId(0), |last| self.slot_of(last.out));
                let generation = row.generation();
                if row.state() != vnet_tables::NicState::Up {
                    return self.dropped(last.map(|last| last.out), work, Verdict::NicDown);
                }
                if let Err(verdict) = self.passes(row.network(), slot, work, Change::NONE) {
                    return self.dropped(last.map(|last| last.out), work, verdict);
                }
                let verdict = self.write(u32::from(slot.0), generation, out, work, Change::NONE, unfinished);
                let noted = self.noted();
                if noted != 0 {
                    self.note(noted, work, Change::NONE, (out, slot), verdict, false);
                }
                verdict
            }
            End::Router(router, into) => {
                if let Err(verdict) = self.guard(router, into, Way::In, work, whose.is_answered()) {
                    return verdict;
                }
                if whose.is_answered() {
                    self.for_itself(router, into, work, unfinished, None);
                }
                Verdict::Delivered
            }
            End::Refused(router, into, refusal) => {
                if let Err(verdict) = self.guard(router, into, Way::In, work, whose.is_answered()) {
                    return verdict;
                }
                self.stop(router, into, refused(refusal, work), work, whose)
            }
            End::Nobody => {
                let Some(last) = last else { return Verdict::NoHost };
                self.dropped(Some(last.out), work, Verdict::NoHost);
                if whose.is_answered() {
                    self.answer(last.router, last.into, Trouble::HostUnreachable, work);
                }
                Verdict::NoHost
            }
            // No TTL leads so far.
            End::Circle | End::Elsewhere => Verdict::NoRoute,
        }
    }

    /// Counts nothing, notes that the router with this port drops the datagram.
    pub(crate) fn dropped(&mut self, at: Option<PortId>, work: &[u8], verdict: Verdict) -> Verdict {
        let noted = self.noted();
        if noted != 0 {
            let at = at.map_or(SlotId(0), |port| self.slot_of(port));
            self.note(noted, work, Change::NONE, (at, SlotId(0)), verdict, false);
        }
        verdict
    }

    pub(crate) fn plan(&self) -> Plan<'static> {
        Plan::new(self.segment.section(Section::Plan))
    }

    pub(crate) fn slot_of(&self, port: PortId) -> SlotId {
        self.plan().port(port).map_or(SlotId(0), |port| port.slot)
    }
}

/// Why a router does not send a datagram on: what it says about it, if anything, and what becomes of it.
pub(crate) type Stopped = (Option<Trouble>, Verdict);

/// What a router finds wrong with IPv4 options; not where it drops the datagram as forged, whatever they are.
pub(crate) fn options(work: &[u8], forged: bool) -> Result<(), Stopped> {
    if work[0] >> 4 != 4 || work[0] & 15 == 5 || forged {
        return Ok(());
    }
    icmp::receive(work).map(|_| ()).map_err(|refused| (parameter(refused), Verdict::Malformed))
}

/// What there is to say about a datagram that is malformed.
pub(crate) fn parameter(refused: icmp::Refusal) -> Option<Trouble> {
    match refused {
        icmp::Refusal::Parameter { code, pointer } => Some(Trouble::Parameter { code, pointer }),
        icmp::Refusal::Silent => None,
    }
}

/// What a router looks at once it has a route, in the order of Linux: TTL, scope, MTU.
pub(crate) fn may_go_on(hop: &Hop, fits: bool, work: &[u8], forged: bool) -> Result<(), Stopped> {
    let six = work[0] >> 4 == 6;
    let ttl = if six { work[7] } else { work[8] };
    Err(if forged || six && work[8..24] == [0; 16] {
        (None, Verdict::Malformed)
    } else if ttl <= 1 {
        (Some(Trouble::TimeExceeded), Verdict::TtlExceeded)
    } else if six && work[8] == 0xfe && work[9] & 0xc0 == 0x80 {
        (Some(Trouble::BeyondScope), Verdict::NoRoute)
    } else if !fits && (six || work[6] & 0x40 != 0) {
        (Some(Trouble::TooBig(hop.mtu)), Verdict::TooBig)
    } else {
        return Ok(());
    })
}

/// What a router says that does not send a datagram on, and what becomes of that.
pub(crate) fn refused(refusal: Refusal, work: &[u8]) -> Stopped {
    match refusal {
        Refusal::NoRoute => (Some(Trouble::NetUnreachable), Verdict::NoRoute),
        // Linux's IPv6 has one word for no route and for one that says so.
        Refusal::Unreachable if work[0] >> 4 == 6 => (Some(Trouble::NetUnreachable), Verdict::NoRoute),
        Refusal::Unreachable => (Some(Trouble::HostUnreachable), Verdict::NoRoute),
        Refusal::Prohibited => (Some(Trouble::Prohibited), Verdict::Filtered),
        Refusal::Blackhole => (None, Verdict::NoRoute),
    }
}

/// What changes of an IPv4 datagram on a path, if there is nothing about it that a router would stop at.
#[inline(always)]
fn quick4(lane: &Lane, head: &[u8; HEADER4], length: usize, bytes: usize) -> Change {
    let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    // Version, header length, service, total length: no options, no bytes behind the end.
    let (first, third) = (word(0), word(8));
    let sum = u64::from(first) + u64::from(word(4)) + u64::from(third) + u64::from(word(12)) + u64::from(word(16));
    let ttl = third >> 24;
    let plain = first >> 24 == 0x45 && (first & 0xffff) as usize == length;
    if !plain || bytes > lane.mtu as usize || ttl <= lane.hops || checksum::fold(sum) != 0xffff {
        return Change::NONE;
    }
    // RFC 1624 section 3: the checksum grows by what TTL, the upper half of its word, shrinks.
    let grown = (third & 0xffff) + (lane.hops << 8);
    let sum = (grown & 0xffff) + (grown >> 16);
    // Of the two zeros of ones' complement, Linux's.
    let sum = (sum + u32::from(sum >= 0xffff)) & 0xffff;
    let third = ((third & 0xffff_0000) - (lane.hops << 24)) | sum;
    Change::new(8, third)
}

/// The same for IPv6.
fn quick6(summary: &Summary, datagram: &[u8], bytes: usize) -> Change {
    let Some(head) = datagram.first_chunk::<HEADER6>() else { return Change::NONE };
    let hops = u32::from(head[7]);
    let total = HEADER6 + usize::from(u16::from_be_bytes([head[4], head[5]]));
    // Next header 0 are hop-by-hop options, which routers look at (RFC 8200 section 4.3); nobody's datagram goes nowhere.
    let plain = total == datagram.len() && head[6] != 0 && head[8..24] != [0; 16];
    if !plain || bytes > summary.mtu as usize || hops <= summary.hops {
        return Change::NONE;
    }
    Change::new(4, u32::from_be_bytes([head[4], head[5], head[6], (hops - summary.hops) as u8]))
}
