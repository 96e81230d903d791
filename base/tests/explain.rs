//! What `explain()` says against what `forward()` does, for any datagram and any state of a LAN.
#![cfg(not(loom))]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use proptest::prelude::*;
use vnet_base::control::Counters;
use vnet_base::explain::{Explanation, Flaw, Ring, Rule};
use vnet_base::filter::Judgement;
use vnet_base::filter::table::{Addresses, Set, Table};
use vnet_base::filter::words::{self, Draft};
use vnet_base::forward::Side;
use vnet_base::routing::Section;
use vnet_base::tables::{Geometry, NetworkId, Prefixes, SlotId};
use vnet_base::{Lan, NicRequest, Receiver, Sender, Verdict};

const RING: u64 = 256 * 1024;

/// A NIC that is held: its number on its network, and both its ends.
struct Held {
    slot: SlotId,
    generation: u32,
    served: bool,
    sender: Sender,
    receiver: Receiver,
}

struct World {
    lan: Arc<Lan>,
    networks: [NetworkId; 2],
    nics: BTreeMap<u8, Held>,
    /// NICs that nobody holds, with their slots.
    down: BTreeMap<u8, SlotId>,
}

const MTUS: [u32; 2] = [65_535, 600];

fn network_of(nic: u8) -> usize {
    usize::from(nic >= 8)
}

fn addresses(nic: u8) -> Vec<IpAddr> {
    let v4 = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1 + nic));
    if network_of(nic) == 0 {
        vec![v4, IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1 + u16::from(nic)))]
    } else {
        vec![v4]
    }
}

/// Filters that hold back some of what the datagrams below are, or, as it cannot be read, everything.
fn filters() -> Vec<u32> {
    let addresses = Addresses { v4: Set::of([]), v6: Set::of([(0, u128::MAX)]) };
    let six = Table { from: Some(addresses), ..Table::default() };
    // Loads the length, and returns 1 where it is over 500: BPF_LD | BPF_LEN, BPF_JMP | BPF_JGT, BPF_RET.
    let long = [(0x80u16, 0u8, 0u8, 0u32), (0x25, 0, 1, 500), (0x06, 0, 0, 1), (0x06, 0, 0, 0)];
    let long: Vec<u8> = long
        .iter()
        .flat_map(|(code, yes, no, k)| [&code.to_ne_bytes()[..], &[*yes, *no], &k.to_ne_bytes()].concat())
        .collect();
    let made = [
        words::write(&[(Judgement::Deny, Draft::Table(six))], Judgement::Allow),
        words::write(&[(Judgement::Deny, Draft::Program(&long))], Judgement::Allow),
        words::write(&[(Judgement::Allow, Draft::Program(&long))], Judgement::Deny),
        vec![u32::MAX; 7],
    ];
    words::section(1, &made.each_ref().map(|words| Some(&words[..])))
}

impl World {
    fn new() -> Self {
        let lan = Lan::create("test", &Geometry::new(14, RING), 1).expect("memory");
        let v4 = |last, bits| Some((Ipv4Addr::new(10, 0, 0, last), bits));
        let both = Prefixes { v4: v4(0, 29), v6: Some((Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0), 124)) };
        let four = Prefixes { v4: v4(8, 29), v6: None };
        let networks = [(both, MTUS[0]), (four, MTUS[1])].map(|(of, mtu)| lan.add_network(&of, mtu).expect("room"));
        lan.publish(Section::Filters, &filters()).expect("room for filters");
        Self { lan: Arc::new(lan), networks, nics: BTreeMap::new(), down: BTreeMap::new() }
    }

    fn hold(&mut self, nic: u8, slot: SlotId, generation: u32, served: bool) {
        let segment = self.lan.segment();
        let sender = Sender::new(Arc::clone(segment), slot, self.lan.new_token(), Side::Guest, || 0);
        let receiver = Receiver::new(Arc::clone(segment), slot, self.lan.new_token()).expect("a ring");
        self.nics.insert(nic, Held { slot, generation, served, sender, receiver });
    }

    fn join(&mut self, nic: u8, served: bool, up: bool) {
        if self.nics.contains_key(&nic) {
            return;
        }
        let worker = served.then_some(2);
        if let Some(slot) = self.down.remove(&nic) {
            let generation = self.lan.hold(slot, worker).expect("nobody has the lock");
            return self.hold(nic, slot, generation, served);
        }
        let network = self.networks[network_of(nic)];
        let mtu = MTUS[network_of(nic)];
        let addresses = addresses(nic);
        let request = NicRequest {
            name: format!("n{nic}"),
            network,
            addresses,
            mac: 0,
            mtu,
            ring_bytes: RING,
            worker,
            up,
            offloads: 0,
            bridges: false,
            port: 0,
        };
        let (slot, generation) = self.lan.add_nic(request).expect("room for a NIC");
        if up {
            self.hold(nic, slot, generation, served);
        } else {
            self.down.insert(nic, slot);
        }
    }

    fn part(&mut self, nic: u8, for_good: bool) {
        let Some(held) = self.nics.remove(&nic) else { return };
        if for_good {
            assert!(self.lan.remove(held.slot, held.generation));
        } else {
            assert!(self.lan.take_down(held.slot, held.generation));
            self.down.insert(nic, held.slot);
        }
    }

    /// Everything that a datagram could change, of every slot.
    fn stand(&self) -> Vec<(Counters, u64, u64, u32, u64)> {
        let segment = self.lan.segment();
        let slots = (0..16).map(|slot| segment.control(SlotId(slot)));
        slots
            .map(|control| {
                let idle = control.bell.idle.load(Ordering::Relaxed);
                let (tail, head) = (&control.senders.tail, &control.receiver.head);
                let seen = control.senders.head_seen.load(Ordering::Relaxed);
                (control.counters(), tail.load(Ordering::Relaxed), head.load(Ordering::Relaxed), idle, seen)
            })
            .collect()
    }

    /// Explains and sends; the two must agree on everything that can be seen.
    fn settle(&mut self, from: u8, datagram: &[u8]) -> Result<(), TestCaseError> {
        let Some(held) = self.nics.get(&from) else { return Ok(()) };
        let own = usize::from(held.slot.0);
        let before = self.stand();
        let told = held.sender.explain(datagram);
        prop_assert_eq!(&before, &self.stand(), "to explain changed something");
        coherent(&told)?;
        let held = self.nics.get_mut(&from).expect("it was there");
        let verdict = held.sender.forward(datagram, false);
        prop_assert_eq!(told.verdict, verdict, "{:?}", &told);
        let mut expected: Vec<Counters> = before.iter().map(|stand| stand.0).collect();
        expected[own].verdicts[verdict as usize] += 1;
        if verdict == Verdict::Delivered {
            expected[own].tx_bytes += datagram.len() as u64;
        }
        for write in &told.writes {
            let receiver = usize::from(write.slot.0);
            match write.verdict {
                Verdict::Delivered => {
                    expected[receiver].rx_datagrams += 1;
                    expected[receiver].rx_bytes += datagram.len() as u64;
                    let rung = write.ring != Some(Ring::Nobody);
                    let own = &mut expected[own];
                    *(if rung { &mut own.rung } else { &mut own.saved }) += 1;
                }
                Verdict::BufferFull => expected[receiver].rx_dropped += 1,
                _ => {}
            }
        }
        let found: Vec<Counters> = self.stand().iter().map(|stand| stand.0).collect();
        prop_assert_eq!(found, expected, "{:?}", &told);
        Ok(())
    }
}

/// The steps of one explanation do not contradict one another.
fn coherent(told: &Explanation) -> Result<(), TestCaseError> {
    match &told.read {
        Err(Flaw::TooLong { .. }) => prop_assert_eq!(told.verdict, Verdict::TooBig),
        Err(_) => prop_assert_eq!(told.verdict, Verdict::Malformed),
        Ok(_) => {}
    }
    prop_assert_eq!(told.look_up.is_some(), told.read.is_ok());
    let Some(look_up) = &told.look_up else { return Ok(()) };
    prop_assert!(look_up.bucket < look_up.buckets);
    let refused = look_up.refused.is_some();
    prop_assert_eq!(refused, told.rules.is_empty());
    prop_assert!(!refused || look_up.refused == Some(told.verdict));
    prop_assert!(!(look_up.everyone && refused));
    let kept = told.rules.iter().all(Rule::kept);
    let alone = !look_up.everyone;
    prop_assert!(told.verdict != Verdict::TooBig || !kept);
    prop_assert!(told.verdict != Verdict::Filtered || !kept && told.writes.is_empty());
    // Where everybody gets a copy, a filter may hold back some of them.
    prop_assert!(!alone || kept == (refused || !matches!(told.verdict, Verdict::TooBig | Verdict::Filtered)));
    prop_assert!(told.writes.is_empty() || (kept || !alone) && !refused);
    prop_assert!(!alone || refused || !kept || told.writes.len() == 1);
    prop_assert!(told.writes.iter().all(|write| write.ring.is_some() == (write.verdict == Verdict::Delivered)));
    Ok(())
}

/// A datagram of `length` bytes to the IPv4 address of a NIC.
fn to_nic(to: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    bytes[0] = 0x45;
    bytes[16..20].copy_from_slice(&[10, 0, 0, 1 + to]);
    bytes
}

#[derive(Clone, Debug)]
enum Step {
    Filter { nic: u8, inward: u16, outward: u16 },
    NetworkFilter { network: usize, number: u32 },
    Join { nic: u8, served: bool, up: bool },
    Part { nic: u8, for_good: bool },
    Take { nic: u8, most: usize },
    Settle { nic: u8 },
    Fill { from: u8, to: u8, length: usize, count: usize },
    Brim { from: u8, to: u8 },
    Send { from: u8, datagram: Vec<u8> },
}

fn v4() -> impl Strategy<Value = [u8; 4]> {
    let near = (0u8..24).prop_map(|last| [10, 0, 0, last]);
    prop_oneof![8 => near, 1 => Just([255; 4]), 1 => Just([224, 0, 0, 5]), 1 => any::<[u8; 4]>()]
}

fn v6() -> impl Strategy<Value = [u8; 16]> {
    let one = |text: &str| text.parse::<Ipv6Addr>().expect("an address").octets();
    let near = (0u16..20).prop_map(|last| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last).octets());
    prop_oneof![8 => near, 1 => Just(one("ff02::1")), 1 => Just(one("fe80::1")), 1 => any::<[u8; 16]>()]
}

fn datagram() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![6 => 20usize..700, 2 => 500usize..3000, 1 => 60_000usize..65_540, 1 => 0usize..45];
    let first = prop_oneof![6 => Just(0x45u8), 5 => Just(0x60), 1 => any::<u8>()];
    (length, first, v4(), v6()).prop_map(|(length, first, v4, v6)| {
        let mut bytes = vec![0; length.max(40)];
        bytes[0] = first;
        if first >> 4 == 4 {
            bytes[16..20].copy_from_slice(&v4)
        } else {
            bytes[24..40].copy_from_slice(&v6)
        }
        bytes.truncate(length);
        bytes
    })
}

fn step() -> impl Strategy<Value = Step> {
    let nic = 0u8..14;
    // None most of the time; 5 is one that nobody has written.
    let filter = || prop_oneof![3 => Just(0u16), 2 => 1u16..6];
    prop_oneof![
        1 => (nic.clone(), filter(), filter()).prop_map(|(nic, inward, outward)| Step::Filter { nic, inward, outward }),
        1 => (0..2usize, filter()).prop_map(|(network, number)| Step::NetworkFilter { network, number: number.into() }),
        4 => (nic.clone(), any::<bool>(), prop::bool::weighted(0.8))
            .prop_map(|(nic, served, up)| Step::Join { nic, served, up }),
        1 => (nic.clone(), any::<bool>()).prop_map(|(nic, for_good)| Step::Part { nic, for_good }),
        2 => (nic.clone(), 0usize..40).prop_map(|(nic, most)| Step::Take { nic, most }),
        2 => nic.clone().prop_map(|nic| Step::Settle { nic }),
        2 => (nic.clone(), nic.clone(), 20usize..65_535, 1usize..12)
            .prop_map(|(from, to, length, count)| Step::Fill { from, to, length, count }),
        1 => (nic.clone(), nic.clone()).prop_map(|(from, to)| Step::Brim { from, to }),
        8 => (nic, datagram()).prop_map(|(from, datagram)| Step::Send { from, datagram }),
    ]
}

/// Fewer cases than usual, because each makes a LAN; as many as `PROPTEST_CASES` says, if it does.
fn few() -> ProptestConfig {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    ProptestConfig { cases: if asked { ProptestConfig::default().cases } else { 96 }, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(few())]

    #[test]
    fn explains_what_forward_then_does_and_changes_nothing(steps in prop::collection::vec(step(), 0..120)) {
        let mut world = World::new();
        for nic in [0, 1, 2, 8, 9] {
            world.join(nic, nic % 2 == 0, true);
        }
        for step in steps {
            match step {
                Step::Join { nic, served, up } => world.join(nic, served, up),
                Step::Filter { nic, inward, outward } => {
                    let Some(held) = world.nics.get(&nic) else { continue };
                    prop_assert!(world.lan.set_filters(held.slot, held.generation, inward, outward));
                }
                Step::NetworkFilter { network, number } => {
                    world.lan.set_network_filter(world.networks[network], number);
                }
                Step::Part { nic, for_good } => world.part(nic, for_good),
                Step::Take { nic, most } => {
                    let Some(held) = world.nics.get_mut(&nic) else { continue };
                    for _ in 0..most {
                        let Some(record) = held.receiver.peek().expect("an undamaged ring") else { break };
                        held.receiver.done(&record);
                    }
                }
                Step::Settle { nic } => {
                    let Some(held) = world.nics.get_mut(&nic) else { continue };
                    let settled = if held.served { held.receiver.leave_to_worker() } else { held.receiver.prepare_sleep() };
                    settled.expect("an undamaged ring");
                }
                Step::Fill { from, to, length, count } => {
                    for _ in 0..count {
                        world.settle(from, &to_nic(to, length))?;
                    }
                }
                Step::Brim { from, to } => {
                    let Some(held) = world.nics.get(&from) else { continue };
                    let says = |length: &usize| held.sender.explain(&to_nic(to, *length)).verdict;
                    let lengths: Vec<usize> = (20..=1 << 16).collect();
                    let fitting = lengths.partition_point(|length| says(length) == Verdict::Delivered) + 20;
                    // One byte too many for whatever limits it first, MTU or buffer; then what just fits.
                    world.settle(from, &to_nic(to, fitting))?;
                    world.settle(from, &to_nic(to, (fitting - 1).max(20)))?;
                }
                Step::Send { from, datagram } => world.settle(from, &datagram)?,
            }
        }
    }
}

#[test]
fn the_checksum_of_an_ipv4_header_is_looked_at_but_does_not_decide() {
    let mut world = World::new();
    world.join(0, false, true);
    world.join(1, false, true);
    // As scapy makes it, checksum included.
    let mut bytes = [0x45, 0, 0, 20, 0, 1, 0, 0, 64, 0, 0x66, 0xe7, 10, 0, 0, 1, 10, 0, 0, 2];
    let sender = &world.nics[&0].sender;
    let right = sender.explain(&bytes);
    assert_eq!(right.read.map(|header| header.checksum), Ok(Some(true)));
    bytes[11] ^= 1;
    let wrong = sender.explain(&bytes);
    assert_eq!(wrong.read.map(|header| header.checksum), Ok(Some(false)));
    assert_eq!((right.verdict, wrong.verdict), (Verdict::Delivered, Verdict::Delivered));
    // A header that says that it is longer than the datagram, or shorter than a header, has no checksum to look at.
    for first in [0x46, 0x44] {
        bytes[0] = first;
        assert_eq!(sender.explain(&bytes).read.map(|header| header.checksum), Ok(None));
    }
}
