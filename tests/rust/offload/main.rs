//! The finisher against the Linux kernel, which does the same for a TAP that cannot do it itself.
//!
//! ```text
//!   datagram + virtio_net header ──▶ TAP ── bridge ──▶ TAP without offloads ──▶ finished frames
//! ```
//!
//! In a network namespace of its own, which goes with the process.

#[path = "../../../base/tests/offload/datagrams.rs"]
mod datagrams;
#[path = "../namespace.rs"]
mod namespace;
#[path = "../../../base/tests/offload/plain.rs"]
mod plain;
mod tap;

use datagrams::Shape;
use namespace::in_a_namespace;
use tap::Kernel;
use vnet_base::offload::{Fields, Finisher, Offload, takes};
use vnet_drivers::virtio_net;

const ETHERNET: usize = 14;

/// Every kind of datagram once, with what is odd about them in turn, and the size of its segments.
fn shapes() -> Vec<(Shape, u16, bool)> {
    let chains: [&[u8]; 5] = [&[], &[60], &[0], &[0, 43, 60], &[43]];
    let sizes = [1_400, 8, 1_399, 100, 537];
    let mut shapes = Vec::new();
    for turn in 0..120usize {
        let (v6, udp) = (turn & 1 != 0, turn & 2 != 0);
        let size = sizes[turn % sizes.len()];
        shapes.push((
            Shape {
                v6,
                udp,
                options: if turn % 3 == 0 { turn % 11 } else { 0 },
                extensions: chains[turn % 5].to_vec(),
                tcp_options: turn % 11,
                // Without SYN and RST, which no large segment has.
                flags: (turn * 37) as u8 & !0x06,
                id: 0xfffe_u16.wrapping_add((turn * 77) as u16),
                sequence: 0xffff_ff00_u32.wrapping_add(turn as u32 * 0x0100_0001),
                // One segment and a byte, some that end evenly, and many.
                payload: usize::from(size) * [1, 2, 7, 12][turn % 4] + [1, 0, 3][turn % 3],
            },
            size,
            !udp && turn % 8 == 4,
        ));
    }
    shapes
}

fn finished(datagram: &[u8], fields: &Fields, takes: u32) -> Vec<(Vec<u8>, Option<Offload>)> {
    let mut pieces = Vec::new();
    Finisher::new().finish(datagram, fields, takes, |piece, left| {
        pieces.push((piece.to_vec(), left));
        true
    });
    pieces
}

#[test]
fn the_kernel_makes_the_same_segments_byte_for_byte() {
    if !in_a_namespace("the_kernel_makes_the_same_segments_byte_for_byte") {
        return;
    }
    let kernel = Kernel::new();
    let mut compared = 0;
    for (shape, size, ecn) in shapes() {
        let datagram = shape.datagram();
        let checksum = Some((shape.transport() as u16, shape.offset() as u16));
        let fields = Fields { checksum, segments: Some((shape.kind(), size)), ecn };
        let offload = Offload::new(&fields);
        assert_eq!(offload.check(&datagram), Ok(fields), "{shape:?}");
        let ours: Vec<Vec<u8>> = finished(&datagram, &fields, 0).into_iter().map(|(piece, _)| piece).collect();

        let whole = kernel.finish(&[(&virtio_net::build(Some(offload), &datagram, ETHERNET), &datagram)], ours.len());
        assert!(whole == ours, "cut by the kernel: {shape:?}, {size}\n{whole:02x?}\n{ours:02x?}");

        let left = finished(&datagram, &fields, takes::CHECKSUM);
        let left: Vec<_> =
            left.iter().map(|(piece, left)| (virtio_net::build(*left, piece, ETHERNET), piece.as_slice())).collect();
        let left: Vec<_> = left.iter().map(|(header, piece)| (header, *piece)).collect();
        let summed = kernel.finish(&left, ours.len());
        assert!(summed == ours, "summed by the kernel: {shape:?}, {size}");
        compared += ours.len();
    }
    assert!(compared > 500, "only {compared} segments were compared");
}

#[test]
fn the_kernel_does_the_same_checksums() {
    if !in_a_namespace("the_kernel_does_the_same_checksums") {
        return;
    }
    let kernel = Kernel::new();
    let mut zeros = 0;
    for (turn, (mut shape, ..)) in shapes().into_iter().enumerate() {
        shape.payload %= 1_000;
        let mut datagram = shape.datagram();
        let (transport, offset) = (shape.transport(), shape.offset());
        let (start, place) = match shape.payload % 3 {
            // As a tunnel has it: the inner checksum, at an odd place too.
            0 if shape.payload > 40 => (shape.headers() + 7, 17),
            _ => (transport, offset),
        };
        // Two bytes that make the checksum zero, where there is room for them.
        let room = start + (shape.headers() - start.min(shape.headers())).next_multiple_of(2);
        if turn % 3 == 0 && room + 2 <= datagram.len() && room >= start + place + 2 {
            datagram[room..room + 2].copy_from_slice(&[0, 0]);
            let rest = plain::sum(&datagram[start..]);
            datagram[room..room + 2].copy_from_slice(&(!rest).to_be_bytes());
            zeros += 1;
        }
        let fields = Fields { checksum: Some((start as u16, place as u16)), ..Fields::default() };
        let offload = Offload::new(&fields);
        assert_eq!(offload.check(&datagram), Ok(fields), "{shape:?}");
        let theirs = kernel.finish(&[(&virtio_net::build(Some(offload), &datagram, ETHERNET), &datagram)], 1);
        let ours = &finished(&datagram, &fields, 0)[0].0;
        assert!(theirs[0] == *ours, "{shape:?} from {start}, {place}\n{theirs:02x?}\n{ours:02x?}");
    }
    assert!(zeros > 20, "only {zeros} checksums were zero");
}
