//! IPv6: every value of the fields that a router looks at, and addresses of all kinds.

use super::{Probe, probe};
use crate::build::{Six, echo6, sealed, six as address, tcp, udp, v6};

pub fn six() -> impl Iterator<Item = Probe> {
    let mut probes = Vec::new();
    let base = Six::default();
    let (source, far) = (base.source, address("fd00:2::fe"));
    let local = Six { destination: far, ..base.clone() };
    let udp6 =
        |header: &Six, data| v6(&Six { next: 17, ..header.clone() }, &udp(&header.source, &header.destination, data));
    for class in 0..=255u8 {
        probes.push(probe(format!("limit, class {class}"), udp6(&Six { limit: 1, class, ..base.clone() }, 30)));
        probes.push(probe(
            format!("echo, class {class}"),
            v6(&Six { next: 58, class, ..local.clone() }, &echo6(&source, &far, 9)),
        ));
        probes.push(probe(
            format!("SYN, class {class}"),
            v6(&Six { next: 6, class, ..local.clone() }, &tcp(&source, &far, 2, 0)),
        ));
    }
    for limit in 0..=255 {
        probes.push(probe(format!("forwarded, limit {limit}"), udp6(&Six { limit, ..base.clone() }, 30)));
    }
    for next in 0..=255 {
        probes.push(probe(format!("local, next {next}"), v6(&Six { next, ..local.clone() }, &[0x78; 30])));
        probes.push(probe(format!("limit, next {next}"), v6(&Six { next, limit: 1, ..base.clone() }, &[0; 32])));
        probes.push(probe(format!("bare, next {next}"), v6(&Six { next, ..local.clone() }, &[])));
        let behind = [&[next, 0, 1, 4, 0, 0, 0, 0][..], &[0x78; 30]].concat();
        for first in [60, 0] {
            probes
                .push(probe(format!("next {next} behind {first}"), v6(&Six { next: first, ..local.clone() }, &behind)));
        }
        let atomic = [&[next, 0, 0, 0, 0, 0, 0, 9][..], &[0x78; 30]].concat();
        probes.push(probe(format!("next {next} behind 44"), v6(&Six { next: 44, ..local.clone() }, &atomic)));
    }
    for kind in 0..=255 {
        for length in [4, 8, 24] {
            let mut message = vec![kind, 0, 0, 0, 1, 2, 3, 4];
            message.resize(length, 7);
            let to = Six { next: 58, ..local.clone() };
            // Neighbour discovery is another's.
            if !(133..=137).contains(&kind) {
                probes.push(probe(
                    format!("ICMPv6 {kind} of {length} to it"),
                    v6(&to, &sealed(&source, &far, 58, 2, &message)),
                ));
            }
            let passing = Six { next: 58, limit: 1, ..base.clone() };
            let sum = sealed(&source, &base.destination, 58, 2, &message);
            probes.push(probe(format!("limit, ICMPv6 {kind} of {length}"), v6(&passing, &sum)));
        }
    }
    for length in (0..9).chain([40, 1_184, 1_192, 1_193, 1_200, 1_232, 1_233, 1_400, 1_452]) {
        probes.push(probe(format!("{length} bytes"), udp6(&base, length)));
        probes.push(probe(format!("limit, {length} bytes"), udp6(&Six { limit: 1, ..base.clone() }, length)));
        probes
            .push(probe(format!("too big and limit, {length} bytes"), udp6(&Six { limit: 0, ..base.clone() }, length)));
        probes.push(probe(
            format!("echo of {length}"),
            v6(&Six { next: 58, ..local.clone() }, &echo6(&source, &far, length)),
        ));
        let across = Six { source: address("fd00:2::1"), next: 58, ..local.clone() };
        let echo = echo6(&across.source, &far, length);
        probes.push(probe(format!("echo of {length} for the other side"), v6(&across, &echo)));
        probes.push(probe(format!("UDP of {length} to it"), udp6(&local, length)));
        let mut fragment = vec![17, 0, 0, 9, 0, 0, 0, 1];
        fragment.resize(8 + length, 5);
        probes.push(probe(format!("fragment of {length}"), v6(&Six { next: 44, ..base.clone() }, &fragment)));
        probes.push(probe(
            format!("limit, fragment of {length}"),
            v6(&Six { next: 44, limit: 1, ..base.clone() }, &fragment),
        ));
    }
    for flags in 0..=255 {
        probes.push(probe(
            format!("TCP flags {flags:02x}"),
            v6(&Six { next: 6, ..local.clone() }, &tcp(&source, &far, flags, 5)),
        ));
    }
    for claimed in [0, 7, 8, 9, 20, 37, 38, 39, 200] {
        for next in [17, 136] {
            let mut segment = udp(&source, &far, 30);
            segment[4..6].copy_from_slice(&u16::to_be_bytes(claimed));
            let covered = usize::from(claimed).clamp(8, 38);
            let part = sealed(&source, &far, next, 6, &segment[..covered]);
            segment[..covered].copy_from_slice(&part);
            let header = Six { next, ..local.clone() };
            probes.push(probe(format!("next {next} that claims {claimed}"), v6(&header, &segment)));
            let whole = sealed(&source, &far, next, 6, &segment);
            probes.push(probe(format!("next {next} that claims {claimed}, all summed"), v6(&header, &whole)));
            segment[6..8].fill(0);
            probes.push(probe(format!("next {next} that claims {claimed}, no sum"), v6(&header, &segment)));
        }
    }
    for kind in 0..12 {
        for left in [0, 1, 2] {
            for destination in [far, base.destination, address("ff02::1"), address("fd00:2::")] {
                let mut routing = vec![17, 2, kind, left, 0, 0, 0, 0];
                routing.extend(address("fd00::5"));
                routing.extend(udp(&source, &destination, 4));
                let header = Six { next: 43, destination, ..base.clone() };
                probes.push(probe(
                    format!("routing header {kind}, {left} left, to {destination:x?}"),
                    v6(&header, &routing),
                ));
            }
        }
    }
    let ends = [
        "::",
        "::1",
        "::1.2.3.4",
        "::ffff:1.2.3.4",
        "fe80::1",
        "fe80::ff:fe00:101",
        "fe80::ff:fe00:102",
        "fec0::1",
        "ff00::1",
        "ff01::1",
        "ff02::1",
        "ff02::2",
        "ff02::3",
        "ff05::1",
        "ff05::2",
        "ff0e::1",
        "ff12::1",
        "2001:db8::1",
        "fd00:9:1::1",
        "fd00:9:2::1",
        "fd00:9:3::1",
        "fd00:9:4::1",
        "fd00:1::",
        "fd00:2::",
        "fd00:1::1",
        "fd00:2::1",
        "fd00:1::fe",
        "fd00:2::fe",
    ];
    for end in ends {
        let end6 = address(end);
        for limit in [0, 1, 9] {
            for data in [4, 1_400] {
                let to = Six { destination: end6, limit, ..base.clone() };
                probes.push(probe(format!("UDP of {data} to {end}, limit {limit}"), udp6(&to, data)));
                let from = Six { source: end6, limit, ..base.clone() };
                probes.push(probe(format!("UDP of {data} from {end}, limit {limit}"), udp6(&from, data)));
                let unrouted = Six { source: end6, destination: address("2001:db8::1"), limit, ..base.clone() };
                probes
                    .push(probe(format!("UDP of {data} from {end} to nowhere, limit {limit}"), udp6(&unrouted, data)));
            }
        }
        let to = Six { destination: end6, next: 58, class: 0x1c, ..base.clone() };
        probes.push(probe(format!("echo to {end}"), v6(&to, &echo6(&source, &end6, 4))));
        let linked = Six { source: address("fe80::1"), ..to.clone() };
        probes.push(probe(
            format!("echo from a link-local source to {end}"),
            v6(&linked, &echo6(&linked.source, &end6, 4)),
        ));
        for (next, name) in [(6, "TCP"), (200, "next 200"), (59, "nothing")] {
            let header = Six { destination: end6, next, ..base.clone() };
            probes.push(probe(format!("{name} to {end}"), v6(&header, &tcp(&source, &end6, 2, 4))));
        }
        let from = Six { source: end6, next: 58, ..local.clone() };
        probes.push(probe(format!("echo from {end}"), v6(&from, &echo6(&end6, &far, 4))));
        for option in [0x5e, 0x9e, 0xde] {
            let body = [&[17, 0, option, 4, 0, 0, 0, 0][..], &udp(&source, &end6, 4)].concat();
            let header = Six { destination: end6, next: 0, ..base.clone() };
            probes.push(probe(format!("unknown option {option:02x} to {end}"), v6(&header, &body)));
        }
    }
    let nine = [[0x1e, 0].repeat(9), vec![1, 2, 0, 0]].concat();
    for (options, count) in [(nine.clone(), 9), ([[0x1e, 0].repeat(8), vec![1, 4, 0, 0, 0, 0]].concat(), 8)] {
        for (next, destination) in [(0, base.destination), (60, far)] {
            let mut body = vec![17, ((options.len() + 2) / 8 - 1) as u8];
            body.extend(&options);
            body.extend(udp(&source, &destination, 4));
            let header = Six { next, destination, ..base.clone() };
            probes.push(probe(format!("{count} options behind {next}"), v6(&header, &body)));
        }
    }
    probes.into_iter()
}
