//! Instances: pods and volume claims that are managed directly, one identity each.
//!
//! [`observed`] is what is seen of them, [`membership`] says which belong to the set, [`plan`] what
//! to do next. All of it is pure; the operators read, call, and act.

#[cfg(test)]
pub(crate) mod fixture;
pub mod membership;
pub mod observed;
pub mod plan;
pub mod read;
#[cfg(test)]
mod simulation;
pub mod template;

pub use membership::Membership;
pub use observed::{ClaimSeen, Instance, Known, NodeSeen, Phase, PodSeen, Waiting};
pub use plan::{Plan, Step, Trouble, Wanted, plan};
