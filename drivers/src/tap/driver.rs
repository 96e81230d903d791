//! The driver: frames from the guest become datagrams, datagrams to the guest become frames.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use vnet_base::Lan;
use vnet_base::buffer::{Damaged, Record};
use vnet_base::datagram::LARGEST;
use vnet_base::forward::Unfinished;
use vnet_base::offload::Offload;
use vnet_base::outlet::{Outlet, Put};
use vnet_base::sync::{AtomicBool, AtomicU64, Ordering};
use vnet_base::tables::{Address, Destination, NetworkId, NicState, SlotId, Tables};

use super::counters::{Counters, Reason};
use super::device::{Device, Trouble};
use super::ethernet::{self, Mac};
use super::neighbourhood::{Event, Membership};
use super::neighbours::{Kept, Neighbours, Owner, Way, World};
use crate::driver::{BUDGET, Driver, Next};
use crate::port::Port;
use crate::virtio_net;

/// Frames and bytes that one visit takes from the guest: large segments are as much work as many small frames.
const FRAMES: usize = 32;
const BYTES: usize = 512 * 1024;

/// Visits of a guest whose frames come alone until the driver looks whether they come in a row by now.
const LOOKS: u32 = 8;

/// Bytes before a datagram in what the device reads and writes.
const BEFORE: usize = virtio_net::HEADER + ethernet::HEADER;
/// Bytes of the largest fixed header, IPv6's, which routers may have changed.
const HEAD: usize = 40;

/// A guest behind a TAP device.
pub struct Tap {
    side: Side,
    neighbours: Neighbours,
    counters: Arc<Counters>,
    outlet: Option<Arc<TapOutlet>>,
    room: Box<[u8]>,
    /// Whether more than one frame waited at the last visit.
    in_a_row: bool,
    visits: u32,
}

/// What a TAP is to be.
pub struct TapConfig {
    /// Its NIC.
    pub slot: SlotId,
    /// The NIC's generation.
    pub generation: u32,
    /// Whether many stations may be behind it.
    pub bridges: bool,
}

impl Tap {
    /// The driver of a NIC behind `device`. `None` where the NIC is not on the LAN any more.
    ///
    /// `join` makes the NIC a member of its neighbourhood.
    #[must_use]
    pub fn new(
        lan: &Arc<Lan>,
        config: &TapConfig,
        device: Arc<Device>,
        counters: Arc<Counters>,
        join: impl FnOnce(NetworkId) -> Membership,
    ) -> Option<Self> {
        let nic = lan.nic(config.slot, config.generation)?;
        lan.set_offloads(config.slot, config.generation, device.takes());
        let neighbours = Neighbours::new(&nic.addresses, octets(nic.mac), config.bridges, Arc::clone(&counters));
        // Many stations: which of them a datagram is for is the driver's to find out.
        let outlet = (!config.bridges).then(|| {
            let (device, counters) = (Arc::clone(&device), Arc::clone(&counters));
            Arc::new(TapOutlet { device, counters, guest: AtomicU64::new(nic.mac), plain: AtomicBool::new(true) })
        });
        let side = Side {
            device,
            lan: Arc::clone(lan),
            tables: *lan.segment().tables(),
            slot: config.slot,
            generation: config.generation,
            network: nic.network,
            membership: join(nic.network),
            outlet: outlet.clone(),
        };
        Some(Self {
            side,
            neighbours,
            counters,
            outlet,
            room: vec![0; BEFORE + LARGEST].into(),
            in_a_row: false,
            visits: 0,
        })
    }

    /// Takes frames from the guest. `None` once the device is gone; else whether there may be more.
    ///
    /// In a dialogue a frame comes alone: then this does not ask for a second one, which would be a system call for
    /// nothing. The worker polls the device and comes back if there is one after all; now and then this looks itself.
    fn take_frames(&mut self, port: &mut Port, now: u64) -> Option<bool> {
        let (mut frames, mut bytes) = (0, 0);
        self.visits = self.visits.wrapping_add(1);
        while frames < FRAMES && bytes < BYTES {
            match self.side.device.read(&mut self.room) {
                Ok(length) => {
                    self.take_frame(length, port, now);
                    (frames, bytes) = (frames + 1, bytes + length);
                    if !self.in_a_row && !self.visits.is_multiple_of(LOOKS) {
                        return Some(false);
                    }
                }
                Err(Trouble::Gone) => return None,
                Err(_) => {
                    self.in_a_row = frames > 1;
                    return Some(false);
                }
            }
        }
        self.in_a_row = true;
        Some(true)
    }

    /// A frame of the guest lies in `room`, `length` bytes with the header before it.
    fn take_frame(&mut self, length: usize, port: &mut Port, now: u64) {
        let Some((header, frame)) = self.room[..length].split_first_chunk() else {
            return self.counters.count(Reason::Malformed);
        };
        let frame = match ethernet::parse(frame, virtio_net::is_segmented(header)) {
            Ok(frame) => frame,
            Err(reason) => return self.counters.count(reason),
        };
        let Some(datagram) = self.neighbours.incoming(&frame, &mut self.side, now) else { return };
        let Ok(offload) = virtio_net::parse(header, ethernet::HEADER, datagram) else {
            return self.counters.count(Reason::OffloadContradiction);
        };
        let to_one = frame.destination[0] & 1 == 0;
        port.sender.set_next_hop(if to_one { number(frame.destination) } else { 0 });
        match offload {
            None => port.send(datagram, true),
            Some(offload) => {
                let unfinished = Unfinished { offload, fields: offload.fields() };
                port.sender.forward_unfinished(datagram, &unfinished, true)
            }
        };
    }

    /// Writes what lies in the input buffer to the guest. `None` once the device is gone; else whether there may be more.
    fn write_datagrams(&mut self, port: &mut Port, now: u64) -> Result<Option<bool>, Damaged> {
        for _ in 0..BUDGET {
            let Some(record) = port.peek()? else { return Ok(Some(false)) };
            let written = self.write_record(port, &record, now);
            port.done(&record);
            if written == Err(Trouble::Gone) {
                return Ok(None);
            }
        }
        Ok(Some(true))
    }

    fn write_record(&mut self, port: &Port, record: &Record, now: u64) -> Result<(), Trouble> {
        let datagram = port.receiver.bytes(record);
        let source = octets(self.side.tables.nic(SlotId(record.source)).mac());
        let Ok(destination) = vnet_base::datagram::destination(datagram) else {
            self.counters.count(Reason::Malformed);
            return Ok(());
        };
        match self.neighbours.outgoing(datagram, self.side.is_for_all(destination), &mut self.side, now) {
            Way::To(mac) => self.write(mac, source, datagram, record.meta),
            Way::Resolve(next_hop) => {
                let kept = Kept { datagram: datagram.to_vec(), word: record.meta, source };
                self.neighbours.keep(next_hop, kept);
                Ok(())
            }
            Way::Nowhere(_) => Ok(()),
        }
    }

    fn write(&self, to: Mac, from: Mac, datagram: &[u8], word: Option<u64>) -> Result<(), Trouble> {
        let offload = word.map(Offload::from_word);
        // The word came through memory that processes can write.
        if offload.is_some_and(|offload| offload.check(datagram).is_err()) {
            self.counters.count(Reason::OffloadContradiction);
            return Ok(());
        }
        let written = put(&self.side.device, to, from, &[], datagram, offload);
        if written.is_err() {
            self.counters.count(Reason::NotWritten);
        }
        written
    }

    fn write_resolved(&mut self) {
        while let Some((mac, kept)) = self.neighbours.resolved() {
            // A device that is gone says so to the next read.
            let _ = self.write(mac, kept.source, &kept.datagram, kept.word);
        }
    }
}

impl Driver for Tap {
    fn visit(&mut self, port: &mut Port, now: u64) -> Result<Next, Damaged> {
        // 1 hear what the other TAPs have to say.
        while let Some(event) = self.side.membership.take() {
            self.neighbours.hear(event, &mut self.side, now);
        }
        self.counters.add(Reason::NewsLost, self.side.membership.take_lost());
        // 2 forward what the guest sends, and make it appear.
        let Some(more_frames) = self.take_frames(port, now) else { return Ok(Next::Ended) };
        port.sender.ring();
        // 3 write what is for the guest.
        let Some(more_datagrams) = self.write_datagrams(port, now)? else { return Ok(Next::Ended) };
        self.write_resolved();
        // 4 ask again, give up, forget.
        let due = self.neighbours.due(&mut self.side, now);
        if let Some(outlet) = &self.outlet {
            outlet.plain.store(self.neighbours.is_plain(), Ordering::Relaxed);
        }
        Ok(if more_frames || more_datagrams { Next::Again } else { Next::At(due) })
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.side.device.as_fd())
    }

    fn outlet(&self) -> Option<Arc<dyn Outlet>> {
        self.outlet.clone().map(|outlet| outlet as Arc<dyn Outlet>)
    }
}

/// What the neighbours reach of the LAN.
struct Side {
    device: Arc<Device>,
    lan: Arc<Lan>,
    tables: Tables,
    slot: SlotId,
    generation: u32,
    network: NetworkId,
    membership: Membership,
    outlet: Option<Arc<TapOutlet>>,
}

impl Side {
    fn is_for_all(&self, destination: Address) -> bool {
        let network = self.tables.network(self.network);
        network.is_some_and(|network| network.classify(destination) == Destination::Everyone)
    }
}

impl World for Side {
    fn owner(&self, address: IpAddr) -> Owner {
        let address = Address::from(address);
        if let Some(found) = self.tables.hosts().find(self.network, address) {
            let row = self.tables.nic(found.slot);
            return match row.state() {
                _ if found.slot == self.slot => Owner::Own,
                NicState::Up => Owner::Other(octets(row.mac())),
                // Its guest is not there to answer.
                NicState::Down | NicState::Free => Owner::Nobody,
            };
        }
        match self.tables.network(self.network).map(|network| network.classify(address)) {
            Some(Destination::OnLink) => Owner::Nobody,
            _ => Owner::OffLink,
        }
    }

    fn is_learned(&self, address: IpAddr) -> bool {
        self.lan.is_learned(self.network, address)
    }

    fn speaks_ethernet(&self, address: IpAddr) -> bool {
        let found = self.tables.hosts().find(self.network, address.into());
        // What is behind a TAP takes unfinished datagrams; those who hand IP to the base themselves do not.
        found.is_some_and(|found| self.tables.nic(found.slot).offloads() != 0)
    }

    fn learn(&mut self, address: IpAddr) -> bool {
        self.lan.learn(self.slot, self.generation, address)
    }

    fn forget(&mut self, address: IpAddr) {
        self.lan.unlearn(self.slot, self.generation, address);
    }

    fn guest_moved(&mut self, mac: Mac) -> bool {
        let mac = number(mac);
        if self.tables.slot_of_mac(self.network, mac).is_some_and(|slot| slot != self.slot) {
            return false;
        }
        self.lan.set_mac(self.slot, self.generation, mac);
        if let Some(outlet) = &self.outlet {
            outlet.guest.store(mac, Ordering::Relaxed);
        }
        true
    }

    fn announce(&mut self, event: Event) {
        self.membership.announce(event);
    }

    fn transmit(&mut self, frame: &[u8]) {
        // A question or an answer that is lost is asked for again.
        let _ = self.device.write([&[0; virtio_net::HEADER], frame]);
    }
}

/// Where other guests of the worker hand datagrams to this TAP's guest.
struct TapOutlet {
    device: Arc<Device>,
    counters: Arc<Counters>,
    /// The guest's MAC.
    guest: AtomicU64,
    /// Whether all that the guest is reached by has that MAC.
    plain: AtomicBool,
}

impl Outlet for TapOutlet {
    fn put(&self, head: &[u8], datagram: &[u8], offload: Option<Offload>, source: u64) -> Put {
        // Relaxed: written by the thread that reads it.
        if !self.plain.load(Ordering::Relaxed) || is_router_advertisement(datagram) {
            return Put::Elsewhere;
        }
        let guest = octets(self.guest.load(Ordering::Relaxed));
        match put(&self.device, guest, octets(source), head, datagram, offload) {
            Ok(()) => Put::Taken,
            Err(Trouble::Down | Trouble::Gone) => Put::Down,
            Err(trouble) => {
                self.counters.count(Reason::NotWritten);
                if trouble == Trouble::Later { Put::Full } else { Put::Refused }
            }
        }
    }
}

/// Writes a frame; `head` stands for the first bytes of the datagram.
fn put(
    device: &Device,
    to: Mac,
    from: Mac,
    head: &[u8],
    datagram: &[u8],
    offload: Option<Offload>,
) -> Result<(), Trouble> {
    let mut before = [0; BEFORE + HEAD];
    let (virtio, rest) = before.split_at_mut(virtio_net::HEADER);
    let (ethernet, ip) = rest.split_at_mut(ethernet::HEADER);
    let ip = ip.get_mut(..head.len()).ok_or(Trouble::Refused)?;
    ip.copy_from_slice(head);
    virtio.copy_from_slice(&virtio_net::build(offload, datagram, ethernet::HEADER));
    ethernet.copy_from_slice(&ethernet::header(to, from, datagram));
    device.write([&before[..BEFORE + head.len()], &datagram[head.len()..]])
}

/// Whether the driver learns from a datagram to its guest: RFC 4861 section 4.2, behind a plain IPv6 header.
fn is_router_advertisement(datagram: &[u8]) -> bool {
    matches!(datagram, [version, _, _, _, _, _, 58, ..] if version >> 4 == 6) && datagram.get(40) == Some(&134)
}

/// A MAC as the tables have it: the first octet highest of 48 bits.
fn octets(mac: u64) -> Mac {
    let [_, _, octets @ ..] = mac.to_be_bytes();
    octets
}

fn number(mac: Mac) -> u64 {
    mac.iter().fold(0, |number, octet| number << 8 | u64::from(*octet))
}
