//! From a description to words; and from one description to the next with no more work than the difference makes.

use super::description::{Attached, Description, DescriptionError, MAX_WEIGHT, PortId};
use super::graph::{Graph, Rewired, wire};
use super::layout::{CELL, FAR, MOST_EQUAL, NEXT_IS_SET, NO_NEXT, head};
use super::sets::Sets;
use super::tree::Tree;
use super::words::{self, Sections};

/// A change of a port that runs: a link cut or mended, a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortChange {
    /// The port; a link is cut by taking down either end.
    pub port: PortId,
    /// Whether it carries.
    pub up: bool,
    /// Cost of sending out of it.
    pub weight: u32,
}

/// A compiled plan, and what it takes to change it.
#[derive(Clone, Debug)]
pub struct Compiled {
    description: Description,
    sections: Sections,
    words: Vec<u32>,
    sets: Sets,
    /// Words of the sets when none of them was left over.
    clean: usize,
}

/// Compiles a description; what stands for nothing in it leads nowhere ([`Description::check`] says what).
///
/// With the plan of a description `before`, only what differs is computed: shortest paths are repaired where ports,
/// weights or routers changed, and kept when nothing but classes and static routes did.
#[must_use]
pub fn compile(description: &Description, before: Option<&Compiled>) -> Compiled {
    let sections = Sections::new(description);
    let mut compiled = Compiled {
        description: description.clone(),
        sections,
        words: words::write(description, &sections),
        sets: Sets::new(sections.sets_at),
        clean: 0,
    };
    match before.filter(|before| before.sections.routers <= sections.routers) {
        Some(before) => {
            let ports = before.description.ports.len().max(description.ports.len());
            let rewired = rewired(&before.description, description, 0..ports);
            if is_repair(&rewired, ports) {
                compiled.take_over(before);
                compiled.repair(&rewired, before.sections.routers);
            } else {
                compiled.grow();
            }
        }
        None => compiled.grow(),
    }
    compiled.finish();
    compiled
}

/// A description as words: equal where all that is compiled of it is.
#[must_use]
pub fn form(description: &Description) -> Vec<u32> {
    let sections = Sections::new(description);
    let mut words = words::write(description, &sections);
    words.truncate(sections.matrix_at);
    words
}

fn rewired(before: &Description, now: &Description, ports: impl Iterator<Item = usize>) -> Vec<Rewired> {
    let change = |port| Rewired { port: port as u32, before: wire(before, port), now: wire(now, port) };
    ports.map(change).filter(|change| change.before != change.now).collect()
}

/// Whether to repair: each change is held against each destination, and where much is new, there is little to keep.
fn is_repair(rewired: &[Rewired], ports: usize) -> bool {
    rewired.len() <= 16 + ports / 8
}

impl Compiled {
    /// What was compiled of a description before, in another process perhaps, as it stands in its words.
    ///
    /// None where they are not of this description, as far as all but the shortest paths tells; whoever kept the words
    /// vouches for those.
    #[must_use]
    pub fn of_words(description: &Description, words: Vec<u32>) -> Option<Self> {
        let sections = Sections::new(description);
        let mut own = form(description);
        own[head::WORDS] = u32::try_from(words.len()).ok()?;
        if words.len() < sections.sets_at || words[..sections.matrix_at] != own {
            return None;
        }
        // Sets that stand in the words are not found again; one that comes a second time is left over in the end.
        let (sets, clean) = (Sets::new(sections.sets_at), words.len() - sections.sets_at);
        Some(Self { description: description.clone(), sections, words, sets, clean })
    }

    /// The plan, position-independent: what [`Plan`](super::Plan) reads.
    #[must_use]
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// What was compiled, with the changes since.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Cuts, mends and weighs in place; shortest paths are repaired where they changed.
    ///
    /// # Errors
    ///
    /// A port that does not exist, a weight out of range. Nothing has changed then.
    pub fn set_ports(&mut self, changes: &[PortChange]) -> Result<(), DescriptionError> {
        for &PortChange { port: PortId(port), weight, .. } in changes {
            let count = self.sections.ports;
            if port as usize >= count {
                return Err(DescriptionError::Unknown { who: "a change".into(), what: "port", number: port, count });
            }
            if !(1..=MAX_WEIGHT).contains(&weight) {
                return Err(DescriptionError::Weight { port, weight });
            }
        }
        let peer = |port: &PortId| match self.description.ports[port.0 as usize].attached {
            Attached::Link { peer } => Some(peer),
            Attached::Network(_) => None,
        };
        let named = changes.iter().map(|change| change.port);
        let mut ports: Vec<_> = named.flat_map(|port| [Some(port), peer(&port)]).flatten().collect();
        ports.sort_unstable();
        ports.dedup();
        let before: Vec<_> = ports.iter().map(|port| wire(&self.description, port.0 as usize)).collect();
        for change in changes {
            let spec = &mut self.description.ports[change.port.0 as usize];
            (spec.up, spec.weight) = (change.up, change.weight);
        }
        let rewired: Vec<_> = ports
            .iter()
            .zip(before)
            .map(|(port, before)| Rewired { port: port.0, before, now: wire(&self.description, port.0 as usize) })
            .filter(|change| change.before != change.now)
            .collect();
        words::write_ports(&self.description, &self.sections, &mut self.words);
        if is_repair(&rewired, self.sections.ports) {
            self.repair(&rewired, self.sections.routers);
        } else {
            self.grow();
        }
        self.finish();
        Ok(())
    }

    /// All shortest paths, from nothing.
    fn grow(&mut self) {
        let graph = Graph::new(&self.description, &[]);
        let mut tree = Tree::default();
        self.words.truncate(self.sections.sets_at);
        self.sets = Sets::new(self.sections.sets_at);
        for to in 0..self.sections.routers {
            tree.grow(&graph, to as u32);
            self.write_row(&graph, &tree, to);
        }
        self.clean = self.words.len() - self.sections.sets_at;
    }

    /// The matrix and the sets of a plan with as many routers or fewer.
    fn take_over(&mut self, before: &Self) {
        let (old, new) = (&before.sections, &self.sections);
        for to in 0..old.routers {
            let (from, at, count) = (old.cell(0, to), new.cell(0, to), old.routers * CELL);
            self.words[at..at + count].copy_from_slice(&before.words[from..from + count]);
            for router in old.routers..new.routers {
                self.words[at + router * CELL] = FAR;
            }
        }
        self.words.extend_from_slice(&before.words[old.sets_at..]);
        self.sets = before.sets.moved(new.sets_at);
        self.clean = before.clean;
    }

    /// Repairs the rows of the first `known` routers after changes of ports, and computes the others.
    fn repair(&mut self, rewired: &[Rewired], known: usize) {
        if rewired.is_empty() && known == self.sections.routers {
            return;
        }
        let graph = Graph::new(&self.description, rewired);
        let mut tree = Tree::default();
        let mut hops = Vec::with_capacity(MOST_EQUAL);
        for to in 0..known {
            let row = self.sections.cell(0, to);
            let words = &self.words;
            tree.repair(&graph, to as u32, |router| words[row + router as usize * CELL]);
            for &router in tree.touched() {
                let at = row + router as usize * CELL;
                self.words[at] = tree.distances()[router as usize];
                tree.hops(&graph, router, MOST_EQUAL, &mut hops);
                self.words[at + 1] = self.next_word(&hops);
            }
        }
        for to in known..self.sections.routers {
            tree.grow(&graph, to as u32);
            self.write_row(&graph, &tree, to);
        }
        // Sets that nothing points to any more stay where they are until they are as many as the others.
        if self.words.len() - self.sections.sets_at > 2 * self.clean + 1024 {
            self.sweep();
        }
    }

    fn write_row(&mut self, graph: &Graph, tree: &Tree, to: usize) {
        let mut hops = Vec::with_capacity(MOST_EQUAL);
        for router in 0..graph.routers {
            tree.hops(graph, router as u32, MOST_EQUAL, &mut hops);
            let at = self.sections.cell(router, to);
            self.words[at] = tree.distances()[router];
            self.words[at + 1] = self.next_word(&hops);
        }
    }

    /// A cell's second word.
    fn next_word(&mut self, hops: &[(u32, u32)]) -> u32 {
        match *hops {
            [] => NO_NEXT,
            [(out, into)]
                if self.description.ports[out as usize].attached == (Attached::Link { peer: PortId(into) }) =>
            {
                out + 1
            }
            _ => NEXT_IS_SET | self.sets.place(hops, &mut self.words),
        }
    }

    /// Leaves out the sets that nothing points to.
    fn sweep(&mut self) {
        let old = self.words.split_off(self.sections.sets_at);
        self.sets = Sets::new(self.sections.sets_at);
        let mut members = Vec::with_capacity(MOST_EQUAL);
        for at in (self.sections.matrix_at + 1..self.sections.sets_at).step_by(CELL) {
            let next = self.words[at];
            if next & NEXT_IS_SET != 0 {
                // Words that were kept somewhere may lead out of themselves.
                let set = old.get((next & !NEXT_IS_SET) as usize..).and_then(<[u32]>::split_first);
                let (count, rest) = set.unwrap_or((&0, &[]));
                members.clear();
                members.extend(rest.chunks_exact(2).take(*count as usize).map(|pair| (pair[0], pair[1])));
                self.words[at] = NEXT_IS_SET | self.sets.place(&members, &mut self.words);
            }
        }
        self.clean = self.words.len() - self.sections.sets_at;
    }

    /// Says how long the plan is.
    fn finish(&mut self) {
        self.words[head::WORDS] = self.words.len() as u32;
    }
}
