//! Drivers on a base worker: across the crates, from a sender's forward() to the driver and back.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vnet_base::tables::{Geometry, NetworkId, NicState, Prefixes, SlotId};
use vnet_base::{Lan, NicRequest, Verdict};
use vnet_drivers::driver::{Driver, Next};
use vnet_drivers::loopback::Loopback;
use vnet_drivers::worker::Worker;
use vnet_drivers::{Port, clock};

fn lan(nics: u32) -> (Arc<Lan>, NetworkId) {
    let lan = Lan::create("test", &Geometry::new(nics, 1 << 20), 1).expect("memory");
    let prefixes = Prefixes { v4: Some((Ipv4Addr::new(10, 0, 0, 0), 16)), v6: None };
    let network = lan.add_network(&prefixes, 65_535).expect("room for a network");
    (Arc::new(lan), network)
}

fn address(number: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 + u32::from(number))
}

fn nic(lan: &Lan, network: NetworkId, number: u16, served: bool) -> (SlotId, u32) {
    let request = NicRequest {
        name: format!("n{number}"),
        network,
        addresses: vec![IpAddr::V4(address(number))],
        mac: 0,
        mtu: 65_535,
        ring_bytes: 1 << 18,
        worker: served.then_some(0),
        up: true,
        offloads: 0,
        bridges: false,
        port: 0,
    };
    lan.add_nic(request).expect("room for a NIC")
}

fn datagram(from: u16, to: u16, mark: u32) -> Vec<u8> {
    let mut bytes = vec![0; 28];
    bytes[0] = 0x45;
    bytes[12..16].copy_from_slice(&address(from).octets());
    bytes[16..20].copy_from_slice(&address(to).octets());
    bytes[20..24].copy_from_slice(&mark.to_ne_bytes());
    bytes
}

fn receive(port: &mut Port) -> Vec<u8> {
    let end = Instant::now() + Duration::from_secs(5);
    let mut datagram = Vec::new();
    while !port.receive(&mut datagram).expect("an undamaged ring") {
        assert!(Instant::now() < end, "nothing came back");
        let _ = port.receiver.wait(Some(Duration::from_millis(50))).expect("an undamaged ring");
    }
    datagram
}

#[test]
fn a_loopback_sends_back_what_it_gets_asleep_or_awake() {
    let (lan, network) = lan(8);
    let worker = Worker::new(Arc::clone(&lan), 0, clock::monotonic);
    let (guest, _) = nic(&lan, network, 1, false);
    let (echo, generation) = nic(&lan, network, 2, true);
    let port = Port::new(lan.segment(), echo, lan.new_token()).expect("a ring");
    worker.serve(echo, generation, port, Box::new(Loopback::default())).expect("a thread");
    let mut ours = Port::new(lan.segment(), guest, lan.new_token()).expect("a ring");
    for mark in 0..200 {
        if mark % 50 == 0 {
            // Long enough for the worker to have gone to sleep.
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(ours.send(&datagram(1, 2, mark), false), Verdict::Delivered);
        assert_eq!(receive(&mut ours), datagram(2, 1, mark));
    }
}

#[test]
fn one_worker_serves_a_thousand_and_visits_each_that_has_work() {
    let (lan, network) = lan(1100);
    let worker = Worker::new(Arc::clone(&lan), 0, clock::monotonic);
    let (guest, _) = nic(&lan, network, 1, false);
    for number in 2..1002 {
        let (slot, generation) = nic(&lan, network, number, true);
        let port = Port::new(lan.segment(), slot, lan.new_token()).expect("a ring");
        worker.serve(slot, generation, port, Box::new(Loopback::default())).expect("a thread");
    }
    let mut ours = Port::new(lan.segment(), guest, lan.new_token()).expect("a ring");
    let mut missing: std::collections::BTreeSet<u32> = (2..1002).collect();
    for number in 2..1002 {
        assert_eq!(ours.send(&datagram(1, number, u32::from(number)), number % 7 != 0), Verdict::Delivered);
    }
    ours.sender.ring();
    while !missing.is_empty() {
        let back = receive(&mut ours);
        let mark = u32::from_ne_bytes(back[20..24].try_into().expect("four bytes"));
        assert!(missing.remove(&mark), "{mark} came twice");
    }
}

struct Panics;

impl Driver for Panics {
    fn visit(&mut self, _: &mut Port, _: u64) -> Result<Next, vnet_base::buffer::Damaged> {
        panic!("a driver's own fault")
    }
}

#[test]
fn a_driver_that_panics_is_the_end_of_its_own_nic_only() {
    let (lan, network) = lan(8);
    let worker = Worker::new(Arc::clone(&lan), 0, clock::monotonic);
    let (guest, _) = nic(&lan, network, 1, false);
    let (bad, generation) = nic(&lan, network, 2, true);
    let port = Port::new(lan.segment(), bad, lan.new_token()).expect("a ring");
    worker.serve(bad, generation, port, Box::new(Panics)).expect("a thread");
    let end = Instant::now() + Duration::from_secs(5);
    while lan.segment().tables().nic(bad).state() == NicState::Up {
        assert!(Instant::now() < end, "the NIC stayed up");
        std::thread::sleep(Duration::from_millis(1));
    }
    let (echo, generation) = nic(&lan, network, 3, true);
    let port = Port::new(lan.segment(), echo, lan.new_token()).expect("a ring");
    worker.serve(echo, generation, port, Box::new(Loopback::default())).expect("a thread");
    let mut ours = Port::new(lan.segment(), guest, lan.new_token()).expect("a ring");
    assert_eq!(ours.send(&datagram(1, 2, 0), false), Verdict::NicDown);
    assert_eq!(ours.send(&datagram(1, 3, 7), false), Verdict::Delivered);
    assert_eq!(receive(&mut ours), datagram(3, 1, 7));
}

struct Sleeper(std::sync::mpsc::Sender<u64>, u64);

impl Driver for Sleeper {
    fn visit(&mut self, _: &mut Port, now: u64) -> Result<Next, vnet_base::buffer::Damaged> {
        let _ = self.0.send(now);
        self.1 += 1;
        Ok(Next::At((self.1 < 3).then_some(now + 20_000_000)))
    }
}

#[test]
fn a_driver_is_visited_at_the_time_that_it_asked_for() {
    let (lan, network) = lan(8);
    let worker = Worker::new(Arc::clone(&lan), 0, clock::monotonic);
    let (slot, generation) = nic(&lan, network, 1, true);
    let port = Port::new(lan.segment(), slot, lan.new_token()).expect("a ring");
    let (told, times) = std::sync::mpsc::channel();
    worker.serve(slot, generation, port, Box::new(Sleeper(told, 0))).expect("a thread");
    let times: Vec<u64> = (0..3).map(|_| times.recv_timeout(Duration::from_secs(5)).expect("a visit")).collect();
    for pair in times.windows(2) {
        // Never early; how late is the machine's affair.
        assert!(pair[1] - pair[0] >= 20_000_000, "visited after {} ns", pair[1] - pair[0]);
    }
}
