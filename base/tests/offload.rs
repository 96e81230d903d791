//! What the finisher makes of any datagram that a guest's kernel could hand over.
#![cfg(not(loom))]

#[path = "offload/datagrams.rs"]
mod datagrams;
#[path = "offload/plain.rs"]
mod plain;

use datagrams::Shape;
use proptest::prelude::*;
use vnet_base::offload::{Contradiction, Fields, Finisher, Offload, Segments, suits, takes};

fn shape() -> impl Strategy<Value = Shape> {
    let payload = prop_oneof![8 => 0usize..6_000, 1 => 60_000usize..65_000];
    let extensions = prop::collection::vec(prop::sample::select(vec![0u8, 43, 60]), 0..4);
    let flags = (0usize..=10, any::<u8>(), any::<u16>(), any::<u32>());
    (any::<(bool, bool)>(), 0usize..=10, extensions, flags, payload).prop_map(
        |((v6, udp), options, extensions, tcp, payload)| {
            let (tcp_options, flags, id, sequence) = tcp;
            Shape { v6, udp, options, extensions, tcp_options, flags, id, sequence, payload }
        },
    )
}

fn whole(shape: &Shape, size: u16) -> Fields {
    Fields { segments: Some((shape.kind(), size)), ..alone(shape) }
}

fn alone(shape: &Shape) -> Fields {
    Fields { checksum: Some((shape.transport() as u16, shape.offset() as u16)), ..Fields::default() }
}

fn pieces(datagram: &[u8], fields: &Fields, takes: u32) -> Vec<(Vec<u8>, Option<Offload>)> {
    let mut pieces = Vec::new();
    assert!(Finisher::new().finish(datagram, fields, takes, |piece, offload| {
        pieces.push((piece.to_vec(), offload));
        true
    }));
    pieces
}

/// Whether the checksum is that of the datagram and its pseudo header; UDP's zero says that there is none.
fn has_right_checksum(shape: &Shape, datagram: &[u8]) -> bool {
    let transport = shape.transport();
    let pseudo = plain::pseudo(datagram, shape.protocol(), transport);
    let none = shape.udp && datagram[transport + 6..transport + 8] == [0, 0];
    !none && plain::add(plain::sum(&datagram[transport..]), pseudo) == 0
}

proptest! {
    #[test]
    fn segments_have_all_payload_right_sums_and_no_more_bytes_than_said(shape in shape(), size in 8u16..3_000) {
        let datagram = shape.datagram();
        let offload = Offload::new(&whole(&shape, size));
        let fields = offload.check(&datagram).expect("what a kernel could hand over");
        let pieces = pieces(&datagram, &fields, 0);
        let payload: Vec<u8> = pieces.iter().flat_map(|(piece, _)| piece[shape.headers()..].to_vec()).collect();
        prop_assert!(payload == datagram[shape.headers()..]);
        prop_assert_eq!(offload.headers(&datagram), Some(shape.headers()));
        let longest = pieces.iter().map(|(piece, _)| piece.len()).max();
        prop_assert_eq!(longest, Some(offload.largest(&datagram)));
        for (piece, left) in &pieces {
            prop_assert_eq!(*left, None);
            prop_assert!(plain::has_right_header(piece));
            prop_assert!(has_right_checksum(&shape, piece));
        }
    }

    #[test]
    fn headers_count_up_and_flags_stand_where_tcp_wants_them(shape in shape(), size in 8u16..3_000) {
        let datagram = shape.datagram();
        let pieces = pieces(&datagram, &whole(&shape, size), 0);
        let (transport, last) = (shape.transport(), pieces.len() - 1);
        for (index, (piece, _)) in pieces.iter().enumerate() {
            let mut expected = datagram[..shape.headers()].to_vec();
            if shape.v6 {
                expected[4..6].copy_from_slice(&piece[4..6]);
            } else {
                expected[2..4].copy_from_slice(&piece[2..4]);
                expected[4..6].copy_from_slice(&shape.id.wrapping_add(index as u16).to_be_bytes());
                expected[10..12].copy_from_slice(&piece[10..12]);
            }
            if shape.udp {
                let length = (piece.len() - transport) as u16;
                expected[transport + 4..transport + 6].copy_from_slice(&length.to_be_bytes());
            } else {
                let sequence = shape.sequence.wrapping_add(index as u32 * u32::from(size));
                expected[transport + 4..transport + 8].copy_from_slice(&sequence.to_be_bytes());
                // Congestion window reduced (0x80) is said once and first; push (8) and end (1) once and last.
                let cleared = if index == 0 { 0 } else { 0x80 } | if index == last { 0 } else { 0x09 };
                expected[transport + 13] &= !cleared;
            }
            let field = transport + shape.offset();
            expected[field..field + 2].copy_from_slice(&piece[field..field + 2]);
            prop_assert_eq!(&expected[..], &piece[..shape.headers()], "piece {} of {}", index, last + 1);
        }
    }

    #[test]
    fn a_checksum_alone_is_done_and_nothing_else_changes(shape in shape()) {
        let datagram = shape.datagram();
        let fields = Offload::new(&alone(&shape)).check(&datagram).expect("what a kernel could hand over");
        let pieces = pieces(&datagram, &fields, takes::TSO4 | takes::TSO6);
        prop_assert_eq!(pieces.len(), 1);
        prop_assert!(has_right_checksum(&shape, &pieces[0].0));
        let field = shape.transport() + shape.offset();
        let mut restored = pieces[0].0.clone();
        restored[field..field + 2].copy_from_slice(&datagram[field..field + 2]);
        prop_assert!(restored == datagram);
    }

    #[test]
    fn a_receiver_gets_whole_what_it_takes_and_does_itself_only_what_it_takes(
        shape in shape(), size in 8u16..3_000, takes in 0u32..32, ecn: bool,
    ) {
        let datagram = shape.datagram();
        let fields = Fields { ecn: ecn && !shape.udp, ..whole(&shape, size) };
        let pieces = pieces(&datagram, &fields, takes);
        if suits(&fields, takes) {
            prop_assert_eq!(pieces, [(datagram, Some(Offload::new(&fields)))]);
        } else {
            let sums = takes & takes::CHECKSUM != 0;
            let mut done = Vec::new();
            for (piece, left) in pieces {
                prop_assert_eq!(left, sums.then(|| Offload::new(&alone(&shape))));
                let left = left.map_or(Ok(Fields::default()), |left| left.check(&piece)).expect("what fits its piece");
                Finisher::new().finish(&piece, &left, 0, |piece, _| { done.push(piece.to_vec()); true });
            }
            prop_assert!(done.iter().all(|piece| has_right_checksum(&shape, piece)));
        }
    }

    #[test]
    fn words_mean_what_they_were_made_of(
        start: u16, offset: u16, kind in 0usize..3, size: u16, given in 0u8..4, ecn: bool,
    ) {
        let kind = [Segments::Tcp4, Segments::Tcp6, Segments::Udp][kind];
        let fields = Fields {
            checksum: (given & 1 != 0).then_some((start, offset)),
            segments: (given & 2 != 0).then_some((kind, size)),
            ecn,
        };
        prop_assert_eq!(Offload::from_word(Offload::new(&fields).word()).fields(), fields);
    }
}

/// 3,000 bytes of payload behind 20 bytes of IPv4 and 32 of TCP, or what `change` makes of that.
fn tcp(change: impl FnOnce(&mut Shape)) -> Shape {
    let mut shape = Shape {
        v6: false,
        udp: false,
        options: 0,
        extensions: Vec::new(),
        tcp_options: 3,
        flags: 0x18,
        id: 7,
        sequence: 9,
        payload: 3_000,
    };
    change(&mut shape);
    shape
}

#[test]
fn what_contradicts_the_datagram_is_refused_by_its_name() {
    let (v4, v6) = (tcp(|_| {}), tcp(|shape| shape.v6 = true));
    let fits = whole(&v4, 1_448);
    let refused = |datagram: &[u8], fields: Fields| Offload::new(&fields).check(datagram).expect_err("a contradiction");
    let changed = |at: usize, value: u8| {
        let mut datagram = v4.datagram();
        datagram[at] = value;
        datagram
    };
    let with = |change: fn(&mut Fields)| {
        let mut fields = fits;
        change(&mut fields);
        refused(&v4.datagram(), fields)
    };

    assert_eq!(with(|fields| fields.segments = Some((Segments::Tcp4, 0))), Contradiction::Size);
    assert_eq!(with(|fields| fields.segments = Some((Segments::Tcp6, 1_448))), Contradiction::Kind);
    assert_eq!(with(|fields| fields.segments = Some((Segments::Udp, 1_448))), Contradiction::Kind);
    assert_eq!(with(|fields| fields.checksum = None), Contradiction::Checksum);
    assert_eq!(with(|fields| fields.checksum = Some((20, 6))), Contradiction::Checksum);
    assert_eq!(with(|fields| fields.checksum = Some((22, 16))), Contradiction::Checksum);
    assert_eq!(with(|fields| fields.checksum = Some((19, 16))), Contradiction::Start);
    assert_eq!(with(|fields| fields.checksum = Some((20, 3_031))), Contradiction::Beyond);
    assert_eq!(with(|fields| fields.checksum = Some((0xffff, 0xffff))), Contradiction::Beyond);
    assert_eq!(with(|fields| (fields.segments, fields.ecn) = (None, true)), Contradiction::Ecn);
    assert_eq!(refused(&v6.datagram(), fits), Contradiction::Start, "IPv6's header is longer");

    assert_eq!(refused(&[], fits), Contradiction::Header);
    assert_eq!(refused(&v4.datagram()[..19], fits), Contradiction::Header);
    assert_eq!(refused(&changed(0, 0x44), fits), Contradiction::Header, "an IPv4 header of 16 bytes");
    assert_eq!(refused(&changed(0, 0x55), fits), Contradiction::Header, "version 5");
    assert_eq!(refused(&changed(0, 0x46), fits), Contradiction::Start, "an option where TCP is said to begin");
    assert_eq!(refused(&changed(6, 0x20), fits), Contradiction::Fragment, "more fragments");
    assert_eq!(refused(&changed(7, 1), fits), Contradiction::Fragment, "a fragment's offset");
    assert_eq!(refused(&changed(9, 17), fits), Contradiction::Kind);
    assert_eq!(refused(&changed(3, 0), fits), Contradiction::Length);
    assert_eq!(refused(&v4.datagram()[..1_000], fits), Contradiction::Length);
    assert_eq!(refused(&changed(32, 0x40), fits), Contradiction::Tcp, "a TCP header of 16 bytes");
    let mut longer = tcp(|shape| (shape.payload, shape.tcp_options) = (3, 0)).datagram();
    longer[32] = 0x60;
    assert_eq!(refused(&longer, fits), Contradiction::Beyond, "a TCP header that ends one byte after the datagram");
    assert_eq!(Offload::from_word(1 << 52).check(&v4.datagram()), Err(Contradiction::Unknown));
    assert_eq!(Offload::from_word(20).check(&v4.datagram()), Err(Contradiction::Unknown), "a place of no checksum");
}

#[test]
fn extension_headers_cannot_lead_out_of_the_datagram_nor_go_on_without_end() {
    let shape = tcp(|shape| (shape.v6, shape.extensions) = (true, vec![0, 60]));
    let refused = |at: usize, value: u8| {
        let mut datagram = shape.datagram();
        datagram[at] = value;
        Offload::new(&whole(&shape, 1_448)).check(&datagram).expect_err("a contradiction")
    };
    assert_eq!(refused(41, 1), Contradiction::Kind, "a header that covers the one behind it");
    assert_eq!(refused(40, 44), Contradiction::Fragment);
    assert_eq!(refused(40, 50), Contradiction::Kind, "behind encryption nothing can be cut");
    let short = tcp(|shape| (shape.v6, shape.extensions, shape.payload) = (true, vec![0], 0));
    for eights in [5, 6, 255] {
        let mut datagram = short.datagram();
        datagram[41] = eights;
        assert_eq!(Offload::new(&whole(&short, 8)).check(&datagram), Err(Contradiction::Beyond));
    }
    let endless = tcp(|shape| (shape.v6, shape.extensions) = (true, vec![60; 100]));
    assert_eq!(Offload::new(&whole(&endless, 8)).check(&endless.datagram()), Err(Contradiction::Kind));
}

#[test]
fn one_datagram_cannot_become_more_than_a_mebibyte_of_headers() {
    let smallest = tcp(|shape| (shape.options, shape.tcp_options, shape.payload) = (10, 10, 65_535 - 120));
    let datagram = smallest.datagram();
    assert!(Offload::new(&whole(&smallest, 8)).check(&datagram).is_ok(), "the smallest segments that Linux makes");
    assert_eq!(Offload::new(&whole(&smallest, 7)).check(&datagram), Err(Contradiction::Size));
    let udp = tcp(|shape| (shape.udp, shape.payload) = (true, 65_507));
    assert_eq!(Offload::new(&whole(&udp, 1)).check(&udp.datagram()), Err(Contradiction::Size));
}

#[test]
fn who_has_enough_stops_the_finisher() {
    let shape = tcp(|_| {});
    let mut given = 0;
    let finished = Finisher::new().finish(&shape.datagram(), &whole(&shape, 1_000), 0, |_, _| {
        given += 1;
        given < 2
    });
    assert_eq!((finished, given), (false, 2));
}

#[test]
fn a_receiver_must_take_every_thing_that_a_datagram_lacks() {
    let fields = Fields { ecn: true, ..whole(&tcp(|_| {}), 1_448) };
    let needed = takes::CHECKSUM | takes::TSO4 | takes::ECN;
    assert!(suits(&fields, needed) && suits(&fields, 31) && suits(&Fields::default(), 0));
    for missing in [takes::CHECKSUM, takes::TSO4, takes::ECN] {
        assert!(!suits(&fields, 31 & !missing), "{missing}");
    }
    assert!(suits(&whole(&tcp(|shape| shape.v6 = true), 8), takes::CHECKSUM | takes::TSO6));
    assert!(suits(&whole(&tcp(|shape| shape.udp = true), 8), takes::CHECKSUM | takes::USO));
}

#[test]
fn udp_never_gets_the_zero_that_says_there_is_no_checksum() {
    // Payload of two bytes that makes the sum come out as all ones, alone and as the first of two segments.
    let mut shape = tcp(|shape| (shape.udp, shape.payload) = (true, 2));
    let mut datagram = shape.datagram();
    datagram[28..30].copy_from_slice(&[0, 0]);
    let payload = (!plain::sum(&datagram[20..])).to_be_bytes();
    // The first segment of four bytes by two is the datagram of two bytes.
    for length in [2, 4] {
        shape.payload = length;
        let mut datagram = shape.datagram();
        datagram[28..30].copy_from_slice(&payload);
        let piece = &pieces(&datagram, &whole(&shape, 2), 0)[0].0;
        assert_eq!(piece[28..], payload);
        assert_eq!(piece[26..28], [0xff, 0xff]);
        assert!(has_right_checksum(&shape, piece));
    }
}
