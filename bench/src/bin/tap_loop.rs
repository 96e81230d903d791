//! The bare loop: copies frames between two TAP devices, and does nothing else.
//!
//! It is what a user-space switch between two kernels cannot do without: one thread waits for either device, reads frames
//! until there are none and writes each to the other device, the virtio-net header before it included, so that large segments
//! and unfinished checksums pass whole. It looks nothing up, checks nothing and answers nothing.
//!
//! ```text
//! tap_loop [--queues N] [--bare] [--udp-segments] NAMESPACE NAMESPACE
//! ```
//!
//! Each NAMESPACE is the path of a network namespace, in which the device `eth0` is made. `--queues`: this many queues for
//! each device and a thread for each pair of queues. `--bare`: without offloads. `--udp-segments`: with those for UDP too.
//! It says "ready" when the devices are there, and ends when its standard input does.
#![deny(unsafe_code)]

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, read, write};
use vnet_bench::tap;

/// A virtio-net header, an Ethernet header with a VLAN tag, and the largest IP datagram.
const LARGEST: usize = 10 + 18 + 65_535;

/// Frames from one device before the other has its turn: acknowledgements do not wait for a sender that never pauses.
const BURST: usize = 256;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("tap_loop: {sentence}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), String> {
    let (mut queues, mut offloads, mut namespaces) = (1, Some(tap::SEGMENTS), Vec::<PathBuf>::new());
    let mut words = std::env::args_os().skip(1);
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--queues") => {
                let count = words.next().and_then(|word| word.to_str()?.parse().ok());
                queues = count.filter(|count| (1..=16).contains(count)).ok_or("--queues wants 1 to 16")?;
            }
            Some("--bare") => offloads = None,
            Some("--udp-segments") => offloads = offloads.map(|flags| flags | tap::UDP_SEGMENTS),
            _ => namespaces.push(word.into()),
        }
    }
    let [one, other] = namespaces.as_slice() else {
        return Err("two paths of network namespaces are wanted".to_owned());
    };
    let make = |path: &PathBuf| {
        tap::make(path, "eth0", queues, offloads)
            .map_err(|error| format!("no TAP device in {}: {error}", path.display()))
    };
    for (one, other) in make(one)?.into_iter().zip(make(other)?) {
        thread::spawn(move || {
            let error = copy(&[one, other]);
            eprintln!("tap_loop: {error}");
            std::process::exit(1);
        });
    }
    println!("ready");
    // Whoever started the loop holds the other end.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    Ok(())
}

/// Copies between the two until a device goes.
fn copy(devices: &[OwnedFd; 2]) -> Errno {
    let mut frame = vec![0; LARGEST];
    loop {
        // 1. Wait for either.
        let mut waiting = devices.each_ref().map(|device| PollFd::new(device, PollFlags::IN));
        match poll(&mut waiting, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return error,
        }
        let ready = waiting.map(|waiting| waiting.revents());
        for (from, to) in [(0, 1), (1, 0)] {
            if ready[from].intersects(PollFlags::ERR) {
                return Errno::BADFD;
            }
            if !ready[from].contains(PollFlags::IN) {
                continue;
            }
            for _ in 0..BURST {
                // 2. Read until there is nothing.
                let length = match read(&devices[from], &mut frame) {
                    Ok(length) => length,
                    Err(Errno::AGAIN) => break,
                    Err(error) => return error,
                };
                // 3. Write. A device that is down or has no room loses the frame, as a wire would.
                match write(devices[to].as_fd(), &frame[..length]) {
                    Ok(_) | Err(Errno::AGAIN | Errno::IO | Errno::INVAL) => {}
                    Err(error) => return error,
                }
            }
        }
    }
}
