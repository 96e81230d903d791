//! Options and damage by chance, the same in each run: the kernel is asked what they come to, so each may be anything.

use super::{FAR, OWN, Probe, four, fresh, probe, six, udp4};
use crate::build::{Four, Six, echo4, reseal, six as address, tcp, udp, v4, v6};

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

/// Options of both families.
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
            let datagram = match dice.roll(5) {
                0 => udp4(&header, 1_400),
                3 => v4(&Four { protocol: 6, ..header.clone() }, &tcp(&header.source, &destination, 2, 4)),
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

/// Datagrams of which some bytes were overwritten, from a seed: lengths, addresses, anything.
pub fn damaged() -> impl Iterator<Item = Probe> {
    let whole: Vec<Vec<u8>> =
        four().chain(six()).step_by(97).chain(options().step_by(41)).flat_map(|probe| probe.datagrams).collect();
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
