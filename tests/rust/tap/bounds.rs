//! Whatever guests send, whatever happens meanwhile: what is held is bounded, and only frames that a station may send go
//! out.

use std::net::IpAddr;

use proptest::prelude::*;
use vnet_drivers::tap::ndp;

use crate::lan::{Lan, SECOND, mac, v4, v6};
use crate::wire;

#[derive(Clone, Debug)]
enum Step {
    Frame { slot: u8, frame: Vec<u8> },
    Datagram { slot: u8, to: IpAddr },
    Pass(u64),
    Give { slot: u8, address: IpAddr },
}

fn station() -> impl Strategy<Value = wire::Mac> {
    prop_oneof![(1..5u8).prop_map(mac), (0..4u8).prop_map(|host| [2, 0xbb, 0, 0, 0, host])]
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0..40u8).prop_map(|host| v4(host).into()),
        (0..40u16).prop_map(|host| v6(host).into()),
        station().prop_map(|mac| ndp::link_local(mac).into()),
    ]
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    (station(), station(), address(), address(), 0..6u8, any::<u8>(), any::<bool>()).prop_map(
        |(from, to, source, target, kind, flags, nobody)| match (source, target) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                let source = if nobody { std::net::Ipv4Addr::UNSPECIFIED } else { source };
                match kind {
                    0 | 1 => wire::arp_request(from, source, target),
                    2 => wire::arp_request(from, source, source),
                    3 | 4 => wire::arp_reply(from, source, to, target),
                    _ => wire::udp(from, to, source.into(), target.into()),
                }
            }
            (IpAddr::V6(source), IpAddr::V6(target)) => {
                let source = if nobody { std::net::Ipv6Addr::UNSPECIFIED } else { source };
                match kind {
                    0..3 => wire::solicitation(from, source, target),
                    3 => {
                        wire::advertisement(from, (wire::multicast_mac(ndp::ALL_NODES), ndp::ALL_NODES), target, flags)
                    }
                    4 => wire::advertisement(from, (to, source), target, flags),
                    _ => wire::udp(from, to, source.into(), target.into()),
                }
            }
            _ => wire::arp_request(from, v4(flags), v4(kind)),
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (1..4u8, frame()).prop_map(|(slot, frame)| Step::Frame { slot, frame }),
        2 => (1..4u8, frame(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(slot, mut frame, at, value)| {
            let at = at.index(frame.len());
            frame[at] = value;
            Step::Frame { slot, frame }
        }),
        1 => (1..4u8, frame(), any::<prop::sample::Index>()).prop_map(|(slot, mut frame, at)| {
            frame.truncate(at.index(frame.len()));
            Step::Frame { slot, frame }
        }),
        4 => (1..4u8, address()).prop_map(|(slot, to)| Step::Datagram { slot, to }),
        3 => (0..400u64).prop_map(|tenths| Step::Pass(tenths * SECOND / 10)),
        1 => (1..5u8, address()).prop_map(|(slot, address)| Step::Give { slot, address }),
    ]
}

proptest! {
    #[test]
    fn whatever_guests_send_what_is_held_is_bounded_and_what_goes_out_is_legal(
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut lan = Lan::new();
        lan.tap(1, &[v4(1).into(), v6(1).into()], false);
        lan.tap(2, &[v4(2).into(), v6(2).into()], true);
        lan.tap(3, &[], true);
        lan.nic(4, &[v4(4).into(), v6(4).into()]);
        for step in steps {
            match step {
                Step::Frame { slot, frame } => {
                    let before = frame.clone();
                    let forwarded = lan.frame(slot, &frame);
                    prop_assert!(forwarded.is_none_or(|datagram| before[14..].starts_with(&datagram)));
                }
                Step::Datagram { slot, to } => {
                    let from = if to.is_ipv4() { v4(4).into() } else { v6(4).into() };
                    lan.datagram(slot, &wire::udp(mac(4), mac(slot), from, to)[14..]);
                    while lan.taps.get_mut(&slot).unwrap().neighbours.resolved().is_some() {}
                }
                Step::Pass(nanoseconds) => lan.pass(nanoseconds),
                // The base gives an address to a NIC, without a word to anybody.
                Step::Give { slot, address } => {
                    lan.tables.borrow_mut().hosts.insert(address, (slot, false));
                }
            }
            lan.check();
        }
        lan.check_quiet();
        prop_assert!(lan.owner(v4(4)).is_some(), "what the base gave stays given");
    }
}
