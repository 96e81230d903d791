//! What the TAPs of a LAN tell each other: questions that one guest asks and another may answer, and who moved.
//!
//! Each TAP has a mailbox. It is bounded: where guests ask faster than others listen, the oldest question gives way,
//! because a guest that still wants to know asks again; news give way last.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vnet_base::sync::{AtomicBool, AtomicU64, Ordering};
use vnet_base::tables::{NetworkId, SlotId};

use super::ethernet::Mac;

/// Events that wait at one TAP.
pub const MAILBOX: usize = 256;

/// What was learned of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// A guest that nobody knew to have it has answered or spoken: whoever asked can be told.
    Found,
    /// Its MAC is another than before: whoever knew the old one must be told.
    Moved,
}

/// What one TAP hears of the others of its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Another NIC's guest asks who has `target`.
    Asked {
        /// The address in question.
        target: IpAddr,
        /// Whose question it is; unspecified while that guest makes sure that nobody has the address.
        asker: IpAddr,
        /// The MAC of the asker's NIC.
        mac: Mac,
    },
    /// Another NIC has `address`.
    Told {
        /// The address.
        address: IpAddr,
        /// The MAC of the NIC that has it.
        mac: Mac,
        /// Since when others may know.
        news: News,
    },
}

struct Member {
    network: NetworkId,
    mailbox: Mutex<VecDeque<Event>>,
    /// Whether the mailbox may hold anything: looked at at every visit, when it rarely does.
    waiting: AtomicBool,
    lost: AtomicU64,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Member {
    fn put(&self, event: Event) {
        let mut mailbox = lock(&self.mailbox);
        if mailbox.len() >= MAILBOX {
            let oldest = mailbox.iter().position(|event| matches!(event, Event::Asked { .. })).unwrap_or(0);
            mailbox.remove(oldest);
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        mailbox.push_back(event);
        // Under the lock, as in `take()`: a mailbox that holds something says so.
        self.waiting.store(true, Ordering::Release);
    }
}

/// The TAPs of a LAN.
#[derive(Default)]
pub struct Neighbourhood {
    members: Mutex<BTreeMap<u16, Arc<Member>>>,
}

impl Neighbourhood {
    /// Nobody yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A TAP joins; it leaves when what is returned is dropped.
    ///
    /// `wake` is called after something was put into its mailbox, from any thread, while no lock of ours is held.
    #[must_use]
    pub fn join(self: &Arc<Self>, slot: SlotId, network: NetworkId, wake: Box<dyn Fn() + Send + Sync>) -> Membership {
        let member = Arc::new(Member {
            network,
            mailbox: Mutex::default(),
            waiting: AtomicBool::new(false),
            lost: AtomicU64::new(0),
            wake,
        });
        lock(&self.members).insert(slot.0, Arc::clone(&member));
        Membership { neighbourhood: Arc::clone(self), slot, member }
    }

    /// Tells every TAP of a network but the one in slot `but`: the base's way, when an address comes to a NIC.
    pub fn announce(&self, network: NetworkId, but: SlotId, event: Event) {
        // Woken members may join or leave, so the list is not held meanwhile.
        let others: Vec<Arc<Member>> = lock(&self.members)
            .iter()
            .filter(|&(&slot, member)| slot != but.0 && member.network == network)
            .map(|(_, member)| Arc::clone(member))
            .collect();
        for other in others {
            other.put(event);
            (other.wake)();
        }
    }
}

/// One TAP's place among the others.
pub struct Membership {
    neighbourhood: Arc<Neighbourhood>,
    slot: SlotId,
    member: Arc<Member>,
}

impl Membership {
    /// Tells the other TAPs of the network.
    pub fn announce(&self, event: Event) {
        self.neighbourhood.announce(self.member.network, self.slot, event);
    }

    /// What waits longest in the mailbox.
    #[must_use]
    pub fn take(&self) -> Option<Event> {
        // Whoever puts something in wakes the member afterwards, which then looks again.
        if !self.member.waiting.load(Ordering::Acquire) {
            return None;
        }
        let mut mailbox = lock(&self.member.mailbox);
        let event = mailbox.pop_front();
        self.member.waiting.store(!mailbox.is_empty(), Ordering::Release);
        event
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        lock(&self.member.mailbox).is_empty()
    }

    /// Events that gave way to others since the last call.
    #[must_use]
    pub fn take_lost(&self) -> u64 {
        if self.member.lost.load(Ordering::Relaxed) == 0 { 0 } else { self.member.lost.swap(0, Ordering::Relaxed) }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut members = lock(&self.neighbourhood.members);
        // The slot may have been given to another TAP by now.
        if members.get(&self.slot.0).is_some_and(|member| Arc::ptr_eq(member, &self.member)) {
            members.remove(&self.slot.0);
        }
    }
}

/// A panic elsewhere leaves these lists whole: each change is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
