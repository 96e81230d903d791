//! Windows: whatever a peer puts into one that was announced to it is taken.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};
use vnet_drivers::stack::{TcpOptions, TcpState};

use crate::net::{A, B, Pair, SECOND, any, end};

const A_ADDRESS: IpAddress = IpAddress::v4(A[0], A[1], A[2], A[3]);
const B_ADDRESS: IpAddress = IpAddress::v4(B[0], B[1], B[2], B[3]);

/// What a segment says: the number behind it, what it acknowledges, and its window as it stands there and by the scale of a SYN.
fn said(datagram: &[u8]) -> (TcpSeqNumber, TcpSeqNumber, u16, Option<u8>) {
    let packet = Ipv4Packet::new_checked(datagram).expect("a datagram");
    let tcp = TcpPacket::new_checked(packet.payload()).expect("a segment");
    let repr = TcpRepr::parse(&tcp, &B_ADDRESS, &A_ADDRESS, &ChecksumCapabilities::ignored()).expect("a segment");
    (tcp.seq_number() + tcp.segment_len(), tcp.ack_number(), tcp.window_len(), repr.window_scale)
}

fn segment(port: u16, seq: TcpSeqNumber, ack: TcpSeqNumber, payload: &[u8]) -> Vec<u8> {
    let tcp = TcpRepr {
        src_port: port,
        dst_port: 80,
        control: TcpControl::None,
        seq_number: seq,
        ack_number: Some(ack),
        window_len: u16::MAX,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload,
    };
    let (src_addr, dst_addr, next_header) = (A.into(), B.into(), IpProtocol::Tcp);
    let ip = Ipv4Repr { src_addr, dst_addr, next_header, payload_len: tcp.buffer_len(), hop_limit: 64 };
    let sums = ChecksumCapabilities::default();
    let mut datagram = vec![0; 20 + tcp.buffer_len()];
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut datagram), &sums);
    tcp.emit(&mut TcpPacket::new_unchecked(&mut datagram[20..]), &A_ADDRESS, &B_ADDRESS, &sums);
    datagram
}

#[test]
fn all_that_lies_in_a_window_that_was_ever_announced_is_taken_in_any_portions() {
    for portion in [1, 7, 13, 100, 1447, 1460] {
        let mut pair = Pair::new(1500, 1);
        let listening = pair.b.listen(any(80), 1, &TcpOptions::default()).expect("a free port");
        let client = pair.a.connect(end(B, 80), any(0), &TcpOptions::default()).expect("room");
        let (mut server, mut scale) = (None, None);
        pair.run(SECOND, |pair| {
            let heard = pair.net.sides[0].arriving.front().map(|(_, datagram)| said(datagram));
            scale = scale.or(heard.and_then(|(.., scale)| scale));
            server = server.take().or_else(|| pair.b.accept(&listening));
            server.is_some() && pair.a.state(&client) == TcpState::Open
        });
        let (scale, port) = (scale.expect("windows of megabytes"), pair.a.ends(&client).expect("both").0.port());
        // From here on the peer is this test, and nobody reads. It goes to the furthest end that it was ever told.
        pair.b.send(&server.expect("accepted"), b"z").expect("open");
        let (mut furthest, mut next, mut theirs) = (None::<TcpSeqNumber>, None::<TcpSeqNumber>, TcpSeqNumber(0));
        for _ in 0..3_000_000 {
            pair.net.now += SECOND / 10;
            let now = pair.net.now;
            pair.b.poll(&mut pair.net, now);
            for (_, datagram) in pair.net.sides[0].arriving.drain(..) {
                let (seq, ack, window, _) = said(&datagram);
                let told = ack + (usize::from(window) << scale);
                furthest = Some(furthest.map_or(told, |furthest| if told > furthest { told } else { furthest }));
                let sent = *next.get_or_insert(ack);
                assert!(ack <= sent);
                theirs = seq;
            }
            let (Some(end), Some(from)) = (furthest, next) else { continue };
            let room = if end > from { end - from } else { 0 };
            if room == 0 {
                break;
            }
            // Small portions where they count: at the end.
            let most = if room > 60_000 { 1460 } else { portion };
            let payload = vec![0; most.min(room)];
            pair.b.receive(&segment(port, from, theirs, &payload), &mut pair.net, now);
            next = Some(from + payload.len());
        }
        // The last acknowledgement is for all of it, however the end moved.
        let (from, now) = (next.expect("something"), pair.net.now + SECOND);
        pair.b.receive(&segment(port, from - 1, theirs, b""), &mut pair.net, now);
        pair.b.poll(&mut pair.net, now);
        let last = pair.net.sides[0].arriving.back().map(|(_, datagram)| said(datagram).1);
        assert_eq!(last, Some(from), "in portions of {portion}");
    }
}
