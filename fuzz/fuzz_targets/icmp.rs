//! Datagrams of hostile guests at a router: whatever comes, what it says of it is well formed, and what it sends on is what
//! came.
//!
//! An input is a byte of choices and a datagram. What carries checksums is made right where a choice says so, so that the
//! fuzzer need not find those.
#![no_main]

use etherparse::checksum::Sum16BitWords;
use libfuzzer_sys::fuzz_target;
use vnet_base::fragments::{Reassembler, Taken};
use vnet_base::icmp::options::pass_options;
use vnet_base::icmp::{self, Local, Reach, Received, Refusal, Speaker, Trouble, fragment};
use vnet_base::tables::Address;

const TROUBLES: [Trouble; 8] = [
    Trouble::TimeExceeded,
    Trouble::NetUnreachable,
    Trouble::HostUnreachable,
    Trouble::ProtocolUnreachable(40),
    Trouble::PortUnreachable,
    Trouble::TooBig(1_280),
    Trouble::Parameter { code: 0, pointer: 20 },
    Trouble::Parameter { code: 2, pointer: 42 },
];

fn is_six(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|byte| byte >> 4 == 6)
}

fn mine(address: u32) -> bool {
    address & 1 == 0
}

/// Writes lengths and checksums that hold into what has room for them.
fn mend(datagram: &mut [u8]) {
    let length = datagram.len() as u16;
    let body = match datagram.first().map(|byte| byte >> 4) {
        Some(4) if datagram.len() >= 20 => {
            let header = (usize::from(datagram[0] & 15) * 4).clamp(20, datagram.len());
            datagram[2..4].copy_from_slice(&length.to_be_bytes());
            datagram[10..12].fill(0);
            let sum = Sum16BitWords::new().add_slice(&datagram[..header]).ones_complement();
            datagram[10..12].copy_from_slice(&sum.to_ne_bytes());
            header
        }
        Some(6) if datagram.len() >= 40 => {
            datagram[4..6].copy_from_slice(&(length - 40).to_be_bytes());
            40
        }
        _ => return,
    };
    let (protocol, ends) = if is_six(datagram) { (datagram[6], 8..40) } else { (datagram[9], 12..20) };
    let at = match protocol {
        1 | 58 => 2,
        6 => 16,
        17 => 6,
        _ => return,
    };
    if datagram.len() < body + at + 2 {
        return;
    }
    datagram[body + at..body + at + 2].fill(0);
    let mut sum = Sum16BitWords::new();
    if protocol != 1 {
        let length = (datagram.len() - body) as u32;
        sum = sum.add_slice(&datagram[ends]).add_slice(&length.to_be_bytes()).add_2bytes([0, protocol]);
    }
    let sum = sum.add_slice(&datagram[body..]).ones_complement();
    datagram[body + at..body + at + 2].copy_from_slice(&sum.to_ne_bytes());
}

/// A datagram of a router's own: another router would take it, or find no room in its options.
fn check(answer: &[u8], most: usize) {
    assert!(answer.len() <= most);
    match icmp::receive(answer) {
        Ok(received) => assert_eq!(received.total, answer.len()),
        Err(refusal) => assert!(refusal != Refusal::Silent && answer[0] & 15 > 5 && !is_six(answer)),
    }
}

fn forward(datagram: &[u8], received: &Received) {
    let mut passed = datagram[..received.total].to_vec();
    if !received.plain && !is_six(datagram) {
        pass_options(&mut passed[..received.header], 0x0a01_00fe, 0x0a02_00fe, 7, &mine);
    }
    icmp::hop(&mut passed, 1);
    assert_eq!(passed[received.header..], datagram[received.header..received.total]);
    if received.ttl > 1 {
        match icmp::receive(&passed) {
            Ok(again) => assert_eq!(again.ttl, received.ttl - 1),
            // What was written may leave less room than an entry takes, which the next router takes for a fault.
            Err(refusal) => assert!(!received.plain && refusal != Refusal::Silent),
        }
    }
    if is_six(datagram) || received.dont_fragment {
        return;
    }
    let (mut reassembler, mut whole, mut pieces) = (Reassembler::default(), None, 0);
    fragment(&passed, 100, |piece| {
        check(piece, 100);
        pieces += 1;
        if let Taken::Completed(made) = reassembler.take(piece, 0) {
            whole = Some(made);
        }
    })
    .expect("room for pieces");
    if pieces > 1 && !received.fragment {
        assert_eq!(whole.expect("all pieces came")[received.header..], passed[received.header..]);
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&choices, datagram)) = input.split_first() else { return };
    let mut datagram = datagram.to_vec();
    if choices & 1 != 0 {
        mend(&mut datagram);
    }
    let six = is_six(&datagram);
    let from = if six { Address::V6(0xfd00_0001 << 32, 0xfe) } else { Address::V4(0x0a01_00fe) };
    let speaker = Speaker { from, ident: 7, today: 86_399_999, mtu: 1_500 };
    let mut out = Vec::new();
    let mut trouble = TROUBLES[usize::from(choices >> 1 & 7)];
    let received = match icmp::receive(&datagram) {
        Ok(received) => Some(received),
        Err(Refusal::Silent) => {
            // Nobody asks for more, but nothing may break over it either.
            icmp::error(&mut out, trouble, &datagram, &speaker, &mine);
            icmp::local(&mut out, &datagram, Reach::Own, &speaker, &mine);
            return;
        }
        Err(Refusal::Parameter { code, pointer }) => {
            assert!((pointer as usize) < datagram.len());
            trouble = Trouble::Parameter { code, pointer };
            None
        }
    };
    if icmp::may_answer(&datagram, trouble) && icmp::error(&mut out, trouble, &datagram, &speaker, &mine) {
        check(&out, if six { 1_280 } else { 576 });
        // About what is an error itself there is none.
        assert!(!icmp::may_answer(&out, Trouble::TimeExceeded));
    }
    let Some(received) = received else { return };
    forward(&datagram, &received);
    let to_many = matches!(received.destination, Address::V6(high, _) if high >> 56 == 0xff);
    let reach = if to_many { Reach::Group } else { [Reach::Own, Reach::Anycast][usize::from(choices >> 4 & 1)] };
    match icmp::local(&mut out, &datagram[..received.total], reach, &speaker, &mine) {
        Local::Reply => {
            check(&out, received.total.max(60));
            let (from, to) = if six { (8..24, 24..40) } else { (12..16, 16..20) };
            assert_eq!(out[to], datagram[from]);
        }
        Local::Error(_, quote) => assert!(quote <= received.total),
        Local::Fragment | Local::Silent => assert!(out.is_empty()),
    }
});
