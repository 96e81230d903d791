//! Guests behind TAP devices, as the binding keeps them: their devices, counters and neighbourhood.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use vnet_base::lan::BASE;
use vnet_base::tables::layout::WORKERS;
use vnet_base::tables::{NetworkId, SlotId};
use vnet_base::{Lan, NicRequest};
use vnet_drivers::Port;
use vnet_drivers::tap::counters::Counters;
use vnet_drivers::tap::device::Device;
use vnet_drivers::tap::driver::{Tap, TapConfig};
use vnet_drivers::tap::neighbourhood::{Event, Neighbourhood, News};
use vnet_drivers::worker::Worker;

/// Addresses of NICs that have left whose MAC addresses are remembered.
const DEPARTED: usize = 4096;

/// The TAP guests of a base.
pub struct Taps {
    neighbourhood: Arc<Neighbourhood>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    guests: BTreeMap<u16, Guest>,
    /// Who has had an address that nobody has now: guests may remember.
    departed: HashMap<(NetworkId, IpAddr), u64>,
    served: u32,
}

struct Guest {
    counters: Arc<Counters>,
    /// Closed here, by whoever takes the NIC off: the kernel takes milliseconds to delete an interface, in which no worker
    /// should stand still.
    device: Arc<Device>,
}

impl Default for Taps {
    fn default() -> Self {
        Self { neighbourhood: Neighbourhood::new(), state: Mutex::default() }
    }
}

impl Taps {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a base worker serve the guest behind the TAP device that `file` is attached to.
    pub fn serve(
        &self,
        lan: &Arc<Lan>,
        workers: &[Worker; WORKERS as usize],
        slot: SlotId,
        generation: u32,
        file: OwnedFd,
        bridges: bool,
    ) -> io::Result<()> {
        let device = Arc::new(Device::new(file)?);
        let counters = Arc::new(Counters::default());
        let mut state = self.state();
        // A worker and the guests that it serves want two processors at least.
        let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
        let number = state.served % (processors / 2).clamp(1, WORKERS);
        state.served += 1;
        lan.set_worker(slot, generation, number);
        let worker = &workers[number as usize];
        let config = TapConfig { slot, generation, bridges };
        let alarm = Arc::downgrade(lan);
        let wake = move || {
            if let Some(lan) = Weak::upgrade(&alarm) {
                let segment = lan.segment();
                segment.worker(number).announce(slot.0, segment.alarm(number));
            }
        };
        let join = |network| self.neighbourhood.join(slot, network, Box::new(wake));
        let gone = || io::Error::other("the NIC has left the LAN");
        let tap = Tap::new(lan, &config, Arc::clone(&device), Arc::clone(&counters), join).ok_or_else(gone)?;
        let port = Port::new(lan.segment(), slot, BASE).ok_or_else(gone)?;
        worker.serve(slot, generation, port, Box::new(tap))?;
        state.guests.insert(slot.0, Guest { counters, device });
        Ok(())
    }

    /// What befell the frames of a guest, by reason; nothing where it is none of ours.
    pub fn counters(&self, slot: SlotId) -> Vec<(&'static str, u64)> {
        let state = self.state();
        let counters = state.guests.get(&slot.0).map(|guest| &guest.counters);
        counters
            .map_or_else(Vec::new, |counters| counters.iter().map(|(reason, count)| (reason.name(), count)).collect())
    }

    /// A NIC comes: whoever may remember another at its addresses is told.
    pub fn coming(&self, request: &NicRequest) {
        let mut state = self.state();
        let State { guests, departed, .. } = &mut *state;
        let moved: Vec<IpAddr> = request
            .addresses
            .iter()
            .filter(|address| departed.remove(&(request.network, **address)).is_some_and(|mac| mac != request.mac))
            .copied()
            .collect();
        let anyone = !guests.is_empty();
        drop(state);
        if anyone {
            let [_, _, mac @ ..] = request.mac.to_be_bytes();
            for address in moved {
                let event = Event::Told { address, mac, news: News::Moved };
                self.neighbourhood.announce(request.network, SlotId(0), event);
            }
        }
    }

    /// A NIC leaves.
    pub fn leaving(&self, lan: &Lan, slot: SlotId, generation: u32) {
        let mut state = self.state();
        if !state.guests.is_empty()
            && let Some(nic) = lan.nic(slot, generation)
        {
            if state.departed.len() > DEPARTED {
                state.departed.clear();
            }
            state.departed.extend(nic.addresses.iter().map(|address| ((nic.network, *address), nic.mac)));
        }
        let guest = state.guests.remove(&slot.0);
        drop(state);
        drop(guest);
    }

    /// Lets go of all devices in a forked child.
    pub fn abandon(&self) {
        // Whoever held the lock at the fork is not there to give it back.
        if let Ok(state) = self.state.try_lock() {
            state.guests.values().for_each(|guest| guest.device.abandon());
        }
    }

    /// Closes all devices.
    pub fn close(&self) {
        let guests = std::mem::take(&mut self.state().guests);
        drop(guests);
    }
}
