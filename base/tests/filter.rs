//! Filters in the routing segment: what senders make of them while they are replaced, and when they are damaged.
#![cfg(not(loom))]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use vnet_base::filter::table::{Protocols, Set, Table};
use vnet_base::filter::words::{self, Draft};
use vnet_base::filter::{Filter, Filters, Judgement};
use vnet_base::forward::Side;
use vnet_base::routing::Section;
use vnet_base::tables::{Geometry, NetworkId, Prefixes, SlotId};
use vnet_base::{Lan, NicRequest, Receiver, Sender, Verdict};

const RING: u64 = 256 * 1024;

struct End {
    slot: SlotId,
    generation: u32,
    sender: Sender,
    receiver: Receiver,
}

fn end(lan: &Lan, network: NetworkId, last: u8) -> End {
    let request = NicRequest {
        name: format!("n{last}"),
        network,
        addresses: vec![IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))],
        mac: 0,
        mtu: 65_535,
        ring_bytes: RING,
        worker: None,
        up: true,
        offloads: 0,
        bridges: false,
        port: 0,
    };
    let (slot, generation) = lan.add_nic(request).expect("room for a NIC");
    let segment = lan.segment();
    let sender = Sender::new(Arc::clone(segment), slot, lan.new_token(), Side::Guest, || 0);
    let receiver = Receiver::new(Arc::clone(segment), slot, lan.new_token()).expect("a ring");
    End { slot, generation, sender, receiver }
}

fn lan() -> (Lan, NetworkId) {
    let lan = Lan::create("test", &Geometry::new(8, RING), 1).expect("memory");
    let prefixes = Prefixes { v4: Some((Ipv4Addr::new(10, 0, 0, 0), 24)), v6: None };
    let network = lan.add_network(&prefixes, 65_535).expect("room for a network");
    (lan, network)
}

/// A UDP datagram from 10.0.0.1 to a port of 10.0.0.2.
fn udp(port: u16) -> Vec<u8> {
    let mut bytes = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 7];
    bytes.extend_from_slice(&port.to_be_bytes());
    bytes.extend_from_slice(&[0, 8, 0, 0]);
    bytes
}

fn denies(ports: &[u32]) -> (Judgement, Draft<'static>) {
    let ports = Set::of(ports.iter().map(|port| (*port, *port)));
    let table = Table { protocols: Some(Protocols::of(&[17])), ports: Some(ports), ..Table::default() };
    (Judgement::Deny, Draft::Table(table))
}

fn publish(lan: &Lan, serial: u32, filters: &[Vec<u32>]) {
    let filters: Vec<_> = filters.iter().map(|words| Some(&words[..])).collect();
    lan.publish(Section::Filters, &words::section(serial, &filters)).expect("room for filters");
}

#[test]
fn each_place_holds_back_what_its_filter_says_and_counts_it() {
    let (lan, network) = lan();
    let (mut a, mut b) = (end(&lan, network, 1), end(&lan, network, 2));
    let filters: Vec<_> = [9, 10, 11].map(|port| words::write(&[denies(&[port])], Judgement::Allow)).into();
    publish(&lan, 1, &filters);
    assert!(lan.set_filters(a.slot, a.generation, 0, 1));
    assert!(lan.set_filters(b.slot, b.generation, 2, 0));
    lan.set_network_filter(network, 3);
    for (port, expected) in
        [(9, Verdict::Filtered), (10, Verdict::Filtered), (11, Verdict::Filtered), (12, Verdict::Delivered)]
    {
        assert_eq!(a.sender.forward(&udp(port), false), expected, "{port}");
    }
    let counters = lan.segment().control(a.slot).counters();
    assert_eq!(counters.verdicts[Verdict::Filtered as usize], 3);
    // What is held back leaves no trace at the receiver.
    let counters = lan.segment().control(b.slot).counters();
    assert_eq!((counters.rx_datagrams, counters.rx_dropped), (1, 0));
    let record = b.receiver.peek().expect("an undamaged ring").expect("the one that passed");
    b.receiver.done(&record);
    // A place without a filter lets everything pass again, also for senders that have read it.
    assert!(lan.set_filters(a.slot, a.generation, 0, 0));
    assert!(lan.set_filters(b.slot, b.generation, 0, 0));
    lan.set_network_filter(network, 0);
    for port in 9..12 {
        assert_eq!(a.sender.forward(&udp(port), false), Verdict::Delivered, "{port}");
    }
    // The next holder of a slot begins without.
    assert!(lan.set_filters(b.slot, b.generation, 2, 0));
    assert!(lan.remove(b.slot, b.generation));
    drop((b.sender, b.receiver));
    for last in 3..9 {
        let next = end(&lan, network, last);
        assert_eq!(lan.segment().tables().nic(next.slot).filters(), (0, 0));
    }
}

#[test]
fn a_guest_that_comes_back_to_its_place_finds_the_filter_still_there() {
    let (lan, network) = lan();
    let (mut a, b) = (end(&lan, network, 1), end(&lan, network, 2));
    publish(&lan, 1, &[words::write(&[denies(&[9])], Judgement::Allow)]);
    assert!(lan.set_filters(b.slot, b.generation, 1, 0));
    assert!(lan.take_down(b.slot, b.generation));
    lan.hold(b.slot, None).expect("the place is there");
    assert_eq!(a.sender.forward(&udp(9), false), Verdict::Filtered);
    assert_eq!(a.sender.forward(&udp(10), false), Verdict::Delivered);
}

#[test]
fn a_copy_for_everyone_is_held_back_where_a_filter_says_so() {
    let (lan, network) = lan();
    let (mut a, b, c) = (end(&lan, network, 1), end(&lan, network, 2), end(&lan, network, 3));
    publish(&lan, 1, &[words::write(&[denies(&[9])], Judgement::Allow)]);
    let mut everyone = udp(9);
    everyone[16..20].copy_from_slice(&[255; 4]);
    assert!(lan.set_filters(b.slot, b.generation, 1, 0));
    assert_eq!(a.sender.forward(&everyone, false), Verdict::Delivered);
    let received = |end: &End| lan.segment().control(end.slot).counters().rx_datagrams;
    assert_eq!((received(&b), received(&c)), (0, 1));
    assert!(lan.set_filters(c.slot, c.generation, 1, 0));
    assert_eq!(a.sender.forward(&everyone, false), Verdict::Filtered, "nobody was left to take it");
}

#[test]
fn whoever_is_rejected_is_told_in_the_name_of_whom_it_was_for() {
    let (lan, network) = lan();
    let (mut a, b) = (end(&lan, network, 1), end(&lan, network, 2));
    publish(&lan, 1, &[words::write(&[(Judgement::Reject, Draft::Everything)], Judgement::Allow)]);
    assert!(lan.set_filters(b.slot, b.generation, 1, 0));
    assert_eq!(a.sender.forward(&udp(9), false), Verdict::Filtered);
    let record = a.receiver.peek().expect("an undamaged ring").expect("an answer");
    let answer = a.receiver.bytes(&record);
    assert_eq!(answer[9], 1, "ICMP");
    assert_eq!((&answer[12..16], &answer[16..20]), (&[10, 0, 0, 2][..], &[10, 0, 0, 1][..]));
    assert_eq!(&answer[20..22], [3, 13], "communication administratively prohibited");
    assert_eq!(&answer[28..], udp(9), "about this datagram");
}

#[test]
fn readers_never_judge_by_half_a_filter_while_it_is_replaced() {
    let (lan, network) = lan();
    let a = end(&lan, network, 1);
    // The larger editions differ in how many rules there are, where their bodies lie, and what is in them: what is made of
    // pieces of two is none of any, and would let nothing pass. A small one in between takes its half of the section so
    // quickly that the other is written anew while it is read.
    let large = |rules: u32| {
        let rules: Vec<_> = (0..rules).map(|rule| denies(&[100 + rules % 50, 20_000 + rule])).collect();
        words::write(&rules, Judgement::Allow)
    };
    let small = words::write(&[denies(&[10])], Judgement::Allow);
    let editions = [large(4_000), small.clone(), large(4_007), small.clone(), large(4_013), small];
    let sections: Vec<_> = (0..).zip(&editions).map(|(serial, words)| words::section(serial, &[Some(words)])).collect();
    let publish = |section| lan.publish(Section::Filters, section).expect("room for filters");
    publish(&sections[1]);
    let over = AtomicBool::new(false);
    let segment = Arc::clone(lan.segment());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..1_000 {
                sections.iter().for_each(|section| publish(section));
            }
            over.store(true, Ordering::Release);
        });
        let mut asked = 0;
        while !over.load(Ordering::Acquire) {
            // A reader each, as one would keep what it has read.
            let mut filters = Filters::default();
            let version = segment.tables().routing();
            assert_eq!(filters.passes(&segment, version, 0, &udp(9)), Judgement::Allow, "after {asked}");
            asked += 1;
        }
        assert!(asked > 100, "the two ran side by side");
    });
    drop(a.receiver);
}

/// Every kind of rule, in words.
fn sample() -> Vec<u32> {
    let program: Vec<u8> = [(0x30u16, 0u8, 0u8, 9u32), (0x15, 0, 1, 17), (0x06, 0, 0, 1), (0x06, 0, 0, 0)]
        .iter()
        .flat_map(|(code, yes, no, k)| [&code.to_ne_bytes()[..], &[*yes, *no], &k.to_ne_bytes()].concat())
        .collect();
    let table = Table {
        from: Some(vnet_base::filter::table::Addresses {
            v4: Set::of([(1, 9), (0x0a00_0000, 0x0aff_ffff)]),
            v6: Set::of([(5, 77)]),
        }),
        ..Table::default()
    };
    words::write(
        &[
            (Judgement::Reject, Draft::Program(&program)),
            (Judgement::Deny, Draft::Table(table)),
            denies(&[9, 11]),
            (Judgement::Allow, Draft::Everything),
        ],
        Judgement::Deny,
    )
}

#[test]
fn a_filter_is_read_as_it_was_written() {
    let filter = Filter::read(&sample()).expect("sound words");
    let judged = |datagram: &[u8]| filter.judge(datagram).rule;
    assert_eq!(judged(&udp(9)), Some(0));
    let mut other = udp(9);
    other[9] = 6;
    assert_eq!(judged(&other), Some(1));
    other[12] = 11;
    assert_eq!(judged(&other), Some(3));
}

fn few() -> ProptestConfig {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    ProptestConfig { cases: if asked { ProptestConfig::default().cases } else { 400 }, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(few())]

    #[test]
    fn damaged_words_are_no_filter_or_one_that_judges(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u32>()), 1..4),
        cut in any::<prop::sample::Index>(),
        datagram in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let mut words = sample();
        for (at, word) in damage {
            let place = at.index(words.len());
            // Near to what was there, most damage is of no consequence; and far from it, it is.
            words[place] = if word % 2 == 0 { words[place] ^ 1 << (word % 32) } else { word };
        }
        words.truncate(cut.index(words.len()) + 1);
        if let Some(filter) = Filter::read(&words) {
            let _ = filter.judge(&datagram);
        }
    }

    #[test]
    fn a_damaged_section_lets_pass_or_holds_back_and_nothing_else(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u32>()), 0..3),
        number in 0..4u16,
    ) {
        let (lan, _) = lan();
        let whole = sample();
        let mut section = words::section(1, &[Some(&whole), None, Some(&whole)]);
        let sound = damage.is_empty();
        for (at, word) in damage {
            let place = at.index(section.len());
            section[place] = word;
        }
        lan.publish(Section::Filters, &section).expect("room for filters");
        let finding = Filters::explain(lan.segment(), number, &udp(9));
        if sound {
            let there = number == 0 || number == 2;
            prop_assert_eq!(finding.rule, there.then_some(0), "a filter that is not there has no rule");
            prop_assert_ne!(finding.judgement, Judgement::Allow, "and lets nothing pass");
        }
    }
}
