//! No wake-up is lost, on the machine as it is: what loom shows of the program, this shows of what compilers made of it.
//!
//! Two threads never poll and answer one another; a lost wake-up is a sleep that its timeout ends.
#![cfg(not(loom))]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vnet_base::forward::Side;
use vnet_base::receiver::Spin;
use vnet_base::tables::{Geometry, NetworkId, Prefixes, SlotId};
use vnet_base::{Lan, NicRequest, Receiver, Sender, Verdict};

/// A sleep that nobody ends takes this long; one that somebody ends, microseconds, or on a busy machine milliseconds.
const LOST: Duration = Duration::from_secs(3);
const TURNS: u32 = 150_000;

/// The tests take turns: on a busy processor the two sides seldom meet in the few nanoseconds that matter.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts the calling thread on the first or the second of this process's processors, if it has two.
fn pin(second: bool) {
    let Ok(all) = rustix::thread::sched_getaffinity(None) else { return };
    let mine: Vec<usize> = (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)).take(2).collect();
    if let [first, other] = mine[..] {
        let mut set = rustix::thread::CpuSet::new();
        set.set(if second { other } else { first });
        let _ = rustix::thread::sched_setaffinity(None, &set);
    }
}

fn lan() -> (Arc<Lan>, NetworkId) {
    let lan = Lan::create("test", &Geometry::new(8, 1 << 18), 1).expect("memory");
    let prefixes = Prefixes { v4: Some((Ipv4Addr::new(10, 0, 0, 0), 24)), v6: None };
    let network = lan.add_network(&prefixes, 65_535).expect("room for a network");
    (Arc::new(lan), network)
}

fn nic(lan: &Lan, network: NetworkId, last: u8, worker: Option<u32>) -> SlotId {
    let request = NicRequest {
        name: format!("n{last}"),
        network,
        addresses: vec![IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))],
        mac: 0,
        mtu: 65_535,
        ring_bytes: 1 << 18,
        worker,
        up: true,
        offloads: 0,
        bridges: false,
        port: 0,
    };
    lan.add_nic(request).expect("room for a NIC").0
}

fn ends(lan: &Lan, slot: SlotId) -> (Sender, Receiver) {
    let token = lan.new_token();
    let mut receiver = Receiver::new(Arc::clone(lan.segment()), slot, token).expect("the NIC has a ring");
    receiver.set_spin(Spin::Never);
    (Sender::new(Arc::clone(lan.segment()), slot, token, Side::Guest, || 0), receiver)
}

fn datagram(last: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    bytes[0] = 0x45;
    bytes[16..20].copy_from_slice(&[10, 0, 0, last]);
    bytes
}

fn take_asleep(receiver: &mut Receiver) {
    loop {
        if let Some(record) = receiver.peek().expect("an undamaged ring") {
            receiver.done(&record);
            return;
        }
        let start = Instant::now();
        let _ = receiver.wait(Some(LOST)).expect("an undamaged ring");
        assert!(start.elapsed() < LOST, "a wake-up was lost");
    }
}

#[test]
fn a_sleeping_receiver_is_woken_by_every_datagram() {
    let _alone = alone();
    let (lan, network) = lan();
    let [first, second] = [1, 2].map(|last| nic(&lan, network, last, None));
    let (mut sender, mut receiver) = ends(&lan, second);
    let answering = std::thread::spawn(move || {
        pin(true);
        for _ in 0..TURNS {
            take_asleep(&mut receiver);
            assert_eq!(sender.forward(&datagram(1, 64), false), Verdict::Delivered);
        }
    });
    let (mut sender, mut receiver) = ends(&lan, first);
    pin(false);
    for _ in 0..TURNS {
        assert_eq!(sender.forward(&datagram(2, 64), false), Verdict::Delivered);
        take_asleep(&mut receiver);
    }
    answering.join().expect("no wake-up was lost");
}

#[test]
fn a_sleeping_worker_is_woken_by_every_datagram() {
    let _alone = alone();
    let (lan, network) = lan();
    let (asking, served) = (nic(&lan, network, 1, None), nic(&lan, network, 2, Some(0)));
    let (mut sender, mut receiver) = ends(&lan, served);
    let segment = Arc::clone(lan.segment());
    let working = std::thread::spawn(move || {
        pin(true);
        let block = segment.worker(0);
        let mut answered = 0;
        while answered < TURNS {
            while let Some(record) = receiver.peek().expect("an undamaged ring") {
                receiver.done(&record);
                assert_eq!(sender.forward(&datagram(1, 64), false), Verdict::Delivered);
                answered += 1;
            }
            if receiver.leave_to_worker().expect("an undamaged ring") && answered < TURNS {
                let mut called = false;
                block.take(|_| called = true);
                if !called {
                    let start = Instant::now();
                    block.sleep(64, Some(LOST), || true);
                    assert!(start.elapsed() < LOST, "a wake-up was lost");
                }
                block.take(|_| {});
            }
        }
    });
    let (mut sender, mut receiver) = ends(&lan, asking);
    pin(false);
    for _ in 0..TURNS {
        assert_eq!(sender.forward(&datagram(2, 64), false), Verdict::Delivered);
        take_asleep(&mut receiver);
    }
    working.join().expect("no wake-up was lost");
}

#[test]
fn a_sender_that_waits_for_room_is_woken_when_there_is_some() {
    let _alone = alone();
    let (lan, network) = lan();
    let [first, second] = [1, 2].map(|last| nic(&lan, network, last, None));
    let (mut sender, _) = ends(&lan, first);
    let sending = std::thread::spawn(move || {
        pin(true);
        let big = datagram(2, 30_000);
        for _ in 0..TURNS / 4 {
            while sender.try_forward(&big, false).is_none() {
                let start = Instant::now();
                let Some(room) = sender.missing_room() else { continue };
                let _ = room.wait(LOST);
                assert!(start.elapsed() < LOST, "a wake-up was lost");
            }
        }
    });
    let (_, mut receiver) = ends(&lan, second);
    pin(false);
    for _ in 0..TURNS / 4 {
        take_asleep(&mut receiver);
    }
    sending.join().expect("no wake-up was lost");
}
