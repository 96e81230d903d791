//! Frames: what they are taken for, beside what etherparse takes them for.
//!
//! An input is: whether segmenting was left to the device, the frame.
#![no_main]

use etherparse::{LinkSlice, NetSlice, SlicedPacket};
use libfuzzer_sys::fuzz_target;
use vnet_drivers::tap::ethernet::{Frame, HEADER, Payload, header, is_group, parse};
use vnet_drivers::tap::{arp, ndp};

fuzz_target!(|input: &[u8]| {
    let Some((&first, bytes)) = input.split_first() else { return };
    let offloaded = first & 1 != 0;
    let Ok(frame) = parse(bytes, offloaded) else { return };
    assert!(!is_group(frame.source));
    match frame.payload {
        Payload::Arp(packet) => {
            assert_eq!(packet, &bytes[HEADER..]);
            let Ok(packet) = arp::parse(packet) else { return };
            let written = arp::frame(frame.destination, &packet);
            assert_eq!(written[HEADER..], bytes[HEADER..arp::FRAME], "what is read is written");
        }
        Payload::Ip(datagram) => {
            assert!(bytes[HEADER..].starts_with(datagram));
            assert_eq!(header(frame.destination, frame.source, datagram), bytes[..HEADER]);
            let _ = (ndp::parse(datagram), ndp::router(datagram));
            if !offloaded {
                compare(bytes, &frame, datagram);
            }
        }
    }
});

/// What etherparse finds to be a whole datagram has the length that was found here.
fn compare(bytes: &[u8], frame: &Frame<'_>, datagram: &[u8]) {
    let Ok(packet) = SlicedPacket::from_ethernet(bytes) else { return };
    let Some(LinkSlice::Ethernet2(link)) = &packet.link else { return };
    assert_eq!((link.destination(), link.source()), (frame.destination, frame.source));
    let total = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => usize::from(ip.header().total_len()),
        Some(NetSlice::Ipv6(ip)) => 40 + usize::from(ip.header().payload_length()),
        other => panic!("{other:?}"),
    };
    assert_eq!(total, datagram.len());
}
