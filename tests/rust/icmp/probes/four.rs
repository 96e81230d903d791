//! IPv4: every value of the fields that a router looks at, and addresses of all kinds.

use super::{FAR, OWN, Probe, fresh, probe, udp4};
use crate::build::{Four, Six, echo4, icmp, sealed, six as address, tcp, udp, v4, v6};
use crate::kernel::Side;

pub fn four() -> impl Iterator<Item = Probe> {
    let mut probes = Vec::new();
    let base = Four::default();
    let local = Four { destination: FAR, ..base.clone() };
    for service in 0..=255u8 {
        probes.push(probe(format!("TTL, service {service}"), udp4(&Four { ttl: 1, service, ..base.clone() }, 30)));
        let echo = Four { protocol: 1, service, ..local.clone() };
        probes.push(probe(format!("echo, service {service}"), v4(&echo, &echo4(9))));
        let syn = tcp(&base.source, &FAR, 2, 0);
        probes
            .push(probe(format!("SYN, service {service}"), v4(&Four { protocol: 6, service, ..local.clone() }, &syn)));
    }
    for ttl in 0..=255 {
        probes.push(probe(format!("forwarded, TTL {ttl}"), udp4(&Four { ttl, ..base.clone() }, 30)));
    }
    for protocol in 0..=255 {
        probes.push(probe(format!("local, protocol {protocol}"), v4(&Four { protocol, ..local.clone() }, &[0x78; 30])));
        probes
            .push(probe(format!("TTL, protocol {protocol}"), v4(&Four { protocol, ttl: 1, ..base.clone() }, &[0; 30])));
        probes.push(probe(format!("bare, protocol {protocol}"), v4(&Four { protocol, ..local.clone() }, &[])));
    }
    for kind in 0..=255 {
        for (code, length) in [(0, 8), (3, 20), (0, 12), (1, 11)] {
            let mut message = vec![kind, code, 0, 0, 1, 2, 3, 4];
            message.resize(length, 7);
            let message = icmp(&message);
            let to = Four { protocol: 1, ..local.clone() };
            probes.push(probe(format!("ICMP {kind}/{code} of {length} to it"), v4(&to, &message)));
            if code == 0 {
                let passing = Four { protocol: 1, ttl: 1, ..base.clone() };
                probes.push(probe(format!("TTL, ICMP {kind} of {length}"), v4(&passing, &message)));
            }
        }
    }
    for length in (0..9).chain([40, 520, 548, 549, 1_260, 1_261, 1_400, 1_472]) {
        for place in [0, 0x4000, 0x2000, 0x0001, 0x2001, 0x6000, 0x8000, 0x1fff, 0x3ffe, 0xc001] {
            let header = Four { place, ..base.clone() };
            probes.push(probe(format!("{length} bytes, place {place:04x}"), v4(&header, &vec![3; length])));
            let expired = Four { place, ttl: 1, ..base.clone() };
            probes.push(probe(format!("TTL, {length} bytes, place {place:04x}"), v4(&expired, &vec![3; length])));
        }
        let echo = Four { protocol: 1, ..local.clone() };
        probes.push(probe(format!("echo of {length}"), v4(&echo, &echo4(length))));
        let from_right = Four { source: [10, 2, 0, 1], destination: FAR, protocol: 1, ..base.clone() };
        if length <= 1_252 {
            probes.push(Probe {
                side: Side::Right,
                ..probe(format!("echo of {length} from the right"), v4(&from_right, &echo4(length)))
            });
        }
        probes.push(probe(format!("UDP of {length} to it"), udp4(&local, length)));
    }
    // Of a larger MTU than comes back: its answer leaves in pieces.
    for length in [1_253, 1_260, 1_261, 1_472, 1_473, 2_600, 4_000] {
        let echo = Four { protocol: 1, source: [10, 2, 0, 1], ..local.clone() };
        probes.push(probe(format!("echo of {length} for the other side"), v4(&echo, &echo4(length))));
        let recorded = Four { options: record_route(3), ..echo.clone() };
        probes.push(probe(format!("recorded echo of {length} for the other side"), v4(&recorded, &echo4(length))));
    }
    for flags in 0..=255 {
        for data in [0, 5] {
            let header = Four { protocol: 6, ..local.clone() };
            probes.push(probe(
                format!("TCP flags {flags:02x}, {data} bytes"),
                v4(&header, &tcp(&base.source, &FAR, flags, data)),
            ));
        }
    }
    for (name, field, value) in [("offset 4", 12, 0x40), ("offset 15", 12, 0xf0), ("offset 6", 12, 0x60)] {
        let mut segment = tcp(&base.source, &FAR, 2, 6);
        segment[field] = value;
        let segment = sealed(&base.source, &FAR, 6, 16, &segment);
        probes.push(probe(format!("TCP, {name}"), v4(&Four { protocol: 6, ..local.clone() }, &segment)));
    }
    for claimed in [0, 7, 8, 9, 20, 37, 38, 39, 200] {
        for protocol in [17, 136] {
            let mut segment = udp(&base.source, &FAR, 30);
            segment[4..6].copy_from_slice(&u16::to_be_bytes(claimed));
            let covered = usize::from(claimed).clamp(8, 38);
            let part = sealed(&base.source, &FAR, protocol, 6, &segment[..covered]);
            segment[..covered].copy_from_slice(&part);
            let header = Four { protocol, ..local.clone() };
            probes.push(probe(format!("protocol {protocol} that claims {claimed}"), v4(&header, &segment)));
            // UDP-Lite: the pseudo-header has all of it.
            let whole = sealed(&base.source, &FAR, protocol, 6, &segment);
            probes.push(probe(format!("protocol {protocol} that claims {claimed}, all summed"), v4(&header, &whole)));
            segment[6..8].fill(0);
            probes.push(probe(format!("protocol {protocol} that claims {claimed}, no sum"), v4(&header, &segment)));
        }
    }
    let ends: &[[u8; 4]] = &[
        [0, 0, 0, 0],
        [0, 0, 0, 1],
        [127, 0, 0, 1],
        [127, 255, 255, 255],
        [224, 0, 0, 1],
        [224, 0, 0, 2],
        [239, 1, 2, 3],
        [240, 0, 0, 1],
        [255, 255, 255, 254],
        [255, 255, 255, 255],
        [10, 1, 0, 0],
        [10, 1, 255, 255],
        [10, 2, 0, 255],
        [10, 2, 0, 0],
        [10, 2, 1, 1],
        [10, 9, 1, 1],
        [10, 9, 2, 1],
        [10, 9, 3, 1],
        [10, 9, 4, 1],
        [169, 254, 1, 1],
        [192, 0, 2, 1],
        OWN,
        FAR,
        [10, 1, 0, 1],
        [10, 2, 0, 1],
    ];
    for (turn, end) in ends.iter().enumerate() {
        for ttl in [1, 9] {
            let source = fresh(turn * 2 + usize::from(ttl == 1));
            let to = Four { source, destination: *end, ttl, ..base.clone() };
            probes.push(probe(format!("UDP to {end:?}, TTL {ttl}"), udp4(&to, 4)));
            let from = Four { source: *end, ttl, ..base.clone() };
            probes.push(probe(format!("UDP from {end:?}, TTL {ttl}"), udp4(&from, 4)));
        }
        let to = Four { source: fresh(100 + turn), destination: *end, protocol: 1, ..base.clone() };
        probes.push(probe(format!("echo to {end:?}"), v4(&to, &echo4(4))));
        let from = Four { source: *end, protocol: 1, ..local.clone() };
        probes.push(probe(format!("echo from {end:?}"), v4(&from, &echo4(4))));
        let both = Four { source: fresh(150 + turn), destination: *end, options: vec![7, 3, 1], ..base.clone() };
        probes.push(probe(format!("wrong option to {end:?}"), udp4(&both, 4)));
    }
    probes.into_iter()
}

fn record_route(entries: usize) -> Vec<u8> {
    let mut option = vec![7, (3 + entries * 4) as u8, 4];
    option.resize(3 + entries * 4, 0);
    option
}

/// Datagrams to addresses that nobody has.
pub fn absent() -> impl Iterator<Item = Probe> {
    let four = [Vec::new(), record_route(1), record_route(2), record_route(4), vec![0x94, 4, 0, 0]];
    let four = four.into_iter().enumerate().map(|(number, options)| {
        let header = Four { destination: [10, 2, 0, 100 + number as u8], service: 0x1b, options, ..Four::default() };
        probe(format!("IPv4, options {:02x?}", header.options), udp4(&header, 700))
    });
    let six = ["fd00:1::1", "fd00:1::2"].into_iter().enumerate().map(|(number, source)| {
        let (source, destination) = (address(source), address(&format!("fd00:2::10{number}")));
        let header = Six { source, destination, class: 0x1b, ..Six::default() };
        probe("IPv6", v6(&header, &udp(&source, &destination, 1_232)))
    });
    four.chain(six)
}
