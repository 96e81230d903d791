//! The host table against a plain map.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr::NonNull;

use proptest::prelude::*;
use vnet_tables::{Geometry, NetworkId, Prefixes, SlotId, Tables, TablesError, Writer};

/// Zeroed memory for a tables segment.
struct Memory(NonNull<u8>, Layout);

impl Memory {
    fn new(geometry: &Geometry) -> Self {
        let layout = Layout::from_size_align(geometry.tables_bytes() as usize, 4096).expect("a sound geometry");
        // SAFETY: the layout is not of size zero.
        let start = unsafe { alloc_zeroed(layout) };
        Self(NonNull::new(start).expect("memory"), layout)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.0.as_ptr(), self.1) };
    }
}

fn with_writer<T>(nics: u32, work: impl FnOnce(&mut Writer) -> T) -> T {
    let geometry = Geometry::new(nics, 1 << 20);
    let memory = Memory::new(&geometry);
    // SAFETY: zeroed, aligned, of the right size, and alive until the end.
    let mut writer = unsafe { Writer::create(memory.0, &geometry, 7) };
    work(&mut writer)
}

/// Few addresses, so that moves and removals meet what is there; their low bits differ, as on a LAN.
fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0u32..200).prop_map(|low| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 | low))),
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        (0u128..200).prop_map(|low| IpAddr::V6(Ipv6Addr::from_bits(0xfd00_u128 << 112 | low))),
        (0u128..200).prop_map(|high| IpAddr::V6(Ipv6Addr::from_bits(high << 64 | 1))),
    ]
}

#[derive(Clone, Debug)]
enum Change {
    Add(u16, IpAddr, u16),
    Remove(u16, IpAddr),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (1u16..4, address(), 1u16..1000).prop_map(|(network, address, slot)| Change::Add(network, address, slot)),
        (1u16..4, address()).prop_map(|(network, address)| Change::Remove(network, address)),
    ]
}

proptest! {
    #[test]
    fn finds_what_a_plain_map_finds(changes in prop::collection::vec(change(), 0..600), probes in prop::collection::vec((1u16..4, address()), 0..50)) {
        with_writer(64, |writer| {
            let mut plain = BTreeMap::new();
            for change in changes {
                match change {
                    Change::Add(network, address, slot) => {
                        match writer.add_address(NetworkId(network), address, SlotId(slot)) {
                            Ok(()) => { plain.insert((network, address), slot); }
                            // The table of 64 NICs may fill up; then nothing has changed.
                            Err(error) => prop_assert_eq!(error, TablesError::HostsFull(address)),
                        }
                    }
                    Change::Remove(network, address) => {
                        writer.remove_address(NetworkId(network), address);
                        plain.remove(&(network, address));
                    }
                }
            }
            let known: Vec<_> = plain.keys().copied().collect();
            for (network, address) in known.into_iter().chain(probes) {
                let found = writer.tables().hosts().find(NetworkId(network), address.into());
                prop_assert_eq!(found.map(|found| found.slot.0), plain.get(&(network, address)).copied());
            }
            Ok(())
        })?;
    }
}

#[test]
fn four_addresses_a_nic_fit_in_each_family() {
    with_writer(1000, |writer| {
        for index in 0..4000u32 {
            let slot = SlotId((index / 4) as u16 + 1);
            let v4 = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + index));
            let v6 = IpAddr::V6(Ipv6Addr::from_bits(0xfd00_u128 << 112 | u128::from(index)));
            writer.add_address(NetworkId(1), v4, slot).expect("room for IPv4");
            writer.add_address(NetworkId(1), v6, slot).expect("room for IPv6");
            assert_eq!(writer.tables().hosts().find(NetworkId(1), v4.into()).map(|found| found.slot), Some(slot));
            assert_eq!(writer.tables().hosts().find(NetworkId(1), v6.into()).map(|found| found.slot), Some(slot));
        }
    });
}

#[test]
fn a_search_that_was_overtaken_says_so() {
    with_writer(16, |writer| {
        for text in ["10.0.0.1", "fd00::1"] {
            let address: IpAddr = text.parse().expect("an address");
            writer.add_address(NetworkId(1), address, SlotId(1)).expect("room");
            let tables = *writer.tables();
            let found = tables.hosts().find(NetworkId(1), address.into()).expect("it is in");
            assert!(found.holds());
            writer.remove_address(NetworkId(1), address);
            assert!(!found.holds(), "{text} was removed");
            writer.add_address(NetworkId(1), address, SlotId(2)).expect("room");
            assert!(!found.holds(), "{text} belongs to another NIC");
        }
    });
}

#[test]
fn readers_beside_a_writer_see_whole_entries() {
    // Two addresses that share neither half change places with one another for a while; each belongs to one slot only.
    with_writer(16, |writer| {
        let first: IpAddr = "fd00::1:1".parse().expect("an address");
        let second: IpAddr = "fd11::2:2".parse().expect("an address");
        let tables = *writer.tables();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut seen = [0u64; 2];
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    for (index, address) in [first, second].into_iter().enumerate() {
                        if let Some(found) = tables.hosts().find(NetworkId(1), address.into()) {
                            assert_eq!(usize::from(found.slot.0), index + 1, "{address}");
                            seen[index] += 1;
                        }
                    }
                }
                seen
            });
            for _ in 0..200_000 {
                writer.add_address(NetworkId(1), first, SlotId(1)).expect("room");
                writer.remove_address(NetworkId(1), first);
                writer.add_address(NetworkId(1), second, SlotId(2)).expect("room");
                writer.remove_address(NetworkId(1), second);
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            reader.join().expect("no wrong slot was seen");
        });
    });
}

#[test]
fn memory_that_is_no_lan_of_this_version_is_refused() {
    let geometry = Geometry::new(16, 1 << 20);
    let memory = Memory::new(&geometry);
    // SAFETY: mapped, aligned and alive until the end.
    let open = || unsafe { Tables::open(memory.0, geometry.tables_bytes()) }.err();
    assert_eq!(open(), Some(TablesError::NotALan));
    // SAFETY: zeroed memory of the right size that nobody else uses.
    let mut writer = unsafe { Writer::create(memory.0, &geometry, 7) };
    let prefixes = Prefixes { v4: Some((Ipv4Addr::new(10, 0, 0, 0), 24)), v6: None };
    assert_eq!(writer.add_network(&prefixes, 1500), Ok(NetworkId(1)));
    assert_eq!(open(), None);
    let abi = &writer.tables().header().abi;
    abi.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(open(), Some(TablesError::Abi { found: vnet_tables::ABI + 1, expected: vnet_tables::ABI }));
    abi.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    writer.tables().header().nics.store(u32::MAX, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(open(), Some(TablesError::Damaged));
}
