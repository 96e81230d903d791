//! What guests say that a frame lacks: the header before it, the word beside it, and finishing it.
//!
//! An input is: what to do, what the receiver takes, the 10 bytes of the header or 8 of the word and 2 for the change,
//! the datagram.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vnet_base::offload::{Fields, Finisher, Offload, Segments, suits};
use vnet_drivers::virtio_net;

#[path = "../../base/tests/offload/plain.rs"]
mod plain;

/// Bits of an input's first byte. Lengths and sums that are right by chance are rare, so some inputs are put right.
const WORD: u8 = 1;
const FIT_LENGTH: u8 = 2;
const FIT_SUM: u8 = 4;
const CHANGE: u8 = 8;

const ETHERNET: usize = 14;

fuzz_target!(|input: &[u8]| {
    let Some((&[what, takes, rest @ ..], datagram)) = input.split_first_chunk::<12>() else { return };
    let header: [u8; 10] = rest;
    let takes = u32::from(takes);
    let mut datagram = datagram.to_vec();
    if what & FIT_LENGTH != 0 {
        fit_length(&mut datagram);
    }
    let (word, change) = header.split_at(8);
    let offload = if what & WORD != 0 {
        Offload::from_word(word.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)))
    } else {
        let Ok(Some(offload)) = virtio_net::parse(&header, ETHERNET, &datagram) else { return };
        offload
    };
    let largest = offload.largest(&datagram);
    assert!(largest <= datagram.len());
    let Ok(fields) = offload.check(&datagram) else { return };
    assert_eq!(Offload::new(&fields), offload, "every bit of a word that passes has a meaning");
    let written = virtio_net::build(Some(offload), &datagram, ETHERNET);
    if fields != Fields::default() && usize::from(u16::from_le_bytes([written[6], written[7]])) < datagram.len() {
        let mut said = fields;
        if largest == datagram.len() {
            (said.segments, said.ecn) = (None, false);
        }
        let read = virtio_net::parse(&written, ETHERNET, &datagram);
        assert_eq!(read, Ok(Some(Offload::new(&said))), "what is written is read");
    }
    if what & FIT_SUM != 0 {
        fit_sum(&mut datagram, &fields);
    }
    check_pieces(&datagram, &fields, takes, largest, what & FIT_SUM != 0);

    if what & CHANGE != 0 && !datagram.is_empty() {
        // Memory that others can write: what was checked is not what is finished.
        let at = usize::from(change[0]) % datagram.len().min(128);
        datagram[at] = change[1];
        Finisher::new().finish(&datagram, &fields, takes, |piece, _| !piece.is_empty());
        Finisher::new().finish(&datagram[..at], &fields, takes, |_, _| true);
    }
});

/// What the finisher makes of a datagram must be whole, no larger than said, and right.
fn check_pieces(datagram: &[u8], fields: &Fields, takes: u32, largest: usize, summed: bool) {
    let mut pieces = Vec::new();
    let finished = Finisher::new().finish(datagram, fields, takes, |piece, offload| {
        pieces.push((piece.to_vec(), offload));
        true
    });
    assert!(finished && !pieces.is_empty());
    for (_, offload) in pieces.iter().filter(|(_, offload)| offload.is_some()) {
        let left = offload.unwrap().fields();
        assert!(suits(&left, takes), "{left:?} is left to who takes {takes}");
    }
    if suits(fields, takes) {
        let lacking = (*fields != Fields::default()).then(|| Offload::new(fields));
        return assert_eq!(pieces, [(datagram.to_vec(), lacking)]);
    }
    let (start, offset) = fields.checksum.map(|(start, offset)| (usize::from(start), usize::from(offset))).unwrap();
    let Some((kind, size)) = fields.segments else {
        assert_eq!(pieces.len(), 1);
        let mut restored = pieces[0].0.clone();
        restored[start + offset..start + offset + 2].copy_from_slice(&datagram[start + offset..start + offset + 2]);
        assert_eq!(restored, datagram, "only the checksum changes");
        let (before, after) = (plain::sum(&datagram[start..]), plain::sum(&pieces[0].0[start..]));
        let field = |bytes: &[u8]| u16::from_be_bytes([bytes[start + offset], bytes[start + offset + 1]]);
        if offset % 2 == 0 {
            let kept = plain::add(after, !field(&pieces[0].0));
            assert_eq!(plain::add(kept, field(datagram)), plain::add(before, 0));
            assert_eq!(plain::add(before, field(&pieces[0].0)), 0, "the checksum is the complement of the sum");
        }
        return;
    };
    let own = if kind == Segments::Udp { 8 } else { usize::from(datagram[start + 12] >> 4) * 4 };
    let headers = start + own;
    let size = usize::from(size);
    assert_eq!(largest, datagram.len().min(headers + size));
    assert_eq!(pieces.len(), (datagram.len() - headers).div_ceil(size).max(1));
    let payload: Vec<u8> = pieces.iter().flat_map(|(piece, _)| piece[headers..].to_vec()).collect();
    assert!(payload == datagram[headers..], "payloads in a row are the payload");
    let protocol = if kind == Segments::Udp { 17 } else { 6 };
    for (index, (piece, left)) in pieces.iter().enumerate() {
        assert!(piece.len() <= largest);
        assert!(index + 1 == pieces.len() || piece.len() == largest);
        assert!(pieces.len() == 1 || plain::has_right_header(piece));
        if let Some(left) = left {
            assert_eq!(left.check(piece).map(|fields| fields.segments), Ok(None));
        }
        if summed {
            let whole = plain::sum(&piece[start..]);
            let pseudo = plain::pseudo(piece, protocol, start);
            let field = u16::from_be_bytes([piece[start + offset], piece[start + offset + 1]]);
            match left {
                None => assert_eq!(plain::add(whole, pseudo), 0, "piece {index} has a wrong checksum"),
                Some(_) => assert_eq!(plain::add(field, 0), plain::add(pseudo, 0), "piece {index} has no pseudo sum"),
            }
        }
    }
}

fn fit_length(datagram: &mut [u8]) {
    let length = datagram.len() as u16;
    match datagram.first().map(|byte| byte >> 4) {
        Some(4) if datagram.len() >= 20 => datagram[2..4].copy_from_slice(&length.to_be_bytes()),
        Some(6) if datagram.len() >= 40 => datagram[4..6].copy_from_slice(&(length - 40).to_be_bytes()),
        _ => {}
    }
}

/// The pseudo header's sum, where a kernel leaves it.
fn fit_sum(datagram: &mut [u8], fields: &Fields) {
    let (Some((start, offset)), Some((kind, _))) = (fields.checksum, fields.segments) else { return };
    let (start, offset) = (usize::from(start), usize::from(offset));
    let sum = plain::pseudo(datagram, if kind == Segments::Udp { 17 } else { 6 }, start);
    datagram[start + offset..start + offset + 2].copy_from_slice(&sum.to_be_bytes());
}
