//! What `forward()` would do with a datagram: the same five steps, said in facts instead of done.
//!
//! [`Sender::explain`] takes `&self`: it writes nothing that anybody shares, counts nothing and wakes nobody. Every
//! decision in it is made by a function that [`Sender::forward`] calls too (`destination()`, `target()`, `no_host()`,
//! `apply()`, `everyone()`, the buffer's `place()`), so that the two cannot drift apart; `base/tests/explain.rs` holds them
//! against each other. What is found is how the LAN stands at this moment: a receiver may read, leave or die before a
//! datagram is really sent.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vnet_tables::plan::RouterId;
use vnet_tables::{Address, NetworkId, NicState, SlotId};

use crate::buffer::Outlook;
use crate::datagram::{self, HEADER4, HEADER6, LARGEST};
use crate::doorbell::{BUSY, Listener};
use crate::filter::{Filters, Finding, Judgement};
use crate::foresee::Journey;
use crate::forward::{Sender, Target};
use crate::icmp::{self, Trouble};
use crate::verdict::Verdict;

/// What would become of a datagram, and why. Steps that it would not reach are empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What [`Sender::forward`] would return.
    pub verdict: Verdict,
    /// Step 1, read.
    pub read: Result<Header, Flaw>,
    /// Step 2, look up.
    pub look_up: Option<LookUp>,
    /// Step 3, apply: the rules of the path in order, up to the first that it breaks.
    pub rules: Vec<Rule>,
    /// Step 3 beyond the network: the routers on the way.
    pub journey: Option<Journey>,
    /// Steps 4 and 5, write and ring: one for each receiver, and for each fragment.
    pub writes: Vec<Write>,
    /// What its sender would hear about it, if the limits of whoever says it allow and the way back is free.
    pub answer: Option<Answer>,
}

/// What is said about a datagram: an ICMP error, or a router's reply to one for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The router that says it; none where a filter does, in the name of whom the datagram was for.
    pub router: Option<RouterId>,
    /// The IP datagram; an IPv4 identification is still to be given.
    pub datagram: Vec<u8>,
}

/// Why a datagram cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It has more bytes than any datagram, given here in bytes.
    TooLong {
        /// The most that a datagram has.
        most: usize,
    },
    /// It has no byte.
    Empty,
    /// Its version is neither 4 nor 6.
    Version(u8),
    /// Its fixed header is cut off.
    Cut {
        /// Its version.
        version: u8,
        /// Bytes of the fixed header of that version.
        needs: usize,
    },
}

/// What the header of a readable datagram says. Only version and destination decide; the rest is carried as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// 4 or 6.
    pub version: u8,
    /// Bytes of the header, as IPv4's IHL says; 40 for IPv6.
    pub header_bytes: usize,
    /// Bytes of the datagram, as its header says.
    pub claimed: usize,
    /// IPv4's protocol or IPv6's next header.
    pub protocol: u8,
    /// TTL or hop limit.
    pub hops: u8,
    /// Where it says that it comes from.
    pub source: IpAddr,
    /// Where it is to go.
    pub destination: IpAddr,
    /// Whether the IPv4 header's checksum is right; `None` where there is none to check, or the header is cut off.
    pub checksum: Option<bool>,
}

/// What the look-up of a destination met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookUp {
    /// The network of the sender, in which the address is looked up.
    pub network: NetworkId,
    /// The bucket of the host table in which the search began, and of how many.
    pub bucket: usize,
    /// Buckets of the host table of this family.
    pub buckets: usize,
    /// The row that has the address, if one has.
    pub row: Option<Row>,
    /// Whether every other NIC of the network is meant.
    pub everyone: bool,
    /// Whether nobody has the address, and those NICs are meant that bridge to others who may.
    pub bridged: bool,
    /// The NIC that leads out of the network, where the address is outside and one does.
    pub gateway: Option<SlotId>,
    /// Why it ends here, if it does.
    pub refused: Option<Verdict>,
}

/// A row of the host table, and the NIC that it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The bucket that it lies in; another than the first where that is full.
    pub bucket: usize,
    /// The NIC's slot.
    pub slot: SlotId,
    /// How many times the slot has changed hands.
    pub generation: u32,
    /// Whether the NIC takes datagrams.
    pub state: NicState,
}

/// A rule of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A datagram has at most `most` bytes.
    Mtu {
        /// Bytes of IP.
        most: usize,
        /// Whether this one keeps it.
        kept: bool,
    },
    /// What a filter says.
    Filter {
        /// What the filter stands before.
        place: Place,
        /// What it says of this one, and by which rule.
        finding: Finding,
    },
}

impl Rule {
    /// Whether the datagram keeps it.
    #[must_use]
    pub fn kept(&self) -> bool {
        match self {
            Self::Mtu { kept, .. } => *kept,
            Self::Filter { finding, .. } => finding.judgement == Judgement::Allow,
        }
    }
}

/// What a filter stands before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// What the NIC in a slot is given, or what a router takes in by its NIC there.
    In(SlotId),
    /// What the NIC in a slot sends, or what a router sends by its NIC there.
    Out(SlotId),
    /// What enters a network, to any of its NICs but routers'.
    Network(NetworkId),
}

/// What would happen at the input buffer of one receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// The receiver's slot.
    pub slot: SlotId,
    /// The generation that the look-up found.
    pub generation: u32,
    /// How the buffer stands; `None` where the slot has none.
    pub buffer: Option<Outlook>,
    /// What would become of this copy.
    pub verdict: Verdict,
    /// Step 5, where there is something to ring for.
    pub ring: Option<Ring>,
}

/// Whom the doorbell would wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// Nobody: the receiver polls, or is busy with what came before.
    Nobody,
    /// The guest, which sleeps.
    Guest,
    /// The base worker of this number, which is told that the NIC has work.
    Worker(u32),
}

impl Sender {
    /// What [`Sender::forward`] would do with `datagram` as the LAN stands.
    #[must_use]
    pub fn explain(&self, datagram: &[u8]) -> Explanation {
        let mut told = Explanation {
            verdict: Verdict::Delivered,
            read: Err(Flaw::Empty),
            look_up: None,
            rules: Vec::new(),
            journey: None,
            writes: Vec::new(),
            answer: None,
        };
        told.verdict = self.retrace(datagram, &mut told).unwrap_or_else(|verdict| verdict);
        told
    }

    /// The steps of `forward()`, each noted in `told`. The error is a verdict that ends them early.
    fn retrace(&self, datagram: &[u8], told: &mut Explanation) -> Result<Verdict, Verdict> {
        // 1 read
        let destination = datagram::destination(datagram).inspect_err(|_| told.read = Err(flaw(datagram)))?;
        told.read = Ok(header(datagram, destination));
        // 2 look up
        let (look_up, target) = self.say_look_up(destination);
        told.look_up = Some(look_up);
        if let Target::Nowhere(verdict) = target {
            return Err(verdict);
        }
        // 3 apply
        told.rules.push(Rule::Mtu { most: self.mtu, kept: datagram.len() <= self.mtu });
        self.fits(datagram.len())?;
        self.say_filter(Place::Out(self.slot), datagram, told)
            .map_err(|judgement| self.say_rejection(judgement, datagram, told))?;
        // 4 write, 5 ring
        match target {
            Target::Nic { slot, generation } | Target::Guarded { slot, generation } => {
                self.say_entering(self.network, SlotId(slot as u16), datagram, told)?;
                let write = self.say_write(SlotId(slot as u16), generation, datagram);
                told.writes.push(write);
                Ok(write.verdict)
            }
            Target::Everyone | Target::Bridges => {
                let bridges = matches!(target, Target::Bridges);
                self.say_flood(self.network, self.slot, bridges, datagram, told)
            }
            Target::Routed { slot } => self.foresee(slot, destination, datagram, told),
            Target::Nowhere(verdict) => Err(verdict),
        }
    }

    fn say_look_up(&self, destination: Address) -> (LookUp, Target) {
        let hosts = self.tables.hosts();
        let found = hosts.find(self.network, destination);
        let target = match &found {
            Some(found) => self.target(found, destination),
            None => self.no_host(destination),
        };
        let (bucket, buckets) = hosts.home(self.network, destination);
        let row = found.map(|found| {
            let nic = self.tables.nic(found.slot);
            Row { bucket: found.bucket(), slot: found.slot, generation: nic.generation(), state: nic.state() }
        });
        let everyone = matches!(target, Target::Everyone);
        let bridged = matches!(target, Target::Bridges);
        let gateway = match &target {
            Target::Nic { slot, .. } | Target::Guarded { slot, .. } | Target::Routed { slot } if row.is_none() => {
                Some(SlotId(*slot as u16))
            }
            _ => None,
        };
        let refused = if let Target::Nowhere(verdict) = target { Some(verdict) } else { None };
        (LookUp { network: self.network, bucket, buckets, row, everyone, bridged, gateway, refused }, target)
    }

    /// What a filter says, where there is one. The error is what it says of a datagram that may not pass.
    pub(crate) fn say_filter(&self, place: Place, datagram: &[u8], told: &mut Explanation) -> Result<(), Judgement> {
        let number = match place {
            Place::In(slot) => u32::from(self.tables.nic(slot).filters().0),
            Place::Out(slot) => u32::from(self.tables.nic(slot).filters().1),
            Place::Network(network) => self.tables.network(network).map_or(0, |network| network.filter()),
        };
        let Some(number) = number.checked_sub(1) else { return Ok(()) };
        let finding = Filters::explain(&self.segment, number as u16, datagram);
        let rule = Rule::Filter { place, finding };
        // Where everybody gets a copy, a network's filter is asked for each of them, and says the same.
        if !told.rules.contains(&rule) {
            told.rules.push(rule);
        }
        if finding.judgement == Judgement::Allow { Ok(()) } else { Err(finding.judgement) }
    }

    /// What is said of a datagram that a filter does not let pass, as in `heed()`.
    fn say_rejection(&self, judgement: Judgement, datagram: &[u8], told: &mut Explanation) -> Verdict {
        if judgement == Judgement::Reject && told.answer.is_none() && icmp::may_answer(datagram, Trouble::Filtered) {
            told.answer = self.rejection(datagram, 0).map(|datagram| Answer { router: None, datagram });
        }
        Verdict::Filtered
    }

    /// What the filters of a network and of a NIC on it say, as in [`Sender::passes`].
    pub(crate) fn say_entering(
        &self,
        network: NetworkId,
        slot: SlotId,
        datagram: &[u8],
        told: &mut Explanation,
    ) -> Result<(), Verdict> {
        self.say_filter(Place::Network(network), datagram, told)
            .and_then(|()| self.say_filter(Place::In(slot), datagram, told))
            .map_err(|judgement| self.say_rejection(judgement, datagram, told))
    }

    /// What would become of a datagram for everyone.
    pub(crate) fn say_flood(
        &self,
        network: NetworkId,
        from: SlotId,
        bridges: bool,
        datagram: &[u8],
        told: &mut Explanation,
    ) -> Result<Verdict, Verdict> {
        let mut filtered = false;
        for (slot, generation) in self.everyone(network, from, bridges) {
            if self.say_entering(network, slot, datagram, told).is_err() {
                filtered = true;
                continue;
            }
            let write = self.say_write(slot, generation, datagram);
            told.writes.push(write);
        }
        let any = |verdict| told.writes.iter().any(|write| write.verdict == verdict);
        let (taken, refused) = (any(Verdict::Delivered), any(Verdict::BufferFull));
        if bridges && !taken && !refused && !filtered {
            return Err(Verdict::NoHost);
        }
        Ok(Self::of_copies(taken, refused, filtered))
    }

    pub(crate) fn say_write(&self, slot: SlotId, generation: u32, datagram: &[u8]) -> Write {
        let row = self.tables.nic(slot);
        let buffer = self.segment.buffer(slot, row).map(|buffer| buffer.outlook(datagram.len()));
        let verdict = match &buffer {
            Some(buffer) if buffer.generation != generation => Verdict::NicDown,
            Some(buffer) if !buffer.fits => Verdict::BufferFull,
            Some(_) => Verdict::Delivered,
            None => Verdict::NicDown,
        };
        let ring = buffer.filter(|_| verdict == Verdict::Delivered).map(|buffer| {
            match (buffer.idle, self.listener(slot, row), row.worker()) {
                (BUSY, ..) => Ring::Nobody,
                (_, Listener::Worker(..), Some(worker)) => Ring::Worker(worker),
                _ => Ring::Guest,
            }
        });
        Write { slot, generation, buffer, verdict, ring }
    }
}

/// What is wrong with a datagram that `destination()` refused.
fn flaw(datagram: &[u8]) -> Flaw {
    if datagram.len() > LARGEST {
        return Flaw::TooLong { most: LARGEST };
    }
    match datagram.first().map(|byte| byte >> 4) {
        None => Flaw::Empty,
        Some(4) => Flaw::Cut { version: 4, needs: HEADER4 },
        Some(6) => Flaw::Cut { version: 6, needs: HEADER6 },
        Some(version) => Flaw::Version(version),
    }
}

/// What a datagram that `destination()` took says of itself.
fn header(datagram: &[u8], destination: Address) -> Header {
    let word = |at: usize| usize::from(u16::from_be_bytes([datagram[at], datagram[at + 1]]));
    match destination {
        Address::V4(_) => {
            let header_bytes = usize::from(datagram[0] & 15) * 4;
            let whole = datagram.get(..header_bytes).filter(|header| header.len() >= HEADER4);
            Header {
                version: 4,
                header_bytes,
                claimed: word(2),
                protocol: datagram[9],
                hops: datagram[8],
                source: Ipv4Addr::new(datagram[12], datagram[13], datagram[14], datagram[15]).into(),
                destination: destination.into(),
                checksum: whole.map(sums_up),
            }
        }
        Address::V6(..) => {
            let source: [u8; 16] = core::array::from_fn(|at| datagram[8 + at]);
            Header {
                version: 6,
                header_bytes: HEADER6,
                claimed: HEADER6 + word(4),
                protocol: datagram[6],
                hops: datagram[7],
                source: Ipv6Addr::from(source).into(),
                destination: destination.into(),
                checksum: None,
            }
        }
    }
}

/// Whether the checksum in an IPv4 header is right (RFC 1071): with it, the ones' complement sum is all ones.
fn sums_up(header: &[u8]) -> bool {
    let words = header.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    (folded & 0xffff) + (folded >> 16) == 0xffff
}
