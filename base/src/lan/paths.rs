//! What the base writes for routing: sections, gateways, filters.

use std::os::fd::OwnedFd;

use vnet_tables::layout::PAGE;
use vnet_tables::{NetworkId, SlotId};

use super::{Lan, LanError, State};
use crate::routing::{self, ROUTES_PLACE, Root, Section, next_half};
use crate::sync::AtomicU32;

impl State {
    /// Takes a NIC that has left from all that had it as their gateway.
    pub(super) fn forget_gateway(&mut self, gone: SlotId) {
        let mut changed = false;
        for index in 0..self.slots.len() {
            let Some(entry) = &mut self.slots[index] else { continue };
            let without = |slot: SlotId| if slot == gone { SlotId(0) } else { slot };
            let left = (without(entry.gateways.0), without(entry.gateways.1));
            if left != entry.gateways {
                entry.gateways = left;
                self.writer.set_gateways(SlotId(index as u16), left.0, left.1);
                changed = true;
            }
        }
        if changed {
            self.writer.bump_routing();
        }
    }
}

impl Lan {
    /// Replaces a section by `words`, and has senders compose their paths anew. Not for [`Section::Routes`], which is
    /// changed in place.
    ///
    /// # Errors
    ///
    /// [`LanError::Sections`] where the words do not fit.
    pub fn publish(&self, section: Section, words: &[u32]) -> Result<(), LanError> {
        let mut state = self.state();
        let roots = self.segment.roots();
        let (at, bytes) = next_half(section, roots.root(section)).ok_or(LanError::Sections)?;
        if words.len() as u64 * 4 > bytes {
            return Err(LanError::Sections);
        }
        let root = Root::new(false, at, words.len());
        let place = self.segment.words(section, root).ok_or(LanError::Sections)?;
        routing::fill(place, words);
        roots.set(section, root);
        state.writer.bump_routing();
        Ok(())
    }

    /// Where the route table may lie and grow: all the address space that it has. Only the base may store there.
    #[must_use]
    pub fn routes_place(&self) -> &'static [AtomicU32] {
        let (at, bytes) = ROUTES_PLACE;
        self.segment.words(Section::Routes, Root::new(false, at, (bytes / 4) as usize)).unwrap_or(&[])
    }

    /// Has senders look addresses up in the first `words` words of [`Lan::routes_place`].
    pub fn lead_to_routes(&self, words: usize) {
        let mut state = self.state();
        self.segment.roots().set(Section::Routes, Root::new(false, ROUTES_PLACE.0, words));
        state.writer.bump_routing();
    }

    /// Has senders compose their paths anew: something in the route table has changed.
    pub fn bump_routing(&self) {
        self.state().writer.bump_routing();
    }

    /// Has a section lie in an image, from `at` bytes into the file on, `words` words. The file was checked.
    ///
    /// Guests that attach from now on are given the image. Those that have attached already would find nothing where the
    /// root leads: with them about, the words are to be published instead.
    ///
    /// # Errors
    ///
    /// [`LanError::Sections`] where the section had an image before, or this one ends early; [`LanError::Segment`] where it
    /// cannot be mapped. Then the section is as before.
    pub fn adopt_image(&self, section: Section, file: OwnedFd, at: u64, words: usize) -> Result<(), LanError> {
        let mut state = self.state();
        if !self.segment.map_image(section, file)? {
            return Err(LanError::Sections);
        }
        let end = u64::try_from(words).ok().and_then(|words| words.checked_mul(4)?.checked_add(at));
        if !at.is_multiple_of(PAGE) || end.is_none_or(|end| end > self.segment.image_bytes(section)) {
            return Err(LanError::Sections);
        }
        self.segment.roots().set(section, Root::new(true, at, words));
        state.writer.bump_routing();
        Ok(())
    }

    /// Says which NICs lead the guest of a NIC out of its network, for IPv4 and for IPv6; slot 0 for none. False where the
    /// NIC is not that of `generation`.
    pub fn set_gateways(&self, slot: SlotId, generation: u32, v4: SlotId, v6: SlotId) -> bool {
        let mut guard = self.state();
        let state = &mut *guard;
        let entry = state.slots.get_mut(usize::from(slot.0)).and_then(Option::as_mut);
        let Some(entry) = entry.filter(|entry| entry.generation == generation) else { return false };
        entry.gateways = (v4, v6);
        state.writer.set_gateways(slot, v4, v6);
        state.writer.bump_routing();
        true
    }

    /// Says which filters a NIC has, of what it is given and of what it sends: their numbers plus one, 0 for none. False
    /// where the NIC is not that of `generation`.
    pub fn set_filters(&self, slot: SlotId, generation: u32, inward: u16, outward: u16) -> bool {
        let mut guard = self.state();
        let state = &mut *guard;
        let entry = state.slots.get_mut(usize::from(slot.0)).and_then(Option::as_mut);
        let Some(entry) = entry.filter(|entry| entry.generation == generation) else { return false };
        entry.filters = (inward, outward);
        state.writer.set_filters(slot, inward, outward);
        state.writer.bump_routing();
        true
    }

    /// Says which filter a network has, of what enters its NICs: its number plus one, 0 for none.
    pub fn set_network_filter(&self, network: NetworkId, filter: u32) {
        let mut state = self.state();
        state.writer.set_network_filter(network, filter);
        state.writer.bump_routing();
    }
}
