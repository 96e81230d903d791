//! A wire between stacks, in a time of its own: what it carries, loses and has no room for follows from its seed.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use vnet_base::Verdict;
use vnet_drivers::stack::{Local, Outlet, Stack};

pub const MICROSECOND: u64 = 1_000;
pub const MILLISECOND: u64 = 1_000_000;
pub const SECOND: u64 = 1_000_000_000;

pub const A: [u8; 4] = [10, 0, 0, 1];
pub const B: [u8; 4] = [10, 0, 0, 2];

/// What lies in one stack's input buffer or on its way there.
pub struct Side {
    pub arriving: VecDeque<(u64, Vec<u8>)>,
    pub bytes: usize,
}

/// The wire.
pub struct Net {
    pub now: u64,
    pub latency: u64,
    /// Bytes that may lie before one stack.
    pub room: usize,
    /// One in so many datagrams is lost; 0: none.
    pub loss: f64,
    pub lost: u64,
    pub refused: u64,
    pub carried: u64,
    random: u64,
    pub sides: [Side; 2],
}

impl Net {
    pub fn new(seed: u64) -> Self {
        let side = || Side { arriving: VecDeque::new(), bytes: 0 };
        Self {
            now: SECOND,
            latency: 10 * MICROSECOND,
            room: usize::MAX,
            loss: 0.0,
            lost: 0,
            refused: 0,
            carried: 0,
            random: seed,
            sides: [side(), side()],
        }
    }

    /// The next number of SplitMix64, between 0 and 1.
    fn random(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl Outlet for Net {
    fn try_forward(&mut self, datagram: &[u8]) -> Option<Verdict> {
        let to = match datagram[16..20] {
            [10, 0, 0, 1] => 0,
            [10, 0, 0, 2] => 1,
            [10, 0, 0, _] => return Some(Verdict::NoHost),
            _ => return Some(Verdict::NoRoute),
        };
        if self.sides[to].bytes + datagram.len() > self.room {
            self.refused += 1;
            return None;
        }
        self.carried += 1;
        if self.loss > 0.0 && self.random() < self.loss {
            self.lost += 1;
            return Some(Verdict::Delivered);
        }
        self.sides[to].bytes += datagram.len();
        self.sides[to].arriving.push_back((self.now + self.latency, datagram.to_vec()));
        Some(Verdict::Delivered)
    }

    fn forward(&mut self, datagram: &[u8]) -> Verdict {
        self.try_forward(datagram).unwrap_or(Verdict::BufferFull)
    }
}

/// Two stacks and the wire between them.
pub struct Pair {
    pub a: Stack,
    pub b: Stack,
    pub net: Net,
    pub wakes: [Option<u64>; 2],
}

pub fn end(address: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::from(address), port)
}

pub fn any(port: u16) -> Local {
    Local::port(port)
}

impl Pair {
    pub fn new(mtu: usize, seed: u64) -> Self {
        let stack = |address: [u8; 4], seed| Stack::new(&[(IpAddr::from(address), 24)], mtu, seed);
        Self { a: stack(A, seed), b: stack(B, seed + 1), net: Net::new(seed), wakes: [None; 2] }
    }

    /// Delivers what has arrived and polls both.
    pub fn turn(&mut self) {
        for side in 0..2 {
            while self.net.sides[side].arriving.front().is_some_and(|(at, _)| *at <= self.net.now) {
                let (_, datagram) = self.net.sides[side].arriving.pop_front().expect("there is one");
                self.net.sides[side].bytes -= datagram.len();
                let now = self.net.now;
                let stack = if side == 0 { &mut self.a } else { &mut self.b };
                stack.receive(&datagram, &mut self.net, now);
            }
        }
        let now = self.net.now;
        self.wakes = [self.a.poll(&mut self.net, now), self.b.poll(&mut self.net, now)];
    }

    /// Moves the time on to what comes next, at most to `until`.
    pub fn advance(&mut self, until: u64) {
        let arrivals = self.net.sides.iter().filter_map(|side| side.arriving.front().map(|(at, _)| *at));
        let next = self.wakes.into_iter().flatten().chain(arrivals).min();
        // Programs that wait for nothing are looked at now and then.
        let later = self.net.now + 20 * MILLISECOND;
        self.net.now = next.unwrap_or(later).min(later).max(self.net.now + 1).min(until);
    }

    /// Runs until `done` says so; panics when the time is over before.
    pub fn run(&mut self, limit: u64, mut done: impl FnMut(&mut Self) -> bool) {
        let end = self.net.now + limit;
        loop {
            self.turn();
            let is_done = done(self);
            // What it did calls for more.
            self.turn();
            if is_done {
                return;
            }
            assert!(self.net.now < end, "not done within {} ms", limit / MILLISECOND);
            self.advance(end);
        }
    }

    /// Lets so much time pass.
    pub fn pass(&mut self, time: u64) {
        let end = self.net.now + time;
        while self.net.now < end {
            self.turn();
            self.advance(end);
        }
    }
}
