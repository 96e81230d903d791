//! What routers would do with a datagram: the walk of `along()` without its effects, for `explain`.

use vnet_tables::plan::{PortId, RouterId};
use vnet_tables::{Address, NicState, SlotId};

use crate::explain::{Explanation, Place, Rule, Write};
use crate::forward::{Sender, Target};
use crate::icmp;
use crate::path::{self, End, Flow, Refusal};
use crate::verdict::Verdict;
use crate::ways::Way;

/// A router on the way of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The router.
    pub router: RouterId,
    /// The port that the datagram comes in by.
    pub into: Option<PortId>,
    /// The port that it leaves by; none where it goes no further.
    pub out: Option<PortId>,
    /// TTL or hop limit as it comes in.
    pub ttl: u8,
    /// Largest IP datagram that leaves by `out`, in bytes; 0 where it goes no further.
    pub mtu: u32,
    /// Whether it is cut in fragments there.
    pub cut: bool,
}

/// The way of a datagram that leaves its network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journey {
    /// The routers that it comes to, in their order.
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
        if self.plan().uses_ports() {
            flow.ports = Flow::ports_of(datagram);
        }
        let path = path::compose(&self.segment, SlotId(first as u16), &flow);
        let journey = told.journey.insert(Journey { stops: Vec::new(), end: path.end });
        if path.end == End::Elsewhere {
            return Err(Verdict::NoRoute);
        }
        let received = icmp::receive(datagram).map_err(|_| Verdict::Malformed)?;
        let six = matches!(destination, Address::V6(..));
        let mut bytes = received.total;
        let mut ttl = received.ttl;
        for hop in &path.hops {
            let (router, into, out, mtu) = (hop.router, hop.into, Some(hop.out), hop.mtu);
            journey.stops.push(Stop { router, into, out, ttl, mtu, cut: false });
            self.say_guard(into, Way::In, datagram, &mut told.rules)?;
            if ttl <= 1 {
                return Err(Verdict::TtlExceeded);
            }
            if matches!(flow.source, Address::V6(high, _) if high >> 54 == 0xfe80 >> 6) {
                return Err(Verdict::NoRoute);
            }
            if bytes > mtu as usize {
                if six || received.dont_fragment {
                    return Err(Verdict::TooBig);
                }
                if let Some(stop) = journey.stops.last_mut() {
                    stop.cut = true;
                }
                bytes = mtu as usize;
            }
            ttl -= 1;
            self.say_guard(into, Way::Out(hop.out), datagram, &mut told.rules)?;
        }
        let last = |router, into| Stop { router, into, out: None, ttl, mtu: 0, cut: false };
        match path.end {
            End::Nic { network, address } => match self.look_up_on(network, address) {
                Target::Nic { slot, generation } | Target::Guarded { slot, generation } => {
                    self.say_entering(network, SlotId(slot as u16), datagram, &mut told.rules)?;
                    let write = self.say_write(SlotId(slot as u16), generation, datagram);
                    said(told, write)
                }
                Target::Bridges => {
                    let from = path.hops.last().map_or(SlotId(0), |hop| self.slot_of(hop.out));
                    self.say_flood(network, from, true, datagram, told)
                }
                Target::Nowhere(verdict) => Err(verdict),
                Target::Routed { .. } | Target::Everyone => Err(Verdict::NoHost),
            },
            End::Guest(slot) => {
                let row = self.tables.nic(slot);
                if row.state() != NicState::Up {
                    return Err(Verdict::NicDown);
                }
                self.say_entering(row.network(), slot, datagram, &mut told.rules)?;
                let write = self.say_write(slot, row.generation(), datagram);
                said(told, write)
            }
            End::Router(router, into) => {
                journey.stops.push(last(router, into));
                self.say_guard(into, Way::In, datagram, &mut told.rules)?;
                Ok(Verdict::Delivered)
            }
            End::Refused(router, into, refusal) => {
                journey.stops.push(last(router, into));
                self.say_guard(into, Way::In, datagram, &mut told.rules)?;
                Err(if refusal == Refusal::Prohibited { Verdict::Filtered } else { Verdict::NoRoute })
            }
            End::Nobody => Err(Verdict::NoHost),
            End::Circle | End::Elsewhere => Err(Verdict::NoRoute),
        }
    }

    /// What the filter of a router's NIC says, as in [`Sender::guard`].
    fn say_guard(&self, into: Option<PortId>, way: Way, datagram: &[u8], rules: &mut Vec<Rule>) -> Result<(), Verdict> {
        match self.guarding(into, way) {
            (_, 0) => Ok(()),
            (slot, _) => {
                let place = if way == Way::In { Place::In(slot) } else { Place::Out(slot) };
                self.say_filter(place, datagram, rules)
            }
        }
    }
}

fn said(told: &mut Explanation, write: Write) -> Result<Verdict, Verdict> {
    told.writes.push(write);
    Ok(write.verdict)
}
