//! The route table: address → class, longest prefix match, IPv4 and IPv6.
//!
//! ```text
//!   prefix    prefixes as people write them, and routes
//!   bits      what the two families' addresses have in common
//!   words     what lies where in the table's words, drawn
//!   reader    `RouteTable`: look-ups, in any process, over a segment or a mapped file
//!   space     which words are free, and from when on they may be used again
//!   rib       the routes themselves, in order, in the writer's own memory
//!   shape     routes → nodes
//!   writer    `RouteWriter`: insert, remove, load, dump
//!   listing   the routes themselves, packed behind a table that is kept in a file
//!   layers    a table with two owners: the routers of a LAN, and who says what lies outside
//!   text      lists of prefixes as people keep them in files
//! ```
//!
//! # Theory of operation
//!
//! A table is a slice of 32-bit words; positions in it are word offsets from its start, so it can be mapped anywhere.
//! Each family has a root *entry*. An entry is either a class, or the position of a node that tells the next six bits
//! of the address apart. Neighbouring slots of a node that say the same are one run: a bitmap has a bit where a run
//! starts, and counting the bits up to a slot gives its place among the node's values (a tree bitmap with leaf
//! compression, as in Poptrie, Asai and Ohara, SIGCOMM 2015). Unlike there, the values stand behind the bitmap
//! in the same block, which is mostly one cache line: a step down is one line, not two.
//!
//! ```text
//!   root ─► array: 2^18 entries ─► direct node: bits 18…23 ─► class             most of a full IPv4 table
//!                                  wide node ─► node: bits 24…29 ─► …           what is longer than /24, and IPv6
//! ```
//!
//! A node of classes alone is *narrow*: 16 bits a run. A node with nodes below is *wide*: 32 bits a run. A *direct*
//! node has 16 bits for each slot and no bitmap: below the array of IPv4, where most look-ups end, reading one word
//! is worth more than the room. A table of few routes has no array: its root is a wide node, and it takes a page or
//! two.
//!
//! Class 0 in the tree says "nothing longer than /0": the class of the default route stands beside the root entry, so
//! that 0.0.0.0/0 and ::/0 come and go without a change of the tree.
//!
//! # Readers beside the writer
//!
//! Every step of a look-up reads one word that tells where to go on or what the answer is. The writer builds new
//! nodes where no reader can get to, and then flips the one word that leads there; where a node keeps its runs, it
//! changes the values in place. For one address exactly one word changes, so a look-up sees the route of before or
//! that of after. A change that covers several slots or array entries flips them one after the other.
//!
//! What must not happen is that a node's words are used for another node while a reader is still in there. Readers
//! are in other processes, may stand still at any instruction for any time and may die, so they do not register.
//! Instead, freed words rest until enough of them have come together; then the writer adds one to the header's
//! `reuse` and only afterwards writes to any of them. A reader looks at `reuse` before and after its walk: the same
//! number means that all that it read was what it was linked as. Another number means: once more. The orders that
//! this takes stand at [`RouteTable`] and in `space`; loom runs them (`tests/loom_routes.rs`).
//!
//! A look-up starts over only where it met such a moment, which the writer makes once in hundreds of updates; it never
//! waits. After 64 turns it keeps what it has, which only a writer gone mad can bring about. Damaged words can make a
//! look-up wrong, never endless and never reach outside.

mod bits;
mod layers;
mod listing;
mod prefix;
mod reader;
mod rib;
mod shape;
mod space;
mod text;
mod words;
mod writer;

pub use layers::{Layers, around, taken};
pub use listing::{Listing, ListingError};
pub use prefix::{Prefix, PrefixError, Route};
pub use reader::RouteTable;
pub use text::{Text, TextError, Word};
pub use words::{Anatomy, LEAST_WORDS};
pub use writer::{RouteWriter, RoutesError};
