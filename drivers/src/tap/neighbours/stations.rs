//! Who is behind a TAP: the addresses that its NIC has, and those that were heard.
//!
//! A station is alive as long as frames come from it. After [`REACHABLE`] of silence its MAC is used on, but asked for once
//! more; an address that was learned and not heard for [`AGE`] leaves the host table, unless it answers the last questions.
//! One that somebody else wants to use leaves it sooner: its station is asked at once, and has less than the second that
//! others wait when they make sure that an address is free.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::ethernet::Mac;

const SECOND: u64 = 1_000_000_000;

/// Between two questions for the same address: RETRANS_TIMER, RFC 4861 section 10, and Linux's for ARP.
pub const RETRY: u64 = SECOND;
/// Questions until an address counts as nobody's: MAX_MULTICAST_SOLICIT, MAX_UNICAST_SOLICIT.
pub const TRIES: u8 = 3;
/// Between two questions for an address that somebody else wants to use.
const RETRY_DOUBTED: u64 = SECOND / 4;
/// How long a MAC is believed: REACHABLE_TIME.
pub const REACHABLE: u64 = 30 * SECOND;
/// How long a learned address stays in the host table without being heard.
pub const AGE: u64 = 300 * SECOND;
/// How long the tables are believed to say of an address what they said.
const CHECKED: u64 = SECOND;

/// Addresses that may be learned behind one guest, and behind a bridge.
pub const LEARNED: usize = 16;
/// See [`LEARNED`].
pub const LEARNED_BRIDGE: usize = 1024;

/// In whose name a question is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asker {
    pub address: IpAddr,
    pub mac: Mac,
}

struct Confirming {
    asker: Asker,
    /// Somebody else wants to use the address: it is free if nobody answers.
    doubted: bool,
    tries: u8,
    next: u64,
}

/// One address behind the TAP.
pub(super) struct Station {
    /// Where its frames go; `None`: not known, or to the guest's one MAC.
    pub mac: Option<Mac>,
    /// One of the NIC's own, which is never forgotten.
    pub own: bool,
    heard: u64,
    checked: u64,
    confirming: Option<Confirming>,
}

impl Station {
    /// Whether nobody waits to hear it, and the tables need not be asked again whose it is.
    #[inline]
    pub fn is_settled(&self, now: u64) -> bool {
        self.confirming.is_none() && now.saturating_sub(self.checked) < CHECKED
    }

    /// It has spoken.
    #[inline]
    pub fn hear(&mut self, now: u64) {
        self.heard = now;
        self.confirming = None;
    }

    /// Its MAC is used: asks for it in the name of `asker` if it was not heard for long.
    pub fn use_mac(&mut self, now: u64, asker: impl FnOnce() -> Asker) -> bool {
        let begins = self.confirming.is_none() && now.saturating_sub(self.heard) >= REACHABLE;
        if begins {
            self.confirming = Some(Confirming { asker: asker(), doubted: false, tries: 0, next: now });
        }
        begins
    }

    /// Somebody else wants to use the address. Whether that needs asking: one of its NIC's own it does not lose. One that was
    /// just heard may have moved since.
    pub fn doubt(&mut self, now: u64, asker: Asker) -> bool {
        let needs = !self.own;
        if needs && !self.confirming.as_ref().is_some_and(|confirming| confirming.doubted) {
            self.confirming = Some(Confirming { asker, doubted: true, tries: 0, next: now });
        }
        needs
    }

    /// Whether somebody else wants to use the address, and its station has had its chance to say that it does.
    fn is_free(&self, now: u64) -> bool {
        self.confirming
            .as_ref()
            .is_some_and(|confirming| confirming.doubted && confirming.tries >= TRIES && now >= confirming.next)
    }

    /// When something is due for it.
    pub fn deadline(&self) -> u64 {
        let confirming = self.confirming.as_ref().map(|confirming| confirming.next);
        if self.own {
            return confirming.unwrap_or(u64::MAX);
        }
        let forgotten = self.heard.saturating_add(AGE);
        confirming.unwrap_or(forgotten.saturating_sub(LAST_QUESTIONS)).min(forgotten)
    }
}

const LAST_QUESTIONS: u64 = TRIES as u64 * RETRY;

/// What stations want done.
#[derive(Default)]
pub(super) struct Wants {
    /// Questions: for which address, to which station if not to all, in whose name.
    pub questions: Vec<(IpAddr, Option<Mac>, Asker)>,
    /// Addresses that were not heard for too long; they are out already.
    pub forgotten: Vec<IpAddr>,
    /// Those of them that somebody else wants to use.
    pub released: Vec<IpAddr>,
}

/// All addresses behind one TAP.
#[derive(Default)]
pub(super) struct Stations {
    by_address: BTreeMap<IpAddr, Station>,
    own: Vec<IpAddr>,
    learned: usize,
    limit: usize,
}

impl Stations {
    pub fn new(own: &[IpAddr], bridges: bool) -> Self {
        let limit = if bridges { LEARNED_BRIDGE } else { LEARNED };
        let mut stations = Self { by_address: BTreeMap::new(), own: own.to_vec(), learned: 0, limit };
        for &address in own {
            stations.checked(address, || true, 0);
        }
        stations
    }

    #[inline]
    pub fn get(&mut self, address: IpAddr) -> Option<&mut Station> {
        self.by_address.get_mut(&address)
    }

    #[inline]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.by_address.contains_key(&address)
    }

    /// Every address, in order.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.by_address.keys().copied()
    }

    /// The NIC's first own address of the same family: what leads to addresses that are not on the link.
    pub fn own_like(&self, address: IpAddr) -> Option<IpAddr> {
        self.own.iter().copied().find(|own| own.is_ipv4() == address.is_ipv4())
    }

    /// Whether the frames of all go to `mac`.
    pub fn all_have(&self, mac: Mac) -> bool {
        self.by_address.values().all(|station| station.mac.is_none_or(|own| own == mac))
    }

    pub fn learned(&self) -> usize {
        self.learned
    }

    /// Whether another address may be learned.
    pub fn has_room(&self) -> bool {
        self.learned < self.limit
    }

    /// The station of an address of which the tables say that it is this NIC's. `own` says whether it was not learned, where
    /// that is not known.
    pub fn checked(&mut self, address: IpAddr, own: impl FnOnce() -> bool, now: u64) -> &mut Station {
        let learned = &mut self.learned;
        let station = self.by_address.entry(address).or_insert_with(|| {
            let own = own();
            *learned += usize::from(!own);
            Station { mac: None, own, heard: now, checked: now, confirming: None }
        });
        station.checked = now;
        station
    }

    /// Takes out an address that is not this NIC's.
    pub fn remove(&mut self, address: IpAddr) {
        if self.by_address.remove(&address).is_some_and(|station| !station.own) {
            self.learned -= 1;
        }
    }

    /// The guest's one MAC is another: stations that had the old one have the new one.
    pub fn follow(&mut self, old: Mac, new: Mac) {
        for station in self.by_address.values_mut().filter(|station| station.mac == Some(old)) {
            station.mac = Some(new);
        }
    }

    /// Goes through all, and returns when to do so again. `voice` asks where nobody else does.
    pub fn due(&mut self, now: u64, voice: impl Fn(IpAddr) -> Asker, wants: &mut Wants) -> u64 {
        let mut next = u64::MAX;
        let learned = &mut self.learned;
        self.by_address.retain(|&address, station| {
            let forgotten = station.heard.saturating_add(AGE);
            if !station.own && (now >= forgotten || station.is_free(now)) {
                wants.forgotten.push(address);
                if station.is_free(now) {
                    wants.released.push(address);
                }
                *learned -= 1;
                return false;
            }
            if !station.own && station.confirming.is_none() && now >= forgotten.saturating_sub(LAST_QUESTIONS) {
                station.confirming = Some(Confirming { asker: voice(address), doubted: false, tries: 0, next: now });
            }
            if let Some(confirming) = &mut station.confirming
                && now >= confirming.next
            {
                if confirming.tries < TRIES {
                    confirming.tries += 1;
                    confirming.next = now.saturating_add(if confirming.doubted { RETRY_DOUBTED } else { RETRY });
                    wants.questions.push((address, station.mac, confirming.asker));
                } else {
                    // RFC 4861 section 7.3.3: nobody there answers; whoever sends next has all asked.
                    station.mac = None;
                    station.confirming = None;
                }
            }
            next = next.min(station.deadline());
            true
        });
        next
    }
}

/// Whether an address can be one station's. What else is not on the link, the tables know.
pub(super) fn is_learnable(address: IpAddr) -> bool {
    match address {
        // RFC 1122 section 3.2.1.3, RFC 1112 section 4: this network, loopback, groups, reserved, broadcast.
        IpAddr::V4(address) => !matches!(address.octets()[0], 0 | 127 | 224..),
        // RFC 4291 sections 2.5.2, 2.5.3, 2.7 and 2.5.5.2.
        IpAddr::V6(address) => {
            !address.is_unspecified()
                && !address.is_loopback()
                && !address.is_multicast()
                && address.to_ipv4_mapped().is_none()
        }
    }
}

/// Nobody, in the family of `address`.
pub(super) fn unspecified(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}
