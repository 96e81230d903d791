//! What the TAPs of a LAN tell each other, across threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use vnet_drivers::base::tables::{NetworkId, SlotId};
use vnet_drivers::tap::neighbourhood::{Event, MAILBOX, Membership, Neighbourhood, News};

use crate::lan::{mac, v4};

const ONE: NetworkId = NetworkId(1);
const TWO: NetworkId = NetworkId(2);

fn asked(host: u8) -> Event {
    Event::Asked { target: v4(host).into(), asker: v4(1).into(), mac: mac(1) }
}

fn told(host: u8) -> Event {
    Event::Told { address: v4(host).into(), mac: mac(1), news: News::Moved }
}

fn join(neighbourhood: &Arc<Neighbourhood>, slot: u16, network: NetworkId) -> (Membership, Arc<AtomicUsize>) {
    let woken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&woken);
    let wake = Box::new(move || {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    (neighbourhood.join(SlotId(slot), network, wake), woken)
}

fn all(member: &Membership) -> Vec<Event> {
    std::iter::from_fn(|| member.take()).collect()
}

#[test]
fn the_others_of_the_network_hear_it_in_order_and_are_woken() {
    let neighbourhood = Neighbourhood::new();
    let (first, woken) = join(&neighbourhood, 1, ONE);
    let (second, woken_second) = join(&neighbourhood, 2, ONE);
    let (elsewhere, _) = join(&neighbourhood, 3, TWO);
    first.announce(asked(9));
    first.announce(told(8));
    assert_eq!(all(&second), [asked(9), told(8)]);
    assert_eq!((all(&first), all(&elsewhere)), (vec![], vec![]));
    assert_eq!((woken.load(Ordering::Relaxed), woken_second.load(Ordering::Relaxed)), (0, 2));
    neighbourhood.announce(ONE, SlotId(7), told(7));
    assert_eq!((all(&first), all(&second)), (vec![told(7)], vec![told(7)]), "from the base, all do");
}

#[test]
fn who_left_hears_nothing_and_whoever_has_its_slot_then_stays() {
    let neighbourhood = Neighbourhood::new();
    let (first, _) = join(&neighbourhood, 1, ONE);
    let (old, woken) = join(&neighbourhood, 2, ONE);
    let (new, _) = join(&neighbourhood, 2, ONE);
    drop(old);
    first.announce(asked(9));
    assert_eq!((all(&new), woken.load(Ordering::Relaxed)), (vec![asked(9)], 0));
    drop(new);
    first.announce(asked(9));
}

#[test]
fn a_mailbox_that_is_full_loses_its_oldest_questions_and_news_last() {
    let neighbourhood = Neighbourhood::new();
    let (first, _) = join(&neighbourhood, 1, ONE);
    let (second, _) = join(&neighbourhood, 2, ONE);
    first.announce(told(1));
    for number in 0..MAILBOX + 9 {
        first.announce(asked(number as u8));
    }
    assert_eq!((second.take_lost(), second.take_lost()), (10, 0));
    let heard = all(&second);
    assert_eq!((heard.len(), heard[0], heard[1]), (MAILBOX, told(1), asked(10)));
    for _ in 0..MAILBOX + 1 {
        first.announce(told(2));
    }
    assert_eq!((all(&second).len(), second.take_lost()), (MAILBOX, 1));
}

#[test]
fn who_is_woken_may_speak_join_and_leave() {
    let neighbourhood = Neighbourhood::new();
    let (first, _) = join(&neighbourhood, 1, ONE);
    let held: Arc<Mutex<Option<Membership>>> = Arc::default();
    let (inner, lan) = (Arc::clone(&held), Arc::clone(&neighbourhood));
    let wake = Box::new(move || {
        lan.announce(ONE, SlotId(2), told(3));
        drop(join(&lan, 4, ONE));
        inner.lock().unwrap().take();
    });
    *held.lock().unwrap() = Some(neighbourhood.join(SlotId(2), ONE, wake));
    first.announce(asked(9));
    assert_eq!(all(&first), [told(3)]);
    assert!(held.lock().unwrap().is_none());
}

#[test]
fn whatever_threads_announce_at_once_is_heard_by_each_or_counted_as_lost() {
    let neighbourhood = Neighbourhood::new();
    let (listener, _) = join(&neighbourhood, 9, ONE);
    let heard = std::thread::scope(|scope| {
        let speakers: Vec<_> = (1..4)
            .map(|slot| {
                let (member, _) = join(&neighbourhood, slot, ONE);
                scope.spawn(move || (0..1000).for_each(|number| member.announce(asked(number as u8))))
            })
            .collect();
        let mut heard = 0;
        while !speakers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            heard += all(&listener).len();
        }
        heard + all(&listener).len()
    });
    assert_eq!(heard + listener.take_lost() as usize, 3000);
}
