//! One hop further.

use super::wire::{half, is_six, put};

/// Takes `hops` off the TTL or the hop limit; an IPv4 checksum that was right stays right (RFC 1624), and is the one that
/// Linux's `ip_decrease_ttl` arrives at, hop by hop.
///
/// The caller has seen that there are more than `hops`: TTL does not go below 0.
#[inline]
pub fn hop(head: &mut [u8], hops: u8) {
    if is_six(head) {
        if let Some(limit) = head.get_mut(7) {
            *limit = limit.saturating_sub(hops);
        }
        return;
    }
    let Some(ttl) = head.get_mut(8) else { return };
    let taken = hops.min(*ttl);
    *ttl -= taken;
    let Some(sum) = half(head, 10).filter(|_| taken > 0) else { return };
    // What was taken off the sum of the header is added to its complement. Of the two zeros of one's complement Linux
    // writes the one with all bits clear.
    let sum = (u32::from(sum) + (u32::from(taken) << 8)) % 0xffff;
    put(head, 10, &(sum as u16).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::wire::{checksum, seal};
    use super::*;

    #[test]
    fn the_checksum_stays_right_for_every_ttl_and_number_of_hops() {
        for ttl in 1..=255u8 {
            for hops in 1..=ttl {
                let mut head = [0x45, 0, 0, 20, 0x12, ttl, 0, 0, ttl, 17, 0, 0, 10, 0, 0, 1, 10, 0, hops, 2];
                seal(&mut head);
                hop(&mut head, hops);
                assert_eq!((head[8], checksum(&[&head])), (ttl - hops, [0, 0]), "{ttl} less {hops}");
            }
        }
    }

    #[test]
    fn many_hops_at_once_are_as_many_one_by_one() {
        for sum in 0..=u16::MAX {
            let mut head = [0x45, 0, 0, 20, 0, 0, 0, 0, 9, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
            put(&mut head, 10, &sum.to_be_bytes());
            let mut slow = head;
            hop(&mut head, 3);
            // The steps of RFC 1624 as `ip_decrease_ttl` writes them.
            for _ in 0..3 {
                let check = u32::from(half(&slow, 10).expect("a header")) + 0x100;
                let check = if check >= 0xffff { check + 1 } else { check };
                put(&mut slow, 10, &(check as u16).to_be_bytes());
                slow[8] -= 1;
            }
            assert_eq!(head, slow, "a checksum of {sum:04x}");
        }
    }

    #[test]
    fn a_hop_limit_ends_at_nothing_and_what_is_cut_short_is_left_alone() {
        let mut head = [0x60, 0, 0, 0, 0, 0, 59, 2];
        hop(&mut head, 3);
        assert_eq!(head[7], 0);
        for length in 0..12 {
            hop(&mut vec![0x45; length], 1);
        }
    }
}
