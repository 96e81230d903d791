//! What routers would do with a datagram: the walk of `along()` without its effects, for `explain`.
//!
//! Each step is that of [`Sender::walk`], and what decides is the same function; `base/tests/foresee.rs` holds the two
//! against each other.

use vnet_tables::plan::{PortId, RouterId};
use vnet_tables::{Address, NicState, SlotId};

use crate::explain::{Answer, Explanation, Place};
use crate::filter::Judgement;
use crate::forward::{Sender, Target};
use crate::fragments::{Reassembler, Taken};
use crate::icmp::{self, Local, Reach, Trouble};
use crate::path::{self, End, Flow, Path};
use crate::routed::{Stopped, Whose, may_go_on, options, parameter, refused};
use crate::verdict::Verdict;
use crate::ways::Way;

/// A router on the way of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The router.
    pub router: RouterId,
    /// The port that the datagram comes in by.
    pub into: Option<PortId>,
    /// The port that its route leads out of; none where it has none, or is the destination itself.
    pub out: Option<PortId>,
    /// TTL or hop limit as it comes in.
    pub ttl: u8,
    /// Largest IP datagram that leaves by `out`, in bytes; 0 where there is none.
    pub mtu: u32,
    /// Whether it is cut in fragments there.
    pub cut: bool,
}

/// The way of a datagram that leaves its network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journey {
    /// The routers that it comes to, in their order. If it is dropped, the last of them drops it, or the NIC behind it.
    pub stops: Vec<Stop>,
    /// Where its path ends; it may come to an end before.
    pub end: End,
}

impl Sender {
    /// What would become of a datagram by way of the router whose NIC is in slot `first`.
    pub(crate) fn foresee(
        &self,
        first: u32,
        destination: Address,
        datagram: &[u8],
        told: &mut Explanation,
    ) -> Result<Verdict, Verdict> {
        let mut flow = Flow::of(datagram, destination);
        let plan = self.plan();
        if plan.uses_ports() {
            flow.ports = Flow::ports_of(datagram);
        }
        let path = path::compose(&self.segment, SlotId(first as u16), &flow);
        told.journey = Some(Journey { stops: Vec::new(), end: path.end });
        if path.end == End::Elsewhere {
            return Err(Verdict::NoRoute);
        }
        let forger = match flow.source {
            Address::V4(_) => self.owner_of(&plan, flow.source),
            Address::V6(..) => None,
        };
        let mut work = datagram.to_vec();
        match icmp::receive(&work) {
            Ok(received) => work.truncate(received.total),
            Err(wrong) => {
                if let (Some(router), into) = path.begins() {
                    stopping(told, 0, Stop { router, into, out: None, ttl: ttl_of(&work), mtu: 0, cut: false });
                    let trouble = parameter(wrong).filter(|_| forger != Some(router));
                    return Err(self.say_stop(router, into, (trouble, Verdict::Malformed), &work, told));
                }
                return Err(Verdict::Malformed);
            }
        }
        self.retrace_walk(&path, 0, &mut work, Whose::Guests { forger }, told)
    }

    /// As [`Sender::walk`].
    fn retrace_walk(
        &self,
        path: &Path,
        at: usize,
        work: &mut [u8],
        whose: Whose,
        told: &mut Explanation,
    ) -> Result<Verdict, Verdict> {
        for (index, hop) in path.hops.iter().enumerate().skip(at) {
            let (router, into, out, mtu) = (hop.router, hop.into, Some(hop.out), hop.mtu);
            let (fits, forged) = (work.len() <= mtu as usize, whose.is_forged(router));
            stopping(told, index, Stop { router, into, out, ttl: ttl_of(work), mtu, cut: false });
            options(work, forged).map_err(|stopped| self.say_stop(router, into, stopped, work, told))?;
            self.say_guard(router, into, Way::In, work, told)?;
            may_go_on(hop, fits, work, forged).map_err(|stopped| self.say_stop(router, into, stopped, work, told))?;
            self.pass(hop, work);
            self.say_guard(router, into, Way::Out(hop.out), work, told)?;
            if !fits {
                return self.retrace_cut(path, index, work, whose, told);
            }
        }
        self.retrace_end(path, work, whose, told)
    }

    /// As `cut()`.
    fn retrace_cut(
        &self,
        path: &Path,
        index: usize,
        work: &[u8],
        whose: Whose,
        told: &mut Explanation,
    ) -> Result<Verdict, Verdict> {
        let mut fragments: Vec<Vec<u8>> = Vec::new();
        if icmp::fragment(work, path.hops[index].mtu as usize, |fragment| fragments.push(fragment.to_vec())).is_err() {
            return Err(Verdict::TooBig);
        }
        if let Some(stop) = told.journey.as_mut().and_then(|journey| journey.stops.get_mut(index)) {
            stop.cut = true;
        }
        let mut verdict = Verdict::Delivered;
        let mut pieces = Reassembler::default();
        for mut fragment in fragments {
            let became = self.retrace_walk(path, index + 1, &mut fragment, whose, told).unwrap_or_else(|why| why);
            if verdict == Verdict::Delivered {
                verdict = became;
            }
            if let End::Router(router, into) = path.end
                && became == Verdict::Delivered
                && let Taken::Completed(whole) = pieces.take(&fragment, 0)
            {
                self.say_local(router, into, &whole, told);
            }
        }
        Ok(verdict)
    }

    /// As `end()`.
    fn retrace_end(&self, path: &Path, work: &[u8], whose: Whose, told: &mut Explanation) -> Result<Verdict, Verdict> {
        let last = path.hops.last();
        if let End::Router(router, into) | End::Refused(router, into, _) = path.end {
            let stop = Stop { router, into, out: None, ttl: ttl_of(work), mtu: 0, cut: false };
            stopping(told, path.hops.len(), stop);
            if whose.is_forged(router) {
                return Err(Verdict::Malformed);
            }
            options(work, false).map_err(|stopped| self.say_stop(router, into, stopped, work, told))?;
            self.say_guard(router, into, Way::In, work, told)?;
        }
        let unreachable = |told: &mut Explanation, verdict| {
            let stopped = (Some(Trouble::HostUnreachable), verdict);
            last.map_or(verdict, |last| self.say_stop(last.router, last.into, stopped, work, told))
        };
        match path.end {
            End::Nic { network, address } => {
                let Some(hop) = last else { return Err(Verdict::NoRoute) };
                let verdict = match self.look_up_on(network, address) {
                    Target::Nic { slot, generation } | Target::Guarded { slot, generation } => {
                        self.say_entering(network, SlotId(slot as u16), work, told)?;
                        self.say_written(SlotId(slot as u16), generation, work, told)
                    }
                    Target::Bridges => self.say_flood(network, self.slot_of(hop.out), true, work, told),
                    Target::Nowhere(verdict) => Err(verdict),
                    Target::Routed { .. } | Target::Everyone => Err(Verdict::NoHost),
                };
                let verdict = verdict.unwrap_or_else(|why| why);
                if matches!(verdict, Verdict::NoHost | Verdict::NicDown) {
                    return Err(unreachable(told, verdict));
                }
                Ok(verdict)
            }
            End::Guest(slot) => {
                let row = self.tables.nic(slot);
                if row.state() != NicState::Up {
                    return Err(Verdict::NicDown);
                }
                self.say_entering(row.network(), slot, work, told)?;
                self.say_written(slot, row.generation(), work, told)
            }
            End::Router(router, into) => {
                self.say_local(router, into, work, told);
                Ok(Verdict::Delivered)
            }
            End::Refused(router, into, refusal) => Err(self.say_stop(router, into, refused(refusal, work), work, told)),
            End::Nobody => Err(unreachable(told, Verdict::NoHost)),
            End::Circle | End::Elsewhere => Err(Verdict::NoRoute),
        }
    }

    fn say_written(
        &self,
        slot: SlotId,
        generation: u32,
        work: &[u8],
        told: &mut Explanation,
    ) -> Result<Verdict, Verdict> {
        let write = self.say_write(slot, generation, work);
        told.writes.push(write);
        Ok(write.verdict)
    }

    /// As `stop()`: what a router says about a datagram that it drops.
    fn say_stop(
        &self,
        router: RouterId,
        into: Option<PortId>,
        (trouble, verdict): Stopped,
        work: &[u8],
        told: &mut Explanation,
    ) -> Verdict {
        if let Some(trouble) = trouble {
            self.say_error(router, into, trouble, work, None, told);
        }
        verdict
    }

    /// As `say()`, but for the limits. What is said first is told: of fragments, nobody says more.
    fn say_error(
        &self,
        router: RouterId,
        into: Option<PortId>,
        trouble: Trouble,
        work: &[u8],
        from: Option<Address>,
        told: &mut Explanation,
    ) {
        if told.answer.is_some() || !icmp::may_answer(work, trouble) {
            return;
        }
        let plan = self.plan();
        let Some((_, speaker)) = self.speaks_to(&plan, router, into, work) else { return };
        let said = self.phrase(&plan, router, trouble, work, speaker, from);
        told.answer = said.map(|datagram| Answer { router: Some(router), datagram });
    }

    /// As `for_itself()`. Of a fragment nothing is known until the others are there; those that another router has cut come
    /// together.
    fn say_local(&self, router: RouterId, into: Option<PortId>, work: &[u8], told: &mut Explanation) {
        let plan = self.plan();
        let Ok(destination) = crate::datagram::destination(work) else { return };
        let own = self.owner_of(&plan, destination) == Some(router);
        let reach = if own { Reach::Own } else { Reach::Anycast };
        let Some((_, speaker)) = self.speaks_to(&plan, router, into, work) else { return };
        let mut out = Vec::new();
        match icmp::local(&mut out, work, reach, &speaker, &self.is_own(&plan, router)) {
            Local::Reply => told.answer = Some(Answer { router: Some(router), datagram: out }),
            Local::Error(trouble, quoted) => {
                let quoted = &work[..quoted.min(work.len())];
                self.say_error(router, into, trouble, quoted, Some(destination), told);
            }
            Local::Fragment | Local::Silent => {}
        }
    }

    /// What the filter of a router's NIC says, as in [`Sender::guard`].
    fn say_guard(
        &self,
        router: RouterId,
        into: Option<PortId>,
        way: Way,
        work: &[u8],
        told: &mut Explanation,
    ) -> Result<(), Verdict> {
        let (slot, number) = self.guarding(into, way);
        if number == 0 {
            return Ok(());
        }
        let place = if way == Way::In { Place::In(slot) } else { Place::Out(slot) };
        self.say_filter(place, work, told).map_err(|judgement| {
            let trouble = (judgement == Judgement::Reject).then_some(Trouble::Filtered);
            self.say_stop(router, into, (trouble, Verdict::Filtered), work, told)
        })
    }
}

/// Tells of the router at place `index`, unless an earlier fragment has come there.
fn stopping(told: &mut Explanation, index: usize, stop: Stop) {
    if let Some(journey) = told.journey.as_mut().filter(|journey| journey.stops.len() == index) {
        journey.stops.push(stop);
    }
}

fn ttl_of(work: &[u8]) -> u8 {
    if work[0] >> 4 == 6 { work[7] } else { work[8] }
}
