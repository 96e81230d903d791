//! Look-ups in the route table beside a plain DIR-24-8 array of the same routes (Gupta, Lin and McKeown, INFOCOM 1998;
//! what DPDK's `rte_fib` does): 2^24 cells for the first 24 bits, 256 cells for each /24 that has longer routes.

use std::hint::black_box;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use vnet_base::Lan;
use vnet_base::tables::Geometry;
use vnet_base::tables::lpm::{Anatomy, Prefix, Route, RouteTable, RouteWriter, RoutesError};
use vnet_base::tables::sync::{AtomicBool, Ordering};

use crate::arena::huge;

/// A cell of a DIR-24-8 array: a class, or with its top bit set the number of a block of 256.
pub trait Cell: Copy + Default {
    /// The top bit.
    const MARK: u32;
    /// From a number below twice the mark.
    fn new(value: u32) -> Self;
    /// The number.
    fn get(self) -> u32;
}

impl Cell for u32 {
    const MARK: u32 = 1 << 31;
    #[inline(always)]
    fn new(value: u32) -> Self {
        value
    }
    #[inline(always)]
    fn get(self) -> u32 {
        self
    }
}

impl Cell for u16 {
    const MARK: u32 = 1 << 15;
    #[inline(always)]
    fn new(value: u32) -> Self {
        value as u16
    }
    #[inline(always)]
    fn get(self) -> u32 {
        u32::from(self)
    }
}

/// The array, which nobody updates, in huge pages where the machine has them.
pub struct Dir248<C> {
    first: Vec<C>,
    second: Vec<C>,
}

impl<C: Cell> Dir248<C> {
    /// The IPv4 routes of these, which are sorted. Classes are cut to what a cell has bits for.
    ///
    /// # Panics
    ///
    /// Where a cell has no bits for the number of blocks.
    #[must_use]
    pub fn new(routes: &[Route]) -> Self {
        let mut first = huge(1 << 24);
        let mut second: Vec<C> = Vec::new();
        for route in routes {
            let Prefix::V4(address, length) = route.prefix else { continue };
            let class = C::new(u32::from(route.class) & (C::MARK - 1));
            let at = (address >> 8) as usize;
            if length <= 24 {
                first[at..at + (1 << (24 - length))].fill(class);
                continue;
            }
            let cell: u32 = C::get(first[at]);
            let block = if cell & C::MARK == 0 {
                let block = second.len() / 256;
                assert!((block as u32) < C::MARK, "too many blocks for a cell");
                second.resize(second.len() + 256, C::new(cell));
                first[at] = C::new(block as u32 | C::MARK);
                block
            } else {
                (cell & !C::MARK) as usize
            };
            let from = block * 256 + (address & 255) as usize;
            second[from..from + (1 << (32 - length))].fill(class);
        }
        Self { first, second }
    }

    /// The class of an address.
    #[must_use]
    #[inline(always)]
    pub fn look_up(&self, address: u32) -> u16 {
        let cell = self.first[(address >> 8) as usize].get();
        if cell & C::MARK == 0 {
            return cell as u16;
        }
        self.second[(cell & !C::MARK) as usize * 256 + (address & 255) as usize].get() as u16
    }

    /// What it takes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        ((self.first.len() + self.second.len()) * size_of::<C>()) as u64
    }
}

/// Who looks up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The route table.
    Ours,
    /// The array with cells of 32 bits, which any class fits.
    Array32,
    /// The array with cells of 16 bits: half the size, and half the classes.
    Array16,
}

/// Which addresses are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Any IPv4 address.
    Any4,
    /// IPv4 addresses of random routes.
    Routed4,
    /// IPv6 addresses of random routes.
    Routed6,
}

/// A generator whose next number takes a multiplication (Knuth's MMIX): its cost does not show beside a look-up.
#[inline(always)]
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 32
}

/// How many addresses of routes are prepared; more would measure the list of them.
const PREPARED: usize = 1 << 18;

/// A table of some routes, and the arrays beside it.
pub struct RouteBench {
    // The words lie in this one's memory, as they do in a LAN.
    _lan: Lan,
    table: RouteTable<'static>,
    writer: RouteWriter<'static>,
    routes: Vec<Route>,
    array32: Dir248<u32>,
    array16: Dir248<u16>,
    routed4: Vec<u32>,
    routed6: Vec<u128>,
}

impl RouteBench {
    /// A table of these prefixes, each with a class that a hash says, 1 to `classes`; and how long it took to lay out.
    ///
    /// # Errors
    ///
    /// What went wrong, in words.
    pub fn new(prefixes: &[Prefix], classes: u16) -> Result<(Self, Duration), String> {
        let class = |index: usize| ((index as u32).wrapping_mul(2_654_435_761) >> 8) % u32::from(classes.max(1)) + 1;
        let given = prefixes.iter().enumerate();
        let mut routes: Vec<Route> =
            given.map(|(index, &prefix)| Route { prefix, class: class(index) as u16 }).collect();
        let lan = Lan::create("routes", &Geometry::new(1, 1 << 18), 1).map_err(|failure| failure.to_string())?;
        let full = |failure: RoutesError| failure.to_string();
        let mut writer = RouteWriter::new(lan.routes_place()).map_err(full)?;
        let began = Instant::now();
        writer.load(routes.iter().copied()).map_err(full)?;
        let took = began.elapsed();
        routes.sort_unstable();
        routes.dedup_by_key(|route| route.prefix);
        let mut state = 1;
        let (v4, v6): (Vec<Route>, Vec<Route>) = routes.iter().partition(|it| matches!(it.prefix, Prefix::V4(..)));
        let mut pick = |from: &[Route]| -> Vec<u128> {
            let all = (0..if from.is_empty() { 0 } else { PREPARED }).map(|_| {
                let bits = (0..4).fold(0, |bits, _| bits << 32 | u128::from(next(&mut state)));
                match from[next(&mut state) as usize % from.len()].prefix {
                    Prefix::V4(address, length) => {
                        u128::from(address | bits as u32 & u32::MAX.unbounded_shr(length.into()))
                    }
                    Prefix::V6(address, length) => address | bits & u128::MAX.unbounded_shr(length.into()),
                }
            });
            all.collect()
        };
        let (routed4, routed6) = (pick(&v4).into_iter().map(|address| address as u32).collect(), pick(&v6));
        let (array32, array16) = (Dir248::new(&routes), Dir248::new(&routes));
        let table = RouteTable::new(lan.routes_place());
        Ok((Self { _lan: lan, table, writer, routes, array32, array16, routed4, routed6 }, took))
    }

    /// Bytes of the two arrays.
    #[must_use]
    pub fn array_bytes(&self) -> (u64, u64) {
        (self.array32.bytes(), self.array16.bytes())
    }

    /// What the table is made of.
    #[must_use]
    pub fn anatomy(&self) -> Anatomy {
        self.writer.anatomy()
    }

    /// Seconds on the processor for `count` look-ups one after the other, and the sum of the classes that they found.
    #[must_use]
    pub fn look_up(&self, who: Who, which: Which, count: u64) -> (f64, u64) {
        let (table, array32, array16) = (self.table, &self.array32, &self.array16);
        match (who, which) {
            (Who::Ours, Which::Any4) => any(count, |address| table.look_up4(address)),
            (Who::Array32, Which::Any4) => any(count, |address| array32.look_up(address)),
            (Who::Array16, Which::Any4) => any(count, |address| array16.look_up(address)),
            (Who::Ours, Which::Routed4) => each(count, &self.routed4, |address| table.look_up4(address)),
            (Who::Array32, Which::Routed4) => each(count, &self.routed4, |address| array32.look_up(address)),
            (Who::Array16, Which::Routed4) => each(count, &self.routed4, |address| array16.look_up(address)),
            (_, Which::Routed6) => {
                each(count, &self.routed6, |address: u128| table.look_up6((address >> 64) as u64, address as u64))
            }
        }
    }

    /// Changes single routes in one thread, on processor `writer`, while another looks random addresses up, on
    /// processor `reader`: `rate` changes a second, as many as it can with 0. For `length` the thread is not there, then
    /// it is there and changes nothing, then it changes; `rounds` times. A change takes a route out or puts it in with
    /// another class.
    ///
    /// Returns look-ups a second of the three, for each round, and changes a second over all.
    ///
    /// # Errors
    ///
    /// What went wrong, in words.
    pub fn update(
        &mut self,
        (reader, writer): (usize, usize),
        rate: u64,
        length: Duration,
        rounds: usize,
    ) -> Result<(Vec<[f64; 3]>, f64), String> {
        let (table, routes, ours) = (self.table, &self.routes, &mut self.writer);
        let (mut rates, mut made, mut spent) = (Vec::new(), 0u64, Duration::ZERO);
        for round in 0..rounds {
            let mut three = [0.0; 3];
            for (mode, rate_of) in three.iter_mut().enumerate() {
                // Only tell when; nothing hangs on their order.
                let (stop, going) = (AtomicBool::new(false), AtomicBool::new(false));
                let outcome = std::thread::scope(|scope| {
                    let changing = (mode > 0).then(|| {
                        let (stop, going, ours) = (&stop, &going, &mut *ours);
                        scope.spawn(move || {
                            pin(writer);
                            going.store(true, Ordering::Relaxed);
                            change(ours, routes, rate, mode == 2, round as u64, stop)
                        })
                    });
                    pin(reader);
                    while changing.is_some() && !going.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                    *rate_of = read_for(table, length);
                    stop.store(true, Ordering::Relaxed);
                    changing.map(std::thread::ScopedJoinHandle::join)
                });
                if let Some(outcome) = outcome {
                    let (count, took) = outcome.map_err(|_| "the changing thread failed".to_owned())??;
                    made += count;
                    spent += if mode == 2 { took } else { Duration::ZERO };
                }
            }
            rates.push(three);
        }
        Ok((rates, made as f64 / spent.as_secs_f64().max(1e-9)))
    }
}

/// Looks random addresses up; see [`RouteBench::look_up`]. Never inlined, so that all are compiled by themselves.
#[inline(never)]
fn any(count: u64, look_up: impl Fn(u32) -> u16) -> (f64, u64) {
    let (began, mut state, mut sum) = (on_processor(), black_box(1), 0u64);
    for _ in 0..count {
        sum += u64::from(look_up(next(&mut state) as u32));
    }
    let sum = black_box(sum);
    (on_processor() - began, sum)
}

/// Seconds that this thread has been on a processor: what others do there meanwhile is no part of a look-up.
fn on_processor() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Looks prepared addresses up.
#[inline(never)]
fn each<A: Copy>(count: u64, addresses: &[A], look_up: impl Fn(A) -> u16) -> (f64, u64) {
    let (began, mut sum, mut left) = (on_processor(), 0u64, count as usize);
    while left > 0 && !addresses.is_empty() {
        let part = &addresses[..left.min(addresses.len())];
        sum += part.iter().map(|address| u64::from(look_up(*address))).sum::<u64>();
        left -= part.len();
    }
    let sum = black_box(sum);
    (on_processor() - began, sum)
}

/// Look-ups a second over some time.
fn read_for(table: RouteTable<'_>, length: Duration) -> f64 {
    let (began, mut count, mut spent) = (Instant::now(), 0u64, 0.0);
    while began.elapsed() < length {
        spent += any(1 << 18, |address| table.look_up4(address)).0;
        count += 1 << 18;
    }
    count as f64 / spent
}

/// Changes routes until told to stop; without `really` only keeps the time. Returns how many, and how long it took.
fn change(
    ours: &mut RouteWriter<'_>,
    routes: &[Route],
    rate: u64,
    really: bool,
    seed: u64,
    stop: &AtomicBool,
) -> Result<(u64, Duration), String> {
    let (began, mut made, mut state) = (Instant::now(), 0u64, seed);
    let full = |failure: RoutesError| failure.to_string();
    // Relaxed: sooner or later.
    while !stop.load(Ordering::Relaxed) {
        let due = if rate == 0 { made + 64 } else { (began.elapsed().as_secs_f64() * rate as f64) as u64 };
        if !really || made >= due {
            std::hint::spin_loop();
            continue;
        }
        let route = routes[next(&mut state) as usize % routes.len()];
        match ours.get(route.prefix) {
            Some(_) => ours.remove(route.prefix).map_err(full)?,
            None => ours.insert(Route { class: (next(&mut state) as u16).max(1), ..route }).map_err(full)?,
        };
        made += 1;
    }
    Ok((made, began.elapsed()))
}

/// Keeps the thread that calls on one processor, if it may be there.
fn pin(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor);
    let _ = sched_setaffinity(None, &set);
}
