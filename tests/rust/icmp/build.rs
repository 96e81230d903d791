//! Datagrams as guests and strangers send them.

use etherparse::checksum::Sum16BitWords;

/// The fields of an IPv4 header that probes choose.
#[derive(Clone, Debug)]
pub struct Four {
    pub service: u8,
    pub id: u16,
    pub place: u16,
    pub ttl: u8,
    pub protocol: u8,
    pub source: [u8; 4],
    pub destination: [u8; 4],
    pub options: Vec<u8>,
}

impl Default for Four {
    fn default() -> Self {
        Self {
            service: 0,
            id: 7,
            place: 0,
            ttl: 9,
            protocol: 17,
            source: [10, 1, 0, 1],
            destination: [10, 2, 0, 1],
            options: Vec::new(),
        }
    }
}

/// The fields of an IPv6 header that probes choose.
#[derive(Clone, Debug)]
pub struct Six {
    pub class: u8,
    pub limit: u8,
    pub next: u8,
    pub source: [u8; 16],
    pub destination: [u8; 16],
}

impl Default for Six {
    fn default() -> Self {
        Self { class: 0, limit: 9, next: 17, source: six("fd00:1::1"), destination: six("fd00:2::1") }
    }
}

pub fn six(address: &str) -> [u8; 16] {
    address.parse::<std::net::Ipv6Addr>().expect("an address").octets()
}

fn sum(parts: &[&[u8]]) -> [u8; 2] {
    // By etherparse, so that what is tried is not its own judge.
    let sum = parts.iter().fold(Sum16BitWords::new(), |sum, part| sum.add_slice(part));
    // In memory as it is sent.
    sum.ones_complement().to_ne_bytes()
}

pub fn v4(header: &Four, body: &[u8]) -> Vec<u8> {
    let mut options = header.options.clone();
    options.resize(options.len().next_multiple_of(4), 0);
    let bytes = 20 + options.len();
    let [high, low] = ((bytes + body.len()) as u16).to_be_bytes();
    let mut datagram = vec![0x40 | (bytes / 4) as u8, header.service, high, low];
    datagram.extend_from_slice(&header.id.to_be_bytes());
    datagram.extend_from_slice(&header.place.to_be_bytes());
    datagram.extend_from_slice(&[header.ttl, header.protocol, 0, 0]);
    datagram.extend_from_slice(&header.source);
    datagram.extend_from_slice(&header.destination);
    datagram.extend_from_slice(&options);
    reseal(&mut datagram);
    datagram.extend_from_slice(body);
    datagram
}

/// Makes the checksum of an IPv4 header right, which is as long as it says.
pub fn reseal(datagram: &mut [u8]) {
    let bytes = (usize::from(datagram[0] & 15) * 4).min(datagram.len());
    if bytes >= 20 {
        datagram[10..12].fill(0);
        let sum = sum(&[&datagram[..bytes]]);
        datagram[10..12].copy_from_slice(&sum);
    }
}

pub fn v6(header: &Six, body: &[u8]) -> Vec<u8> {
    let [high, low] = (body.len() as u16).to_be_bytes();
    let mut datagram = vec![0x60 | header.class >> 4, header.class << 4, 0, 5, high, low, header.next, header.limit];
    datagram.extend_from_slice(&header.source);
    datagram.extend_from_slice(&header.destination);
    datagram.extend_from_slice(body);
    datagram
}

/// An ICMP message with its checksum, which is at byte 2.
pub fn icmp(message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    let sum = sum(&[&message]);
    message[2..4].copy_from_slice(&sum);
    message
}

/// The checksum of a transport header with its data, written at byte `at`, behind the pseudo-header of these addresses.
pub fn sealed(source: &[u8], destination: &[u8], protocol: u8, at: usize, segment: &[u8]) -> Vec<u8> {
    let mut segment = segment.to_vec();
    if segment.len() >= at + 2 {
        segment[at..at + 2].fill(0);
        let length = (segment.len() as u32).to_be_bytes();
        let sum = sum(&[source, destination, &length, &[0, 0, 0, protocol], &segment]);
        segment[at..at + 2].copy_from_slice(&sum);
    }
    segment
}

pub fn udp(source: &[u8], destination: &[u8], data: usize) -> Vec<u8> {
    let mut segment = vec![0x03, 0xe8, 0, 9];
    segment.extend_from_slice(&(8 + data as u16).to_be_bytes());
    segment.extend_from_slice(&[0, 0]);
    segment.extend((0..data).map(|at| at as u8));
    sealed(source, destination, 17, 6, &segment)
}

pub fn tcp(source: &[u8], destination: &[u8], flags: u8, data: usize) -> Vec<u8> {
    let mut segment = vec![0x03, 0xe8, 0, 9, 0xff, 0xff, 0xff, 0xf0, 1, 2, 3, 4, 0x50, flags, 0x20, 0, 0, 0, 0, 0];
    segment.extend((0..data).map(|at| at as u8));
    sealed(source, destination, 6, 16, &segment)
}

/// An ICMPv6 echo request with so many bytes of data.
pub fn echo6(source: &[u8], destination: &[u8], data: usize) -> Vec<u8> {
    let mut message = vec![128, 0, 0, 0, 0, 3, 0, 4];
    message.extend((0..data).map(|at| at as u8));
    sealed(source, destination, 58, 2, &message)
}

pub fn echo4(data: usize) -> Vec<u8> {
    let mut message = vec![8, 0, 0, 0, 0, 3, 0, 4];
    message.extend((0..data).map(|at| at as u8));
    icmp(&message)
}
