//! ARP of hostile guests: whatever they send and whatever happens meanwhile, what goes out is legal and what is held bounded.
//!
//! A frame is: destination and source, of a few, and the packet behind its kind.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
#[path = "../../tests/rust/tap/lan.rs"]
mod lan;
mod play;
#[allow(dead_code)]
#[path = "../../tests/rust/tap/wire.rs"]
mod wire;

fuzz_target!(|input: &[u8]| play::play(input, frame));

fn frame(bytes: &[u8]) -> Vec<u8> {
    let [to, from, packet @ ..] = bytes else { return bytes.to_vec() };
    let mut frame = [&play::station(*to)[..], &play::station(*from), &[8, 6, 0, 1, 8, 0, 6, 4, 0], packet].concat();
    // Mostly of the sender's own MAC, as 28 bytes that agree by chance are rare.
    if let Some(sender) = frame.get_mut(22..28)
        && sender[0] < 0x80
    {
        sender.copy_from_slice(&play::station(*from));
    }
    frame
}
