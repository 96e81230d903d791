//! Segments that no honest peer sends, with checksums that are right, so that they get to the state machine.

use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

use crate::net::{A, B, MILLISECOND, Pair, SECOND, any, end};
use vnet_drivers::stack::{Tcp, TcpOptions, TcpState, UdpOptions};

/// Numbers that follow from a seed: SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A distance that is small, or near a window's size, or anything.
    fn distance(&mut self) -> i32 {
        match self.below(4) {
            0 => self.below(4) as i32 - 2,
            1 => self.below(3000) as i32 - 1500,
            2 => self.below(1 << 21) as i32 - (1 << 20),
            _ => self.next() as i32,
        }
    }
}

/// The sequence and acknowledgement numbers of a segment.
fn numbers(datagram: &[u8]) -> (TcpSeqNumber, TcpSeqNumber) {
    let word = |at: usize| i32::from_be_bytes(datagram[at..at + 4].try_into().expect("a TCP header"));
    (TcpSeqNumber(word(24)), TcpSeqNumber(word(28)))
}

fn segment(random: &mut Random, ports: (u16, u16), seq: TcpSeqNumber, ack: TcpSeqNumber) -> Vec<u8> {
    let payload = vec![0xaa; random.below(200) as usize * random.below(2) as usize];
    let controls = [TcpControl::None, TcpControl::Psh, TcpControl::Syn, TcpControl::Fin, TcpControl::Rst];
    let sum = |base: TcpSeqNumber, by: i32| TcpSeqNumber(base.0.wrapping_add(by));
    let sack = |random: &mut Random| (random.below(3) == 0).then(|| (random.next() as u32, random.next() as u32));
    let tcp = TcpRepr {
        src_port: ports.0,
        dst_port: ports.1,
        control: controls[random.below(5) as usize],
        seq_number: sum(seq, random.distance()),
        ack_number: (random.below(8) > 0).then(|| sum(ack, random.distance())),
        window_len: random.next() as u16 >> random.below(16),
        window_scale: (random.below(3) == 0).then(|| random.below(20) as u8),
        max_seg_size: (random.below(3) == 0).then(|| random.next() as u16 >> random.below(16)),
        sack_permitted: random.below(3) == 0,
        sack_ranges: [sack(random), None, None],
        timestamp: None,
        payload: &payload,
    };
    let ip = Ipv4Repr {
        src_addr: A.into(),
        dst_addr: B.into(),
        next_header: IpProtocol::Tcp,
        payload_len: tcp.buffer_len(),
        hop_limit: 64,
    };
    let sums = smoltcp::phy::ChecksumCapabilities::default();
    let mut datagram = vec![0; ip.buffer_len() + tcp.buffer_len()];
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut datagram), &sums);
    let header = ip.buffer_len();
    tcp.emit(&mut TcpPacket::new_unchecked(&mut datagram[header..]), &ip.src_addr.into(), &ip.dst_addr.into(), &sums);
    datagram
}

/// Two connections, one under attack by a third party that guesses well, in whatever state that brings it to.
#[test]
fn no_segment_takes_the_stack_down_or_another_connection_with_it() {
    // How often an attack got through: bytes into the stream, or its end.
    let (mut taken, mut ended) = (0, 0);
    for seed in 0..40 {
        let random = &mut Random(seed);
        let mut pair = Pair::new(1500, seed);
        let listening = pair.b.listen(any(80), 8, &TcpOptions::default()).expect("a free port");
        let open = |pair: &mut Pair| -> (Tcp, Tcp) {
            let client = pair.a.connect(end(B, 80), any(0), &TcpOptions::default()).expect("room");
            let mut server = None;
            pair.run(SECOND, |pair| {
                server = server.take().or_else(|| pair.b.accept(&listening));
                server.is_some() && pair.a.state(&client) == TcpState::Open
            });
            (client, server.expect("an accepted connection"))
        };
        let (honest, peer) = open(&mut pair);
        let (mut client, mut server) = open(&mut pair);
        for round in 0..400 {
            let port = pair.a.ends(&client).map_or(5000, |(local, _)| local.port());
            // What b would send now tells the attacker where it stands.
            pair.b.send(&server, b"z").ok();
            let now = pair.net.now;
            pair.b.poll(&mut pair.net, now);
            let sent =
                pair.net.sides[0].arriving.iter().rev().find(|(_, datagram)| datagram[22..24] == port.to_be_bytes());
            let (seq, ack) = sent.map_or((TcpSeqNumber(0), TcpSeqNumber(0)), |(_, datagram)| numbers(datagram));
            for _ in 0..8 {
                let datagram = segment(random, (port, 80), ack, seq);
                let now = pair.net.now;
                pair.b.receive(&datagram, &mut pair.net, now);
                if random.below(4) == 0 {
                    taken += pair.b.take(&server, <[u8]>::len).ok().flatten().unwrap_or(0);
                }
            }
            match random.below(12) {
                0 => pair.b.finish(&server),
                1 => pair.pass(random.below(300) * MILLISECOND),
                _ => pair.pass(MILLISECOND),
            }
            ended += u32::from(pair.b.state(&server) != TcpState::Open);
            if round % 20 == 19 || pair.b.state(&server) != TcpState::Open {
                pair.b.abort(server);
                pair.a.abort(client);
                while let Some(stray) = pair.b.accept(&listening) {
                    pair.b.abort(stray);
                }
                pair.pass(MILLISECOND);
                (client, server) = open(&mut pair);
            }
        }
        assert_eq!(pair.b.faults(), 0, "seed {seed}");
        assert_eq!(pair.a.send(&honest, b"well?"), Ok(5));
        pair.run(SECOND, |pair| pair.b.take(&peer, <[u8]>::len) == Ok(Some(5)));
    }
    assert!(taken > 10_000 && ended > 1000, "the attacks missed: {taken} bytes, {ended} ends");
}

/// Datagrams of any bytes at all, and true ones with a byte changed.
#[test]
fn no_bytes_take_the_stack_down() {
    let random = &mut Random(7);
    let mut pair = Pair::new(1500, 7);
    let _ = pair.b.listen(any(80), 8, &TcpOptions::default()).expect("a free port");
    let echo = pair.b.open_udp(any(7), &UdpOptions::default()).expect("a free port");
    for _ in 0..20_000 {
        let mut datagram = match random.below(3) {
            0 => segment(random, (5000, 80), TcpSeqNumber(1), TcpSeqNumber(2)),
            _ => (0..random.below(120)).map(|_| random.next() as u8).collect(),
        };
        for _ in 0..random.below(4) {
            if !datagram.is_empty() {
                let at = random.below(datagram.len() as u64) as usize;
                datagram[at] = random.next() as u8;
            }
        }
        if random.below(2) == 0 && datagram.len() >= 20 {
            datagram[0] = [0x45, 0x46, 0x4f, 0x60][random.below(4) as usize];
            datagram[16..20].copy_from_slice(&B);
        }
        let now = pair.net.now;
        pair.b.receive(&datagram, &mut pair.net, now);
        if random.below(16) == 0 {
            pair.pass(MILLISECOND);
        }
    }
    assert_eq!(pair.b.faults(), 0);
    let udp = pair.a.open_udp(any(9), &UdpOptions::default()).expect("a free port");
    pair.a.send_to(&udp, b"still there?", end(B, 7)).expect("room");
    pair.run(SECOND, |pair| pair.b.udp_ready(&echo).0);
}
