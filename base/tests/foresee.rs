//! What `explain()` says of datagrams that cross routers against what `forward()` then does with them.
#![cfg(not(loom))]

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use proptest::prelude::*;
use vnet_base::control::Counters;
use vnet_base::explain::Explanation;
use vnet_base::filter::Judgement;
use vnet_base::filter::table::{Protocols, Set, Table};
use vnet_base::filter::words::{self, Draft};
use vnet_base::forward::Side;
use vnet_base::routing::Section;
use vnet_base::tables::lpm::{Prefix, Route, RouteWriter};
use vnet_base::tables::plan::{
    Attached, ClassId, ClassKind, ClassSpec, Description, PortId, PortSpec, RouterId, RouterSpec, Step, compile,
};
use vnet_base::tables::{Address, Geometry, NetworkId, Prefixes, SlotId};
use vnet_base::{Lan, NicRequest, Receiver, Sender, Verdict};

const RING: u64 = 256 * 1024;

thread_local! {
    static DAYS: Cell<u64> = const { Cell::new(0) };
}

/// A day passes between datagrams: no limit holds an answer back, and the time of day in it is the same.
fn clock() -> u64 {
    DAYS.get() * 86_400_000_000_000
}

/// Routers in a line between networks 1 and 2, as in `tests/routed.rs`, of both families: router i has 172.16.i.1 and
/// fd00:ac:i::1 on its link to the next, which has ...2. Guests 10.1.0.10 (it sends), 10.1.0.11, 10.2.0.10, 10.2.0.11
/// (down). Static routes, at the last router: 10.9.0.0/24, as `refusal` says; 10.8.0.0/24 is behind 10.2.0.10.
#[derive(Clone, Debug)]
struct Shape {
    mtus: Vec<u32>,
    refusal: u8,
    guest: bool,
    /// Of each place - routers' two NICs in and out, the sender's out, network 2, the receiver's in - which filter it has.
    filters: [u8; 7],
}

struct World {
    lan: Lan,
    sender: Sender,
    receivers: Vec<(SlotId, Receiver)>,
    own: SlotId,
    /// The smallest MTU: what is said comes in pieces where it is larger.
    least: usize,
}

/// A datagram, and the slot of the NIC that it came to.
type Arrival = (SlotId, Vec<u8>);

fn both(net: u8, last: u8) -> Vec<IpAddr> {
    let six = Ipv6Addr::new(0xfd00, net.into(), 0, 0, 0, 0, 0, last.into());
    vec![Ipv4Addr::new(10, net, 0, last).into(), six.into()]
}

fn plug(lan: &Lan, network: NetworkId, addresses: Vec<IpAddr>, port: u32, up: bool) -> (SlotId, u32) {
    let request = NicRequest {
        name: format!("{addresses:?}"),
        network,
        mac: 0x0200_0000_0000 | u64::from(port) << 8 | addresses.len() as u64,
        addresses,
        mtu: 65_535,
        ring_bytes: RING,
        worker: None,
        up,
        offloads: 0,
        bridges: false,
        port,
    };
    lan.add_nic(request).expect("room")
}

impl World {
    fn new(shape: &Shape) -> Self {
        let lan = Lan::create("line", &Geometry::new(30, RING), 1).expect("memory");
        let prefixes = |net: u8| Prefixes {
            v4: Some((Ipv4Addr::new(10, net, 0, 0), 24)),
            v6: Some((Ipv6Addr::new(0xfd00, net.into(), 0, 0, 0, 0, 0, 0), 64)),
        };
        let networks = [1, 2].map(|net| lan.add_network(&prefixes(net), 65_535).expect("room"));
        let count = shape.mtus.len() as u16 + 1;
        let mut ports = Vec::new();
        let port = |router, attached, slot, mtu, net: u8, last: u8| {
            let (four, six) = match attached {
                Attached::Network(_) => {
                    (Ipv4Addr::new(10, net, 0, last), Ipv6Addr::new(0xfd00, net.into(), 0, 0, 0, 0, 0, last.into()))
                }
                Attached::Link { .. } => (
                    Ipv4Addr::new(172, 16, net, last),
                    Ipv6Addr::new(0xfd00, 0xac, net.into(), 0, 0, 0, 0, last.into()),
                ),
            };
            let (v4, v6) = (four.to_bits(), six.to_bits());
            PortSpec { router: RouterId(router), attached, slot, mtu, weight: 1, v4, v6, up: true, present: true }
        };
        let slots = [(0, 0), (1, count - 1)].map(|(net, router)| {
            let number = 2 * u32::from(count - 1) + u32::from(router > 0 || net > 0);
            plug(&lan, networks[net], both(net as u8 + 1, 1), number + 1, true)
        });
        // As in a LAN, a link's port bears the slot of a NIC of its router; those in the middle have none here.
        let shown = |router: u16| match router {
            0 => slots[0].0,
            last if last == count - 1 => slots[1].0,
            _ => SlotId(0),
        };
        for (link, mtu) in shape.mtus.iter().enumerate() {
            let (first, router) = (ports.len() as u32, link as u16);
            ports.push(port(router, Attached::Link { peer: PortId(first + 1) }, shown(router), *mtu, link as u8, 1));
            ports.push(port(
                router + 1,
                Attached::Link { peer: PortId(first) },
                shown(router + 1),
                *mtu,
                link as u8,
                2,
            ));
        }
        let far = PortId(ports.len() as u32 + 1);
        ports.push(port(0, Attached::Network(networks[0]), slots[0].0, 65_535, 1, 1));
        ports.push(port(count - 1, Attached::Network(networks[1]), slots[1].0, 65_535, 2, 1));
        let class = |kind, parent, statics| ClassSpec { kind, parent: ClassId(parent), statics };
        let refusals = [Step::Unreachable, Step::Prohibited, Step::Blackhole];
        let via = Address::from(both(2, 10)[0]);
        let mut classes = vec![class(ClassKind::Static, 0, Vec::new())];
        classes.extend(networks.map(|network| class(ClassKind::Network(network), 0, Vec::new())));
        let refusing = (0..count).map(|router| {
            (
                RouterId(router),
                if router + 1 == count {
                    refusals[usize::from(shape.refusal)]
                } else {
                    Step::Via {
                        port: PortId(u32::from(router) * 2),
                        address: Address::V4(Ipv4Addr::new(172, 16, router as u8, 2).to_bits()),
                    }
                },
            )
        });
        classes.push(class(ClassKind::Static, 0, refusing.collect()));
        classes.push(class(ClassKind::External { network: networks[1], via }, 0, Vec::new()));
        classes.push(class(ClassKind::Static, 0, vec![(RouterId(count - 1), Step::Via { port: far, address: via })]));
        classes.extend((0..u32::from(count) - 1).map(|link| class(ClassKind::Link(PortId(link * 2)), 0, Vec::new())));
        let guest = |router| RouterSpec { guest: shape.guest && router + 1 == count && count > 1, present: true };
        let routers = (0..count).map(guest).collect();
        let compiled = compile(&Description { routers, ports, classes, ..Description::default() }, None);
        lan.publish(Section::Plan, compiled.words()).expect("room");

        let place = lan.routes_place();
        let mut writer = RouteWriter::new(place).expect("room");
        let mut enter = |address: IpAddr, length, class| {
            let prefix = Prefix::new(address, length).expect("a prefix");
            writer.insert(Route { prefix, class }).expect("room");
        };
        for (net, class) in [(1, 1), (2, 2), (9, 3), (8, 4), (7, 5)] {
            enter(Ipv4Addr::new(10, net, 0, 0).into(), 24, class);
            enter(Ipv6Addr::new(0xfd00, net.into(), 0, 0, 0, 0, 0, 0).into(), 64, class);
        }
        for link in 0..count - 1 {
            enter(Ipv4Addr::new(172, 16, link as u8, 0).into(), 24, 6 + link);
            enter(Ipv6Addr::new(0xfd00, 0xac, link, 0, 0, 0, 0, 0).into(), 64, 6 + link);
        }
        lan.lead_to_routes(place.len());

        let guests: Vec<_> = [(0, 10, true), (0, 11, true), (1, 10, true), (1, 11, false)]
            .map(|(net, last, up)| plug(&lan, networks[net], both(net as u8 + 1, last), 0, up))
            .into();
        for (index, (slot, generation)) in guests.iter().enumerate() {
            let router = slots[index / 2].0;
            assert!(lan.set_gateways(*slot, *generation, router, router));
        }
        let filters = [
            words::write(&[], Judgement::Allow),
            words::write(&[(Judgement::Reject, udp(true))], Judgement::Allow),
            words::write(&[(Judgement::Deny, udp(false))], Judgement::Allow),
        ];
        let filters: Vec<_> = filters.iter().map(|words| Some(&words[..])).collect();
        lan.publish(Section::Filters, &words::section(1, &filters)).expect("room for filters");
        let of = shape.filters.map(u16::from);
        assert!(lan.set_filters(slots[0].0, slots[0].1, of[0], of[1]));
        assert!(lan.set_filters(slots[1].0, slots[1].1, of[2], of[3]));
        assert!(lan.set_filters(guests[0].0, guests[0].1, 0, of[4]));
        lan.set_network_filter(networks[1], of[5].into());
        assert!(lan.set_filters(guests[2].0, guests[2].1, of[6], 0));

        let segment = lan.segment();
        let own = guests[0].0;
        let sender = Sender::new(Arc::clone(segment), own, lan.new_token(), Side::Guest, clock);
        let receiver = |slot| (slot, Receiver::new(Arc::clone(segment), slot, lan.new_token()).expect("a ring"));
        let receivers = guests[..3].iter().map(|(slot, _)| receiver(*slot)).collect();
        let least = shape.mtus.iter().min().map_or(65_535, |least| *least as usize);
        Self { lan, sender, receivers, own, least }
    }

    fn counters(&self) -> Vec<Counters> {
        (0..16).map(|slot| self.lan.segment().control(SlotId(slot)).counters()).collect()
    }

    /// Takes what has come: to the sender, and to others.
    fn take(&mut self) -> (Vec<Vec<u8>>, Vec<Arrival>) {
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for (slot, receiver) in &mut self.receivers {
            while let Some(record) = receiver.peek().expect("an undamaged ring") {
                let bytes = receiver.bytes(&record).to_vec();
                receiver.done(&record);
                if *slot == self.own { own.push(bytes) } else { others.push((*slot, bytes)) }
            }
        }
        (own, others)
    }

    fn settle(&mut self, datagram: &[u8]) -> Result<Explanation, TestCaseError> {
        DAYS.set(DAYS.get() + 1);
        let before = self.counters();
        let told = self.sender.explain(datagram);
        prop_assert_eq!(&before, &self.counters(), "to explain changed something");
        let verdict = self.sender.forward(datagram, false);
        prop_assert_eq!(told.verdict, verdict, "{:?}", &told);
        let after = self.counters();
        let (own, others) = self.take();
        let mut said: Vec<SlotId> =
            told.writes.iter().filter(|write| write.verdict == Verdict::Delivered).map(|write| write.slot).collect();
        said.retain(|slot| *slot != self.own);
        let mut found: Vec<SlotId> = others.iter().map(|(slot, _)| *slot).collect();
        said.sort();
        found.sort();
        prop_assert_eq!(said, found, "{:?}", &told);
        for (slot, (before, after)) in before.iter().zip(&after).enumerate() {
            let expected = usize::from(slot == usize::from(self.own.0));
            let counted = |counters: &Counters| counters.verdicts.iter().sum::<u64>();
            prop_assert_eq!((counted(after) - counted(before)) as usize, expected, "only the sender sends");
            let came = others.iter().filter(|(receiver, _)| usize::from(receiver.0) == slot).count();
            let came = if expected == 1 { own.len() } else { came };
            prop_assert_eq!((after.rx_datagrams - before.rx_datagrams) as usize, came);
        }
        let own: Vec<_> = own.into_iter().filter(|said| !is_late(said)).collect();
        // What is said to the sender, where it has given its own address.
        match &told.answer {
            Some(answer) if goes_to_sender(&answer.datagram) && answer.datagram.len() <= self.least => {
                prop_assert_eq!(own.len(), 1, "{:?}", &told);
                prop_assert_eq!(plain(&answer.datagram, own[0].len()), plain(&own[0], own[0].len()), "{:?}", &told);
            }
            Some(_) => {}
            None => prop_assert!(own.is_empty(), "{:?} {:x?}", &told, &own),
        }
        Ok(told)
    }
}

fn udp<'d>(all: bool) -> Draft<'d> {
    let protocols = Some(Protocols::of(&[17]));
    let ports = (!all).then(|| Set::of([(53u32, 53u32)]));
    Draft::Table(Table { protocols, ports, ..Table::default() })
}

/// Whether this is what a router says about fragments of yesterday: reassembly time exceeded.
fn is_late(said: &[u8]) -> bool {
    match said[0] >> 4 {
        4 => said[9] == 1 && said.get(usize::from(said[0] & 15) * 4..).is_some_and(|icmp| icmp.starts_with(&[11, 1])),
        _ => said[6] == 58 && said[40..].starts_with(&[3, 1]),
    }
}

fn goes_to_sender(datagram: &[u8]) -> bool {
    match datagram[0] >> 4 {
        4 => datagram[16..20] == [10, 1, 0, 10],
        _ => datagram[24..40] == Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 10).octets(),
    }
}

/// A datagram without what its way back and its number change: identification, TTL, checksum, and what recorded routes,
/// behind the fixed header, which grow on the way back.
fn plain(datagram: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = datagram.to_vec();
    assert_eq!(bytes.len(), length);
    if bytes[0] >> 4 == 4 {
        let header = usize::from(bytes[0] & 15) * 4;
        for at in [4, 5, 8, 10, 11].into_iter().chain(20..header) {
            bytes[at] = 0;
        }
    } else {
        bytes[7] = 0;
    }
    bytes
}

#[derive(Clone, Debug)]
struct Sent {
    six: bool,
    source: u8,
    to: (u8, u8),
    ttl: u8,
    protocol: u8,
    dont_fragment: bool,
    options: u8,
    wrong: bool,
    bytes: usize,
    tail: usize,
    first: [u8; 4],
}

fn sent() -> impl Strategy<Value = Sent> {
    let source = prop_oneof![12 => Just(0u8), 5 => 1u8..5];
    let to = prop_oneof![
        6 => Just((2u8, 10u8)), 2 => Just((2, 11)), 1 => Just((2, 99)), 1 => Just((2, 255)), 1 => Just((2, 1)), 1 => Just((2, 0)),
        1 => Just((1, 11)), 1 => Just((1, 1)), 2 => Just((9, 5)), 2 => Just((8, 5)), 2 => Just((7, 5)), 1 => Just((6, 5)),
        4 => (0u8..4, 1u8..4).prop_map(|(link, last)| (172 + link, last)),
    ];
    let ttl = prop_oneof![4 => Just(64u8), 5 => 0u8..6];
    let protocol = prop_oneof![3 => Just(17u8), 3 => Just(1), 1 => Just(6), 1 => any::<u8>()];
    let bytes = prop_oneof![4 => 60usize..200, 4 => 560usize..3200];
    let first = prop_oneof![3 => Just([8u8, 0, 0, 0]), 2 => Just([128, 0, 0, 0]), 2 => Just([0, 7, 0, 53]), 1 => any::<[u8; 4]>()];
    (
        (any::<bool>(), source, to, ttl, protocol, any::<bool>()),
        (
            prop_oneof![3 => Just(0u8), 2 => 1u8..6],
            prop::bool::weighted(0.08),
            bytes,
            prop_oneof![6 => Just(0usize), 1 => 1usize..9],
            first,
        ),
    )
        .prop_map(|((six, source, to, ttl, protocol, dont_fragment), (options, wrong, bytes, tail, first))| Sent {
            six,
            source,
            to,
            ttl,
            protocol,
            dont_fragment,
            options,
            wrong,
            bytes,
            tail,
            first,
        })
}

impl Sent {
    fn datagram(&self) -> Vec<u8> {
        if self.six { self.six() } else { self.four() }
    }

    fn four(&self) -> Vec<u8> {
        let options: &[u8] = match self.options {
            1 => &[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            2 => &[7, 7, 6, 0, 0, 0, 0, 0],
            3 => &[68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            4 => &[68, 4, 5, 0xf0],
            5 => &[131, 7, 4, 10, 2, 0, 10, 0],
            _ => &[],
        };
        let header = 20 + options.len();
        let mut made = vec![0x40 | (header / 4) as u8, 0, 0, 0, 0, 7, if self.dont_fragment { 0x40 } else { 0 }, 0];
        made[2..4].copy_from_slice(&(self.bytes as u16).to_be_bytes());
        made.extend([self.ttl, self.protocol, 0, 0]);
        made.extend(
            [[10, 1, 0, 10], [10, 1, 0, 1], [10, 2, 0, 1], [172, 16, 0, 2], [0, 0, 0, 0]][usize::from(self.source)],
        );
        let (net, last) = self.to;
        made.extend(if net >= 172 { [172, 16, net - 172, last] } else { [10, net, 0, last] });
        made.extend(options);
        let sum = !sum(&made);
        made[10..12].copy_from_slice(&(sum ^ u16::from(self.wrong)).to_be_bytes());
        made.extend(self.first);
        made.resize(self.bytes, 0x5a);
        made.resize(self.bytes + self.tail, 0);
        self.seal(&mut made, header, 1);
        made
    }

    fn six(&self) -> Vec<u8> {
        let protocol = if self.protocol == 1 { 58 } else { self.protocol };
        let options: &[u8] = match self.options {
            1 => &[protocol, 0, 1, 4, 0, 0, 0, 0],
            2 => &[protocol, 0, 0xc9, 4, 0, 0, 0, 0],
            3 => &[protocol, 0, 0x49, 4, 0, 0, 0, 0],
            _ => &[],
        };
        let mut made = vec![0x60, 0, 0, 0, 0, 0, if options.is_empty() { protocol } else { 0 }, self.ttl];
        made[4..6].copy_from_slice(&((self.bytes - 40) as u16).to_be_bytes());
        let sources = ["fd00:1::a", "fd00:1::1", "fd00:2::1", "fe80::1", "::"];
        made.extend(sources[usize::from(self.source)].parse::<Ipv6Addr>().expect("an address").octets());
        let (net, last) = self.to;
        let to = if net >= 172 {
            Ipv6Addr::new(0xfd00, 0xac, u16::from(net) - 172, 0, 0, 0, 0, last.into())
        } else {
            Ipv6Addr::new(0xfd00, net.into(), 0, 0, 0, 0, 0, last.into())
        };
        made.extend(to.octets());
        made.extend(options);
        made.extend(self.first);
        made.resize(self.bytes, 0x5a);
        made.resize(self.bytes + self.tail, 0);
        self.seal(&mut made, 40 + options.len(), 58);
        made
    }

    /// The checksum of an ICMP message, so that routers reply.
    fn seal(&self, made: &mut [u8], header: usize, icmp: u8) {
        if self.protocol != 1 {
            return;
        }
        let mut covered = made[header..self.bytes].to_vec();
        covered[2..4].fill(0);
        if icmp == 58 {
            covered.extend(&made[8..40]);
            covered.extend(((self.bytes - header) as u32).to_be_bytes());
            covered.extend([0, 0, 0, 58]);
        }
        let sum = !sum(&covered);
        made[header + 2..header + 4].copy_from_slice(&sum.to_be_bytes());
    }
}

fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u64 =
        bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u64::from(*low))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn shape() -> impl Strategy<Value = Shape> {
    let mtu = prop_oneof![3 => Just(65_535u32), 2 => Just(1500), 2 => 576u32..1400];
    let filter = prop_oneof![9 => Just(0u8), 3 => 1u8..4];
    let filters = prop_oneof![2 => Just([0u8; 7]), 2 => prop::array::uniform7(filter)];
    (prop::collection::vec(mtu, 0..4), 0u8..3, prop::bool::weighted(0.2), filters)
        .prop_map(|(mtus, refusal, guest, filters)| Shape { mtus, refusal, guest, filters })
}

/// Fewer cases than usual, because each makes a LAN; as many as `PROPTEST_CASES` says, if it does.
fn few() -> ProptestConfig {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    ProptestConfig { cases: if asked { ProptestConfig::default().cases } else { 128 }, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(few())]

    #[test]
    fn foresees_what_routers_then_do_with_a_datagram(shape in shape(), sent in prop::collection::vec(sent(), 1..40)) {
        let mut world = World::new(&shape);
        for each in sent {
            let told = world.settle(&each.datagram())?;
            let Some(journey) = &told.journey else { continue };
            prop_assert!(journey.stops.len() <= shape.mtus.len() + 1);
            prop_assert!(told.verdict != Verdict::TtlExceeded || journey.stops.last().is_some_and(|stop| stop.ttl <= 1));
        }
    }
}

#[test]
fn says_at_which_router_a_datagram_is_cut_where_its_ttl_runs_out_and_who_says_so() {
    let shape = Shape { mtus: vec![1500, 600, 1500], refusal: 0, guest: false, filters: [0; 7] };
    let mut world = World::new(&shape);
    let mut sent = Sent {
        six: false,
        source: 0,
        to: (2, 10),
        ttl: 64,
        protocol: 253,
        dont_fragment: false,
        options: 0,
        wrong: false,
        bytes: 1000,
        tail: 0,
        first: [0; 4],
    };
    let told = world.settle(&sent.datagram()).expect("agreement");
    let stops = told.journey.expect("a way").stops;
    let seen: Vec<_> = stops.iter().map(|stop| (stop.router.0, stop.ttl, stop.mtu, stop.cut)).collect();
    assert_eq!(seen, [(0, 64, 1500, false), (1, 63, 600, true), (2, 62, 1500, false), (3, 61, 65_535, false)]);
    assert_eq!((told.verdict, told.writes.len()), (Verdict::Delivered, 2), "each fragment is written");

    sent.ttl = 3;
    let told = world.settle(&sent.datagram()).expect("agreement");
    assert_eq!((told.verdict, told.journey.expect("a way").stops.len()), (Verdict::TtlExceeded, 3));
    let answer = told.answer.expect("time exceeded");
    assert_eq!((answer.router, answer.datagram[20]), (Some(RouterId(2)), 11));
    assert_eq!(answer.datagram[12..16], [172, 16, 1, 2]);

    (sent.ttl, sent.dont_fragment) = (64, true);
    let told = world.settle(&sent.datagram()).expect("agreement");
    assert_eq!((told.verdict, told.journey.expect("a way").stops.len()), (Verdict::TooBig, 2));
    let answer = told.answer.expect("fragmentation needed").datagram;
    // The MTU of the next hop: RFC 1191 section 4.
    assert_eq!((&answer[20..22], &answer[26..28]), (&[3, 4][..], &600u16.to_be_bytes()[..]));
}
