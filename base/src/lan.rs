//! The base's own side of a LAN: slots are given, taken back, and the dead are buried.

mod paths;

use core::net::IpAddr;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;
use vnet_tables::layout::{CAPTURE_RING, FLAG_CAPTURE, FLAG_CLOSED, FLAG_DROPS, Geometry, MIN_RING};
use vnet_tables::nic::{BRIDGES, GUARDED, NicConfig};
use vnet_tables::{NetworkId, NicState, Prefixes, SlotId, TablesError, Writer};

use crate::doorbell::Listener;
use crate::lock::Token;
use crate::segment::{Segment, SegmentError};
use crate::sync::{Ordering, futex_wake};

/// The base's own name as an owner of locks.
pub const BASE: Token = Token(1);

/// Why the base cannot do what was asked.
#[derive(Debug, Error)]
pub enum LanError {
    /// Memory or mappings.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// A table is full.
    #[error(transparent)]
    Tables(#[from] TablesError),
    /// No slot is free.
    #[error("the LAN is full: it was made for {0} NICs")]
    Full(u32),
    /// The NIC is not there any more.
    #[error("the NIC has left the LAN")]
    Gone,
    /// Its buffer's lock is held by a process that is stopped.
    #[error("a process that is stopped holds the NIC's input buffer; continue or end it")]
    Stuck,
    /// A section of the routing segment is larger than its place, or an image does not hold what it should.
    #[error("what was compiled for routing does not fit")]
    Sections,
}

/// What a NIC is to be.
#[derive(Clone, Debug)]
pub struct NicRequest {
    /// Its name, unique on the LAN.
    pub name: String,
    /// The network that it is on.
    pub network: NetworkId,
    /// Its addresses; the host table leads from each to the NIC.
    pub addresses: Vec<IpAddr>,
    /// Its MAC address, the first octet highest of 48 bits.
    pub mac: u64,
    /// Largest IP datagram, in bytes.
    pub mtu: u32,
    /// Bytes of its ring; rounded up to a power of two between the smallest ring and the LAN's stride.
    pub ring_bytes: u64,
    /// The base worker that serves it, if one does.
    pub worker: Option<u32>,
    /// Whether somebody holds it already.
    pub up: bool,
    /// What its guest takes unfinished; bits of [`crate::offload`].
    pub offloads: u32,
    /// Whether addresses that the tables do not know may lie behind it.
    pub bridges: bool,
    /// The router's port that it is: its number in the plan plus one, 0 for none. Such a NIC has no input buffer.
    pub port: u32,
}

struct Slot {
    request: NicRequest,
    generation: u32,
    /// Addresses that it was found to have beside its own.
    learned: Vec<IpAddr>,
    /// The NICs that lead its guest out of the network.
    gateways: (SlotId, SlotId),
    /// The filters of what it is given and of what it sends, plus one.
    filters: (u16, u16),
}

struct State {
    writer: Writer,
    slots: Vec<Option<Slot>>,
    generations: Vec<u32>,
    /// Free slots, the one that has been free longest first.
    free: VecDeque<u16>,
    unused: u32,
    tokens: u32,
    /// Left by their NICs, but a stopped process holds their lock.
    stuck: Vec<u16>,
    capturing: bool,
    /// Who has had which slot since the capture began.
    seen: Holders,
}

impl State {
    /// Takes a learned address from whoever has it.
    fn unlearn(&mut self, network: NetworkId, address: IpAddr) {
        let Some(found) = self.writer.tables().hosts().find(network, address.into()) else { return };
        if let Some(entry) = &mut self.slots[usize::from(found.slot.0)]
            && entry.learned.contains(&address)
        {
            entry.learned.retain(|learned| *learned != address);
            self.writer.remove_address(network, address);
            self.writer.address_moved();
        }
    }

    /// Undoes what others made of a NIC while it was up: addresses that were learned, and what lay behind it.
    fn leave(&mut self, slot: SlotId) {
        let Some(entry) = &mut self.slots[usize::from(slot.0)] else { return };
        entry.request.up = false;
        let (network, bridges) = (entry.request.network, entry.request.bridges);
        for address in std::mem::take(&mut entry.learned) {
            self.writer.remove_address(network, address);
        }
        self.writer.address_moved();
        if bridges {
            self.count_bridges(network);
        }
    }

    fn count_bridges(&mut self, network: NetworkId) {
        let requests = self.slots.iter().flatten().map(|entry| &entry.request);
        let count = requests.filter(|nic| nic.bridges && nic.up && nic.network == network).count();
        self.writer.set_bridges(network, count as u32);
    }
}

/// The names of NICs and their addresses, by slot and generation.
pub type Holders = BTreeMap<(u16, u32), (String, Vec<IpAddr>)>;

/// A LAN, seen by the base that owns it.
pub struct Lan {
    segment: Arc<Segment>,
    state: Mutex<State>,
}

impl Lan {
    /// Makes a LAN. `lan` is a random number that tells it from every other.
    ///
    /// # Errors
    ///
    /// [`LanError::Segment`].
    pub fn create(name: &str, geometry: &Geometry, lan: u64) -> Result<Self, LanError> {
        let (segment, mut writer) = Segment::create(name, geometry, lan)?;
        // Slot 0 is the capture's: a ring without addresses.
        writer.set_nic(SlotId(0), &capture_config(geometry), NicState::Down, 1);
        if let Some(buffer) = segment.buffer(SlotId(0), segment.tables().nic(SlotId(0))) {
            buffer.reset(1);
        }
        let state = State {
            writer,
            slots: std::iter::repeat_with(|| None).take(geometry.nics as usize).collect(),
            generations: vec![1; geometry.nics as usize],
            free: VecDeque::new(),
            unused: 1,
            tokens: BASE.0,
            stuck: Vec::new(),
            capturing: false,
            seen: Holders::new(),
        };
        Ok(Self { segment, state: Mutex::new(state) })
    }

    /// The segment, to attach to in this process or to hand out.
    #[must_use]
    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change below leaves the state whole, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A name for an owner of locks that was never used on this LAN.
    #[must_use]
    pub fn new_token(&self) -> Token {
        let mut state = self.state();
        state.tokens += 1;
        Token(state.tokens)
    }

    /// Adds a network; `mtu` in bytes of IP.
    ///
    /// # Errors
    ///
    /// [`LanError::Tables`].
    pub fn add_network(&self, prefixes: &Prefixes, mtu: u32) -> Result<NetworkId, LanError> {
        Ok(self.state().writer.add_network(prefixes, mtu)?)
    }

    /// Adds a NIC. Returns its slot and generation.
    ///
    /// # Errors
    ///
    /// [`LanError::Full`], [`LanError::Tables`]; then nothing has changed.
    pub fn add_nic(&self, request: NicRequest) -> Result<(SlotId, u32), LanError> {
        let geometry = *self.segment.tables().geometry();
        let mut state = self.state();
        self.retry_stuck(&mut state);
        let slot = match state.free.pop_front() {
            Some(slot) => slot,
            None if state.unused < geometry.nics => {
                state.unused += 1;
                (state.unused - 1) as u16
            }
            None => return Err(LanError::Full(geometry.nics - 1)),
        };
        let slot = SlotId(slot);
        for address in &request.addresses {
            // Whoever is given an address has it, whoever was found to use it before.
            state.unlearn(request.network, *address);
        }
        for (count, address) in request.addresses.iter().enumerate() {
            if let Err(error) = state.writer.add_address(request.network, *address, slot) {
                for address in &request.addresses[..count] {
                    state.writer.remove_address(request.network, *address);
                }
                state.free.push_front(slot.0);
                return Err(error.into());
            }
        }
        let generation = state.generations[usize::from(slot.0)];
        let (network, bridges) = (request.network, request.bridges);
        state.slots[usize::from(slot.0)] =
            Some(Slot { request, generation, learned: Vec::new(), gateways: (SlotId(0), SlotId(0)), filters: (0, 0) });
        self.segment.control(slot).clear_counters();
        match self.renew(&mut state, slot, None) {
            Ok(generation) => {
                if bridges {
                    state.count_bridges(network);
                }
                Ok((slot, generation))
            }
            Err(error) => {
                // A stopped process holds the slot's lock: the slot waits for it, the NIC is not made.
                if let Some(Slot { request, .. }) = state.slots[usize::from(slot.0)].take() {
                    for address in &request.addresses {
                        state.writer.remove_address(request.network, *address);
                    }
                }
                state.stuck.push(slot.0);
                Err(error)
            }
        }
    }

    /// Writes row and buffer of a slot for a new holder.
    fn renew(&self, state: &mut State, slot: SlotId, worker: Option<Option<u32>>) -> Result<u32, LanError> {
        let geometry = *self.segment.tables().geometry();
        let index = usize::from(slot.0);
        let generation = state.generations[index].wrapping_add(1);
        let entry = state.slots[index].as_mut().ok_or(LanError::Gone)?;
        if let Some(worker) = worker {
            entry.request.worker = worker;
            entry.request.up = true;
        }
        let ring_bytes = match entry.request.port {
            0 => entry.request.ring_bytes.clamp(MIN_RING, geometry.stride).next_power_of_two(),
            // Nobody reads a router's datagrams: they are settled by those who send them.
            _ => 0,
        };
        let guarded = self.segment.tables().network(entry.request.network).is_some_and(|network| network.filter() != 0);
        let config = NicConfig {
            network: entry.request.network,
            mtu: entry.request.mtu,
            ring_at: geometry.ring_at(u32::from(slot.0)),
            ring_bytes,
            mac: entry.request.mac,
            worker: entry.request.worker,
            offloads: entry.request.offloads,
            flags: if entry.request.bridges { BRIDGES } else { 0 } | if guarded { GUARDED } else { 0 },
            port: entry.request.port,
            gateways: entry.gateways,
            filters: entry.filters,
        };
        let nic_state = if entry.request.up { NicState::Up } else { NicState::Down };
        let senders = &self.segment.control(slot).senders;
        if !senders.lock.lock(BASE) {
            return Err(LanError::Stuck);
        }
        entry.generation = generation;
        state.generations[index] = generation;
        if state.capturing {
            state.seen.insert((slot.0, generation), (entry.request.name.clone(), entry.request.addresses.clone()));
        }
        state.writer.set_nic(slot, &config, nic_state, generation);
        state.writer.address_moved();
        if let Some(buffer) = self.segment.buffer(slot, self.segment.tables().nic(slot)) {
            buffer.reset(generation);
        }
        senders.lock.unlock();
        Ok(generation)
    }

    /// Gives a NIC that is down to a new holder. Returns the new generation.
    ///
    /// # Errors
    ///
    /// [`LanError::Gone`], [`LanError::Stuck`].
    pub fn hold(&self, slot: SlotId, worker: Option<u32>) -> Result<u32, LanError> {
        let mut state = self.state();
        self.renew(&mut state, slot, Some(worker))
    }

    /// Takes a NIC down, if it is still that of `generation`: its holder has gone. Its addresses stay its own.
    ///
    /// Senders get `nic_down` from now on, and whoever waits in its name or for its room is woken.
    pub fn take_down(&self, slot: SlotId, generation: u32) -> bool {
        let mut state = self.state();
        let index = usize::from(slot.0);
        match state.slots.get_mut(index).and_then(Option::as_mut) {
            Some(entry) if entry.generation == generation => entry.request.up = false,
            _ => return false,
        }
        state.leave(slot);
        state.writer.set_state(slot, NicState::Down);
        self.evict(&mut state, slot);
        true
    }

    /// Takes a NIC off the LAN, addresses and all, if it is still that of `generation`.
    pub fn remove(&self, slot: SlotId, generation: u32) -> bool {
        let mut state = self.state();
        let index = usize::from(slot.0);
        match &state.slots[index] {
            Some(entry) if entry.generation == generation => {}
            _ => return false,
        }
        state.leave(slot);
        let Some(entry) = state.slots[index].take() else { return false };
        state.forget_gateway(slot);
        for address in &entry.request.addresses {
            state.writer.remove_address(entry.request.network, *address);
        }
        state.writer.set_state(slot, NicState::Free);
        if self.evict(&mut state, slot) {
            state.free.push_back(slot.0);
        } else {
            state.stuck.push(slot.0);
        }
        true
    }

    /// What was asked for the NIC in a slot, if it is still that of `generation`.
    #[must_use]
    pub fn nic(&self, slot: SlotId, generation: u32) -> Option<NicRequest> {
        let state = self.state();
        let entry = state.slots.get(usize::from(slot.0))?.as_ref();
        entry.filter(|entry| entry.generation == generation).map(|entry| entry.request.clone())
    }

    /// Gives a NIC to another base worker, before that serves it.
    pub fn set_worker(&self, slot: SlotId, generation: u32, worker: u32) {
        let mut guard = self.state();
        let state = &mut *guard;
        if let Some(entry) = &mut state.slots[usize::from(slot.0)]
            && entry.generation == generation
        {
            entry.request.worker = Some(worker);
            state.writer.set_worker(slot, Some(worker));
        }
    }

    /// Enters an address that the guest of a NIC was found to use beside those that it was given. False where another NIC
    /// has it, the table has no room, or the NIC is not that of `generation`.
    pub fn learn(&self, slot: SlotId, generation: u32, address: IpAddr) -> bool {
        let mut guard = self.state();
        let state = &mut *guard;
        let tables = *state.writer.tables();
        let Some(entry) = state.slots[usize::from(slot.0)].as_mut().filter(|entry| entry.generation == generation)
        else {
            return false;
        };
        let network = entry.request.network;
        match tables.hosts().find(network, address.into()) {
            Some(found) => found.slot == slot,
            None => {
                let entered = state.writer.add_address(network, address, slot).is_ok();
                if entered {
                    entry.learned.push(address);
                }
                entered
            }
        }
    }

    /// Takes an address out again that [`Lan::learn`] entered; does nothing where it is not such.
    pub fn unlearn(&self, slot: SlotId, generation: u32, address: IpAddr) {
        let mut state = self.state();
        let entry = state.slots[usize::from(slot.0)].as_ref();
        let network = entry.filter(|entry| entry.generation == generation && entry.learned.contains(&address));
        if let Some(network) = network.map(|entry| entry.request.network) {
            state.unlearn(network, address);
        }
    }

    /// Whether the NIC that has `address` has it only because [`Lan::learn`] entered it.
    pub fn is_learned(&self, network: NetworkId, address: IpAddr) -> bool {
        let state = self.state();
        let found = state.writer.tables().hosts().find(network, address.into());
        let entry = found.and_then(|found| state.slots[usize::from(found.slot.0)].as_ref());
        entry.is_some_and(|entry| entry.learned.contains(&address))
    }

    /// Changes the MAC address of a NIC, if it is still that of `generation`.
    pub fn set_mac(&self, slot: SlotId, generation: u32, mac: u64) {
        let mut guard = self.state();
        let state = &mut *guard;
        if let Some(entry) = &mut state.slots[usize::from(slot.0)]
            && entry.generation == generation
        {
            entry.request.mac = mac;
            state.writer.set_mac(slot, mac);
        }
    }

    /// Says what a NIC's guest takes unfinished, if it is still that of `generation`.
    pub fn set_offloads(&self, slot: SlotId, generation: u32, offloads: u32) {
        let mut guard = self.state();
        let state = &mut *guard;
        if let Some(entry) = &mut state.slots[usize::from(slot.0)]
            && entry.generation == generation
        {
            entry.request.offloads = offloads;
            state.writer.set_offloads(slot, offloads);
        }
    }

    /// Has a NIC take what leads out of its network; `None`: no NIC does.
    pub fn set_gateway(&self, network: NetworkId, slot: Option<SlotId>) {
        let mut guard = self.state();
        let state = &mut *guard;
        let generation = |slot: SlotId| state.slots[usize::from(slot.0)].as_ref().map(|entry| (slot, entry.generation));
        let gateway = slot.and_then(generation);
        state.writer.set_gateway(network, gateway);
    }

    /// Shuts late senders out of a buffer and gives its memory back. False when its lock cannot be had.
    fn evict(&self, state: &mut State, slot: SlotId) -> bool {
        let row = self.segment.tables().nic(slot);
        let Some(buffer) = self.segment.buffer(slot, row) else { return true };
        let senders = &buffer.control.senders;
        let locked = senders.lock.lock(BASE);
        if locked {
            let generation = state.generations[usize::from(slot.0)].wrapping_add(1);
            state.generations[usize::from(slot.0)] = generation;
            senders.generation.store(generation, Ordering::Relaxed);
            self.segment.release_ring(row);
            senders.lock.unlock();
        }
        buffer.control.bell.force(Listener::Guest);
        buffer.wake_senders();
        locked
    }

    fn retry_stuck(&self, state: &mut State) {
        for slot in std::mem::take(&mut state.stuck) {
            let senders = &self.segment.control(SlotId(slot)).senders;
            if senders.lock.try_lock(BASE) {
                let generation = state.generations[usize::from(slot)].wrapping_add(1);
                state.generations[usize::from(slot)] = generation;
                senders.generation.store(generation, Ordering::Relaxed);
                self.segment.release_ring(self.segment.tables().nic(SlotId(slot)));
                senders.lock.unlock();
                state.free.push_back(slot);
            } else {
                state.stuck.push(slot);
            }
        }
    }

    /// Puts right what a dead process may have left half done under `owner`: locks that it held, and receivers that it
    /// was about to wake. To be called once the kernel has reported the death, and not before.
    pub fn bury(&self, owner: Token) {
        let tables = self.segment.tables();
        for slot in std::iter::once(SlotId(0)).chain(tables.slots()) {
            let row = tables.nic(slot);
            let Some(buffer) = self.segment.buffer(slot, row) else { continue };
            buffer.bury(owner);
            if (slot.0 == 0 || row.state() == NicState::Up) && buffer.used() > 0 {
                buffer.control.bell.force(self.segment.listener(slot, row));
            }
        }
    }

    /// Begins to note who has which slot, and empties the capture's ring for its reader. Notes that late senders have
    /// for an earlier capture will not get into it: its generation is another.
    ///
    /// # Errors
    ///
    /// [`LanError::Stuck`].
    pub fn open_capture(&self) -> Result<(), LanError> {
        let mut guard = self.state();
        let state = &mut *guard;
        self.renew_capture(state)?;
        let holders = state.slots.iter().enumerate().filter_map(|(slot, entry)| {
            let Slot { request, generation, .. } = entry.as_ref()?;
            Some(((slot as u16, *generation), (request.name.clone(), request.addresses.clone())))
        });
        state.seen = holders.collect();
        state.capturing = true;
        Ok(())
    }

    /// Says what senders note from now on: everything or only what they drop, and how many bytes of each datagram.
    pub fn set_noted(&self, everything: bool, bytes: u32) {
        self.state().writer.set_noted(if everything { FLAG_CAPTURE } else { FLAG_DROPS }, bytes);
    }

    /// Has senders note nothing any more, and gives the ring's memory back. Late notes go nowhere.
    pub fn close_capture(&self) {
        let mut state = self.state();
        state.writer.set_noted(0, 0);
        state.capturing = false;
        state.seen = Holders::new();
        // A stopped process may hold the lock; the next capture then tries again.
        let _ = self.renew_capture(&mut state);
    }

    fn renew_capture(&self, state: &mut State) -> Result<(), LanError> {
        let geometry = *self.segment.tables().geometry();
        let row = self.segment.tables().nic(SlotId(0));
        let buffer = self.segment.buffer(SlotId(0), row).ok_or(LanError::Gone)?;
        let senders = &buffer.control.senders;
        if !senders.lock.lock(BASE) {
            return Err(LanError::Stuck);
        }
        let generation = row.generation().wrapping_add(1);
        state.writer.set_nic(SlotId(0), &capture_config(&geometry), NicState::Down, generation);
        if senders.tail.load(Ordering::Relaxed) > 0 {
            self.segment.release_ring(row);
        }
        buffer.reset(generation);
        senders.lock.unlock();
        Ok(())
    }

    /// Who has had which slot since the capture began, those that have left included.
    #[must_use]
    pub fn holders(&self) -> Holders {
        self.state().seen.clone()
    }

    /// The name and the addresses of the NIC that had `slot` in `generation`, if it did while a capture ran.
    #[must_use]
    pub fn holder(&self, slot: SlotId, generation: u32) -> Option<(String, Vec<IpAddr>)> {
        self.state().seen.get(&(slot.0, generation)).cloned()
    }

    /// Whether a NIC of this generation takes datagrams.
    #[must_use]
    pub fn is_up(&self, slot: SlotId, generation: u32) -> bool {
        let row = self.segment.tables().nic(slot);
        row.generation() == generation && row.state() == NicState::Up
    }

    /// Ends the LAN: everybody who waits on it is woken and finds it closed.
    pub fn close(&self) {
        let mut state = self.state();
        state.writer.set_flag(FLAG_CLOSED, true);
        drop(state);
        let tables = self.segment.tables();
        for slot in std::iter::once(SlotId(0)).chain(tables.slots()) {
            let control = self.segment.control(slot);
            futex_wake(&control.bell.idle, i32::MAX);
            futex_wake(&control.receiver.space_wanted, i32::MAX);
        }
        for worker in 0..vnet_tables::layout::WORKERS {
            self.segment.worker(worker).wake(self.segment.alarm(worker));
        }
    }
}

/// The row of the capture's slot.
fn capture_config(geometry: &Geometry) -> NicConfig {
    let ring_at = geometry.ring_at(0);
    NicConfig {
        network: NetworkId(0),
        mtu: 0,
        ring_at,
        ring_bytes: CAPTURE_RING,
        mac: 0,
        worker: None,
        offloads: 0,
        flags: 0,
        port: 0,
        gateways: (SlotId(0), SlotId(0)),
        filters: (0, 0),
    }
}
