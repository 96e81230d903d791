//! The input buffer against a plain queue, and against a process that scribbles over it.
#![cfg(not(loom))]

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use proptest::prelude::*;
use vnet_base::forward::Side;
use vnet_base::lock::Token;
use vnet_base::tables::{Geometry, NetworkId, Prefixes, SlotId};
use vnet_base::{Lan, NicRequest, Receiver, Segment, Sender, Verdict};

const RING: u64 = 256 * 1024;

fn nic(lan: &Lan, network: NetworkId, last: u8) -> (SlotId, u32) {
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
    lan.add_nic(request).expect("room for a NIC")
}

fn lan() -> (Arc<Lan>, NetworkId) {
    let lan = Lan::create("test", &Geometry::new(8, RING), 1).expect("memory");
    let prefixes = Prefixes { v4: Some((Ipv4Addr::new(10, 0, 0, 0), 24)), v6: None };
    let network = lan.add_network(&prefixes, 65_535).expect("room for a network");
    (Arc::new(lan), network)
}

fn sender(lan: &Lan, slot: SlotId) -> Sender {
    Sender::new(Arc::clone(lan.segment()), slot, lan.new_token(), Side::Guest, || 0)
}

fn receiver(lan: &Lan, slot: SlotId) -> Receiver {
    Receiver::new(Arc::clone(lan.segment()), slot, lan.new_token()).expect("the NIC has a ring")
}

fn datagram(last: u8, length: usize, mark: u32) -> Vec<u8> {
    let mut bytes = vec![mark as u8; length.max(24)];
    bytes[0] = 0x45;
    bytes[16..20].copy_from_slice(&[10, 0, 0, last]);
    bytes[20..24].copy_from_slice(&mark.to_ne_bytes());
    bytes
}

#[derive(Clone, Debug)]
enum Step {
    Send { length: usize, more: bool },
    Take(usize),
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    let length = prop_oneof![24usize..200, 1000usize..3000, 60_000usize..=65_535];
    prop_oneof![
        4 => (length, any::<bool>()).prop_map(|(length, more)| Step::Send { length, more }),
        3 => (0usize..12).prop_map(Step::Take),
        1 => Just(Step::Settle),
    ]
}

/// Fewer cases than usual, because each makes a LAN; as many as `PROPTEST_CASES` says, if it does.
fn few() -> ProptestConfig {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    ProptestConfig { cases: if asked { ProptestConfig::default().cases } else { 64 }, ..ProptestConfig::default() }
}

/// A position that a process gone wild could write: anything, and close to where counting wraps.
fn position() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), (0u64..300_000).prop_map(|back| u64::MAX - back)]
}

proptest! {
    #![proptest_config(few())]

    #[test]
    fn gives_back_what_a_plain_queue_gives_back(steps in prop::collection::vec(step(), 0..300)) {
        let (lan, network) = lan();
        let ((from, _), (to, _)) = (nic(&lan, network, 1), nic(&lan, network, 2));
        let (mut sender, mut receiver) = (sender(&lan, from), receiver(&lan, to));
        let mut queue = VecDeque::new();
        let (mut mark, mut refused) = (0u32, 0u64);
        for step in steps {
            match step {
                Step::Send { length, more } => {
                    mark += 1;
                    let bytes = datagram(2, length, mark);
                    match sender.forward(&bytes, more) {
                        Verdict::Delivered => queue.push_back(bytes),
                        Verdict::BufferFull => {
                            refused += 1;
                            // Refused only when the ring really has no room: less than two of the largest are free.
                            let waiting: usize = queue.iter().map(|bytes: &Vec<u8>| bytes.len() + 16).sum();
                            prop_assert!(waiting as u64 + 2 * 65_600 + RING / 16 > RING, "refused at {waiting} bytes");
                        }
                        other => prop_assert!(false, "{other:?}"),
                    }
                }
                Step::Take(count) => {
                    sender.ring();
                    for _ in 0..count {
                        let record = receiver.peek().expect("an undamaged ring");
                        let found = record.map(|record| {
                            let bytes = receiver.bytes(&record).to_vec();
                            receiver.done(&record);
                            bytes
                        });
                        prop_assert_eq!(found, queue.pop_front());
                    }
                }
                Step::Settle => {
                    sender.ring();
                    // Publishes, and goes back to the beginning of the ring if it is empty.
                    let idle = receiver.prepare_sleep().expect("an undamaged ring");
                    prop_assert_eq!(idle, queue.is_empty());
                }
            }
        }
        let counters = lan.segment().control(to).counters();
        prop_assert_eq!(counters.rx_dropped, refused);
    }

    #[test]
    fn a_scribbled_ring_is_damaged_or_nonsense_but_never_more(words in prop::collection::vec((0u64..RING / 8, any::<u64>()), 1..200), tail in position(), head in position()) {
        let (lan, network) = lan();
        let ((from, _), (to, generation)) = (nic(&lan, network, 1), nic(&lan, network, 2));
        let (mut sender, mut receiver) = (sender(&lan, from), receiver(&lan, to));
        scribble(lan.segment(), to, &words, tail, head);
        // Whatever lies there: no panic, no access outside, and an end.
        for mark in 0..50 {
            sender.forward(&datagram(2, 1500, mark), mark % 3 == 0);
        }
        sender.ring();
        for _ in 0..1000 {
            match receiver.peek() {
                Ok(Some(record)) => {
                    prop_assert!(receiver.bytes(&record).len() <= 65_535 + 64);
                    receiver.done(&record);
                }
                Ok(None) | Err(_) => break,
            }
        }
        let _ = receiver.prepare_sleep();
        lan.bury(Token(99));
        prop_assert!(lan.remove(to, generation));
        // The next NIC in the slot starts afresh.
        let (again, _) = nic(&lan, network, 3);
        prop_assert_eq!(sender.forward(&datagram(3, 100, 1), false), Verdict::Delivered);
        let _ = again;
    }

    #[test]
    fn any_bytes_get_a_verdict(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (lan, network) = lan();
        let ((from, _), (_, _)) = (nic(&lan, network, 1), nic(&lan, network, 2));
        let mut sender = sender(&lan, from);
        let verdict = sender.forward(&bytes, false);
        let expected = match bytes.first().map(|byte| byte >> 4) {
            Some(4) if bytes.len() >= 20 => None,
            // No IPv6 on this network.
            Some(6) if bytes.len() >= 40 => Some(Verdict::NoRoute),
            _ => Some(Verdict::Malformed),
        };
        if let Some(expected) = expected {
            prop_assert_eq!(verdict, expected);
        }
        prop_assert_eq!(lan.segment().control(from).counters().verdicts[verdict as usize], 1);
    }
}

/// Writes words into the ring of a slot, and its positions, as a process gone wild could.
fn scribble(segment: &Segment, slot: SlotId, words: &[(u64, u64)], tail: u64, head: u64) {
    use std::os::unix::fs::FileExt;
    let buffers = segment.files().buffers;
    let file = std::fs::File::from(buffers.try_clone_to_owned().expect("a descriptor"));
    let (at, _) = segment.tables().nic(slot).ring();
    for (index, word) in words {
        file.write_all_at(&word.to_ne_bytes(), at + index * 8).expect("the memory file is writable");
    }
    // The beginning is where the receiver looks.
    file.write_all_at(&words[0].1.to_ne_bytes(), at).expect("the memory file is writable");
    let control = segment.control(slot);
    control.senders.tail.store(tail, std::sync::atomic::Ordering::Relaxed);
    control.senders.head_seen.store(head, std::sync::atomic::Ordering::Relaxed);
    control.receiver.head.store(head, std::sync::atomic::Ordering::Relaxed);
}
