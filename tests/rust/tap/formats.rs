//! What is read and written, byte by byte.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::IpNumber;
use vnet_drivers::tap::counters::Reason;
use vnet_drivers::tap::ethernet::{self, Payload};
use vnet_drivers::tap::{arp, ndp};

use crate::lan::{Lan, mac, v4, v6};
use crate::wire::{self, bytes};

/// Captured between two namespaces, 10.0.0.1, fd00::1 at 02:00:00:00:00:0a and 10.0.0.2, fd00::2 at 02:00:00:00:00:0b:
/// what one asked and what the other's kernel answered.
const LINUX: [(&str, &str); 5] = [
    // ping, arping -D
    (
        "ffffffffffff02000000000a0806000108000604000102000000000a0a0000010000000000000a000002",
        "02000000000a02000000000b0806000108000604000202000000000b0a00000202000000000a0a000001",
    ),
    (
        "ffffffffffff02000000000a0806000108000604000102000000000a00000000ffffffffffff0a000002",
        "02000000000a02000000000b0806000108000604000202000000000b0a00000202000000000a00000000",
    ),
    // ping -6 from the global and, by ndisc6, from the link-local address
    (
        "3333ff00000202000000000a86dd6000000000203afffd000000000000000000000000000001ff0200000000000000000001ff000002\
         87007d8e00000000fd000000000000000000000000000002010102000000000a",
        "02000000000a02000000000b86dd6000000000203afffd000000000000000000000000000002fd000000000000000000000000000001\
         88001c9160000000fd000000000000000000000000000002020102000000000b",
    ),
    (
        "3333ff00000202000000000a86dd600f7ed200203afffe80000000000000000000fffe00000aff0200000000000000000001ff000002\
         87007d0500000000fd000000000000000000000000000002010102000000000a",
        "02000000000a02000000000b86dd6000000000203afffd000000000000000000000000000002fe80000000000000000000fffe00000a\
         88001c0860000000fd000000000000000000000000000002020102000000000b",
    ),
    // duplicate address detection, with the nonce of RFC 7527
    (
        "3333ff00000202000000000a86dd6000000000203aff00000000000000000000000000000000ff0200000000000000000001ff000002\
         8700fa0a00000000fd0000000000000000000000000000020e0192e7c238206f",
        "33330000000102000000000b86dd6000000000203afffd000000000000000000000000000002ff020000000000000000000000000001\
         88005a8f20000000fd000000000000000000000000000002020102000000000b",
    ),
];

#[test]
fn what_a_linux_neighbour_would_answer_is_answered_in_its_name_byte_for_byte() {
    for (question, answer) in LINUX {
        let mut lan = Lan::new();
        lan.tap(0x0a, &[v4(1).into(), v6(1).into(), ndp::link_local(mac(0x0a)).into()], false);
        lan.nic(0x0b, &[v4(2).into(), v6(2).into()]);
        assert_eq!(lan.frame(0x0a, &bytes(question)), None, "it is consumed");
        assert_eq!(lan.taps[&0x0a].side.sent, [bytes(answer)], "to {question}");
    }
}

#[test]
fn what_linux_sends_beside_neighbour_discovery_is_carried_as_it_is() {
    let carried = [
        // MLDv2 report with a router alert, router solicitation, IPv6 and IPv4 echo request
        "33330000001602000000000a86dd600000000038000100000000000000000000000000000000ff0200000000000000000000000000163a00\
         0502000001008f006d650000000204000000ff0200000000000000000001ff00000104000000ff0200000000000000000001ff00000a",
        "33330000000202000000000a86dd6000000000103afffe80000000000000000000fffe00000aff020000000000000000000000000002\
         85007b1a00000000010102000000000a",
        "02000000000b02000000000a86dd600dd30c00403a40fd000000000000000000000000000001fd000000000000000000000000000002\
         80004df201d800010b58016b000000005f1f0b0000000000101112131415161718191a1b1c1d1e1f20212223242526\
         2728292a2b2c2d2e2f3031323334353637",
        "02000000000b02000000000a0800450000548fb34000400196f30a0000010a0000020800018201d700010b58016b000000001e100b000000\
         0000101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f3031323334353637",
    ];
    for frame in carried {
        let mut lan = Lan::new();
        lan.tap(0x0a, &[v4(1).into(), v6(1).into(), ndp::link_local(mac(0x0a)).into()], false);
        lan.nic(0x0b, &[v4(2).into(), v6(2).into()]);
        assert_eq!(lan.frame(0x0a, &bytes(frame)).as_deref(), Some(&bytes(frame)[14..]));
        assert_eq!(lan.taps[&0x0a].counts(), [], "nothing befalls it");
    }
}

#[test]
fn frames_that_scapy_makes_of_other_protocols_are_not_ip() {
    let frames = [
        // IP in a VLAN, spanning tree in 802.3
        "ffffffffffff02000000000a8100000508004500001c00010000400166de0a0000010a0000020800f7ff00000000",
        "0180c200000002000000000a002642420300000000000000000000000000000000000000000000000000000001001400020\
         00f00",
    ];
    for frame in frames {
        assert_eq!(ethernet::parse(&bytes(frame), false), Err(Reason::NotIp));
    }
    let mut frame = wire::arp_request(mac(1), v4(1), v4(2));
    for (at, value) in [(14, 9), (16, 0x86), (21, 8)] {
        let before = std::mem::replace(&mut frame[at], value);
        assert_eq!(arp::parse(&frame[14..]), Err(Reason::NotIp), "hardware, protocol, RARP-like operations");
        frame[at] = before;
    }
}

#[test]
fn what_ethernet_pads_is_not_part_of_the_datagram() {
    let frame = bytes(
        "02000000000b02000000000a08004500001e00010000401166cc0a0000010a00000200010002000a836b6869\
         000000000000000000000000000000000000",
    );
    let parsed = ethernet::parse(&frame, false).unwrap();
    assert_eq!(parsed.payload, Payload::Ip(&frame[14..44]));
    assert_eq!((parsed.destination, parsed.source), (mac(0x0b), mac(0x0a)));
    let mut padded = wire::udp(mac(1), mac(2), v6(1).into(), v6(2).into());
    let length = padded.len();
    padded.extend([0; 9]);
    assert_eq!(ethernet::parse(&padded, false).unwrap().payload, Payload::Ip(&padded[14..length]));
    assert_eq!(ethernet::header(mac(2), mac(1), &padded[14..]), padded[..14], "the header is written as it was read");
}

#[test]
fn frames_cut_anywhere_or_with_lengths_that_lie_are_malformed() {
    let udp4 = wire::udp(mac(1), mac(2), v4(1).into(), v4(2).into());
    let udp6 = wire::udp(mac(1), mac(2), v6(1).into(), v6(2).into());
    for frame in [&udp4, &udp6] {
        for length in 0..frame.len() {
            assert_eq!(ethernet::parse(&frame[..length], false), Err(Reason::Malformed), "cut to {length}");
        }
        assert!(ethernet::parse(frame, false).is_ok());
    }
    let nobody = wire::udp([0; 6], mac(2), v4(1).into(), v4(2).into());
    let lies: [(&[u8], usize, u8); 10] = [
        (&udp4, 14, 0x65), // version
        (&udp4, 14, 0x44), // header length
        (&udp4, 14, 0x4f),
        (&udp4, 17, 19), // total length
        (&udp4, 17, 200),
        (&udp4, 17, 0),
        (&udp6, 14, 0x45),
        (&udp6, 19, 200),
        (&udp6, 6, 1), // from a group
        (&nobody, 0, 2),
    ];
    for (frame, at, value) in lies {
        let mut frame = frame.to_vec();
        frame[at] = value;
        assert_eq!(ethernet::parse(&frame, false), Err(Reason::Malformed), "{value} at {at}");
    }
    let arp = wire::arp_request(mac(1), v4(1), v4(2));
    for length in 14..arp.len() {
        assert_eq!(arp::parse(&arp[14..length]), Err(Reason::Malformed));
    }
}

#[test]
fn a_large_segment_whose_length_no_header_can_tell_is_all_that_follows() {
    let mut frame = wire::udp(mac(1), mac(2), v4(1).into(), v4(2).into());
    frame[16..18].fill(0);
    frame.resize(14 + 70_000, 1);
    assert_eq!(ethernet::parse(&frame, true).unwrap().payload, Payload::Ip(&frame[14..]));
    assert_eq!(ethernet::parse(&frame, false), Err(Reason::Malformed));
    let mut frame = wire::udp(mac(1), mac(2), v6(1).into(), v6(2).into());
    frame[18..20].fill(0);
    frame[20] = 0;
    assert_eq!(ethernet::parse(&frame, true).unwrap().payload, Payload::Ip(&frame[14..]));
    assert_eq!(ethernet::parse(&frame, false), Err(Reason::Malformed), "a jumbogram fits no frame");
    frame[20] = 59;
    assert_eq!(ethernet::parse(&frame, false).unwrap().payload, Payload::Ip(&frame[14..54]), "a header alone is whole");
}

#[test]
fn groups_have_the_macs_of_rfc_1112_and_rfc_2464() {
    let cases: [(IpAddr, Option<wire::Mac>); 5] = [
        (Ipv4Addr::new(224, 0, 0, 251).into(), Some([1, 0, 0x5e, 0, 0, 251])),
        (Ipv4Addr::new(239, 255, 1, 2).into(), Some([1, 0, 0x5e, 0x7f, 1, 2])),
        (Ipv4Addr::BROADCAST.into(), None),
        (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff28, 0x9c5a).into(), Some([0x33, 0x33, 0xff, 0x28, 0x9c, 0x5a])),
        (v6(1).into(), None),
    ];
    for (group, expected) in cases {
        assert_eq!(ethernet::group_mac(group), expected);
    }
}

/// RFC 4861 sections 7.1.1 and 7.1.2, one rule after the other.
#[test]
fn neighbour_discovery_that_is_not_valid_is_malformed_and_changes_nothing() {
    let question = wire::solicitation(mac(1), v6(1), v6(2));
    let detection = wire::solicitation(mac(1), Ipv6Addr::UNSPECIFIED, v6(2));
    let answer = wire::advertisement(mac(1), (mac(2), v6(2)), v6(1), 0x60);
    let to_all = (wire::multicast_mac(ndp::ALL_NODES), ndp::ALL_NODES);
    let changed = |frame: &[u8], at: usize, value: u8| {
        let mut frame = frame.to_vec();
        frame[at] = value;
        mend(&mut frame);
        frame
    };
    let mut wrong = vec![
        changed(&question, 21, 254),                                  // hop limit
        changed(&answer, 21, 64),                                     //
        changed(&question, 55, 1),                                    // code
        changed(&question, 62, 0xff),                                 // target: a group
        changed(&answer, 62, 0xff),                                   //
        changed(&question, 79, 0),                                    // an option without length
        changed(&question, 79, 2),                                    // an option beyond the end
        changed(&question, 80, 3),                                    // a group's MAC
        changed(&detection, 50, 0xfe),                                // from nobody, to no solicited-node group
        wire::advertisement(mac(1), to_all, v6(1), 0x60),             // to all, and solicited
        changed(&[&detection[..], &question[78..]].concat(), 19, 32), // from nobody, with a MAC
    ];
    for frame in [&question, &answer] {
        let mut frame = frame.clone();
        frame[57] ^= 1;
        wrong.push(frame); // checksum
    }
    for length in 58..question.len() - 8 {
        let mut frame = question[..length].to_vec();
        frame[19] = (length - 54) as u8;
        mend(&mut frame);
        wrong.push(frame); // cut
    }
    for frame in wrong {
        let mut lan = Lan::new();
        lan.tap(1, &[], false);
        lan.nic(2, &[v6(2).into()]);
        assert_eq!(lan.frame(1, &frame), None);
        assert_eq!(lan.taps[&1].counts(), [("malformed", 1)], "{frame:02x?}");
        assert_eq!((lan.said(1), lan.owner(v6(1))), (vec![], None));
    }
}

/// Fits the ICMPv6 checksum.
fn mend(frame: &mut [u8]) {
    frame[56..58].fill(0);
    let mut sum = (frame.len() - 54) as u32 + 58;
    for pair in frame[22..].chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    frame[56..58].copy_from_slice(&(!sum as u16).to_be_bytes());
}

#[test]
fn neighbour_discovery_is_found_behind_extension_headers_and_never_followed_into_fragments() {
    let forged = wire::advertisement(mac(1), (mac(3), v6(3)), v6(2), 0x60);
    let options = [58, 0, 1, 4, 0, 0, 0, 0];
    let fragment = [58, 0, 0, 0, 0, 0, 0, 7];
    let mut two = [60, 0, 1, 4, 0, 0, 0, 0].to_vec();
    two.extend(options);
    for (first, headers, carried) in [
        (IpNumber::IPV6_DESTINATION_OPTIONS, &options[..], false),
        (IpNumber::IPV6_HEADER_HOP_BY_HOP, &two[..], false),
        // Receivers ignore it: RFC 6980.
        (IpNumber::IPV6_FRAGMENTATION_HEADER, &fragment[..], true),
    ] {
        let mut lan = Lan::new();
        lan.tap(1, &[], false);
        lan.nic(2, &[v6(2).into()]);
        lan.nic(3, &[v6(3).into()]);
        let frame = wire::behind(&forged, first, headers);
        assert_eq!(lan.frame(1, &frame).is_some(), carried, "{first:?}");
        assert_eq!(lan.count(1, Reason::Conflict), 1, "the source is another's, too");
        assert_eq!(lan.owner(v6(2)), Some(2));
    }
    // Cut in the middle of a header, a walk ends.
    let frame = wire::behind(&forged, IpNumber::IPV6_DESTINATION_OPTIONS, &[60, 255, 0, 0, 0, 0, 0, 0]);
    assert_eq!(ndp::parse(&frame[14..]), Ok(None));
}
