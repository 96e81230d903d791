//! Fragments for the router itself, which it makes whole before it looks at what they are.

use super::{FAR, Probe};
use crate::build::{Four, Six, echo4, echo6, sealed, six as address, tcp, udp, v4, v6};
use crate::kernel::Side;

/// How a datagram comes in pieces: which bytes of its data, in the order in which they come.
const ORDERS: [&[(usize, usize)]; 7] = [
    &[(0, 800), (800, 1_600), (1_600, 2_008)],
    &[(1_600, 2_008), (800, 1_600), (0, 800)],
    &[(800, 1_600), (0, 800), (0, 800), (1_600, 2_008)],
    // Of what overlaps nobody knows what is true.
    &[(0, 800), (792, 1_600), (1_600, 2_008)],
    &[(0, 800), (1_600, 2_008)],
    // Of no multiple of eight, and not the last.
    &[(0, 804), (800, 1_600), (1_600, 2_008)],
    &[(0, 8), (8, 2_008)],
];

fn bodies4() -> Vec<(u8, &'static str, Vec<u8>)> {
    let source = Four::default().source;
    vec![
        (1, "echo", echo4(2_000)),
        (17, "UDP", udp(&source, &FAR, 2_000)),
        (6, "TCP", tcp(&source, &FAR, 2, 1_988)),
        (200, "protocol 200", vec![7; 2_008]),
    ]
}

fn bodies6() -> Vec<(u8, &'static str, Vec<u8>)> {
    let (source, far) = (Six::default().source, address("fd00:2::fe"));
    let behind = [&[17, 0, 0x1e, 4, 0, 0, 0, 0][..], &udp(&source, &far, 1_992)].concat();
    vec![
        (58, "echo", echo6(&source, &far, 2_000)),
        (17, "UDP", udp(&source, &far, 2_000)),
        (6, "TCP", tcp(&source, &far, 2, 1_988)),
        (200, "next 200", vec![7; 2_008]),
        (60, "UDP behind options", behind),
        (44, "a fragment", [&[17, 0, 0, 0, 0, 0, 0, 1][..], &[7; 2_000]].concat()),
        (58, "error", sealed(&source, &far, 58, 2, &[&[1, 4][..], &[0; 2_006]].concat())),
    ]
}

pub fn pieces() -> impl Iterator<Item = Probe> {
    let mut probes = Vec::new();
    for (number, order) in ORDERS.iter().enumerate() {
        for (protocol, name, body) in bodies4() {
            for (service, flags) in [([0, 0, 0, 0], 0), ([2, 3, 1, 2], 0x4000), ([0, 1, 2, 3], 0)] {
                let id = (probes.len() + 1_000) as u16;
                let datagrams = order.iter().zip(service.iter().cycle()).map(|(&(from, to), service)| {
                    let more = if to < body.len() { 0x2000 } else { 0 };
                    let place = (from / 8) as u16 | more | flags;
                    let header =
                        Four { service: *service, place, protocol, destination: FAR, id, ttl: 3, ..Four::default() };
                    v4(&header, &body[from..to])
                });
                let name = format!("{name}, order {number}, service {service:?}, flags {flags:04x}");
                probes.push(Probe { name, datagrams: datagrams.collect(), side: Side::Left });
            }
        }
        for (next, name, body) in bodies6() {
            for class in [[0, 0, 0, 0], [2, 3, 1, 2], [0, 1, 2, 3]] {
                for options in [false, true] {
                    let id = (probes.len() + 1_000) as u32;
                    let datagrams = order.iter().zip(class.iter().cycle()).map(|(&(from, to), class)| {
                        let place = (from as u16 & !7) | u16::from(to < body.len());
                        let mut piece = if options { vec![44, 0, 1, 4, 0, 0, 0, 0] } else { Vec::new() };
                        piece.extend([next, 0]);
                        piece.extend(place.to_be_bytes());
                        piece.extend(id.to_be_bytes());
                        piece.extend(&body[from..to]);
                        let first = if options { 60 } else { 44 };
                        let destination = address("fd00:2::fe");
                        v6(&Six { class: *class, next: first, destination, limit: 3, ..Six::default() }, &piece)
                    });
                    let name = format!("{name}, order {number}, class {class:?}, options before: {options}");
                    probes.push(Probe { name, datagrams: datagrams.collect(), side: Side::Left });
                }
            }
        }
    }
    // The first does not say what it is the first of; the furthest reaches too far.
    for (next, length) in [(6, 8), (6, 16), (17, 0), (58, 0), (60, 8), (59, 8)] {
        let mut piece = vec![next, 0, 0, 1, 0, 0, 1, next];
        piece.resize(8 + length, 1);
        let header = Six { next: 44, destination: address("fd00:2::fe"), ..Six::default() };
        let name = format!("a first piece of {length} bytes of {next}");
        probes.push(Probe { name, datagrams: vec![v6(&header, &piece)], side: Side::Left });
    }
    let far = Six { next: 44, destination: address("fd00:2::fe"), ..Six::default() };
    for (length, place) in [(41, 0xfff8u16), (1, 0xfff8), (7, 0xfff8), (8, 0xfff8), (8, 0xfff9), (1_200, 0xfb50)] {
        let [high, low] = place.to_be_bytes();
        let piece = [&[17, 0, high, low, 0, 0, 2, length as u8][..], &vec![3; length]].concat();
        let name = format!("a piece of {length} bytes at {place:04x}");
        probes.push(Probe { name, datagrams: vec![v6(&far, &piece)], side: Side::Left });
    }
    probes.into_iter()
}
