//! `Tables`, what every process reads, and `Writer`, what the base alone holds.

use core::net::IpAddr;
use core::ptr::NonNull;

use thiserror::Error;

use crate::host::HostTable;
use crate::layout::{ABI, FLAG_CAPTURE, FLAG_CLOSED, FLAG_DROPS, Geometry, Header, MAGIC, NETWORKS, PAGE};
use crate::network::{NetworkId, NetworkRow, Prefixes};
use crate::nic::{NicConfig, NicRow, NicState, SlotId};
use crate::raw::{self, Rows};
use crate::sync::Ordering;

/// Why tables cannot be read or changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TablesError {
    /// The memory does not start with the header of a LAN made on a machine like this one.
    #[error("this memory is not a vnet LAN")]
    NotALan,
    /// Made by another version of vnet.
    #[error("the LAN has ABI version {found}, this vnet has {expected}")]
    Abi {
        /// What the segment says.
        found: u32,
        /// What this code needs.
        expected: u32,
    },
    /// The sizes in the header contradict themselves or the memory.
    #[error("the LAN's header is damaged")]
    Damaged,
    /// All network rows are in use.
    #[error("a LAN has at most {NETWORKS} networks")]
    NetworksFull,
    /// The host table has no room for this address.
    #[error("the host table has no room for {0}")]
    HostsFull(IpAddr),
}

/// The tables of a LAN, for reading. `Copy`; whoever makes it keeps the memory mapped.
#[derive(Clone, Copy)]
pub struct Tables {
    rows: Rows,
    geometry: Geometry,
}

impl Tables {
    /// Reads the tables that lie at `start`.
    ///
    /// # Errors
    ///
    /// [`TablesError::NotALan`], [`TablesError::Abi`], [`TablesError::Damaged`].
    ///
    /// # Safety
    ///
    /// `start` points to `bytes` bytes of mapped memory, aligned to a page, that stay mapped while the result or a copy
    /// of it is used.
    #[allow(unsafe_code)]
    pub unsafe fn open(start: NonNull<u8>, bytes: u64) -> Result<Self, TablesError> {
        if bytes < PAGE {
            return Err(TablesError::NotALan);
        }
        // SAFETY: one page is there, as just checked.
        let header = unsafe { raw::header(start) };
        if header.magic.load(Ordering::Acquire) != MAGIC {
            return Err(TablesError::NotALan);
        }
        let found = header.abi.load(Ordering::Relaxed);
        if found != ABI {
            return Err(TablesError::Abi { found, expected: ABI });
        }
        let geometry = Geometry {
            nics: header.nics.load(Ordering::Relaxed),
            buckets4: header.buckets4.load(Ordering::Relaxed),
            buckets6: header.buckets6.load(Ordering::Relaxed),
            stride: header.stride.load(Ordering::Relaxed),
        };
        if !geometry.is_sound() || geometry.tables_bytes() > bytes {
            return Err(TablesError::Damaged);
        }
        // SAFETY: the geometry is sound and its tables fit the memory, as just checked.
        let rows = unsafe { raw::rows(start, &geometry) };
        Ok(Self { rows, geometry })
    }

    /// The sizes that the LAN was made with.
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The header.
    #[must_use]
    #[inline]
    pub fn header(&self) -> &'static Header {
        self.rows.header
    }

    /// The host table.
    #[must_use]
    #[inline]
    pub fn hosts(&self) -> HostTable<'static> {
        HostTable { v4: self.rows.hosts4, v6: self.rows.hosts6 }
    }

    /// The row of a slot; of slot 0 where there is no such slot.
    #[must_use]
    #[inline]
    pub fn nic(&self, slot: SlotId) -> &'static NicRow {
        self.rows.nics.get(usize::from(slot.0)).unwrap_or(&self.rows.nics[0])
    }

    /// The row of a network, if it is in use.
    #[must_use]
    #[inline]
    pub fn network(&self, id: NetworkId) -> Option<&'static NetworkRow> {
        // Acquire: partners with the release in `Writer::add_network()`.
        let count = self.rows.header.network_count.load(Ordering::Acquire);
        if id.0 == 0 || u32::from(id.0) > count { None } else { self.rows.networks.get(usize::from(id.0) - 1) }
    }

    /// The NIC of a network that takes datagrams under this MAC address, the first octet highest of 48 bits. Looks at every
    /// slot in turn.
    #[must_use]
    pub fn slot_of_mac(&self, network: NetworkId, mac: u64) -> Option<SlotId> {
        self.slots().find(|slot| {
            let row = self.nic(*slot);
            row.mac() == mac && row.network() == network && row.state() == NicState::Up
        })
    }

    /// Slots that may hold a NIC, the capture's left out.
    pub fn slots(&self) -> impl Iterator<Item = SlotId> + use<> {
        let high = self.rows.header.nic_high.load(Ordering::Acquire).min(self.geometry.nics);
        (1..high).map(|slot| SlotId(slot as u16))
    }

    /// What senders note for the captures: 0 for nothing, with [`FLAG_CAPTURE`] everything, else what they drop.
    #[must_use]
    #[inline]
    pub fn noted(&self) -> u32 {
        self.rows.header.moment.load(Ordering::Relaxed) as u32 & (FLAG_CAPTURE | FLAG_DROPS)
    }

    /// How many bytes of each datagram senders note.
    #[must_use]
    #[inline]
    pub fn noted_bytes(&self) -> usize {
        self.rows.header.noted_bytes.load(Ordering::Relaxed) as usize
    }

    /// The version of all that routing goes by; 0 while nothing is routed.
    #[must_use]
    #[inline]
    pub fn routing(&self) -> u32 {
        (self.moment() >> 32) as u32
    }

    /// Flags and version of routing in one word: as long as it stands, nothing has changed that a sender keeps.
    #[must_use]
    #[inline(always)]
    pub fn moment(&self) -> u64 {
        // Acquire: partners with the release in `Writer::set_moment()`; who sees the number sees what it stands for.
        self.rows.header.moment.load(Ordering::Acquire)
    }

    /// Whether the base has closed the LAN.
    #[must_use]
    #[inline]
    pub fn closed(&self) -> bool {
        self.rows.header.moment.load(Ordering::Relaxed) as u32 & FLAG_CLOSED != 0
    }
}

/// The writing side of the tables. Only the base has one, over memory that only it can write.
pub struct Writer {
    tables: Tables,
    insertions: u32,
}

impl Writer {
    /// Makes empty tables at `start`.
    ///
    /// # Safety
    ///
    /// As for [`Tables::open`]; besides, the memory is writable, zeroed, and written by nobody else.
    #[allow(unsafe_code)]
    #[must_use]
    pub unsafe fn create(start: NonNull<u8>, geometry: &Geometry, lan: u64) -> Self {
        assert!(geometry.is_sound(), "a geometry from Geometry::new is sound");
        // SAFETY: as the caller vouches.
        let rows = unsafe { raw::rows(start, geometry) };
        let header = rows.header;
        header.abi.store(ABI, Ordering::Relaxed);
        header.nics.store(geometry.nics, Ordering::Relaxed);
        header.networks.store(NETWORKS, Ordering::Relaxed);
        header.buckets4.store(geometry.buckets4, Ordering::Relaxed);
        header.buckets6.store(geometry.buckets6, Ordering::Relaxed);
        header.stride.store(geometry.stride, Ordering::Relaxed);
        header.lan.store(lan, Ordering::Relaxed);
        header.nic_high.store(1, Ordering::Relaxed);
        // Release: who sees the magic sees the geometry.
        header.magic.store(MAGIC, Ordering::Release);
        Self { tables: Tables { rows, geometry: *geometry }, insertions: 0 }
    }

    /// The same tables, for reading.
    #[must_use]
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Adds a network.
    ///
    /// # Errors
    ///
    /// [`TablesError::NetworksFull`].
    pub fn add_network(&mut self, prefixes: &Prefixes, mtu: u32) -> Result<NetworkId, TablesError> {
        let header = self.tables.rows.header;
        let count = header.network_count.load(Ordering::Relaxed);
        let row = self.tables.rows.networks.get(count as usize).ok_or(TablesError::NetworksFull)?;
        row.write(prefixes, mtu);
        // Release: partners with the acquire in `Tables::network()`.
        header.network_count.store(count + 1, Ordering::Release);
        Ok(NetworkId(count as u16 + 1))
    }

    /// Fills the row of a slot under a new generation.
    pub fn set_nic(&mut self, slot: SlotId, config: &NicConfig, state: NicState, generation: u32) {
        self.tables.nic(slot).write(config, state, generation);
        let header = self.tables.rows.header;
        let high = header.nic_high.load(Ordering::Relaxed).max(u32::from(slot.0) + 1);
        // Release: partners with the acquire in `Tables::slots()`.
        header.nic_high.store(high, Ordering::Release);
    }

    /// Changes whether a NIC takes datagrams.
    pub fn set_state(&mut self, slot: SlotId, state: NicState) {
        self.tables.nic(slot).set_state(state);
    }

    /// Changes who serves a NIC.
    pub fn set_worker(&mut self, slot: SlotId, worker: Option<u32>) {
        self.tables.nic(slot).set_worker(worker);
    }

    /// Changes the MAC address of a NIC.
    pub fn set_mac(&mut self, slot: SlotId, mac: u64) {
        self.tables.nic(slot).set_mac(mac);
    }

    /// Changes what a NIC's guest takes unfinished.
    pub fn set_offloads(&mut self, slot: SlotId, offloads: u32) {
        self.tables.nic(slot).set_offloads(offloads);
    }

    /// Says which router's port a NIC is, its number plus one.
    pub fn set_port(&mut self, slot: SlotId, port: u32) {
        self.tables.nic(slot).set_port(port);
    }

    /// Says which NICs lead a NIC's guest out of the network, for IPv4 and IPv6.
    pub fn set_gateways(&mut self, slot: SlotId, v4: SlotId, v6: SlotId) {
        self.tables.nic(slot).set_gateways(v4, v6);
    }

    /// Says which filters a NIC has, inward and outward, their numbers plus one.
    pub fn set_filters(&mut self, slot: SlotId, inward: u16, outward: u16) {
        self.tables.nic(slot).set_filters(inward, outward);
    }

    /// Says which filter a network has, its number plus one.
    pub fn set_network_filter(&mut self, network: NetworkId, filter: u32) {
        let Some(row) = self.tables.network(network) else { return };
        row.set_filter(filter);
        for slot in self.tables.slots() {
            let nic = self.tables.nic(slot);
            if nic.network() == network {
                nic.set_guarded(filter != 0);
            }
        }
    }

    /// Tells senders that what they know of paths and filters may not hold any more.
    pub fn bump_routing(&mut self) {
        let now = self.tables.moment();
        let next = ((now >> 32) as u32).wrapping_add(1).max(1);
        self.set_moment(u64::from(next) << 32 | now & u64::from(u32::MAX));
    }

    fn set_moment(&mut self, moment: u64) {
        // Release: partners with the acquire in `Tables::moment()`.
        self.tables.rows.header.moment.store(moment, Ordering::Release);
    }

    /// Tells senders on a LAN with routers that an address may be another NIC's than it was: they keep who has it.
    pub fn address_moved(&mut self) {
        if self.tables.routing() != 0 {
            self.bump_routing();
        }
    }

    /// Says which NIC, of which generation, takes what leads out of a network.
    pub fn set_gateway(&mut self, network: NetworkId, gateway: Option<(SlotId, u32)>) {
        if let Some(row) = self.tables.network(network) {
            row.set_gateway(gateway);
        }
    }

    /// Says how many NICs of a network lead to addresses that the tables do not know.
    pub fn set_bridges(&mut self, network: NetworkId, count: u32) {
        if let Some(row) = self.tables.network(network) {
            row.set_bridges(count);
        }
    }

    /// Enters an address, or moves it to another NIC.
    ///
    /// # Errors
    ///
    /// [`TablesError::HostsFull`].
    pub fn add_address(&mut self, network: NetworkId, address: IpAddr, slot: SlotId) -> Result<(), TablesError> {
        self.insertions = self.insertions.wrapping_add(1);
        let hosts = self.tables.hosts();
        hosts.insert(network, address.into(), slot, self.insertions).map_err(|_| TablesError::HostsFull(address))
    }

    /// Takes an address out; does nothing where it is not in.
    pub fn remove_address(&mut self, network: NetworkId, address: IpAddr) {
        self.tables.hosts().remove(network, address.into());
    }

    /// Says what senders note for the captures: flags of the header, and bytes of each datagram.
    pub fn set_noted(&mut self, noted: u32, bytes: u32) {
        let header = self.tables.rows.header;
        header.noted_bytes.store(bytes, Ordering::Relaxed);
        let others = self.tables.moment() & !u64::from(FLAG_CAPTURE | FLAG_DROPS);
        self.set_moment(others | u64::from(noted));
    }

    /// Sets or clears a flag of the header.
    pub fn set_flag(&mut self, flag: u32, on: bool) {
        let now = self.tables.moment();
        self.set_moment(if on { now | u64::from(flag) } else { now & !u64::from(flag) });
    }
}
