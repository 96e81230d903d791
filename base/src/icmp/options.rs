//! Options of IPv4 in a router's hands: RFC 791 section 3.1, RFC 1812 section 5.2.4, as Linux treats them.
//!
//! A router writes twice into a datagram with options. On arrival (`ip_options_compile`) it takes the next place of
//! record route and timestamp and writes the address that it would answer from and the time; this is what its errors
//! quote, with the checksum as it came. On leaving (`ip_forward_options`) it replaces the recorded address by that of the
//! interface the datagram leaves from, and makes the checksum right. An answer bears the recorded options on ([`echo`]).

use super::receive::Refusal;
use super::rules::is_group4;
use super::wire::{HEADER4, put, seal, word};

const END: u8 = 0;
const NOTHING: u8 = 1;
const RECORD_ROUTE: u8 = 7;
const TIMESTAMP: u8 = 68;
const LOOSE: u8 = 131;
const STRICT: u8 = 137;
const LABEL: u8 = 134;
const ROUTER_ALERT: u8 = 148;

/// The bit of an option's number that has it copied into every fragment.
const COPIED: u8 = 0x80;

/// Kinds of timestamps: alone, behind addresses, and at addresses that the sender chose.
const TIME_ALONE: u8 = 0;
const TIME_AND_ADDRESS: u8 = 1;
const TIME_AT_ADDRESS: u8 = 3;

/// What a router has found in a header and written into it: where the options stand (0: it has none), and what an answer
/// or the way out has still to write.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Compiled {
    record: usize,
    record_address: bool,
    time: usize,
    time_address: bool,
    time_now: bool,
    label: usize,
    route: usize,
    changed: bool,
}

/// A router to options.
#[derive(Clone, Copy)]
pub(super) struct Writer<'w> {
    /// The address that it answers from.
    pub here: u32,
    /// Milliseconds since midnight.
    pub today: u32,
    /// Which addresses are its own, or broadcasts that it receives.
    pub mine: &'w dyn Fn(u32) -> bool,
}

impl Writer<'_> {
    /// Whether Linux takes an address for one of this router: also those that mean everybody or this host everywhere.
    fn has(&self, address: u32) -> bool {
        address == 0 || address >> 24 == 127 || is_group4(address) || (self.mine)(address)
    }
}

/// Writes what a router writes on arrival. The error is the byte at fault; what was before it was found and written.
pub(super) fn compile(header: &mut [u8], writer: Option<&Writer<'_>>) -> (Compiled, Result<(), usize>) {
    let mut found = Compiled::default();
    let mut at = HEADER4;
    while let Some(&kind) = header.get(at) {
        match kind {
            END => {
                let rest = &mut header[at..];
                found.changed |= rest.iter().any(|byte| *byte != END);
                rest.fill(END);
                break;
            }
            NOTHING => {
                at += 1;
                continue;
            }
            _ => {}
        }
        let length = usize::from(header.get(at + 1).copied().unwrap_or(0));
        if length < 2 || at + length > header.len() {
            return (found, Err(at));
        }
        let option = &mut header[at..at + length];
        let done = match kind {
            RECORD_ROUTE => record(&mut found, option, at, writer),
            TIMESTAMP => time(&mut found, option, at, writer),
            LOOSE | STRICT => source_route(&mut found, option, at),
            ROUTER_ALERT if length < 4 => Err(1),
            LABEL => label(&mut found, option, at),
            _ => Ok(()),
        };
        if let Err(byte) = done {
            return (found, Err(at + byte));
        }
        at += length;
    }
    (found, Ok(()))
}

/// The pointer of an option whose entries begin at byte `first` (counted from 1), if it has another free: `None` where it
/// is full.
fn pointer(option: &[u8], first: u8, entry: usize) -> Result<Option<usize>, usize> {
    if option.len() < usize::from(first) - 1 {
        return Err(1);
    }
    let pointer = option[2];
    if pointer < first {
        return Err(2);
    }
    let pointer = usize::from(pointer);
    if pointer > option.len() {
        return Ok(None);
    }
    if pointer + entry - 1 > option.len() { Err(2) } else { Ok(Some(pointer)) }
}

fn record(found: &mut Compiled, option: &mut [u8], at: usize, writer: Option<&Writer<'_>>) -> Result<(), usize> {
    if found.record != 0 {
        return Err(0);
    }
    if let Some(pointer) = pointer(option, 4, 4)? {
        if let Some(writer) = writer {
            put(option, pointer - 1, &writer.here.to_be_bytes());
            found.changed = true;
        }
        option[2] = pointer as u8 + 4;
        found.record_address = true;
    }
    found.record = at;
    Ok(())
}

fn time(found: &mut Compiled, option: &mut [u8], at: usize, writer: Option<&Writer<'_>>) -> Result<(), usize> {
    if found.time != 0 {
        return Err(0);
    }
    let Some(place) = pointer(option, 5, 4)? else {
        let (overflow, kind) = (option[3] >> 4, option[3] & 15);
        if kind != TIME_AT_ADDRESS {
            if overflow == 15 {
                return Err(3);
            }
            if writer.is_some() {
                option[3] = kind | (overflow + 1) << 4;
                found.changed = true;
            }
        }
        found.time = at;
        return Ok(());
    };
    let kind = option[3] & 15;
    if matches!(kind, TIME_AND_ADDRESS | TIME_AT_ADDRESS) {
        pointer(option, 5, 8)?;
    }
    let address = word(option, place - 1);
    let stamp = match kind {
        TIME_ALONE => Some(place - 1),
        TIME_AND_ADDRESS => {
            if let Some(writer) = writer {
                put(option, place - 1, &writer.here.to_be_bytes());
            }
            found.time_address = true;
            Some(place + 3)
        }
        // Without a router to ask, nothing of it can be at fault.
        TIME_AT_ADDRESS => writer.filter(|writer| address.is_some_and(|own| writer.has(own))).map(|_| place + 3),
        _ => None,
    };
    if let Some(stamp) = stamp {
        if let Some(writer) = writer {
            put(option, stamp, &writer.today.to_be_bytes());
            found.changed = true;
        }
        // Both are within the option, whose length is a byte.
        option[2] = stamp as u8 + 5;
        found.time_now = true;
    }
    found.time = at;
    Ok(())
}

fn source_route(found: &mut Compiled, option: &[u8], at: usize) -> Result<(), usize> {
    if option.len() < 3 {
        return Err(1);
    }
    if option[2] < 4 {
        return Err(2);
    }
    if found.route != 0 {
        return Err(0);
    }
    found.route = at;
    Ok(())
}

/// A security label: Linux checks it where it is configured for any, and it is for none here.
fn label(found: &mut Compiled, option: &[u8], at: usize) -> Result<(), usize> {
    if found.label != 0 {
        return Err(0);
    }
    found.label = at;
    Err(if option.len() < 8 { 1 } else { 2 })
}

/// Whether a datagram with these options goes on.
pub(super) fn check(header: &[u8]) -> Result<(), Refusal> {
    let mut copy = [0; 60];
    let copy = copy.get_mut(..header.len()).ok_or(Refusal::Silent)?;
    copy.copy_from_slice(header);
    match compile(copy, None) {
        (_, Err(pointer)) => Err(Refusal::Parameter { code: 0, pointer: pointer as u32 }),
        // `accept_source_route` is off where it is not turned on for the whole machine.
        (found, Ok(())) if found.route != 0 => Err(Refusal::Silent),
        _ => Ok(()),
    }
}

/// Writes what a router writes into the options of a datagram that it sends on, and makes its checksum right if that
/// changes anything.
///
/// `here` is the router's address that leads back to the source, `out` that of the interface that the datagram leaves
/// from; `today` as in [`Speaker`](super::Speaker), `mine` as in [`error`](super::error()). `header` is the whole header,
/// options included, and has passed [`receive`](super::receive()).
pub fn pass_options(header: &mut [u8], here: u32, out: u32, today: u32, mine: &dyn Fn(u32) -> bool) {
    let (found, _) = compile(header, Some(&Writer { here, today, mine }));
    if found.record_address {
        let pointer = usize::from(header.get(found.record + 2).copied().unwrap_or(0));
        // The place that was taken lies one entry back.
        put(header, (found.record + pointer).saturating_sub(5), &out.to_be_bytes());
    }
    if found.changed {
        seal(header);
    }
}

/// The options of an answer to a datagram whose header was compiled: those that record are recorded on, in the answer's
/// own name; all others are left away.
///
/// Returns how many bytes of `into` they take; `None` where Linux sends no answer.
pub(super) fn echo(into: &mut [u8; 40], header: &[u8], found: &Compiled, writer: &Writer<'_>) -> Option<usize> {
    if found.route != 0 && goes_back(header, found.route) {
        return None;
    }
    let mut end = 0;
    let mut copied = |at: usize| {
        let length = usize::from(*header.get(at + 1)?);
        let option = header.get(at..at + length)?;
        let place = into.get_mut(end..end + length)?;
        place.copy_from_slice(option);
        end += length;
        Some((end - length, length))
    };
    let record = if found.record == 0 { None } else { Some(copied(found.record)?) };
    let time = if found.time == 0 { None } else { Some(copied(found.time)?) };
    if found.label != 0 {
        copied(found.label)?;
    }
    if let Some((at, length)) = record {
        echo_record(&mut into[at..at + length], found, writer)?;
    }
    if let Some((at, length)) = time {
        echo_time(&mut into[at..at + length], found, writer)?;
    }
    // The rest of the last word is END, which is zero.
    Some(end.next_multiple_of(4))
}

/// Whether an answer would go back along a source route. That is only where a fault comes behind one, which else was
/// refused without a word: Linux sends it along the route, which is not done here.
fn goes_back(header: &[u8], route: usize) -> bool {
    let (length, pointer) = (header.get(route + 1).copied().unwrap_or(0), header.get(route + 2).copied().unwrap_or(0));
    pointer.min(length.saturating_add(1)) > 7
}

fn echo_record(option: &mut [u8], found: &Compiled, writer: &Writer<'_>) -> Option<()> {
    let pointer = usize::from(option[2]);
    if found.record_address && pointer <= option.len() {
        option.get(pointer + 2)?;
        put(option, pointer - 1, &writer.here.to_be_bytes());
        option[2] = pointer as u8 + 4;
    }
    Some(())
}

fn echo_time(option: &mut [u8], found: &Compiled, writer: &Writer<'_>) -> Option<()> {
    let mut pointer = usize::from(option[2]);
    if pointer > option.len() {
        return Some(());
    }
    if found.time_address {
        option.get(pointer + 2)?;
        put(option, pointer - 1, &writer.here.to_be_bytes());
        pointer += 4;
    }
    if found.time_now {
        option.get(pointer + 2)?;
        let stamp = match option[3] & 15 {
            TIME_AT_ADDRESS => {
                let address = word(option, pointer - 1).filter(|_| pointer + 7 <= option.len());
                address.filter(|address| writer.has(*address)).map(|_| pointer + 3)
            }
            _ => Some(pointer - 1),
        };
        if let Some(stamp) = stamp {
            put(option, stamp, &writer.today.to_be_bytes());
            pointer = stamp + 5;
        }
    }
    option[2] = pointer as u8;
    Some(())
}

/// Turns options that belong into the first fragment alone into nothing: RFC 791 section 3.1, `ip_options_fragment`.
pub(super) fn leave_copied(options: &mut [u8]) {
    let mut at = 0;
    while let Some(&kind) = options.get(at) {
        match kind {
            END => return,
            NOTHING => at += 1,
            _ => {
                let length = usize::from(options.get(at + 1).copied().unwrap_or(0));
                if length < 2 || at + length > options.len() {
                    return;
                }
                if kind & COPIED == 0 {
                    options[at..at + length].fill(NOTHING);
                }
                at += length;
            }
        }
    }
}
