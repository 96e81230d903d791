//! What kind of destination an address is, against the rules of the RFCs written out.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;
use vnet_tables::network::NetworkRow;
use vnet_tables::{Destination, Prefixes};

fn row(prefixes: Prefixes) -> NetworkRow {
    NetworkRow::of(&prefixes, 1500)
}

fn classify(row: &NetworkRow, address: &str) -> Destination {
    row.classify(address.parse::<IpAddr>().expect("an address").into())
}

#[test]
fn broadcast_and_multicast_are_for_everyone() {
    let v4 = row(Prefixes { v4: Some((Ipv4Addr::new(10, 1, 2, 0), 24)), v6: None });
    assert_eq!(classify(&v4, "10.1.2.7"), Destination::OnLink);
    assert_eq!(classify(&v4, "10.1.2.255"), Destination::Everyone);
    assert_eq!(classify(&v4, "255.255.255.255"), Destination::Everyone);
    assert_eq!(classify(&v4, "224.0.0.251"), Destination::Everyone);
    assert_eq!(classify(&v4, "10.1.3.7"), Destination::Elsewhere);
    assert_eq!(classify(&v4, "ff02::1"), Destination::Elsewhere);
    let v6 = row(Prefixes { v4: None, v6: Some(("fd00:2::".parse().expect("an address"), 64)) });
    assert_eq!(classify(&v6, "fd00:2::9"), Destination::OnLink);
    assert_eq!(classify(&v6, "fe80::1"), Destination::OnLink);
    assert_eq!(classify(&v6, "ff02::1"), Destination::Everyone);
    assert_eq!(classify(&v6, "fd00:3::9"), Destination::Elsewhere);
    assert_eq!(classify(&v6, "10.1.2.7"), Destination::Elsewhere);
}

#[test]
fn a_prefix_of_two_addresses_or_one_has_no_broadcast_address() {
    let pair = row(Prefixes { v4: Some((Ipv4Addr::new(10, 0, 0, 2), 31)), v6: None });
    assert_eq!(classify(&pair, "10.0.0.2"), Destination::OnLink);
    assert_eq!(classify(&pair, "10.0.0.3"), Destination::OnLink);
    assert_eq!(classify(&pair, "10.0.0.4"), Destination::Elsewhere);
    let one = row(Prefixes { v4: Some((Ipv4Addr::new(10, 0, 0, 2), 32)), v6: None });
    assert_eq!(classify(&one, "10.0.0.2"), Destination::OnLink);
    assert_eq!(classify(&one, "10.0.0.3"), Destination::Elsewhere);
}

proptest! {
    #[test]
    fn an_address_is_inside_when_its_first_bits_are_the_prefix(network in any::<u32>(), bits in 0u8..=32, address in any::<u32>()) {
        let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
        let prefixes = Prefixes { v4: Some((Ipv4Addr::from_bits(network & mask), bits)), v6: None };
        let address = Ipv4Addr::from_bits(address);
        let inside = address.to_bits() & mask == network & mask;
        let everyone = address.is_multicast() || address.is_broadcast()
            || (inside && bits <= 30 && address.to_bits() | mask == u32::MAX);
        let expected = match (everyone, inside) {
            (true, _) => Destination::Everyone,
            (false, true) => Destination::OnLink,
            (false, false) => Destination::Elsewhere,
        };
        prop_assert_eq!(row(prefixes).classify(IpAddr::V4(address).into()), expected);
    }
}
