//! Compiled plans against a plain model of the same routers, against petgraph, and damaged.

mod balance;
mod changes;
mod damage;
mod decisions;
mod model;
mod paths;
