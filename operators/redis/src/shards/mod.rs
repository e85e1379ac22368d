//! Redis Cluster: shards of a primary and replicas each, which own slots of the keys.
//!
//! Decisions are values: [`topology`] reads what a member says, [`picture`] puts together what all say, [`plan`] says
//! what is done next, with [`shape`], [`repair`], [`placement`], [`roll`] and [`rebalance`]; [`founders`] are members that were
//! restored, [`marks`] say whose data it is; [`migrate`] is one slot's way; [`directives`] is what its engine is started with. [`link`] does I/O. Why it is so: `docs/adr/0023-redis-cluster.md`.

pub mod directives;
pub mod founders;
pub mod link;
pub mod marks;
pub mod migrate;
pub mod picture;
pub mod placement;
pub mod plan;
pub mod rebalance;
pub mod repair;
pub mod roll;
pub mod shape;
pub mod slots;
pub mod topology;

#[cfg(test)]
mod refusals_tests;
#[cfg(test)]
mod simulation;
