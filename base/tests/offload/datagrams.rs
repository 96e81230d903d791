//! Datagrams as a kernel with offloads hands them over: their checksum field holds the pseudo header's sum.

use vnet_base::offload::Segments;

use crate::plain;

/// What a datagram is to be like.
#[derive(Clone, Debug)]
pub struct Shape {
    pub v6: bool,
    pub udp: bool,
    /// IPv4: words of options, at most 10.
    pub options: usize,
    /// IPv6: extension headers by their numbers.
    pub extensions: Vec<u8>,
    /// TCP: words of options, at most 10.
    pub tcp_options: usize,
    /// TCP's flags.
    pub flags: u8,
    pub id: u16,
    pub sequence: u32,
    /// Bytes of payload.
    pub payload: usize,
}

impl Shape {
    pub fn kind(&self) -> Segments {
        match (self.udp, self.v6) {
            (true, _) => Segments::Udp,
            (false, true) => Segments::Tcp6,
            (false, false) => Segments::Tcp4,
        }
    }

    /// Where its TCP or UDP header begins.
    pub fn transport(&self) -> usize {
        if self.v6 { 40 + 8 * self.extensions.len() } else { 20 + 4 * self.options }
    }

    /// Where its payload begins.
    pub fn headers(&self) -> usize {
        self.transport() + if self.udp { 8 } else { 20 + 4 * self.tcp_options }
    }

    /// Where its checksum lies, from the transport header's first byte.
    pub fn offset(&self) -> usize {
        if self.udp { 6 } else { 16 }
    }

    pub fn protocol(&self) -> u8 {
        if self.udp { 17 } else { 6 }
    }

    pub fn datagram(&self) -> Vec<u8> {
        let mut datagram = if self.v6 { self.ipv6() } else { self.ipv4() };
        let transport = datagram.len();
        datagram.extend_from_slice(&[0x9c, 0x40, 0x14, 0x51]);
        let behind = self.headers() - transport + self.payload;
        if self.udp {
            datagram.extend_from_slice(&(behind as u16).to_be_bytes());
            datagram.extend_from_slice(&[0, 0]);
        } else {
            datagram.extend_from_slice(&self.sequence.to_be_bytes());
            let offset = (5 + self.tcp_options as u8) << 4;
            datagram.extend_from_slice(&[1, 2, 3, 4, offset, self.flags, 0x20, 0, 0, 0, 0, 9]);
            datagram.resize(self.headers(), 1);
        }
        let mut state = u32::from(self.id) ^ self.sequence | 1;
        datagram.extend((0..self.payload).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        }));
        let field = transport + self.offset();
        let pseudo = plain::pseudo(&datagram, self.protocol(), transport);
        datagram[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());
        datagram
    }

    fn ipv4(&self) -> Vec<u8> {
        let header = 20 + 4 * self.options;
        let length = (self.headers() + self.payload) as u16;
        let mut datagram = vec![0x45 + self.options as u8, 0];
        datagram.extend_from_slice(&length.to_be_bytes());
        datagram.extend_from_slice(&self.id.to_be_bytes());
        datagram.extend_from_slice(&[0x40, 0, 63, self.protocol(), 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        datagram.resize(header, 1);
        let checksum = !plain::sum(&datagram);
        datagram[10..12].copy_from_slice(&checksum.to_be_bytes());
        datagram
    }

    fn ipv6(&self) -> Vec<u8> {
        let length = (self.headers() + self.payload - 40) as u16;
        let mut chain = self.extensions.clone();
        chain.push(self.protocol());
        let mut datagram = vec![0x60, 0, 0, 5];
        datagram.extend_from_slice(&length.to_be_bytes());
        datagram.extend_from_slice(&[chain[0], 63]);
        for last in [1, 2] {
            datagram.extend_from_slice(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
        }
        for next in &chain[1..] {
            // Padding (RFC 8200 section 4.2), or a routing header of a type for experiments with nothing left.
            datagram.extend_from_slice(&[*next, 0, 1, 4, 0, 0, 0, 0]);
        }
        datagram
    }
}
