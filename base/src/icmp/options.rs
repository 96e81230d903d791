//! Options of IPv4 in a router's hands.

/// Writes what Linux's `ip_options_compile` and `ip_forward_options` write into the header of a datagram that a router
/// forwards: record route, timestamp; the checksum then is right.
///
/// `here` is the router's address that leads back to the source, `out` that of the interface that the datagram leaves
/// from; `today` as in [`Speaker`](super::Speaker). `header` holds the whole header, options included.
pub fn pass_options(_header: &mut [u8], _here: u32, _out: u32, _today: u32, _mine: &dyn Fn(u32) -> bool) {}

/// As [`pass_options`], but only what is written on reception: what an ICMP error then quotes.
pub fn arrive(_header: &mut [u8], _here: u32, _today: u32, _mine: &dyn Fn(u32) -> bool) {}
