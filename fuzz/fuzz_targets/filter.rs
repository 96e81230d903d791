//! Filters: whatever their words say, they are refused or judge any datagram; and what is run is what was checked.
//!
//! An input is: how it is to be taken, how many bytes the filter has (two, the lower first), the filter, and the datagram
//! behind it. It is taken as the words of a filter, or as a program of classic BPF to which a last return is added.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vnet_base::filter::digest::Digest;
use vnet_base::filter::machine::Program;
use vnet_base::filter::words::{Draft, write};
use vnet_base::filter::{Filter, Finding, Judgement};

/// BPF_RET | BPF_A.
const RETURN_A: [u8; 8] = [0x16, 0, 0, 0, 0, 0, 0, 0];

fuzz_target!(|input: &[u8]| {
    let [how, low, high, rest @ ..] = input else { return };
    let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
    let (filter, datagram) = rest.split_at(length);
    let _ = Digest::of(datagram);
    if how % 2 == 0 {
        let (words, _) = filter.as_chunks::<4>();
        let words: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
        if let Some(filter) = Filter::read(&words) {
            let found = filter.judge(datagram);
            assert!(found.rule.is_none_or(|rule| rule < words[0]), "a rule that there is");
        }
    } else {
        let mut bytes = filter[..filter.len() / 8 * 8].to_vec();
        bytes.extend_from_slice(&RETURN_A);
        let Ok(program) = Program::new(&bytes) else { return };
        let taken = program.run(datagram, datagram.len() as u32);
        // As a rule it says the same, by way of words.
        let words = write(&[(Judgement::Deny, Draft::Program(&bytes))], Judgement::Allow);
        let filter = Filter::read(&words).expect("a program that was checked");
        let expected = if taken == 0 {
            Finding { judgement: Judgement::Allow, rule: None }
        } else {
            Finding { judgement: Judgement::Deny, rule: Some(0) }
        };
        assert_eq!(filter.judge(datagram), expected);
    }
});
