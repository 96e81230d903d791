//! Networks: one IP subnet each, an IPv4 prefix, an IPv6 prefix or both; a broadcast domain.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::nic::SlotId;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// A network's number, from 1; 0 is no network and 65,535 marks removed host table entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkId(pub u16);

/// The prefixes of a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefixes {
    /// IPv4 network address and prefix length in bits.
    pub v4: Option<(Ipv4Addr, u8)>,
    /// IPv6 network address and prefix length in bits.
    pub v6: Option<(Ipv6Addr, u8)>,
}

/// An address as the tables compare it: numbers that stay in registers.
///
/// [`IpAddr`] keeps octets; storing them and loading them as one number again stalls the processor at every datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IPv4 address.
    V4(u32),
    /// The two halves of an IPv6 address, the upper first.
    V6(u64, u64),
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64, address.to_bits() as u64),
        }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        match address {
            Address::V4(number) => Ipv4Addr::from_bits(number).into(),
            Address::V6(high, low) => Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low)).into(),
        }
    }
}

/// What kind of destination an address is, seen from inside a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// One NIC of this network, should one have the address.
    OnLink,
    /// Every other NIC of this network.
    Everyone,
    /// Not in this network.
    Elsewhere,
}

/// A network in the tables segment.
///
/// ```text
///  0 v4 u32 │ 4 v4_bits u32 │ 8 v6_high u64 │ 16 v6_low u64 │ 24 v6_bits u32 │ 28 mtu u32
/// 32 gateway u64 │ 40 bridges u32 │ 44 filter u32 │ 48 (zero) u32 ×4
/// ```
///
/// Addresses are numbers in host byte order; `*_bits` is the prefix length plus one, 0 for none. The first line is written
/// once, before the header's `network_count` covers it, and never changes: a reader that sees the count sees it. `gateway`
/// is the slot and, above it, the generation of the NIC that leads elsewhere; 0 for none. `bridges` counts the NICs with
/// [`BRIDGES`](crate::nic::BRIDGES). `filter` is the number of a filter plus one, 0 for none.
#[repr(C, align(64))]
#[derive(Default)]
pub struct NetworkRow {
    v4: AtomicU32,
    v4_bits: AtomicU32,
    v6_high: AtomicU64,
    v6_low: AtomicU64,
    v6_bits: AtomicU32,
    mtu: AtomicU32,
    gateway: AtomicU64,
    bridges: AtomicU32,
    filter: AtomicU32,
    zero: [AtomicU32; 4],
}

impl NetworkRow {
    /// A row outside any segment.
    #[must_use]
    pub fn of(prefixes: &Prefixes, mtu: u32) -> Self {
        let row = Self::default();
        row.write(prefixes, mtu);
        row
    }

    pub(crate) fn write(&self, prefixes: &Prefixes, mtu: u32) {
        if let Some((address, bits)) = prefixes.v4 {
            self.v4.store(address.to_bits(), Ordering::Relaxed);
            self.v4_bits.store(u32::from(bits) + 1, Ordering::Relaxed);
        }
        if let Some((address, bits)) = prefixes.v6 {
            let number = address.to_bits();
            self.v6_high.store((number >> 64) as u64, Ordering::Relaxed);
            self.v6_low.store(number as u64, Ordering::Relaxed);
            self.v6_bits.store(u32::from(bits) + 1, Ordering::Relaxed);
        }
        self.mtu.store(mtu, Ordering::Relaxed);
    }

    /// Largest IP datagram of this network, in bytes, the IP header included.
    #[must_use]
    pub fn mtu(&self) -> u32 {
        self.mtu.load(Ordering::Relaxed)
    }

    /// The IPv4 prefix: its address as a number and its length in bits.
    #[must_use]
    pub fn v4_prefix(&self) -> Option<(u32, u8)> {
        let bits = self.v4_bits.load(Ordering::Relaxed).checked_sub(1)?;
        Some((self.v4.load(Ordering::Relaxed), bits as u8))
    }

    /// The length of the IPv6 prefix, in bits.
    #[must_use]
    pub fn v6_prefix(&self) -> Option<u8> {
        Some(self.v6_bits.load(Ordering::Relaxed).checked_sub(1)? as u8)
    }

    /// The NIC that takes what goes elsewhere, and its generation: who reads the row of another generation has none.
    #[must_use]
    pub fn gateway(&self) -> Option<(SlotId, u32)> {
        let gateway = self.gateway.load(Ordering::Acquire);
        (gateway != 0).then_some((SlotId(gateway as u16), (gateway >> 32) as u32))
    }

    pub(crate) fn set_gateway(&self, gateway: Option<(SlotId, u32)>) {
        let word = gateway.map_or(0, |(slot, generation)| u64::from(generation) << 32 | u64::from(slot.0));
        self.gateway.store(word, Ordering::Release);
    }

    /// Whether any NIC of the network leads to addresses that the tables do not know.
    #[must_use]
    pub fn is_bridged(&self) -> bool {
        self.bridges.load(Ordering::Acquire) != 0
    }

    pub(crate) fn set_bridges(&self, count: u32) {
        self.bridges.store(count, Ordering::Release);
    }

    /// The filter of what enters this network's NICs: its number plus one, 0 for none.
    #[must_use]
    #[inline]
    pub fn filter(&self) -> u32 {
        self.filter.load(Ordering::Acquire)
    }

    pub(crate) fn set_filter(&self, filter: u32) {
        self.filter.store(filter, Ordering::Release);
    }

    /// What kind of destination `address` is, for a sender on this network.
    ///
    /// Limited broadcast and the prefix's last address are for everyone (RFC 919, RFC 922; a /31 and a /32 have no
    /// broadcast address, RFC 3021), and so is every multicast address, because a LAN without group filters floods.
    /// Link-local IPv6 addresses are on the link wherever IPv6 is spoken (RFC 4291 section 2.5.6).
    #[must_use]
    pub fn classify(&self, address: Address) -> Destination {
        match address.into() {
            IpAddr::V4(address) => {
                let bits = self.v4_bits.load(Ordering::Relaxed);
                if bits == 0 {
                    return Destination::Elsewhere;
                }
                if address.is_broadcast() || address.is_multicast() {
                    return Destination::Everyone;
                }
                let hosts = u32::MAX.checked_shr(bits - 1).unwrap_or(0);
                let number = address.to_bits();
                if (number ^ self.v4.load(Ordering::Relaxed)) & !hosts != 0 {
                    Destination::Elsewhere
                } else if bits - 1 <= 30 && number & hosts == hosts {
                    Destination::Everyone
                } else {
                    Destination::OnLink
                }
            }
            IpAddr::V6(address) => {
                let bits = self.v6_bits.load(Ordering::Relaxed);
                if bits == 0 {
                    return Destination::Elsewhere;
                }
                if address.is_multicast() {
                    return Destination::Everyone;
                }
                let hosts = u128::MAX.checked_shr(bits - 1).unwrap_or(0);
                let high = u128::from(self.v6_high.load(Ordering::Relaxed));
                let network = high << 64 | u128::from(self.v6_low.load(Ordering::Relaxed));
                if (address.to_bits() ^ network) & !hosts == 0 || address.is_unicast_link_local() {
                    Destination::OnLink
                } else {
                    Destination::Elsewhere
                }
            }
        }
    }
}

#[cfg(not(loom))]
const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<NetworkRow>() == 64);
    assert!(offset_of!(NetworkRow, v6_high) == 8);
    assert!(offset_of!(NetworkRow, v6_bits) == 24);
    assert!(offset_of!(NetworkRow, mtu) == 28);
    assert!(offset_of!(NetworkRow, gateway) == 32);
    assert!(offset_of!(NetworkRow, bridges) == 40);
    assert!(offset_of!(NetworkRow, filter) == 44);
};
