//! What routers are tried with.

use crate::build::{Four, Six, echo4, echo6, icmp, reseal, sealed, six as address, tcp, udp, v4, v6};
use crate::kernel::Side;

/// A datagram that comes in on a side of the router.
#[derive(Clone, Debug)]
pub struct Probe {
    pub name: String,
    pub datagram: Vec<u8>,
    pub side: Side,
}

fn probe(name: impl Into<String>, datagram: Vec<u8>) -> Probe {
    Probe { name: name.into(), datagram, side: Side::Left }
}

const OWN: [u8; 4] = [10, 1, 0, 254];
const FAR: [u8; 4] = [10, 2, 0, 254];

/// A source that nothing was said to yet: the kernel's limit on errors about routes cannot be lifted in a namespace.
fn fresh(turn: usize) -> [u8; 4] {
    [10, 1, 100 + (turn / 250 % 150) as u8, 1 + (turn % 250) as u8]
}

fn udp4(header: &Four, data: usize) -> Vec<u8> {
    v4(&Four { protocol: 17, ..header.clone() }, &udp(&header.source, &header.destination, data))
}

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

/// Numbers of which each depends on the one before, the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % sides
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len())]
    }
}

/// One option of IPv4, mostly one that can be.
fn option4(dice: &mut Dice) -> Vec<u8> {
    let kind = dice.one_of(&[7u8, 7, 68, 68, 68, 148, 131, 137, 134, 130, 136, 30, 158, 0, 1]);
    if kind < 2 {
        return vec![kind];
    }
    let length = match dice.roll(3) {
        0 => 3 + 4 * dice.roll(4),
        1 => 4 + 8 * dice.roll(3),
        _ => dice.roll(14),
    };
    // A source route that was gone along in part makes Linux answer along what it came by, which is not done here.
    let pointers: &[u8] = if matches!(kind, 131 | 137) { &[4, 3, 7] } else { &[4, 5, 8, 9, 12, 13, 3, 0, 200] };
    let mut option = vec![kind, length as u8, dice.one_of(pointers)];
    option.push(dice.one_of(&[0u8, 1, 3, 2, 0xf0, 0xf3, 0x31, 0x13]));
    option.extend(dice.one_of(&[
        FAR,
        OWN,
        [10, 2, 0, 1],
        [0, 0, 0, 0],
        [127, 0, 0, 1],
        [224, 0, 0, 1],
        [10, 2, 0, 255],
    ]));
    option.extend((0..20).map(|at| at as u8));
    option.truncate(length.max(2));
    option
}

/// One option of IPv6.
fn option6(dice: &mut Dice) -> Vec<u8> {
    let kind = dice.one_of(&[0u8, 0, 1, 1, 5, 0xc2, 7, 49, 0x1e, 0x3e, 0x1e, 0x26, 0x5e, 0x9e, 0xde, 0xc9]);
    if kind == 0 {
        return vec![0];
    }
    let length = dice.one_of(&[2usize, 4, 0, 1, 3, 4, 8, 16, 2]);
    let mut option = vec![kind, length as u8];
    let fill = u8::from(dice.roll(6) == 0);
    option.extend(std::iter::repeat_n(if kind == 1 { fill } else { dice.roll(3) as u8 }, length));
    option
}

/// Random options, from a seed: the kernel is asked what they come to, so each turn may be anything.
pub fn options() -> impl Iterator<Item = Probe> {
    let mut dice = Dice(7);
    (0..3_000).map(move |turn| {
        if turn % 2 == 0 {
            let mut options = Vec::new();
            for _ in 0..=dice.roll(4) {
                options.extend(option4(&mut dice));
            }
            options.truncate(40);
            let destination = dice.one_of(&[[10, 2, 0, 1], FAR, OWN]);
            let header = Four { options, destination, ttl: dice.one_of(&[9, 9, 1]), ..Four::default() };
            let datagram = match dice.roll(4) {
                0 => udp4(&header, 1_400),
                1 => v4(&Four { protocol: 1, ..header }, &echo4(8)),
                2 => udp4(&Four { place: 0x4000, ..header }, 1_300),
                _ => udp4(&header, 8),
            };
            return probe(format!("options of IPv4, turn {turn}"), datagram);
        }
        let mut options = Vec::new();
        for _ in 0..=dice.roll(5) {
            options.extend(option6(&mut dice));
        }
        match dice.roll(4) {
            0 => {}
            // Mostly what fills the last eight bytes, as it must be.
            _ => {
                let lacking = (8 - (options.len() + 2) % 8) % 8;
                if lacking > 1 {
                    options.extend([1, lacking as u8 - 2]);
                }
                options.resize((options.len() + 2).next_multiple_of(8) - 2, 0);
            }
        }
        options.resize((options.len() + 2).next_multiple_of(8) - 2, 0x1e);
        let destination = address(dice.one_of(&["fd00:2::1", "fd00:2::fe", "fd00:1::fe", "ff02::1", "fd00:1::"]));
        let source = address(dice.one_of(&["fd00:1::1", "fd00:1::1", "fe80::1"]));
        let inner = udp(&source, &destination, 8);
        let mut body = vec![17, ((options.len() + 2) / 8 - 1) as u8];
        body.extend(&options);
        body.extend(inner);
        let next = dice.one_of(&[0, 60]);
        let header = Six { source, destination, next, limit: dice.one_of(&[9, 9, 1]), ..Six::default() };
        probe(format!("options of IPv6, turn {turn}"), v6(&header, &body))
    })
}

pub fn six() -> impl Iterator<Item = Probe> {
    let mut probes = Vec::new();
    let base = Six::default();
    let (source, own, far) = (base.source, address("fd00:1::fe"), address("fd00:2::fe"));
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
    let _ = own;
    probes.into_iter()
}

/// Datagrams of which some bytes were overwritten, from a seed: lengths, addresses, anything.
pub fn damaged() -> impl Iterator<Item = Probe> {
    let whole: Vec<Vec<u8>> =
        four().chain(six()).step_by(97).chain(options().step_by(41)).map(|probe| probe.datagram).collect();
    let mut dice = Dice(11);
    (0..2_000).map(move |turn| {
        let mut datagram = whole[dice.roll(whole.len())].clone();
        for _ in 0..=dice.roll(3) {
            // In the headers mostly: what is in the data does not matter to routers.
            let reach = datagram.len().min(if dice.roll(4) == 0 { 1_500 } else { 64 });
            let at = dice.roll(reach);
            let value =
                if dice.roll(2) == 0 { dice.roll(256) as u8 } else { dice.one_of(&[0, 1, 4, 0x7f, 0x80, 0xff]) };
            // The version stays, or it is none of ours; sources, for each to have a way back.
            let six = datagram[0] >> 4 == 6;
            let keeps = if six { 8..24 } else { 12..16 };
            if at != 0 && !keeps.contains(&at) {
                datagram[at] = value;
            } else if at == 0 && !six {
                datagram[0] = 0x40 | value & 15;
            }
        }
        match dice.roll(6) {
            0 => datagram.truncate(1 + dice.roll(datagram.len())),
            1 => datagram.extend([9; 13]),
            _ => {}
        }
        if datagram[0] >> 4 == 4 {
            // Who has used up what may be said about routes hears of nothing else.
            if datagram.len() >= 20 {
                datagram[12..16].copy_from_slice(&fresh(250 + turn));
                if dice.roll(12) > 0 {
                    reseal(&mut datagram);
                }
            }
        }
        probe(format!("damaged, turn {turn}"), datagram)
    })
}
