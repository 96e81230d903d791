//! The header that TAP devices and virtio guests put before each frame: what the frame still lacks.
//!
//! Virtio 1.3 section 5.1.6, `struct virtio_net_hdr` as Linux has it in `linux/virtio_net.h`, without `num_buffers`:
//!
//! ```text
//!     0        1          2          4          6            8             10
//!   ┌────────┬──────────┬──────────┬──────────┬────────────┬─────────────┐
//!   │ flags  │ gso_type │ hdr_len  │ gso_size │ csum_start │ csum_offset │
//!   └────────┴──────────┴──────────┴──────────┴────────────┴─────────────┘
//! ```
//!
//! Numbers are little endian: always so with virtio 1, and with a TAP on machines that are, or after `TUNSETVNETLE`.
//! They count from the frame's first byte, offloads from the IP header's.

use vnet_base::offload::{Contradiction, Fields, Offload, Segments};

/// Bytes of the header.
pub const HEADER: usize = 10;

/// The checksum is to be done. `DATA_VALID` (2) beside it says that one was verified, which nobody here relies on:
/// every guest verifies what it gets, and people inject wrong checksums on purpose.
const NEEDS_CSUM: u8 = 1;

const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
/// Beside a TCP type: the segments' CWR flag is for the first only.
const GSO_ECN: u8 = 0x80;

/// What the IP datagram, which follows the header and `ethernet` bytes, lacks; `None` if nothing. Checked: the two fit.
///
/// Flags that nobody asked for are passed over (virtio 1.3 sections 5.1.6.2.2 and 5.1.6.4.2), types that nobody asked
/// for are not.
///
/// # Errors
///
/// Where the header contradicts the datagram. `GSO_UDP` (3) is [`Contradiction::Unknown`]: it cuts into fragments, and
/// no device here offers it.
pub fn parse(header: &[u8; HEADER], ethernet: usize, datagram: &[u8]) -> Result<Option<Offload>, Contradiction> {
    let [flags, kind, ..] = *header;
    if flags & NEEDS_CSUM == 0 && kind == GSO_NONE {
        return Ok(None);
    }
    let number = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    if usize::from(number(2)) > ethernet + datagram.len() {
        return Err(Contradiction::Beyond);
    }
    let segments = match kind & !GSO_ECN {
        GSO_NONE => None,
        GSO_TCPV4 => Some(Segments::Tcp4),
        GSO_TCPV6 => Some(Segments::Tcp6),
        GSO_UDP_L4 => Some(Segments::Udp),
        _ => return Err(Contradiction::Unknown),
    };
    let checksum = if flags & NEEDS_CSUM == 0 {
        None
    } else {
        let start = usize::from(number(6)).checked_sub(ethernet).ok_or(Contradiction::Start)?;
        Some((start as u16, number(8)))
    };
    let segments = segments.map(|kind| (kind, number(4)));
    let offload = Offload::new(&Fields { checksum, segments, ecn: kind & GSO_ECN != 0 });
    offload.check(datagram)?;
    Ok(Some(without_single_segments(offload, datagram)))
}

/// Linux drops what is to be cut and is short enough already when it comes to cut it, so nobody is told to.
fn without_single_segments(offload: Offload, datagram: &[u8]) -> Offload {
    if offload.largest(datagram) < datagram.len() {
        return offload;
    }
    Offload::new(&Fields { segments: None, ecn: false, ..offload.fields() })
}

/// Whether the header says that the frame is yet to be cut into segments.
#[must_use]
pub fn is_segmented(header: &[u8; HEADER]) -> bool {
    header[1] != GSO_NONE
}

/// The header for a datagram that lacks `offload`, which [`Offload::check`] has passed, behind `ethernet` bytes.
#[must_use]
pub fn build(offload: Option<Offload>, datagram: &[u8], ethernet: usize) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let Some(offload) = offload else { return header };
    let Fields { checksum, segments, ecn } = without_single_segments(offload, datagram).fields();
    // Where a number outgrows its field, the kernel refuses the largest: it lies behind every frame.
    let place = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX).to_le_bytes();
    if let Some((start, offset)) = checksum {
        header[0] = NEEDS_CSUM;
        header[6..8].copy_from_slice(&place(usize::from(start) + ethernet));
        header[8..].copy_from_slice(&offset.to_le_bytes());
    }
    if let Some((kind, size)) = segments {
        let kind = match kind {
            Segments::Tcp4 => GSO_TCPV4,
            Segments::Tcp6 => GSO_TCPV6,
            Segments::Udp => GSO_UDP_L4,
        };
        header[1] = if ecn { kind | GSO_ECN } else { kind };
        let headers = offload.headers(datagram).unwrap_or(datagram.len());
        header[2..4].copy_from_slice(&place(ethernet + headers));
        header[4..6].copy_from_slice(&size.to_le_bytes());
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 3,000 bytes of TCP over IPv4: 20 bytes of IP, 32 of TCP.
    fn tcp() -> Vec<u8> {
        let mut datagram = vec![0; 3_000];
        datagram[0] = 0x45;
        datagram[2..4].copy_from_slice(&3_000u16.to_be_bytes());
        datagram[9] = 6;
        datagram[32] = 0x80;
        datagram
    }

    #[test]
    fn headers_are_read_and_written_as_linux_has_them() {
        // hdr_len 66, gso_size 1448, csum_start 34, csum_offset 16.
        let header = [1, 1, 66, 0, 0xa8, 0x05, 34, 0, 16, 0];
        let fields = Fields { checksum: Some((20, 16)), segments: Some((Segments::Tcp4, 1_448)), ecn: false };
        let offload = Offload::new(&fields);
        assert_eq!(parse(&header, 14, &tcp()), Ok(Some(offload)));
        assert_eq!(build(Some(offload), &tcp(), 14), header);

        let alone = [1, 0, 0, 0, 0, 0, 34, 0, 16, 0];
        let offload = Offload::new(&Fields { checksum: Some((20, 16)), ..Fields::default() });
        assert_eq!(parse(&alone, 14, &tcp()), Ok(Some(offload)));
        assert_eq!(build(Some(offload), &tcp(), 14), alone);

        let ecn = [1, 0x81, 66, 0, 0xa8, 0x05, 34, 0, 16, 0];
        let offload = Offload::new(&Fields { ecn: true, ..fields });
        assert_eq!(parse(&ecn, 14, &tcp()), Ok(Some(offload)));
        assert_eq!(build(Some(offload), &tcp(), 14), ecn);
    }

    #[test]
    fn verified_checksums_and_unknown_flags_lack_nothing() {
        assert_eq!(parse(&[2, 0, 0, 0, 0, 0, 0, 0, 0, 0], 14, &[]), Ok(None));
        assert_eq!(parse(&[0xfe, 0, 0, 0, 0, 0, 0, 0, 0, 0], 14, &tcp()), Ok(None));
        assert_eq!(build(None, &tcp(), 14), [0; HEADER]);
    }

    #[test]
    fn what_is_short_enough_is_not_to_be_cut() {
        let header = |size: u16| [1, 0x81, 66, 0, size as u8, (size >> 8) as u8, 34, 0, 16, 0];
        let alone = Offload::new(&Fields { checksum: Some((20, 16)), ..Fields::default() });
        let payload = tcp().len() as u16 - 52;
        assert_eq!(parse(&header(payload), 14, &tcp()), Ok(Some(alone)));
        let cut = parse(&header(payload - 1), 14, &tcp()).unwrap().unwrap();
        assert_eq!(cut.fields().segments, Some((Segments::Tcp4, payload - 1)));
        let single = Fields { checksum: Some((20, 16)), segments: Some((Segments::Tcp4, payload)), ecn: true };
        assert_eq!(build(Some(Offload::new(&single)), &tcp(), 14), build(Some(alone), &tcp(), 14));
    }

    #[test]
    fn what_contradicts_the_frame_is_refused() {
        let good = [1, 1, 66, 0, 0xa8, 0x05, 34, 0, 16, 0];
        let cases: [(&[(usize, u8)], Contradiction); 10] = [
            (&[(0, 0)], Contradiction::Checksum),
            (&[(1, 3)], Contradiction::Unknown),
            (&[(1, 2)], Contradiction::Unknown),
            (&[(1, 0x21)], Contradiction::Unknown),
            (&[(1, 4)], Contradiction::Kind),
            (&[(1, 0x85)], Contradiction::Ecn),
            (&[(2, 0xff), (3, 0xff)], Contradiction::Beyond),
            (&[(4, 0), (5, 0)], Contradiction::Size),
            (&[(6, 13)], Contradiction::Start),
            (&[(6, 36)], Contradiction::Checksum),
        ];
        for (changes, contradiction) in cases {
            let mut header = good;
            changes.iter().for_each(|(at, value)| header[*at] = *value);
            assert_eq!(parse(&header, 14, &tcp()), Err(contradiction), "{header:?}");
        }
        assert_eq!(parse(&good, 14, &tcp()[..40]), Err(Contradiction::Beyond), "a frame that is cut off");
        assert_eq!(parse(&good, 14, &[]), Err(Contradiction::Beyond), "no datagram at all");
    }
}
