//! Datagrams across routers: what arrives, with which TTL, and who answers what does not.
#![cfg(not(loom))]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use vnet_base::forward::{Side, Unfinished};
use vnet_base::offload::{Fields, Offload, Segments};
use vnet_base::routing::Section;
use vnet_base::tables::lpm::{Prefix, Route, RouteWriter};
use vnet_base::tables::plan::{
    Attached, ClassId, ClassKind, ClassSpec, Compiled, Description, PortChange, PortId, PortSpec, RouterId, RouterSpec,
    compile,
};
use vnet_base::tables::{Geometry, NetworkId, Prefixes, SlotId};
use vnet_base::{Lan, NicRequest, Receiver, Sender, Verdict};

const RING: u64 = 256 * 1024;

/// Two networks, 10.1.0.0/24 and 10.2.0.0/24, and routers in a line between them: router i has 172.16.i.1 on its link to the
/// next, which has 172.16.i.2. The first has 10.1.0.1, the last 10.2.0.1; guests are 10.1.0.10 and 10.2.0.10.
struct Line {
    lan: Lan,
    compiled: Compiled,
    slots: [SlotId; 2],
    sender: Sender,
    own: Receiver,
    far: Receiver,
}

fn v4(a: u8, b: u8, c: u8, d: u8) -> u32 {
    Ipv4Addr::new(a, b, c, d).to_bits()
}

impl Line {
    fn new(routers: u16, mtu: u32) -> Self {
        let lan = Lan::create("line", &Geometry::new(14, RING), 1).expect("memory");
        let prefix = |net| Prefixes { v4: Some((Ipv4Addr::new(10, net, 0, 0), 24)), v6: None };
        let networks = [1, 2].map(|net| lan.add_network(&prefix(net), 65_535).expect("room"));
        let mut ports = Vec::new();
        let link = |router: u16, peer, address| PortSpec {
            router: RouterId(router),
            attached: Attached::Link { peer: PortId(peer) },
            slot: SlotId(0),
            mtu,
            weight: 1,
            v4: address,
            v6: 0,
            up: true,
            present: true,
        };
        for router in 0..routers - 1 {
            let first = ports.len() as u32;
            ports.push(link(router, first + 1, v4(172, 16, router as u8, 1)));
            ports.push(link(router + 1, first, v4(172, 16, router as u8, 2)));
        }
        for (net, router) in [(0, 0), (1, routers - 1)] {
            let address = v4(10, net as u8 + 1, 0, 1);
            let port = ports.len() as u32;
            let slot = plug(&lan, networks[net], address, port + 1);
            ports.push(PortSpec { attached: Attached::Network(networks[net]), slot, ..link(router, 0, address) });
            ports[port as usize].mtu = 65_535;
        }
        let class = |kind| ClassSpec { kind, parent: ClassId(0), statics: Vec::new() };
        let mut classes = vec![class(ClassKind::Static)];
        classes.extend(networks.map(|network| class(ClassKind::Network(network))));
        classes.extend((0..u32::from(routers) - 1).map(|link| class(ClassKind::Link(PortId(link * 2)))));
        let routers = vec![RouterSpec { guest: false, present: true }; usize::from(routers)];
        let compiled = compile(&Description { routers, ports, classes, ..Description::default() }, None);
        lan.publish(Section::Plan, compiled.words()).expect("room");

        let place = lan.routes_place();
        let mut writer = RouteWriter::new(place).expect("room");
        let mut enter = |address: Ipv4Addr, length, class| {
            let prefix = Prefix::new(IpAddr::V4(address), length).expect("a prefix");
            writer.insert(Route { prefix, class }).expect("room");
        };
        enter(Ipv4Addr::new(10, 1, 0, 0), 24, 1);
        enter(Ipv4Addr::new(10, 2, 0, 0), 24, 2);
        for link in 0..compiled.description().classes.len() as u16 - 3 {
            enter(Ipv4Addr::new(172, 16, link as u8, 0), 24, 3 + link);
        }
        lan.lead_to_routes(place.len());

        let routers = [1, 2].map(|net| {
            let found = lan.segment().tables().hosts().find4(networks[net - 1], v4(10, net as u8, 0, 1));
            found.expect("a router").slot
        });
        let slots = [0, 1].map(|net| plug(&lan, networks[net], v4(10, net as u8 + 1, 0, 10), 0));
        for net in 0..2 {
            let generation = lan.segment().tables().nic(slots[net]).generation();
            assert!(lan.set_gateways(slots[net], generation, routers[net], SlotId(0)));
        }
        let segment = lan.segment();
        let sender = Sender::new(Arc::clone(segment), slots[0], lan.new_token(), Side::Guest, || 0);
        let receiver = |slot| Receiver::new(Arc::clone(segment), slot, lan.new_token()).expect("a ring");
        let (own, far) = (receiver(slots[0]), receiver(slots[1]));
        Self { lan, compiled, slots, sender, own, far }
    }

    fn cut(&mut self, link: u32, up: bool) {
        let changes = [link * 2, link * 2 + 1].map(|port| PortChange { port: PortId(port), up, weight: 1 });
        self.compiled.set_ports(&changes).expect("ports");
        self.lan.publish(Section::Plan, self.compiled.words()).expect("room");
    }
}

fn plug(lan: &Lan, network: NetworkId, address: u32, port: u32) -> SlotId {
    let request = NicRequest {
        name: format!("{address:x}"),
        network,
        addresses: vec![Ipv4Addr::from_bits(address).into()],
        mac: u64::from(address),
        mtu: 65_535,
        ring_bytes: RING,
        worker: None,
        up: true,
        offloads: 0,
        bridges: false,
        port,
    };
    lan.add_nic(request).expect("room").0
}

fn datagram(to: u32, ttl: u8, bytes: usize) -> Vec<u8> {
    let mut made = vec![0x45, 0, (bytes >> 8) as u8, bytes as u8, 0, 7, 0, 0, ttl, 253, 0, 0];
    made.extend(v4(10, 1, 0, 10).to_be_bytes());
    made.extend(to.to_be_bytes());
    made.resize(bytes, 0x5a);
    let sum = !sum(&made[..20]);
    made[10..12].copy_from_slice(&sum.to_be_bytes());
    made
}

fn sum(header: &[u8]) -> u16 {
    let sum: u32 = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

fn take(receiver: &mut Receiver) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(record) = receiver.peek().expect("a sound ring") {
        all.push(receiver.bytes(&record).to_vec());
        receiver.done(&record);
    }
    all
}

#[test]
fn a_datagram_arrives_across_any_number_of_routers_with_their_hops_off_its_ttl() {
    for routers in [1, 2, 3, 8, 12] {
        let mut line = Line::new(routers, 1500);
        let sent = datagram(v4(10, 2, 0, 10), 64, 100);
        assert_eq!(line.sender.forward(&sent, false), Verdict::Delivered, "{routers} routers");
        let came = take(&mut line.far);
        assert_eq!(came.len(), 1);
        assert_eq!(came[0][8], 64 - routers as u8);
        assert_eq!(sum(&came[0][..20]), 0xffff, "the checksum is that of the header as it is now");
        assert_eq!((&came[0][..8], &came[0][12..]), (&sent[..8], &sent[12..]), "and nothing else has changed");
        assert!(take(&mut line.own).is_empty());
        assert_eq!(line.lan.segment().control(line.slots[1]).counters().rx_datagrams, 1);
    }
}

#[test]
fn a_ttl_leads_as_far_as_it_says_and_the_router_there_answers() {
    let mut line = Line::new(5, 1500);
    for ttl in 0..=5u8 {
        let verdict = line.sender.forward(&datagram(v4(10, 2, 0, 10), ttl, 100), false);
        assert_eq!(verdict, Verdict::TtlExceeded, "TTL {ttl}");
        let answers = take(&mut line.own);
        assert_eq!(answers.len(), 1, "TTL {ttl}");
        let from = match ttl {
            0 | 1 => v4(10, 1, 0, 1),
            _ => v4(172, 16, ttl - 2, 2),
        };
        assert_eq!(answers[0][12..16], from.to_be_bytes(), "the address that leads back, at router {ttl}");
        assert_eq!(answers[0][20..22], [11, 0], "time exceeded in transit");
    }
    assert_eq!(line.sender.forward(&datagram(v4(10, 2, 0, 10), 6, 100), false), Verdict::Delivered);
}

#[test]
fn a_link_that_is_cut_leaves_no_route_until_it_is_mended() {
    let mut line = Line::new(4, 1500);
    let sent = datagram(v4(10, 2, 0, 10), 64, 100);
    assert_eq!(line.sender.forward(&sent, false), Verdict::Delivered);
    line.cut(1, false);
    assert_eq!(line.sender.forward(&sent, false), Verdict::NoRoute);
    line.cut(1, true);
    assert_eq!(line.sender.forward(&sent, false), Verdict::Delivered);
    assert_eq!(take(&mut line.far).len(), 2);
}

#[test]
fn nobody_at_the_end_is_no_host_and_an_unknown_network_no_route() {
    let mut line = Line::new(3, 1500);
    assert_eq!(line.sender.forward(&datagram(v4(10, 2, 0, 99), 64, 100), false), Verdict::NoHost);
    assert_eq!(line.sender.forward(&datagram(v4(192, 0, 2, 1), 64, 100), false), Verdict::NoRoute);
    assert_eq!(line.sender.forward(&datagram(v4(10, 2, 0, 255), 64, 100), false), Verdict::NoRoute);
    assert!(take(&mut line.far).is_empty());
}

#[test]
fn a_large_segment_that_stops_is_answered_for_as_the_segments_that_a_wire_carries() {
    const SIZE: u16 = 500;
    let mut line = Line::new(3, 1500);
    // UDP as a kernel with offloads hands it over: three segments' data, the pseudo-header's sum for a checksum.
    let mut large = datagram(v4(10, 2, 0, 10), 2, 28 + 3 * usize::from(SIZE));
    large[9] = 17;
    let udp = (8 + 3 * SIZE).to_be_bytes();
    large[20..28].copy_from_slice(&[0x9c, 0x40, 0x14, 0x51, udp[0], udp[1], 0, 0]);
    let pseudo = [&large[12..20], &[0, 17], &udp].concat();
    let pseudo = sum(&pseudo).to_be_bytes();
    large[26..28].copy_from_slice(&pseudo);
    large[10..12].fill(0);
    let header = !sum(&large[..20]);
    large[10..12].copy_from_slice(&header.to_be_bytes());
    let fields = Fields { checksum: Some((20, 6)), segments: Some((Segments::Udp, SIZE)), ecn: false };
    let offload = Offload::new(&fields);
    assert_eq!(offload.check(&large), Ok(fields));

    let verdict = line.sender.forward_unfinished(&large, &Unfinished { offload, fields }, false);
    assert_eq!(verdict, Verdict::TtlExceeded);
    let answers = take(&mut line.own);
    assert_eq!(answers.len(), 3, "one for each segment");
    for (number, answer) in answers.iter().enumerate() {
        let quoted = &answer[28..];
        assert_eq!(quoted[2..4], (28 + SIZE).to_be_bytes(), "the length of a segment");
        assert_eq!(quoted[5], 7 + number as u8, "its identification");
        assert_eq!(sum(&quoted[..20]), 0xffff, "its header's checksum");
        assert_ne!(quoted[26..28], pseudo, "and a checksum of its own");
    }
}
