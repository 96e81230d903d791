//! What routers say of their own: replies to those who ask them, errors about what they do not send on.

use vnet_tables::plan::{Attached, Plan, Port, PortId, RouterId};
use vnet_tables::{Address, SlotId};

use crate::forward::{Sender, Unfinished};
use crate::fragments::{self, Problem, Reassembler, Taken};
use crate::icmp::{self, Local, Reach, Refusal, Speaker, Trouble};
use crate::path::{self, End, Flow, Hop, Path};
use crate::routed::Whose;

/// Routers for which a sender puts fragments together at one time.
const REASSEMBLERS: usize = 8;

impl Sender {
    /// A datagram for a router itself; `reach` says how, where it is not by its destination's being the router's own.
    pub(crate) fn for_itself(
        &mut self,
        router: RouterId,
        into: Option<PortId>,
        work: &[u8],
        unfinished: Option<&Unfinished>,
        reach: Option<Reach>,
    ) {
        if let Some(unfinished) = unfinished {
            let mut pieces: Vec<Vec<u8>> = Vec::new();
            let finisher = self.finisher.get_or_insert_default();
            finisher.finish(work, &unfinished.fields, 0, |finished, _| {
                pieces.push(finished.to_vec());
                true
            });
            for piece in pieces {
                self.for_itself(router, into, &piece, None, reach);
            }
            return;
        }
        let plan = self.plan();
        let Ok(destination) = crate::datagram::destination(work) else { return };
        let own = self.owner_of(&plan, destination) == Some(router);
        let reach = reach.unwrap_or(if own { Reach::Own } else { Reach::Anycast });
        let Some((port, mut speaker)) = self.speaks_to(&plan, router, into, work) else { return };
        speaker.ident = self.next_ident();
        let mut out = Vec::new();
        let become_of = icmp::local(&mut out, work, reach, &speaker, &self.is_own(&plan, router));
        match become_of {
            Local::Reply => self.send_as(router, port, &mut out),
            Local::Error(trouble, quoted) => {
                // RFC 4291 section 2.6 says nothing of errors from an anycast address; Linux sends them from it.
                let from = (reach != Reach::Group).then_some(destination);
                self.say(router, into, trouble, &work[..quoted.min(work.len())], from);
            }
            Local::Fragment => self.piece(router, into, work, reach),
            Local::Silent => {}
        }
    }

    /// A fragment for a router itself: the last one that was missing makes a datagram of them.
    pub(crate) fn piece(&mut self, router: RouterId, into: Option<PortId>, work: &[u8], reach: Reach) {
        let now = (self.clock)();
        let pieces = &mut self.routed.get_or_insert_default().pieces;
        let index = match pieces.iter().position(|(own, _)| *own == router) {
            Some(index) => index,
            None => {
                if pieces.len() == REASSEMBLERS {
                    pieces.remove(0);
                }
                pieces.push((router, Reassembler::default()));
                pieces.len() - 1
            }
        };
        let reassembler = &mut pieces[index].1;
        let mut late: Vec<Vec<u8>> = Vec::new();
        reassembler.expire(now, |quoted| late.push(quoted.to_vec()));
        let taken = reassembler.take(work, now);
        for quoted in late {
            self.answer(router, into, Trouble::ReassemblyTimeExceeded, &quoted);
        }
        match taken {
            Taken::Completed(whole) => match fragments::nested(&whole) {
                Some(problem) => self.complain(router, into, problem, &whole, reach),
                None => self.for_itself(router, into, &whole, None, Some(reach)),
            },
            Taken::Wrong(problem) => self.complain(router, into, problem, work, reach),
            Taken::Whole | Taken::Nothing => {}
        }
    }

    /// Has a router say what is wrong with fragments for itself.
    fn complain(&mut self, router: RouterId, into: Option<PortId>, problem: Problem, about: &[u8], reach: Reach) {
        let Problem { code, pointer } = problem;
        let asked = crate::datagram::destination(about).ok().filter(|_| reach != Reach::Group);
        self.say(router, into, Trouble::Parameter { code, pointer }, about, asked);
    }

    /// A multicast of the sender's network, for those routers there that are in its group.
    #[cold]
    pub(crate) fn hail(&mut self, datagram: &[u8]) {
        let Ok(destination) = crate::datagram::destination(datagram) else { return };
        let received = icmp::receive(datagram);
        if !icmp::local::is_router_group(destination) || matches!(received, Err(Refusal::Silent)) {
            return;
        }
        let (tables, network, plan) = (self.tables, self.network, self.plan());
        let ports = tables.slots().filter_map(|slot| {
            let row = tables.nic(slot);
            let port = PortId(row.port().checked_sub(1)?);
            (row.network() == network).then_some(())?;
            Some((plan.port(port)?.router, port))
        });
        for (router, port) in ports {
            if let Err(Refusal::Parameter { code, pointer }) = received {
                self.answer(router, Some(port), Trouble::Parameter { code, pointer }, datagram);
            } else if let Some(whole) = received.ok().and_then(|received| datagram.get(..received.total)) {
                self.for_itself(router, Some(port), whole, None, Some(Reach::Group));
            }
        }
    }

    /// Has a router say something about a datagram on its way.
    pub(crate) fn answer(&mut self, router: RouterId, into: Option<PortId>, trouble: Trouble, offender: &[u8]) {
        self.say(router, into, trouble, offender, None);
    }

    /// Has a router say something about a datagram, if the rules and its limits let it. If it is not said from which
    /// address: from the one that was asked, if that is the router's; else from that on the port that leads back.
    pub(crate) fn say(
        &mut self,
        router: RouterId,
        into: Option<PortId>,
        trouble: Trouble,
        offender: &[u8],
        from: Option<Address>,
    ) {
        if !icmp::may_answer(offender, trouble) {
            return;
        }
        let plan = self.plan();
        let Some((port, speaker)) = self.speaks_to(&plan, router, into, offender) else { return };
        let (to, now) = (source_of(offender), (self.clock)());
        let routed = self.routed.get_or_insert_default();
        if !routed.limits.allow(router.0, to, trouble, now) {
            return;
        }
        let speaker = Speaker { ident: self.next_ident(), ..speaker };
        if let Some(mut out) = self.phrase(&plan, router, trouble, offender, speaker, from) {
            self.send_as(router, port, &mut out);
        }
    }

    /// What a router says about a datagram; arguments as of [`Sender::say`].
    pub(crate) fn phrase(
        &self,
        plan: &Plan<'_>,
        router: RouterId,
        trouble: Trouble,
        offender: &[u8],
        mut speaker: Speaker,
        from: Option<Address>,
    ) -> Option<Vec<u8>> {
        let asked = crate::datagram::destination(offender).ok();
        let from = from.or_else(|| asked.filter(|asked| self.owner_of(plan, *asked) == Some(router)));
        speaker.from = from.unwrap_or(speaker.from);
        let mut out = Vec::new();
        icmp::error(&mut out, trouble, offender, &speaker, &self.is_own(plan, router)).then_some(out)
    }

    /// Tells the IPv4 addresses of a router.
    pub(crate) fn is_own(&self, plan: &Plan<'_>, router: RouterId) -> impl Fn(u32) -> bool {
        move |address| self.owner_of(plan, Address::V4(address)) == Some(router)
    }

    /// Sends a datagram of a router's own; `port` where it must leave by that, because the address means nothing elsewhere.
    pub(crate) fn send_as(&mut self, router: RouterId, port: Option<PortId>, out: &mut Vec<u8>) {
        let Ok(destination) = crate::datagram::destination(out) else { return };
        let flow = Flow::of(out, destination);
        let plan = self.plan();
        let path = match port.and_then(|port| Some((port, plan.port(port)?))) {
            Some((out, port)) => {
                let Attached::Network(network) = port.attached else { return };
                let hops = vec![Hop { router, into: None, out, mtu: port.mtu }];
                Path { hops, end: End::Nic { network, address: destination } }
            }
            None => path::from_router(&self.segment, &plan, router, None, &flow),
        };
        // An answer waits for nobody, and what becomes of it is not what becomes of the datagram.
        let (patient, full) = (std::mem::replace(&mut self.patient, false), self.full.take());
        self.walk(&path, 0, out, None, Whose::Routers);
        (self.patient, self.full) = (patient, full);
    }

    /// From which of its addresses a router answers the source of a datagram, and the port by which the answer must leave,
    /// where the address does not say. The number of the answer is left to be given.
    pub(crate) fn speaks_to(
        &self,
        plan: &Plan<'_>,
        router: RouterId,
        into: Option<PortId>,
        offender: &[u8],
    ) -> Option<(Option<PortId>, Speaker)> {
        let (ident, today) = (0, self.today());
        if let Address::V6(high, _) = source_of(offender)
            && high >> 54 == 0xfe80 >> 6
        {
            let number = into?;
            let port = plan.port(number)?;
            let from = link_local(self.tables.nic(port.slot).mac());
            return Some((Some(number), Speaker { from, ident, today, mtu: port.mtu as usize }));
        }
        let (back, mtu) = self.way_back(plan, router, offender)?;
        let from = match source_of(offender) {
            Address::V4(_) => Address::V4(own4(plan, router, &back)),
            Address::V6(..) => {
                // Linux's choice: by which the datagram came, even where the answer leaves elsewhere.
                let port = into.and_then(|into| plan.port(into)).unwrap_or(back);
                let own = [port.v6, back.v6].into_iter().find(|own| *own != 0).or_else(|| any6(plan, router))?;
                Address::V6((own >> 64) as u64, own as u64)
            }
        };
        Some((None, Speaker { from, ident, today, mtu: mtu as usize }))
    }

    /// The port that leads from a router back to the source of a datagram, and its MTU.
    pub(crate) fn way_back(&self, plan: &Plan<'_>, router: RouterId, offender: &[u8]) -> Option<(Port, u32)> {
        let destination = source_of(offender);
        let source = crate::datagram::destination(offender).unwrap_or(destination);
        let flow = Flow { source, destination, ports: 0 };
        let path = path::from_router(&self.segment, plan, router, None, &flow);
        let hop = path.hops.first()?;
        Some((plan.port(hop.out)?, hop.mtu))
    }

    pub(crate) fn owner_of(&self, plan: &Plan<'_>, address: Address) -> Option<RouterId> {
        path::owner_of(&self.tables, plan, path::class_of(&self.segment, address), address)
    }

    /// Whether the NIC `at` may send an error about a datagram: as a router's, its errors are limited.
    pub(crate) fn may_say(&mut self, at: SlotId, offender: &[u8]) -> bool {
        let (to, now) = (source_of(offender), (self.clock)());
        let routed = self.routed.get_or_insert_default();
        routed.limits.allow(!at.0, to, Trouble::Filtered, now)
    }

    pub(crate) fn next_ident(&mut self) -> u16 {
        let routed = self.routed.get_or_insert_default();
        routed.ident = routed.ident.wrapping_add(1);
        routed.ident
    }

    /// Milliseconds since midnight.
    pub(crate) fn today(&self) -> u32 {
        ((self.clock)() / 1_000_000 % 86_400_000) as u32
    }
}

fn source_of(datagram: &[u8]) -> Address {
    let half = |at: usize| datagram[at..at + 8].iter().fold(0, |half, byte| half << 8 | u64::from(*byte));
    match datagram[0] >> 4 {
        6 => Address::V6(half(8), half(16)),
        _ => Address::V4(u32::from_be_bytes([datagram[12], datagram[13], datagram[14], datagram[15]])),
    }
}

/// The IPv4 address of a port; of any other of the router where it has none.
pub(crate) fn own4(plan: &Plan<'_>, router: RouterId, port: &Port) -> u32 {
    if port.v4 == 0 { any4(plan, router).unwrap_or(0) } else { port.v4 }
}

fn any4(plan: &Plan<'_>, router: RouterId) -> Option<u32> {
    ports_of(plan, router).map(|port| port.v4).find(|address| *address != 0)
}

fn any6(plan: &Plan<'_>, router: RouterId) -> Option<u128> {
    ports_of(plan, router).map(|port| port.v6).find(|address| *address != 0)
}

fn ports_of<'p>(plan: &'p Plan<'_>, router: RouterId) -> impl Iterator<Item = Port> + 'p {
    (0..plan.ports() as u32).filter_map(|port| plan.port(PortId(port))).filter(move |port| port.router == router)
}

/// The link-local address that follows from a MAC address (RFC 4291 appendix A).
fn link_local(mac: u64) -> Address {
    let (upper, lower) = (mac >> 24, mac & 0xff_ffff);
    Address::V6(0xfe80 << 48, (upper << 40 | 0xff_fe00_0000 | lower) ^ 0x0200 << 48)
}
