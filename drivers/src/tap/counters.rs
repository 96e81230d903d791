//! What befalls frames of a TAP, counted by reason.

use vnet_base::sync::{AtomicU64, Ordering};

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Everything that can befall a frame beside being carried.
        ///
        /// The names are part of the Python API: they stay what they are, and new ones go to the end.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// Every reason, in the order of its number.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// The name by which users know it, as in `not_ip`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

reasons! {
    /// Neither IP nor ARP: VLAN tags, LLDP, spanning tree and the like. Dropped.
    NotIp = "not_ip",
    /// Cut off, or its headers contradict each other or the standard. Dropped.
    Malformed = "malformed",
    /// For a station on the sender's own side of the wire. Dropped.
    OtherHost = "other_host",
    /// An ARP request that was answered, at once or when another guest had answered it.
    ArpAnswered = "arp_answered",
    /// A neighbour solicitation that was answered, at once or when another guest had answered it.
    NdpAnswered = "ndp_answered",
    /// An ARP request or a neighbour solicitation for an address that nobody has, or that the asker's own side has.
    Unanswered = "unanswered",
    /// A question that was passed on to the other guests of the network.
    PassedOn = "passed_on",
    /// A question that was put to this guest, in another's name or for a datagram to it.
    Asked = "asked",
    /// A frame in the name of an address that another NIC has. What it says changed nothing.
    Conflict = "conflict",
    /// A frame of the LAN's own that came back: this network bridge and another one of the LAN form a loop. Dropped.
    Looped = "looped",
    /// An address that was entered into the host table as this NIC's, because it was heard.
    Learned = "learned",
    /// An address that was heard and not entered: this NIC has as many as it may, or the host table is full.
    NotLearned = "not_learned",
    /// A learned address that was not heard for so long that it left the host table.
    Forgotten = "forgotten",
    /// The guest's MAC changed.
    GuestMoved = "guest_moved",
    /// A question, or a change of MAC, too soon after too many others. Dropped.
    RateLimited = "rate_limited",
    /// A datagram for an address whose MAC nobody told. Dropped.
    Unresolved = "unresolved",
    /// A datagram that waited for a MAC and gave its place to a newer one. Dropped.
    Displaced = "displaced",
    /// A datagram that waited for a MAC until its address turned out to be another NIC's, which got it too. Dropped.
    Elsewhere = "elsewhere",
    /// A frame whose offload fields contradict its contents. Dropped.
    OffloadContradiction = "offload_contradiction",
    /// A datagram that the TAP device did not take. Dropped.
    NotWritten = "not_written",
    /// News of other guests that were dropped because too many waited.
    NewsLost = "news_lost",
}

/// Counters of one TAP, one for each [`Reason`].
///
/// The driver's thread alone writes; any thread reads. They order nothing: each is a number of its own.
#[derive(Default)]
pub struct Counters([AtomicU64; Reason::ALL.len()]);

impl Counters {
    /// Counts one frame.
    #[inline]
    pub fn count(&self, reason: Reason) {
        self.add(reason, 1);
    }

    /// Counts `number` frames.
    #[inline]
    pub fn add(&self, reason: Reason, number: u64) {
        let counter = &self.0[reason as usize];
        // One writer, so a load and a store do what a locked addition would.
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(number), Ordering::Relaxed);
    }

    /// Frames that this befell so far.
    #[must_use]
    pub fn get(&self, reason: Reason) -> u64 {
        self.0[reason as usize].load(Ordering::Relaxed)
    }

    /// Every reason with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        Reason::ALL.iter().map(|&reason| (reason, self.get(reason)))
    }
}
