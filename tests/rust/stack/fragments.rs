//! Fragments: what is cut becomes whole again whatever the order, and what contradicts itself becomes nothing.

use vnet_base::Verdict;
use vnet_base::fragments::{LIFE4, LIFE6, MOST, Reassembler, Taken};
use vnet_drivers::stack::cut;
use vnet_drivers::stack::{Outlet, Stack, UdpOptions};

use crate::hostile::Random;
use crate::net::{A, B, Pair, SECOND, any, end};

/// A datagram with so much data, whose bytes follow from their places. It bears `id` if it is IPv4.
fn whole(six: bool, data: usize, id: u32) -> Vec<u8> {
    let mut datagram = if six {
        let mut head = vec![0x60, 0, 0, 0, (data >> 8) as u8, data as u8, 17, 64];
        head.extend_from_slice(&[0xfd; 16]);
        head.extend_from_slice(&[0xfe; 16]);
        head
    } else {
        let total = (20 + data) as u16;
        let mut head = vec![0x45, 0, (total >> 8) as u8, total as u8, (id >> 8) as u8, id as u8, 0, 0, 64, 17, 0, 0];
        head.extend_from_slice(&A);
        head.extend_from_slice(&B);
        smoltcp::wire::Ipv4Packet::new_unchecked(&mut head[..]).fill_checksum();
        head
    };
    datagram.extend((0..data).map(|at| (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0]));
    datagram
}

fn pieces(datagram: &[u8], mtu: usize, id: u32) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    let verdict = cut(datagram, mtu, id, |piece| {
        pieces.push(piece.to_vec());
        Verdict::Delivered
    });
    assert_eq!(verdict, Verdict::Delivered);
    pieces
}

fn shuffle<T>(items: &mut [T], random: &mut Random) {
    for at in (1..items.len()).rev() {
        items.swap(at, random.below(at as u64 + 1) as usize);
    }
}

#[test]
fn what_was_cut_becomes_whole_in_any_order_and_with_duplicates() {
    let mut random = Random(1);
    for round in 0..400 {
        let six = round % 2 == 1;
        let largest = if six { 65_535 } else { 65_515 };
        let data = (8 + random.below(if round % 3 == 0 { largest - 8 } else { 6000 }) + 1) as usize;
        let mtu = if six { 1280 + random.below(9000) } else { 68 + random.below(9000) } as usize;
        let datagram = whole(six, data, round);
        let mut parts = pieces(&datagram, mtu, round);
        assert!(parts.iter().all(|part| part.len() <= mtu));
        let count = parts.len();
        if count == 1 {
            continue;
        }
        for _ in 0..random.below(count as u64) {
            parts.push(parts[random.below(count as u64) as usize].clone());
        }
        match round % 5 {
            0 => {}
            1 => parts.reverse(),
            _ => shuffle(&mut parts, &mut random),
        }
        let mut reassembler = Reassembler::default();
        let completed: Vec<_> =
            parts.iter().map(|part| reassembler.take(part, 0)).filter(|taken| *taken != Taken::Nothing).collect();
        assert_eq!(completed, [Taken::Completed(datagram)], "round {round}");
    }
}

#[test]
fn datagrams_whose_pieces_come_in_turns_are_not_mixed_up() {
    let mut random = Random(2);
    // Of one pair of hosts, told apart by their numbers alone, and as many of the other family.
    let datagrams: Vec<_> =
        (0..MOST as u32 / 2).flat_map(|id| [whole(false, 5000, id), whole(true, 5000 + id as usize, id)]).collect();
    let mut parts: Vec<_> =
        datagrams.iter().enumerate().flat_map(|(index, datagram)| pieces(datagram, 1280, index as u32 / 2)).collect();
    shuffle(&mut parts, &mut random);
    let mut reassembler = Reassembler::default();
    let mut completed: Vec<_> = parts
        .iter()
        .filter_map(|part| match reassembler.take(part, 0) {
            Taken::Completed(whole) => Some(whole),
            _ => None,
        })
        .collect();
    completed.sort();
    let mut expected = datagrams;
    expected.sort();
    assert_eq!(completed, expected);
    assert_eq!(reassembler.memory(), 0);
}

#[test]
fn a_piece_that_overlaps_another_ends_its_datagram() {
    for six in [false, true] {
        let parts = pieces(&whole(six, 4000, 1), 1280, 1);
        let mut reassembler = Reassembler::default();
        // The second, eight bytes further ahead: its offset is in units of eight.
        let mut overlapping = parts[1].clone();
        let at = if six { 43 } else { 7 };
        overlapping[at] -= if six { 8 } else { 1 };
        if !six {
            smoltcp::wire::Ipv4Packet::new_unchecked(&mut overlapping[..]).fill_checksum();
        }
        for part in [&parts[0], &overlapping, &parts[1], &parts[2], &parts[3]] {
            assert_eq!(reassembler.take(part, 0), Taken::Nothing);
        }
        assert_eq!(reassembler.tally().reasm_fails, 1);
    }
}

#[test]
fn memory_is_bounded_and_goes_with_the_datagrams() {
    let mut reassembler = Reassembler::default();
    assert_eq!((reassembler.memory(), reassembler.deadline()), (0, None));
    for id in 0..10_000u32 {
        // The last piece of the largest datagram alone, then the tiniest of others before it.
        let parts = pieces(&whole(true, 65_535, 0), 1280, id);
        reassembler.take(parts.last().expect("there are many"), u64::from(id));
        if id % 1000 == 0 {
            let tiny = pieces(&whole(false, 65_000, 0), 68, id);
            for part in tiny.iter().step_by(2) {
                reassembler.take(part, u64::from(id));
            }
        }
    }
    assert!(reassembler.memory() < 6 << 20, "{} bytes", reassembler.memory());
    assert_eq!(reassembler.tally().reasm_fails, 10_010 - MOST as u64);
    // The oldest made room.
    assert!(reassembler.deadline().is_some_and(|deadline| deadline > LIFE4 + 9_900));
    reassembler.expire(LIFE6 + 10_000, |_| {});
    assert_eq!((reassembler.memory(), reassembler.deadline()), (0, None));
}

#[test]
fn what_stays_incomplete_is_given_up_in_time_and_told_if_its_first_fragment_came() {
    for (six, life) in [(false, LIFE4), (true, LIFE6)] {
        let parts = pieces(&whole(six, 4000, 1), 1280, 1);
        let mut reassembler = Reassembler::default();
        assert_eq!(reassembler.take(&parts[0], 5), Taken::Nothing);
        // Another, whose first never comes, and a later piece of the first, which does not put it off.
        assert_eq!(reassembler.take(&pieces(&whole(six, 4000, 2), 1280, 2)[1], 6), Taken::Nothing);
        assert_eq!(reassembler.take(&parts[1], life), Taken::Nothing);
        assert_eq!(reassembler.deadline(), Some(5 + life));
        let mut told = Vec::new();
        reassembler.expire(4 + life, |first| told.push(first.to_vec()));
        assert!(told.is_empty());
        reassembler.expire(5 + life, |first| told.push(first.to_vec()));
        assert_eq!(told, [parts[0].clone()]);
        reassembler.expire(6 + life, |first| told.push(first.to_vec()));
        assert_eq!(told.len(), 1);
        assert_eq!(reassembler.deadline(), None);
        assert!(parts[2..].iter().all(|part| reassembler.take(part, life) == Taken::Nothing));
    }
}

#[test]
fn nothing_that_comes_takes_it_down_or_beyond_its_bounds() {
    let mut random = Random(3);
    let mut reassembler = Reassembler::default();
    for now in 0..200_000u64 {
        let six = random.below(2) == 1;
        let parts = pieces(
            &whole(six, 9 + random.below(300) as usize, 0),
            if six { 1280 } else { 68 },
            random.below(90) as u32,
        );
        let mut part = parts[random.below(parts.len() as u64) as usize].clone();
        let furthest = if random.below(4) == 0 { 8192 } else { 40 };
        let (offset, more) = (random.below(furthest), random.below(2));
        if random.below(2) == 0 {
            // As it was cut.
        } else if six {
            // Between the header and the data, or into it: a Fragment header that says anything.
            let place = (offset << 3 | more) as u16;
            let header = [random.next() as u8, 0, (place >> 8) as u8, place as u8, 0, 0, 0, random.below(4) as u8];
            part.splice(40..40, header);
            part[6] = 44;
            let length = (part.len() - 40) as u16;
            part[4..6].copy_from_slice(&length.to_be_bytes());
        } else {
            part[6..8].copy_from_slice(&((offset | more << 13) as u16).to_be_bytes());
            smoltcp::wire::Ipv4Packet::new_unchecked(&mut part[..]).fill_checksum();
        }
        if random.below(3) == 0 {
            let at = random.below(part.len() as u64) as usize;
            part[at] = random.next() as u8;
        }
        part.truncate(if random.below(3) == 0 { random.below(part.len() as u64) as usize } else { part.len() });
        if let Taken::Completed(whole) = reassembler.take(&part, now * SECOND / 1000) {
            assert!(whole.len() <= 40 + 65_535 && whole.len() >= 20);
        }
        reassembler.expire(now * SECOND / 1000, |first| assert!(first.len() <= 65_535));
    }
    let tally = reassembler.tally();
    assert!(tally.reasm_oks > 100 && tally.reasm_fails > 1000, "{tally:?}");
    assert!(reassembler.memory() < 6 << 20);
}

/// Takes what a stack sends.
#[derive(Default)]
struct Sink(Vec<Vec<u8>>);

impl Outlet for Sink {
    fn try_forward(&mut self, datagram: &[u8]) -> Option<Verdict> {
        Some(self.forward(datagram))
    }

    fn forward(&mut self, datagram: &[u8]) -> Verdict {
        self.0.push(datagram.to_vec());
        Verdict::Delivered
    }
}

#[test]
fn a_stack_tells_the_sender_that_fragments_came_too_late_and_quotes_the_first() {
    let mut stack = Stack::new(&[(B.into(), 24), ([0xfe; 16].into(), 64)], 1500, 1);
    let (four, six) = (pieces(&whole(false, 4000, 1), 1500, 1), pieces(&whole(true, 4000, 1), 1500, 1));
    let mut out = Sink::default();
    for first in [&four[0], &six[0]] {
        stack.receive(first, &mut out, 0);
    }
    assert_eq!(stack.poll(&mut out, 0), Some(LIFE4));
    assert_eq!(stack.poll(&mut out, LIFE4), Some(LIFE6));
    assert_eq!(stack.poll(&mut out, LIFE6), None);
    let [late4, late6] = &out.0[..] else { panic!("{} datagrams", out.0.len()) };
    // RFC 792: type 11, code 1; at most 576 bytes. RFC 4443 section 3.3: type 3, code 1; at most 1,280.
    assert_eq!((late4.len(), late4[20], late4[21], &late4[28..]), (576, 11, 1, &four[0][..548]));
    assert_eq!((&late4[12..16], &late4[16..20]), (&B[..], &A[..]));
    assert_eq!((late6.len(), late6[40], late6[41], &late6[48..]), (1280, 3, 1, &six[0][..1232]));
}

#[test]
fn nobody_is_told_about_fragments_for_groups_or_from_nobody() {
    let mut stack = Stack::new(&[(B.into(), 24)], 1500, 1);
    let mut out = Sink::default();
    for (from, to) in [(A, [224, 0, 0, 1]), (A, [10, 0, 0, 255]), ([0; 4], B), ([255; 4], B), (A, [10, 0, 0, 9])] {
        let mut first = pieces(&whole(false, 4000, 1), 1500, 1)[0].clone();
        first[12..16].copy_from_slice(&from);
        first[16..20].copy_from_slice(&to);
        smoltcp::wire::Ipv4Packet::new_unchecked(&mut first[..]).fill_checksum();
        stack.receive(&first, &mut out, 0);
    }
    stack.poll(&mut out, LIFE4);
    assert!(out.0.is_empty());
}

#[test]
fn udp_carries_the_largest_datagram_at_every_mtu_and_loses_it_whole() {
    for mtu in [68, 576, 1280, 1500, 65_534, 65_535] {
        let mut pair = Pair::new(mtu, 1);
        let client = pair.a.open_udp(any(0), &UdpOptions::default()).expect("a free port");
        let server = pair.b.open_udp(any(9), &UdpOptions::default()).expect("a free port");
        let payload = vec![7; 65_507];
        pair.a.send_to(&client, &payload, end(B, 9)).expect("room");
        pair.run(SECOND, |pair| pair.b.udp_ready(&server).0);
        pair.b.take_from(&server, |came, _| assert_eq!(came, payload)).expect("a datagram");
        assert!(pair.a.send_to(&client, &vec![7; 65_508], end(B, 9)).is_err());
        if mtu < 65_535 {
            let sent = pair.net.carried;
            pair.net.loss = 0.5;
            pair.a.send_to(&client, &payload, end(B, 9)).expect("room");
            pair.pass(SECOND);
            assert!(pair.net.carried > sent + 1 && pair.net.lost > 0 || mtu == 65_534);
            assert!(mtu == 65_534 || !pair.b.udp_ready(&server).0);
        }
    }
}
