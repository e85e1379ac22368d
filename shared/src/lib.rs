//! The reconciliation library: everything that two add-ons need, once.
//!
//! Pure parts (planners, builders, rules) take values and return values; the few parts that do I/O
//! say so in their first line. No word of any engine stands here.

pub mod access;
pub mod agent;
pub mod apply;
pub mod backoff;
pub mod backups;
pub mod conditions;
pub mod election;
pub mod events;
pub mod follow;
pub mod hex;
pub mod instances;
pub mod keeper;
pub mod lease;
pub mod metadata;
pub mod names;
pub mod network;
pub mod operations;
#[cfg(feature = "operator")]
pub mod operator;
pub mod outcome;
pub mod pki;
pub mod placement;
pub mod rights;
pub mod rollout;
pub mod telemetry;
pub mod traffic;
pub mod watch;
