//! What of the tables decides about all datagrams of one NIC: where they leave the network, and what may pass.

use vnet_tables::plan::{Plan, Port, PortId, RouterId};
use vnet_tables::{Destination, NetworkId, SlotId};

use crate::filter::Judgement;
use crate::forward::Sender;
use crate::icmp::{self, Speaker, Trouble};
use crate::routing::Section;
use crate::verdict::Verdict;
use crate::writing::Change;

/// What a sender knows of its NIC's rows, as of one version of routing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ways {
    /// The version.
    pub(crate) version: u32,
    /// The slot of the router that leads out of the network over IPv4, 0 for none or where it is no router's.
    pub(crate) first4: u32,
    /// Its MAC address.
    mac4: u64,
    /// The network's IPv4 prefix: what is in it under `mask` is `prefix`.
    prefix: u32,
    mask: u32,
    /// The filters of what the NIC sends and of what enters its network, plus one.
    pub(crate) outward: u32,
    network: u32,
    /// Whether the LAN has routers.
    pub(crate) routers: bool,
    /// Whether paths of equal cost are chosen by ports, too.
    pub(crate) ports: bool,
}

/// How a datagram passes a router's NIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// It comes in.
    In,
    /// It leaves by this port.
    Out(PortId),
}

impl Ways {
    /// Whether an IPv4 address is a single station's beyond the network, and a router leads there: the guest's own, or the one
    /// whose MAC address it sends to, if it knows such.
    #[inline(always)]
    pub(crate) fn is_beyond(&self, address: u32, next_hop: u64) -> bool {
        // 224.0.0.0 and above are multicasts, reserved, and the limited broadcast.
        self.first4 != 0
            && (next_hop == 0 || next_hop == self.mac4)
            && (address ^ self.prefix) & self.mask != 0
            && address < 0xe000_0000
    }
}

impl Sender {
    /// Reads the rows anew: the version of routing has moved.
    #[cold]
    #[inline(never)]
    pub(crate) fn look_around(&mut self, moment: u64) {
        self.moment = moment;
        let version = (moment >> 32) as u32;
        if version == self.ways.version {
            return;
        }
        let row = self.tables.nic(self.slot);
        let network = self.tables.network(self.network);
        let (first4, _) = row.gateways();
        let gateway = self.tables.nic(first4);
        let is_router = first4 != SlotId(0) && gateway.port() != 0 && gateway.network() == self.network;
        let (prefix, mask) = network
            .and_then(|network| network.v4_prefix())
            .map_or((0, 0), |(prefix, bits)| (prefix, u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0)));
        let plan = Plan::new(self.segment.section(Section::Plan));
        self.ways = Ways {
            version,
            first4: if is_router { u32::from(first4.0) } else { 0 },
            mac4: gateway.mac(),
            prefix,
            mask,
            outward: u32::from(row.filters().1),
            network: network.map_or(0, |network| network.filter()),
            routers: plan.routers() != 0,
            ports: plan.uses_ports(),
        };
    }

    /// Whether the NIC's own filter lets a datagram leave.
    #[inline(never)]
    pub(crate) fn may_leave(&mut self, datagram: &[u8]) -> Result<(), Verdict> {
        let judgement = self.judge(self.ways.outward, datagram);
        self.heed(judgement, datagram, self.slot)
    }

    /// Whether the filters of a network and of a NIC on it let a datagram in, as a change leaves it.
    #[inline(always)]
    pub(crate) fn passes(
        &mut self,
        network: NetworkId,
        slot: SlotId,
        datagram: &[u8],
        change: Change,
    ) -> Result<(), Verdict> {
        let inward = u32::from(self.tables.nic(slot).filters().0);
        let entering = if network == self.network {
            self.ways.network
        } else {
            self.tables.network(network).map_or(0, |network| network.filter())
        };
        if inward | entering == 0 { Ok(()) } else { self.may_enter(entering, inward, slot, datagram, change) }
    }

    #[inline(never)]
    fn may_enter(
        &mut self,
        entering: u32,
        inward: u32,
        slot: SlotId,
        datagram: &[u8],
        change: Change,
    ) -> Result<(), Verdict> {
        if change.is_none() {
            return self.judge_both(entering, inward, slot, datagram);
        }
        let mut changed = self.filters.take_room();
        changed.extend_from_slice(datagram);
        change.apply(&mut changed);
        let judged = self.judge_both(entering, inward, slot, &changed);
        self.filters.give_room(changed);
        judged
    }

    fn judge_both(&mut self, entering: u32, inward: u32, slot: SlotId, datagram: &[u8]) -> Result<(), Verdict> {
        for filter in [entering, inward] {
            let judgement = self.judge(filter, datagram);
            self.heed(judgement, datagram, slot)?;
        }
        Ok(())
    }

    /// Whether the filter of a router's own NIC lets a datagram pass there, which came in by `into`. A link has no NIC.
    #[inline]
    pub(crate) fn guard(
        &mut self,
        router: RouterId,
        into: Option<PortId>,
        way: Way,
        datagram: &[u8],
        answered: bool,
    ) -> Result<(), Verdict> {
        let number = self.guarding(into, way).1;
        if number == 0 {
            return Ok(());
        }
        let judgement = self.judge(number, datagram);
        if judgement == Judgement::Allow {
            return Ok(());
        }
        self.dropped(into, datagram, Verdict::Filtered);
        if judgement == Judgement::Reject && answered {
            self.answer(router, into, Trouble::Filtered, datagram);
        }
        Err(Verdict::Filtered)
    }

    /// The NIC of a router that a datagram passes, and the filter of that, plus one; 0 for none.
    pub(crate) fn guarding(&self, into: Option<PortId>, way: Way) -> (SlotId, u32) {
        let port = if let Way::Out(out) = way { Some(out) } else { into };
        // The slot of a link's port is there for captures alone: the filter of the NIC in it is of another port.
        let port = port.and_then(|port| self.plan().port(port));
        let slot = port.filter(Port::is_on_network).map_or(SlotId(0), |port| port.slot);
        if slot == SlotId(0) {
            return (slot, 0);
        }
        let (inward, outward) = self.tables.nic(slot).filters();
        (slot, u32::from(if way == Way::In { inward } else { outward }))
    }

    fn judge(&mut self, filter: u32, datagram: &[u8]) -> Judgement {
        match filter.checked_sub(1) {
            Some(number) => self.filters.passes(&self.segment, self.ways.version, number as u16, datagram),
            None => Judgement::Allow,
        }
    }

    /// Does as a filter says. Who is told that something is prohibited hears it in the name of whom it was for, as from a
    /// host's own packet filter.
    fn heed(&mut self, judgement: Judgement, datagram: &[u8], at: SlotId) -> Result<(), Verdict> {
        match judgement {
            Judgement::Allow => return Ok(()),
            Judgement::Deny => {}
            Judgement::Reject => self.reject(datagram, at),
        }
        Err(Verdict::Filtered)
    }

    /// What is said of a datagram that a filter rejects.
    pub(crate) fn rejection(&self, datagram: &[u8], ident: u16) -> Option<Vec<u8>> {
        let from = crate::datagram::destination(datagram).ok()?;
        // Nobody is the one whom a broadcast was for. A prefix's is told from a station's address by the network alone, and
        // routers pass none on.
        let network = self.tables.network(self.network)?;
        if network.classify(from) == Destination::Everyone {
            return None;
        }
        let speaker = Speaker { from, ident, today: self.today(), mtu: self.mtu };
        let mut out = Vec::new();
        icmp::error(&mut out, Trouble::Filtered, datagram, &speaker, &|_| false).then_some(out)
    }

    fn reject(&mut self, datagram: &[u8], at: SlotId) {
        if !icmp::may_answer(datagram, Trouble::Filtered) || !self.may_say(at, datagram) {
            return;
        }
        let ident = self.next_ident();
        let Some(out) = self.rejection(datagram, ident) else { return };
        let row = self.tables.nic(self.slot);
        let generation = row.generation();
        let patient = std::mem::replace(&mut self.patient, false);
        let verdict = self.write(u32::from(self.slot.0), generation, at, &out, Change::NONE, None);
        let noted = self.noted();
        if noted != 0 {
            self.note(noted, &out, Change::NONE, (at, self.slot), verdict, false);
        }
        self.patient = patient;
    }
}
