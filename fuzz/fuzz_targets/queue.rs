//! Work queues whose memory, bell and desk anybody writes to: no panic, no hang, nothing read beyond them, and what was
//! once found damaged gives no more items.
//!
//! An input is a script: the shape of the queue (two bytes), then acts, each with a detail: items are posted, looked for,
//! taken and held, the dispatcher goes to sleep, and words are written anywhere. `vnet_bus::queue::play` reads it and
//! asserts; a property test of the crate plays the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| vnet_bus::queue::play(script));
