//! What routers do to any bytes: nothing panics, and what they say is well formed by a reader that we did not write.
//!
//! That they say what a router should is tried against the kernel, in `tests/rust/icmp`.

use std::cell::RefCell;

use etherparse::{IpNumber, IpSlice, LaxSlicedPacket, NetSlice, SlicedPacket, TransportSlice};
use proptest::collection::vec;
use proptest::prelude::*;
use vnet_base::fragments::{Reassembler, Taken};
use vnet_base::icmp::options::pass_options;
use vnet_base::icmp::{self, Limits, Local, Reach, Refusal, Speaker, Trouble, fragment};
use vnet_base::tables::Address;

const V4: Address = Address::V4(0x0a01_00fe);
const V6: Address = Address::V6(0xfd00_0001_0000_0000, 0xfe);

const TROUBLES: [Trouble; 13] = [
    Trouble::TimeExceeded,
    Trouble::ReassemblyTimeExceeded,
    Trouble::NetUnreachable,
    Trouble::UnreachableRoute,
    Trouble::HostUnreachable,
    Trouble::ProtocolUnreachable(6),
    Trouble::PortUnreachable,
    Trouble::Prohibited,
    Trouble::Filtered,
    Trouble::TooBig(1_400),
    Trouble::Parameter { code: 0, pointer: 22 },
    Trouble::Parameter { code: 2, pointer: 70_000 },
    Trouble::BeyondScope,
];

fn speaker(six: bool, mtu: usize) -> Speaker {
    Speaker { from: if six { V6 } else { V4 }, ident: 7, today: 86_399_999, mtu }
}

/// Reads an answer through, with its checksums.
fn check(answer: &[u8]) {
    let packet = SlicedPacket::from_ip(answer).expect("an IP datagram");
    let net = packet.net.expect("an IP header");
    match &net {
        NetSlice::Ipv4(four) => {
            let header = four.header().to_header();
            assert_eq!(header.calc_header_checksum(), header.header_checksum);
            assert_eq!(usize::from(header.total_len), answer.len());
        }
        NetSlice::Ipv6(six) => assert_eq!(usize::from(six.header().payload_length()) + 40, answer.len()),
        NetSlice::Arp(_) => panic!("no ARP"),
    }
    match packet.transport.expect("a transport header") {
        TransportSlice::Icmpv4(message) => {
            assert_eq!(etherparse::checksum::Sum16BitWords::new().add_slice(message.slice()).ones_complement(), 0);
        }
        TransportSlice::Icmpv6(message) => {
            let NetSlice::Ipv6(six) = &net else { panic!("ICMPv6 in IPv6") };
            let (source, destination) = (six.header().source(), six.header().destination());
            assert!(message.is_checksum_valid(source, destination));
        }
        TransportSlice::Tcp(segment) => {
            let sum = match IpSlice::from_slice(answer).expect("an IP datagram") {
                IpSlice::Ipv4(four) => segment
                    .calc_checksum_ipv4(four.header().source(), four.header().destination())
                    .expect("a short segment"),
                IpSlice::Ipv6(six) => segment
                    .calc_checksum_ipv6(six.header().source(), six.header().destination())
                    .expect("a short segment"),
            };
            assert_eq!(sum, segment.checksum());
        }
        other => panic!("{other:?} is no answer"),
    }
}

/// Bytes that are headers for a good part.
fn datagrams() -> impl Strategy<Value = Vec<u8>> {
    let bytes = vec(any::<u8>(), 0..300);
    let four = (
        vec(any::<u8>(), 0..1_500),
        5u8..16,
        vec(any::<u8>(), 40),
        any::<bool>(),
        prop::sample::select(vec![1u8, 6, 17, 136, 2, 99]),
    );
    let four = four.prop_map(|(data, words, options, seal, protocol)| {
        let mut datagram = vec![0x40 | words, 0, 0, 0, 0, 7, 0, 0, 1, protocol, 0, 0, 10, 1, 0, 1, 10, 2, 0, 1];
        datagram.extend(&options[..usize::from(words - 5) * 4]);
        let header = datagram.len();
        datagram.extend(data);
        let total = (datagram.len() as u16).to_be_bytes();
        datagram[2..4].copy_from_slice(&total);
        if seal {
            reseal(&mut datagram[..header]);
        }
        datagram
    });
    let six = (
        vec(any::<u8>(), 0..1_500),
        prop::sample::select(vec![0u8, 6, 17, 43, 44, 51, 58, 59, 60, 200]),
        any::<bool>(),
    );
    let six = six.prop_map(|(data, next, chained)| {
        let mut datagram = vec![0x60, 0, 0, 0, 0, 0, next, 1];
        datagram.extend([0xfd; 32]);
        let length = (data.len() as u16).to_be_bytes();
        datagram[4..6].copy_from_slice(&length);
        datagram.extend(data);
        if chained && datagram.len() > 42 {
            // One header behind another, short enough for there to be more.
            (datagram[40], datagram[41]) = (datagram[41] % 64, datagram[40] % 3);
        }
        datagram
    });
    prop_oneof![bytes, four, six]
}

/// Echo requests and TCP segments whose checksums hold.
fn asked() -> impl Strategy<Value = Vec<u8>> {
    (vec(any::<u8>(), 12..1_400), 5u8..16, vec(any::<u8>(), 40), 0..4).prop_map(|(data, words, options, kind)| {
        let (six, tcp) = (kind & 1 != 0, kind & 2 != 0);
        let mut datagram = match six {
            false => {
                vec![0x40 | words, 0, 0, 0, 0, 7, 0, 0, 1, if tcp { 6 } else { 1 }, 0, 0, 10, 1, 0, 1, 10, 2, 0, 1]
            }
            true => vec![0x60, 0, 0, 0, 0, 0, if tcp { 6 } else { 58 }, 1],
        };
        datagram.extend(if six { &[0xfd; 32][..] } else { &options[..usize::from(words - 5) * 4] });
        let header = datagram.len();
        // Ports 9, no reset, no options; an echo request.
        let (start, at): (&[u8], usize) = match (tcp, six) {
            (true, _) => (&[0, 9, 0, 9, 0, 0, 0, 9, 0, 0, 0, 9, 0x50, 2, 0, 0, 0, 0, 0, 0], 16),
            (false, false) => (&[8, 0, 0, 0], 2),
            (false, true) => (&[128, 0, 0, 0], 2),
        };
        datagram.extend(start);
        datagram.extend(&data);
        let length = datagram.len() - header;
        let total = (if six { length } else { datagram.len() } as u16).to_be_bytes();
        let place = if six { 4 } else { 2 };
        datagram[place..place + 2].copy_from_slice(&total);
        let ends = if six { 8..40 } else { 12..20 };
        let mut sum = etherparse::checksum::Sum16BitWords::new();
        if tcp || six {
            sum = sum.add_slice(&datagram[ends]).add_slice(&(length as u32).to_be_bytes());
            sum = sum.add_2bytes([0, if tcp { 6 } else { 58 }]);
        }
        let sum = sum.add_slice(&datagram[header..]).ones_complement().to_ne_bytes();
        datagram[header + at..header + at + 2].copy_from_slice(&sum);
        if !six {
            reseal(&mut datagram[..header]);
        }
        datagram
    })
}

fn reseal(header: &mut [u8]) {
    header[10..12].fill(0);
    let sum = etherparse::checksum::Sum16BitWords::new().add_slice(header).ones_complement();
    header[10..12].copy_from_slice(&sum.to_ne_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_received_or_refused_within_what_came(datagram in datagrams()) {
        match icmp::receive(&datagram) {
            Ok(received) => {
                prop_assert!(received.header >= 20 && received.header <= received.total);
                prop_assert!(received.total <= datagram.len());
                // What is read of it alone is the same.
                prop_assert_eq!(icmp::receive(&datagram[..received.total]), Ok(received));
            }
            Err(Refusal::Parameter { pointer, .. }) => prop_assert!((pointer as usize) < datagram.len()),
            Err(Refusal::Silent) => {}
        }
    }

    #[test]
    fn errors_about_any_bytes_are_well_formed_and_short(datagram in datagrams(), trouble in 0..TROUBLES.len(), mtu in prop::sample::select(vec![68usize, 576, 1_500])) {
        let six = datagram.first().is_some_and(|byte| byte >> 4 == 6);
        let mut out = vec![1, 2, 3];
        let _ = icmp::may_answer(&datagram, TROUBLES[trouble]);
        if icmp::error(&mut out, TROUBLES[trouble], &datagram, &speaker(six, mtu), &|address| address & 1 == 0) {
            check(&out);
            let most = if six { 1_280 } else { mtu.min(576) };
            prop_assert!(out.len() <= most);
        } else {
            prop_assert!(out.is_empty());
        }
    }

    #[test]
    fn answers_to_any_bytes_are_well_formed(
        datagram in prop_oneof![datagrams(), asked()],
        reach in prop::sample::select(vec![Reach::Own, Reach::Anycast, Reach::Group]),
    ) {
        let six = datagram.first().is_some_and(|byte| byte >> 4 == 6);
        let Ok(received) = icmp::receive(&datagram) else { return Ok(()) };
        let mut out = Vec::new();
        match icmp::local(&mut out, &datagram[..received.total], reach, &speaker(six, 1_500), &|_| true) {
            Local::Reply => check(&out),
            Local::Error(_, quote) => prop_assert!(quote <= received.total && out.is_empty()),
            Local::Fragment | Local::Silent => prop_assert!(out.is_empty()),
        }
    }

    #[test]
    fn questions_without_a_fault_are_answered(datagram in asked()) {
        let six = datagram[0] >> 4 == 6;
        let mut out = Vec::new();
        if icmp::receive(&datagram).is_ok() {
            let answer = icmp::local(&mut out, &datagram, Reach::Own, &speaker(six, 1_500), &|_| true);
            // No room for what options record is a reason to be silent.
            prop_assert!(answer == Local::Reply || datagram[0] > 0x45 && !six, "{answer:?}");
        }
    }

    #[test]
    fn headers_that_are_passed_on_stay_sound(datagram in datagrams(), hops in 1u8..) {
        let Ok(received) = icmp::receive(&datagram) else { return Ok(()) };
        let mut passed = datagram.clone();
        if !received.plain && datagram[0] >> 4 == 4 {
            pass_options(&mut passed[..received.header], 1, 2, 3, &|_| true);
        }
        icmp::hop(&mut passed, hops);
        prop_assert_eq!(&passed[received.header..], &datagram[received.header..]);
        if received.ttl > hops {
            match icmp::receive(&passed) {
                Ok(again) => prop_assert_eq!((again.ttl, again.total), (received.ttl - hops, received.total)),
                // What was written may leave less room than an entry takes, which the next router takes for a fault.
                Err(refusal) => prop_assert!(!received.plain && refusal != Refusal::Silent),
            }
        }
    }

    #[test]
    fn pieces_of_pieces_become_the_datagram_again(data in vec(any::<u8>(), 0..5_000), words in 5u8..16, options in vec(any::<u8>(), 40), mtus in (68usize..1_500, 68usize..1_500)) {
        let mut datagram = vec![0x40 | words, 3, 0, 0, 0, 7, 0, 0, 9, 17, 0, 0, 10, 1, 0, 1, 10, 2, 0, 1];
        datagram.extend(&options[..usize::from(words - 5) * 4]);
        let header = datagram.len();
        datagram.extend(&data);
        let total = (datagram.len() as u16).to_be_bytes();
        datagram[2..4].copy_from_slice(&total);
        reseal(&mut datagram[..header]);

        let pieces = RefCell::new(Vec::new());
        fragment(&datagram, mtus.0, |piece| {
            assert!(piece.len() <= mtus.0);
            fragment(piece, mtus.1, |smaller| pieces.borrow_mut().push(smaller.to_vec())).expect("room");
        }).expect("room");
        let mut reassembler = Reassembler::default();
        let mut whole = None;
        let pieces = pieces.into_inner();
        for piece in &pieces {
            prop_assert!(piece.len() <= mtus.0.min(mtus.1));
            let sliced = LaxSlicedPacket::from_ip(piece).expect("an IP datagram");
            prop_assert!(sliced.stop_err.is_none() || sliced.net.is_some());
            if let Taken::Completed(made) = reassembler.take(piece, 0) {
                whole = Some(made);
            }
        }
        let whole = if pieces.len() == 1 { pieces[0].clone() } else { whole.expect("all pieces came") };
        // Options, too: those of the first piece are all of them.
        prop_assert_eq!(whole, datagram);
    }

    #[test]
    fn what_one_sends_in_pieces_oneself_becomes_whole_again(data in vec(any::<u8>(), 1_300..9_000), mtu in 1_280usize..1_500, id: u32) {
        let mut datagram = vec![0x60, 0, 0, 0, 0, 0, 17, 64];
        datagram.extend([0xfd; 32]);
        let length = (data.len() as u16).to_be_bytes();
        datagram[4..6].copy_from_slice(&length);
        datagram.extend(&data);
        let mut reassembler = Reassembler::default();
        let mut whole = None;
        fragment::cut(&datagram, mtu, id, |piece| {
            assert!(piece.len() <= mtu);
            let ip = etherparse::Ipv6Slice::from_slice(piece).expect("an IPv6 datagram");
            assert_eq!(ip.extensions().first_header(), Some(IpNumber::IPV6_FRAGMENTATION_HEADER));
            if let Taken::Completed(made) = reassembler.take(piece, 0) {
                whole = Some(made);
            }
        }).expect("room");
        prop_assert_eq!(whole, Some(datagram));
    }

    #[test]
    fn cutting_any_bytes_does_no_harm(datagram in datagrams(), mtu in 0usize..1_500, id: u32) {
        let bound = |piece: &[u8]| assert!(piece.len() <= mtu);
        let _ = fragment(&datagram, mtu, bound);
        let _ = fragment::cut(&datagram, mtu, id, bound);
    }

    #[test]
    fn limits_let_no_more_through_than_they_say(asked in vec((0u16..3, 0u32..4, 0..TROUBLES.len(), 0u64..2_000_000_000), 1..200)) {
        let mut limits = Limits::default();
        let mut now = 0;
        let mut said = std::collections::BTreeMap::<(u16, u32), u64>::new();
        for (router, host, trouble, wait) in asked {
            now += wait;
            let free = matches!(TROUBLES[trouble], Trouble::TooBig(_));
            if limits.allow(router, Address::V4(host), TROUBLES[trouble], now) {
                *said.entry((router, host)).or_default() += u64::from(!free);
            } else {
                prop_assert!(!free);
            }
            // Six at once, and one a second.
            prop_assert!(said.values().all(|count| *count <= 6 + now / 1_000_000_000));
        }
    }
}
